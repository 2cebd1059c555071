"""What public functions ask of their inputs: each check names the offending value and says what to do.

Shapes and types are free to check. What has to look at values takes one pass, and belongs to calls that then ask a network.
"""

from __future__ import annotations

from numbers import Integral

import torch
from torch import Tensor, nn

LOWEST, HIGHEST = (
    -0.8,
    2.0,
)  # of pixels: room for noise and overshoot, not for 0..255, nor for black or white after a normalisation


def check_image_shape(pixels: Tensor, channels: int = 3) -> None:
    """Raises TypeError for no tensor, ValueError unless ``pixels`` are (B,3,H,W) of floating point. Looks at no value."""
    if not isinstance(pixels, Tensor):
        raise TypeError(
            f"pixels must be a tensor (B,{channels},H,W), got a {type(pixels).__name__}: see torch.as_tensor"
        )
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
        raise ValueError(
            f"pixels must be floating point in [0,1], got {pixels.dtype}: divide by 255, pixels.float() / 255"
        )


def check_images(pixels: Tensor) -> None:
    """`image_shape`, and ValueError for pixels that are not finite or can't be meant as [0,1] (below -0.8 or above 2)."""
    check_image_shape(pixels)
    if not pixels.numel() or torch.compiler.is_exporting():
        return
    low, high = (float(value) for value in pixels.detach().aminmax())
    if not (low > -torch.inf and high < torch.inf):  # NaN, too
        bad = int((~pixels.isfinite()).flatten(1).any(1).nonzero()[0])
        raise ValueError(
            f"the pixels of image {bad} of the batch are not finite ({low}..{high}): check how it was read"
        )
    if low < LOWEST or high > HIGHEST:
        remedy = "divide by 255" if high > 16 else "give them without the normalisation, which is inside the classifier"
        raise ValueError(f"pixels must be in [0,1], got {low:.3g}..{high:.3g}: {remedy}")


def check_classes(wanted: Tensor, count: int | None) -> None:
    """Raises ValueError unless ``wanted`` are int64 classes in 0..count-1; ``count`` None: not negative."""
    if not isinstance(wanted, Tensor) or wanted.dtype != torch.int64:
        kind = wanted.dtype if isinstance(wanted, Tensor) else type(wanted).__name__
        raise ValueError(f"classes must be a tensor of torch.int64, got {kind}: see torch.as_tensor and .long()")
    if not wanted.numel() or torch.compiler.is_exporting():  # an exported graph has no way to look at values
        return
    low, high = (int(value) for value in wanted.aminmax())
    if low < 0 or (count is not None and high >= count):
        allowed = "at least 0" if count is None else f"in 0..{count - 1}"
        raise ValueError(
            f"classes must be {allowed}, got {low}..{high}: take the classifier's own, decide(classifier, pixels), or one that it has"
        )


def check_targets(targets: Tensor, n: int, count: int | None = None) -> None:
    """Raises ValueError unless there is one class (int64, in 0..count-1) for each of ``n`` images."""
    if not isinstance(targets, Tensor) or targets.shape != (n,):
        shape = tuple(targets.shape) if isinstance(targets, Tensor) else type(targets).__name__
        raise ValueError(f"one target per image: got {shape} targets for {n} images, give a tensor ({n},) of classes")
    check_classes(targets, count)


def check_request(classifier: nn.Module, pixels: Tensor, wanted: Tensor, *, per_image: bool = True) -> None:
    """What every explanation is asked for: `images`, and a class that the classifier has for each of them, or any number of classes for all.

    The upper end is checked where the classifier tells its ``num_classes``; any other raises its own IndexError.
    """
    check_images(pixels)
    count = getattr(classifier, "num_classes", None)
    count = count if isinstance(count, Integral) and count else None
    check_targets(wanted, len(pixels), count) if per_image else check_classes(wanted, count)


def check_answer_shape(logits: Tensor, of: str = "the classifier") -> Tensor:
    """The ``logits``; ValueError unless they are (B,K). Looks at no value."""
    if not isinstance(logits, Tensor) or logits.ndim != 2 or not logits.shape[1]:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise ValueError(f"{of} gave {shape}: logits must be (images, classes), wrap it so that it gives them")
    return logits


def check_answers(logits: Tensor, of: str = "the classifier") -> Tensor:
    """The largest logit's class (B,) int64 of logits (B,K).

    Raises ValueError for another shape, and FloatingPointError for an image without a finite largest logit (-inf for some
    classes is fine).
    """
    largest, decided = check_answer_shape(logits, of).max(1)
    check_finite(largest, of)
    return decided


def check_finite(values: Tensor, of: str = "the classifier") -> Tensor:
    """The ``values`` (B,...) of an answer; FloatingPointError names the first image where one is NaN or infinite."""
    good = values.isfinite()
    if not good.all():
        bad = int((~good).flatten(1).any(1).nonzero()[0]) if values.ndim > 1 else int((~good).nonzero()[0])
        value = float(values[bad][~good[bad]].flatten()[0])
        raise FloatingPointError(
            f"{of} gave {value} for image {bad} of the batch: check its weights, its precision (bf16 or fp16) and that image"
        )
    return values


def check_maps(found: Tensor, n: int, of: str = "the method that made them") -> None:
    """Raises ValueError unless ``found`` are (n,h,w) finite floating-point numbers."""
    shape = tuple(found.shape) if isinstance(found, Tensor) else f"a {type(found).__name__}"
    if not isinstance(found, Tensor) or found.ndim != 3 or len(found) != n:
        raise ValueError(f"maps must be (B,h,w), one for each of {n} images, got {shape}: check {of}")
    if not found.numel():
        raise ValueError(f"maps must have pixels, got shape {shape}: check {of}")
    if not found.is_floating_point():
        raise ValueError(f"maps must be floating point, got {found.dtype}: convert them, maps.float()")
    if not found.isfinite().all():
        bad = int((~found.isfinite()).flatten(1).any(1).nonzero()[0])
        raise ValueError(f"map {bad} has values that are not finite: check {of}")


def check_unit(masks: Tensor) -> None:
    """Raises ValueError for masks outside [0,1], but for rounding: such are taken as they are, and not normalised."""
    if masks.numel() and not (masks.min() >= -1e-4 and masks.max() <= 1 + 1e-4):
        raise ValueError(
            f"masks must be in [0,1], got {masks.min():.3g}..{masks.max():.3g}: apply a sigmoid, or masking.normalise"
        )


def check_truths(truth: Tensor, found: Tensor) -> None:
    """Raises ValueError unless ``truth`` is (B,H,W) bool, one mask for each map of ``found`` (B,h,w)."""
    if not isinstance(truth, Tensor) or truth.ndim != 3 or len(truth) != len(found):
        shape = tuple(truth.shape) if isinstance(truth, Tensor) else f"a {type(truth).__name__}"
        raise ValueError(f"the truth must be (B,H,W), one mask for each of {len(found)} maps, got {shape}")
    if truth.dtype != torch.bool:
        raise ValueError(f"the truth must be bool, got {truth.dtype}: say what belongs to it, such as truth > 0.5")


def check_at_least(least: int, **counts: int) -> None:
    """Raises ValueError for a count that is no whole number of at least ``least``: ``at_least(1, steps=steps)``."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}: raise it")
