"""Memory of evaluations with few and with many images, each in processes of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from measure import device, peak, row
from torch.utils.data import Dataset

from ptame_lib import Method, load_classifier
from ptame_study.evaluation import evaluate, evaluate_all

FEW, MANY, MOST = 500, 5000, 50_000


class Noise(Dataset):
    """``n`` images (3,side,side), made on demand."""

    def __init__(self, n: int, side: int = 64):
        self.n, self.side = n, side

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {"pixels": torch.rand(3, self.side, self.side, generator=torch.Generator().manual_seed(i))}


def evaluating() -> dict[str, Callable]:
    """An embedded classifier, a method that costs nothing, and every metric but the curves (slow)."""
    classifier = load_classifier("embedded/vgg").to(device())
    method = Method("brightness", lambda pixels, targets: pixels.mean(1), 1, 0, "control")
    evaluate(classifier, method, Noise(40), curves=False)  # what any evaluation needs
    return {str(n): lambda n=n: evaluate(classifier, method, Noise(n), curves=False) for n in (FEW, MANY)}


class Colours(torch.nn.Module):
    """A classifier that costs nothing: the mean of each colour is the logit of a class."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return 5 * pixels.mean((2, 3))


def keeping() -> dict[str, Callable]:
    """The evaluation from end to end, whose values are kept in files: small images, three methods, no curves."""
    methods = [
        Method(name, lambda pixels, targets: pixels.mean(1), 1, 0, "control") for name in ("one", "two", "three")
    ]

    def work(n: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            kept = (Path(folder), {})
            evaluate_all("colours", Colours(), methods, Noise(n, 8), curves=False, batch_size=100, kept=kept)

    work(400)  # what any evaluation needs
    return {str(n): lambda n=n: work(n) for n in (MANY, MOST)}


PEAKS = {"evaluating": evaluating, "keeping": keeping}


def rows() -> list[dict]:
    """Megabytes with many images, compared with few."""
    found = []
    for case, few, many in (("evaluating", FEW, MANY), ("keeping", MANY, MOST)):
        peaks = peak(f"{case}.{many}"), peak(f"{case}.{few}")
        found.append(row(f"peak memory of an evaluation, {many} images beside {few} (MB)", *peaks, 1.0))
    return found
