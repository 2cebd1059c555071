"""Swap-TAME: P-TAME before its training, saved and loaded with its parts, and it follows its classifier."""

import pytest
import torch
import torch.nn.functional as F
from helpers import explainer_on, rand, small_auxiliary
from torch import nn
from torch.utils.data import Dataset

from ptame_lib import BlackBox, TrainingConfig, train_black_box, train_ptame
from ptame_lib.explainers.loading import load_explainer, method_of
from ptame_lib.explainers.swap_tame import ALL_PARTS, CLOSED, GATE, PARTS, PIXEL_CHANNELS, SwapTAME
from ptame_lib.masking import normalise
from ptame_lib.training.ptame import config_for


@pytest.mark.parametrize("parts", [(), ("positions",), ("neighbours",), ("pixels",), PARTS])
def test_before_the_training_it_is_p_tame(auxiliary, parts):
    ptame = explainer_on(auxiliary)
    explainer = SwapTAME(auxiliary, 5, parts=parts).eval()
    state = ptame.trained_state()
    if "pixels" in parts:  # whose part of the fuser comes first
        weight = explainer.fuser.weight.detach().clone()
        weight[:, PIXEL_CHANNELS:] = state["fuser.weight"]
        state["fuser.weight"] = weight
    explainer.load_state_dict(state, strict=False)
    pixels = rand(2, 3, 64, 64)
    expected = ptame.maps(pixels)
    if "pixels" in parts:
        expected = F.interpolate(expected, (64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(explainer.maps(pixels), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("parts", [(), ("pixels",), PARTS, (GATE,), ALL_PARTS])
def test_files_keep_the_parts(auxiliary, tmp_path, parts):
    explainer = SwapTAME(auxiliary, 5, parts=parts)
    file = tmp_path / "explainer.safetensors"
    explainer.save(file, classifier="mine")
    loaded = load_explainer(file, auxiliary=auxiliary)
    pixels, targets = rand(2, 3, 64, 64), torch.tensor([1, 4])
    assert isinstance(loaded, SwapTAME)
    assert method_of(file) == "Swap-TAME"
    assert loaded.parts == parts
    assert loaded.explain(pixels, targets).equal(explainer.explain(pixels, targets))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_explainer_and_pixels_may_be_of_any_type_as_with_p_tame(kind):
    explainer, pixels, targets = SwapTAME(small_auxiliary(), 5).eval(), rand(2, 3, 32, 48), torch.tensor([1, 4])
    expected = explainer.explain(pixels, targets)
    assert expected.allclose(explainer.explain(pixels.to(kind), targets), atol=0.05)
    assert expected.allclose(explainer.to(kind).explain(pixels, targets), atol=0.1)


def test_an_unknown_part_is_refused(auxiliary):
    with pytest.raises(ValueError, match="unknown parts colours: choose among positions, neighbours, pixels, gate"):
        SwapTAME(auxiliary, 5, parts=("pixels", "colours"))
    with pytest.raises(TypeError, match=r"parts are a list of names, got 'gate': write \['gate'\]"):
        SwapTAME(auxiliary, 5, parts="gate")


def test_a_gate_is_the_same_for_every_class_and_half_open_at_first(auxiliary):
    ptame, explainer = explainer_on(auxiliary), SwapTAME(auxiliary, 5, parts=(GATE,)).eval()
    explainer.load_state_dict(ptame.trained_state(), strict=False)
    pixels, targets = rand(2, 3, 64, 64), torch.tensor([1, 4])
    torch.testing.assert_close(explainer.explain(pixels, targets), ptame.explain(pixels, targets))
    # one that opens by what it sees multiplies the maps of all classes by the same, from CLOSED to 1
    for _, conv in explainer.gates:
        torch.nn.init.normal_(conv.weight, std=3.0)
    before, after = ptame.maps(pixels), explainer.maps(pixels)
    before = normalise(before.flatten(0, 1)).view_as(before)
    gates = torch.where(before > 0.05, after / before, torch.nan)
    lowest, highest = (getattr(gates.nan_to_num(fill), how)(1).values for fill, how in ((2.0, "min"), (-1.0, "max")))
    seen = lowest <= 1
    torch.testing.assert_close(lowest[seen], highest[seen], rtol=1e-3, atol=1e-4)
    assert CLOSED <= lowest[seen].min() < lowest[seen].max() <= 1
    torch.testing.assert_close(explainer.own_maps(pixels, targets), after[torch.arange(2), targets])


@pytest.mark.parametrize("tied", [False, True])  # the rows that would be tied are frozen
def test_behind_a_head_the_gate_alone_is_trained(tied):
    torch.manual_seed(0)
    explainer = SwapTAME(small_auxiliary(("l1", "l2")), 2, parts=(GATE,))
    explainer.start_from_head(rand(2, explainer.auxiliary.channels[-1]))
    before = {key: value.clone() for key, value in explainer.trained_state().items()}
    config = config_for("Swap-TAME", TrainingConfig(steps=2, batch_size=16, lr=1e-2, temperature=1.0, tied=tied))
    train_ptame(explainer, Half(slice(0, 16)), Squares(), config)
    changed = {key for key, value in explainer.trained_state().items() if not value.equal(before[key])}
    learnt = {key for key in changed if "running" not in key and "num_batches" not in key}
    assert learnt == {f"gates.0.{part}" for part in ("0.weight", "0.bias", "1.weight", "1.bias")}


class Squares(Dataset):
    """Noise with two squares of 12 pixels, left and right, each red or blue by a coin of its own."""

    def __len__(self):
        return 48

    def __getitem__(self, i):
        pixels = 0.3 * rand(3, 32, 32, seed=i)
        left, right = torch.randint(0, 2, (2,), generator=torch.Generator().manual_seed(i)).tolist()
        for colour, square in ((left, slice(2, 14)), (right, slice(18, 30))):
            pixels[:, 10:22, square] = 0.1
            pixels[2 * colour, 10:22, square] = 0.9
        return {"pixels": pixels}


class Half(nn.Module):
    """Decides by the colour of one half of the image."""

    differentiable = True

    def __init__(self, columns):
        super().__init__()
        self.columns = columns

    def forward(self, pixels):
        seen = pixels[..., self.columns].mean((2, 3))
        return 40 * torch.stack([seen[:, 0] - seen[:, 2], seen[:, 2] - seen[:, 0]], 1)


@pytest.mark.parametrize("regions", [0.0, 20.0])
def test_maps_follow_what_decides_for_the_classifier(regions):
    data = Squares()
    pixels = torch.stack([data[i]["pixels"] for i in range(12)])
    left, right = slice(2, 14), slice(18, 30)
    for columns, own, other in ((slice(0, 16), left, right), (slice(16, 32), right, left)):
        classifier = Half(columns)
        torch.manual_seed(0)
        explainer = SwapTAME(small_auxiliary(("l1", "l2")), 2)
        config = config_for("Swap-TAME", TrainingConfig(steps=60, batch_size=16, lr=1e-2, regions=regions))
        history = train_ptame(explainer, classifier, data, config)
        terms = {"kept": 1, "pasted": 1} | ({"regions": regions} if regions else {})
        assert set(history[0]) == {"step", "lr", "total", *terms}
        sums = [sum(weight * row[name] for name, weight in terms.items()) for row in history]
        assert [row["total"] for row in history] == pytest.approx(sums, rel=1e-5)
        maps = explainer.explain(pixels, classifier(pixels).argmax(1))
        assert maps[:, 10:22, own].mean() > maps[:, 10:22, other].mean() + 0.2


@pytest.mark.parametrize("options", [None, {"method": "antithetic"}, {"method": "surrogate"}])
def test_a_classifier_that_only_answers_is_refused_before_it_is_asked(auxiliary, options):
    box, train = BlackBox(Half(slice(0, 16)), 32), train_black_box if options else train_ptame
    config = TrainingConfig(steps=1, batch_size=16, mask="swap")
    with pytest.raises(ValueError, match="train P-TAME for it, with train_black_box"):
        train(SwapTAME(auxiliary, 2), box, Squares(), config, **options or {})
    assert box.queries == 0
