"""Collects: hands candidates of the sources to the downloader, and what it brings to the dataset."""

from __future__ import annotations

import contextlib
import queue
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..licenses import is_allowed
from .arrival import Arrival, Rules, receive
from .harvest import Finding, Harvest, PageEvent
from .ledger import Known, Ledger, suspend, suspended_until
from .plan import Chosen, CollectionError
from .sources.base import Query, Source, SourceError
from .writer import Writer

if TYPE_CHECKING:
    import fiftyone as fo

    from ..runs import Run
    from .network import Network
    from .web.answer import Answer
    from .web.download import Download, Downloader

LONGEST_WAIT = 0.25
GATHERING = 0.05
"""Seconds for which downloads are gathered: each batch costs the database a question."""
LISTED_REFUSALS = 10


@dataclass(frozen=True)
class Wanted:
    """What is collected, and what becomes of it; see :func:`fiftyone_idsynth.collection.collect.collect`."""

    topic: str
    count: int
    licenses: tuple[str, ...]
    class_field: str | None
    captions: str
    tags: tuple[str, ...]
    urls: Path | None
    rules: Rules


@dataclass
class _Candidate:
    """A finding on its way, with what was known of its address."""

    finding: Finding
    known: Known


class Collector:
    """One collection into a dataset.

    Args:
        dataset: the dataset
        run: the run that counts
        wanted: what is collected
        network: how the web is asked
        chosen: the sources
        queries: what to search for
    """

    def __init__(
        self, dataset: fo.Dataset, run: Run, wanted: Wanted, network: Network, chosen: Sequence[Chosen],
        queries: Sequence[Query],
    ):  # fmt: skip
        self.chosen = chosen
        self.suspended = {
            source.name: until.isoformat(timespec="minutes")
            for source in chosen
            if (until := suspended_until(dataset, source.name))
        }
        self._dataset, self._run, self._wanted, self._network = dataset, run, wanted, network
        self._queries = queries
        self._tallies: dict[str, Counter[str]] = {source.name: Counter() for source in chosen}
        self._errors: dict[str, str] = {
            name: f"{name}: left alone until {until} because it blocked an earlier run"
            for name, until in self.suspended.items()
        }
        self._refusals: list[str] = []
        self._seen: set[int] = set()
        self._accepted = 0
        self._in_flight = 0

    def collect(self) -> dict[str, Any]:
        """Collects until enough is there, nothing more comes, or the time is up.

        Returns:
            the counts of each source, and the first refusals

        Raises:
            CollectionError: there is not one image
        """
        from ..engine import saving

        self._ledger = Ledger(self._dataset, self._run)
        wanted = self._wanted
        self._writer = Writer(self._dataset, self._run, wanted.topic, wanted.class_field, wanted.captions, wanted.tags)
        self._events: queue.Queue[PageEvent | Download] = queue.Queue()
        self._finish_by = time.monotonic() + self._network.max_minutes * 60
        with self._network.open() as machinery, saving(self._writer.write), ThreadPoolExecutor(1) as self._notices:
            self._store = self._writer.store
            sources = {
                source.name: source.open(machinery.pages(source.name), self._wanted.licenses, self._wanted.urls)
                for source in self.chosen
                if source.name not in self.suspended
            }
            downloader = machinery.downloader(self._handle, self._events)
            harvest = Harvest(sources, self._queries, self._events, machinery.stop)
            try:
                with self._run.progress(self._wanted.count) as bar:
                    self._bar = bar
                    self._loop(harvest, downloader, sources)
            except BaseException:
                machinery.abort()
                raise
            finally:
                harvest.close()
                downloader.close()
        return self._conclude(harvest)

    def _loop(self, harvest: Harvest, downloader: Downloader, sources: dict[str, Source]) -> None:
        window = 4 * self._network.max_connections
        while True:
            late = time.monotonic() > self._finish_by
            while not late and self._in_flight < min(window, self._wanted.count - self._accepted):
                finding = harvest.take()
                if finding is None:
                    break
                self._consider(finding, downloader)
            ended = late or harvest.exhausted or self._accepted >= self._wanted.count
            if ended and not self._in_flight:
                if late:
                    minutes = f"{self._network.max_minutes:g} minutes (max_minutes)"
                    self._run.note(f"stopped after {minutes}; run it again to go on")
                return
            downloads = []
            for event in self._next_events():
                if isinstance(event, PageEvent):
                    self._look_up(event)
                    harvest.accept(event)
                else:
                    downloads.append(event)
            self._take(downloads, sources)
            self._writer.write_if_due()

    def _next_events(self) -> list[Any]:
        """What has happened; waits for a moment if nothing has, and for what comes shortly after a download."""
        events: list[Any] = []
        until = time.monotonic() + LONGEST_WAIT
        with contextlib.suppress(queue.Empty):
            while not events or (len(events) < self._in_flight and not isinstance(events[-1], PageEvent)):
                events.append(self._events.get(timeout=max(until - time.monotonic(), 0.0)))
                if len(events) == 1:
                    until = time.monotonic() + GATHERING
        return events

    def _look_up(self, event: PageEvent) -> None:
        if event.page:
            known = self._ledger.look_up([finding.candidate.image_url for finding in event.page])
            for finding in event.page:
                finding.known = known.get(finding.candidate.image_url)

    def _consider(self, finding: Finding, downloader: Downloader) -> None:
        """Hands a candidate to the downloader, unless something speaks against it beforehand."""
        from ..errors import RefusedImage
        from .web.download import Download

        candidate, known = finding.candidate, finding.known or Known()
        self._tallies[finding.source]["found"] += 1
        address = hash(candidate.image_url)
        if address in self._seen:
            self._refuse(finding, "found_twice")
            return
        self._seen.add(address)
        if self._wanted.licenses and not is_allowed(candidate.license, self._wanted.licenses):
            self._refuse(finding, "license", candidate.license or "unknown")
            return
        if candidate.width and candidate.height:
            try:
                self._wanted.rules.check_size(candidate.width, candidate.height)
            except RefusedImage as refusal:
                self._refuse(finding, refusal.reason, refusal.detail)
                return
        if known.settled:
            self._keep(finding)
            return
        self._in_flight += 1
        downloader.submit(Download(candidate.image_url, known.headers, _Candidate(finding, known)))

    def _handle(self, answer: Answer, download: Download) -> Arrival | None:
        """Makes an arrival of an answer, on the thread that fetched it; ``None`` means that nothing changed."""
        if answer.status == 304:
            return None
        return receive(answer.body, self._wanted.rules, self._store, download.payload.known.sha256)

    def _take(self, downloads: list[Download], sources: dict[str, Source]) -> None:
        arrived = []
        for download in downloads:
            self._in_flight -= 1
            self._run.processed()
            finding, known = download.payload.finding, download.payload.known
            if download.error is not None:
                raise download.error
            if download.reason:
                self._ledger.refuse(download.url, download.reason, *download.versions)
                self._refuse(finding, download.reason, download.detail)
            elif download.result is None and known.refused:
                self._refuse(finding, known.refused, "as in an earlier run; the file has not changed")
            elif download.result is None:
                self._keep(finding)
            else:
                arrived.append(download)
        if not arrived:
            return
        existing = self._ledger.contents(d.result.sha256 for d in arrived) | self._writer.hashes
        for download in arrived:
            arrival, finding = download.result, download.payload.finding
            if arrival.sha256 in existing:
                self._ledger.refuse(download.url, "duplicate", *download.versions, arrival.sha256)
                self._refuse(finding, "duplicate", "the same file is in the dataset already")
                continue
            existing.add(arrival.sha256)
            self._ledger.forget(download.url)
            self._add(finding, arrival, download.versions, sources[finding.source])
            if download.payload.known.sha256:
                self._tallies[finding.source]["changed"] += 1

    def _add(self, finding: Finding, arrival: Arrival, versions: tuple[str, str], source: Source) -> None:
        self._writer.add(finding, arrival, versions, source)
        self._tallies[finding.source]["added"] += 1
        self._accepted += 1
        self._bar.update()
        if finding.candidate.notify_url:
            self._notices.submit(self._notify, source, finding.candidate.notify_url)

    def _notify(self, source: Source, url: str) -> None:
        try:
            source.notify(url)
        except SourceError as error:
            self._run.note(f"{source.about.title} could not be told that its images are used: {error}")

    def _keep(self, finding: Finding) -> None:
        """Counts an image that the dataset has already."""
        self._run.skipped()
        self._tallies[finding.source]["unchanged"] += 1
        self._accepted += 1
        self._bar.update()

    def _refuse(self, finding: Finding, reason: str, detail: str = "") -> None:
        self._run.rejected(reason)
        self._tallies[finding.source][reason] += 1
        if len(self._refusals) < LISTED_REFUSALS:
            self._refusals.append(f"{finding.candidate.image_url[:300]}: {reason}{f': {detail}' if detail else ''}")

    def _conclude(self, harvest: Harvest) -> dict[str, Any]:
        for name, stream in harvest.streams.items():
            if stream.error is not None:
                self._errors[name] = f"{name}: {stream.error.detail}"
                if stream.error.suspend:
                    suspend(self._dataset, name, datetime.now(UTC) + timedelta(seconds=stream.error.suspend))
            elif not stream.found:
                self._errors[name] = f"{name}: no results"
            for reason, times in stream.source.unusable.items():  # lines of a file that are no address
                self._run.rejected(reason, times)
                self._tallies[name][reason] += times
        outputs: dict[str, Any] = {name: dict(tally) for name, tally in self._tallies.items()}
        for error in self._errors.values():
            self._run.note(error)
        if not self._accepted:
            counts = [
                f"{name}: {', '.join(f'{k} {v}' for k, v in t.items())}" for name, t in self._tallies.items() if t
            ]
            why = [*self._errors.values(), *counts, *self._refusals[:3]]
            raise CollectionError("not one image could be collected:\n  " + "\n  ".join(why))
        return outputs | ({"refused": self._refusals} if self._refusals else {})
