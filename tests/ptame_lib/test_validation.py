"""Pixels, targets, maps and truths that are wrong, at every function that takes them."""

import pytest
import torch
from helpers import small_cnn
from refusals import (
    MAPS,
    NAN,
    PIXELS,
    TARGETS,
    TRUTH,
    Colours,
    assert_answer,
    refused,
    toy_auxiliary,
    toy_classifier,
    toy_explainer,
)

from ptame_lib import BlackBox, Classifier, Explainer, decide, explainer_loss, keep, keep_share, ptame_loss
from ptame_lib.classifiers.wrapper import IMAGENET_MEAN, IMAGENET_STD
from ptame_lib.explainers.lcam import LCAM
from ptame_lib.methods import gradcam, integrated_gradients, lime, occlusion, rise
from ptame_lib.metrics import (
    class_confusion,
    insertion,
    iou,
    label_confidence,
    masked_confidence,
    mean_iou,
    pointing_game,
    road,
    sparseness,
)
from ptame_lib.metrics.drop import confidence
from ptame_lib.metrics.evidence import evidence


def convolutional():
    return Classifier(small_cnn(classes=3), IMAGENET_MEAN, IMAGENET_STD, 64, "abc")


def confused(classes):
    batches = [(PIXELS, torch.ones(2, 9))]
    return class_confusion(toy_classifier(), batches, lambda pixels, wanted: torch.rand(2, len(wanted), 4, 4), classes)


def loss_with(labels):
    logits, said, masks = torch.rand(2, 3, 4, 4), torch.rand(2, 3), (MAPS, MAPS)
    return explainer_loss(logits, labels, said, said, masks)


# name: (what is done, what must come of it)
TARGETS_AND_LABELS = {
    "target beyond the last class": (
        lambda: toy_explainer().explain(PIXELS, torch.tensor([0, 3])),
        refused(r"in 0\.\.2, got 0\.\.3: take the classifier's own"),
    ),
    "negative target": (
        lambda: toy_explainer().explain(PIXELS, torch.tensor([-1, 0])),
        refused(r"in 0\.\.2, got -1\.\.0: take the classifier's own"),
    ),
    "map of a class there is not": (
        lambda: toy_explainer().maps(PIXELS, torch.tensor([7])),
        refused(r"in 0\.\.2, got 7\.\.7: take"),
    ),
    "targets of floating point": (
        lambda: toy_explainer().explain(PIXELS, TARGETS.float()),
        refused(r"torch\.int64, got torch\.float32: see .*long"),
    ),
    "targets as bytes": (
        lambda: toy_explainer().maps(PIXELS, TARGETS.byte()),
        refused(r"torch\.int64, got torch\.uint8: see .*long"),
    ),
    "targets as a list": (
        lambda: toy_explainer().explain(PIXELS, [0, 1]),
        refused("one target per image: got list targets for 2 images, give a tensor"),
    ),
    "too few targets": (
        lambda: toy_explainer().explain(PIXELS, TARGETS[:1]),
        refused(r"got \(1,\) targets for 2 images, give a tensor \(2,\)"),
    ),
    "the Explainer": (
        lambda: Explainer(3, "small").explain(PIXELS, TARGETS + 1),
        refused(r"in 0\.\.2, got 1\.\.3: take"),
    ),
    "L-CAM": (
        lambda: LCAM(toy_auxiliary(["l2"]), 3).explain(PIXELS, TARGETS - 1),
        refused(r"in 0\.\.2, got -1\.\.1: take"),
    ),
    "Grad-CAM": (lambda: gradcam(convolutional())(PIXELS, TARGETS + 9), refused(r"in 0\.\.2, got 9\.\.11: take")),
    "Grad-CAM of class -1": (
        lambda: gradcam(convolutional())(PIXELS, TARGETS - 1),
        refused(r"in 0\.\.2, got -1\.\.1: take"),
    ),
    "RISE": (lambda: rise(toy_classifier())(PIXELS, TARGETS - 1), refused(r"in 0\.\.2, got -1\.\.1: take")),
    "RISE of a net that tells no classes": (
        lambda: rise(Colours())(PIXELS, TARGETS - 1),
        refused(r"at least 0, got -1\.\.1: take"),
    ),
    "integrated gradients": (
        lambda: integrated_gradients(toy_classifier())(PIXELS, TARGETS + 1),
        refused(r"in 0\.\.2, got 1\.\.3: take"),
    ),
    "occlusion": (lambda: occlusion(toy_classifier())(PIXELS, TARGETS + 1), refused(r"in 0\.\.2, got 1\.\.3: take")),
    "LIME": (lambda: lime(toy_classifier())(PIXELS, TARGETS + 1), refused(r"in 0\.\.2, got 1\.\.3: take")),
    "P-TAME's loss": (
        lambda: ptame_loss(torch.rand(2, 3), TARGETS + 1, MAPS[:, None]),
        refused(r"in 0\.\.2, got 1\.\.3: take"),
    ),
    "the Explainer's loss": (
        lambda: loss_with(labels=2 * torch.ones(2, 3)),
        refused(r"labels must be 0 or 1 for each class, got 2\.\.2: see .*one_hot"),
    ),
    "labels as numbers": (lambda: loss_with(labels=TARGETS), refused(r"numbers of classes differ: .*labels \(2,\)")),
    "confidence": (lambda: confidence(toy_classifier(), PIXELS, TARGETS + 1), refused(r"in 0\.\.2, got 1\.\.3: take")),
    "ROAD": (
        lambda: road(toy_classifier(), PIXELS, TARGETS - 1, MAPS, "MoRF"),
        refused(r"in 0\.\.2, got -1\.\.1: take"),
    ),
    "evidence": (
        lambda: evidence(toy_classifier(), PIXELS, TARGETS + 1, MAPS),
        refused(r"in 0\.\.2, got 1\.\.3: take"),
    ),
    "class-specific masks": (lambda: confused([0, 3]), refused(r"in 0\.\.2, got 0\.\.3: take")),
    "several labels of other classes": (
        lambda: label_confidence(toy_classifier(), PIXELS, torch.ones(2, 4)),
        refused(r"labels must be \(B,K\), .* \(2, 3\), got \(2, 4\)"),
    ),
    "fewer labels than classes": (
        lambda: evidence(Classifier(Colours(), (0,) * 3, (1,) * 3, 16, "ab"), PIXELS, TARGETS, MAPS),
        refused("2 labels for 3 classes: give the classifier one label per class"),
    ),
}


PIXELS_AND_MAPS = {
    "pixels in 0..255": (
        lambda: decide(toy_classifier(), 255 * PIXELS),
        refused(r"in \[0,1\], got .*\.\.255: divide by 255"),
    ),
    "pixels as bytes": (
        lambda: decide(toy_classifier(), (255 * PIXELS).byte()),
        refused(r"got torch\.uint8: divide by 255"),
    ),
    "normalised pixels": (
        lambda: decide(toy_classifier(), (PIXELS - 0.45) / 0.22),
        refused(r"got -2\.\d*\.\.2\.\d*: give them without the normalisation"),
    ),
    "pixels in [-1,1]": (
        lambda: decide(toy_classifier(), 2 * PIXELS - 1),
        refused(r"got -\d.*\.\..*: give them without the normalisation"),
    ),
    "NaN in the pixels": (
        lambda: decide(toy_classifier(), PIXELS.clone().index_fill_(0, torch.tensor(1), NAN)),
        refused("pixels of image 1 .* not finite .*: check"),
    ),
    "grey pixels": (
        lambda: toy_classifier()(PIXELS[:, :1]),
        refused(r"got shape \(2, 1, 16, 16\): repeat the grey channel"),
    ),
    "no batch dimension": (
        lambda: toy_classifier()(PIXELS[0]),
        refused(r"got shape \(3, 16, 16\): add the batch dimension, pixels\[None\]"),
    ),
    "channels last": (
        lambda: toy_classifier()(PIXELS.permute(0, 2, 3, 1)),
        refused(r"got shape \(2, 16, 16, 3\): put the channels first"),
    ),
    "pixels as an array": (
        lambda: decide(toy_classifier(), PIXELS.numpy()),
        refused("got a ndarray: see torch.as_tensor", TypeError),
    ),
    "RGBA pixels": (
        lambda: BlackBox(Colours(), 16)(torch.rand(2, 4, 16, 16)),
        refused(r"got shape \(2, 4, 16, 16\): give images of 3 channels"),
    ),
    "grey pixels for an explainer": (
        lambda: toy_explainer().explain(PIXELS[:, :1], TARGETS),
        refused(r"got shape \(2, 1, 16, 16\): repeat"),
    ),
    "0..255 for an explainer": (
        lambda: toy_explainer().explain(255 * PIXELS, TARGETS),
        refused(r"got .*\.\.255: divide by 255"),
    ),
    "0..255 for the Explainer": (
        lambda: Explainer(3, "small").masks(255 * PIXELS),
        refused(r"got .*\.\.255: divide by 255"),
    ),
    "0..255 for a competitor": (
        lambda: occlusion(toy_classifier())(255 * PIXELS, TARGETS),
        refused(r"got .*\.\.255: divide by 255"),
    ),
    "0..255 for the evidence": (
        lambda: evidence(toy_classifier(), 255 * PIXELS, TARGETS, MAPS),
        refused(r"got .*\.\.255: divide by 255"),
    ),
    "a channel in the maps": (lambda: sparseness(MAPS[:, None]), refused(r"got \(2, 1, 4, 4\): check the method")),
    "a channel in the maps to keep by": (
        lambda: keep(PIXELS, MAPS[:, None]),
        refused(r"got \(2, 1, 4, 4\): one map for each image"),
    ),
    "fewer maps than images": (
        lambda: insertion(toy_classifier(), PIXELS, TARGETS, MAPS[:1]),
        refused(r"each of 2 images, got \(1, 4, 4\): check"),
    ),
    "maps of whole numbers": (
        lambda: pointing_game(MAPS.long(), TRUTH),
        refused(r"got torch\.int64: convert them, maps\.float\(\)"),
    ),
    "NaN in a map": (
        lambda: masked_confidence(toy_classifier(), PIXELS, TARGETS, MAPS * NAN),
        refused("map 0 has values that are not finite: check"),
    ),
    "map of too large double numbers": (
        lambda: pointing_game(MAPS.double() + 1e300, TRUTH),
        refused("map 0 has values that are not finite: check"),
    ),
    "truth of floating point": (
        lambda: iou(MAPS, TRUTH.float(), 0.5),
        refused(r"bool, got torch\.float32: .*truth > 0\.5"),
    ),
    "truth of another number": (
        lambda: pointing_game(MAPS, TRUTH[:1]),
        refused(r"one for each of 1 images, got \(2, 4, 4\): check"),
    ),
    "mask logits": (
        lambda: mean_iou(9 * MAPS, TRUTH),
        refused(r"masks must be in \[0,1\], got .*\.\.8\.\d*: apply a sigmoid"),
    ),
    "loss without all maps": (
        lambda: ptame_loss(torch.rand(2, 3), TARGETS, MAPS),
        refused(r"masks must be \(B,n,h,w\), .*got \(2, 4, 4\)"),
    ),
    "share of nothing": (lambda: keep_share(MAPS, 0.0), refused(r"share must be in \(0, 1\], got 0\.0")),
}


@pytest.mark.parametrize("name", TARGETS_AND_LABELS)
def test_bad_targets(name):
    assert_answer(*TARGETS_AND_LABELS[name])


@pytest.mark.parametrize("name", PIXELS_AND_MAPS)
def test_bad_pixels_and_maps(name):
    assert_answer(*PIXELS_AND_MAPS[name])
