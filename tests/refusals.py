"""What the tables of bad input share: a small batch and nets for it, a folder with bad files, what errors must say."""

import os
import pickle
import re
import resource
import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from helpers import plain, rand, small_auxiliary
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import ptame_lib
from ptame_lib import PTAME, ImageFolder

ROOM = r"no space left for {}: free some on the disk of .*, or write to another"


# A batch of two images for three classes.

NAN, INF = float("nan"), float("inf")
PIXELS = rand(2, 3, 16, 16)
TARGETS = torch.tensor([0, 2])
MAPS = rand(2, 4, 4, seed=1)
TRUTH = torch.zeros(2, 16, 16, dtype=torch.bool)
TRUTH[:, 4:8, 4:8] = True


class Colours(nn.Module):
    """Three classes, each with the mean of one colour as its logit."""

    def forward(self, x):
        return 5 * x.mean((2, 3))


class Says(nn.Module):
    """Logits of 0 for three classes; the last image gets ``value`` for class 1."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        logits = torch.zeros(len(x), 3)
        logits[-1, 1] = self.value
        return logits


class Items(torch.utils.data.Dataset):
    """The same item ``n`` times."""

    def __init__(self, n=2, **item):
        self.n, self.item = n, {"pixels": PIXELS[0], **item}

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if i >= self.n:
            raise IndexError
        return self.item


def toy_classifier(net=None):
    return plain(net or Colours(), 16, "abc")


def toy_auxiliary(layers=("l1", "l2")):
    return small_auxiliary(layers, name="small")


def toy_explainer(classes=3):
    return PTAME(toy_auxiliary(), classes).eval()


class Refused(NamedTuple):
    """An error of this type, whose message matches ``says``."""

    error: type[Exception]
    says: str


def refused(says, error=ValueError):
    return Refused(error, says)


def assert_answer(act, expected):
    """``act()`` is refused as expected or, where ``expected`` is a function, gives a value that it accepts."""
    if not isinstance(expected, Refused):
        assert expected(act())
        return
    with pytest.raises(expected.error) as caught:
        act()
    message = str(caught.value.args[0] if isinstance(caught.value, KeyError) else caught.value)
    assert re.search(expected.says, message, re.DOTALL), message


class Code:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code of a pickle was run')",))


def cut(content):
    """The first half of a file's bytes."""
    return content[: len(content) // 2]


def shipped(name):
    """The file of a shipped network's weights."""
    return Path(ptame_lib.__file__).parent.parent / "data" / "embedded" / f"{name}.safetensors"


class Place:
    """A new folder, which is also the study's root, with bad files on demand."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.patch = folder, monkeypatch

    def __truediv__(self, name):
        return self.folder / name

    def file(self, name, content=b""):
        file = self / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    def image(self, name, image, **options):
        image.save(self / name, **options)
        return self / name

    def read(self, file):
        return ImageFolder(self.folder, 16, 16, [Path(file).name])[0]["pixels"]

    def damaged(self, name, change, **options):
        """Read a photograph's file after its bytes were changed."""
        photograph = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8))
        return self.read(self.file(name, change(self.image(name, photograph, **options).read_bytes())))

    def torch(self, name, content):
        torch.save(content, self / name)
        return self / name

    def pickle(self, name):
        """A plain pickle with code in it."""
        return self.file(name, pickle.dumps(Code()))

    def saved(self, change=lambda state: state, **metadata):
        """A trained explainer's file with something changed; None removes an entry of the metadata."""
        model = toy_explainer()
        config = {key: value for key, value in (model.config() | metadata).items() if value is not None}
        save_file({k: v.contiguous() for k, v in change(model.trained_state()).items()}, self / "e.safetensors", config)
        return self / "e.safetensors"

    def small_disk(self, name, write):
        """Call ``write`` on the file ``name`` with room for 4 kB; the file from before must stay, and nothing else."""
        file = self.file(name, "old")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        try:
            return write(file)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            assert [(p, p.read_text()) for p in self.folder.iterdir()] == [(file, "old")]

    def refusing(self, code, write):
        """Call ``write`` where opening a file for writing fails."""

        def fail(*_, **__):
            raise OSError(code, os.strerror(code))

        self.patch.setattr(Path, "write_text", fail)
        return write()


# Texts that a stranger may write into a file, as a name, a label or metadata.

HOSTILE = {
    "script": "<img src=x onerror=alert(1)>",
    "end of elements": "</b></bdi></div><script>alert(1)</script>",
    "attribute": '" onmouseover="alert(1)" \'',
    "entity": "&lt;b&gt; &#60;",
    "link": "[a](javascript:alert(1)) <http://x.y> http://x.y www.x.y",
    "picture": "![a](http://x.y/z.png)",
    "emphasis": "**a** _b_ ~~c~~ `d` ``e",
    "block of code": "a\n```\n# b\n```",
    "table": "a | b\n|---|---|",
    "heading": "a\n\n# b\n\n---\nlicense: mit\n---",
    "colour": "\x1b[2J\x1b[31mred",
    "title of the terminal": "\x1b]0;title\x07 \x1b]8;;http://x.y\x1b\\link",
    "short control": "\x9b2J\x9d0;title\x9c",
    "forged line": "fine\nerror: forged",
    "line again": "fine\rerror: forged\x08\x08",
    "other line breaks": "a\x0bb\x0cc\x85d\u2028e\u2029f",
    "formula": "$x_$ $\\frac{1}$ \\$",
    "direction": "\u202egnp.exe\u2066a\u200f",
    "Hebrew": "שלום",
    "Chinese": "猫",
    "zero": "a\0b",
    "half a letter": "a\udcffb",
    "long": "x" * 10_000,
    "Python": '"); import os  # ',
    "template": "$classifier ${method} {0} %s",
}


def is_one_line(text):
    """Whether a terminal shows the text as it is, in one line."""
    return all(unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in text)
