"""Small networks and data shared by the tests."""

import pytest
import torch
from helpers import TinyBackbone, small_cnn
from refusals import Place

from ptame_lib import Classifier, FeatureExtractor
from ptame_lib.classifiers.wrapper import IMAGENET_MEAN, IMAGENET_STD

torch.set_num_threads(1)  # the nets are tiny: more threads only wait for each other


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


@pytest.fixture
def place(study_root, monkeypatch):
    """A folder for bad files; no unfinished file may stay in it."""
    place = Place(study_root, monkeypatch)
    yield place
    assert not list(place.folder.rglob("*.tmp*"))
