"""The original implementation's numbers, reproduced (see parity/README.md)."""

import sys
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from helpers import (
    PARITY,
    Arrays,
    assert_caught,
    auxiliary_of,
    classifier_of,
    explainer_of,
    keep_normalised,
    weights_of,
)

from ptame_lib import PTAME, FeatureExtractor, keep, keep_share, normalise, ptame_loss, remove, resize
from ptame_lib.losses import ptame
from ptame_lib.losses.ptame import smoothness_term
from ptame_lib.metrics import average_drop, increase_in_confidence, masked_confidence
from ptame_lib.metrics.drop import confidence
from ptame_lib.metrics.statistics import mean_of_batch_means


@pytest.mark.parametrize("case", [0, 1, 2])
def test_attention(case):
    arrays = Arrays(f"ptame_attention_{case}")
    explainer = explainer_of(arrays)
    pixels = arrays.pixels("images")
    with torch.no_grad():
        raw = explainer.maps(pixels)
    torch.testing.assert_close(raw, arrays["fuser_logits_eval"], atol=1e-5, rtol=0)
    for name in [name for name in ("small_images", "wide_images_Sx(S/2)") if name in arrays.values]:
        # The original fixes the map's width when it is built (32): on images half as wide it takes one more x2 step.
        with torch.no_grad():
            larger = F.interpolate(
                explainer.maps(arrays.pixels(name)), scale_factor=2, mode="bilinear", align_corners=False
            )
        expected = arrays[name.split("_")[0] + "_maps_eval_minmax"]
        torch.testing.assert_close(normalise(larger), expected, atol=1e-5, rtol=0)
    for c in range(arrays.description["num_classes"]):  # explain() takes another way: one class per image
        shown = explainer.explain(pixels, torch.full((len(pixels),), c))
        torch.testing.assert_close(shown, arrays["maps_eval_minmax"][:, c], atol=1e-5, rtol=0)
    expected = arrays["contributions"].mean(0)
    torch.testing.assert_close(explainer.contributions(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("case", [0, 1, 2])
def test_attention_in_training_keeps_the_auxiliary_in_eval_mode(case):
    arrays = Arrays(f"ptame_attention_{case}")
    explainer = explainer_of(arrays).train()
    masks = explainer.maps(arrays.pixels("images")).sigmoid()
    torch.testing.assert_close(masks, arrays["maps_train_sigmoid_auxeval"], atol=1e-5, rtol=0)
    for key, value in arrays.part("after_auxeval/").items():
        torch.testing.assert_close(explainer.state_dict()[key], value, atol=1e-5, rtol=0)
    assert (arrays["maps_train_sigmoid_auxtrain"] - masks).abs().max() > 0.01  # the fault to avoid would show


@pytest.mark.parametrize("loss_set", ["default", "resnet50", "vgg16", "vit"])
@pytest.mark.parametrize("case", [0, 1, 2])
def test_training_step(case, loss_set):
    arrays = Arrays(f"ptame_pipeline_{case}")
    explainer, classifier = explainer_of(arrays).train(), classifier_of(arrays)
    pixels = arrays.pixels("images")
    logits = classifier(pixels)
    targets = logits.argmax(1)
    torch.testing.assert_close(logits, arrays["train/logits"], atol=1e-5, rtol=0)
    assert targets.equal(arrays["train/targets"])
    masks = explainer.maps(pixels, targets).sigmoid()
    torch.testing.assert_close(masks, arrays["train/masks"], atol=1e-5, rtol=0)
    masked = classifier(keep(pixels, masks.diagonal().permute(2, 0, 1)))
    torch.testing.assert_close(masked, arrays["train/logits_masked"], atol=1e-5, rtol=0)
    loss = ptame_loss(masked, targets, masks, weights_of(arrays.description["losses"][loss_set]))
    torch.testing.assert_close(torch.stack(list(loss)).double(), arrays[f"loss_train/{loss_set}"], atol=1e-7, rtol=1e-5)
    loss.total.backward()
    for key, gradient in arrays.part(f"grad/{loss_set}/").items():
        torch.testing.assert_close(explainer.get_parameter(key).grad, gradient, atol=1e-4, rtol=1e-4)


def evaluated(arrays: Arrays, explainer: PTAME, prefix: str) -> None:
    """Explain, mask and decide again; compare with the arrays ``<prefix>masks``, ``logits`` and ``logits_masked``."""
    classifier, pixels = classifier_of(arrays), arrays.pixels("images")
    logits = classifier(pixels)
    torch.testing.assert_close(logits, arrays[f"{prefix}logits"], atol=1e-5, rtol=0)
    maps = explainer.explain(pixels, logits.argmax(1))
    torch.testing.assert_close(maps, arrays[f"{prefix}masks"][:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(classifier(keep(pixels, maps)), arrays[f"{prefix}logits_masked"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", [0, 1, 2])
def test_explaining(case):
    arrays = Arrays(f"ptame_pipeline_{case}")
    evaluated(arrays, explainer_of(arrays), "eval/")


def test_official_checkpoint():
    arrays = Arrays("official_style_ckpt_expected")
    explainer = PTAME.load_official_checkpoint(PARITY / "official_style.ckpt", auxiliary_of(arrays))
    assert not explainer.training
    evaluated(arrays, explainer, "eval_")
    with torch.no_grad():
        maps = normalise(explainer.maps(arrays.pixels("images")))
    torch.testing.assert_close(maps, arrays["maps_eval_minmax"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", [0, 1])
def test_average_drop_and_increase(case):
    arrays = Arrays(f"adic_{case}")
    classifier = classifier_of(arrays)
    for batch in range(len(arrays.description["batches"])):
        pixels = arrays[f"images_u8_{batch}"].float() / 255
        maps, targets = arrays[f"masks_{batch}"][:, 0], arrays[f"targets_{batch}"]
        p = classifier(pixels).softmax(1).gather(1, targets[:, None])[:, 0]
        for i, percent in enumerate((100, 50, 15)):
            masks = keep_share(resize(normalise(maps), pixels.shape[-2:]), percent / 100)
            assert (masks > 0).flatten(1).sum(1).equal(arrays[f"kept_count_{batch}_{percent}"])
            q = masked_confidence(classifier, pixels, targets, maps, percent / 100).float()
            torch.testing.assert_close(q, arrays[f"masked_scores_{batch}_{percent}"], atol=1e-5, rtol=0)
            torch.testing.assert_close(average_drop(p, q).mean(), arrays[f"batch_AD_{batch}"][i], atol=1e-4, rtol=0)
            torch.testing.assert_close(
                increase_in_confidence(p, q).mean(), arrays[f"batch_IC_{batch}"][i], atol=1e-6, rtol=0
            )


@pytest.mark.parametrize("case", [0, 1])
def test_the_originals_average_over_batches_is_offered_too(case):
    """Batches of 4, 4 and 3 images: the original averages three means, this study eleven images."""
    arrays = Arrays(f"adic_{case}")
    classifier = classifier_of(arrays)
    drops, rises = [], []
    for batch, size in enumerate(arrays.description["batches"]):
        pixels = arrays[f"images_u8_{batch}"].float() / 255
        maps, targets = arrays[f"masks_{batch}"][:, 0], arrays[f"targets_{batch}"]
        assert len(pixels) == size
        p = confidence(classifier, pixels, targets)
        kept = [masked_confidence(classifier, pixels, targets, maps, share) for share in (1.0, 0.5, 0.15)]
        drops.append(torch.stack([average_drop(p, q) for q in kept], 1))
        rises.append(torch.stack([increase_in_confidence(p, q) for q in kept], 1))
    drops, rises = torch.cat(drops).detach().numpy(), torch.cat(rises).detach().numpy()
    for i in range(3):
        ours = [mean_of_batch_means(values[:, i], batch_size=4) for values in (drops, rises)]
        theirs = [arrays[f"result_{name}_100_50_15"][i].item() for name in ("AD", "IC")]
        scale = 100 if max(theirs) > 1 else 1
        assert [scale * value for value in ours] == pytest.approx(theirs, abs=1e-4 * scale)
        assert scale * drops[:, i].mean() == pytest.approx(
            arrays["sample_weighted_AD_not_official"][i].item(), abs=1e-4 * scale
        )


# Faults planted into the core, one at a time: the check passes without the fault and fails with it.

HERE, MAPS = sys.modules[__name__], PTAME.maps


def attention():
    test_attention(0)


def attention_in_training():
    test_attention_in_training_keeps_the_auxiliary_in_eval_mode(0)


def step():
    test_training_step(0, "default")


def drop():
    test_average_drop_and_increase(0)


def attend(then):
    """Return PTAME.attention with another last step."""

    def method(self, pixels):
        with torch.no_grad():
            features = self.auxiliary(pixels)
        return [then(bn, conv, f) for conv, bn, f in zip(self.convs, self.bns, features, strict=True)]

    return method


def in_one_step(levels, _one_step):
    return sum(F.interpolate(a, levels[0].shape[-2:], mode="bilinear", align_corners=False) for a in levels)


def aligned(levels, _one_step):
    return sum(F.interpolate(a, levels[0].shape[-2:], mode="bilinear", align_corners=True) for a in levels)


def lines_missing(masks, border, q=2.0, n=None):
    return smoothness_term(masks, 0.0, q, n)


def corners_once(masks, border, q=2.0, n=None):
    corners = masks[..., [0, 0, -1, -1], [0, -1, 0, -1]].pow(q).sum()
    return smoothness_term(masks, border, q, n) - border * corners / (q * masks.shape[0])


def mean_of_differences(masks, border, q=2.0, n=None):
    return smoothness_term(masks, border, q, n) / masks[0].numel()


def ties_stay(maps, share):
    k = int(maps[0].numel() * (1 - share))
    if k < 1:
        return maps
    flat = maps.flatten(1)
    return torch.where(flat >= flat.kthvalue(k, dim=1, keepdim=True).values, flat, 0.0).view_as(maps)


@contextmanager
def awake(network):
    network.train()
    yield


# name: (the check, (where, what is replaced, by what) ...)
FAULTS = {
    "no residual": (attention, (PTAME, "attention", attend(lambda bn, conv, f: F.relu(bn(conv(f)))))),
    "no ReLU": (attention, (PTAME, "attention", attend(lambda bn, conv, f: bn(conv(f)) + f))),
    "residual after the ReLU": (attention, (PTAME, "attention", attend(lambda bn, conv, f: F.relu(bn(conv(f))) + f))),
    "no batch norm": (attention, (PTAME, "attention", attend(lambda bn, conv, f: F.relu(conv(f) + f)))),
    "batch norms in train mode while explaining": (attention, (PTAME, "eval", lambda self: self.train())),
    "auxiliary in train mode": (attention_in_training, ("ptame_lib.classifiers.frozen.at_rest", awake)),
    "one large step instead of x2 steps": (attention, ("ptame_lib.explainers.ptame.upsample_and_add", in_one_step)),
    "align_corners=True": (attention, ("ptame_lib.explainers.ptame.upsample_and_add", aligned)),
    "no min-max": (attention, ("ptame_lib.explainers.ptame.normalise", lambda maps: maps)),
    "sigmoid instead of min-max": (attention, ("ptame_lib.explainers.ptame.normalise", torch.sigmoid)),
    "the auxiliary sees unnormalised pixels": (
        attention,
        (FeatureExtractor, "forward", lambda self, pixels: list(self.model(pixels).values())),
    ),
    "maps of the next target": (
        step,
        (PTAME, "maps", lambda self, x, c=None: MAPS(self, x, None if c is None else c.roll(1))),
    ),
    "masking after normalisation": (step, (HERE, "keep", keep_normalised)),
    "masking after normalisation, in the metric": (drop, ("ptame_lib.metrics.drop.keep", keep_normalised)),
    "area without 0.0005": (step, (ptame, "area_term", lambda masks, p, n=None: masks.pow(p).mean())),
    "power of the mean area": (step, (ptame, "area_term", lambda masks, p, n=None: (masks + 0.0005).mean().pow(p))),
    "no border lines": (step, (ptame, "smoothness_term", lines_missing)),
    "corners counted once": (step, (ptame, "smoothness_term", corners_once)),
    "smoothness as a mean": (step, (ptame, "smoothness_term", mean_of_differences)),
    "ties with the threshold stay": (
        drop,
        (HERE, "keep_share", ties_stay),
        ("ptame_lib.metrics.drop.keep_share", ties_stay),
    ),
    "what is removed is kept": (drop, ("ptame_lib.metrics.drop.keep", remove)),
    "absolute drop": (drop, (HERE, "average_drop", lambda p, q: (p - q).clamp_min(0))),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, monkeypatch):
    assert_caught(monkeypatch, *FAULTS[fault])
