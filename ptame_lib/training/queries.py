"""Two ways to learn from a classifier that only answers: antithetic estimates and a surrogate."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..explainers.features import FeatureExtractor
from ..masking import keep, resize


class Asked(nn.Module):
    """A ``box``, pixels in [0,1] -> logits (B,K), asked in parts of ``batch_size``; counts queries."""

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


class Antithetic(Asked):
    """A black box whose Jacobian w.r.t. the mask is estimated from ``pairs`` of queries per image.

    A pair moves the mask by +-``step`` along a random sign pattern of ``cells`` x ``cells``, enlarged smoothly. The
    differences of the logits, times the patterns, add up to an estimate of the derivatives (Spall's simultaneous
    perturbation; evolution strategies with antithetic samples).
    """

    def __init__(self, box: nn.Module, *, pairs: int = 8, cells: int = 8, step: float = 0.25, seed: int = 0):
        super().__init__(box, seed)
        self.pairs, self.cells, self.step = pairs, cells, step

    def masked(self, pixels: Tensor, masks: Tensor) -> Tensor:
        """The box's logits (B,K) for what the masks (B,h,w) keep, with an estimated gradient for the masks."""
        return _Estimated.apply(masks, pixels, self)

    def slopes(self, pixels: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Patterns (P,B,h,w) and the logits' slopes along them (P,B,K)."""
        (count, h, w), device = masks.shape, masks.device
        shape = (self.pairs * count, self.cells, self.cells)
        signs = torch.randint(0, 2, shape, generator=self.generator).float() * 2 - 1
        patterns = resize(signs.to(device), (h, w)).view(self.pairs, count, h, w)
        moved = torch.stack([masks + self.step * patterns, masks - self.step * patterns]).clamp_(0, 1)  # (2,P,B,h,w)
        images = keep(pixels.repeat(2 * self.pairs, 1, 1, 1), moved.flatten(0, 2))
        up, down = self.ask(images).unflatten(0, (2, self.pairs, count))
        return patterns, (up - down) / (2 * self.step)


class _Estimated(torch.autograd.Function):
    @staticmethod
    def forward(ctx, masks: Tensor, pixels: Tensor, black_box: Antithetic) -> Tensor:
        ctx.cells = black_box.cells
        ctx.save_for_backward(*black_box.slopes(pixels, masks))
        return black_box.ask(keep(pixels, masks))

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        patterns, slopes = ctx.saved_tensors
        along = (slopes * gradient).sum(2)  # (P,B): the loss's slope along each pattern
        area = patterns.shape[2] * patterns.shape[3] / ctx.cells**2  # so many values of the mask move together
        return torch.einsum("pb,pbhw->bhw", along, patterns) / (len(patterns) * area), None, None


class Surrogate(Asked):
    """A black box with gradients: its own values, and the gradients of a network that imitates it.

    The network is a trainable copy of an auxiliary, whose last level is pooled and read by a linear layer. At every
    step it learns by distillation from the box's answers to what the explainer keeps of the images and to
    ``masks_per_image`` coarsely masked copies of each. The loss's gradient with respect to the logits is exact, since
    they are the box's; only their Jacobian is the surrogate's.
    """

    def __init__(
        self,
        box: nn.Module,
        auxiliary: FeatureExtractor,
        num_classes: int,
        *,
        masks_per_image: int = 4,
        lr: float = 1e-3,
        seed: int = 0,
    ):
        super().__init__(box, seed)
        self.features = auxiliary.learnable()
        self.head = nn.Linear(auxiliary.channels[-1], num_classes).to(next(self.features.parameters()).device)
        self.masks_per_image = masks_per_image
        # batch norms keep their statistics: half of what the network sees is masked, and what it imitates is not
        self.optimizer = torch.optim.AdamW(
            [{"params": self.features.parameters(), "lr": lr}, {"params": self.head.parameters(), "lr": 10 * lr}],
            weight_decay=0.0,
        )
        self.seen: tuple[Tensor, Tensor] | None = None

    def imitate(self, pixels: Tensor) -> Tensor:
        """The surrogate's own logits (B,K) for pixels (B,3,H,W)."""
        return self.head(self.features(pixels)[-1].mean((2, 3)))

    def forward(self, pixels: Tensor) -> Tensor:
        """The box's logits (B,K); a gradient flows through the surrogate."""
        answer = self.ask(pixels)
        if not (torch.is_grad_enabled() and pixels.requires_grad):
            return answer
        self.seen = (pixels.detach(), answer)
        # the explainer's loss must not move the surrogate
        for part in (self.features, self.head):
            part.requires_grad_(False)
        own = self.imitate(pixels)
        for part in (self.features, self.head):
            part.requires_grad_(True)
        return answer + own - own.detach()

    def learn(self, pixels: Tensor) -> dict[str, float]:
        """Take a step of distillation on coarsely masked ``pixels`` and on what the explainer kept last.

        Returns ``distillation``, the divergence (nats) of its answers from the box's before the step, and
        ``agreement``, the share of images on which both decide for the same class.
        """
        # ask about masked copies
        repeated = pixels.repeat_interleave(self.masks_per_image, 0)
        images = keep(repeated, coarse_masks(len(repeated), pixels.shape[-2:], self.generator).to(pixels.device))
        answers = self.ask(images)
        if self.seen is not None:
            images, answers = torch.cat([self.seen[0], images]), torch.cat([self.seen[1], answers])

        # imitate the answers
        with torch.enable_grad():
            own = self.imitate(images)
            loss = F.kl_div(own.log_softmax(1), answers.log_softmax(1), reduction="batchmean", log_target=True)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return {"distillation": loss.item(), "agreement": (own.argmax(1) == answers.argmax(1)).float().mean().item()}

    def learned_state(self) -> dict:
        parts = {name: getattr(self, name).state_dict() for name in ("features", "head", "optimizer")}
        return super().learned_state() | parts

    def load_learned_state(self, state: dict) -> None:
        super().load_learned_state(state)
        for name in ("features", "head", "optimizer"):
            getattr(self, name).load_state_dict(state[name])


def coarse_masks(n: int, size: tuple[int, int], generator: torch.Generator, cells: tuple[int, int] = (3, 9)) -> Tensor:
    """Masks (n,H,W) in [0,1]: smooth random grids like RISE's, but of every share and softness.

    The side of a mask's grid is drawn from ``cells``, the share of its kept cells from 0..1, and the grey of what it
    removes from 0..0.7 (a trained map is rarely as black and white as RISE's).
    """
    masks = torch.empty(n, *size)
    sides = torch.randint(cells[0], cells[1] + 1, (n,), generator=generator)
    share, grey = torch.rand(n, 1, 1, generator=generator), 0.7 * torch.rand(n, 1, 1, generator=generator)
    for side in sides.unique().tolist():
        rows = (sides == side).nonzero()[:, 0]
        kept = (torch.rand(len(rows), side, side, generator=generator) < share[rows]).float()
        masks[rows] = resize(kept, size)
    return (grey + (1 - grey) * masks).clamp_(max=1)
