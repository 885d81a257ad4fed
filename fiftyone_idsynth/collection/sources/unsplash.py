"""Unsplash: photographs free to use, though not for every kind of machine learning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from ...licenses import is_allowed
from ..web.answer import Answer
from .api import JsonApi, address, number, part, text, texts
from .base import HOUR, About, Candidate, Page, Query, SourceError

LICENSE = "unsplash"


class Unsplash(JsonApi):
    """Searches Unsplash, and tells it which photographs are used."""

    about = About(
        title="Unsplash",
        kind="api",
        root="https://api.unsplash.com",
        documentation="https://unsplash.com/documentation",
        terms="The Unsplash licence: free to use, not to sell unchanged nor to build a competing service. Photographer "
        "and Unsplash must be credited; files come from the addresses it gives; 50 requests per hour for a demo key",
        page_size=30,
        keys=("UNSPLASH_ACCESS_KEY",),
        acknowledge="Unsplash's terms restrict collecting its photos for machine learning. Use it only if your project "
        "is covered by them, or by an agreement with Unsplash.",
    )

    def pages(self, query: Query) -> Iterator[Page]:
        """See :meth:`Source.pages`."""
        if self.licenses and not is_allowed(LICENSE, self.licenses):
            return
        params = {
            "query": query.text, "per_page": self.about.page_size, "content_filter": "high",
            "lang": query.language if query.language != "en" else None,
        }  # fmt: skip
        page = 0
        while True:
            page += 1
            answer, found = self.ask_object("/search/photos", {**params, "page": page}, self._headers())
            read = self.read(answer, found.get("results"), (page - 1) * self.about.page_size, found.get("total"))
            if read.candidates:
                yield read
            if not read.candidates or page >= self.count(answer, found.get("total_pages"), "total_pages"):
                return

    def candidate(self, item: Any, rank: int) -> Candidate | None:
        """See :meth:`JsonApi.candidate`; the image is the photo at full size, at the address as it was given: its
        parameters say who uses it, which Unsplash's guidelines demand."""
        url = address(part(item, "urls", "full")) or address(part(item, "urls", "regular"))
        if not url:
            return None
        tags = item.get("tags")
        # Photos of the paid Unsplash+ have a licence of their own.
        paid = item.get("premium") is True or item.get("plus") is True or urlsplit(url).hostname == "plus.unsplash.com"
        return Candidate(
            image_url=url,
            rank=rank,
            page_url=address(part(item, "links", "html")),
            title=text(item.get("description")),
            description=text(item.get("alt_description")),
            keywords=texts([part(tag, "title") for tag in tags] if isinstance(tags, list) else None),
            creator=text(part(item, "user", "name")),
            license="unsplash-plus" if paid else LICENSE,
            license_url=f"https://unsplash.com/{'plus/' if paid else ''}license",
            width=number(item.get("width")),
            height=number(item.get("height")),
            notify_url=address(part(item, "links", "download_location")),
        )

    def notify(self, url: str) -> None:
        """See :meth:`Source.notify`.

        Raises:
            SourceError: it could not be told, or the address is not one of Unsplash's, which gets no key
        """
        if urlsplit(url)[:2] != urlsplit(self.root)[:2]:
            raise SourceError("refused", f"Unsplash: {url[:200]} is not at {self.root} and is not called")
        self.ask(url, headers=self._headers(), redirects=False)

    def _headers(self) -> dict[str, str]:
        return {"Accept-Version": "v1", "Authorization": f"Client-ID {self.secrets.get('UNSPLASH_ACCESS_KEY', '')}"}

    def _trouble(self, answer: Answer) -> SourceError:
        """Unsplash says with status 403 that the requests of the hour are used up."""
        if answer.status == 403 and (
            answer.headers.get("x-ratelimit-remaining") == "0" or "rate limit" in answer.text[:1000].lower()
        ):
            return SourceError("quota_used_up", "Unsplash: the requests of this hour are used up: wait an hour", HOUR)
        return super()._trouble(answer)
