"""Image classifiers in Hugging Face's format, with what their image processors do to pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from .black_box import INSTALL, memory_limit
from .hub import UNREACHED, asked_once

SAFE = {"trust_remote_code": False}  # code that lies in a repository is never run, nor asked about
LARGEST = 10**6  # the largest whole number in a config.json: width, number of layers, of classes
LONGEST = 8192  # pixels; the longest side of images that an image processor may make
MOST = 10**4  # tensors of parameters in a network
PROBE = 512  # side of the plain-coloured images the processor is asked with


class TooLarge(Exception):
    """A file asks for more than it may."""


class Logits(nn.Module):
    """A transformers image classifier as normalised pixels (B,3,H,W) -> logits (B,K).

    ``order`` is that of its channels; (0,1,2) is RGB.
    """

    def __init__(self, net: nn.Module, order: tuple[int, ...] = (0, 1, 2)):
        super().__init__()
        self.net, self.order = net, list(order)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.net(pixel_values=pixels if self.order == [0, 1, 2] else pixels[:, self.order]).logits


def load_huggingface(name: str, pretrained: bool = True, mean=None, std=None) -> tuple[Logits, dict]:
    """The network of a repository or local folder, and its data config.

    The config holds mean and std (RGB), input_size (height, width), labels, and whether it is multi_label. It is
    measured on images that go through the repository's image processor, so it holds whatever the options of that are
    called. ``mean`` and ``std`` replace the measured ones; both are needed if the repository has no image processor.

    Code that lies in the repository is never run. Raises ImportError without transformers, RuntimeError for a
    repository that can't be loaded, and ValueError for one without an image classifier, one that needs code of its own,
    sizes above `LARGEST`, `LONGEST`, `MOST` or `memory_limit`, weights that are cut off or more than tensors, and no or
    an odd image processor.
    """
    if Path(name).expanduser().is_dir():
        return _load(name, str(Path(name).expanduser()), pretrained, mean, std)
    there = True
    try:
        with asked_once() as there:
            return _load(name, name, pretrained, mean, std)
    except RuntimeError as error:
        if there or not isinstance(error.__cause__, OSError):
            raise
        remedy = "download the repository on a machine with internet access and pass its folder as 'hf/<folder>'"
        raise RuntimeError(f"'hf/{name}' can't be loaded: {UNREACHED}. If it is right, {remedy}.") from error


def _load(name: str, place: str, pretrained: bool, mean, std) -> tuple[Logits, dict]:
    """`load_huggingface` of a folder or repository ``place``."""
    net = _load_network(name, place, pretrained)
    config = net.config

    # its normalisation and size
    try:
        processor = _load_processor(place)
    except TooLarge as error:
        raise ValueError(f"the image processor of 'hf/{name}' is refused: {error}") from error
    except (OSError, ValueError) as error:
        size = getattr(config, "image_size", None)
        if mean is None or std is None or size is None:
            _refuse_code(name, error)
            problem = f"has no image processor that says how to normalise pixels ({error})"
            raise ValueError(f"'hf/{name}' {problem}: pass mean and std") from error
        seen, order = {"input_size": (size, size) if isinstance(size, int) else tuple(size)}, (0, 1, 2)
    else:
        seen, order = _probe(processor, name)
    given = {key: value for key, value in (("mean", mean), ("std", std)) if value is not None}
    names = config.id2label
    if not isinstance(names, dict) or not all(isinstance(names.get(i), str) for i in range(config.num_labels)):
        raise ValueError(
            f"the config.json of 'hf/{name}' is refused: its id2label does not name the classes 0, 1, 2 ..."
        )
    labels = [names[i] for i in range(config.num_labels)]
    several = config.problem_type == "multi_label_classification"
    return Logits(net, order), seen | given | {"labels": labels, "multi_label": several}


def _load_network(name: str, place: str, pretrained: bool) -> nn.Module:
    """The network at ``place``, of no more than the stated sizes; errors as in `load_huggingface`, for ``name``."""
    try:
        from transformers import AutoConfig, PretrainedConfig
        from transformers import AutoModelForImageClassification as Model
    except ImportError as error:
        raise ImportError(f"'hf/{name}' needs transformers, which is not installed: {INSTALL}") from error
    try:
        # what it asks for, before anything of that size is made
        _check_numbers(PretrainedConfig.get_config_dict(place)[0], LARGEST)
        config = AutoConfig.from_pretrained(place, **SAFE)
        _check_size(lambda: Model.from_config(config, **SAFE))

        # the network itself
        if not pretrained:
            return Model.from_config(config, **SAFE)
        return Model.from_pretrained(place, weights_only=True, **SAFE)
    except OSError as error:
        remedy = "download the repository on a machine with internet access and pass its folder as 'hf/<folder>'"
        raise RuntimeError(f"'hf/{name}' can't be loaded ({error}). If it can't be downloaded, {remedy}.") from error
    except (UnpicklingError, SafetensorError) as error:
        remedy = "they must be tensors alone, as whole .safetensors"
        raise ValueError(f"the weights of 'hf/{name}' are refused ({error}): {remedy}") from error
    except TooLarge as error:
        raise ValueError(f"the config.json of 'hf/{name}' is refused: {error}") from error
    except ValueError as error:
        _refuse_code(name, error)
        raise ValueError(f"'hf/{name}' is no image classifier that transformers knows ({error})") from error


def _load_processor(place: str):
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(place, **SAFE)
    said = processor.to_dict()
    _check_numbers({key: said.get(key) for key in ("size", "crop_size", "pad_size", "data_config")}, LONGEST)
    return processor


def _check_numbers(said: dict, most: int) -> None:
    """Raise TooLarge for a whole number above ``most``, however deep: lists of so many names or layers are made."""
    left = list(said.items())
    while left:
        key, value = left.pop()
        inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
        left += [(key, item) for item in inside]
        if isinstance(value, int) and value > most:
            shown = value if value < 10**15 else "a number of more than 15 digits"
            raise TooLarge(f"{key} is {shown}, the limit is {most}")


def _check_size(build: Callable[[], nn.Module]) -> None:
    """Raise TooLarge while ``build`` makes a network with too many numbers for `memory_limit`, or too many parameters.

    It is built without memory for its parameters, as transformers itself does before it loads them.
    """
    size, count, limit = 0, 0, memory_limit()

    def add(_: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal size, count
        if parameter is not None and parameter.is_meta:
            size, count = size + parameter.nbytes, count + 1
        if size > limit:
            raise TooLarge(f"its network needs more than the {limit / 1e9:.1f} GB of memory that a network may take")
        if count > MOST:
            raise TooLarge(f"its network has more than {MOST} tensors of parameters")

    # build it, counting each parameter as it is made
    counting = register_module_parameter_registration_hook(add)
    try:
        with torch.device("meta"):
            build()
    finally:
        counting.remove()


def _refuse_code(name: str, error: Exception) -> None:
    """Raise ValueError if transformers failed because the repository has code of its own."""
    if "trust_remote_code" in str(error):
        remedy = "if you trust it, load it yourself and wrap it as a Classifier or BlackBox"
        raise ValueError(f"'hf/{name}' needs code that lies in the repository, which is not run: {remedy}") from error


def _probe(processor, name: str) -> tuple[dict, tuple[int, ...]]:
    """The affine map of each channel, and their order, measured on plain-coloured images."""

    def answer(*colour: int) -> Tensor:
        image = Image.fromarray(np.full((PROBE, PROBE, 3), colour, np.uint8))
        return torch.as_tensor(processor(images=image, return_tensors="pt")["pixel_values"])[0].double()  # (3,H,W)

    # black and white give offset and gain (3,), in the network's order
    black, white, ramp = answer(0, 0, 0), answer(255, 255, 255), answer(51, 102, 153)
    offset, gain = black.mean((1, 2)), white.mean((1, 2)) - black.mean((1, 2))
    # one, two and three fifths are red, green and blue
    shares = ((ramp.mean((1, 2)) - offset) / gain * 5).round().int().tolist()
    order = tuple(share - 1 for share in shares)
    exact = offset.view(3, 1, 1) + gain.view(3, 1, 1) * torch.tensor(shares, dtype=torch.double).view(3, 1, 1) / 5
    if sorted(order) != [0, 1, 2] or not torch.allclose(ramp, exact, atol=1e-3):
        problem = "does not normalise each channel by a mean and a deviation: wrap it as a BlackBox"
        raise ValueError(f"the image processor of 'hf/{name}' {problem}")
    # back to RGB
    mean, std = (-offset / gain).tolist(), (1 / gain).tolist()
    back = [order.index(channel) for channel in range(3)]
    return {"mean": [mean[i] for i in back], "std": [std[i] for i in back], "input_size": tuple(ramp.shape[1:])}, order
