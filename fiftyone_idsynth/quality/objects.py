"""How much of an image its labelled objects cover."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RefusedImage

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

LABEL_KINDS = ("Detections", "Polylines", "Segmentation")
"""The FiftyOne label classes that have an area."""

_PARTS = {
    "Detections": ("detections.bounding_box", "detections.mask_path", "detections.mask"),
    "Polylines": ("polylines.points",),
    "Segmentation": ("mask_path", "mask"),
}

_SIDE = 1024
"""Side, in pixels, of the square on which the areas are joined."""


def label_paths(samples: SampleCollection, label_field: str) -> tuple[str, ...]:
    """The field paths that :func:`object_ratio` needs of a label field.

    Raises:
        FieldError: there is no such field, or its labels have no area
    """
    import fiftyone as fo

    from ..samples import require_field

    require_field(samples, label_field, *(getattr(fo, kind) for kind in LABEL_KINDS))
    kind = samples.get_field(label_field).document_type.__name__
    return tuple(f"{label_field}.{part}" for part in _PARTS[kind])


def object_ratio(values: Mapping[str, Any]) -> float | None:
    """The share of an image's area that its objects cover, counting overlaps once.

    Args:
        values: the values of the paths that :func:`label_paths` names

    Returns:
        0 to 1: the area of masks where objects have them, of boxes or polygons otherwise; ``None`` if nothing is
        labelled

    Raises:
        RefusedImage: a mask file cannot be read
    """
    parts = {part: value for path, value in values.items() for kind in _PARTS.values() for part in kind
             if path.endswith("." + part) and path.count(".") == part.count(".") + 1}  # fmt: skip
    canvas = np.zeros((_SIDE, _SIDE), np.uint8)
    if "detections.bounding_box" in parts:
        boxes = parts["detections.bounding_box"]
        if boxes is None:
            return None
        _draw_detections(canvas, boxes, parts.get("detections.mask_path"), parts.get("detections.mask"))
    elif "polylines.points" in parts:
        if parts["polylines.points"] is None:
            return None
        _draw_polygons(canvas, parts["polylines.points"])
    else:
        mask = _mask(parts.get("mask"), parts.get("mask_path"))
        return None if mask is None else float(np.mean(mask))
    return float(np.mean(canvas > 0))


def _draw_detections(canvas: np.ndarray, boxes: Sequence[Any], files: Any, masks: Any) -> None:
    import cv2

    none = [None] * len(boxes)
    for box, file, mask in zip(boxes, files or none, masks or none, strict=True):
        left, top = (min(_SIDE, max(0, round(v * _SIDE))) for v in (box[0], box[1]))
        right, bottom = (min(_SIDE, max(0, round(v * _SIDE))) for v in (box[0] + box[2], box[1] + box[3]))
        if right <= left or bottom <= top:
            continue
        part = canvas[top:bottom, left:right]
        shape = _mask(mask, file)
        if shape is None:
            part[:] = 1
        else:
            part |= cv2.resize(shape, (right - left, bottom - top), interpolation=cv2.INTER_NEAREST)


def _draw_polygons(canvas: np.ndarray, shapes: Sequence[Any]) -> None:
    import cv2

    for rings in shapes:
        points = [np.round(np.asarray(ring, float) * _SIDE).astype(np.int32) for ring in rings or () if len(ring) > 2]
        if points:
            cv2.fillPoly(canvas, points, 1)


def _mask(mask: Any, path: str | None) -> np.ndarray | None:
    """A mask as 0 and 1, from the database or from its file."""
    if mask is None and path:
        import cv2

        mask = cv2.imread(path, cv2.IMREAD_UNCHANGED) if os.path.isfile(path) else None
        if mask is None:
            raise RefusedImage("missing_mask", f"the mask {path} cannot be read")
    if mask is None:
        return None
    mask = np.asarray(mask)
    return ((mask if mask.ndim == 2 else mask.any(axis=2)) > 0).astype(np.uint8)
