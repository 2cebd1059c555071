"""Fine-tune multi-label classifiers from ImageNet weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ptame_lib.classifiers.loading import load_multilabel
from ptame_lib.classifiers.wrapper import Classifier
from ptame_lib.explainers import storage
from ptame_lib.progress import progress
from ptame_lib.training.loop import stops

from . import paths
from .classifiers import class_names
from .images import load_parts
from .profiles import load_profile
from .records import write_table
from .settings import ImageSettings


def finetune_for(profile: str, classifier: str) -> None:
    """Fine-tune ``classifier`` from ImageNet's weights as the profile's ``finetune`` says, into `paths.multilabel`, with the history beside it.

    ``finetune``: ``dataset``, the fields of `FinetuneConfig`, ``weights`` (as for `load_multilabel`) and ``images`` (0: all) of the
    training and of the validation part. Raises ValueError for a profile or classifier without, and as `finetune`.
    """
    content = load_profile(profile)
    settings = dict(content.get("finetune") or {})
    if not settings or classifier not in content.get("multi_label", []):
        raise ValueError(
            f"profile {profile} has no 'finetune' for {classifier!r}: its multi_label classifiers are {content.get('multi_label', [])}"
        )
    dataset, n, weights = settings.pop("dataset"), settings.pop("images", 0), settings.pop("weights", "default")
    images = ImageSettings(dataset, train_images=n, val_images=n, multi_label=True)
    train, val = load_parts(images, ["train", "val"])
    names, config = class_names(train), FinetuneConfig(**settings)
    torch.manual_seed(config.seed)  # of the new head
    network = load_multilabel(classifier, len(names), None if weights == "none" else weights, names)
    history = finetune(network.to("cuda" if torch.cuda.is_available() else "cpu"), train, val, config)
    write_table(paths.results(profile) / f"finetune-{paths.slug(classifier)}.csv", pd.DataFrame(history))
    storage.write(
        paths.multilabel(profile, classifier),
        network.model.state_dict(),
        {"classifier": classifier, "profile": profile},
    )


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


def finetune(
    classifier: Classifier, data: Dataset, val_data: Dataset, config: FinetuneConfig = FinetuneConfig()
) -> list[dict[str, float]]:
    """Train the classifier's network in place, on the device it is on; it ends frozen, with the weights of the lowest validation loss.

    Items have ``pixels`` (3,H,W) in [0,1] and ``labels`` (K,). Returns one row per epoch: epoch, ``total`` and ``val_total``, the mean
    binary cross-entropies. ``saved.write(file, classifier.model.state_dict(), {})`` makes a file for `load_multilabel`.

    Raises FloatingPointError when the loss isn't finite.
    """
    torch.manual_seed(config.seed)
    order = torch.Generator().manual_seed(config.seed)
    batches = DataLoader(
        data,
        config.batch_size,
        shuffle=True,
        generator=order,
        drop_last=len(data) > config.batch_size,
        num_workers=config.workers,
    )
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
                    raise FloatingPointError(
                        f"the loss is {loss.item()} in epoch {len(history)}: lower lr (now {config.lr}), or check the images"
                    )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
                bar.update()
            net.eval()
            logits, labels = answers(classifier, val_data, config.batch_size)
            val = F.binary_cross_entropy_with_logits(logits, labels).item()
            if not math.isfinite(val):
                raise FloatingPointError(
                    f"the validation loss is {val} after epoch {len(history)}: lower lr (now {config.lr}), or check the images"
                )
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
    parts = [
        (classifier(batch["pixels"].to(device)).cpu(), batch["labels"].float())
        for batch in DataLoader(data, batch_size)
    ]
    return torch.cat([logits for logits, _ in parts]), torch.cat([labels for _, labels in parts])
