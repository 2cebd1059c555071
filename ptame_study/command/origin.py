"""What an explanation was made from: image, classifier and explainer with their hashes, and the versions."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

import ptame_lib
from ptame_lib.classifiers.loading import is_file_name
from ptame_lib.classifiers.wrapper import device_of
from ptame_lib.explainers.loading import method_and_features, method_of
from ptame_lib.texts import MOST, printable

from ..records import commit, device_name, sha256, versions


def code() -> dict[str, Any]:
    """The program's version and commit, the versions of what it calls, and the device."""
    return {"ptame": ptame_lib.__version__, "commit": commit(), "versions": versions(), "device": device_name()}


def of_classifier(model: nn.Module, name: str, weights: str) -> dict[str, Any]:
    """The classifier's name, what its weights were called, and a hash of the weights that were loaded."""
    weights = Path(weights).name if is_file_name(weights) else weights
    said = {"name": printable(name, MOST), "weights": printable(weights, MOST), "device": str(device_of(model))}
    file = Path(name.removeprefix("onnx/"))
    if name.startswith("onnx/") and file.is_file():
        return said | {"sha256": sha256(file)}
    return said | {"weights_sha256": weights_hash(model)}


def of_explainer(file: Path, known: dict[str, Any]) -> dict[str, Any]:
    """The explainer's file, method and features, and the hash of the file; ``known``: what `about` says of it."""
    _, features = method_and_features(known["auxiliary"])
    method = printable(method_of(file), MOST)
    return {"file": printable(file.name), "method": method, "features": printable(features), "sha256": sha256(file)}


def of_image(file: Path, name: str) -> dict[str, Any]:
    """An image's file under the ``name`` it is shown by, with its hash."""
    return {"file": printable(name), "sha256": sha256(file)}


def weights_hash(model: nn.Module) -> str | None:
    """SHA-256 over a network's parameters and buffers, by name, type and shape; None for one without any.

    The device and how the file was written make no difference.
    """
    digest = hashlib.sha256()
    state = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest() if state else None
