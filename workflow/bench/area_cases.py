"""The Explainer's class-area term: the batch at once by partial selection, against sorting each label's mask in a loop."""

from __future__ import annotations

import oracle
import torch
from measure import device, interleaved, row

from ptame_lib import resize
from ptame_lib.explainer_losses import class_area_term


def case(images: int, classes: int, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth logits at 224x224, and one to ``most`` labels per image."""
    generator = torch.Generator().manual_seed(0)
    logits = resize(4 * torch.randn(images * classes, 28, 28, generator=generator), (224, 224)).unflatten(0, (images, classes))
    rank = torch.rand(images, classes, generator=generator).argsort(1)
    return logits.to(device()), (rank < torch.randint(1, most + 1, (images, 1), generator=generator)).to(device())


def rows() -> list[dict]:
    found = []
    for name, classes, most in (("VOC", 20, 3), ("COCO", 91, 6)):
        logits, labels = case(16, classes, most)

        def step(term, logits=logits, labels=labels):
            leaf = logits.detach().requires_grad_()
            term(leaf, labels).backward()
            return leaf.grad

        difference = (step(class_area_term) - step(oracle.class_area)).abs().max().item()
        assert difference < 1e-9, f"the gradients differ by {difference}"
        times = interleaved({"ours": lambda step=step: step(class_area_term), "loop": lambda step=step: step(oracle.class_area)}, rounds=5)
        text = f"class-area term and gradient, 16 images, {classes} classes, {int(labels.sum())} labels ({name}) / a loop that sorts each mask, ms"
        found.append(row(text, times["ours"], times["loop"]))
    return found
