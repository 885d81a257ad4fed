"""Google image search, in the form for simple devices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

from ..web.answer import Answer
from .base import HOUR, About, Candidate, Query, SourceError
from .html import document, plain_text, query_of, web_address, whole_number
from .search import SearchEngine

_LANGUAGES = {"zh": "zh-CN", "he": "iw"}
_SHORT = 2000


class Google(SearchEngine):
    """Google Images."""

    about = About(
        title="Google Images",
        kind="search",
        root="https://www.google.com",
        documentation="https://support.google.com/websearch/answer/1325808",
        terms="Results carry no licence: each image belongs to whoever published it. Google's terms forbid automated "
        "access against its robots.txt, which is obeyed here and keeps robots from its result pages.",
        page_size=10,
        max_results=1000,
    )
    captcha_marks = ('id="captcha-form"', "g-recaptcha")
    nothing_marks = ("did not match any",)

    def request(self, query: Query, number: int) -> tuple[str, dict[str, Any]]:
        # The page itself is always asked for in English (hl), so that "no results" can be recognised.
        results = f"lang_{_LANGUAGES.get(query.language, query.language)}"
        return "/wml/search", {
            "tbm": "isch", "q": query.text, "start": self.about.page_size * number, "hl": "en", "lr": results,
        }  # fmt: skip

    def read(self, answer: Answer) -> Iterator[Candidate]:
        for link in document(answer.text).xpath('//a[contains(@href, "/imgres?")]'):
            facts = query_of(urljoin(answer.url, link.get("href")))
            if not (image_url := web_address(facts.get("imgurl"))):
                continue
            labels = [link.get("aria-label"), *link.xpath(".//img/@alt"), link.text_content()]
            yield Candidate(
                image_url, rank=0,
                page_url=web_address(facts.get("imgrefurl")),
                title=next(filter(None, (plain_text(label or "") for label in labels)), ""),
                width=whole_number(facts.get("w")), height=whole_number(facts.get("h")),
            )  # fmt: skip

    def refused(self, answer: Answer) -> SourceError | None:
        if len(answer.text) < _SHORT and "/sorry/" in answer.text:
            return self.captcha()
        if "/httpservice/retry/enablejs" in answer.text:
            detail = (
                "shows its results only to browsers that run JavaScript: name it in 'render', or use another source"
            )
            return SourceError("blocked", f"{self.about.title} {detail}", HOUR)
        return super().refused(answer)
