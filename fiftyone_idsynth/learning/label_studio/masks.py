"""Masks of a part of an image and of all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .forms import ValuesError


def drawn(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask in another size, by the nearest pixel.

    Args:
        mask: bool or numbers (height x width)
        size: width and height in pixels
    """
    if mask.shape == (size[1], size[0]):
        return mask
    rows = (np.arange(size[1]) * mask.shape[0] // size[1]).astype(int)
    columns = (np.arange(size[0]) * mask.shape[1] // size[0]).astype(int)
    resized: np.ndarray = mask[rows[:, None], columns]
    return resized


def instance_mask(detection: Any, size: tuple[int, int]) -> np.ndarray:
    """The mask of an object in the whole image.

    Args:
        detection: a FiftyOne detection with a mask
        size: width and height of the image in pixels

    Returns:
        bool (height x width)

    Raises:
        ValuesError: it has no mask that can be read
    """
    try:
        mask = detection.get_mask() if detection.has_mask else None
    except (OSError, ValueError) as error:
        raise ValuesError("mask_unreadable", f"{detection.mask_path or detection.label!r}: {error}") from error
    if mask is None or not mask.size:
        where = detection.mask_path or f"a detection of {detection.label!r}"
        raise ValuesError("mask_unreadable", f"{where} has no mask, or the file is gone: ask for boxes instead")
    width, height = size
    x, y, w, h = detection.bounding_box
    left, top = round(x * width), round(y * height)
    right, bottom = max(left + 1, round((x + w) * width)), max(top + 1, round((y + h) * height))
    part = drawn((mask if mask.ndim == 2 else mask.any(axis=2)) > 0, (right - left, bottom - top))
    whole = np.zeros((height, width), bool)
    inside = part[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
    whole[max(0, top) : max(0, top) + inside.shape[0], max(0, left) : max(0, left) + inside.shape[1]] = inside
    return whole


def tight(mask: np.ndarray) -> tuple[list[float], np.ndarray] | None:
    """The box round what a mask covers, and the part of the mask inside; ``None`` if it covers nothing.

    Args:
        mask: bool (height x width)

    Returns:
        x, y, width, height in shares of the image's size, and bool (rows x columns)
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    height, width = mask.shape
    box = [left / width, top / height, (right - left) / width, (bottom - top) / height]
    return box, mask[top:bottom, left:right]


def to_files(value: Any, write: Callable[[np.ndarray], str]) -> None:
    """Moves the masks in a label to files.

    Args:
        value: a FiftyOne label, or a value without masks
        write: writes a mask (uint8 or uint16, height x width) and returns the path of the file
    """
    holders = value.detections if hasattr(value, "detections") else [value]
    for label in holders:
        mask = getattr(label, "mask", None)
        if mask is not None:
            label.mask_path = write(mask.astype(np.uint8) * 255 if mask.dtype == bool else mask)
            label.mask = None
