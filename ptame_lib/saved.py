"""Trained parameters in safetensors files with their configuration as metadata: what the explainers' save and load share."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from . import paths


def write(file: str | Path, state: dict[str, Tensor], config: dict[str, str]) -> None:
    """The parameters with their configuration, written whole; the same content makes the same file, byte for byte."""
    with paths.whole(Path(file)) as unfinished:
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


def read(file: str | Path, form: str, what: str, notebook: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Configuration and parameters of a file of format ``form``.

    Raises FileNotFoundError, naming the ``notebook`` that trains one, and ValueError for a file that isn't ``what`` it should be.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"no trained explainer at {file}: train one with notebooks/{notebook}.ipynb, or check the path")
    try:
        with safe_open(file, "pt") as tensors:
            config = tensors.metadata() or {}
            state = {key: tensors.get_tensor(key) for key in tensors.keys()}  # noqa: SIM118 (safe_open is no dict)
    except SafetensorError as error:
        raise ValueError(f"{file} can't be read as safetensors ({error}): train the explainer again, or copy the file again") from error
    if config.get("format") != form:
        raise ValueError(f"{file} is not {what} (format {config.get('format')!r}, expected {form!r})")
    return config, state


def check_fits(own: dict[str, Tensor], state: dict[str, Tensor], source: str | Path, remedy: str) -> None:
    """ValueError names the keys or shapes of ``state`` that don't fit the explainer's ``own``, and the remedy."""
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or extra:
        raise ValueError(f"{source} does not fit this explainer: missing {missing or 'nothing'}, unexpected {extra or 'nothing'}. {remedy}")
    for key, value in state.items():
        if value.shape != own[key].shape:
            raise ValueError(
                f"{source} does not fit this explainer: {key} has shape {tuple(value.shape)}, expected {tuple(own[key].shape)}. {remedy}"
            )
