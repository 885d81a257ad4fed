"""Labels through any change of a picture's geometry: moved as its pixels are, cut at its border, dropped by rule.

Whatever changes the picture moves points and maps; what those were of, and what becomes of the labels, is known here::

    load = Load(labels, (width, height))
    points, maps = change(load.points, load.maps)  # as the pixels were moved
    labels = load.unload(points, maps, (new_width, new_height), rule, parent=sample_id, store=store, tally=tally)

Where a picture lies whole in a new one, and nothing can be cut, :mod:`fiftyone_idsynth.carrying` is enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .carrying import mark_inherited, read_map
from .errors import RefusedImage
from .label_parts import (
    LISTS,
    Frame,
    Layers,
    Line,
    Map,
    Marks,
    Region,
    Stored,
    as_label,
    as_stored,
    copied,
    extent,
    inside_box,
    mask_of,
    singles,
)
from .outlines import (
    CORNERS,
    dense,
    ellipse_in,
    rectangle_round,
)

if TYPE_CHECKING:
    from .media import MediaStore

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
        labels: field -> label of one of the classes :data:`fiftyone_idsynth.carrying.KINDS`, as an object or as it is
            stored, or ``None``
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
        self._fields = {name: as_stored(label) for name, label in labels.items() if label is not None}
        self._points: list[np.ndarray] = []
        self._count = 0
        self._layers = Layers(size)
        self.maps: list[np.ndarray] = self._layers.maps
        self._parts = {id(one): self._part(one) for label in self._fields.values() for one in singles(label)}
        self.points = np.concatenate(self._points) if self._points else np.zeros((0, 2))
        shapes = (part.outline for part in self._parts.values() if part is not None)
        boxes = [inside_box(outline, size) for outline in shapes if outline is not None]
        self.boxes = np.array([box for box in boxes if box is not None], float).reshape(-1, 4)

    @property
    def objects(self) -> int:
        """How many objects there are that a new picture may no longer show."""
        return sum(isinstance(part, (Region, Line, Marks)) for part in self._parts.values())

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
        for one in singles(self._fields[field]) if field in self._fields else ():
            part = self._parts[id(one)]
            if classes and one.get("label") not in classes:
                continue
            if isinstance(part, Region) and part.layer is not None:
                covered |= self.maps[part.layer[0]] == part.layer[1]
            elif isinstance(part, Region) and part.outline is not None:
                (left, top), (right, bottom) = np.rint([part.outline.min(axis=0), part.outline.max(axis=0)]).astype(int)
                covered[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = 1
            elif isinstance(part, Line) and part.outline is not None:
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
    ) -> dict[str, Stored | None]:
        """The labels in the new picture, as they are stored.

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
            RefusedImage: masks were moved elsewhere than outlines, see :data:`fiftyone_idsynth.label_parts.TOLERANCE`
        """
        frame = Frame(points, maps, size, rule, store)
        result: dict[str, Stored | None] = {}
        for name, label in self._fields.items():
            many = LISTS.get(label["_cls"])
            kept = []
            for one in singles(label):
                part = self._parts[id(one)]
                new = copied(one) if part is None else part.moved(frame, tally)
                if new is not None:
                    mark_inherited(new, parent)
                    kept.append(new)
            result[name] = {**label, many: kept} if many else kept[0] if kept else None
        return result

    def _add(self, points: np.ndarray) -> slice:
        self._points.append(points)
        self._count += len(points)
        return slice(self._count - len(points), self._count)

    def _part(self, label: Stored) -> Any:
        """What a single label is made of; nothing if it belongs to the picture as a whole."""
        kind = label["_cls"]
        if kind == "Detection":
            return self._region(label)
        if kind == "Polyline":
            return self._line(label)
        if kind == "Keypoint":
            points = np.array([point[:2] for point in label["points"]], float).reshape(-1, 2) * self.size
            return Marks(label, self._add(points))
        if kind in ("Segmentation", "Heatmap"):
            return self._map(label)
        return None

    def _region(self, label: Stored) -> Region:
        corners = np.array(label["bounding_box"], float).reshape(2, 2)
        corners[1] += corners[0]
        corners *= self.size
        left, top, right, bottom = corners.ravel()
        if not (np.isfinite(corners).all() and right > left and bottom > top):
            return Region(label, slice(0, 0), None, 0, None)
        place = mask_of(label, (left, top, right, bottom), self.size)
        if place is None:
            outline = ellipse_in(left, top, right, bottom, self._ellipse)
            return Region(label, self._add(outline), outline, 0, None)
        outline = rectangle_round(left, top, right, bottom, self._corners)
        rows, columns, mask = place
        return Region(label, self._add(outline), outline, int(mask.sum()), self._layers.add(rows, columns, mask))

    def _line(self, label: Stored) -> Line:
        closed = bool(label.get("closed") or label.get("filled"))
        rings = [np.array(ring, float).reshape(-1, 2) * self.size for ring in label["points"] if len(ring)]
        rings = [ring[np.isfinite(ring).all(axis=1)] for ring in rings]
        if self._bends:
            rings = [dense(ring, _STEP, closed) for ring in rings]
        outline = np.concatenate(rings) if rings else None
        return Line(label, [self._add(ring) for ring in rings], outline, closed, extent(rings, closed))

    def _map(self, label: Stored) -> Map | None:
        array = read_map(as_label(label))
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
        return Map(label, slice(first, len(self.maps)), array.dtype, array.ndim)


def objects_in(labels: Mapping[str, Stored | None]) -> Iterator[Stored]:
    """The single labels of some fields, as they are stored."""
    for label in labels.values():
        if label is not None:
            yield from singles(label)
