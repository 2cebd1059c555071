"""A notebook's parameters: their types and checks, and dicts that are merged onto dataclasses."""

from __future__ import annotations

import dataclasses
import json

import pytest

from ptame_study.parameters import changed, configure, plain

CELL = """profile: str = "small"
steps: int = 5
lr: float = 1e-2  # peak
names: list[str] = ["a"]
fast: bool = False
"""
VALUES = {"profile": "small", "steps": 5, "lr": 1e-2, "names": ["a"], "fast": False}


def configured(injected="", checks=None, **changed):
    return configure(
        ["%matplotlib inline", CELL, *([f"# Parameters\n{injected}"] if injected else [])],
        VALUES | changed,
        **(checks or {}),
    )


def test_configure():
    cfg = configured(steps=7, lr=1, names=[])
    assert dataclasses.asdict(cfg) == {"profile": "small", "steps": 7, "lr": 1.0, "names": [], "fast": False}
    assert type(cfg.lr) is float  # an int will do for a float
    with pytest.raises(dataclasses.FrozenInstanceError):
        cfg.steps = 8


def test_a_config_with_changes():
    cell = "steps: int = 5\nloss: dict = {}"
    cfg = configure([cell], {"steps": 5, "loss": {"ce": 2.0, "area": 0.5}}, loss=Weights)
    other = changed(cfg, {"steps": 7, "loss": {"area": 1.0}})
    assert (other.steps, other.loss.ce, other.loss.area) == (7, 2.0, 1.0)
    assert (cfg.steps, cfg.loss.area) == (5, 0.5)
    assert changed(cfg, {}) == cfg


def test_a_list_or_a_dict_may_be_json():
    """papermill's -p gives texts: -p names '["a", "b"]'."""
    assert configured(names='["b", "c"]').names == ["b", "c"]
    cell = "loss: dict = {}"
    cfg = configure([cell], {"loss": '{"ce": 2, "area": 0.5}'}, loss=Weights)
    assert (cfg.loss.ce, cfg.loss.area) == (2.0, 0.5)
    for wrong in ("a", "a, b", '{"a": 1}', "[" * 10_000):
        with pytest.raises(TypeError, match=r"names must be a list\[str\], got .*: write it as JSON, such as -p names"):
            configured(names=wrong)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lr": "1e-4"}, r"lr must be a float, got '1e-4' of type str \(in YAML write 1\.0e-4"),
        ({"steps": 5.0}, r"steps must be an int, got 5\.0 of type float$"),
        ({"steps": True}, "steps must be an int, got True of type bool"),
        ({"lr": True}, "lr must be a float, got True of type bool"),
        ({"fast": 1}, "fast must be a bool, got 1 of type int"),
        ({"profile": None}, "profile must be a str, got None"),
        ({"names": "a"}, r"names must be a list\[str\], got 'a'"),
        ({"names": ["a", 3]}, r"names\[1\] must be a str, got 3"),
    ],
)
def test_wrong_types_are_refused(changed, message):
    with pytest.raises(TypeError, match=message):
        configured(**changed)


def test_unknown_parameters_are_refused():
    assert configured('steps = 7\nprofile = "x"', steps=7, profile="x").steps == 7
    with pytest.raises(
        ValueError, match="unknown parameter 'stepz': this notebook has profile, steps, lr, names, fast"
    ):
        configured("stepz = 7")


def test_checks():
    assert configured(checks={"steps": lambda n: n > 0, "names": ("a", "b")}, names=["b", "a"]).names == ["b", "a"]
    with pytest.raises(ValueError, match=r"parameter steps can't be 0"):
        configured(checks={"steps": lambda n: n > 0}, steps=0)
    with pytest.raises(ValueError, match=r"unknown names 'c': choose one of a, b"):
        configured(checks={"names": ("a", "b")}, names=["a", "c"])
    with pytest.raises(ValueError, match="unknown profile 'y': choose one of x"):
        configured(checks={"profile": ("x",)}, profile="y")


def test_without_a_parameters_cell():
    with pytest.raises(ValueError, match="run the notebook from its first cell"):
        configure(["import torch", "!ls"], {})


def test_parameters_are_found_without_a_history_of_cells():
    namespace = {}
    exec("lr: float = 1e-3\nnames: list[str] = ['a']", namespace)  # what nbval's kernel leaves
    cfg = configure(["", "cfg = ..."], namespace)
    assert (cfg.lr, cfg.names) == (1e-3, ["a"])
    with pytest.raises(ValueError, match="no parameters cell has been run yet"):
        configure([""], {})


@dataclasses.dataclass(frozen=True)
class Weights:
    ce: float = 1.5
    area: float = 2.0
    parts: tuple[float, ...] = (1.0,)
    more: dict = dataclasses.field(default_factory=dict)
    steps: int = 9
    profile: int = 0


def weighed(injected="", cell='steps: int = 5\nprofile: str = "x"\nloss: dict = {"ce": 3.0}', history=(), **value):
    """A config with a dict, whose cell says one thing and papermill another."""
    namespace = {}
    for source in (cell, injected):
        exec(source, namespace)
    return configure([*history, cell, f"# Parameters\n{injected}"], namespace, loss=Weights)


def test_dicts_are_merged_onto_the_cell_and_the_defaults():
    cfg = weighed("loss = {'area': 4}")
    assert cfg.loss == Weights(ce=3.0, area=4.0, steps=5)  # steps is a parameter of its own, of the same type
    assert type(cfg.loss.area) is float
    assert weighed().loss == Weights(ce=3.0, steps=5)
    assert weighed("loss = {'parts': [1, 0.5], 'more': {'a': 1}}").loss.parts == (1.0, 0.5)
    assert plain(cfg, "profile") == {"steps": 5, "loss": dataclasses.asdict(cfg.loss) | {"parts": [1.0]}}
    assert json.loads(json.dumps(plain(cfg))) == plain(cfg)


def test_a_cell_that_is_run_again_says_what_counts():
    assert weighed(history=['steps: int = 5\nprofile: str = "x"\nloss: dict = {"area": 7.0}']).loss.area == 2.0


def test_without_a_history_of_cells_the_dict_is_what_it_is_now():
    namespace = {}
    exec('steps: int = 5\nprofile: str = "x"\nloss: dict = {"ce": 3.0}', namespace)
    assert configure([""], namespace, loss=Weights).loss == Weights(ce=3.0, steps=5)


@pytest.mark.parametrize(
    ("injected", "message"),
    [
        ("loss = {'cee': 1.0}", r"unknown key 'cee' in loss: did you mean ce\? It has ce, area, parts, more, profile"),
        ("loss = {'steps': 1}", "unknown key 'steps' in loss: set the parameter of that name. It has"),
        ("loss = {'zzz': 1}", r"unknown key 'zzz' in loss: it has ce, area, parts, more, profile$"),
        ("loss = {'ce': '5'}", r"parameter loss\.ce must be a float, got '5' of type str"),
        ("loss = {'ce': float('inf')}", r"parameter loss\.ce can't be inf: give a finite number"),
        ("loss = {'parts': 1.0}", r"parameter loss\.parts must be a tuple\[float, \.\.\.\], got 1\.0"),
        ("loss = {'parts': [True]}", r"parameter loss\.parts\[0\] must be a float, got True"),
        ("loss = {'more': []}", r"parameter loss\.more must be a dict, got \[\]"),
        ("loss = 'ce'", "parameter loss must be a dict, got 'ce' of type str"),
    ],
)
def test_wrong_keys_and_values_of_a_dict_are_refused(injected, message):
    with pytest.raises((ValueError, TypeError), match=message):
        weighed(injected)


@pytest.mark.parametrize("name", ["first", "second"])
def test_a_check_of_a_key_holds_in_every_dict_that_has_it(name):
    cell = f"first: dict = {{}}\nsecond: dict = {{}}\n{name} = {{'ce': 2.0}}"
    namespace = {"first": {}, "second": {}, name: {"ce": 2.0}}
    with pytest.raises(ValueError, match=r"parameter ce can't be 2\.0"):
        configure([cell], namespace, first=Weights, second=Weights, ce=lambda v: v < 2)
