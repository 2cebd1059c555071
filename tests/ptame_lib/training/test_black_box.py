"""Training from answers alone: the values are the box's, the gradients near the true ones, the budget kept."""

import pytest
import torch
import torch.nn.functional as F
from helpers import small_cnn
from torch import nn

from ptame_lib import (
    PTAME,
    BlackBox,
    FeatureExtractor,
    PTAMEWeights,
    TrainingConfig,
    decide,
    keep,
    resize,
    train_black_box,
)
from ptame_lib.training.queries import Antithetic, Surrogate, coarse_masks


class Quadrant(nn.Module):
    """It looks at nothing but the upper left quadrant: its redness against its blueness."""

    def forward(self, x):
        seen = x[..., : x.shape[-2] // 2, : x.shape[-1] // 2].mean((2, 3))
        return 20 * torch.stack([seen[:, 0], seen[:, 2]], 1)


@pytest.fixture
def auxiliary():
    torch.manual_seed(0)
    return FeatureExtractor(small_cnn((8, 16, 32, 32)), ["l2", "l3", "l4"], (0.5,) * 3, (0.25,) * 3, 32).own()


@pytest.fixture
def box():
    net = Quadrant()
    return BlackBox(lambda pixels: net(pixels), 32)


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(1)
    return [{"pixels": resize(torch.rand(3, 4, 4, generator=generator), (32, 32))} for _ in range(64)]


def batch(data, n=8):
    return torch.stack([item["pixels"] for item in data[:n]])


def test_coarse_masks_cover_every_share_and_repeat_by_seed():
    masks = coarse_masks(500, (24, 40), torch.Generator().manual_seed(0))
    assert masks.shape == (500, 24, 40)
    assert 0 <= masks.min() < 0.01
    assert masks.max() <= 1
    shares = masks.mean((1, 2))
    assert shares.min() < 0.15
    assert shares.max() > 0.95
    assert masks.equal(coarse_masks(500, (24, 40), torch.Generator().manual_seed(0)))


def test_a_surrogate_has_the_boxs_values_and_its_own_gradient(box, auxiliary, data):
    surrogate, pixels = Surrogate(box, auxiliary, 2), batch(data).requires_grad_()
    answer = surrogate(pixels)
    torch.testing.assert_close(answer, box(pixels.detach()))
    F.cross_entropy(answer, decide(box, pixels)).backward()
    same = pixels.detach().requires_grad_()
    own = surrogate.imitate(same)
    own.backward(
        (box(same.detach()).softmax(1) - F.one_hot(decide(box, same), 2)) / len(same)
    )  # the loss's gradient at the box's logits
    torch.testing.assert_close(pixels.grad, same.grad)
    assert all(p.requires_grad for p in surrogate.features.parameters())
    assert not any(p.requires_grad for p in auxiliary.parameters())  # the explainer's own stays frozen


def test_a_surrogate_learns_the_boxs_answers(box, auxiliary, data):
    surrogate = Surrogate(box, auxiliary, 2, masks_per_image=2, lr=3e-3)
    rows = [surrogate.learn(batch(data[start:], 16)) for start in (0, 16, 32, 48) * 20]
    assert rows[-1]["distillation"] < rows[0]["distillation"] / 3
    assert rows[-1]["agreement"] > 0.8
    assert surrogate.queries == 80 * 16 * 2


def test_antithetic_slopes_are_exact_for_a_linear_box(data):
    """A box that is linear in the mask, asked with all patterns: the mean over them is the gradient itself."""
    weights = torch.rand(3, 3 * 8 * 8, generator=torch.Generator().manual_seed(2))
    asked = Antithetic(BlackBox(lambda x: x.flatten(1) @ weights.T, 8), pairs=4000, cells=8, step=0.1)
    pixels, masks = (
        torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(3)),
        torch.full((1, 8, 8), 0.5, requires_grad=True),
    )
    logits = asked.masked(pixels, masks)
    torch.testing.assert_close(logits, (pixels * 0.5).flatten(1) @ weights.T)
    logits[0, 1].backward()
    exact = (pixels * weights[1].view(1, 3, 8, 8)).sum(1)
    assert torch.corrcoef(torch.stack([masks.grad.flatten(), exact.flatten()]))[0, 1] > 0.85
    assert masks.grad.mean() == pytest.approx(exact.mean().item(), rel=0.15)
    assert asked.queries == 8001


def test_antithetic_gradients_have_the_scale_of_true_ones(data):
    """Patterns coarser than the map: one cell moves 16 values together, and each gets its share."""
    asked = Antithetic(BlackBox(lambda x: x.sum((1, 2, 3))[:, None].repeat(1, 2), 32), pairs=500, cells=4, step=0.1)
    masks = torch.full((1, 32, 32), 0.5, requires_grad=True)
    asked.masked(torch.ones(1, 3, 32, 32), masks)[0, 0].backward()
    assert masks.grad.mean() == pytest.approx(3, rel=0.25)


@pytest.mark.parametrize("method", ["surrogate", "antithetic"])
def test_p_tame_learns_where_a_black_box_looks(box, auxiliary, data, method):
    torch.manual_seed(0)
    explainer = PTAME(auxiliary, 2)
    config = TrainingConfig(steps=120, batch_size=16, lr=1e-2, loss=PTAMEWeights(ce=3, area=1, smooth=0, p=1))
    history, queries = train_black_box(
        explainer, box, data, config, method=method, pairs=16, masks_per_image=2, queries_per_image=1200, warm_up=40
    )
    per_step = {"surrogate": 4, "antithetic": 34}[method]
    assert queries == box.queries == 16 * (120 * per_step + (80 if method == "surrogate" else 0))
    assert len(history) == 120
    pixels = batch(data, 32)
    maps = resize(explainer.explain(pixels, decide(box, pixels)), (32, 32))
    assert maps[:, :16, :16].mean() > 1.5 * maps[:, 16:, 16:].mean()


@pytest.mark.parametrize("method", ["surrogate", "antithetic"])
def test_only_queries_are_made(auxiliary, data, method):
    """The box gets pixels without a way back, and one explanation asks for nothing."""
    seen = []
    box = BlackBox(lambda x: seen.append(x.requires_grad) or Quadrant()(x), 32)
    explainer = PTAME(auxiliary, 2)
    train_black_box(explainer, box, data, TrainingConfig(steps=2, batch_size=8), method=method, warm_up=1)
    assert seen
    assert not any(seen)
    asked = box.queries
    explainer.explain(batch(data), torch.zeros(8, dtype=torch.long))
    assert box.queries == asked


@pytest.mark.parametrize("method", ["surrogate", "antithetic"])
def test_a_resumed_training_equals_an_uninterrupted_one(box, auxiliary, data, method, tmp_path):
    config = TrainingConfig(steps=6, batch_size=8, checkpoint_every=3)

    def train(file, **options):
        torch.manual_seed(0)
        explainer = PTAME(auxiliary, 2)
        _, queries = train_black_box(
            explainer, box, data, config, method=method, warm_up=2, pairs=2, checkpoint=file, **options
        )
        return explainer.trained_state(), queries

    class Stop(Exception):
        pass

    def stop(row):
        if row["step"] == 3:
            raise Stop

    whole, asked = train(tmp_path / "a.pt")
    with pytest.raises(Stop):
        train(tmp_path / "b.pt", on_step=stop)
    torch.manual_seed(5)
    resumed, asked_too = train(tmp_path / "b.pt", resume=True)
    assert asked == asked_too
    for key, value in whole.items():
        assert value.equal(resumed[key]), key


def test_the_budget_is_checked_before_anything_is_asked(box, auxiliary, data):
    config = TrainingConfig(steps=200, batch_size=32)
    with pytest.raises(
        ValueError,
        match=r"asks for 422400 images, 6600 per training image, above queries_per_image=300: lower pairs or steps",
    ):
        train_black_box(PTAME(auxiliary, 2), box, data, config, pairs=32)
    with pytest.raises(
        ValueError, match=r"lower masks_per_image, warm_up or steps \(now 200\), or give more images \(now 64\)"
    ):
        train_black_box(PTAME(auxiliary, 2), box, data, config, method="surrogate")
    with pytest.raises(ValueError, match=r"or give more images \(now 0\)"):
        train_black_box(PTAME(auxiliary, 2), box, [], config)
    with pytest.raises(ValueError, match="unknown method 'guess': choose antithetic or surrogate"):
        train_black_box(PTAME(auxiliary, 2), box, data, config, method="guess")
    assert box.queries == 0


@pytest.mark.parametrize("method", ["surrogate", "antithetic"])
@pytest.mark.parametrize("rest", [0.0, 1.0])
def test_what_the_budget_says_is_what_is_asked(box, auxiliary, data, method, rest):
    config, options = TrainingConfig(steps=2, batch_size=8, rest=rest), {"method": method, "pairs": 2, "warm_up": 1}
    with pytest.raises(ValueError, match="asks for") as refused:
        train_black_box(PTAME(auxiliary, 2), box, data, config, queries_per_image=0, **options)
    assert box.queries == 0
    train_black_box(PTAME(auxiliary, 2), box, data, config, **options)
    assert f"asks for {box.queries} images" in str(refused.value)


def test_a_checkpoint_of_the_other_way_is_refused(box, auxiliary, data, tmp_path):
    config, file = TrainingConfig(steps=2, batch_size=8), tmp_path / "a.pt"
    train_black_box(PTAME(auxiliary, 2), box, data, config, method="surrogate", warm_up=1, checkpoint=file)
    with pytest.raises(ValueError, match=r"a\.pt was made with another way of asking the classifier"):
        train_black_box(
            PTAME(auxiliary, 2), box, data, config, method="antithetic", pairs=1, checkpoint=file, resume=True
        )


def test_keep_of_the_explainers_masks_is_what_is_asked(auxiliary, data):
    """The first batch the box gets in a step is whole, the second what the maps keep of it."""
    asked = []
    box = BlackBox(lambda x: asked.append(x) or Quadrant()(x), 32)
    torch.manual_seed(0)
    explainer = PTAME(auxiliary, 2).train()
    train_black_box(explainer, box, data, TrainingConfig(steps=1, batch_size=8), method="surrogate", warm_up=0)
    whole, kept = asked[:2]
    torch.manual_seed(0)
    fresh = PTAME(auxiliary, 2).train()
    targets = Quadrant()(whole).argmax(1)
    own = fresh(whole, targets).sigmoid().diagonal().permute(2, 0, 1)
    torch.testing.assert_close(kept, keep(whole, own))
