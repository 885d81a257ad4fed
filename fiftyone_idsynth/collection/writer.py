"""Adds collected images to the dataset in bulk, each complete with its provenance."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .. import fields
from ..licenses import license_key
from .arrival import Arrival
from .harvest import Finding
from .sources.base import Source

if TYPE_CHECKING:
    import fiftyone as fo

    from ..runs import Run

WRITE_EVERY_SAMPLES = 50
WRITE_EVERY_SECONDS = 2.0


class Writer:
    """Adds samples in bulk.

    The first sample of a run is added by FiftyOne, which checks it and makes the fields. The others are written as
    documents of the same shape: making and checking 500 samples as objects takes as long as downloading them.

    Args:
        dataset: the dataset
        run: the run that counts
        topic: what is collected
        class_field: a classification field that gets the topic, or ``None``
        captions: what becomes the caption: ``"query"``, ``"title"``, ``"description"`` or ``"none"``
        tags: tags of every sample

    Attributes:
        store: where the files go
        hashes: the contents that wait to be written
    """

    def __init__(
        self, dataset: fo.Dataset, run: Run, topic: str, class_field: str | None, captions: str, tags: tuple[str, ...]
    ):
        from ..media import media_store

        self.store = media_store(dataset)
        self.hashes: set[str] = set()
        self._dataset, self._run = dataset, run
        self._topic, self._class_field, self._captions, self._tags = topic, class_field, captions, tags
        self._waiting: list[dict[str, Any]] = []
        self._shape: dict[str, Any] = {}
        self._since = time.monotonic()

    def add(self, finding: Finding, arrival: Arrival, versions: tuple[str, str], source: Source) -> None:
        """Takes an image; it is written with the next ones."""
        candidate = finding.candidate
        provenance = {
            "kind": "api" if source.about.kind == "api" else "web", "engine": finding.source,
            "query": finding.query.text, "language": finding.query.language, "rank": candidate.rank,
            "page_url": candidate.page_url or None, "image_url": candidate.image_url,
            "title": candidate.title or None, "description": candidate.description or None,
            "keywords": candidate.keywords or None, "creator": candidate.creator or None,
            "license": license_key(candidate.license) or None, "license_url": candidate.license_url or None,
            "fetched_at": datetime.now(UTC), "etag": versions[0] or None, "modified": versions[1] or None,
            "sha256": arrival.sha256, "converted": arrival.converted or None,
        }  # fmt: skip
        metadata = {
            "size_bytes": arrival.size, "mime_type": "image/jpeg" if arrival.filepath.endswith(".jpg") else "image/png",
            "width": arrival.width, "height": arrival.height, "num_channels": arrival.channels,
        }  # fmt: skip
        captions = {"query": finding.query.text, "title": candidate.title, "description": candidate.description}
        self._waiting.append({
            "filepath": arrival.filepath, "caption": captions.get(self._captions) or None, "metadata": metadata,
            "source": {name: value for name, value in provenance.items() if value is not None},
        })  # fmt: skip
        self.hashes.add(arrival.sha256)

    def write_if_due(self) -> None:
        """Writes when many samples wait, or one waits for long."""
        if len(self._waiting) >= WRITE_EVERY_SAMPLES or time.monotonic() - self._since > WRITE_EVERY_SECONDS:
            self.write()

    def write(self) -> None:
        """Writes what waits."""
        self._since = time.monotonic()
        if not self._waiting:
            return
        if any(values["caption"] for values in self._waiting):
            fields.declare(self._dataset, "caption")
        waiting = self._waiting
        self._waiting, self.hashes = (
            [],
            set(),
        )  # an interrupted write is not repeated: the next run gets what is missing
        if not self._shape:
            self._add_first(waiting.pop(0))
            self._run.created()
        if waiting:
            self._dataset._sample_collection.insert_many([self._document(values) for values in waiting])
            self._run.created(len(waiting))

    def _add_first(self, values: dict[str, Any]) -> None:
        import fiftyone as fo
        from bson import ObjectId

        more: dict[str, Any] = {"caption": values["caption"]} if values["caption"] else {}
        if self._class_field:
            more[self._class_field] = fo.Classification(label=self._topic)
        sample = fo.Sample(
            filepath=values["filepath"], tags=list(self._tags), source=fields.document(values["source"]),
            metadata=fo.ImageMetadata(**values["metadata"]), **more,
        )  # fmt: skip
        (added,) = self._dataset.add_samples([sample], progress=False)
        self._shape = self._dataset._sample_collection.find_one(ObjectId(added))
        del self._shape["_id"]
        self._shape.pop("caption", None)

    def _document(self, values: dict[str, Any]) -> dict[str, Any]:
        """A sample as FiftyOne stores it, in the shape of the first."""
        import fiftyone as fo
        from fiftyone.core.odm.sample import _generate_rand

        now = datetime.now(UTC)
        made = self._shape | {
            "_rand": _generate_rand(), "created_at": now, "last_modified_at": now, "filepath": values["filepath"],
            "metadata": {"_cls": self._shape["metadata"]["_cls"], **values["metadata"]},
            "source": {"_cls": self._shape["source"]["_cls"], **values["source"]},
        }  # fmt: skip
        if values["caption"]:
            made["caption"] = values["caption"]
        if self._class_field:
            made[self._class_field] = fo.Classification(label=self._topic).to_dict()
        return made
