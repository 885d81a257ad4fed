"""Yahoo image search."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

from ..web.answer import Answer
from .base import DAY, About, Candidate, Query, SourceError
from .html import document, plain_text, query_of, web_address, whole_number
from .search import SearchEngine

_RESULT = 'li[contains(concat(" ", @class, " "), " ld ")]'
_FOUND = f'//{_RESULT} | //a[contains(@href, "imgurl=")][not(ancestor::{_RESULT})]'
_DENIED = 999  # a status of Yahoo's own


class Yahoo(SearchEngine):
    """Yahoo Image Search."""

    about = About(
        title="Yahoo Image Search",
        kind="search",
        root="https://images.search.yahoo.com",
        documentation="https://images.search.yahoo.com",
        terms="Results carry no licence: each image belongs to whoever published it. Yahoo's terms forbid automated "
        "access without its consent; robots.txt is obeyed. The layout of its pages is known only from old evidence.",
        page_size=60,
        max_results=1020,
    )
    captcha_marks = ("g-recaptcha", 'id="captcha')
    nothing_marks = ("We did not find results for", "We did not find any image results for")

    def request(self, query: Query, number: int) -> tuple[str, dict[str, Any]]:
        size = self.about.page_size
        return "/search/images", {"p": query.text, "n": size, "b": 1 + size * number, "ei": "UTF-8"}

    def read(self, answer: Answer) -> Iterator[Candidate]:
        for item in document(answer.text).xpath(_FOUND):
            facts = _facts(item, answer.url)
            address = str(facts.get("iurl") or facts.get("imgurl") or "")
            if not (image_url := web_address(address) or web_address(f"http://{address}" if "." in address else "")):
                continue
            yield Candidate(
                image_url, rank=0,
                page_url=web_address(facts.get("rurl")),
                title=plain_text(str(facts.get("alt") or facts.get("tt") or facts.get("name") or "")),
                width=whole_number(facts.get("w")), height=whole_number(facts.get("h")),
            )  # fmt: skip

    def _trouble(self, answer: Answer) -> SourceError:
        if answer.status == _DENIED:
            return SourceError(
                "blocked", f"{self.about.title} refuses robots ({_DENIED}); it is left alone for a day", DAY
            )
        return super()._trouble(answer)


def _facts(item: Any, base: str) -> dict[str, Any]:
    """What a result says about its image: in an attribute, or in the address of its link (which has no scheme)."""
    try:
        facts = json.loads(item.get("data") or "{}")
    except (ValueError, RecursionError):
        facts = {}
    if isinstance(facts, dict) and facts.get("iurl"):
        return facts
    links = [query_of(urljoin(base, href)) for href in item.xpath("descendant-or-self::a/@href")]
    return next((found for found in links if "imgurl" in found), {})
