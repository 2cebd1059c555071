"""Explanations below the floor: faster runtimes and Grad-CAM beside the auxiliary's features alone, on one thread."""

from __future__ import annotations

from collections.abc import Callable

import torch
from explainer_cases import explainer, images
from measure import device, interleaved, row
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torchvision.models import resnet18

from ptame_lib import Classifier
from ptame_lib.classifiers.wrapper import IMAGENET_MEAN, IMAGENET_STD
from ptame_lib.explainers.fast import RUNTIMES, installed
from ptame_lib.methods.cam import cam_of

FLOOR = "features, batch norms not folded"
EXACT = 5e-6  # largest difference of a faster runtime's maps


def works(batch: int) -> dict[str, Callable]:
    """The floor, ``explain`` by torch and by the installed runtimes, and a ResNet-18's Grad-CAM of the same images."""
    made, (pixels, targets) = explainer().eval(), images(batch)
    floor = made.auxiliary.learnable().requires_grad_(False)
    floor.frozen = floor.owned = True
    classifier = Classifier(resnet18(), IMAGENET_MEAN, IMAGENET_STD, 224).own().to(device())
    wanted = [ClassifierOutputTarget(int(target)) for target in targets]

    def features():
        with torch.no_grad():
            floor(pixels)

    def gradcam():
        with cam_of(GradCAM, classifier, pixels) as method:
            method(pixels.clone().requires_grad_(), wanted)

    found = {FLOOR: features, "P-TAME": lambda: made.explain(pixels, targets)}
    for runtime in RUNTIMES:
        if runtime == "compile" or (installed(runtime) and device().type == "cpu"):
            quick = made.fast(runtime)
            apart = float((quick.explain(pixels, targets) - found["P-TAME"]()).abs().max())
            assert apart <= EXACT, f"maps by {runtime} differ by {apart:.1e}"
            found[f"P-TAME, fast({runtime!r}), maps equal to {EXACT:.0e}"] = lambda q=quick: q.explain(pixels, targets)
    return found | {"Grad-CAM (grad-cam), ResNet-18": gradcam}


def rows() -> list[dict]:
    before, found = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for batch, rounds in {1: 25, 8: 9, 32: 5}.items():
            times = interleaved(works(batch), rounds)
            what = f"one thread, ResNet-18 at 224, batch {batch}: "
            floor = times.pop(FLOOR)
            found += [row(f"{what}{name} / {FLOOR}, ms", value, floor) for name, value in times.items()]
    finally:
        torch.set_num_threads(before)
    return found
