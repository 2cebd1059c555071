"""Small networks and data shared by the tests."""

import gc
import os
import signal

import pytest
import torch
from filelock import FileLock
from helpers import SIDE, rand, small_auxiliary, small_classifier
from refusals import Place

from ptame_lib import decide, load_classifier

# The nets are tiny: more threads only wait for each other, here and in the processes that tests start.
torch.set_num_threads(1)
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# A shell that starts the tests in the background has them ignore Ctrl-C, which some tests send to themselves.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """Leave what is imported by now out of each search for garbage, which would take half a second."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure():
    """Let Python end as usual: libraries report what they find left at the end."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """A folder that is filled once for all processes of the tests: ``made_once(name, fill)``."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def get(name, fill):
        folder, done = shared / name, shared / f"{name}.done"
        with FileLock(f"{folder}.lock"):
            if not done.exists():
                fill(folder)
                done.touch()
        return folder

    return get


@pytest.fixture
def auxiliary():
    return small_auxiliary()


@pytest.fixture
def classifier():
    return small_classifier()


@pytest.fixture
def pixels():
    return rand(4, 3, 64, 64, seed=2)


@pytest.fixture
def noise():
    return rand(3, 3, SIDE, SIDE)


@pytest.fixture
def asked():
    """A trained classifier, images, its decisions, and maps of noise to start from."""
    classifier, pixels = load_classifier("embedded/vgg"), rand(4, 3, 64, 64, seed=2)
    return classifier, pixels, decide(classifier, pixels), rand(4, 16, 16, seed=5)


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
