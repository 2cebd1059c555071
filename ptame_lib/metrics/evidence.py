"""What an explanation is worth for this very image: the classifier is asked about what the map keeps, and about the rest.

    maps, proof = explain_with_evidence(explainer, classifier, pixels)
    print(proof.text(0), proof.warning(0))

A metric is a mean over many images, and a good mean says little about the one image somebody looks at. These few
questions to the classifier do; masking is in pixel space, as in every metric of the study.

A classifier decides for the class with the largest logit, with the softmax's probability. A multi-label one
(`Classifier.multi_label`) decides each label for itself: it finds one where its own sigmoid is at least a half,
whatever else is in the image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from ..classifiers.wrapper import decide
from ..masking import keep, keep_share, normalise, remove, resize
from ..validation import check_answers, check_classes, check_images

SHARES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Evidence:
    """What the classifier answers about B explained images; every field is (B,), on the device of the images.

    ``targets``: the explained classes; ``decisions``: the class with the largest logit on the whole images, and
    ``kept_decisions`` on what the maps keep. ``whole``, ``kept``, ``rest``: the target's probability (float64) on the
    whole image, on what the map keeps (pixels * map) and on its complement (pixels * (1 - map)). ``share``: the
    smallest share of pixels that is enough for the decision, NaN where none on the grid is. ``faithful``: what the map
    keeps is decided for the target; ``rest_too``, ``black_too``, ``decided``: so is the complement, so is a black
    image, so is the whole image.

    ``labels``: names of the classes, for the sentences; ``multi_label``: as of the classifier. ``evidence[i]`` is the
    evidence of one image.
    """

    targets: Tensor
    decisions: Tensor
    kept_decisions: Tensor
    whole: Tensor
    kept: Tensor
    rest: Tensor
    share: Tensor
    faithful: Tensor
    rest_too: Tensor
    black_too: Tensor
    decided: Tensor
    labels: tuple[str, ...] | None = None
    multi_label: bool = False

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> Evidence:
        at = range(len(self))[i]  # IndexError beyond the last one, so that a loop over the images ends
        return replace(
            self,
            **{
                f.name: getattr(self, f.name)[at : at + 1]
                for f in fields(self)
                if f.name not in ("labels", "multi_label")
            },
        )

    def name(self, c: int | Tensor) -> str:
        """The class ``c`` for people: its label, or ``class 3``."""
        return f"class {int(c)}" if self.labels is None else self.labels[int(c)]

    def text(self, i: int = 0) -> str:
        """One sentence about image ``i``: what the map is worth there."""
        share = float(self.share[i])
        enough = (
            "no part of it alone is enough" if share != share else f"the first {share:.0%} of its pixels are enough"
        )
        return (
            f"{self.name(self.targets[i])}: {float(self.whole[i]):.0%} on the whole image, {float(self.kept[i]):.0%} on what the map keeps, "
            f"{float(self.rest[i]):.0%} on the rest; {enough} for this decision."
        )

    def doubt(self, i: int = 0) -> str:
        """The gravest reason for doubting the map of image ``i`` in a few words, for figures; empty where there is none."""
        if not self.faithful[i]:
            return "not faithful"
        if self.black_too[i]:
            return "black image too"
        if not self.decided[i]:
            return "not the decision"
        if self.rest_too[i]:
            return "rest alike"
        return "order no guide" if self.share[i].isnan() else ""

    def warning(self, i: int = 0) -> str:
        """The same in one sentence."""
        target, decision, kept = (self.name(c[i]) for c in (self.targets, self.decisions, self.kept_decisions))
        on_kept = f"does not find {target}" if self.multi_label else f"decides for {kept}, not for {target}"
        on_whole = "does not find it" if self.multi_label else f"decides for {decision}"
        return {
            "": "",
            "not faithful": f"Do not rely on this map: on what it keeps, the classifier {on_kept}.",
            "black image too": f"This says little: the classifier decides for {target} on a black image as well.",
            "not the decision": f"The map explains {target}, but on the whole image the classifier {on_whole}.",
            "rest alike": f"The map does not show all the evidence: the rest of the image is decided for {target} as well.",
            "order no guide": "The order of the map's values is no guide: no part of the image that it puts first is enough for the decision.",
        }[self.doubt(i)]


@torch.no_grad()
def evidence(
    classifier: nn.Module, pixels: Tensor, targets: Tensor, maps: Tensor, shares: Sequence[float] = SHARES
) -> Evidence:
    """The `Evidence` for maps (B,h,w) that explain the ``targets`` (B,) int64 of ``pixels`` (B,3,H,W) in [0,1].

    Maps are min-max normalised and resized to the image, so that ``kept`` is what AD at 100 % is made of. ``share`` is
    found on the grid of ``shares`` by trying all from the smallest up, since an answer need not be monotone in the
    share: the pixels with the largest values are shown *as they are* (a hard mask) and all others black, which is what
    "this part of the image is enough" means to people; soft values would mix the size of the part with its brightness.
    Values tied with the threshold go, so that a share is never exceeded.

    The classifier is asked at most 3 + len(shares) times about each image and once about a black one. Raises ValueError
    for shapes that do not belong together, a map that is not finite, a class out of range or shares outside (0, 1).
    """
    b = pixels.shape[0]
    if targets.shape != (b,) or maps.ndim != 3 or len(maps) != b:
        raise ValueError(
            f"{b} images need {b} targets (B,) and {b} maps (B,h,w): got targets of shape {tuple(targets.shape)}, maps of {tuple(maps.shape)}"
        )
    if not torch.isfinite(maps).all():
        raise ValueError("a map has values that are not finite: check the method that made it")
    if not all(0 < share < 1 for share in shares):
        raise ValueError(f"shares must be between 0 and 1, without both: got {tuple(shares)}")
    check_images(pixels)
    targets = targets.to(pixels.device)
    masks = resize(normalise(maps.to(pixels.device)), pixels.shape[-2:])
    logits = {
        "whole": classifier(pixels),
        "kept": classifier(keep(pixels, masks)),
        "rest": classifier(remove(pixels, masks)),
    }
    for answer in logits.values():
        check_answers(answer)
    classes, labels, multi_label = (
        logits["whole"].shape[1],
        getattr(classifier, "labels", None),
        getattr(classifier, "multi_label", False),
    )
    check_classes(targets, classes)
    if labels is not None and len(labels) != classes:
        raise ValueError(f"{len(labels)} labels for {classes} classes: give the classifier one label per class")
    smallest = torch.full((b,), torch.nan, dtype=torch.float64, device=pixels.device)
    for share in sorted(shares):
        open_ = smallest.isnan().nonzero()[:, 0]
        if not len(open_):
            break
        part = keep(pixels[open_], (keep_share(masks[open_], share) > 0).float())
        smallest[open_[_decided(classifier(part), targets[open_], multi_label)]] = share
    black = classifier(torch.zeros_like(pixels[:1])).expand(b, -1)
    probabilities = {
        name: answer.double().sigmoid() if multi_label else answer.double().softmax(1)
        for name, answer in logits.items()
    }
    decided = {name: _decided(answer, targets, multi_label) for name, answer in (logits | {"black": black}).items()}
    return Evidence(
        targets=targets,
        decisions=logits["whole"].argmax(1),
        kept_decisions=logits["kept"].argmax(1),
        **{name: p.gather(1, targets[:, None])[:, 0] for name, p in probabilities.items()},
        share=smallest,
        faithful=decided["kept"],
        rest_too=decided["rest"],
        black_too=decided["black"],
        decided=decided["whole"],
        labels=None if labels is None else tuple(labels),
        multi_label=multi_label,
    )


def _decided(logits: Tensor, targets: Tensor, multi_label: bool) -> Tensor:
    """Whether the target (B,) is decided for, by logits (B,K): as the largest one, or for itself."""
    return logits.gather(1, targets[:, None])[:, 0] >= 0 if multi_label else logits.argmax(1) == targets


def explain_with_evidence(
    method: Callable[[Tensor, Tensor], Tensor] | nn.Module,
    classifier: nn.Module,
    pixels: Tensor,
    targets: Tensor | None = None,
) -> tuple[Tensor, Evidence]:
    """Maps (B,h,w) in [0,1] of any method, and what each is worth for its own image.

    ``method``: a `PTAME`, a `Method`, or any function (pixels, targets) -> maps; ``targets`` (B,): by default the
    classifier's own decisions. This is a function and no option of ``PTAME.explain``, because an explainer does not
    know the classifier, which it does not need to explain but which the evidence has to ask; and because a map of
    another method deserves the same doubt. Raises as `evidence`, and ValueError for a control that sees the truth.
    """
    if getattr(method, "sees_truth", False):
        raise ValueError(
            f"{method.name!r} is given the truth and no targets: pass its maps to evidence(classifier, pixels, targets, maps)"
        )
    targets = decide(classifier, pixels) if targets is None else targets
    maps = getattr(method, "explain", method)(pixels, targets)
    return maps, evidence(classifier, pixels, targets, maps)
