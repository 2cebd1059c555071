"""From parameters to explainers: what the notebooks share."""

import pytest
import torch
from PIL import Image

from ptame_lib import PTAME, ImageFolder, PTAMEWeights, TrainingConfig, load_auxiliary, load_classifier, ttame
from ptame_lib.datasets import first
from ptame_lib.explainers.loading import OWN, load_explainer
from ptame_lib.methods import BESIDE
from ptame_study.classifiers import load_head
from ptame_study.explainers import Variant, load_beside, new_explainer, try_variant
from ptame_study.images import load_parts
from ptame_study.settings import AuxiliarySettings, ClassifierSettings, ImageSettings

CLASSIFIER = ClassifierSettings("embedded/resnet")


def new(method="P-TAME", classifier=None, layers=(), name="embedded/resnet"):
    auxiliary = AuxiliarySettings("embedded/auxiliary", list(layers))
    return new_explainer(method, ClassifierSettings(name), auxiliary, classifier, 10)


def settings(**changes):
    return ImageSettings(**{"test_images": 4, "train_images": 6, **changes})


@pytest.fixture
def classifier():
    return load_classifier("embedded/resnet")


def test_a_new_explainer_is_of_the_method(classifier):
    explainer = new()
    assert (explainer.auxiliary.name, explainer.fuser.bias) == ("embedded/auxiliary", None)
    own = new("T-TAME", classifier)
    assert own.auxiliary.layers == ("layer2", "layer3", "layer4")
    assert own.fuser.bias is not None
    assert new("T-TAME", classifier, ["layer3"]).auxiliary.layers == ("layer3",)
    with pytest.raises(ValueError, match="name the layers of timm/x for T-TAME: only vgg16"):
        new("T-TAME", classifier, name="timm/x")
    last = new("L-CAM-Img", classifier)
    assert last.auxiliary.layers == ("layer4",)
    assert not last.convs
    assert new("L-CAM-Img", classifier, ["layer3"]).auxiliary.layers == ("layer3",)


def test_explainers_load_by_what_their_file_says(classifier, tmp_path, pixels):
    targets = torch.tensor([0, 1, 2, 3])
    for method in ("P-TAME", "Swap-TAME", "FastSHAP", "T-TAME", "L-CAM-Img"):
        explainer = new(method, classifier)
        explainer.save(tmp_path / "x.safetensors", classifier="embedded/resnet")
        loaded = load_explainer(tmp_path / "x.safetensors", classifier)
        assert type(loaded) is type(explainer)
        torch.testing.assert_close(loaded.explain(pixels, targets), explainer.explain(pixels, targets))
    with pytest.raises(
        ValueError, match=r"x\.safetensors uses the features of the classifier it explains .*: pass that classifier"
    ):
        load_explainer(tmp_path / "x.safetensors")


def test_controls_of_the_auxiliary_are_made_where_its_head_fits(pixels):
    auxiliary = AuxiliarySettings("resnet18")  # P-TAME's own auxiliary counts, not the notebook's default
    made = load_beside([*BESIDE, "RISE"], explainer := new(), auxiliary)
    assert list(made) == ["auxiliary's CAM", "channel mean"]
    assert made["auxiliary's CAM"].auxiliary is explainer.auxiliary
    wanted = PTAME(explainer.auxiliary, 10).start_from_head(load_head(AuxiliarySettings("embedded/auxiliary")))
    targets = torch.tensor([0, 1, 2, 3])
    assert made["auxiliary's CAM"].explain(pixels, targets).equal(wanted.explain(pixels, targets))
    assert load_beside(["RISE"], explainer, auxiliary) == {}
    seven = PTAME(explainer.auxiliary, 7)  # the auxiliary knows ten
    assert list(load_beside([*BESIDE], seven, auxiliary)) == ["channel mean"]


def test_the_authors_checkpoint_takes_the_named_auxiliary(tmp_path, pixels):
    explainer = new()
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
    images = settings(images=str(tmp_path))
    train, test = load_parts(images, ["train", "test"], classifier)
    assert (len(train), len(test)) == (6, 4)
    assert not set(train.files) & set(test.files)

    def held_out(**changes):
        return load_parts(settings(images=str(tmp_path), **changes), ["test"], classifier)[0]

    assert held_out().files == test.files
    assert held_out(seed=1).files != test.files
    with pytest.raises(ValueError, match=r"has 10 images, too few for test_images=11$"):
        held_out(test_images=11)
    with pytest.raises(ValueError, match="test_images must be a whole number of at least 1, got 0"):
        held_out(test_images=0)
    assert len(held_out(test_images=10)) == 10
    with pytest.raises(ValueError, match="has 10 images, too few for test_images=10 and others to train on"):
        load_parts(settings(images=str(tmp_path), test_images=10), ["train", "test"], classifier)
    assert len(load_parts(settings(images=str(tmp_path), test_images=0), ["train"], classifier)[0]) == 10


def test_embedded_images_are_of_their_own_parts(classifier):
    train, test = load_parts(settings(), ["train", "test"], classifier)
    assert (len(train), len(test)) == (6, 4)
    assert not train.images[:4].equal(test.images)


def test_ttame_is_public():
    assert ttame(load_classifier("embedded/vgg"), ["features.11"], 10).num_classes == 10


def test_a_variant_is_trained_and_measured(classifier):
    config = TrainingConfig(steps=2, batch_size=4, loss=PTAMEWeights(5.0, 1.0, 0.02, 0.3, 2.0), seed=3)
    train, test = load_parts(settings(), ["train", "test"], classifier)
    for variant, channels, resolution in (
        (Variant("two levels", "embedded/auxiliary", levels=2), "64/128", "8 x 8"),
        (Variant("random", "embedded/vgg", weights=None, images=4), "16/32/64/128", "32 x 32"),
        (Variant("own", OWN), "48/96/192", "16 x 16"),
    ):
        values, about = try_variant(variant, CLASSIFIER, classifier, train, test, config)
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
