"""CAM methods through the grad-cam package, on convolutional networks and transformers.

Grad-CAM: Selvaraju et al., ICCV 2017. Grad-CAM++: Chattopadhay et al., WACV 2018. LayerCAM: Jiang et al., IEEE TIP
2021. HiResCAM: Draelos & Carin, 2020. Score-CAM: Wang et al., CVPRW 2020. Ablation-CAM: Desai & Ramaswamy, WACV 2020.
XGrad-CAM: Fu et al., BMVC 2020. Eigen-CAM: Muhammad & Yeasin, IJCNN 2020. Finer-CAM: Zhang et al., CVPR 2025.

The package is imported where it is used: it imports scikit-learn and matplotlib, which takes more than a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from ..classifiers.layers import find_layout, to_map
from ..classifiers.trunk import layout_of, observable, target_layer
from ..validation import check_request
from .base import Explain

if TYPE_CHECKING:
    from pytorch_grad_cam.base_cam import BaseCAM


class Cam(NamedTuple):
    """A method of the package, by the name of its class there, and its source.

    ``whole``: its forward passes besides one per channel; None for one forward pass and ``backwards``. ``finer``: what
    it explains is the difference between the target's logit and those of the classes that come closest to it.
    """

    name: str
    source: str
    whole: int | None = None
    backwards: int = 1
    finer: bool = False

    @property
    def kind(self) -> type[BaseCAM]:
        """The package's class."""
        import pytorch_grad_cam

        return _signed(pytorch_grad_cam.EigenCAM) if self.name == "EigenCAM" else getattr(pytorch_grad_cam, self.name)


CAMS = {
    "Grad-CAM": Cam("GradCAM", "Selvaraju et al., ICCV 2017"),
    "Grad-CAM++": Cam("GradCAMPlusPlus", "Chattopadhay et al., WACV 2018"),
    "LayerCAM": Cam("LayerCAM", "Jiang et al., IEEE TIP 2021"),
    "HiResCAM": Cam("HiResCAM", "Draelos & Carin, 2020"),
    "XGrad-CAM": Cam("XGradCAM", "Fu et al., BMVC 2020"),
    "Eigen-CAM": Cam("EigenCAM", "Muhammad & Yeasin, IJCNN 2020", backwards=0),
    "Finer-CAM": Cam("GradCAM", "Zhang et al., CVPR 2025", finer=True),
    "Score-CAM": Cam("ScoreCAM", "Wang et al., CVPR workshops 2020", whole=1, backwards=0),
    "Ablation-CAM": Cam("AblationCAM", "Desai & Ramaswamy, WACV 2020", whole=2, backwards=0),
}


def cam(name: str, classifier: nn.Module, layer: nn.Module | None = None) -> Explain:
    """A method of `CAMS` on ``layer`` (default: `target_layer`); maps (B,H,W), as the package makes them.

    Score-CAM and Ablation-CAM ask the classifier once per channel of the layer, Eigen-CAM needs one forward pass, the
    others one forward and one backward pass. Raises ValueError for an unknown name.
    """
    if name not in CAMS:
        raise ValueError(f"unknown CAM method {name!r}: choose one of {', '.join(CAMS)}")

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        check_request(classifier, pixels, targets)
        target_of, kind = Closest if CAMS[name].finer else ClassifierOutputTarget, CAMS[name].kind
        wanted = [target_of(target) for target in targets.tolist()]
        # the package shows a progress bar for every batch: hide it
        with cam_of(kind, classifier, pixels, layer) as method, torch.enable_grad(), redirect_stderr(StringIO()):
            maps = method(pixels.detach().clone().requires_grad_(), wanted)
        return torch.from_numpy(maps).to(pixels.device)

    return explain


def _signed(kind: type[BaseCAM]) -> type[BaseCAM]:
    """Eigen-CAM whose first component has its largest value on the positive side, by the package's own correction.

    Otherwise its sign is that of the machine's library for linear algebra.
    """
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection_with_sign_correction

    class Signed(kind):
        def get_cam_image(self, pixels, layer, targets, activations, *others):
            return get_2d_projection_with_sign_correction(activations)

    return Signed


class Closest:
    """Finer-CAM's target: a class's logit against those of the ``count`` classes that come closest, as the package's.

    The package's own class for it takes the classifier's decisions only.
    """

    def __init__(self, target: int, count: int = 3):
        self.target, self.count = target, count

    def __call__(self, logits: Tensor) -> Tensor:
        from pytorch_grad_cam.utils.model_targets import FinerWeightedTarget

        order = (logits - logits[self.target]).abs().argsort(stable=True).tolist()
        closest = [other for other in order if other != self.target][: self.count]
        return FinerWeightedTarget(self.target, closest, alpha=1)(logits)


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

    After the block the classifier's mode, gradients, hooks and layers are as they were, even if the block raised. The
    method raises ValueError for a layer that is not called, and one that no gradient reaches if it needs gradients.
    """
    from pytorch_grad_cam import AblationCAM
    from pytorch_grad_cam.ablation_layer import AblationLayer, AblationLayerVit

    # the layer, and its layout where that is known before the method runs
    found, layout = (layer, None) if layer is not None else target_layer(classifier, pixels)
    if kind is AblationCAM and "ablation_layer" not in options:
        layout = layout_of(classifier, pixels, found) if layout is None else layout
        options["ablation_layer"] = AblationLayer() if layout == "NCHW" else AblationLayerVit()
    image, net = tuple(pixels.shape[-2:]), getattr(classifier, "model", classifier)

    def as_map(level: Tensor) -> Tensor:
        # a copy, since the network may go on in place; NumPy has no bfloat16
        level = level.float() if level.dtype in (torch.float16, torch.bfloat16) else level.clone()
        return to_map(level, find_layout(level, image, net) if layout is None else layout, image)

    # the package zeroes gradients, and Ablation-CAM replaces the layer while it works
    gradients = [(parameter, parameter.grad) for parameter in classifier.parameters()]
    places = [(m, name) for m in classifier.modules() for name, child in m._modules.items() if child is found]
    hooks = dict(found._forward_hooks)
    with observable(classifier):
        try:  # not the package's context manager: it swallows an IndexError
            yield _checked(kind(classifier, [found], as_map, **options), found)
        finally:
            for parent, name in places:
                setattr(parent, name, found)
            found._forward_hooks.clear()  # the package's, also those of an interrupted Ablation-CAM
            found._forward_hooks.update(hooks)
            for parameter, gradient in gradients:
                parameter.grad = gradient


def _checked(method: BaseCAM, layer: nn.Module) -> BaseCAM:
    """The method, but it refuses a layer that did not answer or got no gradient, instead of an empty map."""
    from pytorch_grad_cam import AblationCAM

    kept, make_maps, kind = method.activations_and_grads, method.compute_cam_per_layer, type(layer).__name__

    # the package's own steps, with a look at what the layer gave in between
    def compute_cam_per_layer(pixels: Tensor, *others):
        if not kept.activations:
            reason = "it was not called, or torch.jit hides it"
            raise ValueError(f"the layer {kind} did not answer ({reason}): choose another, or give the plain network")
        reaches_pixels = pixels.grad is not None and pixels.grad.any()
        if method.uses_gradients and (not kept.gradients or (reaches_pixels and not kept.gradients[0].any())):
            reason = "after the last attention, for instance, it reaches only the class token"
            raise ValueError(f"no gradient reaches the map of the layer {kind} ({reason}): choose an earlier layer")
        return make_maps(pixels, *others)

    method.compute_cam_per_layer = compute_cam_per_layer
    if isinstance(method, AblationCAM):  # it keeps the layer's output by a hook of its own
        method.save_activation = lambda _, __, output: setattr(method, "activations", output.clone())
    return method
