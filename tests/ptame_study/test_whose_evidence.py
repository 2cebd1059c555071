"""Whose evidence: maps that are the evidence, or another's, get what they must; so do swaps and sentences."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import rand

from ptame_lib.datasets.evidence import EVIDENCE, load_evidence
from ptame_study import whose_evidence
from ptame_study.whose_evidence import BY_RANK, LOCATED, RIGHT, Key, Subject

N = 12


@pytest.fixture(scope="module")
def masks():
    return load_evidence("test", N, cached=False).masks()


@pytest.fixture(scope="module")
def subjects():
    targets = torch.zeros(N, dtype=torch.long)
    return [Subject(f"zoo/{name}", None, targets, EVIDENCE.index(name)) for name in ("badge", "frame")]


@pytest.fixture(scope="module")
def per_image(subjects, masks):
    """P-TAME always shows the badge; RISE shows each network's own evidence, of fewer images."""
    badge, frame = (masks[:, EVIDENCE.index(name)].float() for name in ("badge", "frame"))
    maps = {
        Key("zoo/badge", "P-TAME", 0): badge,
        Key("zoo/frame", "P-TAME", 0): badge,
        Key("zoo/badge", "RISE", 0): badge[:8],
        Key("zoo/frame", "RISE", 0): frame[:8],
        Key("zoo/badge", "centred Gaussian", 0): torch.full_like(badge, 0.5),
        Key("zoo/frame", "centred Gaussian", 0): torch.full_like(badge, 0.5),
    }
    return whose_evidence.measure(subjects, maps, masks)


def test_measure_and_tidy(per_image):
    tidy = whose_evidence.tidy(per_image).set_index(["network", "method", "evidence", "metric"])
    assert list(tidy.columns) == ["seed", "value", "low", "high", "n"]
    for network, method, value, n in (
        ("zoo/badge", "P-TAME", 100, N),
        ("zoo/frame", "P-TAME", 0, N),
        ("zoo/badge", "RISE", 100, 8),
        ("zoo/frame", "RISE", 100, 8),
        ("zoo/frame", "centred Gaussian", 100 / 7, N),
    ):
        row = tidy.loc[(network, method, network.removeprefix("zoo/"), RIGHT)]
        assert row["value"] == pytest.approx(value)
        assert row["n"] == n
    right = tidy.loc[("zoo/frame", "RISE", "frame", RIGHT)]
    assert right["low"] < 100 == right["high"]
    assert tidy.loc[("zoo/frame", "RISE", "frame", BY_RANK)]["value"] == pytest.approx(100)
    # on all evidence, and right evidence only on the own
    assert tidy.loc[("zoo/frame", "P-TAME", "badge", "AP")]["value"] == pytest.approx(100)
    assert tidy.loc[("zoo/frame", "P-TAME", "badge", "precision@truth")]["value"] == pytest.approx(100)
    assert tidy.loc[("zoo/frame", "P-TAME", "badge", "pointing")]["value"] == pytest.approx(100)
    assert tidy.loc[("zoo/frame", "P-TAME", "frame", "precision@truth")]["value"] < 50
    assert ("zoo/frame", "P-TAME", "badge", RIGHT) not in tidy.index
    assert len(tidy) == 6 * (7 * len(LOCATED) + 2)


def test_table_has_the_best_method_first(per_image):
    shown = whose_evidence.table(per_image)
    assert list(shown.index) == ["RISE", "P-TAME", "centred Gaussian"]
    assert list(shown.columns) == ["badge", "frame", "mean"]
    assert shown.loc["P-TAME", "mean"] == "50"
    assert shown.loc["P-TAME", "frame"].startswith("0 [0, ")


def test_likeness_of_maps():
    first, second = rand(3, 8, 8), rand(3, 8, 8, seed=1)
    maps = {
        Key("zoo/badge", "same", 0): first,
        Key("zoo/frame", "same", 0): first**2,
        Key("zoo/badge-resnet", "same", 0): 1 - first,
        Key("zoo/badge", "other", 0): first,
        Key("zoo/frame", "other", 0): second,
    }
    found = whose_evidence.likeness(maps).set_index(["method", "network", "other"])
    assert found.loc[("same", "zoo/badge", "zoo/frame"), "Spearman"] == pytest.approx(100)
    assert found.loc[("same", "zoo/badge", "zoo/badge-resnet"), "Spearman"] == pytest.approx(-100)
    assert found.loc[("same", "zoo/badge", "zoo/badge-resnet"), "alike"]
    assert abs(found.loc[("other", "zoo/badge", "zoo/frame"), "Spearman"]) < 50
    assert not found.loc[("other", "zoo/badge", "zoo/frame"), "alike"]


def swapped(own, other, seeds=(0,)):
    """Values of two networks: AD@25 and deletion ``own`` from the own explainer, ``other`` from the other's."""
    rows = [
        {"network": network, "of": of, "method": "P-TAME", "seed": seed, "image": image}
        | {"AD@25": value, "deletion": value, "precision@truth": 100 - value}
        for network in ("zoo/badge", "zoo/frame")
        for of in ("zoo/badge", "zoo/frame")
        for seed in seeds
        for image, value in enumerate(own if network == of else other)
    ]
    return pd.DataFrame(rows)


def test_gaps_are_positive_where_the_own_explainer_is_better():
    own = np.arange(20.0)
    found = whose_evidence.gaps(swapped(own, own + 5, seeds=(0, 1)))
    assert len(found) == 2 * 3
    assert found["gap"].to_numpy() == pytest.approx(5)
    assert found["agree"].all()
    assert (found["p"] < 0.001).all()
    assert (found["seeds"] == 2).all()
    assert (whose_evidence.gaps(swapped(own + 5, own))["gap"] < 0).all()
    nothing = whose_evidence.gaps(swapped(own, own))
    assert (nothing["p"] == 1).all()


def test_explainers_are_asked_for_each_network_and_swapped():
    pixels, masks = whose_evidence.load_images(4)
    subjects = whose_evidence.load_subjects(["zoo/badge", "zoo/quadrant"], pixels)
    asked = []

    class Explainer:
        """Shows the red pixels, if asked for a class that its network has."""

        def __init__(self, classes):
            self.classes = classes

        def explain(self, x, targets, classifier=None, questions=0, asking="steps"):
            assert targets.max() < self.classes
            assert (classifier is None) == (questions == 0)
            return x[:, 0] ** (1 + questions)

    def make(classifier, classes, seed):
        asked.append((classifier, classes, seed))
        return Explainer(classes)

    explainers = whose_evidence.train_all(subjects, {"P-TAME": make}, [3])
    assert [(classes, seed) for _, classes, seed in asked] == [(10, 3), (4, 3)]
    budget = whose_evidence.Budget(masks=5)
    maps = whose_evidence.explain_all(subjects, pixels, explainers, ["Grad-CAM", "RISE"], budget, {"RISE": 2}, ["2"])
    counts = {"P-TAME": 4, "P-TAME+2": 4, "Grad-CAM": 4, "RISE": 2}
    assert {(key.network, key.method): len(found) for key, found in maps.items()} == {
        (subject.name, method): n for subject in subjects for method, n in counts.items()
    }
    assert not maps[Key("zoo/badge", "P-TAME", 3)].equal(maps[Key("zoo/badge", "P-TAME+2", 3)])
    values = whose_evidence.swap(subjects, explainers, pixels, masks, steps=2)
    assert len(values) == 2 * 2 * 4
    wide = values.pivot(index=["network", "image"], columns="of", values="deletion")
    np.testing.assert_allclose(wide["zoo/badge"], wide["zoo/quadrant"])  # both show the same


def test_makers_are_named_by_what_they_train():
    config = whose_evidence.TrainingConfig(steps=1, batch_size=4)
    data = load_evidence("train", 4, cached=False)
    made = whose_evidence.makers(["embedded/auxiliary", "zoo/rotations"], ["without any part"], data, config, data)
    assert list(made) == [
        *("P-TAME", "Swap-TAME", "FastSHAP"),
        *("P-TAME on zoo/rotations", "Swap-TAME on zoo/rotations", "FastSHAP on zoo/rotations"),
        "Swap-TAME without any part",
    ]
    [network] = whose_evidence.load_subjects(["zoo/quadrant"], data.images.float() / 255)
    explainer = made["Swap-TAME without any part"](network.classifier, 4, 0)
    assert (explainer.method, explainer.parts, explainer.num_classes) == ("Swap-TAME", (), 4)


def test_processes_change_no_digit(monkeypatch):
    config = whose_evidence.TrainingConfig(steps=2, batch_size=4)
    data = load_evidence("train", 8, cached=False)
    subjects = whose_evidence.load_subjects(["zoo/badge", "zoo/quadrant"], data.images.float() / 255)
    made = whose_evidence.makers(["embedded/auxiliary"], [], data, config, data)
    own = whose_evidence.train_all(subjects, made, [0])
    monkeypatch.setenv("PTAME_PROCESSES", "2")
    others = whose_evidence.train_all(subjects, made, [0])
    assert list(own) == list(others)
    for key, explainer in own.items():
        values = others[key].state_dict()
        assert all(value.equal(values[name]) for name, value in explainer.state_dict().items())
