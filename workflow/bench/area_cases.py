"""The Explainer's class-area term: partial selection on a batch, against a loop that sorts each mask."""

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

    # both must have equal gradients, in order of size: which of equal values at a bound gets it is chance
    gradients = [step(term).flatten(1).sort(1).values for term in (class_area_term, oracle.class_area)]
    difference = (gradients[0] - gradients[1]).abs().max().item()
    assert difference < 1e-9, f"the gradients differ by {difference}"

    # times
    times = interleaved({"ours": lambda: step(class_area_term), "loop": lambda: step(oracle.class_area)}, rounds=7)
    what = f"class-area term and its gradient, 16 images, 20 classes, {int(labels.sum())} labels"
    return [row(f"{what} / a loop that sorts each mask, ms", times["ours"], times["loop"])]
