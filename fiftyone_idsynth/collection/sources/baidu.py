"""Baidu image search, as its result page loads further results."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ..web.answer import Answer
from .base import DAY, About, Candidate, Query, SourceError
from .html import plain_text, web_address, whole_number
from .search import SearchEngine

# Baidu's own scripts hide addresses behind this substitution (known from icrawler's builtin/baidu.py).
_CIPHER = {
    **dict(zip("0123456789abcdefghijklmnopqrstuvw", "7dgjmoru140852vsnkheb963wtqplifca", strict=True)),
    "_z2C$q": ":", "_z&e3B": ".", "AzdH3F": "/",
}  # fmt: skip
_CIPHERED = re.compile(r"_z2C\$q|_z&e3B|AzdH3F|[0-9a-w]")
# Everything that JSON allows after a backslash passes; the other backslashes are Baidu's.
_ESCAPE = re.compile(r'\\(?:(["\\bfnrt/]|u[0-9a-fA-F]{4})|(.))', re.DOTALL)


class Baidu(SearchEngine):
    """Baidu Images."""

    about = About(
        title="Baidu Images",
        kind="search",
        root="https://image.baidu.com",
        documentation="https://image.baidu.com",
        terms="Results carry no licence: each image belongs to whoever published it. Baidu's terms forbid automated "
        "access and it turns most robots away; robots.txt is obeyed.",
        page_size=30,
        max_results=1000,
    )
    captcha_marks = ("passMod_", "wappass.baidu.com", "百度安全验证")

    def request(self, query: Query, number: int) -> tuple[str, dict[str, Any]]:
        size = self.about.page_size
        return "/search/acjson", {
            "tn": "resultjson_com", "ipn": "rj", "word": query.text, "pn": size * number, "rn": size,
        }  # fmt: skip

    def read(self, answer: Answer) -> Iterator[Candidate]:
        for item in _items(_loaded(answer.text)):
            copies = _dicts(item.get("replaceUrl"))
            addresses = [reveal(item.get("objURL")), *(web_address(copy.get("ObjURL")) for copy in copies)]
            if not (image_url := next(filter(None, addresses), "")):
                continue
            pages = [reveal(item.get("fromURL")), *(web_address(copy.get("FromURL")) for copy in copies)]
            yield Candidate(
                image_url, rank=0,
                page_url=next(filter(None, pages), ""),
                title=plain_text(str(item.get("fromPageTitle") or "")),
                width=whole_number(item.get("width")), height=whole_number(item.get("height")),
            )  # fmt: skip

    def says_nothing(self, answer: Answer) -> bool:
        found = _loaded(answer.text)
        return isinstance(found.get("data"), list) and not _items(found) and not found.get("displayNum")

    def refused(self, answer: Answer) -> SourceError | None:
        found = _loaded(answer.text)
        if found.get("antiFlag"):
            said = str(found.get("message", ""))[:100]
            detail = f"{self.about.title} refuses robots ({said!r}); it is left alone for a day"
            return SourceError("blocked", detail, DAY)
        return super().refused(answer)


def reveal(address: Any) -> str:
    """The address that Baidu wrote in its cipher; an empty text if there is none in it.

    Args:
        address: the ciphered address, or a plain one
    """
    if not isinstance(address, str):
        return ""
    return web_address(address) or web_address(_CIPHERED.sub(lambda found: _CIPHER[found[0]], address))


def _loaded(text: str) -> dict[str, Any]:
    """Baidu's JSON, which has backslashes and control characters that JSON does not allow; empty if it is none."""
    try:
        found = json.loads(_ESCAPE.sub(lambda escape: escape[0] if escape[1] else escape[2], text), strict=False)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _items(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The results; the last item of a page is always empty."""
    return [item for item in _dicts(found.get("data")) if item]


def _dicts(values: Any) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
