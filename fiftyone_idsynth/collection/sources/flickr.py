"""Flickr: photographs of its members, with their licences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...licenses import is_allowed
from . import creative_commons as cc
from .api import JsonApi, address, number, part, text
from .base import HOUR, About, Candidate, Page, Query, SourceError

LICENSES = {
    "0": "all-rights-reserved",
    "1": "cc-by-nc-sa-2.0", "2": "cc-by-nc-2.0", "3": "cc-by-nc-nd-2.0",
    "4": "cc-by-2.0", "5": "cc-by-sa-2.0", "6": "cc-by-nd-2.0",
    "7": "no-known-copyright-restrictions", "8": "us-government-work", "9": "cc0-1.0", "10": "pdm-1.0",
    "11": "cc-by-4.0", "12": "cc-by-sa-4.0", "13": "cc-by-nd-4.0",
    "14": "cc-by-nc-4.0", "15": "cc-by-nc-sa-4.0", "16": "cc-by-nc-nd-4.0",
}  # fmt: skip
"""Flickr's number of a licence -> its name."""

_OTHER_URLS = {
    "no-known-copyright-restrictions": "https://www.flickr.com/commons/usage/",
    "us-government-work": "https://www.usa.gov/government-copyright",
}
_SIZES = ("o", "l", "c", "z", "m")  # the original, where its owner shows it, then 1024, 800, 640 and 500 pixels
_EXTRAS = ",".join(["description", "tags", "license", "owner_name", "o_dims", *(f"url_{size}" for size in _SIZES)])
_KEY_REFUSED = {96, 97, 98, 99, 100}
_SERVER_FAILS = {10, 105, 106, 201}


class Flickr(JsonApi):
    """Searches the public photographs of Flickr."""

    about = About(
        title="Flickr",
        kind="api",
        root="https://api.flickr.com",
        documentation="https://www.flickr.com/services/api/flickr.photos.search.html",
        terms="Every photo has the licence its owner chose, most of them all rights reserved: set a licence filter. "
        "3,600 requests per hour; commercial use of the API needs Flickr's permission",
        page_size=500,
        max_results=4000,
        keys=("FLICKR_API_KEY",),
    )

    def pages(self, query: Query) -> Iterator[Page]:
        """See :meth:`Source.pages`; Flickr cannot be told the language."""
        codes = [code for code, name in LICENSES.items() if self.licenses and is_allowed(name, self.licenses)]
        if self.licenses and not codes:
            return
        params = {
            "method": "flickr.photos.search", "api_key": self.secrets.get("FLICKR_API_KEY", ""), "text": query.text,
            "license": ",".join(codes) or None, "media": "photos", "sort": "relevance", "safe_search": 1,
            "extras": _EXTRAS,
            "per_page": self.about.page_size, "format": "json", "nojsoncallback": 1,
        }  # fmt: skip
        for page in range(1, 4000 // self.about.page_size + 1):
            answer, found = self.ask_object("/services/rest/", {**params, "page": page})
            if found.get("stat") != "ok":
                raise self._failure(found) if found.get("stat") == "fail" else self.changed(answer, "no stat")
            photos = found.get("photos")
            read = self.read(answer, part(photos, "photo"), (page - 1) * self.about.page_size, part(photos, "total"))
            if read.candidates:
                yield read
            if not read.candidates or page >= self.count(answer, part(photos, "pages"), "photos.pages"):
                return

    def candidate(self, item: Any, rank: int) -> Candidate | None:
        """See :meth:`JsonApi.candidate`; the image is the largest that the owner lets everybody see."""
        size = next((size for size in _SIZES if address(part(item, f"url_{size}"))), None)
        if size is None:
            return None
        name = LICENSES.get(text(item.get("license")), "")
        owner, photo = text(item.get("owner")), text(item.get("id"))
        return Candidate(
            image_url=address(item[f"url_{size}"]),
            rank=rank,
            page_url=f"https://www.flickr.com/photos/{owner}/{photo}" if owner and photo else "",
            title=text(item.get("title")),
            description=text(part(item, "description", "_content")),
            keywords=text(item.get("tags")).split(),
            creator=text(item.get("ownername")),
            license=name,
            license_url=cc.license_url(name) or _OTHER_URLS.get(name, ""),
            width=number(item.get(f"width_{size}")),
            height=number(item.get(f"height_{size}")),
        )

    def _failure(self, found: dict[str, Any]) -> SourceError:
        """The error in an answer, which has status 200."""
        code = number(found.get("code"))
        said = f"{self.about.title}: {self.hide(text(found.get('message')))[:200]} (code {code})"
        if code in _KEY_REFUSED:
            return SourceError("key_refused", f"{said}: check FLICKR_API_KEY")
        if code in _SERVER_FAILS:
            return SourceError("server_error", f"{said}: try again later")
        if "limit" in said.lower() and "exceeded" in said.lower():
            return SourceError("quota_used_up", f"{said}: wait an hour, then try again with fewer queries", HOUR)
        return SourceError("refused", f"{said}: the request was refused")
