"""The notebooks' answers, worked out by hand: what is lost comes first."""

import pandas as pd

from ptame_study import answers


def test_the_comparison_by_hand():
    cells = [("RISE", "worse"), ("RISE", "worse"), ("LIME", "worse"), ("LIME", "better"), ("edges", "worse")]
    cells += [("CAM", "better"), ("CAM", "better")]
    paired = pd.DataFrame(cells, columns=["method", "verdict"])
    assert answers.of_comparison(paired) == (
        "A comparison is one method, classifier and metric. P-TAME loses to RISE in 2 of 2 comparisons and LIME (1). "
        "It wins more than half of those with CAM. In 0 of all 6 comparisons "
        "no difference is shown, or the images are too few to tell."
    )
    none = answers.of_comparison(paired[paired["method"] == "LIME"].replace("worse", "no difference shown"))
    assert none.endswith(
        "P-TAME loses to none in 2 comparisons each. It wins more than half with none. In "
        "1 of all 2 comparisons no difference is shown, or the images are too few to tell."
    )


def test_of_many_methods_only_those_with_more_than_two_comparisons_are_named():
    lost = {"A": 4, "B": 3, **dict.fromkeys("CDEF", 1), "G": 2}
    cells = [(method, "worse") for method, n in lost.items() for _ in range(n)]
    told = answers.of_comparison(pd.DataFrame(cells, columns=["method", "verdict"]))
    assert "P-TAME loses to A in 4 of 4 comparisons, B (3), and to 5 others in one or two. It wins" in told
    fewer = [cell for cell in cells if cell[0] != "G"]
    told = answers.of_comparison(pd.DataFrame(fewer, columns=["method", "verdict"]))
    assert "P-TAME loses to A in 4 of 4 comparisons, B (3), C (1), D (1), E (1) and F (1). It wins" in told


def test_a_swapped_p_tame_that_does_no_worse_is_told():
    paired = pd.DataFrame({"method": "P-TAME of another classifier", "verdict": ["no difference shown"] * 2})
    assert "not that it explains this classifier and no other" in answers.of_comparison(paired)
    assert "and no other" not in answers.of_comparison(paired.replace("no difference shown", "better"))


def checks(quadrant, labels):
    """Both tables of the sanity checks, of P-TAME, CAM, other and edges, for two classifiers."""
    about = {"classifier": ["a", "b"] * 4, "method": [m for m in ("P-TAME", "CAM", "other", "edges") for _ in range(2)]}
    known = pd.DataFrame({**about, "classifier sees": "one quadrant", "metric": "pointing", "value": quadrant})
    stages = {"the classifier itself": [100] * 8, "random up to stem": [0] * 8, "random up to fc": [-30, -10, 1, 1] * 2}
    rows = {**stages, "shuffled labels": labels, "another seed": [90] * 8}
    likeness = [pd.DataFrame({**about, "check": c, "metric": "Spearman", "value": v}) for c, v in rows.items()]
    return pd.concat(likeness), known


def test_the_sanity_checks_by_hand():
    told = answers.of_sanity(*checks([20, 40, 70, 90, 0, 0, 30, 50], [50, 70, -90, 50, 80, 80, 0, 0]))
    assert told == (
        "Where the classifier sees one quadrant alone, P-TAME points there in 30 % of the images (the best other "
        "method, CAM: 80 %; a control, edges: 40 %). After training on shuffled labels, P-TAME's maps correlate "
        "with the old ones by 60 % (the best other method, CAM: -20 %). With random layers, "
        "P-TAME's maps correlate with the old ones by -20 % (the best other method, CAM: 1 %)."
    )
    told = answers.of_sanity(*checks([90] * 2 + [80] * 4 + [10] * 2, [0, 0, 50, 50, 50, 50, 0, 0]))
    assert told.startswith("With random layers")  # what is lost comes first
    assert "in 90 % of the images (the best other method, CAM: 80 %)." in told
    likeness, known = checks([20, 40, 70, 90, 0, 0, 30, 50], [50, 70, -90, 50, 80, 80, 0, 0])
    alone = answers.of_sanity(*(table[table["method"] == "P-TAME"] for table in (likeness, known)))
    assert "P-TAME points there in 30 % of the images. After" in alone
    assert "other method" not in alone


def test_an_inverted_map_is_like_the_old_one():
    likeness, known = checks([90] * 8, [50, 70, -90, 50, 80, 80, 0, 0])
    sizes = likeness.assign(metric="|Spearman|", value=likeness["value"].abs())
    unrelated = sizes[sizes["check"] == "shuffled labels"].assign(check="another image", value=25)
    told = answers.of_sanity(pd.concat([likeness, sizes, unrelated]), known)
    assert "by 60 % (the best other method, CAM: 70 %)" in told
    assert told.endswith("The maps of two different images correlate by 25 %.")


def test_masks_by_hand():
    cells = [("IoU", "A", "worse"), ("IoU", "B", "worse"), ("F1", "A", "better"), ("F1", "B", "no difference shown")]
    paired = pd.DataFrame(cells, columns=["metric", "method", "verdict"])
    specific = {"N": {"whole": 50.0, "own": 60.0, "others": 9.0}, "A": {"whole": 50.0, "own": 40.0, "others": 30.0}}
    assert answers.of_masks(paired, specific, 10, "N") == (
        "N loses 2 of 4 comparisons with other methods (2 in IoU) and wins 1. A class in the image has a probability "
        "of 50 %, and 60 % where only its own mask's part is kept. Where only the part of another class's mask is "
        "kept, it has 9 % (chance: 10 %). With other methods' masks it has: A 30 %."
    )


def test_training_without_gradients_by_hand():
    cells = [("s", "AD", 3.0, 0.01), ("s", "IC", 7.0, 0.04), ("s", "IoU", 9.0, 0.2), ("a", "AD", -1.0, 0.01)]
    gaps = pd.DataFrame(cells, columns=["method", "metric", "gain", "p"])
    assert answers.of_black_box(gaps) == (
        "S training loses 2 of 3 comparisons with training on the true gradients (at most 7 points, of IC) and wins 0. "
        "A training loses 0 of 1 comparisons with training on the true gradients and wins 1. The others show no "
        "difference."
    )


def test_whose_evidence_by_hand():
    methods = ["P-TAME", "Swap-TAME", "RISE", "edges", "P-TAME+2"]
    of = {"zoo/a": [10, 90, 70, 100, 99], "zoo/b": [30, 80, 100, 100, 99]}
    shown = pd.concat(pd.DataFrame({"network": name, "method": methods, "value": of[name]}) for name in of)
    shown["metric"] = "right evidence"
    rows = [("P-TAME", 0.5, 1), ("P-TAME", 0.01, -1), ("Swap-TAME", 0.01, 1), ("Swap-TAME", 0.01, 2)]
    swapped = pd.DataFrame(rows, columns=["method", "p", "gap"]).assign(
        metric="AD@25", agree=True, alike=False, network=["zoo/a", "zoo/b"] * 2, of=["zoo/b", "zoo/a"] * 2
    )
    told = answers.of_evidence(shown, swapped)
    start = (
        "Each of 2 small networks decides by one of seven things in the same images. P-TAME shows the right one in "
        "20 % of them (worst network, a: 10 %). The best other published method, RISE, shows it in 85 %; chance is "
        "14 %. Swap-TAME, a variant of this study, shows it in 85 % of them (worst network, b: 80 %)."
    )
    assert told == (
        f"{start} A network's own explainer should beat one for other evidence in 1 metrics: P-TAME's does in 0 of 2 "
        "pairs, Swap-TAME's in 2."
    )
    both = pd.concat([swapped, swapped[swapped["method"] == "Swap-TAME"].assign(method="FastSHAP")])
    assert answers.of_evidence(shown, both).endswith("0 of 2 pairs, FastSHAP's in 2 and Swap-TAME's in 2.")
    assert answers.of_evidence(shown, swapped[:0]) == start  # of a single network
    alone = [table[table["method"] == "Swap-TAME"] for table in (shown, both)]
    assert answers.of_evidence(*alone).endswith("Swap-TAME's does in 2 of 2 pairs.")  # nothing else was trained
    more = {
        "P-TAME on zoo/rotations": 30.0,
        "P-TAME on zoo/rotations+2": 35.0,
        "Swap-TAME on zoo/rotations": 70.0,
        "RISE+2": 99.0,
        "RISE on zoo/x": 99.0,
    }
    variants = [shown[shown["method"] == "RISE"].assign(method=name, value=value) for name, value in more.items()]
    assert answers.of_evidence(pd.concat([shown, *variants]), swapped[:0]) == (
        f"{start} On the features of zoo/rotations, which knows no class, P-TAME in 30 % and Swap-TAME in 70 %."
    )


def test_stickers_by_hand():
    rights = {"sticker network": ("sticker", 10.0, 20.0, 90.0, 30.0), "untouched": ("object", 80.0, 85.0, 70.0, 95.0)}
    names = ("P-TAME", "Swap-TAME", "Grad-CAM", "auxiliary's CAM")
    shown = pd.DataFrame(
        [
            {"network": network, "method": method, "evidence": evidence, "metric": "right evidence", "value": value}
            for network, (evidence, *values) in rights.items()
            for method, value in zip(names, values, strict=True)
        ]
    )
    swapped = pd.DataFrame(
        [
            {"network": network, "method": method, "metric": metric, "gap": gap, "p": 0.01, "agree": True}
            for network in rights
            for method, gap in (("P-TAME", -1.0), ("Swap-TAME", 1.0))
            for metric in ("AD@25", "deletion")
        ]
    )
    assert answers.of_stickers(shown, swapped) == (
        "Where the sticker decides, P-TAME shows it in 10 % of the images and Swap-TAME in 20 % (the best other "
        "method, Grad-CAM: 90 %; a control, auxiliary's CAM: 30 %). Where the object decides, a network's own "
        "explainer beats the other network's in 0 of 2 metrics for P-TAME and in 2 for Swap-TAME. Where the sticker "
        "decides, a network's own explainer beats the other network's in 0 of 2 metrics for P-TAME and in 2 for "
        "Swap-TAME. Where the object decides, P-TAME shows it in 80 % of the images and Swap-TAME in 85 % (the "
        "best other method, Grad-CAM: 70 %; a control, auxiliary's CAM: 95 %)."
    )
    alone = answers.of_stickers(shown[shown["method"].isin(names[:2])], swapped)
    assert alone.startswith("Where the object decides, P-TAME shows it in 80 % of the images and Swap-TAME in 85 %. ")
