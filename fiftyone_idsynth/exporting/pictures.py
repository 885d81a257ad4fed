"""What is exported of one sample: its image and labels, in the form that every format writes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import RefusedImage

if TYPE_CHECKING:
    import fiftyone as fo

Box = tuple[float, float, float, float]


@dataclass(slots=True)
class Object:
    """One labelled object.

    Attributes:
        label: its class
        box: ``(x, y, width, height)`` relative to the upright image, clipped to it
        crowd: whether it stands for a group that could not be told apart (COCO's ``iscrowd``)
        mask: boolean array of the object's pixels, or None
        corner: ``(x, y)`` of the mask's top-left pixel in the image
    """

    label: str
    box: Box
    crowd: bool = False
    mask: np.ndarray | None = None
    corner: tuple[int, int] = (0, 0)


@dataclass(slots=True)
class Picture:
    """One image that is exported.

    Attributes:
        sample_id: the sample
        export_id: the image's id in COCO files
        split: ``"train"``, ``"val"`` or ``"test"``
        name: the file's name in the export
        path: where the file waits to be moved into place
        width: in pixels, upright
        height: in pixels, upright
        channels: 1, 3 or 4
        license: name of its licence, ``""`` if unknown
        objects: its objects, for detection formats and masks
        label: its class, for classification
        text: its caption, for captions
        pixels: uint8 or uint16 array of class values, for semantic masks
    """

    sample_id: str
    export_id: int
    split: str
    name: str
    path: Path
    width: int
    height: int
    channels: int = 3
    license: str = ""
    objects: list[Object] = field(default_factory=list)
    label: str | None = None
    text: str | None = None
    pixels: np.ndarray | None = None


def to_objects(
    detections: fo.Detections | None,
    width: int,
    height: int,
    *,
    classes: Collection[str],
    masks: bool,
    dropped: Counter[str],
) -> list[Object]:
    """Turns FiftyOne detections into objects that lie within the image.

    Args:
        detections: the label, or None
        width: the image's width in pixels
        height: its height in pixels
        classes: the classes that are exported; other objects are left out
        masks: whether instance masks are exported
        dropped: counts the objects that are left out, by reason

    Returns:
        a list of :class:`Object`

    Raises:
        RefusedImage: masks are wanted and an object has none
    """
    objects = []
    for detection in detections.detections if detections is not None else ():
        if detection.label not in classes:
            dropped["of another class"] += 1
            continue
        box = clip_box(detection.bounding_box)
        if box is None:
            dropped["outside of the image, or without an area"] += 1
            continue
        item = Object(detection.label, box, crowd=bool(detection.get_attribute_value("iscrowd", None)))
        if masks:
            if not detection.has_mask:
                raise RefusedImage("no_mask", f"an object of class {detection.label!r} has no instance mask")
            item.mask, item.corner = place_mask(_read_mask(detection), detection.bounding_box, width, height)
            if not item.mask.any():
                dropped["with an empty mask"] += 1
                continue
        objects.append(item)
    return objects


def clip_box(box: list[float] | None) -> Box | None:
    """Clips a relative ``[x, y, width, height]`` box to the image; None if nothing of it is left."""
    if box is None or len(box) != 4 or not np.isfinite(box).all():
        return None
    x, y, w, h = box
    left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + w, 1.0), min(y + h, 1.0)
    return (left, top, right - left, bottom - top) if right > left and bottom > top else None


def place_mask(mask: np.ndarray, box: list[float], width: int, height: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Places an instance mask, stored relative to its box, on the pixels of its image.

    Box edges are rounded to the nearest pixel: truncation, as in FiftyOne's own rendering, moves a mask by a pixel
    whenever ``x * width`` falls just short of a whole number.

    Args:
        mask: boolean array, any size
        box: relative ``[x, y, width, height]`` of the object; it may reach past the image
        width: the image's width in pixels
        height: its height in pixels

    Returns:
        the part of the mask that lies in the image, and the ``(x, y)`` of its top-left pixel
    """
    import cv2

    left, top = round(box[0] * width), round(box[1] * height)
    across = max(1, round((box[0] + box[2]) * width) - left)
    down = max(1, round((box[1] + box[3]) * height) - top)
    placed = np.asarray(np.asarray(mask) > 0)
    if placed.ndim == 3:
        placed = np.asarray(placed.any(axis=2))
    if placed.shape != (down, across):
        resized = cv2.resize(placed.astype(np.uint8), (across, down), interpolation=cv2.INTER_NEAREST)
        placed = np.asarray(resized, bool)
    x, y = max(left, 0), max(top, 0)
    return placed[y - top : max(y, height) - top, x - left : max(x, width) - left], (x, y)


def draw_objects(objects: list[Object], width: int, height: int, values: dict[str, int]) -> np.ndarray:
    """Draws objects into one semantic mask; later objects cover earlier ones.

    Args:
        objects: objects with masks
        width: in pixels
        height: in pixels
        values: the pixel value of each class, 1 to 255; 0 is the background

    Returns:
        a uint8 array, height x width
    """
    drawn = np.zeros((height, width), np.uint8)
    for item in objects:
        if item.mask is not None:
            x, y = item.corner
            down, across = item.mask.shape
            drawn[y : y + down, x : x + across][item.mask] = values[item.label]
    return drawn


def _read_mask(detection: fo.Detection) -> np.ndarray:
    try:
        mask = detection.get_mask()
    except (OSError, ValueError) as error:
        raise RefusedImage("mask_unreadable", f"{detection.mask_path}: {error}") from error
    if mask is None:
        raise RefusedImage("mask_unreadable", str(detection.mask_path))
    return mask
