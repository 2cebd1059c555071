"""P-TAME: a small attention mechanism on a frozen auxiliary's features explains any image classifier in one forward pass.

Ntrougkas, Mezaris, Patras, "P-TAME: Explain Any Image Classifier With Trained Perturbations", IEEE OJSP 6:536-545, 2025.

    auxiliary = load_auxiliary("resnet18")
    explainer = PTAME(auxiliary, num_classes=1000)
    train_ptame(explainer, classifier, images)                      # once per classifier, see training.py
    saliency = explainer.explain(pixels, decide(classifier, pixels))   # (B,h,w) in [0,1]

The attention and the fuser follow the paper; the order of two linear steps does not: a 1x1 convolution and bilinear
upsampling act on different axes and commute, so each level's slice of the fuser is applied at that level's own resolution,
for the wanted classes only, and only then upsampled and added. Equal up to rounding, at a fraction of the cost.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..masking import normalise
from ..validation import check_at_least, check_classes, check_images, check_targets
from . import storage
from .features import FeatureExtractor, load_auxiliary
from .storage import OFFICIAL, _some, read_official

FORMAT = "ptame-1"


REMEDY = "Load it with the auxiliary, the number of classes and the fuser bias it was trained with."


class PTAME(nn.Module):
    """The explainer. ``auxiliary`` is frozen; ``convs``, ``bns`` and ``fuser`` are trained.

    ``num_classes``: classes of the classifier to explain. ``fuser_bias`` is False in the published configuration.
    ``one_step``: upsample every level in one bilinear step, as T-TAME does, instead of repeated x2 steps.
    """

    own_only = False  # whether the training's loss sees each image's own target's map alone

    def __init__(self, auxiliary: FeatureExtractor, num_classes: int, fuser_bias: bool = False, one_step: bool = False):
        super().__init__()
        check_at_least(1, num_classes=num_classes)
        self.auxiliary = auxiliary
        self.num_classes = num_classes
        self.one_step = one_step
        self.convs = nn.ModuleList(nn.Conv2d(c, c, 1) for c in auxiliary.channels)
        self.bns = nn.ModuleList(nn.BatchNorm2d(c) for c in auxiliary.channels)
        self.fuser = nn.Conv2d(sum(auxiliary.channels), num_classes, 1, bias=fuser_bias)

    def attention(self, pixels: Tensor) -> list[Tensor]:
        """Pixels (B,3,H,W) in [0,1] -> attended feature maps a_l (B,C_l,h_l,w_l), a_l = ReLU(BN(Conv1x1(F_l)) + F_l)."""
        with torch.no_grad():  # the auxiliary is frozen and the pixels are data
            features = self.auxiliary(pixels)
        return [attend(f, conv, bn) for f, conv, bn in zip(features, self.convs, self.bns, strict=True)]

    def maps(self, pixels: Tensor, classes: Tensor | None = None) -> Tensor:
        """Raw maps (B,n,h,w), no sigmoid, of the n wanted classes for every image, at the first level's size.

        ``classes``: (n,) int64, duplicates allowed; None for all. Raises ValueError for a class outside the range.
        """
        attended = self.attention(pixels)
        weight, bias = self.fuser.weight, self.fuser.bias
        if classes is not None:
            check_classes(classes, self.num_classes)
            weight, bias = weight[classes], None if bias is None else bias[classes]  # (n, sum C_l, 1, 1), (n,)
        slices = weight.split(self.auxiliary.channels, dim=1)  # L x (n, C_l, 1, 1)
        levels = [F.conv2d(a, w) for a, w in zip(attended, slices, strict=True)]  # L x (B, n, h_l, w_l)
        fused = upsample_and_add(levels, self.one_step)  # (B, n, h_1, w_1)
        return fused if bias is None else fused + bias[:, None, None]

    def explain(self, pixels: Tensor, targets: Tensor) -> Tensor:
        """Saliency maps (B,h,w) in [0,1], float32: each image's own target's map, min-max normalised.

        ``targets`` (B,) int64: usually the classifier's decisions. In eval mode, no gradient, one forward pass. Raises ValueError
        for pixels that are not (B,3,H,W) in [0,1], and for targets of another number, type or range.
        """
        check_images(pixels)
        check_targets(targets, pixels.shape[0], self.num_classes)
        was_training = self.training
        if was_training:
            self.eval()
        with torch.no_grad():
            attended = self.attention(pixels)
            slices = self.fuser.weight[targets, :, 0, 0].split(self.auxiliary.channels, dim=1)  # L x (B, C_l)
            levels = [
                torch.einsum("bchw,bc->bhw", a, w)[:, None] for a, w in zip(attended, slices, strict=True)
            ]  # L x (B, 1, h_l, w_l)
            fused = upsample_and_add(levels, self.one_step)[:, 0]  # (B, h, w); the fuser's bias cancels in min-max
        if was_training:
            self.train()
        return normalise(fused)

    def forward(self, pixels: Tensor, classes: Tensor | None = None) -> Tensor:
        return self.maps(pixels, classes)

    def contributions(self) -> Tensor:
        """Feature contribution of each level (L,), summing to 1: softmax of the fuser over its inputs, summed per level, mean over classes."""
        share = self.fuser.weight[:, :, 0, 0].softmax(1).split(self.auxiliary.channels, dim=1)
        return torch.stack([level.sum(1).mean() for level in share])

    @torch.no_grad()
    def start_from_head(self, head: Tensor, scale: float = 0.2) -> PTAME:
        """Start from what the auxiliary already knows of the classes, where it shares them with the classifier. Returns itself.

        ``head`` (num_classes,C_L): the rows of the linear layer that follows the average pooling of the last level, one for each
        class (for a class that is several of the auxiliary's: the mean of theirs). The last level's part of the fuser becomes
        ``scale * (head - its mean row)``, the other levels' parts 0, and the batch norms' weights and biases 0 (a_l = ReLU(F_l)): the
        untrained explainer then gives the auxiliary's class activation maps (Zhou et al., CVPR 2016), also of classes that have no
        image among the training data. ``scale`` only matters where the maps pass a sigmoid.

        Raises ValueError for a head of another shape.
        """
        wanted = (self.num_classes, self.auxiliary.channels[-1])
        if tuple(head.shape) != wanted:
            raise ValueError(
                f"the head must be {wanted}, a row of the last level's channels for each class, got {tuple(head.shape)}: "
                f"pass the weight of the linear layer right behind that level's average pooling"
            )
        self.fuser.weight.zero_()
        self.fuser.weight[:, -wanted[1] :, 0, 0] = scale * (head - head.mean(0)).to(self.fuser.weight)
        if self.fuser.bias is not None:
            self.fuser.bias.zero_()
        for bn in self.bns:
            bn.weight.zero_()
            bn.bias.zero_()
        return self

    def trained_state(self) -> dict[str, Tensor]:
        """The trained parameters and batch-norm buffers alone: ``convs.{i}.*``, ``bns.{i}.*``, ``fuser.*``."""
        return {key: value for key, value in self.state_dict().items() if not key.startswith("auxiliary.")}

    def config(self) -> dict[str, str]:
        """What is needed to build the explainer again, as a file's metadata."""
        return {
            "format": FORMAT,
            "auxiliary": self.auxiliary.name,
            "layers": json.dumps(self.auxiliary.layers),
            "channels": json.dumps(self.auxiliary.channels),
            "num_classes": str(self.num_classes),
            "fuser_bias": str(self.fuser.bias is not None),
            "one_step": str(self.one_step),
        }

    def save(self, file: str | Path, **about: Any) -> None:
        """Write the trained parameters as safetensors, with the `config` and ``about`` in the metadata.

        ``about`` by convention, all optional: ``classifier`` (its name), ``labels`` (of its classes), ``weights`` and
        ``auxiliary_weights`` (as for loading both), ``profile``, ``seed``, ``training`` (the `TrainingConfig`), ``images``
        (what it was trained on), ``input_size``, ``metrics`` (name -> number), ``licence``. Strings are stored as they are,
        the rest as JSON; None is left out. `model_card` reads them.

        Raises ValueError for an entry that would replace one of the configuration.
        """
        config = self.config()
        if taken := sorted(config.keys() & about.keys()):
            raise ValueError(f"{', '.join(taken)} can't be set: the explainer itself says so")
        about = {
            key: value if isinstance(value, str) else json.dumps(value, default=asdict)
            for key, value in about.items()
            if value is not None
        }
        storage.write(file, self.trained_state(), config | about)

    @classmethod
    def load(cls, file: str | Path, auxiliary: FeatureExtractor | None = None) -> PTAME:
        """The explainer saved at ``file``, in eval mode, on ``auxiliary``, which is not stored: None loads it by the saved name and weights.

        Raises FileNotFoundError, and ValueError for a file that is no P-TAME explainer or was trained on another auxiliary.
        """
        config, state = _read(file)
        name, layers = config["auxiliary"], json.loads(config["layers"])
        if auxiliary is None and config.get("auxiliary_weights") == "none":
            raise ValueError(
                f"{file} was trained on random features of {name}, which are not stored: pass that very auxiliary"
            )
        auxiliary = auxiliary or load_auxiliary(
            name, None if name.startswith("timm/") else layers, config.get("auxiliary_weights", "default")
        )
        if name != auxiliary.name or set(layers or ()) != set(auxiliary.layers or ()):
            raise ValueError(
                f"{file} was trained on {name} (layers {layers}), not on {auxiliary.name} (layers {list(auxiliary.layers or ()) or None}): "
                f"load it with that auxiliary"
            )
        explainer = cls(
            auxiliary, int(config["num_classes"]), config["fuser_bias"] == "True", config.get("one_step") == "True"
        )
        explainer.fill(state, file)
        return explainer.eval()

    @classmethod
    def load_official_checkpoint(cls, file: str | Path, auxiliary: FeatureExtractor) -> PTAME:
        """The explainer in one of the authors' released Lightning checkpoints, in eval mode, on the auxiliary it was trained with.

        Such a file holds ``net.attention.{convs,bns,fuser}.*`` in its ``state_dict``; the number of classes and the fuser's bias
        are read from there, everything else in the file is ignored and no code in it is run.

        Raises FileNotFoundError, and ValueError for a file that is no such checkpoint or does not fit the auxiliary.
        """
        state = {key.removeprefix(OFFICIAL): value for key, value in read_official(Path(file)).items()}
        if getattr(state.get("fuser.weight"), "ndim", None) != 4:
            raise ValueError(
                f"{file} does not fit: no {OFFICIAL}fuser.weight (classes, channels, 1, 1) in its state_dict, which has {_some(state)}"
            )
        explainer = cls(auxiliary, state["fuser.weight"].shape[0], "fuser.bias" in state)
        explainer.fill(state, file)
        return explainer.eval()

    def fill(self, state: dict[str, Tensor], source: str | Path) -> None:
        """Take over trained parameters; ValueError names the keys or shapes that don't fit, and what to do."""
        storage.check_fits(self.trained_state(), state, source, REMEDY)
        self.load_state_dict(state, strict=False)


def attend(features: Tensor, conv: nn.Conv2d, bn: nn.BatchNorm2d) -> Tensor:
    """One level of the attention, (B,C,h,w) -> (B,C,h,w): ReLU(BN(Conv1x1(F)) + F).

    Where the batch norm's statistics are fixed, conv, batch norm and the added F are one linear map of F, and are computed as
    one convolution: W' = diag(g) W + I, b' = g (b - mean) + shift, with g = scale / sqrt(var + eps).

    In training the batch norm takes the conv's bias away again, so that its gradient is 0. Computed, it is rounding, which AdamW
    would blow up to whole steps in directions that depend on the machine: hence it is set to 0.
    """
    if bn.training:
        return bn(F.conv2d(features, conv.weight, conv.bias.detach() + 0 * conv.bias)).add_(features).relu_()
    gain = bn.weight * (bn.running_var + bn.eps).rsqrt()
    weight = gain[:, None] * conv.weight[:, :, 0, 0] + torch.diag(torch.ones_like(gain))  # (C,C)
    bias = (conv.bias - bn.running_mean) * gain + bn.bias
    # Dilation changes nothing in a 1x1 convolution, but on the CPU it keeps torch from a three times slower way for small batches.
    return F.conv2d(features, weight[:, :, None, None], bias, dilation=2).relu_()


def upsample_and_add(levels: list[Tensor], one_step: bool = False) -> Tensor:
    """Bring levels (B,n,h_l,w_l) to the first one's size and add them.

    Each level takes bilinear x2 steps (align_corners=False) while they don't overshoot, then one bilinear step if it has
    not arrived, as in the paper (7 -> 14 -> 28 -> 56). Upsampling is linear, so levels that meet at one size on their way
    are added there and go on together. ``one_step``: a single bilinear step each.
    """
    goal = tuple(levels[0].shape[-2:])
    waiting: dict[tuple[int, int], Tensor] = {}
    for level in levels:
        size = tuple(level.shape[-2:])
        waiting[size] = waiting[size] + level if size in waiting else level
    while len(waiting) > 1:
        size = min(size for size in waiting if size != goal)
        doubled = (2 * size[0], 2 * size[1])
        step = doubled if doubled[0] <= goal[0] and doubled[1] <= goal[1] and not one_step else goal
        moved = F.interpolate(waiting.pop(size), step, mode="bilinear", align_corners=False)
        waiting[step] = waiting[step] + moved if step in waiting else moved
    return waiting[goal]


def saved_config(file: str | Path) -> dict[str, str]:
    """The metadata of a saved explainer: auxiliary, layers, channels, num_classes, fuser_bias, and what was added at saving."""
    return _read(Path(file))[0]


def _read(file: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    required = ("auxiliary", "layers", "num_classes", "fuser_bias")
    how = "notebooks/02_train_ptame.ipynb or the command ptame train"
    config, state = storage.read(file, FORMAT, "a P-TAME explainer saved by PTAME.save", how, required)
    try:
        json.loads(config["layers"]), int(config["num_classes"])
    except ValueError as error:
        raise ValueError(
            f"{file} has metadata that can't be read ({error}): train the explainer again, or copy the file again"
        ) from error
    return config, state
