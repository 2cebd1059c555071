"""Fine-tune multi-label classifiers from ImageNet weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ptame_lib.classifiers.loading import load_multilabel
from ptame_lib.classifiers.wrapper import Classifier, device_of, eval_mode
from ptame_lib.explainers import storage
from ptame_lib.training import distributed
from ptame_lib.training.batches import Steps
from ptame_lib.training.checkpoints import TrainingState
from ptame_lib.training.loop import TrainingLoop
from ptame_lib.validation import check_amounts, check_at_least

from . import paths
from .classifiers import class_names
from .images import load_parts
from .profiles import load_profile
from .records import write_table
from .settings import ImageSettings


def finetune_for(profile: str, classifier: str) -> None:
    """Fine-tune ``classifier`` as the profile says; weights and history go to its results.

    ``finetune``: ``dataset``, the fields of `FinetuneConfig`, ``weights`` (as for `load_multilabel`) and ``images`` (0:
    all) of each part. Raises ValueError for a profile or a classifier without it, and as `finetune`.
    """
    # the settings
    content = load_profile(profile)
    settings, known = dict(content.get("finetune") or {}), content.get("multi_label", [])
    if not settings or classifier not in known:
        raise ValueError(
            f"profile {profile} has no 'finetune' for {classifier!r}: its multi_label classifiers are {known}"
        )
    dataset, n, weights = settings.pop("dataset"), settings.pop("images", 0), settings.pop("weights", "default")
    config = FinetuneConfig(**settings)

    # images and network
    images = ImageSettings(dataset, train_images=n, val_images=n, multi_label=True)
    train, val = load_parts(images, ["train", "val"])
    names = class_names(train)
    torch.manual_seed(config.seed)  # of the new head
    network = load_multilabel(classifier, len(names), None if weights == "none" else weights, names)

    history = finetune(network, train, val, config)
    write_table(paths.results(profile) / f"finetune-{paths.slug(classifier)}.csv", pd.DataFrame(history))
    about = {"classifier": classifier, "profile": profile}
    storage.write(paths.multilabel(profile, classifier), network.model.state_dict(), about)


@dataclass(frozen=True)
class FinetuneConfig:
    """How to fine-tune: Adam on all layers, until ``patience`` epochs were not better by ``min_delta``.

    Raises ValueError for numbers out of range.
    """

    epochs: int = 30
    batch_size: int = 16
    lr: float = 1e-4
    patience: int = 3
    min_delta: float = 1e-3
    seed: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        check_at_least(1, epochs=self.epochs, batch_size=self.batch_size, patience=self.patience)
        check_at_least(0, seed=self.seed, workers=self.workers)
        check_amounts(lr=self.lr, min_delta=self.min_delta)


class FinetuneLoss(NamedTuple):
    """The mean binary cross-entropy of a batch."""

    total: Tensor


def finetune(
    classifier: Classifier, data: Dataset, val_data: Dataset, config: FinetuneConfig = FinetuneConfig()
) -> list[dict[str, float]]:
    """Train the classifier's network in place; it ends frozen, with the best weights of the validation.

    Items have ``pixels`` (3,H,W) in [0,1] and ``labels`` (K,). Returns one row per epoch: epoch, ``total`` and
    ``val_total``, mean binary cross-entropies. The classifier moves to the device that accelerate finds. Raises
    FloatingPointError for a loss that is not finite.
    """
    team, net = distributed.accelerator(config.batch_size), classifier.model

    def loss(net: nn.Module, pixels: Tensor, labels: Tensor) -> FinetuneLoss:
        return FinetuneLoss(F.binary_cross_entropy_with_logits(classifier(pixels), labels.float()))

    def validate() -> dict[str, float]:
        with eval_mode(net):
            logits, labels = answers(classifier, val_data, config.batch_size)
        return {"val_total": F.binary_cross_entropy_with_logits(logits, labels).item()}

    # train all layers, with a constant rate
    steps, per_epoch = _steps(data, config, team.device)
    optimizer = torch.optim.Adam(net.requires_grad_(True).parameters(), lr=config.lr)
    state = TrainingState(net, classifier, optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0))
    classifier.frozen = False
    training = TrainingLoop(state, steps, loss, config, team, "fine-tune classifier", per_epoch, validate=validate)
    try:
        rows = training.run()
    finally:
        classifier.frozen = True
        net.requires_grad_(False)

    # one row per epoch
    epochs = [rows[start : start + per_epoch] for start in range(0, len(rows), per_epoch)]
    totals = [sum(row["total"] for row in epoch) / per_epoch for epoch in epochs]
    return [{"epoch": i, "total": totals[i], "val_total": epoch[-1]["val_total"]} for i, epoch in enumerate(epochs)]


def _steps(data: Dataset, config: FinetuneConfig, device: torch.device) -> tuple[Steps, int]:
    """All epochs' steps, shuffled by a generator of their own, and how many make an epoch."""
    size, order = config.batch_size, torch.Generator().manual_seed(config.seed)
    options = {"drop_last": len(data) > size, "generator": order, "num_workers": config.workers}
    loader = DataLoader(data, size, shuffle=True, **options)

    def batches(first: int) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(config.epochs):
            yield from ((batch["pixels"].to(device), batch["labels"].to(device)) for batch in loader)

    steps = Steps(config.epochs * len(loader), batches, lambda step: f"in epoch {step // len(loader)}")
    return steps, len(loader)


@torch.no_grad()
def answers(classifier: nn.Module, data: Dataset, batch_size: int = 50) -> tuple[Tensor, Tensor]:
    """The classifier's logits and the labels of all items, both (N,K) float32 on the CPU."""
    device, logits, labels = device_of(classifier), [], []
    for batch in DataLoader(data, batch_size):
        logits.append(classifier(batch["pixels"].to(device)).cpu())
        labels.append(batch["labels"].float())
    return torch.cat(logits), torch.cat(labels)
