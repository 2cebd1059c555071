"""What an explanation is worth for one image: the classifier is asked about what the map keeps.

    maps, proof = explain_with_evidence(explainer, classifier, pixels)
    print(proof.text(0), proof.warning(0))

A metric is a mean over many images, and a good mean says little about the one image somebody looks at; these few
questions to the classifier do. Masking is in pixel space, as in every metric of the study.

A classifier decides for the class with the largest logit, with the softmax's probability. A multi-label one
(`Classifier.multi_label`) decides for each label by itself: it finds one where its sigmoid is at least a half.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from ..classifiers.wrapper import decide
from ..masking import keep, keep_share, normalise, remove, resize
from ..texts import MOST, printable
from ..validation import check_answers, check_classes, check_images

SHARES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Evidence:
    """What the classifier answers about B explained images; every field is (B,), on the images' device.

    ``targets``: the explained classes; ``decisions`` and ``kept_decisions``: the class with the largest logit on the
    whole images and on what the maps keep. ``whole``, ``kept``, ``rest``: the target's probability (float64) on the
    whole image, on what the map keeps (pixels * map) and on the rest (pixels * (1 - map)). ``share``: the smallest
    share of pixels that is enough for the decision, NaN if none on the grid is. ``faithful``, ``rest_too``,
    ``black_too``, ``decided``: whether the target is decided for on what the map keeps, the rest, a black image, the
    whole image.

    ``labels``: names of the classes, for the sentences; ``multi_label``: as of the classifier. ``evidence[i]`` is that
    of one image.
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
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v[at : at + 1] for k, v in values.items() if isinstance(v, Tensor)})

    def name(self, c: int | Tensor) -> str:
        """The name of class ``c`` to show: its label as by `printable`, or ``class 3``."""
        return f"class {int(c)}" if self.labels is None else printable(self.labels[int(c)], MOST)

    def text(self, i: int = 0) -> str:
        """One sentence: what the map of image ``i`` is worth."""
        whole, kept, rest, share = (float(values[i]) for values in (self.whole, self.kept, self.rest, self.share))
        enough = (
            "no part of it alone is enough" if share != share else f"the first {share:.0%} of its pixels are enough"
        )
        return (
            f"{self.name(self.targets[i])}: {whole:.0%} on the whole image, {kept:.0%} on what the map keeps, "
            f"{rest:.0%} on the rest; {enough} for this decision."
        )

    def doubt(self, i: int = 0) -> str:
        """The strongest reason to doubt the map of image ``i``, in a few words for figures; empty if none."""
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
            "rest alike": "The map does not show all the evidence: "
            f"the rest of the image is decided for {target} as well.",
            "order no guide": "The order of the map's values is no guide: "
            "no part of the image that it puts first is enough for the decision.",
        }[self.doubt(i)]


@torch.no_grad()
def evidence(
    classifier: nn.Module, pixels: Tensor, targets: Tensor, maps: Tensor, shares: Sequence[float] = SHARES
) -> Evidence:
    """The `Evidence` of maps (B,h,w) for the ``targets`` (B,) int64 of ``pixels`` (B,3,H,W) in [0,1].

    Maps are min-max normalised and resized to the image, so ``kept`` is what AD100 is made of. ``share`` is the first
    of ``shares``, tried from the smallest up since answers need not be monotone, with which the pixels of the largest
    values are enough. These are shown *as they are* and all others black: soft values would mix the size of the part
    with its brightness. Values tied with the threshold are removed, so a share is never exceeded.

    The classifier is asked at most 3 + len(shares) times about each image and once about a black one. Raises ValueError
    for shapes that do not belong together, a map that is not finite, a class out of range or shares outside (0, 1).
    """
    b = _check(pixels, targets, maps, shares)
    targets = targets.to(pixels.device)
    masks = resize(normalise(maps.to(pixels.device)), pixels.shape[-2:])
    # the whole image, what the map keeps, and the rest
    asked = {"whole": pixels, "kept": keep(pixels, masks), "rest": remove(pixels, masks)}
    logits = {name: classifier(images) for name, images in asked.items()}
    for answer in logits.values():
        check_answers(answer)
    check_classes(targets, logits["whole"].shape[1])
    labels = _labels(classifier, logits["whole"].shape[1])
    # the smallest share, for the images where no smaller one was enough
    multi_label = getattr(classifier, "multi_label", False)
    smallest = torch.full((b,), torch.nan, dtype=torch.float64, device=pixels.device)
    for share in sorted(shares):
        open_ = smallest.isnan().nonzero()[:, 0]
        if not len(open_):
            break
        part = keep(pixels[open_], (keep_share(masks[open_], share) > 0).float())
        smallest[open_[_decided(classifier(part), targets[open_], multi_label)]] = share
    # probabilities and decisions
    black = classifier(torch.zeros_like(pixels[:1])).expand(b, -1)
    doubles = {name: answer.double() for name, answer in logits.items()}
    p = {name: answer.sigmoid() if multi_label else answer.softmax(1) for name, answer in doubles.items()}
    decided = {name: _decided(answer, targets, multi_label) for name, answer in (logits | {"black": black}).items()}
    return Evidence(
        targets=targets,
        decisions=logits["whole"].argmax(1),
        kept_decisions=logits["kept"].argmax(1),
        **{name: values.gather(1, targets[:, None])[:, 0] for name, values in p.items()},
        share=smallest,
        faithful=decided["kept"],
        rest_too=decided["rest"],
        black_too=decided["black"],
        decided=decided["whole"],
        labels=labels,
        multi_label=multi_label,
    )


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


def explain_with_evidence(
    method: Callable[[Tensor, Tensor], Tensor] | nn.Module,
    classifier: nn.Module,
    pixels: Tensor,
    targets: Tensor | None = None,
) -> tuple[Tensor, Evidence]:
    """Maps (B,h,w) in [0,1] of any method, and the `Evidence` for each.

    ``method``: a `PTAME`, a `Method`, or any function (pixels, targets) -> maps; ``targets`` (B,): by default the
    classifier's decisions. This is a function, not an option of ``PTAME.explain``: an explainer does not know the
    classifier, and maps of other methods deserve the same doubt. Raises as `evidence`, and ValueError for a control
    that sees the truth.
    """
    if getattr(method, "sees_truth", False):
        call = "evidence(classifier, pixels, targets, maps)"
        raise ValueError(f"{method.name!r} is given the truth and no targets: pass its maps to {call}")
    targets = decide(classifier, pixels) if targets is None else targets
    maps = getattr(method, "explain", method)(pixels, targets)
    return maps, evidence(classifier, pixels, targets, maps)
