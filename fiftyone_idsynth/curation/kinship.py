"""Tells images that resemble one another because one was made from the other, or both from the same image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..measures.hashing import Indices
from .grouping import Agrees


class SpareRelatives:
    """Confirms near-duplicates that are not relatives made on purpose.

    The family of an image is itself and all that it was made from, directly or not. Two images of which one was made
    at least are never near-duplicates if their families meet: an image and what was made from it, the blending modes
    of one layout, the variants of one parent.

    Args:
        ids: sample ids
        same: for each image the position of the one that counts in its place within a family, its own by default: a
            copy of a photograph is as good a parent as the photograph
        parents: id of each made sample -> ids of the samples that it was made from; other samples are originals
        agrees (None): a second look, which has to confirm too
    """

    def __init__(
        self, ids: Sequence[str], same: Indices, parents: Mapping[str, Sequence[str]], agrees: Agrees | None = None
    ):
        from scipy.sparse import csr_matrix

        self._same, self._agrees = same, agrees
        # Each image has a number; those of parents that are not in the list come after those of the list.
        number = dict(zip(ids, same.tolist(), strict=True))
        families: dict[int, set[int]] = {}
        for sample_id in ids:
            if sample_id in parents:
                own = number[sample_id]
                above = {number.setdefault(i, len(number)) for i in _ancestors(sample_id, parents)}
                families.setdefault(own, {own}).update(above)
        self._made = np.zeros(len(ids), bool)
        self._made[list(families)] = True
        rows = np.repeat(list(families), [len(its) for its in families.values()])
        columns = np.array([n for its in families.values() for n in its], np.int64)
        shape = (len(ids), len(number))
        self._families = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
        self._marks = np.zeros(len(number), np.float32)

    def __call__(self, keeper: int, others: Indices, distances: NDArray[np.uint8]) -> NDArray[np.bool_]:
        alike = np.ones(len(others), bool) if self._agrees is None else self._agrees(keeper, others, distances)
        own, theirs = self._same[keeper], self._same[others]
        made = self._made[theirs]
        family = np.array([own])
        if self._made[own]:
            family = self._families.indices[self._families.indptr[own] : self._families.indptr[own + 1]]
            alike &= ~np.isin(theirs, family)
        if made.any():
            self._marks[family] = 1
            alike[made] &= self._families[theirs[made]] @ self._marks == 0
            self._marks[family] = 0
        return alike


def _ancestors(sample_id: str, parents: Mapping[str, Sequence[str]]) -> list[str]:
    """The ids of all samples that a sample was made from, directly or not."""
    found = dict.fromkeys(parents[sample_id])
    waiting = list(found)
    while waiting:
        new = [i for i in parents.get(waiting.pop(), ()) if i not in found]
        found |= dict.fromkeys(new)
        waiting += new
    return list(found)
