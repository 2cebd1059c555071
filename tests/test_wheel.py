"""The wheel: built from the checkout, it works where there is no checkout."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers import lite_needed
from PIL import Image
from skimage import data

ROOT = Path(__file__).parent.parent
WEIGHTS = sorted(file.name for file in (ROOT / "data" / "embedded").iterdir())
EXPLAINERS = sorted(file.name for file in (ROOT / "data" / "explainers").glob("*.safetensors"))
PAGES = sorted((ROOT / "ptame_study" / "command" / "templates").iterdir())
TABLES = sorted(file.name for file in (ROOT / "data" / "cutouts").glob("*.csv"))
ZOO = sorted(file.name for file in (ROOT / "data" / "zoo").glob("*.safetensors"))


def pip(*arguments):
    options = ("--quiet", "--disable-pip-version-check", "--no-index", "--no-deps")
    done = subprocess.run([sys.executable, "-m", "pip", *arguments, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(made_once):
    return next(made_once("wheel", build).glob("*.whl"))


def build(folder):
    """From a copy, because a build leaves folders behind."""
    copy = folder / "checkout"
    for part in ("ptame_lib", "ptame_study", "data/embedded", "data/cutouts", "data/zoo", "data/explainers"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    pip("wheel", "--no-build-isolation", "--wheel-dir", folder, copy)


@pytest.fixture(scope="module")
def installed(wheel, made_once):
    return made_once("installed", lambda folder: pip("install", "--no-compile", "--target", folder, wheel))


@pytest.fixture
def away(installed, tmp_path):
    """Run Python in a folder far from the checkout, with an empty home, and with the installed packages first."""
    for name in ("here", "home", "tmp"):
        (tmp_path / name).mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(installed),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": str(tmp_path / "home" / "cache"),
        "TMPDIR": str(tmp_path / "tmp"),
    }

    def run(*arguments):
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=tmp_path / "here", env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def files_below(*folders):
    return {file for folder in folders for file in folder.rglob("*") if file.is_file()}


def test_the_wheel_holds_both_packages_and_what_is_shipped(wheel):
    packages = {
        file.relative_to(ROOT).as_posix()
        for file in files_below(ROOT / "ptame_lib", ROOT / "ptame_study")
        if "__pycache__" not in file.parts
    }
    with zipfile.ZipFile(wheel) as content:
        held = {name for name in content.namelist() if ".dist-info/" not in name}
        data = {name: content.read(name) for name in held - packages}
    places = {f"ptame_lib/classifiers/weights/{name}": ROOT / "data" / "embedded" / name for name in WEIGHTS}
    places |= {f"ptame_lib/datasets/tables/{name}": ROOT / "data" / "cutouts" / name for name in TABLES}
    places |= {f"ptame_lib/explainers/shipped/{name}": ROOT / "data" / "explainers" / name for name in EXPLAINERS}
    places |= {f"ptame_lib/classifiers/zoo_weights/{name}": ROOT / "data" / "zoo" / name for name in ZOO}
    assert (len(WEIGHTS), len(TABLES), len(EXPLAINERS), len(ZOO), len(PAGES)) == (7, 2, 1, 10, 1)
    assert {file.relative_to(ROOT).as_posix() for file in PAGES} <= held
    assert data == {name: file.read_bytes() for name, file in places.items()}


WORK = """
import json, ptame_lib
from ptame_lib import PTAME, TrainingConfig, decide, files, load_auxiliary, load_classifier, load_embedded, train_ptame
from ptame_lib.datasets.cutouts import read_tables

assert read_tables("train")
classifier, data = load_classifier("embedded/resnet"), load_embedded("train", 4)
explainer = PTAME(load_auxiliary("embedded/auxiliary"), 10)
history = train_ptame(explainer, classifier, data, TrainingConfig(steps=2, batch_size=2))
pixels = data[0]["pixels"][None]
maps = explainer.explain(pixels, decide(classifier, pixels))
told = {"library": ptame_lib.__file__, "weights": str(files.embedded()), "cache": str(files.cache())}
print(json.dumps({**told, "steps": len(history), "shape": list(maps.shape)}))
"""


def test_an_installed_wheel_loads_trains_and_explains(away, installed, tmp_path):
    before = files_below(installed)
    found = json.loads(away("-c", WORK))
    assert Path(found["library"]) == installed / "ptame_lib" / "__init__.py"
    assert Path(found["weights"]) == installed / "ptame_lib" / "classifiers" / "weights"
    assert (found["steps"], found["shape"][0]) == (2, 1)
    # the composed images went to the user's cache folder, and nothing else was written
    cache = tmp_path / "home" / "cache" / "ptame-study"
    assert Path(found["cache"]) == cache
    (composed,) = cache.iterdir()
    assert composed.name.startswith("embedded-")
    assert files_below(tmp_path) == {composed}
    assert files_below(installed) == before


def test_an_installed_wheel_has_the_command(away):
    said = away("-m", "ptame_study.command.cli", "--help")
    assert all(command in said for command in ("train", "explain", "export"))


@lite_needed("lite/0", "lite/2")
def test_an_installed_wheel_explains_a_photograph_without_any_option(away, tmp_path):
    Image.fromarray(data.chelsea()).save(tmp_path / "here" / "cat.png")
    said = away("-m", "ptame_study.command.cli", "explain", "cat.png")
    assert re.match(r"cat\.png: (tabby|Egyptian cat|tiger cat): \d+\s?% on the whole", said), said
    assert {file.name for file in (tmp_path / "here" / "explanations").iterdir()} == {
        "cat.explained.png",
        "cat.explained.json",
    }
