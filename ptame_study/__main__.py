"""The graph's commands: ``python -m ptame_study run NOTEBOOK --profile P``, report, readme, seeds, finetune."""

from __future__ import annotations

import os
import sys

from ptame_lib import files

from . import paths
from .profiles import use_data
from .run import run_notebook
from .tables import report, write_seeds


def main(arguments: list[str] | None = None) -> int:
    """``run NOTEBOOK --profile P [--classifier C] [--method M] [--data FOLDER]`` executes a notebook; ``report --profile P`` prints the main
    table; ``readme --profile P`` takes a finished profile's tables into results/reference and writes their figures into README.md;
    ``seeds --profile P`` writes the table of several seeds; ``finetune --profile P --classifier C`` makes a multi-label classifier."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m ptame_study", description=main.__doc__)
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

            print("\n".join(f"written: {files.show(file)}" for file in renew(asked.profile)))
            return 0
        _show_progress(
            " ".join(filter(None, (asked.notebook or asked.command, asked.classifier, *extra.values())))
            + paths.tail(asked.seed)
        )
        if os.environ.get("PTAME_ROOT"):
            os.environ["PTAME_ROOT"] = str(
                files.root()
            )  # a relative one would be another folder for the notebook, which runs in it
        use_data(asked.profile, asked.data)
        if asked.command == "run":
            run_notebook(asked.notebook or "", asked.profile, asked.classifier, extra, asked.seed)
        elif asked.command == "seeds":
            write_seeds(asked.profile)
        else:
            from .finetune import finetune_for

            finetune_for(asked.profile, asked.classifier or "")
    except (RuntimeError, ValueError, TypeError, OSError) as error:
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


if __name__ == "__main__":
    sys.exit(main())
