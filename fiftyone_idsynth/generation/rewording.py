"""The prompts of restyled pictures: what is written about a sample, with other words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ParameterError, RefusedImage
from ..painting import picture_seed
from .rewriting import rewrite
from .variation import swap_words
from .wordlist import Vocabulary

if TYPE_CHECKING:
    from ..llm import LanguageModel

SLOT = "{text}"
"""Stands for the sample's own text in a template."""

_TRIES = 8
"""How often other words are looked for, for a picture that would get the prompt of an earlier one."""


@dataclass(frozen=True)
class Wording:
    """A prompt that was made of a text.

    Attributes:
        prompt: the prompt
        before: the text
        swaps: old word -> new word
    """

    prompt: str
    before: str
    swaps: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rewording:
    """How prompts are made of texts.

    Attributes:
        templates: what the prompts look like; ``{text}`` stands for the changed text
        explicit: old word -> new word, wherever it occurs
        random: how many words are swapped at random besides
        groups: the groups of the vocabulary that these are of
        vocabulary: the words
        seed: of every choice
    """

    templates: tuple[str, ...]
    explicit: Mapping[str, str]
    random: int
    groups: tuple[str, ...]
    vocabulary: Vocabulary
    seed: int

    @property
    def needs_text(self) -> bool:
        """Whether a sample without a text gets no prompt."""
        return any(SLOT in template for template in self.templates)

    def changes(self, text: str) -> bool:
        """Whether the prompt is another one than the text."""
        swapped = self.explicit and word_pattern(*self.explicit).search(text)
        return bool(swapped or self.random or self.templates != (SLOT,))

    def swapped(self, text: str, keep: Sequence[str], name: str, variants: int) -> list[Wording]:
        """The prompts of one sample, different ones as far as there are.

        Args:
            text: the sample's text
            keep: words that stay, e.g. those of its classes
            name: what tells the sample from others
            variants: how many; a larger number adds to the same ones
        """
        made: list[Wording] = []
        for variant in range(variants):
            for attempt in range(_TRIES):
                rng = np.random.default_rng(picture_seed(self.seed, name, variant, "words", attempt))
                changed = swap_words(
                    text, rng, self.vocabulary, groups=self.groups, swaps=self.random, keep=keep,
                    explicit={old.lower(): new for old, new in self.explicit.items()}, add=self.random > 0,
                )  # fmt: skip
                wording = Wording(self.filled(changed.text, name, variant), text, changed.swaps)
                if not self.random or wording.prompt not in {other.prompt for other in made}:
                    break
            made.append(wording)
        return made

    def rewritten(
        self, texts: Sequence[str], keep: Sequence[Sequence[str]], names: Sequence[tuple[str, int]],
        model: LanguageModel, instruction: str | None,
    ) -> list[Wording | RefusedImage]:  # fmt: skip
        """Prompts that a language model writes.

        Args:
            texts: one for each picture
            keep: for each one the words that must stay
            names: for each one what tells its sample from others, and its number among the sample's pictures
            model: the language model
            instruction: what it is told; by default :data:`~fiftyone_idsynth.generation.rewriting.REWRITE_INSTRUCTION`

        Raises:
            LanguageModelError: it gave no usable answer to the first question
        """
        written = rewrite(texts, model, instruction=instruction, subjects=keep)
        return [
            new if isinstance(new, RefusedImage) else Wording(self.filled(new, *name), text)
            for text, new, name in zip(texts, written, names, strict=True)
        ]

    def filled(self, text: str, name: str, variant: int) -> str:
        """A template with the text in it; the pictures of a sample take the templates in turn."""
        first = picture_seed(self.seed, name, "template") % len(self.templates)
        return self.templates[(first + variant) % len(self.templates)].replace(SLOT, text).strip(" ,")


def check_words(swaps: Mapping[str, str], templates: Sequence[str]) -> None:
    """Refuses swaps that change nothing, and templates with unknown slots.

    Raises:
        ParameterError: there is one
    """
    for old, new in swaps.items():
        if not old.strip() or not new.strip() or old.lower() == new.lower():
            raise ParameterError("swaps", dict(swaps), f"{old!r}={new!r}: give two different words, e.g. red=blue")
    for template in templates:
        unknown = [slot for slot in re.findall(r"\{[^{}]*\}", template) if slot != SLOT]
        if unknown:
            raise ParameterError("prompts", template, f"{unknown[0]} is no slot: {SLOT} stands for the sample's text")


def word_pattern(*words: str) -> re.Pattern[str]:
    """Finds words, also between the underscores of a class."""
    longest_first = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.compile(rf"(?<!-)(?<![^\W_])({longest_first})(?![^\W_])(?!-)", re.I)


def renamed(label: str, swaps: Mapping[str, str]) -> str:
    """The name of a class after words were swapped, e.g. "blue_circle" for "red_circle"."""
    new = {old.lower(): word for old, word in swaps.items() if old}
    return word_pattern(*new).sub(lambda match: new[match[0].lower()], label) if new else label
