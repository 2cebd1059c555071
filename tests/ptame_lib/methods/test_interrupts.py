"""Whatever stops a method in the middle of its work, the classifier is as it was."""

import random

import numpy as np
import pytest
import torch
from helpers import rand
from torch import nn

from ptame_lib import Budget, Classifier, build_methods
from ptame_lib.classifiers.wrapper import IMAGENET_MEAN, IMAGENET_STD
from ptame_lib.methods import CATALOGUE, CONTROLS, TRUTH
from ptame_lib.methods.catalogue import OWN_ACTIVATIONS, RULED, TRANSFORMERS

SMALL = Budget(
    masks=60,
    path_steps=4,
    samples=12,
    segments=6,
    noisy_samples=3,
    opti_steps=3,
    perturbation_steps=3,
    igos_steps=1,
    igos_path=2,
)
ASKING = [name for name in CATALOGUE if name not in (*CONTROLS, TRUTH)]
KINDS = {"convolutions": (None, RULED, OWN_ACTIVATIONS), "tokens": (None, RULED, TRANSFORMERS)}
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Trap(nn.Module):
    """Passes a feature map on, but raises ``error`` when it is called for the ``last``-th time."""

    def __init__(self):
        super().__init__()
        self.calls, self.last, self.error = 0, None, None

    def forward(self, x):
        self.calls += 1
        if self.calls == self.last:
            raise self.error
        return x + 0


class Block(nn.Module):
    """A block of a transformer over 64 patches and a class token, named as timm names them."""

    def __init__(self):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(6), nn.MultiheadAttention(6, 2, batch_first=True)
        self.trap = Trap()

    def forward(self, x):
        x = torch.cat([x.mean((2, 3))[:, None], x.flatten(2).transpose(1, 2)], 1)
        y = self.norm1(x)
        return self.trap(x + self.attn(y, y, y)[0])[:, 0]


def convolutions(after):
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, 2, 1), nn.ReLU(inplace=True), *after
    )


NETS = {
    "convolutions": lambda: convolutions([Trap(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)]),
    "tokens": lambda: convolutions([Block(), nn.Linear(6, 4)]),
}


def everything(classifier):
    """All that a method might change, by name; tensors as copies."""
    found = {f"state {name}": value.clone() for name, value in classifier.state_dict().items()}
    for name, module in classifier.named_modules():
        found[f"module {name}"], found[f"mode {name}"] = id(module), module.training
        found |= {f"{hooks} {name}": dict(getattr(module, hooks)) for hooks in HOOKS}
    for name, parameter in classifier.named_parameters():
        found[f"parameter {name}"], found[f"learns {name}"] = id(parameter), parameter.requires_grad
        found[f"gradient {name}"] = None if parameter.grad is None else parameter.grad.clone()
    for name, module in classifier.named_modules():
        found[f"attributes {name}"] = sorted(set(vars(module)) - {"calls", "last", "error"})
    found["random"], found["gradients"] = torch.get_rng_state(), torch.is_grad_enabled()
    found["NumPy's random"] = np.random.get_state()[1].tolist()  # noqa: NPY002
    return found


def assert_same(before, after):
    assert before.keys() == after.keys()
    for name, value in before.items():
        same = value.equal(after[name]) if isinstance(value, torch.Tensor) else value == after[name]
        assert same, f"{name} is another"


def nets_of(name):
    """The networks that a method explains."""
    return [kind for kind in NETS if CATALOGUE[name].only in KINDS[kind]]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory")])
@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in ASKING for kind in nets_of(name)])
def test_an_interrupted_method_leaves_the_classifier_as_it_was(name, kind, error):
    torch.manual_seed(0)
    classifier = Classifier(NETS[kind](), IMAGENET_MEAN, IMAGENET_STD, 32, num_classes=4)
    (trap,) = (module for module in classifier.modules() if isinstance(module, Trap))
    pixels, targets = rand(2, 3, 32, 32), torch.tensor([1, 3])
    # its owner has a hook on it, learns some of it, and keeps a gradient
    classifier.model[3].register_forward_hook(lambda *_: None)
    classifier.model[3].weight.requires_grad_().grad = torch.ones_like(classifier.model[3].weight)
    logits, before = classifier(pixels), everything(classifier)
    # the whole work, then stopped at the first question, the last and a random one
    (method,) = build_methods(classifier, names=[name], budget=SMALL)
    trap.calls = 0
    first = method(pixels, targets)
    assert_same(before, everything(classifier))
    asked = trap.calls
    for last in (1, random.Random(name + kind).randint(1, asked), asked):
        trap.calls, trap.last, trap.error = 0, last, error
        with pytest.raises(type(error)):
            method(pixels, targets)
        trap.last = None
        assert_same(before, everything(classifier))
        assert classifier(pixels).equal(logits)
    assert method(pixels, targets).equal(first)
    assert not torch.overrides.has_torch_function((pixels,))  # nothing intercepts torch's functions any more


@pytest.mark.parametrize("name", ASKING)
def test_a_bare_networks_modes_stay_as_they_are(name):
    torch.manual_seed(0)
    net = NETS[nets_of(name)[0]]().train()
    net.input_size, net[1].training = (32, 32), False
    before = everything(net)
    (method,) = build_methods(net, names=[name], budget=SMALL)
    method(rand(2, 3, 32, 32), torch.tensor([1, 3]))
    assert_same(before, everything(net))
