"""Wikimedia Commons: the freely licensed media files of Wikipedia and its sisters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...licenses import license_key
from ..web.answer import Answer
from . import creative_commons as cc
from .api import JsonApi, address, number, part, text
from .base import About, Candidate, Page, Query, SourceError

MAX_BYTES = 20 * 1000**2
"""Size in bytes of the largest original that is taken; of larger ones a rendering is."""

THUMB_WIDTH = 1920  # only 20, 40, 60, 120, 250, 330, 500, 960, 1280, 1920 and 3840 are served
_READABLE = {"image/jpeg", "image/png", "image/webp", "image/gif"}
_OTHER_NAMES = {
    "pd": "public-domain", "cc-pd": "public-domain", "no-restrictions": "no-known-copyright-restrictions",
}  # fmt: skip
_TOO_BUSY = {"maxlag", "readonly", "cirrussearch-too-busy-error", "search-error"}


class Wikimedia(JsonApi):
    """Searches the bitmap files of Wikimedia Commons."""

    about = About(
        title="Wikimedia Commons",
        kind="api",
        root="https://commons.wikimedia.org",
        documentation="https://commons.wikimedia.org/w/api.php",
        terms="Freely licensed files, each with its licence and author, to be named as they wish. "
        "Requests one after another, with a user agent that has a contact address",
        page_size=50,
        max_results=10_000,
        opt_in=False,
    )

    def pages(self, query: Query) -> Iterator[Page]:
        """See :meth:`Source.pages`. Commons cannot be asked for licences; descriptions come in the query's language
        where there are any."""
        params: dict[str, Any] = {
            "action": "query", "format": "json", "generator": "search", "gsrnamespace": 6,
            "gsrsearch": f"filetype:bitmap {query.text}", "gsrlimit": self.about.page_size, "prop": "imageinfo",
            "iiprop": "url|size|mime|sha1|user|extmetadata", "iiurlwidth": THUMB_WIDTH,
            "iiextmetadatalanguage": query.language,
        }  # fmt: skip
        files: dict[str, dict[str, Any]] = {}
        before = 0
        following: dict[str, Any] = {}
        while True:
            answer, found = self.ask_object("/w/api.php", {**params, **following})
            before_this, following = following, self._following(answer, found)
            if following and following == before_this:
                raise self.changed(answer, "it names itself as the following page")
            more = part(found, "query", "pages") or {}
            if not isinstance(more, dict):
                raise self.changed(answer, "its files are no JSON object")
            _merge(files, more)
            # A batch whose texts are long comes in several answers; "||" says that more of the same files follow.
            if "batchcomplete" in found or not str(following.get("continue", "")).startswith("||"):
                batch = sorted(files.values(), key=lambda file: number(file.get("index")) or 0)
                here = [file for file in batch if not {"missing", "filemissing"} & file.keys()]
                read = self.read(answer, here, before)
                before += len(batch)
                files = {}
                if read.candidates:
                    yield read
            if not following or before >= 10_000:
                return

    def candidate(self, item: Any, rank: int) -> Candidate | None:
        """See :meth:`JsonApi.candidate`; the image is the original, or a rendering of 1920 pixels in width if the
        original is larger than :data:`MAX_BYTES` or of a kind that not everything can read (TIFF)."""
        infos = part(item, "imageinfo")
        info = infos[0] if isinstance(infos, list) and infos else None
        # An answer without a type is judged by the name of the file.
        mime = text(part(info, "mime")) or _mime(text(part(info, "url")))
        large = (number(part(info, "size")) or 0) > MAX_BYTES or mime not in _READABLE
        url = address(part(info, "thumburl" if large else "url"))
        if info is None or not url:
            return None
        extra = info.get("extmetadata")
        license_url = address(part(extra, "LicenseUrl", "value"))
        name = _license(extra, license_url)
        return Candidate(
            image_url=url,
            rank=rank,
            page_url=address(info.get("descriptionurl")),
            title=text(part(extra, "ObjectName", "value")) or text(item.get("title")).removeprefix("File:"),
            description=text(part(extra, "ImageDescription", "value")),
            keywords=[name.strip() for name in text(part(extra, "Categories", "value")).split("|") if name.strip()],
            creator=text(part(extra, "Artist", "value")) or text(info.get("user")),
            license=name,
            license_url=license_url or cc.license_url(name),
            width=number(info.get("thumbwidth" if large else "width")),
            height=number(info.get("thumbheight" if large else "height")),
        )

    def _following(self, answer: Answer, found: dict[str, Any]) -> dict[str, Any]:
        """What to add to the next request; empty at the end. Errors come with status 200."""
        error = found.get("error")
        if error is not None:
            code = text(part(error, "code"))
            said = f"Wikimedia Commons: {text(part(error, 'info'))[:200] or 'an error'} ({code})"
            if code in ("ratelimited", "too-many-requests"):
                raise SourceError("quota_used_up", f"{said}: wait some minutes, then try again", suspend=300.0)
            if code in _TOO_BUSY or code.startswith("internal_api_error"):
                raise SourceError("server_error", f"{said}: try again later")
            raise SourceError("refused", f"{said}: the request was refused")
        if not {"query", "batchcomplete", "continue"} & found.keys():
            raise self.changed(answer, "neither results nor the end of them")
        following = found.get("continue")
        return following if isinstance(following, dict) else {}


def _merge(files: dict[str, dict[str, Any]], more: dict[str, Any]) -> None:
    """Adds what a further answer says about files to what is known of them."""
    for key, file in more.items():
        if isinstance(file, dict):
            files.setdefault(key, {}).update({name: value for name, value in file.items() if value not in ([], None)})


def _license(extra: Any, license_url: str) -> str:
    name = license_key(text(part(extra, "License", "value")) or text(part(extra, "LicenseShortName", "value")))
    if not name:
        return cc.license_from_url(license_url)
    return _OTHER_NAMES.get(name) or cc.one_spelling(name)


def _mime(url: str) -> str:
    import mimetypes

    return mimetypes.guess_type(url.partition("?")[0])[0] or ""
