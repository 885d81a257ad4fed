"""filter_irrelevant on photographs tagged by a real classifier; benchmarks/relevance.py prints the whole table.

The thresholds lie below what was measured. In place of a language model rules answer that do not see the truth.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.relevance import Pool, measure, pools, tagged

KEEPING_ALL = 0.77


@pytest.fixture(scope="module")
def chosen(shared: Path) -> dict[tuple[str, str], Pool]:
    wanted = {("mixed", "daisy"), ("mixed", "raccoon"), ("one intruder", "daisy")}
    return {(pool.kind, pool.query): pool for pool in pools(shared / "data") if (pool.kind, pool.query) in wanted}


@pytest.fixture(scope="module")
def photos(shared: Path, chosen: dict[tuple[str, str], Pool]) -> Iterator[Any]:
    dataset = tagged(
        sorted({path for pool in chosen.values() for path in (*pool.relevant, *pool.others)}), shared / "weights"
    )
    yield dataset
    dataset.delete()


def test_the_tagger_knows_the_query(photos: Any, shared: Path, chosen: dict[tuple[str, str], Pool]) -> None:
    found = measure(photos, chosen["mixed", "daisy"], shared / "weights")
    assert found["llm, words"]["accuracy"] >= 0.87
    assert found["llm, words"]["recall"] >= 0.95, "nearly all that fits stays"
    assert found["similarity to good examples"]["accuracy"] >= 0.9
    assert found["statistics"]["recall"] >= 0.98, "too few images to prove anything: then all stay"


def test_frequent_intruders_are_found_by_statistics(
    photos: Any, shared: Path, chosen: dict[tuple[str, str], Pool]
) -> None:
    found = measure(photos, chosen["one intruder", "daisy"], shared / "weights")
    statistics = found["statistics"]
    assert statistics["accuracy"] > statistics["accuracy of keeping all"] + 0.1
    assert statistics["recall"] >= 0.95
    assert "daisy" not in statistics["tags"]


def test_the_tagger_does_not_know_the_query(photos: Any, shared: Path, chosen: dict[tuple[str, str], Pool]) -> None:
    found = measure(photos, chosen["mixed", "raccoon"], shared / "weights")
    assert "no tag means this" in found["statistics"]["failed"]
    assert found["llm, knowledge"]["accuracy"] > KEEPING_ALL
    assert found["similarity to good examples"]["accuracy"] >= 0.85
