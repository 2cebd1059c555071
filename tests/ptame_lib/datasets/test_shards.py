"""Webdataset shards: the same images as webdataset's own reader gives, by number."""

import io
import pickle
import tarfile

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image
from torch.utils.data import DataLoader

from ptame_lib import PTAME, ImageFolder, TrainingConfig, load_auxiliary, load_classifier, train_ptame
from ptame_lib.datasets.images import read_image
from ptame_lib.datasets.shards import Shards


def write_shard(file, samples):
    with tarfile.open(file, "w") as tar:
        for key, content in samples:
            member = tarfile.TarInfo(key)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def jpeg(shade):
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), (shade,) * 3).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """Three shards of three, three and one image; the label of image i is 10 + i, its brightness 30 i."""
    monkeypatch.setenv("PTAME_ROOT", str(tmp_path / "root"))
    for number, images in enumerate(((0, 1, 2), (3, 4, 5), (6,))):
        files = [
            (f"{i:05}.{end}", content)
            for i in images
            for end, content in (("cls", str(10 + i).encode()), ("jpg", jpeg(30 * i)))
        ]
        write_shard(tmp_path / f"train-{number:04}.tar", files)
    return str(tmp_path / "train-{0000..0002}.tar")


def test_shards_are_read_as_webdataset_reads_them(shards):
    ours = Shards(shards, 7, 8)
    theirs = list(webdataset.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("__key__", "jpg", "cls"))
    assert len(ours) == len(theirs) == 7
    for i, (key, image, label) in enumerate(theirs):
        assert (ours.names[i], ours.labels[i]) == (key, label) == (f"{i:05}", 10 + i)
        assert read_image(ours._open(i)).tobytes() == image.convert("RGB").tobytes()
    assert ours[5]["pixels"].mean().item() == pytest.approx(150 / 255, abs=0.01)
    assert ours[5]["label"].item() == 15


def test_shards_by_number_in_workers_and_parts(shards, tmp_path):
    ours = Shards(shards, 7, 8)
    wanted = [6, 0, 3, 3]
    alone = torch.stack([ours[i]["pixels"] for i in wanted])
    by_workers = next(iter(DataLoader(ours, 4, sampler=wanted, num_workers=2)))
    assert by_workers["pixels"].equal(alone)
    assert by_workers["label"].tolist() == [16, 10, 13, 13]
    part = pickle.loads(pickle.dumps(ours.part([6, 0])))
    assert (len(part), part.names, part.labels) == (2, ["00006", "00000"], [16, 10])
    assert part[0]["pixels"].equal(ours[6]["pixels"])
    draws = [ours.draw(4, torch.Generator().manual_seed(s))["pixels"] for s in (1, 1, 2)]
    assert draws[0].equal(draws[1])
    assert Shards(str(tmp_path / "train-*.tar")).names == ours.names


def test_training_on_shards_is_training_on_their_images(tmp_path, monkeypatch):
    """The same losses and weights as from a folder, with and without workers."""
    auxiliary, classifier = load_auxiliary("embedded/auxiliary"), load_classifier("embedded/resnet")
    monkeypatch.setenv("PTAME_ROOT", str(tmp_path / "root"))
    images = {f"{i:05}": jpeg(20 * i) for i in range(8)}
    for name, content in images.items():
        (tmp_path / f"{name}.jpg").write_bytes(content)
    for number, keys in enumerate((list(images)[:5], list(images)[5:])):
        write_shard(tmp_path / f"{number}.tar", [(f"{key}.jpg", images[key]) for key in keys])
    found = []
    for data, workers in (
        (ImageFolder(tmp_path, 64, 73), 0),
        (Shards(tmp_path / "*.tar", 64, 73), 0),
        (Shards(tmp_path / "*.tar", 64, 73), 1),
    ):
        torch.manual_seed(0)
        explainer = PTAME(auxiliary, 10)
        history = train_ptame(explainer, classifier, data, TrainingConfig(steps=3, batch_size=4, workers=workers))
        found.append(([row["total"] for row in history], explainer.fuser.weight.tolist()))
    assert found[0] == found[1] == found[2]


def test_the_index_of_shards_is_kept_and_follows_them(shards, tmp_path):
    first = Shards(shards)
    (index,) = (tmp_path / "root" / "data" / "cache").glob("shards-*.npz")
    assert Shards(shards).names == first.names
    index.write_bytes(b"damaged")
    assert Shards(shards).names == first.names
    write_shard(tmp_path / "train-0002.tar", [("new.jpg", jpeg(90))])
    changed = Shards(shards)
    assert (changed.names[-1], changed.labels[-1]) == ("new", -1)  # no cls: no label
    assert np.load(index)["name"].tolist() == first.names


def test_broken_shards(shards, tmp_path):
    ours = Shards(shards)
    write_shard(tmp_path / "none-0.tar", [("a.txt", b"hello")])
    write_shard(tmp_path / "word-0.tar", [("a.cls", b"cat"), ("a.jpg", jpeg(9))])
    (tmp_path / "text-0.tar").write_text("no tar file at all")
    for name, message in (
        ("none-0.tar", r"none-0\.tar has no images: its samples must have one of jpeg, jpg, png, webp"),
        ("word-0.tar", r"word-0\.tar can't be read as a webdataset shard .*cat"),
        ("text-0.tar", r"text-0\.tar can't be read as a webdataset shard"),
    ):
        with pytest.raises(ValueError, match=message):
            Shards(tmp_path / name)
    with pytest.raises(
        FileNotFoundError, match=r"1 of 4 shards are missing, such as .*train-0003\.tar: check the pattern"
    ):
        Shards(shards.replace("0002}", "0003}"))
    with pytest.raises(FileNotFoundError, match="no shard fits: check the pattern"):
        Shards(tmp_path / "gone-*.tar")
    whole = (tmp_path / "train-0001.tar").read_bytes()
    (tmp_path / "train-0001.tar").write_bytes(whole[: whole.rindex(b"\xff\xd8")])  # ends where the last JPEG begins
    with pytest.raises(ValueError, match=r"00005 can't be read \(.*train-0001\.tar ends inside it\)"):
        ours[5]
    assert ours[3]["label"].item() == 13
