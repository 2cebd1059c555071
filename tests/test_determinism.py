"""The seed fixes everything on one device type: two clean folders end with the same tables, byte for byte.

Another device or number of threads or processes adds sums in another order. Losses and metrics then differ in the last
of float32's seven digits, and in single images where such a difference decides (a threshold of ROAD, an argmax, a
pixel's rank). What an explanation costs in seconds and megabytes does not depend on the seed and is not compared.
"""

from pathlib import Path

import pandas as pd
import pytest
import torch
from processes import FORK, start

import ptame_lib
from ptame_lib import (
    PTAME,
    Budget,
    TrainingConfig,
    build_methods,
    load_auxiliary,
    load_classifier,
    load_embedded,
    train_ptame,
)
from ptame_study import paths, records
from ptame_study.evaluation import evaluate_all
from ptame_study.tables import leaders, tidy

TIMED = ["ms_per_image"]  # of the costs


def smoke(seed, compared):
    """The study in small, from nothing: compose data, train an explainer, compare methods if asked, write tables."""
    classifier = load_classifier("embedded/vgg")
    torch.manual_seed(seed)
    explainer = PTAME(load_auxiliary("embedded/auxiliary"), 10)
    config = TrainingConfig(steps=4, batch_size=8, seed=seed)
    folder = paths.results("smoke")
    history = train_ptame(
        explainer, classifier, load_embedded("train", 16, seed=seed), config, checkpoint=folder / "e.ckpt"
    )
    records.write_table(folder / "history.csv", pd.DataFrame(history))
    explainer.save(folder / "e.safetensors", classifier="embedded/vgg", labels=["€", "b"], seed=seed)
    if not compared:
        return
    methods = build_methods(classifier, {"P-TAME": explainer}, ["RISE", "random"], Budget(masks=20, seed=seed))
    test = load_embedded("test", 3, seed=seed)
    per_image, cost = evaluate_all(
        "embedded/vgg", classifier, methods, test, kept=(folder / "per_image", {"seed": seed})
    )
    records.write_table(folder / "compare.csv", tidy(per_image))
    records.write_table(folder / "leaders.csv", leaders(per_image))
    records.write_table(folder / "cost.csv", cost.drop(columns=TIMED))


@pytest.mark.skipif(FORK is None, reason="needs fork")
def test_two_clean_folders_end_with_the_same_tables(tmp_path):
    found = []
    for name, seed, compared in (("one", 0, True), ("other", 0, True), ("another seed", 1, False)):
        root = tmp_path / name
        (root / "data").mkdir(parents=True)
        (root / "data" / "embedded").symlink_to(Path(ptame_lib.__file__).parent.parent / "data" / "embedded")
        process = start(smoke, seed, compared, PTAME_ROOT=str(root))
        process.join(120)
        assert process.exitcode == 0
        files = sorted(
            p
            for p in (root / "results").rglob("*")
            if p.suffix == ".csv" or p.name in ("e.safetensors", "e.history.json")
        )
        found.append({str(p.relative_to(root)): p.read_bytes() for p in files})
    one, other, third = found
    assert len(one) == 6 + 3  # history twice, comparison, leaders, costs, explainer; three methods per image
    assert one == other
    assert len(third) == 3
    assert not any(one[name] == content for name, content in third.items())
