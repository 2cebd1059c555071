"""All metrics of an explanation at once: of a map for a decision, or of a mask for an image's labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..masking import resize
from ..validation import check_images
from . import segmentation
from .compactness import saliency_metric, sparseness
from .contour import contour
from .curves import blurred, deletion, emptied, insertion
from .drop import average_drop, average_gain, confidence, increase_in_confidence, masked_confidence
from .imputation import linear_imputation
from .localisation import THRESHOLDS, average_precision, best_iou, energy_pointing_game, iou, pointing_game
from .matched import AREAS, FILLS, matched_confidence
from .precision import precision_at_truth
from .ranking import ranked
from .ranks import average_ranks
from .road import SHARES as REMOVED
from .road import road, summary, telea_imputation
from .saco import saco
from .specificity import label_confidence


@dataclass(frozen=True)
class Metric:
    """A column of the tables: is a higher value better, and how is it shown.

    ``scale``: values are multiplied by it (100: percent); ``main``: a column of the main tables; ``published``: of
    the one of metrics that depend on the map's values, as published (a power of the map moves them), else of the one by
    rank; ``needs_truth``: measured only where the data know the evidence.
    """

    higher_is_better: bool
    scale: float = 100.0
    main: bool = True
    needs_truth: bool = False
    published: bool = False


def noisy_linear(pixels: Tensor, known: Tensor) -> Tensor:
    """`linear_imputation` with the same noise of deviation 0.01 for every image, in whatever batch."""
    filled = linear_imputation(pixels, known, noise=0.0)
    noise = torch.randn(pixels.shape[1:], generator=torch.Generator().manual_seed(0)).to(pixels)
    return torch.where(known[:, None], filled, filled + 0.01 * noise)


DROPS = {"AD": average_drop, "IC": increase_in_confidence, "AG": average_gain}
KEPT = (1.0, 0.5, 0.15)  # shares of the map's pixels that AD, IC and AG keep
IMPUTERS = {"": noisy_linear, "TELEA ": telea_imputation}
ROADS = {f"{imputer}{order}": (imputer, order) for imputer in IMPUTERS for order in ("MoRF", "LeRF")}
CURVES = {f"{name} {what}": of for name, of in ROADS.items() for what in ("accuracy", "confidence")}
LOCALISATION = {  # (maps, truth) -> one value per image
    "pointing": pointing_game,
    "energy": energy_pointing_game,
    "IoU": best_iou,
    "IoU at 0.5": partial(iou, threshold=0.5),
    "AP": average_precision,
    "precision@truth": precision_at_truth,
    "contour": contour,
}
BY_RANK = ("pointing", "AP", "precision@truth", "contour")  # of these, those that no power of a map at full size moves
MATCHED = {f"{{}}@{100 * area:.0f}{fill}": (fill, area) for fill in FILLS for area in AREAS}

# Every metric of a map by its column, in the order of the tables. AD100: at 100 % of the map; AD@25: with the matched
# mask of a quarter, "blurred" where the rest is a blur instead of black. MoRF accuracy: the area under the ROAD curve
# with the noisy linear imputation; TELEA MoRF accuracy: with TELEA's; MoRF accuracy 10: at 10 %.
METRICS: dict[str, Metric] = {
    **{f"{name}{100 * share:.0f}": Metric(name != "AD", published=True) for share in KEPT for name in DROPS},
    **{
        column.format(name): Metric(name != "AD", main=not fill and name != "AG")
        for column, (fill, _) in MATCHED.items()
        for name in DROPS
    },
    **{name: Metric(order == "LeRF", main=not imputer) for name, (imputer, order) in CURVES.items()},
    "insertion": Metric(True),
    "deletion": Metric(False),
    "SaCo": Metric(True, published=True),
    **{
        name: Metric(True, main=name != "IoU at 0.5", needs_truth=True, published=name not in BY_RANK)
        for name in LOCALISATION
    },
    "saliency": Metric(False, scale=1.0, published=True),
    "sparseness": Metric(True, published=True),
    **{
        f"{name} {100 * share:.0f}": Metric(order == "LeRF", main=False)
        for name, (_, order) in CURVES.items()
        for share in REMOVED
    },
}
SHARE = re.compile(r"IC.*|pointing|.* accuracy \d+")  # metrics that are yes or no for one image
# what methods are ranked by; the other main metrics depend on the map's values
RANKED = [name for name, metric in METRICS.items() if metric.main and not metric.published]


class Answers(NamedTuple):
    """The target's probability (B,) on images whatever their map: the whole, the blurred and the emptied ones.

    The same for every method, so asked once (`ask`); None for those that only curves need.
    """

    whole: Tensor
    blurred: Tensor | None = None
    emptied: Tensor | None = None


@torch.no_grad()
def ask(classifier: nn.Module, pixels: Tensor, targets: Tensor, *, curves: bool = True, **_: object) -> Answers:
    """The `Answers` that `measure` with the same options needs; raises as `measure`."""
    check_images(pixels)
    ways = (lambda images: images, blurred, emptied) if curves else (lambda images: images,)
    return Answers(*(confidence(classifier, way(pixels), targets) for way in ways))


@torch.no_grad()
def measure(
    classifier: nn.Module,
    pixels: Tensor,
    targets: Tensor,
    maps: Tensor,
    truth: Tensor | None = None,
    *,
    curves: bool = True,
    only_ranked: bool = False,
    steps: int = 10,
    answers: Answers | None = None,
) -> dict[str, Tensor]:
    """Every metric of `METRICS`, one value (B,) per image, times its scale.

    ``maps`` (B,h,w) explain the ``targets`` (B,) of ``pixels`` (B,3,H,W). Without the ``truth`` (B,H,W) bool, metrics
    that need it are left out; ``curves=False`` leaves out ROAD, insertion, deletion and SaCo, which ask the classifier
    most often (``steps`` times for each of insertion and deletion). ``only_ranked=True`` asks it for no other metric
    than those of `RANKED`: it leaves out the soft map, the blurred fill, TELEA's imputation and SaCo, half of the time,
    and changes no other value. ``answers``: of `ask`, if known.

    Raises ValueError for pixels, targets, maps or a truth of another shape, type or range, FloatingPointError where the
    classifier answers NaN.
    """
    answers = ask(classifier, pixels, targets, curves=curves) if answers is None else answers
    found: dict[str, Tensor] = {"sparseness": sparseness(maps)}
    wanted = set(RANKED if only_ranked else METRICS)
    found |= _kept(classifier, pixels, targets, maps, answers.whole, wanted)
    if curves:
        found |= _curves(classifier, pixels, targets, maps, steps, answers, wanted)
    # where the evidence is known
    if truth is not None:
        found |= {name: metric(maps, truth) for name, metric in LOCALISATION.items()}
    return _scaled(found, METRICS)


def _kept(
    classifier: nn.Module, pixels: Tensor, targets: Tensor, maps: Tensor, p: Tensor, wanted: set[str]
) -> dict[str, Tensor]:
    """The probability on what the map keeps, against ``p`` on the whole image, where its AD is ``wanted``."""
    found: dict[str, Tensor] = {}
    # the soft map, as published
    for share in [share for share in KEPT if f"AD{100 * share:.0f}" in wanted]:
        q = masked_confidence(classifier, pixels, targets, maps, share)
        if share == 1:
            found["saliency"] = saliency_metric(maps, q)
        found |= {f"{name}{100 * share:.0f}": metric(p, q) for name, metric in DROPS.items()}
    # masks of matched area
    ranks = average_ranks(resize(maps.float(), pixels.shape[-2:]))  # once for all areas
    chosen = {column: at for column, at in MATCHED.items() if column.format("AD") in wanted}
    fills = {fill: FILLS[fill](pixels) for fill in {fill for fill, _ in chosen.values()}}
    for column, (fill, area) in chosen.items():
        q = matched_confidence(classifier, pixels, targets, maps, area, fills[fill], ranks=ranks)
        found |= {column.format(name): metric(p, q) for name, metric in DROPS.items()}
    return found


def _curves(
    classifier: nn.Module, pixels: Tensor, targets: Tensor, maps: Tensor, steps: int, answers: Answers, wanted: set[str]
) -> dict[str, Tensor]:
    """Pixels removed or inserted in the map's order; ROAD by the imputers that are ``wanted``, and SaCo if it is."""
    found: dict[str, Tensor] = {}
    known = {"ranking": ranked(resize(maps.float(), pixels.shape[-2:]))}  # once for all curves
    for name, (imputer, order) in ROADS.items():
        if f"{name} accuracy" not in wanted:
            continue
        both = road(classifier, pixels, targets, maps, order, impute=IMPUTERS[imputer], **known)
        for what, values in zip(("accuracy", "confidence"), both, strict=True):
            found[f"{name} {what}"] = summary(values)
            found |= {f"{name} {what} {100 * s:.0f}": v for s, v in zip(REMOVED, values.T, strict=True)}
    asked, (whole, soft, empty) = (classifier, pixels, targets, maps), answers
    found["insertion"] = insertion(*asked, steps, first=soft, last=whole, **known)
    found["deletion"] = deletion(*asked, steps, first=whole, last=empty, **known)
    if "SaCo" in wanted:
        found["SaCo"] = saco(*asked, whole=whole, **known)
    return found


MASK_MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # (masks, truth) -> one value per image
    "mean F1": segmentation.mean_f1,
    "soft F1": segmentation.soft_f1,
    "soft accuracy": segmentation.soft_accuracy,
    "mean IoU": segmentation.mean_iou,
    "continuous IoU": segmentation.continuous_iou,
    "boundary F": segmentation.mask_boundary_f,
    "ROC AUC": segmentation.roc_auc,
    "object coverage": segmentation.object_coverage,
    "background coverage": segmentation.background_coverage,
}
AT_THRESHOLDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    **{f"F1 at {t:g}": partial(segmentation.f1_score, threshold=t) for t in THRESHOLDS},
    **{f"mask IoU at {t:g}": partial(segmentation.mask_iou, threshold=t) for t in THRESHOLDS},
}
MASK_METRICS: dict[str, Metric] = {
    **{name: Metric(name != "background coverage", main=False) for name in MASK_MEASURES},
    "saliency score": Metric(False, scale=1.0, main=False),
    **{name: Metric(True, main=False) for name in AT_THRESHOLDS},
}


@torch.no_grad()
def measure_masks(
    classifier: nn.Module, pixels: Tensor, labels: Tensor, masks: Tensor, truth: Tensor
) -> dict[str, Tensor]:
    """Every metric of `MASK_METRICS`, one value (B,) per image, times its scale.

    ``masks`` (B,h,w) in [0,1], taken as they are, show the ``labels`` (B,K) of ``pixels`` (B,3,H,W) together; ``truth``
    bool: the objects of each label (B,K,H,W), or of all together (B,H,W). Raises ValueError for masks that are not
    finite or not in [0,1], and as `label_confidence`.
    """
    truth = truth.any(1) if truth.ndim == 4 else truth
    found = {name: metric(masks, truth) for name, metric in (MASK_MEASURES | AT_THRESHOLDS).items()}
    kept = label_confidence(classifier, pixels, labels, masks)
    found["saliency score"] = saliency_metric(masks, kept, as_they_are=True)
    return _scaled(found, MASK_METRICS)


def _scaled(found: Mapping[str, Tensor], metrics: Mapping[str, Metric]) -> dict[str, Tensor]:
    return {name: metric.scale * found[name].double() for name, metric in metrics.items() if name in found}


class Suite(NamedTuple):
    """A way to evaluate methods: what they are asked for, and how the answers are measured.

    ``measured_by(classifier, pixels, wanted, maps, truth)`` gives one value per image in every column: `measure` or
    `measure_masks`. ``of_labels``:
    wanted are the images' labels (B,K), and one mask for all of them is taken as it is; else wanted are the
    classifier's decisions (B,), and maps may be min-max normalised. ``ask(classifier, pixels, wanted)``: what measure
    takes as ``answers``, the same for all methods; None where there is nothing of the kind.
    """

    measured_by: Callable[..., dict[str, Tensor]]
    of_labels: bool
    ask: Callable[..., Answers] | None = None


MAPS, MASKS = Suite(measure, of_labels=False, ask=ask), Suite(measure_masks, of_labels=True)
