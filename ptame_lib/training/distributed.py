"""Several processes train one explainer as one process would, on the same global batches.

Every process sees its share of each batch. Three things make the finished weights those of a single process:

- *Targets* are gathered over all processes. In P-TAME's loss every image gets the maps of all targets of the batch.
  With those of its own share alone it would meet fewer classes, and the area and smoothness terms would weigh a class's
  own image more: another loss.
- *Batch norms* use the statistics of the global batch (`GlobalBatchNorm`).
- *Losses* are means over equal shares, or sums divided by the share's size. So their mean over the processes is the
  global loss, and the mean of the processes' gradients is its gradient.

Sums are added in another order than in one process, so the weights are equal up to rounding, not bit for bit.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import Tensor, nn

PRECISIONS = ("no", "bf16", "fp16")  # accelerate's names; its fp8 needs libraries that are not asked for here


def check_precision(precision: str) -> None:
    """Raise ValueError for a name that is not in `PRECISIONS`: before any work, where accelerate would say so late."""
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}: choose one of {', '.join(PRECISIONS)}")


def accelerator(batch_size: int, precision: str = "no") -> Accelerator:
    """The device, the precision and the processes to train with.

    Raises ValueError if the processes can't share a batch equally.
    """
    AcceleratorState._reset_state()  # an earlier training in this process may have had another precision
    team = Accelerator(mixed_precision=precision, dataloader_config=DataLoaderConfiguration(split_batches=True))
    if batch_size % team.num_processes:
        raise ValueError(
            f"batch_size={batch_size} can't be shared equally by {team.num_processes} processes: "
            "choose a multiple of them"
        )
    return team


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the random states of Python, NumPy and torch while the block runs, then put them back as they were."""
    python, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global one, which set_seed seeds
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        try:
            set_seed(seed)  # which seeds Python before NumPy refuses a seed
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)  # noqa: NPY002


def all_targets(targets: Tensor, team: Accelerator) -> Tensor:
    """The targets (B,) of the global batch: this process's own (b,) first, in order, then the others'."""
    if team.num_processes == 1:
        return targets
    gathered = team.gather(targets)
    first = team.process_index * len(targets)
    return torch.cat([targets, gathered[:first], gathered[first + len(targets) :]])


def mean_over_processes(values: dict[str, Tensor], team: Accelerator) -> dict[str, float]:
    """Scalars of the global batch: the means of all processes' values."""
    means = team.reduce(torch.stack([value.detach() for value in values.values()]), "mean")
    return dict(zip(values, means.tolist(), strict=True))


@contextmanager
def global_statistics(explainer: nn.Module, team: Accelerator) -> Iterator[None]:
    """Make the trained batch norms global while the block runs; one process changes nothing."""
    norms = [m for m in explainer.modules() if type(m) is nn.BatchNorm2d] if team.num_processes > 1 else []
    trained = [norm for norm in norms if any(p.requires_grad for p in norm.parameters())]
    for module in trained:
        module.__class__ = GlobalBatchNorm  # the same parameters and buffers under the same names
    try:
        yield
    finally:
        for module in trained:
            module.__class__ = nn.BatchNorm2d


class GlobalBatchNorm(nn.BatchNorm2d):
    """Batch normalisation (B,C,H,W) by the mean and variance of all processes' equal shares.

    Gradients flow through both. torch's SyncBatchNorm does the same but refuses CPUs. This one runs on both, so the
    code that is tested without a GPU is the code that runs on many.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)

        # statistics of the global batch
        processes = dist.get_world_size()
        wide = x.float()
        mean = _Sum.apply(wide.mean((0, 2, 3))) / processes
        centred = wide - mean[:, None, None]
        variance = _Sum.apply(centred.square().mean((0, 2, 3))) / processes

        # running statistics, with the unbiased variance as torch keeps it
        with torch.no_grad():
            count = x.numel() // x.shape[1] * processes
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            self.num_batches_tracked.add_(1)

        # normalise
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


class _Sum(torch.autograd.Function):
    """The sum over all processes; every process's gradient with respect to it counts."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return _Sum.apply(grad)
