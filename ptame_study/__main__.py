"""The commands of the study's graph: ``python -m ptame_study run NOTEBOOK --profile P`` and others."""

from __future__ import annotations

if __name__ == "__main__":  # before anything that takes time to import
    from ptame_study import interrupts, preloaded

    interrupts.at_once()
    preloaded.hand_over()

import argparse
import logging
import os
import sys

from ptame_lib import files
from ptame_lib.explainers.names import TRAINED
from ptame_lib.texts import printable

from . import interrupts, paths, preloaded
from .profiles import FULL, check_known, use_data
from .run import MASKS, run_notebook

LINES = "\n"  # kept in what is printed; other control characters are shown as escapes


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status. Errors with a remedy are printed without a traceback."""
    asked = parser().parse_args(arguments)
    try:
        _work(asked)
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        print(f"\nERROR: {printable(error, keep=LINES)}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """The commands, their options and their help texts."""
    found = argparse.ArgumentParser(prog="python -m ptame_study", description="The commands of the study's graph.")
    commands = found.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="execute a notebook with a profile's parameters")
    run.add_argument("notebook", help="its name, for example 03_compare")
    run.add_argument("--method", choices=TRAINED, help="the explainer to train, for notebook 02")
    run.add_argument("--loss", choices=MASKS.values(), help="the loss to train with, for notebook 07")
    run.add_argument("--seed", type=_seed, default=0, help="one of the profile's seeds, for notebooks 02 and 03")
    report = commands.add_parser("report", help="print the main table of a finished profile")
    readme = commands.add_parser("readme", help="take a finished profile's tables into results/reference and README.md")
    seeds = commands.add_parser("seeds", help="write the table of a profile's several seeds")
    commands.add_parser("data", help="fetch the stamps of the cutouts, a Debian package")
    finetune = commands.add_parser("finetune", help="make a profile's multi-label classifier")
    photographs = commands.add_parser("photographs", help="compare methods on real photographs, where these can be had")
    serve = commands.add_parser("serve", help="do such commands in forks of this process; started by the graph")
    serve.add_argument("socket", type=int, help="the number of an open socket")

    # options that several commands share
    for command in (run, report, readme, seeds, finetune, photographs):
        usual = FULL if command is readme else "embedded"
        command.add_argument("--profile", default=usual, help="a file of workflow/profiles, without .yaml")
    for command in (run, seeds, finetune, photographs):
        command.add_argument("--data", help="folder of the images, weights and tables that the profile names")
    for command in (run, finetune):
        command.add_argument("--classifier", required=command is finetune, help="one of the profile's classifiers")
    return found


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a seed can't be {text}: give a whole number that is not negative")
    return int(text)


def _work(asked: argparse.Namespace) -> None:
    """Do what was asked. Tables need torch, which takes seconds; running a notebook does not: its kernel does."""
    if asked.command == "serve":
        return preloaded.serve(asked.socket, main)

    # commands on finished tables
    if asked.command == "report":
        check_known(asked.profile)
        with interrupts.nothing_begun():
            from . import photographs
            from .reproduction import check
            from .tables import report

        lines = [report(asked.profile), *check(asked.profile), *photographs.told(asked.profile)]
        return print(printable("\n".join(lines), keep=LINES))
    if asked.command == "readme":
        with interrupts.nothing_begun():
            from .readme import REFERENCE, renew

        if asked.profile != REFERENCE:
            check_known(asked.profile)
        return print("\n".join(f"written: {files.show(file)}" for file in renew(asked.profile)))

    if asked.command == "data":
        from .fetch import fetch_stamps

        return print(f"stamps of the cutouts: {files.show(fetch_stamps())}")

    # long work: name it in its progress, and tell it where the study and its data are
    if os.environ.get("PTAME_ROOT"):  # made absolute, since a notebook runs in a folder of its own
        os.environ["PTAME_ROOT"] = str(files.root())
    use_data(asked.profile, asked.data)
    if asked.command == "run":
        extra = {name: value for name in ("method", "loss") if (value := getattr(asked, name))}
        names = filter(None, (asked.notebook, asked.classifier, *extra.values()))
        _show_progress(" ".join(names) + paths.tail(asked.seed))
        run_notebook(asked.notebook, asked.profile, asked.classifier, extra, asked.seed)
    elif asked.command == "photographs":
        _show_progress("photographs")
        with interrupts.nothing_begun():
            from .photographs import compare_photographs

        compare_photographs(asked.profile)
    elif asked.command == "seeds":
        with interrupts.nothing_begun():
            from .tables import write_seeds

        write_seeds(asked.profile)
    else:
        with interrupts.nothing_begun():
            from .finetune import finetune_for

        finetune_for(asked.profile, asked.classifier)


def _show_progress(name: str) -> None:
    """Show papermill's log and the notebook's progress bars as prefixed lines on stderr."""

    class OneLine(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            text = printable(record.getMessage().split("\r")[-1].strip(" -"), keep=LINES)
            return f"[{name}] {text}" if text else ""

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    handler.addFilter(lambda record: any(sign in record.getMessage() for sign in ("it/s", "s/it", "Executing Cell")))
    log = logging.getLogger("papermill")
    log.setLevel(logging.INFO)
    log.handlers, log.propagate = [handler], False


if __name__ == "__main__":
    code = interrupts.after_cleaning(main)
    if code > 1:  # a notebook that was stopped would be reported by asyncio, too
        logging.disable()
    sys.exit(code)
