"""Classifiers that only answer, without a gradient: any callable, and ONNX files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..validation import check_image_shape, first_bad
from .frozen import Size, height_and_width
from .wrapper import two_named, two_sided

INSTALL = "pip install 'ptame-study[classifiers]'"
TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


class BlackBox(nn.Module):
    """A classifier known only by its answers: pixels (B,3,H,W) in [0,1] -> logits (B,K) float32.

    ``function`` takes a copy of the pixels, float32 without a gradient, on the caller's device, and gives (B,K) logits
    as a tensor or a NumPy array. With ``probabilities=True`` it gives probabilities in [0,1], which are turned into
    their logarithms (0 becomes about -87), so that softmax gives them back. A single column is read as by `two_sided`.

    ``queries`` counts the images asked for; set it to 0 to start again. ``num_classes`` is taken from ``labels``, or
    from the first answer. ``differentiable`` is False: going backward through an answer raises RuntimeError.

    Raises TypeError for an answer that is not an array, and ValueError for another shape, values that are not finite,
    or values that can't be probabilities.

    >>> from sklearn.ensemble import RandomForestClassifier                        # doctest: +SKIP
    >>> forest = RandomForestClassifier().fit(images.flatten(1), digits)           # doctest: +SKIP
    >>> BlackBox(lambda pixels: forest.predict_proba(pixels.flatten(1)), 8, probabilities=True)   # doctest: +SKIP
    """

    differentiable = False

    def __init__(
        self,
        function: Callable[[Tensor], Tensor | np.ndarray],
        input_size: Size,
        labels: Sequence[str] | None = None,
        num_classes: int | None = None,
        *,
        probabilities: bool = False,
    ):
        super().__init__()
        labels, num_classes = two_named(labels), 2 if num_classes == 1 else num_classes
        if labels is not None and num_classes not in (None, len(labels)):
            raise ValueError(f"{len(labels)} labels for {num_classes} classes: give one label per class")
        self.function = function
        self.input_size = height_and_width(input_size)
        self.labels = labels
        self.num_classes = num_classes if labels is None else len(labels)
        self.probabilities = probabilities
        self.queries = 0

    def forward(self, pixels: Tensor) -> Tensor:
        check_image_shape(pixels)
        self.queries += pixels.shape[0]
        with torch.no_grad():
            logits = self._read(self.function(pixels.detach().to(torch.float32, copy=True)), pixels)
        if torch.is_grad_enabled() and pixels.requires_grad:
            return _NoWayBack.apply(pixels, logits)
        return logits

    def _read(self, answer: Tensor | np.ndarray, pixels: Tensor) -> Tensor:
        """An answer as logits on the pixels' device, checked."""
        if not isinstance(answer, Tensor | np.ndarray):
            problem = (
                f"gave a {type(answer).__name__}: it must give a tensor or a NumPy array of shape (images, classes)"
            )
            raise TypeError(f"the black box {problem}")
        logits = torch.as_tensor(answer).detach().to(pixels.device, torch.float32)
        # shape
        n, known = len(pixels), self.num_classes is not None
        single = logits.ndim == 2 and logits.shape[1] == 1 and self.num_classes in (None, 2)
        if single and self.probabilities:
            logits = torch.cat([1 - logits, logits], 1)
        elif single:
            logits = two_sided(logits)
        if logits.ndim != 2 or len(logits) != n or (known and logits.shape[1] != self.num_classes):
            expected = f"expected ({n}, {self.num_classes if known else 'classes'})"
            raise ValueError(f"the black box gave shape {tuple(logits.shape)} for {n} images: {expected}")
        self.num_classes = logits.shape[1]
        # values
        if not logits.isfinite().all():
            where = f"image {first_bad(logits.isfinite())} of the batch"
            raise ValueError(
                f"the black box gave a value that is not finite for {where}: check the function and its input"
            )
        if not self.probabilities:
            return logits
        if logits.min() < 0 or logits.max() > 1 + 1e-4:
            values = f"values in {logits.min():.3g}..{logits.max():.3g}, which are no probabilities"
            raise ValueError(f"the black box gave {values}: use probabilities=False for logits")
        return logits.clamp_min(torch.finfo(torch.float32).tiny).log()


class _NoWayBack(torch.autograd.Function):
    """The answer as it is; a gradient asked for through it is an error and not silently zero."""

    @staticmethod
    def forward(ctx, pixels: Tensor, answer: Tensor) -> Tensor:
        return answer.view_as(answer)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        raise RuntimeError(
            "a black box has no gradient: explain it with a method that only asks for answers, such as RISE"
        )


def load_onnx(
    path: str | Path,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    *,
    input_size: Size | None = None,
    labels: Sequence[str] | None = None,
    probabilities: bool = False,
) -> BlackBox:
    """The classifier in an ONNX file, run by onnxruntime on the CPU: a `BlackBox`.

    The network gets (pixels - mean) / std. An exported network usually expects this, and the file does not say so;
    without ``mean`` and ``std`` it gets the pixels in [0,1] as they are. ``input_size`` is needed only if the file
    leaves height or width open. The network has one input, (B,3,H,W) or (B,H,W,3); its first output, the logits (or
    with ``probabilities=True`` the probabilities), is (B,K). A network of a fixed batch size gets batches of that size.

    Raises ImportError without onnxruntime, FileNotFoundError, and ValueError for a file that is no such network. An
    answer raises RuntimeError where the network fails, or takes more than `memory_limit`.
    """
    session = _open_session(path := Path(path).expanduser())
    # what the network takes and gives
    inputs = session.get_inputs()
    shape = inputs[0].shape if len(inputs) == 1 else ()
    channels_last = len(shape) == 4 and shape[3] == 3 and shape[1] != 3
    if len(shape) != 4 or inputs[0].type not in TYPES or (shape[1] != 3 and not channels_last):
        found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
        raise ValueError(f"{path} takes {found}: expected one input of floating point, shape (B,3,H,W) or (B,H,W,3)")
    batch = shape[0] if isinstance(shape[0], int) else None  # otherwise a name, or None: any number of images
    size = tuple(shape[1:3] if channels_last else shape[2:])
    if input_size is None and not all(isinstance(side, int) for side in size):
        raise ValueError(f"{path} leaves the size of its images open ({size[0]} x {size[1]}): pass input_size")
    classes = session.get_outputs()[0].shape[-1:]
    classes = classes[0] if classes and isinstance(classes[0], int) else None
    mean, std = (np.asarray(values, np.float32).reshape(1, 3, 1, 1) for values in (mean or (0, 0, 0), std or (1, 1, 1)))

    def ask(pixels: Tensor) -> np.ndarray:
        # normalise, fill up the last batch of a fixed size, and run batch by batch
        values = ((pixels.cpu().numpy() - mean) / std).astype(TYPES[inputs[0].type])
        if channels_last:
            values = values.transpose(0, 2, 3, 1)
        n, step = len(values), batch or len(values)
        values = np.concatenate([values, np.repeat(values[-1:], -n % step, axis=0)])
        parts = [values[i : i + step] for i in range(0, len(values), step)]
        try:
            answers = [session.run(None, {inputs[0].name: np.ascontiguousarray(part)})[0] for part in parts]
        except Exception as error:  # onnxruntime's own classes, one for each kind of failure
            raise RuntimeError(f"{path} can't be run on {step} images ({_reason(error)})") from error
        return np.concatenate(answers)[:n]

    return BlackBox(ask, size if input_size is None else input_size, labels, classes, probabilities=probabilities)


def _reason(error: Exception) -> str:
    """What onnxruntime says; for a network that asks for too much memory, how much, and a remedy."""
    asked = re.search(r"requested (?:bytes|buffer of size) (?:of )?(\d+)", str(error))
    if not asked:
        return str(error)
    limit = f"all networks together may take {memory_limit() / 1e9:.1f} GB"
    return f"it asks for {int(asked[1]) / 1e9:.1f} GB of memory, and {limit}: give fewer images or another network"


def memory_limit() -> int:
    """Bytes that a network of a file may take, all ONNX networks together: what this machine has, and 32 GB at most."""
    return min(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), 32 * 2**30)


@cache
def _limit_memory() -> None:
    """Let onnxruntime refuse to allocate more than `memory_limit` for the sessions of this module."""
    import onnxruntime

    kind = onnxruntime.OrtMemType.DEFAULT
    place = onnxruntime.OrtMemoryInfo("Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, kind)
    usual = {"arena_extend_strategy": -1, "initial_chunk_size_bytes": -1, "max_dead_bytes_per_chunk": -1}
    onnxruntime.create_and_register_allocator(place, onnxruntime.OrtArenaCfg({"max_mem": memory_limit(), **usual}))


def _open_session(path: Path):
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(f"ONNX files need onnxruntime, which is not installed: {INSTALL}") from error
    if not path.is_file():
        raise FileNotFoundError(f"no ONNX file at {path}: check the path")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # errors are raised; the log would print names in the file as they are
    _limit_memory()
    options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes, one for each kind of failure
        raise ValueError(f"{path} can't be read as an ONNX network ({error}): export it again") from error
