"""Run one notebook of a profile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ptame_lib import files

from . import paths
from .profiles import parameters_for


def trained_explainer(profile: str, classifier: str, method: str = "P-TAME", seed: int = 0) -> Path:
    """The explainer that notebook 02 trains for ``classifier``; where it is missing, 02 is executed first with the profile's settings."""
    file, more = paths.explainer(profile, classifier, method, seed), {"seed": str(seed)} if seed else {}
    return _trained(file, f"{method} for {classifier}", profile, "02_train_ptame", classifier, method=method, **more)


def trained_masks(profile: str, classifier: str, loss: str = "explainer") -> Path:
    """The Explainer that notebook 07 trains with a ``loss`` (explainer or rtis), made as `trained_explainer` does."""
    return _trained(
        paths.masks(profile, classifier, loss),
        f"{loss} for {classifier}",
        profile,
        "07_explainer_train",
        classifier,
        loss=loss,
    )


def _trained(file: Path, what: str, profile: str, notebook: str, classifier: str, **parameters: str) -> Path:
    if not file.is_file():
        print(f"no {what} yet: running {notebook}", file=sys.stderr)
        command = [
            sys.executable,
            "-m",
            "ptame_study",
            "run",
            notebook,
            "--profile",
            profile,
            "--classifier",
            classifier,
        ]
        command += [text for name, value in parameters.items() for text in (f"--{name}", value)]
        subprocess.run(command, check=True, env={**os.environ, "PTAME_ROOT": str(files.root())})
    return file


# ------------------------------------------------------------------------------------------------------ running


def run_notebook(
    notebook: str, profile: str, classifier: str | None = None, extra: dict[str, Any] | None = None, seed: int = 0
) -> Path:
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
        raise ValueError(
            f"unknown notebook {notebook!r}: there are {', '.join(p.stem for p in sorted(source.parent.glob('*.ipynb')))}"
        )
    parameters = parameters_for(profile, notebook, classifier, seed) | (extra or {})
    known = papermill.inspect_notebook(str(source)).keys()
    unknown = parameters.keys() - known
    if unknown:
        raise ValueError(f"profile {profile}: notebook {notebook} has no parameter {', '.join(sorted(unknown))}")
    parameters = ({"resume": True} if "resume" in known else {}) | parameters
    kinds = [
        paths.stem(value) for key, value in (extra or {}).items() if key in ("method", "loss") and value != "P-TAME"
    ]
    name = "-".join([notebook, *([paths.slug(classifier)] if classifier else []), *kinds]) + paths.tail(seed)
    done, running, failed = (paths.runs(profile) / f"{name}{suffix}.ipynb" for suffix in ("", ".running", ".failed"))
    with files.alone(done):
        try:
            papermill.execute_notebook(
                str(source),
                str(running),
                parameters,
                kernel_name="python3",
                cwd=str(files.root()),
                progress_bar=False,
                log_output=True,
            )
        except PapermillExecutionError as error:
            running.replace(failed)
            raise RuntimeError(f"{files.show(source)} failed in cell {error.cell_index} (In [{error.exec_count}]): {error.ename}: {error.evalue}\n"
                               f"the executed notebook with the error: {files.show(failed)}") from None  # fmt: skip
        running.replace(done)
        failed.unlink(missing_ok=True)
    return done
