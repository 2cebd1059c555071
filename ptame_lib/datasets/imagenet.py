"""ImageNet (ILSVRC-2012) and Imagenette in torchvision's folder layouts, with the labels of torchvision's own loaders."""

from __future__ import annotations

from pathlib import Path

from torchvision import datasets

from .folders import ImageFolder

SPLITS = ("train", "val")


PAGE = "https://image-net.org/challenges/LSVRC/2012/2012-downloads.php"  # asks for an account


ARCHIVES = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}


DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"


IMAGENETTE = {
    "imagenette2": "full",
    "imagenette2-320": "320px",
    "imagenette2-160": "160px",
}  # folder -> torchvision's name for the size


def load_imagenet(folder: str | Path, split: str, size: int = 224, resize: int = 256) -> ImageFolder:
    """The split ``train`` or ``val`` of ImageNet below ``folder``, which holds ``train`` or ``val`` with one folder per synset, and
    ``meta.bin``, which torchvision makes of the devkit. Items as in `ImageFolder`; labels are 0..999, ``classes`` the synsets' names.

    The archives are unpacked by torchvision where they lie in ``folder``. Raises ValueError for another split, FileNotFoundError for
    missing pieces, saying which and what to do.
    """
    folder = _checked(folder, split)
    if not (folder / "meta.bin").is_file() and not (folder / DEVKIT).is_file():
        raise FileNotFoundError(
            _missing(folder, folder / "meta.bin", DEVKIT, f"torchvision.datasets.ImageNet({str(folder)!r}, {split!r})")
        )
    if not (folder / split).is_dir() and not (folder / ARCHIVES[split]).is_file():
        raise FileNotFoundError(
            _missing(
                folder, folder / split, ARCHIVES[split], f"torchvision.datasets.ImageNet({str(folder)!r}, {split!r})"
            )
        )
    theirs = datasets.ImageNet(folder, split)
    return _ours(theirs.samples, folder / split, size, resize, [names[0] for names in theirs.classes])


def load_imagenette(folder: str | Path, split: str, size: int = 224, resize: int = 256) -> ImageFolder:
    """The split ``train`` or ``val`` of Imagenette below ``folder``, which holds ``imagenette2``, ``imagenette2-320`` or
    ``imagenette2-160``; of several the first. Items as in `ImageFolder`; labels are 0..9.

    Raises ValueError for another split, FileNotFoundError for missing pieces, with the command that gets them.
    """
    folder = _checked(folder, split)
    name = next((name for name in IMAGENETTE if (folder / name).is_dir()), None)
    missing = folder / (name or "imagenette2") / split
    if not missing.is_dir():
        command = f"torchvision.datasets.Imagenette({str(folder)!r}, size='full', download=True)"
        raise FileNotFoundError(
            f'no Imagenette at {folder} ({missing} is missing): python -c "import torchvision; {command}" downloads it (1.6 GB)'
        )
    theirs = datasets.Imagenette(folder, split, IMAGENETTE[name])
    return _ours(theirs._samples, folder / name / split, size, resize, [names[0] for names in theirs.classes])


def _ours(samples: list[tuple[str, int]], folder: Path, size: int, resize: int, classes: list[str]) -> ImageFolder:
    start = len(str(folder)) + 1
    data = ImageFolder(folder, size, resize, [file[start:] for file, _ in samples], [label for _, label in samples])
    data.classes = classes
    return data


def _checked(folder: str | Path, split: str) -> Path:
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: there are {', '.join(SPLITS)}")
    return Path(folder).expanduser()


def _missing(folder: Path, path: Path, archive: str, call: str) -> str:
    return (
        f'no ImageNet at {folder} ({path} is missing): download {archive} from {PAGE} into {folder}, then python -c "import torchvision; {call}" '
        "unpacks it"
    )
