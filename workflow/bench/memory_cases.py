"""What an evaluation needs beyond what lay in memory before, with ten times the images: each in processes of their own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from measure import device, peak, row
from torch.utils.data import Dataset

from ptame_lib import Method, load_classifier
from ptame_study.evaluation import evaluate

FEW, MANY = 500, 5000


class Noise(Dataset):
    """``n`` images (3,64,64), made when they are asked for."""

    def __init__(self, n: int):
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {"pixels": torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(i))}


def evaluating() -> dict[str, Callable]:
    """The embedded classifier and a method that costs nothing, with every metric but the curves, which cost most time."""
    classifier = load_classifier("embedded/vgg").to(device())
    method = Method("brightness", lambda pixels, targets: pixels.mean(1), 1, 0, "control")
    evaluate(classifier, method, Noise(40), curves=False)  # what any evaluation needs
    return {str(n): lambda n=n: evaluate(classifier, method, Noise(n), curves=False) for n in (FEW, MANY)}


PEAKS = {"evaluating": evaluating}


def rows() -> list[dict]:
    """Megabytes at 5000 images, beside those at 500."""
    return [
        row(
            f"peak memory of an evaluation, {MANY} images beside {FEW} (MB)",
            peak(f"evaluating.{MANY}"),
            peak(f"evaluating.{FEW}"),
            1.0,
        )
    ]
