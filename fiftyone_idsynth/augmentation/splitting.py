"""Keeps variants of images that a model is tested with out of what it is trained with."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from ..fields import SPLITS
from ..relations import RELATION_FIELDS, connected, relation_tokens

if TYPE_CHECKING:
    import fiftyone as fo


def in_splits(dataset: fo.Dataset, ids: Sequence[str], splits: Collection[str]) -> list[str]:
    """Those of some samples neither which nor whose relatives belong to another split than those named.

    Relatives are what :func:`fiftyone_idsynth.relations.relation_tokens` says: duplicates, parents and children, images
    of one page. Samples of no split stay, if all their relatives may.

    Args:
        dataset: the dataset
        ids: samples of it
        splits: names of :data:`fiftyone_idsynth.fields.SPLITS`
    """
    others = set(SPLITS) - set(splits)
    if not others or not others & set(dataset.distinct("tags")):
        return list(ids)
    names = ["id", "filepath", "tags", *(name for name in RELATION_FIELDS if dataset.has_field(name))]
    rows: list[dict[str, Any]] = [
        dict(zip(names, row, strict=True)) for row in zip(*dataset.values(names), strict=True)
    ]
    groups = connected([relation_tokens(row, dataset.name) for row in rows])
    closed = {group for group, row in zip(groups, rows, strict=True) if others & set(row["tags"])}
    group_of = {row["id"]: group for group, row in zip(groups, rows, strict=True)}
    return [one for one in ids if group_of[one] not in closed]
