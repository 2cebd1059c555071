"""Shapley's weighted least squares: the kernel, the minimum, efficiency."""

from itertools import combinations, permutations
from math import comb

import pytest
import torch
from helpers import rand

from ptame_lib.losses.shapley import as_masks, draw_coalitions, efficient, shapley_loss


def drawn(count, players, seed=0):
    return draw_coalitions(count, players, torch.Generator().manual_seed(seed))


def every_coalition(players):
    """All coalitions but none and all, each as often as the Shapley kernel weighs it, times a number."""
    rows, weights = [], []
    for size in range(1, players):
        for chosen in combinations(range(players), size):
            row = torch.zeros(players, dtype=torch.bool)
            row[list(chosen)] = True
            rows.append(row)
            weights.append((players - 1) / (comb(players, size) * size * (players - size)))
    times = [round(weight / min(weights)) for weight in weights]
    assert times == pytest.approx([weight / min(weights) for weight in weights])
    return torch.stack(rows).repeat_interleave(torch.tensor(times), 0)


def exact_values(worth, players):
    """The Shapley values by their definition: a player's mean contribution over all orders of the players."""
    values, orders = torch.zeros(players, dtype=torch.float64), list(permutations(range(players)))
    for order in orders:
        coalition = torch.zeros(players, dtype=torch.bool)
        for player in order:
            before = worth(coalition)
            coalition[player] = True
            values[player] += worth(coalition) - before
    return values / len(orders)


def test_coalitions_are_drawn_from_the_kernel():
    players = 4
    found, often = drawn(40000, players).unique(dim=0, return_counts=True)
    expected, times = every_coalition(players).unique(dim=0, return_counts=True)
    assert found.equal(expected)  # all of them, neither none nor all
    torch.testing.assert_close(often / often.sum(), times / times.sum(), rtol=0, atol=0.005)


def test_sizes_of_many_players():
    sizes = drawn(40000, 64).sum(1)
    assert (sizes.min(), sizes.max()) == (1, 63)
    kernel = torch.tensor([1 / (s * (64 - s)) for s in range(1, 64)])
    share = sizes.bincount(minlength=64)[1:] / len(sizes)
    torch.testing.assert_close(share, kernel / kernel.sum(), rtol=0, atol=0.006)
    # every player is in half of the coalitions, or nearly
    assert drawn(40000, 64).float().mean(0).sub(0.5).abs().max() < 0.01


def test_the_seed_alone_draws():
    torch.manual_seed(1)
    first = drawn(9, 16)
    torch.rand(5)
    assert drawn(9, 16).equal(first)
    assert not drawn(9, 16, seed=1).equal(first)
    with pytest.raises(ValueError, match="players must be a whole number of at least 2, got 1"):
        drawn(9, 1)


def test_the_minimum_is_the_shapley_values():
    """Of a game of five players in which everything interacts, for two classes."""
    players, worths = 5, rand(2, 2**5, seed=3).double()
    place = 2 ** torch.arange(players)
    coalitions = every_coalition(players)[:, None]  # (C,1,5)

    def worth_of(chosen):
        return worths[:, (chosen.long() @ place)]  # (2,...)

    full, empty = worths[:, -1], worths[:, 0]
    exact = torch.stack([exact_values(lambda s, k=k: worth_of(s)[k], players) for k in range(2)])
    assert exact.sum(1).allclose(full - empty)

    # the loss is a parabola: its gradient is 0 at the minimum alone, up to what the normalisation removes
    raw = (exact + 7.0).float()[None].requires_grad_()  # moved by what is no matter
    given = worth_of(coalitions).permute(1, 2, 0).float(), full[None].float(), empty.float()
    least = shapley_loss(raw, coalitions, *given).total
    assert torch.autograd.grad(least, raw)[0].abs().max() < 1e-6
    for seed in range(5):
        other = (raw + 0.1 * rand(1, 2, 5, seed=seed)).detach()
        assert shapley_loss(other, coalitions, *given).total > least


def test_a_linear_games_loss_is_0_at_its_values_alone():
    values, empty = rand(3, 2, 9) - 0.4, rand(2, seed=1)
    coalitions = torch.stack([own := drawn(3, 9), ~own])
    worths = empty + torch.einsum("cbd,bnd->cbn", coalitions.float(), values)
    full = empty + values.sum(-1)
    assert shapley_loss(values + 0.3, coalitions, worths, full, empty).total < 1e-12
    assert shapley_loss(values.flip(-1), coalitions, worths, full, empty).total > 1e-3


def test_efficient_values_add_up_and_keep_their_differences():
    values, surplus = rand(3, 2, 9) - 0.5, rand(3, 2, seed=1)
    moved = efficient(values, surplus)
    torch.testing.assert_close(moved.sum(-1), surplus)
    torch.testing.assert_close(moved.diff(dim=-1), values.diff(dim=-1))


def test_masks_keep_whole_patches():
    coalition = torch.tensor([[[True, False], [False, True]]])
    (mask,) = as_masks(coalition, (4, 6))
    assert mask.tolist() == [[1, 1, 1, 0, 0, 0]] * 2 + [[0, 0, 0, 1, 1, 1]] * 2


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"worths must be \(2, 3, 2\) for values \(3, 2, 9\), got \(3, 2\)"):
        shapley_loss(rand(3, 2, 9), torch.stack([drawn(3, 9)] * 2), rand(3, 2), rand(3, 2), rand(2))
