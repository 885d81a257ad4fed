"""Opens the pages and API answers that sources ask for, one at a time per host, with retries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from .answer import Answer, FetchError
from .fetch import Fetcher, retry_after
from .retry import REASONS, STATUSES, backoff
from .robots import Robots


class PageClient:
    """Implements :class:`~fiftyone_idsynth.collection.sources.base.Http`.

    Args:
        fetcher: opens addresses
        robots: decides whether pages made for people may be opened; ``None`` to open them all
        stop: ends waiting when it is set
        rate (1.0): requests per second and host; 0 for no limit
        tries (3): how often an address is asked at most
        max_wait (60.0): longest wait between two tries, in seconds; a server that wants more gets no further try
    """

    def __init__(
        self,
        fetcher: Fetcher,
        robots: Robots | None,
        stop: threading.Event,
        *,
        rate: float = 1.0,
        tries: int = 3,
        max_wait: float = 60.0,
    ):
        self._fetcher, self._robots, self._stop = fetcher, robots, stop
        self._interval = 1 / rate if rate else 0.0
        self._tries, self._max_wait = tries, max_wait
        self._next: dict[str, float] = {}
        self._lock = threading.Lock()

    def get(
        self,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        robots: bool = False,
        redirects: bool = True,
    ) -> Answer:
        """Opens an address; see :meth:`fiftyone_idsynth.collection.sources.base.Http.get`."""
        query = urlencode({name: value for name, value in (params or {}).items() if value is not None}, doseq=True)
        url += ("&" if urlsplit(url).query else "?") + query if query else ""
        check = self._robots.check if robots and self._robots is not None else None
        return self._asked(
            url,
            lambda: self._fetcher.fetch(url, headers=headers, compressed=True, redirects=redirects, check=check),
        )

    def post(self, url: str, form: Mapping[str, str]) -> Answer:
        """Sends a form; see :meth:`fiftyone_idsynth.collection.sources.base.Http.post`."""
        return self._asked(url, lambda: self._fetcher.fetch(url, form=form, compressed=True))

    def _asked(self, url: str, ask: Callable[[], Answer]) -> Answer:
        """Asks until there is an answer that another try would not better."""
        attempt = 0
        while True:
            attempt += 1
            self._wait_for_turn(url)
            answer, error = None, None
            try:
                answer = ask()
            except FetchError as failure:
                error = failure
            if answer is not None and answer.status not in STATUSES:
                return answer
            wanted = retry_after(answer.headers) if answer is not None else None
            wait = backoff(attempt) if wanted is None else wanted
            hopeless = error is not None and error.reason not in REASONS
            if hopeless or attempt == self._tries or wait > self._max_wait or self._stop.wait(wait):
                if answer is not None:
                    return answer
                assert error is not None
                raise error

    def _wait_for_turn(self, url: str) -> None:
        host = urlsplit(url).netloc
        with self._lock:
            now = time.monotonic()
            start = max(self._next.get(host, 0.0), now)
            self._next[host] = start + self._interval
        if start > now:
            self._stop.wait(start - now)
