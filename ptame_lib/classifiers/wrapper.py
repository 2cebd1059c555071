"""The wrapper of the classifiers to explain: *pixels in [0,1] -> logits*."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral

import torch
from torch import Tensor, nn

from ..validation import check_answer_shape, check_answers, check_image_shape, check_images

Size = int | tuple[int, int]  # a side, or (height, width)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Frozen(nn.Module):
    """A network that stays in eval mode and never learns, behind the normalisation it expects.

    `Classifier` and `FeatureExtractor` share it. Gradients still flow to the pixels. ``input_size`` is the side, or
    (height, width), of the images it was made for.
    """

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float], input_size: Size):
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        # channels last is faster on CPU and GPU; model.to(memory_format=...) refuses networks with a Conv3d
        for parameter in model.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.input_size = height_and_width(input_size)

    def train(self, mode: bool = True) -> Frozen:
        """Stay in eval mode, whatever a parent asks for."""
        return super().train(False)

    def run(self, pixels: Tensor):
        """The model's own answer to pixels (B,3,H,W) in [0,1]; ValueError for another shape or whole numbers."""
        check_image_shape(pixels, self.mean.shape[1])
        return self.model(((pixels - self.mean) / self.std).contiguous(memory_format=torch.channels_last))


class Classifier(Frozen):
    """A frozen classifier: pixels (B,3,H,W) in [0,1] -> logits (B,K).

    Its normalisation is inside, so that masking is always done in pixel space. ``labels`` are the names of its classes.
    ``num_classes`` is K, or None before the first answer if neither it nor labels are given. With ``multi_label`` each
    label is decided on its own, by the sigmoid of its logit; otherwise the softmax over all logits gives one decision.
    ``differentiable``: it has gradients with respect to the pixels, unlike a `BlackBox`.
    """

    differentiable = True

    def __init__(
        self,
        model: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        input_size: Size,
        labels: Sequence[str] | None = None,
        num_classes: int | None = None,
        multi_label: bool = False,
    ):
        super().__init__(model, mean, std, input_size)
        self.labels = None if labels is None else tuple(labels)
        self.num_classes = num_classes if labels is None else len(self.labels)
        self.multi_label = multi_label

    def forward(self, pixels: Tensor) -> Tensor:
        logits = check_answer_shape(self.run(pixels), type(self.model).__name__)
        self.num_classes = logits.shape[-1]
        return logits


def decide(classifier: nn.Module, pixels: Tensor) -> Tensor:
    """The classifier's own decisions (B,) int64: what the study explains.

    Raises ValueError for pixels that are not (B,3,H,W) in [0,1] or logits that are not (B,K), and FloatingPointError
    for an answer that is NaN or infinite.
    """
    check_images(pixels)
    with torch.no_grad():
        return check_answers(classifier(pixels))


def likeliest(classifier: nn.Module, pixels: Tensor) -> Tensor:
    """`decide` without any check, for a loop that checks its loss."""
    with torch.no_grad():
        return classifier(pixels).argmax(1)


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Put a module in eval mode while the block runs, then give every sub-module its own mode again."""
    training = {part for part in module.modules() if part.training}  # none, as a rule: then nothing is switched
    if training:
        module.eval()
    try:
        yield
    finally:
        for part in module.modules():
            if part.training != (part in training):
                part.training = part in training


def device_of(classifier: nn.Module) -> torch.device:
    """The device of the classifier's tensors; the CPU if it has none."""
    return next((tensor.device for tensor in [*classifier.parameters(), *classifier.buffers()]), torch.device("cpu"))


def height_and_width(input_size: Size) -> tuple[int, int]:
    """A side, or (height, width), as (height, width). Raises ValueError for anything else."""
    sides = (input_size, input_size) if isinstance(input_size, Integral) else tuple(input_size)
    if len(sides) != 2 or not all(isinstance(side, Integral) and side > 0 for side in sides):
        raise ValueError(f"input_size must be a side or (height, width), whole numbers above 0, got {input_size!r}")
    return sides
