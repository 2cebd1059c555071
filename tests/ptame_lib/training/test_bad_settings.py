"""Training settings, images and checkpoints that are refused."""

import re
from dataclasses import fields

import pytest
from refusals import NAN, PIXELS, Code, Items, Says, assert_answer, refused, toy_classifier, toy_explainer

from ptame_lib import ExplainerConfig, TrainingConfig, train_ptame


def resumed(place, content):
    file = place.file("c.pt", content) if isinstance(content, bytes) else place.torch("c.pt", content)
    return train_ptame(
        toy_explainer(), toy_classifier(), Items(), TrainingConfig(steps=1, batch_size=2), checkpoint=file, resume=True
    )


# name: (what is done in a place, what must come of it)
ROWS = {
    "pickle as training checkpoint": (
        lambda place: resumed(place, {"config": Code()}),
        refused(r"c\.pt can't be read as a training checkpoint .*: delete it and start with resume=False"),
    ),
    "no training checkpoint": (
        lambda place: resumed(place, b"hello"),
        refused(r"c\.pt can't be read as a training checkpoint .*: delete it"),
    ),
    "negative learning rate": (
        lambda place: TrainingConfig(lr=-0.1),
        refused("lr can't be -0.1: give a finite number"),
    ),
    "rate that rises for longer than the training": (
        lambda place: TrainingConfig(warmup=1.5),
        refused(r"warmup is a share of the steps, in \[0, 1\], got 1\.5"),
    ),
    "temperature of 0": (lambda place: TrainingConfig(temperature=0), refused("can't be 0: give a number above 0")),
    "share as text": (lambda place: TrainingConfig(shares=["0.5"]), refused(r"shares\[0\] can't be '0\.5': give a")),
    "shares as text": (lambda place: TrainingConfig(shares="0.5"), refused(r"some numbers in \(0, 1\], got '0\.5': 1")),
    "a share alone": (
        lambda place: TrainingConfig(shares=0.5),
        refused(r"some numbers in \(0, 1\], got 0\.5: 1 keeps"),
    ),
    "patience that trains nothing": (
        lambda place: ExplainerConfig(patience=0),
        refused("patience must be a whole number of at least 1, got 0: raise it"),
    ),
    "negative steps between validations": (
        lambda place: ExplainerConfig(validate_every=-1),
        refused("validate_every must be a whole number of at least 0, got -1"),
    ),
    "batches of half an image": (lambda place: ExplainerConfig(batch_size=0.5), refused("batch_size must be a whole")),
    "negative steps of the Explainer": (lambda place: ExplainerConfig(steps=-1), refused("steps must be .*, got -1")),
    "learning rate that is no number": (lambda place: ExplainerConfig(lr=NAN), refused("lr can't be nan: give a")),
    "learning rate as text": (lambda place: ExplainerConfig(lr="1e-4"), refused("lr can't be '1e-4': give a finite")),
    "negative difference": (lambda place: ExplainerConfig(min_delta=-1.0), refused(r"min_delta can't be -1\.0: give")),
    "unknown precision": (
        lambda place: TrainingConfig(precision="half"),
        refused("unknown precision 'half': choose one of no, bf16, fp16"),
    ),
    "unknown precision of the Explainer": (
        lambda place: ExplainerConfig(precision="int8"),
        refused("unknown precision 'int8': choose one of no, bf16, fp16"),
    ),
    "negative seed": (
        lambda place: TrainingConfig(seed=-1),
        refused("seed must be a whole number of at least 0, got -1"),
    ),
    "training in 0..255": (
        lambda place: train_ptame(
            toy_explainer(), toy_classifier(), Items(pixels=255 * PIXELS[0]), TrainingConfig(steps=1, batch_size=2)
        ),
        refused(r"pixels must be in \[0,1\], got .*: divide by 255"),
    ),
    "no steps": (
        lambda place: train_ptame(toy_explainer(), toy_classifier(), Items(), TrainingConfig(steps=0, batch_size=2)),
        refused("steps must be a whole number of at least 1, got 0"),
    ),
    "regions without swaps": (
        lambda place: train_ptame(
            toy_explainer(), toy_classifier(), Items(), TrainingConfig(steps=1, batch_size=2, regions=20.0)
        ),
        refused(r"regions=20 is a term beside swaps, but mask is 'sigmoid': train Swap-TAME with swap_config"),
    ),
    "swaps of a single image": (
        lambda place: train_ptame(
            toy_explainer(), toy_classifier(), Items(), TrainingConfig(steps=1, batch_size=1, mask="swap")
        ),
        refused("batch_size must be a whole number of at least 2, got 1"),
    ),
    "swaps for another number of classes": (
        lambda place: train_ptame(
            toy_explainer(1), toy_classifier(Says(9.0)), Items(), TrainingConfig(steps=1, batch_size=2, mask="swap")
        ),
        refused(r"classes must be in 0\.\.0, got 0\.\.1: take the classifier's own"),
    ),
    "training batch larger than the data": (
        lambda place: train_ptame(toy_explainer(), toy_classifier(), Items(), TrainingConfig(steps=1, batch_size=32)),
        refused("2 training images are fewer than one batch of 32: give more images or a smaller batch_size"),
    ),
}


NUMBERS = [f.name for f in fields(TrainingConfig) if f.type in ("int", "float")]


@pytest.mark.parametrize("value", ["20", None, True, NAN, [1]], ids=repr)
@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_no_number_is_refused_with_name_value_and_remedy(name, value):
    says = rf"^{name} (can't be|must be .*, got) {re.escape(repr(value))}: (give|raise)"
    assert_answer(lambda: TrainingConfig(**{name: value}), refused(says))


@pytest.mark.parametrize("value", ["False", None, NAN, 2.0], ids=repr)
@pytest.mark.parametrize("name", ["loss", "tied", "mapped"])
def test_what_is_no_number_takes_its_own_type_alone(name, value):
    says = rf"^{name} can't be {re.escape(repr(value))}: give (PTAMEWeights|True or False)$"
    assert_answer(lambda: TrainingConfig(**{name: value}), refused(says, TypeError))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", ROWS)
def test_bad_settings(name, place):
    act, expected = ROWS[name]
    assert_answer(lambda: act(place), expected)
