"""Cutouts: composed images that are the same everywhere, with each stamp's own truth, from generated stamps."""

import csv
import hashlib
import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ptame_lib import files, load_classifier
from ptame_lib.classifiers.lite import find_weights
from ptame_lib.datasets import cutouts
from ptame_lib.datasets.cutouts import (
    SIZE,
    SPLITS,
    UNKNOWN,
    Cutouts,
    Stamp,
    load_cutouts,
    load_scenes,
    read_tables,
    recognised,
    scene_classes,
    scene_stamps,
)
from ptame_lib.datasets.stamps import find_stamps, read_stamp

COLOURS = {"red": 3, "lime": 5, "blue": 8}  # of the generated stamps, with their classes
SHAPES = {"red": (60, 20), "lime": (20, 60), "blue": (40, 38)}


@pytest.fixture
def folder(tmp_path):
    return tmp_path


@pytest.fixture
def stamps(folder):
    """An ellipse each, of one colour, whose transparent pixels are white."""
    found = []
    for name, label in COLOURS.items():
        width, height = SHAPES[name]
        image = Image.new("RGBA", (width, height), (255, 255, 255, 0))
        y, x = np.mgrid[:height, :width]
        inside = ((x - width / 2 + 0.5) / width) ** 2 + ((y - height / 2 + 0.5) / height) ** 2 <= 0.25
        image.paste(Image.new("RGBA", image.size, name), mask=Image.fromarray(inside))
        content = io.BytesIO()
        image.save(content, "png")
        (folder / f"{name}.png").write_bytes(content.getvalue())
        found.append(Stamp(f"{name}.png", label, hashlib.sha256(content.getvalue()).hexdigest()))
    return found


@pytest.fixture
def black(monkeypatch):
    """Black backgrounds: what is not black is a stamp."""
    photo = Image.new("RGB", (512, 512))
    monkeypatch.setattr(cutouts, "load_photographs", lambda: [photo])


def test_scenes_have_two_or_three_stamps_of_different_classes(stamps, folder, black, monkeypatch):
    names = {3: "three", 5: "five", 8: "eight", 9: "nine"}
    monkeypatch.setattr(cutouts, "scene_classes", lambda: names)
    options = {"folder": folder, "stamps": stamps, "cached": False}
    scenes = load_scenes("val", 12, **options)
    assert scenes.names == ("three", "five", "eight", "nine")
    counts = scenes.labels.sum(1)
    assert (scenes.labels.shape, {*counts.tolist()}) == ((12, 4), {2, 3})
    assert not scenes.labels[:, 3].any()
    # the truth is what was pasted
    seen = scenes.images.amax(1) > 127
    assert (seen == scenes.truth).float().mean() > 0.99
    assert {key: tuple(value.shape) for key, value in scenes[0].items()} == {
        "pixels": (3, SIZE, SIZE), "labels": (4,), "truth": (SIZE, SIZE),
    }  # fmt: skip
    # image i depends on split, seed and i alone
    assert load_scenes("val", 3, **options).images.equal(scenes.images[:3])
    assert not load_scenes("test", 3, **options).images.equal(scenes.images[:3])
    with pytest.raises(ValueError, match="there are 2 stamps: give at least three of different classes"):
        load_scenes("val", 3, folder=folder, stamps=stamps[:2])


def test_the_classes_and_stamps_of_scenes():
    assert len(scene_classes()) == 52
    assert list(scene_classes()) == sorted(scene_classes())
    train, val = scene_stamps("train"), scene_stamps("val")
    assert sorted(stamp.label for stamp in train) == list(scene_classes())  # one each
    assert len(val) == 61
    assert {*train} < {*val}


def of_class(data, label):
    return (data.labels == label).nonzero().flatten().tolist()


@pytest.mark.parametrize("pairs", [False, True])
def test_the_same_seed_gives_the_same_images_and_more_only_add(pairs, stamps, folder):
    options = {"pairs": pairs, "folder": folder, "stamps": stamps, "cached": False}
    few, many, later, other = (
        load_cutouts("val", n, seed=seed, start=start, **options)
        for n, seed, start in ((3, 1, 0), (6, 1, 0), (3, 1, 3), (3, 2, 0))
    )
    for key in ("images", "labels", "truth"):
        assert getattr(few, key).equal(getattr(many, key)[:3])
        assert getattr(later, key).equal(getattr(many, key)[3:])
    assert not few.images.equal(other.images)
    assert not few.images[0].equal(few.images[1])
    assert not load_cutouts("test", 3, seed=1, **options).images.equal(few.images)


def test_an_item(stamps, folder):
    single = load_cutouts("test", 2, folder=folder, stamps=stamps, cached=False)[1]
    assert {key: (*value.shape,) for key, value in single.items()} == {
        "pixels": (3, SIZE, SIZE), "label": (), "truth": (SIZE, SIZE),
    }  # fmt: skip
    pairs = load_cutouts("test", 2, pairs=True, folder=folder, stamps=stamps, cached=False)
    assert (pairs[0]["labels"].shape, pairs[0]["truth"].shape) == ((2,), (2, SIZE, SIZE))
    # each class of a pair on its own
    each = pairs.each()
    assert len(each) == 4
    for i, item in enumerate(each[k] for k in range(4)):
        assert item["pixels"].equal(pairs[i // 2]["pixels"])
        assert item["asked"] == item["label"] == pairs.labels[i // 2, i % 2]
        assert item["truth"].equal(pairs.truth[i // 2, i % 2])
    assert each.part([3, 1])[0]["truth"].equal(each[3]["truth"])


def test_the_truth_is_the_stamp_and_no_halo_is_around_it(stamps, folder, black):
    data = load_cutouts("test", 40, folder=folder, stamps=stamps, cached=False)
    assert set(data.labels.tolist()) == set(COLOURS.values())
    for name, label in COLOURS.items():
        channel = {"red": 0, "lime": 1, "blue": 2}[name]
        for i in of_class(data, label):
            image, truth = data.images[i].int(), data.truth[i]
            assert (image[channel] >= 128).equal(truth)  # half opaque on black is half as bright
            assert not image[[c for c in range(3) if c != channel]].any()  # white would show at the edge
            rows, columns = truth.any(1).nonzero(), truth.any(0).nonzero()
            assert 80 <= max(rows.max() - rows.min(), columns.max() - columns.min()) + 1 <= 150


def test_stamps_lie_inside_a_half_and_anywhere_in_it(stamps, folder, black):
    data = load_cutouts("test", 60, folder=folder, stamps=stamps, cached=False)
    seen = set()
    for truth in data.truth:
        halves = [truth[:, :112], truth[:, 112:], truth[:112], truth[112:]]
        inside = [k for k, half in enumerate(halves) if half.sum() == truth.sum()]
        assert inside
        seen |= set(inside) if len(inside) == 1 else set()
    assert seen == {0, 1, 2, 3}
    assert data.truth.float().mean(0)[112, 112] < 0.1
    assert data.truth.any(0).float().mean() > 0.9


def test_a_pair_shows_two_classes_in_opposite_halves(stamps, folder, black):
    data = load_cutouts("test", 30, pairs=True, folder=folder, stamps=stamps, cached=False)
    assert (data.labels[:, 0] != data.labels[:, 1]).all()
    assert len({tuple(labels) for labels in data.labels.tolist()}) == 6
    assert data.truth.sum(1).max() == 1
    assert data.truth.flatten(2).any(2).all()
    for image, labels, truth in zip(data.images, data.labels.tolist(), data.truth, strict=True):
        for label, mask in zip(labels, truth, strict=True):
            assert (image[{3: 0, 5: 1, 8: 2}[label]] >= 128).equal(mask)


def test_both_ways_to_flip(stamps, folder, black):
    """A stamp whose left part is red and right part green."""
    image = Image.new("RGBA", (40, 40), "red")
    image.paste((0, 255, 0, 255), (20, 0, 40, 40))
    content = io.BytesIO()
    image.save(content, "png")
    (folder / "two.png").write_bytes(content.getvalue())
    two = [Stamp("two.png", 1, hashlib.sha256(content.getvalue()).hexdigest())]
    data = load_cutouts("test", 20, folder=folder, stamps=two, cached=False)
    red_first = [bool(image[0].float().mean(0).argmax() < image[1].float().mean(0).argmax()) for image in data.images]
    assert set(red_first) == {True, False}


def test_splits_share_no_stamp_and_no_class_and_strict_leaves_out_the_debatable():
    parts = {split: read_tables(split) for split in SPLITS}
    for one, other in itertools.combinations(SPLITS, 2):
        assert not {s.name for s in parts[one]} & {s.name for s in parts[other]}
        assert not {s.sha256 for s in parts[one]} & {s.sha256 for s in parts[other]}
        assert not ({s.label for s in parts[one]} & {s.label for s in parts[other]}) - {UNKNOWN}
    with (files.cutouts() / "chosen.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == sum(s.label != UNKNOWN for part in parts.values() for s in part) == 61
    assert len({row["class_id"] for row in rows}) == 52
    kept = [s.name for split in SPLITS for s in read_tables(split, strict=True) if s.label != UNKNOWN]
    assert sorted(kept) == sorted(row["stamp"] for row in rows if row["strict"] == "yes")
    assert len(kept) == 55


def test_splits_share_no_region_of_a_photograph(monkeypatch):
    photo = Image.new("RGB", (400, 300), "red")
    photo.paste("lime", (200, 0, 400, 150))
    photo.paste("blue", (200, 150, 400, 300))
    monkeypatch.setattr(cutouts, "load_photographs", lambda: [photo])
    for split, channel in (("train", 0), ("test", 1), ("val", 2)):
        for i in range(15):
            pixels = cutouts.draw_background(split, np.random.default_rng(i))
            assert pixels.shape == (SIZE, SIZE, 3)
            assert (pixels == np.eye(3)[channel]).all()


def test_composed_images_are_kept_and_other_stamps_have_other_files(stamps, folder, study_root):
    first = load_cutouts("val", 2, folder=folder, stamps=stamps)
    (file,) = (study_root / "data" / "cache").iterdir()
    (folder / "red.png").unlink()  # not needed any more
    assert load_cutouts("val", 2, folder=folder, stamps=stamps).images.equal(first.images)
    file.write_bytes(b"damaged")
    with pytest.raises(FileNotFoundError, match="no stamps"):
        load_cutouts("val", 2, folder=folder, stamps=stamps)
    load_cutouts("val", 2, folder=folder, stamps=stamps[1:])
    assert len(list(file.parent.glob("*.safetensors"))) == 1  # the damaged one is gone


class Says(nn.Module):
    """Logits of ten classes: those of the colours as bright as they are, ``liked`` above all."""

    def __init__(self, liked):
        super().__init__()
        self.liked = liked

    def forward(self, pixels):
        logits = torch.zeros(len(pixels), 10)
        logits[:, list(COLOURS.values())] = pixels.mean((2, 3))
        logits[:, self.liked] = 2.0
        return logits


def test_recognised_by_all(stamps, folder, black):
    pairs = load_cutouts("test", 9, pairs=True, folder=folder, stamps=stamps, cached=False)
    assert recognised(pairs, [Says([0])], first=3).all()
    assert recognised(pairs, [Says([3])], first=2).equal((pairs.labels == 3).any(1))
    assert recognised(pairs, [Says([3]), Says([5])], first=2).equal(
        (pairs.labels == 3).any(1) & (pairs.labels == 5).any(1)
    )
    singles = load_cutouts("test", 9, folder=folder, stamps=stamps, cached=False)
    assert recognised(singles, [Says([])], first=1).all()
    unknown = Cutouts(singles.images, torch.full_like(singles.labels, UNKNOWN), singles.truth)
    assert not recognised(unknown, [Says([])]).any()
    with pytest.raises(ValueError, match="no classifiers are given"):
        recognised(singles, [])


def test_bad_requests_are_refused(stamps, folder, monkeypatch):
    options = {"folder": folder, "cached": False}
    with pytest.raises(ValueError, match="unknown split 'all': cutouts has train, val, test"):
        load_cutouts("all", 1, stamps=stamps, **options)
    with pytest.raises(ValueError, match="n must be a whole number of at least 1, got 0"):
        load_cutouts("test", 0, stamps=stamps, **options)
    with pytest.raises(ValueError, match="there are 0 stamps: give at least one stamp"):
        load_cutouts("test", 1, stamps=[], **options)
    with pytest.raises(ValueError, match="there are 1 stamps: give at least two stamps of different classes"):
        load_cutouts("test", 1, stamps=stamps[:1], pairs=True, **options)
    monkeypatch.setattr(files, "cache", lambda: folder / "cache")  # the checkout's may hold them
    with pytest.raises(FileNotFoundError, match="no stamps of tuxpaint-stamps-default in"):
        load_cutouts("test", 1, folder=folder / "elsewhere", cached=False)
    (folder / "red.png").write_bytes(b"exchanged")
    with pytest.raises(ValueError, match=r"red\.png is not that of"):
        load_cutouts("test", 20, stamps=stamps, **options)


@pytest.mark.parametrize("name", ["lite/0", "lite/1", "lite/2"])
def test_the_networks_name_the_stamps_rightly(name):
    """Each stamp of the test once, large and in the middle: at least 75 % of them, as the table says."""
    try:
        find_weights(name)
        chosen = read_tables("test", strict=True)
        folder = find_stamps(chosen[0].name)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    classifier, rng = load_classifier(name), np.random.default_rng(0)
    images = []
    for stamp in chosen:
        picture, canvas = read_stamp(folder / stamp.name, stamp.sha256), cutouts.draw_background("test", rng)
        width, height = (max(1, 150 * side // max(picture.size)) for side in picture.size)
        cutouts.paste(canvas, cutouts.scale(picture, (width, height)), (SIZE - width) // 2, (SIZE - height) // 2)
        images.append(torch.from_numpy(canvas).permute(2, 0, 1))
    with torch.no_grad():
        decisions = torch.cat([classifier(batch).argmax(1) for batch in torch.stack(images).split(11)])
    right = decisions == torch.tensor([stamp.label for stamp in chosen])
    assert right.float().mean() >= 0.75
