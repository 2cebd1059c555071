"""One explanation by P-TAME against other methods, and after how many its training pays for itself."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from captum.attr import IntegratedGradients
from explainer_cases import explainer, images, whole_step
from measure import COLUMNS, device, device_name, interleaved, row, seconds
from pytorch_grad_cam import AblationCAM, GradCAM, GradCAMPlusPlus, ScoreCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from ptame_lib import load_classifier
from ptame_lib.methods import rise
from ptame_lib.methods.cam import cam_of

RISE_MASKS, MEASURED_MASKS = 4000, 200
EPOCH = 1_281_167  # images of ImageNet's training part: P-TAME's training


def methods(name: str) -> tuple[dict[str, Callable], dict[str, Callable]]:
    """Works on one image: cheap ones, measured in every round, and expensive ones, measured once."""
    classifier = load_classifier(name, None).to(device())
    pixels, targets = images(1)
    wanted = [ClassifierOutputTarget(int(targets[0]))]
    made = explainer().eval()

    def forward():
        with torch.no_grad():
            classifier(pixels)

    def cam(kind):
        def run():
            with cam_of(kind, classifier, pixels) as method:
                method(pixels.clone().requires_grad_(), wanted)

        return run

    part = rise(classifier, masks=MEASURED_MASKS)
    gradients = IntegratedGradients(classifier)
    cheap = {
        "one classifier forward": forward,
        "P-TAME": lambda: made.explain(pixels, targets),
        "Grad-CAM": cam(GradCAM),
        "Grad-CAM++": cam(GradCAMPlusPlus),
    }
    dear = {
        f"RISE, {RISE_MASKS} masks (measured on {MEASURED_MASKS})": lambda: part(pixels, targets),
        "integrated gradients, 50 steps": lambda: gradients.attribute(
            pixels, target=targets, n_steps=50, internal_batch_size=10
        ),
        "Score-CAM": cam(ScoreCAM),
        "Ablation-CAM": cam(AblationCAM),
    }
    return cheap, dear


def rows() -> list[dict]:
    found = []
    for name in ("resnet50", "vit_b_16"):
        # one explanation by each method, in forward passes of the classifier
        cheap, dear = methods(name)
        times = interleaved(cheap)
        forward = times.pop("one classifier forward")
        what = f"one explanation, {name}: {{}} / one classifier forward, ms"
        found += [row(what.format(method), t, forward) for method, t in times.items()]
        taken = {}
        for method, work in dear.items():
            taken[method] = seconds(work) * (RISE_MASKS / MEASURED_MASKS if method.startswith("RISE") else 1)
            found.append(row(what.format(method) + ", once", [taken[method]], [statistics.median(forward)]))

        # after how many explanations the training has paid for itself
        ptame = statistics.median(times["P-TAME"])
        step = statistics.median(interleaved(whole_step(name, 8), rounds=3)["ours"]) / 8
        for method in ("RISE", "Score-CAM"):
            theirs = next(t for m, t in taken.items() if m.startswith(method))
            needed = EPOCH * step / (theirs - ptame)
            what = f"break-even, {name}: training on {EPOCH} images, in explanations by {method}"
            values = [f"{what}: images / training images", needed, EPOCH, needed / EPOCH, None, None, device_name()]
            found.append(dict(zip(COLUMNS, values, strict=True)))
    return found
