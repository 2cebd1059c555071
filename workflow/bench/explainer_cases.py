"""What P-TAME costs beyond the auxiliary's features, and against the straightforward computation."""

from __future__ import annotations

from collections.abc import Callable

import oracle
import torch
from measure import device, interleaved, peak, row
from torch import nn

from ptame_lib import PTAME, PTAMEWeights, decide, keep, load_auxiliary, load_classifier, ptame_loss
from ptame_lib.losses.ptame import area_term, smoothness_term

# the only published setting with every term
VGG = PTAMEWeights(ce=0.07278, area=0.977712, smooth=0.0001, border=0.3, p=0.3)


def explainer() -> PTAME:
    """ResNet-18 at 224 pixels, 1000 classes; random weights, which cost the same, and real batch norms."""
    torch.manual_seed(0)
    made = PTAME(load_auxiliary("resnet18", weights=None), 1000)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return made.to(device())


def images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.rand(count, 3, 224, 224, generator=generator)
    return pixels.to(device()), torch.randint(0, 1000, (count,), generator=generator).to(device())


@torch.no_grad()
def features(made: PTAME, pixels: torch.Tensor) -> list[torch.Tensor]:
    return made.auxiliary(pixels)


def explaining(batch: int = 8) -> dict[str, Callable]:
    made, (pixels, targets) = explainer().eval(), images(batch)
    return {
        "features": lambda: features(made, pixels),
        "ours": lambda: made.explain(pixels, targets),
        "straightforward": lambda: oracle.explain(made, pixels, targets),
    }


def training(batch: int = 32) -> dict[str, Callable]:
    """The explainer's share of a step: maps of the batch's targets, area and smoothness terms, backward."""
    made, (pixels, targets) = explainer().train(), images(batch)

    def ours():
        made.zero_grad()
        masks = made.maps(pixels, targets).sigmoid()
        (VGG.area * area_term(masks, VGG.p) + VGG.smooth * smoothness_term(masks, VGG.border)).backward()
        return gradients()

    def straightforward():
        made.zero_grad()
        oracle.loss_terms(oracle.all_maps(made, pixels)[:, targets].sigmoid(), VGG.border, VGG.p).backward()
        return gradients()

    def gradients():
        return {name: p.grad for name, p in made.named_parameters() if p.grad is not None}

    return {"features": lambda: features(made, pixels), "ours": ours, "straightforward": straightforward}


def whole_step(classifier_name: str, batch: int) -> dict[str, Callable]:
    """A whole training step, and the two passes through the classifier that every explainer needs."""
    made, (pixels, _) = explainer().train(), images(batch)
    classifier = load_classifier(classifier_name, None).to(device())
    trained = [p for n, p in made.named_parameters() if not n.startswith("auxiliary.")]
    optimizer = torch.optim.AdamW(trained, lr=1e-6, amsgrad=True)
    free = torch.rand(batch, 56, 56, device=device(), requires_grad=True)

    def masked_pass():
        targets = decide(classifier, pixels)
        nn.functional.cross_entropy(classifier(keep(pixels, free)), targets).backward()

    def step():
        targets = decide(classifier, pixels)
        masks = made.maps(pixels, targets).sigmoid()
        loss = ptame_loss(classifier(keep(pixels, masks.diagonal().permute(2, 0, 1))), targets, masks, VGG)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()

    return {"classifier": masked_pass, "ours": step}


PEAKS = {"explaining": explaining, "training": training}


def check() -> list[str]:
    """Check maps and gradients against the straightforward computation; AssertionError beyond 1e-4.

    Gradients are compared relative to the largest.
    """
    works = explaining()
    maps = (works["ours"]() - works["straightforward"]()).abs().max().item()
    works = training(4)
    found = {name: g.clone() for name, g in works["ours"]().items()}
    expected = works["straightforward"]()
    largest = max(g.abs().max() for g in expected.values())
    gradients = max(((found[name] - g).abs().max() / largest).item() for name, g in expected.items())
    assert maps < 1e-4, f"maps differ by {maps}"
    assert gradients < 1e-4, f"gradients differ by {gradients} of the largest"
    return [f"maps equal the straightforward computation's to {maps:.1e}, gradients to {gradients:.1e} of the largest"]


def rows() -> list[dict]:
    # one explanation, and the explainer's share of a training step
    found = []
    explain, train = "explain one class, ResNet-18 at 224, batch 8", "explainer's share of a training step, batch 32"
    times = interleaved(explaining())
    found += [
        row(f"{explain}: ours / auxiliary's features alone, ms", times["ours"], times["features"]),
        row(f"{explain}: straightforward / features alone, ms", times["straightforward"], times["features"]),
    ]
    times = interleaved(training())
    found += [
        row(f"{train}: ours / features alone, ms", times["ours"], times["features"]),
        row(f"{train}: straightforward / features alone, ms", times["straightforward"], times["features"]),
    ]

    # their memory
    for case, text in {"explaining": "explain, batch 8", "training": train}.items():
        peaks = peak(f"{case}.ours"), peak(f"{case}.straightforward")
        found.append(row(f"{text}: peak memory, ours / straightforward, MB", *peaks, scale=1))

    # whole training steps
    for name, batch in {"resnet50": 16, "vgg16": 8, "vit_b_16": 8}.items():
        times = interleaved(whole_step(name, batch), rounds=7)
        what = f"whole training step, {name}, batch {batch}: ours / the classifier's passes alone, ms"
        found.append(row(what, times["ours"], times["classifier"]))
    return found
