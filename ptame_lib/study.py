"""What every notebook of the study shares: checked parameters, profiles, records with provenance, files written whole.

As a command, ``python -m ptame_lib.study run NOTEBOOK --profile P`` executes one notebook of a profile; the graph in
``workflow/Snakefile`` is made of such calls.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from . import locks, paths
from .parameters import configure as configure  # notebooks call it by this module's name
from .profiles import ancestry as ancestry  # these, the Snakefile
from .profiles import data_folder, load_profile
from .profiles import parameters_for as parameters_for

RECORDED = ("torch", "torchvision", "timm", "grad-cam", "accelerate", "numpy")


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


def run_notebook(notebook: str, profile: str, classifier: str | None = None, extra: dict[str, Any] | None = None, seed: int = 0) -> Path:
    """Execute a notebook of a profile through papermill into ``runs/<profile>/``, for one ``classifier``, one ``seed`` of the profile and
    with ``extra`` parameters; returns the executed notebook, whose name tells the classifier, a ``method`` other than P-TAME or a
    ``loss``, and a seed other than 0.

    Where it trains, it goes on from the checkpoint of a killed run of the same settings, data and code. A failing one is kept as
    ``*.failed.ipynb``, and RuntimeError says which cell failed and with what; so does it where the same is running already.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    source = paths.notebook(notebook)
    if not source.is_file():
        raise ValueError(f"unknown notebook {notebook!r}: there are {', '.join(p.stem for p in sorted(source.parent.glob('*.ipynb')))}")
    parameters = parameters_for(profile, notebook, classifier, seed) | (extra or {})
    known = papermill.inspect_notebook(str(source)).keys()
    unknown = parameters.keys() - known
    if unknown:
        raise ValueError(f"profile {profile}: notebook {notebook} has no parameter {', '.join(sorted(unknown))}")
    parameters = ({"resume": True} if "resume" in known else {}) | parameters
    kinds = [paths.stem(value) for key, value in (extra or {}).items() if key in ("method", "loss") and value != "P-TAME"]
    name = "-".join([notebook, *([paths.slug(classifier)] if classifier else []), *kinds]) + paths.tail(seed)
    done, running, failed = (paths.runs(profile) / f"{name}{suffix}.ipynb" for suffix in ("", ".running", ".failed"))
    with locks.alone(done):
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
    """``run NOTEBOOK --profile P [--classifier C] [--method M] [--data FOLDER]`` executes a notebook; ``report --profile P`` prints the main
    table; ``readme --profile P`` takes a finished profile's tables into results/reference and writes their figures into README.md;
    ``seeds --profile P`` writes the table of several seeds; ``finetune --profile P --classifier C`` makes a multi-label classifier."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m ptame_lib.study", description=main.__doc__)
    parser.add_argument("command", choices=["run", "report", "readme", "seeds", "finetune"])
    parser.add_argument("notebook", nargs="?", help="name of a notebook, for run")
    parser.add_argument("--profile", default="embedded")
    parser.add_argument("--classifier")
    parser.add_argument("--method", help="the explainer to train, for notebook 02")
    parser.add_argument("--loss", help="the loss to train with, for notebook 07")
    parser.add_argument("--seed", type=int, default=0, help="one of the profile's seeds, for notebooks 02 and 03")
    parser.add_argument("--data", help="folder of the images, weights and tables that the profile names")
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
        _show_progress(" ".join(filter(None, (asked.notebook or asked.command, asked.classifier, *extra.values()))) + paths.tail(asked.seed))
        if os.environ.get("PTAME_ROOT"):
            os.environ["PTAME_ROOT"] = str(paths.root())  # a relative one would be another folder for the notebook, which runs in it
        use_data(asked.profile, asked.data)
        if asked.command == "run":
            run_notebook(asked.notebook or "", asked.profile, asked.classifier, extra, asked.seed)
        elif asked.command == "seeds":
            write_seeds(asked.profile)
        else:
            from .multilabel_recipes import finetune_for

            finetune_for(asked.profile, asked.classifier or "")
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        print(f"\nERROR: {error}", file=sys.stderr)
        return 1
    return 0


def use_data(profile: str, folder: str | None = None) -> None:
    """Have `paths.given` look in ``folder``, else in ``$PTAME_DATA``, else in the profile's own data folder. Raises ValueError for a
    ``folder`` that is none."""
    if folder and not Path(folder).expanduser().is_dir():
        raise ValueError(f"no folder at DATA={folder}: check the path")
    if chosen := folder or os.environ.get("PTAME_DATA") or data_folder(profile):
        os.environ["PTAME_DATA"] = str(Path(chosen).expanduser().resolve())


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
    if not file.is_file() and len(found := list(file.parent.glob("compare-*.csv"))) == 1:
        file = found[0]  # of a profile's only classifier
    if file.is_file():
        table = main_table(pd.read_csv(file), list(CORE))
        lines = [f"Profile {profile}, percent: AD and MoRF lower is better; all others higher is better", "", table.to_string(), ""]
    places = {"tables": paths.results(profile), "figures": paths.figures(profile), "executed notebooks": paths.runs(profile)}
    return "\n".join(lines + [f"{what:>18}: {paths.show(folder)}/" for what, folder in places.items()])


def write_seeds(profile: str) -> Path:
    """``results/<profile>/seeds.csv`` of the trained methods: classifier, method, metric, value and sd (over the seeds' means), seeds."""
    from .methods import TRAINED
    from .tables import over_seeds

    content = load_profile(profile)
    every = [(name, seed) for name in content["classifiers"] for seed in content.get("seeds", [0])]
    values = pd.concat([pd.read_csv(paths.per_image(profile, name, seed)).assign(seed=seed) for name, seed in every])
    return write_table(paths.results(profile) / "seeds.csv", over_seeds(values[values.method.isin(TRAINED)]))


if __name__ == "__main__":
    sys.exit(main())
