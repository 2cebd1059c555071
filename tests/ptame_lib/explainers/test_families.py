"""Every family of timm as the explained classifier, many as the auxiliary: each is explained and trained once."""

import gc

import pytest
import timm
import torch
from families import CAM_LAYERS, FAMILIES, LOST, SMALLER_IMAGES, assert_cams_look_at, images
from helpers import TinyBackbone, small_cnn
from torch import nn

from ptame_lib import (
    PTAME,
    Classifier,
    FeatureExtractor,
    PTAMEWeights,
    TrainingConfig,
    load_auxiliary,
    load_classifier,
    train_ptame,
)
from ptame_lib.classifiers.wrapper import IMAGENET_MEAN, IMAGENET_STD

# Models of timm that can't be or aren't run here.
ENCODERS = [
    "sam2_hiera_tiny",
    "mobilenetv5_300m",
    "deepseek_vit_412m",
    "gemma4_vit_167m",
    "qwen3_vit_88m",
]  # no classes
TOO_LARGE = {
    "nasnetalarge": "89 M parameters, 24 GMAC",
    "pnasnet5large": "86 M, 25 GMAC",
    "inception_resnet_v2": "56 M, 13 GMAC",
}


def settle(frozen, pixels):
    """Make random weights answer like trained ones: fit the batch norms, and let the last layer tell images apart."""
    for module in frozen.model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the running statistics become the batch's
    with torch.no_grad():
        frozen.model.train()
        frozen.frozen = False  # to learn the statistics
        frozen(torch.cat([pixels, pixels / 2]))  # a fresh explainer's masks are about a half
        head = frozen.model.get_classifier() if isinstance(frozen, Classifier) else ()
        for part in head if isinstance(head, tuple) else [head]:
            for module in part.modules():
                if isinstance(module, nn.Linear | nn.Conv2d):
                    nn.init.xavier_normal_(module.weight)
    frozen.frozen = True
    frozen.model.eval()


def explain_and_train(auxiliary, classifier, classes, pixels):
    """One explanation and one step of training that only the classifier's answers drive."""
    torch.manual_seed(0)
    explainer = PTAME(auxiliary, classes)
    before = {key: value.clone() for key, value in explainer.trained_state().items()}
    # a schedule of a single step has only its last rate, 250,000 times smaller than lr
    config = TrainingConfig(
        steps=1, lr=1e3, batch_size=len(pixels), weight_decay=0.0, loss=PTAMEWeights(ce=1, area=0, smooth=0)
    )
    (row,) = train_ptame(explainer, classifier, [{"pixels": image} for image in pixels], config)
    assert 0 < row["total"] < float("inf")
    after = explainer.trained_state()
    assert all(value.isfinite().all() for value in after.values())
    for part in ("convs.0.weight", f"convs.{len(auxiliary.channels) - 1}.weight", "bns.0.weight", "fuser.weight"):
        assert not after[part].equal(before[part]), f"{part} did not learn"
    maps = explainer.explain(pixels, torch.arange(len(pixels)))  # any classes
    assert maps.shape == (len(pixels), *auxiliary(pixels)[0].shape[-2:])
    assert maps.isfinite().all()
    assert maps.amin((1, 2)).eq(0).all()
    assert maps.amax((1, 2)) == pytest.approx(1)
    return maps


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_refused(name):
    with (
        torch.device("meta"),
        pytest.raises(ValueError, match=f"'timm/{name}' is an encoder without classes: choose a model with a head"),
    ):
        load_classifier(f"timm/{name}", weights=None)


def assert_answers_as_the_bare_network(classifier, pixels):
    """For two images and one, in other types of numbers, and oblong where the bare network takes that."""
    net, (height, width) = classifier.model, pixels.shape[-2:]
    for given in (pixels.double(), pixels[:1].bfloat16(), images((height, width // 2), 1)):
        with torch.no_grad():
            try:
                bare = net(((given - classifier.mean) / classifier.std).float())
            except Exception as error:  # a size that it does not take
                with pytest.raises(type(error)):
                    classifier(given)
                continue
            assert (classifier(given) - bare).abs().max() < 1e-3 * bare.abs().max()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_explained(name):
    torch.manual_seed(0)
    classifier = load_classifier(f"timm/{name}", weights=None, **FAMILIES[name])
    config = timm.get_pretrained_cfg(name)
    side = FAMILIES[name].get("img_size")
    assert classifier.input_size == ((side, side) if side else tuple(config.input_size[1:]))
    assert classifier.mean.flatten().tolist() == pytest.approx(config.mean)
    assert classifier.std.flatten().tolist() == pytest.approx(config.std)
    pixels = images(SMALLER_IMAGES.get(name, classifier.input_size))
    settle(classifier, pixels)
    assert_answers_as_the_bare_network(classifier, pixels)
    pixels = pixels[:1]
    auxiliary = FeatureExtractor(small_cnn(), ["l2", "l3", "l4"], IMAGENET_MEAN, IMAGENET_STD, 64)
    explain_and_train(auxiliary, classifier, classifier.model.num_classes, pixels)
    assert_cams_look_at(classifier, *CAM_LAYERS[name], pixels, located=name not in LOST)
    del classifier
    gc.collect()


@pytest.mark.parametrize("name", [name for name, options in FAMILIES.items() if "img_size" in options])
def test_the_size_of_a_network_that_is_made_for_another_above(name):
    """Without the option it is timm's."""
    with torch.device("meta"):
        classifier = load_classifier(f"timm/{name}", weights=None)
    assert classifier.input_size == tuple(timm.get_pretrained_cfg(name).input_size[1:])


# name: size of the images, None for the model's own
TIMM_AUXILIARIES = {
    "resnet10t": None, "mobilenetv3_small_050": (101, 77), "convnext_atto": (97, 131), "efficientnet_b0": (75, 200),
    "inception_v3": None, "hrnet_w18_small": (96, 64), "regnetx_002": (33, 47), "vgg11": (64, 64),
    "densenet121": (90, 70), "cspnext_tiny": None, "starnet_s050": (130, 130), "ghostnet_050": (101, 101),
    "poolformer_s12": (100, 76), "edgenext_xx_small": None, "fastvit_t8": None, "mobilevit_xxs": None,
    "swin_tiny_patch4_window7_224": None, "swinv2_tiny_window8_256": None, "swin_s3_tiny_224": None,
    "maxvit_pico_rw_256": None, "coatnet_nano_rw_224": None, "pvt_v2_b0": None, "focalnet_tiny_srf": (100, 64),
    "hiera_tiny_224": None, "vit_tiny_patch16_384": None, "vit_tiny_patch16_224": None,
    "deit_tiny_distilled_patch16_224": None,
    "eva02_tiny_patch14_224": None, "xcit_nano_12_p16_224": None, "mixer_s16_224": None, "levit_128s": None,
    "twins_svt_small": None, "tnt_s_patch16_224": None, "efficientformer_l1": None, "tf_efficientnetv2_s": (192, 160),
}  # fmt: skip

KEEPS_LEVELS = ("mlp_ratio", "block_config", "depths", "stages")  # options that leave a network its levels

TORCHVISION_AUXILIARIES = {  # name: (layers, size, (channels, height, width) of each)
    "resnet18": (["layer2", "layer4"], (101, 77), [(128, 13, 10), (512, 4, 3)]),
    "vgg16": (["features.16", "features.23", "features.30"], (96, 64), [(256, 12, 8), (512, 6, 4), (512, 3, 2)]),
    "vit_b_16": ([f"encoder.layers.encoder_layer_{i}.ln" for i in (9, 10, 11)], (224, 224), [(768, 14, 14)] * 3),
    "swin_t": (
        ["features.1", "features.3", "features.5", "features.7"],
        (224, 160),
        [(96, 56, 40), (192, 28, 20), (384, 14, 10), (768, 7, 5)],
    ),
    "efficientnet_b0": (
        ["features.3", "features.5", "features.8"],
        (75, 75),
        [(40, 10, 10), (112, 5, 5), (1280, 3, 3)],
    ),
    "maxvit_t": (["blocks.0", "blocks.1", "blocks.3"], (224, 224), [(64, 56, 56), (128, 28, 28), (512, 7, 7)]),
}


def explained_with(auxiliary, size):
    torch.manual_seed(1)
    pixels = images(size, 1)
    settle(auxiliary, pixels)
    classifier = Classifier(TinyBackbone(), IMAGENET_MEAN, IMAGENET_STD, size)
    levels = auxiliary(pixels)
    assert tuple(level.shape[1] for level in levels) == auxiliary.channels
    explain_and_train(auxiliary, classifier, 7, pixels)
    return [tuple(level.shape[1:]) for level in levels]


@pytest.mark.parametrize("name", TIMM_AUXILIARIES)
def test_timm_auxiliaries(name):
    torch.manual_seed(0)
    smaller = {key: value for key, value in FAMILIES.get(name, {}).items() if key in KEEPS_LEVELS}
    auxiliary = load_auxiliary(f"timm/{name}", weights=None, **smaller)
    assert auxiliary.input_size == tuple(timm.get_pretrained_cfg(name).input_size[1:])
    size = TIMM_AUXILIARIES[name] or auxiliary.input_size
    found = explained_with(auxiliary, size)
    assert len(found) == (3 if name == "levit_128s" else 4)
    assert auxiliary.channels == tuple(auxiliary.model.feature_info.channels())
    for (_, height, width), reduction in zip(found, auxiliary.model.feature_info.reduction(), strict=True):
        assert abs(height - size[0] / reduction) < 4  # padding or not: Inception loses almost four positions
        assert abs(width - size[1] / reduction) < 4
    del auxiliary
    gc.collect()


@pytest.mark.parametrize("name", TORCHVISION_AUXILIARIES)
def test_torchvision_auxiliaries(name):
    torch.manual_seed(0)
    layers, size, shapes = TORCHVISION_AUXILIARIES[name]
    assert explained_with(load_auxiliary(name, layers, weights=None), size) == shapes
    gc.collect()
