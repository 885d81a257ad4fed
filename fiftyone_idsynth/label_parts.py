"""What labels are made of while a picture's geometry changes, and what becomes of each part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .carrying import keep_map, relative_box
from .errors import RefusedImage
from .outlines import area_of, clipped_line, clipped_polygon, length_of

if TYPE_CHECKING:
    from .media import MediaStore
    from .warping import KeepRule, Tally

Stored = dict[str, Any]
"""A label as it is stored: a dictionary with its ``_cls``, which is read and written faster than FiftyOne's objects."""

LISTS = {
    "Detections": "detections", "Polylines": "polylines", "Keypoints": "keypoints",
    "Classifications": "classifications",
}  # fmt: skip
"""Label class -> where its list of labels is."""

TOLERANCE = 0.01
"""How far the box round an object's moved mask may reach beyond its moved outline, as a share of the new picture's
longer side; :data:`TOLERANCE_PIXELS` at least, because masks are moved to the nearest pixel."""

TOLERANCE_PIXELS = 3.0

_MOST = 255
"""Masks that one map of bytes can tell apart."""


class Layers:
    """Masks of objects in as few maps as do not overlap, each with a number of its own."""

    def __init__(self, size: tuple[int, int]):
        self._size = size
        self.maps: list[np.ndarray] = []
        self._used: list[tuple[int, int]] = []  # position in maps, masks in it

    def add(self, rows: slice, columns: slice, mask: np.ndarray) -> tuple[int, int]:
        """Adds a mask; returns the position of its map, and its number there."""
        for turn, (position, used) in enumerate(self._used):
            part = self.maps[position][rows, columns]
            if used < _MOST and not part[mask].any():
                part[mask] = used + 1
                self._used[turn] = (position, used + 1)
                return position, used + 1
        layer = np.zeros(self._size[::-1], np.uint8)
        layer[rows, columns][mask] = 1
        self.maps.append(layer)
        self._used.append((len(self.maps) - 1, 1))
        return len(self.maps) - 1, 1


class Frame:
    """A new picture: where points and maps came to lie in it."""

    def __init__(
        self, points: np.ndarray, maps: Sequence[np.ndarray], size: tuple[int, int], rule: KeepRule, store: MediaStore
    ):
        self.points, self.maps, self.size, self.rule, self.store = points, maps, size, rule, store
        self._found: dict[int, list[Any]] = {}

    def mask(self, position: int, number: int) -> tuple[int, int, np.ndarray] | None:
        """Column, row and pixels (bool) of a mask's tight box; nothing if no pixel is left."""
        from scipy import ndimage

        if position not in self._found:
            self._found[position] = ndimage.find_objects(self.maps[position])
        found = self._found[position]
        place = found[number - 1] if number <= len(found) else None
        if place is None:
            return None
        return place[1].start, place[0].start, self.maps[position][place] == number

    def fate(self, area: float | None, visible: float) -> str | None:
        """Why an object is dropped, if it is."""
        if not visible > 0 or (area is not None and area <= 0):
            return "not in the picture"
        if area is not None and area < self.rule.min_area:
            return "smaller than min_area"
        return "less visible than min_visibility" if visible < self.rule.min_visibility else None


@dataclass
class Region:
    """A box, perhaps with a mask."""

    label: Stored
    where: slice
    outline: np.ndarray | None
    pixels: int
    layer: tuple[int, int] | None

    def moved(self, frame: Frame, tally: Tally) -> Any:
        """The label in a new picture; ``None`` if it is dropped."""
        points = frame.points[self.where]
        points = points[np.isfinite(points).all(axis=1)]
        if self.outline is None or len(points) < 3:
            tally.dropped["not in the picture"] += 1
            return None
        low, high = points.min(axis=0), points.max(axis=0)
        box: Sequence[float] | None
        mask = None
        if self.layer is None:
            inner = np.clip([low, high], 0, frame.size)
            area = float(np.prod(inner[1] - inner[0]))
            visible = area / max(float(np.prod(high - low)), 1e-9)
            box = _relative(inner, frame.size)
        else:
            found = frame.mask(*self.layer)
            if found is None:
                tally.dropped["not in the picture"] += 1
                return None
            x, y, mask = found
            tight = np.array([[x, y], [x + mask.shape[1], y + mask.shape[0]]], float)
            if len(points) == len(self.outline):  # of an outline that is known in part nothing can be said
                _check(tight, low, high, frame.size, self.label)
            area = float(np.count_nonzero(mask))
            visible = min(1.0, area / max(self.pixels * area_of(points) / area_of(self.outline), 1e-9))
            box = relative_box((x, y, mask.shape[1], mask.shape[0]), *frame.size)
        reason = frame.fate(area, visible)
        if reason:
            tally.dropped[reason] += 1
            return None
        tally.carried += 1
        tally.cut += bool((low < -0.5).any() or (high > np.add(frame.size, 0.5)).any())
        return self._copy(box, mask, frame.store)

    def _copy(self, box: Sequence[float], mask: np.ndarray | None, store: MediaStore) -> Any:
        kept = {name: value for name, value in self.label.items() if name not in ("mask", "mask_path")}
        new: Stored = copied(kept, bounding_box=list(box))
        if mask is not None and self.label.get("mask_path"):
            new["mask_path"] = store.write_image(mask.astype(np.uint8) * 255, ".png")
        elif mask is not None:
            new["mask"] = serialized(mask)
        return new


@dataclass
class Line:
    """A polygon, or a line, of one or more pieces."""

    label: Stored
    where: list[slice]
    outline: np.ndarray | None
    closed: bool
    extent: float

    def moved(self, frame: Frame, tally: Tally) -> Any:
        """The label in a new picture; ``None`` if it is dropped."""
        whole, kept = [], []
        for where in self.where:
            ring = frame.points[where]
            ring = ring[np.isfinite(ring).all(axis=1)]
            whole.append(ring)
            kept += [clipped_polygon(ring, frame.size)] if self.closed else clipped_line(ring, frame.size)
        least = 3 if self.closed else 2
        kept = [ring for ring in kept if len(ring) >= least]
        shown, full = extent(kept, self.closed), extent(whole, self.closed)
        reason = frame.fate(shown if self.closed else None, shown / full if full else 0.0)
        if reason:
            tally.dropped[reason] += 1
            return None
        tally.carried += 1
        tally.cut += shown < full - 0.5
        return copied(self.label, points=[(ring / frame.size).tolist() for ring in kept])


@dataclass
class Marks:
    """Points that mark something; those outside a picture are not known in it."""

    label: Stored
    where: slice
    outline: None = None

    def moved(self, frame: Frame, tally: Tally) -> Any:
        """The label in a new picture; ``None`` if it is dropped."""
        points = frame.points[self.where]
        inside = np.isfinite(points).all(axis=1) & (points >= 0).all(axis=1) & (points <= frame.size).all(axis=1)
        if not inside.any():
            tally.dropped["not in the picture"] += 1
            return None
        tally.carried += 1
        tally.cut += bool((np.isfinite(points).all(axis=1) & ~inside).any())
        return copied(self.label, points=np.where(inside[:, None], points / frame.size, math.nan).tolist())


@dataclass
class Map:
    """A mask or map of the whole picture."""

    label: Stored
    where: slice
    dtype: np.dtype
    ndim: int
    outline: None = None

    def moved(self, frame: Frame, tally: Tally) -> Any:
        """The label in a new picture; ``None`` if it is dropped."""
        planes = [plane.astype(self.dtype) for plane in frame.maps[self.where]]
        made = as_label(copied(self.label))
        keep_map(made, planes[0] if self.ndim == 2 else np.stack(planes, axis=-1), frame.store)
        return as_stored(made)


def singles(label: Stored) -> Sequence[Stored]:
    """The single labels of a label: those of its list, or itself."""
    many = LISTS.get(label["_cls"])
    return label.get(many) or () if many else (label,)


def copied(label: Stored, **values: Any) -> Stored:
    """A copy of a single label with an id of its own, and other values."""
    from bson import ObjectId

    return {**label, "_id": ObjectId(), **values}


def as_stored(label: Any) -> Stored:
    """A FiftyOne label as it is stored; one that is so already is returned itself."""
    if isinstance(label, dict):
        return label
    found: Stored = label.to_dict()
    return found


def as_label(label: Stored) -> Any:
    """The FiftyOne label of one as it is stored."""
    import fiftyone as fo

    return getattr(fo, label["_cls"]).from_dict(label)


def serialized(array: np.ndarray) -> bytes:
    """An array as it is stored."""
    from fiftyone.core.odm import serialize_value

    stored: bytes = serialize_value(array)
    return stored


def extent(rings: Sequence[np.ndarray], closed: bool) -> float:
    """Area or length of some rings or lines, in pixels."""
    return float(sum(area_of(ring) if closed else length_of(ring) for ring in rings))


def inside_box(outline: np.ndarray, size: tuple[int, int]) -> list[float] | None:
    """The box round an outline as far as it lies in the picture: relative left, top, right, bottom."""
    low, high = (np.clip(np.asarray(edge) / size, 0, 1) for edge in (outline.min(axis=0), outline.max(axis=0)))
    return [*low, *high] if (high > low).all() else None


def _relative(corners: np.ndarray, size: tuple[int, int]) -> list[float]:
    """A box between pixels as FiftyOne stores it, never beyond the picture."""
    (left, top), (right, bottom) = corners / size
    return [
        float(left),
        float(top),
        min(float(right - left), 1 - float(left)),
        min(float(bottom - top), 1 - float(top)),
    ]


def mask_of(
    label: Stored, box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[slice, slice, np.ndarray] | None:
    """Rows, columns and pixels (bool) of an object's mask in the picture; nothing if it has none there."""
    if label.get("mask") is None and label.get("mask_path") is None:
        return None
    named = label.get("mask_path") or label.get("label")
    try:
        mask = as_label(label).get_mask()
    except (OSError, ValueError) as error:
        raise RefusedImage("unreadable_mask", f"{named}: {error}") from error
    if mask is None or not mask.size:
        raise RefusedImage("unreadable_mask", f"{named} is missing or empty")
    shape = (mask if mask.ndim == 2 else mask.any(axis=2)) > 0
    left, top, right, bottom = (round(v) for v in box)
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    if shape.shape != (bottom - top, right - left):
        import cv2

        size_in_pixels = (right - left, bottom - top)
        shape = cv2.resize(shape.astype(np.uint8), size_in_pixels, interpolation=cv2.INTER_NEAREST) > 0
    shape = shape[max(0, -top) : max(0, size[1] - top), max(0, -left) : max(0, size[0] - left)]
    top, left = max(0, top), max(0, left)
    if not shape.any():
        return None
    return slice(top, top + shape.shape[0]), slice(left, left + shape.shape[1]), np.asarray(shape)


def _check(tight: np.ndarray, low: np.ndarray, high: np.ndarray, size: tuple[int, int], label: Stored) -> None:
    """Refuses a mask that lies elsewhere than its outline."""
    tolerance = max(TOLERANCE_PIXELS, TOLERANCE * max(size))
    beyond = float(np.max([low - tight[0], tight[1] - high]))
    if beyond > tolerance:
        raise RefusedImage(
            "labels_disagree",
            f"the mask of {label.get('label')!r} reaches {beyond:.0f} pixels beyond where its box was moved to (at "
            f"most {tolerance:.0f} may be rounding): a transform moves masks and boxes differently",
        )
