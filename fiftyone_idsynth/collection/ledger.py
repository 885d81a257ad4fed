"""What a dataset already has of the web: the addresses of its images, their versions, and what was refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .. import fields

if TYPE_CHECKING:
    import fiftyone as fo

    from ..runs import Run

LASTING = {
    "too_small", "odd_aspect_ratio", "plain_background", "natural_background", "not_an_image", "truncated", "corrupt",
    "too_many_pixels", "duplicate",
}  # fmt: skip
"""Reasons that stay true as long as the file does not change."""


@dataclass(frozen=True)
class Known:
    """What is known of an address from an earlier run.

    Attributes:
        etag: the server's version of the file
        modified: when the server says that it changed (an HTTP date)
        sha256: the hash of its content
        refused: why it was refused, or empty if it is in the dataset
        settled: whether it need not be asked for again in this run
    """

    etag: str = ""
    modified: str = ""
    sha256: str = ""
    refused: str = ""
    settled: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """What makes a request conditional (RFC 9110, section 13.1)."""
        validators = {"If-None-Match": self.etag, "If-Modified-Since": self.modified}
        return {name: value for name, value in validators.items() if value}


class Ledger:
    """Looks up what is known, by address and by content.

    The dataset's own fields are the ledger: an image is known when its sample is written, together with all its values,
    so that a run which is killed at any moment is continued by the next without doubles. What was refused for good is
    remembered with the run, if the server gave it a version to ask for.

    Args:
        dataset: the dataset
        run: the run
    """

    def __init__(self, dataset: fo.Dataset, run: Run):
        self._dataset = dataset
        self._refused: dict[str, list[str]] = run.remembered.setdefault("refused", {})
        self._resumed = datetime.fromisoformat(run.continues) if run.continues else None
        fields.declare(dataset, "source")
        indexes = dataset.list_indexes()
        for path in ("source.image_url", "source.sha256"):
            if path not in indexes:
                dataset.create_index(path)

    def look_up(self, urls: Iterable[str]) -> dict[str, Known]:
        """What is known of addresses; those never seen are missing.

        Args:
            urls: the addresses
        """
        from fiftyone import ViewField as F

        wanted = list(urls)
        known = {}
        for url in wanted:
            if url in self._refused:
                etag, modified, sha256, reason = self._refused[url]
                known[url] = Known(etag, modified, sha256, reason)
        names = ("image_url", "etag", "modified", "sha256", "fetched_at")
        view = self._dataset.match(F("source.image_url").is_in(wanted)).sort_by("source.fetched_at")
        for url, etag, modified, sha256, fetched in zip(*view.values([f"source.{n}" for n in names]), strict=True):
            settled = bool(self._resumed and fetched and fetched.replace(tzinfo=UTC) >= self._resumed)
            known[url] = Known(etag or "", modified or "", sha256 or "", settled=settled)
        return known

    def contents(self, hashes: Iterable[str]) -> set[str]:
        """Those of the given hashes whose content is in the dataset."""
        from fiftyone import ViewField as F

        found: list[str] = self._dataset.match(F("source.sha256").is_in(list(hashes))).values("source.sha256")
        return set(found)

    def refuse(self, url: str, reason: str, etag: str, modified: str, sha256: str = "") -> None:
        """Remembers why an address was refused, where the next run can ask whether it changed."""
        if reason in LASTING and (etag or modified):
            self._refused[url] = [etag, modified, sha256, reason]

    def forget(self, url: str) -> None:
        """Forgets that an address was refused: it is in the dataset now."""
        self._refused.pop(url, None)


def suspended_until(dataset: fo.Dataset, source: str) -> datetime | None:
    """Until when a source must be left alone, because it blocked an earlier run."""
    text = (dataset.info.get("idsynth_suspended") or {}).get(source)
    until = datetime.fromisoformat(text) if text else None
    return until if until and until > datetime.now(UTC) else None


def suspend(dataset: fo.Dataset, source: str, until: datetime) -> None:
    """Leaves a source alone until a point in time."""
    suspended: dict[str, Any] = dict(dataset.info.get("idsynth_suspended") or {})
    suspended[source] = until.isoformat(timespec="seconds")
    dataset.info["idsynth_suspended"] = suspended
    dataset.save()
