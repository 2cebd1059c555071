"""Whose evidence does a map show? Every method on every network of the zoo, and explainers on other networks."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed, parallel_config
from torch import Tensor, nn
from torch.utils.data import Dataset

from ptame_lib.classifiers.folding import fold_batch_norms
from ptame_lib.classifiers.loading import load_classifier
from ptame_lib.classifiers.wrapper import Classifier, decide
from ptame_lib.classifiers.zoo import EVIDENCE as LOOKS_AT
from ptame_lib.datasets.evidence import EVIDENCE, load_evidence
from ptame_lib.explainers.features import load_auxiliary
from ptame_lib.explainers.loading import ON_AUXILIARY
from ptame_lib.explainers.names import QUESTIONS
from ptame_lib.explainers.ptame import PTAME
from ptame_lib.explainers.swap_tame import PARTS
from ptame_lib.masking import normalise, resize
from ptame_lib.methods.base import Budget
from ptame_lib.methods.catalogue import build_methods
from ptame_lib.metrics.attribution import right_evidence
from ptame_lib.metrics.curves import deletion
from ptame_lib.metrics.drop import average_drop, confidence
from ptame_lib.metrics.localisation import average_precision, pointing_game
from ptame_lib.metrics.matched import matched_confidence
from ptame_lib.metrics.precision import precision_at_truth
from ptame_lib.metrics.ranks import average_ranks
from ptame_lib.metrics.sanity import similarity
from ptame_lib.metrics.statistics import holm, mean_interval, paired_permutation_test
from ptame_lib.progress import progress
from ptame_lib.training.calibration import calibrate
from ptame_lib.training.ptame import TrainingConfig, config_for, swap_config, train_ptame

RIGHT = "right evidence"
BY_RANK = "right evidence by rank"  # the same of the pixels' ranks, which no power of a map moves
LOCATED = {"AP": average_precision, "pointing": pointing_game, "precision@truth": precision_at_truth}
SWAPPED = {"AD@25": False, "deletion": False, "precision@truth": True}  # metric: is higher better?
CHANCE = 100 / len(EVIDENCE)
ZOO = {f"zoo/{name}": evidence for name, evidence in LOOKS_AT.items()}  # at what each network looks


def without_regions(config: TrainingConfig) -> TrainingConfig:
    """The same training without the term of regions, which is Swap-TAME's alone."""
    return replace(config, regions=0.0)


ABLATIONS = {  # of Swap-TAME, by name: the parts it has, and what becomes of the training that all methods share
    "without regions": (PARTS, lambda shared: swap_config(without_regions(shared))),
    "without positions": (("neighbours", "pixels"), swap_config),
    "without neighbours": (("positions", "pixels"), swap_config),
    "without pixels": (("positions", "neighbours"), swap_config),
    "without any part": ((), swap_config),
    "with P-TAME's loss": (PARTS, without_regions),
}

Maker = Callable[[Classifier, int, int], nn.Module]  # (classifier, its number of classes, seed) -> trained explainer


class Key(NamedTuple):
    """Whose map: the explained network, the method, and the seed of its training (0 if it has none)."""

    network: str
    method: str
    seed: int


@dataclass(frozen=True)
class Subject:
    """A network, such as one of the zoo, what it decides for the images, and its evidence's number in `EVIDENCE`."""

    name: str
    classifier: Classifier
    targets: Tensor
    own: int


def load_subjects(names: Sequence[str], pixels: Tensor) -> list[Subject]:
    """Networks ``zoo/...`` by name, batch norms folded, and their decisions on the images."""
    found = []
    for name in names:
        classifier = fold_batch_norms(load_classifier(name))
        own = EVIDENCE.index(ZOO[name])
        found.append(Subject(name, classifier, decide(classifier, pixels), own))
    return found


def load_images(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The first test images: pixels (n,3,64,64) in [0,1] and the masks (n,7,64,64) of what could decide."""
    data = load_evidence("test", n, seed=seed)
    return data.images.float() / 255, data.masks()


def trained_by(
    method: str,
    auxiliary: str,
    data: Dataset,
    config: TrainingConfig,
    held: Dataset | None = None,
    parts: Sequence[str] | None = None,
) -> Maker:
    """How a method of `ON_AUXILIARY` is trained on an auxiliary's features: a `Maker`.

    It is calibrated on the images ``held`` back, if there are any. ``parts``: of Swap-TAME.
    """

    def make(classifier: Classifier, classes: int, seed: int) -> PTAME:
        torch.manual_seed(seed)
        options = {} if parts is None else {"parts": tuple(parts)}
        explainer = ON_AUXILIARY[method](load_auxiliary(auxiliary), classes, **options)
        train_ptame(explainer, classifier, data, replace(config, seed=seed))
        if held is not None:
            calibrate(explainer, classifier, held)
        return explainer

    return make


def makers(
    auxiliaries: Sequence[str],
    ablations: Sequence[str],
    data: Dataset,
    config: TrainingConfig,
    held: Dataset,
    methods: Collection[str] = (),
) -> dict[str, Maker]:
    """Each method of `ON_AUXILIARY` on each auxiliary (the first is not named), and the `ABLATIONS` on the first.

    If some of them are among the ``methods``, only those.
    """
    found, trained = {}, [method for method in ON_AUXILIARY if method in methods] or list(ON_AUXILIARY)
    for auxiliary in auxiliaries:
        where = "" if auxiliary == auxiliaries[0] else f" on {auxiliary}"
        for method in trained:
            own = config_for(method, config if method == "Swap-TAME" else without_regions(config))
            found[method + where] = trained_by(method, auxiliary, data, own, held)
    for name in ablations:
        parts, how = ABLATIONS[name]
        found[f"Swap-TAME {name}"] = trained_by("Swap-TAME", auxiliaries[0], data, how(config), held, parts)
    return found


def train_all(subjects: Sequence[Subject], makers: Mapping[str, Maker], seeds: Sequence[int]) -> dict[Key, nn.Module]:
    """The explainers of each method for each network and seed; of a method's variants only with the first seed.

    ``makers``: by the method's name; anything with ``explain(pixels, targets)`` may come out. They are trained in as
    many processes as the environment's ``PTAME_PROCESSES`` says, each on one thread, so that this changes no digit.
    """
    wanted = [
        Key(subject.name, method, seed)
        for method in makers
        for subject in subjects
        for seed in (seeds if method in ON_AUXILIARY else seeds[:1])
    ]
    networks = {subject.name: subject.classifier for subject in subjects}
    jobs = (
        delayed(makers[key.method])(networks[key.network], networks[key.network].num_classes, key.seed)
        for key in wanted
    )
    with parallel_config(backend="loky", inner_max_num_threads=1):
        made = Parallel(n_jobs=int(os.environ.get("PTAME_PROCESSES") or 1))(jobs)
    return dict(zip(wanted, made, strict=True))


def explain_all(
    subjects: Sequence[Subject],
    pixels: Tensor,
    explainers: Mapping[Key, nn.Module],
    methods: Sequence[str],
    budget: Budget,
    fewer: Mapping[str, int],
    questions: Sequence[str] = (),
    batch_size: int = 20,
) -> dict[Key, Tensor]:
    """Maps (n,64,64) in [0,1] of every network's decisions; of a method in ``fewer``, of so many images only.

    The explainers' maps also with ``questions`` to the network about the image (keys of `QUESTIONS`), as a method of
    their own.
    """
    size, maps = tuple(pixels.shape[-2:]), {}
    untrained = [method for method in methods if method not in ON_AUXILIARY]

    def batched(explain: Callable[[Tensor, Tensor], Tensor], targets: Tensor, n: int) -> Tensor:
        parts = [
            explain(x, t) for x, t in zip(pixels[:n].split(batch_size), targets[:n].split(batch_size), strict=True)
        ]
        return resize(normalise(torch.cat(parts).float()), size)

    with progress(len(subjects), "explain networks") as bar:
        for subject in subjects:
            for key, explainer in explainers.items():
                if key.network == subject.name:
                    maps[key] = batched(explainer.explain, subject.targets, len(pixels))
                    for what in questions:
                        n, way = QUESTIONS[what]
                        asking = partial(explainer.explain, classifier=subject.classifier, questions=n, asking=way)
                        asked = key._replace(method=f"{key.method}+{what}")
                        maps[asked] = batched(asking, subject.targets, len(pixels))
            for method in build_methods(subject.classifier, names=untrained, budget=budget):
                n = min(len(pixels), fewer.get(method.name, len(pixels)))
                maps[Key(subject.name, method.name, 0)] = batched(method, subject.targets, n)
            bar.update()
    return maps


def measure(
    subjects: Sequence[Subject], maps: Mapping[Key, Tensor], masks: Tensor, candidates: Sequence[str] = EVIDENCE
) -> pd.DataFrame:
    """Per image, in percent: attribution to the right evidence, and where the map points among all the evidence.

    ``masks`` (n,E,H,W): of the E ``candidates``. Columns: network, method, seed, evidence, image, own (whether the
    evidence is the network's), `RIGHT` and `BY_RANK` (NaN but for its own), and `LOCATED`.
    """
    own, rows = {subject.name: subject.own for subject in subjects}, []
    with progress(len(maps), "measure maps") as bar:
        for key, found in maps.items():
            truths, number = masks[: len(found)], own[key.network]
            right = {RIGHT: found, BY_RANK: average_ranks(found).float()}
            right = {name: 100 * right_evidence(each, truths, number) for name, each in right.items()}
            for number, evidence in enumerate(candidates):
                values = {name: 100 * metric(found, truths[:, number]).double() for name, metric in LOCATED.items()}
                ours = number == own[key.network]
                about = {**key._asdict(), "evidence": evidence, "image": range(len(found)), "own": ours}
                rows.append(pd.DataFrame(about | (right if ours else dict.fromkeys(right, np.nan)) | values))
            bar.update()
    return pd.concat(rows, ignore_index=True)


def tidy(per_image: pd.DataFrame) -> pd.DataFrame:
    """Means over the images: network, method, seed, evidence, metric, value, low, high, n.

    Intervals (95 %) are given for the network's own evidence.
    """
    rows = []
    for keys, part in per_image.groupby(["network", "method", "seed", "evidence"], sort=False):
        ours = bool(part["own"].iloc[0])
        for metric in (RIGHT, BY_RANK, *LOCATED) if ours else LOCATED:
            values = part[metric].dropna().to_numpy()
            low, high = interval(values) if ours else (np.nan, np.nan)
            rows.append((*keys, metric, values.mean(), low, high, len(values)))
    return pd.DataFrame(rows, columns=["network", "method", "seed", "evidence", "metric", "value", "low", "high", "n"])


def interval(values: np.ndarray) -> tuple[float, float]:
    """Of a mean in percent, as a share where no image is undecided."""
    return mean_interval(values, share=bool(np.isin(values, (0, 100)).all()))


def table(per_image: pd.DataFrame, metric: str = RIGHT) -> pd.DataFrame:
    """A row per method, a column per network: the mean on its own evidence with its interval, as text.

    Values of several seeds are averaged image by image. The best methods are first, by their mean over networks.
    """
    means = of_seeds(per_image, metric)
    cells = {}
    for (network, method), part in means.groupby(["network", "method"], sort=False):
        low, high = interval(part[metric].to_numpy())
        cells[method, network] = f"{part[metric].mean():.0f} [{low:.0f}, {high:.0f}]"
    average = means.groupby(["network", "method"])[metric].mean().groupby("method").mean()
    networks = list(dict.fromkeys(means["network"]))
    order = list(average.sort_values(ascending=False, kind="stable").index)
    shown = pd.DataFrame([[cells[m, n] for n in networks] for m in order], index=order, columns=networks)
    return shown.assign(mean=[f"{average[m]:.0f}" for m in order]).rename(columns=lambda n: n.removeprefix("zoo/"))


def of_seeds(per_image: pd.DataFrame, metric: str = RIGHT) -> pd.DataFrame:
    """The metric on each network's own evidence, the mean over seeds of every image."""
    own = per_image[per_image["own"]]
    return own.groupby(["network", "method", "image"], sort=False)[metric].mean().reset_index()


def swap(
    subjects: Sequence[Subject], explainers: Mapping[Key, nn.Module], pixels: Tensor, masks: Tensor, steps: int = 10
) -> pd.DataFrame:
    """Per image, in percent: each network explained by the explainer of every network, its own among them.

    Columns: network, of (whose explainer), method, seed, image, and `SWAPPED`. Networks share no classes but the
    numbers: the k-th of one is explained as the k-th of the other, counted again from 0 where that one has fewer.
    """
    rows, size, classes = [], tuple(pixels.shape[-2:]), {each.name: each.classifier.num_classes for each in subjects}
    with progress(len(subjects) * len(explainers), "swap explainers") as bar, torch.no_grad():
        for subject in subjects:
            asked = subject.classifier, pixels, subject.targets
            whole = confidence(*asked)
            for key, explainer in explainers.items():
                targets = subject.targets % classes[key.network]
                maps = resize(normalise(explainer.explain(pixels, targets).float()), size)
                values = {
                    "AD@25": average_drop(whole, matched_confidence(*asked, maps, 0.25)),
                    "deletion": deletion(*asked, maps, steps, first=whole),
                    "precision@truth": precision_at_truth(maps, masks[:, subject.own]),
                }
                about = {"network": subject.name, "of": key.network, "method": key.method, "seed": key.seed}
                columns = {name: 100 * value.double() for name, value in values.items()}
                rows.append(pd.DataFrame(about | {"image": range(len(pixels)), **columns}))
                bar.update()
    return pd.concat(rows, ignore_index=True)


def gaps(swapped: pd.DataFrame, looks: Mapping[str, str] = ZOO) -> pd.DataFrame:
    """The own explainer against each other network's: a row per network, explainer, method and metric.

    Columns: network, of, method, metric, own, swapped, gap (above 0: the own one is better), p (paired permutation test
    over images, means over seeds, Holm's correction over all rows of the method and metric), seeds, agree (every seed
    has the gap's sign), n, and alike (both look at the same evidence). ``looks``: at what each network looks.
    """
    rows = []
    for (network, method), part in swapped.groupby(["network", "method"], sort=False):
        others = [of for of in part["of"].unique() if of != network]
        for of in others:
            for metric, higher in SWAPPED.items():
                wide = part.pivot(index=["seed", "image"], columns="of", values=metric)
                gain = (wide[network] - wide[of]) * (1 if higher else -1)
                by_image = gain.groupby("image").mean().to_numpy()
                p = paired_permutation_test(by_image, np.zeros_like(by_image))
                signs = np.sign(gain.groupby("seed").mean())
                agree = bool((signs == np.sign(by_image.mean())).all())
                values = (wide[network].mean(), wide[of].mean(), by_image.mean(), p)
                rows.append((network, of, method, metric, *values, len(signs), agree, len(by_image)))
    columns = ["network", "of", "method", "metric", "own", "swapped", "gap", "p", "seeds", "agree", "n"]
    found = pd.DataFrame(rows, columns=columns)
    for _, at in found.groupby(["method", "metric"], sort=False).groups.items():
        found.loc[at, "p"] = holm(list(found.loc[at, "p"]))
    return found.assign(alike=[looks[row.network] == looks[row.of] for row in found.itertuples()])


def likeness(maps: Mapping[Key, Tensor]) -> pd.DataFrame:
    """Spearman's correlation, in percent, of two networks' maps of the same image: the mean over images.

    Columns: method, network, other, Spearman, alike (both look at the same evidence). Of trained methods the first
    seed.
    """
    rows, methods = [], dict.fromkeys(key.method for key in maps)
    for method in methods:
        of = {}
        for key, found in maps.items():
            if key.method == method:
                of.setdefault(key.network, found)
        for a, b in combinations(of, 2):
            spearman, _ = similarity(of[a], of[b], tuple(of[a].shape[-2:]))
            rows.append((method, a, b, 100 * spearman.mean().item(), ZOO[a] == ZOO[b]))
    return pd.DataFrame(rows, columns=["method", "network", "other", "Spearman", "alike"])
