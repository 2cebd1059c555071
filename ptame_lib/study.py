"""What every notebook of the study shares: checked parameters, profiles, records with provenance, files written whole.

As a command, ``python -m ptame_lib.study run NOTEBOOK --profile P`` executes one notebook of a profile; the graph in
``workflow/Snakefile`` is made of such calls.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, make_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from . import paths

LITERALS = {"str": str, "int": int, "float": float, "bool": bool, "list": list}
DEFAULTS = "small"  # the profile of the notebooks' own defaults: it has no YAML
OF_MANY = ("03_compare", "11_black_box")  # notebooks about several classifiers, which can be run for one
RECORDED = ("torch", "torchvision", "timm", "grad-cam", "accelerate", "numpy")


# ------------------------------------------------------------------------------------------------- parameters


def configure(cells: Sequence[str], namespace: dict[str, Any], **checks: Callable[[Any], bool] | Sequence) -> Any:
    """The notebook's parameters as a frozen, checked config.

    Call it right after the parameters cell: ``cfg = configure(In, globals(), classifier=EMBEDDED, steps=lambda n: n > 0)``.
    ``cells``: the sources of the cells run so far; the parameters are the annotated literals of the first one that declares
    them, and papermill's injected cells may set those and no other. A value must have the declared type (an int will do for
    a float) and pass its check: a function, or the sequence of allowed values (of a list, every item is checked).

    Raises TypeError for a wrong type, ValueError for an unknown parameter or a refused value.
    """
    declared = _declared(cells) or _annotations(namespace)
    if not declared:
        raise ValueError("no parameters cell has been run yet: run the notebook from its first cell")
    for cell in cells:
        if cell.lstrip().startswith("# Parameters"):  # papermill's injected cell
            unknown = [name for name in _assigned(cell) if name not in declared]
            if unknown:
                raise ValueError(f"unknown parameter {unknown[0]!r}: this notebook has {', '.join(declared)}")
    values = {name: _typed(name, kind, namespace[name]) for name, kind in declared.items()}
    for name, check in checks.items():
        items = values[name] if isinstance(values[name], list) else [values[name]]
        for item in items:
            if not callable(check) and item not in check:
                raise ValueError(f"unknown {name} {item!r}: choose one of {', '.join(map(str, check))}")
            if callable(check) and not check(item):
                raise ValueError(f"parameter {name} can't be {item!r}: see the comment beside it in the parameters cell")
    return make_dataclass("Config", [(name, object) for name in values], frozen=True)(**values)


def _declared(cells: Sequence[str]) -> dict[str, str]:
    """Annotated literals of the parameters cell: the first cell with any."""
    for cell in cells:
        try:
            body = ast.parse(cell).body
        except SyntaxError:  # a magic or a shell line
            continue
        found = {n.target.id: ast.unparse(n.annotation) for n in body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
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
    return [t.id for node in ast.parse(cell).body if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)]


def _typed(name: str, kind: str, value: Any) -> Any:
    base = LITERALS[kind.split("[")[0]]
    if base is float and type(value) is int:
        return float(value)
    if type(value) is not base:
        hint = " (in YAML write 1.0e-4, not 1e-4, for a number)" if base is float and isinstance(value, str) else ""
        raise TypeError(f"parameter {name} must be a {kind}, got {value!r} of type {type(value).__name__}{hint}")
    if base is list:
        inner = kind.split("[")[1].rstrip("]") if "[" in kind else None
        return [_typed(f"{name}[{i}]", inner, item) if inner else item for i, item in enumerate(value)]
    return value


# --------------------------------------------------------------------------------------------------- profiles


def load_profile(name: str) -> dict[str, Any]:
    """A profile's YAML as a dict; one that ``extends`` another only holds what differs from it.

    Raises ValueError for an unknown name or a file that is no mapping, naming what there is.
    """
    known = sorted(p.stem for p in paths.profiles().glob("*.yaml"))
    if name not in known:
        raise ValueError(f"unknown profile {name!r}: there are {', '.join(known)} in {paths.show(paths.profiles())}")
    content = yaml.safe_load((paths.profiles() / f"{name}.yaml").read_text())
    if isinstance(content, dict) and "extends" in content:
        content = _merged(load_profile(content.pop("extends")), content)
        content["per_classifier"] = {name: v for name, v in content.get("per_classifier", {}).items() if name in content["classifiers"]}
    if not isinstance(content, dict) or not isinstance(content.get("notebooks"), dict) or not content.get("classifiers"):
        raise ValueError(f"workflow/profiles/{name}.yaml must hold 'classifiers' and 'notebooks' (one mapping of parameters per notebook)")
    return content


def _small() -> dict[str, Any]:
    from .classifiers import EMBEDDED, EMBEDDED_MULTI  # here, since it takes seconds and running a notebook does without

    return {"classifiers": EMBEDDED, "multi_label": EMBEDDED_MULTI, "notebooks": {}}


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``changes`` over ``base``, mappings entry by entry."""
    both = {key: _merged(base[key], value) for key, value in changes.items() if isinstance(value, dict) and isinstance(base.get(key), dict)}
    return base | changes | both


def parameters_for(profile: str, notebook: str, classifier: str | None = None) -> dict[str, Any]:
    """What a profile sets for a notebook, and for one classifier of it (``per_classifier`` overrides ``notebooks``)."""
    content = _small() if profile == DEFAULTS else load_profile(profile)
    parameters = {"profile": profile, **(content["notebooks"].get(notebook) or {})}
    if classifier is None:
        every = {"classifiers": content["classifiers"]} if notebook in OF_MANY and profile != DEFAULTS else {}
        return every | parameters
    known = [*content["classifiers"], *content.get("multi_label", [])]
    if classifier not in known:
        raise ValueError(f"unknown classifier {classifier!r} in profile {profile}: it has {', '.join(known)}")
    parameters |= (content.get("per_classifier", {}).get(classifier) or {}).get(notebook) or {}
    return parameters | ({"classifiers": [classifier]} if notebook in OF_MANY else {"classifier": classifier})


# ----------------------------------------------------------------------------------------------------- records


class Record:
    """One run's JSON: ``record = Record(cfg, "02_train_ptame")`` at the start, ``record.write(accuracy=...)`` at the end."""

    def __init__(self, cfg: Any, name: str):
        self.cfg, self.name, self.start = cfg, name, time.perf_counter()

    def write(self, **results: Any) -> Path:
        """Write ``results/<profile>/<name>.json`` with the results and their provenance."""
        content = {"run": self.name, "results": results, "provenance": provenance(self.cfg, time.perf_counter() - self.start)}
        return write_whole(paths.results(self.cfg.profile) / f"{self.name}.json", json.dumps(content, indent=1) + "\n")


def provenance(cfg: Any, seconds: float) -> dict[str, Any]:
    """Commit, versions, seed, device, parameters, seconds, peak memory in MB (of this process)."""
    import torch

    versions = {"python": platform.python_version()}
    for package in RECORDED:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    parameters = asdict(cfg)
    return {
        "commit": _commit(),
        "versions": versions,
        "seed": parameters.get("seed"),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)",
        "parameters": parameters,
        "seconds": round(seconds, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)),
    }


def _commit() -> str:
    git = ["git", "-C", str(paths.root())]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "--", "ptame_lib", "workflow"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown (no git checkout)"
    return commit + ("+changes" if changed else "")


def fingerprint(*files: Path, **parameters: Any) -> dict[str, Any]:
    """What a result was made from: the parameters, a hash of the files' contents and one of this package's and the data's."""
    sources = sorted((paths.root() / "ptame_lib").rglob("*.py")) + sorted(paths.embedded().glob("*.safetensors"))
    hashes = {paths.show(f): _hash([f]) for f in files}
    return {**parameters, "files": hashes, "library": _hash(sources), "torch": version("torch")}


def _hash(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def write_whole(file: Path, text: str) -> Path:
    """Write a text file under a temporary name and rename it, so that it is never half there."""
    with paths.whole(file) as unfinished:
        unfinished.write_text(text)
    return file


def write_table(file: Path, table: pd.DataFrame) -> Path:
    """Write a table as CSV, numbers to four decimals, whole or not at all."""
    return write_whole(file, table.to_csv(index=False, float_format="%.4f", lineterminator="\n"))


# ------------------------------------------------------------------------------------------------------ running


def run_notebook(notebook: str, profile: str, classifier: str | None = None, extra: dict[str, Any] | None = None) -> Path:
    """Execute a notebook of a profile through papermill into ``runs/<profile>/``, for one ``classifier`` and with ``extra`` parameters;
    returns the executed notebook, whose name tells the classifier and a ``method`` other than P-TAME or a ``loss``.

    A failing one is kept as ``*.failed.ipynb``, and RuntimeError says which cell failed and with what.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    source = paths.notebook(notebook)
    if not source.is_file():
        raise ValueError(f"unknown notebook {notebook!r}: there are {', '.join(p.stem for p in sorted(source.parent.glob('*.ipynb')))}")
    parameters = parameters_for(profile, notebook, classifier) | (extra or {})
    unknown = parameters.keys() - papermill.inspect_notebook(str(source)).keys()
    if unknown:
        raise ValueError(f"profile {profile}: notebook {notebook} has no parameter {', '.join(sorted(unknown))}")
    kinds = [paths.stem(value) for key, value in (extra or {}).items() if key in ("method", "loss") and value != "P-TAME"]
    name = "-".join([notebook, *([paths.slug(classifier)] if classifier else []), *kinds])
    done, running, failed = (paths.runs(profile) / f"{name}{suffix}.ipynb" for suffix in ("", ".running", ".failed"))
    try:
        papermill.execute_notebook(
            str(source), str(running), parameters, kernel_name="python3", cwd=str(paths.root()), progress_bar=False, log_output=True
        )
    except PapermillExecutionError as error:
        running.replace(failed)
        raise RuntimeError(f"{paths.show(source)} failed in cell {error.cell_index} (In [{error.exec_count}]): {error.ename}: {error.evalue}\n"
                           f"the executed notebook with the error: {paths.show(failed)}") from None  # fmt: skip
    running.replace(done)
    failed.unlink(missing_ok=True)
    return done


def main(arguments: list[str] | None = None) -> int:
    """``run NOTEBOOK --profile P [--classifier C] [--method M]`` executes a notebook; ``report --profile P`` prints the main table;
    ``readme --profile P`` takes a finished profile's tables into results/reference and writes their figures into README.md."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m ptame_lib.study", description=main.__doc__)
    parser.add_argument("command", choices=["run", "report", "readme"])
    parser.add_argument("notebook", nargs="?", help="name of a notebook, for run")
    parser.add_argument("--profile", default="embedded")
    parser.add_argument("--classifier")
    parser.add_argument("--method", help="the explainer to train, for notebook 02")
    parser.add_argument("--loss", help="the loss to train with, for notebook 07")
    asked = parser.parse_intermixed_args(arguments)
    if asked.command == "report":
        print(report(asked.profile))
        return 0
    extra = {name: value for name in ("method", "loss") if (value := getattr(asked, name))}
    try:
        if asked.command == "readme":
            from .readme import renew

            print("\n".join(f"written: {paths.show(file)}" for file in renew(asked.profile)))
            return 0
        _show_progress(" ".join(filter(None, (asked.notebook, asked.classifier, *extra.values()))))
        run_notebook(asked.notebook or "", asked.profile, asked.classifier, extra)
    except (RuntimeError, ValueError) as error:
        print(f"\nERROR: {error}", file=sys.stderr)
        return 1
    return 0


def _show_progress(name: str) -> None:
    """Papermill's log and the notebook's progress bars as prefixed lines on stderr."""
    import logging

    class OneLine(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            text = record.getMessage().split("\r")[-1].strip(" -")
            return f"[{name}] {text}" if text else ""

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    handler.addFilter(lambda record: any(sign in record.getMessage() for sign in ("it/s", "s/it", "Executing Cell")))
    log = logging.getLogger("papermill")
    log.setLevel(logging.INFO)
    log.handlers, log.propagate = [handler], False


def report(profile: str) -> str:
    """The main table of a finished profile (where it compares), and where everything lies."""
    from .tables import CORE, main_table

    lines = [f"Profile {profile}"]
    file = paths.results(profile) / "compare.csv"
    if file.is_file():
        table = main_table(pd.read_csv(file), list(CORE))
        lines = [f"Profile {profile}, percent: AD and MoRF lower is better; all others higher is better", "", table.to_string(), ""]
    places = {"tables": paths.results(profile), "figures": paths.figures(profile), "executed notebooks": paths.runs(profile)}
    return "\n".join(lines + [f"{what:>18}: {paths.show(folder)}/" for what, folder in places.items()])


if __name__ == "__main__":
    sys.exit(main())
