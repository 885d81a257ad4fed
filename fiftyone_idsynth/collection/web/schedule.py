"""Which request may start next, given what every host can bear."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from dataclasses import dataclass, field
from typing import Any


@dataclass
class _Host:
    waiting: list[tuple[float, int, Any]] = field(default_factory=list)  # heap: not before, order, job
    active: int = 0
    next_start: float = 0.0
    queued: bool = False


class Schedule:
    """Jobs that wait for their host: at most so many at a time, so many a second, and none during a pause.

    Thread-safe. Times are seconds of ``time.monotonic``.

    Args:
        max_per_host: jobs of one host that run at the same time
        rate: jobs of one host that start per second; 0 for no limit
        total: jobs of all hosts that run at the same time
    """

    def __init__(self, max_per_host: int, rate: float, total: int):
        self._max_per_host, self._total = max_per_host, total
        self._active = 0
        self._interval = 1 / rate if rate else 0.0
        self._hosts: dict[str, _Host] = {}
        self._ready: list[tuple[float, int, str]] = []  # heap: when, order, host that may start a job then
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, host: str, job: Any, not_before: float = 0.0) -> None:
        """Adds a job.

        Args:
            host: the host it goes to
            job: anything
            not_before (0.0): when it may start at the earliest
        """
        with self._changed:
            its = self._hosts.setdefault(host, _Host())
            heapq.heappush(its.waiting, (not_before, next(self._order), job))
            self._queue(host, its, again=True)
            self._changed.notify()

    def take(self) -> tuple[str, Any] | None:
        """Waits for a job that may start, and takes it.

        Returns:
            its host and the job, or ``None`` when the schedule is closed
        """
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                found, wait = self._pop(now)
                if found:
                    return found
                self._changed.wait(wait)
            return None

    def done(self, host: str) -> None:
        """Says that a job of a host has ended."""
        with self._changed:
            its = self._hosts[host]
            its.active -= 1
            self._active -= 1
            if its.waiting:
                self._queue(host, its)
            if self._ready:
                self._changed.notify()
            if not its.waiting and not its.active and its.next_start <= time.monotonic():
                del self._hosts[host]  # memory stays flat however many hosts there are

    def pause(self, host: str, until: float) -> None:
        """Lets no job of a host start before a point in time."""
        with self._changed:
            its = self._hosts.setdefault(host, _Host())
            its.next_start = max(its.next_start, until)

    def close(self) -> None:
        """Ends the schedule: :meth:`take` returns ``None`` from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _queue(self, host: str, its: _Host, again: bool = False) -> None:
        if its.waiting and its.active < self._max_per_host and (again or not its.queued):
            its.queued = True
            heapq.heappush(self._ready, (max(its.waiting[0][0], its.next_start), next(self._order), host))

    def _pop(self, now: float) -> tuple[tuple[str, Any] | None, float | None]:
        """A host's job that may start now, or how long to wait for the next one."""
        while self._ready and self._active < self._total:
            when, _, host = self._ready[0]
            if when > now:
                return None, when - now
            heapq.heappop(self._ready)
            its = self._hosts.get(host)
            if its is None:
                continue
            its.queued = False
            if not its.waiting or its.active >= self._max_per_host:
                continue
            earliest = max(its.waiting[0][0], its.next_start)
            if earliest > now:  # paused, or served by another entry, since this one was made
                self._queue(host, its)
                continue
            job = heapq.heappop(its.waiting)[2]
            its.active += 1
            self._active += 1
            its.next_start = now + self._interval
            self._queue(host, its)
            return (host, job), None
        return None, None
