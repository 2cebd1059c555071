"""Every method: its promises, and classifiers whose evidence is known."""

import pytest
import torch
from helpers import SIDE, Arrays, Quadrants, TokenNet, plain, quadrant_shares
from torch import nn

from ptame_lib import (
    PTAME,
    Budget,
    Explainer,
    build_methods,
    decide,
    keep,
    load_auxiliary,
    load_classifier,
    normalise,
    validation,
)
from ptame_lib.classifiers.trunk import target_layer
from ptame_lib.methods import (
    BESIDE,
    CAMS,
    CATALOGUE,
    CONTROLS,
    TRUTH,
    cam,
    centred_gaussian,
    gradcam,
    guided_backprop,
    integrated_gradients,
    kernel_shap,
    lime,
    occlusion,
    opti_cam,
    random_map,
    rise,
    suited,
)
from ptame_lib.methods.catalogue import OWN_ACTIVATIONS, RULED, TRANSFORMERS
from ptame_lib.methods.controls import ChannelMean, auxiliary_cam
from ptame_lib.methods.occlusion import squares
from ptame_lib.methods.rise import rise_masks
from ptame_lib.methods.superpixels import superpixels
from ptame_lib.metrics import one_by_one

SMALL = Budget(
    masks=12,
    path_steps=4,
    samples=60,
    segments=12,
    noisy_samples=3,
    opti_steps=3,
    perturbation_steps=2,
    igos_steps=1,
    igos_path=2,
)


KINDS = {
    "embedded/vgg": (None, RULED, OWN_ACTIVATIONS),
    "embedded/resnet": (None, RULED),
    "embedded/vit": (None, RULED, TRANSFORMERS),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_method_gives_maps_between_0_and_1(name, pixels):
    classifier, pixels = load_classifier(name), pixels[:2]
    targets = decide(classifier, pixels)
    methods = build_methods(classifier, {"P-TAME": PTAME(load_auxiliary("embedded/auxiliary"), 10)}, budget=SMALL)
    others = [other for other, entry in CATALOGUE.items() if entry.only not in KINDS[name]]
    assert len(others) >= 1
    assert [m.name for m in methods] == ["P-TAME", *(m for m in CATALOGUE if m not in others)]
    before = pixels.clone()
    for method in methods:
        asked = (
            torch.zeros(2, 64, 64, dtype=torch.bool).index_fill(2, torch.arange(9), True)
            if method.sees_truth
            else targets
        )
        maps = method(pixels, asked)
        assert maps.ndim == 3
        assert len(maps) == 2
        assert maps.shape[1:] == (32, 32) or method.name != "P-TAME"
        assert maps.isfinite().all()
        assert maps.min() >= 0
        highest = maps.amax((1, 2))
        assert highest.max() <= 1 + 1e-6
        assert (
            highest > 0.5
        ).any() or method.name in CAMS  # whose maps are empty where the layer only speaks against the class
        assert not maps.requires_grad
        assert method(pixels[:1], asked[:1]).shape[0] == 1
    assert pixels.equal(before)
    assert all(p.grad is None for p in classifier.parameters())


def test_methods_by_name(classifier, auxiliary):
    assert [m.name for m in build_methods(classifier, names=["random", "RISE"])] == ["random", "RISE"]
    assert build_methods(classifier, names=["RISE"], budget=SMALL)[0].forwards == 12
    assert build_methods(classifier, names=["RISE 4000"], budget=SMALL)[0].forwards == 4000
    with pytest.raises(ValueError, match="unknown method 'GradCAM': choose from Grad-CAM,"):
        build_methods(classifier, names=["GradCAM"])
    with pytest.raises(ValueError, match="unknown trained method 'RISE': choose from P-TAME, T-TAME"):
        build_methods(classifier, {"RISE": None})
    assert [
        m.name
        for m in build_methods(
            classifier, {"P-TAME": PTAME(auxiliary, 7), "NN-Explainer": Explainer(7, "small")}, ["random"]
        )
    ] == [
        "P-TAME",
        "NN-Explainer",
        "random",
    ]


@pytest.mark.parametrize("name", [name for name in CATALOGUE if name != TRUTH])
@pytest.mark.parametrize("network", ["embedded/resnet", "embedded/vit"])
def test_what_a_method_costs(network, name, pixels):
    """The stated passes are those that happen; one image more may be asked about to find the layer."""
    classifier, asked = load_classifier(network), []
    if CATALOGUE[name].only not in KINDS[network]:
        assert suited(classifier, [name]) == []
        return
    (method,) = build_methods(classifier, names=[name], budget=SMALL)
    classifier.register_forward_hook(lambda module, inputs, output: asked.append(len(inputs[0])))
    method(pixels[:2], decide(load_classifier(network), pixels[:2]))
    assert sum(asked) - 2 * method.forwards in (0, 1)


@pytest.mark.parametrize(
    ("name", "layer", "layout"),
    [
        ("embedded/vgg", "features.10", "NCHW"),
        ("embedded/resnet", "layer4", "NCHW"),
        ("embedded/vit", "blocks.2.norm1", 0),
    ],
)
def test_gradcams_layer_is_found(name, layer, layout, pixels):
    classifier = load_classifier(name)
    found, seen = target_layer(classifier, pixels[:1])
    assert found is classifier.model.get_submodule(layer)
    assert seen == layout


def test_a_class_token_is_left_out(noise):
    net = TokenNet()
    assert target_layer(plain(net), noise[:1]) == (net.norm1, 1)
    assert gradcam(plain(net))(noise, torch.tensor([0, 1, 2])).shape == (3, SIDE, SIDE)


def test_gradcam_needs_a_feature_map(noise):
    flat = plain(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 4)))
    with pytest.raises(ValueError, match="no feature map found in Sequential: pass the layer"):
        gradcam(flat)(noise, torch.zeros(3, dtype=torch.long))


def test_gradcam_releases_its_hooks(classifier, pixels):
    gradcam(classifier)(pixels, torch.zeros(4, dtype=torch.long))
    assert not any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in classifier.modules())
    classifier.num_classes = None  # so that it is the package that fails
    with pytest.raises(IndexError):  # a target the classifier has not
        gradcam(classifier)(pixels, torch.full((4,), 99))
    assert not any(m._forward_hooks or m._backward_hooks for m in classifier.modules())


@pytest.mark.parametrize("method", ["Grad-CAM", "Ablation-CAM"])
@pytest.mark.parametrize("broken", [False, True])
def test_cams_leave_the_network_as_it_was(method, broken, noise):
    """Its mode, gradients, layers and hooks, also where the package fails in the middle of its work."""

    class Fails(nn.Sequential):
        calls = 0

        def forward(self, x):
            self.calls += 1
            if broken and self.calls == 4:  # 1: finds the layer, 2: the activations, 3: Ablation-CAM's own
                raise RuntimeError("out of memory")
            return super().forward(x)

    torch.manual_seed(0)
    net = Fails(nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4)).train()
    net(noise).sum().backward()
    net.calls = 3 if broken and method == "Grad-CAM" else 0
    gradients, layers = [p.grad.clone() for p in net.parameters()], list(net.modules())
    targets = torch.tensor([0, 1, 2])
    if broken:
        with pytest.raises(RuntimeError, match="out of memory"):
            cam(method, net, net[2])(noise, targets)
    else:
        cam(method, net, net[2])(noise, targets)
    assert all(module.training for module in net.modules())
    assert all(p.grad.equal(before) for p, before in zip(net.parameters(), gradients, strict=True))
    assert list(net.modules()) == layers
    assert not any(m._forward_hooks or m._backward_hooks for m in net.modules())


def test_gradcam_works_inside_no_grad(classifier, pixels):
    targets = torch.tensor([0, 1, 2, 3])
    expected = gradcam(classifier)(pixels, targets)
    with torch.no_grad():
        torch.testing.assert_close(gradcam(classifier)(pixels, targets), expected)


@pytest.mark.parametrize("k", range(4))
def test_rise_and_gradcam_point_into_the_right_quadrant(k, noise):
    classifier, targets = plain(Quadrants()), torch.full((3,), k)
    for explain, least in ((gradcam(classifier), 0.9), (rise(classifier, masks=400), 0.35)):
        shares = quadrant_shares(explain(noise, targets))
        assert shares.argmax(1).eq(k).all()
        assert shares[:, k].min() > least


class OnePixel(nn.Module):
    def forward(self, x):
        return torch.stack([6 * x[:, 0, 9, 20], torch.zeros(len(x))], 1)


def test_rise_by_hand(noise):
    """A classifier that sees one pixel: RISE is the mean of the masks weighted by p at that pixel."""

    masks = rise_masks(60, (SIDE, SIDE), seed=4)
    p = (6 * noise[0, 0, 9, 20] * masks[:, 9, 20]).sigmoid()
    expected = (p[:, None, None] * masks).sum(0)
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    found = rise(OnePixel(), masks=60, batch_size=7, seed=4)(noise[:1], torch.tensor([0]))[0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        rise(OnePixel(), masks=60, batch_size=50, seed=4)(noise, torch.zeros(3).long())[0], expected, atol=1e-4, rtol=0
    )


def test_rise_gives_many_classes_at_the_cost_of_one(noise):
    asked = []

    class Counted(OnePixel):
        def forward(self, pixels):
            asked.append(len(pixels))
            return super().forward(pixels)

    explain, classes = rise(Counted(), masks=30, batch_size=20), torch.tensor([1, 0, 1])
    maps = explain.maps(noise[:2], classes)
    assert sum(asked) == 2 * 30
    for place, target in enumerate(classes):
        torch.testing.assert_close(maps[:, place], explain(noise[:2], target.expand(2)), atol=1e-5, rtol=0)
    assert one_by_one(explain)(noise[:2], classes).equal(maps)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.8])
def test_rise_masks_keep_their_share(keep):
    masks = rise_masks(600, (30, 44), keep=keep)
    assert masks.shape == (600, 30, 44)
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert masks.mean().item() == pytest.approx(keep, abs=0.02)
    assert (masks.mean(0) - keep).abs().max() < 0.1  # everywhere alike
    assert masks.equal(rise_masks(600, (30, 44), keep=keep))
    assert not masks.equal(rise_masks(600, (30, 44), keep=keep, seed=1))


def test_the_random_map_does_not_depend_on_the_batches(noise):
    targets = torch.zeros(3, dtype=torch.long)
    whole = random_map(5)(noise, targets)
    explain = random_map(5)
    assert torch.cat([explain(noise[:1], targets[:1]), explain(noise[1:], targets[1:])]).equal(whole)
    assert not whole[0].equal(whole[1])
    assert not random_map(6)(noise, targets).equal(whole)


def test_the_centred_gaussian_is_centred_and_symmetric():
    maps = centred_gaussian(torch.rand(2, 3, 33, 21), torch.zeros(2))
    assert maps.shape == (2, 33, 21)
    assert maps[0, 16, 10] == 1
    torch.testing.assert_close(maps, maps.flip(-1).flip(-2))
    assert maps[0].argmin().item() in (0, 20, 32 * 21, 33 * 21 - 1)


class Levels(nn.Module):
    """An auxiliary of two levels: red and green at half the size, blue at a quarter."""

    channels = (2, 1)

    def forward(self, pixels):
        half = nn.functional.avg_pool2d(pixels, 2)
        return [half[:, :2], nn.functional.avg_pool2d(half[:, 2:], 2)]


def test_the_channel_mean_by_hand():
    pixels, targets = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1])
    second = ChannelMean(Levels()).explain(pixels, targets)
    assert torch.allclose(second, normalise(nn.functional.avg_pool2d(pixels, 4)[:, 2]), atol=1e-5)
    assert second.equal(ChannelMean(Levels()).explain(pixels, 1 - targets))  # no class
    first = ChannelMean(Levels(), 0).explain(pixels, targets)
    assert torch.allclose(first, normalise(nn.functional.avg_pool2d(pixels, 2)[:, :2].mean(1)))


def test_the_auxiliarys_cam_needs_a_head_that_fits(auxiliary, pixels):
    explainer = PTAME(auxiliary, 7)
    head = torch.randn(7, auxiliary.channels[-1], generator=torch.Generator().manual_seed(0))
    control, targets = auxiliary_cam(explainer, head), torch.tensor([0, 3, 6, 6])
    # the head's row of the class, against the mean of all rows, times the last level; doubled to the first level's size
    levels = [level.relu() for level in auxiliary(pixels)]
    cam = torch.einsum("bchw,bc->bhw", levels[-1], (head - head.mean(0))[targets])[:, None]
    while cam.shape[-1] < levels[0].shape[-1]:
        cam = nn.functional.interpolate(cam, scale_factor=2, mode="bilinear", align_corners=False)
    cam = cam[:, 0]
    assert torch.allclose(control.explain(pixels, targets), normalise(cam), atol=1e-5)
    assert auxiliary_cam(explainer, head[:5]) is None
    assert auxiliary_cam(explainer, head[:, :2]) is None


def test_controls_beside_ptame_stand_where_they_are_named(classifier, auxiliary):
    given = {"P-TAME": PTAME(auxiliary, 7), "channel mean": ChannelMean(auxiliary)}
    built = build_methods(classifier, given, ["Grad-CAM", "channel mean", "random"])
    assert [method.name for method in built] == ["P-TAME", "Grad-CAM", "channel mean", "random"]
    assert built[2].forwards == 1
    assert [method.name for method in build_methods(classifier, given, [])] == ["P-TAME", "channel mean"]
    with pytest.raises(ValueError, match="'channel mean' needs P-TAME's auxiliary or files: give it among the trained"):
        build_methods(classifier, {}, ["channel mean"])
    assert {*BESIDE} < {*CONTROLS}


class CamNet(nn.Module):
    """The parity files' network."""

    def __init__(self, width, classes):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.layer = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU())
        self.conv3, self.bn3, self.relu3 = nn.Conv2d(12, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU()
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        x = self.layer(self.bn1(self.conv1(x)).relu())
        return self.fc(self.relu3(self.bn3(self.conv3(x))).mean((2, 3)))


def parity_net(case, monkeypatch):
    """The parity files' classifier and arrays; their images are normalised, and so masked by Score-CAM."""
    monkeypatch.setattr(validation, "LOWEST", -4.0)
    monkeypatch.setattr(validation, "HIGHEST", 4.0)
    arrays = Arrays(f"gradcam_{case}")
    net = CamNet(arrays.description["c3"], arrays.description["num_classes"])
    net.load_state_dict(arrays.part("model/"))
    return plain(net, 48), arrays


IN_THE_ARRAYS = [name for name in CAMS if name not in ("XGrad-CAM", "Finer-CAM", "Eigen-CAM")]


@pytest.mark.parametrize("method", IN_THE_ARRAYS)
@pytest.mark.parametrize("case", [0, 1])
def test_cams_are_the_packages(case, method, monkeypatch):
    classifier, arrays = parity_net(case, monkeypatch)
    for layer in ("relu3", "layer"):
        maps = cam(method, classifier, classifier.model.get_submodule(layer))(arrays["images"], arrays["targets"])
        torch.testing.assert_close(maps, arrays[f"cam/{CAMS[method].kind.__name__}/{layer}"], atol=1e-4, rtol=0)
    assert not any(m._forward_hooks or m._backward_hooks for m in classifier.modules())


@pytest.mark.parametrize("case", [0, 1])
def test_eigen_cam_is_the_packages_but_for_the_sign(case, monkeypatch):
    """The package leaves the sign to the machine; here the component's largest value is positive."""
    classifier, arrays = parity_net(case, monkeypatch)
    same = 0
    for layer in ("relu3", "layer"):
        module = classifier.model.get_submodule(layer)
        maps = cam("Eigen-CAM", classifier, module)(arrays["images"], arrays["targets"])
        assert maps.equal(cam("Eigen-CAM", classifier, module)(arrays["images"], 0 * arrays["targets"]))  # no class
        for found, expected in zip(maps, arrays[f"cam/EigenCAM/{layer}"], strict=True):
            close = torch.allclose(found, expected, atol=1e-4)
            same += close
            assert close or torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1] < 0
    assert same >= 1


@pytest.mark.parametrize("method", [name for name in CAMS if name != "Eigen-CAM"])
@pytest.mark.parametrize("k", [0, 3])
def test_every_cam_points_into_the_right_quadrant(method, k, noise):
    shares = quadrant_shares(cam(method, plain(Quadrants()))(noise, torch.full((3,), k)))
    assert shares.argmax(1).eq(k).all()


@pytest.mark.parametrize("method", CAMS)
def test_every_cam_works_on_tokens(method, noise):
    maps = cam(method, plain(TokenNet()))(noise, torch.tensor([0, 1, 2]))
    assert maps.shape == (3, SIDE, SIDE)
    assert maps.isfinite().all()


class Fixed(nn.Module):
    """A layer of two maps, their means, and five classes."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Conv2d(3, 2, 4, 4), nn.Linear(2, 5, bias=False)

    def forward(self, x):
        return self.head(self.layer(x).mean((2, 3)))


def test_finer_cam_is_grad_cam_of_the_difference_to_the_closest_classes(noise):
    """Weighted by their probabilities, as the paper has it; Grad-CAM of a head of such differences shows the same."""
    torch.manual_seed(0)
    net = Fixed().eval()
    classifier, image = plain(net), noise[:1]
    logits = classifier(image)[0].detach()
    for target in range(5):
        closest = sorted(set(range(5)) - {target}, key=lambda k: abs(logits[k] - logits[target]))[:3]
        found = cam("Finer-CAM", classifier, net.layer)(image, torch.tensor([target]))
        # d/dz of sum w (z_t - z_k) / sum w, where w, the softmax's probabilities, depends on z, too
        z = logits.clone().requires_grad_()
        weights = z.softmax(0)[closest]
        (gradient,) = torch.autograd.grad((weights * (z[target] - z[closest])).sum() / weights.sum(), z)
        features = net.layer((image - classifier.mean) / classifier.std)
        expected = torch.einsum("c,bchw->bhw", gradient @ net.head.weight, features).relu()
        expected = nn.functional.interpolate(normalise(expected.detach())[:, None], scale_factor=4, mode="bilinear")
        torch.testing.assert_close(found, normalise(expected[:, 0]), atol=1e-3, rtol=0)


def test_xgrad_cam_by_hand(noise):
    """Channels are weighted by the gradients, each by its share of the channel's activation."""
    torch.manual_seed(0)
    net = Fixed().eval()
    classifier, targets = plain(net), torch.tensor([0, 1, 2])
    features = net.layer((noise - classifier.mean) / classifier.std).detach()
    # the gradient is the same everywhere: its weighted sum over a channel is that gradient
    expected = torch.einsum("bc,bchw->bhw", net.head.weight[targets], features).relu()
    expected = nn.functional.interpolate(normalise(expected.detach())[:, None], scale_factor=4, mode="bilinear")
    found = cam("XGrad-CAM", classifier, net.layer)(noise, targets)
    torch.testing.assert_close(found, normalise(expected[:, 0]), atol=1e-3, rtol=0)


def test_an_unknown_cam_is_named(classifier):
    with pytest.raises(
        ValueError, match=r"unknown CAM method 'GradCAM': choose one of Grad-CAM, Grad-CAM\+\+, LayerCAM"
    ):
        cam("GradCAM", classifier)


def test_integrated_gradients_of_a_linear_classifier_are_weight_times_pixel(noise):
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 4, bias=False))
    targets = torch.tensor([0, 1, 3])
    expected = (net[1].weight[targets].view(3, 3, SIDE, SIDE) * noise).sum(1).abs().detach()
    torch.testing.assert_close(
        integrated_gradients(plain(net), steps=5)(noise, targets), normalise(expected), atol=1e-5, rtol=0
    )


def test_guided_backprop_stops_negative_gradients(noise):
    """logit = sum of relu(x) * (1 - 2): the gradient that reaches the ReLU is negative everywhere: nothing passes."""

    class Negative(nn.Module):
        def __init__(self, sign):
            super().__init__()
            self.relu, self.sign = nn.ReLU(), sign

        def forward(self, x):
            return self.sign * self.relu(x - 0.5).sum((1, 2, 3))[:, None].repeat(1, 2)

    targets = torch.zeros(3, dtype=torch.long)
    assert not guided_backprop(plain(Negative(-1)))(noise, targets).any()
    positive = guided_backprop(plain(Negative(1)))(noise, targets)
    torch.testing.assert_close(positive, normalise((noise > 0.5).float().sum(1)))


@pytest.mark.parametrize("k", range(4))
def test_occlusion_points_into_the_right_quadrant(k, noise):
    net = Quadrants()
    calls = []
    net.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    maps = occlusion(plain(net))(noise, torch.full((3,), k))
    assert sum(calls) == 3 * (squares((SIDE, SIDE)) + 1)
    assert quadrant_shares(maps).argmax(1).eq(k).all()
    assert maps.shape == (3, SIDE, SIDE)


@pytest.mark.parametrize("method", [integrated_gradients, guided_backprop, occlusion])
def test_captums_methods_leave_no_hooks_and_give_maps_in_range(method, classifier, pixels):
    with torch.no_grad():
        maps = method(classifier)(pixels, torch.tensor([0, 1, 2, 3]))
    assert maps.shape == (4, *pixels.shape[-2:])
    assert maps.min() >= 0
    assert maps.max() <= 1
    assert not any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in classifier.modules())


def test_superpixels_are_numbered_without_gaps(noise):
    parts = superpixels(noise, 20)
    assert parts.shape == (3, SIDE, SIDE)
    for part in parts:
        assert part.unique().tolist() == list(range(int(part.max()) + 1))
        assert 5 <= part.max() <= 40


@pytest.mark.parametrize("method", [lime, kernel_shap])
@pytest.mark.parametrize("k", [1, 2])
def test_lime_and_shap_point_into_the_right_quadrant(method, k, noise):
    net = Quadrants()
    calls = []
    net.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    explain, targets = method(plain(net), samples=120, segments=16), torch.full((3,), k)
    maps = explain(noise, targets)
    assert quadrant_shares(maps).argmax(1).eq(k).all()
    assert sum(calls) >= 3 * 120
    assert maps.equal(explain(noise, targets))  # seeded
    torch.testing.assert_close(maps[1], explain(noise[1:2], targets[:1])[0])  # and every image by itself
    assert maps.min() == 0
    assert maps.max() == 1


@pytest.mark.parametrize("k", range(4))
def test_opti_cam_finds_the_channel_that_matters(k, noise):
    """Each channel of the layer holds one quadrant: the weights must end up on the target's."""
    net = Quadrants()
    calls = []
    net.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    classifier = plain(net)
    maps = opti_cam(classifier, net.parts, steps=60)(noise, torch.full((3,), k))
    shares = quadrant_shares(maps)
    assert shares.argmax(1).eq(k).all()
    assert shares[:, k].min() > 0.5
    assert sum(calls) == 3 * 61
    alone = opti_cam(classifier, net.parts, steps=60)(noise[1:2], torch.tensor([k]))
    torch.testing.assert_close(maps[1], alone[0], atol=1e-4, rtol=0)
    assert not any(m._forward_hooks for m in net.parts.modules())


def test_opti_cam_raises_the_logit_and_works_on_tokens(noise):
    net = TokenNet()
    assert opti_cam(plain(net), steps=3)(noise, torch.tensor([0, 1, 2])).shape == (3, 4, 4)
    torch.manual_seed(0)
    classifier, targets = plain(SmallConv()), torch.tensor([0, 1, 1])
    logit = [
        classifier(keep(noise, opti_cam(classifier, steps=steps)(noise, targets)))
        .gather(1, targets[:, None])
        .sum()
        .item()
        for steps in (0, 40)
    ]
    assert logit[1] > logit[0]


class SmallConv(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 12, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(12, 12, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(12 * 64, 2),
        )
