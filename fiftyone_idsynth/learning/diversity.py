"""Samples that differ from one another: k-center greedy, and one of each cluster. Pure functions on arrays."""

from __future__ import annotations

import warnings

import numpy as np

BLOCK = 4096
"""How many embeddings are compared at a time."""

COVERED_BLOCK = 256
"""How many of the labelled ones they are compared with at a time."""


def k_center(embeddings: np.ndarray, count: int, covered: np.ndarray | None = None) -> np.ndarray:
    """Picks samples so that none is far from all of those picked.

    The greedy 2-approximation of the k-center problem (Gonzalez 1985), as in core-set selection (Sener and Savarese
    2018): each time the sample that is farthest from what is covered.

    Args:
        embeddings: float32 (samples x dimensions)
        count: how many to pick, at most as many as there are
        covered (None): float32 (samples x dimensions), those that are labelled; without any, the sample nearest to the
            mean is picked first

    Returns:
        their rows, in the order in which they were picked
    """
    norms = _norms(embeddings)
    if covered is None or not len(covered):
        first = embeddings.mean(axis=0, dtype=np.float64).astype(np.float32)
        away = _distances(embeddings, norms, first)
        picked = [int(away.argmin())]
        away = _distances(embeddings, norms, embeddings[picked[0]])
    else:
        picked = []
        away = _nearest(embeddings, norms, covered)
    away[picked] = -1
    while len(picked) < count:
        row = int(away.argmax())
        np.minimum(away, _distances(embeddings, norms, embeddings[row]), out=away)
        picked.append(row)
        away[picked] = -1
    return np.array(picked[:count], int)


def most_uncertain_of_clusters(embeddings: np.ndarray, uncertainty: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Picks the most uncertain sample of each of as many clusters (k-means) as samples are wanted.

    Args:
        embeddings: float32 (samples x dimensions)
        uncertainty: one value per sample
        count: how many to pick, at most as many as there are
        seed: of the clustering

    Returns:
        their rows, the most uncertain first; where copies leave fewer clusters, the most uncertain of the rest follow
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    order = np.argsort(-uncertainty, kind="stable")
    if count >= len(order):
        return order
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different samples than clusters
        cluster = KMeans(count, n_init=1, random_state=seed).fit_predict(embeddings[order])
    _, firsts = np.unique(cluster, return_index=True)
    firsts.sort()
    rest = np.setdiff1d(np.arange(len(order)), firsts)
    result: np.ndarray = order[np.concatenate([firsts, rest])[:count]]
    return result


def _norms(embeddings: np.ndarray) -> np.ndarray:
    found = [np.einsum("ij,ij->i", part, part) for part in _blocks(embeddings, BLOCK)]
    return np.concatenate(found) if found else np.zeros(0, np.float32)


def _distances(embeddings: np.ndarray, norms: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Squared distances of all from one."""
    products = np.concatenate([part @ one for part in _blocks(embeddings, BLOCK)])
    return np.maximum(norms - 2 * products + float(one @ one), 0)


def _nearest(embeddings: np.ndarray, norms: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Squared distances of all from the nearest of some, so many at a time that little memory is needed."""
    away = np.full(len(embeddings), np.inf, np.float32)
    for others in _blocks(covered, COVERED_BLOCK):
        lengths = _norms(others)
        for start, part in zip(range(0, len(embeddings), BLOCK), _blocks(embeddings, BLOCK), strict=True):
            here = slice(start, start + BLOCK)
            nearest = (lengths - 2 * (part @ others.T)).min(axis=1) + norms[here]
            np.minimum(away[here], np.maximum(nearest, 0), out=away[here])
    return away


def _blocks(embeddings: np.ndarray, size: int) -> list[np.ndarray]:
    return [embeddings[start : start + size] for start in range(0, len(embeddings), size)]
