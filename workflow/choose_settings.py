"""Choose the settings of the trained methods on the part val, as docs/protocol.md says.

    python workflow/choose_settings.py --out FILE.csv [--classifier embedded/vit] [--method P-TAME]

Every method gets the same trials, `TRIALS`. The best has the lowest score: the mean of AD@25, deletion, insertion and
precision@truth, each against the value of the centred Gaussian, so that 1 is as bad as this control. A method has one
setting for all classifiers. A call for one classifier or method adds its rows to the file: calls can run side by side.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from ptame_lib import TrainingConfig, build_methods, calibrate, load_classifier, load_embedded, train_ptame
from ptame_lib.classifiers.loading import EMBEDDED
from ptame_lib.explainers.loading import TRAINED
from ptame_lib.metrics.suite import METRICS
from ptame_lib.training.ptame import config_for
from ptame_study.evaluation import evaluate
from ptame_study.explainers import new_explainer
from ptame_study.settings import AuxiliarySettings, ClassifierSettings

TRIALS = ({"lr": 2e-3, "warmup": 0.3}, {"lr": 5e-3, "warmup": 0.3}, {"lr": 1e-2, "warmup": 0.3})
SCORED = ("AD@25", "deletion", "insertion", "precision@truth")
CONTROL = "centred Gaussian"


def trials(name: str, method: str, steps: int = 500, images: int = 100) -> list[dict]:
    """A row per trial of a method on a classifier: its settings, its values on val, and its score."""
    classifier, auxiliary = load_classifier(name), AuxiliarySettings("embedded/auxiliary")
    train, val = load_embedded("train", 6000, seed=0), load_embedded("val", 200, seed=0)
    scored = torch.utils.data.Subset(val, range(100, 100 + images))  # the first 100 calibrate, as by default

    def values(of) -> pd.Series:
        return evaluate(classifier, of, scored)[0][[*SCORED, "AP"]].mean()

    [control] = build_methods(classifier, names=[CONTROL])
    rows, worst = [], values(control)
    for trial in TRIALS:
        torch.manual_seed(0)
        explainer = new_explainer(method, ClassifierSettings(name), auxiliary, classifier, 10)
        config = replace(TrainingConfig(steps=steps, seed=0), **trial)
        train_ptame(explainer, classifier, train, config_for(method, config))
        calibrate(explainer, classifier, val)
        [own] = build_methods(classifier, {method: explainer}, [])
        found = values(own)
        rows.append({"classifier": name, "method": method, **trial, **found.round(2), "score": score(found, worst)})
    return rows


def score(found: pd.Series, control: pd.Series) -> float:
    """The mean of `SCORED`, each against the control's value: below 1 is better than the control."""
    parts = [control[m] / found[m] if METRICS[m].higher_is_better else found[m] / control[m] for m in SCORED]
    return sum(parts) / len(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a table (csv), to which rows are added")
    parser.add_argument("--classifier", choices=EMBEDDED, nargs="*", default=EMBEDDED)
    parser.add_argument("--method", choices=TRAINED, nargs="*", default=TRAINED)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name in asked.classifier:
        for method in asked.method:
            rows = pd.DataFrame(trials(name, method))
            rows.to_csv(asked.out, mode="a", header=not asked.out.exists(), index=False, float_format="%.4g")
            print(rows.to_string(index=False), flush=True)
    table = pd.read_csv(asked.out).groupby(["method", "lr", "warmup"])["score"].mean().reset_index()
    print(table.loc[table.groupby("method")["score"].idxmin()].to_string(index=False))


if __name__ == "__main__":
    main()
