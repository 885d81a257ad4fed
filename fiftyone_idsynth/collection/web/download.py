"""Downloads many files at once, bounded per host and in total, with retries."""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ...errors import RefusedImage, StorageError
from .answer import Answer, FetchError
from .fetch import Fetcher, retry_after
from .retry import BASE, REASONS, STATUSES, backoff, status_reason
from .robots import Robots
from .schedule import Schedule

FAILURES_IN_A_ROW = 20
"""After so many failures without a success a host is given up for this run."""

HANDLING_SHARE = 4
"""There is one thread more for so many connections."""


@dataclass
class Download:
    """A file to download, and what came of it.

    Attributes:
        url: its address
        headers: further headers, e.g. ``If-None-Match``
        payload: anything, for the caller
        attempts: how often it was asked for
        result: what the caller's function made of the answer
        reason: why there is no result, as a short name
        detail: what happened
        error: an error that must end the whole run
        versions: the ETag and Last-Modified of the answer, or empty
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    payload: Any = None
    attempts: int = 0
    result: Any = None
    reason: str = ""
    detail: str = ""
    error: BaseException | None = None
    versions: tuple[str, str] = ("", "")


class Downloader:
    """Threads that download, each answer handled on the thread that fetched it.

    There are more threads than requests at a time: while some work on what came, others keep all connections busy.

    Args:
        fetcher: opens addresses
        handle: makes a result of an answer with status 200 or 304 and its download; raises ``RefusedImage`` to refuse
        finished: gets every download once, whatever happens
        robots (None): refuses addresses by robots.txt
        robots_tag (True): whether X-Robots-Tag is respected
        connections (32): requests at the same time
        max_per_host (4): of these, to one host
        rate (10.0): requests per second and host; 0 for no limit
        tries (3): how often an address is asked at most
        max_wait (120.0): the longest wait that a server can ask for, in seconds
        finish_by (None): when (``time.monotonic``) nothing is begun any more
    """

    def __init__(
        self,
        fetcher: Fetcher,
        handle: Callable[[Answer, Download], Any],
        finished: queue.Queue[Any],
        *,
        robots: Robots | None = None,
        robots_tag: bool = True,
        connections: int = 32,
        max_per_host: int = 4,
        rate: float = 10.0,
        tries: int = 3,
        max_wait: float = 120.0,
        backoff_base: float = BASE,
        finish_by: float | None = None,
    ):
        self._fetcher, self._handle, self._robots, self._robots_tag = fetcher, handle, robots, robots_tag
        self._tries, self._max_wait, self._base = tries, max_wait, backoff_base
        self._finish_by = finish_by if finish_by is not None else float("inf")
        self._schedule = Schedule(max_per_host, rate, connections)
        self._failures: dict[str, int] = defaultdict(int)
        self._blocked: dict[str, float] = {}
        self._finished = finished
        self._threads = [
            threading.Thread(target=self._work, name=f"download-{number}", daemon=True)
            for number in range(connections + -(-connections // HANDLING_SHARE))
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, download: Download) -> None:
        """Adds a file to download."""
        self._schedule.put(_host(download.url), download)

    def close(self) -> None:
        """Ends the threads; requests under way end at their deadline."""
        self._schedule.close()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (taken := self._schedule.take()) is not None:
            host, download = taken
            again = None
            try:
                try:
                    answer = self._attempt(host, download)
                finally:
                    self._schedule.done(host)
                if isinstance(answer, Answer):
                    download.result = self._handle(answer, download)
                else:
                    again = answer
            except (RefusedImage, FetchError) as refusal:
                download.reason, download.detail = refusal.reason, refusal.detail
            except StorageError as error:
                download.error = error
            except Exception as error:  # one file never costs the others; what it was is reported
                download.reason, download.detail = "failed", f"{type(error).__name__}: {error}"
            if again is not None:
                self._schedule.put(host, download, not_before=again)
            else:
                self._finished.put(download)

    def _attempt(self, host: str, download: Download) -> Answer | float:
        """Fetches a file once; returns the answer, or when to try again."""
        now = time.monotonic()
        if now >= self._finish_by:
            raise FetchError("deadline", "the run's time was up")
        if self._failures[host] >= FAILURES_IN_A_ROW:
            raise FetchError("host_down", f"{FAILURES_IN_A_ROW} requests in a row failed; the next run asks again")
        if self._blocked.get(host, 0.0) - now > self._max_wait:
            raise FetchError("rate_limited", "the server wants to be left alone for longer; the next run asks again")
        download.attempts += 1
        try:
            answer = self._fetcher.fetch(
                download.url, headers=download.headers, robots_tag=self._robots_tag,
                check=self._robots.check if self._robots is not None else None,
            )  # fmt: skip
        except FetchError as error:
            if error.reason not in REASONS:
                raise
            return self._retry(host, download, error)
        if answer.status in STATUSES:
            busy = FetchError(status_reason(answer.status), f"status {answer.status}", retry_after(answer.headers))
            return self._retry(host, download, busy)
        self._failures[host] = 0
        download.versions = (answer.headers.get("etag", ""), answer.headers.get("last-modified", ""))
        if answer.status not in (200, 304):
            raise FetchError(status_reason(answer.status), f"status {answer.status}")
        return answer

    def _retry(self, host: str, download: Download, error: FetchError) -> float:
        now = time.monotonic()
        wait = backoff(download.attempts, self._base) if error.retry_after is None else error.retry_after
        if error.retry_after is not None:
            self._blocked[host] = now + wait
            self._schedule.pause(host, now + wait)
        else:
            self._failures[host] += 1
        if download.attempts >= self._tries or wait > self._max_wait or now + wait >= self._finish_by:
            raise error
        return now + wait


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2].lower()
