"""Asks all sources at once for candidates, page by page, no faster than they are used."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import IdsynthError
from .ledger import Known
from .sources.base import Candidate, Page, Query, Source, SourceError

PATIENCE = 10.0
"""Seconds for which the first answer of every source is waited for."""


@dataclass
class Finding:
    """A candidate and what found it."""

    source: str
    query: Query
    candidate: Candidate
    known: Known | None = None


@dataclass
class Stream:
    """The findings of one source.

    Attributes:
        name: the source's name
        source: the source
        waiting: findings not taken yet
        found: how many candidates it has given
        total: how many it says there are, over all queries
        ended: whether it gives no more
        error: why it stopped before its end
        answered: whether its first page, or its end, has come
    """

    name: str
    source: Source
    waiting: deque[Finding] = field(default_factory=deque)
    found: int = 0
    total: int | None = None
    ended: bool = False
    error: SourceError | None = None
    answered: bool = False
    turns: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(1))


class Harvest:
    """Runs every source on a thread of its own and hands out pages.

    A source fetches a page when the one before was taken, so nothing is asked that is not needed. Its queries take
    turns, so that none is starved.

    Args:
        sources: name -> source
        queries: what to search for
        arrived: gets a :class:`Stream` whenever it has a new page, an error, or its end
        stop: ends the threads when it is set
    """

    def __init__(
        self,
        sources: dict[str, Source],
        queries: Sequence[Query],
        arrived: queue.Queue[Any],
        stop: threading.Event,
    ):
        self._arrived, self._stop = arrived, stop
        self.streams = {name: Stream(name, source) for name, source in sources.items()}
        self._turn = 0
        self._wait_until = time.monotonic() + PATIENCE
        self._threads = [
            threading.Thread(target=self._ask, args=(stream, queries), name=f"source-{stream.name}", daemon=True)
            for stream in self.streams.values()
        ]
        for thread in self._threads:
            thread.start()

    @property
    def exhausted(self) -> bool:
        """Whether there is nothing more to come and nothing to take."""
        return all(stream.ended and not stream.waiting for stream in self.streams.values())

    def take(self) -> Finding | None:
        """The next finding, the sources taking turns; ``None`` if none is there yet.

        Nothing is handed out until every source has answered, for some seconds: the fastest would take it all.
        """
        streams = list(self.streams.values())
        if not all(stream.answered for stream in streams) and time.monotonic() < self._wait_until:
            return None
        for step in range(len(streams)):
            stream = streams[(self._turn + step) % len(streams)]
            if stream.waiting:
                self._turn = (self._turn + step + 1) % len(streams)
                finding = stream.waiting.popleft()
                if not stream.waiting and not stream.ended:
                    stream.turns.release()
                return finding
        return None

    def accept(self, event: PageEvent) -> None:
        """Takes over what a source's thread reported."""
        stream = event.stream
        stream.answered = True
        if event.page is None:
            stream.ended, stream.error = True, event.error
            return
        stream.found += len(event.page)
        if event.total is not None:
            stream.total = (stream.total or 0) + event.total
        stream.waiting.extend(event.page)
        if not event.page:
            stream.turns.release()

    def close(self) -> None:
        """Ends the threads."""
        self._stop.set()
        for stream in self.streams.values():
            stream.turns.release()
        for thread in self._threads:
            thread.join()

    def _ask(self, stream: Stream, queries: Sequence[Query]) -> None:
        error = None
        try:
            for query, page, total in _in_turns(stream.source, queries):
                self._arrived.put(PageEvent(stream, [Finding(stream.name, query, c) for c in page.candidates], total))
                stream.turns.acquire()
                if self._stop.is_set():
                    break
        except SourceError as failure:
            error = failure
        except IdsynthError as failure:
            error = SourceError("unreadable", str(failure))
        except Exception as failure:  # a source that trips over a page it was not made for never costs the others
            detail = (
                f"{stream.source.about.title}: {type(failure).__name__}: {failure}: the page layout may have changed"
            )
            error = SourceError("layout_changed", detail)
        self._arrived.put(PageEvent(stream, None, None, error))


@dataclass
class PageEvent:
    """A page of findings of a stream; without a page it is the stream's end."""

    stream: Stream
    page: list[Finding] | None
    total: int | None = None
    error: SourceError | None = None


def _in_turns(source: Source, queries: Sequence[Query]) -> Iterator[tuple[Query, Page, int | None]]:
    """A page of each query, then the next page of each; the total comes with the first page of a query."""
    asked = queries[:1] if source.about.kind == "list" else queries
    running = [(query, source.pages(query)) for query in asked]
    first = True
    while running:
        going_on = []
        for query, pages in running:
            with contextlib.suppress(StopIteration):
                page = next(pages)
                going_on.append((query, pages))
                yield query, page, page.total if first else None
        running, first = going_on, False
