"""The wrapper of the classifiers to explain: *pixels in [0,1] -> logits*."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from ..validation import check_answer_shape, check_answers, check_images
from .frozen import Frozen, Size, at_rest

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Classifier(Frozen):
    """A frozen classifier: pixels (B,3,H,W) in [0,1] -> logits (B,K).

    Its normalisation is inside, so that masking is always done in pixel space. ``labels`` are the names of its classes.
    ``num_classes`` is K, or None before the first answer if neither it nor labels are given. With ``multi_label`` each
    label is decided on its own, by the sigmoid of its logit; otherwise the softmax over all logits gives one decision.
    A single logit, unless ``multi_label``, is read as two classes (`two_sided`).
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
        if not multi_label:
            labels, num_classes = two_named(labels), 2 if num_classes == 1 else num_classes
        self.labels = None if labels is None else tuple(labels)
        self.num_classes = num_classes if labels is None else len(self.labels)
        self.multi_label = multi_label

    def forward(self, pixels: Tensor) -> Tensor:
        logits = self.logits(pixels)
        self.num_classes = logits.shape[-1]
        return logits

    def logits(self, pixels: Tensor) -> Tensor:
        """The network's logits, one per class, at least float32; ValueError unless they are (B,K)."""
        logits = check_answer_shape(self.run(pixels), type(self.model).__name__)
        if logits.shape[1] == 1 and not self.multi_label:
            logits = two_sided(logits)
        return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def two_sided(logit: Tensor) -> Tensor:
    """A single logit (B,1) as those of two classes (B,2): its complement's and its own.

    Their softmax is 1 - sigmoid and sigmoid of the logit. Each has half of it, so that each class has a gradient.
    """
    return torch.cat([-logit / 2, logit / 2], 1)


def two_named(labels: Sequence[str] | None) -> tuple[str, ...] | None:
    """The labels, with a name for the complement of a single one."""
    return None if labels is None else tuple(labels) if len(labels) != 1 else (f"not {labels[0]}", labels[0])


def answers(classifier: nn.Module, pixels: Tensor) -> Tensor:
    """The classifier's logits (B,K), at rest: a bare network's batch norms don't move, and no unit drops out."""
    with at_rest(classifier) if isinstance(classifier, nn.Module) else nullcontext():
        return classifier(pixels)


def decide(classifier: nn.Module, pixels: Tensor) -> Tensor:
    """The classifier's own decisions (B,) int64: what the study explains.

    Raises ValueError for pixels that are not (B,3,H,W) in [0,1] or logits that are not (B,K), and FloatingPointError
    for an answer that is NaN or infinite.
    """
    check_images(pixels)
    with torch.no_grad():
        return check_answers(answers(classifier, pixels))


def decide_all(classifier: nn.Module, images: Tensor, batch_size: int = 20) -> Tensor:
    """The decisions (N,) int64 for many images (N,3,H,W), in [0,1] or uint8, asked in batches; raises as `decide`."""
    whole = 255 if images.dtype == torch.uint8 else 1
    return torch.cat([decide(classifier, batch.float() / whole) for batch in images.split(batch_size)])


def likeliest(classifier: nn.Module, pixels: Tensor) -> Tensor:
    """`decide` without any check, for a loop that checks its loss."""
    with torch.no_grad():
        return answers(classifier, pixels).argmax(1)


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
