"""Photographs cut out with an alpha channel, from Debian's package ``tuxpaint-stamps-default``.

The package is found, checked and unpacked here, without dpkg; nothing fetches it from here.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from PIL import Image

from .. import files

PACKAGE, VERSION = "tuxpaint-stamps-default", "2022.06.04-1"
DEB = f"{PACKAGE}_{VERSION}_all.deb"
SHA256 = "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34"  # of that file, as Debian's index has it
INSIDE = PurePosixPath("usr/share/tuxpaint/stamps")
OPAQUE = 128  # of 255: from here on a pixel belongs to the stamp


def find_stamps(known: str, folder: str | Path | None = None) -> Path:
    """The folder with the stamps: below ``folder``, else in the cache folder.

    ``known``: the name of one of them. In each place, the package's file or its unpacked files will do. The file is
    unpacked into the cache folder. Raises FileNotFoundError with a remedy where neither is, and as `unpack`.
    """
    places = [*([Path(folder).expanduser()] if folder else []), files.cache()]
    for place in places:
        for stamps in (place, place / INSIDE.name, place / INSIDE, *([unpacked()] if place == files.cache() else [])):
            if (stamps / known).is_file():
                return stamps
        if (place / DEB).is_file():
            return unpack(place / DEB, unpacked())
    remedy = f"on Debian, make data fetches them; elsewhere put {DEB} into {places[0]}, or unpacked its {INSIDE}"
    raise FileNotFoundError(f"no stamps of {PACKAGE} in {' or '.join(map(str, places))}: {remedy}")


def unpacked() -> Path:
    """The folder in the cache folder where the stamps are once they are unpacked."""
    return files.cache() / f"{PACKAGE}_{VERSION}"


def unpack(deb: Path, folder: Path, sha256: str = SHA256) -> Path:
    """Unpack the PNG files of the package's stamps into ``folder``, and return it.

    Raises ValueError for a file of another SHA-256, and for one that is no such package or would write elsewhere.
    """
    with deb.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != sha256:
        remedy = (
            "remove it and fetch it again, or give the unpacked files of another build, which are checked one by one"
        )
        raise ValueError(f"{deb} is not the expected file (SHA-256 {found[:16]}..., not {sha256[:16]}...): {remedy}")
    with files.alone(folder, f"the folder {files.show(folder)}"):
        # under another name until it is whole
        unfinished = folder.with_name(f".{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            with files.explained(folder), deb.open("rb") as archive:
                _extract(archive, unfinished, deb)
                shutil.rmtree(folder, ignore_errors=True)
                unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _extract(archive: BinaryIO, folder: Path, deb: Path) -> None:
    """Extract the stamps below ``folder``, without the folders that lead to them."""
    folder.mkdir(parents=True)
    try:
        with _data(archive) as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                if member.isreg() and name.suffix == ".png" and name.is_relative_to(INSIDE):
                    tar.extract(member.replace(name=str(name.relative_to(INSIDE))), folder, filter="data")
    except tarfile.TarError as error:  # also of the filter: a name that leads out of the folder
        raise ValueError(f"{deb} can't be unpacked ({error}): fetch it again") from error
    if not any(folder.iterdir()):
        raise ValueError(f"{deb} holds no PNG files below {INSIDE}: fetch {PACKAGE} again")


@contextmanager
def _data(archive: BinaryIO) -> Iterator[tarfile.TarFile]:
    """The tar archive ``data.tar...`` inside a Debian package, which is an ``ar`` archive."""
    if archive.read(8) != b"!<arch>\n":
        raise tarfile.ReadError("it is no ar archive")
    while len(header := archive.read(60)) == 60:
        name, size = header[:16].decode("ascii", "replace"), header[48:58].strip()
        if header[58:] != b"`\n" or not size.isdigit():
            raise tarfile.ReadError("a header of it is damaged")
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=archive, mode="r|*") as tar:
                yield tar
            return
        archive.seek(int(size) + int(size) % 2, io.SEEK_CUR)
    raise tarfile.ReadError("it has no data.tar")


@lru_cache(maxsize=1000)
def read_stamp(file: Path, sha256: str) -> Image.Image:
    """A stamp as RGBA, cut to the pixels that are at least half opaque.

    Raises FileNotFoundError for a missing file, ValueError for another SHA-256, for a file that is no image, for one
    without alpha, and for one without such pixels.
    """
    if not file.is_file():
        raise FileNotFoundError(f"the stamp {file} is missing: remove its folder, and fetch {PACKAGE} again")
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"the stamp {file} is not that of {PACKAGE} {VERSION}: remove its folder, and fetch it again")
    try:
        with Image.open(io.BytesIO(content)) as image:
            transparent, image = image.has_transparency_data, image.convert("RGBA")
    except OSError as error:
        raise ValueError(f"the stamp {file} can't be read ({error}): take it out of the table") from error
    if not transparent:
        raise ValueError(f"the stamp {file} has no alpha channel: nothing says what belongs to it; use another")
    box = image.getchannel("A").point(lambda alpha: 255 * (alpha >= OPAQUE)).getbbox()
    if box is None:
        raise ValueError(f"the stamp {file} shows nothing: none of its pixels is at least half opaque; use another")
    return image.crop(box)
