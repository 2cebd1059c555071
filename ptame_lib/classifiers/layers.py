"""Where a network has its feature maps: layouts of layers, and the layer that CAM methods look at."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import torch
from torch import Tensor, nn

POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


def find_layout(level: Tensor, image: tuple[int, int], model: nn.Module, timm_features: bool = False) -> str | int:
    """The layout of a level: ``"NCHW"``, ``"NHWC"``, or the number of prefix tokens of (B,P+N,C).

    timm's feature models tell it. For others, the two sides closer to the aspect of the ``image`` are the spatial ones.
    Raises ValueError for anything else.
    """
    shape = tuple(level.shape) if isinstance(level, Tensor) else ()
    if len(shape) == 4 and timm_features:
        return "NHWC" if getattr(model, "output_fmt", "NCHW") == "NHWC" else "NCHW"
    if len(shape) == 4:
        return "NHWC" if _skew(shape[1:3], image) < _skew(shape[2:4], image) else "NCHW"
    if len(shape) == 3:
        # numbers of prefix tokens, the likelier first, and whether the rest must be a grid of whole patches
        guesses = [(n, True) for n in range(9)] + [(n, False) for n in range(shape[1] // 2)]
        if hasattr(model, "num_prefix_tokens"):
            guesses.insert(0, (model.num_prefix_tokens, False))
        for prefix, whole in guesses:
            if shape[1] - prefix > 1 and _is_patch_grid(token_grid(shape[1] - prefix, image), image, whole):
                return prefix
    gives = f"shape {shape}" if shape else f"a {type(level).__name__}"
    raise ValueError(f"gives {gives}: a feature map is (B,C,H,W), (B,H,W,C), or tokens (B,P+N,C) of a grid")


def to_map(level: Tensor, layout: str | int, image: tuple[int, int]) -> Tensor:
    """A level of ``layout`` as a map (B,C,h,w)."""
    if layout == "NCHW":
        return level
    if layout == "NHWC":
        return level.permute(0, 3, 1, 2)
    tokens = level[:, layout:]  # (B,N,C)
    return tokens.transpose(1, 2).unflatten(2, token_grid(tokens.shape[1], image))


def token_grid(n: int, image: tuple[int, int]) -> tuple[int, int]:
    """(h,w) with h * w = n, closest to the aspect of the image.

    >>> token_grid(196, (224, 224)), token_grid(98, (224, 112))
    ((14, 14), (14, 7))
    """
    return min(((h, n // h) for h in range(1, n + 1) if n % h == 0), key=lambda grid: _skew(grid, image))


def target_layer(classifier: nn.Module, pixels: Tensor) -> tuple[nn.Module, int | None]:
    """The layer CAM methods look at, and its number of prefix tokens (None for a convolutional layer).

    Of a convolutional network, the last module before any pooling that gives a feature map (B,C,h,w) of more than one
    position. Of a transformer, the first norm of the last block, as the grad-cam package advises: after it, no gradient
    reaches any token but the class token. Raises ValueError if neither exists.
    """
    # run the network once, and note the modules in the order in which they answer
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

    # choose among feature maps and norms of tokens
    image, net = tuple(pixels.shape[-2:]), getattr(classifier, "model", classifier)
    maps = [m for m in order if _is_map(shapes[m], image) and order.count(m) == 1 and not _ends_in_pool(m)]
    norms = [m for m in order if isinstance(m, nn.LayerNorm) and len(shapes[m]) == 3]
    norms = [m for m in norms if names[m].endswith(("norm1", "ln_1"))]
    if norms and (not maps or order.index(norms[-1]) > order.index(maps[-1])):
        tokens = torch.empty(shapes[norms[-1]], device="meta")
        return norms[-1], find_layout(tokens, image, net)
    if not maps:
        raise ValueError(f"no feature map found in {type(net).__name__}: pass the layer for Grad-CAM")
    return maps[-1], None


def layer_features(classifier: nn.Module, pixels: Tensor, layer: nn.Module | None = None) -> Tensor:
    """The output of ``layer`` (default: `target_layer`) for pixels (B,3,H,W), as detached maps (B,C,h,w) float32."""
    found, prefix = (layer, None) if layer is not None else target_layer(classifier, pixels[:1])
    kept: list[Tensor] = []
    # a copy: an operation in place may follow
    hook = found.register_forward_hook(lambda _, __, output: kept.append(output.detach().to(torch.float32, copy=True)))
    try:
        with torch.no_grad():
            classifier(pixels)
    finally:
        hook.remove()
    return kept[-1] if prefix is None else to_map(kept[-1], prefix, tuple(pixels.shape[-2:]))


def _skew(grid: Sequence[int], image: tuple[int, int]) -> float:
    return abs(log(grid[0] * image[1] / (grid[1] * image[0])))


def _is_patch_grid(grid: tuple[int, int], image: tuple[int, int], whole: bool) -> bool:
    """Whether square patches make this grid: ``whole`` ones, or with a rest that is left out or padded."""

    def fits(count: int, side: int, patch: int) -> bool:
        return count * patch == side or (not whole and count in (side // patch, -(-side // patch)))

    sides = list(zip(grid, image, strict=True))
    return any(all(fits(*side, patch) for side in sides) for patch in range(1, max(image) + 1))


def _is_map(shape: tuple[int, ...], image: tuple[int, int]) -> bool:
    return len(shape) == 4 and 1 < shape[2] < image[0] and 1 < shape[3] < image[1]


def _ends_in_pool(module: nn.Module) -> bool:
    children = list(module.children()) if isinstance(module, nn.Sequential) else []
    return isinstance(module, POOLS) or (bool(children) and _ends_in_pool(children[-1]))
