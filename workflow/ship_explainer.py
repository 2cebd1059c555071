"""Train the explainer that is shipped: Swap-TAME of lite/2 on features of lite/0, `data/explainers/lite2.safetensors`.

`python workflow/ship_explainer.py [FILE]`, after `make data`; about 5 minutes on a core. It sees images of the part
train of the cutouts alone, and no labels; it is measured on 120 images of val. The same machine gives the same file.
"""

import sys
from pathlib import Path

import torch
from torch.utils.data import Subset

from ptame_lib import TrainingConfig, calibrate, files, load_classifier, train_ptame, write_model_card
from ptame_lib.classifiers.folding import fold_batch_norms
from ptame_lib.datasets.cutouts import load_cutouts
from ptame_lib.explainers.names import SHIPPED
from ptame_lib.training.ptame import swap_config
from ptame_study import paths
from ptame_study.classifiers import load_head
from ptame_study.command.timing import while_training
from ptame_study.evaluation import measure_explainer
from ptame_study.explainers import description, new_explainer
from ptame_study.images import load_training
from ptame_study.settings import AuxiliarySettings, ClassifierSettings, ImageSettings

EXPLAINED = ClassifierSettings("lite/2")
AUXILIARY = AuxiliarySettings("lite/0", layers=["blocks.4", "bn2"], head=True)
IMAGES = ImageSettings("cutouts:both", train_images=800)
# chosen on val: results/reference/real.md
CONFIG = swap_config(TrainingConfig(steps=100, batch_size=8, lr=1e-2, warmup=0.2, temperature=1.0))


def main(file: Path) -> None:
    """Train, calibrate on images of the training, and write the file with its model card."""
    classifier = fold_batch_norms(load_classifier(EXPLAINED.name))
    data, _, _ = load_training(IMAGES, classifier)
    seen = Subset(load_cutouts("val", 200, seed=0, folder=paths.data()), range(120))
    torch.manual_seed(CONFIG.seed)
    explainer = new_explainer("Swap-TAME", EXPLAINED, AUXILIARY, classifier, 1000)
    train_ptame(explainer, classifier, data, CONFIG, on_step=while_training(CONFIG.steps, print))
    calibrate(explainer, classifier, Subset(data, range(32)), images=32)
    about = {
        "images": f"{len(data)} images of the part train of the data set cutouts",
        "calibrated": "on images of the training",
        "metrics": measure_explainer(explainer, classifier, seen, 24),
    }
    explainer.save_brief(file, load_head(AUXILIARY), **description(EXPLAINED.name, classifier, CONFIG, **about))
    print(f"written: {files.show(file)}, {file.stat().st_size / 1e6:.2f} MB, and {files.show(write_model_card(file))}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else files.root() / "data" / "explainers" / SHIPPED[EXPLAINED.name])
