"""Connections of urllib3 that go only to addresses which an :class:`AddressGuard` has checked."""

from __future__ import annotations

import base64
import contextlib
import functools
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import unquote

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NewConnectionError
from urllib3.util import parse_url
from urllib3.util.url import Url

from ...errors import MissingExtraError, ParameterError
from .addresses import AddressGuard, split_url

OnConnection = Callable[[Any], None]
PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
_LOOKUP_SECONDS = 300.0
"""How long it is remembered that a name may be asked of a proxy."""


def guarded_pool_manager(
    guard: AddressGuard,
    *,
    num_pools: int,
    maxsize: int,
    ssl_context: Any,
    on_connection: OnConnection | None = None,
    connect_timeout: float,
    read_timeout: float = 30.0,
) -> urllib3.PoolManager:
    """A pool manager whose connections go to exactly the addresses that the guard has checked.

    Certificates, SNI and the Host header go by the name, as usual. Requests are neither retried nor redirected unless
    the caller asks for it.

    Args:
        guard: decides on addresses
        num_pools: hosts whose connections are kept
        maxsize: connections kept per host
        ssl_context: one :class:`ssl.SSLContext` for all connections
        on_connection (None): called with the connection, in the thread that makes the request, before it connects and
            again as each request starts; its ``abort()`` may be called from any thread to end whatever it is doing
        connect_timeout: seconds until a connection stands, over all addresses of the host, and again for TLS
        read_timeout (30.0): seconds between two pieces of an answer, where a request says nothing else

    Returns:
        a :class:`urllib3.PoolManager`; besides urllib3's own errors its requests raise :class:`FetchError`
    """
    options = _options(maxsize, ssl_context, connect_timeout, read_timeout)
    manager = _GuardedPoolManager(num_pools, **options)
    manager.connect_with(guard, on_connection)
    return manager


def guarded_proxy_manager(
    guard: AddressGuard,
    proxy_url: str,
    *,
    num_pools: int,
    maxsize: int,
    ssl_context: Any,
    on_connection: OnConnection | None = None,
    connect_timeout: float,
    read_timeout: float = 30.0,
) -> urllib3.PoolManager:
    """A pool manager that goes through a proxy; see :func:`guarded_pool_manager`.

    The proxy's own address is not checked, for the user has named it. With ``socks5`` names are resolved here and the
    proxy gets the address that was checked. Other proxies resolve names themselves: addresses written as such are
    refused, and so are names that lead to a private address when they are resolved here.

    Args:
        guard: decides on addresses
        proxy_url: ``"http://user:password@host:3128"``; also ``https``, ``socks5`` and ``socks5h`` (PySocks)

    Raises:
        ParameterError: it is no address of a proxy
        MissingExtraError: PySocks is not installed
    """
    proxy, username, password = _split_proxy(proxy_url)
    options = _options(maxsize, ssl_context, connect_timeout, read_timeout)
    manager: Any
    if proxy.scheme in ("http", "https"):
        login = {}
        if username is not None:
            encoded = base64.b64encode(":".join((username, password or "")).encode()).decode()
            login["Proxy-Authorization"] = f"Basic {encoded}"
        manager = _GuardedProxyManager(
            proxy.url, num_pools, proxy_headers=login, proxy_ssl_context=ssl_context, **options
        )
    else:
        manager = _socks_manager_class()(proxy.url, username, password, num_pools, **options)
    manager.connect_with(guard, on_connection)
    return manager  # type: ignore[no-any-return]


def without_credentials(proxy_url: str) -> str:
    """A proxy's address as it may be shown: without user name and password."""
    scheme, separator, rest = proxy_url.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]


def _options(maxsize: int, ssl_context: Any, connect_timeout: float, read_timeout: float) -> dict[str, Any]:
    return {
        "maxsize": maxsize,
        "ssl_context": ssl_context,
        "timeout": urllib3.Timeout(connect=connect_timeout, read=read_timeout),
        "retries": False,
        "socket_options": [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    }


def _split_proxy(proxy_url: str) -> tuple[Url, str | None, str | None]:
    """A proxy's address without credentials, its user name and its password."""
    problem = f"must be SCHEME://[USER:PASSWORD@]HOST:PORT; schemes: {', '.join(PROXY_SCHEMES)}"
    try:
        parsed = parse_url(proxy_url)
    except LocationParseError:
        raise ParameterError("proxies", without_credentials(proxy_url), problem) from None
    if parsed.scheme not in PROXY_SCHEMES or not parsed.host or "://" not in proxy_url:
        raise ParameterError("proxies", without_credentials(proxy_url), problem)
    if parsed.port is None and parsed.scheme.startswith("socks"):
        parsed = parsed._replace(port=1080)
    if parsed.auth is None:
        return parsed, None, None
    username, colon, password = parsed.auth.partition(":")
    return parsed._replace(auth=None), unquote(username), unquote(password) if colon else None


# -- connections ------------------------------------------------------------------------------------------------------


class _Watched(HTTPConnection):
    """A connection that reports each request and can be ended from another thread."""

    def __init__(self, *args: Any, guard: AddressGuard, on_connection: OnConnection | None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.guard = guard
        self._on_connection = on_connection
        # http.client forgets its socket when the server announces "Connection: close", long before the body is read.
        self._wire: Any = None

    def connect(self) -> None:
        self._wire = None
        self._report()
        super().connect()
        self._wire = self.sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._report()
        super().request(*args, **kwargs)

    def abort(self) -> bool:
        """Shuts the socket down, so that whoever waits for it goes on at once; from any thread.

        Returns:
            whether there was a socket; if not, the connection is still being made
        """
        wire = self.sock or self._wire
        wire = getattr(wire, "socket", wire)  # TLS inside the TLS of a proxy is no socket itself
        if not isinstance(wire, socket.socket) or wire.fileno() < 0:
            return False
        with contextlib.suppress(OSError):  # the other side was faster
            # Not SSLSocket.shutdown: that takes the TLS state away from the thread that is reading.
            socket.socket.shutdown(wire, socket.SHUT_RDWR)
        return True

    def _report(self) -> None:
        if self._on_connection is not None:
            self._on_connection(self)


class _Guarded(_Watched):
    """A connection to an address that the guard has checked: the name is resolved once, here."""

    def _new_conn(self) -> socket.socket:
        # Not `host`: only the name with its final dot is certain to be the whole name (see urllib3).
        addresses = self.guard.addresses(self._dns_host, self.port)
        timeout = self.timeout if isinstance(self.timeout, (int, float)) else socket.getdefaulttimeout()
        sock = _connect_to_one(self, addresses, timeout)
        sys.audit("http.client.connect", self, self.host, self.port)
        return sock


class _GuardedHTTP(_Guarded):
    pass


class _GuardedHTTPS(_Guarded, HTTPSConnection):
    pass


class _ProxiedHTTPS(_Watched, HTTPSConnection):
    pass


def _connect_to_one(connection: HTTPConnection, addresses: list[Any], timeout: float | None) -> socket.socket:
    """Connects to the first address that answers; each gets its share of the time that is left."""
    deadline = None if timeout is None else time.monotonic() + timeout
    error: OSError = OSError("no address")
    for position, (family, address) in enumerate(addresses):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            for option in connection.socket_options or ():
                sock.setsockopt(*option)
            if deadline is not None:
                sock.settimeout(max(deadline - time.monotonic(), 0.001) / (len(addresses) - position))
            sock.connect(address)
            sock.settimeout(timeout)
            return sock
        except OSError as failed:
            sock.close()
            error = failed
    if isinstance(error, TimeoutError):
        message = f"Connection to {connection.host} timed out. (connect timeout={timeout})"
        raise ConnectTimeoutError(connection, message) from error
    raise NewConnectionError(connection, f"Failed to establish a new connection: {error}") from error


# -- pools ------------------------------------------------------------------------------------------------------------


class _Connects:
    """What the pool managers have in common: their pools make our connections."""

    connections: ClassVar[dict[str, Any]]

    def connect_with(self, guard: AddressGuard, on_connection: OnConnection | None) -> None:
        self.guard = guard
        self._on_connection = on_connection

    def _new_pool(self, scheme: str, *args: Any, **kwargs: Any) -> Any:
        pool = super()._new_pool(scheme, *args, **kwargs)  # type: ignore[misc]
        make = self.connections[scheme]
        pool.ConnectionCls = functools.partial(make, guard=self.guard, on_connection=self._on_connection)
        return pool


class _ChecksBeforeProxy(_Connects):
    """Checks what a proxy is asked for, since it is the proxy that connects."""

    def connect_with(self, guard: AddressGuard, on_connection: OnConnection | None) -> None:
        super().connect_with(guard, on_connection)
        self._passed: dict[tuple[str, int], float] = {}
        self._lock = threading.Lock()

    def urlopen(self, method: str, url: str, redirect: bool = True, **kwargs: Any) -> Any:
        self.guard.check_url(url)
        if self._asks_proxy():
            self._check(*split_url(url)[1:])
        return super().urlopen(method, url, redirect=redirect, **kwargs)  # type: ignore[misc]

    def _asks_proxy(self) -> bool:
        """Whether the proxy resolves names."""
        return True

    def _check(self, host: str, port: int) -> None:
        # Where only the proxy can resolve names, each attempt here may take seconds: remember that it was made.
        now = time.monotonic()
        with self._lock:
            if self._passed.get((host, port), 0.0) > now:
                return
        self.guard.check_behind_proxy(host, port)
        with self._lock:
            if len(self._passed) > 10_000:
                self._passed.clear()
            self._passed[host, port] = now + _LOOKUP_SECONDS


class _GuardedPoolManager(_Connects, urllib3.PoolManager):
    connections: ClassVar[dict[str, Any]] = {"http": _GuardedHTTP, "https": _GuardedHTTPS}


class _GuardedProxyManager(_ChecksBeforeProxy, urllib3.ProxyManager):  # type: ignore[misc]
    connections: ClassVar[dict[str, Any]] = {"http": _Watched, "https": _ProxiedHTTPS}


@functools.cache
def _socks_manager_class() -> Any:
    """The classes for SOCKS proxies, which need PySocks to be defined."""
    try:
        import socks  # noqa: F401
    except ImportError:
        raise MissingExtraError("PySocks", extra="socks", why="a SOCKS proxy") from None
    from urllib3.contrib.socks import SOCKSConnection, SOCKSProxyManager

    class Socks(_Watched, SOCKSConnection):
        def _new_conn(self) -> Any:
            if self._socks_options["rdns"]:
                return super()._new_conn()
            name, error = self._dns_host, None
            for _, address in self.guard.addresses(name, self.port):
                self.host = address[0]  # the proxy gets the address that was checked, not the name
                try:
                    return super()._new_conn()
                except (NewConnectionError, ConnectTimeoutError) as failed:
                    error = failed
                finally:
                    self.host = name
            assert error is not None  # addresses() returns one at least
            raise error

    class SocksHTTPS(Socks, HTTPSConnection):
        pass

    class SocksManager(_ChecksBeforeProxy, SOCKSProxyManager):  # type: ignore[misc]
        connections: ClassVar[dict[str, Any]] = {"http": Socks, "https": SocksHTTPS}

        def _asks_proxy(self) -> bool:
            return bool(self.connection_pool_kw["_socks_options"]["rdns"])

    return SocksManager
