"""Every published configuration: its settings, and two steps of its training with random weights at 224 pixels."""

import shutil
from dataclasses import replace

import pytest
import torch
from helpers import Noise

from ptame_lib import load_classifier, train_ptame
from ptame_lib.explainers import metadata
from ptame_lib.explainers.loading import method_of
from ptame_study import paths, profiles
from ptame_study.explainers import new_explainer
from ptame_study.settings import AuxiliarySettings, ClassifierSettings
from ptame_study.train import read_config

ROWS = {  # lr, weight decay, ce, area, smooth, border, p and channels per level, as published
    "table1-vgg16": (1e-4, 0.13324, 0.07278, 0.977712, 0.0001, 0.3, 0.3, (64, 128, 256, 512)),
    "table1-resnet50": (
        1e-4, 0.00024266552933845608, 0.16142940055382465, 0.8385705994463174, 0, 0.3, 0.3, (64, 128, 256, 512),
    ),
    "table1-vit-b-16": (
        1e-4, 0.00013308961975909186, 0.13129188542479736, 0.8385705994463174, 0, 0, 0.5, (64, 128, 256, 512),
    ),
    "table2-resnet50-resnet18": (
        1e-4, 0.00024266552933845608, 0.16142940055382465, 0.8385705994463174, 0, 0.3, 0.3, (64, 128, 256, 512),
    ),
    "table2-resnet50-mobilenet": (
        1e-3, 0.017170843647038966, 0.051073698326945305, 0.9454752532765268, 0.003451048396527767, 0, 0.3,
        (96, 96, 96, 576),
    ),
    "table2-resnet50-mnasnet": (
        1e-4, 0.0025160500121080907, 0.16651611180242515, 0.8334838882443403, 0, 0, 0.3, (160, 1280, 1280, 1280),
    ),
    "table2-resnet50-ttame": (1e-3, 5e-4, 1.5, 2, 0.01, 0.3, 0.3, (512, 1024, 2048)),
}  # fmt: skip


def test_every_row_is_here():
    assert set(ROWS) == {p.stem for p in paths.profiles().glob("table*.yaml")}


@pytest.mark.parametrize("profile", ROWS)
def test_a_published_configuration_trains(profile):
    (classifier_name,) = profiles.load_profile(profile)["classifiers"]
    method = profiles.parameters_for(profile, "02_train_ptame", classifier_name).get("method", "P-TAME")
    cfg = read_config(profile, classifier_name, method, [])
    *published, channels = ROWS[profile]
    loss, training = cfg.loss, cfg.training
    found = [training.lr, training.weight_decay, loss.ce, loss.area, loss.smooth, loss.border, loss.p]
    assert found == published
    assert training.loss == loss
    optimizer = "sgd" if profile.endswith("ttame") else "adamw"
    assert (training.batch_size, training.precision, training.optimizer) == (32, "bf16", optimizer)
    assert training.steps == (8 if profile.endswith("ttame") else 1) * (1281167 // 32)

    classifier = load_classifier(classifier_name, None)  # random weights; the published ones are not at hand in a test
    torch.manual_seed(0)
    auxiliary = replace(AuxiliarySettings.of(cfg), weights="none")
    # bf16 takes minutes on CPUs that only emulate it
    config = replace(training, batch_size=1, steps=2, workers=0, precision="no")
    explainer = new_explainer(cfg.method, ClassifierSettings.of(cfg), auxiliary, classifier, 1000)
    assert explainer.auxiliary.channels == channels
    before = {key: value.clone() for key, value in explainer.trained_state().items()}
    history = train_ptame(explainer, classifier, Noise(2, 224), config)
    assert [row["step"] for row in history] == [0, 1]
    moved = [key for key, value in explainer.trained_state().items() if not value.equal(before[key])]
    assert {key.split(".")[0] for key in moved} == {"convs", "bns", "fuser"}
    maps = explainer.explain(Noise(2, 224)[0]["pixels"][None], torch.tensor([7]))
    size = {512: 56, 2048: 28}.get(
        channels[-1], 7
    )  # of the first level: ResNet-18's layer1, ResNet-50's layer2, the small ones' last stage
    assert maps.shape == (1, size, size)
    assert (maps.min(), maps.max()) == (0, 1)


def test_the_first_run_leaves_the_dearest_method_out():
    methods = profiles.parameters_for("embedded", "03_compare", "embedded/vit")["methods"]
    full = profiles.parameters_for(profiles.FULL, "03_compare", "embedded/vit")["methods"]
    assert methods == [name for name in full if name != "RISE 4000"] != full


def test_a_classifiers_own_parameters():
    own = profiles.own_parameters("real-full", "03_compare", "lite/1")
    assert profiles.parameters_for("real-full", "03_compare", "lite/1")["methods"] == own["methods"]
    assert profiles.own_parameters("real-full", "03_compare", "lite/2") == {}
    assert profiles.own_parameters("small", "03_compare", "embedded/vit") == {}


@pytest.mark.parametrize(("profile", "measured"), [("embedded-full", "ranked"), ("real-full", "matched")])
def test_another_seed_is_measured_by_what_ranks_and_no_more_than_the_first(profile, measured):
    first = profiles.load_profile(profile)["classifiers"][0]
    assert profiles.parameters_for(profile, "03_compare", first, seed=1)["measured"] == measured


SHIPPED = profiles.shipped("embedded")


def test_the_first_run_takes_explainers_that_ship():
    assert len(SHIPPED) == len(profiles.load_profile("embedded")["shipped"]) * 3


@pytest.mark.parametrize(("classifier", "method"), SHIPPED)
def test_a_shipped_explainer_is_trained_as_the_full_study_does(classifier, method):
    told = metadata.about(SHIPPED[classifier, method])
    wanted = profiles.parameters_for(profiles.FULL, "02_train_ptame", classifier, method=method)
    assert (told["classifier"], int(told["seed"])) == (classifier, 0)
    assert {name: told["training"][name] for name in ("steps", "lr")} == {n: wanted[n] for n in ("steps", "lr")}
    assert method_of(SHIPPED[classifier, method]) == method


@pytest.mark.parametrize("changed", ["steps: 500", "lr: 1.0e-2", "train_images: 6000      # no"])
def test_an_explainer_of_older_settings_is_not_taken(changed, tmp_path, monkeypatch):
    """Both profiles get the new settings; the file has the old ones."""
    folder = tmp_path / "workflow" / "profiles"
    shutil.copytree(paths.profiles(), folder)
    (tmp_path / "data").symlink_to(paths.root() / "data")
    monkeypatch.setenv("PTAME_ROOT", str(tmp_path))
    assert ("embedded/vgg", "T-TAME") in profiles.shipped("embedded")
    full = folder / "embedded-full.yaml"
    name = changed.split(":")[0]
    full.write_text(full.read_text().replace(changed, f"{name}: 7  # no"))
    assert ("embedded/vgg", "T-TAME") not in profiles.shipped("embedded")


def test_others_are_compared_with_ptame_or_the_first_trained_method():
    assert profiles.reference_of(["T-TAME", "P-TAME"]) == "P-TAME"
    assert profiles.reference_of(("T-TAME", "Swap-TAME")) == "T-TAME"


def test_explainers_that_a_profile_names_are_not_trained():
    assert profiles.given(profiles.load_profile("realdata-lite")["notebooks"]["03_compare"]) == ["Swap-TAME"]
    assert profiles.given({"source": {"explainers": ["a"]}, "trained": ["T-TAME", "P-TAME"]}) == ["P-TAME"]
    assert profiles.given({"source": {"explainers": ["a"]}}) == ["P-TAME"]
    assert profiles.given({"source": {"explainers": []}, "trained": ["T-TAME"]}) == profiles.given({}) == []
