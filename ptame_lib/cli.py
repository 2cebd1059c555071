"""The command ``ptame``: train an explainer for a classifier, explain images with it, and export it. Thin over the library."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import typer
from torch import Tensor
from tqdm import tqdm

CLASSIFIERS = "embedded/vgg, vgg16, resnet50, vit_b_16, timm/<model>, hf/<repository or folder>, onnx/<file>"


class Plain(typer.core.TyperGroup):
    """Shows what the library refuses as one line, with exit code 1. Its messages are made for people; a traceback is not."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except (ValueError, TypeError, OSError, RuntimeError, ImportError, ArithmeticError, LookupError) as error:
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
Saved = Annotated[str | None, typer.Option("--classifier", help="The explained classifier.", show_default="the one the explainer was trained for")]
Weights = Annotated[
    str, typer.Option(help="The classifier's weights: 'default', 'none' for random ones, or a local state dict (.safetensors, .pth).")
]


@app.command()
def explain(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.", show_default=False)],
    explainer: Annotated[Path, typer.Option(help="The trained explainer (.safetensors), as `ptame train` writes it.", show_default=False)],
    classifier: Saved = None,
    weights: Weights = "default",
    wanted: Annotated[
        str | None,
        typer.Option("--class", metavar="N", help="Explain this class (number or name) for every image.", show_default="what the classifier decides"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to write the figures: <image>.explained.png.")] = Path("explanations"),
) -> None:
    """Explain images: write a figure for each, and print what its explanation is worth.

    The figure shows the image as the classifier sees it, the map over it, what the map keeps and the rest, with the class's
    probability on each. A line that says *caution* names a reason for doubting this map.

    Example: `ptame explain cat.jpg dog.jpg --explainer mine.safetensors --class 281`
    """
    import matplotlib.pyplot as plt
    import torch

    from . import figures, paths
    from .evidence import explain_with_evidence
    from .model_card import about

    known = about(explainer)
    model, trained = _pair(explainer, classifier, weights, known)
    files = list(_files(images))
    outputs = _names(files, out)
    figures.use_style()
    for file, output in zip(files, outputs, strict=True):
        pixels = _read(file, model)[None]
        targets = None if wanted is None else torch.tensor([_class(wanted, trained.num_classes, model.labels)])
        maps, found = explain_with_evidence(trained, model, pixels, targets)
        figure = figures.explanation(pixels[0], maps[0], found[0])
        with paths.whole(output) as unfinished:
            figure.savefig(unfinished)
        plt.close(figure)
        warning = f" Caution: {found.warning(0)}" if found.warning(0) else ""
        typer.echo(f"{file.name}: {found.text(0)}{warning} [{output}]")


@app.command()
def train(
    classifier: Name,
    images: Annotated[Path, typer.Option(help="A folder of training images; no labels are needed, sub-folders are searched.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Where to write the explainer (.safetensors); its model card goes beside it.", show_default=False)],
    weights: Weights = "default",
    labels: Annotated[Path | None, typer.Option(help="A text file with the name of each class, one a line.", show_default="the classifier's")] = None,
    auxiliary: Annotated[
        str, typer.Option(help="The small frozen network whose features are used: resnet18, mobilenet_v3_small, mnasnet0_5, timm/<model>.")
    ] = "resnet18",
    auxiliary_weights: Annotated[str, typer.Option(help="The auxiliary's weights: 'default', 'none', or a local state dict.")] = "default",
    steps: Annotated[int, typer.Option(min=1, help="Training steps, of one batch each; a few thousand for a good explainer.")] = 2000,
    batch_size: Annotated[int, typer.Option(min=2, help="Images per step.")] = 32,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Seed of everything drawn.")] = 0,
    held_out: Annotated[int, typer.Option(min=0, help="Images kept from training, to measure the explainer on; 0 for none.")] = 32,
    precision: Annotated[str, typer.Option(help="no, bf16 or fp16 (on a GPU).")] = "no",
    queries_per_image: Annotated[int, typer.Option(min=1, help="For onnx/<file> alone: how often to ask it, per training image.")] = 300,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted training with the same options was.")] = False,
) -> None:
    """Train an explainer for a classifier, on a folder of images.

    A bar shows the progress; after a few steps the whole time is estimated. The state is saved every 200 steps: after an
    interruption, the same command with `--resume` goes on from there. At the end the explainer is measured on held-out images.

    Example: `ptame train --classifier timm/mobilenetv3_small_100 --images photos --out mine.safetensors --steps 2000`
    """
    import torch

    from . import recipes
    from .classifiers import load_classifier
    from .features import load_auxiliary
    from .model_card import write_model_card
    from .ptame import PTAME
    from .queries import train_black_box
    from .training import TrainingConfig, train_ptame

    if out.suffix != ".safetensors":
        raise ValueError(f"--out {out} must end in .safetensors")
    if out.exists():
        raise ValueError(f"{out} exists: delete it, or choose another --out")
    names = None if labels is None else [line.strip() for line in labels.read_text(encoding="utf-8").splitlines() if line.strip()]
    model = load_classifier(classifier, None if weights == "none" else weights, names)
    settings = SimpleNamespace(images=str(images), test_images=held_out, seed=seed)
    data, test = recipes.split(settings, model) if held_out else (recipes.folder(str(images), model), None)
    config = TrainingConfig(steps=steps, batch_size=batch_size, lr=lr, seed=seed, precision=precision)
    with torch.no_grad():
        num_classes = model(data[0]["pixels"][None]).shape[1]
    if names and len(names) != num_classes:
        raise ValueError(f"{labels} names {len(names)} classes, {classifier} has {num_classes}: give one name a line")
    torch.manual_seed(seed)
    explainer = PTAME(load_auxiliary(auxiliary, weights=None if auxiliary_weights == "none" else auxiliary_weights), num_classes)
    checkpoint = out.with_suffix(".checkpoint.pt")
    typer.echo(f"Training on {len(data)} images of {images}, {steps} steps of {batch_size}.")
    options = {"checkpoint": checkpoint, "resume": resume, "on_step": _estimate(steps)}
    if model.differentiable:
        train_ptame(explainer, model, data, config, **options)
    else:
        train_black_box(explainer, model, data, config, queries_per_image=queries_per_image, **options)
    metrics = _measure(explainer, model, test, batch_size) if test else None
    explainer.save(
        out,
        classifier=classifier,
        labels=model.labels,
        training=config,
        profile="ptame train",
        seed=seed,
        images=f"{len(data)} images of {images.name}",
        input_size=model.input_size,
        metrics=metrics,
    )
    checkpoint.unlink(missing_ok=True)
    if metrics:
        typer.echo(f"On {metrics['images']} held-out images: " + ", ".join(f"{k} {v}" for k, v in metrics.items() if k != "images") + ".")
    typer.echo(f"The explainer is {out}, its model card {write_model_card(out)}.")


@app.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A trained explainer (.safetensors).", show_default=False)],
    onnx: Annotated[Path | None, typer.Option(help="Write ONNX there (needs: pip install 'ptame-study[export]').", show_default=False)] = None,
    torch_export: Annotated[Path | None, typer.Option("--torch", help="Write a file of torch.export (.pt2) there.", show_default=False)] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Side of the images it is for.", show_default="what it was trained on")] = None,
    classifier: Annotated[str | None, typer.Option(help="For T-TAME and L-CAM-Img alone, which use its features.", show_default="the saved one")] = None,
    weights: Weights = "default",
) -> None:
    """Export an explainer to a file that runs without this library, and check that it gives the same maps.

    Inputs are pixels (B,3,H,W) in [0,1] and target classes (B,); the output are maps (B,h,w) in [0,1].

    Example: `ptame export mine.safetensors --onnx mine.onnx`
    """
    from .export import to_onnx, to_torch_export
    from .model_card import about
    from .ptame import saved_config
    from .recipes import load_explainer

    if onnx is None and torch_export is None:
        raise ValueError("nothing to write: name a file with --onnx or --torch")
    known = about(file)
    own = ":" in known["auxiliary"]  # the features are the classifier's
    trained = load_explainer(file, _classifier(classifier, weights, known, file) if own else None)
    side = size or known.get("input_size")
    for target, write in ((onnx, to_onnx), (torch_export, to_torch_export)):
        if target is not None:
            typer.echo(write(trained, target, tuple(side) if isinstance(side, list) else side, saved_config(file)).text())


def _pair(file: Path, name: str | None, weights: str, known: dict[str, Any]) -> tuple[Any, Any]:
    """The classifier and its explainer; ValueError where they don't belong together."""
    from .recipes import load_explainer

    model = _classifier(name, weights, known, file)
    trained = load_explainer(file, model)
    classes = getattr(model, "num_classes", None) or model(_black(model)).shape[1]
    if classes != trained.num_classes:
        raise ValueError(f"{file} explains {trained.num_classes} classes, the classifier has {classes}: name the one it was trained for")
    return model, trained


def _classifier(name: str | None, weights: str, known: dict[str, Any], file: Path) -> Any:
    from .classifiers import load_classifier

    name = name or known.get("classifier")
    if name is None:
        raise ValueError(f"{file} does not say what it explains: pass --classifier")
    model = load_classifier(name, None if weights == "none" else weights)
    if model.labels is None and known.get("labels"):
        model.labels = tuple(known["labels"])
    return model


def _black(model: Any) -> Tensor:
    import torch

    return torch.zeros(1, 3, *model.input_size)


def _files(images: Iterable[Path]) -> Iterable[Path]:
    """Image files, those of folders included."""
    from .datasets import ImageFolder

    for image in images:
        if not image.exists():
            raise FileNotFoundError(f"no image at {image}: check the path")
        yield from ImageFolder(image).files if image.is_dir() else [image]


def _names(files: list[Path], out: Path) -> list[Path]:
    """A figure's file for each image; images of one name in several folders get numbers."""
    names: dict[str, int] = {}
    found = []
    for file in files:
        names[file.stem] = names.get(file.stem, 0) + 1
        number = f"-{names[file.stem]}" if names[file.stem] > 1 else ""
        found.append(out / f"{file.stem}{number}.explained.png")
    return found


def _read(file: Path, model: Any) -> Tensor:
    """The image as the classifier sees it, (3,H,W) in [0,1]."""
    from .datasets import ImageFolder

    size = model.input_size[0]
    return ImageFolder(file.parent, size, size * 8 // 7, [file.name])[0]["pixels"]


def _class(wanted: str, classes: int, labels: tuple[str, ...] | None) -> int:
    if labels and wanted in labels:
        return labels.index(wanted)
    if not wanted.lstrip("-").isdigit() or not 0 <= int(wanted) < classes:
        raise ValueError(f"--class {wanted} is none of the classifier's classes: give a number in 0..{classes - 1}" + (" or a name" if labels else ""))
    return int(wanted)


def _estimate(steps: int, after: int = 5) -> Callable[[dict[str, float]], None]:
    """Says once, ``after`` steps from the start, how long the training will take."""
    seen: list[float] = []

    def on_step(row: dict[str, float]) -> None:
        seen.append(time.perf_counter())
        if len(seen) == after + 1:  # the first step also warms everything up
            left = (seen[-1] - seen[0]) / after * (steps - 1 - row["step"])
            tqdm.write(f"About {_duration(left)} to go.")

    return on_step


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _measure(explainer: Any, model: Any, test: Any, batch_size: int) -> dict[str, float]:
    """Metrics on held-out images, in percent."""
    import torch

    from .classifiers import device_of
    from .evidence import explain_with_evidence
    from .metrics.drop import average_drop, increase_in_confidence

    device, parts = device_of(explainer), []
    model = model.to(device)
    for batch in torch.utils.data.DataLoader(test, batch_size):
        _, found = explain_with_evidence(explainer, model, batch["pixels"].to(device))
        drops = average_drop(found.whole, found.kept), increase_in_confidence(found.whole, found.kept)
        parts.append(torch.stack([found.faithful.double(), *(d.double() for d in drops), found.rest_too.double()]).cpu())
    means = (100 * torch.cat(parts, 1).mean(1)).tolist()
    names = ("kept part decided alike", "AD100", "IC100", "rest decided alike")
    return {"images": len(test), **{name: round(mean, 1) for name, mean in zip(names, means, strict=True)}}


def main() -> None:
    app()


if __name__ == "__main__":
    main()
