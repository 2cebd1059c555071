"""How the embedded classifiers were trained (notebook 01 runs this on request; the study loads the shipped weights)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .datasets.embedded import Embedded
from .embedded_nets import ViTLike
from .progress import progress

MEAN, STD = (0.36, 0.36, 0.36), (0.23, 0.23, 0.23)  # of the training images, rounded and averaged over colours


def train_embedded(
    net: nn.Module,
    data: Embedded,
    *,
    epochs: int,
    lr: float = 4e-3,
    hidden: bool = False,
    batch_size: int = 64,
    seed: int = 0,
) -> list[float]:
    """Train a network of ``embedded_nets`` on the single-label data; returns the mean loss of each epoch.

    AdamW with OneCycleLR, label smoothing 0.05, random shifts of up to 4 pixels, no flips (digits are not
    symmetric); with ``hidden`` parts of the images are blackened (see `_hide`).
    A ViT also learns to classify each token by the digit's true pixels (weight 0.3).
    """
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * (len(data) // batch_size)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps, pct_start=0.2)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    history = []
    net.train().to(memory_format=torch.channels_last)
    with progress(steps, "train classifier") as bar:
        for _ in range(epochs):
            losses = []
            for rows in torch.randperm(len(data), generator=generator)[: len(data) // batch_size * batch_size].split(batch_size):
                pixels, truth = _shift(data.images[rows].float() / 255, data.truth[rows], generator)
                if hidden:
                    pixels = _hide(pixels, truth, generator)
                images = ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)
                loss = _loss(net, images, data.labels[rows], truth)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
                bar.update()
            history.append(sum(losses) / len(losses))
    net.eval().to(memory_format=torch.contiguous_format)  # which safetensors wants
    return history


def _loss(net: nn.Module, images: Tensor, labels: Tensor, truth: Tensor) -> Tensor:
    if not isinstance(net, ViTLike):
        return F.cross_entropy(net(images), labels, label_smoothing=0.05)
    tokens = net.tokens(images)
    loss = F.cross_entropy(net.head(tokens.mean(1)), labels, label_smoothing=0.05)
    covered = F.adaptive_avg_pool2d(truth[:, None].float(), net.grid).flatten(1) > 0.15  # (B,64)
    background = net.token_head.out_features - 1
    token_labels = torch.where(covered, labels[:, None], background)
    return loss + 0.3 * F.cross_entropy(net.token_head(tokens).flatten(0, 1), token_labels.flatten())


def _shift(pixels: Tensor, truth: Tensor, generator: torch.Generator, most: int = 4) -> tuple[Tensor, Tensor]:
    """One random shift per batch; edge pixels are repeated."""
    dy, dx = torch.randint(0, 2 * most + 1, (2,), generator=generator).tolist()
    height, width = pixels.shape[-2:]
    pixels = F.pad(pixels, [most] * 4, mode="replicate")[..., dy : dy + height, dx : dx + width]
    truth = F.pad(truth, [most] * 4)[..., dy : dy + height, dx : dx + width]
    return pixels, truth


def _hide(pixels: Tensor, truth: Tensor, generator: torch.Generator) -> Tensor:
    """Black rectangles on a third of the images, black surroundings of the digit on another.

    An explanation is judged by what a classifier says of an image that was masked with it. Black must not be strange to the
    classifier then, or the strangeness is measured and not the explanation.
    """
    count, _, height, width = pixels.shape
    mask = torch.ones(count, height, width)
    kind = torch.randint(0, 3, (count,), generator=generator).tolist()
    for i in range(count):
        if kind[i] == 0:
            for _ in range(3):
                h, w = torch.randint(8, 33, (2,), generator=generator).tolist()
                y, x = (int(torch.randint(0, side, (), generator=generator)) for side in (height - h, width - w))
                mask[i, y : y + h, x : x + w] = 0
        elif kind[i] == 1 and truth[i].any():
            rows, columns = (truth[i].any(axis).nonzero()[:, 0] for axis in (1, 0))
            around = torch.randint(1, 13, (4,), generator=generator).tolist()
            top, bottom = max(rows[0] - around[0], 0), rows[-1] + around[1]
            left, right = max(columns[0] - around[2], 0), columns[-1] + around[3]
            mask[i] = 0
            mask[i, top : bottom + 1, left : right + 1] = 1
    return pixels * mask[:, None]
