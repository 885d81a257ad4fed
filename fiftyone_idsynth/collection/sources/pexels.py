"""Pexels: photographs free to use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...licenses import is_allowed
from .api import JsonApi, address, number, part, text
from .base import About, Candidate, Page, Query

LICENSE = "pexels"

LOCALES = {
    "en": "en-US", "pt": "pt-BR", "es": "es-ES", "ca": "ca-ES", "de": "de-DE", "it": "it-IT", "fr": "fr-FR",
    "sv": "sv-SE", "id": "id-ID", "pl": "pl-PL", "ja": "ja-JP", "zh": "zh-CN", "ko": "ko-KR", "th": "th-TH",
    "nl": "nl-NL", "hu": "hu-HU", "vi": "vi-VN", "cs": "cs-CZ", "da": "da-DK", "fi": "fi-FI", "uk": "uk-UA",
    "el": "el-GR", "ro": "ro-RO", "nb": "nb-NO", "no": "nb-NO", "sk": "sk-SK", "tr": "tr-TR", "ru": "ru-RU",
}  # fmt: skip
"""Language -> the locale that Pexels knows it by."""


class Pexels(JsonApi):
    """Searches Pexels."""

    about = About(
        title="Pexels",
        kind="api",
        root="https://api.pexels.com",
        documentation="https://www.pexels.com/api/documentation/",
        terms="The Pexels licence: free to use and to change, not to sell unchanged. Link to Pexels and credit the "
        "photographer; do not copy its service. 200 requests per hour and 20,000 per month; read its terms of service "
        "on automated collection before use",
        page_size=80,
        keys=("PEXELS_API_KEY",),
    )

    def pages(self, query: Query) -> Iterator[Page]:
        """See :meth:`Source.pages`."""
        if self.licenses and not is_allowed(LICENSE, self.licenses):
            return
        params = {
            "query": query.text, "per_page": self.about.page_size, "locale": LOCALES.get(query.language),
        }  # fmt: skip
        headers = {"Authorization": self.secrets.get("PEXELS_API_KEY", "")}
        page = 0
        while True:
            page += 1
            answer, found = self.ask_object("/v1/search", {**params, "page": page}, headers)
            read = self.read(answer, found.get("photos"), (page - 1) * self.about.page_size, found.get("total_results"))
            if read.candidates:
                yield read
            # The address of the next page is not followed: it need not be at the server that may see the key.
            if not found.get("next_page") or not read.candidates:
                return

    def candidate(self, item: Any, rank: int) -> Candidate | None:
        """See :meth:`JsonApi.candidate`; the image is the original: the other sizes are compressed once more, and
        ``width`` and ``height`` are the original's."""
        url = address(part(item, "src", "original")) or address(part(item, "src", "large2x"))
        if not url:
            return None
        return Candidate(
            image_url=url,
            rank=rank,
            page_url=address(item.get("url")),
            description=text(item.get("alt")),
            creator=text(item.get("photographer")),
            license=LICENSE,
            license_url="https://www.pexels.com/license/",
            width=number(item.get("width")),
            height=number(item.get("height")),
        )
