"""What the sources that answer in JSON have in common."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from ..web.answer import Answer
from .base import Candidate, Page, Source, SourceError
from .html import plain_text


class JsonApi(Source):
    """A source whose answers are JSON objects with a list of images in them."""

    @abc.abstractmethod
    def candidate(self, item: Any, rank: int) -> Candidate | None:
        """Reads an image.

        Args:
            item: what the list has; anything
            rank: its position among the results

        Returns:
            the candidate, or ``None`` if there is no usable address in it
        """

    def ask_object(
        self, path: str, params: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> tuple[Answer, dict[str, Any]]:
        """Asks for a JSON object.

        Args:
            path: the path below the root
            params: the query
            headers (None): further headers

        Returns:
            the answer, and the object in it

        Raises:
            SourceError: the source cannot go on, or it is no JSON object
        """
        # A redirect could take a key to another server.
        answer = self.ask(path, params, headers, redirects=not self.secrets)
        if answer.status != 200:
            target = self.hide(answer.headers.get("location", ""))[:200]
            raise SourceError(
                "refused",
                f"{self.about.title} redirects to {target!r}, which is not followed with a key: check its root",
            )
        try:
            found = answer.json()
        except ValueError:
            raise self.changed(answer, "it is no JSON") from None
        if not isinstance(found, dict):
            raise self.changed(answer, f"it is a JSON {type(found).__name__}, not an object")
        return answer, found

    def read(self, answer: Answer, items: Any, before: int, total: Any = None) -> Page:
        """Reads the images of a page; one that cannot be read is left out.

        Args:
            answer: the answer they are in
            items: the list of them
            before: how many results came before
            total (None): how many results the source says there are

        Raises:
            SourceError: there is no list, or it has images and none could be read
        """
        if not isinstance(items, list):
            raise self.changed(answer, "the list of results is missing")
        found = [self.candidate(item, rank) for rank, item in enumerate(items, before + 1)]
        candidates = [candidate for candidate in found if candidate is not None]
        if items and not candidates:
            raise self.changed(answer, f"none of its {len(items)} results could be read")
        return Page(candidates, number(total))

    def count(self, answer: Answer, value: Any, name: str) -> int:
        """A number that says where the results end.

        Raises:
            SourceError: it is missing
        """
        found = number(value)
        if found is None:
            raise self.changed(answer, f"{name} is missing")
        return found


def part(item: Any, *keys: str) -> Any:
    """What lies under these keys, one below the other; ``None`` if there is nothing."""
    for key in keys:
        item = item.get(key) if isinstance(item, Mapping) else None
    return item


def text(value: Any) -> str:
    """A value as plain text in one line; empty if it is neither text nor a number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return plain_text(str(value))


def texts(values: Any) -> list[str]:
    """The texts of a list, without empty ones and repetitions."""
    found: Iterable[str] = map(text, values) if isinstance(values, list | tuple) else ()
    return [value for value in dict.fromkeys(found) if value]


def number(value: Any) -> int | None:
    """A whole number that is not negative, also one written as text; else ``None``."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        return int(value[:20])
    return int(value) if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def address(value: Any) -> str:
    """A web address, spaces in it encoded; empty if it is none."""
    if not isinstance(value, str):
        return ""
    url = value.strip().replace(" ", "%20")
    try:
        parts = urlsplit(url)
        valid = parts.scheme.lower() in ("http", "https") and bool(parts.hostname) and url.isprintable()
    except ValueError:  # e.g. half an IPv6 address
        return ""
    return url if valid else ""
