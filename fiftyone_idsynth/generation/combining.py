"""Combinations of words in which every word has its turn, and none contradicts another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np


def combinations(
    lists: Sequence[Sequence[str]], seed: int, clash: Callable[[str, str], bool] | None = None
) -> Iterator[tuple[str, ...]]:
    """All combinations of one word from each list, so that the words of a list occur about equally often at any time.

    Each list is gone through in a new order again and again; a word that contradicts those of earlier lists, or makes a
    combination that was there before, is put off.

    Args:
        lists: the words
        seed: of the orders; the same seed gives the same combinations first, however many are taken
        clash (None): tells words that contradict one another
    """
    if not lists:
        yield ()
        return
    rng = np.random.default_rng(seed)
    left = _Left(lists, clash)
    # Whole numbers say how often a word was used, the fractions are the order of this turn.
    turns = [rng.random(len(words)) for words in lists]
    while (chosen := left.take(turns)) is not None:
        for turn, number in zip(turns, chosen, strict=True):
            turn[number] = int(turn[number]) + 1 + rng.random()
        yield tuple(words[number] for words, number in zip(lists, chosen, strict=True))


class _Left:
    """The combinations, as numbers of words, that contradict nothing and were not taken yet."""

    def __init__(self, lists: Sequence[Sequence[str]], clash: Callable[[str, str], bool] | None):
        self._lists, self._clash = lists, clash
        # For two lists, which words (columns) of one suit which of the other (rows).
        self._suits = [[self._suiting(rows, columns) for columns in lists] for rows in lists]
        self._open: dict[tuple[int, ...], np.ndarray] = {}

    def _suiting(self, rows: Sequence[str], columns: Sequence[str]) -> np.ndarray:
        if self._clash is None:
            return np.ones((len(rows), len(columns)), bool)
        return np.array([[not self._clash(row, column) for column in columns] for row in rows]).reshape(len(rows), -1)

    def take(self, orders: Sequence[np.ndarray], chosen: tuple[int, ...] = ()) -> tuple[int, ...] | None:
        """Takes from one list after the other the word that is first in its order; ``None`` if none is left."""
        able = self._able(chosen)
        order = orders[len(chosen)]
        while able.any():
            number = int(np.where(able, order, np.inf).argmin())
            if len(chosen) == len(orders) - 1:
                able[number] = False
                return *chosen, number
            longer = self.take(orders, (*chosen, number))
            if longer is not None:
                return longer
            able[number] = False  # for good, since nothing that is taken is given back
        return None

    def _able(self, chosen: tuple[int, ...]) -> np.ndarray:
        """Which words of the next list may follow; kept, and changed by what is taken."""
        if chosen not in self._open:
            able = self._suited(chosen, len(chosen))
            for later in range(len(chosen) + 1, len(self._lists)):  # a word that leaves none there leads nowhere
                able &= (self._suits[len(chosen)][later] & self._suited(chosen, later)).any(axis=1)
            self._open[chosen] = able
        return self._open[chosen]

    def _suited(self, chosen: tuple[int, ...], place: int) -> np.ndarray:
        """Which words of a list suit all that are chosen."""
        able = np.ones(len(self._lists[place]), bool)
        for earlier, number in enumerate(chosen):
            able &= self._suits[earlier][place][number]
        return able
