"""What labels and results share: the turned box, and the error where one cannot be said as the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...errors import IdsynthError


class ValuesError(IdsynthError):
    """A label cannot be said in Label Studio, or a result not in FiftyOne; the sample stays as it is.

    Args:
        reason: a short name that reports count by, e.g. ``"unknown_label"``
        detail: what was found, and the remedy
    """

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.detail)


def box_around(box: Sequence[float], rotation: float, size: tuple[int, int]) -> list[float]:
    """The upright box around a box that is turned clockwise about its top left corner, as Label Studio turns them.

    Args:
        box: x, y, width, height before it is turned, in shares of the image's size
        rotation: degrees
        size: width and height of the image in pixels: right angles are right in pixels alone
    """
    x, y, w, h = (share * side for share, side in zip(box, (*size, *size), strict=True))
    cos, sin = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    xs = [x + a * cos - b * sin for a, b in ((0, 0), (w, 0), (w, h), (0, h))]
    ys = [y + a * sin + b * cos for a, b in ((0, 0), (w, 0), (w, h), (0, h))]
    left, top = min(xs) / size[0], min(ys) / size[1]
    return [left, top, max(xs) / size[0] - left, max(ys) / size[1] - top]
