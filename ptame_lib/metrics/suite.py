"""All metrics of one explanation at once: what the comparison's table is made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..masking import resize
from ..validation import check_images
from .compactness import saliency_metric, sparseness
from .curves import deletion, insertion
from .drop import average_drop, average_gain, confidence, increase_in_confidence, masked_confidence
from .imputation import linear_imputation
from .localisation import THRESHOLDS, average_precision, best_iou, energy_pointing_game, iou, pointing_game
from .ranking import ranked
from .road import SHARES as REMOVED
from .road import road, summary, telea_imputation
from .segmentation import (
    background_coverage,
    continuous_iou,
    mean_f1,
    mean_iou,
    object_coverage,
    roc_auc,
    soft_accuracy,
    soft_f1,
)

DROPS = {"AD": average_drop, "IC": increase_in_confidence, "AG": average_gain}


KEPT = (1.0, 0.5, 0.15)  # shares of the map's pixels that AD, IC and AG keep


@dataclass(frozen=True)
class Metric:
    """``higher_is_better``; values are multiplied by ``scale`` for tables (100: percent); ``main``: a column of the main table;
    ``needs_truth``: only measured where the data know the evidence."""

    higher_is_better: bool
    scale: float = 100.0
    main: bool = True
    needs_truth: bool = False


def noisy_linear(pixels: Tensor, known: Tensor) -> Tensor:
    """`linear_imputation` with its noise of deviation 0.01 drawn alike for every image, so that batches change nothing."""
    filled = linear_imputation(pixels, known, noise=0.0)
    noise = torch.randn(pixels.shape[1:], generator=torch.Generator().manual_seed(0)).to(pixels)
    return torch.where(known[:, None], filled, filled + 0.01 * noise)


IMPUTERS = {"": noisy_linear, "TELEA ": telea_imputation}


def _metrics() -> dict[str, Metric]:
    table = {f"{name}{100 * share:.0f}": Metric(name != "AD") for share in KEPT for name in DROPS}
    for imputer in IMPUTERS:
        for order in ("MoRF", "LeRF"):
            table |= {
                f"{imputer}{order} {what}": Metric(order == "LeRF", main=not imputer)
                for what in ("accuracy", "confidence")
            }
    table |= {"insertion": Metric(True), "deletion": Metric(False)}
    table |= {name: Metric(True, needs_truth=True) for name in ("pointing", "energy", "IoU")}
    table |= {"IoU at 0.5": Metric(True, main=False, needs_truth=True), "AP": Metric(True, needs_truth=True)}
    table |= {"saliency": Metric(False, scale=1.0), "sparseness": Metric(True)}
    for imputer in IMPUTERS:
        for order in ("MoRF", "LeRF"):
            for what in ("accuracy", "confidence"):
                table |= {
                    f"{imputer}{order} {what} {100 * share:.0f}": Metric(order == "LeRF", main=False)
                    for share in REMOVED
                }
    return table


METRICS = _metrics()


"""Every metric by the name of its column, in the order of the tables. ``AD100``: at 100 % of the map; ``MoRF accuracy``: the area under the
ROAD curve with the noisy linear imputation, ``TELEA MoRF accuracy`` with TELEA's; ``MoRF accuracy 10``: with 10 % removed."""


@torch.no_grad()
def measure(
    classifier: nn.Module,
    pixels: Tensor,
    targets: Tensor,
    maps: Tensor,
    truth: Tensor | None = None,
    *,
    curves: bool = True,
    steps: int = 10,
) -> dict[str, Tensor]:
    """Every metric of `METRICS`, one value (B,) per image, times its scale.

    ``maps`` (B,h,w) explain the ``targets`` (B,) of ``pixels`` (B,3,H,W); without the ``truth`` (B,H,W) bool, metrics that need it are left
    out. ``curves=False`` leaves out ROAD, insertion and deletion, which ask the classifier most often (``steps`` times for each of the latter).

    Raises ValueError for pixels, targets, maps or a truth of another shape, type or range, FloatingPointError where the classifier answers NaN.
    """
    check_images(pixels)
    p = confidence(classifier, pixels, targets)
    found: dict[str, Tensor] = {}
    for share in KEPT:
        q = masked_confidence(classifier, pixels, targets, maps, share)
        if share == 1:
            found["saliency"] = saliency_metric(maps, q)
        found |= {f"{name}{100 * share:.0f}": metric(p, q) for name, metric in DROPS.items()}
    if curves:
        ranking = ranked(resize(maps.float(), pixels.shape[-2:]))  # once for all curves
        for imputer, impute in IMPUTERS.items():
            for order in ("MoRF", "LeRF"):
                for what, values in zip(
                    ("accuracy", "confidence"),
                    road(classifier, pixels, targets, maps, order, impute=impute, ranking=ranking),
                    strict=True,
                ):
                    found[f"{imputer}{order} {what}"] = summary(values)
                    found |= {
                        f"{imputer}{order} {what} {100 * s:.0f}": v for s, v in zip(REMOVED, values.T, strict=True)
                    }
        found["insertion"] = insertion(classifier, pixels, targets, maps, steps, ranking=ranking, last=p)
        found["deletion"] = deletion(classifier, pixels, targets, maps, steps, ranking=ranking, first=p)
    found["sparseness"] = sparseness(maps)
    if truth is not None:
        found |= {
            "pointing": pointing_game(maps, truth),
            "energy": energy_pointing_game(maps, truth),
            "AP": average_precision(maps, truth),
        }
        found |= {"IoU": best_iou(maps, truth), "IoU at 0.5": iou(maps, truth, 0.5)}
    return {name: metric.scale * found[name].double() for name, metric in METRICS.items() if name in found}


MASK_MEASURES = {  # (masks, truth) -> one value per image
    "mean F1": mean_f1,
    "soft F1": soft_f1,
    "soft accuracy": soft_accuracy,
    "mean IoU": mean_iou,
    "continuous IoU": continuous_iou,
    "ROC AUC": roc_auc,
    "object coverage": object_coverage,
    "background coverage": background_coverage,
}


MASK_METRICS = {name: Metric(name != "background coverage", main=False) for name in MASK_MEASURES}


MASK_METRICS |= {"saliency score": Metric(False, scale=1.0, main=False)}


MASK_METRICS |= {f"{name} at {t:g}": Metric(True, main=False) for name in ("F1", "mask IoU") for t in THRESHOLDS}
