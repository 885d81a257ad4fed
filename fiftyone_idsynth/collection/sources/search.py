"""What image search engines share: pages made for people, which may also hold a captcha, a refusal or a new layout."""

from __future__ import annotations

import abc
import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar
from urllib.parse import urljoin, urlsplit

from ..web.answer import Answer
from .base import DAY, HOUR, Candidate, Page, Query, Source, SourceError

_CONSENT = re.compile(r"^(consent|guce)\.", re.IGNORECASE)
_CAPTCHA = re.compile(r"captcha|^sorry\.|/sorry(/|$)", re.IGNORECASE)
_HOPS = 5


class SearchEngine(Source):
    """An image search for people. A subclass states its marks, asks for a page, and reads candidates from it.

    A page is taken for a captcha, a refusal or "no results" only if no candidate is on it: what was searched for may
    be a captcha.

    Attributes:
        captcha_marks: texts in the markup of its captcha pages
        nothing_marks: texts in the markup of its pages without results
    """

    captcha_marks: ClassVar[tuple[str, ...]] = ()
    nothing_marks: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def request(self, query: Query, number: int) -> tuple[str, dict[str, Any]]:
        """The path and the parameters of a page of results.

        Args:
            query: what to search for
            number: the page, from 0
        """

    @abc.abstractmethod
    def read(self, answer: Answer) -> Iterable[Candidate]:
        """The candidates on a page, in order; their ranks are set later.

        Args:
            answer: a page of results
        """

    def pages(self, query: Query) -> Iterator[Page]:
        found: dict[str, Candidate] = {}  # further pages often repeat the results of the last
        for number in range(-(-(self.about.max_results or 0) // self.about.page_size)):
            answer = self.open(*self.request(query, number))
            before = len(found)
            for candidate in self.read(answer):
                candidate.rank = len(found) + 1
                found.setdefault(candidate.image_url, candidate)
            new = list(found.values())[before:]
            if not new:
                self.explain_nothing(answer, first=number == 0)
                return
            yield Page(new)

    def open(self, path: str, params: dict[str, Any]) -> Answer:
        """Opens a page of results. Redirects are looked at one by one, as engines send robots to other pages.

        Args:
            path: the path below the root
            params: its query
        """
        answer = self.ask(path, params, redirects=False)
        for _ in range(_HOPS):
            if answer.status == 200:
                return answer
            target = urljoin(answer.url, answer.headers.get("location", ""))
            if refused := self.refused_at(target):
                raise refused
            answer = self.ask(target, redirects=False)
        raise SourceError("refused", f"{self.about.title} redirects more than {_HOPS} times, the last to {answer.url}")

    def explain_nothing(self, answer: Answer, first: bool) -> None:
        """Returns if a page says that there is nothing (more); raises if something else is the matter.

        Args:
            answer: a page on which no new candidate was found
            first: whether it is the first page
        """
        if refused := self.refused(answer):
            raise refused
        if first and not self.says_nothing(answer):
            raise self.changed(answer)

    def says_nothing(self, answer: Answer) -> bool:
        """Whether a page says that there are no results."""
        return any(mark in answer.text for mark in self.nothing_marks)

    def refused(self, answer: Answer) -> SourceError | None:
        """The error that a page without candidates stands for, if it is one that keeps robots out."""
        if any(mark in answer.text for mark in self.captcha_marks):
            return self.captcha()
        return self.refused_at(answer.url)

    def refused_at(self, url: str) -> SourceError | None:
        """The error that an address stands for, if it is that of a captcha or of a page that asks for consent."""
        parts, title = urlsplit(url), self.about.title
        host = parts.hostname or ""
        if _CAPTCHA.search(parts.path) or _CAPTCHA.search(host):
            return self.captcha()
        if _CONSENT.search(host):
            remedy = "which only a person can: use another source, or collect from another country"
            return SourceError("blocked", f"{title} wants its terms to be agreed to ({host}), {remedy}", HOUR)
        return None

    def captcha(self) -> SourceError:
        """The error for a captcha."""
        remedy = "it is left alone for a day. Use another source, or fewer queries"
        return SourceError("captcha", f"{self.about.title} asks to prove that a person is searching; {remedy}", DAY)

    def _trouble(self, answer: Answer) -> SourceError:
        return self.refused(answer) or super()._trouble(answer)
