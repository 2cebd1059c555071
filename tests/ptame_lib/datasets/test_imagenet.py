"""ImageNet and Imagenette: small stand-ins in the releases' own layouts, against torchvision's loaders."""

import pytest
import torch
from PIL import Image
from torchvision import datasets
from torchvision.transforms.v2 import functional as TF

from ptame_lib import ImageFolder
from ptame_lib.datasets.imagenet import load_imagenet, load_imagenette

SYNSETS = {
    "n01440764": ("tench", "Tinca tinca"),
    "n02102040": ("English springer",),
    "n03000684": ("chain saw", "chainsaw"),
}
COUNTS = (2, 1, 3)  # images per synset


def picture(shade):
    """A picture of one grey, 20 x 10."""
    return Image.new("RGB", (20, 10), (shade,) * 3)


def fill(folder):
    """Images of growing brightness, synset by synset."""
    shade = 0
    for synset, count in zip(SYNSETS, COUNTS, strict=True):
        for i in range(count):
            file = folder / synset / f"{synset}_{i}.JPEG"
            file.parent.mkdir(parents=True, exist_ok=True)
            picture(shade := shade + 30).save(file, "JPEG")


@pytest.fixture
def imagenet(tmp_path):
    for split in ("train", "val"):
        fill(tmp_path / split)
    torch.save((SYNSETS, ["n03000684"] * 3), tmp_path / "meta.bin")
    return tmp_path


@pytest.fixture
def imagenette(tmp_path):
    for split in ("train", "val"):
        fill(tmp_path / "imagenette2-160" / split)
    return tmp_path


def same(ours, theirs):
    """Pixels and labels of every item are those of torchvision's loader."""
    assert len(ours) == len(theirs) == sum(COUNTS)
    for i in range(len(ours)):
        image, label = theirs[i]
        assert ours[i]["label"].item() == label
        pixels = TF.to_dtype(TF.pil_to_tensor(TF.center_crop(TF.resize(image, 8), [7])), torch.float32, scale=True)
        assert ours[i]["pixels"].equal(pixels)


def test_imagenet(imagenet):
    ours, theirs = load_imagenet(imagenet, "val", 7, 8), datasets.ImageNet(imagenet, "val")
    same(ours, theirs)
    assert ours.labels == theirs.targets == [0, 0, 1, 2, 2, 2]
    assert ours.classes == [names[0] for names in theirs.classes] == ["tench", "English springer", "chain saw"]
    assert ours.names[2] == "n02102040/n02102040_0.JPEG"


def test_missing_imagenet(imagenet, tmp_path):
    with pytest.raises(ValueError, match="unknown split 'test': ImageNet has train, val"):
        load_imagenet(imagenet, "test")
    (imagenet / "val").rename(imagenet / "elsewhere")
    with pytest.raises(
        FileNotFoundError,
        match=r"val is missing\): download ILSVRC2012_img_val\.tar from https://image-net.* python -c .*'val'\)\"",
    ):
        load_imagenet(imagenet, "val")
    (imagenet / "meta.bin").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no ImageNet at .*meta\.bin is missing\): download ILSVRC2012_devkit_t12\.tar\.gz"
    ):
        load_imagenet(imagenet, "train")


def test_imagenette(imagenette):
    ours, theirs = load_imagenette(imagenette, "train", 7, 8), datasets.Imagenette(imagenette, "train", "160px")
    same(ours, theirs)
    assert ours.classes == ["tench", "English springer", "chain saw"]
    (imagenette / "imagenette2-160" / "val").rename(imagenette / "elsewhere")
    with pytest.raises(
        FileNotFoundError,
        match=r"imagenette2-160/val is missing\): python -c .*Imagenette\(.*download=True\)\" downloads it",
    ):
        load_imagenette(imagenette, "val")
    with pytest.raises(FileNotFoundError, match=r"no Imagenette at .*nowhere \(.*imagenette2/val is missing\)"):
        load_imagenette(imagenette / "nowhere", "val")


def test_a_folders_labels_follow_its_parts(imagenet):
    data = ImageFolder(imagenet / "val", 7, 8)
    part = data.part([5, 2])
    assert (part.labels, [file.name for file in part.files]) == ([2, 1], ["n03000684_2.JPEG", "n02102040_0.JPEG"])
    assert data.find(["n03000684_2.JPEG", "n01440764/n01440764_0.JPEG"]) == [5, 0]
    with pytest.raises(
        ValueError, match=r"1 of 2 listed images are not in .*val, or in several of its folders, such as gone\.JPEG"
    ):
        data.find(["n03000684_2.JPEG", "gone.JPEG"])
    with pytest.raises(ValueError, match="there are 2 images and 1 labels"):
        ImageFolder(imagenet / "val", files=data.names[:2], labels=[3])
