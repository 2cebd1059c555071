"""A trained explainer on a faster runtime: the same ``explain``, by ONNX Runtime, torch.compile or OpenVINO.

    quick = explainer.fast()                        # for images of the auxiliary's size
    saliency = quick.explain(pixels, targets)       # the explainer's own maps, to rounding

Worth its while for thousands of images: ONNX takes seconds to make the first time, about one second afterwards.
"""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import files
from ..classifiers.frozen import Size, height_and_width
from ..classifiers.wrapper import device_of
from ..masking import normalise
from ..validation import check_images, check_targets
from .asking import ask_if
from .export import TOLERANCE, example_for, onnx_program
from .ptame import PTAME

RUNTIMES = {"onnx": ("onnxruntime",), "compile": (), "openvino": ("openvino",)}  # runtime: packages
TO_WRITE = ("onnx", "onnxscript")  # packages for the file that ONNX Runtime and OpenVINO read
KEPT = 4  # files in the cache, and explainers in this process
VERSION = "1"  # of the files in the cache
Run = Callable[[Tensor, Tensor], Tensor]


class Raw(nn.Module):
    """``explainer.own_maps`` as a forward pass of a frozen copy, whose batch norms are folded."""

    def __init__(self, explainer: PTAME):
        super().__init__()
        self.explainer = copy.deepcopy(explainer)
        self.eval().requires_grad_(False)
        self.explainer.auxiliary.own()  # of the copy, which has no other owner

    def forward(self, pixels: Tensor, targets: Tensor) -> Tensor:
        return self.explainer.own_maps(pixels, targets)


class Fast:
    """A trained explainer, as it was when this was made, on another ``runtime``, for images of one ``size``.

    Made by `PTAME.fast`. Images of another size are explained by torch, with a warning. ``difference``: of its maps of
    noise from the explainer's, before its ``power``.
    """

    def __init__(self, raw: Raw, run: Run, runtime: str, precision: str, size: tuple[int, int]):
        self.raw, self.run, self.runtime, self.precision, self.size = raw, run, runtime, precision, size
        self.num_classes = raw.explainer.num_classes
        noise = [part.to(device_of(raw)) for part in example_for(raw.explainer, size, 2)]
        with torch.no_grad():  # before `calibrate`'s power, which can enlarge it near 0
            self.difference = float((normalise(run(*noise)) - normalise(raw(*noise))).abs().max())

    def explain(
        self,
        pixels: Tensor,
        targets: Tensor,
        *,
        classifier: nn.Module | None = None,
        questions: int = 0,
        asking: str = "steps",
    ) -> Tensor:
        """Saliency maps (B,h,w) in [0,1], as `PTAME.explain`, which takes and refuses the same.

        The ``questions`` are the ``classifier``'s work: this makes the map that they start from.
        """
        check_images(pixels)
        check_targets(targets, len(pixels), self.num_classes)
        if tuple(pixels.shape[-2:]) != self.size:
            sizes = "made for images of {} x {}, given {} x {}".format(*self.size, *pixels.shape[-2:])
            warnings.warn(f"{sizes}: these are explained by torch; see fast(size=...)", stacklevel=2)
        if tuple(pixels.shape[-2:]) != self.size or not len(pixels):
            asked = {"classifier": classifier, "questions": questions, "asking": asking}
            return self.raw.explainer.explain(pixels, targets, **asked)
        with torch.no_grad():
            maps = self.raw.explainer.finished(self.run(pixels.detach().float(), targets))
        return ask_if(classifier, pixels, targets, maps, questions, asking)

    def text(self) -> str:
        """By what images are explained, in words."""
        name = {"onnx": "onnxruntime", "compile": "torch.compile"}.get(self.runtime, self.runtime)
        about = " in bfloat16: maps differ by about 2e-2" if self.precision == "bfloat16" else ""
        return f"explained by {name}{about}"


_made: dict[tuple, Fast] = {}  # in this process


def fast(explainer: PTAME, runtime: str = "onnx", precision: str = "float32", size: Size | None = None) -> Fast:
    """The explainer, as it now is, on a faster ``runtime``: ``onnx``, ``compile`` (torch.compile) or ``openvino``.

    ``size``: of the images, by default the auxiliary's. In ``float32`` maps are equal to rounding (checked to 1e-4,
    before the ``power``); in ``bfloat16`` (not by ONNX Runtime), which pays on processors with AMX and on GPUs, they
    differ by about 2e-2. A second call with the same weights returns the same object.

    Raises ValueError for an unknown runtime or one that can't do this, ImportError with what to install, RuntimeError
    if the maps differ from the explainer's, before its ``power``.
    """
    size = height_and_width(explainer.auxiliary.input_size if size is None else size)
    _check(explainer, runtime, precision)
    key = _digest(explainer, size), runtime, precision, str(device_of(explainer)), torch.get_num_threads()
    if key in _made:
        return _made[key]
    raw, allowed = Raw(explainer), TOLERANCE if precision == "float32" else 0.1

    def make(program: bytes) -> Fast:
        run = {"onnx": _onnx, "compile": _compiled, "openvino": _openvino}[runtime](raw, precision, program)
        return Fast(raw, run, runtime, precision, size)

    # a stored program may be damaged, or another network's of the same weights: then it is written again
    found = None
    if runtime != "compile" and (stored := _stored(key[0])):
        with suppress(Exception):  # of runtimes, which have their own
            found = make(stored)
    if found is None or not found.difference <= allowed:
        found = make(b"" if runtime == "compile" else _written(raw, size, key[0]))
    if not found.difference <= allowed:
        raise RuntimeError(f"the maps by {runtime} differ from the explainer's by {found.difference:.1e}: use another")
    _made[key] = found
    if len(_made) > KEPT:
        del _made[next(iter(_made))]
    return found


def installed(runtime: str = "onnx") -> bool:
    """Whether the packages of a runtime are there; none is imported."""
    return all(find_spec(name) is not None for name in (*RUNTIMES[runtime], *TO_WRITE))


def _check(explainer: PTAME, runtime: str, precision: str) -> None:
    if runtime not in RUNTIMES:
        raise ValueError(f"unknown runtime {runtime!r}: choose {', '.join(RUNTIMES)}")
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f"unknown precision {precision!r}: choose float32 or bfloat16")
    if (runtime, precision) == ("onnx", "bfloat16"):
        raise ValueError("ONNX Runtime has no bfloat16 on a CPU: choose the runtime 'compile' or 'openvino'")
    if runtime != "compile" and device_of(explainer).type != "cpu":
        raise ValueError(f"{runtime} runs on the CPU, the explainer is on {device_of(explainer)}: choose 'compile'")
    if missing := [name for name in RUNTIMES[runtime] + TO_WRITE * (runtime != "compile") if find_spec(name) is None]:
        raise ImportError(f"the runtime {runtime!r} needs {', '.join(missing)}: pip install {' '.join(missing)}")


def _onnx(raw: Raw, precision: str, program: bytes) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(program, options, providers=["CPUExecutionProvider"])
    return lambda pixels, targets: torch.from_numpy(
        session.run(None, {"pixels": pixels.numpy(), "targets": targets.numpy()})[0]
    )


def _openvino(raw: Raw, precision: str, program: bytes) -> Run:
    import openvino

    hint = {"float32": "f32", "bfloat16": "bf16"}[precision]  # by itself it takes bf16 where there is AMX
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    core = openvino.Core()
    model = core.compile_model(core.read_model(program), "CPU", settings)
    return lambda pixels, targets: torch.from_numpy(model([pixels.numpy(), targets.numpy()])[0].copy())


def _compiled(raw: Raw, precision: str, program: bytes) -> Run:
    if precision == "bfloat16":
        raw = copy.deepcopy(raw).to(torch.bfloat16)
    return torch.compile(raw)


def _stored(digest: str) -> bytes:
    """The ONNX program in the cache; nothing if there is none."""
    with suppress(OSError):
        content = _file(digest).read_bytes()
        _file(digest).touch()
        return content
    return b""


def _written(raw: Raw, size: tuple[int, int], digest: str) -> bytes:
    """The ONNX program, made; it stays in the cache if that can be written."""
    content = onnx_program(raw, example_for(raw.explainer, size, 2)).model_proto.SerializeToString()
    with suppress(OSError):
        file = _file(digest)
        with files.whole(file) as unfinished:
            unfinished.write_bytes(content)
        for old in sorted(file.parent.glob("*.onnx"), key=lambda known: known.stat().st_mtime)[:-KEPT]:
            old.unlink(missing_ok=True)
    return content


def _file(digest: str) -> Path:
    return files.cache() / "fast" / f"{digest}.onnx"


def _digest(explainer: PTAME, size: tuple[int, int]) -> str:
    """A hash of the explainer's weights and of what else makes its maps."""
    auxiliary = explainer.auxiliary
    code, scale = getattr(auxiliary.model, "code", ""), (auxiliary.mean.tolist(), auxiliary.std.tolist())
    what = (VERSION, torch.__version__, str(explainer), code, scale, auxiliary.layouts, explainer.config(), size)
    found = hashlib.blake2b(repr(what).encode(), digest_size=16)
    for name, value in explainer.state_dict().items():
        found.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()
