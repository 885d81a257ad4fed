"""How varied embeddings are, and how evenly images are spread over classes: pure functions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .distances import Moments


def vendi_score(vectors: np.ndarray, rows: np.ndarray | None = None) -> float:
    """The Vendi score: the effective number of different images, by the cosine of their embeddings.

    ``exp(-sum(l log l))`` over the eigenvalues ``l`` of ``K / n``, where ``K`` holds the cosines: Friedman and Dieng,
    "The Vendi score: a diversity evaluation metric for machine learning", TMLR 2023, definition 3.1. These are the
    eigenvalues of the mean outer product of the vectors (section 3.3 of the paper), which needs no ``K`` in memory.

    Args:
        vectors: float (images x dimensions)
        rows (None): only these rows

    Returns:
        1 (all alike) to the lesser of the numbers of images and dimensions (all perpendicular)
    """
    count = len(vectors) if rows is None else len(rows)
    if count <= vectors.shape[1]:  # the other matrix is smaller
        from .distances import unit_length

        chosen = unit_length(np.asarray(vectors if rows is None else vectors[rows], np.float64))
        matrix = chosen @ chosen.T / count
    else:
        matrix = Moments.of(vectors, rows, unit=True).second
    return effective_number(np.linalg.eigvalsh(matrix))


def effective_number(shares: np.ndarray) -> float:
    """The exponential of the entropy of shares, which are scaled to sum up to 1 (the Hill number of order 1)."""
    shares = np.asarray(shares, np.float64)
    shares = shares[shares > shares.max() * 1e-12]
    shares = shares / shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def evenness(counts: Mapping[str, int]) -> float:
    """Pielou's evenness of classes: their entropy over that of as many equal ones; 0 to 1 (all equally frequent)."""
    values = np.array([n for n in counts.values() if n > 0], float)
    return float(np.log(effective_number(values)) / np.log(len(values))) if len(values) > 1 else 1.0


def imbalance(counts: Mapping[str, int]) -> float:
    """How many times as frequent the most frequent class is as the rarest; from 1."""
    values = [n for n in counts.values() if n > 0]
    return max(values) / min(values) if values else 1.0


def class_divergence(first: Mapping[str, int], second: Mapping[str, int]) -> float:
    """The Jensen-Shannon divergence of two class distributions, base 2; 0 (the same shares) to 1 (no class shared)."""
    from scipy.spatial.distance import jensenshannon

    names = sorted({*first, *second})
    a, b = ([counts.get(name, 0) for name in names] for counts in (first, second))
    return float(jensenshannon(a, b, base=2) ** 2)
