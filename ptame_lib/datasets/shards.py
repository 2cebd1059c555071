"""Webdataset shards (tar files of ``key.jpg`` and ``key.cls``) as a data set with random access.

The place of each image inside its shard is read from the tar headers once, into a table in the cache folder. An image
is then one read of a few hundred kilobytes, and the order of training stays a pure function of (seed, step): any number
of workers, processes and nodes sees the same batches, and an interrupted training continues with the same images.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from glob import glob
from pathlib import Path

import numpy as np
from webdataset.shardlists import expand_urls
from webdataset.tariterators import base_plus_ext

from .. import files
from ..progress import progress
from .folders import Pictures, Size

IMAGES = {"jpg", "jpeg", "png", "webp"}
LABEL = "cls"
COLUMNS = ("name", "label", "shard", "offset", "size")  # of the table, one row per image


class Shards(Pictures):
    """The images of shards ``train-{0000..0146}.tar`` or ``train-*.tar``, in the order of the files.

    Items and ``draw`` as in `Pictures`: the label is the whole number in the sample's ``cls``, -1 without one.

    Raises FileNotFoundError for a missing shard, and ValueError for one that is no tar file or has no images, and for a
    broken image when it is read.
    """

    def __init__(self, pattern: str | Path, size: Size = 224, resize: int = 256, *, cached: bool = True):
        super().__init__(size, resize)
        # find the shards
        self.where = pattern = str(Path(pattern).expanduser())
        shards = sorted(glob(pattern)) if set("*?[") & set(pattern) else expand_urls(pattern)
        self.shards = [Path(name) for name in shards]
        missing = [shard for shard in self.shards if not shard.is_file()]
        if missing or not self.shards:
            few = f"{len(missing)} of {len(self.shards)} shards are missing, such as {missing[0]}" if missing else ""
            remedy = "check the pattern, or name the folder with the data by DATA=/path"
            raise FileNotFoundError(f"{pattern}: {few or 'no shard fits'}: {remedy}")
        # index their images
        table = _index(self.shards, cached)
        self.names, self.labels = table["name"].tolist(), table["label"].tolist()
        self._place = np.stack([table["shard"], table["offset"], table["size"]], 1)  # (N,3) int64
        self._files: dict[tuple[int, int], int] = {}  # (process, shard) -> open file

    def part(self, indices) -> Shards:
        """As `Pictures.part`."""
        indices = [int(i) for i in indices]
        part = super().part(indices)
        part._place, part._files = self._place[indices], {}
        return part

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_files": {}}  # open files are a process's own

    def _open(self, i: int) -> io.BytesIO:
        shard, offset, size = map(int, self._place[i])
        if (os.getpid(), shard) not in self._files:
            self._files[os.getpid(), shard] = os.open(self.shards[shard], os.O_RDONLY)
        content = os.pread(self._files[os.getpid(), shard], size, offset)
        if len(content) < size:
            problem = f"can't be read ({self.shards[shard]} ends inside it)"
            raise ValueError(f"the image {self.names[i]} {problem}: copy or make that shard again")
        return io.BytesIO(content)

    def __del__(self):
        for (process, _), file in getattr(self, "_files", {}).items():
            if process == os.getpid():
                os.close(file)


def _index(shards: list[Path], cached: bool) -> dict[str, np.ndarray]:
    """The table of all images by column, cached under the shards' names, sizes and times."""
    # a known one
    stats = [(str(shard.resolve()), shard.stat().st_size, shard.stat().st_mtime_ns) for shard in shards]
    file = files.cache() / f"shards-{hashlib.sha256(repr(stats).encode()).hexdigest()[:16]}.npz"
    if cached and file.is_file():
        try:
            with np.load(file, allow_pickle=False) as known:
                return dict(known)
        except (OSError, ValueError, EOFError, KeyError):  # damaged: make it again
            file.unlink()
    # a new one
    rows = []
    with progress(len(shards), "index shards") as bar:
        for number, shard in enumerate(shards):
            found = _read_shard(shard)
            if not found:
                wanted = f"one of {', '.join(sorted(IMAGES))}, and the class number as {LABEL}"
                raise ValueError(f"{shard} has no images: its samples must have {wanted}")
            rows += [(name, label, number, offset, size) for name, label, offset, size in found]
            bar.update()
    columns = (np.array(column) for column in zip(*rows, strict=True))
    table = dict(zip(COLUMNS, columns, strict=True))
    if cached:
        with files.whole(file) as unfinished:
            np.savez(unfinished, **table)
    return table


def _read_shard(shard: Path) -> list[tuple[str, int, int, int]]:
    """(name, label, offset, size) of every image of a shard; a label of -1 for none."""
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, int] = {}
    # a sample is several members of one key
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                key, extension = base_plus_ext(member.name) if member.isfile() else (None, None)
                if key is None:
                    continue
                if extension.lower() in IMAGES:
                    images[key] = (member.offset_data, member.size)
                elif extension == LABEL:
                    labels[key] = int(tar.extractfile(member).read())
    except (tarfile.TarError, OSError, ValueError) as error:
        remedy = "copy or make it again; compressed shards are not read"
        raise ValueError(f"{shard} can't be read as a webdataset shard ({error}): {remedy}") from error
    return [(key, labels.get(key, -1), *place) for key, place in images.items()]
