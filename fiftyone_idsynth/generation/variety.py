"""How varied texts are: those that say nearly the same as another one, by their words or by their meaning."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .english import content_words

if TYPE_CHECKING:
    from ..models.roles import Matcher

_COMPARED = 1000
"""How many texts the embedding measures of :func:`spread` look at, at most."""

_AT_ONCE = 256
"""Texts that a model embeds at once."""


class _Growing:
    """An array that grows at its end."""

    def __init__(self, dtype: type, width: tuple[int, ...] = ()):
        self._room: np.ndarray = np.empty((64, *width), dtype)
        self._size = 0

    def add(self, value: object) -> None:
        if self._size == len(self._room):
            self._room = np.concatenate([self._room, np.empty_like(self._room)])
        self._room[self._size] = value
        self._size += 1

    @property
    def values(self) -> np.ndarray:
        return self._room[: self._size]


class Distinct:
    """Tells prompts that say nearly the same as an earlier one.

    Two prompts are compared by the words that mean something, without those of the subject: by the share of common ones
    among all (Jaccard).

    Args:
        max_similarity: a greater similarity, 0..1, is too much; 1 lets all pass but those that differ only in case or
            spaces
        common: words that do not count, e.g. the subject
    """

    def __init__(self, max_similarity: float, common: str = ""):
        self._most = max_similarity
        self._common = set(content_words(common))
        self._texts: set[str] = set()
        self._sizes = _Growing(np.int32)
        self._with: dict[str, _Growing] = {}

    def take(self, text: str) -> bool:
        """Takes a prompt, unless one like it was taken before."""
        normal = " ".join(text.lower().split())
        words = set(content_words(text)) - self._common
        if normal in self._texts or self._too_similar(words):
            return False
        number = len(self._texts)
        self._texts.add(normal)
        self._sizes.add(len(words))
        for word in words:
            if word not in self._with:
                self._with[word] = _Growing(np.int32)
            self._with[word].add(number)
        return True

    def _too_similar(self, words: set[str]) -> bool:
        """Whether one that was taken has too many of these words, and few others."""
        lists = sorted((self._with[word].values for word in words if word in self._with), key=len)
        # Whatever shares more than this part of all words has one of the words that remain when as many are left out;
        # the rarest are looked at, since every prompt has the others.
        least = int(np.floor(self._most * len(words))) + 1
        rare = len(lists) - least + 1
        if rare < 1:
            return False
        candidates, shared = np.unique(np.concatenate(lists[:rare]), return_counts=True)
        for done, numbers in enumerate(lists[rare:], rare):
            hopeful = shared + len(lists) - done >= least
            candidates, shared = candidates[hopeful], shared[hopeful]
            # The lists are in order, as they grew.
            places = np.minimum(np.searchsorted(numbers, candidates), len(numbers) - 1)
            shared += numbers[places] == candidates
        union = self._sizes.values[candidates] + len(words) - shared
        return bool((shared / union > self._most).any())


class Apart:
    """Tells texts that mean nearly the same as an earlier one, to a model.

    Args:
        matcher: compares them
        min_distance: the least distance (1 - cosine)
    """

    def __init__(self, matcher: Matcher, min_distance: float):
        self._matcher, self._least = matcher, min_distance
        self._taken: _Growing | None = None

    def near(self, texts: Sequence[str]) -> list[bool]:
        """Which texts are too near to an earlier one that is none of these itself; the others are remembered."""
        found: list[bool] = []
        for start in range(0, len(texts), _AT_ONCE):
            vectors = self._matcher.embed_texts(list(texts[start : start + _AT_ONCE]))
            if self._taken is None:
                self._taken = _Growing(vectors.dtype.type, vectors.shape[1:])
            for vector in vectors:
                taken = self._taken.values
                close = bool(len(taken)) and float((taken @ vector).max()) > 1 - self._least
                found.append(close)
                if not close:
                    self._taken.add(vector)
        return found


def too_near(texts: Sequence[str], matcher: Matcher, min_distance: float) -> list[bool]:
    """Which texts mean nearly the same as an earlier one that is none of these itself; see :class:`Apart`."""
    return Apart(matcher, min_distance).near(texts)


def spread(texts: Sequence[str], matcher: Matcher | None = None) -> dict[str, float]:
    """Measures how varied texts are.

    Args:
        texts: the texts
        matcher (None): compares them by meaning too

    Returns:
        ``distinct-1`` and ``distinct-2``: different words, and pairs of words, per word and pair (Li et al. 2016, "A
        diversity-promoting objective function for neural conversation models"); with a matcher also, of the embeddings
        of at most 1,000 texts, ``mean distance`` (1 - cosine) of two of them, and ``vendi``, the Vendi score: how many
        wholly different texts would be as varied (Friedman and Dieng 2023, "The Vendi score: a diversity evaluation
        metric for machine learning")
    """
    found: dict[str, float] = {}
    tokens = [re.findall(r"[\w'-]+", text.lower()) for text in texts]
    for n in (1, 2):
        grams = [tuple(words[i : i + n]) for words in tokens for i in range(len(words) - n + 1)]
        found[f"distinct-{n}"] = round(len(set(grams)) / len(grams), 4) if grams else 0.0
    if matcher is not None and len(texts) > 1:
        chosen = list(texts[:: -(-len(texts) // _COMPARED)])
        vectors = np.concatenate(
            [matcher.embed_texts(chosen[start : start + _AT_ONCE]) for start in range(0, len(chosen), _AT_ONCE)]
        ).astype(np.float64)
        cosines = vectors @ vectors.T
        pairs = len(chosen) * (len(chosen) - 1)
        found["mean distance"] = round(float(1 - (cosines.sum() - np.trace(cosines)) / pairs), 4)
        found["vendi"] = round(vendi_score(vectors), 2)
    return found


def vendi_score(vectors: np.ndarray) -> float:
    """The exponential of the entropy of the eigenvalues of the matrix of cosines, divided by its size: 1 to n.

    Args:
        vectors: (n x dimensions), of length 1
    """
    # Both products have the same eigenvalues other than 0: the smaller one is taken.
    matrix = vectors @ vectors.T if len(vectors) <= vectors.shape[1] else vectors.T @ vectors
    values = np.linalg.eigvalsh(matrix / len(vectors))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))
