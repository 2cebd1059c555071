"""Masks of several labels put together and measured: answers known by hand."""

import pandas as pd
import pytest
import torch
from torch import nn

from ptame_lib import Classifier, Method
from ptame_lib.methods.controls import baselines
from ptame_lib.metrics.suite import MASK_METRICS, MASKS
from ptame_study.evaluation import aggregate, evaluate, evaluate_all

SIDE = 8


class Halves(nn.Module):
    """Three classes: bright left half, bright right half, and one that never is."""

    def forward(self, x):
        left, right = x[..., : SIDE // 2].mean((1, 2, 3)), x[..., SIDE // 2 :].mean((1, 2, 3))
        return torch.stack([left, right, torch.full_like(left, -9.0)], 1)


LEFT = (torch.arange(SIDE) < SIDE // 2).expand(SIDE, SIDE)
TRUTH = torch.stack([LEFT, ~LEFT, torch.zeros_like(LEFT)])
CLASSIFIER = Classifier(Halves(), [0.0] * 3, [1.0] * 3, SIDE)


def method(name, explain):
    return Method(name, explain, 1, 0, "test", normalised=False)


BY_CLASS = method("by class", lambda pixels, targets: TRUTH[targets].float())


def evaluate_masks(method, data, **options):
    return evaluate(CLASSIFIER, method, data, MASKS, **options)


def item(*labels):
    has = torch.zeros(3, dtype=torch.bool)
    has[list(labels)] = True
    return {"pixels": torch.ones(3, SIDE, SIDE), "labels": has, "truth": TRUTH & has[:, None, None]}


def test_the_labels_masks_are_put_together_by_their_maximum():
    items = [item(0), item(0, 1), item(), item(1)]
    pixels, labels = (torch.stack([one[key] for one in items]) for key in ("pixels", "labels"))
    found = aggregate(BY_CLASS, pixels, labels)
    assert found.bool().equal(torch.stack([LEFT, torch.ones_like(LEFT), torch.zeros_like(LEFT), ~LEFT]))
    faint = method("faint", lambda pixels, targets: (0.25 * (targets + 1))[:, None, None].expand(-1, 2, 2))
    assert aggregate(faint, pixels, labels).amax((1, 2)).tolist() == [0.25, 0.5, 0, 0.5]
    assert aggregate(BY_CLASS, pixels[2:3], labels[2:3]).sum() == 0  # no label, no question


def test_evaluate_by_hand():
    values, cost = evaluate_masks(BY_CLASS, [item(0), item(0, 1), item(1)], batch_size=2)
    assert values["image"].tolist() == [0, 1, 2]
    assert (
        values[["mean F1", "soft F1", "soft accuracy", "mean IoU", "continuous IoU", "object coverage", "F1 at 0.1"]]
        == 100
    ).all(None)
    assert values["background coverage"].tolist() == [0, 0, 0]
    assert values["ROC AUC"].isna().tolist() == [False, True, False]  # undefined where the truth is the whole image
    assert list(values) == ["image", *MASK_METRICS]
    assert cost["ms_per_image"] >= 0
    assert {key: cost[key] for key in ("forwards", "images", "source")} == {
        "forwards": 1,
        "images": 3,
        "source": "test",
    }


def test_the_baselines():
    found = {method.name: evaluate_masks(method, [item(0)])[0].iloc[0] for method in baselines()}
    assert found["all 0"]["mean F1"] == found["all 0"]["object coverage"] == 0
    assert found["all 1"]["mean F1"] == pytest.approx(100 * 2 / 3)  # half of it is right
    assert found["all 1"]["background coverage"] == 100
    assert found["all 0.5"]["soft accuracy"] == 50
    assert found["ground truth"]["mean F1"] == 100
    assert found["ground truth"]["saliency score"] < found["all 1"]["saliency score"]


def test_the_truth_may_be_of_all_objects_together():
    """As in VOC and COCO: the objects' masks of each class, or their union, give the same values."""
    apart = [item(0), item(0, 1)]
    together = [one | {"truth": one["truth"].any(0)} for one in apart]
    for method in (BY_CLASS, baselines()[-1]):
        pd.testing.assert_frame_equal(*(evaluate_masks(method, data)[0] for data in (together, apart)))


def test_what_is_better_is_known_for_every_metric():
    other = method("other half", lambda pixels, targets: 0.9 * (~LEFT).float().expand(len(pixels), -1, -1))
    good, bad = (evaluate_masks(mask, [item(0)])[0].iloc[0] for mask in (BY_CLASS, other))
    for name, metric in MASK_METRICS.items():
        assert pd.notna(good[name])
        assert (good[name] > bad[name]) == metric.higher_is_better, name


def test_masks_are_measured_as_they_are_or_not_at_all():
    with pytest.raises(ValueError, match=r"'all 1' gives masks that must not be normalised: .* with the suite MASKS"):
        evaluate(CLASSIFIER, baselines()[2], [item(0)])
    with pytest.raises(ValueError, match=r"masks must be in \[0,1\], got 3..3"):
        evaluate_masks(method("too bright", lambda pixels, targets: torch.full((len(pixels), 4, 4), 3.0)), [item(0)])


def test_every_method_on_masks():
    data = [item(0), item(0, 1), item(1)]
    per_image, cost = evaluate_all("net", CLASSIFIER, baselines(), data, {"all 1": 2}, MASKS)
    assert list(per_image) == ["classifier", "method", "image", *MASK_METRICS]
    assert per_image.groupby("method", sort=False).size().to_dict() == {
        "all 0": 3,
        "all 0.5": 3,
        "all 1": 2,
        "ground truth": 3,
    }
    assert cost["images"].tolist() == [3, 3, 2, 3]
