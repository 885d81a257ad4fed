"""Instance masks as polygons, and back.

A polygon follows the outer edges of the mask's pixels, in the coordinates of COCO and YOLO: pixel ``i`` reaches from
``i`` to ``i + 1``. FiftyOne's own conversion works on pixel centres (half a pixel too far left and up), fills holes,
and makes a separate object of every hole and of every part of an occluded object.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

TOLERANCE = 0.5
"""How far, in pixels, a simplified outline may leave the mask's edge."""


def mask_to_polygons(
    mask: np.ndarray, corner: tuple[int, int] = (0, 0), tolerance: float = TOLERANCE
) -> list[np.ndarray]:
    """Traces a mask: one polygon per connected part, each with its holes cut in.

    A hole is joined to the outline around it by a slit of no width, so that a reader that fills polygons by the
    even-odd rule leaves it out.

    Args:
        mask: boolean array, height x width
        corner ((0, 0)): ``(x, y)`` of the mask's top-left pixel in the image
        tolerance (0.5): how far, in pixels, an outline may be simplified (Douglas-Peucker)

    Returns:
        a list of ``n x 2`` arrays of ``(x, y)`` pixel coordinates, the largest part first
    """
    from skimage import measure

    outer: list[tuple[float, np.ndarray]] = []
    holes: list[tuple[float, np.ndarray]] = []
    for contour in measure.find_contours(np.pad(mask, 1).astype(np.float64), 0.5):
        ring = contour[:-1, ::-1] - 0.5
        area = _signed_area(ring)
        (outer if area > 0 else holes).append((abs(area), ring))
    outer.sort(key=lambda item: -item[0])
    polygons = [_simplified(ring, tolerance) for _, ring in outer]
    for _, hole in sorted(holes, key=lambda item: -item[0]):
        around = [i for i, (_, ring) in enumerate(outer) if measure.points_in_poly(hole[:1], ring)[0]]
        owner = around[-1] if around else 0  # the smallest outline around a hole is its own
        polygons[owner] = join(polygons[owner], _simplified(hole, tolerance))
    return [polygon + np.asarray(corner, float) for polygon in polygons]


def mask_to_polygon(
    mask: np.ndarray, corner: tuple[int, int] = (0, 0), tolerance: float = TOLERANCE
) -> np.ndarray | None:
    """Traces a mask as a single polygon, its parts joined by slits: a YOLO label has one polygon per object.

    Args:
        mask: boolean array, height x width
        corner ((0, 0)): ``(x, y)`` of the mask's top-left pixel in the image
        tolerance (0.5): how far, in pixels, an outline may be simplified

    Returns:
        an ``n x 2`` array of ``(x, y)`` pixel coordinates, or None for an empty mask
    """
    joined: np.ndarray | None = None
    for polygon in mask_to_polygons(mask, corner, tolerance):
        joined = polygon if joined is None else join(joined, polygon)
    return joined


def join(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Joins two rings to one, there and back along the shortest line between two of their corners."""
    from scipy.spatial.distance import cdist

    i, j = np.unravel_index(int(np.argmin(cdist(a, b))), (len(a), len(b)))
    around = np.concatenate([b[j:], b[: j + 1]])
    return np.concatenate([a[: i + 1], around, a[i:]])


def polygons_to_mask(polygons: Iterable[Any], width: int, height: int) -> np.ndarray:
    """Fills polygons: a pixel belongs to the mask if its centre lies in one of them (even-odd rule).

    Args:
        polygons: arrays or lists of ``(x, y)`` pixel coordinates, ``n x 2`` or flat
        width: the image's width in pixels
        height: its height in pixels

    Returns:
        a boolean array, height x width
    """
    mask = np.zeros((height, width), bool)
    for polygon in polygons:
        _fill(mask, np.asarray(polygon, float).reshape(-1, 2))
    return mask


def _fill(mask: np.ndarray, points: np.ndarray) -> None:
    """Adds one polygon to a mask: along each row of pixel centres, every crossed edge turns inside to outside."""
    height, width = mask.shape
    (x0, y0), (x1, y1) = points.T, np.roll(points, -1, axis=0).T
    top = np.clip(np.ceil(np.minimum(y0, y1) - 0.5), 0, height).astype(int)
    end = np.clip(np.ceil(np.maximum(y0, y1) - 0.5), 0, height).astype(int)
    count = end - top
    if not count.any():
        return
    edge = np.repeat(np.arange(len(points)), count)
    row = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + top[edge]
    slope = (x1 - x0)[edge] / (y1 - y0)[edge]
    column = np.clip(np.ceil(x0[edge] + (row + 0.5 - y0[edge]) * slope - 0.5), 0, width).astype(int)
    first, last, left = row.min(), row.max() + 1, column.min()
    crossings = np.zeros((last - first, column.max() - left + 1), np.int32)
    np.add.at(crossings, (row - first, column - left), 1)
    inside = np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1
    mask[first:last, left : column.max()] |= inside


def mask_to_rle(mask: np.ndarray) -> dict[str, Any]:
    """Encodes a full-size mask as COCO's uncompressed run lengths (column by column, background first)."""
    flat = np.asarray(mask, bool).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return {"counts": ([0] if flat.size and flat[0] else []) + runs, "size": list(mask.shape)}


def rle_to_mask(rle: dict[str, Any]) -> np.ndarray:
    """Decodes COCO's uncompressed run lengths."""
    values = np.arange(len(rle["counts"])) % 2 == 1
    return np.repeat(values, rle["counts"]).reshape(rle["size"], order="F")


def _signed_area(ring: np.ndarray) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


def _simplified(ring: np.ndarray, tolerance: float) -> np.ndarray:
    import cv2

    simple = cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance, closed=True)[:, 0]
    return simple.astype(float) if len(simple) >= 3 else ring
