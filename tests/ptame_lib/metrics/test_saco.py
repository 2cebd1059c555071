"""The salience-guided faithfulness coefficient: a classifier that adds up, and the published loop over pairs."""

import pytest
import torch
from helpers import Brightness, rand
from refusals import toy_classifier

from ptame_lib.metrics import saco
from ptame_lib.metrics.curves import emptied
from ptame_lib.metrics.drop import confidence
from ptame_lib.metrics.ranking import ranked

TARGETS = torch.zeros(3, dtype=torch.long)


def published(classifier, pixels, targets, maps, groups):
    """Algorithm 1 of the paper, image by image."""
    found = []
    for i in range(len(pixels)):
        image, target = pixels[i : i + 1], targets[i : i + 1]
        order, salience, influence = ranked(maps[i : i + 1])[0], [], []
        for members in order.chunk(groups):
            removed = image.flatten(2).clone()
            removed[..., members] = emptied(image).flatten(2)[..., members]
            salience.append(maps[i].flatten()[members].double().sum())
            asked = (image, removed.view(image.shape))
            influence.append(torch.sub(*(confidence(classifier, each, target) for each in asked)))
        coefficient = total = 0.0
        for a in range(groups):
            for b in range(a + 1, groups):
                weight = salience[a] - salience[b]
                coefficient += weight if influence[a] >= influence[b] else -weight
                total += weight.abs()
        found.append(float(coefficient / total))
    return found


def test_saco_is_the_published_loop():
    pixels, maps = rand(3, 3, 16, 16), rand(3, 16, 16, seed=1)
    targets = torch.tensor([0, 2, 1])
    for groups in (2, 8):
        found = saco(toy_classifier(), pixels, targets, maps, groups)
        assert found.tolist() == pytest.approx(published(toy_classifier(), pixels, targets, maps, groups))


def test_a_map_that_says_how_much_pixels_matter():
    """Brightness gains by bright pixels: the image itself as a map is right everywhere, its negative nowhere."""
    pixels = rand(3, 1, 20, 20).expand(-1, 3, -1, -1)
    maps = pixels[:, 0]
    assert saco(Brightness(), pixels, TARGETS, maps).tolist() == pytest.approx([1] * 3)
    assert saco(Brightness(), pixels, TARGETS, -maps).tolist() == pytest.approx([-1] * 3)
    assert saco(Brightness(), pixels, TARGETS, torch.zeros(3, 20, 20)).tolist() == [0] * 3
    wrong = rand(3, 20, 20, seed=3)
    assert saco(Brightness(), pixels, TARGETS, wrong).abs().max() < 1
    torch.testing.assert_close(
        saco(Brightness(), pixels, TARGETS, 3 * wrong - 1), saco(Brightness(), pixels, TARGETS, wrong)
    )


def test_one_group_is_refused():
    with pytest.raises(ValueError, match="groups must be a whole number of at least 2, got 1: raise it"):
        saco(Brightness(), torch.ones(3, 3, 4, 4), TARGETS, torch.ones(3, 4, 4), 1)
