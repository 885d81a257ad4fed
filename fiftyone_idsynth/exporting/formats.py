"""The dataset formats, by name."""

from __future__ import annotations

from .base import Format
from .captions import Captions
from .detection import COCO, VOC, YOLO
from .folders import Classification, Segmentation

FORMATS: dict[str, type[Format]] = {
    kind.name: kind for kind in (YOLO, COCO, VOC, Classification, Segmentation, Captions)
}
