"""Faster runtimes give the explainer's own maps, refuse the same, and leave it as it is."""

import pytest
import torch
from helpers import explainer_on, rand, small_auxiliary
from torch import nn

from ptame_lib import load_auxiliary, load_classifier
from ptame_lib.explainers import fast as module
from ptame_lib.explainers.fast import fast
from ptame_lib.explainers.fastshap import FastSHAP
from ptame_lib.explainers.lcam import lcam
from ptame_lib.explainers.questions import ask_further
from ptame_lib.explainers.ttame import LAYERS, ttame

EXACT = 5e-6


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own, and nothing made before."""
    monkeypatch.setenv("PTAME_ROOT", str(tmp_path))
    monkeypatch.setattr(module, "_made", {})
    return tmp_path / "data" / "cache" / "fast"


def explainers():
    classifier = load_classifier("embedded/resnet")
    torch.manual_seed(0)
    return {
        "P-TAME": lambda: explainer_on(load_auxiliary("embedded/auxiliary"), 10),
        "T-TAME": lambda: ttame(classifier, LAYERS["embedded/resnet"], 10),
        "L-CAM": lambda: lcam(classifier, 10),
        "FastSHAP": lambda: FastSHAP(load_auxiliary("embedded/auxiliary"), 10),
    }


@pytest.fixture
def explainer():
    return explainers()["P-TAME"]()


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The ``explainer`` by ONNX Runtime, made once: a program takes seconds."""
    pytest.importorskip("onnxruntime")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PTAME_ROOT", str(tmp_path_factory.mktemp("quick")))
        return explainers()["P-TAME"]().fast()


@pytest.mark.parametrize("method", ["P-TAME", "T-TAME", "L-CAM", "FastSHAP"])
def test_onnx_gives_the_explainers_maps_for_any_batch(method, cache):
    pytest.importorskip("onnxruntime")
    explainer = explainers()[method]().train()
    before = {key: value.clone() for key, value in explainer.state_dict().items()}
    quick = explainer.fast()
    for n in (1, 3, 0):
        pixels, targets = rand(n, 3, 64, 64, seed=n), torch.arange(n) + 4
        found = quick.explain(pixels, targets)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, explainer.explain(pixels, targets), atol=EXACT, rtol=0)
    assert quick.difference <= EXACT
    assert quick.text() == "explained by onnxruntime"
    # the explainer is as it was
    assert explainer.training
    assert all(value.equal(before[key]) for key, value in explainer.state_dict().items())
    norms = [part for part in explainer.auxiliary.modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms or method in ("P-TAME", "FastSHAP")
    # made once in a process, and written once for others
    assert explainer.fast() is quick
    (file,) = cache.iterdir()
    module._made.clear()
    again, written = explainer.fast(), file.stat().st_ino
    assert (again is not quick, [f.stat().st_ino for f in cache.iterdir()]) == (True, [written])
    pixels, targets = rand(2, 3, 64, 64), torch.tensor([1, 1])
    assert again.explain(pixels, targets).equal(quick.explain(pixels, targets))


def test_questions_start_from_its_maps(quick):
    classifier = load_classifier("embedded/vgg")
    pixels, targets = rand(2, 3, 64, 64), torch.tensor([1, 2])
    found = quick.explain(pixels, targets, classifier=classifier, questions=2)
    assert found.equal(ask_further(classifier, pixels, targets, quick.explain(pixels, targets), 2))
    with pytest.raises(ValueError, match="2 questions, but nobody to ask"):
        quick.explain(pixels, targets, questions=2)
    with pytest.warns(UserWarning, match="explained by torch"):
        assert quick.explain(pixels[..., :32], targets, classifier=classifier, questions=0).shape[-1] < found.shape[-1]


def test_it_is_a_picture_of_the_explainer_as_it_was(explainer):
    pytest.importorskip("onnxruntime")
    pixels, targets = rand(2, 3, 64, 64), torch.tensor([1, 2])
    old, quick = explainer.explain(pixels, targets), explainer.fast()
    with torch.no_grad():
        explainer.fuser.weight.data.mul_(
            torch.linspace(-1, 1, explainer.fuser.weight.numel()).view_as(explainer.fuser.weight)
        )
    torch.testing.assert_close(quick.explain(pixels, targets), old, atol=EXACT, rtol=0)
    new = explainer.fast()
    assert new is not quick
    torch.testing.assert_close(new.explain(pixels, targets), explainer.explain(pixels, targets), atol=EXACT, rtol=0)


def test_another_size_is_explained_by_torch_in_words(explainer, quick):
    pixels, targets = rand(2, 3, 48, 80), torch.tensor([1, 2])
    with pytest.warns(UserWarning, match=r"made for images of 64 x 64, given 48 x 80: these are explained by torch"):
        found = quick.explain(pixels, targets)
    wanted = explainer.explain(pixels, targets)
    torch.testing.assert_close(found, wanted, atol=EXACT, rtol=0)
    torch.testing.assert_close(explainer.fast(size=(48, 80)).explain(pixels, targets), wanted, atol=EXACT, rtol=0)


def test_it_refuses_what_the_explainer_refuses(explainer, quick):
    good = rand(2, 3, 64, 64)
    for pixels, targets in (
        (255 * good, torch.tensor([0, 1])),
        (good[0], torch.tensor([0])),
        (good * torch.nan, torch.tensor([0, 1])),
        (good, torch.tensor([0, 10])),
        (good, torch.tensor([-1, 0])),
        (good, torch.tensor([0])),
    ):
        with pytest.raises(ValueError) as wanted:  # noqa: PT011
            explainer.explain(pixels, targets)
        with pytest.raises(ValueError) as found:  # noqa: PT011
            quick.explain(pixels, targets)
        assert str(found.value) == str(wanted.value)


def test_a_damaged_or_another_networks_file_in_the_cache_is_written_again(explainer, cache):
    pytest.importorskip("onnxruntime")
    explainer_on(load_auxiliary("embedded/auxiliary"), 10, seed=8).fast()
    (other,) = cache.iterdir()
    file = other.rename(module._file(module._digest(explainer, (64, 64))))
    for wrong in (file.read_bytes(), b"no program"):
        file.write_bytes(wrong)
        module._made.clear()
        assert explainer.fast().difference <= EXACT
        assert [known.read_bytes() != wrong for known in cache.iterdir()] == [True]


def test_the_cache_keeps_the_last_files_and_may_be_closed(explainer, cache, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(module, "KEPT", 1)
    cache.mkdir(parents=True)
    cache.joinpath("older.onnx").touch()
    explainer.fast()
    assert [file.stem for file in cache.iterdir()] == [module._digest(explainer, (64, 64))]
    cache.parent.joinpath("other").touch()
    monkeypatch.setattr(module, "_file", lambda digest: cache.parent / "other" / digest)
    assert explainer.fast(size=32).difference <= EXACT


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"runtime": "tensorrt"}, ValueError, "unknown runtime 'tensorrt': choose onnx, compile, openvino"),
        ({"precision": "int8"}, ValueError, "unknown precision 'int8': choose float32 or bfloat16"),
        ({"precision": "bfloat16"}, ValueError, "no bfloat16 on a CPU: choose the runtime 'compile' or 'openvino'"),
        ({"size": 0}, ValueError, "input_size must be a side"),
    ],
)
def test_unknown_wishes_are_refused(asked, error, words, explainer):
    with pytest.raises(error, match=words):
        explainer.fast(**asked)


@pytest.mark.parametrize(
    ("runtime", "missing"), [("onnx", "onnxruntime"), ("onnx", "onnxscript"), ("openvino", "openvino")]
)
def test_a_missing_package_is_named_with_the_command(runtime, missing, explainer, monkeypatch):
    find = module.find_spec
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == missing else find(name))
    with pytest.raises(ImportError, match=f"the runtime '{runtime}' needs .*{missing}.*: pip install .*{missing}"):
        fast(explainer, runtime)


@pytest.mark.parametrize(("precision", "apart"), [("float32", EXACT), ("bfloat16", 0.1)])
def test_compiled_for_any_batch(precision, apart):
    explainer = explainer_on(small_auxiliary(("l1", "l2")), 10)  # small, since each part takes seconds to compile
    quick = explainer.fast("compile", precision)
    for n in (1, 3):
        pixels, targets = rand(n, 3, 64, 64, seed=n), torch.arange(n)
        found = quick.explain(pixels, targets)
        assert (found.dtype, float(found.min()), float(found.max())) == (torch.float32, 0, 1)
        torch.testing.assert_close(found, explainer.explain(pixels, targets), atol=apart, rtol=0)
    assert ("differ by about 2e-2" in quick.text()) == (precision == "bfloat16")


def test_openvino(explainer):
    pytest.importorskip("openvino")
    quick = explainer.fast("openvino")
    pixels, targets = rand(3, 3, 64, 64), torch.arange(3)
    torch.testing.assert_close(quick.explain(pixels, targets), explainer.explain(pixels, targets), atol=EXACT, rtol=0)
    assert quick.text() == "explained by openvino"
