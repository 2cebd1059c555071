"""Make the study's virtual environment, one process at a time, with nothing but package managers.

python3 workflow/make_venv.py .venv           make it and install the study into it, unless it is ready
python workflow/make_venv.py --has-package    print yes if this interpreter has this checkout's package and its extras
"""

import fcntl
import importlib.util
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MADE_FROM = ("pyproject.toml", "constraints.txt", "workflow/make_venv.py")
INSTALL = [
    "install",
    "--disable-pip-version-check",
    "--quiet",
    "--quiet",  # a newer pip repeats what setuptools says about every editable package
    "--no-compile",  # two minutes of a slow core: Python compiles a module at its first import, if ever
    "--editable",
    ".[study,test]",
    "--constraint",
    "constraints.txt",
]
NEW_PIP = "pip>=26"
NO_PIP = """This Python has no ensurepip, so its environments come without pip. Install one of these, then run make:
python3-venv or python3-pip (Debian, Ubuntu: apt install python3-venv), uv, or virtualenv."""


def main() -> int:
    if sys.version_info < (3, 11):
        print(
            f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: run make PYTHON3=<a newer python3>",
            file=sys.stderr,
        )
        return 1
    if sys.argv[1] == "--has-package":
        return has_package()
    folder = Path(sys.argv[1])
    # The lock lies beside the environment, since a half-made one is cleared. It ends with its process.
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another make is setting up {folder}: waiting for it.", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        if is_ready(folder):
            return 0
        try:
            make(folder)
        except subprocess.CalledProcessError as error:
            print(f"{folder} could not be made: a command ended with exit code {error.returncode}", file=sys.stderr)
            return 1
        except FileNotFoundError as error:
            print(error, file=sys.stderr)
            return 1
        (folder / "ready").touch()
    return 0


def is_ready(folder: Path) -> bool:
    """Tell whether the environment was finished after everything that it is made from."""
    mark = folder / "ready"
    return mark.is_file() and all((ROOT / name).stat().st_mtime <= mark.stat().st_mtime for name in MADE_FROM)


def make(folder: Path) -> None:
    """Make the environment, with pip in it, and install the study."""
    python = folder / "bin" / "python"
    # An environment that works is only brought up to date.
    if not works(python):
        make_empty(folder)
    # The pip that comes with Python 3.11 takes twice as long for the same packages, but does where there is no newer.
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", NEW_PIP])
    subprocess.run([python, "-m", "pip", *INSTALL], cwd=ROOT, check=True)


def works(python: Path) -> bool:
    return python.exists() and subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0


def make_empty(folder: Path) -> None:
    """Make an environment with pip: by ensurepip, else by the system's pip, uv or virtualenv, whichever there is."""
    if importlib.util.find_spec("ensurepip"):
        try:
            venv.create(folder, with_pip=True, clear=True)
            return
        except subprocess.CalledProcessError:  # Debian ships ensurepip without its wheels
            pass
    if importlib.util.find_spec("pip"):
        venv.create(folder, with_pip=False, clear=True)
        target = folder / "bin" / "python"
        command = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            target,
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "pip",
        ]
    elif uv := shutil.which("uv"):
        command = [uv, "venv", "--quiet", "--seed", "--clear", "--python", sys.executable, folder]
    elif importlib.util.find_spec("virtualenv"):
        command = [sys.executable, "-m", "virtualenv", "--quiet", "--clear", folder]
    elif virtualenv := shutil.which("virtualenv"):
        command = [virtualenv, "--quiet", "--clear", "--python", sys.executable, folder]
    else:
        raise FileNotFoundError(NO_PIP)
    subprocess.run(command, check=True)


def has_package() -> int:
    """Print yes where this interpreter has this checkout's package and what the notebooks need."""
    sys.path = [p for p in sys.path if p and Path(p).resolve() not in (ROOT, ROOT / "workflow")]
    found = [importlib.util.find_spec(name) for name in ("ptame_lib", "papermill", "snakemake", "nbval")]
    if all(found) and Path(found[0].origin).resolve().parent.parent == ROOT:
        print("yes")
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
