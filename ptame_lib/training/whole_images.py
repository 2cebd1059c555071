"""What a classifier says about whole images, asked for once in a training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..validation import check_images


class WholeImages:
    """What ``ask`` finds about whole images, asked for once about each image that never changes (not -1).

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
            if not len(self.answers):
                self.answers = torch.empty(len(self.known), *found.shape[1:], dtype=found.dtype)
            fixed = images >= 0
            self.answers[images[fixed]], self.known[images[fixed]] = found.cpu()[fixed], True
            return found
        return self.answers[images].to(pixels.device)
