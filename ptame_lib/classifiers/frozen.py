"""A network that somebody else owns, asked as if it were frozen and left as it was."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from numbers import Integral

import torch
from torch import Tensor, nn

from ..validation import check_image_shape

Size = int | tuple[int, int]  # a side, or (height, width)

REMEDY = "wrap it as BlackBox(lambda pixels: network((pixels - mean) / std), input_size)"


class Frozen(nn.Module):
    """A network behind the normalisation it expects, in eval mode and without gradients of its own.

    `Classifier` and `FeatureExtractor` share it. The network is shared with its owner, who may go on to train it: each
    call sees the weights as they then are, and leaves modes, ``requires_grad``, gradients and layouts as they were.
    Gradients still flow to the pixels. ``frozen = False`` lets the network learn through the wrapper, in its own mode.

    ``input_size`` is the side, or (height, width), of the images it was made for. A network of one channel has one
    ``mean`` and one ``std``; it gets the average of the colours. Pixels are converted to the network's own type.

    Raises TypeError for what is no module or has no gradient (an exported program, a quantised network).
    """

    frozen = True

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float], input_size: Size):
        super().__init__()
        self.model = _check_network(model)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.input_size = height_and_width(input_size)
        self.owned = False
        self.channels_last: bool | None = None  # whether the faster layout gives the same answer; None: not tried yet
        self.training = False

    def own(self, channels_last: bool | None = None) -> Frozen:
        """Freeze the network for good and lay it out for speed: nobody else needs it. Returns itself.

        ``channels_last``: whether the faster layout is known to give the same answer; None tries it at the first call.
        """
        self.owned = True
        self.channels_last = self.channels_last if channels_last is None else channels_last
        self.model.eval().requires_grad_(False)
        if self.channels_last:
            lay_out(self.model)
        return self

    def train(self, mode: bool = True) -> Frozen:
        """Stay in eval mode, whatever a parent asks for; the network's own mode is its owner's."""
        return self

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        with suppress(NotImplementedError):  # of exported programs
            self.model.eval()  # a copy of a graph would come in training mode

    def __copy__(self) -> Frozen:
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)  # the owner's network, which `__setstate__` would change
        return twin

    def run(self, pixels: Tensor):
        """The model's own answer to pixels (B,3,H,W) in [0,1]; ValueError for another shape or whole numbers."""
        # one channel for a network of one, normalised, in the network's type
        channels = self.mean.shape[1]
        grey = channels == 1 and isinstance(pixels, Tensor) and pixels.ndim == 4 and pixels.shape[1] == 1
        check_image_shape(pixels, 3 if channels == 1 and not grey else channels)
        if channels == 1 and not grey:
            pixels = pixels.mean(1, keepdim=True)
        x = (pixels - self.mean) / self.std
        if (own := type_of(self.model)) is not None and own != x.dtype:
            x = x.to(own)
        # in the faster layout if that is safe
        if self.channels_last is None and not torch.compiler.is_compiling():
            self.channels_last = _same_in_channels_last(self.model, x)
            if self.owned and self.channels_last:
                lay_out(self.model)
        if not self.frozen or (self.owned and torch.compiler.is_compiling()):
            return self._ask(x)
        return self._ask_at_rest(x)

    @torch.compiler.disable  # the flags of the owner's network belong into no graph
    def _ask_at_rest(self, x: Tensor):
        with at_rest(self.model):
            return self._ask(x)

    def _ask(self, x: Tensor):
        if not self.channels_last:
            return self.model(x.contiguous())
        try:
            return self.model(x.contiguous(memory_format=torch.channels_last))
        except RuntimeError as error:
            # a size for which the network needs the other layout
            if "view size is not compatible" not in str(error):
                raise
        self.channels_last = False
        return self.model(x.contiguous())


@contextmanager
def at_rest(module: nn.Module) -> Iterator[None]:
    """Put all parts in eval mode and let no parameter learn while the block runs; then each is as it was.

    Only flags are set: a part's own ``train()`` may do more, which could not be undone.
    """
    # what is not at rest, for most networks nothing; this walk takes a third of module.modules()'s time
    parts = [module]
    for part in parts:  # which grows
        if part._modules:
            parts += [child for child in part._modules.values() if child is not None]
    awake, learning = [part for part in parts if part.training], []
    if torch.is_grad_enabled():
        learning = [p for part in parts for p in part._parameters.values() if p is not None and p.requires_grad]
    try:
        for part in awake:
            part.training = False
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        for part in awake:
            part.training = True
        for parameter in learning:
            parameter.requires_grad_(True)


@contextmanager
def frozen_at_rest(*modules: nn.Module) -> Iterator[None]:
    """`at_rest` for all frozen networks in ``modules``: their calls then have nothing to change."""
    with ExitStack() as stack:
        for part in (part for module in modules for part in module.modules()):
            if isinstance(part, Frozen) and part.frozen:
                stack.enter_context(at_rest(part.model))
        yield


def _same_in_channels_last(model: nn.Module, x: Tensor) -> bool:
    """Whether two seeded images like ``x`` get the same answer in either layout of memory.

    Channels last is faster on CPU and GPU, but a network may count on the usual layout, as ``x.view(-1, n)`` does.
    The caller's random state does not move, and his forward hooks see nothing (his forward pre-hooks do).
    """
    # the network itself, the images, and the hooks to leave out
    model = getattr(model, "_orig_mod", model)  # not to compile it twice
    noise = torch.randn(2, *x.shape[1:], generator=torch.Generator().manual_seed(0)).to(x)
    hooked = [(part, part._forward_hooks) for part in model.modules() if part._forward_hooks]
    devices = [x.device] if x.device.type == "cuda" else []

    # ask in both layouts
    try:
        for part, _ in hooked:
            part._forward_hooks = OrderedDict()
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast(x.device.type, enabled=False),
            torch.random.fork_rng(devices),
            at_rest(model),
        ):
            wanted, found = _tensors(model(noise)), _tensors(model(noise.contiguous(memory_format=torch.channels_last)))
            return bool(wanted) and len(wanted) == len(found) and all(map(_close, wanted, found))
    except Exception:  # the network's own code, which can fail in any way; the call itself will say how
        return False
    finally:
        for part, hooks in hooked:
            part._forward_hooks = hooks


def _tensors(answer) -> list[Tensor]:
    """The tensors of an answer: one, several, or by name."""
    parts = answer.values() if isinstance(answer, dict) else [answer] if isinstance(answer, Tensor) else answer
    return [part for part in parts if isinstance(part, Tensor)]


def _close(wanted: Tensor, found: Tensor) -> bool:
    """Whether two answers differ by rounding: by less than those to two images (first axis) do."""
    if wanted.shape != found.shape or len(wanted) < 2:
        return False
    wanted, found, eps = wanted.double(), found.double(), torch.finfo(wanted.dtype).eps
    off, size, apart = (found - wanted).abs().max(), wanted.abs().max(), (wanted[0] - wanted[1]).abs().max()
    return bool(off <= eps**0.5 * size and off <= 0.05 * apart + 64 * eps * size)


def lay_out(model: nn.Module) -> None:
    """Channels last, parameter by parameter: model.to(memory_format=...) refuses networks with a Conv3d."""
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def type_of(model: nn.Module) -> torch.dtype | None:
    """The type of the network's first weights; None if it has none."""
    # asked at every call: model.parameters() takes three times as long
    for parameter in model._parameters.values():
        if parameter is not None and parameter.is_floating_point():
            return parameter.dtype
    children = (type_of(child) for child in model._modules.values() if child is not None)
    return next((found for found in children if found is not None), None)


def _check_network(model: nn.Module) -> nn.Module:
    """Return the ``model``; raise TypeError for one that is no module, or has no gradient."""
    if not isinstance(model, nn.Module):
        kind = type(model).__name__
        remedy = "pass its .module()" if kind == "ExportedProgram" else REMEDY
        raise TypeError(f"the network must be an nn.Module, got a {kind}: {remedy}")
    for name, part in model.named_modules():
        if ".quantized" in type(part).__module__ or any(p.is_quantized for p in part.parameters(recurse=False)):
            where = f"{type(model).__name__} is quantised (its part {name or type(part).__name__!r})"
            raise TypeError(f"{where} and has no gradient: {REMEDY}")
    return model


def height_and_width(input_size: Size) -> tuple[int, int]:
    """A side, or (height, width), as (height, width). Raises ValueError for anything else."""
    sides = (input_size, input_size) if isinstance(input_size, Integral) else tuple(input_size)
    if len(sides) != 2 or not all(isinstance(side, Integral) and side > 0 for side in sides):
        raise ValueError(f"input_size must be a side or (height, width), whole numbers above 0, got {input_size!r}")
    return sides
