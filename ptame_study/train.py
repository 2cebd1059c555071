"""Train an explainer in many processes, on one or more machines, with the parameters of notebook 02.

    accelerate launch -m ptame_study.train --profile imagenet --classifier resnet50        # all GPUs of this machine
    accelerate launch --multi_gpu --num_machines 4 --num_processes 32 --machine_rank 0 --main_process_ip HOST \\
        -m ptame_study.train ...                                                            # 4 machines of 8 GPUs
    ACCELERATE_USE_CPU=true torchrun --nproc-per-node 2 -m ptame_study.train ...            # CPU processes
    python -m ptame_study.train ...                                                         # one process

The explainer and its history are written where notebook 02 writes them, and the finished checkpoint is left there: the
notebook, run afterwards with ``resume``, as ``make reproduce`` does, takes it over instead of training, and calibrates
the maps' values. The batch size
is that of all processes together, so that the weights are the same for any number of them (see
`ptame_lib.training.distributed`). Several machines must share the study's folder, and run the same code.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything that takes time to import
    from ptame_study import interrupts

    interrupts.at_once()

import ast
import json
import sys
from typing import Annotated, Any

import pandas as pd
import torch
import typer

from ptame_lib import files
from ptame_lib.explainers.loading import TRAINED
from ptame_lib.training.ptame import config_for, train_ptame

from . import paths, profiles, records
from .classifiers import count_classes, load_explained
from .command.cli import Plain
from .explainers import new_explainer, training_origin
from .images import load_parts
from .parameters import configure, plain
from .settings import TRAINING, AuxiliarySettings, ClassifierSettings, ImageSettings, Source

NOTEBOOK = "02_train_ptame"

app = typer.Typer(cls=Plain, add_completion=False, pretty_exceptions_enable=False)


Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A parameter of notebook 02: lr=0.001, loss.ce=5.0."),
]


@app.callback(invoke_without_command=True)
def train(
    profile: Annotated[str, typer.Option(help="A profile in workflow/profiles.")],
    classifier: Annotated[str, typer.Option(help="A classifier of the profile.")],
    method: Annotated[str, typer.Option(help=", ".join(TRAINED))] = "P-TAME",
    changes: Changes = None,
    data: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where the profile's images, weights and tables are.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start from the beginning; an unfinished state is kept aside.")
    ] = False,
) -> None:
    """Train an explainer as notebook 02 does, in all processes started; continues from its checkpoint."""
    profiles.use_data(profile, data)
    cfg = read_config(profile, classifier, method, changes or [])

    # the classifier, the images and an untrained explainer
    chosen = ClassifierSettings.of(cfg)
    explained = load_explained(chosen)
    [images] = load_parts(ImageSettings.of(cfg), ["train"], explained)
    torch.manual_seed(cfg.seed)
    classes = count_classes(explained, images[0]["pixels"])
    explainer = new_explainer(cfg.method, chosen, AuxiliarySettings.of(cfg), explained, classes)

    # train, from the checkpoint where there is one
    config = config_for(cfg.method, cfg.training)
    origin = training_origin(plain(cfg), images, cfg.source.files())
    file = paths.explainer(cfg.profile, cfg.classifier, cfg.method, cfg.seed)
    state = {"checkpoint": file.with_suffix(".ckpt"), "made_from": origin}
    resume = state["checkpoint"].is_file() and not fresh
    try:
        history = train_ptame(explainer, explained, images, config, resume=resume, **state)
    except ValueError as error:
        raise ValueError(f"{error}; --fresh starts from the beginning" if resume else str(error)) from error

    # write what notebook 02 writes
    if is_main():
        explainer.save(file, classifier=cfg.classifier, seed=str(cfg.seed), profile=cfg.profile)
        records.write_table(paths.results(cfg.profile) / f"history-{file.stem}.csv", pd.DataFrame(history))
        typer.echo(f"The explainer is {files.show(file)}, its checkpoint {files.show(state['checkpoint'])}.")


def read_config(profile: str, classifier: str, method: str, changes: list[str]) -> Any:
    """Notebook 02's checked parameters for a profile and classifier.

    ``changes``: NAME=VALUE, or NAME.KEY=VALUE for a key of a dict. Raises ValueError for others, and as `configure`.
    """
    cells = json.loads(paths.notebook(NOTEBOOK).read_text())["cells"]
    cell = next("".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", []))
    defaults = (node for node in ast.parse(cell).body if isinstance(node, ast.AnnAssign))
    values = {node.target.id: ast.literal_eval(node.value) for node in defaults}
    values |= profiles.parameters_for(profile, NOTEBOOK, classifier, method=method) | {"method": method}

    # what --set changes
    for change in changes:
        name, sign, text = change.partition("=")
        name, dot, key = name.partition(".")
        if not sign or name not in values or bool(dot) != isinstance(values[name], dict):
            known = ", ".join(f"{name}.KEY" if isinstance(value, dict) else name for name, value in values.items())
            raise ValueError(f"can't set {change!r}: write NAME=VALUE with a parameter of notebook 02 ({known})")
        if dot:
            values[name] = values[name] | {key: _read_value(text)}
        else:
            values[name] = text if isinstance(values[name], str) else _read_value(text)

    return configure([cell], values, method=TRAINED, source=Source, **TRAINING)


def _read_value(text: str) -> Any:
    """A Python literal, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def is_main() -> bool:
    """Whether this is the one process that writes."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def main() -> None:
    """``python -m ptame_study.train``"""
    try:
        app(prog_name="python -m ptame_study.train")
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


if __name__ == "__main__":
    sys.exit(interrupts.after_cleaning(main))
