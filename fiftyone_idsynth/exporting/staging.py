"""Prepares samples for a format: a clean copy of each image under its final name, and its labels."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RefusedImage
from ..samples import pages
from .base import Format
from .captions import TEXT_FIELDS, one_line
from .credits import licenses_of
from .names import FileNames, file_stem
from .pictures import Picture, to_objects
from .selection import Row, Selection

if TYPE_CHECKING:
    import fiftyone as fo

AHEAD = 8
"""How many images per worker are prepared ahead of the one that is written."""


@dataclass
class Staging:
    """Prepares the samples of a selection, one split after the other.

    Args:
        dataset: the dataset
        selection: what is exported
        written: the format
        folder: where clean copies wait
        num_workers: how many images are copied at the same time
        semantic: whether the label field holds one mask per image

    Attributes:
        dropped: objects that were left out, by reason
        failed: ``(file, why)`` per image that was left out
        names: sample id -> file name of every image that was prepared
    """

    dataset: fo.Dataset
    selection: Selection
    written: Format
    folder: Path
    num_workers: int
    semantic: bool = False
    dropped: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[str, str]] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    _names: FileNames = field(default_factory=FileNames)

    def pictures(self, split: str) -> Iterator[Picture]:
        """Yields the pictures of a split in the order of their export ids; those that cannot be used are recorded."""
        with ThreadPoolExecutor(self.num_workers) as pool:
            rows = iter(self._rows(split))
            ahead: list[tuple[Row, dict[str, Any], Future[_Copy]]] = []
            try:
                while True:
                    for row, values in islice(rows, AHEAD * self.num_workers - len(ahead)):
                        copy = pool.submit(_clean, row.filepath, self.folder / f"{row.id}.partial")
                        ahead.append((row, values, copy))
                    if not ahead:
                        return
                    row, values, copy = ahead.pop(0)
                    try:
                        yield self._picture(row, values, copy.result())
                    except RefusedImage as error:
                        self.failed.append((row.filepath, str(error)))
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _rows(self, split: str) -> Iterator[tuple[Row, dict[str, Any]]]:
        """The rows of a split with the field values that are read per page, not all at once."""
        rows = {row.id: row for row in self.selection.split(split)}
        schema = self.dataset.get_field_schema()
        wanted = [self.selection.label_field] if self.selection.label_field else list(TEXT_FIELDS)
        paths = [path for path in [*wanted, "source.path"] if path.partition(".")[0] in schema]
        for page in pages(list(rows)):
            columns = self.dataset.select(page, ordered=True).values(["id", *paths])
            for sample_id, *values in zip(*columns, strict=True):
                yield rows[sample_id], dict(zip(paths, values, strict=True))

    def _picture(self, row: Row, values: dict[str, Any], copy: _Copy) -> Picture:
        label: Any = values.get(self.selection.label_field) if self.selection.label_field else None
        picture = Picture(
            row.id, row.export_id, row.split, "", copy.path, copy.width, copy.height, copy.channels,
            licenses_of(row.credits),
        )  # fmt: skip
        kind = self.written
        if not kind.labels:
            texts = [label] if self.selection.label_field else [values.get(name) for name in TEXT_FIELDS]
            picture.text = next((one_line(text) for text in texts if one_line(text)), None)
        elif self.semantic:
            picture.pixels = _semantic_mask(label, copy)
        elif kind.labels == ("Classification",):
            picture.label = label.label
        else:
            picture.objects = to_objects(
                label, copy.width, copy.height,
                classes=self.selection.classes, masks=kind.draws_masks, dropped=self.dropped,
            )  # fmt: skip
        stem = file_stem(row.filepath, values.get("source.path"))
        picture.name = self._names.name(stem, copy.sha256, copy.ext, row.export_id)
        picture.path = copy.path.rename(self.folder / picture.name)
        self.names[row.id] = picture.name
        return picture


@dataclass(frozen=True, slots=True)
class _Copy:
    path: Path
    ext: str
    sha256: str
    width: int
    height: int
    channels: int


def _clean(source: str, target: Path) -> _Copy:
    from PIL import Image

    from ..media import clean_copy, read_bytes

    sha256 = hashlib.sha256(read_bytes(source)).hexdigest()
    data, ext = clean_copy(source)
    with Image.open(io.BytesIO(data)) as image:
        width, height, channels = *image.size, len(image.getbands())
    target.write_bytes(data)
    return _Copy(target, ext, sha256, width, height, channels)


def _semantic_mask(label: fo.Segmentation | None, copy: _Copy) -> np.ndarray:
    """The mask of an image in the image's own size; an image without label is background throughout."""
    import cv2

    if label is None:
        return np.zeros((copy.height, copy.width), np.uint8)
    try:
        mask = label.get_mask()
    except (OSError, ValueError) as error:
        raise RefusedImage("mask_unreadable", f"{label.mask_path}: {error}") from error
    if mask is None:
        raise RefusedImage("no_mask", "its label has no mask")
    if mask.ndim != 2 or mask.min() < 0 or mask.max() > 255:
        raise RefusedImage("mask_values", "masks are exported with pixel values 0 to 255")
    mask = np.asarray(mask, np.uint8)
    if mask.shape != (copy.height, copy.width):
        mask = cv2.resize(mask, (copy.width, copy.height), interpolation=cv2.INTER_NEAREST)
    return mask
