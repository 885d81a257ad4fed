"""What sources open pages with, without rates, retries and checks: for tests of the sources alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import urllib3

from fiftyone_idsynth.collection.web.answer import Answer, FetchError


class PlainHttp:
    """Implements :class:`~fiftyone_idsynth.collection.sources.base.Http` with one try."""

    def __init__(self) -> None:
        self._pool = urllib3.PoolManager(retries=False, timeout=5.0)

    def get(
        self,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        robots: bool = False,
        redirects: bool = True,
    ) -> Answer:
        """Opens an address; robots.txt is not read."""
        query = urlencode({name: value for name, value in (params or {}).items() if value is not None}, doseq=True)
        retries = urllib3.Retry(connect=0, read=0, status=0, redirect=3, respect_retry_after_header=False)
        return self._request(
            "GET", f"{url}?{query}" if query else url, headers=headers, retries=retries if redirects else False
        )

    def post(self, url: str, form: Mapping[str, str]) -> Answer:
        """Sends a form."""
        return self._request("POST", url, fields=dict(form), encode_multipart=False, retries=False)

    def _request(self, method: str, url: str, **options: Any) -> Answer:
        try:
            response = self._pool.request(method, url, **options)
        except urllib3.exceptions.HTTPError as error:
            raise FetchError("no_network", f"{url}: {error}") from error
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.geturl() or url, response.status, headers, response.data)
