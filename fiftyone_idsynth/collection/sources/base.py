"""What a source of images is: it turns a query into pages of candidates and knows nothing about downloading them."""

from __future__ import annotations

import abc
import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol
from urllib.parse import quote, quote_plus

from ...errors import IdsynthError
from ..web.answer import Answer, FetchError

HOUR = 3600.0
DAY = 24 * HOUR


@dataclass(frozen=True)
class About:
    """The facts about a source.

    Attributes:
        title: its name as people write it
        kind: ``"api"`` (an interface for programs), ``"search"`` (pages made for people) or ``"list"`` (a file)
        root: scheme and host of its API or search pages
        documentation: the page that describes it
        terms: its rules on licences and use, in a sentence or two
        page_size: how many candidates a page has at most
        max_results: how many candidates a query can give at most, if it is limited
        keys: names of the secrets it needs, as in the environment
        optional_keys: names of secrets that raise its limits, used together or not at all
        acknowledge: what the user must acknowledge before it is used; empty if nothing
        opt_in: whether it is used only when it is asked for by name
    """

    title: str
    kind: Literal["api", "search", "list"]
    root: str
    documentation: str
    terms: str
    page_size: int
    max_results: int | None = None
    keys: tuple[str, ...] = ()
    optional_keys: tuple[str, ...] = ()
    acknowledge: str = ""
    opt_in: bool = True


@dataclass(frozen=True)
class Query:
    """What is searched for.

    Attributes:
        text: the words
        language: their language (ISO 639-1)
        origin: where they come from: ``"topic"``, ``"user"``, ``"words"`` (the word list) or ``"llm"``
    """

    text: str
    language: str = "en"
    origin: str = "topic"

    def __str__(self) -> str:
        return f"{self.language}:{self.text}"


@dataclass
class Candidate:
    """An image that a source found, with what is said about it there.

    Attributes:
        image_url: the address of the file
        rank: its position among the results of the query, from 1
        page_url: the page that shows it
        title: its title
        description: its alt text or description, as plain text
        keywords: its keywords or tags
        creator: who made it, as plain text
        license: its licence as the source names it; empty if the source does not say
        license_url: the text of the licence
        width: its width in pixels, if known
        height: its height in pixels, if known
        notify_url: an address the source wants to be called when the image is used (Unsplash)
    """

    image_url: str
    rank: int
    page_url: str = ""
    title: str = ""
    description: str = ""
    keywords: list[str] = field(default_factory=list)
    creator: str = ""
    license: str = ""
    license_url: str = ""
    width: int | None = None
    height: int | None = None
    notify_url: str = ""


@dataclass
class Page:
    """A page of results.

    Attributes:
        candidates: the images, in order
        total: how many results the source says there are, if it says so
    """

    candidates: list[Candidate]
    total: int | None = None


class SourceError(IdsynthError):
    """A source cannot go on; the others do.

    Args:
        reason: one of ``"blocked"``, ``"captcha"``, ``"layout_changed"``, ``"key_refused"``, ``"quota_used_up"``,
            ``"no_network"``, ``"server_error"``, ``"robots"``, ``"refused"`` (the request), ``"unreadable"`` (a file)
        detail: what was seen, with the value and the remedy
        suspend: seconds for which the source must be left alone
    """

    def __init__(self, reason: str, detail: str, suspend: float = 0.0):
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.suspend = suspend


class Http(Protocol):
    """What sources open pages with: rates, retries, deadlines and address checks are its business."""

    def get(
        self,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        robots: bool = False,
        redirects: bool = True,
    ) -> Answer:
        """Opens an address and returns the answer, whatever its status.

        Args:
            url: the address
            params (None): its query; ``None`` values are left out
            headers (None): further headers
            robots (False): whether robots.txt decides if it may be opened (for pages made for people)
            redirects (True): whether redirects are followed

        Raises:
            FetchError: there was no answer; ``reason`` says why (``"no_network"``, ``"timeout"``, ``"robots"``, ...)
        """
        ...

    def post(self, url: str, form: Mapping[str, str]) -> Answer:
        """Sends a form and returns the answer, whatever its status; redirects are not followed.

        Args:
            url: the address
            form: the fields, sent as ``application/x-www-form-urlencoded``

        Raises:
            FetchError: there was no answer
        """
        ...


class Source(abc.ABC):
    """A source of images. A subclass states its facts in ``about`` and yields pages of candidates.

    Args:
        http: what pages are opened with
        root (None): another server of the same API, e.g. one's own Openverse; by default the official one
        secrets (None): name -> value of the keys in ``about.keys`` and ``about.optional_keys`` that were found
        licenses (()): only images under one of these licences are wanted, where the source can be asked for that

    Attributes:
        unusable: how many results were no candidates at all, by reason
    """

    about: ClassVar[About]

    def __init__(
        self,
        http: Http,
        *,
        root: str | None = None,
        secrets: Mapping[str, str] | None = None,
        licenses: Sequence[str] = (),
    ):
        self.http = http
        self.root = (root or self.about.root).rstrip("/")
        self.secrets = dict(secrets or {})
        self.licenses = tuple(licenses)
        self.unusable: dict[str, int] = {}

    @abc.abstractmethod
    def pages(self, query: Query) -> Iterator[Page]:
        """Searches, page by page, until the results end.

        Args:
            query: what to search for

        Yields:
            a :class:`Page`; none at all if there are no results

        Raises:
            SourceError: the source cannot go on
        """

    def ask(
        self, path: str, params: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None,
        *, redirects: bool = True,
    ) -> Answer:  # fmt: skip
        """Opens a page of this source; statuses that mean trouble become a :class:`SourceError`.

        Args:
            path: the path below the root, or a whole address
            params (None): its query
            headers (None): further headers
            redirects (True): whether redirects are followed
        """
        url = path if "://" in path else self.root + path
        search = self.about.kind == "search"
        return self._checked(
            lambda: self.http.get(url, params=params, headers=headers, robots=search, redirects=redirects)
        )

    def send(self, path: str, form: Mapping[str, str]) -> Answer:
        """Sends a form to this source, e.g. for a token; statuses that mean trouble become a :class:`SourceError`.

        Args:
            path: the path below the root
            form: its fields
        """
        return self._checked(lambda: self.http.post(self.root + path, form))

    def notify(self, url: str) -> None:
        """Tells the source that an image is used, where it wants to be told.

        Args:
            url: the candidate's ``notify_url``
        """

    def hide(self, said: str) -> str:
        """A text in which no secret can be read, in whatever form a server or an address repeats it."""
        for secret in self.secrets.values():
            forms = {secret, base64.b64encode(secret.encode()).decode(), *secret.split(":")}
            shown = {encode(form) for form in forms if len(form) >= 4 for encode in (str, quote, quote_plus)}
            for form in sorted(shown, key=len, reverse=True):
                said = said.replace(form, "***")
        return said

    def ask_json(
        self, path: str, params: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Like :meth:`ask`, for an answer in JSON."""
        answer = self.ask(path, params, headers)
        try:
            return answer.json()
        except ValueError:
            raise self.changed(answer, "it is no JSON") from None

    def changed(self, answer: Answer, why: str = "") -> SourceError:
        """The error that says that a page no longer has the shape it had."""
        detail = f"{self.about.title}: 0 candidates parsed from a page of {len(answer.body)} bytes"
        return SourceError("layout_changed", f"{detail}{f' ({why})' if why else ''}: the page layout may have changed")

    def _checked(self, opened: Callable[[], Answer]) -> Answer:
        try:
            answer = opened()
        except FetchError as error:
            reason = error.reason if error.reason in ("robots", "no_network") else "server_error"
            # Not chained: the address in the first error may have the key.
            raise SourceError(reason, self.hide(f"{self.about.title}: {error}")) from None
        if answer.status in (200, 301, 302, 303, 307, 308):
            return answer
        raise self._trouble(answer)

    def _trouble(self, answer: Answer) -> SourceError:
        title, status = self.about.title, answer.status
        said = ""
        if answer.body and self.about.kind == "api":
            said = f" It says: {self.hide(answer.text).strip()[:200]!r}"
        if status == 429:
            wait = _seconds(answer.headers.get("retry-after")) or HOUR
            detail = f"{title}: too many requests (429), wait {wait:.0f} s, then try again with fewer queries"
            return SourceError("quota_used_up", detail + said, suspend=wait)
        if status in (401, 403) and self.about.kind == "search":
            return SourceError("blocked", f"{title} refuses to answer ({status}); it is left alone for a day", DAY)
        if status in (401, 403):
            keys = ", ".join(self.about.keys or self.about.optional_keys)
            remedy = f"check {keys}" if keys else "it may want a user agent with a contact address (user_agent)"
            return SourceError("key_refused", f"{title}: access refused ({status}): {remedy}.{said}")
        if status >= 500:
            return SourceError("server_error", f"{title}: the server fails ({status}). Try again later")
        return SourceError("refused", f"{title}: the request was refused ({status}).{said}")


def _seconds(value: str | None) -> float | None:
    return float(value) if value and value.strip().isdigit() else None
