"""Adds collected images to the dataset in bulk, each complete with its provenance."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .. import fields
from ..licenses import license_key
from ..samples import Documents
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
        from ..authorship import declare_authors
        from ..media import media_store

        self.store = media_store(dataset)
        self.hashes: set[str] = set()
        self._dataset, self._run = dataset, run
        self._topic, self._class_field, self._captions, self._tags = topic, class_field, captions, tags
        self._waiting: list[dict[str, Any]] = []
        self._documents = Documents(dataset)
        self._since = time.monotonic()
        weak = [*([class_field] if class_field else []), *(["caption"] if captions != "none" else [])]
        if weak:
            declare_authors(dataset, weak)
        if captions != "none":
            fields.declare(dataset, "caption")
        if class_field:
            fields.declare_label(dataset, class_field, "Classification")

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
        self._waiting.append({
            "filepath": arrival.filepath, "tags": list(self._tags), "metadata": {"_cls": "ImageMetadata", **metadata},
            "source": fields.stored(provenance),
            **self._weak_labels(finding),
        })  # fmt: skip
        self.hashes.add(arrival.sha256)

    def write_if_due(self) -> None:
        """Writes when many samples wait, or one waits for long."""
        if len(self._waiting) >= WRITE_EVERY_SAMPLES or time.monotonic() - self._since > WRITE_EVERY_SECONDS:
            self.write()

    def write(self) -> None:
        """Writes what waits."""
        self._since = time.monotonic()
        if self._waiting:
            # An interrupted write is not repeated: the next run gets what is missing.
            waiting, self._waiting, self.hashes = self._waiting, [], set()
            self._documents.add(waiting)
            self._run.created(len(waiting))

    def _weak_labels(self, finding: Finding) -> dict[str, Any]:
        """What the query and the page say of the image; noted as no person's work, so that models may replace it."""
        import fiftyone as fo

        from ..authorship import authors_of

        labels: dict[str, Any] = {}
        if self._class_field:
            labels[self._class_field] = fo.Classification(label=self._topic)
        candidate = finding.candidate
        captions = {"query": finding.query.text, "title": candidate.title, "description": candidate.description}
        if captions.get(self._captions):
            labels["caption"] = captions[self._captions]
        if not labels:
            return {}
        notes = {path.removeprefix("authors."): note for path, note in authors_of(labels).items()}
        return {**labels, "authors": fields.stored(notes)}
