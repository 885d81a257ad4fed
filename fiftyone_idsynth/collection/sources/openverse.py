"""Openverse: openly licensed images of many collections."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from . import creative_commons as cc
from .api import JsonApi, address, number, part, text, texts
from .base import About, Candidate, Page, Query

LICENSES = ("by", "by-sa", "by-nc", "by-nd", "by-nc-sa", "by-nc-nd", "cc0", "pdm", "sampling+", "nc-sampling+")
"""The licences that Openverse knows, as it names them."""

MAX_PAGES = 20
MAX_QUERY = 200


class Openverse(JsonApi):
    """Searches Openverse, anonymously or as a registered application, whose limits are higher."""

    about = About(
        title="Openverse",
        kind="api",
        root="https://api.openverse.org",
        documentation="https://api.openverse.org/v1/",
        terms="Openly licensed images, each with its licence, which Openverse does not guarantee. "
        "Bulk scraping of the catalogue is forbidden; requests per minute and per day are limited",
        page_size=20,  # more is answered with 401 unless one is registered
        max_results=20 * MAX_PAGES,
        optional_keys=("OPENVERSE_CLIENT_ID", "OPENVERSE_CLIENT_SECRET"),
        opt_in=False,
    )

    _token = ""
    _token_ends = 0.0

    def pages(self, query: Query) -> Iterator[Page]:
        """See :meth:`Source.pages`; Openverse cannot be told the language."""
        wanted = {cc.family(name) for name in self.licenses}
        codes = [code for code in LICENSES if cc.license_name(code).removesuffix("-1.0") in wanted]
        if wanted and not codes:
            return
        params = {"q": query.text[:MAX_QUERY], "license": ",".join(codes) or None, "page_size": self.about.page_size}
        for page in range(1, MAX_PAGES + 1):
            answer, found = self.ask_object("/v1/images/", {**params, "page": page}, self._headers())
            if not found.get("results") and found.get("result_count") == 0:
                return
            read = self.read(answer, found.get("results"), (page - 1) * self.about.page_size, found.get("result_count"))
            if read.candidates:
                yield read
            if page >= self.count(answer, found.get("page_count"), "page_count"):
                return

    def candidate(self, item: Any, rank: int) -> Candidate | None:
        """See :meth:`JsonApi.candidate`; the image is the original at its provider."""
        url = address(part(item, "url"))
        if not url:
            return None
        tags = part(item, "tags")
        name = cc.license_name(text(item.get("license")), text(item.get("license_version")))
        return Candidate(
            image_url=url,
            rank=rank,
            page_url=address(item.get("foreign_landing_url")),
            title=text(item.get("title")),
            keywords=texts([part(tag, "name") for tag in tags] if isinstance(tags, list) else None),
            creator=text(item.get("creator")),
            license=name,
            license_url=address(item.get("license_url")) or cc.license_url(name),
            width=number(item.get("width")),
            height=number(item.get("height")),
        )

    def _headers(self) -> dict[str, str]:
        client, secret = (self.secrets.get(name, "") for name in self.about.optional_keys)
        if not (client and secret):
            return {}
        if time.monotonic() >= self._token_ends:
            form = {"grant_type": "client_credentials", "client_id": client, "client_secret": secret}
            answer = self.send("/v1/auth_tokens/token/", form)
            try:
                token = answer.json()
            except ValueError:
                token = None
            self._token = text(part(token, "access_token"))
            if not self._token:
                raise self.changed(answer, "there is no access token in it")
            # Renewed a minute early, so that none expires on its way.
            self._token_ends = time.monotonic() + max((number(part(token, "expires_in")) or 0) - 60, 60)
        return {"Authorization": f"Bearer {self._token}"}
