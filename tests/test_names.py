"""Names that a shell, a format or a pattern would read: of folders, profiles, classifiers and data."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from processes import plant

import ptame_lib
from ptame_study import paths, run

CHECKOUT = Path(ptame_lib.__file__).parent.parent
PLACE = "a;b $(touch y) c"
SINGLE = ["onnx/$(touch y);b 'c'.onnx", 'timm/a+{slug}"&{b}', "embedded/vgg"]
MULTI = ["embedded/multi-vgg", "x`touch y`|{multi} $HOME"]
OTHER = "L $(touch y){x}"
NOTEBOOKS = ["02_train_ptame", "03_compare", "04_figures", "07_explainer_train", "08_explainer_compare", "11_black_box"]


@pytest.fixture
def place(tmp_path):
    """A study in a folder with a hostile name."""
    place = tmp_path / PLACE
    place.mkdir()
    for part in ("ptame_lib", "ptame_study", "data"):
        (place / part).symlink_to(CHECKOUT / part)
    (place / "workflow" / "profiles").mkdir(parents=True)
    shutil.copy(CHECKOUT / "workflow" / "Snakefile", place / "workflow")
    shutil.copy(CHECKOUT / "Makefile", place)
    return place


def write_profile(place, name, **content):
    (place / "workflow" / "profiles" / f"{name}.yaml").write_text(yaml.safe_dump(content))


def reproduce(place, *variables, path=str(CHECKOUT)):
    """What `make reproduce` does there, in the environment of the tests, with another PYTHONPATH."""
    command = ["make", "reproduce", "CORES=2", f"PYTHON='{sys.executable}'", "READY=", *variables]
    environment = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    environment |= {"PYTHONPATH": path, "PTAME_ROOT": "."}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    assert not [*place.parent.rglob("y")], "a name was run as a command"
    return done.returncode, done.stdout + done.stderr


def words(said, cwd):
    """The words that a shell makes of each job's command, without the interpreter's."""
    found = []
    for command in re.findall(r"^ *Shell command: (PTAME_ROOT.*)$", said, re.M):
        shown = command.replace(shlex.quote(sys.executable), r"printf '%s\n'", 1)
        found.append(subprocess.run(["bash", "-c", shown], cwd=cwd, capture_output=True, text=True).stdout.splitlines())
    return found


def test_a_plan_passes_every_name_on_as_one_word(place):
    profile = "p;q '$(touch y)+"
    notebooks = {name: {} for name in NOTEBOOKS} | {"03_compare": {"trained": ["P-TAME", "T-TAME", OTHER]}}
    more = {"multi_label": MULTI, "seeds": [0, 3], "finetune": {}}
    write_profile(place, profile, classifiers=SINGLE, notebooks=notebooks, **more)
    (place / "notebooks").symlink_to(CHECKOUT / "notebooks")
    data = "x'; touch y; '{d} #e'"
    code, said = reproduce(
        place, f"PROFILE={profile.replace('$', '$$')}", f"DATA={data}", "ARGS=-n -p --forceall --quiet host"
    )
    assert code == 0, said
    commands = words(said, place.parent)

    # each option is followed by the very text that was given
    values = {option: {c[c.index(option) + 1] for c in commands if option in c} for option in ("--profile", "--data")}
    assert values == {"--profile": {profile}, "--data": {str(place / data)}}
    asked = {
        (*(w for w in c if w in NOTEBOOKS), *(c[c.index(o) + 1] for o in ("--classifier", "--method") if o in c))
        for c in commands
    }
    assert {("02_train_ptame", name) for name in SINGLE} <= asked
    assert {("02_train_ptame", name, m) for name in SINGLE for m in ("T-TAME", OTHER)} <= asked
    assert {(notebook, name) for notebook in ("03_compare", "04_figures", "11_black_box") for name in SINGLE} <= asked
    assert {(notebook, name) for notebook in ("07_explainer_train", "08_explainer_compare") for name in MULTI} <= asked
    assert {c[c.index("--classifier") + 1] for c in commands if c[2] == "finetune"} == set(MULTI)
    assert {c[c.index("--seed") + 1] for c in commands if "--seed" in c} == {"3"}
    assert not [w for c in commands for w in c if w == ""]


NOTE = """from ptame_study.records import write_whole
from ptame_study import paths
write_whole(paths.results(profile) / "00_data.json", repr((profile, classifier)))"""


def test_a_run_in_a_folder_with_a_hostile_name(place, tmp_path_factory):
    """Its jobs, its notebook's kernel and its report work there as anywhere; numbers as names are texts."""
    cells = [
        nbformat.v4.new_code_cell("profile: str = ''\nclassifier: str = ''", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(NOTE),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (place / "notebooks").mkdir()
    nbformat.write(notebook, place / "notebooks" / "00_data.ipynb")
    write_profile(place, "010", classifiers=SINGLE, notebooks={"00_data": {"classifier": SINGLE[1]}})
    (place / "2012").mkdir()
    code, said = reproduce(place, "PROFILE=010", "DATA=2012", path=plant(tmp_path_factory.mktemp("planted")))
    assert code == 0, said
    assert (place / "results" / "010" / "00_data.json").read_text() == repr(("010", SINGLE[1]))
    assert (place / "runs" / "010" / "00_data.ipynb").is_file()


@pytest.mark.parametrize("key", ["profile", "data"])
def test_numbers_are_texts_for_snakemake_too(key, place):
    write_profile(place, "2012", classifiers=SINGLE, notebooks={"01_classifiers": {}})
    (place / "notebooks").symlink_to(CHECKOUT / "notebooks")
    command = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile", "--directory", ".", "-n", "-p"]
    command += ["--nolock", "--cores", "1", "--config", "profile=2012", *(["data=2012"] if key == "data" else [])]
    environment = {**os.environ, "PTAME_ROOT": ".", "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    asked = words(done.stdout + done.stderr, place)[0]
    expected = ["--profile", "2012", *(["--data", str(place / "2012")] if key == "data" else [])]
    assert asked[asked.index("--profile") : -1] == expected


READ_ONLY = Path("/proc/sys")  # where there is one, also for root


@pytest.mark.skipif(not READ_ONLY.is_dir() or os.access(READ_ONLY, os.W_OK), reason="needs a read-only disk")
def test_results_on_a_read_only_disk(place):
    write_profile(place, "x", classifiers=["a"], notebooks={})
    (place / "results").symlink_to(READ_ONLY)
    code, said = reproduce(place, "PROFILE=x")
    assert code == 2
    assert "ERROR: the folder results can't be written: make it writable, or work in a copy elsewhere" in said
    assert "Traceback" not in said


def test_a_profiles_name_has_no_braces(place):
    write_profile(place, "x{slug}", classifiers=["a"], notebooks={})
    code, said = reproduce(place, "PROFILE=x{slug}", "ARGS=-n")
    assert code != 0
    assert "a profile can't be named 'x{slug}': take the braces out of its file's name" in said


@pytest.mark.parametrize("name", SINGLE + MULTI)
def test_a_file_name_holds_nothing_that_is_read(name):
    """Ordinary names stay as they were."""
    assert re.fullmatch(r"[\w.+-]+", paths.slug(name))
    assert paths.slug("embedded/multi-vgg") == "embedded-multi-vgg"
    assert paths.slug("timm/vit_base.a+b ground") == "timm-vit_base.a+b-ground"


def test_papermill_fills_nothing_into_paths(tmp_path, monkeypatch):
    root = tmp_path / "a{b}{"
    (root / "notebooks").mkdir(parents=True)
    (root / "workflow" / "profiles").mkdir(parents=True)
    monkeypatch.setenv("PTAME_ROOT", str(root))
    write_profile(root, "x", classifiers=["c{d}"], notebooks={})
    cell = nbformat.v4.new_code_cell("profile: str = ''\nclassifier: str = ''", metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, root / "notebooks" / "tiny.ipynb")
    assert run.run_notebook("tiny", "x", "c{d}") == root / "runs" / "x" / "tiny-c-d-.ipynb"
    assert [p.name for p in (root / "runs" / "x").iterdir()] == ["tiny-c-d-.ipynb"]
