"""Which images a training step sees, and how they are augmented: a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset


class Draws(Dataset):
    """Items (index, seed of the augmentation) -> entries ``wanted``; ``image``: index, -1 if augmented."""

    def __init__(self, data: Dataset, *wanted: str):
        self.data, self.wanted = data, itemgetter(*wanted)

    def __getitem__(self, item: tuple[int, int]) -> Tensor | tuple:
        index, seed = item
        if hasattr(self.data, "draw"):
            return self.wanted(self.data.draw(index, torch.Generator().manual_seed(seed)) | {"image": -1})
        return self.wanted(self.data[index] | {"image": index})


class Batches:
    """The batches of steps first..steps-1 over ``n`` images; ValueError if they don't make one batch."""

    def __init__(self, n: int, config: Any, first: int = 0):
        if n < config.batch_size:
            raise ValueError(
                f"{n} training images are fewer than one batch of {config.batch_size}: "
                "give more images or a smaller batch_size"
            )
        self.n, self.config, self.first = n, config, first
        self.batch_size, self.drop_last = config.batch_size, True
        self._epoch, self._order = -1, []

    def __len__(self) -> int:
        return self.config.steps - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.first, self.config.steps):
            yield [(index, hash((self.config.seed, step, index)) % 2**31) for index in self.images(step)]

    def images(self, step: int) -> list[int]:
        """The images of a step."""
        per_epoch = self.n // self.batch_size
        if step // per_epoch != self._epoch:
            self._epoch = step // per_epoch
            generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self._epoch)
            self._order = torch.randperm(self.n, generator=generator).tolist()
        at = step % per_epoch * self.batch_size
        return self._order[at : at + self.batch_size]


@dataclass(frozen=True)
class Steps:
    """The ``count`` steps of a training; ``batches(first)`` yields them from step ``first`` on.

    For error messages, ``place(step)`` says where a step is, and ``images(step)`` names its images if they are known.
    """

    count: int
    batches: Callable[[int], Iterable[tuple[Tensor, ...]]]
    place: Callable[[int], str] = "at step {}".format
    images: Callable[[int], list[str]] = lambda step: []


def planned(data: Dataset, config: Any, *wanted: str, pinned: bool = False) -> Steps:
    """The steps of a training whose batches hold the entries ``wanted``, in pinned memory if asked."""
    plan = Batches(len(data), config)

    def batches(first: int) -> DataLoader:
        plan.first = first
        draws = Draws(data, *wanted)
        return DataLoader(draws, batch_sampler=plan, num_workers=config.workers, pin_memory=pinned)

    return Steps(config.steps, batches, images=lambda step: names(data, plan.images(step)))


def names(data: Dataset, images: Iterable[int]) -> list[str]:
    """Names of these images: their files if the data set has ``files``, else ``image 17``."""
    images = list(images)
    if isinstance(data, Subset):
        return names(data.dataset, [data.indices[i] for i in images])
    files = getattr(data, "files", None)
    return [f"image {i}" if files is None else str(Path(files[i])) for i in images]
