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

from ..classifiers.layers import target_layer, to_map
from ..validation import check_request

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
        check_request(classifier, pixels, targets)
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
def cam_of(
    kind: type[BaseCAM], classifier: nn.Module, pixels: Tensor, layer: nn.Module | None = None, **options
) -> Iterator[BaseCAM]:
    """A CAM method of the grad-cam package on ``layer`` (default: `target_layer`); its hooks are gone after the block, whatever happens."""
    found, prefix = (layer, None) if layer is not None else target_layer(classifier, pixels[:1])
    if kind is AblationCAM and "ablation_layer" not in options:
        options["ablation_layer"] = AblationLayer() if prefix is None else AblationLayerVit()
    method = kind(
        classifier,
        [found],
        None if prefix is None else partial(to_map, layout=prefix, image=tuple(pixels.shape[-2:])),
        **options,
    )
    try:  # not the package's context manager: it swallows an IndexError
        yield method
    finally:
        method.activations_and_grads.release()
