"""From scores to the class of an image: pure functions on arrays and dictionaries."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ParameterError
from .descriptions import Classes

if TYPE_CHECKING:
    import fiftyone as fo

SCORES_KEPT = 100
"""How many scores a label keeps, the greatest; models know up to some ten thousand classes."""

_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
"""Scripts that put no space between words, by the beginning of their letters' names in Unicode."""

_BETWEEN_WORDS = re.compile(r"[\s_\-\u2010-\u2015]+")


@dataclass(frozen=True)
class LabelRules:
    """How scores become a label.

    Attributes:
        threshold: the least score of a class
        other: the label of an image that no class has such a score for; by default it gets none
    """

    threshold: float = 0.0
    other: str | None = None

    def label(self, scores: Mapping[str, float], **about: Any) -> fo.Classification | None:
        """The label with the greatest score.

        ``confidence`` is that score; of ``other`` it is 1 minus the greatest score, if there are scores. ``scores``
        keeps the :data:`SCORES_KEPT` greatest scores of all classes, which uncertainty is measured by.

        Args:
            scores: class -> 0..1
            **about: further attributes
        """
        import fiftyone as fo

        ranked = sorted(scores.items(), key=lambda pair: -pair[1])[:SCORES_KEPT]
        name, confidence = ranked[0] if ranked else (None, None)
        if confidence is None or confidence < self.threshold:
            name, confidence = self.other, None if confidence is None else 1 - confidence
        if name is None:
            return None
        return fo.Classification(label=name, confidence=confidence, scores=dict(ranked), **about)


def class_scores(probabilities: np.ndarray, texts: Sequence[int], templates: int, *, exclusive: bool) -> np.ndarray:
    """Puts the probabilities of texts together to those of classes.

    Each text of a class is read in several templates: its score is their geometric mean, which for CLIP is the mean of
    the logits, as in the prompt ensembles of the CLIP paper (Radford et al. 2021, 3.1.4), there of embeddings. A class
    is as likely as its likeliest text, so that a class does not win by having many. Exclusive classes then share 1.

    Args:
        probabilities: pictures x texts, in the order class, text, template
        texts: how many texts each class has
        templates: how many templates there are
        exclusive: whether the probabilities of a picture sum up to 1

    Returns:
        pictures x classes, 0..1
    """
    logs = np.log(np.maximum(probabilities.astype(np.float64), 1e-45))
    by_text = logs.reshape(len(logs), -1, templates).mean(axis=2)
    starts = [0, *accumulate(texts)][:-1]
    best = np.maximum.reduceat(by_text, starts, axis=1)
    if not exclusive:
        return np.exp(best)
    powers = np.exp(best - best.max(axis=1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return shares


class ClassWords:
    """Finds classes in texts by the words that describe them.

    Whole words count, in any case, with spaces, hyphens or underscores between them; in scripts without spaces (such as
    Chinese) they are found anywhere. Of several the earliest counts, and of those that begin at the same place the
    longest: "red panda" is found before "red", and "panda" is not found within it.

    Args:
        classes: label -> its texts, e.g. ``{"cat": ("cat", "cats")}``

    Raises:
        ParameterError: two classes have the same text, or one has no word
    """

    def __init__(self, classes: Classes):
        self._labels: dict[str, str] = {}
        for label, texts in classes.items():
            for text in map(_spelt, texts):
                if not text:
                    raise ParameterError("classes", texts, "has no word to look for")
                if self._labels.setdefault(text, label) != label:
                    problem = f"describes {self._labels[text]!r} and {label!r}: a word can stand for one class only"
                    raise ParameterError("classes", text, problem)
        longest_first = sorted(self._labels, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(_whole, longest_first)))

    def find(self, text: str) -> dict[str, float]:
        """The classes that a text names, the first one first, each with an equal share of 1."""
        named = list(dict.fromkeys(self._labels[match[0]] for match in self._pattern.finditer(_spelt(text))))
        return dict.fromkeys(named, 1 / len(named)) if named else {}


def _spelt(text: str) -> str:
    """A text in the spelling that is compared."""
    return _BETWEEN_WORDS.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def _whole(words: str) -> str:
    """A pattern for these words where they do not begin or end within others."""
    before = "" if _is_unspaced(words[0]) else r"(?<!\w)"
    after = "" if _is_unspaced(words[-1]) else r"(?!\w)"
    return before + re.escape(words) + after


def _is_unspaced(character: str) -> bool:
    return unicodedata.name(character, "").startswith(_UNSPACED)
