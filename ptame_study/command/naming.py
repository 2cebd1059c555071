"""Names of explained images in print, and of the files about them: no two images share one."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, count, product
from pathlib import Path

from ptame_lib import files
from ptame_lib.explainers.names import QUESTIONS

from ..paths import ENDING
from ..records import sha256

LONGEST = 180  # bytes of an image's name in theirs: with what is added, disks take 255


def shown_names(files: Sequence[Path]) -> list[str]:
    """For each file its name, after as many of its folders as tell it from the others.

    >>> shown_names([Path("a/x.png"), Path("b/x.png"), Path("b/y.png")])
    ['a/x.png', 'b/x.png', 'y.png']
    """
    names, depth = [file.name for file in files], 1
    while depth < max((len(file.parts) for file in files), default=0):
        depth += 1
        often = Counter(names)
        names = [
            Path(*file.parts[-depth:]).as_posix() if often[name] > 1 else name
            for file, name in zip(files, names, strict=True)
        ]
    return names


def check_there(*images: Path) -> None:
    """Raise FileNotFoundError for the first of the images, or folders of them, that is missing."""
    for image in images:
        if not image.exists():
            raise FileNotFoundError(f"no image at {image}: check the path")


def check_folder(out: Path) -> None:
    """Raise NotADirectoryError where ``out``, or a folder that leads to it, is a file."""
    for place in (out, *out.parents):
        if place.exists() and not place.is_dir():
            inside = "" if place == out else f", below which there can be no {out}"
            raise NotADirectoryError(f"{place} is a file{inside}: name a folder with --out, which need not exist yet")


def new_pair(out: Path, endings: Sequence[str], second: str, whose: str) -> Path:
    """The file with the ending ``second`` beside ``out``, that is to be written with it.

    Raises ValueError unless ``out`` has one of the ``endings`` and neither is there, and as `files.writable`.
    """
    if out.suffix.lower() not in endings:
        raise ValueError(f"{whose} file must end in {endings[0]}, not as {out}")
    beside = out.with_suffix(second)
    for file in (out, beside):
        if file.exists():
            raise ValueError(f"{file} exists: delete it, or choose another file with --out")
    files.writable(out)
    return beside


def figure_files(
    files: Sequence[Path], out: Path, classes: Sequence[int] = (), ask: str | None = None
) -> Iterator[list[Path]]:
    """The figures' files of each image: one for each class asked for, else one for the decision.

    The file of an asked class has its number, that of a map with questions (``ask``, of `QUESTIONS`) has these. A
    second image of one name, in this call or an earlier one, gets the first free number, with questions the same as
    without: what is there of another image is never replaced, what is there of the same image is. Upper and lower case
    count as one name, as they do on some disks. Names of more than `LONGEST` bytes are cut.
    """
    own = [_cut(file.stem) for file in files]
    names, given = {stem.casefold() for stem in own}, set()
    parts = [f".{c}" for c in classes] or [""]

    def figure(stem: str, part: str, how: str | None) -> Path:
        asked = f".asked-{how.replace(' ', '-')}" if how else ""
        return out / f"{stem}{part}{asked}{ENDING}.png"

    def free(stem: str, file: Path) -> bool:
        kinds = product(parts, (None, *QUESTIONS))
        return stem.casefold() not in given and not any(
            _is_of_another(figure(stem, part, how), file, how) for part, how in kinds
        )

    for file, name in zip(files, own, strict=True):
        others = (f"{name}-{i}" for i in count(2))
        stems = chain([name], (stem for stem in others if stem.casefold() not in names))
        stem = next(stem for stem in stems if free(stem, file))
        given.add(stem.casefold())
        yield [figure(stem, part, ask) for part in parts]


def _cut(name: str) -> str:
    """The name's first `LONGEST` bytes, without a half character at the end."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= LONGEST else encoded[:LONGEST].decode(errors="ignore")


def _is_of_another(figure: Path, image: Path, ask: str | None) -> bool:
    """Whether a figure or its JSON is there that is not said to be of this image's very content, with this ``ask``."""
    beside = figure.with_suffix(".json")
    if not figure.exists() and not beside.exists():
        return False
    try:
        told = json.loads(beside.read_text(encoding="utf-8"))
        made_from = told["provenance"]["image"]["sha256"], told.get("questions to the classifier")
        return made_from != (sha256(image), ask)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # no such JSON: somebody else's figure
        return True
