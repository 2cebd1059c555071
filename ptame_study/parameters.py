"""A notebook's parameters as a frozen, checked config."""

from __future__ import annotations

import ast
import difflib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields, is_dataclass, make_dataclass, replace
from typing import Any

from ptame_lib.files import check_name
from ptame_lib.validation import check_at_least

LITERALS = {"str": str, "int": int, "float": float, "bool": bool, "list": list}
NEEDED = ("classifiers", "networks", "auxiliaries", "seeds")  # lists that name at least one, in any notebook
INSIDE = LITERALS | {"tuple": tuple, "dict": dict}  # what the keys of a dict may be, too


def configure(
    cells: Sequence[str], namespace: dict[str, Any], **checks: Callable[[Any], bool] | Sequence | type
) -> Any:
    """The notebook's parameters as a frozen, checked config.

    Call it after the parameters cell: ``cfg = configure(In, globals(), classifier=EMBEDDED, steps=lambda n: n > 0)``.
    ``cells``: the sources of the cells run so far. The parameters are the annotated literals of the first one with any;
    papermill's injected cells may set only those. A value must have the declared type (an int will do for a float) and
    pass its check: a function, or the sequence of allowed values (every item of a list is checked).

    The check of a dict is a dataclass, which names and types its keys: ``loss=PTAMEWeights``. What papermill injects is
    merged onto the cell's literal, and that onto the dataclass's defaults; the config holds the dataclass. A field with
    the name and type of another parameter takes its value from there. Other checks may name keys of dicts, too.

    Raises TypeError for a wrong type; ValueError for an unknown parameter or key, and for a refused or infinite value,
    which a ``profile`` that is no plain name, a negative ``seed``, an empty list of `NEEDED` and a list that names
    something twice are anywhere.
    """
    declared = _declared(cells) or _annotations(namespace)
    if not declared:
        raise ValueError("no parameters cell has been run yet: run the notebook from its first cell")

    # papermill's injected cells set nothing new
    for cell in cells:
        if cell.lstrip().startswith("# Parameters"):
            unknown = [name for name in _assigned(cell) if name not in declared]
            if unknown:
                raise ValueError(f"unknown parameter {unknown[0]!r}: this notebook has {', '.join(declared)}")

    # flat parameters first, then dicts, those that contain another dict last
    sections = {name: check for name, check in checks.items() if is_dataclass(check)}
    homes = _homes(sections)
    values = {name: _flat(name, kind, namespace[name]) for name, kind in declared.items() if name not in sections}
    for name in sorted(sections, key=lambda name: any(f.name in sections for f in fields(sections[name]))):
        layers = (_literal(cells, name), namespace[name])
        values[name] = _merged(name, sections[name], layers, values, declared, homes)

    # checks of single values, else of every dict's
    _check_usual(values)
    inside = [vars(values[name]) for name in sections]
    for name, check in checks.items():
        if name not in sections:
            holders = [values] if name in values else [keys for keys in inside if name in keys]
            for holder in holders or [values]:
                _check(name, holder[name], check)
    return make_dataclass("Config", [(name, object) for name in declared], frozen=True)(**values)


def plain(cfg: Any, *without: str) -> dict[str, Any]:
    """A config as JSON holds it (dicts for dataclasses, lists for tuples), ``without`` some parameters."""
    return {name: value for name, value in json.loads(json.dumps(asdict(cfg))).items() if name not in without}


def changed(cfg: Any, changes: dict[str, Any]) -> Any:
    """The config with some parameters replaced; of a dict, those of its keys that ``changes`` names."""
    sections = {name: replace(getattr(cfg, name), **value) for name, value in changes.items() if type(value) is dict}
    return replace(cfg, **(changes | sections))


def typed(name: str, kind: str, value: Any) -> Any:
    """The value as the declared type ``kind`` has it; raises as `configure`."""
    base, inner = INSIDE.get(kind.split("[")[0]), kind.partition("[")[2].rstrip("]").split(",")[0]
    if base is None:
        raise TypeError(f"parameter {name} is declared as {kind}: declare it as one of {', '.join(LITERALS)}")

    # a list or a dict given as text, as papermill's -p does
    if base in (list, dict) and isinstance(value, str):
        value = _read_json(name, kind, value, base)

    # the type: a whole number is also a number, a list also a tuple
    if base is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:  # its digits may be too many to print
            size = f"a whole number of {value.bit_length()} bits"
            raise ValueError(f"parameter {name} can't be {size}: give one below 1e308") from None
    if type(value) is not base and not (base is tuple and type(value) is list):
        article = "an" if base is int else "a"
        hint = " (in YAML write 1.0e-4, not 1e-4, for a number)" if base is float and isinstance(value, str) else ""
        raise TypeError(
            f"parameter {name} must be {article} {kind}, got {value!r} of type {type(value).__name__}{hint}"
        )

    # the value, and what is inside
    if base is float and not math.isfinite(value):
        raise ValueError(f"parameter {name} can't be {value}: give a finite number")
    if base in (list, tuple):
        return base(typed(f"{name}[{i}]", inner, item) if inner else item for i, item in enumerate(value))
    return value


def _read_json(name: str, kind: str, text: str, base: type) -> Any:
    """A list or dict written as JSON; raises TypeError for another text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if type(value) is not base:
        example = '["a", "b"]' if base is list else '{"a": 1}'
        given = f"parameter {name} must be a {kind}, got {text!r} of type str"
        raise TypeError(f"{given}: write it as JSON, such as -p {name} '{example}'")
    return value


def _flat(name: str, kind: str, value: Any) -> Any:
    if kind == "dict":
        declare = f"declare it as one of {', '.join(LITERALS)}"
        raise TypeError(f"parameter {name} is declared as dict: {declare}, or give configure a dataclass of its keys")
    return typed(name, kind, value)


def _homes(sections: dict[str, type]) -> dict[str, list[str]]:
    """The dicts that have a key, by key; a field's metadata may name ``keys`` of a dict inside."""
    homes: dict[str, list[str]] = {}
    for name, section in sections.items():
        for f in fields(section):
            homes.setdefault(f.name, []).append(name)
            for key in f.metadata.get("keys", ()):
                homes.setdefault(key, []).append(f"{name}.{f.name}")
    return homes


def _merged(
    name: str,
    section: type,
    layers: Iterable[dict],
    values: dict[str, Any],
    declared: dict[str, str],
    homes: dict[str, list[str]],
) -> Any:
    """A dict parameter as its dataclass: later layers over earlier ones, key by key."""
    kinds, merged = {f.name: f.type for f in fields(section)}, {}
    own = {
        key: values[key]
        for key, kind in kinds.items()
        if key in values and kind in (declared[key], type(values[key]).__name__)
    }
    known = [key for key in kinds if key not in own]
    for layer in layers:
        for key, value in typed(name, "dict", layer).items():
            if key not in known:
                hint = _hint(str(key), known, key in own or key in declared, homes.get(key, []))
                raise ValueError(f"unknown key {key!r} in {name}: {hint} has {', '.join(known)}")
            merged[key] = typed(f"{name}.{key}", kinds[key], value)
    return section(**own, **merged)


def _hint(key: str, known: list[str], is_parameter: bool, homes: list[str]) -> str:
    """Where an unknown key of a dict may belong."""
    if is_parameter:
        return "set the parameter of that name. It"
    if homes:
        return f"set it in {' or '.join(homes)}. It"
    nearest = difflib.get_close_matches(key, known, 1)
    return f"did you mean {nearest[0]}? It" if nearest else "it"


def _check_usual(values: dict[str, Any]) -> None:
    """Checks of the parameters that mean the same in every notebook."""
    if "profile" in values:
        check_name(values["profile"])
    check_at_least(0, **{name: values[name] for name in ("seed", "trained_seed") if name in values})
    check_at_least(0, **{f"seeds[{i}]": seed for i, seed in enumerate(values.get("seeds", ()))})
    for name, value in values.items():
        if name in NEEDED and not value:
            raise ValueError(f"parameter {name} is empty: name at least one")
        if isinstance(value, list) and (twice := [item for i, item in enumerate(value) if item in value[:i]]):
            raise ValueError(f"parameter {name} names {twice[0]!r} twice: once is enough")


def _check(name: str, value: Any, check: Callable[[Any], bool] | Sequence) -> None:
    for item in value if isinstance(value, list) else [value]:
        if not callable(check) and item not in check:
            raise ValueError(f"unknown {name} {item!r}: choose one of {', '.join(map(str, check))}")
        if callable(check) and not check(item):
            raise ValueError(f"parameter {name} can't be {item!r}: see the comment beside it in the parameters cell")


def _declarations(cell: str) -> dict[str, ast.AnnAssign]:
    """The annotated assignments of a cell, by name."""
    try:
        body = ast.parse(cell).body
    except SyntaxError:  # a magic or a shell line
        return {}
    return {n.target.id: n for n in body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}


def _declared(cells: Sequence[str]) -> dict[str, str]:
    """Annotations of the parameters cell: the first cell with any."""
    found = next(filter(None, map(_declarations, cells)), {})
    return {name: ast.unparse(node.annotation) for name, node in found.items()}


def _literal(cells: Sequence[str], name: str) -> dict:
    """A dict parameter's literal in the cell that was run last; empty without a history of cells."""
    nodes = [node for cell in cells if (node := _declarations(cell).get(name))]
    return ast.literal_eval(nodes[-1].value) if nodes else {}


def _annotations(namespace: dict[str, Any]) -> dict[str, str]:
    """As `_declared`, from Python's annotations: nbval, for one, keeps no history of cells."""
    kept = namespace.get("__annotations__") or {}
    if not kept and callable(namespace.get("__annotate__")):  # Python 3.14 and later
        kept = namespace["__annotate__"](1)
    return {name: kind.__name__ if type(kind) is type else str(kind) for name, kind in kept.items()}


def _assigned(cell: str) -> list[str]:
    nodes = (node for node in ast.parse(cell).body if isinstance(node, ast.Assign))
    return [target.id for node in nodes for target in node.targets if isinstance(target, ast.Name)]
