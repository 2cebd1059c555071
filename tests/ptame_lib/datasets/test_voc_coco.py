"""VOC-2007 and COCO-2014: small stand-ins in the releases' folder layout, with objects known by hand."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from ptame_lib import COCO, VOC, load_embedded
from ptame_lib.classifiers.loading import EMBEDDED, EMBEDDED_MULTI
from ptame_lib.datasets import first
from ptame_study import images
from ptame_study.__main__ import main
from ptame_study.classifiers import class_names, load_explained
from ptame_study.images import load_parts
from ptame_study.settings import ClassifierSettings, ImageSettings

WIDTH, HEIGHT = 40, 20  # twice as wide as high: the aspect is not kept


def picture(file):
    """The left half is red, the right half blue."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels[:, : WIDTH // 2, 0], pixels[:, WIDTH // 2 :, 2] = 255, 255
    Image.fromarray(pixels).save(file, quality=95)


def annotation(file, *objects):
    file.parent.mkdir(parents=True, exist_ok=True)
    parts = "<part><name>head</name></part>"
    text = "".join(
        f"<object><name>{name}</name><difficult>{k % 2}</difficult>{parts}</object>" for k, name in enumerate(objects)
    )
    file.write_text(f"<annotation><filename>{file.stem}.jpg</filename>{text}</annotation>")


@pytest.fixture
def voc(tmp_path):
    """Train: 000001 (a car, segmented on the right half, void around), 000002 (a dog and two persons, no segments)."""
    root = tmp_path / "VOCdevkit" / "VOC2007"
    for name, objects in {"000001": ["car"], "000002": ["dog", "person", "person"], "000003": ["train"]}.items():
        picture(root / "JPEGImages" / f"{name}.jpg")
        annotation(root / "Annotations" / f"{name}.xml", *objects)
    for part, lists in {
        "Main": {"train": "000001\n000002\n", "val": "000003\n"},
        "Segmentation": {"train": "000001\n"},
    }.items():
        (root / "ImageSets" / part).mkdir(parents=True)
        for split, content in lists.items():
            (root / "ImageSets" / part / f"{split}.txt").write_text(content)
    classes = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    classes[:, 20:], classes[:, 30:] = 7, 255  # void from 30 on
    image = Image.fromarray(classes)
    image.putpalette(list(range(256)) * 3)
    (root / "SegmentationClass").mkdir()
    image.save(root / "SegmentationClass" / "000001.png")
    return tmp_path


def names_in(data, item):
    return [name for name, there in zip(data.names, item["labels"], strict=True) if there]


def halves(pixels):
    """The picture, squeezed to a square."""
    assert pixels.shape == (3, 32, 32)
    assert pixels.dtype == torch.float32
    assert (pixels[0, :, :14] > 0.8).all()
    assert (pixels[2, :, 18:] > 0.8).all()
    assert pixels[1].max() < 0.2
    assert 0 <= pixels.min() <= pixels.max() <= 1


def test_voc_for_classification(voc):
    data = VOC(voc, "train", 32)
    assert len(data) == 2
    assert len(data.names) == 20
    assert list(data.names) == sorted(data.names)
    for item in (data[0], data[1]):
        assert set(item) == {"pixels", "labels"}
        halves(item["pixels"])
    assert data[0]["labels"].dtype == torch.bool
    assert names_in(data, data[0]) == ["car"]
    assert names_in(data, data[1]) == ["dog", "person"]  # difficult ones too, parts of objects not
    assert names_in(data, VOC(voc, "val", 32)[0]) == ["train"]
    assert next(iter(DataLoader(data, 2)))["labels"].shape == (2, 20)


def test_voc_with_truth(voc):
    data = VOC(voc, "train", 32, truth=True)
    assert len(data) == 1
    item = data[0]
    halves(item["pixels"])
    assert names_in(data, item) == ["car"]
    assert item["truth"].dtype == torch.bool
    assert item["truth"].nonzero()[:, 1].unique().tolist() == list(range(16, 24))  # columns 20..29 of 40
    assert item["truth"].any(1).all()


def test_labels_of_all_images_at_once(voc, coco):
    for data in (VOC(voc, "train", 32), COCO(coco, "test", 32)):
        assert data.labels.equal(torch.stack([item["labels"] for item in (data[i] for i in range(len(data)))]))
        assert first(data, 1).labels.equal(data.labels[:1])


def multi_label(dataset, part, count=0, classifier="", truth=False):
    counts = {f"{part}_images": count}
    images = ImageSettings(dataset, multi_label=True, classifier=classifier, **counts)
    return load_parts(images, [part], truth=truth)[0]


def test_images_by_name_of_the_data_set(voc, monkeypatch):
    monkeypatch.setenv("PTAME_DATA", str(voc))
    data = multi_label("voc2007", "train")
    assert (len(data), data[0]["pixels"].shape) == (2, (3, 224, 224))
    assert len(multi_label("voc2007", "train", truth=True)) == 1
    part = multi_label("voc2007", "train", 1)
    assert len(part) == 1
    assert class_names(part) == VOC.names
    with pytest.raises(ValueError, match="unknown dataset 'voc': choose embedded, cutouts, voc2007, coco2014"):
        multi_label("voc", "train")


def test_a_single_label_classifier_has_images_with_one_hot_labels():
    data = multi_label("embedded", "val", 6, classifier="embedded/vgg")
    plain = load_embedded("val", 6)
    assert data.images.equal(plain.images)
    assert data.labels.sum(1).eq(1).all()
    assert data.labels[torch.arange(6), plain.labels].all()
    assert data[0]["labels"].shape == (10,)
    several = multi_label("embedded", "val", 6, classifier="embedded/multi-vgg")
    assert not several.images.equal(data.images)
    flags = {
        name: load_explained(ClassifierSettings(name), class_names(data)).multi_label
        for name in (*EMBEDDED, *EMBEDDED_MULTI)
    }
    assert flags == dict.fromkeys(EMBEDDED, False) | dict.fromkeys(EMBEDDED_MULTI, True)
    with pytest.raises(
        ValueError, match="embedded/vit knows only the embedded images: set dataset to embedded, not voc2007"
    ):
        multi_label("voc2007", "val", 6, classifier="embedded/vit")


def test_a_classifier_is_fine_tuned_for_a_profile_and_found_again(voc, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PTAME_ROOT", str(tmp_path / "root"))
    (tmp_path / "root" / "workflow" / "profiles").mkdir(parents=True)
    monkeypatch.setattr(images, "SIZE", 32)
    monkeypatch.setattr("os.environ", {**os.environ, "PTAME_ROOT": str(tmp_path / "root")})
    settings = "{dataset: voc2007, weights: none, epochs: 1, batch_size: 2}"
    profile = f"multi_label: [resnet50]\nnotebooks: {{}}\nfinetune: {settings}\n"
    (tmp_path / "root" / "workflow" / "profiles" / "x.yaml").write_text(profile)
    explained, data = ClassifierSettings("resnet50", profile="x"), VOC(voc, "train", 32)
    with pytest.raises(
        FileNotFoundError,
        match=r"no multi-label weights at results/x/multilabel-resnet50\.safetensors: make them by python -m ptame",
    ):
        load_explained(explained, class_names(data))
    assert main(["finetune", "--profile", "x", "--classifier", "resnet50", "--data", str(voc)]) == 0
    assert (
        (tmp_path / "root" / "results" / "x" / "finetune-resnet50.csv")
        .read_text()
        .startswith("epoch,total,val_total\n0,")
    )
    found = load_explained(explained, class_names(data))
    assert found.labels == VOC.names
    assert found(data[0]["pixels"][None]).shape == (1, 20)
    assert main(["finetune", "--profile", "x", "--classifier", "vgg16"]) == 1
    assert (
        "profile x has no 'finetune' for 'vgg16': its multi_label classifiers are ['resnet50']"
        in capsys.readouterr().err
    )


def test_missing_voc(voc, tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=r"no VOC-2007 at .*nowhere \(.*Main/val\.txt is missing\): download http.*VOCtrainval_06",
    ):
        VOC(tmp_path / "nowhere", "val")
    with pytest.raises(
        FileNotFoundError,
        match=r"Segmentation/test\.txt is missing\): download .*VOCtest_06-Nov-2007\.tar and unpack it there",
    ):
        VOC(voc, "test", truth=True)
    with pytest.raises(ValueError, match="unknown split 'trainval': VOC-2007 has train, val, test"):
        VOC(voc, "trainval")
    (voc / "VOCdevkit" / "VOC2007" / "Annotations" / "000003.xml").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"Annotations/000003\.xml of VOC-2007 is missing: unpack the archive again"
    ):
        VOC(voc, "val")[0]


def box(category, left, right):
    """A rectangle over the image's whole height as a polygon."""
    return {
        "category_id": category,
        "iscrowd": 0,
        "segmentation": [[left, 0, right, 0, right, HEIGHT, left, HEIGHT]],
        "area": 1,
    }


CROWD = {
    "category_id": 90,
    "iscrowd": 1,
    "segmentation": {"size": [HEIGHT, WIDTH], "counts": [0, 10 * HEIGHT, 30 * HEIGHT]},
    "area": 1,
}


@pytest.fixture
def coco(tmp_path):
    """20 images to train, with a person on the left quarter, every third with a crowd there too; 6 to test.

    Each part has one more image without objects.
    """
    categories = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}, {"id": 90, "name": "toothbrush"}]
    for part, count, objects in (
        ("train2014", 20, [box(1, 0, 10)]),
        ("val2014", 6, [box(18, 10, 20), box(18, 30, 40)]),
    ):
        images, annotations = [], []
        for i in range(1, count + 2):
            name = f"COCO_{part}_{i:012d}.jpg"
            picture(tmp_path / part / name)
            images.append({"id": i, "file_name": name, "width": WIDTH, "height": HEIGHT})
            if i <= count:  # the last has none
                annotations += [one | {"image_id": i} for one in objects + ([CROWD] if i % 3 == 0 else [])]
        for k, one in enumerate(annotations):
            one["id"] = k + 1
        file = tmp_path / "annotations" / f"instances_{part}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return tmp_path


def test_coco(coco, capsys):
    data = COCO(coco, "test", 32)
    assert capsys.readouterr().out == ""
    assert len(data) == 6
    assert [data.names[i] for i in (0, 1, 18, 90)] == ["", "person", "dog", "toothbrush"]
    item = data[0]
    assert set(item) == {"pixels", "labels", "truth"}
    halves(item["pixels"])
    assert item["labels"].shape == (91,)
    assert item["labels"].nonzero().flatten().tolist() == [18]  # two dogs are one label
    assert item["truth"].nonzero()[:, 1].unique().tolist() == [
        *range(8, 16),
        *range(24, 32),
    ]  # columns 10..19 and 30..39 of 40
    crowded = data[2]
    assert crowded["labels"].nonzero().flatten().tolist() == [18, 90]
    assert crowded["truth"].any(0).nonzero().flatten().tolist() == [
        *range(16),
        *range(24, 32),
    ]  # the crowd covers columns 0..9
    assert next(iter(DataLoader(data, 2)))["truth"].shape == (2, 32, 32)


@pytest.mark.parametrize(
    ("segmentation", "columns"),
    [
        ([], []),
        ([[]], []),
        ([[4, 4, 12, 12]], []),
        ([[4, 4, 12, 12], [20, 0, 40, 0, 40, 20, 20, 20]], range(16, 32)),
        ([[20, 0, 40, 0, 40, 20, 20, 20], [4, 4, 12, 12]], range(16, 32)),
        (None, []),
    ],
    ids=str,
)
def test_coco_objects_without_an_outline_are_labels_without_pixels(segmentation, columns, coco):
    file = coco / "annotations" / "instances_val2014.json"
    content = json.loads(file.read_text())
    others = [one for one in content["annotations"] if one["image_id"] != 1]
    one = {"id": 999, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 1, "bbox": [0, 0, 4, 4]}
    content["annotations"] = [*others, one | ({} if segmentation is None else {"segmentation": segmentation})]
    file.write_text(json.dumps(content))
    item = COCO(coco, "test", 32)[0]
    assert item["labels"].nonzero().flatten().tolist() == [1]
    assert item["truth"].any(0).nonzero().flatten().tolist() == [*columns]


def test_cocos_parts_share_no_image(coco):
    train, val = COCO(coco, "train", 32), COCO(coco, "val", 32)
    assert (len(train), len(val)) == (18, 2)
    assert not set(train._parts.ids) & set(val._parts.ids)
    assert set(train._parts.ids) | set(val._parts.ids) == set(range(1, 21))
    assert COCO(coco, "val", 32)._parts.ids == val._parts.ids
    others = [COCO(coco, "val", 32, seed=s)._parts.ids for s in range(1, 5)]
    assert any(ids != val._parts.ids for ids in others)
    few = COCO(coco, "test", 32, test_images=4)
    assert len(few) == 4
    assert set(few._parts.ids) < set(range(1, 7))


def test_missing_coco(coco, tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=r"no COCO-2014 at .*nowhere \(.*val2014 is missing\): download http.*/zips/val2014\.zip and unzip",
    ):
        COCO(tmp_path / "nowhere", "test")
    with pytest.raises(ValueError, match="unknown split 'trainval': COCO-2014 has train, val, test"):
        COCO(coco, "trainval")
    (coco / "val2014" / "COCO_val2014_000000000001.jpg").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"COCO_val2014_000000000001\.jpg of COCO-2014 is missing: unzip the archive again"
    ):
        COCO(coco, "test")[0]
    (coco / "annotations" / "instances_train2014.json").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"instances_train2014\.json is missing\): download .*annotations_trainval2014\.zip"
    ):
        COCO(coco, "val")
