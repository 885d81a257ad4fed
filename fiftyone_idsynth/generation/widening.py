"""Widening of pictures: how far, what is continued there before it is painted, and how seams are hidden."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import ParameterError

Continuation = Literal["reflect", "replicate"]
"""What stands in the new area before it is painted: the picture mirrored, or its outermost pixels drawn out."""

SIDES = ("left", "right", "top", "bottom")

_EXTENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(%|px)?\s*")


@dataclass(frozen=True)
class Extent:
    """How far a picture is widened on one side.

    Attributes:
        amount: pixels, or per cent of the picture's width (left, right) or height (top, bottom)
        relative: whether it is per cent
    """

    amount: float
    relative: bool

    def pixels(self, side: int) -> int:
        """How many pixels that are of a side of so many."""
        return round(side * self.amount / 100) if self.relative else round(self.amount)


def parse_extent(value: str, parameter: str) -> Extent:
    """Reads ``"128"`` (pixels) or ``"25%"``.

    Raises:
        ParameterError: it is neither, or more than 400 %
    """
    found = _EXTENT.fullmatch(value)
    if not found:
        raise ParameterError(parameter, value, "give pixels, e.g. 128, or a share of the side, e.g. 25%")
    extent = Extent(float(found[1]), found[2] == "%")
    if not extent.relative and 0 < extent.amount < 1:
        raise ParameterError(parameter, value, f"is less than a pixel: write {100 * extent.amount:g}% for a share")
    if extent.amount > (400 if extent.relative else 8192):
        raise ParameterError(parameter, value, "widen by at most 8192 pixels or 400%")
    return extent


@dataclass(frozen=True)
class Widening:
    """How far pictures are widened on each side."""

    left: Extent
    right: Extent
    top: Extent
    bottom: Extent

    def margins(self, width: int, height: int) -> Margins:
        """What is added to a picture of this size."""
        across, down = (self.left, self.right), (self.top, self.bottom)
        return Margins(*(side.pixels(width) for side in across), *(side.pixels(height) for side in down))

    def __bool__(self) -> bool:
        return any(side.amount for side in (self.left, self.right, self.top, self.bottom))


@dataclass(frozen=True)
class Margins:
    """How many pixels are added on each side."""

    left: int
    right: int
    top: int
    bottom: int

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The size of a picture with them."""
        return width + self.left + self.right, height + self.top + self.bottom

    def __bool__(self) -> bool:
        return bool(self.left or self.right or self.top or self.bottom)

    @property
    def padding(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows and columns to add before and behind, as ``numpy.pad`` takes them."""
        return (self.top, self.bottom), (self.left, self.right)

    def inside(self, width: int, height: int) -> tuple[slice, slice]:
        """Rows and columns of the old picture, of the given size, in the new one."""
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def margins_for_ratio(width: int, height: int, share: float, ratio: float) -> Margins:
    """What is added on all sides, in proportion to them, so that objects cover a smaller share of a picture.

    Args:
        width: of the picture in pixels
        height: of the picture in pixels
        share: the share of it that they cover now
        ratio: the share that they are to cover, smaller than that
    """
    grown = math.sqrt(share / ratio)
    across, down = round(width * (grown - 1)), round(height * (grown - 1))
    return Margins(across // 2, across - across // 2, down // 2, down - down // 2)


def widened(picture: np.ndarray, margins: Margins, continuation: Continuation) -> np.ndarray:
    """A picture with margins in which it is continued.

    Args:
        picture: uint8 RGB array, height x width x 3
        margins: what is added
        continuation: how it is continued
    """
    mode: Literal["reflect", "edge"] = "reflect" if continuation == "reflect" else "edge"
    return np.pad(picture, (*margins.padding, (0, 0)), mode)


def area_to_paint(width: int, height: int, margins: Margins, overlap: int) -> np.ndarray:
    """What is painted: the margins, and a strip of the old picture along them, so that the model goes on from it.

    Args:
        width: of the old picture in pixels
        height: of the old picture in pixels
        margins: what is added
        overlap: width of the strip in pixels; the old picture's own pixels are put back there afterwards

    Returns:
        bool array of the size of the new picture
    """
    new_width, new_height = margins.size(width, height)
    overlap = min(overlap, width // 4, height // 4)
    mask = np.ones((new_height, new_width), bool)
    rows, columns = margins.inside(width, height)
    top, left = rows.start + overlap * bool(margins.top), columns.start + overlap * bool(margins.left)
    bottom, right = rows.stop - overlap * bool(margins.bottom), columns.stop - overlap * bool(margins.right)
    mask[top:bottom, left:right] = False
    return mask


def joined(painted: np.ndarray, picture: np.ndarray, margins: Margins, feather: int) -> np.ndarray:
    """Puts the old picture back, and lets the difference at its edge fade out in what was painted.

    The old picture's pixels are put back byte for byte; only the new ones change. What was painted on the outermost
    pixels of the old picture tells how far it is off there: so much is taken back beside the edge, less with the
    distance from it, and nothing from ``feather`` pixels on.

    Args:
        painted: uint8 RGB array of the new size, painted on the margins and on a strip of the old picture
        picture: the old picture
        margins: what was added
        feather: how far the difference fades out, in pixels

    Returns:
        uint8 RGB array of the new size
    """
    height, width = picture.shape[:2]
    inside = margins.inside(width, height)
    result = painted.copy()
    if feather:
        import cv2

        off = picture.astype(np.float32) - painted[inside]
        # Along the edge only the large differences count, not those from pixel to pixel.
        off = cv2.GaussianBlur(off, (0, 0), max(1.0, feather / 4), borderType=cv2.BORDER_REPLICATE)
        shift = np.pad(off, (*margins.padding, (0, 0)), "edge")
        weight = np.clip(1 - _distance(width, height, margins) / feather, 0, 1)[..., None]
        result = np.rint(np.clip(painted + weight * shift, 0, 255)).astype(np.uint8)
    result[inside] = picture
    return result


def _distance(width: int, height: int, margins: Margins) -> np.ndarray:
    """How far each pixel of the new picture is from the old one, in pixels."""
    new_width, new_height = margins.size(width, height)
    columns, rows = np.arange(new_width), np.arange(new_height)
    across = np.maximum(np.maximum(margins.left - columns, columns - (margins.left + width - 1)), 0)
    down = np.maximum(np.maximum(margins.top - rows, rows - (margins.top + height - 1)), 0)
    return np.hypot(across[None, :], down[:, None])
