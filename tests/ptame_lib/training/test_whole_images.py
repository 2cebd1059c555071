"""Answers about whole images: asked for once, rounded only where they would take too much memory."""

import pytest
import torch
from helpers import rand
from torch import nn

from ptame_lib.training import whole_images
from ptame_lib.training.whole_images import WholeImages


class Asked:
    """What is asked about an image: thirds that half precision can't hold, and how often."""

    def __init__(self):
        self.times = 0

    def __call__(self, classifier, pixels):
        self.times += 1
        return pixels.mean((1, 2)) / 3


@pytest.mark.parametrize("half", [False, True])
def test_the_first_answer_is_the_one_that_is_kept(half, monkeypatch):
    monkeypatch.setattr(whole_images, "LARGEST", 5 * 4 * 4 - half)  # five images of four numbers
    pixels, images, asked = rand(2, 8, 4, 4), torch.tensor([3, 1]), Asked()
    answers = WholeImages(asked, nn.Identity(), 5)
    answers.checked = True  # these are no images
    first, again = answers(pixels, images), answers(pixels.flip(0), images.flip(0)).flip(0)
    true = pixels.mean((1, 2)) / 3
    assert asked.times == 1
    assert first.equal(again)
    assert first.dtype == torch.float32
    assert first.equal(true.half().float() if half else true)
    assert not half or not first.equal(true)
    assert answers.answers.element_size() == (2 if half else 4)


def test_whole_numbers_and_images_that_change_are_as_they_are(monkeypatch):
    monkeypatch.setattr(whole_images, "LARGEST", 0)
    answers = WholeImages(lambda classifier, pixels: (1e5 * pixels.mean((1, 2, 3))).long(), nn.Identity(), 5)
    for seed in (0, 1):
        pixels = rand(2, 3, 4, 4, seed=seed)
        found = answers(pixels, torch.tensor([-1, -1]))
        assert found.equal((1e5 * pixels.mean((1, 2, 3))).long())
