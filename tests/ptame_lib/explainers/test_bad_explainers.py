"""Explainer files and settings that are refused."""

import pytest
import torch
from refusals import INF, Code, assert_answer, cut, refused, shipped, toy_auxiliary, toy_explainer

from ptame_lib import PTAME, Explainer, load_auxiliary
from ptame_lib.explainers.fastshap import FastSHAP
from ptame_lib.explainers.swap_tame import SwapTAME


def official(place, state):
    return PTAME.load_official_checkpoint(place.torch("a.ckpt", {"state_dict": state}), toy_auxiliary())


# name: (what is done in a place, what must come of it)
ROWS = {
    "pickle as explainer": (
        lambda place: PTAME.load(place.torch("e.safetensors", {"weight": Code()})),
        refused(r"e\.safetensors can't be read as safetensors .*: train the explainer again, or copy"),
    ),
    "pickle as official checkpoint": (
        lambda place: official(place, {"weight": Code()}),
        refused(r"a\.ckpt can't be read as a checkpoint without running code from it .*: download it again"),
    ),
    "truncated explainer": (
        lambda place: PTAME.load(place.file("e.safetensors", cut(place.saved().read_bytes()))),
        refused(r"e\.safetensors can't be read as safetensors .*: train the explainer again, or copy"),
    ),
    "empty explainer": (
        lambda place: PTAME.load(place.file("e.safetensors")),
        refused(r"e\.safetensors can't be read as safetensors .*: train"),
    ),
    "folder as explainer": (
        lambda place: PTAME.load(place.folder),
        refused("no trained explainer at .*: train one with notebooks/02", FileNotFoundError),
    ),
    "weights as explainer": (
        lambda place: PTAME.load(shipped("vgg")),
        refused(r"vgg\.safetensors is not a P-TAME explainer .*format None"),
    ),
    "P-TAME as Explainer": (
        lambda place: Explainer.load(place.saved()),
        refused(r"e\.safetensors is not an Explainer .*format 'ptame-1', expected 'explainer-1'"),
    ),
    "explainer that says too little": (
        lambda place: PTAME.load(place.saved(layers=None)),
        refused(r"e\.safetensors .*metadata lack layers\. Train the explainer again"),
    ),
    "explainer that says nonsense": (
        lambda place: PTAME.load(place.saved(num_classes="many")),
        refused(r"e\.safetensors has metadata that can't be read .*'many'.*: train"),
    ),
    "grid that is no number": (
        lambda place: FastSHAP.load(place.saved(grid="x"), toy_auxiliary()),
        refused(r"e\.safetensors has metadata that can't be used \(grid is 'x', it should be a whole number\): train"),
    ),
    "no grid": (
        lambda place: FastSHAP.load(place.saved(), toy_auxiliary()),
        refused(r"e\.safetensors .*\(grid is missing, it should be a whole number\): train"),
    ),
    "grid too small": (
        lambda place: FastSHAP.load(place.saved(grid="1"), toy_auxiliary()),
        refused(r"e\.safetensors .*\(grid must be a whole number of at least 2, got 1.*\): train"),
    ),
    "parts that are no list": (
        lambda place: SwapTAME.load(place.saved(parts='"gate"'), toy_auxiliary()),
        refused(r"e\.safetensors .*\(parts is '\"gate\"', it should be a list of names\): train"),
    ),
    "parts nested too deep": (
        lambda place: SwapTAME.load(place.saved(parts="[" * 100_000), toy_auxiliary()),
        refused(r"e\.safetensors .*should be a list of names\): train"),
    ),
    "unknown parts": (
        lambda place: SwapTAME.load(place.saved(parts='["nose"]'), toy_auxiliary()),
        refused(r"e\.safetensors .*\(unknown parts nose: choose among .*\): train"),
    ),
    "explainer of another auxiliary": (
        lambda place: PTAME.load(place.saved(), toy_auxiliary(["l3"])),
        refused(r"trained on small .*l1.* not on .*l3.*: load it with that"),
    ),
    "checkpoint without a state_dict": (
        lambda place: PTAME.load_official_checkpoint(place.torch("a.ckpt", {"x": 1}), toy_auxiliary()),
        refused(r"a\.ckpt is not a Lightning checkpoint: it holds no state_dict"),
    ),
    "checkpoint of numbers": (
        lambda place: official(place, {"net.attention.fuser.weight": 3}),
        refused(r"fuser\.weight of its state_dict is a int\. Download it again"),
    ),
    "checkpoint of another model": (
        lambda place: official(place, {"fc.weight": torch.zeros(2)}),
        refused(r"a\.ckpt does not fit: no net\.attention\.fuser\.weight .*has fc\.weight"),
    ),
    "truncated checkpoint": (
        lambda place: PTAME.load_official_checkpoint(
            place.file("a.ckpt", cut(place.torch("b.ckpt", {"state_dict": {}}).read_bytes())), toy_auxiliary()
        ),
        refused(r"a\.ckpt can't be read as a checkpoint .*: download it again"),
    ),
    "weights of an infinite explainer": (
        lambda place: PTAME.load(place.saved(lambda s: s | {"fuser.weight": s["fuser.weight"] * INF}), toy_auxiliary()),
        refused(r"e\.safetensors is of no use: fuser\.weight has values that are not finite\. Train"),
    ),
    "a black image is explained": (
        lambda place: toy_explainer().explain(torch.zeros(1, 3, 16, 16), torch.tensor([0])),
        lambda found: found.isfinite().all(),
    ),
    "unknown auxiliary": (
        lambda place: load_auxiliary("resnet19"),
        refused("unknown auxiliary 'resnet19': choose embedded/auxiliary"),
    ),
    "unknown layer": (lambda place: toy_auxiliary(["l9"]), refused("no layer 'l9' in Sequential: it has l1, ")),
    "unknown architecture": (
        lambda place: Explainer(3, "unet"),
        refused("unknown architecture 'unet': choose deeplab or small"),
    ),
    "explainer of no class": (
        lambda place: toy_explainer(0),
        refused("num_classes must be .* at least 1, got 0: raise it"),
    ),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", ROWS)
def test_bad_input(name, place):
    act, expected = ROWS[name]
    assert_answer(lambda: act(place), expected)
