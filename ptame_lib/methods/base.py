"""What a method is: one call signature, its cost and its source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from torch import Tensor

from ..explainers.names import ASKING, BESIDE
from ..validation import check_at_least

Explain = Callable[[Tensor, Tensor], Tensor]

EDGES, GAUSSIAN, RANDOM, TRUTH = "edges", "centred Gaussian", "random", "ground truth"
CONTROLS = (*BESIDE, EDGES, GAUSSIAN, RANDOM)

__all__ = ["ASKING", "BESIDE", "CONTROLS", "EDGES", "GAUSSIAN", "RANDOM", "TRUTH", "Budget", "Explain", "Method"]


@dataclass(frozen=True)
class Method:
    """A method for one classifier, its cost and its source.

    ``explain``: pixels (B,3,H,W) and targets (B,) -> maps (B,h,w) in [0,1]. ``forwards`` and ``backwards``: passes per
    image through the classifier (for P-TAME, its auxiliary); ``source``: where it was published. ``sees_truth``: it is
    given the truth masks (B,H,W) instead of targets. ``normalised``: metrics may min-max normalise its maps; False for
    masks whose values count as they are.
    """

    name: str
    explain: Explain
    forwards: int
    backwards: int
    source: str
    sees_truth: bool = False
    normalised: bool = True

    def __call__(self, pixels: Tensor, targets: Tensor) -> Tensor:
        return self.explain(pixels, targets)


@dataclass(frozen=True)
class Budget:
    """What methods may spend per image, and the ``seed`` of their random draws.

    RISE's ``masks``; integrated gradients' ``path_steps``; LIME's and KernelSHAP's ``samples`` on about ``segments``
    superpixels; SmoothGrad's and GradientSHAP's ``noisy_samples``; Opti-CAM's ``opti_steps``; extremal perturbations'
    ``perturbation_steps``; iGOS++'s ``igos_steps`` of ``igos_path`` points each. The last two remove to black, as
    everything in this study does, not to a blur as published; they then peak within about 50 steps, so the published
    800 gain nothing. Raises ValueError for a number below 1.
    """

    masks: int = 500
    path_steps: int = 50
    samples: int = 200
    segments: int = 50
    noisy_samples: int = 50
    opti_steps: int = 100
    perturbation_steps: int = 30
    igos_steps: int = 10
    igos_path: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least(1, **{name: value for name, value in asdict(self).items() if name != "seed"})
