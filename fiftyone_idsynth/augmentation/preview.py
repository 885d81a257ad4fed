"""A picture of some images beside variants of them, with their labels drawn in."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RefusedImage
from ..label_parts import as_label
from ..media import encode_image, read_image, write_atomically
from ..runs import fingerprint
from ..warping import Tally, objects_in

if TYPE_CHECKING:
    from ..parents import Parent
    from .variants import AugmentWorker

VARIANTS = 4
"""Variants of each image."""

_SIDE = 320
_COLOURS = ((230, 60, 60), (40, 160, 240), (60, 190, 80), (240, 170, 30), (170, 80, 220), (20, 190, 190))
_EMPTY = 235


def write_preview(parents: Iterable[Parent], worker: AugmentWorker, dataset: str) -> str:
    """Writes the picture: a row for each image, first the image itself.

    Args:
        parents: the images
        worker: what makes their variants
        dataset: its name

    Returns:
        a JPEG file in the folder for temporary files

    Raises:
        RefusedImage: none of the images can be used
    """
    rows: list[np.ndarray] = []
    refusal = RefusedImage("nothing_to_show", dataset)
    for parent in parents:
        try:
            rows.append(np.hstack([_cell(*shown) for shown in _shown(parent, worker)]))
        except RefusedImage as one:
            refusal = one
    if not rows:
        raise refusal
    data = encode_image(np.vstack(rows), ".jpg")
    path = os.path.join(tempfile.gettempdir(), f"idsynth-preview-{fingerprint(dataset, len(data), data.hex())}.jpg")
    write_atomically(path, data)
    return path


def _shown(parent: Parent, worker: AugmentWorker) -> list[tuple[np.ndarray, Mapping[str, Any]]]:
    """An image and variants of it; an empty one where none could be made."""
    picture = read_image(parent.filepath).pixels
    labels = worker.labels_of(parent)
    load = worker.load(labels, picture)
    shown: list[tuple[np.ndarray, Mapping[str, Any]]] = [(picture, labels)]
    for number in range(VARIANTS):
        try:
            variant = worker.make(picture, load, parent, number, Tally())
            shown.append((variant.pixels, variant.labels))
        except RefusedImage:
            shown.append((np.full((_SIDE, _SIDE, 3), _EMPTY, np.uint8), {}))
    return shown


def _cell(pixels: np.ndarray, labels: Mapping[str, Any]) -> np.ndarray:
    """A picture with its labels, in a square."""
    import cv2

    height, width = pixels.shape[:2]
    zoom = (_SIDE - 6) / max(height, width)
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    names: dict[str, int] = {}
    for one in map(as_label, objects_in(labels)):
        name = getattr(one, "label", None) or ""
        colour = _COLOURS[names.setdefault(name, len(names)) % len(_COLOURS)]
        _draw(small, one, colour)
    cell = np.full((_SIDE, _SIDE, 3), _EMPTY, np.uint8)
    top, left = (_SIDE - size[1]) // 2, (_SIDE - size[0]) // 2
    cell[top : top + size[1], left : left + size[0]] = small
    return cell


def _draw(picture: np.ndarray, label: Any, colour: Sequence[int]) -> None:
    import cv2
    import fiftyone as fo

    size = (picture.shape[1], picture.shape[0])
    if isinstance(label, fo.Detection):
        x, y, w, h = label.bounding_box
        (left, top), (right, bottom) = _pixels([(x, y), (x + w, y + h)], size)
        mask = label.get_mask() if label.has_mask else None
        if mask is not None and right > left and bottom > top:
            shape = cv2.resize((np.asarray(mask) > 0).astype(np.uint8), (right - left, bottom - top)) > 0
            part = picture[max(0, top) : bottom, max(0, left) : right]
            shape = shape[max(0, -top) :, max(0, -left) :][: part.shape[0], : part.shape[1]]
            part[shape] = (0.6 * part[shape] + 0.4 * np.array(colour)).astype(np.uint8)
        cv2.rectangle(picture, (left, top), (right, bottom), colour, 2)
    elif isinstance(label, fo.Polyline):
        for ring in label.points:
            cv2.polylines(picture, [_pixels(ring, size)], bool(label.closed or label.filled), colour, 2)
    elif isinstance(label, fo.Keypoint):
        known = [point for point in label.points if np.isfinite(point).all()]
        for point in _pixels(known, size):
            cv2.circle(picture, tuple(int(v) for v in point), 3, colour, -1)
    elif isinstance(label, fo.Segmentation):
        _tint(picture, label)


def _tint(picture: np.ndarray, label: Any) -> None:
    """Lays the classes of a mask of the whole picture over it."""
    import cv2

    mask = label.get_mask()
    if mask is None:
        return
    flat = np.asarray(mask) if np.ndim(mask) == 2 else np.asarray(mask).max(axis=2)
    small = cv2.resize(flat.astype(np.float32), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST).astype(int)
    colours = np.array(_COLOURS)[small % len(_COLOURS)]
    set_ = small > 0
    picture[set_] = (0.6 * picture[set_] + 0.4 * colours[set_]).astype(np.uint8)


def _pixels(points: Sequence[Sequence[float]], size: tuple[int, int]) -> np.ndarray:
    return np.rint(np.array(points, float).reshape(-1, 2) * size).astype(np.int32)
