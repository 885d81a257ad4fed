"""What a site permits: its robots.txt, and the X-Robots-Tag header of its answers."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from .addresses import split_url
from .answer import Answer, FetchError

_KEPT = 24 * 3600.0
"""Seconds for which a robots.txt is used (RFC 9309, section 2.4)."""
_KEPT_FAILURE = 600.0
"""Seconds after which a robots.txt that could not be fetched is asked for again."""

_GROUP = re.compile(r"(?im)^([ \t]*user[- ]?agent[ \t]*:[ \t]*)([\w-]+)[^\r\n]*")


def product_token(user_agent: str) -> str:
    """The name that robots.txt and X-Robots-Tag know a user agent by, in lower case.

    It is the first product of the user agent (``"idsynth/0.1 (+https://...)"``: ``"idsynth"``), or for one that
    begins with Mozilla as browsers do, the one behind ``compatible;``.
    """
    compatible = re.match(r"mozilla/.*?\(compatible;\s*([\w-]+)", user_agent.strip(), re.IGNORECASE)
    found = compatible or re.match(r"([\w-]+)", user_agent.strip())
    return found.group(1).lower() if found else "*"


@dataclass(frozen=True)
class RobotsRules:
    """The rules of one origin for one user agent.

    Attributes:
        parsed: the parsed file, or ``None`` where none restricts us
        name: the group of the file that is ours: our product token, or ``"*"``
        unreachable: why the file could not be fetched, which forbids everything; empty if it could
        expires: the monotonic time until which this is used
        reason: the short name of what forbids: ``"robots"``, or of the failure that hid the file, e.g. ``"dns"``
    """

    parsed: Any
    name: str
    unreachable: str
    expires: float
    reason: str = "robots"

    @classmethod
    def parse(cls, content: bytes, user_agent: str, max_bytes: int = 512_000) -> RobotsRules:
        """Reads a robots.txt.

        Groups are found by exact name and not by the beginning of one, and lines of several groups of one name count
        together (RFC 9309, section 2.2.1); of the rules that fit, the longest wins, and of two equal ones "allow".

        Args:
            content: the file
            user_agent: who asks
            max_bytes (512_000): how much of it is read; a line that is cut there is left out
        """
        from protego import Protego

        if len(content) > max_bytes:
            content = content[:max_bytes].replace(b"\r", b"\n").rpartition(b"\n")[0]
        text = _GROUP.sub(r"\1\2", content.decode("utf-8-sig", errors="replace"))
        token = product_token(user_agent)
        named = any(found.group(2).lower() == token for found in _GROUP.finditer(text))
        return cls(Protego.parse(text), token if named else "*", "", time.monotonic() + _KEPT)

    def allows(self, url: str) -> bool:
        """Whether the address may be fetched."""
        return not self.unreachable and (self.parsed is None or self.parsed.can_fetch(url, self.name))

    def crawl_delay(self) -> float | None:
        """Seconds to wait between two requests, where the file says so."""
        return None if self.parsed is None else self.parsed.crawl_delay(self.name)


class Robots:
    """The robots.txt files of all sites (RFC 9309), each fetched once; for use from many threads.

    What the answer to a robots.txt means:

    - 2xx: its rules are kept, as far as ``max_bytes``
    - 4xx, except 429: there is none, everything may be fetched
    - 429, 5xx, no answer: nothing may be fetched, since the site may have rules; after 10 minutes it is asked again

    Args:
        fetch: opens an address, following redirects and without asking these rules; raises :class:`FetchError` when
            nothing comes
        user_agent: the user agent that requests are made with
        max_bytes (512_000): how much of a file is read; the standard asks for 500 KiB at least
    """

    def __init__(self, fetch: Callable[[str], Answer], user_agent: str, max_bytes: int = 512_000):
        self._fetch = fetch
        self.user_agent = user_agent
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._origins: dict[str, Future[RobotsRules]] = {}

    def allowed(self, url: str) -> bool:
        """Whether an address may be fetched.

        Raises:
            FetchError: ``"bad_url"``
        """
        return not self.why_not(url)

    def check(self, url: str) -> None:
        """Refuses an address that may not be fetched.

        Raises:
            FetchError: ``"robots"``: it is disallowed, or the server fails to say; the failure (``"dns"``,
                ``"timeout"``, ...) where no answer came; ``"bad_url"``
        """
        if why := self.why_not(url):
            raise FetchError(self._rules(_origin(url)).reason, why)

    def why_not(self, url: str) -> str:
        """Why an address may not be fetched; empty if it may."""
        origin = _origin(url)
        if re.fullmatch(r"[^/]*//[^/]*/robots\.txt", url):  # always allowed (RFC 9309, section 2.2.2)
            return ""
        rules = self._rules(origin)
        if rules.allows(url):
            return ""
        if rules.unreachable:
            return f"nothing is fetched from {origin} while its robots.txt cannot be: {rules.unreachable}"
        return f"{origin}/robots.txt disallows it for {rules.name!r}"

    def crawl_delay(self, url: str) -> float | None:
        """Seconds that the site of an address wants between two requests; ``None`` if it does not say.

        Raises:
            FetchError: ``"bad_url"``
        """
        return self._rules(_origin(url)).crawl_delay()

    def _rules(self, origin: str) -> RobotsRules:
        with self._lock:
            future = self._origins.get(origin)
            mine = future is None or (future.done() and future.result().expires < time.monotonic())
            if mine:
                future = self._origins[origin] = Future()
        assert future is not None
        if mine:
            try:
                future.set_result(self._load(origin))
            except BaseException as error:  # whoever waits must not wait for ever; the next one asks again
                with self._lock:
                    del self._origins[origin]
                future.set_exception(error)
                raise
        return future.result()

    def _load(self, origin: str) -> RobotsRules:
        try:
            answer = self._fetch(f"{origin}/robots.txt")
        except FetchError as error:
            return _nothing_allowed(str(error), error.reason)
        if 200 <= answer.status < 300:
            return RobotsRules.parse(answer.body, self.user_agent, self.max_bytes)
        if answer.status == 429 or answer.status >= 500:
            return _nothing_allowed(f"the server answers {answer.status}")
        return RobotsRules(None, "*", "", time.monotonic() + _KEPT)


def _nothing_allowed(why: str, reason: str = "robots") -> RobotsRules:
    return RobotsRules(None, "*", why, time.monotonic() + _KEPT_FAILURE, reason)


def _origin(url: str) -> str:
    scheme, host, port = split_url(url)
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}" if (scheme, port) in (("http", 80), ("https", 443)) else f"{scheme}://{name}:{port}"


# -- X-Robots-Tag -----------------------------------------------------------------------------------------------------

Purpose = Literal["dataset", "index"]

_NO_INDEX = {
    "none": "the page or file is for no index at all (it stands for noindex and nofollow)",
    "noindex": "it must not appear in any collection of search results",
    "noimageindex": "images must not appear in any collection of search results",
}
_NO_TRAINING = {
    "noai": "it must not be used for machine learning",
    "noimageai": "images must not be used for machine learning",
    "noml": "it must not be used for machine learning",
}
FORBIDDING: dict[Purpose, dict[str, str]] = {"dataset": _NO_INDEX | _NO_TRAINING, "index": _NO_INDEX}
"""The directives that forbid a use, and what they mean.

``"dataset"`` is keeping an image to train with, ``"index"`` keeping its address alone. The other directives (nofollow,
noarchive, nosnippet, notranslate, max-image-preview, ...) are about links, cached copies and how a search result looks:
they forbid neither. ``unavailable_after`` forbids both once its date has passed, and when that cannot be read.
"""

_WITH_VALUE = ("max-snippet", "max-image-preview", "max-video-preview")
_PLAIN = ("all", "index", "follow", "nofollow", "noarchive", "nocache", "nosnippet", "notranslate", "indexifembedded",
          "nositelinkssearchbox", *FORBIDDING["dataset"])  # fmt: skip
_NAMED = re.compile(r"\s*([\w.*-]+)\s*:(.*)", re.DOTALL)
_REST_OF_DATE = re.compile(r"\s*\d{1,4}(?:\W|$)")


def x_robots_allows(values: Iterable[str], user_agent: str, purpose: Purpose = "dataset") -> tuple[bool, str]:
    """Reads X-Robots-Tag headers.

    A value is a list of directives divided by commas. ``NAME:`` in front of a directive addresses it and those that
    follow it in the same line to one user agent; the others are for all. Whatever forbids wins over what permits.

    Args:
        values: the values of the headers, one per header line
        user_agent: the user agent that asked
        purpose ("dataset"): what the image is for; see :data:`FORBIDDING`

    Returns:
        whether it may be used, and if not, which directive forbids it and why
    """
    forbidding, us = FORBIDDING[purpose], (product_token(user_agent), "*")
    for value in values:
        for name, directive, argument in _directives(value):
            if name and name not in us:
                continue
            shown = f"{name}: {directive}" if name else directive
            if directive in forbidding:
                return False, f"X-Robots-Tag says {shown!r}: {forbidding[directive]}"
            if directive == "unavailable_after":
                moment = _moment(argument)
                if moment is None:
                    return False, f"X-Robots-Tag says {shown!r}, but its date cannot be read: {argument!r}"
                if moment <= datetime.now(UTC):
                    return False, f"X-Robots-Tag says {shown!r}: it is withdrawn since {argument}"
    return True, ""


def _directives(value: str) -> Iterable[tuple[str, str, str]]:
    """Yields ``(user agent or "", directive, argument)`` of one header line, names in lower case."""
    agent = ""
    parts = re.split(r"[,;]", value)[::-1]
    while parts:
        part = parts.pop()
        while named := _NAMED.fullmatch(part):
            name, part = named.group(1).lower(), named.group(2)
            if name == "unavailable_after":
                while parts and _REST_OF_DATE.match(parts[-1]):  # "Sat, 25 Jun 2030 15:00:00 PST" has a comma
                    part += "," + parts.pop()
                yield agent, name, part.strip()
                part = ""
            elif name in _WITH_VALUE or name in _PLAIN:
                yield agent, name, part.strip()
                part = ""
            else:
                agent = name
        for word in part.lower().split():
            yield agent, word, ""


def _moment(text: str) -> datetime | None:
    """A date of RFC 822, RFC 850 or ISO 8601, in UTC where it names no time zone."""
    for candidate in (text, f"{text} 00:00:00"):
        for read in (datetime.fromisoformat, parsedate_to_datetime):
            try:
                moment = read(candidate)
            except (ValueError, OverflowError):  # the latter of a time zone beyond all bounds
                continue
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return None
