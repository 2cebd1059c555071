"""One list of dependencies, pinned once, whichever way the environment is made."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
SPEC = spec_from_file_location("make_venv", ROOT / "workflow" / "make_venv.py")
make_venv = module_from_spec(SPEC)
SPEC.loader.exec_module(make_venv)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_environment_yml_installs_this_package_with_the_same_extras_and_pins():
    parts = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(part["pip"] for part in parts if isinstance(part, dict))
    assert pip == ["--editable .[study,test]", "--constraint constraints.txt"]
    assert make_venv.INSTALL[-4:] == ["--editable", ".[study,test]", "--constraint", "constraints.txt"]


def test_every_dependency_is_pinned():
    pinned = {
        line.split("==")[0].split("[")[0].lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    extras = [name for extra in PROJECT["optional-dependencies"].values() for name in extra]
    wanted = [name for name in PROJECT["dependencies"] + extras if not name.startswith(PROJECT["name"])]
    assert wanted
    assert [name for name in wanted if re.split("[<>=!~]", name)[0].lower() not in pinned] == []


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ([], ["--cores", "3", "--resources", "gpu=1", "profile=['embedded']", "--keep-going"]),
        (
            ["PROFILE=imagenet", "DATA=/my images", "GPUS=2"],
            ["--cores", "3", "--resources", "gpu=2", "profile=['imagenet']", "data=['/my images']"],
        ),
        (["PROFILE=imagenet", "CLUSTER=slurm"], ["--profile", "workflow/cluster/slurm", "profile=['imagenet']"]),
        (["DATA=/x'; touch y; '"], ["data=['/x''; touch y; ''']"]),
        (['PROFILE=`touch y`";touch y;"'], ["profile=['`touch y`\";touch y;\"']"]),
    ],
)
def test_make_passes_its_variables_on(variables, expected, tmp_path):
    """As words: no shell takes apart what people give."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / "workflow").mkdir()
    for name in ("pyproject.toml", "constraints.txt", "workflow/make_venv.py", ".venv/ready"):
        (tmp_path / name).touch()
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >> words\n')
    python.chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    command = ["make", "reproduce", "CORES=3", *variables]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    words = (tmp_path / "words").read_text().splitlines()
    assert [word for word in expected if word not in words] == []
    assert not (tmp_path / "y").exists()


@pytest.mark.parametrize("cores", ["0", "-1", "00"])
def test_no_cores_are_refused(cores):
    done = subprocess.run(["make", "-n", "reproduce", f"CORES={cores}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"CORES={cores}: give the number of jobs to run at a time, 1 or more" in done.stderr


def test_two_processes_do_not_make_one_environment(tmp_path, monkeypatch, capsys):
    """The second waits for the first, and finds it ready: nothing is cleared."""
    made = []

    def make(folder):
        made.append(folder)
        with (tmp_path / "env.lock").open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as a second process would
        folder.mkdir()

    monkeypatch.setattr(make_venv, "make", make)
    monkeypatch.setattr(sys, "argv", ["make_venv.py", str(tmp_path / "env")])
    assert make_venv.main() == 0
    assert make_venv.main() == 0
    assert made == [tmp_path / "env"]


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (["pip", "uv", "virtualenv"], ["-m", "pip", "--python"]),
        (["uv", "virtualenv"], ["venv", "--quiet", "--seed"]),
        (["virtualenv"], ["-m", "virtualenv", "--quiet"]),
    ],
)
def test_without_ensurepip_another_tool_makes_the_environment(there, expected, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(make_venv.importlib.util, "find_spec", lambda name: name if name in there else None)
    monkeypatch.setattr(make_venv.shutil, "which", lambda name: f"/bin/{name}" if name in there else None)
    monkeypatch.setattr(make_venv.subprocess, "run", lambda command, **_: calls.append(list(map(str, command))))
    monkeypatch.setattr(make_venv.venv, "create", lambda folder, with_pip, clear: None)
    make_venv.make_empty(tmp_path / "env")
    assert calls[0][1:4] == expected


def test_make_lets_python_keep_what_it_compiles(tmp_path):
    """Else each of hundreds of processes would compile torch again; an empty text is no for Python."""
    (tmp_path / "Makefile").write_text(
        (ROOT / "Makefile").read_text() + '\nshow:\n\t@echo "<$$PYTHONDONTWRITEBYTECODE>"\n'
    )
    given = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    command = ["make", "--no-print-directory", "show"]
    shown = subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "<>"


def test_without_any_tool_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(make_venv.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(make_venv.shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["make_venv.py", str(tmp_path / "env")])
    assert make_venv.main() == 1
    assert "apt install python3-venv" in capsys.readouterr().err
    assert not (tmp_path / "env" / "ready").exists()


@pytest.mark.parametrize(
    "name", ["Makefile", "workflow/make_venv.py", "environment.yml", "pyproject.toml", "constraints.txt"]
)
def test_setting_up_names_no_address(name):
    """Whatever is fetched is fetched by a package manager, from where it is set up to look."""
    assert "://" not in (ROOT / name).read_text()


def plan(profile, *more, **environment):
    """What snakemake would run: its return code and all it says."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        "workflow/Snakefile",
        "--directory",
        ".",
        "-n",
        "--nolock",
        "--forceall",
        "-p",
    ]
    command += [*more, "--config", f"profile={profile}", *(["data=/some/where"] if profile != "embedded" else [])]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environment})
    return found.returncode, found.stdout + found.stderr


def jobs(said):
    """How many jobs of each rule."""
    return {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", said, re.M)}


def job(said, command):
    """What is said of the job whose command ends like this, without its inputs."""
    return re.sub(
        r"    input: .*",
        "",
        next(
            part for part in re.split(r"\n(?:local)?rule ", said) if re.search(rf"Shell command: .*{command}\n", part)
        ),
    )


def job_inputs(said, command):
    """The inputs of the job whose command ends like this."""
    part = next(
        part for part in re.split(r"\n(?:local)?rule ", said) if re.search(rf"Shell command: .*{command}\n", part)
    )
    return re.search(r"    input: (.*)", part)[1]


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (
            "embedded",
            {
                "train": 3,
                "take_shipped": 12,  # of all trained methods but P-TAME
                "compare_one": 3,
                "compare": 1,
                "figures": 3,
                "train_masks": 3,
                "compare_masks": 1,
                "photographs": 1,
            },
        ),
        ("embedded-full", {"train": 15, "train_other": 60, "compare_one": 15, "seeds": 1, "strata": 1}),
        (
            "realdata",
            {"train": 1, "compare_one": 1, "figures": 1, "all": 1, "total": 4},
        ),  # one classifier: its comparison is the whole
        ("voc2007", {"finetune": 2, "train_masks": 4, "compare_masks": 2, "all": 1, "total": 9}),
    ],
)
def test_the_graph_plans_a_profile(profile, expected):
    code, said = plan(profile, "--cores", "2")
    assert code == 0, said
    assert expected.items() <= jobs(said).items()
    if profile == "embedded":  # the Explainer of one classifier takes part in its comparison
        compared = {name: job_inputs(said, f"03_compare --classifier embedded/{name}") for name in ("vgg", "resnet")}
        assert "results/embedded/explainer-embedded-vgg.safetensors" in compared["vgg"]
        assert "explainer-" not in compared["resnet"]
        assert "07_explainer_train --classifier embedded/vgg --loss explainer" in said
        assert "--classifier embedded/vgg --loss rtis" not in said
        assert "data/explainers/lite2.safetensors" in job_inputs(said, "photographs --profile embedded")
    else:
        assert "photographs" not in jobs(said)
    if not profile.startswith("embedded"):
        assert re.search(r"Shell command: PTAME_ROOT=\. .* --data /some/where .*\n", said)
    assert ("gpu=1" in said) == (profile not in ("embedded", "embedded-full", "realdata"))


def test_seeds_are_jobs_of_their_own(tmp_path):
    for name in ("notebooks", "ptame_lib", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "workflow" / "profiles", tmp_path / "workflow" / "profiles")
    (tmp_path / "workflow" / "profiles" / "x.yaml").write_text(
        "extends: embedded\nonly: [02_train_ptame, 03_compare]\nseeds: [0, 3]\n"
    )
    code, said = plan("x", "--cores", "2", "--directory", str(tmp_path), PTAME_ROOT=str(tmp_path), PYTHONPATH=str(ROOT))
    assert code == 0, said
    assert {"train": 6, "train_other": 12, "compare_one": 6, "compare": 1, "seeds": 1}.items() <= jobs(said).items()
    assert "results/x/ptame-embedded-vit.safetensors" in said  # seed 0 has no tail
    assert "results/x/ttame-embedded-vit-seed3.safetensors" in job(
        said, "--classifier embedded/vit --method T-TAME --seed 3"
    )
    assert "results/x/per_image/embedded-vit-seed3.csv" in job(said, "03_compare --classifier embedded/vit --seed 3")


def test_explainers_that_ship_are_taken_and_others_trained(tmp_path):
    for name in ("notebooks", "ptame_lib"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "data" / "explainers" / "embedded").mkdir(parents=True)
    for name in ("embedded", "zoo"):
        (tmp_path / "data" / name).symlink_to(ROOT / "data" / name)
    for name in ("vgg", "vit"):
        file = f"data/explainers/embedded/ttame-embedded-{name}.safetensors"
        shutil.copyfile(ROOT / file, tmp_path / file)
    shutil.copytree(ROOT / "workflow" / "profiles", tmp_path / "workflow" / "profiles")
    # vit's T-TAME is trained otherwise than the full study's
    (tmp_path / "workflow" / "profiles" / "x.yaml").write_text(
        "extends: embedded-full\nonly: [02_train_ptame]\nseeds: [0]\nshipped: [T-TAME]\n"
        "notebooks: {03_compare: {trained: [P-TAME, T-TAME]}}\n"
        "per_classifier: {embedded/vit: {02_train_ptame: {steps: 7}}}\n"
    )
    code, said = plan("x", "--cores", "2", "--directory", str(tmp_path), PTAME_ROOT=str(tmp_path), PYTHONPATH=str(ROOT))
    assert code == 0, said
    assert {"train": 3, "train_other": 2}.items() <= jobs(said).items()  # vgg's is taken, by whoever needs it
    code, said = plan(
        "x", "results/x/ttame-embedded-vgg.safetensors", "--cores", "2", "--directory", str(tmp_path),
        PTAME_ROOT=str(tmp_path), PYTHONPATH=str(ROOT),
    )  # fmt: skip
    assert code == 0, said
    assert "cp data/explainers/embedded/ttame-embedded-vgg.safetensors results/x/ttame-embedded-vgg.safetensors" in said


def test_slurm_plans_the_papers_scale():
    code, said = plan("imagenet", "--profile", "workflow/cluster/slurm")
    assert code == 0, said
    train = job(said, "02_train_ptame --classifier vit_b_16")
    assert all(f"{what}," in f"{train},".replace("\n", ",") for what in ("mem_mb=32000", "runtime=2880", "gpu=1"))
    assert "gpu" not in job(said, "03_compare")  # putting the tables together needs none


STORAGE = '''"""A storage without anything in it but the checkout, for plans."""
from pathlib import Path
from snakemake_interface_storage_plugins.storage_object import StorageObjectRead, StorageObjectWrite
from snakemake_interface_storage_plugins.storage_provider import StorageProviderBase, StorageQueryValidationResult
PREFIX = "s3://your-bucket/ptame-study/"
class StorageProvider(StorageProviderBase):
    is_read_write = True
    example_queries = classmethod(lambda cls: [])
    rate_limiter_key = lambda self, query, operation: None
    default_max_requests_per_second = lambda self: 10.0
    use_rate_limiter = lambda self: False
    is_valid_query = classmethod(lambda cls, query: StorageQueryValidationResult(query=query, valid=True))
    list_objects = lambda self, query: []
class StorageObject(StorageObjectRead, StorageObjectWrite):
    async def inventory(self, cache): pass
    get_inventory_parent = lambda self: None
    local_suffix = lambda self: self.query.removeprefix("s3://")
    cleanup = retrieve_object = store_object = remove = lambda self: None
    file = lambda self: Path(self.query.removeprefix(PREFIX))
    exists = lambda self: self.query.startswith(PREFIX) and self.file().is_file()
    mtime = lambda self: self.file().stat().st_mtime
    size = lambda self: self.file().stat().st_size
'''


def test_kubernetes_plans_the_papers_scale(tmp_path):
    (tmp_path / "snakemake_storage_plugin_s3").mkdir()
    (tmp_path / "snakemake_storage_plugin_s3" / "__init__.py").write_text(STORAGE)  # a real one wants a bucket
    code, said = plan(
        "imagenet", "--profile", "workflow/cluster/kubernetes", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}"
    )
    assert code == 0, said
    assert {"train": 3, "compare_one": 3, "compare": 1, "figures": 3}.items() <= jobs(said).items()
    train = job(said, "02_train_ptame --classifier vit_b_16")
    assert all(
        what in train
        for what in (
            "mem_mb=32000",
            "gpu=1",
            "gpu_manufacturer=nvidia",
            "s3://your-bucket/ptame-study/results/imagenet",
        )
    )
    assert re.search(
        r"PTAME_ROOT=\S*\.snakemake/storage/s3/your-bucket/ptame-study/? ", train
    )  # where the copies of inputs and outputs are


def test_an_unknown_profile_is_named_with_what_there_is():
    code, said = plan("nope", "--cores", "1")
    assert code != 0
    assert "unknown profile 'nope': there are black-box, coco2014, embedded, embedded-full, imagenet" in said


def test_commit_hooks_use_the_environment_and_check_what_make_lint_checks():
    hooks = [
        hook
        for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
        for hook in repo["hooks"]
    ]
    assert {hook["language"] for hook in hooks} == {"system"}  # nothing is downloaded
    entries = " ".join(hook["entry"] for hook in hooks)
    recipe = re.search(r"^lint: setup\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)[1]
    commands = re.findall(r"\$\(PYTHON\) (-m ruff \w+|-c \".*\"|\S+\.py)", recipe)
    assert len(commands) == recipe.count("$(PYTHON)") == 4
    for command in commands:
        assert command in entries


def test_the_version_has_a_section_in_the_changelog():
    assert re.search(
        rf"^## {re.escape(PROJECT['version'])} - \d{{4}}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.M
    )
    assert f"version: {PROJECT['version']}" in (ROOT / "CITATION.cff").read_text()
