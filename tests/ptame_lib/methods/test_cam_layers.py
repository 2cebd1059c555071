"""The layer that CAM methods look at, in torchvision's and Hugging Face's networks; timm's are in test_families.py."""

import pytest
import torch
import torchvision
from families import assert_cams_look_at, images
from torch import nn

from ptame_lib import Classifier
from ptame_lib.classifiers.huggingface import Logits
from ptame_lib.classifiers.wrapper import IMAGENET_MEAN, IMAGENET_STD

TORCHVISION = {  # name: (layer, how to read it, size)
    "resnet18": ("layer4", None, (64, 96)),
    "vgg11": ("features.19", None, (64, 64)),
    "vit_b_16": ("encoder.layers.encoder_layer_11.ln_1", 1, (224, 224)),
    "swin_t": ("permute", None, (96, 64)),  # the last norm's output, with channels first
    "maxvit_t": ("blocks.3", None, (224, 224)),
    "convnext_tiny": ("features.7", None, (64, 64)),
}

SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64, "num_labels": 5}
SMALL |= {"image_size": 64, "patch_size": 8}
WINDOWS = {"image_size": 64, "patch_size": 2, "embed_dim": 16, "depths": [1, 1, 2], "num_heads": [2, 2, 2]}
WINDOWS |= {"window_size": 4, "num_labels": 5}
PYRAMID = {"hidden_sizes": [8, 16, 24, 32], "num_attention_heads": [1, 1, 2, 2], "num_labels": 5}
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_labels": 5}

HUGGING_FACE = {  # name: (class, config, layer, how to read it, size)
    "ViT": ("ViT", SMALL, "vit.layers.2.layernorm_before", 1, (64, 64)),
    "ViT, not square": ("ViT", SMALL | {"image_size": (64, 48)}, "vit.layers.2.layernorm_before", 1, (64, 48)),
    "DeiT": ("DeiT", SMALL, "deit.layers.2.layernorm_before", 2, (64, 64)),
    "BEiT": ("Beit", SMALL, "beit.layers.2.layernorm_before", 1, (64, 64)),
    "BEiT, class token": (
        "Beit", SMALL | {"use_mean_pooling": False}, "beit.layers.2.layernorm_before", 1, (64, 64)
    ),
    "Swin": ("Swin", WINDOWS, "swin.encoder.layers.2.blocks.1.layernorm_before", 0, (64, 64)),
    "Swinv2": ("Swinv2", WINDOWS, "swinv2.layernorm", 0, (64, 64)),  # its norms come after attention
    "PVT": ("Pvt", PYRAMID | {"image_size": 64}, "pvt.encoder.block.3.1.layer_norm_1", 1, (64, 64)),
    "PVTv2": ("PvtV2", PYRAMID, "pvt_v2.encoder.layers.3.layer_norm", 0, (64, 96)),
    "ConvNeXt": ("ConvNext", STAGES, "convnext.encoder.stages.3", None, (64, 96)),
}  # fmt: skip


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name):
    torch.manual_seed(0)
    layer, reading, size = TORCHVISION[name]
    net = torchvision.models.get_model(name, weights=None)
    for module in net.modules():  # a new vit's head gives zeros, whatever it sees
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.xavier_normal_(module.weight)
    assert_cams_look_at(Classifier(net, IMAGENET_MEAN, IMAGENET_STD, size), layer, reading, images(size))


@pytest.mark.parametrize("name", HUGGING_FACE)
def test_hugging_face(name):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    kind, config, layer, reading, size = HUGGING_FACE[name]
    config = getattr(transformers, f"{kind}Config")(**config)
    net = Logits(getattr(transformers, f"{kind}ForImageClassification")(config))
    assert_cams_look_at(Classifier(net, IMAGENET_MEAN, IMAGENET_STD, size), f"net.{layer}", reading, images(size))
