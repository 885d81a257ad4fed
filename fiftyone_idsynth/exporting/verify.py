"""Loads an export back and compares it with what was meant to be written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import VerificationError
from .base import Format, Found, image_size
from .pictures import Object, Picture


@dataclass(slots=True)
class Expected:
    """What a file must read back as; see :class:`~.base.Found`. Areas come with the pixels they may differ by."""

    width: int
    height: int
    objects: list[tuple[str, tuple[float, ...], int | None, int]]
    label: str | None
    text: str | None
    counts: dict[int, int] | None

    @classmethod
    def of(cls, picture: Picture, written: Format) -> Expected:
        """Keeps the little of a written picture that its verification needs."""
        objects = []
        for item in picture.objects:
            x, y, w, h = item.box
            box: tuple[float, ...] = (x * picture.width, y * picture.height, w * picture.width, h * picture.height)
            area, slack = None, 0
            if written.masks and item.mask is not None:
                area, slack = int(item.mask.sum()), _edge_pixels(item.mask)
                if not written.stores_boxes:
                    box = _extent(item)
            objects.append((item.label, box, area, slack))
        counts = None if picture.pixels is None else value_counts(picture.pixels)
        return cls(picture.width, picture.height, objects, picture.label, picture.text, counts)


def verify_split(written: Format, split: str, expected: dict[str, Expected]) -> None:
    """Reads a split back with FiftyOne's importer and compares every image with what was meant.

    Compared are the classes and their order, which images there are, their sizes, and per image the labels: classes
    equal, box edges within the format's rounding, mask areas within what simplifying an outline can change.

    Args:
        written: the format, at the place where it was written
        split: the split
        expected: file name -> :class:`Expected`

    Raises:
        VerificationError: something differs; the message names the file
    """
    classes = written.read_classes(split)
    if classes != written.classes and sorted(classes) != sorted(written.classes):
        raise VerificationError(f"split {split!r} reads back with the classes {classes}, not {written.classes}")
    seen: set[str] = set()
    for found in written.read(split):
        wanted = expected.get(found.path.name)
        if wanted is None or found.path.name in seen:
            raise VerificationError(f"{found.path}: {'read twice' if wanted else 'an image that was not exported'}")
        seen.add(found.path.name)
        problem = _difference(written, wanted, found)
        if problem:
            raise VerificationError(
                f"{_shown(written.root, found.path)} does not read back as it was written: {problem}. The export was "
                "not put in place; please report this with the image's labels"
            )
    missing = expected.keys() - seen
    if missing:
        raise VerificationError(f"split {split!r}: {len(missing)} images do not read back, e.g. {min(missing)}")


def _difference(written: Format, wanted: Expected, found: Found) -> str:
    size = image_size(found.path)
    if size != (wanted.width, wanted.height):
        return f"{size[0]} x {size[1]} pixels instead of {wanted.width} x {wanted.height}"
    if found.label != wanted.label:
        return f"class {found.label!r} instead of {wanted.label!r}"
    if found.text != wanted.text:
        return f"caption {found.text!r} instead of {wanted.text!r}"
    if wanted.counts is not None:
        same = found.pixels is not None and value_counts(found.pixels) == wanted.counts
        return "" if same else "other mask pixels"
    if len(found.objects) != len(wanted.objects):
        return f"{len(found.objects)} objects instead of {len(wanted.objects)}"
    for (label, box, area), (wanted_label, wanted_box, wanted_area, slack) in zip(
        found.objects, wanted.objects, strict=True
    ):
        if label != wanted_label:
            return f"class {label!r} instead of {wanted_label!r}"
        if wanted_area is not None and (area is None or abs(area - wanted_area) > slack):
            return f"a mask of {area} pixels instead of {wanted_area}"
        if not _same_box(box, wanted_box, written.box_tolerance):
            return f"box {_rounded(box)} instead of {_rounded(wanted_box)}"
    return ""


def value_counts(pixels: np.ndarray) -> dict[int, int]:
    """How many pixels have each value."""
    values, counts = np.unique(pixels, return_counts=True)
    return {int(v): int(c) for v, c in zip(values, counts, strict=True)}


def _same_box(a: Sequence[float], b: Sequence[float], tolerance: float) -> bool:
    edges = [np.array([x, y, x + w, y + h]) for x, y, w, h in (a, b)]
    return bool(np.abs(edges[0] - edges[1]).max() <= tolerance)


def _extent(item: Object) -> tuple[float, ...]:
    assert item.mask is not None
    rows, columns = np.flatnonzero(item.mask.any(axis=1)), np.flatnonzero(item.mask.any(axis=0))
    x, y = item.corner
    return (x + columns[0], y + rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0])


def _edge_pixels(mask: np.ndarray) -> int:
    """How many pixels simplifying the outline can add or remove at most: those along the edge, and a few."""
    import cv2

    padded = np.pad(mask, 1).astype(np.uint8)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8))
    return int(padded.sum() - eroded.sum()) + 4


def _rounded(box: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:.2f}" for value in box) + "]"


def _shown(root: Path, path: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path
