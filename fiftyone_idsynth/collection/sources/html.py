"""What sources need to read HTML."""

from __future__ import annotations

import re

_MARKUP = re.compile(r"<[a-zA-Z/!?]|&[#\w]+;")
_CONTROLS = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
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
