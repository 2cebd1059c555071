"""The layouts of layers: channels first, channels last, or tokens with others before them."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from torch import Tensor, nn


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


def _skew(grid: Sequence[int], image: tuple[int, int]) -> float:
    return abs(log(grid[0] * image[1] / (grid[1] * image[0])))


def _is_patch_grid(grid: tuple[int, int], image: tuple[int, int], whole: bool) -> bool:
    """Whether square patches make this grid: ``whole`` ones, or with a rest that is left out or padded."""

    def fits(count: int, side: int, patch: int) -> bool:
        return count * patch == side or (not whole and count in (side // patch, -(-side // patch)))

    sides = list(zip(grid, image, strict=True))
    return any(all(fits(*side, patch) for side in sides) for patch in range(1, max(image) + 1))
