"""What notebook 06 trains, of digits and of photographs."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import lite_needed

from ptame_lib import PTAMEWeights, TrainingConfig
from ptame_lib.metrics.sanity import randomise
from ptame_study import answers, sanity
from ptame_study.settings import ImageSettings


def parameters(**changes):
    training = TrainingConfig(steps=1, lr=1e-2, loss=PTAMEWeights(), batch_size=2)
    usual = {"images": "", "train_images": 6, "test_images": 3, "methods": ["edges"], "masks": 2, "seed": 0}
    return SimpleNamespace(**usual | {"training": training} | changes)


class Looked(list):
    """Images that count how often one is looked at."""

    looks = 0

    def __getitem__(self, i):
        self.looks += isinstance(i, int)
        return super().__getitem__(i)


@pytest.fixture(scope="module")
def trial():
    return sanity.trial(parameters(), "embedded/resnet")


def test_a_trial_of_digits(trial):
    assert (trial.classes, tuple(trial.pixels.shape), len(trial.train)) == (10, (3, 3, 64, 64), 6)
    one, again, other = (trial.trained(trial.classifier, more_seed=seed) for seed in (0, 0, 1))
    assert one.fuser.weight.equal(again.fuser.weight)
    assert not one.fuser.weight.equal(other.fuser.weight)
    assert trial.wrap(trial.classifier.model)(trial.pixels).equal(trial.classifier(trial.pixels))


@lite_needed("lite/0", "lite/2")
def test_a_trial_of_photographs(monkeypatch):
    images = Looked({"pixels": torch.rand(3, 224, 224)} for _ in range(8))
    monkeypatch.setattr(sanity, "load_parts", lambda settings, parts: [images[:2]])
    monkeypatch.setattr(sanity, "load_training", lambda settings, classifier: (images, images[:2], images[:2]))
    trial = sanity.trial(parameters(images="cutouts"), "lite/2")
    assert (trial.classes, tuple(trial.pixels.shape)) == (1000, (2, 3, 224, 224))
    trained, cam = trial.trained(trial.classifier), trial.untrained(head=True)
    assert images.looks == 8 + 2  # once to match the classes, whatever is asked about them, and a batch of 2 to train
    assert (trained.fuser.weight - cam.fuser.weight)[:, :112].abs().max() > 0
    assert trial.wrap(trial.classifier.model)(trial.pixels).allclose(trial.classifier(trial.pixels), atol=1e-4)


def test_shuffled_labels_count_only_if_they_were_learnt(trial, monkeypatch):
    wrong, said = sanity.with_shuffled_labels(trial, 64, 1)
    assert wrong is None
    assert said.startswith("embedded/resnet, shuffled labels: learnt for ")
    assert said.endswith("That is below 90 %, so this check is left out: give it more epochs.")
    monkeypatch.setattr(sanity, "LEARNT", 0.0)
    wrong, said = sanity.with_shuffled_labels(trial, 64, 1)
    assert wrong(trial.pixels).shape == (3, 10)
    assert said.endswith("(by chance: 10 %).")


def test_the_checks_and_what_they_compare(trial):
    """The edges of an image follow no classifier: alike in every check, but for another image."""
    wrong = randomise(trial.classifier, "fc", 3)
    maps, named = sanity.of_changed(trial, ["stem", "features.3", "fc"], wrong)
    changed = ["random up to stem", "random up to fc", "shuffled labels", "another seed", "permuted head"]
    assert list(maps) == ["the classifier itself", *changed]
    found = sanity.likeness(trial, maps, named)
    values = sanity.means(found).set_index(["check", "method", "metric"])["value"]
    for check in ["the classifier itself", *changed, answers.STAYS]:
        if check != "another seed":
            assert values[check, "edges", "Spearman"] == pytest.approx(100, abs=1e-3)
    assert values["another image", "edges", "Spearman"] < 99
    assert values["the classifier itself", "P-TAME", "SSIM"] == pytest.approx(100, abs=1e-3)
    spearman = found[(found["check"] == "permuted head") & (found["method"] == "P-TAME")].groupby("metric")["value"]
    assert np.allclose(spearman.get_group("Spearman").abs(), spearman.get_group("|Spearman|"))


def test_known_evidence_is_where_it_was_put(trial):
    found, chance = sanity.known_evidence(trial)
    assert chance == {"one quadrant": 25, "a planted patch": pytest.approx(100 / 64)}
    assert set(found["classifier sees"]) == set(chance)
    assert found.groupby(["classifier sees", "method", "metric"]).size().eq(3).all()
    assert found["value"].between(0, 100).all()


def test_means_have_intervals():
    about = {"classifier": "a", "check": "c", "method": "m"}
    shares = pd.DataFrame({**about, "metric": "pointing", "value": [100.0] * 5 + [0.0] * 5})
    others = pd.DataFrame({**about, "metric": "Spearman", "value": np.arange(12.0)})
    found = sanity.means(pd.concat([shares, others])).set_index("metric")
    assert found.loc["pointing", ["value", "n"]].tolist() == [50, 10]
    assert found.loc["pointing", ["low", "high"]].tolist() == pytest.approx([23.7, 76.3], abs=0.1)  # Wilson
    assert found.loc["Spearman", "low"] < 5.5 < found.loc["Spearman", "high"]
    table = sanity.wide(found.reset_index())
    assert table.columns.tolist() == ["classifier", "method", "metric", "c"]
    assert table["c"][0] == "50 (24 to 76)"


def test_images_are_asked_for_by_the_parameters():
    assert ImageSettings.of(parameters(images="cutouts")).images == "cutouts"
