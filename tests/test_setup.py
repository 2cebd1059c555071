"""One list of dependencies, pinned once, whichever way the environment is made."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_environment_yml_installs_this_package_with_the_same_extras_and_pins():
    parts = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(part["pip"] for part in parts if isinstance(part, dict))
    assert pip == ["--editable .[study,test]", "--constraint constraints.txt"]
    recipe = re.search(r"pip install .*--editable '(.*?)' --constraint (\S+)", (ROOT / "Makefile").read_text())
    assert recipe.groups() == (".[study,test]", "constraints.txt")


def test_every_dependency_is_pinned():
    pinned = {line.split("==")[0].split("[")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    extras = [name for extra in PROJECT["optional-dependencies"].values() for name in extra]
    wanted = [name for name in PROJECT["dependencies"] + extras if not name.startswith(PROJECT["name"])]
    assert wanted
    assert [name for name in wanted if name.lower() not in pinned] == []


@pytest.mark.parametrize("profile", ["embedded", "imagenet"])
def test_the_graph_plans_a_profile(profile, tmp_path):
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        "workflow/Snakefile",
        "--directory",
        ".",
        "--cores",
        "1",
        "-n",
        "--nolock",
        "--forceall",
    ]
    found = subprocess.run([*command, "--config", f"profile={profile}"], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert re.search(r"^train\s+3$", found.stdout + found.stderr, re.M)


def test_an_unknown_profile_is_named_with_what_there_is():
    command = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile", "--directory", ".", "--cores", "1", "-n", "--nolock"]
    found = subprocess.run([*command, "--config", "profile=nope"], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode != 0
    assert "unknown profile 'nope': there are black-box, embedded, imagenet" in found.stdout + found.stderr


def test_commit_hooks_use_the_environment_and_check_what_make_lint_checks():
    hooks = [hook for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"] for hook in repo["hooks"]]
    assert {hook["language"] for hook in hooks} == {"system"}  # nothing is downloaded
    entries = " ".join(hook["entry"] for hook in hooks)
    recipe = re.search(r"^lint: setup\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)[1]
    for command in re.findall(r"\$\(PYTHON\) (-m ruff \w+|\S+\.py)", recipe):
        assert command in entries


def test_the_version_has_a_section_in_the_changelog():
    assert re.search(rf"^## {re.escape(PROJECT['version'])} - \d{{4}}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert f"version: {PROJECT['version']}" in (ROOT / "CITATION.cff").read_text()
