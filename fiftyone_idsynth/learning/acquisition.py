"""Which samples people should label next: strategies that weigh uncertainty against diversity, on arrays alone."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .diversity import k_center, most_uncertain_of_clusters

NEAR = 10
"""How many times as many of the most uncertain samples as are wanted the default strategy chooses from."""

PEERS = ("Badge", "Clue", "CoreSet", "Falcun", "MaxHerding", "ProbCover", "TypiClust")
"""The strategies of scikit-activeml that can be asked for by name; see :mod:`.scikit_activeml`."""


@dataclass(frozen=True)
class Pool:
    """The samples to choose from, and what is known of them.

    Attributes:
        uncertainty: one value per sample; NaN where it is unknown
        embed: rows of samples -> their embeddings, float32 (samples x dimensions), called for what is needed alone;
            rows of NaN for images that cannot be read, which only ``mixed`` passes over
        covered: gives the embeddings of the samples that are labelled, float32 (samples x dimensions)
        shares: rows of samples -> the probabilities of all classes, float (samples x classes)
    """

    uncertainty: np.ndarray
    embed: Callable[[np.ndarray], np.ndarray]
    covered: Callable[[], np.ndarray]
    shares: Callable[[np.ndarray], np.ndarray]


Strategy = Callable[[Pool, np.ndarray, int, int], np.ndarray]
"""``(pool, rows, count, seed) -> rows``: chooses ``count`` of ``rows``, of which there are more."""


def _random(pool: Pool, rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(rows, count, replace=False)


def _uncertain(pool: Pool, rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    return rows[np.argsort(-pool.uncertainty[rows], kind="stable")[:count]]


def _diverse(pool: Pool, rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    return rows[k_center(pool.embed(rows), count, pool.covered())]


def _mixed(pool: Pool, rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    order = _uncertain(pool, rows, len(rows), seed)
    near, rest = order[: NEAR * count], order[NEAR * count :]
    embeddings = pool.embed(near)
    there = np.isfinite(embeddings).all(axis=1) if embeddings.shape[1] else np.zeros(len(near), bool)
    near = near[there]
    if len(near) < count and len(rest):  # of images that cannot be read there is no embedding
        return np.concatenate([near, _mixed(pool, rest, count - len(near), seed)])
    return near[most_uncertain_of_clusters(embeddings[there], pool.uncertainty[near], count, seed)]


STRATEGIES: dict[str, Strategy] = {
    "mixed": _mixed,
    "uncertain": _uncertain,
    "diverse": _diverse,
    "random": _random,
}
"""Name -> the built-in strategy."""

BY_UNCERTAINTY = ("mixed", "uncertain")
"""The strategies that need to know how uncertain samples are."""

BY_EMBEDDINGS = ("mixed", "diverse", *PEERS)
"""The strategies that need embeddings."""

BY_SHARES = ("Badge", "Clue", "Falcun", "ProbCover")
"""The strategies that need the probabilities, or the number, of all classes."""


def strategies() -> list[str]:
    """The names of all strategies."""
    return [*STRATEGIES, *PEERS]


def choose(
    strategy: str,
    pool: Pool,
    count: int,
    *,
    seed: int,
    classes: Sequence[str] | None = None,
    labelled: Mapping[str, int] | None = None,
) -> np.ndarray:
    """Chooses the samples that people should label next.

    ``mixed`` takes the most uncertain of each of ``count`` clusters among the :data:`NEAR` times ``count`` most
    uncertain samples; ``uncertain`` the most uncertain; ``diverse`` those farthest from all that are labelled or chosen
    (k-center greedy); ``random`` any. Other names are strategies of scikit-activeml.

    Args:
        strategy: one of :func:`strategies`
        pool: the samples; the uncertainty of all is known where the strategy needs it
        count: how many
        seed: of random choices and clusterings: the same gives the same samples
        classes (None): the class that each sample seems to have; given, each class gets as even a part as there are
            samples of it, and the strategy chooses within the classes
        labelled (None): class -> how many samples of it are labelled, which count towards its part

    Returns:
        rows of the pool, all different; all of them if there are no more than ``count``

    Raises:
        MissingExtraError: scikit-activeml is asked for and not installed
    """
    rows = np.arange(len(pool.uncertainty))
    if len(rows) <= count:
        return rows
    if strategy in STRATEGIES:
        method = STRATEGIES[strategy]
    else:
        from .scikit_activeml import query

        def method(pool: Pool, rows: np.ndarray, count: int, seed: int) -> np.ndarray:
            return query(strategy, pool, rows, count, seed)

    if classes is None:
        return method(pool, rows, count, seed)
    names = np.asarray(classes, object)
    chosen = []
    for name, part in quotas(Counter(classes), labelled or {}, count).items():
        its = rows[names == name]
        chosen.append(its if len(its) <= part else method(pool, its, part, seed))
    return np.concatenate(chosen)


def quotas(available: Mapping[str, int], labelled: Mapping[str, int], count: int) -> dict[str, int]:
    """Shares out how many samples of each class are chosen, so that the classes become as even as they can.

    Args:
        available: class -> how many samples of it there are to choose from
        labelled: class -> how many are labelled already
        count: how many to choose, at most as many as there are

    Returns:
        class -> how many to choose, without classes of which none is chosen
    """
    parts: Counter[str] = Counter()
    heap = [(labelled.get(name, 0), name) for name, there in available.items() if there]
    heapq.heapify(heap)
    for _ in range(count):
        total, name = heap[0]
        parts[name] += 1
        if parts[name] < available[name]:
            heapq.heapreplace(heap, (total + 1, name))
        else:
            heapq.heappop(heap)
    return dict(parts)
