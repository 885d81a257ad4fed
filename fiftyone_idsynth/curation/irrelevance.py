"""Which tags prove that an image does not fit a query: the table of tags, words, statistics, and how right it was."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse, stats

from ..errors import suggestion

MAX_LIFT = 0.1
"""A tag that is found with the query more often than a tenth of what chance would give does not condemn."""

FALSE_DISCOVERIES = 0.05
"""Of the tags that condemn, the share that may do so by chance (Benjamini and Hochberg)."""

_NO_SUBJECT = {
    "a", "an", "and", "image", "images", "in", "of", "on", "photo", "photograph", "photographs", "photos", "picture",
    "pictures", "the", "with",
}  # fmt: skip
"""Words of a query that do not say what an image shows."""

_WORD = re.compile(r"[^\W\d_]+")


class TagTable:
    """Which image has which tags.

    Tags that differ only in case, underscores or spaces count as one.

    Args:
        images: for each image its tags and their confidences
        min_confidence (0): tags below it are left out

    Attributes:
        names: the tags, as they compare: lower case, with spaces
        spellings: for each tag how it is written
        confidence: (images x tags) confidences, sparse
        counts: for each tag the number of its images
    """

    def __init__(self, images: Iterable[Sequence[tuple[str, float]]], min_confidence: float = 0.0):
        columns: dict[str, int] = {}
        self.spellings: list[set[str]] = []
        rows: list[int] = []
        tags: list[int] = []
        values: list[float] = []
        height = 0
        for row, its in enumerate(images):
            height = row + 1
            best: dict[int, float] = {}
            for label, confidence in its:
                if confidence >= min_confidence:
                    column = columns.setdefault(plain(label), len(columns))
                    if column == len(self.spellings):
                        self.spellings.append(set())
                    self.spellings[column].add(label)
                    best[column] = max(best.get(column, 0.0), confidence)
            rows += [row] * len(best)
            tags += best.keys()
            values += best.values()
        self.names = list(columns)
        # A confidence of 0 must not look like a missing tag.
        entries = np.maximum(np.array(values, np.float32), np.finfo(np.float32).tiny)
        self.confidence = sparse.csr_matrix((entries, (rows, tags)), shape=(height, len(columns)))
        self._has = (self.confidence > 0).astype(np.int32)
        self.counts = np.asarray(self._has.sum(0)).ravel().astype(int)
        self._columns = columns

    def __len__(self) -> int:
        return int(self.confidence.shape[0])

    @property
    def untagged(self) -> int:
        """The number of images without a tag."""
        return int((self._has.getnnz(axis=1) == 0).sum())

    def column(self, tag: str) -> int | None:
        """The column of a tag, however it is spelt."""
        return self._columns.get(plain(tag))

    def with_any(self, columns: Sequence[int]) -> np.ndarray:
        """Which images have one of these tags (bool)."""
        found: np.ndarray = self._has[:, list(columns)].getnnz(axis=1) > 0
        return found

    def together(self, images: np.ndarray) -> np.ndarray:
        """For each tag, on how many of these images (bool) it is."""
        counted: np.ndarray = np.asarray(self._has.T @ images.astype(np.int32)).ravel()
        return counted

    def companions(self, count: int) -> list[list[str]]:
        """For each tag the ``count`` tags that it shares the most images with."""
        shared = (self._has.T @ self._has).tocsr()
        found = []
        for column in range(len(self.names)):
            first, last = shared.indptr[column : column + 2]
            others, times = shared.indices[first:last], shared.data[first:last]
            order = np.lexsort((others, -times))
            found.append([self.names[others[i]] for i in order if others[i] != column][:count])
        return found

    def surest(self, columns: Sequence[int]) -> dict[int, tuple[int, float]]:
        """For each image with one of these tags the one with the highest confidence: image -> (column, confidence)."""
        found: dict[int, tuple[int, float]] = {}
        part = self.confidence[:, list(columns)].tocoo()
        for row, at, value in zip(part.row.tolist(), part.col.tolist(), part.data.tolist(), strict=True):
            if row not in found or value > found[row][1]:
                found[row] = (columns[at], value)
        return found


def plain(tag: str) -> str:
    """A tag in the spelling that is compared: lower case, with single spaces."""
    return " ".join(tag.replace("_", " ").casefold().split())


def words_of(text: str) -> list[str]:
    """The words of a text that say what is shown, lower case and singular: ``"photos of daisies"`` -> ``["daisy"]``."""
    return [_singular(word) for word in _WORD.findall(plain(text)) if word not in _NO_SUBJECT]


def means(tag: str, phrase: str) -> bool:
    """Whether a tag names what a phrase means, by its words.

    It does if it has all words of the phrase (``"red panda"``, ``"daisy flower"``), or no other words and the last one,
    which in English is what the thing is: ``"panda"`` for ``"red panda"``, but neither ``"red"`` nor ``"giant panda"``.
    """
    its, wanted = words_of(tag), words_of(phrase)
    if not its or not wanted:
        return False
    return set(wanted) <= set(its) or (set(its) <= set(wanted) and wanted[-1] in its)


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "xes", "sses", "toes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def unrelated_tags(table: TagTable, reference: np.ndarray, spared: Sequence[int], max_tags: int) -> list[int]:
    """Finds the tags that are frequent, yet practically never on the images that show the query.

    Of ``n`` images ``r`` are sure to show the query, and a tag is on ``t`` images, on ``k`` of the sure ones. If it
    had nothing to do with the query, ``k`` would follow the hypergeometric distribution. The tag condemns if it is
    found with the query too rarely to be chance, P(K <= k) at a false discovery rate of :data:`FALSE_DISCOVERIES`, and
    if its lift ``k n / (r t)`` (the exponential of the pointwise mutual information, Church and Hanks 1990) is at most
    :data:`MAX_LIFT`. A rare tag never condemns: that it was not seen with the query proves nothing. Tags that are too
    rare to be found out whatever ``k`` is are not counted among those that are tested (Gilbert 2005).

    Args:
        table: the tags
        reference: which images surely show the query (bool)
        spared: columns of tags that cannot condemn
        max_tags: the greatest number of tags

    Returns:
        their columns, the surest first
    """
    total, sure = len(table), int(reference.sum())
    columns = np.setdiff1d(np.arange(len(table.names)), list(spared))
    if not columns.size or not sure:
        return []
    columns = columns[stats.hypergeom.cdf(0, total, sure, table.counts[columns]) <= FALSE_DISCOVERIES]
    if not columns.size:
        return []
    times, both = table.counts[columns], table.together(reference)[columns]
    chance = np.clip(stats.hypergeom.cdf(both, total, sure, times), 0, 1)
    lift = both * total / (sure * times)
    good = (stats.false_discovery_control(chance) <= FALSE_DISCOVERIES) & (lift <= MAX_LIFT)
    order = np.lexsort((columns, -times, chance))
    return [int(columns[i]) for i in order if good[i]][:max_tags]


def least_images(total: int, sure: int) -> int | None:
    """On how many images a tag must be to condemn without being found with the query; ``None`` if none can."""
    times = np.arange(1, total - sure + 1)
    proved = np.flatnonzero(stats.hypergeom.cdf(0, total, sure, times) <= FALSE_DISCOVERIES)
    return int(times[proved[0]]) if proved.size else None


def find_columns(table: TagTable, tags: Sequence[str]) -> tuple[list[int], list[str]]:
    """Looks tags up.

    Returns:
        their columns, each once, and remarks on those that do not occur
    """
    found = {tag: table.column(tag) for tag in tags}
    remarks = [
        f"no image has the tag {tag!r}: {suggestion(plain(tag), table.names, limit=5)}"
        for tag, column in found.items()
        if column is None
    ]
    return list(dict.fromkeys(column for column in found.values() if column is not None)), remarks


@dataclass(frozen=True)
class Evaluation:
    """How right it was to keep and to reject; the images to be found are those that fit the query.

    Attributes:
        confusion: number of images: ``"relevant, kept"`` and so on
    """

    confusion: dict[str, int]

    @classmethod
    def of(cls, relevant: Sequence[bool], rejected: Sequence[bool]) -> Evaluation:
        counts = Counter(zip(map(bool, relevant), map(bool, rejected), strict=True))
        names = {
            (True, False): "relevant, kept", (True, True): "relevant, rejected",
            (False, False): "irrelevant, kept", (False, True): "irrelevant, rejected",
        }  # fmt: skip
        return cls({name: counts[key] for key, name in names.items()})

    @property
    def accuracy(self) -> float | None:
        """The share of images that were rightly kept or rejected."""
        right = self.confusion["relevant, kept"] + self.confusion["irrelevant, rejected"]
        return _share(right, sum(self.confusion.values()))

    @property
    def precision(self) -> float | None:
        """The share of relevant images among those that were kept."""
        return self._share_of_kept("irrelevant, kept")

    @property
    def recall(self) -> float | None:
        """The share of the relevant images that were kept."""
        return self._share_of_kept("relevant, rejected")

    @property
    def before(self) -> float | None:
        """The accuracy of keeping all: the share of relevant images."""
        relevant = self.confusion["relevant, kept"] + self.confusion["relevant, rejected"]
        return _share(relevant, sum(self.confusion.values()))

    def outputs(self) -> dict[str, float | dict[str, int] | None]:
        """As a report shows it."""
        return {
            "accuracy": self.accuracy, "accuracy of keeping all": self.before, "precision": self.precision,
            "recall": self.recall, "confusion": self.confusion,
        }  # fmt: skip

    def _share_of_kept(self, other: str) -> float | None:
        kept = self.confusion["relevant, kept"]
        return _share(kept, kept + self.confusion[other])


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
