"""From a notebook's parameters to images with label vectors and their classifier: the embedded ones, VOC-2007 or COCO-2014.

The embedded images have a single-label form, too; the Explainer of a classifier of these sees its labels one-hot.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset

from . import paths, saved
from .classifiers import EMBEDDED, EMBEDDED_MULTI, Classifier, load_classifier
from .datasets import COCO, VOC, first, load_embedded
from .folding import fold_batch_norms
from .multilabel_training import FinetuneConfig, finetune, load_multilabel
from .profiles import load_profile
from .study import write_table

DATASETS = ("embedded", "voc2007", "coco2014")
SIZE = 224  # pixels per side, aspect not kept, as published


def images(dataset: str, split: str, n: int = 0, *, truth: bool = False, seed: int = 0, classifier: str = "") -> Dataset:
    """The first ``n`` (0: all) images of ``train``, ``val`` or ``test`` for ``classifier``, with ``labels`` (N,K) of all of them.

    They are multi-label images; for a single-label embedded classifier the embedded single-label ones, with one-hot labels, and the truth
    (N,H,W) of their one object. ``voc2007`` and ``coco2014`` lie below DATA; ``truth`` asks for the objects' pixels, which VOC has for
    few of its images, and takes these alone. Raises ValueError for another data set, for one that is not the classifier's, and as the
    data sets do.
    """
    if dataset not in DATASETS:
        raise ValueError(f"unknown dataset {dataset!r}: choose {', '.join(DATASETS)}")
    if classifier in EMBEDDED:
        if dataset != "embedded":
            raise ValueError(f"{classifier} knows the embedded images alone: set dataset to embedded, not {dataset}")
        data = load_embedded(split, n, seed=seed)
        return replace(data, labels=F.one_hot(data.labels, len(data.names)).bool())
    if dataset == "embedded":
        return load_embedded(split, n, multi_label=True, seed=seed)
    folder = paths.given(".")
    data = VOC(folder, split, SIZE, truth=truth) if dataset == "voc2007" else COCO(folder, split, SIZE, seed=seed)
    return first(data, min(n, len(data))) if n else data


def classifier_for(cfg: Any, data: Dataset) -> Classifier:
    """The classifier ``cfg.classifier`` of ``data``: an embedded one, or a multi-label ``vgg16`` or ``resnet50`` with ``cfg.weights``:
    those fine-tuned for the profile (``default``), or a file.

    Raises FileNotFoundError where nobody fine-tuned it yet, and as `load_multilabel`.
    """
    if cfg.classifier in (*EMBEDDED, *EMBEDDED_MULTI):
        return fold_batch_norms(load_classifier(cfg.classifier))
    file = paths.multilabel(cfg.profile, cfg.classifier) if cfg.weights == "default" else paths.given(cfg.weights)
    if not file.is_file():
        command = f"python -m ptame_lib.study finetune --profile {cfg.profile} --classifier {cfg.classifier}"
        raise FileNotFoundError(f"no multi-label weights at {paths.show(file)}: make them by {command}, or name a file as weights")
    return fold_batch_norms(load_multilabel(cfg.classifier, len(names_of(data)), file, names_of(data)))


def names_of(data: Dataset) -> tuple[str, ...]:
    """The names of the classes; a class without a name has its number."""
    return tuple(name or str(i) for i, name in enumerate(getattr(data, "dataset", data).names))


def finetune_for(profile: str, classifier: str) -> None:
    """Fine-tune ``classifier`` from ImageNet's weights as the profile's ``finetune`` says, into `paths.multilabel`, with the history beside it.

    ``finetune``: ``dataset``, the fields of `FinetuneConfig`, ``weights`` (as for `load_multilabel`) and ``images`` (0: all) of the
    training and of the validation part. Raises ValueError for a profile or classifier without, and as `finetune`.
    """
    content = load_profile(profile)
    settings = dict(content.get("finetune") or {})
    if not settings or classifier not in content.get("multi_label", []):
        raise ValueError(f"profile {profile} has no 'finetune' for {classifier!r}: its multi_label classifiers are {content.get('multi_label', [])}")
    dataset, n, weights = settings.pop("dataset"), settings.pop("images", 0), settings.pop("weights", "default")
    train, val = (images(dataset, split, n) for split in ("train", "val"))
    names, config = names_of(train), FinetuneConfig(**settings)
    torch.manual_seed(config.seed)  # of the new head
    network = load_multilabel(classifier, len(names), None if weights == "none" else weights, names)
    history = finetune(network.to("cuda" if torch.cuda.is_available() else "cpu"), train, val, config)
    write_table(paths.results(profile) / f"finetune-{paths.slug(classifier)}.csv", pd.DataFrame(history))
    saved.write(paths.multilabel(profile, classifier), network.model.state_dict(), {"classifier": classifier, "profile": profile})
