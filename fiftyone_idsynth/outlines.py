"""Outlines as arrays of points: their area and length, and what of them lies in a picture."""

from __future__ import annotations

import functools
import itertools

import numpy as np

CORNERS = 16
"""Points that stand for the outline of a box where four are not enough."""


def rectangle_round(left: float, top: float, right: float, bottom: float, count: int = CORNERS) -> np.ndarray:
    """Points along the sides of a box, ``count`` x 2, its corners among them; ``count`` divides by four."""
    steps = np.arange(count // 4) / (count // 4)
    side, zero, one = steps, np.zeros_like(steps), np.ones_like(steps)
    unit = np.concatenate(
        [np.stack(pair, axis=1) for pair in ((side, zero), (one, side), (1 - side, one), (zero, 1 - side))]
    )
    return unit * (right - left, bottom - top) + (left, top)


def ellipse_in(left: float, top: float, right: float, bottom: float, count: int = CORNERS) -> np.ndarray:
    """Points on the ellipse that touches the sides of a box, ``count`` x 2, the four where it does among them.

    Turned, the box round the ellipse is nearer to the box round most objects than that round the corners, which are
    mostly empty (:func:`albumentations.BboxParams` calls this ``rotate_method="ellipse"``).
    """
    ellipse: np.ndarray = _circle(count) * (right - left, bottom - top) + (left, top)
    return ellipse


@functools.cache
def _circle(count: int) -> np.ndarray:
    """Points on the circle that touches the sides of the unit square."""
    angle = np.arange(count) * (2 * np.pi / count)
    unit = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    unit[np.abs(unit) < 1e-12] = 0
    return (1 + unit) / 2


def dense(ring: np.ndarray, step: float, closed: bool) -> np.ndarray:
    """A line, N x 2, with more points, none further from the next than ``step``."""
    if len(ring) < 2:
        return ring
    ends = np.roll(ring, -1, axis=0) if closed else ring[1:]
    pieces = []
    for start, end in zip(ring, ends, strict=False):
        count = max(1, int(np.ceil(np.hypot(*(end - start)) / step)))
        pieces.append(start + (end - start) * (np.arange(count) / count)[:, None])
    return np.concatenate(pieces if closed else [*pieces, ring[-1:]])


def area_of(ring: np.ndarray) -> float:
    """The area of a polygon, N x 2 (shoelace formula); 0 for fewer than three points."""
    if len(ring) < 3:
        return 0.0
    x, y = (ring - ring[0]).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def length_of(line: np.ndarray) -> float:
    """The length of a line, N x 2."""
    return float(np.hypot(*np.diff(line, axis=0).T).sum()) if len(line) > 1 else 0.0


def clipped_polygon(ring: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """What of a polygon, N x 2, lies in a picture of this width and height.

    Sutherland and Hodgman, "Reentrant polygon clipping", CACM 1974: parts of a concave polygon that the border
    separates stay joined along it.
    """
    if not len(ring) or ((ring >= 0).all() and (ring <= size).all()):
        return ring
    for axis in (0, 1):
        for limit, sign in ((0.0, 1.0), (float(size[axis]), -1.0)):
            ring = _half(ring, sign * (ring[:, axis] - limit))
            if not len(ring):
                return ring
    return np.clip(ring, 0, size)


def clipped_line(line: np.ndarray, size: tuple[int, int]) -> list[np.ndarray]:
    """The pieces of a line, N x 2, that lie in a picture of this width and height."""
    if len(line) < 2 or ((line >= 0).all() and (line <= size).all()):
        return [line] if len(line) > 1 else []
    pieces: list[list[np.ndarray]] = []
    for start, end in itertools.pairwise(line):
        span = _inside_span(start, end, size)
        if span is None:
            continue
        first, last = (start + (end - start) * share for share in span)
        if pieces and np.allclose(pieces[-1][-1], first):
            pieces[-1].append(last)
        else:
            pieces.append([first, last])
    return [np.clip(piece, 0, size) for piece in pieces]


def _half(ring: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """The part of a polygon where the depth of its points, and of what lies between them, is not negative."""
    inside = depth >= 0
    if inside.all():
        return ring
    result = []
    for number in range(len(ring)):
        before = number - 1
        if inside[number] != inside[before]:
            share = depth[before] / (depth[before] - depth[number])
            result.append(ring[before] + (ring[number] - ring[before]) * share)
        if inside[number]:
            result.append(ring[number])
    return np.array(result).reshape(-1, 2)


def _inside_span(start: np.ndarray, end: np.ndarray, size: tuple[int, int]) -> tuple[float, float] | None:
    """From where to where a line lies in a picture, as shares of its length (Liang and Barsky, 1984)."""
    first, last = 0.0, 1.0
    for axis in (0, 1):
        move = end[axis] - start[axis]
        for room, way in ((start[axis], -move), (size[axis] - start[axis], move)):
            if way == 0:
                if room < 0:
                    return None
            elif way < 0:
                first = max(first, room / way)
            else:
                last = min(last, room / way)
    return (first, last) if first < last else None
