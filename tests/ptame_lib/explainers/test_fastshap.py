"""FastSHAP: P-TAME's network on patches, saved and loaded, and trained to the Shapley values that are known."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from helpers import Images, explainer_on, rand, same, small_auxiliary, small_nets, weights
from torch import nn
from torch.utils.data import Dataset

from ptame_lib import PTAME, BlackBox, TrainingConfig, train_black_box, train_ptame
from ptame_lib.explainers.fastshap import FastSHAP
from ptame_lib.explainers.loading import load_explainer, method_of
from ptame_lib.training.ptame import config_for

CONFIG = config_for("FastSHAP", TrainingConfig(steps=7, batch_size=4, lr=1e-2, checkpoint_every=2))


class Patches(nn.Module):
    """Probabilities that are sums over 4 x 4 patches: class 0 sees the upper half's brightness, class 1 the lower's."""

    differentiable = True

    def forward(self, pixels):
        bright = F.adaptive_avg_pool2d(pixels.mean(1, keepdim=True), 4)[:, 0]  # (B,4,4)
        upper, lower = bright[:, :2].sum((1, 2)) / 20, bright[:, 2:].sum((1, 2)) / 20
        return torch.stack([upper, lower, 1 - upper - lower], 1).clamp_min(1e-6).log()

    def values(self, pixels, target):
        """The Shapley values (B,4,4): what each patch adds."""
        found = F.adaptive_avg_pool2d(pixels.mean(1, keepdim=True), 4)[:, 0] / 20
        if target == 2:
            return -found
        found[:, [slice(2, 4), slice(0, 2)][target]] = 0
        return found


class Spots(Dataset):
    """Dark noise with one to four bright patches of the 4 x 4."""

    def __len__(self):
        return 64

    def __getitem__(self, i):
        bright = rand(1, 1, 4, 4, seed=i) > 0.8
        return {"pixels": 0.1 * rand(3, 32, 32, seed=i) + 0.9 * F.interpolate(bright.float(), (32, 32))[0]}


class Counting(nn.Module):
    """A classifier that counts the images it answers about, and for which of them a gradient is wanted."""

    differentiable = True

    def __init__(self, classifier):
        super().__init__()
        self.classifier, self.forward_passes, self.backward_passes = classifier, 0, 0

    def forward(self, pixels):
        self.forward_passes += len(pixels)
        self.backward_passes += len(pixels) * pixels.requires_grad
        return self.classifier(pixels)


@pytest.mark.parametrize("grid", [4, 5])
def test_its_raw_values_are_p_tames_maps_over_patches(auxiliary, grid):
    ptame, explainer = explainer_on(auxiliary), FastSHAP(auxiliary, 5, grid=grid).eval()
    explainer.load_state_dict(ptame.state_dict())
    assert {*explainer.trained_state()} == {*ptame.trained_state()}  # the same size
    pixels, targets = rand(2, 3, 64, 64), torch.tensor([1, 4])
    fused = ptame.maps(pixels, torch.tensor([4, 0]))
    assert explainer.maps(pixels, torch.tensor([4, 0])).shape == (2, 2, grid, grid)
    expected = F.adaptive_avg_pool2d(fused, grid) / grid**2
    torch.testing.assert_close(explainer.maps(pixels, torch.tensor([4, 0])), expected)
    maps = explainer.explain(pixels, targets)
    assert (maps.shape, maps.amin(), maps.amax()) == ((2, grid, grid), 0, 1)
    if grid == 4:  # the values add up to the mean of P-TAME's raw map
        torch.testing.assert_close(explainer.maps(pixels).sum((2, 3)), ptame.maps(pixels).mean((2, 3)))


def test_files_keep_the_grid(auxiliary, tmp_path):
    explainer = FastSHAP(auxiliary, 5, grid=6)
    file = tmp_path / "explainer.safetensors"
    explainer.save(file, classifier="mine")
    loaded = load_explainer(file, auxiliary=auxiliary)
    pixels, targets = rand(2, 3, 64, 64), torch.tensor([1, 4])
    assert isinstance(loaded, FastSHAP)
    assert (method_of(file), loaded.grid) == ("FastSHAP", 6)
    assert loaded.explain(pixels, targets).equal(explainer.explain(pixels, targets))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_explainer_and_pixels_may_be_of_any_type_as_with_p_tame(kind):
    explainer, pixels, targets = FastSHAP(small_auxiliary(), 5).eval(), rand(2, 3, 32, 48), torch.tensor([1, 4])
    expected = explainer.explain(pixels, targets)
    assert expected.allclose(explainer.explain(pixels.to(kind), targets), atol=0.05)
    assert expected.allclose(explainer.to(kind).explain(pixels, targets), atol=0.1)


def test_one_patch_is_refused(auxiliary):
    with pytest.raises(ValueError, match="grid must be a whole number of at least 2, got 1"):
        FastSHAP(auxiliary, 5, grid=1)


def test_it_learns_shapley_values_that_are_known():
    classifier, data = Patches(), Spots()
    torch.manual_seed(0)
    explainer = FastSHAP(small_auxiliary(("l1", "l2")), 3, grid=4)
    history = train_ptame(
        explainer, classifier, data, config_for("FastSHAP", TrainingConfig(steps=150, batch_size=16, lr=2e-2))
    )
    assert {*history[0]} == {"step", "lr", "total"}
    totals = [row["total"] for row in history]
    assert sum(totals[-10:]) < 0.1 * sum(totals[:10])
    pixels = torch.stack([data[i]["pixels"] for i in range(12)])
    target = int(classifier(pixels).argmax(1).mode().values)
    found = explainer.values(classifier, pixels, torch.full((12,), target))
    exact = classifier.values(pixels, target)
    assert torch.corrcoef(torch.stack([found.flatten(), exact.flatten()]))[0, 1] > 0.95
    # efficiency: the values add up to what the whole image has more than black
    whole = classifier(pixels).softmax(1) - classifier(torch.zeros(1, 3, 32, 32)).softmax(1)
    torch.testing.assert_close(found.sum((1, 2)), whole[:, target], atol=1e-5, rtol=1e-4)


def test_its_training_costs_as_many_passes_as_p_tames():
    auxiliary, classifier = small_auxiliary(), small_nets()[1]
    passes = {}
    for method, kind in (("P-TAME", PTAME), ("FastSHAP", FastSHAP)):
        counting = Counting(classifier)
        config = config_for(method, TrainingConfig(steps=12, batch_size=5))
        data = [{"pixels": image} for image in Images().pixels]
        train_ptame(kind(auxiliary, 7), counting, data, config)
        passes[method] = counting.forward_passes, counting.backward_passes
    steps, images = 12 * 5, 10
    assert passes == {"P-TAME": (steps + images, steps), "FastSHAP": (2 * steps + images + 1, 0)}  # 1: black


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path):
    def interrupt(row):
        if row["step"] == 4:
            raise KeyboardInterrupt

    data = [{"pixels": image} for image in Images().pixels]
    whole, classifier = small_nets(kind=FastSHAP)
    expected = train_ptame(whole, classifier, data, CONFIG)
    state = {"checkpoint": tmp_path / "e.ckpt"}
    with pytest.raises(KeyboardInterrupt):
        train_ptame(small_nets(kind=FastSHAP)[0], classifier, data, CONFIG, on_step=interrupt, **state)
    resumed = small_nets(kind=FastSHAP)[0]
    history = train_ptame(resumed, classifier, data, CONFIG, resume=True, **state)
    assert history == expected
    assert same(weights(resumed), weights(whole))


def test_a_black_box_is_learned_from_as_it_is():
    """Since no gradient is asked for."""
    data = [{"pixels": image} for image in Images().pixels]
    explainer, classifier = small_nets(kind=FastSHAP)
    box, config = BlackBox(classifier, 32), replace(CONFIG, batch_size=5)
    learned = train_ptame(explainer, box, data, config)
    assert box.queries == 2 * 7 * 5 + 10 + 1
    assert learned == train_ptame(small_nets(kind=FastSHAP)[0], classifier, data, config)


@pytest.mark.parametrize("method", ["antithetic", "surrogate"])
def test_queries_of_a_black_box_are_counted_and_told_before_anything_is_asked(method):
    data = [{"pixels": image} for image in Images().pixels]
    explainer, classifier = small_nets(kind=FastSHAP)
    box, config = BlackBox(classifier, 32), replace(CONFIG, batch_size=5)
    says = "asks for 112 images, 12 per training image, above queries_per_image=11: lower batch_size or steps"
    with pytest.raises(ValueError, match=says):
        train_black_box(explainer, box, data, config, method=method, queries_per_image=11)
    assert box.queries == 0
    history, queries = train_black_box(explainer, box, data, config, method=method, queries_per_image=12)
    assert queries == box.queries == 112  # of each step the whole images, a coalition, the rest, and black
    assert history == train_ptame(small_nets(kind=FastSHAP)[0], classifier, data, config)


def test_a_resumed_training_counts_as_an_uninterrupted_one(tmp_path):
    class Stop(Exception):
        pass

    def stop(row):
        if row["step"] == 3:
            raise Stop

    data = [{"pixels": image} for image in Images().pixels]
    state = {"checkpoint": tmp_path / "e.ckpt", "queries_per_image": 100}
    explainer, classifier = small_nets(kind=FastSHAP)
    box = BlackBox(classifier, 32)
    history, queries = train_black_box(explainer, box, data, CONFIG, queries_per_image=100)
    with pytest.raises(Stop):
        train_black_box(small_nets(kind=FastSHAP)[0], box, data, CONFIG, on_step=stop, **state)
    resumed = small_nets(kind=FastSHAP)[0]
    assert train_black_box(resumed, box, data, CONFIG, resume=True, **state) == (history, queries)
    assert same(weights(resumed), weights(explainer))


def test_asking_for_values_leaves_a_classifier_in_training_as_it_was(auxiliary):
    classifier = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 7)).train()
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    explainer, pixels, targets = FastSHAP(auxiliary, 7, grid=4), torch.rand(2, 3, 32, 32), torch.tensor([0, 6])
    first, second = (explainer.values(classifier, pixels, targets) for _ in range(2))
    assert first.equal(second)
    assert all(module.training for module in classifier.modules())
    assert all(value.equal(before[key]) for key, value in classifier.state_dict().items())
    with pytest.raises(ValueError, match="the classifier has 7 classes, the explainer 9"):
        FastSHAP(auxiliary, 9, grid=4).values(classifier, pixels, targets)
