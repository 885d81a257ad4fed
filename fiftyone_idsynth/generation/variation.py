"""Words that vary images: swaps of words, and new surroundings."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .english import begins_with_vowel, is_determined, whole_word
from .wordlist import Vocabulary

SWAPPED_GROUPS = (
    "style", "era", "material", "colour", "condition", "mood", "time of day", "place", "sky", "season",
)  # fmt: skip
"""The groups of the vocabulary that a word is added from where none can be swapped."""

PHRASE_GROUPS = ("setting", "view", "light", "weather", "camera", "season")
"""The groups whose words are phrases that stand by themselves, e.g. "at dusk"; they are never part of another one."""

SCENE_TEMPLATES = ("a photo taken {setting}, {light}, {weather}",)
"""The patterns of surroundings without an object."""


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
    found: dict[str, str] = {word.lower(): new for word, new in explicit.items() if whole_word(word).search(text)}
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
    words = "|".join(whole_word(word).pattern for word in longest_first)
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
        for match in whole_word(word).finditer(text):
            part_of_another = group_of.get(word) in PHRASE_GROUPS and _within_phrase(text, match)
            if not part_of_another and not taken[match.start() : match.end()].any():
                taken[match.start() : match.end()] = True
                found.append(word)
                break
    return found


def _within_phrase(text: str, match: re.Match[str]) -> bool:
    """Whether a phrase has an article or an "of" beside it, so that another one would not fit in: "a close-up of"."""
    return bool(re.search(r"\b(an?|the)\s+$", text[: match.start()], re.I) or re.match(r"\s+of\b", text[match.end() :]))


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
