"""Bad input in one table: what is refused, with which words, and what is handled without harm, and how.

A refusal must name the offending value or file and say what to do. Training's own (losses that are not finite, checkpoints
of other settings, locks) are in test_training.
"""

import errno
import json
import os
import pickle
import re
import resource
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import small_cnn
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import ptame_lib
from ptame_lib import (
    PTAME,
    BlackBox,
    Budget,
    Classifier,
    Explainer,
    FeatureExtractor,
    ImageFolder,
    PTAMEWeights,
    TrainingConfig,
    build_methods,
    decide,
    explainer_loss,
    files,
    keep,
    keep_share,
    load_auxiliary,
    load_classifier,
    load_embedded,
    load_onnx,
    normalise,
    ptame_loss,
    train_ptame,
)
from ptame_lib.classifiers.wrapper import IMAGENET_MEAN, IMAGENET_STD
from ptame_lib.datasets import first
from ptame_lib.datasets.images import read_image
from ptame_lib.explainers.lcam import LCAM
from ptame_lib.methods import gradcam, integrated_gradients, lime, occlusion, rise
from ptame_lib.metrics import (
    average_drop,
    average_gain,
    average_precision,
    class_confusion,
    deletion,
    energy_pointing_game,
    insertion,
    iou,
    known_pixels,
    label_confidence,
    masked_confidence,
    mean_f1,
    mean_iou,
    pointing_game,
    road,
    sparseness,
)
from ptame_lib.metrics.drop import confidence
from ptame_lib.metrics.evidence import evidence
from ptame_lib.metrics.road import summary
from ptame_lib.metrics.sanity import similarity
from ptame_lib.metrics.statistics import bootstrap_interval, paired_permutation_test
from ptame_lib.metrics.suite import measure
from ptame_study import cache, evaluation, paths, profiles, records, tables
from ptame_study.command import actions
from ptame_study.images import load_parts
from ptame_study.parameters import configure
from ptame_study.settings import AuxiliarySettings, ClassifierSettings, ImageSettings

NAN, INF = float("nan"), float("inf")
PIXELS = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 2])
MAPS = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(1))
TRUTH = torch.zeros(2, 16, 16, dtype=torch.bool)
TRUTH[:, 4:8, 4:8] = True


# ------------------------------------------------------------------------------------------------------ makers


class Colours(nn.Module):
    """Three classes, each with a colour's mean as logit: known by hand."""

    def forward(self, x):
        return 5 * x.mean((2, 3))


class Says(nn.Module):
    """Answers one thing to everything; the last image gets ``value`` for class 1."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        logits = torch.zeros(len(x), 3)
        logits[-1, 1] = self.value
        return logits


class Code:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code of a pickle was run')",))


def classifier(net=None):
    return Classifier(net or Colours(), (0.0,) * 3, (1.0,) * 3, 16, "abc")


def convolutional():
    return Classifier(small_cnn(classes=3), IMAGENET_MEAN, IMAGENET_STD, 64, "abc")


def auxiliary(layers=("l1", "l2")):
    return FeatureExtractor(small_cnn(), list(layers), IMAGENET_MEAN, IMAGENET_STD, 64, "small")


def explainer(classes=3):
    return PTAME(auxiliary(), classes).eval()


class Data(torch.utils.data.Dataset):
    def __init__(self, n=2, **item):
        self.n, self.item = n, {"pixels": PIXELS[0], **item}

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if i >= self.n:
            raise IndexError
        return self.item


class Stub:
    """A method that gives these maps."""

    name, forwards, backwards, source, normalised = "mine", 1, 0, "here", True

    def __init__(self, maps, sees_truth=False):
        self.maps, self.sees_truth = maps, sees_truth

    def __call__(self, pixels, targets):
        return self.maps.expand(len(pixels), *self.maps.shape[1:])


class Place:
    """A folder of its own, which is also the study's root, with bad files on demand."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.patch = folder, monkeypatch

    def __truediv__(self, name):
        return self.folder / name

    def file(self, name, content=b""):
        file = self / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    def image(self, name, image, **options):
        image.save(self / name, **options)
        return self / name

    def read(self, file):
        return ImageFolder(self.folder, 16, 16, [Path(file).name])[0]["pixels"]

    def damaged(self, name, change, **options):
        """A photograph's file with its bytes changed, read."""
        whole = self.image(
            name, Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)), **options
        ).read_bytes()
        return self.read(self.file(name, change(whole)))

    def torch(self, name, content):
        torch.save(content, self / name)
        return self / name

    def saved(self, change=lambda state: state, **metadata):
        """A trained explainer's file with something changed; None takes an entry of the metadata out."""
        model = explainer()
        config = {key: value for key, value in (model.config() | metadata).items() if value is not None}
        save_file({k: v.contiguous() for k, v in change(model.trained_state()).items()}, self / "e.safetensors", config)
        return self / "e.safetensors"

    def profile(self, text, name="bad", **others):
        for key, value in {name: text, **others}.items():
            self.file(f"workflow/profiles/{key}.yaml", value)
        return profiles.load_profile(name)

    def small_disk(self, name, write):
        """``write`` into the file ``name`` with room for 4 kB; what was there before must stay, and nothing else."""
        file = self.file(name, "old")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        try:
            return write(file)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            assert [(p, p.read_text()) for p in self.folder.iterdir()] == [(file, "old")]

    def refusing(self, code, write):
        """``write`` where opening a file for writing fails."""

        def fail(*_, **__):
            raise OSError(code, os.strerror(code))

        self.patch.setattr(Path, "write_text", fail)
        return write()


@pytest.fixture
def place(study_root, monkeypatch):
    return Place(study_root, monkeypatch)


class Refused(NamedTuple):
    error: type[Exception]
    says: str


def refused(says, error=ValueError):
    return Refused(error, says)


def cut(whole):
    return whole[: len(whole) // 2]


def garbled(whole):
    return whole[:60] + bytes(40) + whole[100:]


def colour(*expected):
    """The mean colour of an image in [0,1], to a level of 8 bits."""
    return lambda pixels: torch.allclose(pixels.mean((1, 2)), torch.tensor(expected, dtype=torch.float32), atol=1 / 255)


def plain(mode, value, size=(20, 20)):
    return Image.new(mode, size, value)


def halves(width=40, height=20):
    """Left half black, right half red."""
    image = plain("RGB", "black", (width, height))
    image.paste("red", (width // 2, 0, width, height))
    return image


def sixteen(bits="uint16", value=32896):
    return Image.fromarray(np.full((20, 20), value, bits))


def bomb():
    """A PNG of a few bytes that claims 40000 x 40000 pixels."""
    import struct
    import zlib

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", b"")
        + chunk(b"IEND", b"")
    )


def link(place, name, target):
    (place / name).symlink_to(target)
    return place / name


# name: (what is done in a place, what must come of it)
IMAGES = {
    "empty file": (lambda t: t.read(t.file("a.png")), refused(r"a\.png can't be read .*: replace it or take it out")),
    "text that ends in .jpg": (
        lambda t: t.read(t.file("a.jpg", "hello")),
        refused(r"a\.jpg can't be read .*cannot identify.*: replace it"),
    ),
    "truncated JPEG": (lambda t: t.damaged("a.jpg", cut), refused(r"a\.jpg can't be read .*truncated.*: replace it")),
    "truncated PNG": (lambda t: t.damaged("a.png", cut), refused(r"a\.png can't be read .*truncated.*: replace it")),
    "truncated TIFF": (lambda t: t.damaged("a.tif", cut), refused(r"a\.tif can't be read .*: replace it")),
    "truncated WebP": (lambda t: t.damaged("a.webp", cut), refused(r"a\.webp can't be read .*: replace it")),
    "corrupted PNG": (lambda t: t.damaged("a.png", garbled), refused(r"a\.png can't be read .*: replace it")),
    "corrupted JPEG header": (
        lambda t: t.damaged("a.jpg", lambda b: b[:2] + bytes(200) + b[202:]),
        refused(r"a\.jpg can't be read .*: replace it"),
    ),
    "link to nowhere": (
        lambda t: t.read(link(t, "a.png", "gone.png")),
        refused(r"a\.png can't be read .*No such file.*: replace it"),
    ),
    "image gone since it was listed": (
        lambda t: t.read("gone.png"),
        refused(r"gone\.png can't be read .*: replace it or take it out"),
    ),
    "40000 x 40000 pixels": (
        lambda t: t.read(t.file("a.png", bomb())),
        refused(r"a\.png is too large .*1600000000 pixels.*: make it smaller"),
    ),
    "floating point beyond [0,1]": (
        lambda t: t.read(t.image("a.tif", sixteen("float32", 255))),
        refused(r"a\.tif can't be read .*255\.\.255, not in 0\.\.1; save it with 8 or 16 bits"),
    ),
    "NaN in an image": (
        lambda t: t.read(t.image("a.tif", sixteen("float32", NAN))),
        refused(r"a\.tif can't be read .*nan\.\.nan.*; save it with 8"),
    ),
    "32 bits beyond 16": (
        lambda t: t.read(t.image("a.tif", sixteen("int32", 70000))),
        refused(r"a\.tif can't be read .*70000\.\.70000, not in 0\.\.65535; save it"),
    ),
    "folder without images": (
        lambda t: ImageFolder(t.file("notes.txt").parent),
        refused(r"no images in .*: put files ending in .*\.png"),
    ),
    "missing folder": (
        lambda t: ImageFolder(t / "gone"),
        refused("no image folder at .*gone: check the path", FileNotFoundError),
    ),
    "file as folder": (
        lambda t: ImageFolder(t.file("a.png")),
        refused(r"no image folder at .*a\.png: check the path", FileNotFoundError),
    ),
    "empty list of files": (
        lambda t: ImageFolder(t.image("a.png", halves()).parent, files=[]),
        refused("no images in .*: put files"),
    ),
    "file outside of the folder": (
        lambda t: ImageFolder(t.folder, files=["/b/a.png"]),
        refused("/b/a.png is not in the folder .*: name files relative"),
    ),
    "images of size 0": (
        lambda t: ImageFolder(t.folder, size=0),
        refused("size must be a whole number of at least 1, got 0: raise it"),
    ),
    "resized to -1": (
        lambda t: ImageFolder(t.folder, resize=-1),
        refused("resize must be .* at least 1, got -1: raise it"),
    ),
    "greyscale": (lambda t: t.read(t.image("a.png", plain("L", 51))), colour(0.2, 0.2, 0.2)),
    "black and white": (lambda t: t.read(t.image("a.png", plain("1", 1))), colour(1, 1, 1)),
    "CMYK": (lambda t: t.read(t.image("a.jpg", plain("CMYK", (255, 0, 0, 0)))), colour(0, 1, 1)),
    "YCbCr": (lambda t: t.read(t.image("a.jpg", plain("YCbCr", (128, 128, 128)))), colour(0.5, 0.5, 0.5)),
    "16 bits, PNG": (lambda t: t.read(t.image("a.png", sixteen())), colour(0.502, 0.502, 0.502)),
    "16 bits, TIFF": (lambda t: t.read(t.image("a.tif", sixteen())), colour(0.502, 0.502, 0.502)),
    "16 bits, other byte order": (
        lambda t: t.read(t.image("a.tif", Image.frombytes("I;16B", (20, 20), b"\x33\x33" * 400))),
        colour(0.2, 0.2, 0.2),
    ),
    "16 bits held in 32": (lambda t: t.read(t.image("a.tif", sixteen("int32", 13107))), colour(0.2, 0.2, 0.2)),
    "floating point in [0,1]": (lambda t: t.read(t.image("a.tif", sixteen("float32", 0.2))), colour(0.2, 0.2, 0.2)),
    "palette": (lambda t: t.read(t.image("a.png", plain("RGB", (51, 102, 153)).convert("P"))), colour(0.2, 0.4, 0.6)),
    "transparent palette shows white": (
        lambda t: t.read(t.image("a.png", plain("P", 0), transparency=0)),
        colour(1, 1, 1),
    ),
    "transparent RGBA shows white": (
        lambda t: t.read(t.image("a.png", plain("RGBA", (255, 0, 0, 0)))),
        colour(1, 1, 1),
    ),
    "half transparent is mixed with white": (
        lambda t: t.read(t.image("a.png", plain("RGBA", (255, 0, 0, 128)))),
        colour(1, 0.498, 0.498),
    ),
    "transparent greyscale shows white": (lambda t: t.read(t.image("a.png", plain("LA", (9, 0)))), colour(1, 1, 1)),
    "EXIF-rotated is upright": (
        lambda t: t.read(t.image("a.jpg", halves(40, 40), exif=exif(6))),
        lambda pixels: pixels[0, 2:6].mean() < 0.1 < 0.9 < pixels[0, 10:14].mean(),  # the left half comes to the top
    ),
    "damaged EXIF": (
        lambda t: t.read(t.image("a.jpg", plain("RGB", "white"), exif=b"Exif\0\0II*\0garbage")),
        colour(1, 1, 1),
    ),
    "1 pixel": (lambda t: t.read(t.image("a.png", plain("RGB", (51, 102, 153), (1, 1)))), colour(0.2, 0.4, 0.6)),
    "12000 x 1 pixels": (lambda t: t.read(t.image("a.png", plain("RGB", "red", (12000, 1)))), colour(1, 0, 0)),
    "12000 x 1 takes no memory": (
        lambda t: read_image(t.image("a.png", plain("RGB", "red", (12000, 1)))).size,
        lambda size: size == (16, 1),
    ),
    "12000 x 3000 JPEG takes little": (
        lambda t: read_image(t.image("a.jpg", plain("L", 51, (12000, 3000)))).size,
        lambda size: size == (6000, 1500),
    ),
    "12000 x 1, drawn from": (
        lambda t: ImageFolder(t.image("a.png", plain("RGB", "red", (12000, 1))).parent, 16, 32).draw(
            0, torch.Generator()
        )["pixels"],
        colour(1, 0, 0),
    ),
    "12000 x 3000 JPEG": (
        lambda t: t.read(t.image("a.jpg", plain("L", 51, (12000, 3000)))),
        colour(0.2, 0.2, 0.2),
    ),
    "animation: its first frame": (
        lambda t: t.read(
            t.image("a.png", plain("RGB", "red"), format="GIF", save_all=True, append_images=[plain("RGB", "blue")])
        ),
        colour(1, 0, 0),
    ),
    "several pages: the first": (
        lambda t: t.read(t.image("a.tif", plain("RGB", "red"), save_all=True, append_images=[plain("RGB", "blue")])),
        colour(1, 0, 0),
    ),
    "folder named as an image": (
        lambda t: names(t, "b.png", t.file("a.png/notes.txt")),
        lambda found: found == ["b.png"],
    ),
    "hidden leftovers": (
        lambda t: names(t, "b.png", t.file("._b.png"), t.file(".trash/c.png")),
        lambda found: found == ["b.png"],
    ),
    "an ending that is no image's": (
        lambda t: names(t, "b.png", t.image("a.gif", plain("L", 0)), t.file("c.heic")),
        lambda found: found == ["b.png"],
    ),
    "odd names": (lambda t: names(t, "ein Bär, 蝶.PNG"), lambda found: found == ["ein Bär, 蝶.PNG"]),
    "link to an image": (lambda t: t.read(link(t, "b.png", t.image("a.png", plain("RGB", "red")))), colour(1, 0, 0)),
}


def exif(orientation):
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def names(place, name, *_):
    """What a folder lists, where ``name`` is an image."""
    place.image(name, plain("RGB", "red"))
    return [file.name for file in ImageFolder(place.folder).files]


LABELS = {
    "target beyond the last class": (
        lambda t: explainer().explain(PIXELS, torch.tensor([0, 3])),
        refused(r"in 0\.\.2, got 0\.\.3: take the classifier's own"),
    ),
    "negative target": (
        lambda t: explainer().explain(PIXELS, torch.tensor([-1, 0])),
        refused(r"in 0\.\.2, got -1\.\.0: take the classifier's own"),
    ),
    "map of a class there is not": (
        lambda t: explainer().maps(PIXELS, torch.tensor([7])),
        refused(r"in 0\.\.2, got 7\.\.7: take"),
    ),
    "targets of floating point": (
        lambda t: explainer().explain(PIXELS, TARGETS.float()),
        refused(r"torch\.int64, got torch\.float32: see .*long"),
    ),
    "targets as bytes": (
        lambda t: explainer().maps(PIXELS, TARGETS.byte()),
        refused(r"torch\.int64, got torch\.uint8: see .*long"),
    ),
    "targets as a list": (
        lambda t: explainer().explain(PIXELS, [0, 1]),
        refused("one target per image: got list targets for 2 images, give a tensor"),
    ),
    "too few targets": (
        lambda t: explainer().explain(PIXELS, TARGETS[:1]),
        refused(r"got \(1,\) targets for 2 images, give a tensor \(2,\)"),
    ),
    "the Explainer": (
        lambda t: Explainer(3, "small").explain(PIXELS, TARGETS + 1),
        refused(r"in 0\.\.2, got 1\.\.3: take"),
    ),
    "L-CAM": (
        lambda t: LCAM(auxiliary(["l2"]), 3).explain(PIXELS, TARGETS - 1),
        refused(r"in 0\.\.2, got -1\.\.1: take"),
    ),
    "Grad-CAM": (lambda t: gradcam(convolutional())(PIXELS, TARGETS + 9), refused(r"in 0\.\.2, got 9\.\.11: take")),
    "Grad-CAM of class -1": (
        lambda t: gradcam(convolutional())(PIXELS, TARGETS - 1),
        refused(r"in 0\.\.2, got -1\.\.1: take"),
    ),
    "RISE": (lambda t: rise(classifier())(PIXELS, TARGETS - 1), refused(r"in 0\.\.2, got -1\.\.1: take")),
    "RISE of a net that tells no classes": (
        lambda t: rise(Colours())(PIXELS, TARGETS - 1),
        refused(r"at least 0, got -1\.\.1: take"),
    ),
    "integrated gradients": (
        lambda t: integrated_gradients(classifier())(PIXELS, TARGETS + 1),
        refused(r"in 0\.\.2, got 1\.\.3: take"),
    ),
    "occlusion": (lambda t: occlusion(classifier())(PIXELS, TARGETS + 1), refused(r"in 0\.\.2, got 1\.\.3: take")),
    "LIME": (lambda t: lime(classifier())(PIXELS, TARGETS + 1), refused(r"in 0\.\.2, got 1\.\.3: take")),
    "P-TAME's loss": (
        lambda t: ptame_loss(torch.rand(2, 3), TARGETS + 1, MAPS[:, None]),
        refused(r"in 0\.\.2, got 1\.\.3: take"),
    ),
    "the Explainer's loss": (
        lambda t: loss_with(labels=2 * torch.ones(2, 3)),
        refused(r"labels must be 0 or 1 for each class, got 2\.\.2: see .*one_hot"),
    ),
    "labels as numbers": (lambda t: loss_with(labels=TARGETS), refused(r"numbers of classes differ: .*labels \(2,\)")),
    "confidence": (lambda t: confidence(classifier(), PIXELS, TARGETS + 1), refused(r"in 0\.\.2, got 1\.\.3: take")),
    "ROAD": (lambda t: road(classifier(), PIXELS, TARGETS - 1, MAPS, "MoRF"), refused(r"in 0\.\.2, got -1\.\.1: take")),
    "evidence": (lambda t: evidence(classifier(), PIXELS, TARGETS + 1, MAPS), refused(r"in 0\.\.2, got 1\.\.3: take")),
    "class-specific masks": (lambda t: confused([0, 3]), refused(r"in 0\.\.2, got 0\.\.3: take")),
    "several labels of other classes": (
        lambda t: label_confidence(classifier(), PIXELS, torch.ones(2, 4)),
        refused(r"labels must be \(B,K\), .* \(2, 3\), got \(2, 4\)"),
    ),
    "class of the command": (
        lambda t: actions.find_class("12", 10, None),
        refused(r"no class 12: give a number in 0\.\.9"),
    ),
    "fewer labels than classes": (
        lambda t: evidence(Classifier(Colours(), (0,) * 3, (1,) * 3, 16, "ab"), PIXELS, TARGETS, MAPS),
        refused("2 labels for 3 classes: give the classifier one label per class"),
    ),
    "labels that are no text": (
        lambda t: actions.read_labels(t.file("l.txt", b"\xff\xfe\x00")),
        refused(r"l\.txt is no text in UTF-8 .*: save it so"),
    ),
}


def confused(classes, net=None):
    batches = [(PIXELS, torch.ones(2, 9))]
    return class_confusion(classifier(net), batches, lambda pixels, wanted: torch.rand(2, len(wanted), 4, 4), classes)


def loss_with(labels):
    logits, said, masks = torch.rand(2, 3, 4, 4), torch.rand(2, 3), (MAPS, MAPS)
    return explainer_loss(logits, labels, said, said, masks)


ANSWERS = {
    "NaN from the classifier": (
        lambda t: decide(classifier(Says(NAN)), PIXELS),
        refused("gave nan for image 1 of the batch: check its weights", FloatingPointError),
    ),
    "inf from the classifier": (
        lambda t: decide(classifier(Says(INF)), PIXELS),
        refused("gave inf for image 1 .*: check its weights", FloatingPointError),
    ),
    "-inf for one class is fine": (
        lambda t: decide(classifier(Says(-INF)), PIXELS),
        lambda found: found.tolist() == [0, 0],
    ),
    "-inf for every class": (
        lambda t: decide(lambda x: torch.full((2, 3), -INF), PIXELS),
        refused("gave -inf for image 0 .*: check", FloatingPointError),
    ),
    "NaN while evaluating": (
        lambda t: evaluate(net=Says(NAN)),
        refused("gave nan for image 1 of the batch: check", FloatingPointError),
    ),
    "NaN on what the map keeps": (
        lambda t: masked_confidence(classifier(Says(NAN)), PIXELS, TARGETS, MAPS),
        refused("gave nan for image 1 .*: check", FloatingPointError),
    ),
    "NaN on imputed images": (
        lambda t: road(classifier(Says(NAN)), PIXELS, TARGETS, MAPS, "LeRF"),
        refused("gave nan for image 1 .*: check", FloatingPointError),
    ),
    "NaN in deletion": (
        lambda t: deletion(classifier(Says(INF)), PIXELS, TARGETS, MAPS),
        refused("gave inf for image 1 .*: check", FloatingPointError),
    ),
    "NaN in the class-specific test": (
        lambda t: confused([0, 1], Says(NAN)),
        refused("gave nan for image 1 .*: check", FloatingPointError),
    ),
    "NaN for several labels": (
        lambda t: label_confidence(classifier(Says(NAN)), PIXELS, torch.ones(2, 3)),
        refused("gave nan for image 1 .*: check", FloatingPointError),
    ),
    "NaN in the evidence": (
        lambda t: evidence(classifier(Says(NAN)), PIXELS, TARGETS, MAPS),
        refused("gave nan for image 1", FloatingPointError),
    ),
    "NaN from a black box": (
        lambda t: BlackBox(Says(NAN), 16)(PIXELS),
        refused("not finite for image 1 of the batch: check the function"),
    ),
    "a black box that gives a list": (
        lambda t: BlackBox(lambda x: [1], 16)(PIXELS),
        refused("gave a list: it must give a tensor", TypeError),
    ),
    "a black box of another shape": (
        lambda t: BlackBox(lambda x: torch.zeros(5, 3), 16)(PIXELS),
        refused(r"gave shape \(5, 3\) for 2 images: expected"),
    ),
    "logits as probabilities": (
        lambda t: BlackBox(lambda x: torch.full((2, 3), 4.0), 16, probabilities=True)(PIXELS),
        refused(r"values in 4\.\.4, which are no probabilities: use probabilities=False"),
    ),
    "a network that gives maps": (
        lambda t: classifier(nn.Identity())(PIXELS),
        refused(r"Identity gave \(2, 3, 16, 16\): logits must be .*wrap it"),
    ),
    "a function that gives a tuple": (
        lambda t: decide(lambda x: (x, x), PIXELS),
        refused("gave a tuple: logits must be .*wrap it"),
    ),
    "weights of an infinite explainer": (
        lambda t: PTAME.load(t.saved(lambda s: s | {"fuser.weight": s["fuser.weight"] * INF}), auxiliary()),
        refused(r"e\.safetensors is of no use: fuser\.weight has values that are not finite\. Train"),
    ),
}


def evaluate(maps=MAPS[:1], net=None, data=None, sees_truth=False, **options):
    return evaluation.evaluate(
        classifier(net), Stub(maps, sees_truth), Data() if data is None else data, curves=False, **options
    )[0]


FLAT = torch.full((2, 4, 4), 0.3)


def unmoved(found):
    return all(value.isfinite().all() for value in found.values())


CONSTANT = {
    "a constant map is normalised to 0": (lambda t: normalise(FLAT), lambda found: not found.any()),
    "a constant map keeps nothing": (
        lambda t: masked_confidence(classifier(), PIXELS, TARGETS, FLAT),
        lambda q: torch.allclose(q, q.new_tensor(1 / 3)),
    ),
    "every metric of a constant map is finite": (
        lambda t: measure(classifier(), PIXELS, TARGETS, FLAT, TRUTH),
        unmoved,
    ),
    "every metric of a map of 0": (lambda t: measure(classifier(), PIXELS, TARGETS, 0 * FLAT, TRUTH), unmoved),
    "a constant map points by chance": (
        lambda t: pointing_game(FLAT, TRUTH),
        lambda found: torch.allclose(found, TRUTH.float().mean((1, 2))),
    ),
    "a constant map's energy is the truth's share": (
        lambda t: energy_pointing_game(FLAT, TRUTH),
        lambda found: torch.allclose(found, TRUTH.float().mean((1, 2))),
    ),
    "a constant map ranks by chance": (
        lambda t: average_precision(FLAT, TRUTH),
        lambda found: torch.allclose(found, TRUTH.float().mean((1, 2))),
    ),
    "a constant map is not sparse": (lambda t: sparseness(FLAT), lambda found: not found.any()),
    "a constant map loses exactly the share": (
        lambda t: known_pixels(FLAT, 0.25, "MoRF"),
        lambda known: known.sum((1, 2)).tolist() == [12, 12],
    ),
    "a constant map resembles none": (lambda t: similarity(FLAT, MAPS, (16, 16))[0], lambda found: not found.any()),
    "a constant mask without an object": (
        lambda t: mean_f1(FLAT, torch.zeros_like(TRUTH)),
        lambda found: not found.any(),
    ),
    "IoU of two empty masks": (
        lambda t: iou(FLAT, torch.zeros_like(TRUTH), 0.5),
        lambda found: found.tolist() == [1, 1],
    ),
    "AP without a truth is NaN": (
        lambda t: average_precision(MAPS, torch.zeros_like(TRUTH)),
        lambda found: found.isnan().all(),
    ),
    "the drop of a probability of 0": (
        lambda t: average_drop(torch.zeros(2), torch.rand(2)),
        lambda found: found.tolist() == [0, 0],
    ),
    "the gain of a probability of 1": (
        lambda t: average_gain(torch.ones(2), torch.ones(2)),
        lambda found: found.tolist() == [0, 0],
    ),
    "the interval of a constant": (
        lambda t: bootstrap_interval([0.5] * 9, resamples=50),
        lambda found: found == pytest.approx((0.5, 0.5)),
    ),
    "a black image is explained": (
        lambda t: explainer().explain(torch.zeros(1, 3, 16, 16), torch.tensor([0])),
        lambda found: found.isfinite().all(),
    ),
}

SHAPES = {
    "pixels in 0..255": (
        lambda t: decide(classifier(), 255 * PIXELS),
        refused(r"in \[0,1\], got .*\.\.255: divide by 255"),
    ),
    "pixels as bytes": (
        lambda t: decide(classifier(), (255 * PIXELS).byte()),
        refused(r"got torch\.uint8: divide by 255"),
    ),
    "normalised pixels": (
        lambda t: decide(classifier(), (PIXELS - 0.45) / 0.22),
        refused(r"got -2\.\d*\.\.2\.\d*: give them without the normalisation"),
    ),
    "pixels in [-1,1]": (
        lambda t: decide(classifier(), 2 * PIXELS - 1),
        refused(r"got -\d.*\.\..*: give them without the normalisation"),
    ),
    "NaN in the pixels": (
        lambda t: decide(classifier(), PIXELS.clone().index_fill_(0, torch.tensor(1), NAN)),
        refused("pixels of image 1 .* not finite .*: check"),
    ),
    "grey pixels": (
        lambda t: classifier()(PIXELS[:, :1]),
        refused(r"got shape \(2, 1, 16, 16\): repeat the grey channel"),
    ),
    "no batch dimension": (
        lambda t: classifier()(PIXELS[0]),
        refused(r"got shape \(3, 16, 16\): add the batch dimension, pixels\[None\]"),
    ),
    "channels last": (
        lambda t: classifier()(PIXELS.permute(0, 2, 3, 1)),
        refused(r"got shape \(2, 16, 16, 3\): put the channels first"),
    ),
    "pixels as an array": (
        lambda t: decide(classifier(), PIXELS.numpy()),
        refused("got a ndarray: see torch.as_tensor", TypeError),
    ),
    "RGBA pixels": (
        lambda t: BlackBox(Colours(), 16)(torch.rand(2, 4, 16, 16)),
        refused(r"got shape \(2, 4, 16, 16\): give images of 3 channels"),
    ),
    "grey pixels for an explainer": (
        lambda t: explainer().explain(PIXELS[:, :1], TARGETS),
        refused(r"got shape \(2, 1, 16, 16\): repeat"),
    ),
    "0..255 for an explainer": (
        lambda t: explainer().explain(255 * PIXELS, TARGETS),
        refused(r"got .*\.\.255: divide by 255"),
    ),
    "0..255 for the Explainer": (
        lambda t: Explainer(3, "small").masks(255 * PIXELS),
        refused(r"got .*\.\.255: divide by 255"),
    ),
    "0..255 for a competitor": (
        lambda t: occlusion(classifier())(255 * PIXELS, TARGETS),
        refused(r"got .*\.\.255: divide by 255"),
    ),
    "0..255 for the evidence": (
        lambda t: evidence(classifier(), 255 * PIXELS, TARGETS, MAPS),
        refused(r"got .*\.\.255: divide by 255"),
    ),
    "a channel in the maps": (lambda t: sparseness(MAPS[:, None]), refused(r"got \(2, 1, 4, 4\): check the method")),
    "a channel in the maps to keep by": (
        lambda t: keep(PIXELS, MAPS[:, None]),
        refused(r"got \(2, 1, 4, 4\): one map for each image"),
    ),
    "fewer maps than images": (
        lambda t: insertion(classifier(), PIXELS, TARGETS, MAPS[:1]),
        refused(r"each of 2 images, got \(1, 4, 4\): check"),
    ),
    "maps of whole numbers": (
        lambda t: pointing_game(MAPS.long(), TRUTH),
        refused(r"got torch\.int64: convert them, maps\.float\(\)"),
    ),
    "NaN in a map": (
        lambda t: masked_confidence(classifier(), PIXELS, TARGETS, MAPS * NAN),
        refused("map 0 has values that are not finite: check"),
    ),
    "NaN in a method's map": (
        lambda t: evaluate(MAPS[:1] * NAN),
        refused("map 0 has values that are not finite: check mine"),
    ),
    "a method's map with a channel": (lambda t: evaluate(MAPS[:1, None]), refused(r"got \(2, 1, 4, 4\): check mine")),
    "truth of floating point": (
        lambda t: iou(MAPS, TRUTH.float(), 0.5),
        refused(r"bool, got torch\.float32: .*truth > 0\.5"),
    ),
    "truth of another number": (
        lambda t: pointing_game(MAPS, TRUTH[:1]),
        refused(r"one for each of 1 images, got \(2, 4, 4\): check"),
    ),
    "mask logits": (
        lambda t: mean_iou(9 * MAPS, TRUTH),
        refused(r"masks must be in \[0,1\], got .*\.\.8\.\d*: apply a sigmoid"),
    ),
    "loss without all maps": (
        lambda t: ptame_loss(torch.rand(2, 3), TARGETS, MAPS),
        refused(r"masks must be \(B,n,h,w\), .*got \(2, 4, 4\)"),
    ),
    "a curve with other shares": (
        lambda t: summary(torch.rand(2, 3)),
        refused(r"belongs to 4 shares, got \(2, 3\): pass the shares"),
    ),
    "a control without its truth": (
        lambda t: evaluate(sees_truth=True),
        refused("'mine' is given the truth, which these images do not have: leave it out"),
    ),
    "no images to evaluate": (
        lambda t: evaluate(data=Data(0)),
        refused("no images to explain with mine: give at least one"),
    ),
    "a batch larger than the data": (lambda t: evaluate(batch_size=99), lambda values: len(values) == 2),
    "unpaired values": (
        lambda t: paired_permutation_test([1, 2], [1]),
        refused(r"paired, got shapes \(2,\) and \(1,\): take the images"),
    ),
    "NaN to resample": (
        lambda t: bootstrap_interval([1, NAN]),
        refused("1 of 2 values are not finite: drop them first"),
    ),
    "nothing to resample": (
        lambda t: bootstrap_interval([]),
        refused("no values to resample: give at least one image"),
    ),
}


def official(place, state):
    return PTAME.load_official_checkpoint(place.torch("a.ckpt", {"state_dict": state}), auxiliary())


def hugging_face(place):
    """A local Hugging Face folder whose weights are a pickle with code."""
    from transformers import ViTConfig

    ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=16, patch_size=8
    ).save_pretrained(place / "hf")
    config = json.loads((place / "hf" / "config.json").read_text()) | {"architectures": ["ViTForImageClassification"]}
    place.file("hf/config.json", json.dumps(config))
    place.torch("hf/pytorch_model.bin", {"weight": Code()})
    return load_classifier(f"hf/{place / 'hf'}")


def resumed(place, content):
    file = place.file("c.pt", content) if isinstance(content, bytes) else place.torch("c.pt", content)
    return train_ptame(
        explainer(), classifier(), Data(), TrainingConfig(steps=1, batch_size=2), checkpoint=file, resume=True
    )


FILES = {
    "pickle as weights": (
        lambda t: load_classifier("embedded/vgg", t.torch("w.pth", {"weight": Code()})),
        refused(r"w\.pth is refused: .*Save it as \.safetensors"),
    ),
    "pickle named .safetensors": (
        lambda t: load_classifier("embedded/vgg", t.file("w.safetensors", pickle.dumps(Code()))),
        refused(r"w\.safetensors can't be read as a weights file .*: download or make it again"),
    ),
    "plain pickle as weights": (
        lambda t: load_classifier("embedded/vgg", t.file("w.pt", pickle.dumps(Code()))),
        refused(r"w\.pt is refused: .*Save it as \.safetensors"),
    ),
    "pickle as timm's weights": (
        lambda t: load_classifier("timm/test_resnet", t.torch("w.pth", {"weight": Code()})),
        refused(r"w\.pth is refused: .*Save it as \.safetensors"),
    ),
    "pickle by timm's own option": (
        lambda t: load_classifier("timm/test_resnet", None, checkpoint_path=str(t.torch("w.pth", {"weight": Code()}))),
        refused(r"checkpoint_path.*: pass the file as weights"),
    ),
    "pickle in a Hugging Face folder": (
        hugging_face,
        refused(r"weights of 'hf/.*' are refused .*: they must be tensors alone, as whole \.safetensors"),
    ),
    "pickle as explainer": (
        lambda t: PTAME.load(t.torch("e.safetensors", {"weight": Code()})),
        refused(r"e\.safetensors can't be read as safetensors .*: train the explainer again, or copy"),
    ),
    "pickle as official checkpoint": (
        lambda t: official(t, {"weight": Code()}),
        refused(r"a\.ckpt can't be read as a checkpoint without running code from it .*: download it again"),
    ),
    "pickle as training checkpoint": (
        lambda t: resumed(t, {"config": Code()}),
        refused(r"c\.pt can't be read as a training checkpoint .*: delete it and start with resume=False"),
    ),
    "truncated weights": (
        lambda t: load_classifier("embedded/vgg", t.file("w.safetensors", cut(shipped("vgg").read_bytes()))),
        refused(r"w\.safetensors can't be read as a weights file .*: download or make it again"),
    ),
    "weights of another network": (
        lambda t: load_classifier("embedded/vgg", shipped("resnet")),
        refused(r"resnet\.safetensors does not fit VGGLike: missing"),
    ),
    "truncated explainer": (
        lambda t: PTAME.load(t.file("e.safetensors", cut(t.saved().read_bytes()))),
        refused(r"e\.safetensors can't be read as safetensors .*: train the explainer again, or copy"),
    ),
    "empty explainer": (
        lambda t: PTAME.load(t.file("e.safetensors")),
        refused(r"e\.safetensors can't be read as safetensors .*: train"),
    ),
    "folder as explainer": (
        lambda t: PTAME.load(t.folder),
        refused("no trained explainer at .*: train one with notebooks/02", FileNotFoundError),
    ),
    "weights as explainer": (
        lambda t: PTAME.load(shipped("vgg")),
        refused(r"vgg\.safetensors is not a P-TAME explainer .*format None"),
    ),
    "explainer as weights": (
        lambda t: load_classifier("embedded/vgg", t.saved()),
        refused(r"e\.safetensors does not fit VGGLike: missing .*unexpected \['bns"),
    ),
    "P-TAME as Explainer": (
        lambda t: Explainer.load(t.saved()),
        refused(r"e\.safetensors is not an Explainer .*format 'ptame-1', expected 'explainer-1'"),
    ),
    "explainer that says too little": (
        lambda t: PTAME.load(t.saved(layers=None)),
        refused(r"e\.safetensors .*metadata lack layers\. Train the explainer again"),
    ),
    "explainer that says nonsense": (
        lambda t: PTAME.load(t.saved(num_classes="many")),
        refused(r"e\.safetensors has metadata that can't be read .*'many'.*: train"),
    ),
    "explainer of another auxiliary": (
        lambda t: PTAME.load(t.saved(), auxiliary(["l3"])),
        refused(r"trained on small .*l1.* not on .*l3.*: load it with that"),
    ),
    "checkpoint without a state_dict": (
        lambda t: PTAME.load_official_checkpoint(t.torch("a.ckpt", {"x": 1}), auxiliary()),
        refused(r"a\.ckpt is no Lightning checkpoint: it holds no state_dict"),
    ),
    "checkpoint of numbers": (
        lambda t: official(t, {"net.attention.fuser.weight": 3}),
        refused(r"fuser\.weight of its state_dict is a int\. Download it again"),
    ),
    "checkpoint of another model": (
        lambda t: official(t, {"fc.weight": torch.zeros(2)}),
        refused(r"a\.ckpt does not fit: no net\.attention\.fuser\.weight .*has fc\.weight"),
    ),
    "truncated checkpoint": (
        lambda t: PTAME.load_official_checkpoint(
            t.file("a.ckpt", cut(t.torch("b.ckpt", {"state_dict": {}}).read_bytes())), auxiliary()
        ),
        refused(r"a\.ckpt can't be read as a checkpoint .*: download it again"),
    ),
    "no training checkpoint": (
        lambda t: resumed(t, b"hello"),
        refused(r"c\.pt can't be read as a training checkpoint .*: delete it"),
    ),
    "no ONNX": (
        lambda t: load_onnx(t.file("n.onnx", b"hello")),
        refused(r"n\.onnx can't be read as an ONNX network .*: export it again"),
    ),
    "damaged cache of images is made again": (
        lambda t: (
            load_embedded("val", 1),
            [f.write_bytes(b"x") for f in files.cache().iterdir()],
            load_embedded("val", 1),
        )[2],
        lambda found: len(found) == 1,
    ),
    "damaged cache of values is made again": (
        lambda t: cached(t, t.file("v.csv"), t.file("v.json", "{")),
        lambda values: values["a"].tolist() == [1],
    ),
}


def shipped(name):
    return Path(ptame_lib.__file__).parent.parent / "data" / "embedded" / f"{name}.safetensors"


def cached(place, *_):
    table = pd.DataFrame({"a": [1]})
    return cache.cached(place / "v.csv", {"x": 1}, lambda: (table, table))[0]


ROOM = r"no space left for {}: free some on the disk of .*, or write to another"
DISK = {
    "full disk: text": (
        lambda t: t.small_disk("a.json", lambda f: records.write_whole(f, "x" * 9999)),
        refused(ROOM.format(r"a\.json"), OSError),
    ),
    "full disk: table": (
        lambda t: t.small_disk("a.csv", lambda f: records.write_table(f, pd.DataFrame({"a": range(9999)}))),
        refused(ROOM.format(r"a\.csv"), OSError),
    ),
    "full disk: explainer": (
        lambda t: t.small_disk("e.safetensors", explainer(99).save),
        refused(ROOM.format(r"e\.safetensors"), OSError),
    ),
    "full disk: checkpoint": (lambda t: t.small_disk("c.pt", checkpoint), refused(ROOM.format(r"c\.pt"), OSError)),
    "full disk: figure": (lambda t: t.small_disk("f.png", figure), refused(ROOM.format(r"f\.png"), OSError)),
    "full disk: ONNX": (lambda t: t.small_disk("e.onnx", onnx), refused(ROOM.format(r"e\.onnx"), OSError)),
    "full disk, as the system says it": (
        lambda t: t.refusing(errno.ENOSPC, lambda: records.write_whole(t / "a.json", "x")),
        refused(r"No space left|no space left for a\.json: free some", OSError),
    ),
    "quota": (
        lambda t: t.refusing(errno.EDQUOT, lambda: records.write_whole(t / "a.json", "x")),
        refused(ROOM.format(r"a\.json"), OSError),
    ),
    "read-only folder": (
        lambda t: t.refusing(errno.EACCES, lambda: records.write_whole(t / "a.json", "x")),
        refused(
            r"a\.json can't be written \(Permission denied\): make .* a writable folder, or choose one", PermissionError
        ),
    ),
    "read-only disk": (
        lambda t: t.refusing(errno.EROFS, lambda: records.write_whole(t / "a.json", "x")),
        refused(r"a\.json can't be written \(Read-only file system\): make .* a writable folder", OSError),
    ),
    "folder below a file": (
        lambda t: explainer().save(t.file("notes.txt") / "new" / "e.safetensors"),
        refused(r"notes\.txt/new can't be written \(Not a directory\): make .* a writable folder", OSError),
    ),
    "folder that is a file": (
        lambda t: records.write_whole(t.file("results") / "a.json", "x"),
        refused(r"results can't be written \(File exists\): make .* a writable folder", OSError),
    ),
    "results that are a file": (
        lambda t: (t.file("results"), paths.results("x")),
        refused(r"results/x can't be written .*: make .* a writable", OSError),
    ),
    "file that is a folder": (
        lambda t: records.write_whole(t.file("a.json/x").parent, "x"),
        refused(r"a\.json can't be written \(Is a directory\): make .* or choose one", OSError),
    ),
    "explainer that is a folder": (
        lambda t: explainer().save(t.file("e.safetensors/x").parent),
        refused(r"e\.safetensors can't be written \(Is a directory\): make .* or choose one", OSError),
    ),
    "training for a folder that is a file": (
        lambda t: trained(t.folder, t.file("notes.txt") / "e.safetensors"),
        refused(r"notes\.txt can't be written \(File exists\): make .* a writable folder", OSError),
    ),
    "training for a full disk": (
        lambda t: t.small_disk("a.txt", lambda f: trained(t.folder, f.with_name("e.safetensors"))),
        refused(ROOM.format(r"e\.safetensors"), OSError),
    ),
    "an error of one's own stays as it is": (lambda t: failing(t), refused("^mine$", KeyError)),
}


def checkpoint(file):
    with files.whole(file) as unfinished:
        torch.save({"x": torch.rand(9999)}, unfinished)


def figure(file):
    with files.whole(file) as unfinished:
        Image.effect_noise((200, 200), 50).save(unfinished)


def onnx(file):
    with files.whole(file) as unfinished:  # as onnx_ir does: in one go, its error is the system's
        unfinished.write_bytes(bytes(9999))


def trained(folder, out):
    auxiliary = AuxiliarySettings("embedded/auxiliary")
    return actions.train(
        ClassifierSettings("embedded/vgg"), auxiliary, ImageSettings(str(folder)), TrainingConfig(), out
    )


def failing(place):
    with files.whole(place / "a.json"):
        raise KeyError("mine")


def configured(kind, value, **checks):
    return configure([f"x: {kind} = 1"], {"x": value}, **checks)


WHOLE = "classifiers: [a]\nnotebooks: {b: {c: 1}}\n"
PARAMETERS = {
    "number as text": (
        lambda t: configured("float", "1e-4"),
        refused(r"x must be a float, got '1e-4' of type str \(in YAML write 1\.0e-4", TypeError),
    ),
    "number that is none": (lambda t: configured("float", NAN), refused("x can't be nan: give a finite number")),
    "infinite number": (
        lambda t: configured("list[float]", [1.0, INF]),
        refused(r"x\[1\] can't be inf: give a finite number"),
    ),
    "half a step": (lambda t: configured("int", 1.5), refused(r"x must be a int, got 1\.5 of type float", TypeError)),
    "negative steps": (
        lambda t: configured("int", -3, x=lambda n: n > 0),
        refused("x can't be -3: see the comment beside it"),
    ),
    "unknown choice": (lambda t: configured("str", "c", x=["a", "b"]), refused("unknown x 'c': choose one of a, b")),
    "parameter of another kind": (
        lambda t: configured("dict", {}),
        refused("x is declared as dict: declare it as one of str, int", TypeError),
    ),
    "unknown profile": (
        lambda t: t.profile(WHOLE) and profiles.load_profile("imagenett"),
        refused("unknown profile 'imagenett': there are bad in workflow/profiles"),
    ),
    "profile that is no YAML": (
        lambda t: t.profile("classifiers: [a\nb: {"),
        refused(r"bad\.yaml is no YAML .*line 2.*: correct it"),
    ),
    "profile that is no text": (lambda t: t.profile(b"\xff\xfe"), refused(r"bad\.yaml is no YAML .*: correct it")),
    "profile that is a list": (
        lambda t: t.profile("- a"),
        refused(r"bad\.yaml must hold 'classifiers' and 'notebooks'"),
    ),
    "one classifier without a list": (
        lambda t: t.profile("classifiers: embedded/vgg\nnotebooks: {}"),
        refused(r"'classifiers' must be a list of names, got 'embedded/vgg': write \[embedded/vgg\]"),
    ),
    "notebook's settings as a number": (
        lambda t: t.profile("classifiers: [a]\nnotebooks: {b: 3}"),
        refused(r"bad\.yaml: 'notebooks' must be a mapping of mappings, got \{'b': 3\}: see"),
    ),
    "classifier's settings as a list": (
        lambda t: t.profile(WHOLE + "per_classifier: {a: [1]}"),
        refused(r"'per_classifier' must be a mapping of mappings, got \{'a': \[1\]\}: see"),
    ),
    "profiles in a circle": (
        lambda t: t.profile("extends: other", other="extends: bad"),
        refused("extend each other in a circle, bad -> other -> bad: take one 'extends' out"),
    ),
    "classifier that a profile has not": (
        lambda t: t.profile(WHOLE) and profiles.parameters_for("bad", "b", "vgg"),
        refused("unknown classifier 'vgg' in profile bad: it has a"),
    ),
    "unknown classifier": (lambda t: load_classifier("vgg17"), refused("unknown classifier 'vgg17': .*embedded/vgg")),
    "unknown timm model": (
        lambda t: load_classifier("timm/mobilenetv2_99", None),
        refused("unknown timm model 'mobilenetv2_99' .*similar names: mobilenetv2_"),
    ),
    "unknown auxiliary": (
        lambda t: load_auxiliary("resnet19"),
        refused("unknown auxiliary 'resnet19': choose embedded/auxiliary"),
    ),
    "unknown layer": (lambda t: auxiliary(["l9"]), refused("no layer 'l9' in Sequential: it has l1, ")),
    "unknown architecture": (
        lambda t: Explainer(3, "unet"),
        refused("unknown architecture 'unet': choose deeplab or small"),
    ),
    "unknown method": (
        lambda t: build_methods(classifier(), names=["Grad-CAMM"]),
        refused("unknown method 'Grad-CAMM': choose from Grad-CAM, "),
    ),
    "unknown metric": (
        lambda t: tables.wins(pd.DataFrame(), metrics=["AD99"]),
        refused("unknown metric 'AD99': choose from AD100, "),
    ),
    "unknown split": (
        lambda t: load_embedded("valid", 3),
        refused("unknown split 'valid': the embedded data set has train, val, test"),
    ),
    "negative number of images": (lambda t: load_embedded("val", -1), refused("n must be at least 1, got -1")),
    "more first images than there are": (
        lambda t: first(Data(2), 3),
        refused("the first 3 images are asked for, but there are 2"),
    ),
    "negative learning rate": (
        lambda t: TrainingConfig(lr=-0.1),
        refused("can't be -0.1 and 0.01: give finite numbers"),
    ),
    "training in 0..255": (
        lambda t: train_ptame(
            explainer(), classifier(), Data(pixels=255 * PIXELS[0]), TrainingConfig(steps=1, batch_size=2)
        ),
        refused(r"pixels must be in \[0,1\], got .*: divide by 255"),
    ),
    "training batch larger than the data": (
        lambda t: train_ptame(explainer(), classifier(), Data(), TrainingConfig(steps=1, batch_size=32)),
        refused("2 training images are fewer than one batch of 32: give more images or a smaller batch_size"),
    ),
    "more test images than there are": (
        lambda t: load_parts(
            ImageSettings(str(t.image("a.png", halves()).parent), test_images=5), ["test"], classifier()
        ),
        refused("has 1 images, too few for test_images=5"),
    ),
    "all images as test images": (
        lambda t: load_parts(
            ImageSettings(str(t.image("a.png", halves()).parent), test_images=1), ["test"], classifier()
        ),
        lambda found: len(found[0]) == 1,
    ),
    "explainer of no class": (lambda t: explainer(0), refused("num_classes must be .* at least 1, got 0: raise it")),
    "no masks for RISE": (
        lambda t: rise(classifier(), masks=0),
        refused("masks must be a whole number of at least 1, got 0: raise it"),
    ),
    "half a mask": (
        lambda t: Budget(masks=2.5),
        refused(r"masks must be a whole number of at least 1, got 2\.5: raise it"),
    ),
    "no steps of insertion": (
        lambda t: insertion(classifier(), PIXELS, TARGETS, MAPS, 0),
        refused("steps must be .* at least 1, got 0: raise it"),
    ),
    "batch of 0": (
        lambda t: evaluate(batch_size=0),
        refused("batch_size must be a whole number of at least 1, got 0: raise it"),
    ),
    "share of nothing": (lambda t: keep_share(MAPS, 0.0), refused(r"share must be in \(0, 1\], got 0\.0")),
    "share in percent": (lambda t: known_pixels(MAPS, 50, "MoRF"), refused(r"share in \[0, 1\], got 'MoRF' and 50")),
    "unknown order": (lambda t: known_pixels(MAPS, 0.5, "morf"), refused("order must be MoRF or LeRF .*, got 'morf'")),
    "negative weight of the loss": (
        lambda t: PTAMEWeights(area=-1),
        refused("the loss's area can't be -1: give a number above 0, or 0 to leave"),
    ),
    "power of 0": (lambda t: PTAMEWeights(p=0), refused("the loss's p can't be 0: give a number above 0")),
    "NaN as weight": (lambda t: PTAMEWeights(ce=NAN), refused("the loss's ce can't be nan: give a number")),
    "input size of 0": (
        lambda t: BlackBox(Colours(), 0),
        refused("input_size must be a side or .*, whole numbers above 0, got 0"),
    ),
    "input size of text": (lambda t: BlackBox(Colours(), "64"), refused("input_size must be .* got '64'")),
}

TABLE = {
    f"{part}: {name}": row
    for part, rows in {
        "images": IMAGES,
        "labels": LABELS,
        "answers": ANSWERS,
        "constant": CONSTANT,
        "shapes": SHAPES,
        "files": FILES,
        "disk": DISK,
        "parameters": PARAMETERS,
    }.items()
    for name, row in rows.items()
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol", "ignore:Corrupt EXIF", "ignore:Image size")
@pytest.mark.parametrize("name", TABLE)
def test_bad_input(name, place):
    act, expected = TABLE[name]
    if not isinstance(expected, Refused):
        assert expected(act(place))
        return
    with pytest.raises(expected.error) as caught:
        act(place)
    message = str(caught.value.args[0] if isinstance(caught.value, KeyError) else caught.value)
    assert re.search(expected.says, message, re.DOTALL), message
    assert not list(place.folder.rglob("*.tmp*"))  # nothing unfinished stays


def test_the_table_is_long():
    assert len(TABLE) >= 80
