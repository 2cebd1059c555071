"""Parameters and profiles that are refused."""

import pytest
from refusals import INF, NAN, assert_answer, refused

from ptame_study import profiles
from ptame_study.parameters import configure

WHOLE = "classifiers: [a]\nnotebooks: {b: {c: 1}}\n"


def configured(kind, value, **checks):
    return configure([f"x: {kind} = 1"], {"x": value}, **checks)


def make_profile(place, text, name="bad", **others):
    """Write profiles and load the one named ``name``."""
    for key, value in {name: text, **others}.items():
        place.file(f"workflow/profiles/{key}.yaml", value)
    return profiles.load_profile(name)


# name: (what is done in a place, what must come of it)
ROWS = {
    "number as text": (
        lambda place: configured("float", "1e-4"),
        refused(r"x must be a float, got '1e-4' of type str \(in YAML write 1\.0e-4", TypeError),
    ),
    "number that is none": (lambda place: configured("float", NAN), refused("x can't be nan: give a finite number")),
    "infinite number": (
        lambda place: configured("list[float]", [1.0, INF]),
        refused(r"x\[1\] can't be inf: give a finite number"),
    ),
    "half a step": (
        lambda place: configured("int", 1.5),
        refused(r"x must be a int, got 1\.5 of type float", TypeError),
    ),
    "negative steps": (
        lambda place: configured("int", -3, x=lambda n: n > 0),
        refused("x can't be -3: see the comment beside it"),
    ),
    "unknown choice": (
        lambda place: configured("str", "c", x=["a", "b"]),
        refused("unknown x 'c': choose one of a, b"),
    ),
    "parameter of another kind": (
        lambda place: configured("dict", {}),
        refused("x is declared as dict: declare it as one of str, int", TypeError),
    ),
    "unknown profile": (
        lambda place: make_profile(place, WHOLE) and profiles.load_profile("imagenett"),
        refused("unknown profile 'imagenett': there are bad in workflow/profiles"),
    ),
    "profile that is no YAML": (
        lambda place: make_profile(place, "classifiers: [a\nb: {"),
        refused(r"bad\.yaml is no YAML .*line 2.*: correct it"),
    ),
    "profile that is no text": (
        lambda place: make_profile(place, b"\xff\xfe"),
        refused(r"bad\.yaml is no YAML .*: correct it"),
    ),
    "profile that is a list": (
        lambda place: make_profile(place, "- a"),
        refused(r"bad\.yaml must hold 'classifiers' and 'notebooks'"),
    ),
    "one classifier without a list": (
        lambda place: make_profile(place, "classifiers: embedded/vgg\nnotebooks: {}"),
        refused(r"'classifiers' must be a list of names, got 'embedded/vgg': write \[embedded/vgg\]"),
    ),
    "notebook's settings as a number": (
        lambda place: make_profile(place, "classifiers: [a]\nnotebooks: {b: 3}"),
        refused(r"bad\.yaml: 'notebooks' must be a mapping of mappings, got \{'b': 3\}: see"),
    ),
    "classifier's settings as a list": (
        lambda place: make_profile(place, WHOLE + "per_classifier: {a: [1]}"),
        refused(r"'per_classifier' must be a mapping of mappings, got \{'a': \[1\]\}: see"),
    ),
    "classifiers that would share their files": (
        lambda place: make_profile(place, "classifiers: [a/b, a-b]\nnotebooks: {}"),
        refused(r"bad\.yaml: 'a/b' and 'a-b' would share files named a-b: rename one"),
    ),
    "seeds that are no numbers": (
        lambda place: make_profile(place, WHOLE + "seeds: ['1; touch y']"),
        refused(r"'seeds' must be a list of whole numbers that are not negative, got \['1; touch y'\]"),
    ),
    "profiles in a circle": (
        lambda place: make_profile(place, "extends: other", other="extends: bad"),
        refused("extend each other in a circle, bad -> other -> bad: take one 'extends' out"),
    ),
    "classifier that a profile has not": (
        lambda place: make_profile(place, WHOLE) and profiles.parameters_for("bad", "b", "vgg"),
        refused("unknown classifier 'vgg' in profile bad: it has a"),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_bad_input(name, place):
    act, expected = ROWS[name]
    assert_answer(lambda: act(place), expected)
