"""Train an explainer in many processes, on one machine or several, with the parameters of notebook 02.

    accelerate launch -m ptame_study.train --profile imagenet --classifier resnet50        # all GPUs of this machine
    accelerate launch --multi_gpu --num_machines 4 --num_processes 32 --machine_rank 0 --main_process_ip HOST -m ptame_study.train ...
    ACCELERATE_USE_CPU=true torchrun --nproc-per-node 2 -m ptame_study.train ...            # CPU processes
    python -m ptame_study.train ...                                                         # one process

The explainer and its history are written where notebook 02 writes them, and the finished checkpoint is left there: the notebook,
run afterwards with ``resume``, as ``make reproduce`` does, takes it over instead of training, and draws its figures. The batch size
is that of all processes together, so that the weights are the same for any number of them (see `parallel`). Several machines must
share the study's folder, and run the same code.
"""

from __future__ import annotations

import ast
import json
from typing import Annotated, Any

import pandas as pd
import torch
import typer

from ptame_lib import files
from ptame_lib.datasets.embedded import load_embedded
from ptame_lib.explainers.loading import TRAINED
from ptame_lib.training.ptame import train_ptame

from . import paths, profiles, records
from .classifiers import load_explained
from .command.cli import Plain
from .explainers import new_explainer, training_config, training_origin
from .images import split_images
from .parameters import configure

NOTEBOOK = "02_train_ptame"


app = typer.Typer(cls=Plain, add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def train(
    profile: Annotated[str, typer.Option(help="A profile in workflow/profiles.")],
    classifier: Annotated[str, typer.Option(help="A classifier of the profile.")],
    method: Annotated[str, typer.Option(help=", ".join(TRAINED))] = "P-TAME",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Another value for a parameter of notebook 02."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where the profile's images, weights and tables are.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew, whatever checkpoint there is.")] = False,
) -> None:
    """Train an explainer as notebook 02 does, in as many processes as it is started in; goes on from its checkpoint."""
    profiles.use_data(profile, data)
    cfg = config(profile, classifier, method, changes or [])
    explained = load_explained(cfg)
    images = (
        split_images(cfg, explained, 1)["train"]
        if cfg.images
        else load_embedded("train", cfg.train_images, seed=cfg.seed)
    )
    torch.manual_seed(cfg.seed)
    with torch.no_grad():
        classes = explained(images[0]["pixels"][None]).shape[1]
    explainer = new_explainer(cfg, explained, classes)
    settings, origin = training_config(cfg), training_origin(cfg, images)
    file = paths.explainer(cfg.profile, cfg.classifier, cfg.method)
    unfinished = file.with_suffix(".ckpt")
    resume = unfinished.is_file() and not fresh
    try:
        history = train_ptame(
            explainer, explained, images, settings, checkpoint=unfinished, resume=resume, made_from=origin
        )
    except ValueError as error:
        raise ValueError(f"{error}; --fresh begins anew" if resume else str(error)) from error
    if is_main():
        explainer.save(file, classifier=cfg.classifier, seed=str(cfg.seed), profile=cfg.profile)
        records.write_table(paths.results(cfg.profile) / f"history-{file.stem}.csv", pd.DataFrame(history))
        typer.echo(f"The explainer is {files.show(file)}, its checkpoint {files.show(unfinished)}.")


def config(profile: str, classifier: str, method: str, changes: list[str]) -> Any:
    """Notebook 02's checked parameters for a profile and classifier, with ``changes`` (NAME=VALUE). Raises as `study.configure`."""
    cells = json.loads(paths.notebook(NOTEBOOK).read_text())["cells"]
    cell = next("".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", []))
    defaults = (node for node in ast.parse(cell).body if isinstance(node, ast.AnnAssign))
    values = {node.target.id: ast.literal_eval(node.value) for node in defaults}
    values |= profiles.parameters_for(profile, NOTEBOOK, classifier) | {"method": method}
    for change in changes:
        name, sign, text = change.partition("=")
        if not sign or name not in values:
            raise ValueError(
                f"can't set {change!r}: write NAME=VALUE with a parameter of notebook 02 ({', '.join(values)})"
            )
        values[name] = text if isinstance(values[name], str) else ast.literal_eval(text)
    return configure([cell], values, method=TRAINED, precision=("no", "bf16", "fp16"), optimizer=("adamw", "sgd"))


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
    main()
