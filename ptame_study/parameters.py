"""A notebook's parameters as a frozen, checked config."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Sequence
from dataclasses import make_dataclass
from typing import Any

LITERALS = {"str": str, "int": int, "float": float, "bool": bool, "list": list}


def configure(cells: Sequence[str], namespace: dict[str, Any], **checks: Callable[[Any], bool] | Sequence) -> Any:
    """The notebook's parameters as a frozen, checked config.

    Call it right after the parameters cell: ``cfg = configure(In, globals(), classifier=EMBEDDED, steps=lambda n: n > 0)``.
    ``cells``: the sources of the cells run so far; the parameters are the annotated literals of the first one that declares
    them, and papermill's injected cells may set those and no other. A value must have the declared type (an int will do for
    a float) and pass its check: a function, or the sequence of allowed values (of a list, every item is checked).

    Raises TypeError for a wrong type, ValueError for an unknown parameter, a refused value or a number that is not finite.
    """
    declared = _declared(cells) or _annotations(namespace)
    if not declared:
        raise ValueError("no parameters cell has been run yet: run the notebook from its first cell")
    for cell in cells:
        if cell.lstrip().startswith("# Parameters"):  # papermill's injected cell
            unknown = [name for name in _assigned(cell) if name not in declared]
            if unknown:
                raise ValueError(f"unknown parameter {unknown[0]!r}: this notebook has {', '.join(declared)}")
    values = {name: typed(name, kind, namespace[name]) for name, kind in declared.items()}
    for name, check in checks.items():
        items = values[name] if isinstance(values[name], list) else [values[name]]
        for item in items:
            if not callable(check) and item not in check:
                raise ValueError(f"unknown {name} {item!r}: choose one of {', '.join(map(str, check))}")
            if callable(check) and not check(item):
                raise ValueError(
                    f"parameter {name} can't be {item!r}: see the comment beside it in the parameters cell"
                )
    return make_dataclass("Config", [(name, object) for name in values], frozen=True)(**values)


def _declared(cells: Sequence[str]) -> dict[str, str]:
    """Annotated literals of the parameters cell: the first cell with any."""
    for cell in cells:
        try:
            body = ast.parse(cell).body
        except SyntaxError:  # a magic or a shell line
            continue
        found = {
            n.target.id: ast.unparse(n.annotation)
            for n in body
            if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
        }
        if found:
            return found
    return {}


def _annotations(namespace: dict[str, Any]) -> dict[str, str]:
    """The same from the annotations Python keeps, for runners such as nbval that keep no history of cells."""
    kept = namespace.get("__annotations__") or {}
    if not kept and callable(namespace.get("__annotate__")):  # Python 3.14 and later
        kept = namespace["__annotate__"](1)
    return {name: kind.__name__ if type(kind) is type else str(kind) for name, kind in kept.items()}


def _assigned(cell: str) -> list[str]:
    return [
        t.id
        for node in ast.parse(cell).body
        if isinstance(node, ast.Assign)
        for t in node.targets
        if isinstance(t, ast.Name)
    ]


def typed(name: str, kind: str, value: Any) -> Any:
    base = LITERALS.get(kind.split("[")[0])
    if base is None:
        raise TypeError(f"parameter {name} is declared as {kind}: declare it as one of {', '.join(LITERALS)}")
    if base is float and type(value) is int:
        return float(value)
    if type(value) is not base:
        hint = " (in YAML write 1.0e-4, not 1e-4, for a number)" if base is float and isinstance(value, str) else ""
        raise TypeError(f"parameter {name} must be a {kind}, got {value!r} of type {type(value).__name__}{hint}")
    if base is float and not math.isfinite(value):
        raise ValueError(f"parameter {name} can't be {value}: give a finite number")
    if base is list:
        inner = kind.split("[")[1].rstrip("]") if "[" in kind else None
        return [typed(f"{name}[{i}]", inner, item) if inner else item for i, item in enumerate(value)]
    return value
