"""The explainer against the straightforward computation, and its promises."""

import pytest
import torch
import torch.nn.functional as F
from helpers import explainer_on, small_cnn
from refusals import Code
from safetensors import safe_open
from torch import nn

from ptame_lib import PTAME, FeatureExtractor, normalise, saved_config
from ptame_lib.classifiers.wrapper import IMAGENET_MEAN, IMAGENET_STD
from ptame_lib.explainers import brief, ptame, storage
from ptame_lib.explainers.ptame import PART
from ptame_lib.metrics.memory import peak_memory

LEVELS = ["l1", "l2", "l3", "l4"]


class Pyramid(nn.Module):
    """Stands in for an auxiliary: seeded feature maps of given sizes, made from the pixels."""

    name, layers = "pyramid", None

    def __init__(self, sizes, channels):
        super().__init__()
        torch.manual_seed(0)
        self.sizes, self.channels = sizes, tuple(channels)
        self.mixes = nn.ModuleList(nn.Conv2d(3, c, 1) for c in channels)

    def forward(self, pixels):
        return [mix(F.adaptive_avg_pool2d(pixels, size)) for mix, size in zip(self.mixes, self.sizes, strict=True)]


def straightforward(explainer, pixels):
    """The paper's steps: attend, bring every level to the first one's size, concatenate, fuse over all classes."""
    attended = []
    for f, conv, bn in zip(explainer.auxiliary(pixels), explainer.convs, explainer.bns, strict=True):
        a = F.relu(bn(conv(f)) + f)
        goal = attended[0].shape[-2:] if attended else a.shape[-2:]
        while 2 * a.shape[-2] <= goal[0] and 2 * a.shape[-1] <= goal[1]:
            a = F.interpolate(a, scale_factor=2, mode="bilinear", align_corners=False)
        if a.shape[-2:] != goal:
            a = F.interpolate(a, goal, mode="bilinear", align_corners=False)
        attended.append(a)
    return explainer.fuser(torch.cat(attended, 1))


SIZES = {
    "powers of two": [(16, 16), (8, 8), (4, 4), (2, 2)],
    "ResNet-18 at 224": [(56, 56), (28, 28), (14, 14), (7, 7)],
    "odd": [(30, 30), (15, 15), (8, 8), (4, 4)],
    "odd and oblong": [(19, 33), (10, 17), (5, 9), (3, 5)],
    "equal": [(14, 14), (14, 14), (14, 14)],
    "some equal": [(16, 16), (8, 8), (8, 8), (3, 3), (3, 3)],
    "not sorted": [(16, 16), (2, 2), (8, 8), (4, 4)],
    "larger than the first": [(8, 8), (16, 16), (4, 4)],
    "one level": [(9, 7)],
}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_maps_equal_the_straightforward_computation(sizes, bias, pixels):
    explainer = explainer_on(Pyramid(sizes, [4, 3, 6, 2, 5][: len(sizes)]), bias=bias)
    with torch.no_grad():
        expected, found = straightforward(explainer, pixels), explainer.maps(pixels)
    assert found.shape == (4, 5, *sizes[0])
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    for c in range(5):
        shown = explainer.explain(pixels, torch.full((4,), c))
        torch.testing.assert_close(shown, normalise(expected[:, c]), atol=1e-4, rtol=0)  # min-max divides by the range


@pytest.mark.parametrize("bias", [False, True])
def test_maps_of_many_classes_are_made_in_parts(bias, pixels):
    classes = 2 * PART + 7
    explainer = explainer_on(Pyramid(SIZES["powers of two"], [4, 3, 6, 2]), classes, bias)
    with torch.no_grad():
        expected = straightforward(explainer, pixels)
        torch.testing.assert_close(explainer.maps(pixels), expected, atol=1e-5, rtol=0)
        some = torch.arange(classes - 1, 3, -1)
        torch.testing.assert_close(explainer.maps(pixels, some), expected[:, some], atol=1e-5, rtol=0)
    torch.testing.assert_close(explainer.maps(pixels), expected, atol=1e-5, rtol=0)  # at once, for a gradient


def test_memory_of_all_maps_is_that_of_the_maps_and_of_one_part(pixels):
    peaks = []
    for parts in (8, 16):
        explainer = explainer_on(Pyramid(SIZES["powers of two"], [4, 3, 6, 2]), parts * PART)
        with torch.no_grad():
            peaks.append(peak_memory(lambda explainer=explainer: explainer.maps(pixels)))
    maps, rows = (count * PART * 4 / 2**20 for count in (4 * 16 * 16, 15))  # 4 images, 15 channels
    assert peaks[1] - peaks[0] == pytest.approx(8 * maps, rel=0.01)  # nothing else grows with the classes
    assert peaks[1] < 16 * maps + 4 * maps + 16 * rows


def test_gradients_equal_the_straightforward_ones(auxiliary, pixels):
    explainer = explainer_on(auxiliary, bias=True).train()
    parameters = [p for p in explainer.parameters() if p.requires_grad]
    weight = torch.rand(4, 5, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = torch.autograd.grad((straightforward(explainer, pixels) * weight).mean(), parameters)
    found = torch.autograd.grad((explainer.maps(pixels) * weight).mean(), parameters)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_maps_pick_and_repeat_classes(auxiliary, pixels):
    explainer = explainer_on(auxiliary, bias=True)
    wanted = torch.tensor([3, 0, 3])
    with torch.no_grad():
        torch.testing.assert_close(explainer.maps(pixels, wanted), explainer.maps(pixels)[:, wanted], atol=1e-6, rtol=0)
        assert explainer(pixels, wanted).equal(explainer.maps(pixels, wanted))


def test_explain_is_the_min_max_of_each_images_own_map(auxiliary, pixels):
    explainer = explainer_on(auxiliary).train()
    targets = torch.tensor([4, 0, 2, 2])
    shown = explainer.explain(pixels, targets)
    assert explainer.training  # as it was
    assert not shown.requires_grad
    assert shown.dtype == torch.float32
    with torch.no_grad():
        raw = explainer.eval().maps(pixels)[torch.arange(4), targets]
    torch.testing.assert_close(shown, normalise(raw), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        explainer.explain(pixels[2:3], targets[2:3]), shown[2:3], atol=1e-5, rtol=0
    )  # whatever the batch


def test_every_part_has_its_own_mode_again_even_after_an_error(auxiliary, pixels, monkeypatch):
    explainer = explainer_on(auxiliary).train()
    explainer.bns[1].eval()  # a user fixed this one's statistics
    modes, seen = [part.training for part in explainer.modules()], []
    monkeypatch.setattr(explainer, "own_maps", lambda *_: seen.extend(p.training for p in explainer.modules()) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        explainer.explain(pixels, torch.zeros(4, dtype=torch.long))
    assert seen
    assert not any(seen)
    assert [part.training for part in explainer.modules()] == modes


@pytest.mark.parametrize("wrong", [-1, 5])
def test_classes_outside_the_range_are_refused(wrong, auxiliary, pixels):
    explainer = PTAME(auxiliary, 5)
    with pytest.raises(ValueError, match=r"0\.\.4"):
        explainer.maps(pixels, torch.tensor([wrong]))
    with pytest.raises(ValueError, match=r"0\.\.4"):
        explainer.explain(pixels, torch.full((4,), wrong))
    with pytest.raises(ValueError, match="one target per image"):
        explainer.explain(pixels, torch.tensor([0]))


def test_a_parent_in_train_mode_moves_neither_classifier_nor_auxiliary(auxiliary, classifier, pixels):
    explainer = PTAME(auxiliary, 7)
    parent = nn.ModuleList([explainer, classifier]).train()
    assert explainer.training
    assert all(bn.training for bn in explainer.bns)
    assert not any(m.training for frozen in (auxiliary, classifier) for m in frozen.modules())
    before = {key: value.clone() for key, value in (*auxiliary.state_dict().items(), *classifier.state_dict().items())}
    classifier(pixels * explainer.maps(pixels, torch.tensor([0])).mean()).sum().backward()
    assert all(
        p.grad is None and not p.requires_grad for frozen in (auxiliary, classifier) for p in frozen.parameters()
    )
    assert explainer.fuser.weight.grad.abs().sum() > 0
    for key, value in (*auxiliary.state_dict().items(), *classifier.state_dict().items()):
        assert value.equal(before[key])
    assert len(list(parent.parameters())) > 0


def test_contributions_by_hand():
    explainer = PTAME(Pyramid([(4, 4), (2, 2)], [3, 1]), 2)
    nn.init.zeros_(explainer.fuser.weight)
    torch.testing.assert_close(explainer.contributions(), torch.tensor([0.75, 0.25]))


def test_save_and_load(tmp_path, auxiliary, pixels):
    explainer = explainer_on(auxiliary, bias=True)
    explainer.save(tmp_path / "new" / "e.safetensors", seed="7")
    with safe_open(tmp_path / "new" / "e.safetensors", "pt") as file:
        keys = set(file.keys())
    parts = [f"{p}.{i}.{w}" for i in range(4) for p in ("convs", "bns") for w in ("weight", "bias")]
    parts += [f"bns.{i}.{w}" for i in range(4) for w in ("running_mean", "running_var", "num_batches_tracked")]
    assert keys == {*parts, "fuser.weight", "fuser.bias"}
    config = saved_config(tmp_path / "new" / "e.safetensors")
    assert (config["num_classes"], config["fuser_bias"], config["seed"], config["channels"]) == (
        "5",
        "True",
        "7",
        "[4, 8, 16, 32]",
    )
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["e.safetensors"]  # no temporary file stays
    again = PTAME.load(tmp_path / "new" / "e.safetensors", auxiliary)
    assert not again.training
    assert again.maps(pixels).equal(explainer.maps(pixels))


def test_load_refuses_what_does_not_fit(tmp_path, auxiliary):
    file = tmp_path / "e.safetensors"
    with pytest.raises(FileNotFoundError, match=r"e\.safetensors: train one with notebooks/02_train_ptame"):
        PTAME.load(file, auxiliary)
    explainer = explainer_on(auxiliary)
    explainer.save(file)
    with pytest.raises(
        ValueError,
        match=r"fuser\.weight has shape \(5, 60, 1, 1\), expected \(6, 60, 1, 1\)\. Load it with .*number of classes",
    ):
        PTAME(auxiliary, 6).fill(explainer.trained_state(), file)
    with pytest.raises(ValueError, match=r"missing \['fuser\.bias'\].*Load it with"):
        PTAME(auxiliary, 5, fuser_bias=True).fill(explainer.trained_state(), file)
    wider = FeatureExtractor(small_cnn((6, 8, 16, 32)), LEVELS, IMAGENET_MEAN, IMAGENET_STD, 64)
    with pytest.raises(
        ValueError,
        match=r"shape \(4,\), expected \(6,\)\. Load it with the auxiliary|shape .*4, 1, 1\), expected .*6, 1, 1\)",
    ):
        PTAME.load(file, wider)


def test_load_refuses_another_auxiliary_of_the_same_widths(tmp_path):
    """ResNet-18 and ResNet-34 have equal widths: shapes alone would let a wrong one pass."""
    one, other = (
        FeatureExtractor(small_cnn(), LEVELS, IMAGENET_MEAN, IMAGENET_STD, 64, name)
        for name in ("resnet18", "resnet34")
    )
    explainer_on(one).save(tmp_path / "e.safetensors")
    with pytest.raises(ValueError, match=r"trained on resnet18.*not on resnet34"):
        PTAME.load(tmp_path / "e.safetensors", other)
    even = FeatureExtractor(small_cnn((4, 4, 4, 4)), ["l1", "l2"], IMAGENET_MEAN, IMAGENET_STD, 64)
    later = FeatureExtractor(small_cnn((4, 4, 4, 4)), ["l3", "l4"], IMAGENET_MEAN, IMAGENET_STD, 64)
    explainer_on(even).save(tmp_path / "e.safetensors")
    with pytest.raises(ValueError, match=r"\['l1', 'l2'\].*\['l3', 'l4'\]"):
        PTAME.load(tmp_path / "e.safetensors", later)


def official(tmp_path, explainer, change=lambda state: None):
    """A checkpoint in the authors' layout, with ``change`` made to its state dict."""
    state = {f"net.attention.{key}": value.clone() for key, value in explainer.trained_state().items()}
    change(state)
    torch.save({"epoch": 0, "state_dict": state, "optimizer_states": []}, tmp_path / "official.ckpt")
    return tmp_path / "official.ckpt"


@pytest.mark.parametrize("bias", [False, True])
def test_official_checkpoint_of_any_class_count(bias, tmp_path, auxiliary, pixels):
    explainer = explainer_on(auxiliary, classes=6, bias=bias)
    loaded = PTAME.load_official_checkpoint(official(tmp_path, explainer), auxiliary)
    with torch.no_grad():
        assert loaded.maps(pixels).equal(explainer.maps(pixels))


OFFICIAL_FAULTS = {
    "missing": (lambda s: s.pop("net.attention.convs.1.bias"), r"missing \['convs.1.bias'\]"),
    "unexpected": (
        lambda s: s.update({"net.backbone.fc.weight": torch.zeros(2)}),
        r"unexpected \['net.backbone.fc.weight'\]",
    ),
    "misshapen": (
        lambda s: s.update({"net.attention.bns.0.weight": torch.zeros(9)}),
        r"bns.0.weight has shape \(9,\), expected \(4,\)",
    ),
    "no fuser": (lambda s: s.pop("net.attention.fuser.weight"), "no net.attention.fuser.weight"),
    "flat fuser": (
        lambda s: s.update({"net.attention.fuser.weight": torch.zeros(5, 60)}),
        "no net.attention.fuser.weight",
    ),
}


@pytest.mark.parametrize(("change", "message"), OFFICIAL_FAULTS.values(), ids=OFFICIAL_FAULTS.keys())
def test_official_checkpoint_refuses_what_does_not_fit(change, message, tmp_path, auxiliary):
    with pytest.raises(ValueError, match=message):
        PTAME.load_official_checkpoint(official(tmp_path, explainer_on(auxiliary), change), auxiliary)


def test_official_checkpoint_refuses_other_files(tmp_path, auxiliary):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*absent\.ckpt"):
        PTAME.load_official_checkpoint(tmp_path / "absent.ckpt", auxiliary)
    for content, message in {
        "text": "can't be read",
        "list": "holds no state_dict",
        "code": "without running code",
    }.items():
        file = tmp_path / f"{message}.ckpt"
        file.write_text("text") if content == "text" else torch.save(
            [1] if content == "list" else {"state_dict": Code()}, file
        )
        with pytest.raises(ValueError, match=message):
            PTAME.load_official_checkpoint(file, auxiliary)


def test_fixed_batch_norm_folds_into_one_convolution(auxiliary, pixels):
    """In eval mode the attention is one convolution: equal to the formula, forward and gradients."""
    explainer = explainer_on(auxiliary)
    levels = auxiliary(pixels)
    expected = [F.relu(bn(conv(f)) + f) for f, conv, bn in zip(levels, explainer.convs, explainer.bns, strict=True)]
    found = explainer.attention(pixels)
    for e, f in zip(expected, found, strict=True):
        torch.testing.assert_close(f, e, atol=1e-5, rtol=0)
    names, parameters = zip(
        *((n, p) for n, p in explainer.named_parameters() if n.startswith(("convs", "bns"))), strict=True
    )
    wanted = torch.autograd.grad(sum(e.square().mean() for e in expected), parameters)
    for name, gradient, other in zip(
        names, torch.autograd.grad(sum(f.square().mean() for f in found), parameters), wanted, strict=True
    ):
        torch.testing.assert_close(gradient, other, atol=1e-5, rtol=1e-4, msg=name)


def test_started_from_the_auxiliarys_head_the_maps_are_its_class_activation_maps():
    auxiliary = Pyramid([(8, 8), (4, 4)], [3, 6])
    head = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    explainer = (
        explainer_on(auxiliary, bias=True).start_from_head(head, scale=0.5).train()
    )  # also with a batch's statistics
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    last = auxiliary(pixels)[-1].relu()
    cams = torch.einsum("bchw,kc->bkhw", last, 0.5 * (head - head.mean(0)))
    expected = F.interpolate(cams, (8, 8), mode="bilinear", align_corners=False)
    assert torch.allclose(explainer.maps(pixels), expected, atol=1e-5)
    explainer.maps(pixels).square().sum().backward()
    assert explainer.bns[-1].weight.grad.abs().amax() > 0  # the attention can still be learnt
    with pytest.raises(
        ValueError, match=r"the head must be \(5, 6\), .* got \(5, 4\): pass the weight of the linear layer"
    ):
        explainer.start_from_head(head[:, :4])


def tied_explainer():
    """An explainer from a head of five classes, whose last rows then moved alike, the first level's apart."""
    auxiliary = Pyramid([(8, 8), (4, 4)], [3, 6])
    head = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    explainer = explainer_on(auxiliary).start_from_head(head, scale=0.3).eval()
    with torch.no_grad():
        explainer.fuser.weight[:, -6:] += torch.randn(6, 1, 1, generator=torch.Generator().manual_seed(2))
        explainer.fuser.weight[:, :3] += torch.randn(5, 3, 1, 1, generator=torch.Generator().manual_seed(3))
        explainer.bns[0].weight += 0.5
    return explainer, head


def test_a_brief_file_holds_what_the_head_does_not(tmp_path, pixels, monkeypatch):
    explainer, head = tied_explainer()
    explainer.save(tmp_path / "whole.safetensors")
    explainer.save_brief(tmp_path / "brief.safetensors", head, classifier="lite/2")
    with safe_open(tmp_path / "brief.safetensors", "pt") as file:
        shapes = {key: tuple(file.get_tensor(key).shape) for key in file.keys()}  # noqa: SIM118
        types = {file.get_tensor(key).dtype for key in file.keys() if "batches" not in key}  # noqa: SIM118
    assert (shapes["fuser.before"], shapes["fuser.shared"]) == ((5, 3, 1, 1), (1, 6, 1, 1))
    assert types == {torch.float16}
    # the second level passes its features, and needs no parameters
    assert {key.split(".")[1] for key in shapes if key.startswith(("convs", "bns"))} == {"0"}

    monkeypatch.setattr(ptame, "load_head", {"pyramid": head}.__getitem__)
    again = PTAME.load(tmp_path / "brief.safetensors", explainer.auxiliary)
    assert again.maps(pixels).allclose(explainer.maps(pixels), atol=0.02)
    assert not again.maps(pixels).equal(explainer.maps(pixels))
    assert again.trained_state().keys() == explainer.trained_state().keys()


def test_what_is_not_the_head_and_one_row_is_not_saved_in_brief(tmp_path):
    explainer, head = tied_explainer()
    for wrong in (head[:, :5], head[:4]):
        with pytest.raises(ValueError, match=r"a head of \(.*\) can't be saved in brief: .* save it whole"):
            explainer.save_brief(tmp_path / "e.safetensors", wrong)
    with torch.no_grad():
        explainer.fuser.weight[2, -1] += 0.1
    with pytest.raises(ValueError, match="the rows of the last level learned apart: train with tied rows"):
        explainer.save_brief(tmp_path / "e.safetensors", head)
    with pytest.raises(ValueError, match="a fuser with a bias can't be saved in brief"):
        explainer_on(explainer.auxiliary, bias=True).save_brief(tmp_path / "e.safetensors", head)
    assert not list(tmp_path.iterdir())


def test_what_half_precision_can_not_hold_is_not_saved_in_brief(tmp_path):
    """Such a file could not be loaded again."""
    explainer, head = tied_explainer()
    explainer.bns[0].running_var.fill_(1e5)
    with pytest.raises(ValueError, match=r"bns.0.running_var is too large for half precision.*: save it whole"):
        explainer.save_brief(tmp_path / "e.safetensors", head)
    assert not list(tmp_path.iterdir())


def test_a_brief_file_of_another_head_or_scale_is_refused(tmp_path, monkeypatch):
    explainer, head = tied_explainer()
    file = tmp_path / "brief.safetensors"
    explainer.save_brief(file, head)
    for other in (head[:4], head[:, :5]):
        monkeypatch.setattr(ptame, "load_head", lambda name, other=other: other)
        with pytest.raises(ValueError, match=r"brief\.safetensors does not fit its auxiliary: its fuser has .* a head"):
            PTAME.load(file, explainer.auxiliary)
    monkeypatch.setattr(ptame, "load_head", lambda name: head)
    state, scale = brief.shorten(explainer.trained_state(), head, [3, 6])
    for wrong, message in (("big", "no number"), ("nan", "not finite")):
        storage.write(file, state, explainer.config() | {brief.SCALE: wrong})
        with pytest.raises(ValueError, match=message):
            PTAME.load(file, explainer.auxiliary)
    assert abs(scale - 0.3) < 1e-6
    del state["fuser.shared"]
    storage.write(file, state, explainer.config() | {brief.SCALE: "1"})
    with pytest.raises(ValueError, match="does not fit its auxiliary"):
        PTAME.load(file, explainer.auxiliary)
