"""Small networks and data shared by the tests."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ptame_lib import Classifier, FeatureExtractor
from ptame_lib.classifiers import IMAGENET_MEAN, IMAGENET_STD

torch.set_num_threads(1)  # the nets are tiny: more threads only wait for each other
PARITY = Path(__file__).parent / "parity"


class Arrays:
    """One parity file as tensors: ``arrays["images"]``, ``arrays.part("aux/")``, ``arrays.description``."""

    def __init__(self, name: str):
        with np.load(PARITY / f"{name}.npz") as file:
            self.values = {key: file[key] for key in file.files}
        self.description = json.loads(str(self.values["description"]))

    def __getitem__(self, key: str) -> torch.Tensor:
        return torch.as_tensor(self.values[key])

    def part(self, prefix: str) -> dict[str, torch.Tensor]:
        return {k.removeprefix(prefix): torch.as_tensor(v) for k, v in self.values.items() if k.startswith(prefix)}

    def pixels(self, key: str) -> torch.Tensor:
        """Undo ImageNet's normalisation."""
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        return self[key] * std + mean


def small_cnn(widths=(4, 8, 16, 32), classes=5) -> nn.Sequential:
    """The parity files' auxiliary: stages l1..l4 of convolution, batch norm and ReLU, each of stride 2."""
    net, inside = nn.Sequential(), 3
    for i, width in enumerate(widths):
        net.add_module(f"l{i + 1}", nn.Sequential(nn.Conv2d(inside, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()))
        inside = width
    net.add_module("pool", nn.AdaptiveAvgPool2d(1))
    net.add_module("flat", nn.Flatten())
    net.add_module("head", nn.Linear(inside, classes))
    return net


class TinyBackbone(nn.Module):
    """The parity files' classifier."""

    def __init__(self, classes: int = 7):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU()
        )
        self.fc = nn.Linear(12, classes)

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


@pytest.fixture
def auxiliary():
    torch.manual_seed(0)
    return FeatureExtractor(small_cnn(), ["l1", "l2", "l3", "l4"], IMAGENET_MEAN, IMAGENET_STD, 64)


@pytest.fixture
def classifier():
    torch.manual_seed(1)
    return Classifier(TinyBackbone(), IMAGENET_MEAN, IMAGENET_STD, 64)


@pytest.fixture
def pixels():
    return torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def study_root(tmp_path, monkeypatch):
    """An empty study folder, so that tests leave nothing in the checkout."""
    monkeypatch.setenv("PTAME_ROOT", str(tmp_path))
    return tmp_path
