"""Data sets: all give pixels in [0,1]."""

from .embedded import Embedded, load_embedded
from .folders import ImageFolder

__all__ = ["Embedded", "ImageFolder", "load_embedded"]
