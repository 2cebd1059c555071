"""What the command ``ptame`` does, as functions: from names and files to figures, explainers and exports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import timm
import torch
import torchvision
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from . import export as exports
from . import figures, paths, recipes
from .blackbox import BlackBox
from .classifiers import TORCHVISION, Classifier, device_of, load_classifier
from .datasets import ImageFolder
from .estimate import while_training
from .evidence import Evidence, explain_with_evidence
from .features import load_auxiliary
from .metrics.drop import average_drop, increase_in_confidence
from .model_card import about, write_model_card
from .ptame import PTAME, saved_config
from .training import TrainingConfig


def explain(
    images: Sequence[Path], explainer: Path, classifier: str | None = None, weights: str | None = None, wanted: str | None = None, out: Path = Path()
) -> Iterator[tuple[Path, Evidence, Path]]:
    """For each image (of the folders among ``images``, too): its file, the evidence of its explanation, the figure's file in ``out``.

    ``classifier`` and its ``weights``: by default those that the explainer says it was trained for; ``wanted``: the number or name of the class
    to explain, by default each image's decision. Raises FileNotFoundError for a missing image or explainer, ValueError for an
    explainer of another number of classes, an unknown class or an image that can't be read.
    """
    files = list(image_files(images))
    known = about(explainer)
    model = explained_classifier(explainer, known, classifier, weights)
    trained = recipes.load_explainer(explainer, model)
    classes = count_classes(model, torch.zeros(3, *model.input_size))
    if classes != trained.num_classes:
        raise ValueError(f"{explainer} explains {trained.num_classes} classes, the classifier has {classes}: name the one it was trained for")
    target = None if wanted is None else torch.tensor([class_number(wanted, classes, model.labels)])
    figures.use_style()
    for file, output in zip(files, figure_files(files, out), strict=True):
        size = model.input_size[0]
        pixels = ImageFolder(file.parent, size, size * 8 // 7, [file.name])[0]["pixels"][None]
        maps, proof = explain_with_evidence(trained, model, pixels, target)
        figure = figures.explanation(pixels[0], maps[0], proof)
        with paths.whole(output) as unfinished:
            figure.savefig(unfinished)
        plt.close(figure)
        yield file, proof, output


def train(
    classifier: str,
    images: Path,
    out: Path,
    *,
    weights: str = "default",
    labels: Path | None = None,
    auxiliary: str | None = None,
    auxiliary_weights: str = "default",
    config: TrainingConfig = TrainingConfig(),
    held_out: int = 32,
    queries_per_image: int = 300,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, float] | None:
    """Train an explainer on a folder of images and save it with its model card; returns its metrics on ``held_out`` of them (0: None).

    ``labels``: a text file with the classes' names, one a line. ``auxiliary``: None takes `recipes.usual_auxiliary`. ``say`` is
    told what people want to know meanwhile. The state is kept beside ``out`` until the end, for ``resume``. Raises ValueError for an
    ``out`` that exists, too few images, random weights of the auxiliary, which nothing would store, or as many labels as there
    are no classes, OSError where ``out`` can't be written, and whatever loading and training raise.
    """
    if out.suffix != ".safetensors":
        raise ValueError(f"the explainer's file must end in .safetensors, not as {out}")
    if out.exists():
        raise ValueError(f"{out} exists: delete it, or choose another file")
    if auxiliary_weights == "none":
        raise ValueError("random weights of the auxiliary are not stored with the explainer: give 'default' or a local state dict")
    paths.writable(out)
    names = None if labels is None else read_labels(labels)
    model = load_classifier(classifier, _weights(weights), names)
    data, test = recipes.folder(str(images), model), None
    if len(data) < held_out + config.batch_size:
        raise ValueError(
            f"{images} has {len(data)} images, fewer than {held_out} held out and one batch of {config.batch_size}: give more images, or lower one"
        )
    if held_out:
        data, test = recipes.split(SimpleNamespace(images=str(images), test_images=held_out, seed=config.seed), model)
    classes = count_classes(model, data[0]["pixels"])
    if names and len(names) != classes:
        raise ValueError(f"{labels} names {len(names)} classes, {classifier} has {classes}: give one name a line")
    torch.manual_seed(config.seed)
    explainer = PTAME(load_auxiliary(auxiliary or recipes.usual_auxiliary(classifier), weights=auxiliary_weights), classes)
    say(f"Training on {len(data)} images, {config.steps} steps of {config.batch_size}.")
    checkpoint = out.with_suffix(".checkpoint.pt")
    on_step = while_training(config.steps, say)
    recipes.train(explainer, model, data, config, queries_per_image, checkpoint=checkpoint, resume=resume, on_step=on_step)
    metrics = measure(explainer, model, test, config.batch_size) if test else None
    trained_on = f"{len(data)} images of the folder {Path(images).resolve().name}"
    told = {"weights": weights, "auxiliary_weights": auxiliary_weights, "profile": "ptame train", "images": trained_on, "metrics": metrics}
    explainer.save(out, **description(classifier, model, config, **told))
    write_model_card(out)
    checkpoint.unlink(missing_ok=True)
    return metrics


def export(
    file: Path, onnx: Path | None = None, torch_export: Path | None = None, size: int | None = None, classifier: str | None = None, weights=None
) -> Iterator[exports.Exported]:
    """Write a trained explainer as ``onnx`` and ``torch_export`` files, for images of ``size``: by default that of the training.

    The ``classifier`` is only loaded for an explainer that uses its features. Raises ValueError where no file is named.
    """
    if onnx is None and torch_export is None:
        raise ValueError("nothing to write: name a file with --onnx or --torch")
    known = about(file)
    own = ":" in known["auxiliary"]
    trained = recipes.load_explainer(file, explained_classifier(file, known, classifier, weights) if own else None)
    side = tuple(known["input_size"]) if size is None and "input_size" in known else size
    for target, write in ((onnx, exports.to_onnx), (torch_export, exports.to_torch_export)):
        if target is not None:
            yield write(trained, target, side, saved_config(file))


def explained_classifier(file: Path, known: dict[str, Any], name: str | None, weights: str | None) -> Classifier | BlackBox:
    """The classifier ``name`` with ``weights``, by default what the explainer ``file`` was trained for; with the labels stored there
    where it has none."""
    name, weights = name or known.get("classifier"), weights or known.get("weights", "default")
    if name is None:
        raise ValueError(f"{file} does not say which classifier it explains: name it with --classifier")
    model = load_classifier(name, _weights(weights))
    if model.labels is None and known.get("labels"):
        model.labels = tuple(known["labels"])
    return model


def description(
    classifier: str, model: Classifier | BlackBox, config: TrainingConfig | None, weights: str = "default", **more: Any
) -> dict[str, Any]:
    """What `PTAME.save` is told about an explainer of ``model``, which is named ``classifier`` and has these ``weights``, trained with ``config``:
    the names of its classes, its image size, settings and seed, and ``more`` (profile, images, metrics ...), which goes with them."""
    with torch.no_grad():
        classes = model(torch.zeros(1, 3, *model.input_size, device=device_of(model))).shape[1]
    about = {"classifier": classifier, "weights": weights, "labels": model.labels or usual_labels(classifier, weights, classes)}
    return about | {"input_size": model.input_size, "training": config, "seed": None if config is None else config.seed, **more}


def usual_labels(name: str, weights: str, classes: int) -> list[str] | None:
    """ImageNet's names of the classes where the pretrained weights of torchvision or timm have its 1000; else None."""
    if weights != "default" or classes != 1000:
        return None
    if name in TORCHVISION:
        return list(torchvision.models.get_model_weights(name).IMAGENET1K_V1.meta["categories"])
    if name.startswith("timm/") and timm.data.infer_imagenet_subset(timm.get_pretrained_cfg(name.removeprefix("timm/")).to_dict()) == "imagenet-1k":
        info = timm.data.ImageNetInfo()
        return [info.index_to_description(i) for i in range(classes)]
    return None


def read_labels(file: Path) -> list[str]:
    """Names of classes from a text file, one a line. Raises FileNotFoundError, and ValueError for a file that is no text."""
    if not file.is_file():
        raise FileNotFoundError(f"no labels at {file}: give a text file with the name of each class, one a line")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8 ({error.reason}): save it so, with the name of each class, one a line") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def count_classes(model: Classifier | BlackBox, image: Tensor) -> int:
    """K, from the answer to an image (3,H,W)."""
    with torch.no_grad():
        return model(image[None]).shape[1]


def image_files(images: Iterable[Path]) -> Iterator[Path]:
    """Image files, those in folders among them included; FileNotFoundError for a missing one."""
    for image in images:
        if not image.exists():
            raise FileNotFoundError(f"no image at {image}: check the path")
        yield from ImageFolder(image).files if image.is_dir() else [image]


def figure_files(files: Sequence[Path], out: Path) -> Iterator[Path]:
    """A figure's file for each image; images of one name from several folders get numbers."""
    seen: dict[str, int] = {}
    for file in files:
        seen[file.stem] = seen.get(file.stem, 0) + 1
        yield out / f"{file.stem}{'' if seen[file.stem] == 1 else f'-{seen[file.stem]}'}.explained.png"


def class_number(wanted: str, classes: int, labels: Sequence[str] | None) -> int:
    """A class by its name or number; ValueError for one that the classifier has not."""
    if labels and wanted in labels:
        return labels.index(wanted)
    if wanted.isdecimal() and int(wanted) < classes:
        return int(wanted)
    raise ValueError(f"the classifier has no class {wanted}: give a number in 0..{classes - 1}{', or one of its names' if labels else ''}")


def measure(explainer: PTAME, model: Classifier | BlackBox, test: Dataset, batch_size: int) -> dict[str, float]:
    """What the explainer is worth on images it has not seen: their number, and means in percent.

    ``faithful``: what the map keeps is decided as the whole image; ``rest alike``: so is the rest; AD and IC at 100 %.
    """
    device, parts = device_of(explainer), []
    model = model.to(device)
    for batch in DataLoader(test, batch_size):
        _, proof = explain_with_evidence(explainer, model, batch["pixels"].to(device))
        drop, rise = average_drop(proof.whole, proof.kept), increase_in_confidence(proof.whole, proof.kept)
        parts.append(torch.stack([proof.faithful.double(), proof.rest_too.double(), drop.double(), rise.double()]).cpu())
    means = (100 * torch.cat(parts, 1).mean(1)).tolist()
    return {"images": len(test)} | {name: round(mean, 1) for name, mean in zip(("faithful", "rest alike", "AD100", "IC100"), means, strict=True)}


def _weights(name: str) -> str | None:
    return None if name == "none" else name
