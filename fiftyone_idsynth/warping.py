"""Labels through any change of a picture's geometry: moved as its pixels are, cut at its border, dropped by rule.

Whatever changes the picture moves points and maps; what those were of, and what becomes of the labels, is known here::

    load = Load(labels, (width, height))
    points, maps = change(load.points, load.maps)  # as the pixels were moved
    labels = load.unload(points, maps, (new_width, new_height), rule, parent=sample_id, store=store, tally=tally)

Where a picture lies whole in a new one, and nothing can be cut, :mod:`fiftyone_idsynth.carrying` is enough.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .carrying import keep_map, mark_inherited, read_map, relative_box
from .errors import RefusedImage
from .outlines import (
    CORNERS,
    area_of,
    clipped_line,
    clipped_polygon,
    dense,
    ellipse_in,
    length_of,
    rectangle_round,
)

if TYPE_CHECKING:
    from .media import MediaStore

TOLERANCE = 0.01
"""How far the box round an object's moved mask may reach beyond its moved outline, as a share of the new picture's
longer side; :data:`TOLERANCE_PIXELS` at least, because masks are moved to the nearest pixel."""

TOLERANCE_PIXELS = 3.0

_MOST = 255
"""Masks that one map of bytes can tell apart."""

_STEP = 8.0
"""Longest piece of a straight line, in pixels, where lines may become curves."""


@dataclass(frozen=True)
class KeepRule:
    """Which objects stay that a new picture shows in part.

    Attributes:
        min_area: least visible area in pixels of the new picture, for what has an area
        min_visibility: least visible share of the object, 0 to 1, as large as it would be without the border
    """

    min_area: float = 16.0
    min_visibility: float = 0.25


@dataclass
class Tally:
    """What became of objects: how many were carried over, cut at the border, and dropped, by reason."""

    carried: int = 0
    cut: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def outputs(self) -> dict[str, Any]:
        """The counts, as reports show them."""
        counts = {"objects carried over": self.carried, "cut at the border": self.cut}
        return {name: count for name, count in counts.items() if count} | {
            "objects dropped": dict(sorted(self.dropped.items()))
        }

    def add(self, other: Tally) -> None:
        """Adds the counts of another one."""
        self.carried += other.carried
        self.cut += other.cut
        self.dropped.update(other.dropped)


@dataclass(frozen=True)
class Placement:
    """A picture that is scaled and put into a frame, which may cut it off and may be larger.

    Attributes:
        old: its width and height in pixels
        new: width and height of the frame
        scale: how much wider and higher it becomes
        at: column and row of its upper left corner in the frame; may lie outside
    """

    old: tuple[int, int]
    new: tuple[int, int]
    scale: tuple[float, float] = (1.0, 1.0)
    at: tuple[float, float] = (0.0, 0.0)

    def __call__(self, points: np.ndarray, maps: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Points and maps of the picture in the frame; maps are 0 where the picture is not."""
        return points * self.scale + self.at, [self._map(one) for one in maps]

    def _map(self, array: np.ndarray) -> np.ndarray:
        """The value of the old pixel under each new one's centre."""
        inside, index = [], []
        for axis in (1, 0):  # rows, columns
            position = np.floor((np.arange(self.new[axis]) + 0.5 - self.at[axis]) / self.scale[axis]).astype(int)
            within = (position >= 0) & (position < self.old[axis])
            inside.append(within)
            index.append(position[within])
        result = np.zeros(self.new[::-1], array.dtype)
        result[np.ix_(*inside)] = array[np.ix_(*index)]
        return result


class Load:
    """The labels of a picture, taken apart into points and maps.

    Attributes:
        points: float array, N x 2: columns and rows in pixels; the picture's upper left corner is (0, 0), its lower
            right one (width, height); not a number where a keypoint is not known
        maps: arrays of the picture's height and width, of uint8 or float32, to be moved without mixing values
        boxes: the boxes round the objects, clipped to the picture: N x 4, relative: left, top, right, bottom

    Args:
        labels: field -> label of one of the classes :data:`fiftyone_idsynth.carrying.KINDS`, or ``None``
        size: width and height of the picture in pixels
        bends (False): whether straight lines can become curves; they are then taken apart more finely
        turns (True): whether upright boxes can become others; if not, four points of each are enough

    Raises:
        RefusedImage: a mask cannot be read, or is not of the picture's size
    """

    def __init__(self, labels: Mapping[str, Any], size: tuple[int, int], *, bends: bool = False, turns: bool = True):
        self.size, self._bends = size, bends
        self._corners = CORNERS if bends else 4
        self._ellipse = CORNERS if bends or turns else 4
        self._fields = {name: label for name, label in labels.items() if label is not None}
        self._points: list[np.ndarray] = []
        self._count = 0
        self._layers = _Layers(size)
        self.maps: list[np.ndarray] = self._layers.maps
        self._parts = {id(one): self._part(one) for label in self._fields.values() for one in _singles(label)}
        self.points = np.concatenate(self._points) if self._points else np.zeros((0, 2))
        shapes = (part.outline for part in self._parts.values() if part is not None)
        boxes = [_inside_box(outline, size) for outline in shapes if outline is not None]
        self.boxes = np.array([box for box in boxes if box is not None], float).reshape(-1, 4)

    @property
    def objects(self) -> int:
        """How many objects there are that a new picture may no longer show."""
        return sum(isinstance(part, (_Region, _Line, _Marks)) for part in self._parts.values())

    def cover(self, field: str, classes: Sequence[str] = ()) -> np.ndarray:
        """The pixels that the objects of a field cover: by their masks and polygons, by boxes where they have neither.

        Args:
            field: the field
            classes (()): only objects of these classes; all by default

        Returns:
            bool array of the picture's size
        """
        import cv2

        covered = np.zeros(self.size[::-1], np.uint8)
        for one in _singles(self._fields[field]) if field in self._fields else ():
            part = self._parts[id(one)]
            if classes and one.label not in classes:
                continue
            if isinstance(part, _Region) and part.layer is not None:
                covered |= self.maps[part.layer[0]] == part.layer[1]
            elif isinstance(part, _Region) and part.outline is not None:
                (left, top), (right, bottom) = np.rint([part.outline.min(axis=0), part.outline.max(axis=0)]).astype(int)
                covered[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = 1
            elif isinstance(part, _Line) and part.outline is not None:
                cv2.fillPoly(covered, [np.rint(self.points[where] - 0.5).astype(np.int32) for where in part.where], 1)
        return covered > 0

    def unload(
        self,
        points: np.ndarray,
        maps: Sequence[np.ndarray],
        size: tuple[int, int],
        rule: KeepRule,
        *,
        parent: str,
        store: MediaStore,
        tally: Tally,
    ) -> dict[str, Any]:
        """The labels in the new picture.

        Args:
            points: :attr:`points` moved, in the same order; not a number where one was lost
            maps: :attr:`maps` moved
            size: width and height of the new picture
            rule: which objects stay
            parent: the id of the sample that the labels belong to
            store: where masks are written that were in files
            tally: counts what became of the objects

        Returns:
            field -> label; lists of objects without those that are gone, ``None`` for single ones that are

        Raises:
            RefusedImage: masks were moved elsewhere than outlines, see :data:`TOLERANCE`
        """
        frame = _Frame(points, maps, size, rule, store)
        result = {}
        for name, label in self._fields.items():
            many = getattr(label, "_LABEL_LIST_FIELD", None)
            kept = []
            for one in _singles(label):
                part = self._parts[id(one)]
                new = one.copy() if part is None else part.moved(frame, tally)
                if new is not None:
                    mark_inherited(new, parent)
                    kept.append(new)
            result[name] = type(label)(**{many: kept}) if many else kept[0] if kept else None
        return result

    def _add(self, points: np.ndarray) -> slice:
        self._points.append(points)
        self._count += len(points)
        return slice(self._count - len(points), self._count)

    def _part(self, label: Any) -> Any:
        """What a single label is made of; nothing if it belongs to the picture as a whole."""
        import fiftyone as fo

        if isinstance(label, fo.Detection):
            return self._region(label)
        if isinstance(label, fo.Polyline):
            return self._line(label)
        if isinstance(label, fo.Keypoint):
            points = np.array([point[:2] for point in label.points], float).reshape(-1, 2) * self.size
            return _Marks(label, self._add(points))
        if isinstance(label, (fo.Segmentation, fo.Heatmap)):
            return self._map(label)
        return None

    def _region(self, label: Any) -> _Region:
        corners = np.array(label.bounding_box, float).reshape(2, 2)
        corners[1] += corners[0]
        corners *= self.size
        left, top, right, bottom = corners.ravel()
        if not (np.isfinite(corners).all() and right > left and bottom > top):
            return _Region(label, slice(0, 0), None, 0, None)
        place = _mask_of(label, (left, top, right, bottom), self.size)
        if place is None:
            outline = ellipse_in(left, top, right, bottom, self._ellipse)
            return _Region(label, self._add(outline), outline, 0, None)
        outline = rectangle_round(left, top, right, bottom, self._corners)
        rows, columns, mask = place
        return _Region(label, self._add(outline), outline, int(mask.sum()), self._layers.add(rows, columns, mask))

    def _line(self, label: Any) -> _Line:
        closed = bool(label.closed or label.filled)
        rings = [np.array(ring, float).reshape(-1, 2) * self.size for ring in label.points if len(ring)]
        rings = [ring[np.isfinite(ring).all(axis=1)] for ring in rings]
        if self._bends:
            rings = [dense(ring, _STEP, closed) for ring in rings]
        outline = np.concatenate(rings) if rings else None
        return _Line(label, [self._add(ring) for ring in rings], outline, closed, _extent(rings, closed))

    def _map(self, label: Any) -> _Map | None:
        array = read_map(label)
        if array is None:
            return None
        width, height = self.size
        if array.shape[:2] != (height, width):
            found = f"{array.shape[1]} x {array.shape[0]}"
            raise RefusedImage("mask_of_other_size", f"the mask is {found}, the image {width} x {height} pixels")
        planes = [array] if array.ndim == 2 else [array[..., n] for n in range(array.shape[2])]
        first = len(self.maps)
        exact = array.dtype == np.uint8
        self.maps += [np.ascontiguousarray(p if exact else p.astype(np.float32)) for p in planes]
        return _Map(label, slice(first, len(self.maps)), array.dtype, array.ndim)


class _Layers:
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


class _Frame:
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
class _Region:
    """A box, perhaps with a mask."""

    label: Any
    where: slice
    outline: np.ndarray | None
    pixels: int
    layer: tuple[int, int] | None

    def moved(self, frame: _Frame, tally: Tally) -> Any:
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
        values = {name: value for name, value in self.label.iter_fields() if name not in ("id", "mask", "mask_path")}
        values["bounding_box"] = list(box)
        if mask is not None and self.label.mask_path:
            values["mask_path"] = store.write_image(mask.astype(np.uint8) * 255, ".png")
        elif mask is not None:
            values["mask"] = mask
        return type(self.label)(**values)


@dataclass
class _Line:
    """A polygon, or a line, of one or more pieces."""

    label: Any
    where: list[slice]
    outline: np.ndarray | None
    closed: bool
    extent: float

    def moved(self, frame: _Frame, tally: Tally) -> Any:
        whole, kept = [], []
        for where in self.where:
            ring = frame.points[where]
            ring = ring[np.isfinite(ring).all(axis=1)]
            whole.append(ring)
            kept += [clipped_polygon(ring, frame.size)] if self.closed else clipped_line(ring, frame.size)
        least = 3 if self.closed else 2
        kept = [ring for ring in kept if len(ring) >= least]
        shown, full = _extent(kept, self.closed), _extent(whole, self.closed)
        reason = frame.fate(shown if self.closed else None, shown / full if full else 0.0)
        if reason:
            tally.dropped[reason] += 1
            return None
        tally.carried += 1
        tally.cut += shown < full - 0.5
        copy = self.label.copy()
        copy.points = [[(float(x), float(y)) for x, y in ring / frame.size] for ring in kept]
        return copy


@dataclass
class _Marks:
    """Points that mark something; those outside a picture are not known in it."""

    label: Any
    where: slice
    outline: None = None

    def moved(self, frame: _Frame, tally: Tally) -> Any:
        points = frame.points[self.where]
        inside = np.isfinite(points).all(axis=1) & (points >= 0).all(axis=1) & (points <= frame.size).all(axis=1)
        if not inside.any():
            tally.dropped["not in the picture"] += 1
            return None
        tally.carried += 1
        tally.cut += bool((np.isfinite(points).all(axis=1) & ~inside).any())
        copy = self.label.copy()
        relative = np.where(inside[:, None], points / frame.size, math.nan)
        copy.points = [(float(x), float(y)) for x, y in relative]
        return copy


@dataclass
class _Map:
    """A mask or map of the whole picture."""

    label: Any
    where: slice
    dtype: np.dtype
    ndim: int
    outline: None = None

    def moved(self, frame: _Frame, tally: Tally) -> Any:
        planes = [plane.astype(self.dtype) for plane in frame.maps[self.where]]
        copy = self.label.copy()
        keep_map(copy, planes[0] if self.ndim == 2 else np.stack(planes, axis=-1), frame.store)
        return copy


def _singles(label: Any) -> Iterable[Any]:
    many = getattr(label, "_LABEL_LIST_FIELD", None)
    return getattr(label, many) if many else (label,)


def _extent(rings: Sequence[np.ndarray], closed: bool) -> float:
    """Area or length of some rings or lines, in pixels."""
    return float(sum(area_of(ring) if closed else length_of(ring) for ring in rings))


def _inside_box(outline: np.ndarray, size: tuple[int, int]) -> list[float] | None:
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


def _mask_of(
    label: Any, box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[slice, slice, np.ndarray] | None:
    """Rows, columns and pixels (bool) of an object's mask in the picture; nothing if it has none there."""
    if not label.has_mask:
        return None
    try:
        mask = label.get_mask()
    except (OSError, ValueError) as error:
        raise RefusedImage("unreadable_mask", f"{label.mask_path or label.label}: {error}") from error
    if mask is None or not mask.size:
        raise RefusedImage("unreadable_mask", f"{label.mask_path or label.label} is missing or empty")
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


def _check(tight: np.ndarray, low: np.ndarray, high: np.ndarray, size: tuple[int, int], label: Any) -> None:
    """Refuses a mask that lies elsewhere than its outline."""
    tolerance = max(TOLERANCE_PIXELS, TOLERANCE * max(size))
    beyond = float(np.max([low - tight[0], tight[1] - high]))
    if beyond > tolerance:
        raise RefusedImage(
            "labels_disagree",
            f"the mask of {label.label!r} reaches {beyond:.0f} pixels beyond where its box was moved to (at most "
            f"{tolerance:.0f} may be rounding): a transform moves masks and boxes differently",
        )


def objects_in(labels: Mapping[str, Any]) -> Iterator[Any]:
    """The single labels of some fields."""
    for label in labels.values():
        if label is not None:
            yield from _singles(label)
