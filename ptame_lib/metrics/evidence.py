"""What an explanation is worth for one image: the classifier is asked about the pixels that are shown.

    maps, proof = explain_with_evidence(explainer, classifier, pixels)
    print(proof.text(0), proof.warning(0))

A metric is a mean over many images, and a good mean says little about the one image somebody looks at; these few
questions to the classifier do. They all are about *the pixels shown*: the share of the image with the map's largest
values, a quarter by default, as they are. What is not shown is filled, once in black and once by a blur, since neither
is a natural image. Pictures, sentences and numbers are about these same pixels.

A classifier decides for the class with the largest logit, with the softmax's probability. A multi-label one
(`Classifier.multi_label`) decides for each label by itself: it finds one where its sigmoid is at least a half.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..classifiers.wrapper import answers
from ..masking import first_pixels, normalise, resize
from ..texts import MOST, printable
from ..validation import check_answers, check_classes, check_images
from .curves import blurred

SHOWN = 0.25  # share of the pixels that is shown, unless another is asked for
SHARES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
FILLS: dict[str, Callable[[Tensor], Tensor]] = {"black": torch.zeros_like, "blurred": blurred}  # of what is not shown


@dataclass(frozen=True)
class Evidence:
    """What the classifier answers about B explained images; every tensor is on the images' device.

    ``targets`` (B,): the explained classes; ``decisions`` (B,): the class with the largest logit on the whole images;
    ``whole`` (B,): the target's probability (float64) there; ``decided`` (B,): whether the target is decided for.
    ``pixels_shown`` (B,H,W) bool: the pixels that everything below is about.

    The others are (B,2), for the two `FILLS` of the pixels that are not seen. ``kept``, ``kept_decisions``,
    ``faithful``: the target's probability, the decision, and whether it is for the target, on the pixels shown;
    ``rest``, ``rest_decisions``, ``rest_too``: on the image without them; ``empty``, ``empty_too``: the probability and
    whether it is for the target on an image that is filled all over. ``share``: the smallest share of pixels that is
    enough for the target, NaN if none of those tried is.

    ``labels``: names of the classes, for the sentences; ``multi_label``: as of the classifier. ``evidence[i]`` is that
    of one image.
    """

    targets: Tensor
    decisions: Tensor
    whole: Tensor
    decided: Tensor
    pixels_shown: Tensor
    kept: Tensor
    kept_decisions: Tensor
    faithful: Tensor
    rest: Tensor
    rest_decisions: Tensor
    rest_too: Tensor
    empty: Tensor
    empty_too: Tensor
    share: Tensor
    labels: tuple[str, ...] | None = None
    multi_label: bool = False

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> Evidence:
        at = range(len(self))[i]  # IndexError beyond the last one, so that a loop over the images ends
        return replace(self, **{name: value[at : at + 1] for name, value in self._tensors().items()})

    def _tensors(self) -> dict[str, Tensor]:
        return {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}

    @property
    def shown(self) -> Tensor:
        """The share (B,) of the pixels that are shown, float64; less than asked for where values are tied."""
        return self.pixels_shown.double().mean((1, 2))

    def name(self, c: int | Tensor) -> str:
        """The name of class ``c`` to show: its label as by `printable`, or ``class 3``."""
        return f"class {int(c)}" if self.labels is None else printable(self.labels[int(c)], MOST)

    def text(self, i: int = 0) -> str:
        """What the pixels shown of image ``i`` are worth, to quote: the whole image, then a sentence for each fill.

        A class that is not decided for is said to be so first.
        """
        if not self.pixels_shown[i].any():
            return f"{self._whole(i)} The map puts no pixels first, so none are shown."
        shown = f"Shown are the {percent(self.shown[i])} of the pixels that the map puts first."
        return " ".join([self._whole(i), shown, *(self._filled(i, k) for k in range(len(FILLS)))])

    def _whole(self, i: int) -> str:
        """The class and what it has on the whole image."""
        name, whole = self.name(self.targets[i]), percent(self.whole[i])
        if self.decided[i]:
            return f"{name}: {whole} on the whole image."
        if self.multi_label:
            return f"{name}: not found on the whole image, where it has {whole}."
        decision = f"On the whole image the classifier decides for {self.name(self.decisions[i])}"
        return f"{name}: not the decision. {decision}; {name} has {whole}."

    def _filled(self, i: int, k: int) -> str:
        """Whether the pixels shown are enough with fill ``k`` in place of all others, and what is left without them."""
        fill, name = list(FILLS)[k], self.name(self.targets[i])
        kept, rest, empty = (percent(values[i, k]) for values in (self.kept, self.rest, self.empty))
        if self.empty_too[i, k]:
            both = f"With all others {fill}, {name} has {kept}, and with these {fill} instead {rest}"
            found = f"{name} is found in" if self.multi_label else f"the classifier decides for {name} on"
            return f"{both}, which says little, since {found} a wholly {fill} image, too ({empty})."
        part, without = self._smallest_part(i, k), f"with them {fill} instead, {name} has {rest}"
        if self.faithful[i, k]:
            enough = f"they are enough to {'find' if self.multi_label else 'decide for'} {name} ({kept}; {part})"
            return f"With all others {fill}, {enough}, and {without}."
        no = f"they are not enough: the classifier {self._instead(i, k)}, and {name} has {kept} ({part})"
        return f"With all others {fill}, {no}; {without}."

    def _smallest_part(self, i: int, k: int) -> str:
        """Which first part is enough, beside the pixels shown."""
        share, shown = float(self.share[i, k]), float(self.shown[i])
        if math.isnan(share):
            return "no first part that was tried is"
        if share == shown:
            return "no smaller part that was tried is"
        if self.faithful[i, k]:
            return f"the first {percent(share)} alone are, too"
        fewer = ": more pixels are not always better here" if share < shown else ""
        return f"the first {percent(share)} are{fewer}"

    def _instead(self, i: int, k: int) -> str:
        """What the classifier does on the pixels shown with fill ``k``, where it does not decide for the target."""
        if self.multi_label:
            return f"does not find {self.name(self.targets[i])}"
        return f"decides for {self.name(self.kept_decisions[i, k])}"

    def doubts(self, i: int = 0) -> list[str]:
        """The reasons to doubt what is shown of image ``i``, in a few words for figures, as `warning` has them."""
        gravest = {
            "nothing shown": not self.pixels_shown[i].any(),
            "not enough": not self.faithful[i].all(),
            "black image too": bool(self.empty_too[i, 0]),
            "rest alike": bool(self._alike(i)),
        }
        other = [] if self.decided[i] else ["not the decision"]
        return other + [doubt for doubt, there in gravest.items() if there][:1]

    def doubt(self, i: int = 0) -> str:
        """The first of the `doubts`; empty if there is none."""
        return next(iter(self.doubts(i)), "")

    def _alike(self, i: int) -> list[str]:
        """The fills with which the rest is decided as the whole, where a filled image is not."""
        found = (self.rest_too[i] & ~self.empty_too[i]).tolist()
        return [fill for fill, alike in zip(FILLS, found, strict=True) if alike]

    def warning(self, i: int = 0) -> str:
        """The `doubts` in sentences: first that the class is not the decision, then the gravest of the others."""
        target = self.name(self.targets[i])
        on_whole = "does not find it" if self.multi_label else f"decides for {self.name(self.decisions[i])}"
        sentences = {
            "nothing shown": "Do not rely on this map: its largest values are all alike, so it puts no pixels first.",
            "not enough": self._not_enough(i),
            "black image too": f"This says little: the classifier decides for {target} on a black image as well.",
            "not the decision": f"The map explains {target}, but on the whole image the classifier {on_whole}.",
            "rest alike": "The pixels shown are not all the evidence: without them, "
            f"{' or '.join(self._alike(i))} in their place, the image is decided for {target} as well.",
        }
        return " ".join(sentences[doubt] for doubt in self.doubts(i))

    def _not_enough(self, i: int) -> str:
        """What is decided on the pixels shown instead, and the fill, if any, with which they are enough."""
        instead: dict[str, list[str]] = {}
        for k, fill in enumerate(FILLS):
            if not self.faithful[i, k]:
                instead.setdefault(self._instead(i, k), []).append(fill)
        told = [f"with all others {' or '.join(on)} the classifier {found}" for found, on in instead.items()]
        other = "" if self.multi_label else f", not for {self.name(self.targets[i])}"
        enough = [fill for k, fill in enumerate(FILLS) if self.faithful[i, k] and not self.empty_too[i, k]]
        though = f" They are enough only with all others {enough[0]}." if enough else ""
        shown = f"Do not rely on the {percent(self.shown[i])} of the pixels shown"
        return f"{shown}: {' and '.join(told)}{other}.{though}"

    def as_dict(self, i: int = 0) -> dict[str, Any]:
        """The evidence of image ``i`` as plain values for JSON, with the sentences; shares and probabilities in [0,1].

        ``is the decision`` and ``decided`` are whether the classifier decides for the explained class, on the whole
        image and where it stands; ``enough`` is None where no share is.
        """
        parts = {"kept": (self.kept, self.kept_decisions, self.faithful)}
        parts["removed"] = (self.rest, self.rest_decisions, self.rest_too)
        return {
            "class": self._class(self.targets[i]),
            "is the decision": bool(self.decided[i]),
            "text": self.text(i),
            "warning": self.warning(i),
            "whole": self._answer(self.whole[i], self.decisions[i], self.decided[i]),
            "shown": float(self.shown[i]),
            **{
                part: {fill: self._answer(*(column[i, k] for column in columns)) for k, fill in enumerate(FILLS)}
                for part, columns in parts.items()
            },
            "filled all over": {
                fill: {"probability": float(self.empty[i, k]), "decided": bool(self.empty_too[i, k])}
                for k, fill in enumerate(FILLS)
            },
            "enough": {
                fill: None if math.isnan(share) else share
                for fill, share in zip(FILLS, self.share[i].tolist(), strict=True)
            },
        }

    def _class(self, c: Tensor) -> dict[str, Any]:
        return {"number": int(c), "name": self.name(c)}

    def _answer(self, probability: Tensor, decision: Tensor, decided: Tensor) -> dict[str, Any]:
        return {"probability": float(probability), "decision": self._class(decision), "decided": bool(decided)}


def percent(value: float | Tensor) -> str:
    """A probability or a share in percent; with a decimal below 1, and never 0 for some or 100 for less than all.

    >>> percent(0.25), percent(0.004), percent(0.9996), percent(1)
    ('25%', '0.4%', 'over 99%', '100%')
    """
    value = float(value)
    if 0.995 <= value < 1 or 0 < value < 0.0005:
        return "over 99%" if value > 0.5 else "under 0.1%"
    return f"{value:.1%}" if 0 < value < 0.0095 else f"{value:.0%}"


@torch.no_grad()
def evidence(
    classifier: nn.Module,
    pixels: Tensor,
    targets: Tensor,
    maps: Tensor,
    share: float = SHOWN,
    shares: Sequence[float] = SHARES,
    *,
    whole: Tensor | None = None,
) -> Evidence:
    """The `Evidence` of maps (B,h,w) for the ``targets`` (B,) int64 of ``pixels`` (B,3,H,W) in [0,1].

    Shown is the ``share``, in (0, 1], of the pixels with the largest values, as `first_pixels` takes them from the map
    at the image's size. `Evidence.share` is the first of ``shares`` that is enough, tried from the smallest up, or the
    share shown if that is smaller; answers need not be monotone, so a larger one may not be enough.

    The classifier is asked at most 6 + 2 len(shares) times about each image (one less where ``whole``, its answer (B,K)
    to the pixels, is given) and once about a black one. Raises ValueError for shapes that do not belong together, a map
    that is not finite, a class out of range or shares outside (0, 1).
    """
    b = _check(pixels, targets, maps, shares)
    targets = targets.to(pixels.device)
    multi_label = getattr(classifier, "multi_label", False)
    # without any map: the whole image, and images filled all over, of which a black one is the same for all
    whole = answers(classifier, pixels) if whole is None else whole
    decisions = check_answers(whole)
    check_classes(targets, whole.shape[1])
    fills = [fill(pixels) for fill in FILLS.values()]
    empty = [answers(classifier, fills[0][:1]).expand(b, -1), answers(classifier, fills[1])]
    nothing = torch.full((b, len(FILLS)), torch.nan, dtype=torch.float64, device=pixels.device)
    known = {"whole": _probability(whole, targets, multi_label), "decided": _decided(whole, targets, multi_label)}
    known |= {"empty": torch.stack([_probability(answer, targets, multi_label) for answer in empty], 1)}
    known |= {"empty_too": torch.stack([_decided(answer, targets, multi_label) for answer in empty], 1)}
    known |= {"labels": _labels(classifier, whole.shape[1]), "multi_label": multi_label}
    # the pixels shown
    maps = resize(normalise(maps.to(pixels.device)), pixels.shape[-2:])
    shown = _ask(classifier, pixels, fills, targets, first_pixels(maps, share), nothing)
    found = Evidence(targets=targets, decisions=decisions, **known, **shown)
    return replace(found, share=_smallest(classifier, pixels, fills, targets, maps, sorted(shares), found))


@torch.no_grad()
def at_share(proof: Evidence, classifier: nn.Module, pixels: Tensor, maps: Tensor, share: float) -> Evidence:
    """The `Evidence` of the same images and maps, with another ``share`` of the pixels shown.

    The classifier is asked 4 times about each image. Raises as `evidence`.
    """
    _check(pixels, proof.targets, maps, ())
    first = first_pixels(resize(normalise(maps.to(pixels.device)), pixels.shape[-2:]), share)
    fills = [fill(pixels) for fill in FILLS.values()]
    return replace(proof, **_ask(classifier, pixels, fills, proof.targets, first, proof.share))


def _ask(
    classifier: nn.Module,
    pixels: Tensor,
    fills: Sequence[Tensor],
    targets: Tensor,
    shown: Tensor,
    smallest: Tensor,
) -> dict[str, Tensor]:
    """The fields that depend on the pixels shown (B,H,W); ``smallest`` (B,2): shares known to be enough.

    ``fills``: what each of `FILLS` makes of the pixels (B,3,H,W).
    """
    multi_label, columns = getattr(classifier, "multi_label", False), {}
    for part, seen in (("kept", shown), ("rest", ~shown)):
        told = [answers(classifier, torch.where(seen[:, None], pixels, fill)) for fill in fills]
        columns[f"{part}_decisions"] = torch.stack([check_answers(answer) for answer in told], 1)
        columns[part] = torch.stack([_probability(answer, targets, multi_label) for answer in told], 1)
        decided = torch.stack([_decided(answer, targets, multi_label) for answer in told], 1)
        columns["faithful" if part == "kept" else "rest_too"] = decided
    # of the shares that are enough, this one may be the smallest; without any pixel it is none
    part = shown.double().mean((1, 2))[:, None]
    columns["faithful"] &= part > 0
    better = columns["faithful"] & ~(smallest <= part)
    return {"pixels_shown": shown, "share": torch.where(better, part, smallest), **columns}


def _smallest(
    classifier: nn.Module,
    pixels: Tensor,
    fills: Sequence[Tensor],
    targets: Tensor,
    maps: Tensor,
    shares: Sequence[float],
    found: Evidence,
) -> Tensor:
    """The smallest share (B,2) that is enough: the first of the ascending ``shares``, or the one shown."""
    smallest, multi_label = found.share.clone(), getattr(classifier, "multi_label", False)
    for k, fill in enumerate(fills):
        wanted = torch.ones_like(smallest[:, k], dtype=torch.bool)
        for share in shares:
            open_ = (wanted & ~(smallest[:, k] <= share)).nonzero()[:, 0]
            if not len(open_):
                break
            first = first_pixels(maps[open_], share)
            images = torch.where(first[:, None], pixels[open_], fill[open_])
            enough = _decided(answers(classifier, images), targets[open_], multi_label)
            part = first.double().mean((1, 2))
            enough &= part > 0
            smallest[open_[enough], k] = part[enough]
            wanted[open_[enough]] = False
    return smallest


def fill_in(pixels: Tensor, shown: Tensor, fill: str) -> Tensor:
    """The pixels (B,3,H,W) where ``shown`` (B,H,W) bool, elsewhere those of the ``fill``, of `FILLS`."""
    return torch.where(shown[:, None], pixels, FILLS[fill](pixels))


def joined(proofs: Sequence[Evidence]) -> Evidence:
    """The evidence of several sets of images of one classifier as that of all, in this order."""
    columns = [proof._tensors() for proof in proofs]
    return replace(proofs[0], **{name: torch.cat([column[name] for column in columns]) for name in columns[0]})


def _check(pixels: Tensor, targets: Tensor, maps: Tensor, shares: Sequence[float]) -> int:
    """The number of images; raises ValueError as `evidence`."""
    b = pixels.shape[0]
    if targets.shape != (b,) or maps.ndim != 3 or len(maps) != b:
        got = f"got targets of shape {tuple(targets.shape)}, maps of {tuple(maps.shape)}"
        raise ValueError(f"{b} images need {b} targets (B,) and {b} maps (B,h,w): {got}")
    if not torch.isfinite(maps).all():
        raise ValueError("a map has values that are not finite: check the method that made it")
    if not all(0 < share < 1 for share in shares):
        raise ValueError(f"shares must be between 0 and 1, without both: got {tuple(shares)}")
    check_images(pixels)
    return b


def _labels(classifier: nn.Module, classes: int) -> tuple[str, ...] | None:
    labels = getattr(classifier, "labels", None)
    if labels is not None and len(labels) != classes:
        raise ValueError(f"{len(labels)} labels for {classes} classes: give the classifier one label per class")
    return None if labels is None else tuple(labels)


def _decided(logits: Tensor, targets: Tensor, multi_label: bool) -> Tensor:
    """Whether logits (B,K) decide for the target (B,): as the largest one, or multi-label by its sign."""
    return logits.gather(1, targets[:, None])[:, 0] >= 0 if multi_label else logits.argmax(1) == targets


def _probability(logits: Tensor, targets: Tensor, multi_label: bool) -> Tensor:
    """The target's probability (B,) float64."""
    p = logits.double().sigmoid() if multi_label else logits.double().softmax(1)
    return p.gather(1, targets[:, None])[:, 0]


def explain_with_evidence(
    method: Callable[[Tensor, Tensor], Tensor] | nn.Module,
    classifier: nn.Module,
    pixels: Tensor,
    targets: Tensor | None = None,
    share: float = SHOWN,
) -> tuple[Tensor, Evidence]:
    """Maps (B,h,w) in [0,1] of any method, and the `Evidence` for each, with the first ``share`` of pixels shown.

    ``method``: a `PTAME`, a `Method`, or any function (pixels, targets) -> maps; ``targets`` (B,): by default the
    classifier's decisions. This is a function, not an option of ``PTAME.explain``: an explainer does not know the
    classifier, and maps of other methods deserve the same doubt. Raises as `evidence`, and ValueError for a control
    that sees the truth.
    """
    if getattr(method, "sees_truth", False):
        call = "evidence(classifier, pixels, targets, maps)"
        raise ValueError(f"{method.name!r} is given the truth and no targets: pass its maps to {call}")
    check_images(pixels)
    with torch.no_grad():
        whole = answers(classifier, pixels)  # once, for the decision and for the evidence
    targets = check_answers(whole) if targets is None else targets
    maps = getattr(method, "explain", method)(pixels, targets)
    return maps, evidence(classifier, pixels, targets, maps, share, whole=whole)
