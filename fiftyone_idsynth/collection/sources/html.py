"""What sources need to read HTML."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

_MARKUP = re.compile(r"<[a-zA-Z/!?]|&[#\w]+;")
# Characters that no document may have, and the private ones with which search engines mark the words they found.
_CONTROLS = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\uf8ff\ufffe\uffff]")
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
_INLINE = frozenset({
    "a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "del", "dfn", "em", "font", "i", "ins", "kbd", "mark", "q",
    "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "tt", "u", "var", "wbr",
})  # fmt: skip


def plain_text(markup: str) -> str:
    """The text of a piece of HTML, as a reader sees it: tags away, references resolved, white space single.

    Args:
        markup: HTML, or text without any

    Returns:
        one line of text; empty if there is none
    """
    markup = _CONTROLS.sub("", markup)
    if not _MARKUP.search(markup):
        return " ".join(markup.split())
    from lxml import etree, html

    root = html.fragment_fromstring(markup, create_parent="div")
    etree.strip_elements(
        root, "script", "style", "template", etree.Comment, etree.ProcessingInstruction, with_tail=False
    )
    for element in root.iter():
        if element.tag not in _INLINE:  # the words before, in and after a block do not touch
            element.text = f" {element.text or ''}"
            element.tail = f" {element.tail or ''}"
    return " ".join(root.text_content().split())


def document(markup: str) -> Any:
    """The root element of a page, for its ``xpath`` method. Whatever the markup is, there is one.

    Args:
        markup: the page
    """
    from lxml import etree, html

    try:
        return html.document_fromstring(_CONTROLS.sub("", markup))
    except (etree.ParserError, ValueError):  # nothing in it, or an encoding declared that the text no longer has
        return html.document_fromstring(f"<html><body>{_DECLARATION.sub('', _CONTROLS.sub('', markup))}</body></html>")


def query_of(url: str) -> dict[str, str]:
    """The query of an address: name -> its first value.

    Args:
        url: the address, which may be relative or broken
    """
    try:
        return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    except ValueError:
        return {}


def web_address(value: Any) -> str:
    """The address if it is one that can be opened on the web, else an empty text.

    Args:
        value: what stands where an address is expected
    """
    if not isinstance(value, str):
        return ""
    value = value.strip()
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return ""
    return value if usable else ""


def whole_number(value: Any) -> int | None:
    """The value as a number above 0, if it is one.

    Args:
        value: a number, or a text of digits
    """
    text = str(value).strip()
    return int(text) or None if text.isascii() and text.isdigit() and len(text) < 10 else None
