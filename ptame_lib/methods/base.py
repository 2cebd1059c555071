"""What a method is: one call signature, its cost and its source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from torch import Tensor

from ..validation import check_at_least

Explain = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Method:
    """A method for one classifier. ``forwards``: passes through the classifier (for P-TAME, its auxiliary) per image;
    ``backwards``: backward passes; ``source``: where it was published. One that ``sees_truth`` is given the truth masks (B,H,W) as targets.
    """

    name: str
    explain: Explain
    forwards: int
    backwards: int
    source: str
    sees_truth: bool = False

    def __call__(self, pixels: Tensor, targets: Tensor) -> Tensor:
        return self.explain(pixels, targets)


@dataclass(frozen=True)
class Budget:
    """What methods may spend per image: RISE's ``masks``, integrated gradients' ``path_steps``, LIME's and KernelSHAP's ``samples`` on
    about ``segments`` superpixels, Opti-CAM's ``opti_steps``, extremal perturbations' ``perturbation_steps``, iGOS++'s ``igos_steps`` of
    ``igos_path`` points each. ``seed`` of everything drawn.

    The last two remove to black here, as everything in this study does, not to a blur as published; and within 50 steps or so they are
    at their best with it, so that the published number (800 of extremal perturbations) is no gain.

    Raises ValueError for a number below 1.
    """

    masks: int = 500
    path_steps: int = 50
    samples: int = 200
    segments: int = 50
    opti_steps: int = 100
    perturbation_steps: int = 30
    igos_steps: int = 10
    igos_path: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least(1, **{name: value for name, value in asdict(self).items() if name != "seed"})


CONTROLS = ("edges", "centred Gaussian", "random")


TRUTH = "ground truth"


@dataclass(frozen=True)
class MaskMethod:
    """A method that gives one mask per class: ``explain`` takes pixels (B,3,H,W) and targets (B,) to maps (B,h,w) in [0,1], which are used
    as they are. One that ``sees_truth`` is given the masks of the targets' objects (B,H,W) as targets."""

    name: str
    explain: Callable[[Tensor, Tensor], Tensor]
    sees_truth: bool = False
