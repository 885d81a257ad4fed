"""What the nearest neighbours of embeddings say of two sets: precision, recall, density, coverage, copies.

Distances are Euclidean. They are computed in parts, so that memory does not grow with the number of pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_ROWS = 1024


@dataclass(frozen=True)
class Overlap:
    """How two sets overlap.

    Attributes:
        precise: per image of the first set, whether it lies among the reference
        density: per image of the first set, in how many neighbourhoods of reference images it lies, divided by k
        recalled: per reference image, whether it lies among the first set
        covered: per reference image, whether an image of the first set lies in its neighbourhood
    """

    precise: np.ndarray
    density: np.ndarray
    recalled: np.ndarray
    covered: np.ndarray


def overlap(vectors: np.ndarray, reference: np.ndarray, neighbours: int = 5) -> Overlap:
    """Compares two sets by the balls around their members that reach to their k-th nearest neighbour.

    Precision and recall: Kynkäänniemi et al., "Improved precision and recall metric for assessing generative models",
    NeurIPS 2019, equation 1. Density and coverage: Naeem et al., "Reliable fidelity and diversity metrics for
    generative models", ICML 2020, equations 5 and 7.

    Args:
        vectors: float (images x dimensions), more rows than ``neighbours``
        reference: float (images x dimensions), more rows than ``neighbours``
        neighbours (5): which neighbour the balls reach to
    """
    from sklearn.metrics.pairwise import euclidean_distances

    reach, theirs = (neighbour_distances(v, neighbours)[:, -1] for v in (reference, vectors))
    inside = np.zeros(len(vectors), np.int64)
    recalled = np.zeros(len(reference), bool)
    covered = np.zeros(len(reference), bool)
    for top in range(0, len(reference), _ROWS):
        rows = slice(top, top + _ROWS)
        for left in range(0, len(vectors), 4 * _ROWS):
            columns = slice(left, left + 4 * _ROWS)
            distances = euclidean_distances(np.asarray(reference[rows]), np.asarray(vectors[columns]))
            within = distances < reach[rows, None]
            inside[columns] += within.sum(0)
            covered[rows] |= within.any(1)
            recalled[rows] |= (distances < theirs[None, columns]).any(1)
    return Overlap(inside > 0, inside / neighbours, recalled, covered)


def neighbour_distances(vectors: np.ndarray, neighbours: int = 1) -> np.ndarray:
    """The distances of each vector to its nearest others: float (images x neighbours), the nearest first."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(np.asarray(vectors))
    found: np.ndarray = search.kneighbors()[0]
    return found


@dataclass(frozen=True)
class Nearest:
    """How near images are to real ones.

    Attributes:
        row: per image the row of the nearest real image
        distance: how far that is
        real: per real image, how far the nearest other real image is
        limit: images that are at most as far from a real image count as copies
        expected_authenticity: what :attr:`authentic` is on average for further real images
    """

    row: np.ndarray
    distance: np.ndarray
    real: np.ndarray
    limit: float
    expected_authenticity: float

    @property
    def copies(self) -> np.ndarray:
        """Per image, whether it counts as a copy."""
        return self.distance <= self.limit

    @property
    def authentic(self) -> np.ndarray:
        """Per image, whether the nearest real image has another real image that is nearer still.

        Alaa et al., "How faithful is your synthetic data?", ICML 2022, section 3.3.
        """
        return self.distance > self.real[self.row]


def nearest_real(vectors: np.ndarray, real: np.ndarray, quantile: float = 0.01) -> Nearest:
    """Finds the nearest real image of each image, and which images are nearer to one than real images are to others.

    All pairs are compared: the time grows with the product of the numbers of images, the memory does not.

    Args:
        vectors: float (images x dimensions)
        real: float (images x dimensions), two rows at least
        quantile (0.01): the share of the real images that have another one within the limit: of as many new real
            images about this share would count as copies, too
    """
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(np.asarray(real))
    among, nearest = (found[:, 0] for found in search.kneighbors())
    distances, rows = search.kneighbors(np.asarray(vectors))
    # Rounding: a perfect copy is not at distance 0 to the last bit.
    exact = 1e-6 * float(np.sqrt(np.square(real[: 10 * _ROWS], dtype=np.float64).sum(1).mean()))
    limit = max(float(np.quantile(among, quantile)), exact)
    # Each real image in turn as if it were new: it is not authentic if its nearest neighbour has none nearer.
    expected = float((nearest[nearest] != np.arange(len(nearest))).mean())
    return Nearest(rows[:, 0], distances[:, 0], among, limit, expected)
