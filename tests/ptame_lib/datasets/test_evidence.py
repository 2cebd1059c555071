"""Images in which several things could decide: independent factors, disjoint masks, changes to the pixel."""

import pytest
import torch

from ptame_lib.datasets.evidence import CLASSES, EVIDENCE, SIZE, load_evidence

N = 20


@pytest.fixture(scope="module")
def data():
    return load_evidence("test", N, cached=False)


def test_items(data):
    item = data[3]
    assert item["pixels"].shape == (3, SIZE, SIZE)
    assert item["labels"].shape == (7,)
    assert item["masks"].shape == (7, SIZE, SIZE)
    assert item["masks"].dtype == torch.bool
    assert "label" not in item
    badge = load_evidence("test", 4, "badge", cached=False)
    assert badge[3]["label"] == item["labels"][1]
    assert badge[3]["truth"].equal(item["masks"][1])
    assert badge.alone()[3]["truth"].equal(item["masks"][1])
    assert badge.alone().labels.equal(data.labels[:4, 1])


def test_every_pixel_belongs_to_one_factor_and_none_is_missing(data):
    masks = data.masks()
    assert masks.sum(1).eq(1).all()
    assert masks.flatten(2).any(2).all()
    assert masks[:, EVIDENCE.index("badge")].sum((1, 2)).eq(81).all()
    assert masks[:, EVIDENCE.index("frame")].sum((1, 2)).eq(SIZE**2 - 52**2).all()


def test_the_disc_lies_wholly_in_the_quadrant_of_its_class(data):
    number, middle = EVIDENCE.index("quadrant"), SIZE // 2
    for mask, label in zip(data.masks()[:, number], data.labels[:, number].tolist(), strict=True):
        rows, columns = mask.nonzero(as_tuple=True)
        assert (rows // middle == label // 2).all()
        assert (columns // middle == label % 2).all()


@pytest.mark.parametrize("factor", EVIDENCE)
def test_a_redrawn_factor_changes_its_class_and_no_pixel_of_another(data, factor):
    changed, number = load_evidence("test", 10, changed=factor, cached=False), EVIDENCE.index(factor)
    other = changed.labels != data.labels[:10]
    assert other[:, number].all()
    assert other.sum() == 10  # and no other class
    own = data.masks()[:10, number] | changed.masks()[:, number]
    different = (changed.images != data.images[:10]).any(1)
    assert not (different & ~own).any()
    assert different.flatten(1).any(1).all()


def test_classes_are_drawn_evenly_and_independently():
    labels = load_evidence("val", 200, cached=False).labels
    for number, factor in enumerate(EVIDENCE):
        counts = labels[:, number].bincount(minlength=CLASSES[factor])
        assert len(counts) == CLASSES[factor]
        expected = 200 / CLASSES[factor]
        assert ((counts - expected).abs() < 5 * expected**0.5).all()
    # chance of equal classes of two factors with ten: 10 %
    for a, b in ((0, 3), (1, 6), (2, 5), (0, 1)):
        assert 0.02 < (labels[:, a] == labels[:, b]).float().mean() < 0.22


def test_an_image_depends_on_split_seed_and_number_alone(data):
    assert load_evidence("test", 7, cached=False).images.equal(data.images[:7])
    assert not load_evidence("test", 7, seed=1, cached=False).images.equal(data.images[:7])
    assert not load_evidence("val", 7, cached=False).images.equal(data.images[:7])


def test_the_cache_gives_the_same(study_root, data):
    for _ in range(2):
        again = load_evidence("test", 5, "frame", changed="badge")
        assert again.images.equal(load_evidence("test", 5, changed="badge", cached=False).images)
        assert again[0]["truth"].equal(data.masks()[0, EVIDENCE.index("frame")])
    assert len(list((study_root / "data" / "cache").iterdir())) == 1


def test_refusals():
    with pytest.raises(ValueError, match="unknown evidence 'colour'"):
        load_evidence("test", 1, "colour")
    with pytest.raises(ValueError, match="unknown evidence 'colour'"):
        load_evidence("test", 1, changed="colour")
    with pytest.raises(ValueError, match="unknown split"):
        load_evidence("tests", 1)
    with pytest.raises(ValueError, match="at least 1"):
        load_evidence("test", 0)
