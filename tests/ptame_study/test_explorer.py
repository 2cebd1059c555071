"""The explorer's state, on a planted classifier whose answers are known by hand."""

import io

import pytest
import torch
from helpers import Quarter
from PIL import Image

from ptame_lib import ImageFolder
from ptame_lib.metrics.evidence import evidence
from ptame_study import figures
from ptame_study.explorer import Explorer, overlay, png, read_image


class ThreeWay(Quarter):
    """The same with a third class, whose logit is always -1."""

    labels = ("dark", "bright", "other")

    def forward(self, pixels):
        return torch.cat([super().forward(pixels), torch.full((len(pixels), 1), -1.0)], 1)


def probability(share_of_quarter):
    """Of ``bright``, where so much of the quarter is white."""
    return torch.tensor([0, 10 * (share_of_quarter - 0.5), -1], dtype=torch.float64).softmax(0)[1].item()


WHITE = torch.ones(3, 10, 10)
FIRST = torch.full((10, 10), 0.0)
FIRST[:5, :5] = torch.linspace(0.8, 1, 25).view(5, 5)
FIRST[FIRST == 0] = torch.linspace(0, 0.1, 75)
calls = []


def right(pixels, targets):
    """A map that puts the quarter first for class 1, and last for any other."""
    calls.append(targets.item())
    return FIRST[None] if targets.item() == 1 else 1 - FIRST[None]


METHODS = {
    "right": right,
    "wrong": lambda pixels, targets: 1 - FIRST[None],
    "constant": lambda pixels, targets: torch.ones(1, 2, 2),
}


@pytest.fixture
def explorer():
    calls.clear()
    found = Explorer(ThreeWay(), METHODS)
    found.open(WHITE)
    return found


def test_an_image_is_opened_with_the_classifiers_decision(explorer):
    assert explorer.target == 1
    assert [c for c, _ in explorer.top()] == [1, 0, 2]
    assert [c for c, _ in explorer.top(2)] == [1, 0]
    assert explorer.top()[0][1] == pytest.approx(probability(1), abs=1e-6)
    assert explorer.name(explorer.target) == "bright"


@pytest.mark.parametrize(
    ("share", "right_part", "wrong_part"), [(0.1, 0.4, 0), (0.2, 0.8, 0), (0.87, 1, 0.48), (1, 1, 1)]
)
def test_the_share_decides_what_is_kept(explorer, share, right_part, wrong_part):
    """Of 100 pixels, 25 are the quarter: the right map keeps them first, the wrong one last."""
    found = explorer.at(share)
    for name, part in {"right": right_part, "wrong": wrong_part}.items():
        view = found[name]
        kept, rest = view.images["black"]
        assert kept.sum().item() == pytest.approx(3 * int(100 * share))
        assert (kept + rest).equal(WHITE)
        assert view.kept == pytest.approx(probability(part), abs=1e-6)
        assert view.rest == pytest.approx(probability(1 - part), abs=1e-6)
        assert (view.answer("kept")[1], view.answer("rest")[1]) == (int(part > 0.5), int(part < 0.5))
        kept, rest = view.images["blurred"]  # a blur of white is white
        assert kept.allclose(WHITE)
        assert view.answer("rest", "blurred") == (pytest.approx(probability(1), abs=1e-6), 1)


def test_sentences_and_warnings_follow_the_slider(explorer):
    """They are those of the same share asked for at once, and of the pixels in the pictures."""
    said = set()
    for share in (0.1, 0.15, 0.5, 1):
        for name, view in explorer.at(share).items():
            expected = evidence(ThreeWay(), WHITE[None], torch.tensor([1]), METHODS[name](None, torch.tensor(1)), share)
            assert (view.evidence.text(), view.evidence.warning()) == (expected.text(), expected.warning())
            assert view.images["black"][0].equal(WHITE * expected.pixels_shown[0])
            said.add((name, view.evidence.warning()))
    assert {name for name, warning in said if not warning} == {"right", "wrong", "constant"}
    assert ("right", "") in said
    assert sum(name == "right" for name, _ in said) == 2  # 10 of 25 pixels are not enough


def test_a_map_that_orders_nothing_keeps_nothing_before_all(explorer):
    assert explorer.at(0.99)["constant"].images["black"][0].sum() == 0
    assert explorer.at(1)["constant"].images["black"][1].sum() == 0


def test_maps_are_computed_once_and_a_move_asks_four_questions(explorer):
    explorer.at(0.5)
    explorer.classifier.asked.clear()
    for percent in range(1, 101):
        explorer.at(percent / 100)
    assert explorer.classifier.asked == [len(METHODS)] * 400
    assert calls == [1]
    explorer.choose(0)
    assert explorer.at(0.5)["right"].kept == pytest.approx(
        1 - probability(0) - torch.tensor([0, -5, -1.0]).softmax(0)[2].item(), abs=1e-6
    )
    explorer.choose(1)
    explorer.at(0.5)
    assert calls == [1, 0]  # both classes are remembered
    explorer.open(WHITE / 2)
    explorer.choose(1)
    explorer.at(0.5)
    assert calls == [1, 0, 1]  # of another image nothing is


def test_the_evidence_is_that_of_the_map(explorer):
    found = explorer.explained("right")
    expected = evidence(ThreeWay(), WHITE[None], torch.tensor([1]), FIRST[None])
    assert (found.evidence.text(), found.evidence.warning()) == (expected.text(), expected.warning())
    assert "Do not rely on the 25%" in explorer.explained("wrong").evidence.warning()
    assert explorer.explained("constant").mask.shape == (10, 10)


def test_what_can_not_be_is_refused(explorer):
    with pytest.raises(ValueError, match=r"classes are 0\.\.2, got 3"):
        explorer.choose(3)
    for share in (0, 1.1):
        with pytest.raises(ValueError, match=r"share must be in \(0, 1\]"):
            explorer.at(share)
    with pytest.raises(ValueError, match=r"an image \(3,H,W\) is wanted, got \(10, 10\)"):
        explorer.open(FIRST)
    with pytest.raises(ValueError, match="no image is open"):
        Explorer(ThreeWay(), METHODS).at(0.5)
    with pytest.raises(ValueError, match="no methods to show"):
        Explorer(ThreeWay(), {})


def test_an_uploaded_image_is_read_as_one_of_a_folder(tmp_path):
    values = (torch.rand(30, 47, 3, generator=torch.Generator().manual_seed(0)) * 255).byte().numpy()
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read_image((tmp_path / "a.png").read_bytes(), 14).equal(ImageFolder(tmp_path, 14, 16)[0]["pixels"])
    with pytest.raises(ValueError, match=r"notes\.txt can't be read as an image"):
        read_image(b"text", 14, "notes.txt")


def test_pictures_are_pngs_of_the_values():
    image = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(1))
    with Image.open(io.BytesIO(png(image))) as read:
        assert (read.format, read.size) == ("PNG", (7, 5))
        assert torch.tensor(list(read.getdata())).view(5, 7, 3).permute(2, 0, 1).equal((image * 255).round().long())
    low, high = (torch.tensor(figures.matplotlib.colormaps[figures.MAP_COLOURS](v)[:3]) for v in (0.0, 1.0))
    shown = overlay(torch.full((3, 1, 2), 0.5), torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(shown[:, 0].T, 0.65 * torch.stack([low, high]).float() + 0.175)
