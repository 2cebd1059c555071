"""A trained explainer as one file that runs without this library: ONNX, or torch.export's .pt2.

Both take pixels (B,3,H,W) float32 in [0,1] and target classes (B,) int64, for any B and the H, W they were made for,
and give the same maps (B,h,w) in [0,1] as ``explainer.explain``. The file does not check the classes: one that is too
large is an error in the runtime, a negative one counts from the end.

    to_onnx(explainer, "explainer.onnx")
    onnxruntime.InferenceSession("explainer.onnx").run(None, {"pixels": pixels, "targets": targets})
"""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .. import files
from ..classifiers.frozen import height_and_width
from .ptame import PTAME

TOLERANCE = 1e-4  # largest difference between the file's maps and the explainer's
INSTALL = "pip install 'ptame-study[export]'"
BATCH = "batch"  # name of the open dimension


class Exported(NamedTuple):
    """A written file, and its maps' largest difference from the explainer's; None if not checked."""

    file: Path
    difference: float | None

    def text(self) -> str:
        """One sentence about the file."""
        file = files.show(self.file)
        if self.difference is None:
            return f"{file} is written, not checked: onnxruntime is not installed ({INSTALL})"
        return f"{file} is written; its maps differ from the explainer's by at most {self.difference:.1e}"


class Explain(nn.Module):
    """``explainer.explain`` as a forward pass of a copy of the explainer on the CPU."""

    def __init__(self, explainer: PTAME):
        super().__init__()
        self.explainer = copy.deepcopy(explainer).cpu()
        self.eval()

    def forward(self, pixels: Tensor, targets: Tensor) -> Tensor:
        return self.explainer.explain(pixels, targets)


def to_onnx(
    explainer: PTAME, file: str | Path, size: int | tuple[int, int] | None = None, about: dict[str, str] | None = None
) -> Exported:
    """Write explainer and auxiliary as one ONNX file, checked to 1e-4 if onnxruntime is installed.

    ``size``: side, or (height, width), of the images it is for; by default the auxiliary's. ``about``: more metadata,
    next to the explainer's `PTAME.config`.

    Raises ImportError without onnx and onnxscript, RuntimeError (and leaves no file) if the maps differ.
    """
    file, module = Path(file), Explain(explainer)
    program = onnx_program(module, example_for(explainer, size, 2))
    program.model.metadata_props.update(explainer.config() | (about or {}))

    # write, read back, and compare on a batch of another size
    with files.whole(file) as unfinished:
        program.save(str(unfinished), external_data=False)
        try:
            import onnxruntime
        except ImportError:
            return Exported(file, None)
        session = onnxruntime.InferenceSession(str(unfinished), providers=["CPUExecutionProvider"])

        def ask(pixels: Tensor, targets: Tensor) -> Tensor:
            return torch.from_numpy(session.run(None, {"pixels": pixels.numpy(), "targets": targets.numpy()})[0])

        return Exported(file, _check(module, ask, example_for(explainer, size, 3), file))


def onnx_program(module: nn.Module, example: tuple[Tensor, Tensor]) -> torch.onnx.ONNXProgram:
    """A module (pixels, targets) -> maps as an ONNX program with an open batch dimension.

    Raises ImportError without onnx and onnxscript.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"writing ONNX needs {error.name}, which is not installed: {INSTALL}") from error
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "# The axis name")  # both inputs have the same batch, as they should
        return torch.onnx.export(
            module,
            example,
            dynamo=True,
            verbose=False,
            input_names=["pixels", "targets"],
            output_names=["maps"],
            dynamic_shapes=({0: BATCH}, {0: BATCH}),
        )


def to_torch_export(
    explainer: PTAME, file: str | Path, size: int | tuple[int, int] | None = None, about: dict[str, str] | None = None
) -> Exported:
    """Write explainer and auxiliary with torch.export, for ``torch.export.load(file).module()``.

    As `to_onnx`; the metadata are in the extra file ``about.json``.
    """
    # export with an open batch dimension
    file, module = Path(file), Explain(explainer)
    batch = torch.export.Dim(BATCH)
    with torch.no_grad():  # else the file would switch the gradient on and off, and could not be read again
        program = torch.export.export(module, example_for(explainer, size, 2), dynamic_shapes=({0: batch}, {0: batch}))

    # write, read back, and compare on a batch of another size
    extra = {"about.json": json.dumps(explainer.config() | (about or {}))}
    with files.whole(file) as unfinished, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor")  # about channels_last weights; the maps are checked
        torch.export.save(program, unfinished, extra_files=extra)
        loaded = torch.export.load(unfinished).module()
        return Exported(file, _check(module, loaded, example_for(explainer, size, 3), file))


def example_for(explainer: PTAME, size: int | tuple[int, int] | None, n: int) -> tuple[Tensor, Tensor]:
    """``n`` images of noise, and the first classes as targets."""
    height, width = height_and_width(explainer.auxiliary.input_size if size is None else size)
    pixels = torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(n))
    return pixels, torch.arange(n) % explainer.num_classes


def _check(module: Explain, written, example: tuple[Tensor, Tensor], file: Path) -> float:
    """The largest difference of the written program's maps; RuntimeError if it is above `TOLERANCE`."""
    with torch.no_grad():
        found = float((written(*example) - module(*example)).abs().max())
    if not found <= TOLERANCE:
        raise RuntimeError(
            f"the maps of {file} differ from the explainer's by {found:.1e}, more than {TOLERANCE:.0e}: it is not kept"
        )
    return found
