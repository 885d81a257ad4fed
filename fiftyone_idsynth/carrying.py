"""Labels that are carried over to a picture made from another one, moved to where their objects are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import RefusedImage

if TYPE_CHECKING:
    import fiftyone as fo
    from fiftyone.core.collections import SampleCollection

    from .media import MediaStore

KINDS = (
    "Classification", "Classifications", "Detection", "Detections", "Polyline", "Polylines", "Keypoint", "Keypoints",
    "Segmentation", "Heatmap",
)  # fmt: skip
"""FiftyOne's label classes that can be carried over."""


@dataclass(frozen=True)
class Move:
    """Where a picture lies in a new one.

    Attributes:
        old: its width and height in pixels
        new: width and height of the new one
        at: column and row of its upper left corner in the new one
    """

    old: tuple[int, int]
    new: tuple[int, int]
    at: tuple[int, int] = (0, 0)

    def point(self, point: Sequence[float]) -> tuple[float, float]:
        """A relative point (0..1) of the old picture in the new one; points that are not known (NaN) stay so."""
        x, y = ((p * old + at) / new for p, old, at, new in zip(point, self.old, self.at, self.new, strict=True))
        return x, y

    def box(self, box: Sequence[float]) -> list[float]:
        """A relative box (x, y, width, height) of the old picture in the new one."""
        pixels = [value * side for value, side in zip(box, self.old * 2, strict=True)]
        pixels[:2] = [value + at for value, at in zip(pixels[:2], self.at, strict=True)]
        whole = [round(value) for value in pixels]
        if max(abs(value - near) for value, near in zip(pixels, whole, strict=True)) < 1e-6:
            return relative_box((whole[0], whole[1], whole[2], whole[3]), *self.new)
        return [value / side for value, side in zip(pixels, self.new * 2, strict=True)]

    def array(self, array: np.ndarray) -> np.ndarray:
        """An array of the old picture's height and width in the new one, 0 round it."""
        (x, y), (width, height), (new_width, new_height) = self.at, self.old, self.new
        if array.shape[:2] != (height, width):
            size = f"{array.shape[1]} x {array.shape[0]}"
            raise RefusedImage("mask_of_other_size", f"the mask is {size}, the image {width} x {height} pixels")
        rest = ((0, 0),) * (array.ndim - 2)
        return np.pad(array, ((y, new_height - height - y), (x, new_width - width - x), *rest))


@dataclass(frozen=True)
class Rescaled(Move):
    """A picture that fills a new one of another size: what is relative stays, masks of the whole picture are scaled."""

    def point(self, point: Sequence[float]) -> tuple[float, float]:
        return point[0], point[1]

    def box(self, box: Sequence[float]) -> list[float]:
        return list(box)

    def array(self, array: np.ndarray) -> np.ndarray:
        """An array in the new size; each value is that of the old pixel under the new one's centre."""
        (width, height), (new_width, new_height) = self.old, self.new
        if array.shape[:2] != (height, width):
            size = f"{array.shape[1]} x {array.shape[0]}"
            raise RefusedImage("mask_of_other_size", f"the mask is {size}, the image {width} x {height} pixels")
        rows = ((np.arange(new_height) + 0.5) * height / new_height).astype(int)
        columns = ((np.arange(new_width) + 0.5) * width / new_width).astype(int)
        return np.ascontiguousarray(array[rows[:, None], columns])


def label_fields(dataset: fo.Dataset) -> tuple[str, ...]:
    """The fields of a dataset whose labels can be carried over."""
    import fiftyone as fo

    kinds = tuple(getattr(fo, kind) for kind in KINDS)
    schema = dataset.get_field_schema(ftype=fo.EmbeddedDocumentField)
    return tuple(name for name, field in schema.items() if issubclass(field.document_type, kinds))


def chosen_fields(samples: SampleCollection, names: Sequence[str] | None) -> tuple[str, ...]:
    """The fields whose labels are carried over: those that are named, else all.

    Raises:
        FieldError: one of them does not hold labels that can be carried over
    """
    import fiftyone as fo

    from .samples import dataset_of, require_field

    if names is None:
        return label_fields(dataset_of(samples))
    for name in names:
        require_field(samples, name, *(getattr(fo, kind) for kind in KINDS), parameter="label_fields")
    return tuple(dict.fromkeys(names))


def carried(label: Any, move: Move, parent: str, store: MediaStore) -> Any:
    """A copy of a label for a picture made from the one that it belongs to.

    Every single label gets the attributes ``inherited`` and ``inherited_from``, the id of the sample that it was made
    for. Masks of detections are relative to their boxes and stay as they are; those of whole pictures are written anew.

    Args:
        label: a label of one of the classes :data:`KINDS`, or ``None``
        move: where the picture lies in the new one
        parent: the id of its sample
        store: where masks are written

    Raises:
        RefusedImage: a mask cannot be read, or is not of the picture's size
    """
    if label is None:
        return None
    copy = label.copy()
    many = getattr(copy, "_LABEL_LIST_FIELD", None)
    for one in getattr(copy, many) if many else [copy]:
        _move(one, move, store)
        mark_inherited(one, parent)
    return copy


def mark_inherited(label: Any, parent: str) -> None:
    """Notes on a single label that it was carried over, and the id of the sample that it was made for."""
    label["inherited"] = True
    label["inherited_from"] = parent


def read_map(label: Any) -> np.ndarray | None:
    """The mask of a segmentation, or the map of a heatmap; ``None`` if it has none.

    Raises:
        RefusedImage: its file cannot be read
    """
    name = _map_name(label)
    try:
        array = label.get_mask() if name == "mask" else label.get_map()
    except (OSError, ValueError) as error:
        raise RefusedImage("unreadable_mask", f"{label[f'{name}_path']}: {error}") from error
    return None if array is None else np.asarray(array)


def keep_map(label: Any, array: np.ndarray, store: MediaStore) -> None:
    """Gives a segmentation or heatmap another mask or map, kept where the old one was if that is possible exactly."""
    name = _map_name(label)
    if label[f"{name}_path"] and array.dtype == np.uint8:
        label[f"{name}_path"], label[name] = store.write_image(array, ".png"), None
    else:  # in the database, or a map of numbers, which no image file holds exactly
        label[f"{name}_path"], label[name] = None, array


def _map_name(label: Any) -> str:
    return "mask" if label._cls == "Segmentation" else "map"


def _move(label: Any, move: Move, store: MediaStore) -> None:
    import fiftyone as fo

    if isinstance(label, fo.Detection):
        label.bounding_box = move.box(label.bounding_box)
    elif isinstance(label, fo.Polyline):
        label.points = [[move.point(point) for point in shape] for shape in label.points]
    elif isinstance(label, fo.Keypoint):
        label.points = [move.point(point) for point in label.points]
    elif isinstance(label, (fo.Segmentation, fo.Heatmap)) and move.old != move.new:
        array = read_map(label)
        if array is not None:
            keep_map(label, move.array(array), store)


def relative_box(box: tuple[int, int, int, int], width: int, height: int) -> list[float]:
    """A box in whole pixels as FiftyOne stores it: ``[x, y, width, height]`` relative to the image, 0 to 1.

    FiftyOne cuts ``x * width`` off to whole pixels when it draws a mask, so ``59 / 320``, which comes back as
    58.999..., would move it by a pixel. The numbers returned come back whole.

    Args:
        box: ``(x, y, width, height)`` in pixels
        width: of the image in pixels
        height: of the image in pixels
    """
    x, y, w, h = box
    left, across = _relative_side(x, w, width)
    top, down = _relative_side(y, h, height)
    return [left, top, across, down]


def _relative_side(start: int, length: int, size: int) -> tuple[float, float]:
    low = start / size
    while int(size * low) < start:
        low = float(np.nextafter(low, 1))
    side = (start + length) / size - low
    while int(size * (low + side)) < start + length:
        side = float(np.nextafter(side, 1))
    return low, side
