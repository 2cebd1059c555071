"""What the blocks of a vision transformer attend to, as probabilities that gradients reach.

Transformers compute attention in one fused step that never shows its probabilities, by ways that differ between
torchvision, timm and Hugging Face. While `Explicit` is on, the same call is made step by step instead, in this thread
alone. No module is changed for it, so nothing has to be put back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..masking import normalise
from .layers import find_layout, to_map
from .trunk import MOST_PREFIX, observable
from .wrapper import device_of

SOFTMAXES = (F.softmax, torch.softmax, Tensor.softmax)
MULTI_HEAD = signature(F.multi_head_attention_forward)
UNUSUAL = ("bias_k", "bias_v", "add_zero_attn", "key_padding_mask", "attn_mask", "use_separate_proj_weight")


class Explicit(TorchFunctionMode):
    """While it is on, attention is computed step by step; ``found`` keeps its probabilities, in order.

    Only what is asked with gradients is kept.
    """

    def __init__(self):
        super().__init__()
        self.found: list[Tensor] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        # what is called in here is not intercepted again
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention:
            return self._attend(*args, **kwargs)
        if function is F.multi_head_attention_forward:
            return self._multi_head(*args, **kwargs)
        answer = function(*args, **kwargs)
        return self._kept(answer) if function in SOFTMAXES and answer.ndim > 2 else answer

    def _kept(self, probabilities: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            self.found.append(probabilities)
        return probabilities

    def _attend(
        self, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
    ) -> Tensor:
        """`F.scaled_dot_product_attention` without dropout."""
        if is_causal or enable_gqa:  # no classifier of images is known to; unkept, it is refused as unseen
            options = {"is_causal": is_causal, "scale": scale, "enable_gqa": enable_gqa}
            return F.scaled_dot_product_attention(query, key, value, attn_mask, 0.0, **options)
        return self._steps(query, key, value, attn_mask, scale)[0]

    def _steps(self, query, key, value, mask=None, scale=None) -> tuple[Tensor, Tensor]:
        """The weighted values (B,heads,N,d), and the probabilities (B,heads,N,N)."""
        scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        probabilities = self._kept(scores.softmax(-1))
        return probabilities @ value, probabilities

    def _multi_head(self, *args, **kwargs) -> tuple[Tensor, Tensor | None]:
        """`F.multi_head_attention_forward` of tokens (N,B,D), as nn.MultiheadAttention calls it."""
        bound = MULTI_HEAD.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        if given["query"].ndim != 3 or any(given[name] is not None and given[name] is not False for name in UNUSUAL):
            return F.multi_head_attention_forward(*args, **kwargs)
        # project the tokens, in heads (B,heads,N,d)
        weights, bias, heads = given["in_proj_weight"].chunk(3), given["in_proj_bias"], given["num_heads"]
        biases = (None, None, None) if bias is None else bias.chunk(3)
        tokens = (given[name].transpose(0, 1) for name in ("query", "key", "value"))
        projected = (F.linear(*each).unflatten(2, (heads, -1)) for each in zip(tokens, weights, biases, strict=True))
        answer, probabilities = self._steps(*(part.transpose(1, 2) for part in projected))
        # back to tokens
        answer = F.linear(answer.transpose(1, 2).flatten(2), given["out_proj_weight"], given["out_proj_bias"])
        if given["average_attn_weights"]:
            probabilities = probabilities.mean(1)
        return answer.transpose(0, 1), probabilities if given["need_weights"] else None


class Blocks(NamedTuple):
    """The blocks of a transformer, from the first; how many tokens are none of a patch; and those that are read.

    ``prefix``: the class token, a distillation token and registers, before all patches. ``read`` (N,): the share of
    each token in what the head reads: 1 for a class token, equal shares where tokens are averaged.
    """

    modules: list[nn.Module]
    prefix: int
    read: Tensor


class Attended(NamedTuple):
    """The logits of images, with the attention of every block, (B,heads,N,N), and the blocks.

    ``scores``: the logits; or, asked for, those (L,B,K) of every block by itself.
    """

    scores: Tensor
    attention: list[Tensor]
    blocks: Blocks
    image: tuple[int, int]

    def maps(self, relevance: Tensor) -> Tensor:
        """Maps (B,h,w) in [0,1] of the patches' ``relevance`` (B,N) for what the head reads, normalised."""
        return normalise(to_map(relevance.detach().float()[..., None], self.blocks.prefix, self.image)[:, 0])


@contextmanager
def attended(classifier: nn.Module, pixels: Tensor, each_block: bool = False) -> Iterator[Attended]:
    """What every block attends to in ``pixels`` (B,3,H,W), part of the logits' graph; gradients are on in the block.

    ``each_block``: the scores of every block by itself are asked for: its tokens are averaged, and the mean, in place
    of every token of the last block, is read by the network's own norm, pooling and head.

    One image more is asked about to find the blocks. Raises ValueError, with what to do, for a network without plain
    self-attention: each block must let all tokens of the image attend to all others, and no token may be lost on the
    way. Windows, attention between channels, reduced keys and attention pooling are refused, as are black boxes.
    """
    with observable(classifier), torch.inference_mode(False), torch.enable_grad():
        blocks = find_blocks(classifier, listen(classifier, pixels))
        asked, tokens, hooks = pixels.detach().clone().requires_grad_(), [], []

        def collect(block: nn.Module, _, output):
            tokens.append(_tokens(output))
            if block is blocks.modules[-1]:
                means = torch.cat([each.mean(1, keepdim=True).expand_as(each) for each in tokens])
                return means if isinstance(output, Tensor) else type(output)((means, *output[1:]))

        try:
            for block in blocks.modules if each_block else ():
                hooks.append(block.register_forward_hook(collect))
            with Explicit() as explicit:
                scores = classifier(asked)
        finally:
            for hook in hooks:
                hook.remove()
        if each_block:
            scores = scores.unflatten(0, (len(blocks.modules), len(pixels)))
        yield Attended(scores, explicit.found, blocks, tuple(pixels.shape[-2:]))


def attends(classifier: nn.Module) -> bool:
    """Whether the classifier, asked about one black image, is a plain vision transformer for `attended`."""
    try:
        with attended(classifier, torch.zeros(1, 3, *classifier.input_size, device=device_of(classifier))):
            return True
    except ValueError:
        return False


def find_blocks(classifier: nn.Module, seen: Look) -> Blocks:
    """The blocks of a transformer, found on one image; raises ValueError as `attended`."""
    image, net = seen.image, getattr(classifier, "model", classifier)
    shapes = [tuple(found.shape) for found in seen.attention]
    if not shapes:
        raise ValueError(refusal(net, "no attention is seen in it"))
    n = shapes[0][-1]
    for shape in shapes:
        if len(shape) != 4 or shape[0] != 1 or shape[2:] != (n, n):
            raise ValueError(refusal(net, f"it attends in the shape {shape}, not from all tokens of an image to all"))

    # the outermost module around each attention that gives tokens
    found: dict[int, Span] = {}
    for span in seen.spans:
        tokens = _tokens(span.output)
        if span.last == span.first + 1 and tokens is not None and tokens.shape[:2] == (1, n):
            found[span.first] = span
    modules = [found[place].module for place in sorted(found)]
    if len(modules) < len(shapes) or len(set(modules)) < len(modules):
        raise ValueError(refusal(net, "its attention does not come in blocks that give tokens"))

    # the grid, and the tokens that a gradient of the logits reaches
    last = _tokens(found[len(shapes) - 1].output)
    try:
        prefix = find_layout(last, image, net)
    except ValueError as error:
        raise ValueError(refusal(net, f"its {n} tokens are no grid over the image")) from error
    weights = torch.linspace(1, 2, seen.logits.numel()).to(seen.logits)  # so that a softmax's gradients don't cancel
    score = (seen.logits.flatten() * weights).sum()
    (gradient,) = torch.autograd.grad(score, last, allow_unused=True) if score.requires_grad else (None,)
    read = torch.zeros(n) if gradient is None else gradient[0].ne(0).any(-1).float()
    if prefix > MOST_PREFIX or not read.any():
        raise ValueError(refusal(net, f"its head reads none of its {n} tokens, or they are no grid over the image"))
    return Blocks(modules, prefix, read / read.sum())


def refusal(net: nn.Module, reason: str) -> str:
    """Why a network's attention can't be explained, and what to do."""
    remedy = "take a method for any network, such as Grad-CAM, RISE or P-TAME"
    return f"{type(net).__name__} is no plain vision transformer ({reason}): {remedy}"


class Span(NamedTuple):
    """A module that was called, its output, and the attention found in it: from ``first`` to before ``last``."""

    module: nn.Module
    first: int
    last: int
    output: object


class Look(NamedTuple):
    """What is seen when one image is asked about, with gradients.

    ``attention``: what the network attends to, in order; ``spans``: the modules as they finished; ``logits`` (1,K).
    """

    attention: list[Tensor]
    spans: list[Span]
    logits: Tensor
    image: tuple[int, int]


def listen(classifier: nn.Module, pixels: Tensor) -> Look:
    """Ask about the first image of ``pixels`` (B,3,H,W); gradients must be on."""
    explicit, starts, spans, hooks = Explicit(), {}, [], []

    def start(module: nn.Module, _) -> None:
        starts[module] = len(explicit.found)

    def finish(module: nn.Module, _, output) -> None:
        spans.append(Span(module, starts[module], len(explicit.found), output))

    try:
        for module in classifier.modules():
            if module is not classifier:
                hooks += [module.register_forward_pre_hook(start), module.register_forward_hook(finish)]
        with explicit:
            logits = classifier(pixels[:1].detach().clone().requires_grad_())
    finally:
        for hook in hooks:
            hook.remove()
    return Look(explicit.found, spans, logits, tuple(pixels.shape[-2:]))


def _tokens(output: object) -> Tensor | None:
    """The tokens (B,N,D) in a module's output, which may have more; None if there are none."""
    first = output[0] if isinstance(output, (tuple, list)) and output else output
    return first if isinstance(first, Tensor) and first.ndim == 3 else None
