"""Trained explainers as safetensors files, with metadata; and a reader of the authors' checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .. import files

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)  # in which parameters may be stored
WHOLE = (torch.int64, torch.int32)  # in which counts of batches may be
AGAIN = "train the explainer again, or copy the file again"


@dataclass(frozen=True)
class Format:
    """One kind of file: its name in the metadata, what these must hold, and words for error messages."""

    name: str
    required: tuple[str, ...]
    what: str  # the file should be this
    how: str  # how to get one
    remedy: str  # for parameters that do not fit


PTAME_FORMAT = Format(
    name="ptame-1",
    required=("auxiliary", "layers", "num_classes", "fuser_bias"),
    what="a P-TAME explainer saved by PTAME.save",
    how="notebooks/02_train_ptame.ipynb or the command ptame train",
    remedy="Load it with the auxiliary, the number of classes and the fuser bias it was trained with.",
)
EXPLAINER_FORMAT = Format(
    name="explainer-1",
    required=("architecture", "num_classes"),
    what="an Explainer saved by Explainer.save",
    how="notebooks/07_explainer_train.ipynb",
    remedy="Load it with the architecture and the number of classes it was trained with.",
)


def write(file: str | Path, state: dict[str, Tensor], config: dict[str, str], /, **about: Any) -> None:
    """Write parameters with metadata ``config`` and ``about``; the same content gives the same bytes.

    Strings in ``about`` are stored as they are, other values as JSON; None is left out. The file is written whole or
    not at all. Raises ValueError for an entry of ``about`` that would replace one of ``config``.
    """
    if taken := sorted(config.keys() & about.keys()):
        raise ValueError(f"{', '.join(taken)} can't be set: the explainer itself says so")
    added = {
        key: value if isinstance(value, str) else json.dumps(value, default=asdict)
        for key, value in about.items()
        if value is not None
    }
    with files.whole(Path(file)) as unfinished:
        save_file({key: value.detach().cpu().contiguous() for key, value in state.items()}, unfinished, config | added)
        _sort_metadata(unfinished)


def _sort_metadata(file: Path) -> None:
    """Sort the metadata, which safetensors orders differently each time: equal files have equal hashes."""
    # a file is the header's length (8 bytes), the header (JSON), the tensors
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])


def read(file: str | Path, form: Format) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Configuration and parameters of a saved explainer.

    Raises FileNotFoundError, and ValueError for a file that is damaged or of another format.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"no trained explainer at {file}: train one with {form.how}, or check the path")

    # read metadata and tensors; no code is run
    try:
        with safe_open(file, "pt") as tensors:
            config = tensors.metadata() or {}
            state = {key: tensors.get_tensor(key) for key in tensors.keys()}  # noqa: SIM118 (safe_open is not a dict)
    except SafetensorError as error:
        raise ValueError(f"{file} can't be read as safetensors ({error}): {AGAIN}") from error

    # check that the metadata are those of this format
    if config.get("format") != form.name:
        raise ValueError(f"{file} is not {form.what} (format {config.get('format')!r}, expected {form.name!r})")
    if missing := [key for key in form.required if key not in config]:
        raise ValueError(f"{file} is not {form.what}: its metadata lack {', '.join(missing)}. {AGAIN.capitalize()}")
    try:
        layers, classes = json.loads(config.get("layers", "null")), int(config["num_classes"])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} has metadata that can't be read ({error}): {AGAIN}") from error
    if layers is not None and not (isinstance(layers, list) and all(isinstance(layer, str) for layer in layers)):
        raise ValueError(f"{file} has layers that are no list of names: {AGAIN}")

    # a class has parameters of its own, so a file can't explain more classes than it holds numbers
    held = sum(value.numel() for value in state.values())
    if classes > held:
        raise ValueError(f"{file} says that it explains {classes} classes, but holds only {held} numbers: {AGAIN}")
    return config, state


def entry(config: dict[str, str], key: str, read: Callable[[str], Any], what: str) -> Any:
    """``read(config[key])``; ValueError if it is missing or not ``what`` it should be."""
    try:
        return read(config[key])
    except (KeyError, ValueError, TypeError, RecursionError) as error:  # the last: JSON nested too deep
        found = f"is {config[key][:80]!r}" if key in config else "is missing"
        raise ValueError(f"{key} {found}, it should be {what}") from error


def names(text: str) -> tuple[str, ...]:
    """The names in a JSON list; ValueError for anything else."""
    found = json.loads(text)
    if not (isinstance(found, list) and all(isinstance(name, str) for name in found)):
        raise ValueError("not a list of names")
    return tuple(found)


def read_power(config: dict[str, str], file: str | Path) -> float:
    """The power of an explainer's maps in its metadata, 1 if it was not calibrated; ValueError unless in (0, 100]."""
    try:
        power = float(config.get("power", 1))
    except ValueError:
        power = 0.0
    if not 0 < power <= 100:
        raise ValueError(f"{file} has a power of {config['power']!r}, not a number above 0 and up to 100: {AGAIN}")
    return power


def saved_config(file: str | Path, form: Format = PTAME_FORMAT) -> dict[str, str]:
    """The metadata of a saved explainer: configuration, and what was added. Raises as `read`."""
    return read(file, form)[0]


def build(make: Callable[[], Any], state: dict[str, Tensor], source: str | Path, remedy: str) -> Any:
    """The explainer that ``make`` gives, filled and in eval mode; raises as `check_fits`.

    Nothing is allocated before the stored shapes are known to fit.
    """
    with torch.device("meta"):  # shapes alone
        blank = make()
    check_fits(blank.trained_state(), state, source, remedy)
    explainer = make()
    explainer.fill(state, source)
    return explainer.eval()


def check_fits(own: dict[str, Tensor], state: dict[str, Tensor], source: str | Path, remedy: str) -> None:
    """Raise ValueError unless ``state`` fits the explainer's ``own`` and has finite values."""
    misfit = f"{source} does not fit this explainer:"
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or extra:
        raise ValueError(f"{misfit} missing {missing or 'nothing'}, unexpected {extra or 'nothing'}. {remedy}")
    for key, value in state.items():
        if value.shape != own[key].shape:
            shapes = f"has shape {tuple(value.shape)}, expected {tuple(own[key].shape)}"
            raise ValueError(f"{misfit} {key} {shapes}. {remedy}")
        if value.dtype not in (FLOATS if own[key].is_floating_point() else WHOLE):
            raise ValueError(f"{misfit} {key} is of {value.dtype}, expected {own[key].dtype}. {AGAIN.capitalize()}")
        if not value.to(own[key].dtype).isfinite().all():
            advice = "Train the explainer again, with a lower lr"
            raise ValueError(f"{source} is of no use: {key} has values that are not finite. {advice}")


def read_official(file: str | Path) -> dict[str, Tensor]:
    """The trained parameters in one of the authors' Lightning checkpoints; no code in it is run.

    They are ``net.attention.{convs,bns,fuser}.*`` in its ``state_dict``. Raises FileNotFoundError, and ValueError for
    a file without them.
    """
    if not Path(file).is_file():
        raise FileNotFoundError(f"no checkpoint at {file}: download the authors' release, or check the path")

    # read the state_dict, tensors alone
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        state = dict(content["state_dict"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file} is not a Lightning checkpoint: it holds no state_dict") from error
    except Exception as error:
        refused = f"can't be read as a checkpoint without running code from it ({type(error).__name__})"
        raise ValueError(f"{file} {refused}: download it again") from error
    if other := [key for key, value in state.items() if not isinstance(value, Tensor)]:
        found = f"{other[0]} of its state_dict is a {type(state[other[0]]).__name__}"
        raise ValueError(f"{file} is not a Lightning checkpoint: {found}. Download it again")

    # a tensor may repeat a few stored numbers up to any size: such a one is not a trained parameter
    for key, value in state.items():
        if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
            raise ValueError(f"{file} is refused: {key} is not a plain tensor. Download it again")
        held = value.untyped_storage().nbytes() // value.element_size()
        if value.numel() > held:
            shape = f"{key} has shape {tuple(value.shape)}, but the file holds only {held} numbers of it"
            raise ValueError(f"{file} is refused: {shape}. Download it again")

    # drop the prefix; the fuser's shape tells the number of classes
    prefix = "net.attention."
    state = {key.removeprefix(prefix): value for key, value in state.items()}
    if getattr(state.get("fuser.weight"), "ndim", None) != 4:
        some = ", ".join(list(state)[:5]) + (" ..." if len(state) > 5 else "") or "nothing"
        wanted = f"no {prefix}fuser.weight (classes, channels, 1, 1) in its state_dict, which has {some}"
        raise ValueError(f"{file} does not fit: {wanted}")
    return state
