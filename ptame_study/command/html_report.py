"""The page of `ptame report`: one file of HTML, without scripts, with nothing from outside and nothing unescaped."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup
from PIL import ImageDraw
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from ptame_lib.masking import normalise, resize
from ptame_lib.metrics.evidence import FILLS, Evidence, fill_in, percent
from ptame_lib.texts import printable

from ..explorer import overlay, png

MOST = 5000  # letters of one value that are shown
SMALL = 128  # pixels; smaller images are shown with their pixels
ROWS, COLUMNS = ("upper", "middle", "lower"), ("left", "centre", "right")


def page(parts: dict[str, Any]) -> str:
    """The HTML of a report; ``parts``: what the template names."""
    return _template().render(parts).lstrip()


@cache
def _template() -> Template:
    surroundings = Environment(
        loader=PackageLoader("ptame_study.command"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    surroundings.filters["percent"] = percent
    return surroundings.get_template("report.html.jinja")


def _shown(value: Any) -> Any:
    """What the template shows of a value: a text in one line, with what a reader would not see as an escape."""
    if isinstance(value, Markup | int | float):
        return value
    return "" if value is None else printable(value, MOST)


def image_uri(image: Tensor) -> Markup:
    """An image (3,H,W) in [0,1] as an address that holds it; nothing in it needs to be escaped."""
    return Markup("data:image/png;base64," + base64.b64encode(png(image)).decode())


def framed(whole: Tensor, size: tuple[int, int]) -> Tensor:
    """The whole image (3,H,W), with a frame around its middle of a ``size`` (height, width), if that is not all."""
    rows, columns = whole.shape[-2:]
    height, width = min(size[0], rows), min(size[1], columns)
    if (height, width) == (rows, columns):
        return whole
    picture = to_pil_image(whole.clamp(0, 1))
    top, left = round((rows - height) / 2), round((columns - width) / 2)
    pen, line = ImageDraw.Draw(picture), max(1, round(max(rows, columns) / 150))
    box = [left, top, left + width - 1, top + height - 1]
    pen.rectangle(box, outline="white", width=2 * line)
    pen.rectangle(box, outline="black", width=line)
    return pil_to_tensor(picture).float() / 255


def pictures(pixels: Tensor, map_: Tensor, proof: Evidence) -> dict[str, Markup]:
    """The map (h,w) over the image (3,H,W), and of each fill the pixels shown and the image without them."""
    seen = proof.pixels_shown
    found = {"map": overlay(pixels, resize(normalise(map_[None]), pixels.shape[-2:])[0])}
    for fill in FILLS:
        found[f"kept {fill}"] = fill_in(pixels[None], seen, fill)[0]
        found[f"removed {fill}"] = fill_in(pixels[None], ~seen, fill)[0]
    return {name: image_uri(image) for name, image in found.items()}


def where(shown: Tensor) -> str:
    """Where the pixels shown (H,W) bool lie, in a sentence for those who don't see them.

    >>> where(torch.tensor([[True, False, False], [False, False, False], [False, False, False]]))
    'Of its first pixels 100% lie in the upper left.'
    """
    if not shown.any():
        return "It puts no pixels first."
    parts = []
    for row, band in zip(ROWS, torch.tensor_split(shown, 3, 0), strict=True):
        for column, cell in zip(COLUMNS, torch.tensor_split(band, 3, 1), strict=True):
            name = "centre" if (row, column) == ("middle", "centre") else f"{row} {column}"
            parts.append((int(cell.sum()), name))
    most = [part for part in sorted(parts, key=lambda part: -part[0])[:3] if part[0] >= 0.15 * int(shown.sum())]
    said = ", ".join(f"{percent(count / int(shown.sum()))} lie in the {name}" for count, name in most)
    return f"Of its first pixels {said}." if most else "Its first pixels are spread over the image."
