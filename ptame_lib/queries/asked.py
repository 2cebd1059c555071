"""A black box whose questions are counted."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Asked(nn.Module):
    """A ``box`` (pixels (B,3,H,W) in [0,1] -> logits (B,K)) that is asked ``batch_size`` images at a time; ``queries`` counts them."""

    def __init__(self, box: nn.Module, seed: int, batch_size: int = 256):
        super().__init__()
        self.box, self.batch_size, self.queries = box, batch_size, 0
        self.generator = torch.Generator().manual_seed(seed)

    def ask(self, pixels: Tensor) -> Tensor:
        """The box's logits (B,K), without gradients."""
        self.queries += len(pixels)
        with torch.no_grad():
            return torch.cat([self.box(part) for part in pixels.split(self.batch_size)])

    def forward(self, pixels: Tensor) -> Tensor:
        return self.ask(pixels)

    def learned_state(self) -> dict:
        """Everything a resumed training needs."""
        return {"generator": self.generator.get_state(), "queries": self.queries}

    def load_learned_state(self, state: dict) -> None:
        self.generator.set_state(state["generator"])
        self.queries = state["queries"]
