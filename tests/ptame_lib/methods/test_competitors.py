"""Edges, truth, L-CAM, extremal perturbations and iGOS++: known evidence, the papers' formulas, and promises."""

import pytest
import torch
import torch.nn.functional as F
from helpers import SIDE, Quadrants, TokenNet, plain, quadrant_shares
from torch import nn

from ptame_lib import TrainingConfig, normalise, train_ptame
from ptame_lib.explainers.lcam import LCAM, lcam
from ptame_lib.methods.controls import edges, truth_map
from ptame_lib.methods.extremal_perturbations import SmoothMasks, area_template, blurs, extremal_perturbations, perturb
from ptame_lib.methods.igos import bilateral_scores, bilateral_variation, igos, likeness
from ptame_lib.metrics import best_iou, pointing_game
from ptame_lib.training.ptame import lcam_config

PATCH = (slice(8, 16), slice(16, 24))


class Planted(nn.Module):
    """Linear: with the mean brightness of one patch the logit of class 0 grows and that of class 1 falls.

    At 0.65 they are equal. The patches here are brighter, but not when they are blurred.
    """

    def forward(self, x):
        evidence = 12 * (x[:, :, *PATCH].mean((1, 2, 3)) - 0.65)
        return torch.stack([evidence, -evidence], 1)


class Constant(nn.Module):
    """Answers the same to every image; every gradient is 0."""

    def forward(self, x):
        return 0 * x.mean((2, 3))


def quick(name, classifier, **options):
    """An optimising method with few steps, against black."""
    if name == "igos":
        return igos(classifier, **({"steps": 6, "path": 3, "fill": "black"} | options))
    return extremal_perturbations(
        classifier, **({"areas": (0.1, 0.2), "steps": 30, "cell": 1 / 8, "fill": "black"} | options)
    )


# ---------------------------------------------------------------------------------------------------- controls


def test_edges_lie_where_brightness_changes():
    pixels = torch.zeros(2, 3, 16, 20)
    pixels[0, :, :, 10:] = 1  # a step between columns 9 and 10
    maps = edges(pixels, torch.zeros(2, dtype=torch.long))
    assert maps.shape == (2, 16, 20)
    assert maps[0, :, 9:11].eq(1).all()
    assert not maps[0, :, :9].any()
    assert not maps[0, :, 11:].any()
    assert not maps[1].any()  # no edge, no NaN


def test_edges_weigh_colours_by_their_luminance():
    pixels = torch.zeros(1, 3, 8, 40)
    for channel in range(3):
        pixels[0, channel, :, 10 * channel + 10 : 10 * channel + 15] = 1  # a bar of each colour
    row = edges(pixels, torch.zeros(1))[0, 4]
    torch.testing.assert_close(row[[10, 20, 30]], torch.tensor([0.2125, 0.7154, 0.0721]) / 0.7154, atol=1e-4, rtol=0)


def test_the_truth_as_a_map():
    truth = torch.zeros(2, 8, 8, dtype=torch.bool)
    truth[:, 2:5, 3:6] = True
    maps = truth_map(torch.rand(2, 3, 8, 8), truth)
    assert maps.dtype == torch.float32
    assert pointing_game(maps, truth).eq(1).all()
    assert best_iou(maps, truth).eq(1).all()
    with pytest.raises(
        ValueError, match=r"one truth mask per image and of its size: got \(2, 8, 8\) for images \(2, 3, 16, 16\)"
    ):
        truth_map(torch.rand(2, 3, 16, 16), truth)


# ------------------------------------------------------------------------------- extremal perturbations: formulas


def test_a_smooth_mask_by_hand():
    """The max-convolution written as loops over pixels and parameters."""
    smooth = SmoothMasks((10, 12), 1 / 3)  # cells of 4 pixels: 3 x 3 parameters, more than the 10 rows need
    assert smooth.grid == (3, 3)
    coarse = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(1))
    found = smooth(coarse)
    assert found.shape == (2, 10, 12)
    for y, x in ((0, 0), (5, 7), (9, 11), (3, 4)):
        f = torch.zeros(25)  # two cells each way; what lies outside the image is 0
        i = 0
        for row in range(y // 4 - 2, y // 4 + 3):
            for column in range(x // 4 - 2, x // 4 + 3):
                if 0 <= row < 3 and 0 <= column < 3:
                    distance = ((4 * row + 1.5 - y) ** 2 + (4 * column + 1.5 - x) ** 2) ** 0.5 / 2
                    f[i] = coarse[1, row, column] * torch.tensor(-(max(0.0, distance - 1) ** 2) / 4).exp()
                i += 1
        weights = (20 * f).exp()
        torch.testing.assert_close(found[1, y, x], (f * weights).sum() / weights.sum(), atol=1e-5, rtol=1e-4)


def test_smooth_masks_spread_what_is_kept_and_stay_in_range():
    smooth = SmoothMasks((SIDE, SIDE), 1 / 16)
    one = torch.zeros(3, *smooth.grid)
    one[0, 8, 8] = 1
    one[1] = 1
    spot, full, empty = smooth(one)
    assert spot.max() > 0.99
    assert spot[16:18, 16:18].min() > 0.99  # its cell
    assert 9 <= (spot > 0.5).sum() <= 40  # and a disc about it
    assert not spot[:8].any()
    assert full.min() > 0.9
    assert full.max() <= 1
    assert not empty.any()


def test_area_templates_have_their_area():
    assert area_template((0.05, 0.4), 1000).sum(1).tolist() == [50, 400]
    assert area_template((0.25,), 4).tolist() == [[0, 0, 0, 1]]


def test_perturbed_images_go_from_the_image_to_the_base(noise):
    pyramid = blurs(noise)
    ones = torch.ones(3, SIDE, SIDE)
    torch.testing.assert_close(perturb(pyramid, ones), noise)
    torch.testing.assert_close(perturb(pyramid, 0 * ones), pyramid[-1])
    torch.testing.assert_close(
        perturb(pyramid, ones * (1 - 2.25 / 7)), 0.75 * pyramid[2] + 0.25 * pyramid[3], atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        perturb(torch.stack([noise, 0 * noise]), 0.3 * ones), 0.3 * noise
    )  # black: plain masking
    roughness = pyramid.diff(dim=-1).abs().mean((1, 2, 3, 4))
    assert (roughness.diff() < 0).all()


@pytest.mark.parametrize("area", [0.1, 0.3])
def test_the_mask_gets_its_area(area, noise):
    explain = quick("extremal", plain(Planted()), areas=(area,), steps=120)
    maps = explain(noise, torch.tensor([0, 1, 0]))
    assert maps.gt(0.5).float().mean((1, 2)).sub(area).abs().max() < 0.08
    assert maps.sub(maps.round()).abs().mean() < 0.15  # nearly binary


@pytest.mark.parametrize("areas", [(), (0.1, 1.0), (-0.1,)])
def test_areas_are_checked(areas):
    with pytest.raises(ValueError, match="areas must be shares between 0 and 1"):
        extremal_perturbations(Planted(), areas)


# -------------------------------------------------------------------------------------------- iGOS++: formulas


def test_bilateral_scores_by_hand(noise):
    classifier, base = plain(Quadrants()), 0.1 * torch.ones(3, 3, SIDE, SIDE)
    targets = torch.tensor([0, 2, 3])
    masks = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    up = nn.Upsample(scale_factor=8, mode="bilinear")
    deletion, insertion, both = (0.5 * up(m[:, None]) for m in (masks[0], masks[1], masks[0] * masks[1]))

    def f(mask):
        return classifier(mask * noise + (1 - mask) * base).softmax(1)[torch.arange(3), targets]

    expected = f(deletion) - f(1 - insertion) + f(both) - f(1 - both)
    torch.testing.assert_close(bilateral_scores(classifier, noise, base, targets, masks, 0.5), expected)


def test_bilateral_variation_is_free_across_edges_of_the_image():
    images = torch.zeros(1, 3, 4, 4)
    images[..., 2:] = 1
    ties = likeness(images)
    along, across = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)
    along[..., 2:] = 1  # the mask changes where the image does
    across[:, 2:] = 1  # ... where the image does not: 4 of the 12 differences along y
    assert bilateral_variation(along, ties).item() == pytest.approx(0, abs=1e-6)
    assert bilateral_variation(across, ties).item() == pytest.approx(4 / 12)


# --------------------------------------------------------------------------------------- both optimising methods


@pytest.mark.parametrize("fill", ["black", "blur"])
@pytest.mark.parametrize("name", ["extremal", "igos"])
def test_the_planted_patch_is_found(name, fill, noise):
    pixels = 0.2 * noise
    pixels[:, :, *PATCH] += 0.7
    truth = torch.zeros(3, SIDE, SIDE, dtype=torch.bool)
    truth[:, *PATCH] = True
    fine = (
        {"areas": (0.05, 0.1), "steps": 60, "cell": 1 / 16}
        if name == "extremal"
        else {"resolution": 1 / 4, "path": 5, "sparse": 3.0}
    )
    maps = quick(name, plain(Planted()), fill=fill, **fine)(pixels, torch.zeros(3, dtype=torch.long))
    large = F.interpolate(maps[:, None], (SIDE, SIDE), mode="bilinear")[:, 0]
    assert pointing_game(large, truth).eq(1).all()
    inside = (large * truth).sum((1, 2)) / large.sum((1, 2))
    assert inside.min() > 0.5  # the patch is a sixteenth of the image


@pytest.mark.parametrize("k", [0, 3])
@pytest.mark.parametrize("name", ["extremal", "igos"])
def test_they_point_into_the_right_quadrant(name, k, noise):
    shares = quadrant_shares(quick(name, plain(Quadrants()))(noise, torch.full((3,), k)))
    assert shares.argmax(1).eq(k).all()


@pytest.mark.parametrize(
    ("name", "options"),
    [("extremal", {}), ("extremal", {"fill": "blur"}), ("igos", {"fill": "blur"}), ("igos", {"noise": 0.1})],
)
def test_images_do_not_touch_each_other(name, options, noise):
    explain, targets = quick(name, plain(Quadrants()), **options), torch.tensor([1, 3, 0])
    together = explain(noise, targets)
    alone = torch.cat([explain(noise[i : i + 1], targets[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(alone, together, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["extremal", "igos"])
def test_nothing_is_left_behind(name, classifier, pixels):
    targets, before = torch.tensor([0, 1, 2, 3]), pixels.clone()
    explain = quick(name, classifier, steps=3, **({} if name == "extremal" else {"sparse": 0.0}))
    maps = explain(pixels, targets)
    assert maps.shape == ((4, 64, 64) if name == "extremal" else (4, 8, 8))
    assert maps.min() == 0
    assert maps.max() == 1
    assert not maps.requires_grad
    assert pixels.equal(before)
    assert not pixels.requires_grad
    assert all(p.grad is None and not p.requires_grad for p in classifier.parameters())
    assert not any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in classifier.modules())
    with torch.no_grad():
        assert explain(pixels, targets).equal(maps)


@pytest.mark.parametrize("fill", ["black", "blur"])
@pytest.mark.parametrize("name", ["extremal", "igos"])
def test_a_classifier_without_gradient_gives_no_nan(name, fill, noise):
    maps = quick(name, plain(Constant()), steps=4, fill=fill)(noise[..., :24], torch.zeros(3, dtype=torch.long))
    assert maps.isfinite().all()
    assert maps.min() >= 0
    assert maps.max() <= 1


@pytest.mark.parametrize(("name", "passes"), [("extremal", 2 * 5), ("igos", 4 * 5 * 3)])
def test_what_they_cost(name, passes, noise):
    net, calls = Quadrants(), []
    net.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    quick(name, plain(net), steps=5)(noise, torch.tensor([0, 1, 2]))
    assert sum(calls) == 3 * passes


@pytest.mark.parametrize("name", ["extremal", "igos"])
def test_an_unknown_fill_is_named(name):
    with pytest.raises(ValueError, match="unknown fill 'grey': choose blur or black"):
        quick(name, Planted(), fill="grey")


# ------------------------------------------------------------------------------------------------------- L-CAM


def test_lcam_learns_the_planted_evidence(noise):
    """Each channel of the last feature map holds one quadrant; the brightest quadrant decides the class."""
    generator = torch.Generator().manual_seed(5)
    images = 0.3 * torch.rand(24, 3, SIDE, SIDE, generator=generator)
    for i, image in enumerate(images):
        image.view(3, 2, SIDE // 2, 2, SIDE // 2)[:, i % 4 // 2, :, i % 2] += 0.6
    classifier = plain(Quadrants())
    torch.manual_seed(0)
    explainer = lcam(classifier, 4)
    assert explainer.auxiliary.layers == ("parts",)
    config = lcam_config(TrainingConfig(steps=60, batch_size=12, lr=0.3))
    history = train_ptame(explainer, classifier, [{"pixels": image} for image in images], config)
    assert history[-1]["total"] < 0.7 * history[0]["total"]
    shares = quadrant_shares(explainer.explain(images, torch.arange(24) % 4))
    assert shares.argmax(1).equal(torch.arange(24) % 4)
    assert shares.max(1).values.min() > 0.5


def test_lcam_by_hand(classifier, pixels):
    torch.manual_seed(0)
    explainer = lcam(classifier, 7, "features.3")
    targets = torch.tensor([3, 0, 3, 6])
    features = classifier.model.features[:4]((pixels - classifier.mean) / classifier.std)
    maps = torch.einsum("bchw,nc->bnhw", features, explainer.fuser.weight[targets, :, 0, 0])
    maps = (maps + explainer.fuser.bias[targets][:, None, None]).detach()
    own = maps[torch.arange(4), torch.arange(4)]
    torch.testing.assert_close(explainer.explain(pixels, targets), normalise(own), atol=1e-5, rtol=0)
    torch.testing.assert_close(explainer(pixels, targets).detach(), maps, atol=1e-5, rtol=0)
    alone = torch.cat([explainer.explain(pixels[i : i + 1], targets[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(alone, explainer.explain(pixels, targets), atol=1e-5, rtol=0)
    assert sorted(explainer.trained_state()) == ["fuser.bias", "fuser.weight"]


def test_lcams_loss_is_its_authors(classifier, pixels):
    """1.5 CE + 2 mean(M^0.3) + 0.01 TV with a border of .3, M being the maps of all targets of the batch."""
    torch.manual_seed(0)
    explainer = lcam(classifier, 7)
    weights = {k: v.clone() for k, v in explainer.trained_state().items()}
    config = lcam_config(TrainingConfig(steps=1, batch_size=4))
    row = train_ptame(explainer, classifier, [{"pixels": image} for image in pixels], config)[0]
    explainer.fill(weights, "before")
    targets = classifier(pixels).argmax(1)
    m = explainer(pixels, targets).sigmoid().detach()  # (4,4,h,w), duplicates included
    own = m[torch.arange(4), torch.arange(4)]
    kept = pixels * F.interpolate(own[:, None], pixels.shape[-2:], mode="bilinear")
    border = sum(line.square().sum() for line in (m[..., 0, :], m[..., -1, :], m[..., :, 0], m[..., :, -1]))
    tv = (m.diff(dim=2).square().sum() + m.diff(dim=3).square().sum() + 0.3 * border) / 2 / 4
    expected = 1.5 * F.cross_entropy(classifier(kept), targets) + 2 * (m + 0.0005).pow(0.3).mean() + 0.01 * tv
    assert row["total"] == pytest.approx(expected.item(), rel=1e-4)


def test_lcam_works_on_tokens_and_leaves_the_class_token_out(noise):
    explainer = lcam(plain(TokenNet()), 4)
    assert explainer.auxiliary.layers == ("norm1",)
    assert explainer.auxiliary.layouts == [1]
    assert explainer.explain(noise, torch.tensor([0, 1, 2])).shape == (3, 4, 4)


def test_lcam_is_saved_and_loaded(classifier, pixels, tmp_path):
    torch.manual_seed(0)
    explainer = lcam(classifier, 7)
    explainer.save(tmp_path / "lcam.safetensors", seed="0")
    loaded = LCAM.load(tmp_path / "lcam.safetensors", lcam(classifier, 7).auxiliary)
    targets = torch.tensor([0, 1, 2, 3])
    assert loaded.explain(pixels, targets).equal(explainer.explain(pixels, targets))
    with torch.no_grad():
        assert not loaded.explain(pixels, targets).requires_grad


def test_lcam_refuses_what_it_cannot_explain(classifier, pixels, auxiliary):
    with pytest.raises(ValueError, match="L-CAM looks at one feature map, got 4: name one layer"):
        LCAM(auxiliary, 7)
    with pytest.raises(ValueError, match="no layer 'head' in TinyBackbone"):
        lcam(classifier, 7, "head")
    with pytest.raises(ValueError, match="one target per image"):
        lcam(classifier, 7).explain(pixels, torch.tensor([1]))
    with pytest.raises(ValueError, match=r"classes must be in 0\.\.6, got 0\.\.9"):
        lcam(classifier, 7).explain(pixels, torch.tensor([0, 1, 2, 9]))
