"""Names and numbers of exported images that stay the same when other images are added."""

from __future__ import annotations

import os
import re
import unicodedata
from typing import TYPE_CHECKING

from .. import fields
from ..samples import set_fields

if TYPE_CHECKING:
    import fiftyone as fo

NEXT_ID = "idsynth_next_export_id"

_CONTENT_NAME = re.compile(r"[0-9a-f]{32,}")


def file_stem(path: str, original: str | None = None) -> str:
    """The readable part of an exported file's name, safe on every file system.

    Letters of every script stay. A file of the media store is named by its content; the original's name is used if
    there is one.

    Args:
        path: the sample's file
        original (None): the file it was converted from
    """
    stem = os.path.splitext(os.path.basename(path))[0]
    if _CONTENT_NAME.fullmatch(stem):
        stem = os.path.splitext(os.path.basename(original))[0] if original else stem[:16]
    stem = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", stem)).strip("._-")
    while len(stem.encode()) > 80:
        stem = stem[:-1]
    return stem or "image"


class FileNames:
    """Gives each image a name that is its own: stem, first eight digits of the SHA-256 of its file, extension.

    A name depends on nothing but the file, unless two samples share both stem and content: then all but the one with
    the lowest export id also carry their export id. Samples must come in the order of their export ids.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name(self, stem: str, sha256: str, ext: str, export_id: int) -> str:
        """Returns the name of one image."""
        base = f"{stem}_{sha256[:8]}"
        if base.casefold() in self._taken:
            base = f"{base}-{export_id}"
        self._taken.add(base.casefold())
        return base + ext


def assign_export_ids(dataset: fo.Dataset, samples: fo.SampleCollection) -> None:
    """Gives every sample that has none yet the next number; a number is never given twice, also not after deletions.

    Args:
        dataset: the dataset, whose ``info`` keeps the next number
        samples: the samples that are exported
    """
    fields.declare(dataset, "export_id")
    pairs = list(zip(*samples.values(["id", "export_id"]), strict=True))
    seen: set[int] = set()
    fresh = []
    for sample_id, number in sorted(pairs):
        if number is None or number in seen:  # copies of a sample bring its number with them
            fresh.append(sample_id)
        else:
            seen.add(number)
    if not fresh:
        return
    highest = dataset.bounds("export_id")[1] or 0
    first = max(int(dataset.info.get(NEXT_ID, 1)), int(highest) + 1)
    # The counter moves first: a run that dies here wastes numbers, and gives none twice.
    dataset.info[NEXT_ID] = first + len(fresh)
    dataset.save()
    set_fields(dataset, {"export_id": {sample_id: first + i for i, sample_id in enumerate(fresh)}})
