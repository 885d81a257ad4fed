"""One request: every hop checked, within its deadlines, and no more bytes than wanted."""

from __future__ import annotations

import functools
import heapq
import http.client
import itertools
import os
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InvalidHeader,
    LocationParseError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from .addresses import AddressGuard
from .answer import Answer, FetchError
from .connections import guarded_pool_manager, guarded_proxy_manager
from .robots import x_robots_allows

CHUNK = 64 * 1024
REDIRECTS = {301, 302, 303, 307, 308}
PRIVATE_HEADERS = {"authorization", "cookie", "proxy-authorization"}


@dataclass(frozen=True)
class Limits:
    """How long one request may take, and how much it may bring.

    Attributes:
        connect: seconds until a connection stands
        read: seconds between two pieces of an answer
        total: seconds for the whole request, redirects included, whatever the server does
        max_bytes: largest body, counted after decompression
        max_redirects: most redirects that are followed
    """

    connect: float = 10.0
    read: float = 15.0
    total: float = 60.0
    max_bytes: int = 50 * 1024**2
    max_redirects: int = 5


class Fetcher:
    """Opens addresses over connections that are kept and shared between threads.

    Args:
        guard: refuses private addresses
        limits: deadlines and caps
        user_agents: one is chosen per host and stays
        proxies (()): proxies to use in turn, e.g. ``"http://user:password@host:3128"``, ``"socks5h://host:1080"``
        connections (32): connections kept per host
    """

    def __init__(
        self,
        guard: AddressGuard,
        limits: Limits,
        user_agents: Sequence[str],
        *,
        proxies: Sequence[str] = (),
        connections: int = 32,
    ):
        self.guard = guard
        self.limits = limits
        self._user_agents = tuple(user_agents)
        self._watchdog = _Watchdog()
        options: dict[str, Any] = {
            "num_pools": 64, "maxsize": connections, "ssl_context": _trusting(*_own_certificates()),
            "on_connection": self._watchdog.serve, "connect_timeout": limits.connect,
        }  # fmt: skip
        self._pools = [guarded_proxy_manager(guard, proxy, **options) for proxy in proxies] or [
            guarded_pool_manager(guard, **options)
        ]
        self._turn = itertools.count()

    def user_agent(self, url: str) -> str:
        """The user agent that a host of an address sees."""
        host = urlsplit(url).hostname or ""
        return self._user_agents[zlib.crc32(host.encode()) % len(self._user_agents)]

    def fetch(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        compressed: bool = False,
        redirects: bool = True,
        robots_tag: bool = False,
        check: Callable[[str], None] | None = None,
    ) -> Answer:
        """Opens an address once, without retrying.

        Args:
            url: the address
            headers (None): further headers
            form (None): fields to send with POST; redirects are not followed then
            compressed (False): whether the server may compress the body
            redirects (True): whether redirects are followed; otherwise they are the answer
            robots_tag (False): whether an X-Robots-Tag that forbids the use for datasets refuses the answer
            check (None): called with the address of every hop before it is opened; raises to refuse it

        Returns:
            an :class:`Answer` of whatever status; the body is read only for status 200

        Raises:
            FetchError: nothing usable came; ``reason`` says why
        """
        deadline = time.monotonic() + self.limits.total
        sent = dict(headers or {})
        with self._watchdog.until(deadline) as watched:
            try:
                for _ in range(self.limits.max_redirects + 1):
                    answer = self._hop(url, sent, form, compressed, robots_tag, check)
                    if watched.expired:  # a body whose length nobody announced ends when it is cut
                        raise self._too_late()
                    target = answer.headers.get("location")
                    if answer.status not in REDIRECTS or not target or not redirects or form:
                        return answer
                    previous, url = url, urljoin(url, target)
                    if _origin(url) != _origin(previous):  # keys are for the server that they were meant for
                        sent = {name: value for name, value in sent.items() if name.lower() not in PRIVATE_HEADERS}
            except FetchError:
                if watched.expired:
                    raise self._too_late() from None
                raise
            except (HTTPError, OSError, ValueError) as error:
                if watched.expired:
                    raise self._too_late() from error
                raise _explained(error) from error
        raise FetchError("redirect_loop", f"more than {self.limits.max_redirects} redirects, the last to {url[:200]}")

    def abort(self) -> None:
        """Ends all requests under way."""
        self._watchdog.end_all()

    def close(self) -> None:
        """Closes all connections."""
        for pool in self._pools:
            pool.clear()
        self._watchdog.close()

    def _too_late(self) -> FetchError:
        return FetchError("timeout", f"not complete after {self.limits.total:g} s")

    def _hop(
        self,
        url: str,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None,
        compressed: bool,
        robots_tag: bool,
        check: Callable[[str], None] | None,
    ) -> Answer:
        self.guard.check_url(url)
        if check:
            check(url)
        pool = self._pools[next(self._turn) % len(self._pools)]
        encoding = "gzip, deflate" if compressed else "identity"
        sent = {"User-Agent": self.user_agent(url), "Accept-Encoding": encoding, **headers}
        if form:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        response = pool.request(
            "POST" if form else "GET", url, body=urlencode(form) if form else None, headers=sent, preload_content=False,
            redirect=False, retries=False, decode_content=False,
            timeout=urllib3.Timeout(connect=self.limits.connect, read=self.limits.read),
        )  # fmt: skip
        complete = False
        try:
            found = {name.lower(): value for name, value in response.headers.items()}
            tags = tuple(response.headers.getlist("x-robots-tag"))
            if robots_tag and response.status == 200:
                allowed, why = x_robots_allows(tags, self.user_agent(url))
                if not allowed:
                    raise FetchError("x_robots", why)
            body = b"" if response.status in REDIRECTS else self._body(response, response.status == 200)
            complete = True
            return Answer(url, response.status, found, body, tags)
        finally:
            if complete:
                response.release_conn()
            else:
                response.close()  # a connection with an unread rest cannot be used again

    def _body(self, response: urllib3.BaseHTTPResponse, wanted: bool) -> bytes:
        """The body; of an error page only the beginning."""
        cap = self.limits.max_bytes if wanted else CHUNK
        announced = response.headers.get("content-length", "")
        if wanted and announced.isdigit() and int(announced) > cap:
            raise FetchError("too_large", f"{int(announced) / 1024**2:.0f} MiB, at most {cap / 1024**2:.0f} MiB")
        parts, size = [], 0
        for part in _decoded(response):
            size += len(part)
            if size > cap and wanted:
                raise FetchError("too_large", f"more than {cap / 1024**2:.0f} MiB")
            parts.append(part)
            if size > cap:
                response.close()
                break
        return b"".join(parts)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a Retry-After header asks to wait (RFC 9110, section 10.2.3): a number or a date."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isdigit():
        return float(value)
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except ValueError:
        return None


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _decoded(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """The body piece by piece, decompressed no further than one piece at a time."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower() or "identity"
    if encoding not in ("identity", "gzip", "x-gzip", "deflate"):
        raise FetchError("unreadable", f"the content encoding {encoding!r} was not asked for")
    unzip = None if encoding == "identity" else zlib.decompressobj(zlib.MAX_WBITS | 32)
    while piece := response.read1(CHUNK, decode_content=False):
        if unzip is None:
            yield piece
            continue
        while piece:
            try:
                yield unzip.decompress(piece, CHUNK)
            except zlib.error as error:
                raise FetchError("unreadable", f"the {encoding} body is broken: {error}") from error
            piece = unzip.unconsumed_tail


def _explained(error: Exception) -> FetchError:
    """What an exception of urllib3 or the system means."""
    text = str(error) or type(error).__name__
    if isinstance(error, NewConnectionError):  # which urllib3 takes for a kind of timeout
        return FetchError("connection", text)
    if isinstance(error, (ConnectTimeoutError, ReadTimeoutError, TimeoutError)):
        return FetchError("timeout", text)
    if isinstance(error, ProxyError):
        return FetchError("proxy", f"the proxy does not answer: {type(error.original_error).__name__}")
    if isinstance(error, (SSLError, ssl.SSLError)):
        return FetchError("tls", text)
    short = error.args[-1] if isinstance(error, ProtocolError) and error.args else None
    if isinstance(short, http.client.IncompleteRead) and short.expected:
        return FetchError("truncated", "the body is shorter than announced")
    if isinstance(error, (LocationParseError, InvalidHeader)) or not isinstance(error, (HTTPError, OSError)):
        return FetchError("bad_url", text)
    if isinstance(error, ProtocolError):
        return FetchError("connection", f"the connection broke: {text}")
    return FetchError("connection", text)


def _own_certificates() -> tuple[str, str]:
    """Where the user says that trusted certificates are, as OpenSSL knows it."""
    return os.environ.get("SSL_CERT_FILE", ""), os.environ.get("SSL_CERT_DIR", "")


@functools.lru_cache(maxsize=4)
def _trusting(file: str, folder: str) -> ssl.SSLContext:
    """One context for all connections of all runs: making one reads all certificates, 23 ms of work."""
    import certifi

    context = ssl.create_default_context()
    if not (file or folder):
        context.load_verify_locations(certifi.where())
    return context


class _Watched:
    """A request that a :class:`_Watchdog` ends when its time is up."""

    def __init__(self) -> None:
        self.expired = False
        self.ended = False
        self.connection: Any = None


class _Watchdog:
    """Ends requests at their deadline, whatever they wait for.

    Timeouts of a socket bound the wait for each piece: a server that sends a byte now and then passes them all. So the
    socket of a request whose time is up is shut down from another thread.
    """

    def __init__(self) -> None:
        self._local = threading.local()
        self._due: list[tuple[float, int, _Watched]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    @contextmanager
    def until(self, deadline: float) -> Iterator[_Watched]:
        """Watches what the calling thread requests inside the context."""
        watched, outer = _Watched(), getattr(self._local, "watched", None)  # a check may open robots.txt meanwhile
        self._local.watched = watched
        with self._changed:
            heapq.heappush(self._due, (deadline, next(self._order), watched))
            if self._due[0][2] is watched:
                self._changed.notify()
        try:
            yield watched
        finally:
            with self._changed:
                watched.ended = True
                watched.connection = None
            self._local.watched = outer

    def serve(self, connection: Any) -> None:
        """Notes the connection that serves the calling thread's request; called as each request starts."""
        watched = getattr(self._local, "watched", None)
        if watched is not None:
            with self._changed:
                if watched.expired:
                    raise FetchError("timeout")
                watched.connection = connection

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def end_all(self) -> None:
        """Ends every request that is watched."""
        with self._changed:
            self._due = [(0.0, order, watched) for _, order, watched in self._due]
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                while self._due and (self._due[0][2].ended or self._due[0][0] <= now):
                    watched = heapq.heappop(self._due)[2]
                    if watched.ended:
                        continue
                    watched.expired = True
                    if watched.connection is None or not watched.connection.abort():  # it is just being made
                        heapq.heappush(self._due, (now + 0.1, next(self._order), watched))
                self._changed.wait(self._due[0][0] - now if self._due else None)
