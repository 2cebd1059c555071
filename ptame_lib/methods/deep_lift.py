"""DeepLIFT through captum: Shrikumar, Greenside, Kundaje, ICML 2017, the rescale rule, against black.

captum applies the rule in hooks on modules, and takes gradients through what it has no hook on. Such networks are
refused, since their maps would be called DeepLIFT's and be something else.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..classifiers.trunk import observable
from ..classifiers.wrapper import device_of
from ..masking import normalise
from ..validation import check_request
from .base import Explain
from .gradients import operations

# operations that are not linear, by the names of their gradients
NOT_LINEAR = re.compile(
    r"(Leaky)?Relu|.?Elu|Gelu|Silu|Mish|Prelu|Sigmoid|Tanh|Soft|LogSoft|Hard|Clamp|Threshold|Pow|Max|Amax|Adaptive.*Max"
    r"|NativeLayerNorm|NativeGroupNorm|Scaled|Compiled|LinalgVectorNorm"
)
LEFT_BEHIND = ("input", "output", "input_ref")  # attributes that captum puts on modules


def deep_lift(classifier: nn.Module) -> Explain:
    """Maps (B,H,W) in [0,1]: evidence for the class by the rescale rule; evidence against it is 0.

    Costs two forward and two backward passes, of the image and of black; one image more is asked about for the check.
    Raises ValueError for a network in which not every activation is a module of its own that captum knows.
    """
    from captum.attr import DeepLift  # here, since it takes a while

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        check_request(classifier, pixels, targets)
        check_activations(classifier, pixels)
        with observable(classifier), tidied(classifier), torch.enable_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting forward, backward hooks")  # captum says so at every call
            asked = pixels.detach().clone().requires_grad_()
            found = DeepLift(classifier).attribute(asked, torch.zeros_like(asked), targets)
        return normalise(found.detach().sum(1).clamp_min(0))

    return explain


def has_own_activations(classifier: nn.Module) -> bool:
    """Whether DeepLIFT explains the classifier, which is asked about one black image."""
    try:
        check_activations(classifier, torch.zeros(1, 3, *classifier.input_size, device=device_of(classifier)))
        return True
    except ValueError:
        return False


def check_activations(classifier: nn.Module, pixels: Tensor) -> None:
    """Raise ValueError unless every operation that is not linear is done by a module that captum knows, once."""
    from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR

    calls, hooks, known = Counter(), [], tuple(SUPPORTED_NON_LINEAR)
    kind = type(getattr(classifier, "model", classifier)).__name__
    refusal = f"DeepLIFT can't explain {kind}: {{}}. Take integrated gradients or GradientSHAP"
    if not getattr(classifier, "differentiable", True):
        raise ValueError(f"DeepLIFT can't explain {kind}: it has no gradient. Take RISE or P-TAME")
    # ask once, and count
    try:
        for module in classifier.modules():
            if type(module) in known:
                hooks.append(module.register_forward_hook(lambda called, *_: calls.update([called])))
        with observable(classifier), torch.inference_mode(False), torch.enable_grad():
            logits = classifier(pixels[:1].detach().clone().requires_grad_())
    finally:
        for hook in hooks:
            hook.remove()
    done = Counter(name for name in operations(logits) if NOT_LINEAR.match(name))
    again = [module for module, count in calls.items() if count > 1]
    if again:
        raise ValueError(refusal.format(f"it uses one {type(again[0]).__name__} module more than once"))
    if done.total() != calls.total():
        others = ", ".join(sorted(name.removesuffix("Backward0") for name in done)) or "none"
        reason = f"of {done.total()} operations that are not linear ({others}), {calls.total()} are modules it knows"
        raise ValueError(refusal.format(reason))


@contextmanager
def tidied(classifier: nn.Module) -> Iterator[None]:
    """What captum leaves behind on modules in the block is taken away, also if it was stopped."""
    owned = {module: {name for name in LEFT_BEHIND if name in module.__dict__} for module in classifier.modules()}
    try:
        yield
    finally:
        for module, own in owned.items():
            for name in LEFT_BEHIND:
                if name not in own:
                    module.__dict__.pop(name, None)
