"""Checks of what public functions are given: each names the offending value and a remedy.

Checks of shapes and types cost nothing. Those of values take one pass: they belong to calls that then run a network.
"""

from __future__ import annotations

from math import inf
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn

# of pixels: room for noise and overshoot, but not for 0..255, nor for black or white after a normalisation
LOWEST, HIGHEST = -0.8, 2.0


def check_image_shape(pixels: Tensor, channels: int = 3) -> None:
    """Raise TypeError for anything but a tensor, ValueError unless it is (B,3,H,W) of floating point."""
    if not isinstance(pixels, Tensor):
        kind = type(pixels).__name__
        raise TypeError(f"pixels must be a tensor (B,{channels},H,W), got a {kind}: see torch.as_tensor")
    shape = tuple(pixels.shape)
    if len(shape) != 4 or shape[1] != channels:
        remedy = f"give images of {channels} channels, channels first"
        if len(shape) == 3 and shape[0] == channels:
            remedy = "add the batch dimension, pixels[None]"
        elif len(shape) == 4 and shape[1] == 1:
            remedy = f"repeat the grey channel, pixels.expand(-1, {channels}, -1, -1)"
        elif len(shape) == 4 and shape[3] == channels:
            remedy = "put the channels first, pixels.permute(0, 3, 1, 2)"
        raise ValueError(f"pixels must be (B,{channels},H,W), got shape {shape}: {remedy}")
    if not pixels.is_floating_point():
        raise ValueError(f"pixels must be floating point, got {pixels.dtype}: divide by 255, pixels.float() / 255")


def check_images(pixels: Tensor) -> None:
    """Check the shape, and raise ValueError for pixels that are not finite or clearly not in [0,1]."""
    check_image_shape(pixels)
    if not pixels.numel() or torch.compiler.is_exporting():
        return
    low, high = (float(value) for value in pixels.detach().aminmax())
    if not (low > -torch.inf and high < torch.inf):  # NaN, too
        bad = first_bad(pixels.isfinite())
        raise ValueError(f"the pixels of image {bad} of the batch are not finite ({low}..{high}): check that image")
    if low < LOWEST or high > HIGHEST:
        remedy = "divide by 255" if high > 16 else "give them without the normalisation, which is inside the classifier"
        raise ValueError(f"pixels must be in [0,1], got {low:.3g}..{high:.3g}: {remedy}")


def check_classes(wanted: Tensor, count: int | None) -> None:
    """Raise ValueError unless ``wanted`` are int64 classes in 0..count-1; ``count`` None: not negative."""
    if not isinstance(wanted, Tensor) or wanted.dtype != torch.int64:
        kind = wanted.dtype if isinstance(wanted, Tensor) else type(wanted).__name__
        raise ValueError(f"classes must be a tensor of torch.int64, got {kind}: see torch.as_tensor and .long()")
    if not wanted.numel() or torch.compiler.is_exporting():  # an exported graph can't look at values
        return
    low, high = (int(value) for value in wanted.aminmax())
    if low < 0 or (count is not None and high >= count):
        allowed = "at least 0" if count is None else f"in 0..{count - 1}"
        remedy = "take the classifier's own, decide(classifier, pixels), or another in this range"
        raise ValueError(f"classes must be {allowed}, got {low}..{high}: {remedy}")


def check_targets(targets: Tensor, n: int, count: int | None = None) -> None:
    """Raise ValueError unless there is one class (int64, in 0..count-1) for each of ``n`` images."""
    if not isinstance(targets, Tensor) or targets.shape != (n,):
        shape = tuple(targets.shape) if isinstance(targets, Tensor) else type(targets).__name__
        raise ValueError(f"one target per image: got {shape} targets for {n} images, give a tensor ({n},) of classes")
    check_classes(targets, count)


def check_request(classifier: nn.Module, pixels: Tensor, wanted: Tensor, *, per_image: bool = True) -> None:
    """Check the images and the classes to explain: one ``per_image``, or any number for all images.

    The largest class is checked only if the classifier has ``num_classes``; others raise IndexError themselves.
    """
    check_images(pixels)
    count = getattr(classifier, "num_classes", None)
    count = count if isinstance(count, Integral) and count else None
    check_targets(wanted, len(pixels), count) if per_image else check_classes(wanted, count)


def check_answer_shape(logits: Tensor, of: str = "the classifier") -> Tensor:
    """Return the ``logits``; raise ValueError unless they are (B,K)."""
    if not isinstance(logits, Tensor) or logits.ndim != 2 or not logits.shape[1]:
        raise ValueError(f"{of} gave {_shape(logits)}: logits must be (images, classes), wrap it so that they are")
    return logits


def check_answers(logits: Tensor, of: str = "the classifier") -> Tensor:
    """Return the class (B,) int64 of the largest of the logits (B,K).

    Raises ValueError for another shape, FloatingPointError if the largest is not finite (-inf for others is fine).
    """
    largest, decided = check_answer_shape(logits, of).max(1)
    check_finite(largest, of)
    return decided


def check_finite(values: Tensor, of: str = "the classifier") -> Tensor:
    """Return the ``values`` (B,...); raise FloatingPointError, with the image, if one is not finite."""
    good = values.isfinite()
    if not good.all():
        bad = first_bad(good)
        value, remedy = float(values[bad][~good[bad]].flatten()[0]), "check its weights, its precision and that image"
        raise FloatingPointError(f"{of} gave {value} for image {bad} of the batch: {remedy}")
    return values


def check_maps(found: Tensor, n: int, of: str = "the method that made them") -> None:
    """Raise ValueError unless ``found`` are (n,h,w) finite floating-point numbers."""
    if not isinstance(found, Tensor) or found.ndim != 3 or len(found) != n or not found.numel():
        raise ValueError(f"maps must be (B,h,w), one for each of {n} images, got {_shape(found)}: check {of}")
    if not found.is_floating_point():
        raise ValueError(f"maps must be floating point, got {found.dtype}: convert them, maps.float()")
    if not (finite := found.float().isfinite()).all():  # also of double numbers too large for what measures maps
        raise ValueError(f"map {first_bad(finite)} has values that are not finite: check {of}")


def check_unit(masks: Tensor) -> None:
    """Raise ValueError for masks outside [0,1], except for rounding."""
    if masks.numel() and not (masks.min() >= -1e-4 and masks.max() <= 1 + 1e-4):
        values = f"{masks.min():.3g}..{masks.max():.3g}"
        raise ValueError(f"masks must be in [0,1], got {values}: apply a sigmoid, or masking.normalise")


def check_truths(truth: Tensor, found: Tensor) -> None:
    """Raise ValueError unless ``truth`` is (B,H,W) bool, one mask for each map of ``found`` (B,h,w)."""
    if not isinstance(truth, Tensor) or truth.ndim != 3 or len(truth) != len(found):
        raise ValueError(f"the truth must be (B,H,W), one mask for each of {len(found)} maps, got {_shape(truth)}")
    if truth.dtype != torch.bool:
        raise ValueError(f"the truth must be bool, got {truth.dtype}: say what belongs to it, such as truth > 0.5")


def check_at_least(least: int, **counts: int) -> None:
    """Raise ValueError unless all counts are whole numbers of at least ``least``."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}: raise it")


def check_amounts(**amounts: float) -> None:
    """Raise ValueError unless all amounts are finite numbers that are not negative."""
    for name, value in amounts.items():
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < inf:
            raise ValueError(f"{name} can't be {value!r}: give a finite number that is not negative")


def check_weights(values: dict[str, float], powers: str = "") -> None:
    """Raise ValueError for a weight that is no number, negative or not finite, or a power of 0 or less."""
    for name, value in values.items():
        power = name in powers.split()
        number = isinstance(value, Real) and not isinstance(value, bool)
        if not number or not (0 < value < inf or (value == 0 and not power)):
            other = "" if power else ", or 0 to leave the term out"
            raise ValueError(f"the loss's {name} can't be {value!r}: give a number above 0{other}")


def first_bad(good: Tensor) -> int:
    """The first image for which not all of ``good`` (B,...) is true."""
    return int((~good).reshape(len(good), -1).any(1).nonzero()[0])


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f"a {type(value).__name__}"
