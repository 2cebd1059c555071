"""The Explainer's class-area term: the batch at once by partial selection, against sorting each label's mask in a loop."""

from __future__ import annotations

import oracle
import torch
from measure import device, interleaved, row

from ptame_lib import resize
from ptame_lib.losses.nn_explainer import class_area_term


def case(images: int, classes: int, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth logits at 224x224, and one to ``most`` labels per image."""
    generator = torch.Generator().manual_seed(0)
    logits = resize(4 * torch.randn(images * classes, 28, 28, generator=generator), (224, 224)).unflatten(
        0, (images, classes)
    )
    rank = torch.rand(images, classes, generator=generator).argsort(1)
    return logits.to(device()), (rank < torch.randint(1, most + 1, (images, 1), generator=generator)).to(device())


def rows() -> list[dict]:
    logits, labels = case(images=16, classes=20, most=3)

    def step(term):
        leaf = logits.detach().requires_grad_()
        term(leaf, labels).backward()
        return leaf.grad

    # Which of equal values at a bound gets the gradient is chance: the gradients are compared in order of size.
    gradients = [step(term).flatten(1).sort(1).values for term in (class_area_term, oracle.class_area)]
    difference = (gradients[0] - gradients[1]).abs().max().item()
    assert difference < 1e-9, f"the gradients differ by {difference}"
    times = interleaved({"ours": lambda: step(class_area_term), "loop": lambda: step(oracle.class_area)}, rounds=7)
    name = f"class-area term and its gradient, 16 images, 20 classes, {int(labels.sum())} labels / a loop that sorts each mask, ms"
    return [row(name, times["ours"], times["loop"])]
