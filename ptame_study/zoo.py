"""How the zoo was made (`train_zoo`), and whether each of its networks looks at its own evidence (`intervene`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ptame_lib import files
from ptame_lib.classifiers import zoo
from ptame_lib.classifiers.embedded import MEAN, STD
from ptame_lib.classifiers.loading import load_classifier
from ptame_lib.classifiers.wrapper import Classifier, decide_all
from ptame_lib.classifiers.zoo import EVIDENCE
from ptame_lib.datasets import evidence as scenes
from ptame_lib.datasets.composed import Composed
from ptame_lib.datasets.evidence import Evidence, load_evidence

from .embedded_classifiers import train_embedded

TRAIN, VAL, TEST = 6000, 1000, 1000  # images
PLAN = {  # epochs and batch size of the first trial; further ones have twice and four times as many epochs
    "badge": (10, 64),
    "frame": (5, 64),
    "background": (1, 32),
    "watermark": (24, 32),
    "shape": (10, 32),
    "second": (10, 32),
    "quadrant": (6, 32),
    "badge-resnet": (10, 64),
    "quadrant-vit": (6, 32),
    "rotations": (4, 32),
}
LR = 4e-3  # peak learning rate
ENOUGH = 0.97  # accuracy on the val part, by which alone a network is chosen


def train_zoo(names: Iterable[str] = (*EVIDENCE, "rotations")) -> None:
    """Train networks of the zoo and write their weights, in half precision, to ``data/zoo``."""
    for name in names:
        net, tried = train_one(name)
        half = {key: value.half() if value.is_floating_point() else value for key, value in net.state_dict().items()}
        with files.whole(files.zoo() / f"{name}.safetensors") as unfinished:
            save_file(half, unfinished)
        print(name, "; ".join(f"{epochs} epochs: {100 * right:.1f} % of val" for epochs, right in tried), flush=True)


def train_one(name: str, seed: int = 0) -> tuple[nn.Module, list[tuple[int, float]]]:
    """A trained network of the zoo, in eval mode, and what was tried: epochs, and accuracy on the val part.

    The first of up to three trials by `PLAN` that reaches `ENOUGH`, else the best. Parts of the images are blackened
    while it trains, as those of the embedded data are.
    """
    train, val = (labelled(name, part, n, seed) for part, n in (("train", TRAIN), ("val", VAL)))
    tried, best = [], None
    first, batch_size = PLAN[name]
    for epochs in (first, 2 * first, 4 * first):
        torch.manual_seed(seed)
        net = zoo.build(name)
        train_embedded(net, train, epochs=epochs, lr=LR, batch_size=batch_size, seed=seed, change=blacken)
        right = accuracy(Classifier(net, MEAN, STD, scenes.SIZE), val)
        if best is None or right > max(was for _, was in tried):
            best = net
        tried.append((epochs, right))
        if right >= ENOUGH:
            break
    return best, tried


def blacken(pixels: Tensor, truth: Tensor, generator: torch.Generator) -> Tensor:
    """Black rectangles on a third of the images, black surroundings of the truth on another third.

    Explanations are judged by what the classifier answers to masked images. If it had never seen black, that would be
    measured and not the explanation.
    """
    count, _, height, width = pixels.shape
    mask = torch.ones(count, height, width)
    kind = torch.randint(0, 3, (count,), generator=generator).tolist()
    for i in range(count):
        # three rectangles
        if kind[i] == 0:
            for _ in range(3):
                h, w = torch.randint(8, 33, (2,), generator=generator).tolist()
                y, x = (int(torch.randint(0, side, (), generator=generator)) for side in (height - h, width - w))
                mask[i, y : y + h, x : x + w] = 0
        # everything but a box around the truth
        elif kind[i] == 1 and truth[i].any():
            rows, columns = (truth[i].any(axis).nonzero()[:, 0] for axis in (1, 0))
            around = torch.randint(1, 13, (4,), generator=generator).tolist()
            top, bottom = max(rows[0] - around[0], 0), rows[-1] + around[1]
            left, right = max(columns[0] - around[2], 0), columns[-1] + around[3]
            mask[i] = 0
            mask[i, top : bottom + 1, left : right + 1] = 1
    return pixels * mask[:, None]


def labelled(name: str, split: str, n: int, seed: int = 0) -> Composed:
    """Images with the labels of a network's own evidence, or turned, with the quarters of the turn as labels."""
    if name != "rotations":
        return load_evidence(split, n, EVIDENCE[name], seed=seed).alone()
    images = load_evidence(split, n, seed=seed).images
    labels = torch.arange(n) % 4
    turned = torch.stack([image.rot90(int(quarters), (1, 2)) for image, quarters in zip(images, labels, strict=True)])
    return Composed(turned, labels, torch.ones(n, scenes.SIZE, scenes.SIZE, dtype=torch.bool))


def accuracy(classifier: nn.Module, data: Composed) -> float:
    """The share of the images that the classifier decides as labelled."""
    return (decide_all(classifier, data.images) == data.labels).float().mean().item()


def redrawn(n: int = TEST, split: str = "test", seed: int = 0, cached: bool = True) -> dict[str, Evidence]:
    """The images as drawn, under "", and with each factor redrawn, under its name."""
    return {e: load_evidence(split, n, changed=e, seed=seed, cached=cached) for e in ("", *scenes.EVIDENCE)}


def intervene(name: str, images: Mapping[str, Evidence]) -> dict[str, float]:
    """How often the decision of a network of the zoo changes when a factor is redrawn: a share by factor.

    Also its ``accuracy`` on the images as drawn. ``images``: as `redrawn` gives them.
    """
    classifier = load_classifier(f"zoo/{name}")
    before = decide_all(classifier, images[""].images)
    right = before == images[""].labels[:, scenes.EVIDENCE.index(EVIDENCE[name])]
    changed = {e: decide_all(classifier, images[e].images) != before for e in scenes.EVIDENCE}
    return {"accuracy": right.float().mean().item()} | {e: found.float().mean().item() for e, found in changed.items()}
