"""A trained explainer's model card: its metadata as Markdown, with a YAML header for model hubs."""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import Any

import yaml

from .. import files
from ..texts import MOST, in_code, in_markdown, in_python, printable
from .loading import TRAINED, method_and_features
from .metadata import CLEARLY, about, followed, is_number

CARD = Template("""\
---
$header---

# $method for $classifier

One forward pass gives, for an image and a class, a map in [0,1] of what $name uses to see that class.

## What it explains

$explains

## How it was trained

$trained

No labels are used: $learned.

## Metrics

$metrics

In percent, over held-out images. *faithful*: how often the decision stays on $kept; \
*rest alike*: how often on the rest; AD100: mean relative drop of the probability \
on what the soft map keeps (lower is better); IC100: how often it rises (higher is better).

**Follows its classifier: $follows.** *moved*: how often the decision goes along when the map's first pixels (10, 25, \
50 and
75 %) are moved to another image; *moved more*: than with a map of the features, which knows no classifier; \
*from*, *to*: the
95 % interval of this difference. "Yes" from $clearly points on, "no" if 0 is in it. Where the object is what decides, \
a map that
only finds objects says "yes", too. Whether it would notice another reason is what notebook 12 tests.

## Limits

- It explains this one classifier, with the weights it was trained for. For any other the maps mean nothing.
- A map shows where the evidence for a class lies, not why it is evidence, and not whether the decision is right.
- It learned from images like those it was trained on; on others it can be wrong without looking so. \
Ask the classifier about
  each map: `explain_with_evidence` gives the probability on the first pixels of the map and on the rest, and warns.
- The first pixels are shown on black and on a blur. Neither is a natural image: a classifier may answer oddly to it.

## Use

```python
from ptame_lib import explain_with_evidence, load_classifier
from ptame_lib.explainers.loading import load_explainer

classifier = load_classifier($loaded)
explainer = load_explainer($file, classifier)
maps, evidence = explain_with_evidence(explainer, classifier, pixels)   # pixels (B,3,H,W) in [0,1]
print(evidence.text(0), evidence.warning(0))
```

## Licence and citation

$licence for the parameters in this file. The weights of the classifier and of the auxiliary are not in it; \
they and the training images have licences of their own.

Method: $source. P-TAME:

```bibtex
@article{ptame2025,
  author  = {Ntrougkas, M. and Mezaris, V. and Patras, I.},
  title   = {{P-TAME}: Explain Any Image Classifier With Trained Perturbations},
  journal = {IEEE Open Journal of Signal Processing},
  volume  = {6},
  pages   = {536--545},
  year    = {2025},
  doi     = {10.1109/OJSP.2025.3568756},
}
```
""")
LICENCE = "apache-2.0"  # of the parameters, unless the file says another
OWN_DECISIONS = "it learned to keep the classifier's own decisions"
LEARNED = {  # what a training asks for, by its mask
    "sigmoid": f"{OWN_DECISIONS} with as little of the image as possible",
    "matched": f"{OWN_DECISIONS} on the first pixels of its maps, shares of the image that are given",
    "swap": "it learned which pixels take the classifier's own decision along when they are moved to another image",
    "shapley": "it learned the Shapley values of patches, from the classifier's probabilities without some of them",
}
WITHOUT_WEIGHTS = ("swap", "shapley")  # masks whose losses have none
UNKNOWN = "Not stored with the explainer."
MOST_OF_A_ROW = 5000  # letters


def in_one_line(file: str | Path, known: dict[str, Any] | None = None) -> str:
    """What a saved explainer is and how it was trained, in one line to print.

    ``known``: what `about` says of the file, if that is read already. Raises as `about`.
    """
    known = known or about(file)
    shown = {key: printable(known[key], MOST) for key in ("classifier", "images", "seed") if known.get(key)}
    method, _ = method_and_features(known["auxiliary"], known.get("method", "P-TAME"))
    classifier = shown.get("classifier", "an unnamed classifier")
    parts = [f"{printable(Path(file).name)}: {method} for {classifier}, {known['num_classes']} classes"]

    # how it was trained; a seed alone says nothing
    steps = known.get("training", {}).get("steps")
    trained = [
        "images" in shown and f"on {shown['images']}",
        steps is not None and f"{printable(steps, MOST)} steps",
        "seed" in shown and f"seed {shown['seed']}",
    ]
    if any(trained[:2]):
        parts.append("trained " + ", ".join(filter(None, trained)))

    # how good it is
    metrics = known.get("metrics", {})
    if {"faithful", "images"} <= metrics.keys():
        of_all = f"of {metrics['images']} held-out images, {metrics['faithful']:g} % keep their decision"
        parts.append(f"{of_all} on {_kept(metrics)}")
    return "; ".join(parts) + "."


def _kept(metrics: dict[str, Any]) -> str:
    """What ``faithful`` among the metrics is about; older files do not say ``shown`` and mean the soft map."""
    if "shown" in metrics:
        return f"the first {metrics['shown']:g} % of the map's pixels, all others black"
    return "what the soft map keeps"


def model_card(file: str | Path) -> str:
    """The card of the explainer at ``file``, whose texts are escaped. Raises as `about`."""
    # what the tables say
    known = about(file)
    explains, trained, metrics = sections(known).values()
    method, _ = method_and_features(known["auxiliary"], known.get("method", "P-TAME"))
    licence = printable(known.get("licence", LICENCE), MOST)
    tags = ["explainability", "saliency-maps", method.lower()]
    header = {"license": licence, "library_name": "ptame-study", "tags": tags}

    # fill in the card
    return CARD.substitute(
        header=yaml.safe_dump(header, sort_keys=False),
        method=method,
        classifier=in_markdown(explains["classifier"], MOST),
        name=in_code(explains["classifier"], MOST),
        explains=_table(explains),
        trained=_table(trained) or UNKNOWN,
        metrics=_table(metrics, ("metric", "value")) or UNKNOWN,
        kept=_kept(metrics),
        learned=LEARNED.get(str(known.get("training", {}).get("mask")), LEARNED["sigmoid"]),
        follows=followed(metrics),
        clearly=f"{CLEARLY:g}",
        loaded=in_python(known.get("classifier", "...")),
        file=in_python(Path(file).name),
        licence=in_markdown(licence),
        source=TRAINED[method],
    )


def sections(known: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The card's tables by their headings: names and values as the file has them, None or empty if it does not.

    ``known``: what `about` says of the file.
    """
    _, features = method_and_features(known["auxiliary"], known.get("method", "P-TAME"))
    explains = {
        "classifier": known.get("classifier", "an unnamed classifier"),
        "classes": known["num_classes"],
        "names of the classes": _shorten(known.get("labels")),
        "image size": " x ".join(map(str, known.get("input_size", ()))),
        "features it looks at": features,
        "layers": ", ".join(known["layers"] or ()),
    }
    told = ("images", "calibrated", "profile", "seed")
    trained = {key: known.get(key) for key in told} | _settings(known.get("training", {}))
    return {"What it explains": explains, "How it was trained": trained, "Metrics": known.get("metrics", {})}


def write_model_card(file: str | Path) -> Path:
    """Write the card next to the explainer, as ``<file>.md``, and return its path."""
    card = Path(f"{file}.md")
    text = model_card(file)
    with files.whole(card) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    return card


def _settings(training: dict[str, Any]) -> dict[str, Any]:
    """The training's settings as rows; the seed has a row of its own, and the loss's weights share one.

    Settings that the training's kind of mask leaves idle have none.
    """
    mask = training.get("mask")
    idle = {"seed"} | ({"loss", "shares", "rest"} if mask in WITHOUT_WEIGHTS else set())
    idle |= {"temperature", "regions"} if mask != "swap" else set()
    rows = {key: value for key, value in training.items() if key not in idle}
    if isinstance(loss := rows.get("loss"), dict) and all(map(is_number, loss.values())):
        rows["loss"] = ", ".join(f"{name} {weight:g}" for name, weight in loss.items())
    return rows


def _shorten(labels: list[str] | None, most: int = 20) -> str | None:
    if labels is None:
        return None
    return ", ".join(printable(label, MOST) for label in labels[:most]) + (
        f" ... ({len(labels)} in all)" if len(labels) > most else ""
    )


def _table(rows: dict[str, Any], head: tuple[str, str] = ("", "")) -> str:
    """A Markdown table of the known rows; empty if none is known."""
    known = {key: value for key, value in rows.items() if value not in (None, "")}
    shown = [f"| {in_markdown(key, MOST)} | {in_markdown(value, MOST_OF_A_ROW)} |" for key, value in known.items()]
    return "\n".join([f"| {head[0]} | {head[1]} |", "|---|---|", *shown]) if shown else ""
