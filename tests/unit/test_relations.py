"""Relatives: what makes them, groups of them, and the shares of splits."""

from __future__ import annotations

from typing import Any

import pytest

from fiftyone_idsynth.errors import ParameterError
from fiftyone_idsynth.relations import check_fractions, connected, relation_tokens


def test_things_that_share_a_token_are_connected() -> None:
    numbers = connected([["a"], ["b", "c"], ["c", "d"], ["e"], ["d"], []])
    assert numbers[1] == numbers[2] == numbers[4]
    assert len(set(numbers)) == 4


@pytest.mark.parametrize(
    ("first", "second", "related"),
    [
        ({"source.sha256": "1"}, {"source.sha256": "1"}, True),
        ({}, {"filepath": "/a.jpg"}, True),
        ({"source.sha256": "1"}, {"source.sha256": "2", "filepath": "/a.jpg"}, False),
        ({}, {"lineage.parents": ["a", "x"]}, True),
        ({"lineage.parents": ["x"]}, {"lineage.parents": ["x", "y"]}, True),
        ({"source.page_url": "p"}, {"source.page_url": "p"}, True),
        ({"duplicate_group": "g"}, {"duplicate_group": "g"}, True),
        ({"duplicate_group": "g"}, {"source.page_url": "g"}, False),
        ({"lineage.parents": None, "source.page_url": None}, {"lineage.parents": None, "source.page_url": None}, False),
    ],
)
def test_relatives(first: dict[str, Any], second: dict[str, Any], related: bool) -> None:
    one = relation_tokens({"id": "a", "filepath": "/a.jpg", **first}, "d")
    other = relation_tokens({"id": "b", "filepath": "/b.jpg", **second}, "d")
    assert bool(set(one) & set(other)) == related


def test_duplicate_groups_of_two_datasets_are_not_the_same() -> None:
    values = {"id": "a", "filepath": "/a.jpg", "duplicate_group": "g"}
    shared = set(relation_tokens(values, "d")) & set(relation_tokens({**values, "id": "b", "filepath": "/b.jpg"}, "e"))
    assert not shared


def test_fractions() -> None:
    check_fractions({"train": 0.7, "holdout": 0.3})
    with pytest.raises(ParameterError, match="add up to 1, not 0.9"):
        check_fractions({"train": 0.9})
    with pytest.raises(ParameterError, match="'rejected' cannot name a split"):
        check_fractions({"rejected": 1.0})
    with pytest.raises(ParameterError, match="'holdout' is no split: use train, val"):
        check_fractions({"train": 0.7, "holdout": 0.3}, ("train", "val"))
