"""What notebook 06 trains and asks, of digits or of photographs.

Each check changes the classifier, trains P-TAME for what it has become as notebook 02 does, and compares every method's
maps with those of the classifier itself; or it takes a classifier whose evidence is known by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from ptame_lib.classifiers import embedded, lite
from ptame_lib.classifiers.loading import load_classifier
from ptame_lib.classifiers.wrapper import Classifier, decide
from ptame_lib.datasets.embedded import load_embedded
from ptame_lib.explainers.matching import match_classes
from ptame_lib.explainers.names import AUXILIARY_CAM
from ptame_lib.explainers.ptame import PTAME
from ptame_lib.methods import Budget, build_methods
from ptame_lib.metrics import energy_pointing_game, pointing_game
from ptame_lib.metrics.sanity import (
    OneQuadrant,
    PatchFinder,
    permute_head,
    plant_patches,
    quadrant_mask,
    randomise,
    similarity,
)
from ptame_lib.metrics.statistics import mean_interval
from ptame_lib.training.calibration import calibrate
from ptame_lib.training.ptame import TrainingConfig, check_training, train_ptame

from .answers import HEAD, ITSELF, RANDOM, SEED, SHUFFLED, STAYS, UNRELATED
from .classifiers import load_head
from .embedded_classifiers import train_embedded
from .explainers import new_explainer
from .images import CUTOUTS, load_parts, load_training
from .settings import AuxiliarySettings, ClassifierSettings, ImageSettings

DIGITS = AuxiliarySettings("embedded/auxiliary")
PHOTOGRAPHS = AuxiliarySettings("lite/0", layers=["blocks.4", "bn2"], head=True)
LEARNT = 90.0  # percent of its own training images: below it, a classifier has not learnt its shuffled labels
MATCHED = 400  # training images, at most, by whose answers classes are matched
QUADRANT = 3  # that the one-quadrant classifier sees: the lower right

Maps = dict[str, Tensor]  # (B,h,w), by method


@dataclass(frozen=True)
class Trial:
    """A classifier by its ``name``, how its explainers are trained, and ``pixels`` to explain (B,3,H,W).

    ``auxiliary``: of the explainers; ``train``: images to train them on, ``held``: others to calibrate them with, as in
    notebook 02; ``methods``: those beside P-TAME, by name.
    """

    name: str
    classifier: Classifier
    auxiliary: AuxiliarySettings
    train: Dataset
    held: Dataset
    pixels: Tensor
    classes: int
    config: TrainingConfig
    methods: Sequence[str]
    budget: Budget

    def wrap(self, network: nn.Module) -> Classifier:
        """Another network for the same images."""
        family = lite if self.auxiliary is PHOTOGRAPHS else embedded
        return Classifier(network, family.MEAN, family.STD, self.classifier.input_size)

    def untrained(self, classes: int | None = None, head: bool | None = None, method: str = "P-TAME") -> PTAME:
        """An explainer, by default of the classifier's classes; ``head``: whether it starts from the auxiliary's."""
        auxiliary = self.auxiliary if head is None else replace(self.auxiliary, head=head)
        return new_explainer(method, ClassifierSettings("any"), auxiliary, None, classes or self.classes)

    def trained(
        self, explained: Classifier, data: Dataset | None = None, classes: int | None = None, more_seed: int = 0
    ) -> PTAME:
        """An explainer trained on this very classifier; ``more_seed`` is added to the training's seed.

        One that starts from the auxiliary's head finds by the classifier's answers which row is which class's.
        """
        data, seed = self.train if data is None else data, self.config.seed + more_seed
        torch.manual_seed(seed)
        explainer = self.untrained(classes)
        if self.auxiliary.head:
            network = load_classifier(self.auxiliary.name)
            seen = stack(Subset(data, range(min(MATCHED, len(data)))))
            rows = match_classes(_ask_all(explained, seen), _ask_all(network, seen))
            explainer.start_from_head(load_head(self.auxiliary)[rows])
        train_ptame(explainer, explained, data, replace(self.config, seed=seed))
        return explainer

    def maps(self, explained: Classifier, explainer: PTAME, pixels: Tensor, targets: Tensor) -> Maps:
        """Every method's maps, and the auxiliary's CAM, which knows these classes and not the classifier."""
        tried = build_methods(explained, {"P-TAME": explainer}, self.methods, self.budget)
        found = {method.name: method(pixels, targets).float() for method in tried}
        if len(explainer.fuser.weight) == self.classes:
            found[AUXILIARY_CAM] = self.untrained(head=True).eval().explain(pixels, targets)
        return found


@torch.no_grad()
def _ask_all(classifier: nn.Module, pixels: Tensor, batch_size: int = 20) -> Tensor:
    """Logits (N,K) for many images."""
    return torch.cat([classifier(batch) for batch in pixels.split(batch_size)])


def stack(data: Dataset) -> Tensor:
    """The pixels (N,3,H,W) of all images."""
    return torch.stack([data[i]["pixels"] for i in range(len(data))])


def trial(cfg: Any, name: str, classifier: Classifier | None = None) -> Trial:
    """The trial of the classifier ``name`` by a notebook's parameters; ``classifier``: if it is loaded already.

    Raises ValueError for a training that `train_ptame` would refuse, before any image is made.
    """
    images, classifier = ImageSettings.of(cfg), classifier or load_classifier(name)
    check_training(cfg.training, images.train_images)
    train, held, _ = load_training(images, classifier)
    [test] = load_parts(images, ["test"])
    pixels = stack(test)
    auxiliary = PHOTOGRAPHS if images.images == CUTOUTS else DIGITS
    classes, budget = len(classifier.labels), Budget(masks=cfg.masks, seed=cfg.seed)
    return Trial(name, classifier, auxiliary, train, held, pixels, classes, cfg.training, cfg.methods, budget)


def with_shuffled_labels(trial: Trial, images: int, epochs: int) -> tuple[Classifier | None, str]:
    """A classifier of the same architecture that learnt shuffled labels by heart, and a sentence about it.

    None if it has not learnt them: of how many of its images it knows the label it was shown is then below `LEARNT`,
    and its maps would say nothing.
    """
    seed = trial.config.seed
    few = load_embedded("train", images, seed=seed)
    shuffled = replace(few, labels=few.labels[torch.randperm(images, generator=torch.Generator().manual_seed(seed))])
    network = randomise(trial.classifier, list(dict(trial.classifier.model.named_children()))[-1], seed).model
    train_embedded(network.requires_grad_(True), shuffled, epochs=epochs, seed=seed)
    wrong = trial.wrap(network)
    right = decide(wrong, torch.stack([item["pixels"] for item in few])) == shuffled.labels
    share = 100 * right.float().mean().item()
    said = f"{trial.name}, shuffled labels: learnt for {share:.0f} % of its {images} images (by chance: 10 %)"
    if share < LEARNT:
        return None, f"{said}. That is below {LEARNT:.0f} %, so this check is left out: give it more epochs."
    return wrong, f"{said}."


def of_changed(trial: Trial, cascade: Sequence[str], wrong: Classifier | None) -> tuple[dict[str, Maps], Maps]:
    """Maps by check: of the classifier itself, and of what it is changed into, for its own decisions.

    ``cascade``: modules up to which it is randomised, those that it has; ``wrong``: of `with_shuffled_labels`. Under
    `answers.HEAD` are the maps for the decisions of the permuted classifier; second, the classifier's own for these.
    """
    classifier, pixels, seed = trial.classifier, trial.pixels, trial.config.seed
    targets, modules = decide(classifier, pixels), dict(classifier.model.named_modules())
    changed = {RANDOM + name: randomise(classifier, name, seed) for name in cascade if name in modules}
    changed |= {SHUFFLED: wrong} if wrong else {}
    explainer = trial.trained(classifier)
    maps = {ITSELF: trial.maps(classifier, explainer, pixels, targets)}
    maps |= {check: trial.maps(other, trial.trained(other), pixels, targets) for check, other in changed.items()}
    maps[SEED] = {"P-TAME": trial.trained(classifier, more_seed=1).explain(pixels, targets)}

    # class k gets the logit of class order[k]
    permuted = permute_head(classifier, torch.arange(trial.classes).roll(1))
    wanted = decide(permuted, pixels)
    maps[HEAD] = trial.maps(permuted, trial.trained(permuted), pixels, wanted)
    return maps, trial.maps(classifier, explainer, pixels, wanted)


def likeness(trial: Trial, maps: dict[str, Maps], named: Maps) -> pd.DataFrame:
    """How like the original's the maps of `of_changed` are, per image: classifier, check, method, metric, value.

    In percent. Also how like each other the maps of two images are (`answers.UNRELATED`), and the maps of the permuted
    head those of the class of the same number (`answers.STAYS`).
    """
    own, size, rows = maps[ITSELF], tuple(trial.pixels.shape[-2:]), []
    pairs = {check: (own, found) for check, found in maps.items()}
    pairs[UNRELATED] = own, {method: found.roll(1, 0) for method, found in own.items()}
    pairs[STAYS] = named, maps[HEAD]
    for check, (ours, theirs) in pairs.items():
        for method, found in theirs.items():
            spearman, ssim = similarity(ours[method], found, size)
            values = {"Spearman": spearman, "|Spearman|": spearman.abs(), "SSIM": ssim}
            about = {"classifier": trial.name, "check": check, "method": method}
            rows += [pd.DataFrame({**about, "metric": key, "value": 100 * v.numpy()}) for key, v in values.items()]
    return pd.concat(rows, ignore_index=True)


def known_evidence(trial: Trial) -> tuple[pd.DataFrame, dict[str, float]]:
    """How often maps point at evidence that is known, and how much of their sum is there, per image.

    Columns: classifier, classifier sees, method, metric, value, in percent; second, what chance gives. One classifier
    sees a quadrant alone, another, for images of 64 pixels, responds to a planted patch and to nothing else.
    """
    pixels, size, seed = trial.pixels, tuple(trial.pixels.shape[-2:]), trial.config.seed
    seeing_one = trial.wrap(OneQuadrant(trial.classifier.model, QUADRANT))
    quadrant = quadrant_mask(size, QUADRANT).expand(len(pixels), -1, -1)
    cases = {"one quadrant": (seeing_one, trial.train, trial.held, trial.classes, pixels, quadrant)}
    if trial.auxiliary is DIGITS:
        finder = Classifier(PatchFinder(), [0.0] * 3, [1.0] * 3, 64)
        planted, _, patches = plant_patches(pixels, seed=seed)
        with_patches = [_planted(data, seed + 1 + i) for i, data in enumerate((trial.train, trial.held))]
        cases["a planted patch"] = (finder, *with_patches, len(PatchFinder.COLOURS), planted, patches)
    rows, chance = [], {}
    for sees, (explained, train, held, classes, images, truth) in cases.items():
        explainer = trial.trained(explained, train, classes)
        calibrate(explainer, explained, held, images=len(images))  # which moves the values, and no pixel's rank
        chance[sees] = 100 * truth.float().mean().item()
        for method, found in trial.maps(explained, explainer, images, decide(explained, images)).items():
            scores = {"pointing": pointing_game(found, truth), "energy": energy_pointing_game(found, truth)}
            about = {"classifier": trial.name, "classifier sees": sees, "method": method}
            rows += [pd.DataFrame({**about, "metric": key, "value": 100 * v.numpy()}) for key, v in scores.items()]
    return pd.concat(rows, ignore_index=True), chance


def _planted(data: Dataset, seed: int) -> list[dict[str, Tensor]]:
    """The images with a patch each."""
    return [{"pixels": image} for image in plant_patches(stack(data), seed=seed)[0]]


def means(per_image: pd.DataFrame) -> pd.DataFrame:
    """The mean of each cell of per-image values in the column ``value``, with low, high (95 % interval) and n."""
    cells, rows = [name for name in per_image if name != "value"], []
    for names, part in per_image.groupby(cells, sort=False):
        values = part["value"].dropna().to_numpy(float)
        share = names[-1] == "pointing" and bool(((values == 0) | (values == 100)).all())
        rows.append((*names, values.mean(), *mean_interval(values, share=share), len(values)))
    return pd.DataFrame(rows, columns=[*cells, "value", "low", "high", "n"])


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """`means` to read: a row for each classifier, method and metric, a column for each check, with the interval."""
    cells = [
        f"{row.value:.0f}" if pd.isna(row.low) else f"{row.value:.0f} ({row.low:.0f} to {row.high:.0f})"
        for row in table.itertuples()
    ]
    index = ["classifier", "method", "metric"]
    found = table.assign(cell=cells).pivot(index=index, columns="check", values="cell").fillna("")
    rows = table[index].drop_duplicates().itertuples(index=False, name=None)
    return found.loc[list(rows), table["check"].unique()].rename_axis(columns=None).reset_index()
