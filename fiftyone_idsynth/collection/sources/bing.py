"""Bing image search, as its result page loads further results."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ..web.answer import Answer
from .base import About, Candidate, Query
from .html import document, plain_text, web_address
from .search import SearchEngine

_SIZE = re.compile(r"(\d{1,6}) ?[x×] ?(\d{1,6})\b")
_MARKETS = {
    "ar": "ar-SA", "da": "da-DK", "de": "de-DE", "en": "en-US", "es": "es-ES", "fi": "fi-FI", "fr": "fr-FR",
    "it": "it-IT", "ja": "ja-JP", "ko": "ko-KR", "nl": "nl-NL", "no": "no-NO", "pl": "pl-PL", "pt": "pt-BR",
    "ru": "ru-RU", "sv": "sv-SE", "tr": "tr-TR", "zh": "zh-CN",
}  # fmt: skip


class Bing(SearchEngine):
    """Bing Images."""

    about = About(
        title="Bing Images",
        kind="search",
        root="https://www.bing.com",
        documentation="https://www.bing.com/images",
        terms="Results carry no licence: each image belongs to whoever published it. Microsoft's terms forbid "
        "automated access without its consent; robots.txt is obeyed.",
        page_size=35,
        max_results=1050,
    )
    captcha_marks = (
        "solve the challenge below", "challenges.cloudflare.com", "/turing/captcha", 'class="captcha',
        "verify that you are not a robot",
    )  # fmt: skip
    nothing_marks = ("There are no results for", "No results found for")

    def request(self, query: Query, number: int) -> tuple[str, dict[str, Any]]:
        # The page itself is always asked for in English (setlang), so that "no results" can be recognised.
        size = self.about.page_size
        return "/images/async", {
            "q": query.text, "async": 1, "first": 1 + size * number, "count": size, "setlang": "en",
            "mkt": _MARKETS.get(query.language),
        }  # fmt: skip

    def read(self, answer: Answer) -> Iterator[Candidate]:
        for link in document(answer.text).xpath('//a[contains(concat(" ", @class, " "), " iusc ")][@m]'):
            try:
                facts = json.loads(link.get("m"))
            except (ValueError, RecursionError):
                continue
            if not isinstance(facts, dict) or not (image_url := web_address(facts.get("murl"))):
                continue
            shown = link.xpath('ancestor::div[contains(concat(" ", @class, " "), " imgpt ")][1]//span/text()')
            size = next(filter(None, map(_SIZE.search, shown)), None)
            yield Candidate(
                image_url, rank=0,
                page_url=web_address(facts.get("purl")),
                title=plain_text(str(facts.get("t") or "")),
                description=plain_text(str(facts.get("desc") or "")),
                width=int(size[1]) if size else None, height=int(size[2]) if size else None,
            )  # fmt: skip
