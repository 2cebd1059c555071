"""The families of networks that tests go through, and the layers that CAM methods look at in them."""

from dataclasses import replace

import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from timm.models.byoanet import model_cfgs

from ptame_lib import resize
from ptame_lib.classifiers.trunk import layer_features, target_layer
from ptame_lib.methods import gradcam

HALF = {"width_factor": 0.5}
TINY = {"depth": 2, "embed_dim": 192, "num_heads": 3}
LESS = {"img_size": 112}
ONE_EACH = tuple(replace(stage, d=1) for stage in model_cfgs["halonet_h1"].blocks)  # block of each stage

# The smallest member of each family, with fewer or narrower blocks where that is large. Random weights: nothing is
# downloaded.
FAMILIES = {
    "resnet10t": {}, "resnetv2_18": {"layers": (1, 1, 1, 1)}, "skresnet18": {"layers": (1, 1, 1, 1)},
    "legacy_seresnet18": {"layers": (1, 1, 1, 1)}, "resnest14d": {},
    "res2next50": {"layers": (1, 1, 1, 1)},
    "vgg11": {"mlp_ratio": 0.125}, "densenet121": {"block_config": (2, 2, 2, 2)}, "dpn48b": {"k_sec": (1, 1, 1, 1)},
    "dla46x_c": {}, "hrnet_w18_small": {}, "inception_v3": {},
    "selecsls42": {},
    "cs3darknet_focus_s": {}, "cspnext_tiny": {}, "ese_vovnet19b_slim_dw": {}, "hgnetv2_b0": {},
    "tresnet_m": {"layers": (1, 1, 1, 1), "width_factor": 0.5},
    "regnetx_002": {}, "regnety_002": {}, "rexnet_100": {}, "nf_regnet_b0": {}, "repvgg_a0": {}, "mobileone_s0": {},
    "eca_botnext26ts_256": HALF, "halonet_h1": {"blocks": ONE_EACH}, "lambda_resnet26t": HALF,
    "efficientnet_b0": {}, "tinynet_e": {}, "mnasnet_small": {}, "mobilenetv2_035": {}, "mobilenetv3_small_050": {},
    "mobilenetv4_conv_small_035": {}, "lcnet_035": {}, "lcnetv2_small": {}, "hardcorenas_a": {}, "ghostnet_050": {},
    "repghostnet_050": {},
    "convnext_zepto_rms": {}, "convmixer_1024_20_ks9_p14": {}, "inception_next_atto": {"depths": (1, 1, 1, 1)},
    "starnet_s050": {},
    "fasternet_t0": {},
    "rdnet_tiny": {}, "mambaout_femto": {}, "focalnet_tiny_srf": {}, "cpubone_nano": {},
    "poolformer_s12": {}, "poolformerv2_s12": {}, "convformer_s18": {}, "caformer_s18": {},
    "edgenext_xx_small": {}, "fastvit_t8": {"layers": (1, 1, 1, 1)}, "repvit_m0_9": {"depth": (1, 1, 1, 1)},
    "shvit_s1": {}, "iformer_t": {},
    "efficientvim_m1": {},
    "efficientvit_b0": {}, "efficientvit_m0": {}, "efficientformer_l1": {}, "efficientformerv2_s0": {},
    "swiftformer_xs": {},
    "levit_128s": {}, "mobilevit_xxs": {}, "mobilevitv2_050": {}, "lowformer_b0": {}, "nextvit_small": {},
    "coatnet_nano_rw_224": {"img_size": 128}, "maxvit_pico_rw_256": {"img_size": 128},
    "coat_lite_tiny": {"serial_depths": (1, 1, 1, 1)},
    "convit_tiny": LESS,
    "visformer_tiny": {"depth": (1, 1, 1)}, "crossvit_tiny_240": {"depth": ((1, 1, 0),) * 3},
    "vit_tiny_patch16_224": {"depth": 2}, "deit_tiny_patch16_224": {"depth": 2},
    "deit_tiny_distilled_patch16_224": {"depth": 2},
    "vit_tiny_r_s16_p8_224": {"depth": 2},
    "vit_relpos_small_patch16_224": {"depth": 2}, "eva02_tiny_patch14_224": {"num_classes": 10, "depth": 2},
    "beit_base_patch16_224": TINY,
    "cait_xxs24_224": {"depth": 4}, "pit_ti_224": {}, "xcit_nano_12_p16_224": {"depth": 2},
    "tnt_s_patch16_224": {"depth": 2},
    "flexivit_small": TINY,
    "swin_tiny_patch4_window7_224": {"depths": (1, 1, 1, 1)}, "swinv2_tiny_window8_256": {"depths": (1, 1, 1, 1)},
    "swinv2_cr_tiny_224": {"depths": (1, 1, 1, 1)}, "twins_svt_small": {"depths": (1, 1, 1, 2)},
    "pvt_v2_b0": {"depths": (1, 1, 1, 1)}, "nest_tiny": LESS,
    "volo_d1_224": LESS, "gcvit_xxtiny": {}, 
    "davit_tiny": {"depths": (1, 1, 1, 1), "embed_dims": (32, 64, 128, 256), "num_heads": (1, 2, 4, 8)},
    "hiera_tiny_224": {"stages": (1, 1, 1, 1)},
    "tiny_vit_5m_224": {"depths": (1, 1, 1, 1)}, "vitamin_small_224": {"depth": 2},
    "mixer_s16_224": LESS, "gmlp_ti16_224": LESS, "resmlp_12_224": LESS, "sequencer2d_s": {"layers": (1, 1, 1, 1)},
    "csatv2": {}, "inception_v4": {}, "legacy_xception": {}, "xception41p": {}, "mvitv2_tiny": {},
    "samvit_base_patch16_224": TINY, "hieradet_small": {"stages": (1, 1, 1, 2), "embed_dim": 48},
    "naflexvit_base_patch16_gap": TINY,
}  # fmt: skip

# Large networks that take smaller images than their own, (height, width).
SMALLER_IMAGES = dict.fromkeys(
    ("vgg11", "selecsls42", "xception41p", "legacy_xception", "convmixer_1024_20_ks9_p14", "nextvit_small",
     "halonet_h1", "mvitv2_tiny", "hrnet_w18_small", "lambda_resnet26t", "rdnet_tiny", "csatv2", "convformer_s18",
     "caformer_s18", "poolformer_s12", "poolformerv2_s12", "resnest14d", "efficientnet_b0", "repvgg_a0", "mobileone_s0",
     "focalnet_tiny_srf", "iformer_t", "swiftformer_xs", "twins_svt_small", "cs3darknet_focus_s", "mambaout_femto",
     "lowformer_b0", "davit_tiny", "repvit_m0_9", "convnext_zepto_rms", "hardcorenas_a", "ese_vovnet19b_slim_dw",
     "res2next50"),
    (128, 128),
) | dict.fromkeys(("inception_v3", "inception_v4"), (235, 235))  # fmt: skip

# What CAM methods look at, from timm's sources: a module whose output is the last grid of the trunk, and how to read it
# (None: channels first; "last": channels last; a number: tokens after so many others). Tokens or channels last, and a
# first norm in each block (`FIRST_NORMS`): that norm of the last block. Others: the last output before pooling.
CAM_LAYERS = {
    "resnet10t": ("layer4", None), "resnetv2_18": ("norm", None), "skresnet18": ("layer4", None),
    "legacy_seresnet18": ("layer4", None), "resnest14d": ("layer4", None), "res2next50": ("layer4", None),
    "vgg11": ("features.19", None), "densenet121": ("features.norm5", None), "dpn48b": ("features.conv5_bn_ac", None),
    "dla46x_c": ("level5", None), "hrnet_w18_small": ("final_layer", None), "inception_v3": ("Mixed_7c", None),
    "selecsls42": ("head.3", None), "cs3darknet_focus_s": ("stages.3", None), "cspnext_tiny": ("stages.3", None),
    "ese_vovnet19b_slim_dw": ("stages.3", None), "hgnetv2_b0": ("stages.3", None), "tresnet_m": ("body.layer4", None),
    "regnetx_002": ("s4", None), "regnety_002": ("s4", None), "rexnet_100": ("features.16", None),
    "nf_regnet_b0": ("final_act", None), "repvgg_a0": ("stages.3", None), "mobileone_s0": ("stages.3", None),
    "eca_botnext26ts_256": ("stages.3", None), "halonet_h1": ("stages.3", None), "lambda_resnet26t": ("stages.3", None),
    "efficientnet_b0": ("bn2", None), "tinynet_e": ("bn2", None), "mnasnet_small": ("bn2", None),
    "mobilenetv2_035": ("bn2", None), "mobilenetv3_small_050": ("blocks.5", None),
    "mobilenetv4_conv_small_035": ("blocks.4", None), "lcnet_035": ("blocks.5", None),
    "lcnetv2_small": ("stages.3", None), "hardcorenas_a": ("blocks.6", None), "ghostnet_050": ("blocks.9", None),
    "repghostnet_050": ("blocks.9", None), "convnext_zepto_rms": ("stages.3", None),
    "convmixer_1024_20_ks9_p14": ("blocks.19", None), "inception_next_atto": ("stages.3", None),
    "starnet_s050": ("norm", None), "fasternet_t0": ("stages.3", None), "rdnet_tiny": ("dense_stages.6", None),
    "mambaout_femto": ("stages.3", "last"), "focalnet_tiny_srf": ("norm", None), "cpubone_nano": ("head.in_conv", None),
    "poolformer_s12": ("stages.3", None), "poolformerv2_s12": ("stages.3", None), "convformer_s18": ("stages.3", None),
    "caformer_s18": ("stages.3", None), "edgenext_xx_small": ("stages.3", None), "fastvit_t8": ("final_conv", None),
    "repvit_m0_9": ("stages.3", None), "shvit_s1": ("stages.2", None), "iformer_t": ("stages.3", None),
    "efficientvim_m1": ("norm.3", None),  # the head of the last stage, one of four
    "efficientvit_b0": ("head.in_conv", None), "efficientvit_m0": ("stages.2", None),
    "efficientformer_l1": ("stages.3.blocks.4.norm1", 0), "efficientformerv2_s0": ("norm", None),
    "swiftformer_xs": ("norm", None), "levit_128s": ("stages.2", 0), "mobilevit_xxs": ("final_conv", None),
    "mobilevitv2_050": ("stages.4", None), "lowformer_b0": ("in_conv", None), "nextvit_small": ("norm", None),
    "coatnet_nano_rw_224": ("norm", None), "maxvit_pico_rw_256": ("norm", None),
    "coat_lite_tiny": ("serial_blocks4.0.norm1", 1), "convit_tiny": ("blocks.11.norm1", 1),
    "visformer_tiny": ("norm", None), "crossvit_tiny_240": ("blocks.2.fusion.1.norm1", 1),  # one of its two branches
    "vit_tiny_patch16_224": ("blocks.1.norm1", 1), "deit_tiny_patch16_224": ("blocks.1.norm1", 1),
    "deit_tiny_distilled_patch16_224": ("blocks.1.norm1", 2), "vit_tiny_r_s16_p8_224": ("blocks.1.norm1", 1),
    "vit_relpos_small_patch16_224": ("blocks.1.norm1", 0), "eva02_tiny_patch14_224": ("blocks.1.norm1", 1),
    "beit_base_patch16_224": ("blocks.1.norm1", 1),
    "cait_xxs24_224": ("blocks_token_only.1.norm1", 1), "pit_ti_224": ("transformers.2.blocks.3.norm1", 1),
    "xcit_nano_12_p16_224": ("cls_attn_blocks.1.norm1", 1), "tnt_s_patch16_224": ("blocks.1.norm_out", 1),
    "flexivit_small": ("blocks.1.norm1", 1), "swin_tiny_patch4_window7_224": ("layers.3.blocks.0.norm1", "last"),
    "swinv2_tiny_window8_256": ("norm", "last"),  # its norms come after attention
    "swinv2_cr_tiny_224": ("stages.3", None), "twins_svt_small": ("blocks.3.1.norm1", 0),
    "pvt_v2_b0": ("stages.3", None),
    "nest_tiny": ("norm", "last"), "volo_d1_224": ("post_network.1.norm1", 1), "gcvit_xxtiny": ("stages.3", None),
    "davit_tiny": ("stages.3", None),
    "hiera_tiny_224": ("blocks.3", 0),  # cut to one block a stage: its norm comes before the pooling in it
    "tiny_vit_5m_224": ("stages.3", None), "vitamin_small_224": ("blocks.1.norm1", 0),
    "mixer_s16_224": ("blocks.7.norm1", 0), "gmlp_ti16_224": ("norm", 0), "resmlp_12_224": ("blocks.11.norm1", 0),
    "sequencer2d_s": ("stages.3.blocks.0.norm1", "last"), "csatv2": ("stages.3", None),
    "inception_v4": ("features.21", None), "legacy_xception": ("act4", None), "xception41p": ("act", None),
    "mvitv2_tiny": ("stages.3.blocks.1.norm1", 0), "samvit_base_patch16_224": ("neck", None),
    "hieradet_small": ("blocks.4.norm1", "last"), "naflexvit_base_patch16_gap": ("blocks.1.norm1", 4),
}  # fmt: skip


# After attention without a residual, as in LeViT's downsampling, random weights no longer know where anything was.
LOST = ("levit_128s",)


def images(size, n=2):
    """Coloured blobs: to a random network all noise looks the same."""
    return resize(torch.rand(n * 3, 5, 5, generator=torch.Generator().manual_seed(7)), size).unflatten(0, (n, 3))


def assert_cams_look_at(classifier, name, reading, pixels, located=True):
    """Grad-CAM is the grad-cam package's on the layer of this name, a gradient reaches it, and it lies as the image.

    That is, a gradient reaches its whole map, and what is bright in a corner of the image changes that corner of it.
    """
    layer, targets = classifier.model.get_submodule(name), torch.tensor([0])

    def as_map(level):
        if reading is None:
            return level
        if reading == "last":
            return level.permute(0, 3, 1, 2)
        return level[:, reading:].transpose(1, 2).unflatten(2, grid_of(level.shape[1] - reading, pixels.shape[-2:]))

    shown = gradcam(classifier)(pixels[:1], targets)
    found, layout = target_layer(classifier, pixels[:1])
    with GradCAM(classifier, [layer], as_map) as method:
        expected = torch.from_numpy(method(pixels[:1].clone().requires_grad_(), [ClassifierOutputTarget(0)]))
        (activations,), (gradients,) = method.activations_and_grads.activations, method.activations_and_grads.gradients
    torch.testing.assert_close(shown, expected, atol=1e-5, rtol=0)
    # empty maps are equal, too: compare what they are made of
    features = layer_features(classifier, torch.cat([pixels[:1], *lit_corners(pixels[:1])]), found)
    assert layout == {None: "NCHW", "last": "NHWC"}.get(reading, reading)
    looks_at = [name for name, module in classifier.named_modules() if module is found]
    assert torch.allclose(features[:1], activations, atol=1e-4), f"looks at {looks_at}, not at {name}"
    assert gradients.flatten(2).any(1).float().mean() > 0.9  # of the positions; a ReLU after the layer may stop some
    assert not located or changed_corners(features) == [(0, 1), (1, 0)], f"{looks_at} is turned against the image"


def lit_corners(image):
    """The image (1,3,H,W) with a bright corner: at the top right, and at the bottom left."""
    height, width = (side // 4 for side in image.shape[-2:])
    top_right, bottom_left = image.clone(), image.clone()
    top_right[..., :height, -width:] = 1
    bottom_left[..., -height:, :width] = 1
    return top_right, bottom_left


def changed_corners(features):
    """For maps (3,C,h,w) of an image and its `lit_corners`: where each, against the other, changes most (lower, right).

    Against the other, since some positions of a random network react to everything.
    """
    change = (features[1:] - features[:1]).norm(dim=1)
    first, second = change / change.sum((1, 2), keepdim=True)
    rows, columns = ((side + 1) // 2 for side in change.shape[1:])  # a middle row is in both halves
    halves = [(slice(rows), slice(-rows, None)), (slice(columns), slice(-columns, None))]
    corners = [(lower, right) for lower in (0, 1) for right in (0, 1)]
    shares = [(first - second)[halves[0][lower], halves[1][right]].mean() for lower, right in corners]
    return [corners[i] for i in (torch.stack(shares).argmax(), torch.stack(shares).argmin())]


def grid_of(n, size):
    """The rows and columns of n patches over an image of this (height, width)."""
    rows = round((n * size[0] / size[1]) ** 0.5)
    return rows, n // rows
