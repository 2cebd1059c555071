"""Arguments of the command that are refused."""

import pytest
from refusals import ROOM, assert_answer, refused

from ptame_lib import TrainingConfig
from ptame_study.command import actions, training
from ptame_study.settings import AuxiliarySettings, ClassifierSettings, ImageSettings


def train(folder, out):
    auxiliary = AuxiliarySettings("embedded/auxiliary")
    images = ImageSettings(str(folder))
    return training.train(ClassifierSettings("embedded/vgg"), auxiliary, images, TrainingConfig(), out)


# name: (what is done in a place, what must come of it)
ROWS = {
    "class of the command": (
        lambda place: actions.find_class("12", 10, None),
        refused(r"no class 12: give a number in 0\.\.9"),
    ),
    "class of a name that many have": (
        lambda place: actions.find_class("crane", 4, ["crane", "dog", "crane", "crane"]),
        refused("3 classes have the name crane: choose one by its number, #0, #2, #3"),
    ),
    "class of a name that is another's number": (
        lambda place: actions.find_class("1", 3, ["1", "5", "0"]),
        refused("1 is the name of class #0 and the number of class 5: choose #0 or #1"),
    ),
    "class of five thousand digits": (
        lambda place: actions.find_class("9" * 5000, 10, None),
        refused(r"the classifier has no class 9{20,}\.\.\. \(5000 letters\): give a number in 0\.\.9"),
    ),
    "class of a number with zeros before it": (lambda place: actions.find_class("007", 10, None), lambda c: c == 7),
    "class of a number as its own name": (lambda place: actions.find_class("2", 3, "012"), lambda c: c == 2),
    "class by a name that is no class's number": (lambda place: actions.find_class("5", 2, "35"), lambda c: c == 1),
    "class by its number in any case": (lambda place: actions.find_class("#1", 3, ["1", "5", "0"]), lambda c: c == 1),
    "class by a number of many names": (lambda place: actions.find_class("2", 3, ["a", "a", "a"]), lambda c: c == 2),
    "class of a number beyond the last": (
        lambda place: actions.find_class("#3", 3, "abc"),
        refused(r"no class #3: give a number in 0\.\.2, or one of its names"),
    ),
    "class without a name": (
        lambda place: actions.find_class("", 3, "abc"),
        refused(r"no class '': give a number in 0\.\.2, or one of its names"),
    ),
    "class of blanks": (
        lambda place: actions.find_class(" \t", 10, None),
        refused(r"no class ' \\t': give a number in 0\.\.9"),
    ),
    "class of digits that are no number": (
        lambda place: actions.find_class("²", 10, None),
        refused(r"no class ²: give a number in 0\.\.9"),
    ),
    "labels that are no text": (
        lambda place: training.read_labels(place.file("l.txt", b"\xff\xfe\x00")),
        refused(r"l\.txt is no text in UTF-8 .*: save it so"),
    ),
    "training for a folder that is a file": (
        lambda place: train(place.folder, place.file("notes.txt") / "e.safetensors"),
        refused(r"notes\.txt is a file: name a folder, which need", OSError),
    ),
    "training for a full disk": (
        lambda place: place.small_disk("a.txt", lambda f: train(place.folder, f.with_name("e.safetensors"))),
        refused(ROOM.format(r"e\.safetensors"), OSError),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_bad_input(name, place):
    act, expected = ROWS[name]
    assert_answer(lambda: act(place), expected)
