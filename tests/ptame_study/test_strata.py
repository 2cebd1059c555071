"""Strata of images: by hand on a classifier that answers as planned, and noise that some maps do not feel."""

import pandas as pd
import pytest
import torch
from torch import nn

from ptame_lib import Method, load_embedded
from ptame_study import strata, tables, verdicts
from ptame_study.strata import RIGHT, SECOND, WRONG, find_strata


class Planned(nn.Module):
    """Answers the label of each known image, but the next one for the images in ``wrong``; second is label + 5."""

    def __init__(self, data, wrong):
        super().__init__()
        self.labels = {
            image.float().sum().item(): label.item() for image, label in zip(data.images, data.labels, strict=True)
        }
        self.wrong = {data.images[i].float().sum().item() for i in wrong}
        self.anchor = nn.Parameter(torch.zeros(()))

    def forward(self, pixels):
        logits = torch.zeros(len(pixels), 10)
        for row, image in zip(logits, pixels, strict=True):
            key = (image * 255).round().sum().item()
            row[(self.labels[key] + (key in self.wrong)) % 10] = 2
            row[(self.labels[key] + 5) % 10] = 1
        return logits


@pytest.fixture(scope="module")
def images():
    return load_embedded("test", 60, cached=False)


@pytest.fixture
def small_portions(monkeypatch):
    monkeypatch.setattr(strata, "PORTION", 16)


def test_each_stratum_has_its_images_in_order(images, small_portions):
    wrong = [2, 20, 35, 50]
    found, looked = find_strata(Planned(images, wrong), 3, most=60)
    assert looked == 48  # three portions hold three wrong ones
    expected = {RIGHT: [0, 1, 3], WRONG: wrong[:3], SECOND: [0, 1, 2]}
    shift = {RIGHT: 0, WRONG: 1, SECOND: 5}
    for name, rows in expected.items():
        assert len(found[name]) == 3
        for i, at in enumerate(rows):
            item = found[name][i]
            assert item["pixels"].equal(images[at]["pixels"])
            assert item["truth"].equal(images.truth[at])  # of the true digit, whatever is asked
            assert item["asked"] == (images.labels[at] + shift[name]) % 10


def test_fewer_wrong_images_than_wanted_are_what_they_are(images, small_portions):
    found, looked = find_strata(Planned(images, [2, 20]), 30, most=50)
    assert (looked, len(found[WRONG]), len(found[RIGHT])) == (50, 2, 30)
    assert WRONG not in find_strata(Planned(images, []), 3, most=20)[0]
    with pytest.raises(ValueError, match="most must be a whole number of at least 1"):
        find_strata(Planned(images, []), 3, most=0)


def test_images_from_a_start_are_the_same(images):
    part = load_embedded("test", 5, start=17, cached=False)
    assert part.images.equal(images.images[17:22])
    assert part.truth.equal(images.truth[17:22])
    with pytest.raises(ValueError, match="start must be a whole number"):
        load_embedded("test", 5, start=-1)


def test_the_mode_of_the_classifier_comes_back(images):
    net = Planned(images, []).train()
    best, second = strata.first_two(net, images, 7)
    assert net.training
    assert best.equal(images.labels)
    assert second.equal((images.labels + 5) % 10)


def test_tables_name_classifier_and_stratum():
    table = pd.DataFrame({"classifier": ["a, b, wrong", "c, second class"], "value": [1, 2]})
    found = strata.with_strata(table)
    assert list(found) == ["classifier", "stratum", "value"]
    assert found["classifier"].tolist() == ["a, b", "c"]
    assert found["stratum"].tolist() == ["wrong", "second class"]


def test_robustness_of_maps_that_feel_nothing_or_all(images):
    def steady(pixels, targets):
        return torch.linspace(0, 1, 16).view(1, 4, 4).expand(len(pixels), -1, -1)

    def bright(pixels, targets):
        return pixels.mean(1)

    data = strata.Asked([images[i] for i in range(30)], images.labels[:30])
    methods = [Method("steady", steady, 0, 0, "test"), Method("bright", bright, 0, 0, "test")]
    found = strata.robustness(methods, data, draws=2).set_index(["method", "metric"])
    assert found.loc[("steady", "max-sensitivity"), "value"] == 0
    assert found.loc[("steady", "rank stability"), "value"] == pytest.approx(100)
    assert 0 < found.loc[("bright", "max-sensitivity"), "value"] < 100
    row = found.loc[("bright", "rank stability")]
    assert 0 < row["low"] < row["value"] < row["high"] < 100
    assert (found["n"] == 30).all()
    again = strata.robustness(methods, data, draws=2, batch_size=7).set_index(["method", "metric"])
    pd.testing.assert_frame_equal(found, again)


def test_the_sentences_with_losses_come_first():
    def rows(method, verdicts):
        shared = {"classifier": "net, wrong", "method": method, "images": 200, "seeds": 1}
        return pd.DataFrame([shared | {"metric": f"m{i}", "verdict": v} for i, v in enumerate(verdicts)])

    found = pd.concat([rows("a", ["better", "better"]), rows("b", ["worse", "better"]), rows("c", ["better", "worse"]),
                       rows("d", ["worse", "worse"]), rows("e", ["no difference shown"] * 2)])  # fmt: skip
    told = strata.losses_first(found)
    assert [sentence.split("against ")[1][0] for sentence in told] == list("dbcea")
    assert told[0].startswith("net, wrong: P-TAME against d (200 images")


def test_what_is_told_of_a_method_and_of_missing_images():
    columns = ["classifier", "stratum", "method", "metric", "value", "low", "high", "n"]
    nan = float("nan")
    rows = [("a", "right", "P-TAME", "AP", 70.04, 60, 80, 9), ("a", "wrong", "P-TAME", "AP", 50, nan, nan, 9)]
    table = pd.DataFrame([*rows, ("a", "right", "RISE", "AP", 10, 5, 15, 9)], columns=columns)
    assert strata.told(table, "P-TAME", "AP") == ["a: AP of P-TAME: right 70.0 [60.0, 80.0], wrong 50.0."]
    assert strata.told(table, "P-TAME", "IC@25") == []
    whole = table[table["stratum"] == "right"].drop(columns="stratum")
    assert strata.told(whole, "RISE") == ["a: AP of RISE: 10.0 [5.0, 15.0]."]
    shown = strata.with_intervals(whole)
    assert shown.loc[("a", "P-TAME"), "AP"] == "70.0 [60.0, 80.0]"
    found = {"a": dict.fromkeys(strata.STRATA, [0] * 5), "b": {RIGHT: [0] * 5, SECOND: [0] * 5}}
    assert strata.missing(found, 5, 90) == ["b, wrong: only 0 of 5 images, though 90 test images were looked at."]
    assert strata.missing({"a": found["a"]}, 5, 90) == ["Every stratum has 5 images."]


def test_probabilities_are_of_the_class_asked(images):
    data = strata.Asked([images[i] for i in range(4)], (images.labels[:4] + torch.tensor([0, 5, 1, 0])) % 10)
    logits = torch.tensor([2.0, 1.0] + [0.0] * 8)
    expected = logits.softmax(0)[[0, 1, 2, 0]]
    torch.testing.assert_close(strata.probability(Planned(images, []), data, 3).float(), expected)


def test_a_second_class_has_neither_truth_nor_accuracy():
    columns = ["classifier", "image", "AD@25", "MoRF accuracy", "MoRF accuracy 10", "MoRF confidence", "deletion", "AP"]
    values = pd.DataFrame([[0.0] * len(columns)], columns=columns)
    assert list(strata.fitting(values, RIGHT)) == list(strata.fitting(values, WRONG)) == columns
    assert list(strata.fitting(values, SECOND)) == ["classifier", "image", "AD@25", "MoRF confidence", "deletion"]


def test_a_stratum_without_a_metric_has_no_cell_of_it():
    rows = [("r, right", m, i, i + bump, 50.0) for m, bump in (("P-TAME", 0), ("RISE", 3)) for i in range(6)]
    rows += [("r, second class", m, i, i + bump, None) for m, bump in (("P-TAME", 0), ("RISE", 3)) for i in range(6)]
    values = pd.DataFrame(rows, columns=["classifier", "method", "image", "AD@25", "AP"])
    values["AP"] = values["AP"].astype(float)
    for table in (tables.tidy(values), tables.leaders(values), verdicts.verdicts(values.assign(seed=0))):
        cells = {*map(tuple, table[["classifier", "metric"]].to_numpy())}
        assert cells == {("r, right", "AD@25"), ("r, right", "AP"), ("r, second class", "AD@25")}
