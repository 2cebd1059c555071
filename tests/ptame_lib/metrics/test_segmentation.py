"""Segmentation metrics: the original's numbers, answers worked out by hand, scikit-learn's."""

import numpy as np
import pytest
import torch
from helpers import Arrays
from sklearn.metrics import f1_score as sklearn_f1
from sklearn.metrics import jaccard_score, roc_auc_score

from ptame_lib.metrics import (
    aggregate_masks,
    background_coverage,
    continuous_iou,
    f1_score,
    mask_iou,
    mean_f1,
    mean_iou,
    object_coverage,
    roc_auc,
    soft_accuracy,
    soft_f1,
)
from ptame_lib.metrics.localisation import THRESHOLDS
from ptame_lib.metrics.segmentation import F1_THRESHOLDS

PAIRS = {
    "soft_f1": soft_f1,
    "soft_accuracy": soft_accuracy,
    "continuous_IOU": continuous_iou,
    "mask_coverage": object_coverage,
    "background_coverage": background_coverage,
}


def case(number):
    arrays = Arrays("nn_explainer_metrics")
    return arrays, arrays[f"{number}/mask"][None], arrays[f"{number}/seg"][None]


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("number", range(6))
def test_the_originals_soft_metrics(number, name):
    arrays, masks, truth = case(number)
    assert PAIRS[name](masks, truth).item() == pytest.approx(arrays[f"{number}/{name}"].item(), abs=1e-6)


@pytest.mark.parametrize("number", range(6))
def test_the_originals_metrics_at_thresholds(number):
    arrays, masks, truth = case(number)
    for name, metric in (("IOUs", mask_iou), ("f1s", f1_score)):
        found = [metric(masks, truth, t).item() for t in THRESHOLDS]
        assert found == pytest.approx(arrays[f"{number}/{name}"].tolist(), abs=1e-6)
    thirds = [arrays[f"{number}/discrete_f1_{t}"].item() for t in (25, 50, 75)]
    assert [f1_score(masks, truth, t).item() for t in F1_THRESHOLDS] == pytest.approx(thirds, abs=1e-6)
    assert mean_f1(masks, truth).item() == pytest.approx(sum(thirds) / 3, abs=1e-6)
    assert mean_iou(masks, truth).item() == pytest.approx(arrays[f"{number}/IOUs"].mean().item(), abs=1e-6)
    if number < 5:  # pixels that are object in part have no place in a ranking
        assert roc_auc(masks, truth).item() == pytest.approx(arrays[f"{number}/auc"].item(), abs=1e-6, nan_ok=True)


def batch(n=5, side=(12, 9)):
    generator = torch.Generator().manual_seed(0)
    masks = (torch.rand(n, *side, generator=generator) * 8).round() / 8  # with ties
    return masks, torch.rand(n, *side, generator=generator) < 0.3


def test_a_batch_is_measured_image_by_image_as_scikit_learn_does():
    masks, truth = batch()
    flat = [(m.flatten().numpy(), t.flatten().numpy()) for m, t in zip(masks, truth, strict=True)]
    assert roc_auc(masks, truth).tolist() == pytest.approx([roc_auc_score(t, m) for m, t in flat])
    assert f1_score(masks, truth, 0.4).tolist() == pytest.approx([sklearn_f1(t, m >= 0.4) for m, t in flat])
    assert mask_iou(masks, truth, 0.4).tolist() == pytest.approx([jaccard_score(t, m >= 0.4) for m, t in flat])


def test_the_truth_as_mask_is_perfect_and_its_complement_is_not():
    _, truth = batch()
    ones = [1.0] * len(truth)
    for metric in (soft_f1, soft_accuracy, continuous_iou, roc_auc, object_coverage, mean_f1):
        assert metric(truth.float(), truth).tolist() == ones
        assert metric(1 - truth.float(), truth).abs().max() == 0
    assert background_coverage(truth.float(), truth).abs().max() == 0
    assert background_coverage(1 - truth.float(), truth).tolist() == ones


def test_constant_masks_by_hand():
    """A quarter of the image is object. A mask of 0.5 is at the threshold .5, which keeps it, and below .75."""
    truth = torch.zeros(1, 4, 4, dtype=torch.bool)
    truth[:, :2, :2] = True
    for value, f1, soft, accuracy, iou, coverage in (
        (0.0, (0, 0, 0), 0, 0.75, 0, 0),
        (0.5, (0.4, 0.4, 0), 2 * 2 / (8 + 4), 0.5, 2 / (4 + 6), 0.5),
        (1.0, (0.4, 0.4, 0.4), 0.4, 0.25, 0.25, 1),
    ):
        masks = torch.full((1, 4, 4), value)
        assert [f1_score(masks, truth, t).item() for t in F1_THRESHOLDS] == pytest.approx(f1)
        assert soft_f1(masks, truth).item() == pytest.approx(soft)
        assert soft_accuracy(masks, truth).item() == accuracy
        assert continuous_iou(masks, truth).item() == pytest.approx(iou)
        assert object_coverage(masks, truth).item() == coverage
        assert background_coverage(masks, truth).item() == coverage
        assert roc_auc(masks, truth).item() == 0.5


def test_the_area_under_the_roc_curve_is_undefined_without_object_or_background():
    masks, truth = batch(3)
    truth[0], truth[1] = False, True
    assert roc_auc(masks, truth).isnan().tolist() == [True, True, False]


def test_the_mask_is_resized_to_the_truth():
    truth = torch.ones(1, 8, 8, dtype=torch.bool)
    assert soft_accuracy(torch.full((1, 2, 2), 0.25), truth).item() == 0.25


def test_the_aggregate_takes_the_labels_masks_alone():
    masks = torch.tensor([[0.1, 0.9], [0.6, 0.2], [0.95, 0.95]]).view(1, 3, 1, 2).expand(3, 3, 1, 2)
    labels = torch.tensor([[1, 1, 0], [0, 0, 1], [0, 0, 0]])
    expected = torch.tensor([[[0.6, 0.9]], [[0.95, 0.95]], [[0.0, 0.0]]])
    assert aggregate_masks(masks, labels).equal(expected)
    assert aggregate_masks(masks, labels.bool()).equal(expected)


def test_they_do_not_normalise():
    truth = torch.tensor([[[True, False]]])
    assert f1_score(torch.tensor([[[0.2, 0.1]]]), truth, 0.5).item() == 0
    assert np.isclose(soft_f1(torch.tensor([[[0.2, 0.1]]]), truth).item(), 0.4 / 1.3)
