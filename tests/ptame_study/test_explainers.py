"""From parameters to explainers: what the notebooks share."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from ptame_lib import ImageFolder, load_auxiliary, load_classifier, ttame
from ptame_lib.datasets import first
from ptame_lib.explainers.loading import OWN, load_explainer
from ptame_study.explainers import Variant, new_explainer, try_variant
from ptame_study.images import held_out_images, train_and_test


def settings(**changes):
    base = {
        "classifier": "embedded/resnet",
        "method": "P-TAME",
        "auxiliary": "embedded/auxiliary",
        "auxiliary_weights": "default",
        "layers": [],
    }
    return SimpleNamespace(**{**base, "images": "", "test_images": 4, "train_images": 6, "seed": 0, **changes})


@pytest.fixture
def classifier():
    return load_classifier("embedded/resnet")


def test_a_new_explainer_is_of_the_method(classifier):
    explainer = new_explainer(settings(), classifier, 10)
    assert (explainer.auxiliary.name, explainer.fuser.bias) == ("embedded/auxiliary", None)
    own = new_explainer(settings(method="T-TAME"), classifier, 10)
    assert own.auxiliary.layers == ("layer2", "layer3", "layer4")
    assert own.fuser.bias is not None
    assert new_explainer(settings(method="T-TAME", layers=["layer3"]), classifier, 10).auxiliary.layers == ("layer3",)
    with pytest.raises(ValueError, match="name the layers of timm/x for T-TAME: only vgg16"):
        new_explainer(settings(method="T-TAME", classifier="timm/x"), classifier, 10)
    last = new_explainer(settings(method="L-CAM-Img"), classifier, 10)
    assert last.auxiliary.layers == ("layer4",)
    assert not last.convs
    assert new_explainer(settings(method="L-CAM-Img", layers=["layer3"]), classifier, 10).auxiliary.layers == (
        "layer3",
    )


def test_explainers_load_by_what_their_file_says(classifier, tmp_path, pixels):
    targets = torch.tensor([0, 1, 2, 3])
    for method in ("P-TAME", "T-TAME", "L-CAM-Img"):
        explainer = new_explainer(settings(method=method), classifier, 10)
        explainer.save(tmp_path / "x.safetensors", classifier="embedded/resnet")
        loaded = load_explainer(tmp_path / "x.safetensors", classifier)
        assert type(loaded) is type(explainer)
        torch.testing.assert_close(loaded.explain(pixels, targets), explainer.explain(pixels, targets))
    with pytest.raises(
        ValueError, match=r"x\.safetensors uses the features of the classifier it explains .*: pass that classifier"
    ):
        load_explainer(tmp_path / "x.safetensors")


def test_the_authors_checkpoint_takes_the_named_auxiliary(tmp_path, pixels):
    explainer = new_explainer(settings(), None, 10)
    state = {f"net.attention.{key}": value for key, value in explainer.trained_state().items()}
    torch.save({"state_dict": state}, tmp_path / "theirs.ckpt")
    loaded = load_explainer(tmp_path / "theirs.ckpt", auxiliary=load_auxiliary("embedded/auxiliary"))
    targets = torch.tensor([0, 1, 2, 3])
    torch.testing.assert_close(loaded.explain(pixels, targets), explainer.explain(pixels, targets))
    other = load_auxiliary("embedded/auxiliary", weights=None).model.state_dict()
    random = load_explainer(tmp_path / "theirs.ckpt", auxiliary=load_auxiliary("embedded/auxiliary", weights=None))
    assert other.keys() == random.auxiliary.model.state_dict().keys()
    assert not random.explain(pixels, targets).allclose(explainer.explain(pixels, targets))


def test_a_folder_is_split_in_two_parts_that_share_nothing(classifier, tmp_path):
    for i in range(10):
        Image.new("RGB", (70, 80), (20 * i, 0, 0)).save(tmp_path / f"{i}.png")
    cfg = settings(images=str(tmp_path))
    train, test = train_and_test(cfg, classifier)
    assert (len(train), len(test)) == (6, 4)
    assert not set(train.files) & set(test.files)
    assert held_out_images(cfg, classifier).files == test.files
    assert held_out_images(settings(images=str(tmp_path), seed=1), classifier).files != test.files
    with pytest.raises(ValueError, match=r"has 10 images, too few for test_images=11$"):
        held_out_images(settings(images=str(tmp_path), test_images=11), classifier)
    every = settings(images=str(tmp_path), test_images=10)
    assert len(held_out_images(every, classifier)) == 10
    with pytest.raises(ValueError, match="has 10 images, too few for test_images=10 and others to train on"):
        train_and_test(every, classifier)


def test_embedded_images_are_of_their_own_parts(classifier):
    train, test = train_and_test(settings(), classifier)
    assert (len(train), len(test)) == (6, 4)
    assert not train.images[:4].equal(test.images)


def test_ttame_is_public():
    assert ttame(load_classifier("embedded/vgg"), ["features.11"], 10).num_classes == 10


def test_a_variant_is_trained_and_measured(classifier):
    cfg = settings(
        steps=2,
        batch_size=4,
        lr=1e-2,
        weight_decay=0.01,
        ce=5.0,
        area=1.0,
        smooth=0.02,
        border=0.3,
        p=2.0,
        curves=False,
    )
    cfg.optimizer, cfg.precision, cfg.workers = "adamw", "no", 0
    train, test = train_and_test(cfg, classifier)
    for variant, channels, resolution in (
        (Variant("two levels", "embedded/auxiliary", levels=2), "64/128", "8 x 8"),
        (Variant("random", "embedded/vgg", weights=None, images=4), "16/32/64/128", "32 x 32"),
        (Variant("own", OWN), "48/96/192", "16 x 16"),
    ):
        values, about = try_variant(variant, 3, cfg, classifier, train, test)
        assert values[["classifier", "method", "seed"]].drop_duplicates().values.tolist() == [
            ["embedded/resnet", variant.name, 3]
        ]
        assert len(values) == 4
        assert {"AD100", "IoU"} <= set(values)
        assert "insertion" not in values
        assert about[["channels", "resolution"]].values.tolist() == [[channels, resolution]]
        assert sum(map(float, about["contributions"][0].split("/"))) == pytest.approx(1, abs=1e-3)


def test_the_first_items_still_augment(tmp_path):
    for i in range(3):
        Image.new("RGB", (90, 90), (80 * i, 0, 0)).save(tmp_path / f"{i}.png")
    data = ImageFolder(tmp_path, 64, 73)
    part = first(data, 2)
    assert len(part) == 2
    assert part[1]["pixels"].equal(data[1]["pixels"])
    assert part.draw(1, torch.Generator().manual_seed(0))["pixels"].equal(
        data.draw(1, torch.Generator().manual_seed(0))["pixels"]
    )
    assert not hasattr(first([1, 2, 3], 2), "draw")
    for n in (0, 4):
        with pytest.raises(ValueError, match=f"the first {n} images are asked for, but there are 3"):
            first(data, n)
