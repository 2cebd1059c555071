"""The embedded data set: composed images that are the same everywhere, with the truth they were composed from."""

import numpy as np
import torch
from PIL import Image

from ptame_lib import load_embedded
from ptame_lib.datasets import embedded
from ptame_lib.datasets.embedded import draw_background, load_digits, paste


def test_the_same_seed_gives_the_same_images_and_more_only_add():
    for multi in (False, True):
        few, many, other = (
            load_embedded("val", n, multi_label=multi, seed=s, cached=False) for n, s in ((4, 3), (7, 3), (4, 4))
        )
        for a, b in zip((few.images, few.labels, few.truth), (many.images, many.labels, many.truth), strict=True):
            assert a.equal(b[:4])
        assert not few.images.equal(other.images)
        assert not few.images[0].equal(few.images[1])


def test_an_item():
    data = load_embedded("train", 3, cached=False)
    item = data[2]
    assert len(data) == 3
    assert item["pixels"].shape == (3, 64, 64)
    assert item["pixels"].dtype == torch.float32
    assert 0 <= item["pixels"].min() < item["pixels"].max() <= 1
    assert (item["pixels"] * 255).round().byte().equal(data.images[2])
    assert item["truth"].dtype == torch.bool
    assert item["label"] == data.labels[2]
    assert len(list(data)) == 3  # iterating ends


def test_the_truth_is_where_the_digit_is(monkeypatch):
    """The digit is pasted last: without it the image differs there, and nowhere else."""
    whole = load_embedded("test", 12, cached=False)
    calls = []

    def all_but_the_digit(*arguments):
        calls.append(1)
        if len(calls) % 5:
            paste(*arguments)

    monkeypatch.setattr(embedded, "paste", all_but_the_digit)
    without = load_embedded("test", 12, cached=False)
    changed = (whole.images != without.images).any(1)
    for truth, differs in zip(whole.truth, changed, strict=True):
        assert (truth & differs).sum() > 0.9 * truth.sum()
        assert not (differs & ~truth).any()  # all the evidence there is
        rows, columns = differs.any(1).nonzero(), differs.any(0).nonzero()
        assert rows.max() - rows.min() < 38
        assert columns.max() - columns.min() < 38
        assert 0.02 < truth.float().mean() < 0.3
    assert whole.labels.equal(without.labels)


def test_the_truth_shows_the_labels_digit():
    """Shrunk back to 8 x 8, the truth resembles the label's mean digit more than most others'."""
    digits, labels = load_digits()["test"]
    means = np.stack([digits[labels == c].mean(0) for c in range(10)]).reshape(10, -1)
    data = load_embedded("test", 60, cached=False)
    ranks = []
    for truth, label in zip(data.truth.numpy(), data.labels.tolist(), strict=True):
        (top, bottom), (left, right) = ((np.flatnonzero(truth.any(a))[[0, -1]]) for a in (1, 0))
        small = (
            Image.fromarray(truth[top : bottom + 1, left : right + 1]).convert("L").resize((8, 8), Image.Resampling.BOX)
        )
        alike = [np.corrcoef(np.asarray(small).ravel(), mean)[0, 1] for mean in means]
        ranks.append(sum(a > alike[label] for a in alike))
    assert np.mean(ranks) < 2  # of 0..9; chance is 4.5


def test_splits_share_noload_digits():
    parts = {name: {d.tobytes() for d in digits} for name, (digits, _) in load_digits().items()}
    assert sum(len(digits) for digits, _ in load_digits().values()) == 1797
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not parts[a] & parts[b]
    assert all(set(labels) == set(range(10)) for _, labels in load_digits().values())


def test_train_and_test_share_nodraw_background(monkeypatch):
    photo = Image.new("RGB", (400, 300), "yellow")
    photo.paste("blue", (248, 0, 400, 300))  # from 62 % on
    monkeypatch.setattr(embedded, "load_photographs", lambda: [photo])
    for split, colours in (("train", 2), ("val", 2), ("test", 1)):  # two full channels or one, whatever their order
        for i in range(20):
            crop = draw_background(split, np.random.default_rng(i))
            assert ((crop > 0.55).sum(-1) == colours).all()
            assert ((crop == 0).sum(-1) == 3 - colours).all()


def test_backgrounds_are_flipped_both_ways_and_change_colours(monkeypatch):
    photo = np.zeros((64, 104, 3), dtype=np.uint8)
    photo[:32, :32] = 255, 0, 0  # a red corner; the training part is the left 64 columns
    monkeypatch.setattr(embedded, "load_photographs", lambda: [Image.fromarray(photo)])
    seen = set()
    for i in range(100):
        crop = draw_background("train", np.random.default_rng(i))
        assert crop.shape == (64, 64, 3)
        row, column, channel = (int(axis[0]) for axis in crop.nonzero())
        seen.add((row // 32, column // 32, channel))
    assert len(seen) == 2 * 2 * 3


def test_multi_label_masks_match_the_labels_and_do_not_overlap():
    data = load_embedded("test", 25, multi_label=True, cached=False)
    assert data.truth.shape == (25, 10, 64, 64)
    assert data.truth.flatten(2).any(2).equal(data.labels)
    assert data.truth.sum(1).max() == 1
    assert set(data.labels.sum(1).tolist()) == {1, 2, 3}


def test_composed_images_are_kept_and_a_damaged_file_is_composed_again(study_root):
    first = load_embedded("val", 3)
    (file,) = (study_root / "data" / "cache").iterdir()
    whole = file.read_bytes()
    assert load_embedded("val", 3).images.equal(first.images)
    for damage in (b"", b"damaged", whole[: len(whole) // 2]):
        file.write_bytes(damage)
        assert load_embedded("val", 3).images.equal(first.images)
        assert file.read_bytes() == whole
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_not_cached_leaves_no_file(study_root):
    load_embedded("val", 1, cached=False)
    assert not list((study_root / "data").rglob("*.safetensors"))
