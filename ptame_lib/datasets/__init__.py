"""Data sets: all give pixels in [0,1]."""

from .coco import COCO
from .embedded import Embedded, load_embedded
from .folders import ImageFolder
from .voc import VOC

__all__ = ["COCO", "VOC", "Embedded", "ImageFolder", "load_embedded"]
