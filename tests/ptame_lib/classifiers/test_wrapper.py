"""The wrapper of classifiers: modes of modules, sizes of images."""

import pytest
import torch
from torch import nn

from ptame_lib.classifiers.frozen import height_and_width
from ptame_lib.classifiers.wrapper import eval_mode


@pytest.fixture
def mixed():
    """A network in training mode with a part in eval mode, which has a part in training mode again."""
    net = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(nn.Dropout())))
    net[1].eval()
    net[1][1].train()
    return net


def modes(net):
    return {name: part.training for name, part in net.named_modules()}


def test_eval_mode_restores_the_mode_of_every_part(mixed):
    before = modes(mixed)
    assert set(before.values()) == {True, False}
    with eval_mode(mixed):
        assert not any(modes(mixed).values())
        mixed(torch.rand(2, 3, 4, 4))
    assert modes(mixed) == before
    assert mixed[1][0].num_batches_tracked == 0  # no statistics were taken


def test_eval_mode_restores_it_after_an_exception(mixed):
    before = modes(mixed)

    def fail():
        with eval_mode(mixed):
            mixed.train()  # whatever the block did
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    assert modes(mixed) == before


def test_input_sizes():
    assert height_and_width(64) == (64, 64)
    assert height_and_width([48, 32]) == (48, 32)
    for wrong in (0, (64,), (1, 2, 3), (64.0, 64), (64, -1)):
        with pytest.raises(ValueError, match=r"input_size must be a side or \(height, width\)"):
            height_and_width(wrong)
