"""What an explanation is worth, on planted classifiers whose answers are known by hand."""

import json
import re
from dataclasses import replace

import matplotlib.pyplot as plt
import pytest
import torch
from helpers import Quarter
from torch import nn

from ptame_lib import Method, explain_with_evidence
from ptame_lib.masking import first_pixels, normalise, resize
from ptame_lib.methods.controls import truth_map
from ptame_lib.metrics.curves import blurred
from ptame_lib.metrics.drop import confidence
from ptame_lib.metrics.evidence import at_share, evidence, joined, percent
from ptame_study import figures, one_image

WHITE = torch.ones(1, 3, 10, 10)
BRIGHT = torch.tensor([1])


def ramp(top_left=True):
    """A map that puts the 25 pixels of the top left quarter first (or last), each value once."""
    order = torch.zeros(10, 10, dtype=torch.bool)
    order[:5, :5] = True
    values = torch.empty(10, 10)
    values[order == top_left] = torch.linspace(0.8, 1, 25 if top_left else 75)
    values[order != top_left] = torch.linspace(0, 0.1, 75 if top_left else 25)
    return values[None]


def sure(brightness):
    """``bright`` by `Quarter`, whose first quarter is so bright."""
    return torch.tensor(10 * (brightness - 0.5), dtype=torch.float64).sigmoid().item()


def test_everything_is_about_the_pixels_shown_by_hand():
    """Of 25 white pixels, 15 are shown: on black 0.6 of the quarter is white. A blur of white is white."""
    found = evidence(Quarter(), WHITE, BRIGHT, ramp(), share=0.15)
    assert found.pixels_shown.sum() == 15
    assert found.pixels_shown[0].equal(ramp()[0] > ramp()[0].flatten().sort().values[84])
    for name, parts in {"kept": (0.6, 1), "rest": (0.4, 1), "empty": (0, 1)}.items():
        expected = torch.tensor([[sure(part) for part in parts]], dtype=torch.float64)
        torch.testing.assert_close(getattr(found, name), expected, atol=1e-6, rtol=0)
    assert found.whole.item() == pytest.approx(sure(1), abs=1e-6)
    for name, expected in {"faithful": [True, True], "rest_too": [False, True], "empty_too": [False, True]}.items():
        assert getattr(found, name).tolist() == [expected]
    assert found.kept_decisions.tolist() == [[1, 1]]
    assert found.rest_decisions.tolist() == [[0, 1]]
    # more than half of the 25 pixels are needed: 10 % of the image are 10 pixels, 15 % are 15
    assert found.share.tolist() == [[0.15, 0.01]]
    assert found.text() == (
        "bright: 99% on the whole image. Shown are the 15% of the pixels that the map puts first. With all others "
        "black, they are enough to decide for bright (73%; no smaller part that was tried is), and with them black "
        "instead, bright has 27%. With all others blurred, bright has 99%, and with these blurred instead 99%, which "
        "says little, since the classifier decides for bright on a wholly blurred image, too (99%)."
    )
    assert found.warning() == ""


def test_what_is_not_shown_is_never_asked_about():
    """The values of pixels that are not shown, and how soft the map is, change nothing; the pixels shown do."""
    shown = evidence(Quarter(), WHITE, BRIGHT, ramp(), share=0.15)
    for other in (ramp() ** 4, ramp().clamp(0.85), 2 + ramp()):
        again = evidence(Quarter(), WHITE, BRIGHT, other, share=0.15)
        assert again.pixels_shown.equal(shown.pixels_shown)
        assert (again.text(), again.warning()) == (shown.text(), shown.warning())
    more = evidence(Quarter(), WHITE, BRIGHT, ramp(), share=0.2)
    assert more.pixels_shown.sum() == 20
    assert more.text() != shown.text()


def test_a_map_that_misses_the_evidence_is_warned_about():
    found = evidence(Quarter(), WHITE, BRIGHT, ramp(top_left=False))
    assert found.faithful.tolist() == [[False, True]]
    assert found.rest_too.tolist() == [[True, True]]
    assert found.share.tolist() == [[0.9, 0.01]]  # 75 pixels elsewhere, then 15 of the quarter
    assert found.warning() == (
        "Do not rely on the 25% of the pixels shown: with all others black the classifier decides for dark, not for "
        "bright."
    )
    assert (
        " With all others black, they are not enough: the classifier decides for dark, and bright has 0.7% (the first "
        "90% are); with them black instead, bright has 99%. "
    ) in found.text()


def test_a_constant_map_shows_nothing():
    found = evidence(Quarter(), WHITE, BRIGHT, torch.ones(1, 4, 4))
    assert found.shown.tolist() == [0]
    assert found.faithful.tolist() == [[False, False]]
    assert found.share.isnan().tolist() == [[True, True]]
    assert found.text() == "bright: 99% on the whole image. The map puts no pixels first, so none are shown."
    assert found.warning().startswith("Do not rely on this map: its largest values are all alike")


def test_tied_values_are_not_shown_and_the_share_says_so():
    values = torch.zeros(1, 10, 10)
    values[0, :2] = 1  # 20 pixels
    values[0, 0, 0] = 2
    few, all_ = (evidence(Quarter(), WHITE, BRIGHT, values, share=share) for share in (0.15, 0.25))
    assert (few.shown.item(), all_.shown.item()) == (0.01, 0.2)
    assert "Shown are the 1% of the pixels that the map puts first." in few.text()


class Narrow(nn.Module):
    """Class 1 where between 4 and 12 pixels are white, or all; a blur has none but of a white image."""

    def forward(self, pixels):
        n = (pixels[:, 0] == 1).sum((1, 2))
        yes = ((n >= 4) & (n <= 12)) | (n == 100)
        return torch.stack([~yes, yes], 1).float()


def test_that_fewer_pixels_are_enough_is_no_contradiction():
    values = torch.linspace(0, 1, 100).view(1, 10, 10)
    found = evidence(Narrow(), WHITE, BRIGHT, values)
    assert found.share[0, 0] == 0.05
    assert found.warning() == (
        "Do not rely on the 25% of the pixels shown: with all others black the classifier decides for class 0, not for "
        "class 1."
    )
    assert "has 27% (the first 5% are: more pixels are not always better here); with them" in found.text()
    none = evidence(Narrow(), WHITE, BRIGHT, values, shares=(0.2, 0.5))
    assert none.share[0, 0].isnan()
    assert "class 1 has 27% (no first part that was tried is); " in none.text()


@pytest.mark.parametrize("share", [0.03, 0.07, 0.15, 0.6, 0.9])
def test_the_share_shown_is_never_smaller_than_the_smallest_that_is_enough(share):
    """Else the sentences would contradict each other: also for shares that are not tried."""
    for map_ in (ramp(), ramp(False), ramp() * 0.5 + ramp(False) * 0.5):
        known = evidence(Quarter(), WHITE, BRIGHT, map_, share=0.5)
        for found in (evidence(Quarter(), WHITE, BRIGHT, map_, share), at_share(known, Quarter(), WHITE, map_, share)):
            enough = found.share <= found.shown[:, None]
            assert (enough | ~found.faithful).all()
            assert found.shown.item() == pytest.approx(share)


def test_another_share_is_as_if_asked_for_at_once(classifier, pixels):
    maps = torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(5))
    targets = torch.tensor([0, 3, 3, 6])
    known = evidence(classifier, pixels, targets, maps, share=0.3)
    expected = evidence(classifier, pixels, targets, maps, share=0.1)
    found = at_share(known, classifier, pixels, maps, 0.1)
    for i in range(4):
        assert (found.text(i), found.warning(i)) == (expected.text(i), expected.warning(i))
    assert joined([found[i] for i in range(4)]).kept.equal(found.kept)


@pytest.mark.parametrize(
    ("bias", "target", "map_", "message"),
    [
        (-1.0, 1, ramp(), "a black image as well"),
        (1.5, 1, ramp(), "with all others black or blurred the classifier decides for dark, not for bright"),
        (0.5, 0, ramp(top_left=False), "with all others blurred the classifier decides for bright, not for dark"),
        (0.2, 1, ramp() * 0.5 + ramp(False) * 0.5, "black in their place, the image is decided for bright as well"),
    ],
)
def test_the_gravest_doubt_comes_first(bias, target, map_, message):
    assert re.search(message, evidence(Quarter(bias), WHITE, torch.tensor([target]), map_, share=0.5).warning())


def test_a_class_that_is_not_decided_for():
    class Three(nn.Module):
        """0: nothing; 1: the left half; 2: the right half, which counts a little more."""

        def forward(self, pixels):
            left, right = (pixels[:, :, :, part].mean((1, 2, 3)) for part in (slice(4), slice(6, 10)))
            return torch.stack([torch.full_like(left, 0.1), left, 1.2 * right], 1)

    halves = torch.zeros(1, 10, 10)
    halves[:, :, :5] = torch.linspace(0.9, 1, 50).view(10, 5)
    pictures = WHITE.clone()
    pictures[:, :, ::2] = 0  # so that a blur is grey
    found = evidence(Three(), pictures, BRIGHT, halves, share=0.5)
    assert found.faithful[:, 0].tolist() == [True]
    assert found.decisions.tolist() == [2]
    alone = replace(found, faithful=torch.tensor([[True, True]]))
    assert alone.warning() == "The map explains class 1, but on the whole image the classifier decides for class 2."
    start = "class 1: not the decision. On the whole image the classifier decides for class 2; class 1 has "
    assert found.text().startswith(start)
    assert alone.doubts() == ["not the decision"]
    # with another doubt, this comes first all the same
    assert found.faithful.tolist() == [[True, False]]
    assert found.doubts() == ["not the decision", "not enough"]
    assert found.warning() == (
        f"{alone.warning()} Do not rely on the 50% of the pixels shown: with all others blurred the classifier decides "
        "for class 2, not for class 1. They are enough only with all others black."
    )
    assert list(found.as_dict())[:3] == ["class", "is the decision", "text"]
    assert found.as_dict()["is the decision"] is False
    figure = one_image.explanation(pictures[0], halves[0], found)
    assert figure.axes[0].get_title().startswith("NOT THE DECISION\nclass 1: ")
    assert figure.texts[0].get_text().startswith("The map explains class 1, but")
    plt.close(figure)
    # no line of a grid contradicts another
    figure = figures.grid([list(pictures), list(halves)], ["a"])
    figures.annotate(figure.axes[1:], found)
    assert figure.axes[1].get_xlabel().split("\n")[3:] == ["black: 15%", "blurred: no", "not the decision"]
    plt.close(figure)


def test_a_batch_is_its_images_one_by_one(classifier, pixels):
    maps = torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(5))
    targets = torch.tensor([0, 3, 3, 6])
    whole = evidence(classifier, pixels, targets, maps)
    torch.testing.assert_close(whole.whole, confidence(classifier, pixels, targets))
    shown = first_pixels(resize(normalise(maps), pixels.shape[-2:]), 0.25)
    for k, fill in enumerate((0 * pixels, blurred(pixels))):
        kept, rest = torch.where(shown[:, None], pixels, fill), torch.where(shown[:, None], fill, pixels)
        torch.testing.assert_close(whole.kept[:, k], confidence(classifier, kept, targets))
        torch.testing.assert_close(whole.rest[:, k], confidence(classifier, rest, targets))
    for i, one in enumerate(whole):
        alone = evidence(classifier, pixels[i : i + 1], targets[i : i + 1], maps[i : i + 1])
        assert (one.text(), one.warning()) == (alone.text(), alone.warning()) == (whole.text(i), whole.warning(i))
        torch.testing.assert_close(one.rest, alone.rest)
        torch.testing.assert_close(one.share, alone.share, equal_nan=True)
    assert i == 3
    assert len(whole[-1]) == 1


def test_json_has_the_numbers_and_the_same_sentences():
    found = evidence(Quarter(), WHITE, BRIGHT, ramp(False))
    told = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert (told["text"], told["warning"]) == (found.text(), found.warning())
    assert told["class"] == {"number": 1, "name": "bright"}
    assert (told["shown"], told["enough"]) == (0.25, {"black": 0.9, "blurred": 0.01})
    assert told["kept"]["black"]["decision"] == {"number": 0, "name": "dark"}
    assert told["kept"]["black"]["probability"] == pytest.approx(sure(0), abs=1e-6)
    assert told["removed"]["black"] == {
        "probability": pytest.approx(sure(1), abs=1e-6), "decision": told["class"], "decided": True,
    }  # fmt: skip
    assert told["filled all over"]["black"] == {"probability": pytest.approx(sure(0), abs=1e-6), "decided": False}
    nothing = evidence(Quarter(), WHITE, BRIGHT, torch.ones(1, 4, 4)).as_dict()
    assert nothing["enough"] == {"black": None, "blurred": None}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0%"), (1e-5, "under 0.1%"), (0.004, "0.4%"), (0.01, "1%"), (0.25, "25%"), (0.9951, "over 99%"), (1, "100%")],
)
def test_a_percentage_is_never_all_or_nothing_by_rounding(value, shown):
    assert percent(value) == shown


def test_the_number_of_questions_is_as_promised():
    net = Quarter()
    three = WHITE.expand(3, -1, -1, -1), torch.ones(3, dtype=torch.int64), ramp().expand(3, -1, -1)
    known = evidence(net, *three, share=0.5, shares=(0.1, 0.15, 0.2, 0.5))
    # black: 0.1 fails, 0.15 is enough; blurred: 0.1 is
    assert sum(net.asked) == 3 * 6 + 1 + 3 * 2 + 3
    net.asked.clear()
    at_share(known, net, three[0], three[2], 0.3)
    assert net.asked == [3] * 4
    net.asked.clear()
    evidence(net, WHITE, BRIGHT, torch.ones(1, 10, 10), shares=(0.1, 0.5))
    assert sum(net.asked) == 6 + 1 + 2 * 2


def test_any_method_is_explained_with_evidence():
    def right(pixels, targets):
        assert targets.tolist() == [1]
        return ramp()

    explainer = type("Explainer", (), {"explain": staticmethod(right)})()
    for method in (right, Method("right", right, 0, 0, "test"), explainer):
        maps, found = explain_with_evidence(method, Quarter(), WHITE, share=0.2)
        assert maps.equal(ramp())
        assert found.share[:, 0].tolist() == [0.15]
        assert found.shown.tolist() == [0.2]
    assert explain_with_evidence(lambda p, t: ramp(), Quarter(), WHITE, torch.tensor([0]))[1].targets.tolist() == [0]
    with pytest.raises(ValueError, match="'ground truth' is given the truth"):
        explain_with_evidence(Method("ground truth", truth_map, 0, 0, "control", sees_truth=True), Quarter(), WHITE)


@pytest.mark.parametrize(
    ("targets", "maps", "shares", "message"),
    [
        ([1, 1], torch.ones(1, 4, 4), (0.5,), r"1 targets .* got targets of shape \(2,\)"),
        ([1], torch.ones(1, 1, 4, 4), (0.5,), r"maps of \(1, 1, 4, 4\)"),
        ([2], torch.ones(1, 4, 4), (0.5,), r"0\.\.1, got 2"),
        ([1], torch.full((1, 4, 4), torch.nan), (0.5,), "not finite"),
        ([1], torch.ones(1, 4, 4), (0.5, 1.0), "between 0 and 1"),
    ],
)
def test_what_does_not_belong_together_is_refused(targets, maps, shares, message):
    with pytest.raises(ValueError, match=message):
        evidence(Quarter(), WHITE, torch.tensor(targets), maps, shares=shares)


class Two(nn.Module):
    """Two labels, each decided alone: ``left`` if that half is brighter than 0.2, ``right`` if brighter than 0.4."""

    labels, multi_label = ("left", "right"), True

    def forward(self, pixels):
        halves = torch.stack([pixels[..., :5].mean((1, 2, 3)), pixels[..., 5:].mean((1, 2, 3))], 1)
        return 10 * (halves - torch.tensor([0.2, 0.4]))


def test_a_label_of_a_multi_label_classifier_is_judged_by_its_own_sigmoid():
    """A white image has both labels, with 8 and 6: a softmax would not decide for the second, its own sigmoid does."""
    both, half = torch.tensor([0, 1]), torch.zeros(2, 10, 10)
    half[0, :, :5], half[1, :, 5:] = 1, 1
    found = evidence(Two(), WHITE.expand(2, -1, -1, -1), both, half, share=0.5)
    for name, logits in {"whole": (8.0, 6.0), "kept": (8.0, 6.0), "rest": (-2.0, -4.0)}.items():
        values = getattr(found, name) if name == "whole" else getattr(found, name)[:, 0]
        torch.testing.assert_close(values, torch.tensor(logits, dtype=torch.float64).sigmoid(), atol=1e-6, rtol=0)
    assert found.decided.tolist() == [True] * 2
    assert found.faithful.all()
    assert found.rest_too[:, 0].tolist() == [False] * 2
    assert [found.doubt(0), found.doubt(1)] == ["", ""]
    enough = "enough to find left (over 99%; no smaller part that was tried is)"
    assert f"{enough}, and with them black instead, left has 12%" in found.text()
    single = Two()
    single.multi_label = False
    assert "not enough" in evidence(single, WHITE, both[1:], half[1:], share=0.5).doubts()  # blurred, both are there
    swapped = evidence(Two(), WHITE, both[1:], half[:1], share=0.5)  # the left half says nothing about the right one
    assert swapped.warning() == (
        "Do not rely on the 50% of the pixels shown: with all others black the classifier does not find right."
    )
    absent = WHITE.clone()
    absent[..., 5:] = 0.39  # just below what it needs
    told = evidence(Two(), absent, both[1:], half[1:])[0]
    assert (told.decided.tolist(), told.faithful[0, 0].tolist(), told.multi_label) == ([False], False, True)


def test_a_label_that_is_found_only_by_its_mask_is_not_the_decision():
    class Brightest(Two):
        """``left`` is there where nothing is right of it."""

        def forward(self, pixels):
            left, right = pixels[..., :5].mean((1, 2, 3)), pixels[..., 5:].mean((1, 2, 3))
            return torch.stack([left - right - 0.5, -torch.ones(len(pixels))], 1)

    half = torch.zeros(1, 10, 10)
    half[..., :5] = 1
    found = evidence(Brightest(), WHITE, torch.tensor([0]), half, share=0.5)
    assert found.decisions.tolist() == [0]  # its logit, -0.5, is the largest all the same
    assert found.faithful.tolist() == [[True, False]]
    black = replace(found, faithful=torch.tensor([[True, True]]))
    assert black.doubt() == "not the decision"
    assert black.warning() == "The map explains left, but on the whole image the classifier does not find it."


def test_the_figure_shows_the_pixels_asked_about_the_numbers_and_the_warning():
    bad = evidence(Quarter(), WHITE, BRIGHT, ramp(False))
    figure = one_image.explanation(WHITE[0], ramp(False)[0], bad[0])
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:3] == ["bright: 99%", "first 25%, others black: 0.7%", "without them (black): 99%"]
    assert titles[3:] == ["map", "first 25%, others blurred: 99%", "without them (blurred): 99%"]
    shown = [torch.as_tensor(axis.images[-1].get_array()) for axis in figure.axes]
    expected = bad.pixels_shown[0, ..., None].float().expand(-1, -1, 3)
    torch.testing.assert_close(shown[1], expected)
    torch.testing.assert_close(shown[2], 1 - expected)
    words = " ".join(" ".join(text.get_text() for text in figure.texts).split())
    assert bad.text() in words
    assert bad.warning() in words
    plt.close(figure)
    good = evidence(Quarter(), WHITE, BRIGHT, ramp())
    figure = one_image.explanation(WHITE[0], ramp()[0], good, labels=["no", "yes"])
    assert "yes" in figure.axes[0].get_title()
    assert len(figure.texts) == 1
    plt.close(figure)


@pytest.mark.parametrize("shape", [(11, 11), (14, 11), (60, 11), (11, 17)])
def test_words_of_the_figure_do_not_touch_whatever_the_image_is_like(shape):
    """The middle is framed on the whole image; what is written below it stays above the next title."""
    found = evidence(Quarter(), WHITE, BRIGHT, ramp())
    figure = one_image.explanation(WHITE[0], ramp()[0], found, whole=torch.ones(3, *shape))
    figure.canvas.draw()
    said, title = figure.axes[0].xaxis.label.get_window_extent(), figure.axes[3].title.get_window_extent()
    assert said.y0 > title.y1
    assert all(axis.title.get_window_extent().y1 < figure.bbox.height + 1 for axis in figure.axes)
    plt.close(figure)


def test_images_of_a_grid_are_annotated_with_their_own_evidence():
    both = evidence(Quarter(), WHITE.expand(2, -1, -1, -1), torch.tensor([1, 1]), torch.cat([ramp(), ramp(False)]))
    figure = figures.grid([list(WHITE.expand(2, -1, -1, -1)), [ramp()[0], ramp(False)[0]]], ["a", "b"])
    figures.annotate(figure.axes[2:], both)
    good, bad = figure.axes[2:]
    assert good.get_xlabel().split("\n") == ["whole 99%", "kept 99%", "rest 0.7%", "black: 15%", "blurred: –"]
    assert bad.get_xlabel().split("\n") == ["whole 99%", "kept 0.7%", "rest 99%", "black: no", "blurred: –"]
    assert "on the 25% of the pixels that the map puts first" in " ".join(figure.get_supxlabel().split())
    assert (bad.xaxis.label.get_color(), good.xaxis.label.get_color() == figures.DOUBT) == (figures.DOUBT, False)
    figures.annotate(figure.axes[:1], both[1], whole=False)
    assert figure.axes[0].get_xlabel().startswith("kept 0.7%")
    plt.close(figure)


def test_captions_of_a_grid_do_not_touch():
    """Neither beside nor below each other, and they take no room of the pictures."""
    pixels, maps = WHITE.expand(8, -1, -1, -1), torch.cat([ramp(), ramp(False)] * 4)
    proof = evidence(Quarter(), pixels, torch.tensor([1, 0] * 4), maps)
    figure = figures.grid([list(pixels), list(maps)] * 2, [f"column {i}" for i in range(8)], ["decides"] * 4)
    for row in (1, 3):
        figures.annotate(figure.axes[8 * row : 8 * row + 8], proof)
    figure.canvas.draw()
    sides = [axis.get_window_extent().width for axis in figure.axes]
    assert min(sides) > 0.85 * figure.get_size_inches()[0] * figure.dpi / 8
    assert max(sides) - min(sides) < 1
    texts = [axis.xaxis.label.get_window_extent() for axis in figure.axes if axis.get_xlabel()]
    pictures = [axis.get_window_extent() for axis in figure.axes]
    assert len(texts) == 16
    assert not any(a.overlaps(b) for i, a in enumerate(texts) for b in [*texts[:i], *pictures])
    plt.close(figure)


def test_methods_come_in_pages_as_even_as_can_be():
    assert figures.pages(list("abcdef")) == [["a", "b", "c"], ["d", "e", "f"]]
    assert figures.pages(["a"]) == [["a"]]


def test_each_method_has_its_maps_and_below_them_the_pixels_it_puts_first():
    maps = {"one": ramp(), "two": ramp(False)}
    proofs = {name: evidence(Quarter(), WHITE, torch.tensor([1]), m) for name, m in maps.items()}
    figure = figures.methods(WHITE, ["decides 1"], {"truth": ramp()}, maps, proofs)
    upper, lower = figure.axes[:4], figure.axes[4:]
    assert [axis.get_title() for axis in upper] == ["image", "truth", "one", "two"]
    assert [axis.get_xlabel().split("\n")[0] for axis in lower] == ["", "", "kept 99%", "kept 0.7%"]
    drawn = torch.from_numpy(lower[2].images[0].get_array().data.copy())
    assert torch.equal(drawn[..., 0] > 0, proofs["one"].pixels_shown[0])
    plt.close(figure)
