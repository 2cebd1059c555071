"""From parameters to classifiers and images: groups of classes, tables, lists, and where DATA is."""

import hashlib
import shutil
from dataclasses import replace

import pytest
import torch
from helpers import plain
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from ptame_lib import PTAME, load_classifier, resize
from ptame_lib.classifiers.groups import GroupedClassifier
from ptame_lib.datasets import cutouts
from ptame_lib.explainers.loading import load_explainer
from ptame_study import images as study_images
from ptame_study import paths
from ptame_study.classifiers import load_auxiliary_network, load_explained, load_head, read_groups
from ptame_study.explainers import load_trained, new_explainer
from ptame_study.images import (
    CALIBRATE_CUTOUTS,
    LOOK_AT,
    described,
    load_parts,
    load_to_show,
    load_training,
    names_in,
    open_images,
    open_labelled_images,
    split_images,
)
from ptame_study.settings import AuxiliarySettings, ClassifierSettings, ImageSettings, Source


class Mean(nn.Module):
    """Five logits: the mean of the image's red times 0, 1, 2, 3, 4."""

    def forward(self, x):
        return x[:, 0].mean((1, 2))[:, None] * torch.arange(5.0)


@pytest.fixture
def five():
    return plain(Mean(), 8)


def test_a_coarse_classifier_by_hand(five):
    coarse = GroupedClassifier(five, {4: "big", 0: "small", 3: "big"})
    pixels = torch.stack([torch.ones(3, 8, 8), torch.zeros(3, 8, 8)])
    assert coarse.labels == ("big", "small")
    expected = torch.tensor([[3.0, 4.0], [0.0, 0.0]]).logsumexp(1)
    torch.testing.assert_close(coarse(pixels), torch.stack([expected, torch.zeros(2)], 1))
    known = five(pixels).softmax(1)  # the groups' probabilities, given that it is one of their classes
    wanted = torch.stack([known[:, 3] + known[:, 4], known[:, 0]], 1)
    torch.testing.assert_close(coarse(pixels).softmax(1), wanted / wanted.sum(1, keepdim=True))


def test_one_class_per_group_chooses_logits(five, pixels):
    torch.testing.assert_close(GroupedClassifier(five, {3: "a", 1: "b"})(pixels), five(pixels)[:, [3, 1]])


def test_groups_that_do_not_fit(five, tmp_path):
    with pytest.raises(ValueError, match=r"the groups name class 5, but the classifier has 0\.\.4"):
        GroupedClassifier(five, {0: "a", 5: "b"})
    with pytest.raises(ValueError, match="there are no groups"):
        GroupedClassifier(five, {})
    file = tmp_path / "g.csv"
    for text, message in (
        ("class_id,name\n0,a\n", "has no column group: its first line must be a header with class_id, group"),
        ("class_id,group\n0,a\n1,\n", "line 3 of .* is incomplete"),
        ("class_id,group\n0,a\n0,b\n", "has class 0 twice"),
        ("class_id,group\n-1,a\n", "has the class number '-1'"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_groups(file)
    with pytest.raises(
        FileNotFoundError,
        match=r"no table at .*gone\.csv: check the path, or name the folder with the data by DATA=/path",
    ):
        read_groups(tmp_path / "gone.csv")


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder of data with ten pictures of classes 0, 1, ..., 9, and its tables."""
    (tmp_path / "photos").mkdir()
    rows = []
    for i in range(10):
        Image.new("RGB", (20, 20), (25 * i, 0, 0)).save(tmp_path / "photos" / f"{i}.png")
        rows.append(f'{i},"digit {i}, also {i}",{i}.png')
    (tmp_path / "labels.csv").write_text("class_id,label,file\n" + "\n".join(rows))
    (tmp_path / "groups.csv").write_text(
        "class_id,group\n9,odd\n0,even\n" + "\n".join(f"{i},{'odd' if i % 2 else 'even'}" for i in range(1, 8))
    )
    monkeypatch.setenv("PTAME_DATA", str(tmp_path))
    return tmp_path


CLASSIFIER = ClassifierSettings("embedded/resnet", labels="labels.csv")


def settings(**changes):
    base = {"images": "photos", "size": 16, "test_images": 3, "val_images": 2, "split_seed": 0}
    return ImageSettings(**{**base, "labels": "labels.csv", **changes})


def test_parts_share_nothing_and_keep_their_labels(data):
    classifier = load_explained(CLASSIFIER)
    parts = split_images(settings(), classifier)
    assert {name: len(part) for name, part in parts.items()} == {"test": 3, "val": 2, "train": 5}
    assert sorted(name for part in parts.values() for name in part.names) == [f"{i}.png" for i in range(10)]
    assert all(part.labels == [int(name[0]) for name in part.names] for part in parts.values())
    assert parts["test"][0]["pixels"].shape == (3, 16, 16)
    assert classifier.labels[3] == "digit 3"
    assert (
        split_images(settings(seed=5), classifier)["test"].names == parts["test"].names
    )  # the seed of a training moves no image
    assert split_images(settings(split_seed=5), classifier)["test"].names != parts["test"].names
    train, val = load_parts(settings(), ["train", "val"], classifier)
    assert (train.names, val.names) == (parts["train"].names, parts["val"].names)
    with pytest.raises(ValueError, match="photos has 10 images, too few for val_images=8"):
        split_images(settings(val_images=8), classifier)


def test_figures_of_explanations_are_left_out(data):
    """But a picture of such a name alone, without the JSON beside it, is somebody's image."""
    for name in ("1.explained.png", "2.explained.png"):
        shutil.copy(data / "photos" / "1.png", data / "photos" / name)
    (data / "photos" / "1.explained.json").write_text("{}")
    found = open_images("photos", load_explained(CLASSIFIER))
    assert found.names == sorted([*(f"{i}.png" for i in range(10)), "2.explained.png"])
    assert len(found.labels) == 11


def test_labels_become_the_groups(data):
    coarse = load_explained(ClassifierSettings("embedded/resnet", groups="groups.csv"))
    assert coarse.labels == ("odd", "even")
    images = open_labelled_images(settings(groups="groups.csv"), coarse)
    assert images.labels == [1, 0, 1, 0, 1, 0, 1, 0, -1, 0]  # class 8 is in no group
    assert coarse(images[0]["pixels"][None]).shape == (1, 2)


def test_parts_by_lists(data):
    (data / "test.txt").write_text("7.png 7\n2.png 2\n\n")
    cfg = settings(test_list="test.txt")
    classifier = load_explained(CLASSIFIER)
    parts = split_images(cfg, classifier)
    assert parts["test"].names == ["7.png", "2.png"]
    assert len(parts["val"]) == 2
    assert not {"7.png", "2.png"} & {*parts["val"].names, *parts["train"].names}
    assert Source(labels="labels.csv", test_list="test.txt").files() == [data / "labels.csv", data / "test.txt"]
    (data / "val.txt").write_text("2.png")
    with pytest.raises(ValueError, match=r"test\.txt and val\.txt share 1 images, such as 2\.png"):
        split_images(settings(test_list="test.txt", val_list="val.txt"), classifier)
    for text, message in (
        ("11.png", "1 of 1 listed images are not in"),
        ("1.png\n1.png", r"lists 1\.png twice"),
        ("\n", "lists no images"),
    ):
        (data / "test.txt").write_text(text)
        with pytest.raises(ValueError, match=message):
            split_images(cfg, classifier)
    with pytest.raises(FileNotFoundError, match="no list of images at"):
        split_images(settings(test_list="gone.txt"), classifier)


def test_a_table_of_other_images_is_refused(data):
    (data / "labels.csv").write_text("class_id,label,file\n3,three,photos/3.png\n")
    with pytest.raises(
        ValueError, match=r"labels\.csv names none of the images in .*photos: its column file must hold paths relative"
    ):
        open_labelled_images(settings(), load_classifier("embedded/resnet"))
    with pytest.raises(
        FileNotFoundError,
        match=r"no image folder at .*gone: check the path, or name the folder with the data by DATA=/path",
    ):
        open_labelled_images(settings(images="gone"), load_classifier("embedded/resnet"))


def test_where_files_are_looked_up(tmp_path, monkeypatch):
    monkeypatch.setenv("PTAME_ROOT", str(tmp_path / "root"))
    monkeypatch.delenv("PTAME_DATA", raising=False)
    assert str(paths.given("a/b.csv")) == "a/b.csv"  # as people and papermill run notebooks: from the current folder
    monkeypatch.setenv("PTAME_DATA", str(tmp_path / "data"))
    assert paths.given("b.csv") == tmp_path / "data" / "b.csv"
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "b.csv").touch()
    assert paths.given("b.csv") == tmp_path / "root" / "b.csv"  # what comes with the checkout
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "b.csv").touch()
    assert paths.given("b.csv") == tmp_path / "data" / "b.csv"
    assert str(paths.given("/c.csv")) == "/c.csv"


def test_options(data):
    def load(**options):
        return load_explained(ClassifierSettings("timm/mobilenetv3_small_050", "none", options))

    classifier = load(mean=0.5, std=[0.5, 0.25, 0.5], num_classes=3, pad_type="same")
    assert classifier.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    assert classifier.std.flatten().tolist() == [0.5, 0.25, 0.5]
    assert classifier(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    assert type(classifier.model.conv_stem).__name__ == "Conv2dSame"
    for value in ("0.5", [0.5, 0.5], True, [0.5, 0.5, "0.5"]):
        with pytest.raises(ValueError, match=r"option mean can't be .*: give one number, or a list of three"):
            load(mean=value)
        with pytest.raises(ValueError, match="option std can't be"):
            AuxiliarySettings("embedded/auxiliary", options={"std": value})


def test_an_explainer_with_a_local_auxiliary_is_loaded_as_the_parameters_say(data, tmp_path):
    local = AuxiliarySettings("embedded/auxiliary", weights="aux.safetensors", options={"mean": 0.4})
    made = {
        key: value.contiguous() for key, value in load_classifier("embedded/auxiliary", None).model.state_dict().items()
    }
    save_file(made, data / "aux.safetensors")
    explainer = PTAME(load_auxiliary_network(local), 10).eval()
    explainer.save(tmp_path / "e.safetensors")
    pixels, targets = torch.rand(2, 3, 64, 64), torch.tensor([1, 2])
    file = tmp_path / "e.safetensors"
    loaded = load_trained(file, None, local)
    torch.testing.assert_close(loaded.explain(pixels, targets), explainer.explain(pixels, targets))
    assert not load_explainer(file).explain(pixels, targets).allclose(explainer.explain(pixels, targets))

    # without options and weights the file tells which auxiliary it is, but for the authors' files
    assert load_trained(file, None, AuxiliarySettings("embedded/resnet")).auxiliary.name == "embedded/auxiliary"
    state = {f"net.attention.{key}": value for key, value in explainer.trained_state().items()}
    torch.save({"state_dict": state}, tmp_path / "theirs.ckpt")
    theirs = load_trained(tmp_path / "theirs.ckpt", None, AuxiliarySettings("embedded/auxiliary"))
    assert theirs.auxiliary.name == "embedded/auxiliary"


def test_the_auxiliarys_own_classes_are_a_start(tmp_path):
    """Untrained, the explainer gives the auxiliary's class activation maps; of groups, the mean of theirs."""
    auxiliary = AuxiliarySettings("embedded/auxiliary", head=True)
    weight = load_classifier("embedded/auxiliary").model.fc.weight
    assert load_head(auxiliary).equal(weight)
    pixels, targets = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 8])
    explained = ClassifierSettings("embedded/vgg")
    explainer = new_explainer("P-TAME", explained, auxiliary, load_explained(explained), 10).eval()
    features = explainer.auxiliary(pixels)[-1]
    expected = resize(torch.einsum("bchw,bc->bhw", features.relu(), weight[targets] - weight.mean(0)), (16, 16))
    found = resize(explainer.explain(pixels, targets), (16, 16))
    assert torch.corrcoef(torch.stack([found.flatten(1)[0], expected.flatten(1)[0]]))[0, 1] > 0.95
    (tmp_path / "groups.csv").write_text("class_id,group\n0,round\n1,straight\n8,round\n")
    groups = AuxiliarySettings("embedded/auxiliary", groups=str(tmp_path / "groups.csv"))
    torch.testing.assert_close(load_head(groups), torch.stack([weight[[0, 8]].mean(0), weight[1]]))


@pytest.fixture
def two_stamps(study_root, monkeypatch):
    """A study with a red and a blue stamp for each split, below DATA, and black photographs."""
    data, tables = study_root / "my data", study_root / "data" / "cutouts"
    data.mkdir()
    tables.mkdir(parents=True)
    chosen, others = ["stamp,class_id,label,split,strict,sha256"], ["stamp,sha256"]
    for name, label in (("red", 1), ("blue", 3)):
        image = Image.new("RGBA", (40, 30), name)
        image.putpixel((0, 0), (0, 0, 0, 0))
        image.save(data / f"{name}.png")
        digest = hashlib.sha256((data / f"{name}.png").read_bytes()).hexdigest()
        chosen += [f"{name}.png,{label},{name},{part},yes,{digest}" for part in ("train", "val", "test")]
    (tables / "chosen.csv").write_text("\n".join(chosen))
    (tables / "others.csv").write_text("\n".join(others))
    monkeypatch.setenv("PTAME_DATA", str(data))
    monkeypatch.setattr(cutouts, "load_photographs", lambda: [Image.new("RGB", (512, 512))])


def test_cutouts_by_name(two_stamps):
    asked = ImageSettings("cutouts", train_images=3, test_images=2)
    train, test = load_parts(asked, ["train", "test"])
    assert (len(train), len(test)) == (3, 2)
    assert set(train.labels.tolist()) <= {1, 3}
    with pytest.raises(ValueError, match="n must be a whole number of at least 1, got 0"):
        load_parts(asked, ["val"])


class Left(nn.Module):
    """Logits of six classes: class 3 is the last one unless there is blue on the left."""

    def forward(self, x):
        logits = torch.tensor([4.0, 3.0, 2.0, -1.0, 1.0, 0.0]).repeat(len(x), 1)
        logits[:, 3] += 1000 * x[:, 2, :, :112].mean((1, 2))
        return logits


def test_pairs_of_cutouts_are_those_that_all_judges_recognise(two_stamps, monkeypatch):
    """Blue stamps on the right are not among the first five of six: such pairs are left out."""
    monkeypatch.setattr(study_images, "load_classifier", lambda name: plain(Left(), 224))
    [data] = load_parts(ImageSettings("cutouts:pairs", test_images=8), ["test"])
    assert len(data) == 16
    for item in (data[i] for i in range(16)):
        assert item["asked"] == item["label"]
        shown = item["pixels"][{1: 0, 3: 2}[int(item["label"])]] >= 0.5
        assert shown.equal(item["truth"])
        if item["label"] == 3:
            assert item["truth"][:, :112].any()
    # kept: no judge is asked again
    monkeypatch.setattr(study_images, "load_classifier", None)
    [again] = load_parts(ImageSettings("cutouts:pairs", test_images=8), ["test"])
    assert again.images.equal(data.images)
    # none is recognised
    monkeypatch.setattr(study_images, "load_classifier", lambda name: plain(Blind(), 224))
    with pytest.raises(ValueError, match="0 of 80 pairs are recognised: check the classifiers"):
        load_parts(ImageSettings("cutouts:pairs", test_images=2), ["test"])


class Blind(nn.Module):
    """Logits of ten classes that are the same for every image."""

    def forward(self, x):
        return torch.arange(10.0).flip(0).where(torch.arange(10) != 3, torch.tensor(-1.0)).expand(len(x), -1)


def test_singles_and_pairs_come_in_turn(two_stamps, monkeypatch):
    """A single is asked about for its decision, a pair for each of its classes; the first items are of both kinds."""
    monkeypatch.setattr(study_images, "load_classifier", lambda name: plain(Left(), 224))
    asked = ImageSettings("cutouts:both", train_images=10, test_images=10)
    train, test = load_parts(asked, ["train", "test"], plain(Left(), 224))
    assert (len(train), len(test)) == (16, 22)
    assert (test.kinds.count("singles"), test.kinds.count("pairs")) == (10, 12)
    assert set(test.kinds[:4]) == {"singles", "pairs"}
    items = [test[i] for i in range(len(test))]
    of_pairs = [item for item, kind in zip(items, test.kinds, strict=True) if kind == "pairs"]
    assert all(item["asked"] == item["label"] for item in of_pairs)
    for one, other in zip(of_pairs[::2], of_pairs[1::2], strict=True):
        assert one["pixels"].equal(other["pixels"])
        assert one["asked"] != other["asked"]
    singles = [item for item, kind in zip(items, test.kinds, strict=True) if kind == "singles"]
    for item in singles:
        assert item["asked"] == (3 if item["pixels"][2, :, :112].any() else 0)


def test_images_to_train_on_and_to_calibrate_with(two_stamps):
    data, held, seen = load_training(ImageSettings("cutouts", train_images=3), None)
    assert (len(data), len(held), len(seen)) == (3, CALIBRATE_CUTOUTS, LOOK_AT)
    [val] = load_parts(ImageSettings("cutouts", val_images=CALIBRATE_CUTOUTS + 1), ["val"])
    for part, at in ((held, 1), (seen, CALIBRATE_CUTOUTS)):  # they share none
        assert part[at - CALIBRATE_CUTOUTS * (part is seen)]["pixels"].equal(val[at]["pixels"])


def test_images_to_look_at_have_names_and_a_note_about_their_licence(two_stamps, monkeypatch, study_root):
    monkeypatch.setattr(study_images, "load_classifier", lambda name: plain(Left(), 224))
    train, test, several = load_to_show(ImageSettings("cutouts", train_images=2, test_images=3), "x")
    assert (len(train), len(test), len(several)) == (2, 3, 3)
    assert set(names_in(train)) | set(names_in(test)) <= {"goldfish", "tiger shark"}  # classes 1 and 3 of ImageNet
    assert all(set(names.split(", ")) == {"goldfish", "tiger shark"} for names in names_in(several))
    assert names_in(replace(test, labels=torch.full((3,), -1))) == ["no known class"] * 3
    assert "GNU GPL, version 2" in (study_root / "figures" / "x" / "LICENCE.txt").read_text()
    # the digits
    train, test, several = load_to_show(ImageSettings(train_images=2, test_images=3), "y")
    assert names_in(train) == [str(label) for label in train.labels.tolist()]
    assert names_in(several)[0].split() == [str(c) for c in range(10) if several.labels[0, c]]
    assert not (study_root / "figures" / "y").exists()


def test_where_images_are_from_in_words(two_stamps, tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    assert described(open_images(str(tmp_path), plain(Left(), 224)), "any") == f"the folder {tmp_path.name}"
    assert described([], "cutouts") == "the data set cutouts"
    assert described([], "") == "the embedded data set"
