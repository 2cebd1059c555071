"""What an explainer's file says is read without trust: as text, bounded, left out or refused."""

import json
import re
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from refusals import HOSTILE, Refused, assert_answer, is_one_line, refused, toy_auxiliary, toy_classifier, toy_explainer

from ptame_lib import PTAME, Explainer, explain_with_evidence, files
from ptame_lib.explainers.card import in_one_line, model_card
from ptame_lib.explainers.metadata import about, follows
from ptame_lib.texts import MOST, printable

TAGS = re.compile(r"<(/?\w+)")


def everywhere(text):
    """Metadata with ``text`` wherever a text can be."""
    as_json = {
        "labels": [text, "b", "c"],
        "training": {text: text, "loss": {text: 1.0}, "steps": text},
        "metrics": {text: 1.0},
    }
    names = dict.fromkeys(("classifier", "images", "profile", "seed", "licence", "weights"), text)
    return {key: value.encode("utf-8", "replace").decode() for key, value in names.items()} | {
        key: json.dumps(value) for key, value in as_json.items()
    }


@pytest.mark.parametrize("name", HOSTILE)
def test_a_card_obeys_no_text(name, place):
    """It has the elements of a harmless card, and its one line of code still names the classifier."""
    markdown = pytest.importorskip("markdown")
    cards = [model_card(place.saved(**everywhere(text))) for text in ("harmless", HOSTILE[name])]
    (_, _, harmless), (_, header, hostile) = (card.split("---\n", 2) for card in cards)
    assert yaml.safe_load(header)["license"] == printable(everywhere(HOSTILE[name])["licence"], MOST)
    assert yaml.safe_load(header).keys() == {"license", "library_name", "tags"}
    elements = [
        TAGS.findall(markdown.markdown(text, extensions=["tables", "fenced_code"])) for text in (harmless, hostile)
    ]
    assert elements[0] == elements[1]
    assert hostile.count("\n") == harmless.count("\n")
    assert all(is_one_line(line) for line in cards[1].split("\n"))
    code = hostile.split("```python\n")[1].split("\n```")[0]
    compile(code, "card", "exec")
    assert code.count("\n") == harmless.split("```python\n")[1].split("\n```")[0].count("\n")


@pytest.mark.parametrize("name", HOSTILE)
def test_the_lines_of_a_terminal_obey_no_text(name, place):
    assert is_one_line(in_one_line(place.saved(**everywhere(HOSTILE[name]))))
    assert len(in_one_line(place.saved(**everywhere(HOSTILE[name])))) < 2000
    classifier = toy_classifier()
    classifier.labels = (HOSTILE[name],) * 3
    _, proof = explain_with_evidence(toy_explainer(), classifier, torch.rand(4, 3, 16, 16))
    for i in range(4):
        assert is_one_line(proof.text(i) + proof.warning(i))
        assert len(proof.text(i)) < 2000  # each sentence names the class, to be quoted alone


DEEP = "[" * 100_000 + "]" * 100_000
LEFT_OUT = {  # what only informs: (key, stored text)
    "training is a text": ("training", "a recipe"),
    "training is a list": ("training", "[1, 2]"),
    "training is deep": ("training", '{"a":' * 100_000 + "1" + "}" * 100_000),
    "metrics are a text": ("metrics", "92 %"),
    "a metric is a text": ("metrics", '{"faithful": "good", "images": 4}'),
    "a metric is too large": ("metrics", '{"faithful": 1' + "0" * 400 + ', "images": 4}'),
    "a number of too many digits": ("metrics", '{"faithful": 1' + "0" * 5000 + ', "images": 4}'),
    "metrics are deep": ("metrics", DEEP),
    "labels are one text": ("labels", "abc"),
    "labels are numbers": ("labels", "[1, 2, 3]"),
    "labels are deep": ("labels", DEEP),
    "channels are names": ("channels", '["a"]'),
    "channels are deep": ("channels", DEEP),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_only_informs_stops_nothing(name, place):
    key, text = LEFT_OUT[name]
    file = place.saved(classifier="toy", **{key: text})
    with pytest.warns(UserWarning, match=rf"e\.safetensors says under '{key}' what is not .*: it is left out"):
        known = about(file)
    assert key not in known
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert in_one_line(file) == "e.safetensors: P-TAME for toy, 3 classes."
        assert "# P-TAME for toy" in model_card(file)
    assert PTAME.load(file, toy_auxiliary()).num_classes == 3


@pytest.mark.parametrize(
    "training", [{"lr": 1}, {}, {"steps": None}, {"loss": {"ce": "x"}}, {"loss": [], "steps": [1]}]
)
def test_settings_need_not_be_ours(training, place):
    file = place.saved(training=json.dumps(training))
    assert about(file)["training"] == training
    assert in_one_line(file).startswith("e.safetensors: P-TAME for an unnamed classifier, 3 classes")
    assert "## How it was trained" in model_card(file)


def loaded(place, change=lambda state: state, **metadata):
    return PTAME.load(place.saved(change, **metadata), toy_auxiliary())


def fuser(change):
    return lambda state: state | {"fuser.weight": change(state["fuser.weight"])}


def official(place, change):
    state = change(toy_explainer().trained_state())
    file = place.torch("a.ckpt", {"state_dict": {f"net.attention.{key}": value for key, value in state.items()}})
    assert file.stat().st_size < 2**20
    return PTAME.load_official_checkpoint(file, toy_auxiliary())


def expanded(weight):
    return weight[:1].expand(10**9, *weight.shape[1:])


# name: (what is done in a place, what must come of it)
ROWS = {
    "more classes than numbers": (
        lambda place: loaded(place, num_classes="2000000000"),
        refused(r"e\.safetensors says that it explains 2000000000 classes, but holds only \d+ numbers: train"),
    ),
    "more classes than rows": (
        lambda place: loaded(place, num_classes="20"),
        refused(r"e\.safetensors does not fit .*fuser\.weight has shape \(3, .*expected \(20, "),
    ),
    "classes of an Explainer": (
        lambda place: Explainer.load(place.saved(format="explainer-1", architecture="small", num_classes="2000000000")),
        refused(r"says that it explains 2000000000 classes, but holds only"),
    ),
    "classes beyond any integer": (lambda place: loaded(place, num_classes="1" + "0" * 30), refused("holds only")),
    "classes of too many digits": (lambda place: loaded(place, num_classes="1" * 5000), refused("can't be read")),
    "a billion classes in a small checkpoint": (
        lambda place: official(place, fuser(expanded)),
        refused(r"a\.ckpt is refused: .*fuser\.weight has shape \(1000000000, .* holds only \d+ numbers of it"),
    ),
    "sparse parameters in a checkpoint": (
        lambda place: official(place, fuser(lambda weight: weight.to_sparse())),
        refused(r"a\.ckpt is refused: .*fuser\.weight is not a plain tensor"),
    ),
    "parameters without values in a checkpoint": (
        lambda place: official(place, fuser(lambda weight: torch.empty(10**9, *weight.shape[1:], device="meta"))),
        refused(r"a\.ckpt is refused: .*fuser\.weight is not a plain tensor"),
    ),
    "layers are numbers": (
        lambda place: loaded(place, layers="[1, 2]"),
        refused(r"e\.safetensors has layers that are no list of names: train"),
    ),
    "layers are nested": (lambda place: loaded(place, layers='[["l1"]]'), refused("layers that are no list of names")),
    "layers are deep": (lambda place: loaded(place, layers=DEEP), refused(r"metadata that can't be read .*: train")),
    "names of another number": (
        lambda place: about(place.saved(labels='["a", "b"]')),
        refused(r"e\.safetensors has 2 names for 3 classes: train"),
    ),
    **{
        f"size of images {size}": (
            lambda place, size=size: about(place.saved(input_size=size)),
            refused(r"e\.safetensors (has an input_size that is not|says that it is for images of)"),
        )
        for size in ("64", "[64]", '["64", "64"]', "[0, 64]", "[64, 2000000000]", "[64.0, 64.0]", DEEP, "x")
    },
    **{
        f"weights of {dtype}": (
            lambda place, dtype=dtype: loaded(place, fuser(lambda weight: weight.to(dtype))),
            refused(rf"e\.safetensors does not fit .*fuser\.weight is of {dtype}, expected torch\.float32\. Train"),
        )
        for dtype in (torch.int8, torch.bool, torch.complex64, torch.uint8, torch.int64, torch.float8_e4m3fn)
    },
    "weights too large for float32": (
        lambda place: loaded(place, fuser(lambda weight: torch.full_like(weight, 1e300, dtype=torch.float64))),
        refused("fuser.weight has values that are not finite"),
    ),
    **{
        f"weights of {dtype}": (
            lambda place, dtype=dtype: loaded(place, fuser(lambda weight: weight.to(dtype))),
            lambda found: found.fuser.weight.dtype == torch.float32,
        )
        for dtype in (torch.float16, torch.bfloat16, torch.float64)
    },
}


@pytest.mark.parametrize("name", ROWS)
def test_bad_input(name, place):
    act, expected = ROWS[name]
    assert_answer(lambda: act(place), expected)
    assert isinstance(expected, Refused) or "weights of torch" in name


def test_loading_draws_no_other_random_numbers_than_before(place):
    """One explainer is built, as ever: the shapes are compared on another that has none."""
    file = place.saved()
    torch.manual_seed(0)
    toy_explainer()
    expected = torch.rand(3)
    auxiliary = toy_auxiliary()
    torch.manual_seed(0)
    toy_auxiliary(), PTAME.load(file, auxiliary)
    assert torch.rand(3).equal(expected)


@pytest.mark.parametrize(("low", "answer"), [(5.0, "yes"), (0.1, "weakly"), (0.0, "no"), (-7.5, "no"), (None, "")])
def test_whether_an_explainer_follows_its_classifier_is_said_by_the_interval(tmp_path, low, answer):
    metrics = {"images": 40} | ({} if low is None else {"moved": 60.0, "moved more": 9.0, "from": low, "to": 20.0})
    assert follows(metrics) == answer
    file = tmp_path / "e.safetensors"
    toy_explainer().save(file, metrics=metrics)
    assert f"**Follows its classifier: {answer or 'not measured'}.**" in model_card(file)


def test_of_too_few_images_a_card_says_so(tmp_path):
    """Such metrics say how often decisions moved, but not within which interval."""
    file = tmp_path / "e.safetensors"
    toy_explainer().save(file, metrics={"images": 3, "moved": 37.5, "moved more": -12.5})
    assert "**Follows its classifier: too few held-out images to tell.**" in model_card(file)


@pytest.mark.parametrize(
    ("mask", "learned"),
    [
        ("sigmoid", "with as little of the image as possible."),
        ("matched", "on the first pixels of its maps, shares of the image that are given."),
        ("swap", "it learned which pixels take the classifier's own decision along when they are moved"),
        ("shapley", "it learned the Shapley values of patches, from the classifier's probabilities without some"),
        (["no", "name"], "with as little of the image as possible."),
    ],
)
def test_a_card_says_what_the_training_asked_for(tmp_path, mask, learned):
    file = tmp_path / "e.safetensors"
    toy_explainer().save(file, training={"mask": mask})
    card = model_card(file)
    assert learned in card
    assert ("as little" in card) == ("as little" in learned)


def test_the_cards_of_shipped_explainers_are_of_their_files():
    for file in files.explainers().glob("*.safetensors"):
        assert model_card(file) == Path(f"{file}.md").read_text(encoding="utf-8")
