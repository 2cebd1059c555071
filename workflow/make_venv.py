"""Make a virtual environment with pip in it, also where Debian's python3 comes without ensurepip (package python3-venv).

python3 workflow/make_venv.py .venv           make it
python workflow/make_venv.py --has-package    print yes if this interpreter has the package of this checkout and its extras
"""

import hashlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import urllib.request
import venv
from pathlib import Path


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
    has_pip = importlib.util.find_spec("ensurepip") is not None
    if has_pip:
        try:
            venv.create(folder, with_pip=True, clear=True)
        except subprocess.CalledProcessError:  # Debian ships ensurepip without its wheels
            has_pip = False
    if not has_pip:
        venv.create(folder, with_pip=False, clear=True)
        pip_from_pypi(folder / "bin" / "python")
    return 0


def has_package() -> int:
    here = Path(__file__).resolve().parent.parent
    sys.path = [p for p in sys.path if p and Path(p).resolve() not in (here, here / "workflow")]
    found = [importlib.util.find_spec(name) for name in ("ptame_lib", "papermill", "snakemake", "nbval")]
    if all(found) and Path(found[0].origin).resolve().parent.parent == here:
        print("yes")
        return 0
    return 1


def pip_from_pypi(python: Path) -> None:
    """Fetch pip's own wheel, check its hash as PyPI states it, and let it install itself."""
    with urllib.request.urlopen("https://pypi.org/pypi/pip/json", timeout=60) as answer:
        wheel = next(file for file in json.load(answer)["urls"] if file["filename"].endswith(".whl"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / wheel["filename"]
        with urllib.request.urlopen(wheel["url"], timeout=60) as answer:
            file.write_bytes(answer.read())
        if hashlib.sha256(file.read_bytes()).hexdigest() != wheel["digests"]["sha256"]:
            raise SystemExit("pip's wheel arrived damaged: run make again, or install python3-venv")
        subprocess.run(
            [python, f"{file}/pip", "install", "--quiet", "--disable-pip-version-check", str(file)], check=True
        )


if __name__ == "__main__":
    sys.exit(main())
