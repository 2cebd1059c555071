"""Layer-wise relevance propagation for vision transformers: Achtibat et al., "AttnLRP", ICML 2024.

In its form as gradients (Arras et al., "Close Look at Decomposition-based XAI-Methods for Transformer Language Models",
2025): the relevance of any value is that value times its gradient, once a few gradients are others.

- Activations and norms are x c with a constant c (identity rule): f(x) / x, or one over the standard deviation.
- Of a product of two layers, queries with keys or attention with values, each has half (uniform rule).
- The softmax keeps its gradient: the Taylor rule (proposition 3.1).
- Sums and linear layers keep theirs, too: the epsilon rule with an epsilon of 0.
- Convolutions and linear layers outside attention have the gamma rule (generalised to negative inputs, as in zennit),
  which the paper takes for vision transformers since the others leave noise; a batch norm counts as part of the layer
  before it.

The gammas, .25 for convolutions and .05 for linear layers, are within the range that the authors' library searches in
its example for vision transformers. The numbers in the paper's appendix could not be compared.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from ..classifiers.attention import Explicit, Look, find_blocks
from ..classifiers.trunk import is_attention

GAMMAS = {"conv2d": 0.25, "linear": 0.05}
PRODUCTS = {"mul", "multiply", "__mul__", "__rmul__", "__imul__", "matmul", "__matmul__", "bmm", "einsum"}
SCALINGS = {"mul_", "div", "div_", "divide", "true_divide", "__truediv__", "__itruediv__"}
# x -> x c with a constant c
IDENTITY = {"relu", "relu_", "relu6", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "silu_", "mish"}
IDENTITY |= {"hardswish", "hardtanh", "tanh", "sigmoid", "erf", "abs", "square", "pow", "__pow__"}
IDENTITY |= {"rms_norm", "normalize"}
SCALES = {"rsqrt", "sqrt", "std", "var", "norm", "vector_norm", "linalg_vector_norm"}  # of norms: constants
# linear, or as good as that: their gradients stay; softmax by the Taylor rule
KEPT = {"add", "add_", "__add__", "__radd__", "__iadd__", "sub", "sub_", "__sub__", "__rsub__", "__isub__", "neg"}
KEPT |= {"__neg__", "sum", "mean", "cumsum", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d"}
KEPT |= {"max", "amax", "max_pool2d", "adaptive_max_pool2d", "dropout", "softmax", "log_softmax", "logsumexp"}
KEPT |= {"where", "masked_fill", "interpolate", "pad"}
KEPT |= {"__getitem__", "__get__", "cat", "concat", "stack", "chunk", "split", "unbind", "narrow", "select", "gather"}
KEPT |= {"index_select", "view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "squeeze", "unsqueeze"}
KEPT |= {"permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "flip", "roll", "unfold", "repeat"}
KEPT |= {"repeat_interleave", "expand", "expand_as", "tile", "broadcast_to", "contiguous", "clone", "to"}
KEPT |= {"type", "type_as", "float", "double", "half", "bfloat16", "requires_grad_", "alias", "dropout2d"}
TINY = 1e-6  # an activation of less has no relevance


def attention_relevance(
    classifier: nn.Module, pixels: Tensor, targets: Tensor, seen: Look, gammas: dict[str, float] = GAMMAS
) -> Tensor:
    """The relevance (B,C,H,W) of the network's own input for the targets' logits; gradients must be on.

    ``seen``: what `listen` gave. Raises ValueError, with what to do, for a network without plain self-attention
    (`attended`), or with an operation that has no rule.
    """
    net, starts = getattr(classifier, "model", classifier), []
    find_blocks(classifier, seen)  # refuses

    def start(_, inputs: tuple) -> tuple:
        starts.append(inputs[0].detach().clone().requires_grad_())
        return (starts[-1], *inputs[1:])

    first = net.register_forward_pre_hook(start)
    try:
        with GradientRules(net, gammas), Explicit():  # what Explicit calls goes through the rules
            logits = classifier(pixels.detach())
    finally:
        first.remove()
    if (logits[:1] - seen.logits).abs().max() > 1e-2 * seen.logits.abs().max() + 1e-6:
        raise ValueError(refusal(net, "it changes values in place that it needs again"))
    (gradient,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), starts[-1])
    return (starts[-1] * gradient).detach()


def refusal(net: nn.Module, reason: str) -> str:
    """Why there is no relevance, and what to do."""
    remedy = "take integrated gradients, or gradient x attention and LeGrad for vision transformers"
    return f"LRP's rules don't fit {type(net).__name__} ({reason}): {remedy}"


class GradientRules(TorchFunctionMode):
    """While it is on, gradients are those whose product with a value is its relevance; no answer is another.

    Raises ValueError for an operation on layers that has no rule. Parameters are constants.
    """

    def __init__(self, net: nn.Module, gammas: dict[str, float] = GAMMAS):
        super().__init__()
        self.net, self.gammas = net, gammas
        attending = [module for name, module in net.named_modules() if is_attention(name, module)]
        inside = {id(parameter) for module in attending for parameter in module.parameters()}
        self.outside = {id(parameter) for parameter in net.parameters()} - inside
        self.last: Weighted | None = None

    def __torch_function__(self, function, types, args=(), kwargs=None):
        # what is called in here is not intercepted again
        name, kwargs = getattr(function, "__name__", ""), kwargs or {}
        outside = id(args[1] if len(args) > 1 else kwargs.get("weight")) in self.outside
        args, kwargs = tree_map(_constant, (args, kwargs))
        layers = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor) and each.requires_grad]
        if not layers or not torch.is_grad_enabled():
            return function(*args, **kwargs)
        if len(layers) == 1 and args and layers[0] is args[0]:  # nothing else depends on the image
            if name in self.gammas:
                self.last = Weighted(function, self.gammas[name] if outside else 0.0, *args, **kwargs)
                return self.last.output
            if name == "batch_norm":
                return self._batch_norm(function, *args, **kwargs)
            if name == "layer_norm":
                return layer_norm(*args, **kwargs)
            if name in IDENTITY:
                return identity(function, *args, **kwargs)
            if name in SCALES:
                return function(*args, **kwargs).detach()
            if name in SCALINGS:
                return function(*args, **kwargs)
        answer = function(*args, **kwargs)
        if name in PRODUCTS:
            return answer if len(layers) == 1 else (answer + answer.detach()) / 2
        if name in KEPT or not any(isinstance(each, Tensor) and each.requires_grad for each in tree_leaves(answer)):
            return answer
        raise ValueError(refusal(self.net, f"it calls {name} on its layers"))

    def _batch_norm(self, function, x, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
        """Merged with the layer before it; elsewhere it is linear as it is. Raises ValueError without statistics."""
        if training or mean is None:
            raise ValueError(refusal(self.net, "a batch norm has no statistics of its own"))
        if self.last is None or x is not self.last.output or self.last.gamma == 0:
            return function(x, mean, var, weight, bias, training, momentum, eps)
        scale = (var + eps).rsqrt() * (1 if weight is None else weight)
        return self.last.scaled(scale, -mean * scale + (0 if bias is None else bias))


class Weighted:
    """The ``output`` of a linear layer or a convolution, with the gradient of the gamma rule.

    What speaks for the output's own sign counts 1 + ``gamma`` times: |x| |w| is what speaks for and against it, added.
    """

    def __init__(self, function, gamma: float, x: Tensor, weight: Tensor, bias: Tensor | None = None, *args, **kwargs):
        self.function, self.gamma, self.rest = function, gamma, (args, kwargs)
        self.x, self.weight, self.bias = x, weight, bias
        self.output = output = self._of(x, weight, bias)
        if gamma:
            total = self._of(x.abs(), weight.abs(), None if bias is None else bias.abs())
            favoured = output + gamma / 2 * (output + output.detach().sign() * total)
            # no share is above 1, so no stabiliser is needed
            share = (output / favoured).detach().nan_to_num(0.0)
            self.output = with_gradient(output, favoured, share)

    def _of(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self.function(x, weight, bias, *self.rest[0], **self.rest[1])

    def scaled(self, scale: Tensor, shift: Tensor) -> Tensor:
        """The output of the layer with its weights times ``scale``, and ``shift`` added."""
        weight = self.weight * scale.view(-1, *[1] * (self.weight.ndim - 1))
        bias = shift if self.bias is None else self.bias * scale + shift
        args, kwargs = self.rest
        return Weighted(
            self.function, self.gamma, self.x, weight.to(self.weight), bias.to(self.weight), *args, **kwargs
        ).output


def identity(function, x: Tensor, *args, **kwargs) -> Tensor:
    """The function of x, with the gradient f(x) / x."""
    kept = x.detach()
    answer = function(kept.clone(), *args, **kwargs)  # which may be in place
    return with_gradient(answer, x, (answer / kept).masked_fill(kept.abs() < TINY, 0.0))


def layer_norm(x: Tensor, shape, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Layer norm over the last dimensions of ``shape``, whose standard deviation has no gradient."""
    over = tuple(range(-len(shape), 0))
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    spread = (wide.detach().var(over, unbiased=False, keepdim=True) + eps).sqrt()
    answer = (wide - wide.mean(over, keepdim=True)) / spread
    answer = answer if weight is None else answer * weight
    return (answer if bias is None else answer + bias).to(x.dtype)


def with_gradient(answer: Tensor, x: Tensor, factor: Tensor) -> Tensor:
    """The ``answer``, with the gradient of x times the constant ``factor``."""
    return answer.detach() + (x - x.detach()) * factor


def _constant(value):
    return value.detach() if isinstance(value, nn.Parameter) else value
