"""From settings to images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset

from ptame_lib import files
from ptame_lib.classifiers.folding import fold_batch_norms
from ptame_lib.classifiers.lite import imagenet_labels
from ptame_lib.classifiers.loading import EMBEDDED, load_classifier
from ptame_lib.classifiers.wrapper import Classifier, decide_all
from ptame_lib.datasets import cutouts, first
from ptame_lib.datasets.coco import COCO
from ptame_lib.datasets.composed import Composed, remembered
from ptame_lib.datasets.cutouts import Cutouts, digest, load_cutouts, load_scenes, read_tables, recognised
from ptame_lib.datasets.embedded import load_embedded
from ptame_lib.datasets.folders import ImageFolder, Pictures, before_crop
from ptame_lib.datasets.imagenet import load_imagenet, load_imagenette
from ptame_lib.datasets.shards import Shards
from ptame_lib.datasets.stamps import PACKAGE
from ptame_lib.datasets.voc import VOC
from ptame_lib.validation import check_at_least

from . import paths
from .classifiers import read_class_number, read_columns, read_groups
from .settings import ImageSettings

LAYOUTS = {"imagenet": load_imagenet, "imagenette": load_imagenette}  # torchvision's, below DATA: "imagenet:val"
SIZE = 224  # pixels per side of VOC and COCO, aspect not kept, as published
CUTOUTS, PAIRS, BOTH = "cutouts", "cutouts:pairs", "cutouts:both"
SINGLE, PAIR = "singles", "pairs"  # kinds of images among `BOTH`
PAIRS_TO_SINGLES = 0.6  # of `BOTH`: pairs for each single
CALIBRATE, LOOK_AT = 100, 32  # val images of digits that calibrate an explainer, and that it is measured on
CALIBRATE_CUTOUTS = 40  # of cutouts: each costs 18 questions to a classifier that is a hundred times as large
JUDGES = ("lite/0", "lite/1", "lite/2")  # a pair is kept if both of its classes are among the first five of each
ROUND, TRIED = 40, 20  # pairs composed at a time, and at most for each that is asked for; about a third are recognised
LICENCE = f"""Figures here show photographs of Debian's package {PACKAGE}, under the GNU GPL, version 2, unless
data/cutouts/chosen.csv says otherwise: so are the figures.
"""


def load_parts(
    images: ImageSettings, parts: Sequence[str], classifier: Classifier | None = None, *, truth: bool = False
) -> list[Dataset]:
    """The images of some parts (train, test, val), which share none.

    Embedded images, cutouts and multi-label images have parts of their own, of which the first ones are taken; of pairs
    of cutouts, `load_pairs` keeps some, each as two items with the class that is asked about; of both kinds, the number
    is that of the singles (`Mixed`; without classes to ask about for ``train``). Others are divided by
    `split_images`, at the ``classifier``'s size. Multi-label images need no classifier: their ``labels`` are (N,K), and
    ``truth`` takes only those of VOC whose objects' pixels are known. Raises ValueError where there are too few.
    """
    if images.multi_label:
        return [_load_multilabel(images, part, truth) for part in parts]
    if not images.images:
        return [load_embedded(part, images.count(part), seed=images.seed) for part in parts]
    if images.images == CUTOUTS:
        return [load_cutouts(part, images.count(part), seed=images.seed, folder=paths.data()) for part in parts]
    if images.images == PAIRS:
        return [load_pairs(part, images.count(part), seed=images.seed).each() for part in parts]
    if images.images == BOTH:
        return [_load_both(part, images, classifier) for part in parts]
    if "test" in parts and not images.test_list:
        check_at_least(1, test_images=images.test_images)
    found = split_images(images, classifier, 1 if "train" in parts else 0)
    return [found[part] for part in parts]


def load_training(images: ImageSettings, classifier: Classifier) -> tuple[Dataset, Dataset, Dataset]:
    """The images to train an explainer on, those to calibrate it with, and those to look at and to measure it on.

    Of composed images the last two are of the part val; of given ones, of val or where there is none of train and test.
    """
    if images.images in (CUTOUTS, PAIRS, BOTH, ""):
        count = CALIBRATE_CUTOUTS if images.images else CALIBRATE
        single = replace(images, images=CUTOUTS if images.images else "", val_images=count + LOOK_AT)
        [data], [val] = load_parts(images, ["train"], classifier), load_parts(single, ["val"], classifier)
        return data, Subset(val, range(count)), Subset(val, range(count, len(val)))
    parts = split_images(images, classifier, 1)
    held = parts["val"] or parts["train"]
    return parts["train"], held, parts["val"] or parts["test"] or parts["train"]


def load_to_show(images: ImageSettings, profile: str) -> tuple[Composed, Composed, Composed]:
    """Composed images to look at: those of train and test, and test images of several objects.

    Of cutouts, the profile's folder of figures gets a note about the licence of what figures then show.
    """
    train, test = load_parts(images, ["train", "test"])
    if not images.images:
        return train, test, load_embedded("test", images.test_images, seed=images.seed, multi_label=True)
    with files.whole(paths.figures(profile) / "LICENCE.txt") as unfinished:
        unfinished.write_text(LICENCE, encoding="utf-8")
    return train, test, load_pairs("test", images.test_images, seed=images.seed)


def names_in(data: Composed) -> list[str]:
    """For each image, the names of the classes in it; those of cutouts are ImageNet's, where they are known."""
    if not isinstance(data, Cutouts):
        several = data.labels if data.labels.ndim == 2 else F.one_hot(data.labels, len(data.names))
        return [" ".join(data.names[c] for c in row.nonzero().flatten()) for row in several]
    names = (*imagenet_labels(), "no known class")  # the last is that of `cutouts.UNKNOWN`
    return [", ".join(names[c] for c in row) for row in data.labels.reshape(len(data), -1).tolist()]


def described(data: Dataset, images: str) -> str:
    """Where images come from, in words: the folder's name, or the data set's."""
    folder = getattr(data, "folder", None)
    if folder:
        return f"the folder {folder.resolve().name}"
    return f"the data set {images}" if images else "the embedded data set"


@dataclass(frozen=True)
class Mixed(Dataset):
    """Single cutouts and pairs in turn: an item has the class that is ``asked`` about.

    That is a single's decision (N,) and each of a pair's two classes. ``kinds`` (`SINGLE`, `PAIR`) are those of the
    items in their order, so that the first ones have both.
    """

    singles: Cutouts
    decisions: Tensor
    pairs: Cutouts

    @cached_property
    def order(self) -> list[tuple[float, str, int]]:
        """Each item's place in its kind, its kind, and its number there."""
        both = ((SINGLE, self.singles), (PAIR, self.pairs))
        return sorted(((i // 2 + 0.5) / len(data), kind, i) for kind, data in both for i in range(len(data)))

    @property
    def kinds(self) -> list[str]:
        """Of each item."""
        return [kind for _, kind, _ in self.order]

    def __len__(self) -> int:
        return len(self.singles) + len(self.pairs)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        _, kind, at = self.order[i]
        return self.pairs[at] if kind == PAIR else self.singles[at] | {"asked": self.decisions[at]}


def _load_both(part: str, images: ImageSettings, classifier: Classifier | None) -> Dataset:
    """`Mixed` singles and pairs; for ``train``, where nothing is asked, one after the other."""
    count = images.count(part)
    singles = load_cutouts(part, count, seed=images.seed, folder=paths.data())
    pairs = load_pairs(part, max(1, round(PAIRS_TO_SINGLES * count)), seed=images.seed)
    if part == "train":
        return ConcatDataset([singles, pairs])
    return Mixed(singles, decide_all(classifier, singles.images).cpu(), pairs.each())


def load_pairs(part: str, n: int, *, seed: int = 0) -> Cutouts:
    """The first ``n`` pairs of cutouts whose classes all `JUDGES` recognise, kept in the cache folder.

    Pairs of ``train`` are taken as they are, since most of its stamps have no known class. Raises as `load_cutouts` and
    `load_classifier`, and ValueError where hardly any pair is recognised.
    """
    check_at_least(1, images=n)
    options = {"pairs": True, "seed": seed, "folder": paths.data()}
    if part == "train":
        return load_cutouts(part, n, **options)

    def make() -> tuple[Tensor, ...]:
        judges = [fold_batch_norms(load_classifier(name)) for name in JUDGES]
        found, start = [], 0
        while sum(map(len, found)) < n:
            if start >= TRIED * n + ROUND:
                raise ValueError(f"{sum(map(len, found))} of {start} pairs are recognised: check the classifiers")
            pairs = load_cutouts(part, ROUND, start=start, cached=False, **options)
            found.append(pairs.part(recognised(pairs, judges).nonzero().flatten()))
            start += ROUND
        columns = zip(*((p.images, p.labels, p.truth) for p in found), strict=True)
        return tuple(torch.cat(column)[:n].contiguous() for column in columns)

    made_of, judges = digest(read_tables(part)), "+".join(JUDGES).replace("/", "")
    name = f"cutouts-v{cutouts.VERSION}-recognised-by-{judges}-{part}-seed{seed}-{n}-{made_of}"
    return Cutouts(*remembered(name, make))


def _load_multilabel(images: ImageSettings, part: str, truth: bool) -> Dataset:
    """The first images (0: all) of a part; for single-label classifiers those with one-hot labels."""
    count = images.count(part)
    if images.classifier in EMBEDDED:
        data = load_embedded(part, count, seed=images.seed)
        return replace(data, labels=F.one_hot(data.labels, len(data.names)).bool())
    if images.images == "embedded":
        return load_embedded(part, count, multi_label=True, seed=images.seed)
    if images.images == CUTOUTS:
        return load_scenes(part, count, seed=images.seed, folder=paths.data())
    folder = paths.given(".")
    if images.images == "voc2007":
        data = VOC(folder, part, SIZE, truth=truth)
    else:
        data = COCO(folder, part, SIZE, seed=images.seed)
    return first(data, min(count, len(data))) if count else data


def open_images(images: str, classifier: Classifier, size: int = 0) -> Pictures:
    """Given images (see `ImageSettings`) at the classifier's height and width, or as squares of ``size`` pixels.

    They are resized and cropped in the paper's proportion, 256 to 224. Figures that `ptame explain` wrote into a folder
    are left out.
    """
    size = size or classifier.input_size
    kind, _, part = images.partition(":")
    if kind in LAYOUTS and part:
        return LAYOUTS[kind](paths.given("."), part, size, before_crop(size))
    if images.endswith(".tar"):
        return Shards(paths.given(images), size, before_crop(size))
    data = ImageFolder(paths.given(images), size, before_crop(size))
    return data.part(i for i, file in enumerate(data.files) if not paths.is_figure(file))


def open_labelled_images(images: ImageSettings, classifier: Classifier) -> Pictures:
    """All given images, with the classes of the table ``labels``, or the ``groups`` of their classes."""
    data = open_images(images.images, classifier, images.size)

    # the class of each image, from the table
    if images.labels:
        file = paths.given(images.labels)
        rows = read_columns(file, "class_id", "file")
        numbers = {row["file"]: read_class_number(row["class_id"], file) for row in rows}
        data.labels = [numbers.get(name, label) for name, label in zip(data.names, data.labels, strict=True)]
        if not any(name in numbers for name in data.names):
            none = f"{file} names none of the images in {data.where}"
            raise ValueError(f"{none}: its column file must hold paths relative to that folder")

    # the group of each class; Imagenette's labels are numbered as its groups already
    if images.groups and not images.images.startswith("imagenette:"):
        group = read_groups(paths.given(images.groups))
        number = {name: i for i, name in enumerate(dict.fromkeys(group.values()))}
        data.labels = [number.get(group.get(label), -1) for label in data.labels]
    return data


def split_images(images: ImageSettings, classifier: Classifier, needed: int = 0) -> dict[str, Pictures]:
    """Given images as ``test``, ``val`` and ``train``, which share none.

    Test and validation images are those of the text files ``test_list`` and ``val_list``, else ``test_images`` and
    ``val_images`` drawn by ``split_seed``; the others are for training. Raises ValueError where fewer than ``needed``
    are left for it, and where the lists overlap.
    """
    data = open_labelled_images(images, classifier)

    # those that lists name
    lists = {"test": images.test_list, "val": images.val_list}
    chosen = {part: data.find(read_list(paths.given(name))) if name else [] for part, name in lists.items()}
    if both := set(chosen["test"]) & set(chosen["val"]):
        shared = f"{len(both)} images, such as {data.names[min(both)]}"
        raise ValueError(f"{images.test_list} and {images.val_list} share {shared}: they must share none")

    # the others in random order, the first ones for the parts without a list
    seed = images.seed if images.split_seed is None else images.split_seed
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed)).tolist()
    taken = {i for indices in chosen.values() for i in indices}
    left = [i for i in order if i not in taken]
    for part, name in lists.items():
        if not name:
            count = images.count(part)
            if len(left) < count + needed:
                others = " and others to train on" if needed else ""
                raise ValueError(f"{images.images} has {len(data)} images, too few for {part}_images={count}{others}")
            chosen[part], left = sorted(left[:count]), left[count:]
    return {part: data.part(indices) for part, indices in (chosen | {"train": sorted(left)}).items()}


def read_list(file: Path) -> list[str]:
    """Names of images from a text file, one a line; what follows a space (a class number) is left out.

    Raises FileNotFoundError for a missing file, ValueError for an empty one and for a name that comes twice.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"no list of images at {file}: check the path, or leave it empty to draw images by the seed"
        )
    names = [line.split()[0] for line in file.read_text().splitlines() if line.strip()]
    if not names:
        raise ValueError(f"{file} lists no images: write one name a line")
    if len(set(names)) < len(names):
        raise ValueError(f"{file} lists {min(name for name in set(names) if names.count(name) > 1)} twice")
    return names
