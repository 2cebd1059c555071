"""The Explainer's loss: the original's numbers, answers worked out by hand, and properties."""

import math
import sys

import pytest
import torch
from helpers import Arrays, TinyBackbone, assert_caught, rand

from ptame_lib import Classifier, ExplainerWeights, RTISWeights, explainer_loss, keep, masking
from ptame_lib.classifiers.wrapper import IMAGENET_MEAN, IMAGENET_STD
from ptame_lib.losses import nn_explainer
from ptame_lib.losses.nn_explainer import (
    PUBLISHED,
    class_area_term,
    negative_entropy,
    outside_band,
    rtis_loss,
    target_masks,
    total_variation,
)
from ptame_lib.masking import blend

CLOSE = {"atol": 1e-7, "rtol": 1e-5}


def logit(values):
    return torch.as_tensor(values).logit()


def parts(case):
    """What the original's loss saw: logits of masks, labels, the classifier's answers to masked pixels, and (m, n)."""
    arrays = Arrays(f"nn_explainer_loss_{case}")
    net = TinyBackbone(arrays["targets"].shape[1])
    net.features[0], net.features[1] = torch.nn.Conv2d(3, 5, 3, 2, 1), torch.nn.BatchNorm2d(5)
    net.features[3], net.features[4] = torch.nn.Conv2d(5, 10, 3, 2, 1), torch.nn.BatchNorm2d(10)
    net.fc = torch.nn.Linear(10, arrays["targets"].shape[1])
    net.load_state_dict(arrays.part("classifier/"))
    classifier = Classifier(net, IMAGENET_MEAN, IMAGENET_STD, 64)
    logits, labels = arrays["segmentations"].clone().requires_grad_(), arrays["targets"]
    masks, pixels = target_masks(logits, labels), arrays.pixels("image")
    kept, removed = (classifier(blend(pixels, mask, classifier.mean)) for mask in (masks[0], 1 - masks[0]))
    return arrays, (logits, labels, kept, removed, masks)


@pytest.mark.parametrize("case", [0, 1])
def test_the_originals_terms(case):
    arrays, seen = parts(case)
    logits, labels, kept, removed, (target, other) = seen
    torch.testing.assert_close(target, arrays["target_mask"], **CLOSE)
    torch.testing.assert_close(other, arrays["non_target_mask"], **CLOSE)
    torch.testing.assert_close(kept, arrays["logits_mask"], atol=1e-5, rtol=0)
    torch.testing.assert_close(removed, arrays["logits_inversed_mask"], atol=1e-5, rtol=0)
    found = explainer_loss(*seen)
    torch.testing.assert_close(found.ce, arrays["bce_loss"], **CLOSE)
    torch.testing.assert_close(found.entropy, arrays["entropy_loss"], **CLOSE)
    torch.testing.assert_close(total_variation(target), arrays["tv_target"], **CLOSE)
    torch.testing.assert_close(found.tv, arrays["tv_target"] + arrays["tv_non_target"], **CLOSE)
    torch.testing.assert_close(found.class_area, arrays["class_mask_area_loss"], **CLOSE)
    torch.testing.assert_close(class_area_term(logits, labels, 0, 1), arrays["class_mask_area_loss_min0_max1"], **CLOSE)
    torch.testing.assert_close(class_area_term(logits, labels, 0), arrays["class_mask_area_loss_min0"], **CLOSE)
    torch.testing.assert_close(class_area_term(logits, labels, largest=1), arrays["class_mask_area_loss_max1"], **CLOSE)
    torch.testing.assert_close(
        outside_band(target, 0.05, 0.5).mean(), arrays["mask_area_loss_on_target_mask(min=.05,max=.5)"], **CLOSE
    )
    torch.testing.assert_close(negative_entropy(arrays["entropy_extreme_logits"]), arrays["entropy_extreme"], **CLOSE)


@pytest.mark.parametrize("key", PUBLISHED)
@pytest.mark.parametrize("case", [0, 1])
def test_the_originals_total_and_its_gradient(case, key):
    name = "_".join(key)
    arrays, seen = parts(case)
    torch.testing.assert_close(
        explainer_loss(*seen, PUBLISHED[key]).total, arrays[f"total_loss/{name}"], atol=1e-6, rtol=1e-5
    )
    if f"grad_segmentations/{name}" in arrays.values:
        explainer_loss(*seen, PUBLISHED[key]).total.backward()
        torch.testing.assert_close(seen[0].grad[:1], arrays[f"grad_segmentations/{name}"], atol=1e-8, rtol=1e-4)


@pytest.mark.parametrize("case", [0, 1])
def test_the_published_weights(case):
    published = Arrays(f"nn_explainer_loss_{case}").description["hyperparameters"]
    ours = {"_".join(key): (w.entropy, w.tv, w.class_area, w.area, w.non_target_area) for key, w in PUBLISHED.items()}
    assert ours == {name: tuple(values.values()) for name, values in published.items()}


def test_target_masks_by_hand():
    logits = logit([0.2, 0.6, 0.9]).view(1, 3, 1, 1).expand(4, 3, 1, 1)
    labels = torch.tensor([[1, 1, 0], [0, 0, 1], [0, 0, 0], [1, 1, 1]])
    target, other = target_masks(logits, labels)
    torch.testing.assert_close(target.flatten(), torch.tensor([0.6, 0.9, 0.0, 0.9]))
    torch.testing.assert_close(other.flatten(), torch.tensor([0.9, 0.6, 0.9, 0.0]))


def test_an_image_without_labels_has_a_loss_and_a_finite_gradient():
    for labels in (torch.zeros(2, 3), torch.ones(2, 3), torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])):
        for loss in (explainer_loss, rtis_loss):
            logits = rand(2, 3, 6, 6).requires_grad_()
            total = loss(logits, labels, rand(2, 3), rand(2, 3), target_masks(logits, labels)).total
            total.backward()
            assert total.isfinite()
            assert logits.grad.isfinite().all()
            assert logits.grad.abs().sum() > 0 or loss is rtis_loss


def test_variation_counts_the_last_difference_twice():
    """Reflected at the border, a row 0 0 1 has the differences 0 1 1, a column 0 1 has 1 1."""
    row, column = torch.tensor([[[0.0, 0.0, 0.5]]]).expand(1, 2, 3), torch.tensor([[[0.0], [0.5]]]).expand(1, 2, 3)
    assert total_variation(row).item() == pytest.approx(2 * (0.5 + 0.5) / 6)
    assert total_variation(row, torch.square).item() == pytest.approx(2 * (0.25 + 0.25) / 6)
    assert total_variation(column).item() == pytest.approx(3 * (0.5 + 0.5) / 6)
    assert total_variation(torch.full((2, 4, 4), 0.7)).item() == 0


def test_the_band_by_hand():
    """Ten pixels: 20 % should be 1, from 50 % on 0. Three ones lose nothing, no ones lose two, eight lose three."""
    masks = torch.zeros(4, 1, 10)
    masks[0, :, :3], masks[2, :, 2:], masks[3] = 1, 1, 0.4
    torch.testing.assert_close(
        outside_band(masks, 0.2, 0.5), torch.tensor([0.0, 2 / 10, 3 / 10, (2 * 0.6 + 5 * 0.4) / 10])
    )


def test_the_class_area_is_that_of_sorting_each_mask():
    logits, labels = 6 * rand(3, 4, 9, 11) - 3, torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]])
    expected = 0.0
    for image, label in zip(logits.sigmoid(), labels, strict=True):
        for mask in image[label == 1]:
            falling = sorted(mask.flatten().tolist(), reverse=True)
            short, long = int(0.1 * 99), int(0.4 * 99)
            expected += (sum(1 - v for v in falling[:short]) + sum(falling[long:])) / 99
    assert class_area_term(logits, labels, 0.1, 0.4).item() == pytest.approx(expected / 3, rel=1e-5)
    assert class_area_term(logits, torch.zeros(3, 4)).item() == 0


def test_the_class_area_pushes_up_the_highest_and_down_the_lowest():
    logits = rand(1, 1, 10, 10).requires_grad_()
    class_area_term(logits, torch.ones(1, 1), 0.1, 0.3).backward()
    rank = logits.flatten().argsort(descending=True)
    gradient = logits.grad.flatten()[rank]
    assert (gradient[:10] < 0).all()
    assert (gradient[10:30] == 0).all()
    assert (gradient[30:] > 0).all()


def test_the_entropy_term_is_lowest_where_nothing_is_known():
    assert negative_entropy(torch.zeros(3, 10)).item() == pytest.approx(-math.log(10) / 10)
    assert negative_entropy(torch.tensor([[200.0, 0.0], [0.0, 200.0]])).item() == pytest.approx(0, abs=1e-6)


def test_each_weight_weighs_its_term():
    _, seen = parts(0)
    bare = {name: 0.0 for name in ("entropy", "tv", "class_area", "area", "non_target_area")}
    found = explainer_loss(*seen, ExplainerWeights(**bare))
    assert found.total == found.ce
    for name in bare:
        total = explainer_loss(*seen, ExplainerWeights(**bare | {name: 2.0})).total
        assert total.item() == pytest.approx((found.ce + 2 * getattr(found, name)).item())


def test_rtis_by_hand():
    """Two images, labels {0} and {0, 1}: three label logits each on what is kept and what is removed."""
    labels = torch.tensor([[1, 0], [1, 1]])
    kept, removed = logit([[0.5, 0.9], [0.25, 0.8]]), logit([[0.5, 0.9], [0.04, 0.2]])
    logits = torch.full((2, 2, 4, 4), 0.0)
    logits[:, :, :, 2:] = logit(0.9)
    found = rtis_loss(logits, labels, kept, removed, target_masks(logits, labels), RTISWeights(power=0.5))
    assert found.kept.item() == pytest.approx(-(math.log(0.5) + math.log(0.25) + math.log(0.8)) / 3, rel=1e-5)
    assert found.removed.item() == pytest.approx((0.5**0.5 + 0.2 + 0.2**0.5) / 3, rel=1e-5)
    assert found.area.item() == pytest.approx(0.7)
    assert found.tv.item() == pytest.approx(0.4**2 * 4 / 16)
    assert found.total.item() == pytest.approx((found.kept + 5 * found.removed + 10 * found.tv + found.area).item())


def test_a_single_labels_first_term_is_the_softmaxs_cross_entropy():
    """Two images, three classes: -log of the softmax at each label; the other terms are as for several labels."""
    labels = torch.tensor([[0, 1, 0], [1, 0, 0]])
    kept, removed = torch.tensor([[1.0, 2.0, 0.0], [0.5, -1.0, 3.0]]), rand(2, 3)
    logits = rand(2, 3, 6, 6)
    seen = (logits, labels, kept, removed, target_masks(logits, labels))
    found, several = explainer_loss(*seen, multi_label=False), explainer_loss(*seen)
    shares = math.exp(2) / (math.exp(1) + math.exp(2) + 1), math.exp(0.5) / (math.exp(0.5) + math.exp(-1) + math.exp(3))
    assert found.ce.item() == pytest.approx(-(math.log(shares[0]) + math.log(shares[1])) / 2, rel=1e-5)
    assert found[2:] == several[2:]
    assert (found.total - found.ce).item() == pytest.approx((several.total - several.ce).item(), abs=1e-6)
    rtis = rtis_loss(*seen, RTISWeights(power=0.5), multi_label=False)
    assert rtis.kept.item() == pytest.approx(found.ce.item(), rel=1e-5)
    left = removed.softmax(1)
    assert rtis.removed.item() == pytest.approx((left[0, 1].sqrt() + left[1, 0].sqrt()).item() / 2, rel=1e-5)


@pytest.mark.parametrize("loss", [explainer_loss, rtis_loss])
@pytest.mark.parametrize("labels", [[0.0, 0.0], [1.0, 1.0]])
def test_a_single_label_is_exactly_one(loss, labels):
    labels = torch.tensor([[0.0, 1.0], labels])
    logits = rand(2, 2, 4, 4)
    with pytest.raises(
        ValueError,
        match=r"image 1 of the batch has [02] labels, but the classifier gives one class "
        r".* or make .* multi_label=True",
    ):
        loss(logits, labels, rand(2, 2), rand(2, 2), target_masks(logits, labels), multi_label=False)


def test_rtis_leaves_other_classes_masks_free():
    logits, labels = rand(2, 3, 5, 5).requires_grad_(), torch.tensor([[1, 0, 0], [0, 1, 0]])
    rtis_loss(logits, labels, rand(2, 3), rand(2, 3), target_masks(logits, labels)).total.backward()
    assert logits.grad[0, 0].abs().sum() > 0
    assert logits.grad[labels == 0].abs().sum() == 0


@pytest.mark.parametrize("loss", [explainer_loss, rtis_loss])
def test_what_does_not_belong_together_is_refused(loss):
    logits, labels = rand(2, 3, 4, 4), torch.ones(2, 3)
    with pytest.raises(
        ValueError, match=r"differ: logits \(2, 3, 4, 4\), labels \(2, 3\), kept \(2, 3\), removed \(2, 4\)"
    ):
        loss(logits, labels, rand(2, 3), rand(2, 4), target_masks(logits, labels))


HERE = sys.modules[__name__]

# name: (where, what is replaced, by what)
FAULTS = {
    "the complement of the mask is not taken": (HERE, "blend", lambda x, m, c: masking.blend(x, m.round(), c)),
    "removed pixels are black": (HERE, "blend", lambda x, m, c: keep(x, m)),
    "target and other masks exchanged": (HERE, "target_masks", lambda z, y: nn_explainer.target_masks(z, 1 - y)),
    "entropy with its other sign": (nn_explainer, "negative_entropy", lambda z: -negative_entropy(z)),
    "the area of all classes": (
        nn_explainer,
        "class_area_term",
        lambda z, y, *b: class_area_term(z, torch.ones_like(y), *b),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, monkeypatch):
    assert_caught(monkeypatch, lambda: test_the_originals_terms(0), FAULTS[fault])
