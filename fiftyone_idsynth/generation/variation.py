"""Words that vary images: the vocabulary, swaps of words, new surroundings, rewritten texts, and words for defects."""

from __future__ import annotations

import csv
import functools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ParameterError, RefusedImage, suggestion

if TYPE_CHECKING:
    from ..llm import LanguageModel

OURS = Path(__file__).with_name("vocabulary.csv")
"""The vocabulary that comes with the package."""

SWAPPED_GROUPS = (
    "style", "era", "material", "colour", "condition", "mood", "time of day", "place", "sky", "season",
)  # fmt: skip
"""The groups of the vocabulary whose words stand for one another in a text."""

SURROUNDINGS = ("setting", "light", "weather")
"""The groups that new surroundings are made of."""

DEFECTS = (
    "blurry", "out of focus", "motion blur", "noise", "noisy", "grainy", "film grain", "jpeg artifacts",
    "compression artifacts", "artifacts", "pixelated", "lowres", "low resolution", "low quality", "worst quality",
    "bad quality", "overexposed", "underexposed", "washed out", "chromatic aberration", "watermark", "signature",
    "logo", "text", "username", "timestamp", "border", "letterboxed", "cropped", "scan artifacts", "dust", "scratches",
    "banding", "glitch", "duplicate", "deformed", "disfigured",
)  # fmt: skip
"""Tags that name what is wrong with an image; edit a copy of it."""

REWRITE_INSTRUCTION = """\
You vary the descriptions of images. For each numbered description write another one in which the main subject stays \
exactly what it is, named by the same words, while everything else changes: surroundings, light, weather, season, \
style, material or mood. Rules:
- One sentence each, at most 40 words, concrete and plain; something that a camera or an artist could show.
- Keep the number of main subjects and what they do. Add no text, logos, people or brands that were not there.
- The new description must differ clearly from the old one."""
"""What a language model is told by default when it rewrites texts."""

_AT_ONCE = 20
"""Texts that a language model is given at once."""

_SMALL_WORDS = frozenset(
    "a an the of in on at by with and or to for from is are as it its this that one two three some under over"  # noqa: SIM905
    .split()
)  # fmt: skip


@dataclass(frozen=True)
class Vocabulary:
    """Words that vary images.

    Attributes:
        groups: group -> its words
    """

    groups: Mapping[str, tuple[str, ...]]

    def words(self, group: str) -> tuple[str, ...]:
        """The words of a group.

        Raises:
            ParameterError: there is no such group
        """
        if group not in self.groups:
            raise ParameterError("vocabulary", group, f"has no such group: {suggestion(group, self.groups)}")
        return self.groups[group]

    @functools.cached_property
    def group_of(self) -> dict[str, str]:
        """Word in lower case -> the group whose words may take its place."""
        theirs = [group for group in self.groups if group not in _read(OURS)]
        swapped = [group for group in SWAPPED_GROUPS if group in self.groups]
        return {word.lower(): group for group in (*swapped, *theirs) for word in self.groups[group]}


def read_vocabulary(path: str | os.PathLike[str] | None = None) -> Vocabulary:
    """Reads the vocabulary.

    Args:
        path (None): a CSV file of the user's with the columns ``group`` and ``words``, the words separated by ``|``;
            words of a group that is known come before ours, other groups are new ones

    Raises:
        ParameterError: the file has other columns, an empty group or no words; the message names the line
    """
    ours = _read(OURS)
    if path is None:
        return Vocabulary(ours)
    theirs = _read(Path(path).expanduser())
    merged = {
        group: tuple(dict.fromkeys((*theirs.get(group, ()), *ours.get(group, ())))) for group in {**ours, **theirs}
    }
    return Vocabulary(merged)


@functools.lru_cache(maxsize=4)
def _read(path: Path) -> dict[str, tuple[str, ...]]:
    groups: dict[str, tuple[str, ...]] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if not {"group", "words"} <= set(rows.fieldnames or ()):
                there = ", ".join(rows.fieldnames or ())
                raise ParameterError("vocabulary", str(path), f"needs the columns 'group' and 'words', not {there}")
            for row in rows:
                group = (row["group"] or "").strip().lower()
                words = tuple(dict.fromkeys(word.strip() for word in (row["words"] or "").split("|") if word.strip()))
                if not group or not words:
                    raise ParameterError("vocabulary", str(path), f"line {rows.line_num}: give a group and its words")
                groups[group] = tuple(dict.fromkeys((*groups.get(group, ()), *words)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ParameterError("vocabulary", str(path), f"cannot be read as UTF-8 text with commas: {error}") from error
    return groups


@dataclass(frozen=True)
class Swapped:
    """A text with other words.

    Attributes:
        text: the new text
        swaps: old word -> new word, in the order of the text; words that were added have an empty old one
    """

    text: str
    swaps: dict[str, str] = field(default_factory=dict)


def swap_words(
    text: str,
    rng: np.random.Generator,
    vocabulary: Vocabulary,
    *,
    groups: Sequence[str] = (),
    swaps: int = 1,
    keep: Iterable[str] = (),
    explicit: Mapping[str, str] = {},
    add: bool = False,
) -> Swapped:
    """Puts other words of the same group in the place of words, e.g. "retro" in that of "modern".

    Args:
        text: a caption, or tags with commas
        rng: chooses what is swapped
        vocabulary: the words
        groups (()): only words of these groups; by default all of :data:`SWAPPED_GROUPS` and of the user's own
        swaps (1): how many words at most, besides the explicit ones
        keep (()): words that stay, e.g. those of the main subject
        explicit ({}): swaps that are always made where the word occurs, also of words that are kept
        add (False): whether to add a word, ``", WORD"``, if nothing could be swapped

    Returns:
        the text and what was swapped; the text as it was if there was nothing to swap
    """
    for group in groups:
        vocabulary.words(group)
    done: dict[str, str] = {}
    found: dict[str, str] = {word.lower(): new for word, new in explicit.items() if _pattern(word).search(text)}
    kept = {word.lower() for phrase in keep for word in (phrase, *phrase.split())}
    able = {
        word: group
        for word, group in vocabulary.group_of.items()
        if (not groups or group in groups) and word not in found and not kept & {word, *word.split()}
    }
    candidates = [word for word in _occurring(text, able) if len(vocabulary.words(able[word])) > 1]
    for word in rng.permutation(np.array(candidates, dtype=object))[:swaps]:
        others = [other for other in vocabulary.words(able[word]) if other.lower() != word]
        found[word] = str(others[rng.integers(len(others))])
    if not found:
        return _added(text, rng, vocabulary, groups) if add else Swapped(text)

    def replace(match: re.Match[str]) -> str:
        old = match[0]
        new = found[old.lower()]
        done.setdefault(old, new)
        return new[:1].upper() + new[1:] if old[:1].isupper() else new

    longest_first = sorted(found, key=len, reverse=True)
    pattern = re.compile("|".join(_pattern(word).pattern for word in longest_first), re.I)
    return Swapped(_with_articles(pattern.sub(replace, text)), done)


def _added(text: str, rng: np.random.Generator, vocabulary: Vocabulary, groups: Sequence[str]) -> Swapped:
    names = [group for group in (groups or SWAPPED_GROUPS) if group in vocabulary.groups]
    words = vocabulary.words(str(rng.choice(names)))
    word = str(words[rng.integers(len(words))])
    return Swapped(f"{text.rstrip(' ,.')}, {word}", {"": word})


def _occurring(text: str, words: Iterable[str]) -> list[str]:
    """The words that occur in a text; of those that overlap the longest."""
    taken = np.zeros(len(text) + 1, bool)
    found = []
    for word in sorted(words, key=lambda w: (-len(w), w)):
        for match in _pattern(word).finditer(text):
            if not taken[match.start() : match.end()].any():
                taken[match.start() : match.end()] = True
                found.append(word)
                break
    return found


@functools.lru_cache(maxsize=4096)
def _pattern(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])", re.I)


def _with_articles(text: str) -> str:
    """Corrects "a" and "an" before words that begin with another sound now."""

    def right(match: re.Match[str]) -> str:
        article = "an" if begins_with_vowel(match[2]) else "a"
        return (article.capitalize() if match[1][0].isupper() else article) + " " + match[2]

    return re.sub(r"\b(an?)\s+(\w+)", right, text, flags=re.I)


def begins_with_vowel(word: str) -> bool:
    """Whether a word is spoken with a vowel first: "an hour", but "a unicorn"."""
    low = word.lower()
    if low.startswith(("hour", "honest", "heir", "honour")):
        return True
    return low[:1] in "aeiou" and not low.startswith(("uni", "use", "usu", "eu", "one", "once", "ute"))


def scene_prompts(count: int, seed: int, vocabulary: Vocabulary) -> list[str]:
    """Describes surroundings without an object in them, e.g. "a photo taken on a beach, at dusk".

    Args:
        count: how many
        seed: of every choice; a larger count adds to the same ones
        vocabulary: the words

    Returns:
        the texts, all different as far as there are so many
    """
    from .prompts import combinations

    lists = [vocabulary.words(group) for group in SURROUNDINGS]
    made = (f"a photo taken {setting}, {light}, {weather}" for setting, light, weather in combinations(lists, seed))
    return [text for text, _ in zip(made, range(count), strict=False)]


def rewrite(
    texts: Sequence[str],
    model: LanguageModel,
    *,
    instruction: str | None = None,
    subjects: Sequence[Sequence[str]] = (),
) -> list[str | RefusedImage]:
    """Lets a language model rewrite texts so that the main subject stays and the rest changes.

    Args:
        texts: the descriptions
        model: the language model
        instruction (None): what it is told, by default :data:`REWRITE_INSTRUCTION`
        subjects (()): for each text words that must stay in it

    Returns:
        for each text the new one, or why there is none

    Raises:
        LanguageModelError: it gave no usable answer to the first question
    """
    from ..llm.errors import LanguageModelError

    results: list[str | RefusedImage] = []
    for start in range(0, len(texts), _AT_ONCE):
        part = texts[start : start + _AT_ONCE]
        kept = [subjects[start + n] if subjects else () for n in range(len(part))]
        question = "\n".join(
            f"{n}. {text}" + (f" [keep: {', '.join(words)}]" if words else "")
            for n, (text, words) in enumerate(zip(part, kept, strict=True), 1)
        )
        try:
            answer: Any = model.ask(instruction or REWRITE_INSTRUCTION, question, _answer_of(len(part)))
        except LanguageModelError as error:
            if not results:
                raise
            results += [RefusedImage(error.reason, error.detail)] * (len(texts) - start)
            break
        results += [_checked(*one) for one in zip(part, answer.descriptions, kept, strict=True)]
    return results


def _answer_of(number: int) -> Any:
    from pydantic import Field, create_model

    return create_model("Descriptions", descriptions=(list[str], Field(min_length=number, max_length=number)))


def _checked(before: str, after: str, kept: Sequence[str]) -> str | RefusedImage:
    text = " ".join(after.split())
    if not text:
        return RefusedImage("empty_rewrite", f"the language model gave nothing for {before!r}")
    if text.lower() == before.lower():
        return RefusedImage("same_rewrite", f"the language model changed nothing in {before!r}")
    missing = [word for word in kept if not _pattern(word).search(text)]
    if missing:
        return RefusedImage("subject_lost", f"{', '.join(missing)} is not in the language model's {text!r}")
    return text


def content_words(text: str) -> list[str]:
    """The words of a text that mean something, in lower case."""
    return [word for word in re.findall(r"[\w'-]+", text.lower()) if word not in _SMALL_WORDS]


def defects_in(tags: Iterable[str], defects: Iterable[str] = DEFECTS) -> list[str]:
    """Which of some tags name a defect.

    Args:
        tags: tags, with spaces or underscores
        defects (DEFECTS): what counts as a defect

    Returns:
        these tags as they are, in their order
    """
    known = {_plain(word) for word in defects}
    return [tag for tag in tags if _plain(tag) in known]


def _plain(tag: str) -> str:
    return " ".join(tag.lower().replace("_", " ").replace("-", " ").split())
