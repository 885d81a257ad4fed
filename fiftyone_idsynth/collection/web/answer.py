"""What a server answered."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ...errors import IdsynthError

_CHARSET = re.compile(r"charset=[\"']?([\w.:-]+)", re.IGNORECASE)


class FetchError(IdsynthError):
    """Nothing usable came from an address.

    Args:
        reason: a short name that reports count by, e.g. ``"timeout"``
        detail: what happened, with the remedy where there is one
        retry_after: seconds to wait before the server may be asked again, if it says so
    """

    def __init__(self, reason: str, detail: str = "", retry_after: float | None = None):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.retry_after = retry_after


@dataclass
class Answer:
    """A server's answer, read completely.

    Attributes:
        url: the address that answered, after redirects
        status: the HTTP status
        headers: its headers, by lower-case name; several of one name are joined by ``", "``
        body: its content, decompressed
        robots: the values of the X-Robots-Tag headers, one per header line
    """

    url: str
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    robots: tuple[str, ...] = ()

    @cached_property
    def text(self) -> str:
        """The body as text, in the charset that the server names, else UTF-8."""
        found = _CHARSET.search(self.headers.get("content-type", ""))
        try:
            return self.body.decode(found.group(1) if found else "utf-8", errors="replace")
        except LookupError:  # a charset that does not exist
            return self.body.decode("utf-8", errors="replace")

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: it is none
        """
        return json.loads(self.text)
