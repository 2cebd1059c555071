"""What several tests need: small networks and data, parity arrays, and work in processes of its own."""

import json
import math
import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate.state import AcceleratorState, PartialState
from torch import nn

from ptame_lib import PTAME, Classifier, FeatureExtractor, PTAMEWeights
from ptame_lib.classifiers.wrapper import IMAGENET_MEAN, IMAGENET_STD

PARITY = Path(__file__).parent / "parity"


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
        self.pixels = torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(4))

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, i):
        return {"pixels": self.pixels[i]}

    def draw(self, i, generator):
        flip = torch.rand((), generator=generator) < 0.5
        return {"pixels": self.pixels[i].flip(-1) if flip else self.pixels[i]}


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


def plain(net):
    return Classifier(net, (0.0,) * 3, (1.0,) * 3, SIDE)


def quadrant_shares(maps):
    """The share of each map's energy in each quadrant (B,4)."""
    energy = F.adaptive_avg_pool2d(maps[:, None], 2).flatten(1)
    return energy / energy.sum(1, keepdim=True)


class Brightness(nn.Module):
    """p(class 0) = 3^b / (3^b + 1) for an image of mean brightness b: 3/4 when it is white, 1/2 when it is black."""

    def forward(self, pixels):
        b = math.log(3) * pixels.mean((1, 2, 3))
        return torch.stack([b, torch.zeros_like(b)], 1)


# Processes are forked, so that nothing is imported again: to be killed, or to train side by side.

FORK = multiprocessing.get_context("fork") if "fork" in multiprocessing.get_all_start_methods() else None


def start(work, *arguments, **environment):
    """A forked process that does ``work``, on one thread, with accelerate as in a new process."""

    def run():
        os.environ.update(environment)
        AcceleratorState._reset_state(reset_partial_state=True)
        torch.set_num_threads(1)
        work(*arguments)

    process = FORK.Process(target=run, daemon=True)
    process.start()
    return process


def kill_when(process, condition, seconds=60):
    """kill -9 as soon as ``condition()`` holds; the process must not have ended by itself."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.is_alive(), "it ended before it could be killed"
        assert time.monotonic() < deadline, "the moment to kill it did not come"
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def team(count, work, *arguments):
    """``work(rank, ...)`` in ``count`` processes of one group, as ``accelerate launch`` starts them; all must end well."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    connected = FORK.Barrier(count)

    def join(rank):
        PartialState(cpu=True)  # the group: none may leave it before all have come, however busy the machine is
        connected.wait(120)
        work(rank, *arguments)

    common = {
        "WORLD_SIZE": count,
        "LOCAL_WORLD_SIZE": count,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "ACCELERATE_USE_CPU": "true",
    }
    processes = []
    for rank in range(count):
        environment = {key: str(value) for key, value in (common | {"RANK": rank, "LOCAL_RANK": rank}).items()}
        processes.append(start(join, rank, **environment))
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]
