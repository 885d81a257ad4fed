"""Shutterstock: previews of stock photographs."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from ...licenses import is_allowed
from .api import JsonApi, address, number, part, text, texts
from .base import About, Candidate, Page, Query

LICENSE = "all-rights-reserved"

LANGUAGES = frozenset({
    "cs", "da", "de", "en", "es", "fi", "fr", "hu", "it", "ja", "ko", "nb", "nl", "pl", "pt", "ru", "sv", "th", "tr",
    "zh",
})  # fmt: skip
"""The languages that Shutterstock can search in."""


class Shutterstock(JsonApi):
    """Searches Shutterstock for previews."""

    about = About(
        title="Shutterstock",
        kind="api",
        root="https://api.shutterstock.com",
        documentation="https://api-reference.shutterstock.com",
        terms="All rights reserved. A search gives previews with a watermark only; files without one, and any use, "
        "need a licence bought from Shutterstock. The key is an OAuth token, or the consumer key and secret as "
        "'key:secret'",
        page_size=20,
        keys=("SHUTTERSTOCK_API_TOKEN",),
    )

    def pages(self, query: Query) -> Iterator[Page]:
        """See :meth:`Source.pages`."""
        if self.licenses and not is_allowed(LICENSE, self.licenses):
            return
        params = {
            "query": query.text, "per_page": self.about.page_size, "image_type": "photo", "sort": "relevance",
            "view": "full", "language": query.language if query.language in LANGUAGES else None,
        }  # fmt: skip
        page = 0
        while True:
            page += 1
            answer, found = self.ask_object("/v2/images/search", {**params, "page": page}, self._headers())
            total = self.count(answer, found.get("total_count"), "total_count")
            read = self.read(answer, found.get("data"), (page - 1) * self.about.page_size, total)
            if read.candidates:
                yield read
            if not read.candidates or page * self.about.page_size >= total:
                return

    def candidate(self, item: Any, rank: int) -> Candidate | None:
        """See :meth:`JsonApi.candidate`; the image is the largest preview, which has a watermark."""
        assets = part(item, "assets")
        names = ("preview_1500", "preview_1000", "preview", "huge_thumb")
        preview = next((part(assets, name) for name in names if address(part(assets, name, "url"))), None)
        if preview is None:
            return None
        contributor = text(part(item, "contributor", "id"))
        return Candidate(
            image_url=address(preview["url"]),
            rank=rank,
            page_url=address(item.get("url")),
            description=text(item.get("description")),
            keywords=texts(item.get("keywords")),
            creator=f"Shutterstock contributor {contributor}" if contributor else "",
            license=LICENSE,
            license_url="https://www.shutterstock.com/license",
            width=number(preview.get("width")),
            height=number(preview.get("height")),
        )

    def _headers(self) -> dict[str, str]:
        key = self.secrets.get("SHUTTERSTOCK_API_TOKEN", "")
        if ":" in key:
            return {"Authorization": f"Basic {base64.b64encode(key.encode()).decode()}"}
        return {"Authorization": f"Bearer {key}"}
