"""What `ptame report` asks and writes: one decision, explained in one page and in JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ptame_lib import files
from ptame_lib.classifiers.contrast import contrast
from ptame_lib.explainers.card import about, sections
from ptame_lib.explainers.loading import method_of
from ptame_lib.explainers.metadata import followed
from ptame_lib.explainers.names import TRAINED
from ptame_lib.methods.base import Method
from ptame_lib.methods.catalogue import CATALOGUE, build_methods
from ptame_lib.metrics.evidence import Evidence, explain_with_evidence, percent
from ptame_lib.texts import MOST, printable

from . import html_report, origin
from .actions import Loaded, Picture, find_class, load_both, read_picture, write_json
from .naming import new_pair

MOST_CLASSES = 5  # likeliest classes with a map
BY_GRADIENT, BY_ANSWERS = "HiResCAM", "RISE"  # what explains the difference of two logits


class Part(NamedTuple):
    """One explanation of a report: its ``title``, map (h,w), `Evidence`, and what else there is to say of it."""

    title: str
    map: Tensor
    proof: Evidence
    about: dict[str, Any]

    def told(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {**self.about, "evidence": self.proof.as_dict()}

    def shown(self, pixels: Tensor) -> dict[str, Any]:
        """As the page's template has it."""
        seen = {"pictures": html_report.pictures(pixels, self.map, self.proof)}
        return {"title": self.title, "where": html_report.where(self.proof.pixels_shown[0]), **self.told(), **seen}


def report(
    image: Path,
    explainer: Path,
    out: Path,
    *,
    classifier: str | None = None,
    weights: str | None = None,
    auxiliary_weights: str | None = None,
    wanted: Sequence[str] = (),
    methods: Sequence[str] = (),
    against: Sequence[str] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Path]:
    """Write the page ``out`` and the JSON beside it about the classifier's decision on one image; give both files.

    Explained are the decision, the next four classes and those ``wanted`` (numbers or names), the decision by the
    ``methods`` of the catalogue, and why it is not one of the classes ``against`` (default: those wanted, else the
    second likeliest). Other arguments as of `actions.explain`. Raises ValueError as that does, for an unknown method or
    class, and for files that exist already: a report may have been handed on.
    """
    # all that can be refused before anything is loaded
    beside = _check_out(image, out)
    known = about(explainer)
    check_methods(methods)
    loaded = load_both(explainer, known, classifier, weights, auxiliary_weights, say)
    picture = read_picture(image, loaded.model.input_size)
    for caution in picture.cautions:
        say(f"Caution: {caution}")

    # explain
    likeliest = _likeliest(loaded.model, picture.pixels)
    decision, names, count = likeliest[0][0], loaded.model.labels, len(likeliest)
    asked = [find_class(each, count, names) for each in wanted]
    foils = [find_class(each, count, names) for each in against] or [c for c in asked if c != decision]
    foils = foils or [c for c, _ in likeliest[1:2]]
    classes = dict.fromkeys([*(c for c, _ in likeliest[:MOST_CLASSES]), *asked])
    first, *others = [_of_class(loaded, picture.pixels, c) for c in classes]
    trained = method_of(explainer)
    beside_it = list(_by_methods(loaded, picture.pixels, decision, trained, methods, say)) if methods else []
    contrasts = [_contrasted(loaded, picture.pixels, first.proof, c) for c in dict.fromkeys(foils)]

    # write JSON and page
    told = {
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "image": {"file": printable(image.name)},
        "seen": picture.seen,
        "multi label": first.proof.multi_label,
        "classes": [{"number": c, "name": first.proof.name(c), "probability": p} for c, p in likeliest[:MOST_CLASSES]],
        "decision": first.told(),
        "others": [part.told() for part in others],
        "methods": [part.told() for part in beside_it],
        "contrasts": [part.told() for part in contrasts],
        "cautions": [*picture.cautions, *loaded.cautions],
        "card": _finite(sections(known)),
        "follows its classifier": followed(known.get("metrics", {})),
        "provenance": {"image": origin.of_image(image, image.name), **loaded.origin},
    }
    parts = {"decision": [first], "others": others, "methods": beside_it, "contrasts": contrasts}
    with files.whole(out) as unfinished:
        unfinished.write_text(_page(told, parts, picture), encoding="utf-8")
    yield out
    write_json(beside, told)
    yield beside


def _check_out(image: Path, out: Path) -> Path:
    """The JSON beside ``out``; raises FileNotFoundError or ValueError for what can't be read or must not be written."""
    if image.is_dir():
        raise ValueError(f"{image} is a folder: a report is about one image file")
    if not image.is_file():
        raise FileNotFoundError(f"no image at {image}: check the path")
    return new_pair(out, (".html", ".htm"), ".json", "the report's")


def check_methods(names: Sequence[str]) -> None:
    """Raise ValueError for a method that the catalogue lacks."""
    from ptame_lib.classifiers.loading import nearest

    for name in names:
        if name not in CATALOGUE and name not in TRAINED:
            near = nearest(name, tuple(CATALOGUE))
            hint = f"did you mean {near}? Else " if near else ""
            raise ValueError(f"unknown method {name!r}: {hint}choose from {', '.join(CATALOGUE)}")


@torch.no_grad()
def _likeliest(model: torch.nn.Module, pixels: Tensor) -> list[tuple[int, float]]:
    """All classes of an image (3,H,W) with their probabilities, the likeliest first."""
    logits = model(pixels[None])[0].double()
    probabilities = logits.sigmoid() if getattr(model, "multi_label", False) else logits.softmax(0)
    order = logits.argsort(descending=True, stable=True)
    return list(zip(order.tolist(), probabilities[order].tolist(), strict=True))


def _of_class(loaded: Loaded, pixels: Tensor, c: int) -> Part:
    """The trained explainer's map of a class of an image (3,H,W)."""
    maps, proof = explain_with_evidence(loaded.explainer, loaded.model, pixels[None], torch.tensor([c]))
    return Part(proof.name(c), maps[0], proof, {})


def _by_methods(
    loaded: Loaded, pixels: Tensor, c: int, trained: str, names: Sequence[str], say: Callable[[str], None]
) -> Iterator[Part]:
    """The maps of the ``trained`` explainer and of the named methods for one class."""
    others = [name for name in dict.fromkeys(names) if name != trained]
    for method in build_methods(loaded.model, {trained: loaded.explainer}, others):
        passes = method.forwards + method.backwards
        if passes > 100:
            say(f"{method.name} asks the classifier {passes} times.")
        maps, proof = explain_with_evidence(method, loaded.model, pixels[None], torch.tensor([c]))
        yield Part(method.name, maps[0].detach(), proof, _about(method))


def _contrasted(loaded: Loaded, pixels: Tensor, decision: Evidence, other: int) -> Part:
    """Why the decision and not the ``other`` class: the map of the difference of their logits."""
    one = int(decision.targets[0])
    between = contrast(loaded.model, one, other)
    name = BY_GRADIENT if between.differentiable else BY_ANSWERS
    first = torch.tensor([0])
    try:
        [method] = build_methods(between, names=[name])
        maps, proof = explain_with_evidence(method, between, pixels[None], first)
    except ValueError:  # a network without a feature map
        [method] = build_methods(between, names=[BY_ANSWERS])
        maps, proof = explain_with_evidence(method, between, pixels[None], first)
    pair = {"one": decision.name(one), "other": decision.name(other), "numbers": [one, other]}
    return Part(proof.name(0), maps[0].detach(), proof, pair | _about(method))


def _about(method: Method) -> dict[str, Any]:
    return {
        "method": method.name,
        "source": method.source,
        "forward passes": method.forwards,
        "backward passes": method.backwards,
    }


def _page(told: dict[str, Any], parts: dict[str, list[Part]], picture: Picture) -> str:
    """The HTML; each part's pictures are made from its map."""
    shown = {name: [part.shown(picture.pixels) for part in those] for name, those in parts.items()}
    return html_report.page(
        {
            **shown,
            "told": told,
            "decision": shown["decision"][0],
            "answer": _answer(parts["decision"][0].proof),
            "image": html_report.image_uri(html_report.framed(picture.whole, picture.pixels.shape[-2:])),
            "small": max(picture.pixels.shape[-2:]) < html_report.SMALL,
        }
    )


def _answer(proof: Evidence) -> str:
    """The decision in a sentence."""
    name, whole = proof.name(proof.targets[0]), percent(proof.whole[0])
    if not proof.multi_label:
        return f"The classifier decides for {name}, with a probability of {whole}."
    if proof.decided[0]:
        return f"The classifier finds {name}, with a probability of {whole}, the largest of all classes."
    return f"The classifier finds none of its classes. The likeliest is {name}, with {whole}."


def _finite(value: Any) -> Any:
    """Plain values for JSON, which has no NaN: None instead; texts are shortened."""
    if isinstance(value, dict):
        return {printable(key, MOST): _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    if isinstance(value, str):
        return printable(value, html_report.MOST)
    return None if isinstance(value, float) and not math.isfinite(value) else value
