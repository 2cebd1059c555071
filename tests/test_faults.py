"""Faults planted into the core, one at a time: the parity checks pass without them and fail with them."""

from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ptame_lib import PTAME, FeatureExtractor, keep, keep_share, ptame_loss, remove
from ptame_lib.classifiers.wrapper import IMAGENET_MEAN, IMAGENET_STD
from ptame_lib.losses import nn_explainer, ptame
from ptame_lib.losses.nn_explainer import class_area_term, negative_entropy, target_masks
from ptame_lib.losses.ptame import smoothness_term
from ptame_lib.masking import blend
from ptame_lib.metrics.ranking import ranked
from ptame_lib.metrics.sanity import randomise

HERE = Path(__file__).parent


def checks_in(file):
    """The tests of a file as a module."""
    spec = spec_from_file_location(Path(file).stem, HERE / file)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


masks_loss = checks_in("ptame_lib/losses/test_nn_explainer.py")
metrics = checks_in("ptame_lib/metrics/test_metrics.py")
parity = checks_in("test_parity.py")
roads = checks_in("ptame_lib/metrics/test_road.py")
sanities = checks_in("ptame_lib/metrics/test_sanity.py")
table_tests = checks_in("ptame_study/test_tables.py")
training = checks_in("ptame_lib/training/test_ptame.py")
MEAN, STD = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
KEEP, SHARE, MAPS = keep, keep_share, PTAME.maps


def attention():
    parity.test_attention(0)


def attention_in_training():
    parity.test_attention_in_training_keeps_the_auxiliary_in_eval_mode(0)


def loss():
    parity.test_training_step(0, "default")


def loop():
    training.test_the_first_step_is_the_originals(0, "default")


def drop():
    parity.test_average_drop_and_increase(0)


def by_hand():
    """The parity file's maps are normalised already."""
    metrics.test_masked_confidence_by_hand()


def masks_terms():
    masks_loss.test_the_originals_terms(0)


def removal():
    roads.test_exactly_the_share_is_removed_in_order()


def area_under_the_curve():
    roads.test_summary_by_hand()


def spoiled():
    sanities.test_only_the_first_layers_are_randomised("embedded/resnet", "layer2", ("layer3", "layer4", "fc"))


def likeness():
    sanities.test_similarity_by_hand()


def leading():
    table_tests.test_a_method_on_fewer_images_is_compared_on_those(table_tests.by_hand())


def attend(then):
    """PTAME.attention with another last step."""

    def method(self, pixels):
        with torch.no_grad():
            features = self.auxiliary(pixels)
        return [then(bn, conv, f) for conv, bn, f in zip(self.convs, self.bns, features, strict=True)]

    return method


def in_one_step(levels, _one_step):
    return sum(F.interpolate(a, levels[0].shape[-2:], mode="bilinear", align_corners=False) for a in levels)


def aligned(levels, _one_step):
    return sum(F.interpolate(a, levels[0].shape[-2:], mode="bilinear", align_corners=True) for a in levels)


def keep_normalised(pixels, masks):
    """Masks the normalised image; brought back to pixels, since the classifier normalises."""
    return KEEP((pixels - MEAN) / STD, masks) * STD + MEAN


def lines_missing(masks, border, q=2.0, n=None):
    return losses_smoothness(masks, 0.0, q, n)


def corners_once(masks, border, q=2.0, n=None):
    corners = masks[..., [0, 0, -1, -1], [0, -1, 0, -1]].pow(q).sum()
    return losses_smoothness(masks, border, q, n) - border * corners / (q * masks.shape[0])


def mean_of_differences(masks, border, q=2.0, n=None):
    return losses_smoothness(masks, border, q, n) / masks[0].numel()


def own_map(masks, targets):
    """Of maps of the batch's distinct targets (B,n,h,w) each image's own (B,h,w)."""
    return masks[torch.arange(len(targets)), targets.unique(return_inverse=True)[1]]


def ties_stay(maps, share):
    k = int(maps[0].numel() * (1 - share))
    if k < 1:
        return maps
    flat = maps.flatten(1)
    return torch.where(flat >= flat.kthvalue(k, dim=1, keepdim=True).values, flat, 0.0).view_as(maps)


losses_smoothness = smoothness_term
NEGATIVE_ENTROPY, CLASS_AREA = negative_entropy, class_area_term
RANKED, SPOIL = ranked, randomise

# name: (the check, (where, what is replaced, by what) ...)
FAULTS = {
    "no residual": (attention, (PTAME, "attention", attend(lambda bn, conv, f: F.relu(bn(conv(f)))))),
    "no ReLU": (attention, (PTAME, "attention", attend(lambda bn, conv, f: bn(conv(f)) + f))),
    "residual after the ReLU": (attention, (PTAME, "attention", attend(lambda bn, conv, f: F.relu(bn(conv(f))) + f))),
    "no batch norm": (attention, (PTAME, "attention", attend(lambda bn, conv, f: F.relu(conv(f) + f)))),
    "batch norms in train mode while explaining": (attention, (PTAME, "eval", lambda self: self.train())),
    "auxiliary in train mode": (attention_in_training, (FeatureExtractor, "train", nn.Module.train)),
    "one large step instead of x2 steps": (attention, ("ptame_lib.explainers.ptame.upsample_and_add", in_one_step)),
    "align_corners=True": (attention, ("ptame_lib.explainers.ptame.upsample_and_add", aligned)),
    "no min-max": (attention, ("ptame_lib.explainers.ptame.normalise", lambda maps: maps)),
    "sigmoid instead of min-max": (attention, ("ptame_lib.explainers.ptame.normalise", torch.sigmoid)),
    "the auxiliary sees unnormalised pixels": (
        attention,
        (FeatureExtractor, "forward", lambda self, pixels: list(self.model(pixels).values())),
    ),
    "maps of the next target": (
        loss,
        (PTAME, "maps", lambda self, x, c=None: MAPS(self, x, None if c is None else c.roll(1))),
    ),
    "masking after normalisation": (loss, (parity, "keep", keep_normalised)),
    "masking after normalisation, in the loop": (loop, ("ptame_lib.training.ptame.keep", keep_normalised)),
    "masking after normalisation, in the metric": (drop, ("ptame_lib.metrics.drop.keep", keep_normalised)),
    "area without 0.0005": (loss, (ptame, "area_term", lambda masks, p, n=None: masks.pow(p).mean())),
    "power of the mean area": (loss, (ptame, "area_term", lambda masks, p, n=None: (masks + 0.0005).mean().pow(p))),
    "no border lines": (loss, (ptame, "smoothness_term", lines_missing)),
    "corners counted once": (loss, (ptame, "smoothness_term", corners_once)),
    "smoothness as a mean": (loss, (ptame, "smoothness_term", mean_of_differences)),
    "the map of another image is used for masking": (
        loop,
        ("ptame_lib.training.ptame.keep", lambda x, m: KEEP(x, m.roll(1, 0))),
    ),
    "the image is not masked": (loop, ("ptame_lib.training.ptame.keep", lambda x, m: x)),
    "labels other than the decision": (loop, ("ptame_lib.training.ptame.decide", lambda f, x: f(x).argmin(1))),
    "each image's own map alone is pressed": (
        loop,
        ("ptame_lib.training.ptame.ptame_loss", lambda z, t, m, w, n: ptame_loss(z, t, own_map(m, t)[:, None], w)),
    ),
    "a class of several images counts once": (
        loop,
        ("ptame_lib.training.ptame.ptame_loss", lambda z, t, m, w, n: ptame_loss(z, t, m, w)),
    ),
    "ties with the threshold stay": (
        drop,
        (parity, "keep_share", ties_stay),
        ("ptame_lib.metrics.drop.keep_share", ties_stay),
    ),
    "the metric masks with the map as it is": (by_hand, ("ptame_lib.metrics.drop.normalise", lambda maps: maps)),
    "what is removed is kept": (drop, ("ptame_lib.metrics.drop.keep", remove)),
    "the complement of the mask is not taken": (
        masks_terms,
        (masks_loss, "blend", lambda x, m, c: blend(x, m.round(), c)),
    ),
    "removed pixels are black": (masks_terms, (masks_loss, "blend", lambda x, m, c: keep(x, m))),
    "target and other masks exchanged": (
        masks_terms,
        (masks_loss, "target_masks", lambda z, y: target_masks(z, 1 - y)),
    ),
    "entropy with its other sign": (masks_terms, (nn_explainer, "negative_entropy", lambda z: -NEGATIVE_ENTROPY(z))),
    "the area of all classes": (
        masks_terms,
        (nn_explainer, "class_area_term", lambda z, y, *b: CLASS_AREA(z, torch.ones_like(y), *b)),
    ),
    "least relevant pixels go first": (
        removal,
        (
            import_module("ptame_lib.metrics.road"),
            "ranked",
            lambda maps, seed: RANKED(maps, seed=seed).flip(1),
        ),
    ),
    "a curve without its ends": (
        area_under_the_curve,
        (roads, "summary", lambda values, shares=(0.1, 0.3, 0.5, 0.7): values.mean(1)),
    ),
    "nothing is randomised": (spoiled, (sanities, "randomise", lambda classifier, upto, seed=0: classifier)),
    "all is randomised": (
        spoiled,
        (sanities, "randomise", lambda classifier, upto, seed=0: SPOIL(classifier, "fc", seed)),
    ),
    "values instead of ranks": (likeness, ("ptame_lib.metrics.sanity.rankdata", lambda values, axis: values)),
    "means over different images are compared": (leading, (pd.DataFrame, "sub", lambda self, other, axis: self)),
    "absolute drop": (drop, (parity, "average_drop", lambda p, q: (p - q).clamp_min(0))),
}


CHECKS = [
    attention,
    attention_in_training,
    loss,
    loop,
    drop,
    by_hand,
    masks_terms,
    removal,
    area_under_the_curve,
    spoiled,
    likeness,
    leading,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_without_a_fault_the_check_passes(check):
    check()


@pytest.mark.parametrize("fault", FAULTS)
def test_the_fault_is_caught(fault, monkeypatch):
    check, *replaced = FAULTS[fault]
    for replacement in replaced:
        monkeypatch.setattr(*replacement)
    with pytest.raises(AssertionError):
        check()
    monkeypatch.undo()
    check()
