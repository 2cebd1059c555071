"""What notebook 14 makes and asks: a classifier that decides by a sticker, beside the same classifier as it was.

The last part of a copy is fine-tuned until a sticker in an image stands for one class, whatever else is there; without
it, the copy decides as before. So of the same image, in which there is a sticker and an object, one network has used
the sticker and the other the object, and both answer for the same classes.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from ptame_lib.classifiers.folding import fold_batch_norms
from ptame_lib.classifiers.lite import LITE
from ptame_lib.classifiers.loading import load_classifier
from ptame_lib.classifiers.wrapper import Classifier, decide_all
from ptame_lib.explainers.names import AUXILIARY_CAM
from ptame_lib.explainers.ptame import PTAME
from ptame_lib.metrics.statistics import mean_interval
from ptame_lib.training.calibration import calibrate
from ptame_lib.training.ptame import TrainingConfig, check_training, config_for, swap_config, train_ptame

from . import sanity
from .images import load_parts
from .sanity import Trial, stack
from .settings import ImageSettings
from .whose_evidence import Key, Maker, Subject

STICKER, OBJECT, REST = EVIDENCE = ("sticker", "object", "rest")  # what could decide
TUNED, UNTOUCHED = "sticker network", "untouched"
LOOKS_AT = {TUNED: STICKER, UNTOUCHED: OBJECT}
CHANCE = 100 / len(EVIDENCE)
SIDE = 40 / 224  # of the sticker, of the image's height
COLOURS = ((1.0, 0.9, 0.0), (0.8, 0.0, 0.8))  # of its inner and its outer disc
INNER = 0.3  # the inner disc's share of the area
# The first module that is fine-tuned, and Adam's rate. Later modules alone, as the last layer, find too few of the
# stickers on new images (docs/whose_evidence.md).
TUNED_FROM = {"embedded/resnet": ("layer2", 1e-3)} | dict.fromkeys(LITE, ("blocks.5", 1e-4))
BATCH, KEPT = 16, 5.0  # images a step, and the weight of the squared change of their logits without a sticker
ROWS, ROWS_LR = "Swap-TAME with its rows", 1e-3  # of the fuser, trained beside the gate


def draw_sticker(side: int) -> tuple[Tensor, Tensor]:
    """A yellow disc inside a purple one: (3,side,side) in [0,1], and its pixels (side,side) bool."""
    away = (torch.arange(side) + 0.5) / side * 2 - 1
    squared = away[:, None] ** 2 + away**2
    yellow, purple = (torch.tensor(colour)[:, None, None] for colour in COLOURS)
    return torch.where(squared <= INNER, yellow, purple), squared <= 1


def paste(pixels: Tensor, seed: int, first: int = 0) -> tuple[Tensor, Tensor]:
    """Images (B,3,H,W) in [0,1] with a sticker each, somewhere in the image, and the stickers' pixels (B,H,W) bool.

    The place depends on the ``seed`` and the image's number, counted from ``first``; nothing else of an image changes.
    """
    pixels, (height, width) = pixels.clone(), pixels.shape[-2:]
    side = max(1, round(SIDE * height))
    sticker, inside = draw_sticker(side)
    masks = torch.zeros(len(pixels), height, width, dtype=torch.bool)
    for i, (image, mask) in enumerate(zip(pixels, masks, strict=True)):
        rng = np.random.default_rng([seed, first + i])
        top, left = (int(rng.integers(length - side + 1)) for length in (height, width))
        here = (..., slice(top, top + side), slice(left, left + side))
        image[here] = torch.where(inside, sticker.to(image), image[here])
        mask[here] = inside
    return pixels, masks


@dataclass(frozen=True)
class HalfStickered(Dataset):
    """The ``pixels`` of images, of which every second one carries a sticker; where, the ``seed`` says."""

    data: Dataset
    seed: int

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        pixels = self.data[i]["pixels"]
        return {"pixels": paste(pixels[None], self.seed, i)[0][0] if i % 2 else pixels}


def trial(cfg: Any) -> Trial:
    """The trial of the notebook's classifier, batch norms folded; half of the training images carry stickers.

    Raises ValueError for a ``sticker_class`` that the classifier does not have and for a training that `train_ptame`
    would refuse, before any image is composed.
    """
    classifier = load_classifier(cfg.classifier)
    classes = classifier.num_classes
    if not 0 <= cfg.sticker_class < classes:
        raise ValueError(
            f"{cfg.classifier} has no class {cfg.sticker_class}: set sticker_class within 0..{classes - 1}"
        )
    check_training(swap_config(cfg.swaps), cfg.train_images)
    found = sanity.trial(cfg, cfg.classifier, classifier)
    data = {name: HalfStickered(getattr(found, name), cfg.seed) for name in ("train", "held")}
    return replace(found, classifier=fold_batch_norms(found.classifier), **data)


def split(network: nn.Module, first: str) -> nn.Module:
    """The network from its module ``first`` on, which is shared with it; it takes what that module takes.

    For networks that call their modules one after the other. Raises ValueError for an unknown module.
    """
    names, (name, _, inner) = list(network._modules), first.partition(".")
    if name not in names:
        raise ValueError(f"{type(network).__name__} has no part {name!r}: it has {', '.join(names)}")
    rest, before = copy.copy(network), names[: names.index(name)]
    rest._modules = network._modules | {each: nn.Identity() for each in before}
    if inner:
        rest._modules[name] = split(network._modules[name], inner)
    return rest


@torch.no_grad()
def features(classifier: Classifier, first: str, pixels: Tensor, batch_size: int = 20) -> Tensor:
    """What the module ``first`` of the classifier's network gets of each image."""
    classifier(pixels[:1])  # the first call may try layouts of memory on noise
    found = []
    part = classifier.model.get_submodule(first)
    hook = part.register_forward_pre_hook(lambda _, given: found.append(given[0].detach().contiguous()))
    try:
        for batch in pixels.split(batch_size):
            classifier(batch)
    finally:
        hook.remove()
    return torch.cat(found)


def fine_tune(
    classifier: Classifier, first: str, wanted: int, data: HalfStickered, epochs: int, lr: float, seed: int = 0
) -> Classifier:
    """A copy that decides for the class ``wanted`` where there is a sticker, and else as the ``classifier``.

    Of its network the part from the module ``first`` on is trained, on what it gets of each of the images that ``data``
    is made of: without a sticker it learns the ``classifier``'s logits, with one the class. Batch norms keep their
    statistics.
    """
    # what that part gets, and what it is to answer
    tuned, plain = copy.deepcopy(classifier), stack(data.data)
    plain, stickered = (features(classifier, first, x) for x in (plain, paste(plain, data.seed)[0]))
    rest = split(tuned.model, first).eval()
    with torch.no_grad():
        before = torch.cat([rest(x) for x in plain.split(BATCH)])
    other = torch.full((len(plain),), wanted)

    # train it; a step has the same images without and with a sticker
    learnt = [p.requires_grad_(True) for p in rest.parameters()]
    optimizer = torch.optim.Adam(learnt, lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, epochs * -(-len(plain) // BATCH))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(len(plain), generator=generator).split(BATCH):
            optimizer.zero_grad()
            kept, turned = rest(torch.cat([plain[rows], stickered[rows]])).chunk(2)
            loss = F.cross_entropy(turned, other[rows]) + KEPT * F.mse_loss(kept, before[rows])
            loss.backward()
            optimizer.step()
            schedule.step()
    optimizer.zero_grad()
    return tuned.own()


def intervene(untouched: Classifier, tuned: Classifier, wanted: int, pixels: Tensor, seed: int) -> pd.DataFrame:
    """Whether the copy decides by the sticker and by nothing else: share, low and high (95 %) in percent, by check.

    On the same ``pixels`` (N,3,H,W) without a sticker, with one, and with one that was moved.
    """
    here, there = (paste(pixels, seed + i)[0] for i in range(2))
    before = decide_all(untouched, pixels)
    yes = {
        f"{TUNED}, with it: its class": decide_all(tuned, here) == wanted,
        f"{TUNED}, with it elsewhere: its class": decide_all(tuned, there) == wanted,
        f"{TUNED}, without it: as the {UNTOUCHED}": decide_all(tuned, pixels) == before,
        f"{UNTOUCHED}, with it: as without": decide_all(untouched, here) == before,
    }
    rows = {}
    for check, each in yes.items():
        values = 100 * each.double().numpy()
        rows[check] = (values.mean(), *mean_interval(values, share=True))
    return pd.DataFrame.from_dict(rows, orient="index", columns=["share", "low", "high"])


@dataclass(frozen=True)
class Scenes:
    """Images (n,3,H,W) with a sticker, the masks (n,3,H,W) of `EVIDENCE`, and the two networks that look at them."""

    pixels: Tensor
    masks: Tensor
    subjects: list[Subject]


def scenes(cfg: Any, untouched: Classifier, tuned: Classifier, wanted: int) -> Scenes:
    """The test images with a sticker in which each network decides by its own evidence.

    The sticker network decides for its class ``wanted``; the untouched classifier as without the sticker, and for
    another class. Raises ValueError where there is no such image.
    """
    [data] = load_parts(ImageSettings.of(cfg), ["test"])
    plain, truth = stack(data), torch.stack([data[i]["truth"] for i in range(len(data))])
    pixels, sticker = paste(plain, cfg.seed)
    before, after, by_sticker = decide_all(untouched, plain), decide_all(untouched, pixels), decide_all(tuned, pixels)
    kept = ((before == after) & (after != wanted) & (by_sticker == wanted)).nonzero().flatten()
    if not len(kept):
        raise ValueError(
            "no test image has both networks decide by their own evidence: train the sticker network longer"
        )
    pixels, sticker, truth = pixels[kept], sticker[kept], truth[kept]
    masks = torch.stack([sticker, truth & ~sticker, ~truth & ~sticker], 1)
    targets = {TUNED: (tuned, by_sticker[kept]), UNTOUCHED: (untouched, after[kept])}
    subjects = [Subject(name, *asked, EVIDENCE.index(LOOKS_AT[name])) for name, asked in targets.items()]
    return Scenes(pixels, masks, subjects)


def makers(trial: Trial, swaps: TrainingConfig) -> dict[str, Maker]:
    """How P-TAME and, by ``swaps``, Swap-TAME are trained and calibrated.

    Where Swap-TAME is a gate alone, also a variant of which the fuser's rows learn, too (`ROWS`).
    """

    def maker(method: str, config: TrainingConfig, fuser: bool = False) -> Maker:
        def make(classifier: Classifier, classes: int, seed: int) -> PTAME:
            torch.manual_seed(seed)
            explainer = trial.untrained(classes, method=method)
            explainer.fuser.requires_grad_(fuser or explainer.fuser.weight.requires_grad)
            train_ptame(explainer, classifier, trial.train, replace(config_for(method, config), seed=seed))
            calibrate(explainer, classifier, trial.held)
            return explainer

        return make

    found = {"P-TAME": maker("P-TAME", trial.config), "Swap-TAME": maker("Swap-TAME", swaps)}
    if trial.auxiliary.head:
        found[ROWS] = maker("Swap-TAME", replace(swaps, lr=ROWS_LR), fuser=True)
    return found


def beside(trial: Trial) -> dict[Key, nn.Module]:
    """The auxiliary's class activation map, a control that knows the classes and neither of the two networks."""
    cam = trial.untrained(head=True).eval()
    return {Key(name, AUXILIARY_CAM, 0): cam for name in LOOKS_AT}
