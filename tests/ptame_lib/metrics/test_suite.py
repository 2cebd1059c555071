"""All metrics at once, and what an explanation costs: answers known by hand."""

import math

import pytest
import torch
from helpers import Brightness

from ptame_lib.metrics.memory import peak_memory
from ptame_lib.metrics.suite import METRICS, RANKED, measure, noisy_linear

LEFT = torch.tensor([[1.0, 1.0, 0.0, 0.0]]).repeat(4, 1)
WHITE = torch.ones(2, 3, 4, 4)
TARGETS = torch.zeros(2, dtype=torch.long)


def measured(maps=LEFT, **options):
    return measure(Brightness(), WHITE, TARGETS, maps.expand(2, -1, -1), LEFT.bool().expand(2, -1, -1), **options)


def test_every_metric_is_measured_once():
    assert list(measured()) == list(METRICS)
    assert all(len(values) == 2 and values.isfinite().all() for values in measured().values())


def test_by_hand():
    """Brightness answers 3/4 to white, 1/2 to black; imputing a white image leaves it white, except for noise."""
    found = {name: values[0].item() for name, values in measured().items()}
    half = math.sqrt(3) / (math.sqrt(3) + 1)
    assert found["AD100"] == pytest.approx(100 * (0.75 - half) / 0.75, abs=1e-4)
    assert found["saliency"] == pytest.approx(math.log(0.5) - math.log(half), abs=1e-6)
    assert found["sparseness"] == pytest.approx(50, abs=1e-4)
    assert found["AG50"] == found["IC15"] == 0
    assert found["AD@25"] == pytest.approx(100 * (0.75 - 1 / (1 + 3**-0.25)) / 0.75, abs=1e-4)  # a quarter of the light
    assert found["AD@10 blurred"] == pytest.approx(0, abs=1e-4)  # a white image's blur is white
    assert found["IC@50"] == found["AG@50 blurred"] == found["SaCo"] - 100 == 0  # no part of it is missed
    for name in ("pointing", "energy", "IoU", "IoU at 0.5", "AP", "precision@truth", "contour"):
        assert found[name] == pytest.approx(100)
    for name in ("MoRF", "LeRF", "TELEA MoRF", "TELEA LeRF"):
        assert found[f"{name} accuracy"] == pytest.approx(
            100 * (0.1 * 1 + 0.6 + 0.3 * 0.5)
        )  # 1 up to 70 % removed, then down to 0
        assert found[f"{name} accuracy 70"] == 100
        assert found[f"{name} confidence 30"] == pytest.approx(75, abs=0.3)
    assert found["deletion"] == pytest.approx(75, abs=1e-4)  # the mean colour of a white image is white
    assert found["insertion"] == pytest.approx(75, abs=1e-3)


def test_a_wrong_map_does_not_point_at_the_truth():
    found = measured(1 - LEFT)
    assert [found[name][0].item() for name in ("pointing", "energy", "IoU at 0.5")] == [0, 0, 0]
    assert found["AP"][0] == pytest.approx(50)  # half of all pixels, ranked last


def test_without_curves_and_without_truth():
    found = measure(Brightness(), WHITE, TARGETS, LEFT.expand(2, -1, -1), curves=False)
    curves = [name for name in METRICS if "RF " in name] + ["insertion", "deletion", "SaCo"]
    assert list(found) == [name for name, metric in METRICS.items() if not metric.needs_truth and name not in curves]


def test_only_ranked_leaves_columns_out_and_changes_no_other():
    generator = torch.Generator().manual_seed(0)
    pixels, maps = torch.rand(3, 3, 16, 16, generator=generator), torch.rand(3, 8, 8, generator=generator)
    given = (Brightness(), pixels, torch.tensor([0, 1, 0]), maps, torch.rand(3, 16, 16, generator=generator) > 0.7)
    every, found = measure(*given), measure(*given, only_ranked=True)
    assert all(values.equal(every[name]) for name, values in found.items())
    # what no rank is made of and asks the classifier is left out
    assert set(found) >= set(RANKED)
    left_out = {name for name in METRICS if name.startswith("TELEA") or name.endswith(" blurred")}
    soft = {f"{name}{share}" for name in ("AD", "IC", "AG") for share in (100, 50, 15)}
    assert set(every) - set(found) == left_out | soft | {"saliency", "SaCo"}
    # and with the curves, so are the ranked ones among them
    assert list(measure(*given, only_ranked=True, curves=False)) == [
        name for name in found if "RF " not in name and name not in ("insertion", "deletion")
    ]


def test_the_noise_is_the_same_in_any_batch():
    generator = torch.Generator().manual_seed(0)
    pixels, known = torch.rand(3, 3, 16, 16, generator=generator), torch.rand(3, 16, 16, generator=generator) > 0.5
    filled = noisy_linear(pixels, known)
    torch.testing.assert_close(noisy_linear(pixels[1:2], known[1:2]), filled[1:2], atol=1e-4, rtol=0)
    assert filled.permute(0, 2, 3, 1)[known].equal(pixels.permute(0, 2, 3, 1)[known])
    noise = (noisy_linear(torch.full_like(pixels, 0.5), known) - 0.5)[~known[:, None].expand_as(pixels)]
    assert 0.008 < noise.std() < 0.012


def test_peak_memory_by_hand():
    million = 2**20  # four bytes each

    def three_in_turn():
        first, second = torch.ones(million), torch.ones(million)
        del first
        third = torch.ones(million)
        return second[1:] is third  # a view takes nothing

    def one_after_the_other():
        for _ in range(5):
            torch.ones(million)

    leaf = torch.ones(million, requires_grad=True)

    def with_a_way_back():
        torch.autograd.grad(leaf.exp().sin().sum(), leaf)

    assert peak_memory(three_in_turn) == 8
    assert peak_memory(one_after_the_other) == 4
    assert peak_memory(lambda: leaf.detach().add_(0)) == 0
    assert 12 <= peak_memory(with_a_way_back) < 24.1  # exp, sin and the gradients on the way
