"""What the command ``ptame`` does: from names and files to figures and exports."""

from __future__ import annotations

import difflib
import json
import math
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from ptame_lib import files
from ptame_lib.classifiers import lite
from ptame_lib.classifiers.black_box import BlackBox
from ptame_lib.classifiers.loading import check_known
from ptame_lib.classifiers.wrapper import Classifier
from ptame_lib.datasets.folders import ImageFolder, before_crop
from ptame_lib.explainers.card import about
from ptame_lib.explainers.export import INSTALL, Exported, to_onnx, to_torch_export
from ptame_lib.explainers.loading import load_explainer
from ptame_lib.explainers.metadata import followed, follows
from ptame_lib.explainers.names import QUESTIONS, shipped
from ptame_lib.explainers.ptame import PTAME
from ptame_lib.explainers.storage import saved_config
from ptame_lib.masking import first_pixels, resize
from ptame_lib.metrics.evidence import SHOWN as SHARE
from ptame_lib.metrics.evidence import Evidence, explain_with_evidence, percent
from ptame_lib.texts import MOST, printable

from ..classifiers import count_classes
from ..paths import is_figure
from . import origin
from .explained import explained_classifier
from .naming import check_there, figure_files, shown_names

if TYPE_CHECKING:
    from ptame_lib.explainers.fast import Fast

SHOWN = "lite/2"  # the classifier that is explained where neither it nor an explainer is named
ALIKE = 1.5 / 255  # values of one colour differ by less, as a decoder rounds them
ENLARGED = 7  # times: 32 pixels to 224
FAST_FROM = 1000  # images: making the runtime takes seconds, which each image gives back by milliseconds


class Explanation(NamedTuple):
    """What `explain` gives for an image and a class.

    The image's ``file``, the ``name`` that tells it from the others, the ``evidence``, the ``figure``'s file, beside
    which the same is in JSON, how much of the image is ``seen``, a share in (0, 1]: a classifier is asked about the
    middle of an image; ``cautions``, as of `Picture`; and how many of the pixels shown are so by questions alone,
    ``brought``, a share in [0, 1]; None without questions.
    """

    file: Path
    name: str
    evidence: Evidence
    figure: Path
    seen: float
    cautions: tuple[str, ...] = ()
    brought: float | None = None

    def said(self) -> str:
        """All of it in one line."""
        proof = self.evidence
        doubts = " ".join(filter(None, (*self.cautions, proof.warning())))
        caution = f" Caution: {doubts}" if doubts else ""
        middle = f" The classifier sees the middle of the image, {percent(self.seen)} of it." if self.seen < 1 else ""
        changed = f"brought {percent(self.brought)}" if self.brought else "changed none"
        asked = "" if self.brought is None else f" The questions {changed} of the pixels shown."
        return f"{self.name}: {proof.text()}{asked}{caution}{middle} [{self.figure}]"


class Loaded(NamedTuple):
    """A classifier, its trained ``explainer``, and the ``origin`` of both: names, hashes and versions for JSON.

    ``cautions``: sentences about the two, whatever the image. ``ask``: one of `QUESTIONS`, by which the maps are
    corrected, or None.
    """

    model: Classifier | BlackBox
    explainer: PTAME | Fast
    origin: dict[str, Any]
    cautions: tuple[str, ...] = ()
    ask: str | None = None

    def explain(self, pixels: Tensor, targets: Tensor) -> Tensor:
        """Maps as the explainer gives them, with the questions if there are any."""
        if self.ask is None:
            return self.explainer.explain(pixels, targets)
        questions, way = QUESTIONS[self.ask]
        return self.explainer.explain(pixels, targets, classifier=self.model, questions=questions, asking=way)


def explain(
    images: Sequence[Path],
    explainer: Path,
    classifier: str | None = None,
    weights: str | None = None,
    wanted: Sequence[str] = (),
    out: Path = Path(),
    auxiliary_weights: str | None = None,
    known: dict[str, Any] | None = None,
    say: Callable[[str], None] = lambda _: None,
    ask: str | None = None,
) -> Iterator[Explanation]:
    """The `Explanation` of each image, and of each class that is wanted, with its figure and JSON in ``out``.

    ``images``: files, or folders of them. ``classifier`` and its ``weights``: by default those the explainer was
    trained for, if a file may name them (`explained_classifier`). ``wanted``: numbers or names of the classes to
    explain, by default each image's decision. ``auxiliary_weights``: needed only where the explainer names a local
    file. ``known``: what `about` says of the explainer, if that is read already. ``say`` is told by what `FAST_FROM`
    images or more are explained, and that the explainer was trained for another classifier. ``ask``: one of
    `QUESTIONS`, by which the maps are corrected. Raises FileNotFoundError for a missing image or explainer, ValueError
    for another number of classes or an unknown class, and after all other images for those that can't be read.
    """
    from .. import figures  # here, since figures take a second to import, and training draws none

    # the classifier and its explainer
    found = list(dict.fromkeys(image_files(images)))
    loaded = load_both(explainer, known or about(explainer), classifier, weights, auxiliary_weights, say)
    model, trained = loaded.model, loaded.explainer
    targets = list(dict.fromkeys(find_class(each, trained.num_classes, model.labels) for each in wanted))

    # a figure for each image that can be read, and for each class
    figures.use_style()
    size, unread = model.input_size, []
    loaded = loaded._replace(explainer=quickest(trained, size, say) if len(found) >= FAST_FROM else trained, ask=ask)
    if ask:
        say(f"maps corrected by questions to the classifier: {ask}")
    for file, name, outputs in zip(found, shown_names(found), figure_files(found, out, targets, ask), strict=True):
        try:
            picture = read_picture(file, size)
        except ValueError as error:
            unread.append(str(error))
            continue
        for target, output in zip(targets or [None], outputs, strict=True):
            yield _explained(loaded, file, name, picture, target, output)
    if unread:
        counted = f"{len(unread)} of {len(found)} images could not be explained: " if len(found) > 1 else ""
        raise ValueError(counted + "; ".join(unread))


def shipped_explainer(classifier: str | None = None) -> Path:
    """The file of the shipped explainer, by default that of lite/2, whose networks must be installed.

    Raises ValueError for a classifier without one or of an unknown name, FileNotFoundError with what to install.
    """
    if classifier is not None:
        check_known(classifier)
    try:
        file = shipped(classifier or SHOWN)
    except ValueError as error:
        train = f"ptame train --classifier {shlex.quote(classifier)} --images FOLDER"
        raise ValueError(f"{error} with --explainer, or make it by {train}") from error
    lite.check_installed(SHOWN, saved_config(file)["auxiliary"])
    return file


def load_both(
    file: Path,
    known: dict[str, Any],
    classifier: str | None,
    weights: str | None,
    auxiliary_weights: str | None,
    say: Callable[[str], None],
) -> Loaded:
    """The trained explainer in ``file`` with its classifier; arguments and ``say`` as of `explain`.

    ``known``: what `about` says of the file. Raises as `explain`.
    """
    model = explained_classifier(file, known, classifier, weights)
    trained = load_explainer(file, model, auxiliary_weights=auxiliary_weights)
    classes = model.num_classes or count_classes(model, torch.zeros(3, *model.input_size))
    if classes != trained.num_classes:
        both = f"{file} explains {trained.num_classes} classes, the classifier has {classes}"
        raise ValueError(f"{both}: name the one it was trained for")
    # what to know beforehand, and what they are
    own, cautions = known.get("classifier"), []
    if own and classifier not in (None, own):
        cautions.append(f"{file.name} was trained for {printable(own, MOST)}, not for {classifier}.")
    metrics = known.get("metrics", {})
    following = {
        "no": f"{file.name} was not shown to follow its classifier",
        "weakly": f"{file.name} follows its classifier weakly",
        "": f"It is not known whether {file.name} follows its classifier ({followed(metrics)})",
    }
    if doubt := following.get(follows(metrics)):
        cautions.append(f"{doubt}: see its model card.")
    for caution in cautions:
        say(f"Caution: {caution}")
    named = origin.of_classifier(model, classifier or own, weights or known.get("weights", "default"))
    made_from = {"classifier": named, "explainer": origin.of_explainer(file, known), **origin.code()}
    return Loaded(model, trained, made_from, tuple(map(printable, cautions)))


class Picture(NamedTuple):
    """An image: ``whole`` (3,H,W) in [0,1], its middle ``pixels`` that the classifier sees, and how much that is.

    ``cautions``: sentences about an image with nothing to see in it, whatever the classifier.
    """

    whole: Tensor
    pixels: Tensor
    seen: float
    cautions: tuple[str, ...] = ()


def read_picture(file: Path, size: tuple[int, int]) -> Picture:
    """An image file for a classifier of images of this ``size``. Raises ValueError for one that can't be read."""
    pictures = ImageFolder(file.parent, size, before_crop(size), [file.name])
    whole = pictures.whole(0)
    pixels = pictures.middle(whole)
    sides = zip(whole.shape[-2:], pixels.shape[-2:], strict=True)
    seen = math.prod(min(side, middle) / side for side, middle in sides)
    return Picture(whole, pixels, seen, tuple(_nothing_to_see(file, pixels)))


def _nothing_to_see(file: Path, pixels: Tensor) -> Iterator[str]:
    """The cautions about an image file of which the classifier sees the ``pixels`` (3,h,w)."""
    colours = pixels.flatten(1)
    if (colours.amax(1) - colours.amin(1)).max() < ALIKE:
        yield "All that the classifier sees of this image is of one colour: it holds nothing that a map could show."
    with Image.open(file) as image:
        width, height = image.size
    if ENLARGED * min(width, height) <= min(pixels.shape[-2:]):
        yield f"This image was enlarged from {width} x {height} pixels: it holds no more detail than these."


def _explained(
    loaded: Loaded, file: Path, name: str, picture: Picture, target: int | None, output: Path
) -> Explanation:
    """Explain one class (None: the decision) of one image, and write JSON and figure."""
    import matplotlib.pyplot as plt

    from .. import one_image

    # ask
    targets = None if target is None else torch.tensor([target])
    pixels, brought = picture.pixels[None], None
    maps, proof = explain_with_evidence(loaded, loaded.model, pixels, targets)
    if loaded.ask:
        start = resize(loaded.explainer.explain(pixels, proof.targets), pixels.shape[-2:])
        new = proof.pixels_shown & ~first_pixels(start, SHARE)
        brought = new.sum().item() / max(proof.pixels_shown.sum().item(), 1)

    # draw, and once that is done write it for programs, with the mark by which a later call knows whose figure this is
    made_from = {"image": origin.of_image(file, name), **loaded.origin}
    told = {"image": printable(name), "figure": printable(output.name), "seen": picture.seen, **proof.as_dict()}
    told |= {"cautions about the explainer": list(loaded.cautions), "cautions about the image": list(picture.cautions)}
    told |= {"questions to the classifier": loaded.ask, "brought by the questions": brought, "provenance": made_from}
    title = f"map, corrected by questions ({loaded.ask})" if loaded.ask else "map"
    figure = one_image.explanation(picture.pixels, maps[0], proof, whole=picture.whole, title=title)
    with files.whole(output) as unfinished:
        figure.savefig(unfinished)
        write_json(output.with_suffix(".json"), told)
    plt.close(figure)
    return Explanation(file, name, proof, output, picture.seen, picture.cautions, brought)


def write_json(file: Path, told: dict[str, Any]) -> None:
    """Write plain values as JSON, whole or not at all."""
    with files.whole(file) as unfinished:
        unfinished.write_text(json.dumps(told, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def quickest(trained: PTAME, size: tuple[int, int], say: Callable[[str], None]) -> PTAME | Fast:
    """What explains images of one ``size`` soonest, once it is made; ``say`` is told its name."""
    from ptame_lib.explainers.fast import installed  # only here: it brings packages that take a while to load

    if not installed():
        say(f"explained by torch; onnxruntime would be faster: {INSTALL}")
        return trained
    try:
        quick = trained.fast(size=size)
    except Exception as error:  # export and runtimes can refuse a network in any way
        say(f"explained by torch: onnxruntime can't run this explainer ({type(error).__name__})")
        return trained
    say(quick.text())
    return quick


def export(
    file: Path,
    onnx: Path | None = None,
    torch_export: Path | None = None,
    size: int | None = None,
    classifier: str | None = None,
    weights: str | None = None,
    auxiliary_weights: str | None = None,
) -> Iterator[Exported]:
    """Write a trained explainer as ``onnx`` and ``torch_export`` files, for images of ``size``.

    None is the size of the training. The ``classifier`` is loaded only for an explainer that uses its features;
    ``auxiliary_weights`` as in `explain`. Raises ValueError where no file is named, or one that would be lost.
    """
    if onnx is None and torch_export is None:
        raise ValueError("nothing to write: name a file with --onnx or --torch")
    for target, others in ((onnx, (file,)), (torch_export, (file, onnx))):
        if target is not None and any(other and target.resolve() == other.resolve() for other in others):
            raise ValueError(f"{target} would be written over: give each file a name of its own")
    known = about(file)
    own = ":" in known["auxiliary"]
    model = explained_classifier(file, known, classifier, weights) if own else None
    trained = load_explainer(file, model, auxiliary_weights=auxiliary_weights)
    side = tuple(known["input_size"]) if size is None and "input_size" in known else size
    for target, write in ((onnx, to_onnx), (torch_export, to_torch_export)):
        if target is not None:
            yield write(trained, target, side, saved_config(file))


def image_files(images: Iterable[Path]) -> Iterator[Path]:
    """Image files, including those in folders but for figures of explanations; raises as `check_there`, `ImageFolder`.

    Raises ValueError for a folder that holds figures alone.
    """
    for image in images:
        check_there(image)
        found = [file for file in ImageFolder(image).files if not is_figure(file)] if image.is_dir() else [image]
        if not found:
            raise ValueError(f"no images in {image} but figures of explanations: name one to explain it")
        yield from found


def find_class(wanted: str, classes: int, labels: Sequence[str] | None) -> int:
    """A class by its name or number; ``#3`` is the number 3 in any case.

    Raises ValueError for one that the classifier does not have, and for what could be several: a name that many classes
    have, or that is also the number of another class.
    """
    found = [i for i, label in enumerate(labels or ()) if label == wanted]
    digits = wanted.removeprefix("#")
    number = digits.lstrip("0") or digits[:1]  # 007 is 7, and 00 is 0
    by_number = next((i for i in range(classes) if str(i) == number), None)
    if len(found) > 1:
        several = ", ".join(f"#{i}" for i in found)
        raise ValueError(f"{len(found)} classes have the name {wanted}: choose one by its number, {several}")
    if found and by_number not in (None, found[0]):
        both = f"{wanted} is the name of class #{found[0]} and the number of class {labels[by_number]}"
        raise ValueError(f"{both}: choose #{found[0]} or #{by_number}")
    if found or by_number is not None:
        return found[0] if found else by_number
    names = ", or one of its names" if labels else ""
    near = [] if digits.isdecimal() else difflib.get_close_matches(wanted, labels or (), 1)
    hint = f"did you mean {printable(near[0], MOST)}? Or " if near else ""
    shown = printable(wanted, MOST) if wanted.strip() else repr(wanted)
    raise ValueError(f"the classifier has no class {shown}: {hint}give a number in 0..{classes - 1}{names}")
