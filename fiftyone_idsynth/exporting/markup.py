"""Text from the web, made harmless in Markdown."""

from __future__ import annotations

import html
import re
from urllib.parse import quote, urlsplit


def markdown(text: object, limit: int = 300) -> str:
    """Escapes text so that Markdown shows it as it is: no markup, no HTML, no table cells, on one line.

    Args:
        text: anything
        limit (300): longer texts are cut
    """
    line = " ".join(str(text).split())
    line = "".join(c for c in line if c.isprintable())
    if len(line) > limit:
        line = line[: limit - 3] + "..."
    return re.sub(r"([\\`*_{}\[\]()#+!|~$-])", r"\\\1", html.escape(line, quote=False))


def link(text: object, url: str) -> str:
    """A Markdown link, or the text alone if the address is not one of a web page."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return markdown(text)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return markdown(text)
    return f"[{markdown(text)}](<{quote(url.strip(), safe=_SAFE)}>)"


_SAFE = ":/?#@!$&'()*+,;=%-._~"
