"""Networks of every kind: other types of numbers, one channel, compiled, scripted, exported, quantised ones."""

import copy

import pytest
import torch
from helpers import TinyBackbone, plain, rand, small_auxiliary, small_transformer
from torch import nn

from ptame_lib import PTAME, BlackBox, Classifier, FeatureExtractor, decide, load_auxiliary, load_classifier
from ptame_lib.methods.base import Budget
from ptame_lib.methods.catalogue import CATALOGUE, TRANSFORMERS, TRUTH

TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
CLOSE = {torch.float64: 1e-5, torch.float32: 1e-5, torch.bfloat16: 0.1, torch.float16: 0.02}


def network():
    torch.manual_seed(0)
    return TinyBackbone().eval()


@pytest.mark.parametrize("pixels_of", TYPES)
@pytest.mark.parametrize("weights_of", TYPES)
@pytest.mark.parametrize("moved", [False, True])
def test_pixels_and_weights_of_any_type(pixels_of, weights_of, moved):
    pixels = rand(3, 3, 32, 32)
    expected = plain(network())(pixels)
    classifier = plain(network()).to(weights_of) if moved else plain(network().to(weights_of))
    given = pixels.to(pixels_of).requires_grad_()
    found = classifier(given)
    assert found.dtype == (torch.float64 if weights_of == torch.float64 else torch.float32)
    off = max(CLOSE[pixels_of], CLOSE[weights_of])
    torch.testing.assert_close(found.float(), expected, atol=off, rtol=off)
    found[:, 0].sum().backward()
    assert given.grad.dtype == pixels_of
    assert given.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("where", ["pixels", "weights"])
@pytest.mark.parametrize("name", [name for name in CATALOGUE if name != TRUTH])
def test_every_method_takes_them(name, kind, where):
    net, pixels = network(), rand(1, 3, 32, 32)
    if CATALOGUE[name].only == TRANSFORMERS:
        net = small_transformer()
    classifier = plain(net.to(kind) if where == "weights" else net)
    budget = Budget(
        masks=4, samples=8, segments=4, noisy_samples=2, path_steps=2, opti_steps=2, perturbation_steps=2, igos_steps=1
    )
    explain, *_ = CATALOGUE[name].make(classifier, budget)
    given = pixels.to(kind) if where == "pixels" else pixels
    maps = explain(given, torch.tensor([2]))
    assert maps.isfinite().all()
    assert maps.shape[0] == 1


@pytest.mark.parametrize("kind", TYPES)
def test_explainers_take_them(kind):
    torch.manual_seed(0)
    explainer, pixels, targets = PTAME(small_auxiliary(), 7).eval(), rand(2, 3, 64, 64), torch.tensor([0, 1])
    expected = explainer.explain(pixels, targets)
    found = explainer.explain(pixels.to(kind), targets)
    torch.testing.assert_close(found.float(), expected, atol=0.1, rtol=0)
    found = copy.deepcopy(explainer).to(kind).explain(pixels, targets)
    torch.testing.assert_close(found.float(), expected, atol=0.2, rtol=0)


# one channel


def test_a_network_of_one_channel_gets_the_average_of_the_colours():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)).eval()
    classifier, pixels = Classifier(net, [0.4], [0.2], 8), rand(2, 3, 8, 8)
    expected = net((pixels.mean(1, keepdim=True) - 0.4) / 0.2)
    torch.testing.assert_close(classifier(pixels), expected)
    torch.testing.assert_close(classifier(pixels.mean(1, keepdim=True)), expected)
    assert decide(classifier, pixels).shape == (2,)
    auxiliary = FeatureExtractor(net, ["1"], [0.4], [0.2], 8)
    torch.testing.assert_close(auxiliary(pixels)[0], net[:2]((pixels.mean(1, keepdim=True) - 0.4) / 0.2))
    with pytest.raises(ValueError, match=r"pixels must be \(B,3,H,W\), got shape \(2, 2, 8, 8\)"):
        classifier(rand(2, 2, 8, 8))


def test_timms_options_for_channels_and_size():
    classifier = load_classifier("timm/resnet10t", weights=None, in_chans=1)
    assert classifier.mean.shape == (1, 1, 1, 1)
    assert classifier.mean.item() == pytest.approx((0.485 + 0.456 + 0.406) / 3)
    assert classifier(rand(1, 3, 64, 64)).shape == (1, 1000)
    assert load_auxiliary("timm/resnet10t", weights=None, in_chans=1)(rand(1, 3, 64, 64))[-1].shape[1] == 512
    with pytest.raises(ValueError, match=r"takes no in_chans=4: pixels have three channels, or one"):
        load_classifier("timm/resnet10t", weights=None, in_chans=4)
    for size, expected in ((96, (96, 96)), ((64, 96), (64, 96))):
        classifier = load_classifier("timm/vit_tiny_patch16_224", weights=None, img_size=size, depth=1)
        assert classifier.input_size == expected
        assert classifier(rand(1, 3, *expected)).shape == (1, 1000)


# wrapped networks


@pytest.mark.parametrize("how", ["script", "trace", "export"])
def test_wrapped_networks_work(how):
    net, pixels = network(), rand(3, 3, 32, 32)
    if how == "script":
        wrapped = torch.jit.script(net.train())
    elif how == "trace":
        wrapped = torch.jit.trace(net, rand(2, 3, 32, 32))
    else:
        batch = {0: torch.export.Dim("batch", min=1)}
        wrapped = torch.export.export(net, (rand(2, 3, 32, 32),), dynamic_shapes=(batch,)).module()
    expected, classifier = net.eval()(pixels), plain(wrapped)
    torch.testing.assert_close(classifier(pixels), expected, atol=1e-5, rtol=1e-5)
    seen = pixels.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(classifier(seen)[:, 0].sum(), seen)
    assert gradient.abs().sum() > 0
    assert all(p.requires_grad and p.grad is None for p in wrapped.parameters())


def test_what_is_no_network_is_refused_with_the_remedy():
    program = torch.export.export(network(), (rand(2, 3, 32, 32),))
    with pytest.raises(TypeError, match=r"must be an nn\.Module, got a ExportedProgram: pass its \.module\(\)"):
        plain(program)
    with pytest.raises(TypeError, match=r"must be an nn\.Module, got a function: wrap it as BlackBox\(lambda pixels"):
        plain(lambda pixels: pixels)
    with pytest.raises(TypeError, match=r"must be an nn\.Module"):
        FeatureExtractor(None, None, (0,) * 3, (1,) * 3)


@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization.*deprecated")
@pytest.mark.filterwarnings("ignore:.*quantize.*")
def test_a_quantised_network_is_a_black_box():
    net, pixels = network(), rand(3, 3, 32, 32)
    quantised = torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(
        TypeError, match=r"TinyBackbone is quantised \(its part 'fc'\) and has no gradient: wrap it as BlackBox"
    ):
        plain(quantised)
    assert BlackBox(lambda pixels: quantised(pixels), 32)(pixels).shape == (3, 7)


@pytest.mark.parametrize("owned", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_compiled_before_or_after_wrapping(inside, owned):
    net, pixels = network(), rand(3, 3, 32, 32)
    expected = net(pixels).detach()
    net.train()
    classifier = plain(torch.compile(net, backend="eager") if inside else net)
    if owned:
        classifier.own()
    ask = classifier if inside else torch.compile(classifier, backend="eager")
    seen = pixels.clone().requires_grad_()
    for _ in range(2):
        answer = ask(seen)
        torch.testing.assert_close(answer, expected, atol=1e-5, rtol=1e-5)
    answer.sum().backward()
    assert seen.grad.abs().sum() > 0
    assert net.training == (not owned)
    assert all(parameter.grad is None for parameter in net.parameters())
