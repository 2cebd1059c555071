"""Sensitivity and stability: methods whose answer to noise is known, and Captum's estimate."""

import pytest
import torch
from captum.metrics import sensitivity_max
from helpers import rand
from scipy.stats import spearmanr

from ptame_lib.metrics import max_sensitivity, rank_stability

PIXELS, TARGETS = rand(4, 3, 12, 12), torch.tensor([0, 1, 2, 0])


def bright(pixels, targets):
    return pixels.mean(1)


def still(pixels, targets):
    return torch.linspace(0, 1, 144).view(1, 12, 12).expand(len(pixels), -1, -1)


def draws(count, seed, normal=False):
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn if normal else torch.rand
    return [draw(3, 12, 12, generator=generator) for _ in range(count)]


def test_max_sensitivity_is_captums():
    noises = torch.stack([0.1 * (2 * noise - 1) for noise in draws(5, 3)]).repeat(4, 1, 1, 1)  # Captum asks all at once
    maps = lambda x: (bright(x[0] if isinstance(x, tuple) else x, None),)  # noqa: E731
    expected = sensitivity_max(maps, PIXELS, lambda x: x + noises, n_perturb_samples=5)
    found = max_sensitivity(bright, PIXELS, TARGETS, 0.1, draws=5, seed=3)
    torch.testing.assert_close(found.float(), expected)


def test_rank_stability_is_scipys():
    found = rank_stability(bright, PIXELS, TARGETS, 0.1, draws=3, seed=1)
    for i, value in enumerate(found.tolist()):
        before = PIXELS[i].mean(0).flatten()
        after = [(PIXELS[i] + 0.1 * noise).mean(0).flatten() for noise in draws(3, 1, normal=True)]
        assert value == pytest.approx(sum(spearmanr(before, each).statistic for each in after) / 3, abs=1e-3)


def test_a_map_that_does_not_look_stays():
    assert max_sensitivity(still, PIXELS, TARGETS).tolist() == [0] * 4
    assert rank_stability(still, PIXELS, TARGETS).tolist() == pytest.approx([1] * 4)


def test_more_noise_changes_more_and_no_batch_does():
    few, much = (max_sensitivity(bright, PIXELS, TARGETS, radius) for radius in (0.01, 0.1))
    assert (few < much).all()
    assert (rank_stability(bright, PIXELS, TARGETS, 0.01) > rank_stability(bright, PIXELS, TARGETS, 0.1)).all()
    for metric in (max_sensitivity, rank_stability):
        alone = [metric(bright, PIXELS[i : i + 1], TARGETS[:1]) for i in range(4)]
        torch.testing.assert_close(metric(bright, PIXELS, TARGETS), torch.cat(alone))


def test_constant_maps_and_bad_values():
    flat = lambda pixels, targets: torch.zeros(len(pixels), 4, 4)  # noqa: E731
    assert max_sensitivity(flat, PIXELS, TARGETS).tolist() == rank_stability(flat, PIXELS, TARGETS).tolist() == [0] * 4
    for call, told in (
        (lambda: max_sensitivity(bright, PIXELS, TARGETS, -1), "radius can't be -1: give a finite number"),
        (lambda: rank_stability(bright, PIXELS, TARGETS, draws=0), "draws must be .* at least 1, got 0"),
        (lambda: rank_stability(lambda x, t: x, PIXELS, TARGETS), r"maps must be \(B,h,w\)"),
    ):
        with pytest.raises(ValueError, match=told):
            call()
