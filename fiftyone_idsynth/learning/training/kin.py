"""Relatives: no image is trained on whose relative tests the model, and none is held out apart from its relatives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...relations import RELATION_FIELDS, connected, relation_tokens
from ..candidates import TEST_TAG

if TYPE_CHECKING:
    import fiftyone as fo

VALIDATION_TAG = "val"


class Kin:
    """The relatives among the samples of a dataset, also those that are not trained on.

    Relatives are parents and children, duplicates, files of the same content, and images from one page.

    Args:
        dataset: the dataset
    """

    def __init__(self, dataset: fo.Dataset):
        names = ["id", "filepath", *(name for name in RELATION_FIELDS if dataset.has_field(name))]
        columns = dataset.values([*names, "tags"])
        self._files = dict(zip(columns[0], columns[1], strict=True))
        rows = zip(*columns[:-1], strict=True)
        tokens = [relation_tokens(dict(zip(names, row, strict=True)), dataset.name) for row in rows]
        self._group = dict(zip(columns[0], connected(tokens), strict=True))
        self._tests = {self._group[i] for i, tags in zip(columns[0], columns[-1], strict=True) if TEST_TAG in tags}
        self.validating = {i for i, tags in zip(columns[0], columns[-1], strict=True) if VALIDATION_TAG in tags}

    def of_tests(self, ids: Sequence[str]) -> set[str]:
        """Those of some samples that are relatives of samples in the test split."""
        return {i for i in ids if self._group[i] in self._tests}

    def hold_out(self, classes: Mapping[str, Sequence[str]], share: float, seed: int) -> set[str]:
        """Chooses samples to validate with.

        Samples of the split ``val``, with their relatives, if there are any; else a share of all in which the classes
        are spread as :func:`fiftyone_idsynth.curation.splits.assign_splits` spreads them.

        Args:
            classes: sample id -> its classes
            share: how much is held out, 0..1
            seed: of the choice
        """
        bound = {self._group[i] for i in self.validating if i in classes}
        if bound:
            return {i for i in classes if self._group[i] in bound}
        if not share:
            return set()
        from ...curation.splits import Group, assign_splits

        members: dict[int, list[str]] = {}
        for sample_id in classes:
            members.setdefault(self._group[sample_id], []).append(sample_id)
        groups = []
        for number, its in members.items():
            counts = Counter(name for i in its for name in set(classes[i]))
            groups.append(Group(f"{min(self._files[i] for i in its)}:{number}", len(its), counts))
        chosen = assign_splits(groups, {"train": 1 - share, "val": share}, seed)
        return {
            i for group, its in zip(groups, members.values(), strict=True) if chosen[group.key] == "val" for i in its
        }
