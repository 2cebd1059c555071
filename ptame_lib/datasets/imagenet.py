"""ImageNet (ILSVRC-2012) and Imagenette in torchvision's folder layouts, with its labels."""

from __future__ import annotations

from pathlib import Path

from torchvision import datasets

from .folders import ImageFolder, Size
from .images import check_split

SPLITS = ("train", "val")
PAGE = "https://image-net.org/challenges/LSVRC/2012/2012-downloads.php"  # asks for an account
ARCHIVES = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
IMAGENETTE = {"imagenette2": "full", "imagenette2-320": "320px", "imagenette2-160": "160px"}  # folder: its size's name


def load_imagenet(folder: str | Path, split: str, size: Size = 224, resize: int = 256) -> ImageFolder:
    """The split ``train`` or ``val`` of ImageNet below ``folder``.

    ``folder`` holds ``train`` or ``val`` with one folder per synset, and ``meta.bin``, which torchvision makes from the
    devkit; torchvision unpacks archives that lie there. Items as in `ImageFolder`; labels are 0..999, ``classes`` the
    names of the synsets. Raises ValueError for another split, FileNotFoundError for a missing piece, with the remedy.
    """
    check_split(split, SPLITS, "ImageNet")
    folder = Path(folder).expanduser()
    for path, archive in ((folder / "meta.bin", DEVKIT), (folder / split, ARCHIVES[split])):
        if not path.exists() and not (folder / archive).is_file():
            unpack = f'python -c "import torchvision; torchvision.datasets.ImageNet({str(folder)!r}, {split!r})"'
            remedy = f"download {archive} from {PAGE} into {folder}, then {unpack} unpacks it"
            raise FileNotFoundError(f"no ImageNet at {folder} ({path} is missing): {remedy}")
    theirs = datasets.ImageNet(folder, split)
    return _to_folder(theirs.samples, folder / split, size, resize, theirs.classes)


def load_imagenette(folder: str | Path, split: str, size: Size = 224, resize: int = 256) -> ImageFolder:
    """The split ``train`` or ``val`` of Imagenette below ``folder``.

    ``folder`` holds ``imagenette2``, ``imagenette2-320`` or ``imagenette2-160``; the first of them is used. Items as in
    `ImageFolder`; labels are 0..9. Raises ValueError for another split, FileNotFoundError for a missing piece, with the
    command that downloads it.
    """
    check_split(split, SPLITS, "Imagenette")
    folder = Path(folder).expanduser()
    name = next((name for name in IMAGENETTE if (folder / name).is_dir()), None)
    missing = folder / (name or "imagenette2") / split
    if not missing.is_dir():
        call = f"torchvision.datasets.Imagenette({str(folder)!r}, size='full', download=True)"
        remedy = f'python -c "import torchvision; {call}" downloads it (1.6 GB)'
        raise FileNotFoundError(f"no Imagenette at {folder} ({missing} is missing): {remedy}")
    theirs = datasets.Imagenette(folder, split, IMAGENETTE[name])
    return _to_folder(theirs._samples, folder / name / split, size, resize, theirs.classes)


def _to_folder(
    samples: list[tuple[str, int]], folder: Path, size: Size, resize: int, classes: list[tuple[str, ...]]
) -> ImageFolder:
    """torchvision's samples (path, label) and classes (synonyms) as an `ImageFolder`."""
    start = len(str(folder)) + 1
    data = ImageFolder(folder, size, resize, [file[start:] for file, _ in samples], [label for _, label in samples])
    data.classes = [names[0] for names in classes]
    return data
