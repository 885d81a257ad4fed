"""The offline word list: what things are called in other languages.

It joins three lists: the user's file, our own (``words.csv``) and the names that Unicode's CLDR gives to emoji, which
come with the package ``emoji``. For each language the first list that has the topic counts.
"""

from __future__ import annotations

import csv
import functools
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import ParameterError
from .languages import language_code

COLUMNS = ("topic", "language", "words")

# The names of some emoji say "fox face" where the English one says "fox"; in Russian the fox is then inflected.
_FACES = {"pt": "rosto de ", "fr": "tête de ", "es": "cara de ", "ar": "وجه ", "ru": "морда ", "id": "wajah "}
_FACES_AFTER = {"ja": "の顔", "ko": " 얼굴", "tr": " yüzü"}


@dataclass(frozen=True)
class Found:
    """What the word list says about a topic.

    Attributes:
        language: the language in which the topic was given
        words: language -> words, the usual one first
    """

    language: str
    words: dict[str, tuple[str, ...]]


def find_words(
    topic: str, languages: Sequence[str], *, spoken: Sequence[str], word_list: str | os.PathLike[str] | None = None
) -> Found | None:
    """Looks a topic up.

    Args:
        topic: the topic, singular or (in English) plural
        languages: the languages in which words are wanted
        spoken: the languages that the topic may be in, the likeliest first
        word_list (None): a CSV file of the user's with the columns ``topic``, ``language`` and ``words``; words are
            separated by ``|``, and topics are in English

    Returns:
        the words, or ``None`` if no list has the topic
    """
    lists = [_file_words(word_list)] if word_list is not None else []
    lists += [_own_words(), _emoji_words(tuple(sorted({*languages, *spoken, "en"})))]
    for language in spoken:
        for words in lists:
            name = words.name(topic, language)
            if name is not None:
                found: dict[str, tuple[str, ...]] = {}
                for each in lists:
                    found = {**each.entries.get(name, {}), **found}
                found["en"] = tuple(dict.fromkeys((words.titles[name], *found.get("en", ()))))
                return Found(language, found)
    return None


class _Words:
    """A word list: the name of an entry -> language -> words, and the way back."""

    def __init__(self, rows: Iterable[tuple[str, str, Sequence[str]]]):
        self.entries: dict[str, dict[str, tuple[str, ...]]] = {}
        self.titles: dict[str, str] = {}
        self._names: dict[tuple[str, str], str] = {}
        for topic, language, words in rows:
            name = normal(topic)
            self.titles.setdefault(name, topic)
            entry = self.entries.setdefault(name, {})
            entry[language] = tuple(dict.fromkeys((*entry.get(language, ()), *words)))
        for name in self.entries:  # an entry's own name goes before another's synonym
            self._names["en", name] = name
        for name, entry in self.entries.items():
            for language, found in entry.items():
                for word in found:
                    self._names.setdefault((language, normal(word)), name)

    def name(self, word: str, language: str) -> str | None:
        """The name of the entry that has this word."""
        for form in _singulars(word) if language == "en" else [normal(word)]:
            if name := self._names.get((language, form)):
                return name
        return None


def normal(text: str) -> str:
    """A text without what makes no difference: case, width, hyphens, and more than one space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().replace("-", " ").replace("_", " ").split())


def _singulars(word: str) -> list[str]:
    form = normal(word)
    forms = [form]
    if len(form) > 3 and form.endswith("s") and not form.endswith("ss"):
        forms += [form[:-1]]
        forms += [form[:-2]] if form.endswith("es") else []
        forms += [form[:-3] + "y"] if form.endswith("ies") else []
    return forms


@functools.cache
def _own_words() -> _Words:
    return _read(Path(__file__).with_name("words.csv"))


def _file_words(path: str | os.PathLike[str]) -> _Words:
    try:
        return _read(Path(path))
    except OSError as error:
        raise ParameterError("word_list", str(path), f"cannot be read ({error.strerror}): check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ParameterError("word_list", str(path), f"is no CSV file in UTF-8: {error}") from error


def _read(path: Path) -> _Words:
    rows: list[tuple[str, str, Sequence[str]]] = []
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        if missing := [column for column in COLUMNS if column not in (reader.fieldnames or ())]:
            has = ", ".join(reader.fieldnames or ()) or "nothing"
            problem = f"lacks the column {missing[0]!r}; the first line must name {', '.join(COLUMNS)}, it names {has}"
            raise ParameterError("word_list", str(path), problem)
        for row in reader:
            topic, language = (row["topic"] or "").strip(), row["language"] or ""
            words = [" ".join(word.split()) for word in (row["words"] or "").split("|") if word.strip()]
            if not topic or not words:
                problem = f"line {reader.line_num} has no {'words' if topic else 'topic'}"
                raise ParameterError("word_list", str(path), problem)
            rows.append((topic, language_code(language, f"word_list, line {reader.line_num}, language"), words))
    return _Words(rows)


@functools.cache
def _emoji_words(languages: tuple[str, ...]) -> _Words:
    import emoji

    wanted = [language for language in languages if language in emoji.LANGUAGES]
    for language in wanted:
        emoji.config.load_language(language)
    rows: list[tuple[str, str, Sequence[str]]] = []
    for sequence, names in emoji.EMOJI_DATA.items():
        english = _plain(names["en"])
        if names["status"] != emoji.STATUS["fully_qualified"] or not english or _is_variant(sequence):
            continue
        for language in wanted:
            word = _plain(names.get(language, ""))
            word = word if "face" in english or language == "en" else _faceless(word, language)
            if word:
                rows.append((english, language, [word]))
    return _Words(rows)


def _plain(name: str) -> str:
    """``":hot_air_balloon:"`` -> ``"hot air balloon"``; empty for names with signs and digits, which are no words."""
    name = " ".join(name.strip(":").replace("_", " ").replace("’", "'").split())
    plain = all(character in " '-・" or unicodedata.category(character)[0] in "LM" for character in name)
    return name if plain else ""


def _faceless(word: str, language: str) -> str:
    before, after = _FACES.get(language), _FACES_AFTER.get(language)
    if before and word.startswith(before):
        return "" if language == "ru" else word.removeprefix(before)
    return word.removesuffix(after) if after else word


def _is_variant(sequence: str) -> bool:
    """Whether an emoji is a flag or has a skin tone."""
    flags, tones, tags = ("\U0001f1e6", "\U0001f1ff"), ("\U0001f3fb", "\U0001f3ff"), ("\U000e0020", "\U000e007f")
    return any(low <= character <= high for character in sequence for low, high in (flags, tones, tags))
