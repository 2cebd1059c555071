"""The wrapper of classifiers: modes of modules, sizes of images."""

import copy

import pytest
import torch
from torch import nn

from ptame_lib.classifiers.frozen import height_and_width
from ptame_lib.classifiers.wrapper import decide, decide_all, eval_mode
from ptame_lib.metrics.evidence import explain_with_evidence
from ptame_lib.metrics.specificity import label_confidence
from ptame_lib.metrics.suite import measure


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


def test_a_bare_network_in_training_is_asked_at_rest():
    """It answers as in eval mode; its modes, running means and dropout's random state stay as they are."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    pixels, maps, targets = torch.rand(3, 3, 16, 16), torch.rand(3, 16, 16), torch.tensor([0, 1, 3])
    truth = maps > 0.5
    questions = {
        "decide": lambda: decide(net, pixels),
        "measure": lambda: list(measure(net, pixels, targets, maps, truth).values()),
        "labels": lambda: label_confidence(net, pixels, torch.ones(3, 4)),
        "evidence": lambda: list(vars(explain_with_evidence(lambda x, t: maps, net, pixels)[1]).values())[:5],
    }
    net.eval()
    at_rest = {name: ask() for name, ask in questions.items()}
    net.train()
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    for name, ask in questions.items():
        torch.testing.assert_close(ask(), at_rest[name], rtol=0, atol=0, equal_nan=True, msg=name)
        assert net.training
        assert net[1].training
    assert all(value.equal(before[name]) for name, value in net.state_dict().items())
    assert torch.get_rng_state().equal(state)


def test_input_sizes():
    assert height_and_width(64) == (64, 64)
    assert height_and_width([48, 32]) == (48, 32)
    for wrong in (0, (64,), (1, 2, 3), (64.0, 64), (64, -1)):
        with pytest.raises(ValueError, match=r"input_size must be a side or \(height, width\)"):
            height_and_width(wrong)


def test_many_images_are_decided_in_batches_as_each_alone():
    """Whole numbers are 255ths; the last batch is smaller."""
    images = torch.arange(7 * 3 * 4).reshape(7, 3, 2, 2).mul(37).remainder(256).to(torch.uint8)
    net = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (3, 4)), nn.Flatten(2), nn.AvgPool1d(4), nn.Flatten())
    expected = torch.cat([decide(net, image[None].float() / 255) for image in images])
    assert set(expected.tolist()) == {0, 1, 2}
    assert decide_all(net, images, batch_size=3).equal(expected)
    assert decide_all(net, images.float() / 255).equal(expected)
