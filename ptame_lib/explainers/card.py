"""A trained explainer's model card: what its file says about itself, as Markdown for people with a YAML header for hubs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from .. import files
from .loading import TRAINED, _method, method_of
from .ptame import saved_config

AS_JSON = ("layers", "channels", "labels", "training", "input_size", "metrics")


UNKNOWN = "Not stored with the explainer."


CITATION = """@article{ptame2025,
  author  = {Ntrougkas, M. and Mezaris, V. and Patras, I.},
  title   = {{P-TAME}: Explain Any Image Classifier With Trained Perturbations},
  journal = {IEEE Open Journal of Signal Processing},
  volume  = {6},
  pages   = {536--545},
  year    = {2025},
  doi     = {10.1109/OJSP.2025.3568756},
}"""


METRICS = """In percent, over held-out images. *faithful*: what the map keeps is decided as the whole image; *rest alike*: so is the rest
without it; AD100: mean relative drop of the probability on what is kept (lower is better); IC100: how often it rises (higher is better)."""


LIMITS = """- It explains this one classifier, with the weights it was trained for. For any other the maps mean nothing.
- A map shows where the evidence for a class lies, not why it is evidence, and not whether the decision is right.
- It learned from images like those it was trained on; on others it can be wrong without looking so. Ask the classifier about
  each map: `explain_with_evidence` gives the probability on what the map keeps and on the rest, and warns.
- What a map keeps is shown on black, which is no natural image: a classifier may answer oddly to it."""


def about(file: str | Path) -> dict[str, Any]:
    """What a saved explainer says about itself, with lists and numbers read back from JSON where `PTAME.save` wrote them so.

    Raises as `saved_config`.
    """
    return {key: _read(value) if key in AS_JSON else value for key, value in saved_config(file).items()}


def in_one_line(file: str | Path) -> str:
    """What it is and how it was trained, in one line for people; raises as `saved_config`."""
    known = about(file)
    parts = [f"{Path(file).name}: {method_of(file)} for {known.get('classifier', 'an unnamed classifier')}"]
    parts[0] += f", {known['num_classes']} classes"
    settings = known.get("training") if isinstance(known.get("training"), dict) else {}
    trained = [
        known.get("images") and f"on {known['images']}",
        settings and f"{settings['steps']} steps",
        known.get("seed") and f"seed {known['seed']}",
    ]
    if any(trained[:2]):
        parts.append("trained " + ", ".join(filter(None, trained)))
    metrics = known.get("metrics") if isinstance(known.get("metrics"), dict) else {}
    if {"faithful", "images"} <= metrics.keys():
        parts.append(f"on {metrics['images']} held-out images {metrics['faithful']:g} % of its maps keep the decision")
    return "; ".join(parts) + "."


def model_card(file: str | Path) -> str:
    """The card of the explainer at ``file``; raises FileNotFoundError, and ValueError for a file that is no explainer."""
    known = about(file)
    method, features = _method(known["auxiliary"])
    classifier = known.get("classifier", "an unnamed classifier")
    licence = known.get("licence", "apache-2.0")
    header = {
        "license": licence,
        "library_name": "ptame-study",
        "tags": ["explainability", "saliency-maps", method.lower()],
    }
    return "\n".join(
        [
            "---",
            yaml.safe_dump(header, sort_keys=False).strip(),
            "---",
            "",
            f"# {method} for {classifier}",
            "",
            f"One forward pass gives, for an image and a class, a map in [0,1] of what `{classifier}` uses to see that class.",
            "",
            "## What it explains",
            "",
            _table(
                {
                    "classifier": classifier,
                    "classes": known["num_classes"],
                    "names of the classes": _shortened(known.get("labels")),
                    "image size": _size(known.get("input_size")),
                    "features it looks at": features,
                    "layers": ", ".join(known["layers"] or ()),
                }
            ),
            "",
            "## How it was trained",
            "",
            _table({key: known.get(key) for key in ("images", "profile", "seed")} | _flat(known.get("training") or {}))
            or UNKNOWN,
            "",
            "No labels are used: it learned to keep the classifier's own decisions with as little of the image as possible.",
            "",
            "## Metrics",
            "",
            _table(known.get("metrics") or {}, ("metric", "value")) or UNKNOWN,
            "",
            METRICS,
            "",
            "## Limits",
            "",
            LIMITS,
            "",
            "## Use",
            "",
            "```python",
            "from ptame_lib import explain_with_evidence, load_classifier",
            "from ptame_lib.explainers.loading import load_explainer",
            "",
            f'classifier = load_classifier("{known.get("classifier", "...")}")',
            f'explainer = load_explainer("{Path(file).name}", classifier)',
            "maps, evidence = explain_with_evidence(explainer, classifier, pixels)   # pixels (B,3,H,W) in [0,1]",
            "print(evidence.text(0), evidence.warning(0))",
            "```",
            "",
            "## Licence and citation",
            "",
            f"{licence} for the parameters in this file. The weights of the classifier and of the auxiliary are not in it; they and the training "
            "images have licences of their own.",
            "",
            f"Method: {TRAINED[method]}. P-TAME:",
            "",
            "```bibtex",
            CITATION,
            "```",
            "",
        ]
    )


def write_model_card(file: str | Path) -> Path:
    """Write the card beside the explainer, as ``<file>.md``."""
    card = Path(f"{file}.md")
    text = model_card(file)
    with files.whole(card) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    return card


def _read(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:  # written by hand
        return value


def _flat(values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        return {"training": values}
    loss = values.get("loss")
    return {k: v for k, v in values.items() if k != "seed"} | (
        {"loss": ", ".join(f"{k} {v:g}" for k, v in loss.items())} if isinstance(loss, dict) else {}
    )


def _shortened(labels: Any, most: int = 20) -> str | None:
    if not isinstance(labels, list):
        return labels
    return ", ".join(map(str, labels[:most])) + (f" ... ({len(labels)} in all)" if len(labels) > most else "")


def _size(size: Any) -> str | None:
    return " x ".join(map(str, size)) if isinstance(size, list) else size


def _table(rows: Any, head: tuple[str, str] = ("", "")) -> str:
    """A Markdown table of what is known; empty where nothing is."""
    rows = rows if isinstance(rows, dict) else {"": rows}
    shown = [f"| {key} | {str(value).replace('|', '/')} |" for key, value in rows.items() if value not in (None, "")]
    return "\n".join([f"| {head[0]} | {head[1]} |", "|---|---|", *shown]) if shown else ""
