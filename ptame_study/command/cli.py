"""The command ``ptame``: train an explainer for a classifier, explain images with it, and export it. Thin over the library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from ptame_lib.explainers.card import in_one_line
from ptame_lib.training.ptame import TrainingConfig

from .. import paths
from ..explainers import default_auxiliary
from ..settings import AuxiliarySettings, ClassifierSettings, ImageSettings
from . import actions

CLASSIFIERS = "embedded/vgg, vgg16, resnet50, vit_b_16, timm/MODEL, hf/REPOSITORY or hf/FOLDER, onnx/FILE"


class Plain(typer.core.TyperGroup):
    """Shows what the library refuses as one line, with exit code 1. Its messages are made for people; a traceback is not."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except (ValueError, TypeError, OSError, RuntimeError, ImportError, FloatingPointError) as error:
            what = " ".join(str(error).split()) or type(error).__name__
            typer.echo(f"error: {what}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=Plain,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""Explain your own image classifier with P-TAME: one forward pass gives a map of what the classifier used.

    Train an explainer once for your classifier, on images without labels; then explain as many images as you like. Every
    explanation comes with what it is worth for that very image, and a warning where it should not be relied on.

    Example, with a classifier of timm and a folder of photographs:

    `ptame train --classifier timm/mobilenetv3_small_100 --images photos --out mine.safetensors`

    `ptame explain cat.jpg --explainer mine.safetensors`

    `ptame export mine.safetensors --onnx mine.onnx`
    """,
)


Name = Annotated[str, typer.Option("--classifier", help=f"What to explain: {CLASSIFIERS}.")]


Saved = Annotated[
    str | None,
    typer.Option(
        "--classifier", help="The explained classifier.", show_default="the one the explainer was trained for"
    ),
]


WEIGHTS = "The classifier's weights: 'default', 'none' for random ones, or a local state dict (.safetensors, .pth)."


Weights = Annotated[str, typer.Option("--weights", help=WEIGHTS)]


SavedWeights = Annotated[
    str | None, typer.Option("--weights", help=WEIGHTS, show_default="those the explainer was trained for")
]


@app.command()
def explain(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.", show_default=False)
    ],
    explainer: Annotated[
        Path, typer.Option(help="The trained explainer (.safetensors), as `ptame train` writes it.", show_default=False)
    ],
    classifier: Saved = None,
    weights: SavedWeights = None,
    wanted: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="N",
            help="Explain this class (number or name) for every image.",
            show_default="what the classifier decides",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to write the figures: IMAGE.explained.png.")] = Path("explanations"),
) -> None:
    """Explain images: write a figure for each, and print what its explanation is worth.

    The figure shows the image as the classifier sees it, the map over it, what the map keeps and the rest, with the class's
    probability on each. A line that says *caution* names a reason for doubting this map. Classifier, names of the classes and
    size of the images are those stored with the explainer.

    Example: `ptame explain cat.jpg dog.jpg --explainer mine.safetensors --class 281`
    """
    typer.echo(in_one_line(explainer), err=True)
    for file, proof, figure in actions.explain(images, explainer, classifier, weights, wanted, out):
        caution = f" Caution: {proof.warning()}" if proof.warning() else ""
        typer.echo(f"{file.name}: {proof.text()}{caution} [{figure}]")


@app.command()
def train(
    classifier: Name,
    images: Annotated[
        Path,
        typer.Option(
            help="A folder of training images, hundreds at least; no labels are needed, sub-folders are searched.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where to write the explainer (.safetensors); its model card goes beside it.",
            show_default="ptame-CLASSIFIER.safetensors",
        ),
    ] = None,
    weights: Weights = "default",
    labels: Annotated[
        Path | None,
        typer.Option(help="A text file with the name of each class, one a line.", show_default="the classifier's"),
    ] = None,
    auxiliary: Annotated[
        str | None,
        typer.Option(
            help="The small frozen network whose features are used: resnet18, mobilenet_v3_small, mnasnet0_5, timm/MODEL.",
            show_default="resnet18; for embedded/... embedded/auxiliary",
        ),
    ] = None,
    auxiliary_weights: Annotated[
        str, typer.Option(help="The auxiliary's weights: 'default', or a local state dict.")
    ] = "default",
    steps: Annotated[
        int, typer.Option(min=1, help="Training steps, of one batch each; a few thousand for a good explainer.")
    ] = 2000,
    batch_size: Annotated[int, typer.Option(min=2, help="Images per step.")] = 32,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Seed of everything drawn.")] = 0,
    held_out: Annotated[
        int, typer.Option(min=0, help="Images kept from training, to measure the explainer on; 0 for none.")
    ] = 32,
    precision: Annotated[str, typer.Option(help="no, bf16 or fp16 (on a GPU).")] = "no",
    queries_per_image: Annotated[
        int, typer.Option(min=1, help="Only for onnx/FILE: how often to ask it at most, per training image.")
    ] = 300,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted training with the same options was.")
    ] = False,
) -> None:
    """Train an explainer for a classifier, on a folder of images: once for each classifier.

    A bar shows the progress; after a few steps the time is estimated. The state is saved every 200 steps: after an
    interruption, the same command with `--resume` goes on from there. At the end the explainer is measured on held-out images.

    Example: `ptame train --classifier timm/mobilenetv3_small_100 --images photos --out mine.safetensors --steps 2000`
    """
    out = out or Path(f"ptame-{paths.slug(classifier)}.safetensors")
    metrics = actions.train(
        ClassifierSettings(classifier, weights),
        AuxiliarySettings(auxiliary or default_auxiliary(classifier), weights=auxiliary_weights),
        ImageSettings(str(images), test_images=held_out, seed=seed),
        TrainingConfig(steps=steps, batch_size=batch_size, lr=lr, seed=seed, precision=precision),
        out,
        names=labels,
        queries_per_image=queries_per_image,
        resume=resume,
        say=tqdm.write,
    )
    if metrics:
        typer.echo(
            f"On {metrics['images']} held-out images, in percent: {metrics['faithful']} keep their decision with what the "
            f"map keeps, {metrics['rest alike']} with the rest alone; AD100 {metrics['AD100']}, IC100 {metrics['IC100']}."
        )
    typer.echo(f"The explainer is {out}, its model card {out}.md. Next: ptame explain IMAGE... --explainer {out}")


@app.command()
def export(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A trained explainer (.safetensors).", show_default=False)
    ],
    onnx: Annotated[
        Path | None,
        typer.Option(help="Write ONNX there (needs: pip install 'ptame-study[export]').", show_default=False),
    ] = None,
    torch_export: Annotated[
        Path | None, typer.Option("--torch", help="Write a file of torch.export (.pt2) there.", show_default=False)
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Side of the images it is for.", show_default="what it was trained on")
    ] = None,
    classifier: Annotated[
        str | None,
        typer.Option(
            help="Only for T-TAME and L-CAM-Img, which use its features.", show_default="the one it was trained for"
        ),
    ] = None,
    weights: SavedWeights = None,
) -> None:
    """Export an explainer to a file that runs without this library, and check that it gives the same maps.

    Inputs are pixels (B,3,H,W) in [0,1] and target classes (B,); the output are maps (B,h,w) in [0,1].

    Example: `ptame export mine.safetensors --onnx mine.onnx`
    """
    for done in actions.export(file, onnx, torch_export, size, classifier, weights):
        typer.echo(done.text())


def main() -> None:
    """Entry point of the installed command."""
    app(prog_name="ptame")


if __name__ == "__main__":
    main()
