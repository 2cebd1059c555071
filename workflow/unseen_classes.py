"""Explain classes that the explainer had no training image of: `results/reference/unseen.csv`, on images of val.

    python workflow/unseen_classes.py [--folds 5] [--photographs]

Digits: for each fold f, P-TAME of embedded/vgg is trained with seed f on the images that neither are nor are taken for
a digit k with k % 5 = f, and explains the val images that are decided for one of these two. Photographs, after `make
data`: the shipped explainer of lite/2 explains val images of cutouts, with the rows of every fifth class replaced; it
is not trained again. A fold that is done is used again.
"""

from __future__ import annotations

import argparse
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache, partial

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from ptame_lib import (
    PTAME,
    TrainingConfig,
    decide,
    files,
    load_auxiliary,
    load_classifier,
    load_cutouts,
    load_embedded,
    load_explainer,
    train_ptame,
)
from ptame_lib.classifiers.folding import fold_batch_norms
from ptame_lib.datasets.composed import Composed
from ptame_lib.explainers.features import load_head
from ptame_lib.explainers.names import CHANNEL_MEAN, SHIPPED
from ptame_lib.explainers.unseen import rows_from_head
from ptame_lib.methods.base import Method
from ptame_lib.methods.controls import ChannelMean, auxiliary_cam
from ptame_lib.metrics.curves import deletion
from ptame_lib.metrics.drop import average_drop
from ptame_lib.metrics.matched import matched_confidence
from ptame_lib.metrics.suite import LOCALISATION, Answers, Suite, ask
from ptame_study import cache, paths, records, tables
from ptame_study.evaluation import evaluate_all

FOLDS = 5
DIGITS, PHOTOGRAPHS = "embedded/vgg", "lite/2"
AUXILIARY = {DIGITS: "embedded/auxiliary", PHOTOGRAPHS: "lite/0"}
LAST_LEVEL = {DIGITS: "layer4", PHOTOGRAPHS: "bn2"}
TRAIN, VAL = 6000, {DIGITS: 300, PHOTOGRAPHS: 120}  # images
CONFIG = TrainingConfig(steps=300, lr=5e-3)  # the full study's, for fewer steps: nothing is chosen here
PREDICTED, MEAN = "predicted rows", "mean of the seen rows"
START, MAPPED, OWN = "head start, untrained", "head start, mapped rows", "own rows"


def measure(
    classifier: nn.Module, pixels: Tensor, targets: Tensor, maps: Tensor, truth: Tensor, *, answers: Answers, **_: bool
) -> dict[str, Tensor]:
    """Five metrics that only the order of a map's pixels counts for, one value (B,) per image, percent."""
    q = matched_confidence(classifier, pixels, targets, maps, 0.25)
    found = {"AD@25": average_drop(answers.whole, q)}
    found["deletion"] = deletion(classifier, pixels, targets, maps, 10, first=answers.whole)
    found |= {name: LOCALISATION[name](maps, truth) for name in ("precision@truth", "pointing", "AP")}
    return {name: 100 * value.double() for name, value in found.items()}


def methods_of(trained: PTAME, seen: Tensor, name: str) -> list[Method]:
    """What explains the unseen classes: rows by ``trained``, which knows the ``seen`` ones, a head start, and controls.

    ``name``: of the classifier, whose head the rows are predicted from.
    """
    weight = trained.fuser.weight.detach()
    mean = weight[seen].mean(0).expand_as(weight)
    explainers = {
        PREDICTED: with_rows(trained, rows_from_head(trained, load_head(name), seen)),
        START: auxiliary_cam(trained, load_head(AUXILIARY[name])),
        MEAN: with_rows(trained, mean),
        CHANNEL_MEAN: ChannelMean(trained.auxiliary),
    }
    return [method_of(what, explainer) for what, explainer in explainers.items()]


def with_rows(explainer: PTAME, weight: Tensor) -> PTAME:
    """A copy of the explainer with another fuser's weight (K,C,1,1)."""
    other = deepcopy(explainer)
    with torch.no_grad():
        other.fuser.weight.copy_(weight)
    return other


def method_of(name: str, explainer: PTAME | ChannelMean) -> Method:
    """An explainer as a method of this table."""
    return Method(name, explainer.explain, 1, 0, "unseen classes")


def train(classifier: nn.Module, data: Dataset, seed: int, head: bool = False) -> PTAME:
    """P-TAME for digits; ``head``: it starts from the auxiliary's, with mapped rows."""
    torch.manual_seed(seed)
    explainer = PTAME(load_auxiliary(AUXILIARY[DIGITS]), len(classifier.labels))
    if head:
        explainer.start_from_head(load_head(AUXILIARY[DIGITS]))
    train_ptame(explainer, classifier, data, replace(CONFIG, seed=seed, mapped=head))
    return explainer.eval()


@lru_cache
def decided(name: str, part: str) -> tuple[nn.Module, Composed, Tensor]:
    """The classifier, the images of a part, and what it decides for each (N,)."""
    classifier, count = fold_batch_norms(load_classifier(name)), TRAIN if part == "train" else VAL[name]
    embedded = name == DIGITS
    data = load_embedded(part, count) if embedded else load_cutouts(part, count, folder=paths.data())
    return classifier, data, torch.cat([decide(classifier, images.float() / 255) for images in data.images.split(50)])


def digits(fold: int, what: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train as ``what`` says, without the fold's two digits or (`OWN`) with them, and explain val images of these."""
    classifier, data, found = decided(DIGITS, "train")
    others = Subset(data, ((found % FOLDS != fold) & (data.labels % FOLDS != fold)).nonzero().flatten().tolist())
    print(f"fold {fold}: {len(others)} training images without the two digits")
    trained = train(classifier, data if what == OWN else others, fold, head=what == MAPPED)
    if what == PREDICTED:
        classes = torch.arange(len(classifier.labels))
        return measured(DIGITS, fold, methods_of(trained, classes[classes % FOLDS != fold], DIGITS))
    return measured(DIGITS, fold, [method_of(what, trained)])


def photographs(fold: int, _: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predict the rows of every fifth of the shipped explainer's classes, and explain val images decided for them."""
    explainer = load_explainer(files.root() / "data" / "explainers" / SHIPPED[PHOTOGRAPHS])
    classes = torch.arange(explainer.num_classes)
    methods = methods_of(explainer, classes[classes % FOLDS != fold], PHOTOGRAPHS)
    return measured(PHOTOGRAPHS, fold, [*methods, method_of(OWN, explainer)])


@torch.no_grad()
def heads(name: str) -> dict[str, str | float]:
    """Without images: how well the linear map takes the classifier's head to the auxiliary's, for classes left out.

    ``explained``: the share of the squared deviation from the seen classes' mean row; ``nearest``: how often the
    predicted row is, of all classes' rows, most like its own (cosine, around that mean). Percent.
    """
    wanted = load_head(AUXILIARY[name])  # (K,C)
    explainer = PTAME(load_auxiliary(AUXILIARY[name], [LAST_LEVEL[name]]), len(wanted)).start_from_head(wanted, 1.0)
    wanted, classes = explainer.fuser.weight[:, :, 0, 0], torch.arange(len(wanted))
    missed, whole, nearest = 0.0, 0.0, []
    for fold in range(FOLDS):
        seen, unseen = classes[classes % FOLDS != fold], classes[classes % FOLDS == fold]
        mean = wanted[seen].mean(0)
        found = rows_from_head(explainer, load_head(name), seen)[unseen, :, 0, 0] - mean
        missed += (found - (wanted[unseen] - mean)).square().sum().item()
        whole += (wanted[unseen] - mean).square().sum().item()
        alike = F.normalize(found, dim=1) @ F.normalize(wanted - mean, dim=1).T  # (n,K)
        nearest.append((alike.argmax(1) == unseen).double())
    shares = {"explained": 100 * (1 - missed / whole), "nearest": 100 * torch.cat(nearest).mean().item()}
    return {"classifier": name, "classes": len(wanted), **shares, "chance": 100 / len(wanted)}


def measured(name: str, fold: int, methods: list[Method]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Per-image values of the val images that are decided for one of the fold's classes, and costs."""
    classifier, val, found = decided(name, "val")
    held = (found % FOLDS == fold).nonzero().flatten().tolist()
    values, costs = evaluate_all(
        name, classifier, methods, Subset(val, held), suite=Suite(measure, False, ask), curves=False
    )
    return values.assign(image=[held[i] for i in values["image"]]), costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folds", type=int, default=FOLDS, help="the first ones alone")
    parser.add_argument("--photographs", action="store_true", help="photographs, too")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    of_heads = pd.DataFrame([heads(name) for name in AUXILIARY])
    records.write_table(files.root() / "results" / "reference" / "unseen_heads.csv", of_heads)
    print(of_heads.round(1).to_string(index=False))
    parts = [(digits, fold, what) for fold in range(asked.folds) for what in (PREDICTED, OWN)]
    parts += [(digits, fold, MAPPED) for fold in range(asked.folds)]
    parts += [(photographs, fold, PREDICTED) for fold in range(FOLDS)] * asked.photographs
    found = []
    for make, fold, what in parts:
        made_from = records.fingerprint(training=repr(CONFIG), train=TRAIN, val=repr(VAL), fold=fold, what=what)
        file = paths.results("unseen") / f"{make.__name__}-{fold}-{paths.slug(what)}.csv"
        found.append(cache.cached(file, made_from, partial(make, fold, what))[0])
    values = pd.concat(found, ignore_index=True)

    # an image is in one fold: the table is over all of them, each explained by what never saw an image of its class
    gains = tables.wins(values, PREDICTED)
    table = tables.tidy(values).merge(gains, how="left", on=["classifier", "method", "metric"])
    print(tables.main_table(table).to_string())
    print(gains.to_string(index=False, float_format="%.3f"))
    file = records.write_table(files.root() / "results" / "reference" / "unseen.csv", table)
    print(f"written: {files.show(file)}")


if __name__ == "__main__":
    main()
