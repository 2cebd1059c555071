"""Memory of an evaluation with 500 and with 5000 images, each in processes of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from measure import device, peak, row
from torch.utils.data import Dataset

from ptame_lib import Method, load_classifier
from ptame_study.evaluation import evaluate

FEW, MANY = 500, 5000


class Noise(Dataset):
    """``n`` images (3,64,64), made on demand."""

    def __init__(self, n: int):
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {"pixels": torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(i))}


def evaluating() -> dict[str, Callable]:
    """An embedded classifier, a method that costs nothing, and every metric but the curves (slow)."""
    classifier = load_classifier("embedded/vgg").to(device())
    method = Method("brightness", lambda pixels, targets: pixels.mean(1), 1, 0, "control")
    evaluate(classifier, method, Noise(40), curves=False)  # what any evaluation needs
    return {str(n): lambda n=n: evaluate(classifier, method, Noise(n), curves=False) for n in (FEW, MANY)}


PEAKS = {"evaluating": evaluating}


def rows() -> list[dict]:
    """Megabytes at 5000 images, compared with 500."""
    few, many = peak(f"evaluating.{FEW}"), peak(f"evaluating.{MANY}")
    return [row(f"peak memory of an evaluation, {MANY} images beside {FEW} (MB)", many, few, 1.0)]
