"""Images of one split that are in another one, too: as near-duplicates or as relatives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from ...relations import RELATION_FIELDS, connected, relation_tokens
from ...samples import dataset_of

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

MOST_ALIKE = 50
"""Of images with the very same hash in one split, how many are compared with each image of another split."""

LISTED = 100
"""How many leaking pairs are listed."""


@dataclass
class Leaks:
    """Which images are in two splits.

    Attributes:
        splits: the names of the splits
        sizes: split -> number of images
        near: (split, other split) -> images of the first that have a near-duplicate in the other one
        related: (split, other split) -> images of the first that have a relative in the other one
        pairs: ids of near-duplicates in different splits, those that were found first
    """

    splits: tuple[str, ...]
    sizes: dict[str, int]
    near: dict[tuple[str, str], int]
    related: dict[tuple[str, str], int]
    pairs: list[tuple[str, str]]


def split_of(tags: Sequence[Sequence[str]], splits: Sequence[str]) -> np.ndarray:
    """The number of each image's split, -1 where it has none; of several tags the first split counts."""
    return np.array([next((n for n, name in enumerate(splits) if name in its), -1) for its in tags], np.int64)


def find_leaks(samples: SampleCollection, splits: Sequence[str], threshold: int, hashes: Hashes) -> Leaks:
    """Finds images that are in two splits.

    Near-duplicates are what ``deduplicate`` takes for them: difference hashes within ``threshold`` bits, confirmed by a
    second hash or a thumbnail where that is not sure. Unlike there, images made from one another count too.

    Args:
        samples: the images
        splits: the sample tags that name splits
        threshold: the largest number of differing bits of 64
        hashes: of these samples
    """
    ids, tags = samples.values(["id", "tags"])
    member = split_of(tags, splits)
    near, pairs = near_across(member, len(splits), threshold, hashes)
    related = _related(samples, member, len(splits))
    names = list(splits)
    return Leaks(
        tuple(splits),
        {name: int((member == n).sum()) for n, name in enumerate(names)},
        _counted(near, member, names),
        _counted(related, member, names),
        [(ids[a], ids[b]) for a, b in pairs],
    )


@dataclass
class Hashes:
    """Hashes of images.

    Attributes:
        dhash: uint64
        phash: uint64
        thumbnails: of plain images, see :mod:`fiftyone_idsynth.curation.grouping`
        known: whether the image could be read
    """

    dhash: np.ndarray
    phash: np.ndarray
    thumbnails: list[str | None]
    known: np.ndarray


def near_across(
    member: np.ndarray, splits: int, threshold: int, hashes: Hashes
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Finds near-duplicates in different splits.

    Args:
        member: number of each image's split, or -1
        splits: number of splits
        threshold: the largest number of differing bits
        hashes: of the images

    Returns:
        bool (images x splits): whether the image has a near-duplicate there, outside its own split; and the first
        :data:`LISTED` pairs of positions
    """
    from ...curation.duplicates import SURE_DISTANCE
    from ...curation.grouping import SecondLook
    from ...measures.hashing import hamming, near_pairs

    leaks = np.zeros((len(member), splits), bool)
    pairs: list[tuple[int, int]] = []
    rows = np.flatnonzero(hashes.known & (member >= 0))
    if not len(rows):
        return leaks, pairs
    agrees = SecondLook(hashes.phash, hashes.thumbnails, SURE_DISTANCE)
    unique, inverse = np.unique(hashes.dhash[rows], return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    alike = np.split(rows[order], np.cumsum(np.bincount(inverse))[:-1])
    found = near_pairs(unique, threshold)
    same = [(n, n) for n, its in enumerate(alike) if len(its) > 1]
    for first, second in [*zip(found.first.tolist(), found.second.tolist(), strict=True), *same]:
        for a, b in ((first, second), (second, first))[: 1 if first == second else 2]:
            for i in alike[a].tolist():
                others = _others(alike[b], member, int(member[i]), splits)
                if not len(others):
                    continue
                true = others[agrees(i, others, hamming(hashes.dhash[i], hashes.dhash[others]))]
                leaks[i, member[true]] = True
                room = LISTED - len(pairs)
                pairs += [(i, j) for j in true[: max(0, room)].tolist() if i < j]
    return leaks, pairs


def _others(rows: np.ndarray, member: np.ndarray, own: int, splits: int) -> np.ndarray:
    """Images of other splits, of each the first :data:`MOST_ALIKE`."""
    parts = [rows[member[rows] == n][:MOST_ALIKE] for n in range(splits) if n != own]
    return np.concatenate(parts) if parts else rows[:0]


def _related(samples: SampleCollection, member: np.ndarray, splits: int) -> np.ndarray:
    """Bool (images x splits): whether the image has a relative there, outside its own split."""
    dataset = dataset_of(samples)
    names = ["id", "filepath", *(name for name in RELATION_FIELDS if samples.has_field(name))]
    columns = samples.values(names)
    tokens = [relation_tokens(dict(zip(names, row, strict=True)), dataset.name) for row in zip(*columns, strict=True)]
    group = np.array(connected(tokens), np.int64)
    there = np.zeros((int(group.max()) + 1, splits), bool)
    with_split = member >= 0
    there[group[with_split], member[with_split]] = True
    found = there[group]
    found[np.flatnonzero(with_split), member[with_split]] = False
    return found


def _counted(leaks: np.ndarray, member: np.ndarray, names: Sequence[str]) -> dict[tuple[str, str], int]:
    both = [pair for a, b in combinations(range(len(names)), 2) for pair in ((a, b), (b, a))]
    return {(names[a], names[b]): int(leaks[member == a, b].sum()) for a, b in both}


def read_hashes(samples: SampleCollection, num_workers: int | None = None) -> tuple[Hashes, list[tuple[str, str]]]:
    """The hashes of samples: those that ``deduplicate`` stored; others are computed and not stored.

    Returns:
        the hashes, and (file, why) for those that cannot be read
    """
    from ...curation.duplicates import HashWorker
    from ...engine import Item, batched, process
    from ...measures.hashing import from_hex
    from ...stage import current_run

    names = ("dhash", "phash", "plain_thumbnail")
    ids, paths = samples.values(["id", "filepath"])
    table: dict[str, list[Any]] = {
        name: samples.values(name) if samples.has_field(name) else [None] * len(ids) for name in names
    }
    missing = [row for row, found in enumerate(zip(table["dhash"], table["phash"], strict=True)) if None in found]
    failed: list[tuple[str, str]] = []

    def items() -> Iterator[Item]:
        for row in missing:
            yield Item(str(row), paths[row])

    with current_run().progress(len(missing)) as bar:
        for outcomes in process(HashWorker(content=False), batched(items(), 32), num_workers=num_workers):
            for outcome in outcomes:
                row = int(outcome.item.id)
                if outcome.result is None:
                    failed.append((paths[row], str(outcome.refused or outcome.error)))
                for name in names:
                    table[name][row] = (outcome.result or {}).get(name)
            bar.update(len(outcomes))
    known = np.array([bool(text) for text in table["dhash"]], bool)
    dhash, phash = (from_hex([text or "0" for text in table[name]]) for name in ("dhash", "phash"))
    return Hashes(dhash, phash, table["plain_thumbnail"], known), failed
