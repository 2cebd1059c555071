"""How the rows of P-TAME's fuser learn from one another, so that classes without a training image learn, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..explainers.ptame import PTAME

ROWS = ("free", "tied", "mapped")


@contextmanager
def shared_rows(explainer: PTAME, kind: str) -> Iterator[None]:
    """Inside, the fuser's rows learn by themselves (free), all by the same amount (tied), or `Mapped`.

    Afterwards the fuser is a plain convolution again, with what was learnt.
    """
    if kind == "mapped":
        with _mapped(explainer):
            yield
        return
    rows = explainer.fuser.parameters() if kind == "tied" else ()
    tied = [p for p in rows if p.requires_grad]  # behind a gate they are frozen
    hooks = [p.register_hook(lambda gradient: gradient.sum(0, keepdim=True).expand_as(gradient)) for p in tied]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class Mapped(nn.Module):
    """Rows (K,C,1,1) that start as they are and learn one row for all, and a map from what is known of the classes.

    What is known of a class is its row of the last level (K,C_L), as it starts: usually the auxiliary's head. The map
    (C_L,C-C_L) makes of it what is added to the row of the other levels. So classes that the auxiliary finds alike
    learn alike.
    """

    def __init__(self, start: Tensor, last: int):
        super().__init__()
        rows = start.detach()[:, :, 0, 0]
        known = rows[:, -last:] - rows[:, -last:].mean(0)
        self.register_buffer("start", rows.clone())
        # a step of the map then moves a row's entries about as far as a step of the row for all
        self.register_buffer("known", known / known.abs().sum(1).mean().clamp_min(1e-12))
        self.map = nn.Parameter(rows.new_zeros(last, rows.shape[1] - last))
        self.all = nn.Parameter(rows.new_zeros(1, rows.shape[1]))

    def forward(self, weight: Tensor) -> Tensor:
        """The rows as they are now; the ``weight`` itself does not count."""
        others = torch.cat([self.known @ self.map, self.known.new_zeros(len(self.known), len(self.map))], 1)
        return (self.start + self.all + others)[:, :, None, None]


@contextmanager
def _mapped(explainer: PTAME) -> Iterator[None]:
    fuser = explainer.fuser
    learnt = fuser.weight.requires_grad
    rows = Mapped(fuser.weight, explainer.auxiliary.channels[-1]).to(fuser.weight)
    parametrize.register_parametrization(fuser, "weight", rows, unsafe=True)
    fuser.parametrizations.weight.original.requires_grad_(False)
    try:
        yield
    finally:
        parametrize.remove_parametrizations(fuser, "weight", leave_parametrized=True)
        fuser.weight.requires_grad_(learnt)
