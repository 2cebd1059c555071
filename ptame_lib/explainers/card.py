"""A trained explainer's model card: its metadata as Markdown, with a YAML header for model hubs."""

from __future__ import annotations

import json
from pathlib import Path
from string import Template
from typing import Any

import yaml

from .. import files
from .loading import TRAINED, method_and_features, method_of
from .storage import saved_config

CARD = Template("""\
---
$header---

# $method for $classifier

One forward pass gives, for an image and a class, a map in [0,1] of what `$classifier` uses to see that class.

## What it explains

$explains

## How it was trained

$trained

No labels are used: it learned to keep the classifier's own decisions with as little of the image as possible.

## Metrics

$metrics

In percent, over held-out images. *faithful*: what the map keeps is decided as the whole image; \
*rest alike*: so is the rest
without it; AD100: mean relative drop of the probability on what is kept (lower is better); \
IC100: how often it rises (higher is better).

## Limits

- It explains this one classifier, with the weights it was trained for. For any other the maps mean nothing.
- A map shows where the evidence for a class lies, not why it is evidence, and not whether the decision is right.
- It learned from images like those it was trained on; on others it can be wrong without looking so. \
Ask the classifier about
  each map: `explain_with_evidence` gives the probability on what the map keeps and on the rest, and warns.
- What a map keeps is shown on black, which is no natural image: a classifier may answer oddly to it.

## Use

```python
from ptame_lib import explain_with_evidence, load_classifier
from ptame_lib.explainers.loading import load_explainer

classifier = load_classifier("$loaded")
explainer = load_explainer("$file", classifier)
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
UNKNOWN = "Not stored with the explainer."
AS_JSON = (
    "layers",
    "channels",
    "labels",
    "training",
    "input_size",
    "metrics",
)  # metadata that `PTAME.save` stores as JSON


def about(file: str | Path) -> dict[str, Any]:
    """`saved_config` of a file, with lists and numbers read back from JSON; raises as it does."""
    return {key: _from_json(value) if key in AS_JSON else value for key, value in saved_config(file).items()}


def in_one_line(file: str | Path) -> str:
    """What a saved explainer is and how it was trained, in one line. Raises as `saved_config`."""
    known = about(file)
    classifier = known.get("classifier", "an unnamed classifier")
    parts = [f"{Path(file).name}: {method_of(file)} for {classifier}, {known['num_classes']} classes"]

    # how it was trained; a seed alone says nothing
    settings = _mapping(known.get("training"))
    trained = [
        known.get("images") and f"on {known['images']}",
        settings and f"{settings['steps']} steps",
        known.get("seed") and f"seed {known['seed']}",
    ]
    if any(trained[:2]):
        parts.append("trained " + ", ".join(filter(None, trained)))

    # how good it is
    metrics = _mapping(known.get("metrics"))
    if {"faithful", "images"} <= metrics.keys():
        parts.append(f"on {metrics['images']} held-out images {metrics['faithful']:g} % of its maps keep the decision")
    return "; ".join(parts) + "."


def model_card(file: str | Path) -> str:
    """The card of the explainer at ``file``. Raises as `saved_config`."""
    known = about(file)
    method, features = method_and_features(known["auxiliary"])
    classifier = known.get("classifier", "an unnamed classifier")
    licence = known.get("licence", "apache-2.0")
    tags = ["explainability", "saliency-maps", method.lower()]
    header = {"license": licence, "library_name": "ptame-study", "tags": tags}
    explains = {
        "classifier": classifier,
        "classes": known["num_classes"],
        "names of the classes": _shorten(known.get("labels")),
        "image size": _size(known.get("input_size")),
        "features it looks at": features,
        "layers": ", ".join(known["layers"] or ()),
    }
    trained = {key: known.get(key) for key in ("images", "profile", "seed")} | _settings(known.get("training") or {})
    return CARD.substitute(
        header=yaml.safe_dump(header, sort_keys=False),
        method=method,
        classifier=classifier,
        explains=_table(explains),
        trained=_table(trained) or UNKNOWN,
        metrics=_table(known.get("metrics") or {}, ("metric", "value")) or UNKNOWN,
        loaded=known.get("classifier", "..."),
        file=Path(file).name,
        licence=licence,
        source=TRAINED[method],
    )


def write_model_card(file: str | Path) -> Path:
    """Write the card next to the explainer, as ``<file>.md``, and return its path."""
    card = Path(f"{file}.md")
    text = model_card(file)
    with files.whole(card) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    return card


def _from_json(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:  # written by hand
        return value


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _settings(training: Any) -> dict[str, Any]:
    """The training's settings as rows; the seed has a row of its own, and the loss's weights share one."""
    if not isinstance(training, dict):
        return {"training": training}
    rows = {key: value for key, value in training.items() if key != "seed"}
    if isinstance(loss := training.get("loss"), dict):
        rows["loss"] = ", ".join(f"{name} {weight:g}" for name, weight in loss.items())
    return rows


def _shorten(labels: Any, most: int = 20) -> str | None:
    if not isinstance(labels, list):
        return labels
    return ", ".join(map(str, labels[:most])) + (f" ... ({len(labels)} in all)" if len(labels) > most else "")


def _size(size: Any) -> str | None:
    return " x ".join(map(str, size)) if isinstance(size, list) else size


def _table(rows: Any, head: tuple[str, str] = ("", "")) -> str:
    """A Markdown table of the known rows; empty if none is known."""
    rows = rows if isinstance(rows, dict) else {"": rows}
    shown = [f"| {key} | {str(value).replace('|', '/')} |" for key, value in rows.items() if value not in (None, "")]
    return "\n".join([f"| {head[0]} | {head[1]} |", "|---|---|", *shown]) if shown else ""
