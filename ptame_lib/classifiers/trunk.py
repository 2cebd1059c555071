"""The layer of a network that CAM methods look at: the last of its trunk that has a grid."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .layers import find_layout, to_map
from .wrapper import eval_mode

POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
POOLS += (nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d)
# the norm before attention: timm and torchvision's swin, torchvision's vit, Hugging Face (three), timm's tnt
FIRST_NORMS = ("norm1", "ln_1", "layernorm_before", "layer_norm1", "layer_norm_1", "norm_out")
ATTENTION = re.compile(r"(^|_)(attn|attention|mhsa)(_(in|out|q|k|v))?\d*$")  # a module's name
ATTENTION_CLASS = re.compile(r"Attn|Attention|MHSA|GPSA")
CONTAINER_CLASS = re.compile(r"Block|Layer|Stage|Net|Model|For")  # those hold attention and more
MOST_PREFIX = 16  # a class token and registers; more is no grid of tokens but something else
SLACK = 4  # positions that a network without padding loses

Layout = str | int


class Answer(NamedTuple):
    """A module that was called, by its name in the classifier, and what it gave."""

    name: str
    module: nn.Module
    output: Any


def target_layer(classifier: nn.Module, pixels: Tensor) -> tuple[nn.Module, Layout]:
    """The layer that CAM methods look at, and its layout as in `find_layout`.

    It is the last layer of the trunk that has a grid, and never inside attention. With channels first, this is the last
    module before any pooling. With channels last, as in transformers, it is the norm before the last block's attention,
    as the grad-cam package advises (after it, no gradient reaches any token but a class token). If there is no such
    norm, it is the last output, which may be the last norm's. A layer that no gradient reaches from the logits is
    passed over for the next earlier one.
    Raises ValueError if none is left, with the reason and with layers to choose from.
    """
    image, net = tuple(pixels.shape[-2:]), getattr(classifier, "model", classifier)
    # run the network once, with gradients also where the caller has switched them off
    with observable(classifier), torch.inference_mode(False), torch.enable_grad():
        asked = pixels[:1].detach().clone().requires_grad_()
        answers, logits = _listen(classifier, asked)
        # take the first of the candidates that a gradient reaches
        passed_over = []
        for answer, layout in _candidates(answers, image, net):
            if _is_reached(logits, asked, answer, layout, image):
                return answer.module, layout
            passed_over.append(answer.name)
    raise ValueError(_refusal(net, answers, passed_over))


def layout_of(classifier: nn.Module, pixels: Tensor, layer: nn.Module) -> Layout:
    """The layout of a ``layer`` that the caller chose. Raises ValueError if it gives no feature map."""
    with observable(classifier), torch.no_grad():
        answers, _ = _listen(classifier, pixels[:1])
    given = [answer.output for answer in answers if answer.module is layer]
    if not given:
        raise ValueError(f"the layer {type(layer).__name__} was not called: choose one that the classifier uses")
    return find_layout(given[-1], tuple(pixels.shape[-2:]), getattr(classifier, "model", classifier))


def layer_features(classifier: nn.Module, pixels: Tensor, layer: nn.Module | None = None) -> Tensor:
    """The output of ``layer`` (default: `target_layer`) for pixels (B,3,H,W), as maps (B,C,h,w) float32."""
    found, layout = target_layer(classifier, pixels) if layer is None else (layer, None)
    kept: list[Tensor] = []
    # a copy, since an operation in place may follow
    hook = found.register_forward_hook(lambda _, __, output: kept.append(output.detach().to(torch.float32, copy=True)))
    try:
        with observable(classifier), torch.no_grad():
            classifier(pixels)
    finally:
        hook.remove()
    image = tuple(pixels.shape[-2:])
    if layout is None:
        layout = find_layout(kept[-1], image, getattr(classifier, "model", classifier))
    return to_map(kept[-1], layout, image)


@contextmanager
def observable(classifier: nn.Module) -> Iterator[None]:
    """Eval mode, and no compiled code while the block runs: it would pass hooks by."""
    with eval_mode(classifier), torch.compiler.set_stance("force_eager"):
        yield


def _listen(classifier: nn.Module, pixels: Tensor) -> tuple[list[Answer], Any]:
    """What the modules give, in the order in which they give it, and the classifier's own answer."""
    names = {module: name for name, module in classifier.named_modules() if name}
    answers: list[Answer] = []

    def note(module: nn.Module, _, output) -> None:
        answers.append(Answer(names[module], module, output))

    hooks = []
    try:
        for module in names:
            hooks.append(module.register_forward_hook(note))
        return answers, classifier(pixels)
    finally:
        for hook in hooks:
            hook.remove()


def _candidates(answers: list[Answer], image: tuple[int, int], net: nn.Module) -> Iterator[tuple[Answer, Layout]]:
    """The layers with a grid outside attention, and their layouts: the one to take, then those before it."""
    kinds = {answer.name: answer.module for answer in answers}
    counts = Counter(answer.name for answer in answers)

    def with_grid() -> Iterator[tuple[int, Layout]]:
        for place, answer in reversed(list(enumerate(answers))):
            parts = answer.name.split(".")
            parents = [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
            inside = any(name in kinds and is_attention(name, kinds[name]) for name in parents)
            if counts[answer.name] == 1 and not inside and not _ends_in_pool(answer.module):
                layout = _grid_layout(answer.output, image, net)
                if layout is not None:
                    yield place, layout

    # from the end: channels first or a norm before attention, but an output after them if its grid is another
    best = None
    for place, layout in with_grid():
        first = layout != "NCHW" and _is_before_attention(answers, place)
        if layout == "NCHW" or first:
            if best is None or (first and _grid(answers, place, layout, image) == _grid(answers, *best, image)):
                best = place, layout
            break
        if best is None:
            best = place, layout
    if best is not None:
        yield answers[best[0]], best[1]
    # whatever has a grid, if no gradient reaches the best
    for place, layout in with_grid():
        if best is None or place < best[0]:
            yield answers[place], layout


def _grid(answers: list[Answer], place: int, layout: Layout, image: tuple[int, int]) -> torch.Size:
    return to_map(answers[place].output, layout, image).shape[-2:]


def _grid_layout(output: Any, image: tuple[int, int], net: nn.Module) -> Layout | None:
    """The layout of an output that is a grid over the image; None for anything else."""
    if not isinstance(output, Tensor) or output.ndim not in (3, 4) or len(output) != 1:
        return None
    try:
        layout = find_layout(output, image, net)
    except ValueError:
        return None
    if isinstance(layout, int) and (layout > MOST_PREFIX or output.shape[2] == 1):  # (B,C,1) is pooled
        return None
    grid = to_map(output, layout, image).shape[-2:]
    if not all(1 < count < side for count, side in zip(grid, image, strict=True)):
        return None
    # the same stride along both sides, but for a border that is lost or padded
    strides = range(1, max(image) + 1)
    same = (all(abs(n - side / stride) <= SLACK for n, side in zip(grid, image, strict=True)) for stride in strides)
    return layout if any(same) else None


def _is_before_attention(answers: list[Answer], place: int) -> bool:
    """Whether this is the first norm of a block. A norm after all attention of its block is not."""
    parent, _, own = answers[place].name.rpartition(".")
    siblings = [i for i, a in enumerate(answers) if a.name.rpartition(".")[0] == parent and is_attention(*a[:2])]
    return own in FIRST_NORMS and (not siblings or max(siblings) > place)


def is_attention(name: str, module: nn.Module) -> bool:
    """Whether a module, by its ``name`` in the network and its class, is the attention of a block."""
    kind = type(module).__name__
    known = ATTENTION_CLASS.search(kind) and not CONTAINER_CLASS.search(kind)
    return bool(known or ATTENTION.search(name.rpartition(".")[2]))


def _ends_in_pool(module: nn.Module) -> bool:
    children = list(module.children()) if isinstance(module, nn.Sequential) else []
    return isinstance(module, POOLS) or (bool(children) and _ends_in_pool(children[-1]))


def _is_reached(logits: Any, pixels: Tensor, answer: Answer, layout: Layout, image: tuple[int, int]) -> bool:
    """Whether a gradient of the logits reaches the layer's grid; true if none reaches the pixels."""
    if not isinstance(logits, Tensor) or not logits.requires_grad:
        return True
    score = (logits.flatten() * torch.linspace(1, 2, logits.numel()).to(logits)).sum()  # a softmax does not cancel it

    def gradient(of: Tensor) -> Tensor | None:
        return torch.autograd.grad(score, of, retain_graph=True, allow_unused=True)[0] if of.requires_grad else None

    found = gradient(answer.output)
    if found is not None and to_map(found, layout, image).any():
        return True
    whole = gradient(pixels)
    return found is not None and (whole is None or not whole.any())


def _refusal(net: nn.Module, answers: list[Answer], passed_over: list[str]) -> str:
    """Why no layer was found, and what to do."""
    kind = type(net).__name__
    if next(net.children(), None) is not None and all(answer.module is net for answer in answers):
        return f"the layers of {kind} can't be observed: give the network as it was before torch.jit"
    outputs = [(a.name, a.output) for a in reversed(answers) if isinstance(a.output, Tensor)]
    some = list(dict.fromkeys(name for name, output in outputs if output.ndim in (3, 4)))[:5]
    choice = f", such as {', '.join(some)}" if some else ""
    if passed_over:
        named = ", ".join(passed_over[:3]) + (" and others" if len(passed_over) > 3 else "")
        return f"no gradient of {kind} reaches {named}: their maps would be empty; pass the layer{choice}"
    return f"no feature map found in {kind}: pass the layer for Grad-CAM{choice}"
