"""CAM methods through the grad-cam package, on convolutional networks and transformers.

Grad-CAM: Selvaraju et al., ICCV 2017. Grad-CAM++: Chattopadhay et al., WACV 2018. LayerCAM: Jiang et al., IEEE TIP
2021. HiResCAM: Draelos & Carin, 2020. Score-CAM: Wang et al., CVPRW 2020. Ablation-CAM: Desai & Ramaswamy, WACV 2020.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from functools import partial
from io import StringIO
from typing import NamedTuple

import torch
from pytorch_grad_cam import AblationCAM, GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, ScoreCAM
from pytorch_grad_cam.ablation_layer import AblationLayer, AblationLayerVit
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from ..classifiers.layers import target_layer, to_map
from ..classifiers.wrapper import eval_mode
from ..validation import check_request
from .base import Explain


class Cam(NamedTuple):
    """A method of the package and its source.

    ``whole``: its forward passes besides one per channel; None for one forward and one backward pass.
    """

    kind: type[BaseCAM]
    source: str
    whole: int | None = None


CAMS = {
    "Grad-CAM": Cam(GradCAM, "Selvaraju et al., ICCV 2017"),
    "Grad-CAM++": Cam(GradCAMPlusPlus, "Chattopadhay et al., WACV 2018"),
    "LayerCAM": Cam(LayerCAM, "Jiang et al., IEEE TIP 2021"),
    "HiResCAM": Cam(HiResCAM, "Draelos & Carin, 2020"),
    "Score-CAM": Cam(ScoreCAM, "Wang et al., CVPR workshops 2020", whole=1),
    "Ablation-CAM": Cam(AblationCAM, "Desai & Ramaswamy, WACV 2020", whole=2),
}


def cam(name: str, classifier: nn.Module, layer: nn.Module | None = None) -> Explain:
    """A method of `CAMS` on ``layer`` (default: `target_layer`); maps (B,H,W), as the package makes them.

    Score-CAM and Ablation-CAM ask the classifier once per channel of the layer, the others need one forward and one
    backward pass. Raises ValueError for an unknown name.
    """
    if name not in CAMS:
        raise ValueError(f"unknown CAM method {name!r}: choose one of {', '.join(CAMS)}")

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        check_request(classifier, pixels, targets)
        wanted, kind = [ClassifierOutputTarget(int(t)) for t in targets], CAMS[name].kind
        # the package shows a progress bar for every batch: hide it
        with cam_of(kind, classifier, pixels, layer) as method, torch.enable_grad(), redirect_stderr(StringIO()):
            maps = method(pixels.detach().clone().requires_grad_(), wanted)
        return torch.from_numpy(maps).to(pixels.device)

    return explain


def gradcam(classifier: nn.Module, layer: nn.Module | None = None) -> Explain:
    """Grad-CAM on ``layer`` (default: `target_layer`); maps (B,H,W).

    >>> saliency = gradcam(classifier)(pixels, targets)   # doctest: +SKIP
    """
    return cam("Grad-CAM", classifier, layer)


@contextmanager
def cam_of(
    kind: type[BaseCAM], classifier: nn.Module, pixels: Tensor, layer: nn.Module | None = None, **options
) -> Iterator[BaseCAM]:
    """A CAM method of the grad-cam package on ``layer`` (default: `target_layer`).

    After the block the classifier's mode, gradients, hooks and layers are as they were, even if the block raised.
    """
    found, prefix = (layer, None) if layer is not None else target_layer(classifier, pixels[:1])
    if kind is AblationCAM and "ablation_layer" not in options:
        options["ablation_layer"] = AblationLayer() if prefix is None else AblationLayerVit()
    reshape = None if prefix is None else partial(to_map, layout=prefix, image=tuple(pixels.shape[-2:]))
    # the package zeroes gradients, and Ablation-CAM replaces the layer while it works
    gradients = [(parameter, parameter.grad) for parameter in classifier.parameters()]
    places = [(m, name) for m in classifier.modules() for name, child in m._modules.items() if child is found]
    hooks = dict(found._forward_hooks)
    with eval_mode(classifier):
        # NumPy has no bfloat16: the package sees float32, and the network goes on in its own type
        own: list[torch.dtype] = []
        found.register_forward_hook(lambda _, __, output: own.append(output.dtype) or _wide(output))
        method = kind(classifier, [found], reshape, **options)
        # an operation in place that follows changes a copy, and not what the package keeps
        found.register_forward_hook(lambda _, __, output: output.to(own.pop(), copy=True))
        try:  # not the package's context manager: it swallows an IndexError
            yield method
        finally:
            method.activations_and_grads.release()
            for parent, name in places:
                setattr(parent, name, found)
            found._forward_hooks.clear()  # those of an interrupted Ablation-CAM, too
            found._forward_hooks.update(hooks)
            for parameter, gradient in gradients:
                parameter.grad = gradient


def _wide(output: Tensor) -> Tensor:
    return output.float() if output.dtype in (torch.float16, torch.bfloat16) else output
