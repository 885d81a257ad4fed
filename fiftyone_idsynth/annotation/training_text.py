"""The text a generator is trained with for an image: trigger word, caption, tags.

The format is ``"TRIGGER, CAPTION, TAG, TAG"``, as trainers for Stable Diffusion read it: one line, parts separated by a
comma and a space, the trigger word first because trainers can keep the first part in its place when they shuffle tags.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

SKIPPED_CATEGORIES = frozenset({"rating"})
"""Categories of tags that say how suitable an image is for whom, and nothing of what it shows."""

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class TextRules:
    """How training texts are made.

    Attributes:
        trigger_word: what every text begins with; may be empty
        threshold: least confidence of a tag; tags without one, as people make them, always count
    """

    trigger_word: str = ""
    threshold: float = 0.0


def merge_texts(caption: str | None, tags: Sequence[Any], rules: TextRules) -> str | None:
    """Merges a caption and tags.

    A tag is left out when all its words are in the caption, when it is the trigger word, and when it was there before;
    case and underscores do not count. A caption that begins with the trigger word keeps it once.

    Args:
        caption: the caption, if there is one
        tags: the tags as ``fo.Classification`` labels, in the order that they shall have
        rules: trigger word and threshold

    Returns:
        one line, or ``None`` where there is neither a caption nor a tag
    """
    trigger = one_line(rules.trigger_word)
    text = without_start(one_line(caption), trigger)
    said = set(words(text))
    seen = {tuple(words(trigger))}
    names = []
    for name in _names(tags, rules.threshold):
        spoken = tuple(words(name))
        if spoken in seen or (spoken and said.issuperset(spoken)):
            continue
        seen.add(spoken)
        names.append(name)
    if not text and not names:
        return None
    if names:
        text = text.rstrip(" .,;")  # lest a full stop stand before a comma
    return ", ".join(part for part in (trigger, text, *names) if part)


def one_line(text: str | None) -> str:
    """A text without line breaks and repeated spaces."""
    return " ".join((text or "").split())


def words(text: str) -> list[str]:
    """The words of a text, case-folded; emoticons and other signs without letters are left as one word."""
    return _WORD.findall(text.casefold()) or ([text.casefold()] if text else [])


def without_start(text: str, start: str) -> str:
    """A text without the words that it begins with, if these are ``start``."""
    if start and re.match(rf"{re.escape(start)}(?!\w)", text, re.IGNORECASE):
        return text[len(start) :].lstrip(" ,;:")
    return text


def _names(tags: Iterable[Any], threshold: float) -> Iterable[str]:
    for tag in tags:
        sure = tag.confidence is None or tag.confidence >= threshold
        category = tag["category"] if tag.has_field("category") else None
        if tag.label and sure and category not in SKIPPED_CATEGORIES:
            yield one_line(tag.label)
