"""What every training loop shares."""

from __future__ import annotations

from pathlib import Path

import torch

from .. import files


def stop(
    loss: float, step: int, lr: float, images: list[str], bad: list[bool] | None = None, checkpoint: Path | None = None
) -> None:
    """FloatingPointError that names the step and its images, and those to which, whole, the classifier's answer is ``bad``."""
    found = [name for name, is_bad in zip(images, bad or [], strict=bool(bad)) if is_bad]
    answers = f" The classifier's answer is not finite for {', '.join(found)}." if found else ""
    kept = f" {files.show(checkpoint)} keeps the last good state." if checkpoint and checkpoint.is_file() else ""
    raise FloatingPointError(
        f"the loss is {loss} at step {step}: lower lr (now {lr}), or check the images and the classifier. The step's images: "
        f"{', '.join(images)}.{answers}{kept}"
    )


def stops(history: list[dict[str, float]], config) -> bool:
    """Whether the last ``config.patience`` validations (rows with ``val_total``) were no better than the best before them by more than
    ``config.min_delta``: early stopping."""
    best, waited = torch.inf, 0
    for row in history:
        if "val_total" in row:
            better = row["val_total"] < best - config.min_delta
            best, waited = (row["val_total"], 0) if better else (best, waited + 1)
    return waited >= config.patience
