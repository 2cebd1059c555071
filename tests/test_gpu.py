"""On a graphics card: the same answers as on the CPU, up to rounding."""

import pytest
import torch

from ptame_lib import (
    PTAME,
    Budget,
    Explainer,
    ExplainerConfig,
    Method,
    TrainingConfig,
    build_methods,
    decide,
    load_auxiliary,
    load_classifier,
    load_embedded,
    train_explainer,
    train_ptame,
)
from ptame_lib.metrics import linear_imputation
from ptame_study.evaluation import evaluate

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
SMALL = Budget(masks=8, path_steps=4, samples=8, opti_steps=2, perturbation_steps=2, igos_steps=1, igos_path=1)


@pytest.fixture(autouse=True)
def exact():
    """Convolutions without TF32, which rounds to 10 bits; products of matrices are without it by default."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@pytest.fixture(scope="module")
def data():
    return load_embedded("val", 32)


def batch(data, n=8):
    return torch.stack([data[i]["pixels"] for i in range(n)])


def explainer():
    torch.manual_seed(0)
    return PTAME(load_auxiliary("embedded/auxiliary"), 10).eval()


@pytest.mark.parametrize("name", ["embedded/vgg", "embedded/resnet", "embedded/vit"])
def test_decisions_and_maps(name, data):
    classifier, pixels = load_classifier(name), batch(data)
    targets, logits = decide(classifier, pixels), classifier(pixels)
    maps = explainer().explain(pixels, targets)
    classifier.cuda()
    torch.testing.assert_close(classifier(pixels.cuda()).cpu(), logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(explainer().cuda().explain(pixels.cuda(), targets.cuda()).cpu(), maps, atol=1e-4, rtol=0)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_imputation(share):
    generator = torch.Generator().manual_seed(0)
    pixels, known = (
        torch.rand(4, 3, 224, 224, generator=generator),
        torch.rand(4, 224, 224, generator=generator) > share,
    )
    expected = linear_imputation(pixels, known, noise=0)
    torch.testing.assert_close(
        linear_imputation(pixels.cuda(), known.cuda(), noise=0).cpu(), expected, atol=1e-3, rtol=0
    )


def test_training(data, monkeypatch):
    histories = []
    for cpu in ("true", "false"):
        monkeypatch.setenv("ACCELERATE_USE_CPU", cpu)
        histories.append(
            train_ptame(explainer(), load_classifier("embedded/vgg"), data, TrainingConfig(steps=3, batch_size=8))
        )
    for ours, theirs in zip(*histories, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_training_in_half_precision(data, precision):
    config = TrainingConfig(steps=5, batch_size=8, precision=precision, workers=1)
    history = train_ptame(explainer(), load_classifier("embedded/resnet"), data, config)
    assert all(torch.tensor(list(row.values())).isfinite().all() for row in history)


def test_training_masks():
    data = load_embedded("val", 16, multi_label=True)
    torch.manual_seed(0)
    masks = Explainer(10, "small", False)
    history = train_explainer(
        masks,
        load_classifier("embedded/multi-vgg"),
        data,
        data,
        ExplainerConfig(steps=2, batch_size=4, validate_every=2),
    )
    assert len(history) == 2
    assert next(masks.parameters()).is_cuda


@pytest.mark.parametrize("name", ["embedded/resnet", "embedded/vit"])
def test_every_method(name, data):
    classifier, pixels = load_classifier(name).cuda(), batch(data, 2).cuda()
    targets, truth = decide(classifier, pixels), torch.stack([data[i]["truth"] for i in range(2)]).cuda()
    for method in build_methods(classifier, budget=SMALL):
        maps = method(pixels, truth if method.sees_truth else targets)
        assert maps.is_cuda, method.name
        assert maps.min() >= 0, method.name
        assert maps.max() <= 1, method.name


def test_the_comparison(data):
    tables = []
    for device in ("cpu", "cuda"):
        mine = explainer().to(device)
        tables.append(
            evaluate(load_classifier("embedded/vgg").to(device), Method("P-TAME", mine.explain, 1, 0, "here"), data)[0]
        )
    for metric in ("AD100", "AD15", "MoRF confidence", "LeRF confidence", "insertion", "deletion", "energy"):
        assert tables[1][metric].mean() == pytest.approx(tables[0][metric].mean(), abs=0.2), metric
