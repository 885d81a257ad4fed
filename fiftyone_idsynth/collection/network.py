"""How the web is asked: the settings of a collection, and the machinery made of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import queue

    from .sources.base import Http
    from .web.download import Downloader
    from .web.fetch import Fetcher
    from .web.robots import Robots


@dataclass(frozen=True)
class Proxies:
    """Proxies, whose passwords are kept out of run records."""

    addresses: tuple[str, ...] = ()

    def storable(self) -> list[str]:
        """The proxies without their user names and passwords."""
        from .web.connections import without_credentials

        return [without_credentials(address) for address in self.addresses]

    def __iter__(self) -> Any:
        return iter(self.addresses)

    def __repr__(self) -> str:
        return repr(tuple(self.storable()))

    __str__ = __repr__


def find_proxies(value: Any) -> Proxies:
    """Makes proxies of addresses, or of a text with commas between them."""
    if isinstance(value, Proxies):
        return value
    given: Iterable[Any] = value.split(",") if isinstance(value, str) else value or ()
    return Proxies(tuple(str(address).strip() for address in given if str(address).strip()))


@dataclass(frozen=True)
class Network:
    """The settings; see :func:`fiftyone_idsynth.collection.collect.collect`."""

    robots: str
    max_connections: int
    max_per_host: int
    rate_per_host: float
    timeout: float
    tries: int
    max_megabytes: float
    max_minutes: float
    user_agents: tuple[str, ...]
    proxies: Proxies
    allowed_hosts: tuple[str, ...]
    render: tuple[str, ...]

    @property
    def agents(self) -> tuple[str, ...]:
        """How we introduce ourselves."""
        return self.user_agents or (default_user_agent(),)

    def check(self) -> None:
        """Refuses what only the machinery can judge, before anything is done.

        Raises:
            ParameterError: an allowed host or a proxy is none
            MissingExtraError: a proxy or a page to render needs a package that is not installed
        """
        with self.open():
            pass

    def open(self) -> Machinery:
        """Makes the machinery ready; to be closed."""
        from .web.addresses import AddressGuard
        from .web.fetch import Fetcher, Limits

        guard = AddressGuard(self.allowed_hosts)
        limits = Limits(
            connect=min(10.0, self.timeout), read=min(15.0, self.timeout), total=self.timeout,
            max_bytes=int(self.max_megabytes * 1024**2),
        )  # fmt: skip
        proxies = tuple(self.proxies)
        fetcher = Fetcher(guard, limits, self.agents, proxies=proxies, connections=self.max_connections)
        return Machinery(self, fetcher)


@dataclass
class Machinery:
    """What opens pages and downloads files, for one run."""

    network: Network
    fetcher: Fetcher
    stop: threading.Event = field(default_factory=threading.Event)
    _browser: Any = None

    def __enter__(self) -> Machinery:
        return self

    def __exit__(self, *error: Any) -> None:
        self.stop.set()
        if self._browser is not None:
            self._browser.close()
        self.fetcher.close()

    @cached_property
    def robots(self) -> Robots:
        """What the robots.txt files say, each read once."""
        from .web.pages import PageClient
        from .web.robots import Robots

        client = PageClient(self.fetcher, None, self.stop, rate=0, tries=self.network.tries)
        return Robots(client.get, self.network.agents[0])

    def abort(self) -> None:
        """Ends all requests at once."""
        self.stop.set()
        self.fetcher.abort()

    def pages(self, source: str) -> Http:
        """What a source opens its pages with."""
        from .web.pages import PageClient

        robots = self.robots if self.network.robots == "all" else None
        if source not in self.network.render:
            return PageClient(self.fetcher, robots, self.stop, tries=self.network.tries)
        if self._browser is None:
            from .web.rendering import Browser

            parts = PageClient(self.fetcher, robots, self.stop, rate=0, tries=self.network.tries)
            self._browser = Browser(parts, self.network.agents[0])
        return self._browser  # type: ignore[no-any-return]

    def downloader(self, handle: Callable[..., Any], finished: queue.Queue[Any]) -> Downloader:
        """What downloads files, until the time is up."""
        from .web.download import Downloader

        network = self.network
        return Downloader(
            self.fetcher, handle, finished, robots=None if network.robots == "none" else self.robots,
            robots_tag=network.robots != "none", connections=network.max_connections,
            max_per_host=network.max_per_host, rate=network.rate_per_host, tries=network.tries,
            finish_by=time.monotonic() + network.max_minutes * 60,
        )  # fmt: skip


def default_user_agent() -> str:
    """Our name and version, honestly."""
    from .. import __version__

    return f"fiftyone-idsynth/{__version__} (collects image datasets)"
