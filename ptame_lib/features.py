"""The frozen auxiliary classifier: pixels in [0,1] -> feature maps at several depths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from . import embedded_nets, paths
from .classifiers import IMAGENET_MEAN, IMAGENET_STD, _fill, load_timm, load_torchvision
from .embedded_training import MEAN, STD

EMBEDDED_AUXILIARIES = ("embedded/auxiliary", "embedded/resnet")
STAGES = ("layer1", "layer2", "layer3", "layer4")
PUBLISHED_LAYERS = {  # P-TAME, Table 2
    "resnet18": STAGES,
    "mobilenet_v3_small": ("features.9", "features.10", "features.11", "features.12"),
    "mnasnet0_5": ("layers.13", "layers.14", "layers.15", "layers.16"),
}


class FeatureExtractor(nn.Module):
    """A frozen network as pixels (B,3,H,W) in [0,1] -> list of feature maps (B,C_l,H_l,W_l), in execution order.

    ``model``: any traceable nn.Module (torchvision's among them) with ``layers`` naming the wanted modules, or a timm model
    made with ``features_only=True`` and ``layers=None``. What comes after the last wanted layer is not computed. Like
    `Classifier` it never leaves eval mode: its batch norms must not move while an explainer trains.

    ``channels`` holds C_l of each level, found by one pass of ``input_size`` pixels per side.

    Raises ValueError for a layer the model has not, naming those it has, and for a layer that gives no (B,C,H,W) map.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str] | None,
        mean: Sequence[float],
        std: Sequence[float],
        input_size: int | tuple[int, int] = 224,
        name: str | None = None,
    ):
        super().__init__()
        model = model.eval()
        if layers is not None:
            modules = dict(model.named_modules())
            for layer in layers:
                if layer not in modules and layer not in get_graph_node_names(model)[1]:
                    raise ValueError(f"no layer {layer!r} in {type(model).__name__}: it has {_summary(modules)}")
            model = create_feature_extractor(model, list(layers))
        self.model = model.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # the faster layout
        self.name = name or type(model).__name__
        self.input_size = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        with torch.no_grad():
            found = self._run(torch.zeros(1, 3, *self.input_size))
        if isinstance(found, dict):
            self.layers = tuple(found)  # in execution order, like the maps
        else:  # timm's features_only tells which modules its levels are
            self.layers = tuple(model.feature_info.module_name()) if hasattr(model, "feature_info") else None
        maps = _levels(found)
        for i, level in enumerate(maps):
            if level.ndim != 4:
                layer = self.layers[i] if self.layers else i
                raise ValueError(f"layer {layer!r} of {self.name} gives shape {tuple(level.shape)}: a feature map is (B,C,H,W)")
        self.channels = tuple(level.shape[1] for level in maps)

    def train(self, mode: bool = True) -> FeatureExtractor:
        """Stay in eval mode, whatever a parent asks for."""
        return super().train(False)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return _levels(self._run(pixels))

    def _run(self, pixels: Tensor) -> dict[str, Tensor] | list[Tensor]:
        return self.model(((pixels - self.mean) / self.std).contiguous(memory_format=torch.channels_last))


def _levels(found: dict[str, Tensor] | list[Tensor]) -> list[Tensor]:
    return list(found.values()) if isinstance(found, dict) else list(found)


def _summary(modules: dict[str, nn.Module]) -> str:
    names = [name for name in modules if name and name.count(".") <= 1]
    return ", ".join(names[:40]) + (" ..." if len(names) > 40 else "")


def load_auxiliary(
    name: str,
    layers: Sequence[str] | Sequence[int] | None = None,
    weights: str | Path | None = "default",
    *,
    mean=None,
    std=None,
    **timm_options,
) -> FeatureExtractor:
    """An auxiliary by name: ``embedded/auxiliary``, ``embedded/resnet``, a torchvision model, or ``timm/<any with features_only>``.

    ``layers``: module names (for timm: indices of ``features_only`` levels); None takes the published ones, for timm the last
    four. ``weights`` as in `load_classifier` (torchvision's default is ``DEFAULT``, as in the paper); a whole
    classifier's file will do. ``mean``, ``std`` and timm's options as in `load_classifier`.
    """
    if name in EMBEDDED_AUXILIARIES:
        net = embedded_nets.build(name.removeprefix("embedded/"))
        _fill(net, paths.embedded() / f"{name.removeprefix('embedded/')}.safetensors" if weights == "default" else weights)
        return FeatureExtractor(net, layers or STAGES, mean or MEAN, std or STD, 64, name)
    if name.startswith("timm/"):
        chosen = {} if layers is None else {"out_indices": tuple(layers)}
        net, config = load_timm(name, weights, features_only=True, **chosen, **timm_options)
        levels = len(net.feature_info)
        if layers is None and levels > 4:
            return load_auxiliary(name, range(levels - 4, levels), weights, mean=mean, std=std, **timm_options)
        return FeatureExtractor(net, None, mean or config["mean"], std or config["std"], config["input_size"][1:], name)
    if name not in torchvision.models.list_models(torchvision.models):
        raise ValueError(
            f"unknown auxiliary {name!r}: choose {', '.join(EMBEDDED_AUXILIARIES)}, a torchvision model such as {', '.join(PUBLISHED_LAYERS)}, "
            "or 'timm/<model>'"
        )
    if layers is None and name not in PUBLISHED_LAYERS:
        raise ValueError(f"name the layers of {name}: only {', '.join(PUBLISHED_LAYERS)} have published ones")
    net = load_torchvision(name, weights, "DEFAULT")
    return FeatureExtractor(net, layers or PUBLISHED_LAYERS[name], mean or IMAGENET_MEAN, std or IMAGENET_STD, 224, name)
