"""CAM methods through the grad-cam package, with the target layer found for convolutional networks and transformers.

Grad-CAM: Selvaraju et al., ICCV 2017. Grad-CAM++: Chattopadhay et al., WACV 2018. Score-CAM: Wang et al., CVPRW 2020.
Ablation-CAM: Desai & Ramaswamy, WACV 2020. LayerCAM: Jiang et al., IEEE TIP 2021. HiResCAM: Draelos & Carin, 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from functools import partial
from io import StringIO

import torch
from pytorch_grad_cam import AblationCAM, GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, ScoreCAM
from pytorch_grad_cam.ablation_layer import AblationLayer, AblationLayerVit
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from .. import checks
from ..features import find_layout, to_map

POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


CAMS: dict[str, type[BaseCAM]] = {
    "Grad-CAM": GradCAM,
    "Grad-CAM++": GradCAMPlusPlus,
    "Score-CAM": ScoreCAM,
    "Ablation-CAM": AblationCAM,
    "LayerCAM": LayerCAM,
    "HiResCAM": HiResCAM,
}


def cam(name: str, classifier: nn.Module, layer: nn.Module | None = None) -> Callable[[Tensor, Tensor], Tensor]:
    """A method of `CAMS` on ``layer`` (default: `target_layer`); maps (B,H,W) at the image's size, as the package makes them.

    Score-CAM and Ablation-CAM ask the classifier once per channel of the layer, the others once forward and once backward. Raises
    ValueError for an unknown name.
    """
    if name not in CAMS:
        raise ValueError(f"unknown CAM method {name!r}: choose one of {', '.join(CAMS)}")

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        checks.request(classifier, pixels, targets)
        # The package shows a bar of its own for every batch.
        with cam_of(CAMS[name], classifier, pixels, layer) as method, torch.enable_grad(), redirect_stderr(StringIO()):
            maps = method(pixels.detach().clone().requires_grad_(), [ClassifierOutputTarget(int(t)) for t in targets])
        return torch.from_numpy(maps).to(pixels.device)

    return explain


def gradcam(classifier: nn.Module, layer: nn.Module | None = None) -> Callable[[Tensor, Tensor], Tensor]:
    """Grad-CAM on ``layer`` (default: `target_layer`); maps (B,H,W).

    >>> saliency = gradcam(classifier)(pixels, targets)   # doctest: +SKIP
    """
    return cam("Grad-CAM", classifier, layer)


@contextmanager
def cam_of(kind: type[BaseCAM], classifier: nn.Module, pixels: Tensor, layer: nn.Module | None = None, **options) -> Iterator[BaseCAM]:
    """A CAM method of the grad-cam package on ``layer`` (default: `target_layer`); its hooks are gone after the block, whatever happens."""
    found, prefix = (layer, None) if layer is not None else target_layer(classifier, pixels[:1])
    if kind is AblationCAM and "ablation_layer" not in options:
        options["ablation_layer"] = AblationLayer() if prefix is None else AblationLayerVit()
    method = kind(classifier, [found], None if prefix is None else partial(to_map, layout=prefix, image=tuple(pixels.shape[-2:])), **options)
    try:  # not the package's context manager: it swallows an IndexError
        yield method
    finally:
        method.activations_and_grads.release()


def layer_features(classifier: nn.Module, pixels: Tensor, layer: nn.Module | None = None) -> Tensor:
    """What ``layer`` (default: `target_layer`) gives for the pixels (B,3,H,W), as maps (B,C,h,w) without a gradient."""
    found, prefix = (layer, None) if layer is not None else target_layer(classifier, pixels[:1])
    kept: list[Tensor] = []
    hook = found.register_forward_hook(lambda _, __, output: kept.append(output.detach()))
    try:
        with torch.no_grad():
            classifier(pixels)
    finally:
        hook.remove()
    return kept[-1] if prefix is None else to_map(kept[-1], prefix, tuple(pixels.shape[-2:]))


def target_layer(classifier: nn.Module, pixels: Tensor) -> tuple[nn.Module, int | None]:
    """The layer CAM methods look at, and how many tokens stand before the grid (None for a convolutional layer).

    A convolutional network: the last module that gives a feature map (B,C,h,w) with more than one position, before any
    pooling. A transformer: the first norm of the last block, as the grad-cam package advises (past it, a class token's
    network lets no gradient reach the other tokens). Raises ValueError where neither exists.
    """
    names = {module: name for name, module in classifier.named_modules()}
    order: list[nn.Module] = []
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def note(module: nn.Module, _, output) -> None:
        if isinstance(output, Tensor):
            order.append(module)
            shapes[module] = tuple(output.shape)

    hooks = [module.register_forward_hook(note) for module in names]
    try:
        with torch.no_grad():
            classifier(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    image = tuple(pixels.shape[-2:])
    convolutional = [m for m in order if _is_map(shapes[m], image) and order.count(m) == 1 and not _ends_in_pool(m)]
    norms = [m for m in order if isinstance(m, nn.LayerNorm) and len(shapes[m]) == 3 and names[m].endswith(("norm1", "ln_1"))]
    if norms and (not convolutional or order.index(norms[-1]) > order.index(convolutional[-1])):
        tokens = torch.empty(shapes[norms[-1]], device="meta")
        return norms[-1], find_layout(tokens, image, getattr(classifier, "model", classifier))
    if not convolutional:
        raise ValueError(f"no feature map found in {type(getattr(classifier, 'model', classifier)).__name__}: pass the layer for Grad-CAM")
    return convolutional[-1], None


def _is_map(shape: tuple[int, ...], image: tuple[int, int]) -> bool:
    return len(shape) == 4 and 1 < shape[2] < image[0] and 1 < shape[3] < image[1]


def _ends_in_pool(module: nn.Module) -> bool:
    children = list(module.children())
    return isinstance(module, POOLS) or (isinstance(module, nn.Sequential) and bool(children) and _ends_in_pool(children[-1]))
