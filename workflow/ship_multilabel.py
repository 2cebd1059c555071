"""Train the last layer of `lite/multi`, a multi-label classifier: `data/embedded/lite-multi.safetensors`, which ships.

`python workflow/ship_multilabel.py [FILE]`, after `make data`; a few minutes on a core. The trunk is that of lite/2, as
it is; the layer starts from the rows of lite/2's own for the 52 classes, and learns from images of two and three stamps
(`load_scenes`). The same machine gives the same file. At the end it is measured on the part val.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ptame_lib import files, load_classifier
from ptame_lib.classifiers.folding import fold_batch_norms
from ptame_lib.datasets.cutouts import load_scenes, scene_classes
from ptame_lib.explainers import storage
from ptame_study import paths

TRAIN, VAL = 2000, 300  # images
STEPS, LR, DECAY = 300, 3e-3, 1e-2  # of Adam, on all images at once


@torch.no_grad()
def pooled(classifier: nn.Module, data: Dataset) -> Tensor:
    """What the last layer of lite/2 reads of each image, (N,1280)."""
    found = []
    hook = classifier.model.classifier.register_forward_pre_hook(lambda _, read: found.append(read[0].detach()))
    try:
        for batch in DataLoader(data, 20):
            classifier(batch["pixels"])
    finally:
        hook.remove()
    return torch.cat(found)


def main(file: Path) -> None:
    """Train the layer, write it with the names of its classes, and print how good it is."""
    classifier, classes = fold_batch_norms(load_classifier("lite/2")), scene_classes()
    train, val = (load_scenes(part, n, folder=paths.data()) for part, n in (("train", TRAIN), ("val", VAL)))
    x, y = pooled(classifier, train), train.labels.float()
    own, rows = classifier.model.classifier, list(classes)
    weight = own.weight[rows].detach().clone().requires_grad_()
    bias = (own.bias[rows].detach() - 5).requires_grad_()  # most classes are absent
    optimizer = torch.optim.AdamW([weight, bias], lr=LR, weight_decay=DECAY)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(F.linear(x, weight, bias), y)
        loss.backward()
        optimizer.step()
    names, images = list(classes.values()), f"{TRAIN} scenes of cutouts"
    about = {"labels": names, "classes": rows, "trunk": "lite/2", "images": images}
    storage.write(file, {"classifier.weight": weight, "classifier.bias": bias}, {}, **about)

    # on other images
    logits, there = F.linear(pooled(classifier, val), weight, bias).detach(), val.labels
    found = logits > 0
    precision = 100 * average_precision_score(there, logits.sigmoid(), average="micro")
    print(f"loss {loss.item():.4f}; on val {F.binary_cross_entropy_with_logits(logits, there.float()).item():.4f}")
    print(f"average precision {precision:.1f} %; labels found: {100 * found[there].float().mean():.1f} %, ", end="")
    print(f"others: {100 * found[~there].float().mean():.2f} %")
    print(f"written: {files.show(file)}, {file.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else files.root() / "data" / "embedded" / "lite-multi.safetensors")
