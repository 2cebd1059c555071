"""The original implementation's numbers, reproduced (see parity/README.md)."""

import pytest
import torch
import torch.nn.functional as F
from helpers import PARITY, Arrays, auxiliary_of, classifier_of, explainer_of, weights_of

from ptame_lib import PTAME, keep, keep_share, normalise, ptame_loss, resize
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
    """Explain, mask and decide again, against the arrays ``<prefix>masks``, ``<prefix>logits`` and ``<prefix>logits_masked``."""
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
    """Batches of 4, 4 and 3 images: the original averages three means, this study eleven images; both are in the arrays."""
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
