"""Words that vary images: the vocabulary, swaps of words, new surroundings, rewritten texts, and words for defects."""

from __future__ import annotations

import csv
import functools
import itertools
import os
import re
import unicodedata
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

COLUMNS = ("group", "words", "where")
"""The columns of a vocabulary; the last one may be missing."""

SIDES = {
    "indoor": "place", "outdoor": "place",
    "day": "time", "twilight": "time", "night": "time",
    "clear": "sky", "grey": "sky",
    "spring": "season", "summer": "season", "autumn": "season", "winter": "season",
    "photo": "medium", "drawn": "medium",
}  # fmt: skip
"""Mark of words -> what it is about: words with different marks about the same thing contradict one another."""

SWAPPED_GROUPS = (
    "style", "era", "material", "colour", "condition", "mood", "time of day", "place", "sky", "season",
)  # fmt: skip
"""The groups of the vocabulary that a word is added from where none can be swapped."""

PHRASE_GROUPS = ("setting", "view", "light", "weather", "camera", "season")
"""The groups whose words are phrases that stand by themselves, e.g. "at dusk"; they are never part of another one."""

SCENE_TEMPLATES = ("a photo taken {setting}, {light}, {weather}",)
"""The patterns of surroundings without an object."""

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
"""Texts that a language model is given at once, at most."""

_TOKENS_EACH = 60
"""What the new description of a text takes of the answer, about: 40 words."""

_ASKED_AGAIN = 1500
"""Characters that are left free for an invalid answer, which is sent back with what is wrong with it."""

_MAY_BE_SPLIT = ("context", "invalid_answer", "declined", "refused", "timeout")
"""Why a question can fail because of one of its texts, or because of their number."""

_HOPELESS = 8
"""Questions without any answer after which a language model is given up; 20 texts are split 5 times."""

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


@dataclass(frozen=True)
class Vocabulary:
    """Words that vary images.

    Attributes:
        groups: group -> its words
        marks: word in lower case -> its marks, see :data:`SIDES`
    """

    groups: Mapping[str, tuple[str, ...]]
    marks: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def words(self, group: str) -> tuple[str, ...]:
        """The words of a group.

        Raises:
            ParameterError: there is no such group
        """
        if group not in self.groups:
            raise ParameterError("vocabulary", group, f"has no such group: {suggestion(group, self.groups)}")
        return self.groups[group]

    def group_of(self, groups: Iterable[str] = ()) -> dict[str, str]:
        """Word in lower case -> the group whose words may take its place, of some groups or of all."""
        return {word.lower(): group for group in groups or self.groups for word in self.words(group)}

    def clash(self, one: str, other: str) -> bool:
        """Whether two words contradict one another, as "in an office" and "in falling snow" do."""
        marks = self.marks.get(one.lower(), frozenset()) ^ self.marks.get(other.lower(), frozenset())
        return len({SIDES[mark] for mark in marks}) < len(marks)


def read_vocabulary(path: str | os.PathLike[str] | None = None) -> Vocabulary:
    """Reads the vocabulary.

    Args:
        path (None): a CSV file of the user's with the columns ``group`` and ``words``, the words separated by ``|``,
            and if wanted ``where``, marks of :data:`SIDES` for all words of a line, separated by spaces, e.g.
            ``outdoor day``: words that contradict one another are not combined. Words of a group that is known come
            before ours, other groups are new ones

    Raises:
        ParameterError: the file has other columns, an empty group, no words, an unknown mark or a comma that is not
            quoted; the message names the line
    """
    ours = _ours()
    if path is None:
        return ours
    theirs = _read(Path(path).expanduser())
    merged = {
        group: tuple(dict.fromkeys((*theirs.groups.get(group, ()), *ours.groups.get(group, ()))))
        for group in {**ours.groups, **theirs.groups}
    }
    return Vocabulary(merged, {**ours.marks, **theirs.marks})


@functools.cache
def _ours() -> Vocabulary:
    return _read(OURS)


def _read(path: Path) -> Vocabulary:
    groups: dict[str, tuple[str, ...]] = {}
    marks: dict[str, frozenset[str]] = {}
    line = 0
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            names = rows.fieldnames or ()
            if not {"group", "words"} <= set(names) <= set(COLUMNS) or len(set(names)) < len(names):
                there = ", ".join(map(repr, names)) or "nothing"
                wanted = "needs the columns 'group' and 'words', and may have 'where'"
                raise ParameterError("vocabulary", str(path), f"{wanted}; it has {there}")
            for row in rows:
                line = rows.line_num
                group, words, where = _row(row, path, line)
                groups[group] = tuple(dict.fromkeys((*groups.get(group, ()), *words)))
                marks.update((word.lower(), where) for word in words if where)
    except csv.Error as error:
        raise ParameterError("vocabulary", str(path), f"line {line + 1} or later is no CSV: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError("vocabulary", str(path), f"cannot be read as UTF-8 text with commas: {error}") from error
    return Vocabulary(groups, marks)


def _row(row: dict[Any, Any], path: Path, line: int) -> tuple[str, tuple[str, ...], frozenset[str]]:
    """Group, words and marks of a line."""

    def wrong(problem: str) -> ParameterError:
        return ParameterError("vocabulary", str(path), f"line {line}: {problem}")

    if None in row:
        raise wrong(f"{', '.join(row[None])!r} is one column too many: put words with a comma in double quotes")
    group = (row["group"] or "").strip().lower()
    words = tuple(dict.fromkeys(word.strip() for word in (row["words"] or "").split("|") if word.strip()))
    if not group or not words:
        raise wrong("give a group and its words")
    where = frozenset((row.get("where") or "").lower().split())
    for mark in sorted(where - set(SIDES)):
        raise wrong(f"where={mark!r}: {suggestion(mark, SIDES)}")
    if len({SIDES[mark] for mark in where}) < len(where):
        raise wrong(f"where={row['where']!r} contradicts itself: words that suit both need no mark")
    return group, words, where


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

    The new ones do not contradict the words that stay, as far as there are such.

    Args:
        text: a caption, or tags with commas
        rng: chooses what is swapped
        vocabulary: the words
        groups (()): only words of these groups, by default of all
        swaps (1): how many words at most, besides the explicit ones
        keep (()): words that stay, e.g. those of the main subject
        explicit ({}): swaps that are always made where the word occurs, also of words that are kept
        add (False): whether to add a word, ``", WORD"``, of these groups, by default of :data:`SWAPPED_GROUPS`, if
            nothing could be swapped

    Returns:
        the text and what was swapped; the text as it was if there was nothing to swap
    """
    found: dict[str, str] = {word.lower(): new for word, new in explicit.items() if _pattern(word).search(text)}
    kept = {word.lower() for phrase in keep for word in (phrase, *phrase.split())}
    group_of = vocabulary.group_of(groups)
    able = {
        word: group
        for word, group in group_of.items()
        if word not in found and not kept & {word, *word.split()} and len(vocabulary.words(group)) > 1
    }
    candidates = [word for word in _occurring(text, able, found) if word not in found]
    present = list(dict.fromkeys([*found, *candidates, *_occurring(text, vocabulary.group_of())]))
    for word in rng.permutation(np.array(candidates, dtype=object))[:swaps]:
        others = [other for other in vocabulary.words(group_of[word]) if other.lower() != word]
        beside = [found.get(one, one) for one in present if one != word]
        fitting = [other for other in others if not any(vocabulary.clash(other, one) for one in beside)] or others
        found[word] = str(fitting[rng.integers(len(fitting))])
    if not found:
        return _added(text, rng, vocabulary, groups, present) if add else Swapped(text)
    return _replaced(text, found)


def _replaced(text: str, found: Mapping[str, str]) -> Swapped:
    """A text with other words, and with the articles right before these corrected."""
    done: dict[str, str] = {}

    def replace(match: re.Match[str]) -> str:
        article, space, old = match.groups()
        new = found[old.lower()]
        done.setdefault(old, new)
        if article and is_determined(new):
            old, article, space = article, "", ""  # a capital moves on to the new word
        elif article:
            right = "an" if begins_with_vowel(new) else "a"
            article = right.capitalize() if article[0].isupper() else right
        new = new[:1].upper() + new[1:] if old[:1].isupper() else new
        return f"{article or ''}{space or ''}{new}"

    longest_first = sorted(found, key=len, reverse=True)
    words = "|".join(_pattern(word).pattern for word in longest_first)
    return Swapped(re.sub(rf"(?:\b(an?)(\s+))?({words})", replace, text, flags=re.I), done)


def _added(
    text: str, rng: np.random.Generator, vocabulary: Vocabulary, groups: Sequence[str], present: Sequence[str]
) -> Swapped:
    names = [group for group in (groups or SWAPPED_GROUPS) if group in vocabulary.groups]
    words = vocabulary.words(str(rng.choice(names)))
    fitting = [word for word in words if not any(vocabulary.clash(word, one) for one in present)] or list(words)
    word = fitting[rng.integers(len(fitting))]
    return Swapped(f"{text.rstrip(' ,.')}, {word}", {"": word})


def _occurring(text: str, group_of: Mapping[str, str], first: Iterable[str] = ()) -> list[str]:
    """The words that occur in a text; of those that overlap one that comes first, else the longest."""
    taken = np.zeros(len(text) + 1, bool)
    found = []
    for word in (*first, *sorted(group_of, key=lambda w: (-len(w), w))):
        for match in _pattern(word).finditer(text):
            part_of_another = group_of.get(word) in PHRASE_GROUPS and _within_phrase(text, match)
            if not part_of_another and not taken[match.start() : match.end()].any():
                taken[match.start() : match.end()] = True
                found.append(word)
                break
    return found


def _within_phrase(text: str, match: re.Match[str]) -> bool:
    """Whether a phrase has an article or an "of" beside it, so that another one would not fit in: "a close-up of"."""
    return bool(re.search(r"\b(an?|the)\s+$", text[: match.start()], re.I) or re.match(r"\s+of\b", text[match.end() :]))


@functools.lru_cache(maxsize=4096)
def _pattern(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])", re.I)


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
    if (
        first.isascii()
        and first.isalpha()
        and first.isupper()
        and (first in ("LED", "SUV") or not set(first) & set("AEIOU"))
    ):
        return first[0] in "AEFHILMNORSX"  # spelt letter by letter
    return bool(_SPOKEN_VOWEL.match(first)) and not _SPOKEN_CONSONANT.match(first)


def scene_prompts(count: int, seed: int, vocabulary: Vocabulary, templates: Sequence[str] = ()) -> list[str]:
    """Describes surroundings without an object in them, e.g. "a photo taken on a beach, at dusk, in fog".

    Args:
        count: how many
        seed: of every choice; a larger count adds to the same ones
        vocabulary: the words; those that contradict one another are not combined
        templates (()): patterns with groups of the vocabulary in braces, by default :data:`SCENE_TEMPLATES`

    Returns:
        the texts, all different as far as there are so many

    Raises:
        UsageError: a template has an unknown slot
    """
    from .prompts import grid

    made = grid(templates or SCENE_TEMPLATES, vocabulary, seed)
    return [text for text, _ in zip(dict.fromkeys(itertools.islice(made, 4 * count)), range(count), strict=False)]


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
