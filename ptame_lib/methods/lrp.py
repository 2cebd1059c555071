"""Layer-wise relevance propagation: Bach et al., PLoS ONE 2015.

Vision transformers are explained by `attention_lrp`, convolutional networks through zennit, by its rules
epsilon-plus-flat. These are the rules that Montavon et al., "Layer-Wise Relevance Propagation: An Overview", 2019,
advise for convolutional networks, as zennit composes them: flat in the first layer, z+ in the other convolutions,
epsilon in linear layers. zennit's own rule for sums and averages reaches modules only; here it is applied to calls of
functions, too, as in the residual connections of most networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..classifiers.attention import listen
from ..classifiers.trunk import observable
from ..classifiers.wrapper import device_of
from ..masking import normalise
from ..validation import check_request
from .attention_lrp import attention_relevance, refusal
from .base import Explain

SUMS = {"add", "add_", "__add__", "__radd__", "__iadd__"}
MEANS = {"mean", "avg_pool2d", "adaptive_avg_pool2d"}
PRODUCTS = {"mul", "mul_", "__mul__", "__rmul__", "__imul__", "matmul", "__matmul__", "bmm", "einsum"}
PRODUCTS |= {"div", "div_", "true_divide", "__truediv__", "__itruediv__", "__rtruediv__"}
UNKNOWN = {"layer_norm", "group_norm", "instance_norm", "local_response_norm", "rms_norm", "softmax"}
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
UNKNOWN |= {"scaled_dot_product_attention", "multi_head_attention_forward"}


def lrp(classifier: nn.Module) -> Explain:
    """Maps (B,H,W) in [0,1]: the pixels' relevance for the target's logit; relevance against it is 0.

    Costs one forward and one backward pass; one image more is asked about to see whether the network has attention, and
    to check that its answers stay as they are. Raises ValueError, with what to do, for a network with operations that
    the rules don't know: with attention, all but plain vision transformers (`attended`); without, products of layers,
    layer norms, and batch norms that don't follow a convolution.
    """

    net = getattr(classifier, "model", classifier)

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        check_request(classifier, pixels, targets)
        if not getattr(classifier, "differentiable", True):
            raise ValueError(refusal(net, "it has no gradient"))
        if any(isinstance(module, torch.jit.ScriptModule) for module in classifier.modules()):
            raise ValueError(refusal(net, "its layers can't be observed, as it is from torch.jit"))
        with observable(classifier), torch.inference_mode(False), torch.enable_grad():
            seen = listen(classifier, pixels)
            if seen.attention:
                relevance = attention_relevance(classifier, pixels, targets, seen)
            else:
                with propagated(classifier, pixels, seen.logits.detach()) as (logits, start):
                    logit = logits.gather(1, targets[:, None])
                    (relevance,) = torch.autograd.grad(logit, start, logit.detach())
        return normalise(relevance.float().sum(1).clamp_min(0))

    return explain


def propagates(classifier: nn.Module) -> bool:
    """Whether `lrp` explains the classifier, which is asked about one black image."""
    device = device_of(classifier)
    black, target = torch.zeros(1, 3, *classifier.input_size, device=device), torch.zeros(1, dtype=int, device=device)
    try:
        lrp(classifier)(black, target)
        return True
    except ValueError:
        return False


@contextmanager
def propagated(classifier: nn.Module, pixels: Tensor, plain: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The logits of ``pixels`` and the network's own input, between which gradients are relevance in the block.

    For networks without attention, by zennit. ``plain``: the first image's logits (1,K) without any rule.
    """
    from zennit.composites import EpsilonPlusFlat

    net, starts, composite = getattr(classifier, "model", classifier), [], EpsilonPlusFlat()

    def start(_, inputs: tuple) -> tuple:
        starts.append(inputs[0].detach().clone().requires_grad_())
        return (starts[-1], *inputs[1:])

    with observable(classifier), torch.inference_mode(False), torch.enable_grad(), restored(net):
        merge_batch_norms(net)
        first, rules = net.register_forward_pre_hook(start), Rules(net)
        try:
            composite.register(net)
            with rules:
                logits = classifier(pixels.detach())
            if (logits[:1] - plain).abs().max() > 1e-3 * plain.abs().max() + 1e-6:
                raise ValueError(refusal(net, "it runs in another order than its modules are listed in"))
            yield logits, starts[-1]
        finally:
            first.remove()
            rules.release()
            composite.remove()


class Rules(TorchFunctionMode):
    """zennit's rule for sums and averages on calls of functions; ValueError for calls without a rule."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.kept = net, []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        # what is called in here is not intercepted again
        kwargs, name = kwargs or {}, getattr(function, "__name__", "")
        layers = (
            [arg for arg in args if isinstance(arg, Tensor) and arg.requires_grad] if torch.is_grad_enabled() else []
        )
        if name in UNKNOWN and layers:
            raise ValueError(refusal(self.net, f"it calls {name}"))
        if name in PRODUCTS and layers:
            if len(layers) > 1 or layers[0] is not args[0]:
                raise ValueError(refusal(self.net, "it multiplies or divides by its layers"))
            return self._by_rule(lambda layer: function(layer, *args[1:], **kwargs), args[0])
        if name in SUMS and len(layers) > 1 and layers[0].shape == layers[1].shape:
            return self._by_rule(lambda both: both.sum(-1), torch.stack(layers[:2], -1))
        if name in MEANS and layers:
            return self._by_rule(lambda layer: function(layer, *args[1:], **kwargs), args[0])
        return function(*args, **kwargs)

    def _by_rule(self, function, layer: Tensor) -> Tensor:
        from zennit.rules import Norm

        module, rule = Call(function), Norm()
        self.kept.append((rule, rule.register(module)))  # which must live until the gradients are taken
        return module(layer)

    def release(self) -> None:
        """Let go of the layers: the graph and the rules hold each other, which no garbage collector sees."""
        for _, handles in self.kept:
            handles.remove()


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.forward = function


@contextmanager
def restored(net: nn.Module) -> Iterator[None]:
    """After the block every parameter and buffer is the one it was, with the values it had, whatever stopped it.

    zennit changes them in place for a while, and undoes that only for what it had finished.
    """
    kept = [
        (module, kind, dict(getattr(module, kind))) for module in net.modules() for kind in ("_parameters", "_buffers")
    ]
    values = [(tensor, tensor.data) for *_, own in kept for tensor in own.values() if tensor is not None]
    try:
        yield
    finally:
        for module, kind, own in kept:
            getattr(module, kind).clear()
            getattr(module, kind).update(own)
        for tensor, value in values:
            if tensor.data_ptr() != value.data_ptr():
                tensor.data = value


def merge_batch_norms(net: nn.Module) -> None:
    """Merge each batch norm with the layer that is listed before it, by zennit, which `restored` undoes.

    Raises ValueError for one that has other channels than that layer, or no weights or statistics of its own.
    """
    from zennit.canonizers import MergeBatchNorm

    before = None
    for module in _leaves(net):
        if isinstance(module, BATCH_NORMS):
            channels = getattr(before, "out_channels", getattr(before, "out_features", None))
            if channels != module.num_features or module.weight is None or module.running_var is None:
                raise ValueError(refusal(net, "it has batch norms that don't follow a convolution"))
            MergeBatchNorm.merge_batch_norm([before], module)
            with torch.no_grad():  # what is left divides by the root of 1 + eps
                module.weight.fill_((1 + module.eps) ** 0.5)
        before = module


def _leaves(module: nn.Module) -> Iterator[nn.Module]:
    """The modules without children, in the order in which they are listed; a batch norm counts as one."""
    children = list(module.children())
    if isinstance(module, BATCH_NORMS) or not children:
        yield module
    for child in children if not isinstance(module, BATCH_NORMS) else ():
        yield from _leaves(child)
