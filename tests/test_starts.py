"""What a start imports: heavy packages only where they are used. No times are measured, only `sys.modules`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import ptame_lib

CHECKOUT = Path(ptame_lib.__file__).parent.parent
HEAVY = ["timm", "captum", "pytorch_grad_cam", "transformers", "sklearn", "skimage", "matplotlib", "seaborn", "IPython"]

# Each line's steps are executed, then the packages that are loaded are noted.
HELP = """
import io, sys
from contextlib import redirect_stderr, redirect_stdout
from ptame_study.command import main

def ptame(*arguments):
    sys.argv = ["ptame", *arguments]
    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            main()
    except SystemExit as end:
        return end.code, said.getvalue()
"""


def loaded_after(preparation, *steps):
    """For each step in turn, in one new process: the value of its last expression, and the packages that are loaded."""
    code = f"{preparation}\nimport json, sys\nout = []\n"
    for step in steps:
        code += f"{step}\nout.append((value, sorted({{name.split('.')[0] for name in sys.modules}})))\n"
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run([sys.executable, "-c", code + "print(json.dumps(out))"], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_help_and_parsing_need_no_torch():
    asked = {
        "--help": (0, "Explain your own image classifier"),
        "explain --help": (0, "IMAGE..."),
        "train --help": (0, "--queries-per-image"),
        "export --help": (0, "--onnx"),
        "explain --colour": (2, "No such option"),
        "train --images x": (2, "Missing option"),
        "train --classifier vgg16 --images x --steps 0": (2, "Invalid value"),
    }
    found = loaded_after(HELP, *(f"value = ptame(*{arguments.split()})" for arguments in asked))
    for ((code, said), packages), (wanted, words) in zip(found, asked.values(), strict=True):
        assert code == wanted, said
        assert words in said
        assert not {"torch", "numpy", "pandas", *HEAVY} & set(packages)


def test_running_a_notebook_needs_no_torch():
    """Its kernel imports what it needs; the command of each job would load all that a second time."""
    asked = "value = main(['run', '99_unknown', '--profile', 'embedded', '--method', 'T-TAME'])"
    [(status, packages)] = loaded_after("from ptame_study.__main__ import main", asked)
    assert status == 1
    assert not {"torch", "pandas", *HEAVY} & set(packages)


def test_what_the_library_imports():
    """The explainer needs torch and torchvision; methods, training and the command's work add what they always use."""
    bare, explainer, methods, work = loaded_after(
        "value = None",
        "import ptame_lib",
        "from ptame_lib import PTAME",
        "from ptame_lib.methods import CATALOGUE, build_methods",
        "import ptame_study.command.actions",
    )
    assert not {"torch", "numpy"} & set(bare[1])
    assert {"torch", "torchvision"} <= set(explainer[1])
    assert not {"pandas", "accelerate", "scipy", "cv2", *HEAVY} & set(explainer[1])
    assert not {"pandas", *HEAVY} & set(methods[1])
    assert not {"pandas", "accelerate", "scipy", "cv2", *HEAVY} & set(work[1])


def test_one_explanation_needs_no_tables_and_no_training():
    """The first command of a newcomer: timm and matplotlib are used, nothing else that is heavy."""
    steps = "from ptame_study import figures\nfigures.use_style()\nimport ptame_study.command.actions\nvalue = 0"
    [(_, packages)] = loaded_after("", steps)
    assert not ({"pandas", "accelerate", "scipy", "cv2", *HEAVY} - {"matplotlib"}) & set(packages)
