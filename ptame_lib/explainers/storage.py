"""Trained parameters in safetensors files with their configuration as metadata: what the explainers' save and load share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .. import files

OFFICIAL = "net.attention."  # prefix of the trained parameters in the authors' checkpoints


def read_official(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise FileNotFoundError(f"no checkpoint at {file}: download the authors' release, or check the path")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        state = dict(content["state_dict"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file} is no Lightning checkpoint: it holds no state_dict") from error
    except Exception as error:
        raise ValueError(
            f"{file} can't be read as a checkpoint without running code from it ({type(error).__name__}): download it again"
        ) from error
    if other := [key for key, value in state.items() if not isinstance(value, Tensor)]:
        raise ValueError(
            f"{file} is no Lightning checkpoint: {other[0]} of its state_dict is a {type(state[other[0]]).__name__}. Download it again"
        )
    return state


def _some(keys: dict) -> str:
    return ", ".join(list(keys)[:5]) + (" ..." if len(keys) > 5 else "") or "nothing"


def write(file: str | Path, state: dict[str, Tensor], config: dict[str, str]) -> None:
    """The parameters with their configuration, written whole; the same content makes the same file, byte for byte."""
    with files.whole(Path(file)) as unfinished:
        save_file({key: value.detach().cpu().contiguous() for key, value in state.items()}, unfinished, config)
        _in_order(unfinished)


def _in_order(file: Path) -> None:
    """Sort the metadata, which safetensors writes in another order each time; a hash of the file tells whether the weights changed."""
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])


def read(
    file: str | Path, form: str, what: str, how: str, required: Sequence[str]
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Configuration, which has the ``required`` entries, and parameters of a file of format ``form``.

    Raises FileNotFoundError, saying ``how`` to train one, and ValueError for a file that isn't ``what`` it should be.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"no trained explainer at {file}: train one with {how}, or check the path")
    try:
        with safe_open(file, "pt") as tensors:
            config = tensors.metadata() or {}
            state = {key: tensors.get_tensor(key) for key in tensors.keys()}  # noqa: SIM118 (safe_open is no dict)
    except SafetensorError as error:
        raise ValueError(
            f"{file} can't be read as safetensors ({error}): train the explainer again, or copy the file again"
        ) from error
    if config.get("format") != form:
        raise ValueError(f"{file} is not {what} (format {config.get('format')!r}, expected {form!r})")
    if missing := [key for key in required if key not in config]:
        raise ValueError(
            f"{file} is not {what}: its metadata lack {', '.join(missing)}. Train the explainer again, or copy the file again"
        )
    return config, state


def check_fits(own: dict[str, Tensor], state: dict[str, Tensor], source: str | Path, remedy: str) -> None:
    """ValueError names the keys or shapes of ``state`` that don't fit the explainer's ``own``, and the remedy, or values that are not finite."""
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or extra:
        raise ValueError(
            f"{source} does not fit this explainer: missing {missing or 'nothing'}, unexpected {extra or 'nothing'}. {remedy}"
        )
    for key, value in state.items():
        if value.shape != own[key].shape:
            raise ValueError(
                f"{source} does not fit this explainer: {key} has shape {tuple(value.shape)}, expected {tuple(own[key].shape)}. {remedy}"
            )
        if not value.isfinite().all():
            raise ValueError(
                f"{source} is of no use: {key} has values that are not finite. Train the explainer again, with a lower lr"
            )
