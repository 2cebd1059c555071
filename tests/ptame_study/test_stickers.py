"""Stickers: where they are, what is fine-tuned to them, and that maps of the evidence itself are right."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from helpers import rand, small_classifier
from torch import nn

from ptame_lib import PTAMEWeights, TrainingConfig
from ptame_lib.classifiers.loading import load_classifier
from ptame_lib.classifiers.wrapper import Classifier, decide_all
from ptame_study import stickers, whose_evidence
from ptame_study.stickers import OBJECT, STICKER, TUNED, UNTOUCHED, HalfStickered
from ptame_study.whose_evidence import RIGHT, Key, Subject


def parameters(**changes):
    training = TrainingConfig(steps=1, batch_size=4, loss=PTAMEWeights())
    usual = {"classifier": "embedded/resnet", "images": "", "train_images": 6, "test_images": 6, "methods": []}
    return SimpleNamespace(
        **usual | {"sticker_class": 0, "masks": 2, "seed": 0, "training": training, "swaps": training} | changes
    )


def test_a_sticker_changes_its_own_pixels_alone():
    pixels = rand(20, 3, 64, 48)
    before = pixels.clone()
    found, masks = stickers.paste(pixels, seed=3)
    assert pixels.equal(before)
    assert found.where(masks[:, None], pixels).equal(found)
    assert masks.flatten(1).sum(1).unique().tolist() == [int(stickers.draw_sticker(11)[1].sum())]  # none is cut off
    inside = found.permute(0, 2, 3, 1)[masks]
    assert {tuple(round(v, 1) for v in colour) for colour in inside.unique(dim=0).tolist()} == {*stickers.COLOURS}


def test_a_place_depends_on_the_seed_and_the_number():
    pixels = rand(6, 3, 64, 64)
    found, masks = stickers.paste(pixels, seed=3)
    assert stickers.paste(pixels[2:], seed=3, first=2)[0].equal(found[2:])
    assert len({mask.numpy().tobytes() for mask in masks}) == 6
    assert not stickers.paste(pixels, seed=4)[1].equal(masks)


def test_every_second_image_carries_a_sticker():
    images = [{"pixels": image} for image in rand(4, 3, 64, 64)]
    data = HalfStickered(images, seed=3)
    stickered = stickers.paste(stickers.stack(images), seed=3)[0]
    for i in range(4):
        assert data[i]["pixels"].equal(stickered[i] if i % 2 else images[i]["pixels"])


@pytest.mark.parametrize("first", ["layer2", "layer3.0", "layer4"])
def test_a_network_from_a_module_on_answers_alike(first):
    classifier, pixels = load_classifier("embedded/resnet"), rand(3, 3, 64, 64)
    rest = stickers.split(classifier.model, first)
    assert rest(stickers.features(classifier, first, pixels, 2)).allclose(classifier(pixels), atol=1e-5)
    assert [type(part) for part in classifier.model.children()].count(nn.Identity) == 0
    with pytest.raises(ValueError, match="has no part 'layer9': it has stem, layer1"):
        stickers.split(classifier.model, "layer9")


def test_the_copy_decides_by_the_sticker_and_the_classifier_stays():
    """A network that can't see the sticker's colours learns to."""
    torch.manual_seed(0)
    classifier, images = small_classifier(), 0.3 * rand(40, 3, 64, 64) + 0.3
    data = HalfStickered([{"pixels": image} for image in images], seed=0)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    asked = classifier(images)
    tuned = stickers.fine_tune(classifier, "features", 3, data, epochs=60, lr=1e-3)
    assert all(value.equal(before[name]) for name, value in classifier.state_dict().items())
    assert classifier(images).equal(asked)
    new = 0.3 * rand(40, 3, 64, 64, seed=9) + 0.3
    found = stickers.intervene(classifier, tuned, 3, new, seed=7)["share"].tolist()
    assert min(found[:3]) >= 95, found
    assert not any(p.requires_grad or p.grad is not None for p in tuned.parameters())


def test_scenes_keep_images_in_which_both_decide_by_their_own(monkeypatch):
    """Toy networks: the red mean decides; the sticker network says 2 where there is purple."""

    class Red(nn.Module):
        def forward(self, x):
            red = x[:, 0, :8].mean((1, 2)) * 100
            return torch.stack([50 - red, red - 50, red * 0], 1)

    class Sees(nn.Module):
        def forward(self, x):
            purple = ((x[:, 0] - 0.8).abs() + x[:, 1] < 0.01).flatten(1).any(1)
            return torch.where(purple[:, None], torch.tensor([0.0, 0.0, 9.0]), Red()(x))

    networks = [Classifier(net(), [0.0] * 3, [1.0] * 3, 64) for net in (Red, Sees)]
    truth = torch.zeros(64, 64, dtype=torch.bool)
    truth[40:50, 40:50] = True
    images = [{"pixels": torch.full((3, 64, 64), value), "truth": truth} for value in (0.1, 0.9, 0.3, 0.7)]
    monkeypatch.setattr(stickers, "load_parts", lambda settings, parts: [images])
    scene = stickers.scenes(parameters(), *networks, 2)
    assert len(scene.pixels) > 0
    assert scene.masks.sum(1).unique().tolist() == [1]  # they cover each image once
    assert [(each.name, each.own) for each in scene.subjects] == [(TUNED, 0), (UNTOUCHED, 1)]
    assert scene.subjects[0].targets.unique().tolist() == [2]
    with pytest.raises(ValueError, match="train the sticker network longer"):
        stickers.scenes(parameters(), networks[0], networks[0], 2)


def test_the_evidence_itself_is_right():
    """A map of the sticker is right for the sticker network in all images, for the other network in none."""
    masks = torch.zeros(4, 3, 8, 8, dtype=torch.bool)
    masks[:, 0, :2], masks[:, 1, 4:6], masks[:, 2] = True, True, True
    masks[:, 2] &= ~masks[:, :2].any(1)
    subjects = [Subject(name, None, torch.zeros(4).long(), i) for i, name in enumerate((TUNED, UNTOUCHED))]
    maps = {Key(each.name, "P-TAME", 0): masks[:, 0].float() for each in subjects}
    tidy = whose_evidence.tidy(whose_evidence.measure(subjects, maps, masks, stickers.EVIDENCE))
    found = tidy[tidy["metric"] == RIGHT].set_index(["network", "evidence"])["value"].to_dict()
    assert found == {(TUNED, STICKER): 100, (UNTOUCHED, OBJECT): 0}
    assert set(tidy["evidence"]) == {*stickers.EVIDENCE}


@pytest.mark.parametrize("number", [-1, 10])
def test_a_class_that_the_classifier_lacks_is_refused_before_images_are_made(number, monkeypatch):
    monkeypatch.setattr(stickers.sanity, "trial", lambda *_: pytest.fail("images were made"))
    with pytest.raises(ValueError, match=rf"^embedded/resnet has no class {number}: set sticker_class within 0\.\.9$"):
        stickers.trial(parameters(sticker_class=number))


@pytest.mark.parametrize("which", ["training", "swaps"])
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"batch_size": 7}, "6 training images are fewer than one batch of 7: give more images"),
    ],
)
def test_a_training_that_would_be_refused_later_is_refused_before_images_are_made(which, settings, says, monkeypatch):
    monkeypatch.setattr(stickers.sanity, "load_training", lambda *_: pytest.fail("images were made"))
    usual = parameters()
    with pytest.raises(ValueError, match=says):
        stickers.trial(parameters(**{which: replace(getattr(usual, which), **settings)}))


def test_the_classifier_is_loaded_once(monkeypatch):
    loaded = []
    for module in (stickers, stickers.sanity):
        monkeypatch.setattr(module, "load_classifier", lambda name: loaded.append(name) or load_classifier(name))
    stickers.trial(parameters())
    assert loaded == ["embedded/resnet"]


def test_both_networks_are_explained_and_swapped(monkeypatch):
    monkeypatch.setattr(stickers, "calibrate", partial(stickers.calibrate, images=4))
    trial = stickers.trial(parameters())
    made = stickers.makers(trial, TrainingConfig(steps=1, batch_size=4))
    assert list(made) == ["P-TAME", "Swap-TAME"]
    pixels, masks = stickers.paste(trial.pixels, 0)
    masks = torch.stack([masks, ~masks, torch.zeros_like(masks)], 1)
    targets = decide_all(trial.classifier, pixels)
    subjects = [Subject(name, trial.classifier, targets, i) for i, name in enumerate((TUNED, UNTOUCHED))]
    explainers = whose_evidence.train_all(subjects, made, [0])
    budget = whose_evidence.Budget(masks=2)
    maps = whose_evidence.explain_all(subjects, pixels, explainers | stickers.beside(trial), ["edges"], budget, {})
    assert {key.method for key in maps} == {"P-TAME", "Swap-TAME", "auxiliary's CAM", "edges"}
    gaps = whose_evidence.gaps(whose_evidence.swap(subjects, explainers, pixels, masks, 2), stickers.LOOKS_AT)
    assert gaps["gap"].abs().max() == 0  # the same network twice, trained alike
    assert not gaps["alike"].any()
