"""P-TAME's parameters without what its auxiliary has already: an explainer of a thousand classes in a small file.

Where all classes' rows of the last level learned alike (`TrainingConfig.tied`, after `PTAME.start_from_head`), they are
the auxiliary's own head, scaled, plus one row for all. A level that passes its features as they are needs no
parameters. The rest is kept in half precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

FUSER, BEFORE, SHARED = "fuser.weight", "fuser.before", "fuser.shared"
SCALE = "head_scale"  # the entry of a file's metadata that says that it is brief
APART = 1e-3  # of the largest weight: how far the rows of the last level may be from the head and one row for all


def shorten(state: dict[str, Tensor], head: Tensor, channels: Sequence[int]) -> tuple[dict[str, Tensor], float]:
    """The trained state without the ``head`` (K,C_L), in half precision, and the head's scale in it.

    ``channels``: of each level. Raises ValueError for a fuser with a bias, a head of another shape, rows of the last
    level that learned apart, and values that half precision can't hold.
    """
    rows = state[FUSER].detach().float()[:, -channels[-1] :, 0, 0]  # (K,C_L)
    if "fuser.bias" in state or head.shape != rows.shape:
        what = "a fuser with a bias" if "fuser.bias" in state else f"a head of {tuple(head.shape)}"
        raise ValueError(f"{what} can't be saved in brief: for {tuple(rows.shape)} rows without a bias, save it whole")
    centred, shared = _centred(head).to(rows), rows.mean(0)
    scale = (((rows - shared) * centred).sum() / centred.square().sum()).item()
    if (scale * centred + shared - rows).abs().max() > APART * rows.abs().max():
        raise ValueError("the rows of the last level learned apart: train with tied rows, or save the explainer whole")

    # what is left: the other levels' rows, one row of the last, and the attention that does something
    kept = {key: value for key, value in state.items() if key != FUSER}
    for level in range(len(channels)):
        if not (state[f"bns.{level}.weight"].any() or state[f"bns.{level}.bias"].any()):
            kept = {key: value for key, value in kept.items() if key.split(".")[:2] not in _names(level)}
    kept |= {BEFORE: state[FUSER][:, : -channels[-1]], SHARED: shared[None, :, None, None]}
    short = {key: value.half() if value.is_floating_point() else value for key, value in kept.items()}
    if large := [key for key, value in short.items() if value.isinf().any()]:
        raise ValueError(f"{large[0]} is too large for half precision, above 65504: save it whole")
    return short, scale


def lengthen(
    state: dict[str, Tensor], blank: dict[str, Tensor], head: Tensor, scale: str, source: str | Path
) -> dict[str, Tensor]:
    """The whole state again from what `shorten` left; ``blank``: that of an untrained explainer, for its shapes.

    Raises ValueError for a head or a state that do not fit, and a scale that is no number.
    """
    shape = blank[FUSER].shape  # (K,C,1,1)
    before, shared = (state.get(key, torch.empty(0)) for key in (BEFORE, SHARED))
    wanted = ((shape[0], shape[1] - head.shape[1], 1, 1), (1, head.shape[1], 1, 1))
    if (tuple(before.shape), tuple(shared.shape)) != wanted or head.shape[0] != shape[0]:
        found = f"{tuple(before.shape)} and {tuple(shared.shape)} beside a head of {tuple(head.shape)}"
        raise ValueError(f"{source} does not fit its auxiliary: its fuser has {found}. Get the file again")
    try:
        last = float(scale) * _centred(head)[..., None, None] + shared.float()
    except ValueError as error:
        raise ValueError(f"{source} has a {SCALE} of {scale!r}, which is no number: get the file again") from error
    whole = {key: value for key, value in state.items() if key not in (BEFORE, SHARED)}

    # a level without parameters passes its features
    for key, value in blank.items():
        level = key.split(".")[:2]
        if level[0] in ("convs", "bns") and not any(other.split(".")[:2] in _names(level[1]) for other in state):
            passing = torch.ones_like if key.endswith("running_var") else torch.zeros_like
            whole[key] = passing(value, device="cpu")
    return whole | {FUSER: torch.cat([before.float(), last], 1)}


def _centred(head: Tensor) -> Tensor:
    return head.float() - head.float().mean(0)


def _names(level: int | str) -> tuple[list[str], list[str]]:
    """How the names of a level's parameters begin."""
    return ["convs", str(level)], ["bns", str(level)]
