"""What a run is made of, one frozen and checked section each; a training's is `TrainingConfig`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from ptame_lib.classifiers.loading import EMBEDDED
from ptame_lib.losses.ptame import PTAMEWeights
from ptame_lib.training.distributed import PRECISIONS
from ptame_lib.training.ptame import TrainingConfig
from ptame_lib.validation import check_at_least

from . import paths

KIND = ", "  # between a classifier's name and the kind of images, in tables with one column for both
DATASETS = ("embedded", "cutouts", "voc2007", "coco2014")  # multi-label images
TRAINING = {  # what `parameters.configure` is told about a training: its dicts, and checks of their keys
    "loss": PTAMEWeights,
    "training": TrainingConfig,
    "precision": PRECISIONS,
    "optimizer": ("adamw", "sgd"),
}

STATISTICS = {"keys": ("mean", "std")}  # of options, one number or three each; `configure` says where they belong

Section = TypeVar("Section")


@dataclass(frozen=True)
class Source:
    """What is known about given weights and images: the dict ``source`` of notebooks 02, 03 and 04."""

    weights: str = "default"  # of the classifier: default, none, a torchvision enum name, or a local file
    options: dict = field(default_factory=dict, metadata=STATISTICS)  # of the classifier: mean, std, and timm's own
    groups: str = ""  # CSV of class_id, group: explain groups of classes (log-sum-exp of their logits)
    labels: str = ""  # CSV of class_id, label, file: the classes' names, and the labels of a folder's images
    layers: list[str] = field(default_factory=list)  # of the auxiliary (T-TAME, L-CAM-Img: of the classifier)
    auxiliary_weights: str = "default"  # of the auxiliary: default, none, or a local file
    auxiliary_options: dict = field(default_factory=dict, metadata=STATISTICS)  # of the auxiliary, as options
    head: bool = False  # P-TAME starts from the auxiliary's own classes, which are then the classifier's
    size: int = 0  # pixels per side; 0: the classifier's own
    val_images: int = 0  # images for choosing settings, neither trained nor tested on
    test_list: str = ""  # text file that names the test images, instead of drawing them
    val_list: str = ""  # text file that names the validation images
    split_seed: int = 0  # draws test and validation images
    part: str = "test"  # of the images: what notebook 03 measures on, test or val
    explainers: list[str] = field(default_factory=list)  # of 03: P-TAMEs, one per classifier; empty: those of 02

    def files(self) -> list[Path]:
        """The local files that results depend on."""
        names = (self.weights, self.auxiliary_weights, self.groups, self.labels, self.test_list, self.val_list)
        return existing_files(names)


@dataclass(frozen=True)
class Variants:
    """The variants of P-TAME that notebook 05 tries besides the reference: its dict ``variants``."""

    others: list[str] = field(default_factory=list)  # other auxiliaries
    untrained: bool = True  # the reference auxiliary with random weights
    own: bool = True  # T-TAME: the classifier's own features
    levels: list[int] = field(default_factory=list)  # numbers of levels, counted from the last one
    fewer_images: list[int] = field(default_factory=list)  # numbers of training images


@dataclass(frozen=True)
class Asking:
    """How notebook 11 asks a classifier without gradients: its dict ``asking``."""

    masks_per_image: int = 2  # surrogate: random masks asked for per image and step
    warm_up: int = 20  # surrogate: its steps before the explainer's first
    pairs: int = 4  # antithetic: pairs of answers per image and step


@dataclass(frozen=True)
class Specific:
    """The class-specific test of notebook 08: its dict ``specific``."""

    compared: list[str] = field(default_factory=list)  # the methods
    classes: list[str] = field(default_factory=list)  # by name; empty: all
    images: int = 30  # the first ones, each with every class's mask


@dataclass(frozen=True)
class ClassifierSettings:
    """The classifier to explain; fields as in `Source`.

    ``profile``: whose fine-tuned weights are a multi-label classifier's default.
    """

    name: str
    weights: str = "default"
    options: dict = field(default_factory=dict)
    groups: str = ""
    labels: str = ""
    profile: str = ""

    def __post_init__(self) -> None:
        check_options(self.options)

    @classmethod
    def of(cls, cfg: Any, name: str = "") -> ClassifierSettings:
        """From a notebook's parameters; ``name``: by default ``cfg.classifier``."""
        return _pick(cls, cfg, name=name or cfg.classifier)


@dataclass(frozen=True)
class AuxiliarySettings:
    """The auxiliary network; fields as in `Source`."""

    name: str
    layers: list[str] = field(default_factory=list)
    weights: str = "default"
    options: dict = field(default_factory=dict)
    head: bool = False
    groups: str = ""

    def __post_init__(self) -> None:
        check_options(self.options)

    @classmethod
    def of(cls, cfg: Any) -> AuxiliarySettings:
        """From a notebook's parameters."""
        own = {"weights": cfg.source.auxiliary_weights, "options": cfg.source.auxiliary_options}
        return _pick(cls, cfg, name=cfg.auxiliary, **own)


@dataclass(frozen=True)
class ImageSettings:
    """The images, and how they are divided into train, val and test; fields as in `Source`.

    ``images``: empty for the embedded data set; ``cutouts``, ``cutouts:pairs`` or ``cutouts:both``; a folder, shards (a
    pattern ending in ``.tar``), ``imagenet:<split>`` or ``imagenette:<split>``; with ``multi_label`` one of `DATASETS`,
    for the ``classifier`` of this name. ``split_seed``: None is the ``seed``. Raises ValueError for a negative number,
    and for a data set that is unknown or does not fit.
    """

    images: str = ""
    size: int = 0
    train_images: int = 0
    test_images: int = 0
    val_images: int = 0
    test_list: str = ""
    val_list: str = ""
    split_seed: int | None = None
    seed: int = 0
    groups: str = ""
    labels: str = ""
    multi_label: bool = False
    classifier: str = ""

    def __post_init__(self) -> None:
        check_at_least(0, size=self.size, **{f"{part}_images": self.count(part) for part in ("train", "test", "val")})
        if self.multi_label and self.images not in DATASETS:
            raise ValueError(f"unknown dataset {self.images!r}: choose {', '.join(DATASETS)}")
        if self.multi_label and self.classifier in EMBEDDED and self.images != "embedded":
            only = f"{self.classifier} knows only the embedded images"
            raise ValueError(f"{only}: set dataset to embedded, not {self.images}")

    @classmethod
    def of(cls, cfg: Any) -> ImageSettings:
        """From a notebook's parameters; one with a ``dataset`` is about multi-label images."""
        return _pick(cls, cfg, **({"images": cfg.dataset, "multi_label": True} if "dataset" in vars(cfg) else {}))

    def count(self, part: str) -> int:
        """The number of images asked for a part."""
        return {"train": self.train_images, "test": self.test_images, "val": self.val_images}[part]


def _pick(section: type[Section], cfg: Any, **named: Any) -> Section:
    """A section from a notebook's parameters and ``source``; what neither declares keeps its default."""
    known = vars(cfg) | (vars(cfg.source) if "source" in vars(cfg) else {}) | named
    return section(**{f.name: known[f.name] for f in fields(section) if f.name in known})


def check_options(options: dict[str, Any]) -> None:
    """Raises ValueError for a mean or std that is not one number or three."""
    for name in ("mean", "std"):
        numbers = options.get(name, 0.0)
        numbers = numbers if isinstance(numbers, list) else [numbers]
        if len(numbers) not in (1, 3) or not all(type(number) in (int, float) for number in numbers):
            raise ValueError(f"option {name} can't be {options[name]!r}: give one number, or a list of three")


def existing_files(names: Iterable[str]) -> list[Path]:
    """Those of the named files that exist; names as in `paths.given`."""
    return [file for name in names if name and (file := paths.given(name)).is_file()]
