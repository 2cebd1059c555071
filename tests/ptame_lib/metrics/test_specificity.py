"""The class-specific test and the labels' confidence, on a classifier whose answers are known by hand."""

import math
from itertools import product

import pytest
import torch
from helpers import Arrays
from torch import nn

from ptame_lib import Classifier
from ptame_lib.metrics import class_confusion, label_confidence, one_by_one, saliency_metric, specificity


class Corners(nn.Module):
    """Four classes: class c has the logit ln 3 where quarter c of the normalised image has a mean above 0.5, else 0."""

    def forward(self, x):
        gray = x.mean(1)
        half = gray.shape[-1] // 2
        quarters = [gray[:, :half, :half], gray[:, :half, half:], gray[:, half:, :half], gray[:, half:, half:]]
        return torch.stack([(q.mean((1, 2)) > 0.5) * math.log(3) for q in quarters], 1)


MEAN = 0.25
CLASSIFIER = Classifier(Corners(), [MEAN] * 3, [0.75] * 3, 8)  # white becomes 1, the mean colour 0


def corner(c, value=1.0):
    quarter = torch.zeros(8, 8)
    quarter[4 * (c // 2) : 4 * (c // 2) + 4, 4 * (c % 2) : 4 * (c % 2) + 4] = value
    return quarter


def pictures(rows):
    """White quarters on the mean colour, where the labels say so."""
    labels = torch.tensor(rows)
    white = torch.stack([sum(corner(c) for c in range(4) if row[c]) + torch.zeros(8, 8) for row in rows])
    return (MEAN + (1 - MEAN) * white)[:, None].expand(-1, 3, -1, -1), labels


def right(pixels, classes):
    return torch.stack([corner(int(c)) for c in classes]).expand(len(pixels), -1, -1, -1)


ROWS = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]]


def cells(found, names="0123"):
    """Values by the names of image's and mask's class."""
    return dict(zip(product(names, ["none", *names]), found.values.flatten().tolist(), strict=True))


def test_masks_of_their_class_by_hand():
    """Alone, a class has 3 of 6; beside another 3 of 8; not seen 1 of 4, or 1 of 6 beside another that is."""
    confusion = class_confusion(CLASSIFIER, [pictures(ROWS)], right, range(4))
    found = cells(confusion)
    assert found["0", "none"] == pytest.approx(100 * (3 / 6 + 3 / 8) / 2)
    assert found["1", "none"] == pytest.approx(100 * (3 / 6 + 3 / 8) / 2)
    assert found["0", "0"] == found["1", "1"] == found["2", "2"] == pytest.approx(50)
    assert found["0", "1"] == pytest.approx(
        100 * (1 / 4 + 1 / 6) / 2
    )  # in the second image class 1's mask keeps class 1
    assert found["2", "0"] == found["0", "3"] == pytest.approx(25)
    assert math.isnan(found["3", "none"])
    assert confusion.images.tolist() == [2, 2, 1, 0]
    summary = specificity(confusion.values)
    whole = 100 * (2 * (3 / 6 + 3 / 8) / 2 + 3 / 6) / 3
    assert summary["whole"] == pytest.approx(whole)
    assert summary["own"] == pytest.approx(50)
    assert summary["kept"] == pytest.approx(100 * 50 / whole)
    assert summary["others"] == pytest.approx(100 * (2 * (1 / 4 + 1 / 6) / 2 + 7 / 4) / 9)


def test_it_takes_some_classes_in_batches():
    pixels, labels = pictures(ROWS)
    whole = class_confusion(CLASSIFIER, [(pixels, labels)], right, [2, 0])
    batches = [(pixels[:1], labels[:1]), (pixels[1:], labels[1:].bool())]
    parts = class_confusion(CLASSIFIER, batches, right, [2, 0])
    assert parts.values.equal(whole.values)
    assert parts.images.tolist() == whole.images.tolist() == [1, 2]
    everything, some = cells(class_confusion(CLASSIFIER, [(pixels, labels)], right, range(4))), cells(whole, "20")
    assert {k: v for k, v in everything.items() if k in some} == some


def test_each_map_is_binarised_at_the_nine_thresholds_and_not_normalised():
    """A mask of 0.45 keeps its quarter at .1, .2, .3 and .4, and nothing at the other five."""
    found = cells(class_confusion(CLASSIFIER, [pictures(ROWS[:1])], lambda x, c: 0.45 * right(x, c), [0]), "0")
    assert found["0", "0"] == pytest.approx(100 * (4 * 3 / 6 + 5 / 4) / 9)


def test_maps_are_resized_and_the_rest_takes_the_colour():
    pixels, labels = pictures(ROWS[2:3])
    nothing = torch.zeros(1, 1, 2, 2)

    def under(mask, colour=None):
        return class_confusion(CLASSIFIER, [(pixels, labels)], lambda x, c: mask, [2], colour=colour).values[0].tolist()

    assert under(nothing)[1] == pytest.approx(25)
    assert under(nothing, torch.ones(1, 3, 1, 1))[1] == pytest.approx(25)  # all four quarters are seen: 3 of 12
    assert under(nothing + 1, torch.zeros(1, 3, 1, 1)) == pytest.approx([50, 50])  # a full mask shows no colour


def test_a_method_that_explains_one_target_is_asked_once_per_class():
    asked = []

    def explain(pixels, targets):
        asked.append(targets.tolist())
        return torch.stack([corner(int(t)) for t in targets])

    batch = pictures(ROWS)
    found, expected = (class_confusion(CLASSIFIER, [batch], of, range(4)) for of in (one_by_one(explain), right))
    torch.testing.assert_close(found.values, expected.values, atol=0, rtol=0, equal_nan=True)
    assert asked == [[c] * 4 for c in range(4)]


def test_what_does_not_fit():
    with pytest.raises(
        ValueError, match=r"maps_of gave \(4, 8, 8\) for 4 images and 2 classes: it must be \(B,n,h,w\)"
    ):
        class_confusion(CLASSIFIER, [pictures(ROWS)], lambda x, c: right(x, c)[:, 0], [0, 1])
    with pytest.raises(ValueError, match=r"Corners has no mean colour: pass colour="):
        class_confusion(Corners(), [pictures(ROWS)], right, [0])


def test_the_labels_confidence_by_hand():
    pixels, labels = pictures(ROWS[:2])
    assert label_confidence(CLASSIFIER, pixels, labels).tolist() == pytest.approx([3 / 6, 6 / 8])
    masks = corner(0).expand(2, 8, 8)
    assert label_confidence(CLASSIFIER, pixels, labels, masks).tolist() == pytest.approx([3 / 6, 3 / 6 + 1 / 6])
    assert label_confidence(CLASSIFIER, pixels, labels, 0 * masks, torch.ones(1, 3, 1, 1)).tolist() == pytest.approx(
        [1 / 4, 2 / 4]
    )


@pytest.mark.parametrize("number", range(6))
def test_the_originals_saliency(number):
    arrays = Arrays("nn_explainer_metrics")
    kept = arrays[f"{number}/pvec"][arrays[f"{number}/categories"]].sum()
    found = saliency_metric(arrays[f"{number}/mask"][None], kept[None], as_they_are=True)
    assert found.item() == pytest.approx(arrays[f"{number}/saliency_list"].item(), abs=1e-5)


def test_the_saliency_of_a_mask_as_it_is():
    assert saliency_metric(torch.full((1, 4, 4), 0.5), torch.tensor([0.5]), as_they_are=True).item() == pytest.approx(0)
