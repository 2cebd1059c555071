"""Sentences that rank two methods appear where the test and all training seeds agree."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from ptame_study import paths, records
from ptame_study.verdicts import (
    BETTER,
    NO_DIFFERENCE,
    TOO_FEW,
    WORSE,
    counts,
    of_both_parts,
    sentences,
    verdicts,
    with_seeds,
)

IMAGES = 120


def values(gains, images=IMAGES, method="b"):
    """P-TAME, trained with some seeds, has an AD lower by these gains on average than a method that is not trained."""
    noise = np.random.default_rng(0).normal(0, 1, images)
    base = np.random.default_rng(1).uniform(20, 60, images)
    rows = {"classifier": "net", "image": range(images)}
    other = pd.DataFrame(rows | {"method": method, "seed": 0, "deletion": base})
    ours = [
        pd.DataFrame(rows | {"method": "P-TAME", "seed": s, "deletion": base - g + noise}) for s, g in enumerate(gains)
    ]
    return pd.concat([other, *ours], ignore_index=True)


@pytest.mark.parametrize(
    ("gains", "images", "verdict"),
    [
        ([3, 2, 1, 1, 2], IMAGES, BETTER),
        ([-3, -2, -1, -1, -2], IMAGES, WORSE),
        ([3, 2, 4, 3, -1], IMAGES, NO_DIFFERENCE),  # one training of five says the opposite
        ([0.05, 0.1, 0.05, 0.1, 0.1], IMAGES, NO_DIFFERENCE),  # the seeds agree, the images do not
        ([0.01], 25, TOO_FEW),
        ([3], 25, BETTER),
    ],
)
def test_verdicts_by_hand(gains, images, verdict):
    (row,) = verdicts(values(gains, images)).itertuples()
    assert (row.verdict, row.images, row.seeds) == (verdict, images, len(gains))
    assert row.gain == pytest.approx(np.mean(gains), abs=0.2)


def test_trained_methods_are_compared_seed_by_seed():
    """T-TAME's seeds differ as P-TAME's do: seed by seed P-TAME is ahead, though its worst is behind T-TAME's best."""
    ours = values([9, 4, 8]).query("method == 'P-TAME'")
    theirs = values([7, 2, 6]).query("method == 'P-TAME'").assign(method="T-TAME")
    (row,) = verdicts(pd.concat([ours, theirs])).itertuples()
    assert (row.verdict, row.gain, row.seeds) == (BETTER, pytest.approx(2), 3)
    swapped = theirs.assign(seed=[{0: 1, 1: 0, 2: 2}[s] for s in theirs.seed])
    assert verdicts(pd.concat([ours, swapped]))["verdict"].tolist() == [NO_DIFFERENCE]


def test_sentences_and_counts():
    found = pd.concat([values([3, 2]), values([-3, -2], method="c").query("method == 'c'")])
    found = found.assign(insertion=100.0 - found.deletion, pointing=100.0, seed=found.seed)
    made = verdicts(found)
    assert sentences(made)[0] == (
        f"net: P-TAME against b ({IMAGES} images, 2 training seeds): better in insertion, deletion; "
        "no difference shown in 1 of 3 metrics."
    )
    table = counts(made)
    assert table.loc["b"].to_dict() == {BETTER: 2, NO_DIFFERENCE: 1}
    assert table.to_numpy().sum() == len(made)
    one = sentences(verdicts(values([3], 20)))
    assert one == ["net: P-TAME against b (20 images, one training seed): better in deletion."]


def test_the_truth_is_no_method():
    made = verdicts(pd.concat([values([3]), values([0], method="ground truth").query("method == 'ground truth'")]))
    assert set(made["method"]) == {"b"}


def test_slow_methods_are_a_family_of_their_own():
    few = values([1], method="slow").query("method == 'slow' and image < 30")
    found = of_both_parts(pd.concat([values([1]), few]).drop(columns="seed"), "small")
    assert found[["method", "images", "seeds"]].to_numpy().tolist() == [["b", IMAGES, 1], ["slow", 30, 1]]
    assert found["p"].iloc[1] < 0.001  # of one test, not corrected for the other


def write(profile, name, seed, table, **made_from):
    file = paths.per_image(profile, name, seed)
    records.write_table(file, table)
    note = {"made_from": {"trained_seed": seed, "library": "x", **made_from}, "cost": []}
    file.with_suffix(".json").write_text(json.dumps(note))


def test_other_seeds_are_found_where_they_were_made_from_the_same(study_root):
    (study_root / "workflow" / "profiles").mkdir(parents=True, exist_ok=True)
    content = {"classifiers": ["net"], "seeds": [0, 1, 2, 3], "notebooks": {"03_compare": {}}}
    (study_root / "workflow" / "profiles" / "p.yaml").write_text(yaml.safe_dump(content))
    table = values([1]).drop(columns="seed")
    write("p", "net", 0, table, methods=["b", "c"], measured="all")
    write("p", "net", 1, table, methods=[], measured="ranked")
    write("p", "net", 2, table, methods=["b"], library="older")  # another code: not the same comparison
    assert sorted(with_seeds(table, "p")["seed"].unique()) == [0, 1]  # there are no values of 3
    assert with_seeds(table, "p", 1)["seed"].unique().tolist() == [1]
    assert with_seeds(table, "small")["seed"].unique().tolist() == [0]
