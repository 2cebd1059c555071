"""What a classifier says about whole images, asked for once in a training."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor, nn

from ..validation import check_images

LARGEST = 2**30  # bytes of answers that are kept in full


class WholeImages:
    """What ``ask`` finds about whole images, asked for once about each image that never changes (not -1).

    Answers stay in memory. Where they would take more than `LARGEST`, as the probabilities of ImageNet's training
    images do (5 GB), they are rounded to half precision, from the first time on: a resumed training sees the same.
    A classifier that counts its queries is asked every time, so that a resumed training counts as an uninterrupted one.
    """

    def __init__(self, ask: Callable[[nn.Module, Tensor], Tensor], classifier: nn.Module, count: int):
        self.ask, self.classifier = ask, classifier
        self.known, self.answers = torch.zeros(count, dtype=torch.bool), torch.empty(0)
        self.counts, self.checked = hasattr(classifier, "learned_state"), False

    def __call__(self, pixels: Tensor, images: Tensor) -> Tensor:
        # check the first batch; if it is not finite, the loss says so, and names the image
        if not self.checked and pixels.isfinite().all():
            check_images(pixels)
        self.checked = True

        # ask about images that are new or change
        images = images.cpu()
        if self.counts or (images < 0).any() or not self.known[images].all():
            found = self.ask(self.classifier, pixels)
            if self.counts:
                return found
            if not len(self.answers):
                size = len(self.known) * prod(found.shape[1:]) * found.element_size()
                kept = torch.float16 if found.is_floating_point() and size > LARGEST else found.dtype
                self.dtype, self.answers = found.dtype, torch.empty(len(self.known), *found.shape[1:], dtype=kept)
            fixed, found = images >= 0, found.to(self.answers.dtype)
            self.answers[images[fixed]], self.known[images[fixed]] = found.cpu()[fixed], True
            return found.to(self.dtype)
        return self.answers[images].to(pixels.device, self.dtype)


def probabilities(classifier: nn.Module, pixels: Tensor) -> Tensor:
    """The classifier's probabilities (B,K), without any check or gradient."""
    with torch.no_grad():
        return classifier(pixels).float().softmax(1)
