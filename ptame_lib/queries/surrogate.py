"""Gradients of a black box from a surrogate: a network that learns its answers while the explainer trains."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..features import FeatureExtractor
from ..masking import keep
from .asked import Asked
from .masks import coarse_masks


class Surrogate(Asked):
    """A black box with a way back: the values are the box's, the gradients those of a network that imitates it.

    The network is a trainable copy of an auxiliary, whose last level is pooled and read by a linear layer. At every step it is
    asked about what the explainer keeps of the images (whose answers the loss needs anyway) and about ``masks_per_image``
    coarsely masked copies, and takes one step of distillation on them: it need only be right where the explainer is at work.

    The loss's own gradient with respect to the logits is exact, since the logits are the box's; only their Jacobian is the
    surrogate's. ``queries`` counts the images asked for.
    """

    def __init__(self, box: nn.Module, auxiliary: FeatureExtractor, num_classes: int, *, masks_per_image: int = 4, lr: float = 1e-3, seed: int = 0):
        super().__init__(box, seed)
        self.features = copy.deepcopy(auxiliary).requires_grad_(True)
        self.head = nn.Linear(auxiliary.channels[-1], num_classes).to(next(self.features.parameters()).device)
        self.masks_per_image = masks_per_image
        # Batch norms keep their statistics: half of what the network sees is masked, and what it imitates is not.
        self.optimizer = torch.optim.AdamW(
            [{"params": self.features.parameters(), "lr": lr}, {"params": self.head.parameters(), "lr": 10 * lr}], weight_decay=0.0
        )
        self.seen: tuple[Tensor, Tensor] | None = None

    def imitate(self, pixels: Tensor) -> Tensor:
        """The surrogate's own logits (B,K) for pixels (B,3,H,W)."""
        return self.head(self.features(pixels)[-1].mean((2, 3)))

    def forward(self, pixels: Tensor) -> Tensor:
        """The box's logits (B,K); where a gradient is asked for, it flows through the surrogate."""
        answer = self.ask(pixels)
        if not (torch.is_grad_enabled() and pixels.requires_grad):
            return answer
        self.seen = (pixels.detach(), answer)
        parameters = [*self.features.parameters(), *self.head.parameters()]
        for parameter in parameters:  # the explainer's loss must not move the surrogate
            parameter.requires_grad_(False)
        own = self.imitate(pixels)
        for parameter in parameters:
            parameter.requires_grad_(True)
        return answer + own - own.detach()

    def learn(self, pixels: Tensor) -> dict[str, float]:
        """One step of distillation on coarsely masked ``pixels`` (B,3,H,W) and on what the explainer kept last.

        Returns ``distillation``, the divergence (nats) of its answers from the box's before the step, and ``agreement``, the
        share of images on which both decide alike.
        """
        repeated = pixels.repeat_interleave(self.masks_per_image, 0)
        images = keep(repeated, coarse_masks(len(repeated), pixels.shape[-2:], self.generator).to(pixels.device))
        answers = self.ask(images)
        if self.seen is not None:
            images, answers = torch.cat([self.seen[0], images]), torch.cat([self.seen[1], answers])
        with torch.enable_grad():
            own = self.imitate(images)
            loss = F.kl_div(own.log_softmax(1), answers.log_softmax(1), reduction="batchmean", log_target=True)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return {"distillation": loss.item(), "agreement": (own.argmax(1) == answers.argmax(1)).float().mean().item()}

    def learned_state(self) -> dict:
        parts = {"features": self.features.state_dict(), "head": self.head.state_dict(), "optimizer": self.optimizer.state_dict()}
        return super().learned_state() | parts

    def load_learned_state(self, state: dict) -> None:
        super().load_learned_state(state)
        self.features.load_state_dict(state["features"])
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])
