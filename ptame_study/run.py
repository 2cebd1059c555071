"""Run one notebook of a profile."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ptame_lib import files

from . import paths
from .profiles import check_chosen, parameters_for

MASKS = {"NN-Explainer": "explainer", "RTIS": "rtis"}  # methods with a mask per class, and the loss that trains each


def train_missing(profile: str, classifier: str, method: str = "P-TAME", seed: int = 0) -> None:
    """Train an explainer where its file (`paths.explainer`) is missing, with the profile's settings.

    Runs notebook 07 for NN-Explainer and RTIS, notebook 02 for the other methods.
    """
    if paths.explainer(profile, classifier, method, seed).is_file():
        return
    masks = method in MASKS
    notebook, option = ("07_explainer_train", "--loss") if masks else ("02_train_ptame", "--method")
    print(f"no {method} for {classifier} yet: running {notebook}", file=sys.stderr)
    command = [sys.executable, "-m", "ptame_study", "run", notebook, "--profile", profile, "--classifier", classifier]
    command += [option, MASKS.get(method, method), *(["--seed", str(seed)] if seed else [])]
    subprocess.run(command, check=True, env={**os.environ, "PTAME_ROOT": str(files.root())})


def run_notebook(
    notebook: str, profile: str, classifier: str | None = None, extra: dict[str, Any] | None = None, seed: int = 0
) -> Path:
    """Execute a notebook of a profile through papermill and return the result, in ``runs/<profile>/``.

    It runs for one ``classifier``, one ``seed`` of the profile and with ``extra`` parameters; its name tells them. A
    training goes on from the checkpoint of a killed run of the same settings, data and code. Raises ValueError for an
    unknown notebook or parameter, and where a classifier must be named; RuntimeError where the same is running already,
    and where a cell fails, saying which and why; the failed notebook is kept as ``*.failed.ipynb``.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    source = paths.notebook(notebook)
    if not source.is_file():
        known = ", ".join(p.stem for p in sorted(source.parent.glob("*.ipynb")) if p.stem != "index")
        raise ValueError(f"unknown notebook {notebook!r}: there are {known}")

    # the profile's parameters, which the notebook must have
    extra = extra or {}
    parameters = parameters_for(profile, notebook := source.stem, classifier, seed, extra.get("method")) | extra
    check_chosen(profile, notebook, parameters)
    known = papermill.inspect_notebook(_literal(source)).keys()
    unknown = parameters.keys() - known
    if unknown:
        raise ValueError(f"profile {profile}: notebook {notebook} has no parameter {', '.join(sorted(unknown))}")
    parameters = ({"resume": True} if "resume" in known else {}) | parameters

    # the executed notebook's name
    told = [extra[key] for key in ("method", "loss") if extra.get(key, "P-TAME") != "P-TAME"]
    name = "-".join([notebook, *([paths.slug(classifier)] if classifier else []), *map(paths.stem, told)])
    suffixes = ("", ".running", ".failed")
    done, running, failed = (paths.runs(profile) / f"{name}{paths.tail(seed)}{suffix}.ipynb" for suffix in suffixes)

    # run it; what is unfinished or failed never has the final name
    options = {"kernel_name": "python3", "cwd": str(files.root()), "progress_bar": False, "log_output": True}
    options["start_timeout"] = 600  # seconds: a kernel may start slowly on a busy machine
    with files.alone(done), tempfile.TemporaryDirectory(prefix="kernel-") as folder:
        # a kernel listens in a folder of its own: ports may be found free by two jobs at the same moment
        options["config"] = Config(KernelManager={"transport": "ipc", "ip": f"{folder}/socket"})
        try:
            papermill.execute_notebook(_literal(source), _literal(running), parameters, **options)
        except PapermillExecutionError as error:
            running.replace(failed)
            where = f"{files.show(source)} failed in cell {error.cell_index} (In [{error.exec_count}])"
            kept = f"the executed notebook with the error: {files.show(failed)}"
            raise RuntimeError(f"{where}: {error.ename}: {error.evalue}\n{kept}") from None
        running.replace(done)
        failed.unlink(missing_ok=True)
    return done


def _literal(file: Path) -> str:
    """A path for papermill, which takes braces for fields to fill in."""
    return str(file).replace("{", "{{").replace("}", "}}")
