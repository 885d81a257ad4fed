"""Which samples the strategies choose."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from fiftyone_idsynth.errors import MissingExtraError
from fiftyone_idsynth.learning.acquisition import PEERS, STRATEGIES, Pool, choose, quotas
from fiftyone_idsynth.learning.diversity import k_center, most_uncertain_of_clusters


def pool_of(
    uncertainty: Sequence[float] | np.ndarray, embeddings: np.ndarray, covered: np.ndarray | None = None
) -> Pool:
    found = np.asarray(embeddings, np.float32)
    labelled = np.zeros((0, found.shape[1]), np.float32) if covered is None else np.asarray(covered, np.float32)
    shares = np.stack([1 - np.asarray(uncertainty) / 2, np.asarray(uncertainty) / 2], axis=1)
    return Pool(np.asarray(uncertainty, float), lambda rows: found[rows], lambda: labelled, lambda rows: shares[rows])


@pytest.fixture
def clumps() -> Pool:
    """Five clumps of 40, the first of which has the most uncertain samples."""
    rng = np.random.default_rng(0)
    centres = np.eye(5) * 10
    embeddings = np.concatenate([centre + rng.normal(0, 0.1, (40, 5)) for centre in centres])
    uncertainty = np.concatenate([rng.uniform(0.9, 1, 40), *(rng.uniform(0.5, 0.8, 40) for _ in range(4))])
    return pool_of(uncertainty, embeddings)


def clumps_of(chosen: np.ndarray) -> Counter[int]:
    return Counter(int(row) // 40 for row in chosen)


def test_uncertain_takes_the_most_uncertain_in_order(clumps: Pool) -> None:
    chosen = choose("uncertain", clumps, 10, seed=0)
    assert list(chosen) == list(np.argsort(-clumps.uncertainty)[:10])
    assert clumps_of(chosen) == {0: 10}


def test_mixed_takes_the_most_uncertain_of_each_kind(clumps: Pool) -> None:
    chosen = choose("mixed", clumps, 5, seed=0)  # of the 50 most uncertain, which are of several clumps
    assert len(set(chosen)) == 5
    assert len(clumps_of(chosen)) > 1
    assert int(clumps.uncertainty.argmax()) in chosen
    near = np.argsort(-clumps.uncertainty)[:50]
    assert set(chosen) <= set(near)
    wide = choose("mixed", clumps, 20, seed=0)  # of all
    assert set(clumps_of(wide)) == {0, 1, 2, 3, 4}


def test_mixed_asks_for_few_embeddings(clumps: Pool) -> None:
    asked: list[int] = []

    def embed(rows: np.ndarray) -> np.ndarray:
        asked.append(len(rows))
        return clumps.embed(rows)

    choose("mixed", Pool(clumps.uncertainty, embed, clumps.covered, clumps.shares), 3, seed=0)
    assert asked == [30]


def test_mixed_passes_over_what_has_no_embedding(clumps: Pool) -> None:
    embeddings = clumps.embed(np.arange(200)).copy()
    embeddings[:40] = np.nan
    chosen = choose("mixed", pool_of(clumps.uncertainty, embeddings), 3, seed=0)
    assert len(set(chosen)) == 3
    assert min(chosen) >= 40


def test_mixed_copes_with_copies() -> None:
    embeddings = np.repeat(np.eye(2), 50, axis=0)
    uncertainty = np.linspace(0, 1, 100)
    chosen = choose("mixed", pool_of(uncertainty, embeddings), 6, seed=0)
    assert len(set(chosen)) == 6
    assert {49, 99} <= set(chosen)


def test_diverse_keeps_away_from_what_is_labelled_or_chosen(clumps: Pool) -> None:
    assert clumps_of(choose("diverse", clumps, 5, seed=0)) == {0: 1, 1: 1, 2: 1, 3: 1, 4: 1}
    labelled = pool_of(clumps.uncertainty, clumps.embed(np.arange(200)), np.eye(5)[:3] * 10)
    assert clumps_of(choose("diverse", labelled, 2, seed=0)) == {3: 1, 4: 1}


def test_k_center_is_the_greedy_choice_also_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from fiftyone_idsynth.learning import diversity

    rng = np.random.default_rng(3)
    points, covered = rng.random((300, 6)).astype(np.float32), rng.random((20, 6)).astype(np.float32)
    away = np.linalg.norm(points[:, None] - covered[None], axis=2).min(axis=1)
    expected = []
    for _ in range(15):
        expected.append(int(away.argmax()))
        away = np.minimum(away, np.linalg.norm(points - points[expected[-1]], axis=1))
    assert list(k_center(points, 15, covered)) == expected
    monkeypatch.setattr(diversity, "BLOCK", 7)
    monkeypatch.setattr(diversity, "COVERED_BLOCK", 3)
    assert list(k_center(points, 15, covered)) == expected


def test_k_center_of_identical_samples_picks_different_ones() -> None:
    assert sorted(k_center(np.ones((6, 3), np.float32), 6)) == [0, 1, 2, 3, 4, 5]


def test_clusters_of_all_samples_are_all_of_them() -> None:
    chosen = most_uncertain_of_clusters(np.eye(3, dtype=np.float32), np.array([0.1, 0.9, 0.5]), 3, seed=0)
    assert list(chosen) == [1, 2, 0]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_seed_gives_the_same_choice(clumps: Pool, strategy: str) -> None:
    first = choose(strategy, clumps, 12, seed=7)
    assert list(choose(strategy, clumps, 12, seed=7)) == list(first)
    assert len(set(first)) == 12
    if strategy == "random":
        assert list(choose(strategy, clumps, 12, seed=8)) != list(first)


@pytest.mark.parametrize("strategy", [*STRATEGIES, *PEERS])
def test_all_are_taken_if_there_are_no_more(clumps: Pool, strategy: str) -> None:
    assert list(choose(strategy, clumps, 200, seed=0)) == list(range(200))
    assert list(choose(strategy, clumps, 999, seed=0)) == list(range(200))


def test_classes_get_even_parts(clumps: Pool) -> None:
    classes = ["cat"] * 150 + ["dog"] * 47 + ["elk"] * 3
    for strategy in STRATEGIES:
        chosen = choose(strategy, clumps, 21, seed=0, classes=classes)
        assert len(set(chosen)) == 21
        assert Counter(classes[row] for row in chosen) == {"cat": 9, "dog": 9, "elk": 3}


def test_what_is_labelled_counts_towards_the_part_of_a_class() -> None:
    assert quotas({"cat": 100, "dog": 100}, {}, 10) == {"cat": 5, "dog": 5}
    assert quotas({"cat": 100, "dog": 100}, {"cat": 6}, 10) == {"cat": 2, "dog": 8}
    assert quotas({"cat": 100, "dog": 100}, {"cat": 50}, 10) == {"dog": 10}
    assert quotas({"cat": 100, "dog": 2}, {"cat": 50}, 10) == {"cat": 8, "dog": 2}


@pytest.mark.parametrize("strategy", PEERS)
def test_strategies_of_scikit_activeml(clumps: Pool, strategy: str) -> None:
    pytest.importorskip("skactiveml")
    labelled = pool_of(clumps.uncertainty, clumps.embed(np.arange(200)), np.eye(5)[:1] * 10)
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    chosen = choose(strategy, labelled, 8, seed=2)
    assert len(set(chosen)) == 8
    assert set(chosen) <= set(range(200))
    assert list(choose(strategy, labelled, 8, seed=2)) == list(chosen)
    assert (np.random.get_state()[1] == before).all()  # what others draw from is left as it was


def test_k_center_is_that_of_scikit_activeml(clumps: Pool) -> None:
    pytest.importorskip("skactiveml")
    labelled = pool_of(clumps.uncertainty, clumps.embed(np.arange(200)), np.eye(5)[:1] * 10)
    assert list(choose("CoreSet", labelled, 8, seed=0)) == list(choose("diverse", labelled, 8, seed=0))


def test_without_scikit_activeml_the_message_says_what_to_install(
    clumps: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "skactiveml", None)
    with pytest.raises(MissingExtraError, match=r"strategy='Badge' needs .* 'fiftyone-idsynth\[activeml\]'"):
        choose("Badge", clumps, 5, seed=0)
