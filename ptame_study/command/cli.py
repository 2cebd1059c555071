"""The command ``ptame``: train an explainer for a classifier, explain images, report on one, score maps, export.

At the top only what parsing and help need is imported. The rest needs torch, which takes seconds: each command imports
it when its work begins.
"""

from __future__ import annotations

import re
import shlex
import warnings
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from ptame_lib.explainers.names import QUESTIONS
from ptame_lib.texts import printable

from .. import interrupts, paths
from .naming import check_folder, check_there
from .wording import amount, name_file, whole_number

CLASSIFIERS = "embedded/vgg, lite/2, vgg16, resnet50, vit_b_16, timm/MODEL, hf/REPOSITORY or hf/FOLDER, onnx/FILE"


def say(text: str, err: bool = False) -> None:
    """Print one line: nothing in it moves the cursor, sets a title or begins another line."""
    typer.echo(printable(text), err=err)


def warn(what: Warning, *_: Any) -> None:
    """Show a warning in one line."""
    say(f"warning: {' '.join(str(what).split())}", err=True)


OPTIONS = (  # the library's arguments in its messages, and the command's words for them
    (r"\bweights=None\b", "--weights none"),
    (r"\bweights=<path of a local file>", "--weights FILE"),
    (r"\bpass its path as weights\b", "pass its path as --weights"),
    (r", or (pass )?auxiliary_weights=None for random (ones|weights)", ""),  # which can't be saved
    (r"\bauxiliary_weights=<path of a local file>", "--auxiliary-weights FILE"),
    (r"\bpass its path as auxiliary_weights\b", "pass its path as --auxiliary-weights"),
    (r"\bstart with resume=False\b", "start again without --resume"),
    (r"\b(steps|lr|seed|precision)=(?=[\d'])", r"--\1 "),
    (r"\bbatch_size=(?=\d)", "--batch-size "),
    (r"\bqueries_per_image=(?=\d)", "--queries-per-image "),
    (r"\blower lr\b", "lower --lr"),
    (r"\bresume=True\b", "--resume"),
    (r", or name the folder with the data by DATA=/path\b", ""),  # of profiles
)


def in_options(text: str) -> str:
    """A message of the library in the command's words.

    >>> in_options("pass weights=<path of a local file>, or weights=None for random ones")
    'pass --weights FILE, or --weights none for random ones'
    """
    for said, meant in OPTIONS:
        text = re.sub(said, meant, text)
    return text


class Plain(typer.core.TyperGroup):
    """Commands that show warnings and errors as one line, without a traceback; errors exit with 1."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[__name__] = tuple(args)  # before the commands take them apart
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = warn
                warnings.filterwarnings("ignore", "Image size .* decompression bomb")  # of images that are read
                return super().invoke(ctx)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt as stop:  # which click would call an abort, with exit code 1
            raise typer.Exit(interrupts.told(stop)) from stop
        except (ValueError, TypeError, OSError, RuntimeError, ImportError, FloatingPointError) as error:
            what = in_options(" ".join(str(error).split())) or type(error).__name__
            say(f"error: {what}", err=True)
            raise typer.Exit(1) from error
        except Exception as error:  # of the arguments, which are shown with the usage
            name_file(error, ctx.meta[__name__])
            raise


app = typer.Typer(
    cls=Plain,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""Explain your own image classifier with P-TAME: one forward pass gives a map of what the classifier used.

    Train an explainer once for your classifier, on images without labels; then explain as many images as you like.
    Every explanation comes with what it is worth for that image, and a warning where it should not be relied on.

    Example, with the explainer that is shipped, of the classifier lite/2:

    `ptame explain cat.jpg`

    Example, with a classifier of timm and a folder of photographs:

    `ptame train --classifier timm/mobilenetv3_small_100 --images photos --out mine.safetensors`

    `ptame explain cat.jpg --explainer mine.safetensors`

    `ptame report cat.jpg --explainer mine.safetensors --out report.html`

    `ptame export mine.safetensors --onnx mine.onnx`

    `ptame score maps --images photos --classifier timm/mobilenetv3_small_100`
    """,
)


def option(text: str, *names: str, shown: str | bool = True, least: int | None = None, **more: Any) -> Any:
    """An option with its help ``text`` and the default ``shown``: the real one, none, or words for it.

    ``least``: of an option that is a whole number.
    """
    if least is not None:
        more |= {"parser": whole_number(least), "metavar": f"N >= {least}"}
    return typer.Option(*names, help=text, show_default=shown, **more)


TRAINED = "the one the explainer was trained for, unless that is hf/... or onnx/..."
WEIGHTS = "The classifier's weights: 'default', 'none' for random ones, or a local state dict (.safetensors, .pth)."
AUXILIARY = "The small frozen network whose features are used: resnet18, mnasnet0_5, timm/MODEL ..."
DEFAULT_AUXILIARY = "resnet18; for embedded/... embedded/auxiliary, for lite/... lite/0"

Name = Annotated[str, option(f"What to explain: {CLASSIFIERS}.", "--classifier")]
Saved = Annotated[str | None, option("The explained classifier.", "--classifier", shown=TRAINED)]
Used = Annotated[
    Path | None,
    option("The explainer (.safetensors), as `ptame train` writes it.", shown="the one of lite/2 that is shipped"),
]
Weights = Annotated[str, option(WEIGHTS, "--weights")]
SavedWeights = Annotated[
    str | None, option(WEIGHTS, "--weights", shown="those the explainer was trained for, unless from a file")
]

SavedAuxiliaryWeights = Annotated[
    str | None,
    option(
        "The auxiliary's weights: a local state dict.",
        "--auxiliary-weights",
        shown="those the explainer was trained on, unless from a file",
    ),
]

TrainingImages = Annotated[
    Path, option("A folder of training images, hundreds at least; no labels are needed.", "--images", shown=False)
]
NewExplainer = Annotated[
    Path | None,
    option("Where to write the explainer and its model card.", "--out", shown="ptame-CLASSIFIER.safetensors"),
]
Labels = Annotated[
    Path | None, option("A text file with the name of each class, one a line.", "--labels", shown="the classifier's")
]


@app.command()
def explain(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.", show_default=False)
    ],
    explainer: Used = None,
    classifier: Saved = None,
    weights: SavedWeights = None,
    wanted: Annotated[
        list[str] | None,
        option(
            "Explain this class, number or name; '#N', quoted, is always a number. Give it again for several classes.",
            "--class",
            metavar="N",
            shown="what the classifier decides",
        ),
    ] = None,
    out: Annotated[
        Path,
        option(
            "A folder for the figures: IMAGE.explained.png, with questions IMAGE.asked-8-areas.explained.png, and the "
            "same in JSON."
        ),
    ] = Path("explanations"),
    ask: Annotated[
        str | None,
        option(
            f"Correct the map by questions to the classifier about the image: {', '.join(map(repr, QUESTIONS))}. "
            "A number: so many in turn, four passes each; averaged: each goes on from the mean of those before; areas: "
            "the image without each of so many areas of similar colour, one pass each.",
            shown="the map of one pass",
        ),
    ] = None,
    auxiliary_weights: SavedAuxiliaryWeights = None,
) -> None:
    """Explain images: write a figure for each, and print what its explanation is worth.

    The classifier sees the middle of an image: the figure marks it on the whole image. It shows the map over this
    middle, the pixels that the map puts first and the image without them, with all others black and blurred, and the
    class's probability on each. The sentences are about these pixels; *caution* names a reason to doubt them, first of
    all that the image holds nothing to see, or that the class is not the decision. The same is written as
    IMAGE.explained.json, with what it was made from.
    The files of a `--class` have its number. Those of another image of the same name are not replaced; those of the
    same image are, also where another explainer made them: give it another `--out`. Classifier,
    names of the classes and size of the images are those stored with the explainer. A classifier `hf/...` or `onnx/...`
    and local weights are loaded only if you name them: the explainer of a stranger could name any.

    Example: `ptame explain cat.jpg dog.jpg --explainer mine.safetensors --class 281 --class 282`

    `--ask '8 areas'` also asks the classifier about the image without each of eight areas of similar colour. It is for
    maps that must show what decided (docs/whose_evidence.md); `--ask '5 averaged'` is for those that must keep the
    decision (docs/results.md). The text says how many of the pixels shown are there because of the questions.

    Without an explainer, the shipped one explains lite/2, which knows ImageNet's 1000 classes: `ptame explain cat.jpg`
    """
    if ask is not None and ask not in QUESTIONS:  # before seconds of loading, and before anything else is said
        raise ValueError(f"unknown --ask {ask!r}: choose one of {', '.join(map(repr, QUESTIONS))}, in quotes")
    check_there(*images)
    check_folder(out)
    with interrupts.nothing_begun():
        from ptame_lib.explainers.card import about, in_one_line

        from . import actions

    explainer = explainer or actions.shipped_explainer(classifier)
    known, by = about(explainer), partial(say, err=True)
    say(in_one_line(explainer, known), err=True)
    for done in actions.explain(
        images, explainer, classifier, weights, wanted or (), out, auxiliary_weights, known, by, ask
    ):
        say(done.said())


@app.command()
def report(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image file.", show_default=False)],
    explainer: Used = None,
    out: Annotated[Path, option("Where to write the page; the same goes into JSON beside it.")] = Path("report.html"),
    wanted: Annotated[
        list[str] | None,
        option(
            "Explain this class, too, number or name; '#N', quoted, is always a number. Give it again for several.",
            "--class",
            metavar="N",
            shown="the decision and the next four classes",
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        option(
            "Why the decision and not this class. Give it again for several.",
            "--against",
            metavar="N",
            shown="those of --class, else the second likeliest",
        ),
    ] = None,
    methods: Annotated[
        list[str] | None,
        option(
            "Other methods to show side by side: RISE,Grad-CAM,LayerCAM ... Separate them by commas.",
            "--methods",
            metavar="NAMES",
            shown="none",
        ),
    ] = None,
    classifier: Saved = None,
    weights: SavedWeights = None,
    auxiliary_weights: SavedAuxiliaryWeights = None,
) -> None:
    """Report on one decision: a page to read, print and hand on, in one file of HTML.

    It shows the image, the decision and the next four classes, the map of each, what each map keeps and removes and
    what that is worth in words, why the decision is not another class, and from which files and versions all this was
    made. It needs no network and holds no scripts. For a PDF, print it in a browser. The same is in JSON beside it.

    Example: `ptame report photo.jpg --explainer mine.safetensors --out report.html --methods RISE,LayerCAM`

    Without an explainer, the shipped one explains lite/2: `ptame report photo.jpg`
    """
    check_there(image)
    with interrupts.nothing_begun():
        from .actions import shipped_explainer
        from .reporting import report as write

    names = [name.strip() for each in methods or () for name in each.split(",") if name.strip()]
    chosen = {"wanted": wanted or (), "against": against or (), "methods": names}
    networks = {"classifier": classifier, "weights": weights, "auxiliary_weights": auxiliary_weights}
    explainer = explainer or shipped_explainer(classifier)
    for file in write(image, explainer, out, **chosen, **networks, say=partial(say, err=True)):
        say(f"written: {file}")


@app.command()
def score(
    maps: Annotated[
        Path, typer.Argument(metavar="MAPS", help="A folder of maps, named as the images.", show_default=False)
    ],
    images: Annotated[Path, option("The folder of the images.", "--images", shown=False)],
    classifier: Annotated[str, option(f"What the maps explain: {CLASSIFIERS}.", "--classifier", shown=False)],
    weights: Weights = "default",
    out: Annotated[Path, option("Where to write the scores; those of each image go into CSV beside it.")] = Path(
        "scores.json"
    ),
    whole: Annotated[
        bool, option("The maps cover whole images, not the middle that the classifier sees.", "--whole")
    ] = False,
    truth: Annotated[
        Path | None, option("A folder of masks of the whole images, not 0 where the evidence is.", shown=False)
    ] = None,
    targets: Annotated[
        Path | None,
        option("A CSV of file, class_id: the classes that the maps explain.", shown="what the classifier decides"),
    ] = None,
    method: Annotated[
        str | None, option("The method that made the maps (Grad-CAM, RISE ...), to ask it again.", shown=False)
    ] = None,
    explainer: Annotated[
        Path | None, option("The explainer (.safetensors) that made them, to ask it again.", shown=False)
    ] = None,
    quick: Annotated[
        bool, option("Leave out ROAD, insertion, deletion and SaCo: most of the time.", "--quick")
    ] = False,
    seed: Annotated[int, option("Seed of what is drawn: noise, and randomised networks.", least=0)] = 0,
) -> None:
    """Score maps of any origin: every metric, with 95 % intervals over the images.

    A map is a file beside the others that is named as its image: `cat.npy`, `cat.png` (in grey, 8 or 16 bits) or
    `cat.safetensors` (one tensor) for `cat.jpg`, in the same sub-folder. It holds (h,w) numbers of any range, larger
    where the evidence is. With `--method` or `--explainer`, also robustness (max-sensitivity) is measured, and with
    `--method` whether the maps change when the classifier is randomised. The main metrics are printed; all are written.

    Example: `ptame score maps --images photos --classifier timm/mobilenetv3_small_100 --method Grad-CAM`
    """
    with interrupts.nothing_begun():
        from .scoring import score_maps

    chosen = {"weights": weights, "whole": whole, "truth": truth, "targets": targets}
    again = {"method": method, "explainer": explainer, "quick": quick, "seed": seed}
    found, written = score_maps(maps, images, classifier, out, **chosen, **again)
    for line in found.text().splitlines():
        say(line)
    for file in written:
        say(f"written: {file}")


@app.command()
def train(
    classifier: Name,
    images: TrainingImages,
    out: NewExplainer = None,
    weights: Weights = "default",
    labels: Labels = None,
    auxiliary: Annotated[str | None, option(AUXILIARY, shown=DEFAULT_AUXILIARY)] = None,
    auxiliary_weights: Annotated[str, option("The auxiliary's: 'default', or a local state dict.")] = "default",
    steps: Annotated[int, option("Training steps, of one batch each; good are a few thousand.", least=1)] = 2000,
    batch_size: Annotated[int, option("Images per step.", least=2)] = 32,
    lr: Annotated[float, option("Highest learning rate.", parser=amount, metavar="NUMBER")] = 1e-3,
    seed: Annotated[int, option("Seed of everything drawn.", least=0)] = 0,
    held_out: Annotated[
        int,
        option("Images kept from training, to measure the explainer on; as many again calibrate its maps.", least=0),
    ] = 32,
    precision: Annotated[str, option("no, bf16 or fp16 (on a GPU).")] = "no",
    queries_per_image: Annotated[
        int, option("How often onnx/FILE is asked at most, per training image.", least=1)
    ] = 300,
    resume: Annotated[bool, option("Continue an interrupted training with the same options.", "--resume")] = False,
) -> None:
    """Train an explainer for a classifier, on a folder of images: once for each classifier.

    A bar shows the progress; after a few steps the time is estimated. The state is saved every 200 steps, and when
    Ctrl-C or SIGTERM ends the training: the same command with `--resume` goes on from there. At the end the explainer
    is measured on held-out images.

    Example: `ptame train --classifier timm/mobilenetv3_small_100 --images photos --out mine.safetensors --steps 2000`
    """
    with interrupts.nothing_begun():
        from ptame_lib.classifiers.loading import is_file_name
        from ptame_lib.training.ptame import TrainingConfig

        from ..explainers import default_auxiliary
        from ..settings import AuxiliarySettings, ClassifierSettings, ImageSettings
        from . import training

    # train
    out = out or Path(f"ptame-{paths.slug(classifier)}.safetensors")
    metrics = training.train(
        ClassifierSettings(classifier, weights),
        AuxiliarySettings(auxiliary or default_auxiliary(classifier), weights=auxiliary_weights),
        ImageSettings(str(images), test_images=held_out, seed=seed),
        TrainingConfig(steps=steps, batch_size=batch_size, lr=lr, seed=seed, precision=precision),
        out,
        names=labels,
        queries_per_image=queries_per_image,
        resume=resume,
        say=lambda text: tqdm.write(printable(text)),
    )

    # tell how good it is, and what comes next
    if metrics:
        say(_in_words(metrics))
    named = ["--classifier", classifier] if classifier.startswith(("hf/", "onnx/")) else []
    named += ["--weights", weights] if is_file_name(weights) else []
    named += ["--auxiliary-weights", auxiliary_weights] if is_file_name(auxiliary_weights) else []
    following = f"ptame explain IMAGE... --explainer {shlex.join([str(out), *named])}"
    say(f"The explainer is {out}, its model card {out}.md. Next: {following}")


def _in_words(metrics: dict[str, float]) -> str:
    return (
        f"On {metrics['images']} held-out images, in percent: {metrics['faithful']} keep their decision on the first "
        f"{metrics['shown']} % of the map's pixels, all others black, {metrics['rest alike']} on the rest; "
        f"AD100 {metrics['AD100']}, IC100 {metrics['IC100']}.{_rest(metrics)}{_followed(metrics)}"
    )


def _rest(metrics: dict[str, float]) -> str:
    """What to try where the pixels that the map puts last keep more decisions than those that it puts first."""
    first, rest = metrics["faithful"], metrics["rest alike"]
    if rest <= first:
        return ""
    compared = f"The rest keeps more decisions than the pixels that the map puts first ({rest} % against {first} %)"
    return f" {compared}: try more images, more --steps or another --auxiliary."


def _followed(metrics: dict[str, float]) -> str:
    """Whether the map follows its classifier, and the interval by which that is said."""
    from ptame_lib.explainers.metadata import followed, follows  # here, as everything that is not needed for --help

    if not (answer := follows(metrics)):
        return f" Whether it follows its classifier: {followed(metrics)}."
    gap = f"{metrics['moved more']:+g} (95 %: {metrics['from']:+g} to {metrics['to']:+g})"
    return (
        f" Follows its classifier: {answer}. The decision goes along in {metrics['moved']} % when the map's first "
        f"pixels are moved to another image; {gap} points against a map that knows no classifier."
    )


@app.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A trained explainer.", show_default=False)],
    onnx: Annotated[Path | None, option("Write ONNX there (pip install 'ptame-study[export]').", shown=False)] = None,
    torch_export: Annotated[Path | None, option("Write a file of torch.export there.", "--torch", shown=False)] = None,
    size: Annotated[
        int | None, option("Side of the images it is for.", least=1, shown="what it was trained on")
    ] = None,
    classifier: Annotated[str | None, option("Only for T-TAME and L-CAM-Img, which use it.", shown=TRAINED)] = None,
    weights: SavedWeights = None,
    auxiliary_weights: SavedAuxiliaryWeights = None,
) -> None:
    """Export an explainer to a file that runs without this library, and check its maps.

    Inputs are pixels (B,3,H,W) in [0,1] and target classes (B,); the output are maps (B,h,w) in [0,1].

    Example: `ptame export mine.safetensors --onnx mine.onnx`
    """
    with interrupts.nothing_begun():
        from . import actions

    for done in actions.export(file, onnx, torch_export, size, classifier, weights, auxiliary_weights):
        say(done.text())


def main() -> None:
    """Run the command with the arguments of this process."""
    app(prog_name="ptame")


if __name__ == "__main__":
    main()
