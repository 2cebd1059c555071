"""Parameters and profiles that are refused."""

import re

import pytest
from refusals import INF, NAN, assert_answer, refused

from ptame_study import paths, profiles, tables
from ptame_study.__main__ import main
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
    "whole number too large for a float": (
        lambda place: configured("float", 10**5000),
        refused("x can't be a whole number of 16610 bits: give one below 1e308"),
    ),
    "seeds of comparisons that are not made": (
        lambda place: make_profile(place, WHOLE + "seeds: [2]") and tables.write_seeds("bad"),
        refused(
            r"no comparison at results/bad/per_image/a-seed2\.csv: make it with "
            "`python -m ptame_study run 03_compare --profile bad --classifier a --seed 2`",
            FileNotFoundError,
        ),
    ),
    "seeds of a profile of labels": (
        lambda place: make_profile(place, "multi_label: [a]\nnotebooks: {}") and tables.write_seeds("bad"),
        refused("profile bad has no classifiers or no seeds to compare"),
    ),
    "half a step": (
        lambda place: configured("int", 1.5),
        refused(r"x must be an int, got 1\.5 of type float", TypeError),
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
    "seed below 0": (
        lambda place: configure(["seed: int = 0"], {"seed": -1}),
        refused("seed must be a whole number of at least 0, got -1"),
    ),
    "one of several seeds below 0": (
        lambda place: configure(["seeds: list[int] = [0]"], {"seeds": [0, -2]}),
        refused(r"seeds\[1\] must be a whole number of at least 0, got -2"),
    ),
    "no classifiers": (
        lambda place: configure(["classifiers: list[str] = ['a']"], {"classifiers": []}),
        refused("parameter classifiers is empty: name at least one"),
    ),
    "no seeds": (
        lambda place: configure(["seeds: list[int] = [0]"], {"seeds": []}),
        refused("parameter seeds is empty: name at least one"),
    ),
    "a method twice": (
        lambda place: configure(["methods: list[str] = []"], {"methods": ["RISE", "edges", "RISE"]}),
        refused("parameter methods names 'RISE' twice: once is enough"),
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
    "no processes": (
        lambda place: make_profile(place, WHOLE + "processes: 0"),
        refused(r"'processes' must be a whole number from 1, got 0"),
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


NO_NAMES = ("", ".", "..", "../x", "../../x", ".x", "a/b", "/x", "a b", "x\n", "x\\y", "~")


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_profiles_name_is_no_path(name, place, capsys):
    says = re.escape(f"profile can't be {name!r}: write letters, digits")
    for folder in (paths.results, paths.figures, paths.runs):
        with pytest.raises(ValueError, match=says):
            folder(name)
    with pytest.raises(ValueError, match=says):
        configure(['profile: str = "x"'], {"profile": name})
    for command in ("report", "seeds", "readme"):
        assert main([command, "--profile", name]) == 1
    assert not list(place.folder.iterdir())
    assert capsys.readouterr().err.count("ERROR: ") == 3


def test_plain_names_are_profiles():
    names = ("small", "table2-resnet50-ttame", "2012", "my_own.v2+x", "-x", "größe")
    assert [configure(['profile: str = ""'], {"profile": name}).profile for name in names] == [*names]


@pytest.mark.parametrize("command", ["report", "seeds", "readme"])
def test_an_unknown_profile_has_no_tables(command, place, capsys):
    make_profile(place, WHOLE)
    assert main([command, "--profile", "nope"]) == 1
    assert "ERROR: unknown profile 'nope': there are bad in workflow/profiles" in capsys.readouterr().err
    assert [p.name for p in place.folder.iterdir()] == ["workflow"]


@pytest.mark.parametrize("seed", ["-1", "1.5", "x", ""])
def test_a_seed_of_the_command_is_not_negative(seed, capsys):
    with pytest.raises(SystemExit):
        main(["run", "02_train_ptame", f"--seed={seed}"])
    assert f"a seed can't be {seed}: give a whole number that is not negative" in capsys.readouterr().err


@pytest.mark.parametrize("name", ROWS)
def test_bad_input(name, place):
    act, expected = ROWS[name]
    assert_answer(lambda: act(place), expected)
