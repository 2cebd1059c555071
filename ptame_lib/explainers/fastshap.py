"""FastSHAP: a network that is trained to give Shapley values in one pass; here with P-TAME's network and images.

Jethani, Sudarshan, Covert, Lee, Ranganath, "FastSHAP: Real-Time Shapley Value Estimation", ICLR 2022; for images in
patches Covert, Kim, Lee, "Learning to Estimate Shapley Values with Vision Transformers" (ViT-Shapley), ICLR 2023.

    explainer = FastSHAP(load_auxiliary("resnet18"), num_classes=1000)
    train_ptame(explainer, classifier, images, shapley_config(TrainingConfig()))

It is in this study to tell what P-TAME owes to its loss, and what to being a trained network on an auxiliary's
features. So auxiliary, attention and fuser are P-TAME's, and so are images, steps and passes through the classifier:

- P-TAME's step asks the classifier about one masked image per image, forward and backward, and once in the training
  about the whole image, for the decision;
- this one's step asks about two masked images per image, forward (a coalition of patches and the rest), once in the
  training about the whole image, for the decision and v(all), and about one black image, for v(none).

A classifier that only answers will do: `train_black_box` trains for it within a stated number of queries.

Against the sources, no surrogate is trained: the classifier itself is what is explained, and black is how the study
masks. Maps are shown as P-TAME's: min-max normalised, which keeps the order of the values, negative ones last.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..classifiers.wrapper import answers, eval_mode
from ..losses.shapley import efficient
from ..validation import check_at_least, check_images, check_targets
from . import storage
from .features import FeatureExtractor
from .ptame import PTAME


class FastSHAP(PTAME):
    """P-TAME's network with a signed value for each of ``grid`` x ``grid`` patches; saved and trained like it.

    A patch's value is the integral of the fused map over it, in images: the mean over the patch divided by the number
    of patches. Raises ValueError for fewer than two patches per side.
    """

    method = "FastSHAP"

    def __init__(
        self,
        auxiliary: FeatureExtractor,
        num_classes: int,
        fuser_bias: bool = False,
        one_step: bool = False,
        grid: int = 8,
    ):
        super().__init__(auxiliary, num_classes, fuser_bias, one_step)
        check_at_least(2, grid=grid)
        self.grid = grid

    def maps(self, pixels: Tensor, classes: Tensor | None = None) -> Tensor:
        """Values (B,n,grid,grid) of n classes' patches, before the efficient normalisation; as `PTAME.maps`."""
        return self._of_patches(super().maps(pixels, classes))

    def own_maps(self, pixels: Tensor, targets: Tensor) -> Tensor:
        """Values (B,grid,grid) of each image's own target; as `PTAME.own_maps`."""
        return self._of_patches(super().own_maps(pixels, targets))

    def _of_patches(self, fused: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(fused, self.grid) / self.grid**2

    def values(self, classifier: nn.Module, pixels: Tensor, targets: Tensor) -> Tensor:
        """Estimated Shapley values (B,grid,grid) of the target's probability, which add up to it less that of black.

        The classifier is asked about the images and about a black one. In eval mode, without gradient. Raises
        ValueError for pixels that are not (B,3,H,W) in [0,1], targets of another number, type or range, and a
        classifier with another number of classes.
        """
        check_images(pixels)
        check_targets(targets, pixels.shape[0], self.num_classes)
        with eval_mode(self), torch.no_grad():
            raw = self.own_maps(pixels, targets)
            asked = answers(classifier, torch.cat([pixels, torch.zeros_like(pixels[:1])])).float().softmax(1)
        if asked.shape[1] != self.num_classes:
            raise ValueError(
                f"the classifier has {asked.shape[1]} classes, the explainer {self.num_classes}: "
                "give the classifier that it was trained for"
            )
        full, empty = asked[:-1].gather(1, targets[:, None])[:, 0], asked[-1, targets]
        return efficient(raw.flatten(1).float(), full - empty).view_as(raw)

    def config(self) -> dict[str, str]:
        """As `PTAME.config`, with the method and its grid."""
        return super().config() | {"method": self.method, "grid": str(self.grid)}

    @classmethod
    def from_config(cls, config: dict[str, str], auxiliary: FeatureExtractor) -> FastSHAP:
        """As `PTAME.from_config`."""
        return super().from_config(config, auxiliary, grid=storage.entry(config, "grid", int, "a whole number"))
