"""P-TAME: attention on a frozen auxiliary's features explains any classifier in one forward pass.

Ntrougkas, Mezaris, Patras, "P-TAME: Explain Any Image Classifier With Trained Perturbations", IEEE OJSP 6:536-545,
2025.

    auxiliary = load_auxiliary("resnet18")
    explainer = PTAME(auxiliary, num_classes=1000)
    train_ptame(explainer, classifier, images)                         # once per classifier
    saliency = explainer.explain(pixels, decide(classifier, pixels))   # (B,h,w) in [0,1]

Attention and fuser follow the paper; the order of two linear steps does not. A 1x1 convolution acts on channels and
bilinear upsampling on positions, so they commute. Here each level's slice of the fuser is applied at that level's own
resolution, for the wanted classes only, and the results are then upsampled and added. This equals the paper's order up
to rounding, at a fraction of the cost.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..classifiers.frozen import Size
from ..classifiers.loading import is_file_name
from ..classifiers.wrapper import eval_mode
from ..masking import normalise
from ..validation import check_at_least, check_classes, check_images, check_targets
from . import brief, storage
from .asking import ask_if
from .features import FeatureExtractor, load_auxiliary, load_head

if TYPE_CHECKING:
    from .fast import Fast

PART = 512  # classes whose maps are made together


def attend(features: Tensor, conv: nn.Conv2d, bn: nn.BatchNorm2d) -> Tensor:
    """One level of the attention, (B,C,h,w) -> (B,C,h,w): ReLU(BN(Conv1x1(F)) + F)."""
    if bn.training:
        # The batch norm removes the conv's bias, so the bias's true gradient is 0. Computed, it is rounding noise,
        # which AdamW would scale up to full steps that differ between machines: hence it is set to 0.
        return bn(F.conv2d(features, conv.weight, conv.bias.detach() + 0 * conv.bias)).add_(features).relu_()

    # With fixed statistics, conv, batch norm and the added F are one linear map, computed as one convolution:
    # W' = diag(g) W + I, b' = g (b - mean) + shift, with g = scale / sqrt(var + eps).
    gain = bn.weight * (bn.running_var + bn.eps).rsqrt()
    weight = gain[:, None] * conv.weight[:, :, 0, 0] + torch.diag(torch.ones_like(gain))  # (C,C)
    bias = (conv.bias - bn.running_mean) * gain + bn.bias
    # Dilation does not change a 1x1 convolution, but on a CPU it keeps torch from a three times slower path for small
    # batches.
    return F.conv2d(features, weight[:, :, None, None], bias, dilation=2).relu_()


def upsample_and_add(levels: list[Tensor], one_step: bool = False) -> Tensor:
    """Bring levels (B,n,h_l,w_l) to the first one's size (B,n,h_1,w_1) and add them.

    As in the paper, a level is doubled (bilinear, align_corners=False) as long as it does not exceed the goal, for
    example 7 -> 14 -> 28 -> 56, then resized to the goal if necessary. ``one_step``: resized to the goal at once.
    """
    goal = tuple(levels[0].shape[-2:])

    # upsampling is linear: levels of equal size are added first and upsampled together
    waiting: dict[tuple[int, int], Tensor] = {}
    for level in levels:
        size = tuple(level.shape[-2:])
        waiting[size] = waiting[size] + level if size in waiting else level

    # upsample the smallest level by one step until all are at the goal
    while len(waiting) > 1:
        size = min(size for size in waiting if size != goal)
        doubled = (2 * size[0], 2 * size[1])
        step = doubled if doubled[0] <= goal[0] and doubled[1] <= goal[1] and not one_step else goal
        moved = F.interpolate(waiting.pop(size), step, mode="bilinear", align_corners=False)
        waiting[step] = waiting[step] + moved if step in waiting else moved
    return waiting[goal]


def _reads_a_file(auxiliary: str, weights: str) -> bool:
    """Whether such weights are read from the disk: all but torchvision's names."""
    return weights not in ("default", "none") and (is_file_name(weights) or "/" in auxiliary)


class PTAME(nn.Module):
    """The explainer: ``auxiliary`` is frozen; ``convs``, ``bns`` and ``fuser`` are trained.

    ``num_classes``: classes of the classifier to explain. ``fuser_bias``: False in the published configuration.
    ``one_step``: upsample every level in one step, as T-TAME does.
    """

    def __init__(self, auxiliary: FeatureExtractor, num_classes: int, fuser_bias: bool = False, one_step: bool = False):
        super().__init__()
        check_at_least(1, num_classes=num_classes)
        self.auxiliary = auxiliary
        self.channels = auxiliary.channels  # of each level that the fuser sees
        self.num_classes = num_classes
        self.one_step = one_step
        self.power = 1.0  # of the finished maps, set by `calibrate`
        self.convs = nn.ModuleList(nn.Conv2d(c, c, 1) for c in auxiliary.channels)
        self.bns = nn.ModuleList(nn.BatchNorm2d(c) for c in auxiliary.channels)
        self.fuser = nn.Conv2d(sum(auxiliary.channels), num_classes, 1, bias=fuser_bias)

    def attention(self, pixels: Tensor) -> list[Tensor]:
        """Pixels (B,3,H,W) in [0,1] -> attended feature maps, L x (B,C_l,h_l,w_l)."""
        with torch.no_grad():  # the auxiliary is frozen and the pixels are data
            features = self.auxiliary(pixels)
        return [attend(f, conv, bn) for f, conv, bn in zip(features, self.convs, self.bns, strict=True)]

    def maps(self, pixels: Tensor, classes: Tensor | None = None) -> Tensor:
        """Raw maps (B,n,h,w), before the sigmoid, of n classes for every image, at the first level's size.

        ``classes``: (n,) int64, duplicates allowed; None for all. Raises ValueError for a class outside the range.
        """
        return self.fuse_all(self.attention(pixels), classes)

    def fuse_all(self, attended: list[Tensor], classes: Tensor | None) -> Tensor:
        """The second half of `maps`, from what `attention` gives."""
        # the fuser's rows of the wanted classes
        weight, bias = self.fuser.weight, self.fuser.bias  # (K, sum C_l, 1, 1), (K,)
        if classes is not None:
            check_classes(classes, self.num_classes)
            weight, bias = weight[classes], None if bias is None else bias[classes]  # (n, sum C_l, 1, 1), (n,)

        # without a gradient many classes go in parts: what leads to their maps takes thrice their memory
        if len(weight) > PART and not (torch.is_grad_enabled() and weight.requires_grad):
            fused = attended[0].new_empty(len(attended[0]), len(weight), *attended[0].shape[-2:])
            for start in range(0, len(weight), PART):
                part = slice(start, start + PART)
                fused[:, part] = self._fuse(attended, weight[part], None if bias is None else bias[part])
            return fused
        return self._fuse(attended, weight, bias)

    def _fuse(self, attended: list[Tensor], weight: Tensor, bias: Tensor | None) -> Tensor:
        """The fuser's rows ``weight`` (n,sum C_l,1,1), ``bias`` (n,) on each level by itself, upsampled and added."""
        slices = weight.split(self.channels, dim=1)  # L x (n, C_l, 1, 1)
        levels = [F.conv2d(a, w) for a, w in zip(attended, slices, strict=True)]  # L x (B, n, h_l, w_l)
        fused = upsample_and_add(levels, self.one_step)  # (B, n, h_1, w_1)
        return fused if bias is None else fused + bias[:, None, None]

    def forward(self, pixels: Tensor, classes: Tensor | None = None, own: bool = False) -> Tensor:
        """`maps`, or of each image's ``own`` class `own_maps`, for the training loop; raises as `maps`."""
        if not own:
            return self.maps(pixels, classes)
        check_classes(classes, self.num_classes)
        return self.own_maps(pixels, classes)

    def own_maps(self, pixels: Tensor, targets: Tensor) -> Tensor:
        """Raw maps (B,h,w) of each image's own target, without the fuser's bias."""
        return self.fuse_own(self.attention(pixels), targets)

    def fuse_own(self, attended: list[Tensor], targets: Tensor) -> Tensor:
        """The second half of `own_maps`, from what `attention` gives."""
        slices = self.fuser.weight[targets, :, 0, 0].split(self.channels, dim=1)  # L x (B, C_l)
        levels = [torch.einsum("bchw,bc->bhw", a, w)[:, None] for a, w in zip(attended, slices, strict=True)]
        return upsample_and_add(levels, self.one_step)[:, 0]  # L x (B, 1, h_l, w_l) -> (B, h_1, w_1)

    def explain(
        self,
        pixels: Tensor,
        targets: Tensor,
        *,
        classifier: nn.Module | None = None,
        questions: int = 0,
        asking: str = "steps",
    ) -> Tensor:
        """Saliency maps (B,h,w) in [0,1], float32: the map of each image's own target, min-max normalised.

        A calibrated explainer (`calibrate`) raises them to its ``power``, which moves no rank of their pixels.
        ``targets`` (B,) int64: usually the classifier's decisions. In eval mode, without gradient. ``questions``: so
        many times the ``classifier`` is asked about each image to correct its map, now (B,H,W). ``asking``: in which
        way; ``steps`` and ``averaged`` cost four passes for each question (`ask_further`, `ask_averaged`), ``areas``
        one, and need two (`ask_about_areas`). Raises ValueError for pixels that are not (B,3,H,W) in [0,1], for targets
        of another number, type or range, for an unknown way, and for questions without a classifier.
        """
        check_images(pixels)
        check_targets(targets, pixels.shape[0], self.num_classes)
        with eval_mode(self), torch.no_grad():
            maps = self.finished(self.own_maps(pixels, targets))
        return ask_if(classifier, pixels, targets, maps, questions, asking)

    def finished(self, own: Tensor) -> Tensor:
        """The maps of `explain` from `own_maps`."""
        maps = normalise(own)  # the fuser's bias would cancel here
        return maps if self.power == 1 else maps.pow(self.power)

    def fast(self, runtime: str = "onnx", precision: str = "float32", size: Size | None = None) -> Fast:
        """This explainer, as it now is, on a faster runtime: an object with the same ``explain`` (`Fast`)."""
        from .fast import fast  # which knows ONNX

        return fast(self, runtime, precision, size)

    def contributions(self) -> Tensor:
        """Share of each level (L,): softmax over the fuser's inputs, summed per level, mean over classes."""
        share = self.fuser.weight[:, :, 0, 0].softmax(1).split(self.channels, dim=1)
        return torch.stack([level.sum(1).mean() for level in share])

    @torch.no_grad()
    def start_from_head(self, head: Tensor, scale: float = 0.2) -> PTAME:
        """Start from what the auxiliary knows of the classes, if it has the same ones. Returns itself.

        ``head`` (num_classes,C_L): for each class its row of the linear layer behind the last level's average pooling
        (if it is several of the auxiliary's classes, the mean of their rows). The untrained explainer then gives the
        auxiliary's class activation maps (Zhou et al., CVPR 2016), also for classes without training images. ``scale``
        only matters where the maps pass a sigmoid. Raises ValueError for a head of another shape.
        """
        wanted = (self.num_classes, self.auxiliary.channels[-1])
        if tuple(head.shape) != wanted:
            raise ValueError(
                f"the head must be {wanted}, a row of the last level's channels for each class, got "
                f"{tuple(head.shape)}: pass the weight of the linear layer right behind that level's average pooling"
            )
        # the fuser: the head without its mean row for the last level, 0 for the others
        self.fuser.weight.zero_()
        self.fuser.weight[:, -wanted[1] :, 0, 0] = scale * (head - head.mean(0)).to(self.fuser.weight)
        if self.fuser.bias is not None:
            self.fuser.bias.zero_()
        # the attention: the features themselves, ReLU(F)
        for bn in self.bns:
            bn.weight.zero_()
            bn.bias.zero_()
        return self

    # saving and loading

    def trained_state(self) -> dict[str, Tensor]:
        """The trained parameters and batch-norm buffers: ``convs.{i}.*``, ``bns.{i}.*``, ``fuser.*``."""
        return {key: value for key, value in self.state_dict().items() if not key.startswith("auxiliary.")}

    def fill(self, state: dict[str, Tensor], source: str | Path) -> None:
        """Load trained parameters; ValueError names the keys or shapes that don't fit, and the remedy."""
        storage.check_fits(self.trained_state(), state, source, storage.PTAME_FORMAT.remedy)
        self.load_state_dict(state, strict=False)

    def config(self) -> dict[str, str]:
        """What is needed to build the explainer again, as a file's metadata."""
        return {
            "format": storage.PTAME_FORMAT.name,
            "auxiliary": self.auxiliary.name,
            "layers": json.dumps(self.auxiliary.layers),
            "channels": json.dumps(self.auxiliary.channels),
            "num_classes": str(self.num_classes),
            "fuser_bias": str(self.fuser.bias is not None),
            "one_step": str(self.one_step),
            "power": str(self.power),
        }

    def save(self, file: str | Path, **about: Any) -> None:
        """Write the trained parameters, with `config` and ``about`` as metadata (`storage.write`).

        ``about`` by convention, all optional: ``classifier`` (its name), ``labels`` (of its classes), ``weights`` and
        ``auxiliary_weights`` (as for loading both), ``profile``, ``seed``, ``training`` (the `TrainingConfig`),
        ``images`` (what it was trained on), ``input_size``, ``metrics`` (name -> number), ``licence``. `model_card`
        reads them.
        """
        storage.write(file, self.trained_state(), self.config(), **about)

    def save_brief(self, file: str | Path, head: Tensor, **about: Any) -> None:
        """Write as `save`, in half precision and without the auxiliary's own ``head`` (K,C_L), as `brief` says.

        `load` gets the head from the auxiliary's default weights. Raises as `brief.shorten`.
        """
        state, scale = brief.shorten(self.trained_state(), head, self.auxiliary.channels)
        storage.write(file, state, self.config() | {brief.SCALE: str(scale)}, **about)

    @classmethod
    def load(
        cls, file: str | Path, auxiliary: FeatureExtractor | None = None, auxiliary_weights: str | Path | None = None
    ) -> PTAME:
        """The explainer saved at ``file``, in eval mode; ``auxiliary``: None loads the one it names.

        Local weights of the auxiliary are loaded only if the caller names them, since the file may be a stranger's:
        ``auxiliary_weights`` replace those it names. Raises FileNotFoundError, and ValueError for another kind of file,
        another auxiliary and local weights that only the file names.
        """
        config, state = storage.read(file, storage.PTAME_FORMAT)
        name, layers = config["auxiliary"], json.loads(config["layers"])

        # the auxiliary is not in the file: load it by name, or check the given one
        weights = auxiliary_weights or config.get("auxiliary_weights", "default")
        if auxiliary is None and auxiliary_weights is None and _reads_a_file(name, weights):
            remedy = "if you trust them, name them as well (auxiliary_weights=, or --auxiliary-weights)"
            raise ValueError(
                f"{file} asks for the auxiliary's weights {weights!r}, which no file can have loaded unasked: {remedy}"
            )
        if auxiliary is None and weights == "none":
            raise ValueError(
                f"{file} was trained on random features of {name}, which are not stored: pass that very auxiliary"
            )
        auxiliary = auxiliary or load_auxiliary(name, None if name.startswith("timm/") else layers, weights)
        if name != auxiliary.name or set(layers or ()) != set(auxiliary.layers or ()):
            given = f"{auxiliary.name} (layers {list(auxiliary.layers or ()) or None})"
            raise ValueError(
                f"{file} was trained on {name} (layers {layers}), not on {given}: load it with that auxiliary"
            )

        # build and fill the explainer
        def make() -> PTAME:
            try:
                return cls.from_config(config, auxiliary)
            except ValueError as error:
                raise ValueError(f"{file} has metadata that can't be used ({error}): {storage.AGAIN}") from error

        remedy = storage.PTAME_FORMAT.remedy
        if brief.SCALE in config:
            with torch.device("meta"):
                blank = make().trained_state()
            state = brief.lengthen(state, blank, load_head(name), config[brief.SCALE], file)
        explainer = storage.build(make, state, file, remedy)
        explainer.power = storage.read_power(config, file)
        return explainer

    @classmethod
    def from_config(cls, config: dict[str, str], auxiliary: FeatureExtractor, **more: Any) -> PTAME:
        """An untrained explainer as a file's metadata ask for it, made with ``more`` that a kind of P-TAME has.

        Raises ValueError for metadata that lack something or ask for what can't be made.
        """
        classes, bias, one_step = int(config["num_classes"]), config["fuser_bias"], config.get("one_step")
        return cls(auxiliary, classes, bias == "True", one_step == "True", **more)

    @classmethod
    def load_official_checkpoint(cls, file: str | Path, auxiliary: FeatureExtractor) -> PTAME:
        """The explainer in one of the authors' checkpoints, in eval mode; ``auxiliary``: as in training.

        The number of classes and whether the fuser has a bias are read from its parameters. Raises FileNotFoundError,
        and ValueError for a file that is not such a checkpoint or does not fit the auxiliary.
        """
        state = storage.read_official(file)
        classes, bias = state["fuser.weight"].shape[0], "fuser.bias" in state
        return storage.build(lambda: cls(auxiliary, classes, bias), state, file, storage.PTAME_FORMAT.remedy)
