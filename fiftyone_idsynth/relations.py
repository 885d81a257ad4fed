"""Which samples are relatives, which must never be in different splits, and what the shares of splits may be."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any

from .errors import ParameterError
from .fields import REJECTED_TAG

RELATION_FIELDS = ("lineage.parents", "source.sha256", "source.page_url", "duplicate_group")
"""What :func:`relation_tokens` looks at, besides ``id`` and ``filepath``."""


def relation_tokens(values: Mapping[str, Any], dataset: str) -> list[tuple[str, ...]]:
    """The tokens of a sample: relatives are samples that have one in common.

    Relatives are parents and children, files with the same content (the same path, where that is unknown), images found
    on the same page, and duplicates of one image.

    Args:
        values: ``id``, ``filepath`` and those of :data:`RELATION_FIELDS` that are known
        dataset: the name of its dataset, within which names of duplicate groups are unique
    """
    sha, page, group = (values.get(name) for name in ("source.sha256", "source.page_url", "duplicate_group"))
    tokens: list[tuple[str, ...]] = [("sample", i) for i in (values["id"], *(values.get("lineage.parents") or ()))]
    tokens.append(("content", sha or values["filepath"]))
    if page:
        tokens.append(("page", page))
    if group:
        tokens.append(("duplicates", dataset, group))
    return tokens


def connected(tokens: Sequence[Iterable[Hashable]]) -> list[int]:
    """Numbers the connected groups of things that share tokens.

    Args:
        tokens: the tokens of each thing

    Returns:
        the group number of each thing
    """
    import numpy as np
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    numbers: dict[Hashable, int] = {}
    rows, columns = [], []
    for row, its in enumerate(tokens):
        for token in its:
            rows.append(row)
            columns.append(len(tokens) + numbers.setdefault(token, len(numbers)))
    size = len(tokens) + len(numbers)
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(size, size))
    _, found = connected_components(graph, directed=False)
    return [int(number) for number in found[: len(tokens)]]


def draw(key: str, seed: int) -> bytes:
    """A random number, as bytes to sort by, that depends on a name and the seed alone."""
    return hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()


def check_fractions(fractions: Mapping[str, float], names: Collection[str] = ()) -> None:
    """Raises :class:`ParameterError` unless the shares of splits add up to 1 and their names will do.

    Args:
        fractions: split -> its share
        names (()): the only names there may be; any that can be a sample tag by default
    """
    for name in fractions:
        if names and name not in names:
            raise ParameterError("fractions", fractions, f"{name!r} is no split: use {', '.join(names)}")
        if not name or name == REJECTED_TAG:
            raise ParameterError("fractions", fractions, f"{name!r} cannot name a split: use e.g. train, val and test")
    total = sum(fractions.values())
    if abs(total - 1) > 1e-6:
        raise ParameterError("fractions", fractions, f"must add up to 1, not {total:g}")
