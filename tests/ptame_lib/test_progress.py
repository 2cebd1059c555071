"""The progress bar: outside of notebooks it needs none of their packages, inside it leaves no output."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from ptame_lib.progress import progress


def modules(monkeypatch, shell):
    """IPython's modules, with this shell running; the list of calls that clear the output."""
    cleared = []
    for name, content in {
        "ipykernel": {},
        "IPython": {"get_ipython": lambda: shell},
        "IPython.display": {"clear_output": lambda: cleared.append(1)},
    }.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return cleared


def count(bars=3):
    with progress(bars, "count") as bar:
        for _ in range(bars):
            bar.update()
    return bar.n


@pytest.mark.parametrize(("shell", "times"), [(None, 0), (SimpleNamespace(), 0), (SimpleNamespace(kernel=1), 1)])
def test_only_a_kernels_output_is_cleared(monkeypatch, shell, times):
    cleared = modules(monkeypatch, shell)
    assert count() == 3
    assert len(cleared) == times


def test_the_packages_of_notebooks_are_not_needed(monkeypatch):
    modules(monkeypatch, None)
    for name in ("IPython", "IPython.display"):  # as under pytest, which has imported ipykernel alone
        monkeypatch.delitem(sys.modules, name)
    assert count() == 3
