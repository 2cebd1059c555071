"""Evaluations, tables and test images that are refused, and a damaged cache."""

import pandas as pd
import pytest
from PIL import Image
from refusals import MAPS, NAN, Items, Says, assert_answer, refused, toy_classifier

from ptame_study import cache, evaluation, tables
from ptame_study.images import load_parts
from ptame_study.settings import ImageSettings


def held_out(folder, count):
    return load_parts(ImageSettings(str(folder), test_images=count), ["test"], toy_classifier())


class Stub:
    """A method that gives these maps."""

    name, forwards, backwards, source, normalised = "mine", 1, 0, "here", True

    def __init__(self, maps, sees_truth=False):
        self.maps, self.sees_truth = maps, sees_truth

    def __call__(self, pixels, targets):
        return self.maps.expand(len(pixels), *self.maps.shape[1:])


def evaluate(maps=MAPS[:1], net=None, data=None, sees_truth=False, **options):
    return evaluation.evaluate(
        toy_classifier(net), Stub(maps, sees_truth), Items() if data is None else data, curves=False, **options
    )[0]


def cached(place, *_):
    table = pd.DataFrame({"a": [1]})
    return cache.cached(place / "v.csv", {"x": 1}, lambda: (table, table))[0]


# name: (what is done in a place, what must come of it)
ROWS = {
    "NaN while evaluating": (
        lambda place: evaluate(net=Says(NAN)),
        refused("gave nan for image 1 of the batch: check", FloatingPointError),
    ),
    "NaN in a method's map": (
        lambda place: evaluate(MAPS[:1] * NAN),
        refused("map 0 has values that are not finite: check mine"),
    ),
    "a method's map with a channel": (
        lambda place: evaluate(MAPS[:1, None]),
        refused(r"got \(2, 1, 4, 4\): check mine"),
    ),
    "a control without its truth": (
        lambda place: evaluate(sees_truth=True),
        refused("'mine' is given the truth, which these images do not have: leave it out"),
    ),
    "no images to evaluate": (
        lambda place: evaluate(data=Items(0)),
        refused("no images to explain with mine: give at least one"),
    ),
    "a batch larger than the data": (lambda place: evaluate(batch_size=99), lambda values: len(values) == 2),
    "batch of 0": (
        lambda place: evaluate(batch_size=0),
        refused("batch_size must be a whole number of at least 1, got 0: raise it"),
    ),
    "damaged cache of values is made again": (
        lambda place: cached(place, place.file("v.csv"), place.file("v.json", "{")),
        lambda values: values["a"].tolist() == [1],
    ),
    "unknown metric": (
        lambda place: tables.wins(pd.DataFrame(), metrics=["AD99"]),
        refused("unknown metric 'AD99': choose from AD100, "),
    ),
    "more test images than there are": (
        lambda place: held_out(place.image("a.png", Image.new("RGB", (40, 20))).parent, 5),
        refused("has 1 images, too few for test_images=5"),
    ),
    "all images as test images": (
        lambda place: held_out(place.image("a.png", Image.new("RGB", (40, 20))).parent, 1),
        lambda found: len(found[0]) == 1,
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_bad_input(name, place):
    act, expected = ROWS[name]
    assert_answer(lambda: act(place), expected)
