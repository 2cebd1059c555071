"""How multi-label classifiers are made: the embedded ones from nothing, torchvision's by fine-tuning from ImageNet weights.

Targets are label vectors, the loss is binary cross-entropy on the logits, one per class. Where the study needs one probability per
class, it takes the softmax over these logits, as "What You See is What You Classify" (Stalder et al., NeurIPS 2022) does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from . import embedded_nets
from .classifiers import IMAGENET_MEAN, IMAGENET_STD, Classifier, _fill, _is_file_name, load_torchvision
from .datasets.embedded import Embedded
from .embedded_training import MEAN, STD, _shift
from .masking import blend
from .progress import progress
from .training import stops

HEADS = {"vgg16": "classifier.6", "resnet50": "fc"}  # the last layer of torchvision's networks
PLAN = {"multi-vgg": (9, 4e-3), "multi-resnet": (12, 3e-3)}  # the shipped ones: epochs over 12 000 images, peak learning rate


def train_embedded_multi(name: str, data: Embedded, *, epochs: int | None = None, lr: float | None = None, seed: int = 0) -> nn.Module:
    """A network ``multi-vgg`` or ``multi-resnet``, trained on the multi-label digits; in eval mode, on normalised images.

    AdamW with OneCycleLR, batches of 64, label smoothing 0.02, shifts as in `embedded_training`, shuffled colour channels and
    brightness, and parts that give way to the mean colour (`hide`). ``epochs`` and ``lr`` default to `PLAN`.
    """
    epochs, lr = epochs or PLAN[name][0], lr or PLAN[name][1]
    torch.manual_seed(seed)
    net = embedded_nets.build(name).to(memory_format=torch.channels_last).train()
    generator = torch.Generator().manual_seed(seed)
    batches = len(data) // 64
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=epochs * batches, pct_start=0.2)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    with progress(epochs * batches, f"train {name}") as bar:
        for _ in range(epochs):
            for rows in torch.randperm(len(data), generator=generator)[: batches * 64].split(64):
                pixels, truth = _shift(data.images[rows].float() / 255, data.truth[rows], generator)
                pixels, labels = hide(_recolour(pixels, generator), data.labels[rows], truth, mean, generator)
                logits = net(((pixels - mean) / std).contiguous(memory_format=torch.channels_last))
                loss = F.binary_cross_entropy_with_logits(logits, 0.02 + 0.96 * labels)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
                bar.update()
    return net.eval().to(memory_format=torch.contiguous_format)  # which safetensors wants


def _recolour(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Of each image the channels are shuffled and the brightness is changed."""
    order = torch.rand(len(pixels), 3, generator=generator).argsort(1)
    pixels = pixels.gather(1, order[:, :, None, None].expand_as(pixels))
    gain = 0.7 + 0.6 * torch.rand(len(pixels), 1, 1, 1, generator=generator)
    return (pixels * gain).clamp(0, 1)


def hide(pixels: Tensor, labels: Tensor, truth: Tensor, colour: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Parts of the images give way to ``colour`` (1,3,1,1), and the labels follow; each image goes one of five ways.

    As it is; without three rectangles; some of its digits alone with their surroundings; without these; random blobs of it. A third
    of the masks is blurred. What is masked must not be strange to a classifier whose explanations are judged by masked images, and
    an image without a digit must be answered by low logits for all classes.

    ``truth`` (B,K,H,W) bool. Returns pixels and labels (B,K) in [0,1]: 1 where 60 % or more of a digit is visible, 0 below 25 %.
    """
    count, classes, height, width = truth.shape

    def draw(*shape):
        return torch.rand(*shape, generator=generator)

    corner, side = draw(2, count, 3, 1), 0.12 + 0.4 * draw(2, count, 3, 1)
    rows, columns = (torch.linspace(0, 1, n).view(1, 1, n) for n in (height, width))
    inside = [(line > c - s / 2) & (line < c + s / 2) for line, c, s in zip((rows, columns), corner, side, strict=True)]
    rectangles = (inside[0][..., None] & inside[1][:, :, None]).any(1)  # (B,H,W)
    chosen = (truth & (draw(count, classes) < 0.5)[..., None, None]).any(1)
    radius = int(torch.randint(1, 6, (), generator=generator))
    around = F.max_pool2d(chosen[:, None].float(), 2 * radius + 1, 1, radius)[:, 0] > 0
    noise = F.interpolate(draw(count, 1, 7, 7), (height, width), mode="bicubic")[:, 0]
    blobs = noise > 0.3 + 0.4 * draw(count, 1, 1)
    ways = torch.stack([torch.ones_like(blobs), ~rectangles, around, ~around, blobs], 1)
    way = torch.randint(0, 5, (count,), generator=generator)
    masks = ways[torch.arange(count), way].float()
    blurred = F.avg_pool2d(masks[:, None], 5, 1, 2, count_include_pad=False)[:, 0]
    masks = torch.where(draw(count, 1, 1) < 1 / 3, blurred, masks)
    visible = (truth * masks[:, None]).sum((2, 3)) / truth.sum((2, 3)).clamp_min(1)
    return blend(pixels, masks, colour), labels * ((visible - 0.25) / 0.35).clamp(0, 1)


def load_multilabel(name: str, num_classes: int, weights: str | Path | None = "default", labels: Sequence[str] | None = None) -> Classifier:
    """torchvision's ``vgg16`` or ``resnet50`` with a head for ``num_classes`` labels, as a classifier of 224x224 pixels.

    ``weights``: a file with a fine-tuned network's state dict; else the network below the head as in `load_classifier` (``"default"``
    for ImageNet's) and a random head, for `finetune`. Raises as `load_classifier`.
    """
    if name not in HEADS:
        raise ValueError(f"unknown network {name!r}: choose {' or '.join(HEADS)}")
    tuned = weights not in (None, "default") and _is_file_name(weights)
    net = torchvision.models.get_model(name, weights=None) if tuned else load_torchvision(name, weights, "IMAGENET1K_V1")
    parent, _, last = HEADS[name].rpartition(".")
    setattr(net.get_submodule(parent), last, nn.Linear(net.get_submodule(HEADS[name]).in_features, num_classes))
    if tuned:
        _fill(net, weights)
    return Classifier(net, IMAGENET_MEAN, IMAGENET_STD, 224, labels, multi_label=True)


@dataclass(frozen=True)
class FinetuneConfig:
    """How to fine-tune: Adam on all layers, early stopping after ``patience`` epochs that weren't better by ``min_delta``."""

    epochs: int = 30
    batch_size: int = 16
    lr: float = 1e-4
    patience: int = 3
    min_delta: float = 1e-3
    seed: int = 0
    workers: int = 0


def finetune(classifier: Classifier, data: Dataset, val_data: Dataset, config: FinetuneConfig = FinetuneConfig()) -> list[dict[str, float]]:
    """Train the classifier's network in place, on the device it is on; it ends frozen, with the weights of the lowest validation loss.

    Items have ``pixels`` (3,H,W) in [0,1] and ``labels`` (K,). Returns one row per epoch: epoch, ``total`` and ``val_total``, the mean
    binary cross-entropies. ``saved.write(file, classifier.model.state_dict(), {})`` makes a file for `load_multilabel`.

    Raises FloatingPointError when the loss isn't finite.
    """
    torch.manual_seed(config.seed)
    order = torch.Generator().manual_seed(config.seed)
    batches = DataLoader(data, config.batch_size, shuffle=True, generator=order, drop_last=len(data) > config.batch_size, num_workers=config.workers)
    net, device, history, best = classifier.model.requires_grad_(True), classifier.mean.device, [], {}
    optimizer = torch.optim.Adam(net.parameters(), lr=config.lr)
    with progress(config.epochs * len(batches), "fine-tune classifier") as bar:
        while len(history) < config.epochs and not stops(history, config):
            net.train()
            losses = []
            for batch in batches:
                logits = classifier(batch["pixels"].to(device))
                loss = F.binary_cross_entropy_with_logits(logits, batch["labels"].to(device).float())
                if not torch.isfinite(loss):
                    raise FloatingPointError(f"the loss is {loss.item()} in epoch {len(history)}: lower lr (now {config.lr}), or check the images")
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
                bar.update()
            net.eval()
            logits, labels = answers(classifier, val_data, config.batch_size)
            val = F.binary_cross_entropy_with_logits(logits, labels).item()
            if not math.isfinite(val):
                raise FloatingPointError(f"the validation loss is {val} after epoch {len(history)}: lower lr (now {config.lr}), or check the images")
            if val <= min((row["val_total"] for row in history), default=torch.inf):
                best = {key: value.detach().cpu().clone() for key, value in net.state_dict().items()}
            history.append({"epoch": len(history), "total": sum(losses) / len(losses), "val_total": val})
    net.load_state_dict(best)
    net.requires_grad_(False).eval()
    return history


@torch.no_grad()
def answers(classifier: nn.Module, data: Dataset, batch_size: int = 50) -> tuple[Tensor, Tensor]:
    """The classifier's logits and the labels of all items, both (N,K) float32 on the CPU."""
    device = next((tensor.device for tensor in [*classifier.parameters(), *classifier.buffers()]), torch.device("cpu"))
    parts = [(classifier(batch["pixels"].to(device)).cpu(), batch["labels"].float()) for batch in DataLoader(data, batch_size)]
    return torch.cat([logits for logits, _ in parts]), torch.cat([labels for _, labels in parts])
