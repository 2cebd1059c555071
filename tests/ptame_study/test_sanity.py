"""What notebook 06 trains, of digits and of photographs."""

from types import SimpleNamespace

import torch
from helpers import lite_needed

from ptame_lib import PTAMEWeights
from ptame_study import sanity
from ptame_study.settings import ImageSettings


def parameters(**changes):
    usual = {"classifier": "embedded/resnet", "images": "", "train_images": 6, "test_images": 3, "seed": 0}
    return SimpleNamespace(**usual | {"steps": 1, "lr": 1e-2, "loss": PTAMEWeights()} | changes)


def test_a_trial_of_digits():
    trial = sanity.trial(parameters())
    assert (trial.classes, tuple(trial.pixels.shape), len(trial.train)) == (10, (3, 3, 64, 64), 6)
    trial = sanity.Trial(**vars(trial) | {"config": sanity.replace(trial.config, batch_size=2)})
    one, again, other = (trial.trained(trial.classifier, trial.train, 10, seed) for seed in (0, 0, 1))
    assert one.fuser.weight.equal(again.fuser.weight)
    assert not one.fuser.weight.equal(other.fuser.weight)
    assert trial.wrap(trial.classifier.model)(trial.pixels).equal(trial.classifier(trial.pixels))
    assert not trial.own_cam().training


@lite_needed("lite/0", "lite/2")
def test_a_trial_of_photographs(monkeypatch):
    images = [{"pixels": torch.rand(3, 224, 224)}] * 8
    monkeypatch.setattr(sanity, "load_parts", lambda settings, parts: [images, images[:2]])
    trial = sanity.trial(parameters(classifier="lite/2", images="cutouts"))
    assert (trial.classes, trial.config.mapped, tuple(trial.pixels.shape)) == (1000, True, (2, 3, 224, 224))
    trial = sanity.Trial(**vars(trial) | {"config": sanity.replace(trial.config, batch_size=2)})
    trained, cam = trial.trained(trial.classifier, trial.train, 1000, 0), trial.own_cam()
    assert (trained.fuser.weight - cam.fuser.weight)[:, :112].abs().max() > 0
    assert trial.wrap(trial.classifier.model)(trial.pixels).allclose(trial.classifier(trial.pixels), atol=1e-4)


def test_images_are_asked_for_by_the_parameters():
    assert ImageSettings.of(parameters(images="cutouts")).images == "cutouts"
