"""English words: articles, plurals, and words that mean something."""

from __future__ import annotations

import functools
import re
import unicodedata

_DETERMINERS = frozenset(
    "a an the some any no both all each every another several many few this that these those my your his her its our "  # noqa: SIM905
    "their one two three four five six seven eight nine ten eleven twelve".split()
)  # fmt: skip
_IRREGULAR = {
    "people": "person", "children": "child", "men": "man", "women": "woman", "feet": "foot", "teeth": "tooth",
    "mice": "mouse", "geese": "goose", "oxen": "ox", "lice": "louse", "dice": "die", "cacti": "cactus",
}  # fmt: skip
_PLURALS = frozenset({*_IRREGULAR, "cattle", "police"})
_SINGULAR_IN_S = frozenset("lens gas canvas atlas alias bias cosmos rhinoceros albatross chaos series species".split())  # noqa: SIM905
_UNCOUNTABLE = frozenset({"pixel art", "line art", "stained glass", "embroidery", "anime art"})
_AFTER_HEAD = re.compile(r",? (?:of|with|without|in|on|at|by|from|for|under|beside|behind|between|near)\b|,", re.I)
_SPOKEN_VOWEL = re.compile(r"[aeiou8]|1[18](?:th)?\b|hour|hon(?:est|ou?r)|heir|x-?ray", re.I)
_SPOKEN_CONSONANT = re.compile(
    r"uni(?!d(?!ir)|m(?!od)|n|ss|ro|rr)|unanim|us(?:e|u|a[bg])|eu|ewe|one(?![ir])|once|ut(?!ter|most)|ubiq"
    r"|ur[aei]|uk[ru]|ufo|uv\b",
    re.I,
)

_SMALL_WORDS = frozenset(
    "a an the of in on at by with and or to for from is are as it its this that one two three some under over"  # noqa: SIM905
    .split()
)  # fmt: skip


def with_article(noun: str) -> str:
    """A noun with "a" or "an", unless it has an article or a number already, is a plural or cannot be counted."""
    head = _AFTER_HEAD.split(noun, maxsplit=1)[0].lower()
    last = head.rpartition(" ")[2]
    regular = last.endswith("s") and not last.endswith(("ss", "us", "is")) and last not in _SINGULAR_IN_S
    if is_determined(noun) or head in _UNCOUNTABLE or last in _PLURALS or regular:
        return noun
    return f"{'an' if begins_with_vowel(noun) else 'a'} {noun}"


def is_determined(noun: str) -> bool:
    """Whether a noun has an article, a number or the like, so that no other article may stand before it."""
    first = noun.partition(" ")[0].lower()
    return first in _DETERMINERS or first.isdigit()


def begins_with_vowel(word: str) -> bool:
    """Whether a word is spoken with a vowel first: "an hour", but "a unicorn"."""
    first = unicodedata.normalize("NFKD", word.partition(" ")[0])
    initials = first in ("LED", "SUV") or not set(first) & set("AEIOU")
    if initials and first.isascii() and first.isalpha() and first.isupper():
        return first[0] in "AEFHILMNORSX"  # spelt letter by letter
    return bool(_SPOKEN_VOWEL.match(first)) and not _SPOKEN_CONSONANT.match(first)


def content_words(text: str) -> list[str]:
    """The words of a text that mean something, in lower case."""
    return [word for word in re.findall(r"[\w'-]+", text.lower()) if word not in _SMALL_WORDS]


def singulars(word: str) -> list[str]:
    """A word in lower case, and what it may be the English plural of: "cherries" -> "cherries", "cherrie", "cherry"."""
    low = word.lower().removesuffix("'s").removesuffix("'")
    forms = [low, *([_IRREGULAR[low]] if low in _IRREGULAR else [])]
    if len(low) > 2 and low.endswith("s") and not low.endswith("ss"):
        forms.append(low[:-1])
        if low.endswith("ies"):
            forms.append(low[:-3] + "y")
        elif low.endswith("ves"):
            forms += [low[:-3] + "f", low[:-3] + "fe"]
        elif low.endswith("es"):
            forms.append(low[:-2])
    elif low.endswith("men"):
        forms.append(low[:-3] + "man")
    return forms


@functools.lru_cache(maxsize=4096)
def whole_word(word: str) -> re.Pattern[str]:
    """What finds a word or phrase in a text, in any case, but not within a longer word."""
    return re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])", re.I)
