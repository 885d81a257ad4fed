"""Distances between the distributions of two sets of embeddings, and the inception score: pure functions on arrays.

Embeddings are float arrays (images x dimensions); they may lie in a file (``numpy.memmap``) and are read in parts.
"""

from __future__ import annotations

import numpy as np

from .intervals import by_halves

PART = 4096
"""Rows that are read at once."""

SUBSETS = 100
SUBSET = 1000
"""Number and greatest size of the subsets that the kernel distance is averaged over, as in its paper."""


class Moments:
    """Mean and covariance of vectors that come in parts.

    Added up as in Chan, Golub and LeVeque, "Algorithms for computing the sample variance", American Statistician 37,
    1983: nothing is lost where the mean is large, and memory does not grow with the number of vectors.

    Args:
        dimensions: length of a vector
    """

    def __init__(self, dimensions: int):
        self.count = 0
        self.mean = np.zeros(dimensions)
        self._scatter = np.zeros((dimensions, dimensions))

    @classmethod
    def of(cls, vectors: np.ndarray, rows: np.ndarray | None = None, unit: bool = False) -> Moments:
        """The moments of an array.

        Args:
            vectors: float (images x dimensions)
            rows (None): only these rows
            unit (False): whether each vector is scaled to length 1 first
        """
        made = cls(vectors.shape[1])
        count = len(vectors) if rows is None else len(rows)
        for start in range(0, count, PART):
            stop = min(start + PART, count)
            part = np.asarray(vectors[start:stop] if rows is None else vectors[rows[start:stop]], np.float64)
            made.add(unit_length(part) if unit else part)
        return made

    def add(self, vectors: np.ndarray) -> None:
        """Takes further vectors: float (vectors x dimensions)."""
        new = len(vectors)
        if not new:
            return
        mean = vectors.mean(0)
        centred = vectors - mean
        step = mean - self.mean
        total = self.count + new
        self._scatter += centred.T @ centred + np.outer(step, step) * (self.count * new / total)
        self.mean += step * (new / total)
        self.count = total

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance matrix."""
        return self._scatter / max(1, self.count - 1)

    @property
    def second(self) -> np.ndarray:
        """The mean of the outer products of the vectors with themselves."""
        return self._scatter / self.count + np.outer(self.mean, self.mean)


def frechet_distance(first: Moments, second: Moments) -> float:
    """The squared Fréchet distance of two normal distributions.

    ``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))``: Dowson and Landau 1982; on InceptionV3 features it is the FID
    (Heusel et al., "GANs trained by a two time-scale update rule", NeurIPS 2017, equation 6). The trace of the root is
    the sum of the roots of the eigenvalues of ``L' S2 L``, where ``L L' = S1``: a symmetric matrix, so that nothing
    turns complex by rounding.

    Returns:
        from 0 (equal mean and covariance)
    """
    root = _root(first.covariance)
    inner = root.T @ second.covariance @ root
    spread = np.trace(first.covariance) + np.trace(second.covariance)
    return _distance(first.mean, second.mean, spread, inner)


def frechet(
    first: np.ndarray, second: np.ndarray, rows: np.ndarray | None = None, others: np.ndarray | None = None
) -> float:
    """The Fréchet distance of two arrays, see :func:`frechet_distance`.

    Where a set has fewer images than dimensions, its covariance is not needed: with its centred vectors as ``L`` the
    eigenvalue problem is only as large as the number of its images.

    Args:
        first: float (images x dimensions)
        second: float (images x dimensions)
        rows (None): only these of the first
        others (None): only these of the second
    """
    sides = [(first, rows), (second, others)]
    few, many = sorted(sides, key=lambda side: len(side[0] if side[1] is None else side[1]))
    if not _is_few(*few):
        return frechet_distance(Moments.of(*few), Moments.of(*many))
    mean, factor = _factor(*few)
    if _is_few(*many):
        other, theirs = _factor(*many)
        product = factor @ theirs.T
        spread, inner = np.square(theirs).sum(), product @ product.T
    else:
        moments = Moments.of(*many)
        other, spread = moments.mean, np.trace(moments.covariance)
        inner = factor @ moments.covariance @ factor.T
    return _distance(mean, other, np.square(factor).sum() + spread, inner)


def _is_few(vectors: np.ndarray, rows: np.ndarray | None) -> bool:
    return (len(vectors) if rows is None else len(rows)) < vectors.shape[1]


def _factor(vectors: np.ndarray, rows: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The mean, and ``L'`` with ``L L'`` the covariance: float64 (images x dimensions)."""
    chosen = np.asarray(vectors if rows is None else vectors[rows], np.float64)
    mean = chosen.mean(0)
    return mean, (chosen - mean) / np.sqrt(len(chosen) - 1)


def _distance(mean: np.ndarray, other: np.ndarray, spread: float, inner: np.ndarray) -> float:
    common = np.sqrt(np.clip(np.linalg.eigvalsh((inner + inner.T) / 2), 0, None)).sum()
    step = mean - other
    return float(max(0.0, step @ step + spread - 2 * common))


def _root(covariance: np.ndarray) -> np.ndarray:
    """``L`` with ``L L' = covariance``: Cholesky's, unless the matrix is singular."""
    try:
        return np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        return vectors * np.sqrt(np.clip(values, 0, None))


def frechet_with_error(first: np.ndarray, second: np.ndarray, seed: int) -> tuple[float, float, float]:
    """The Fréchet distance of two arrays with its standard error, and extrapolated to infinitely many images.

    Its bias is about proportional to 1 / number of images (Chong and Forsyth, "Effectively unbiased FID and inception
    score and where to find them", CVPR 2020, section 3): twice the value less that on halves is nearly free of it.

    Returns:
        distance, standard error (up to twice too large where the two sets hardly differ), extrapolated distance (may be
        below 0)
    """
    whole = frechet(first, second)
    halves = by_halves(lambda a, b: frechet(first, second, a, b), len(first), len(second), seed, repetitions=10)
    return whole, halves.error, 2 * whole - halves.mean


def squared_mmd(first: np.ndarray, second: np.ndarray) -> float:
    """The squared maximum mean discrepancy with the kernel ``(x.y / dimensions + 1)^3``, unbiased.

    Gretton et al., "A kernel two-sample test", JMLR 13, 2012, lemma 6; the kernel is that of the KID (Bińkowski et
    al., "Demystifying MMD GANs", ICLR 2018, section 4).

    Args:
        first: float (images x dimensions), two rows at least
        second: float (images x dimensions), two rows at least

    Returns:
        0 on average for two samples of one distribution; may be below 0
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    n, m, d = len(first), len(second), first.shape[1]
    own, other, between = (_cubic(a @ b.T / d + 1) for a, b in ((first, first), (second, second), (first, second)))
    within = (own.sum() - np.trace(own)) / (n * (n - 1)) + (other.sum() - np.trace(other)) / (m * (m - 1))
    return float(within - 2 * between.mean())


def _cubic(values: np.ndarray) -> np.ndarray:
    """The third power: by multiplication, which is many times as fast as numpy's general power."""
    found: np.ndarray = values * values * values
    return found


def kernel_distance(first: np.ndarray, second: np.ndarray, seed: int, scale: float = 1.0) -> tuple[float, float]:
    """The kernel distance (KID on InceptionV3 features): the mean squared MMD of random subsets of two sets.

    The subsets have 1,000 images, or half the images of a set that has fewer than 2,000, so that their spread tells
    the standard error (see :func:`~fiftyone_idsynth.quality.distribution.intervals.by_halves`; of m among n images it
    is the spread times ``sqrt(m / (n - m))``).

    Args:
        first: float (images x dimensions), four rows at least
        second: float (images x dimensions), four rows at least
        seed: of the choice of subsets
        scale (1.0): what all vectors are multiplied with

    Returns:
        distance (unbiased; may be below 0), standard error
    """
    rng = np.random.default_rng(seed)
    sizes = [min(SUBSET, len(vectors) // 2) for vectors in (first, second)]
    found = []
    for _ in range(SUBSETS):
        rows = (
            np.sort(rng.choice(len(v), size, replace=False)) for v, size in zip((first, second), sizes, strict=True)
        )
        a, b = (np.asarray(v[r], np.float64) * scale for v, r in zip((first, second), rows, strict=True))
        found.append(squared_mmd(a, b))
    factor = max(m / (len(v) - m) for v, m in zip((first, second), sizes, strict=True))
    return float(np.mean(found)), float(np.std(found, ddof=1) * np.sqrt(factor))


def scale_of(vectors: np.ndarray) -> float:
    """What vectors are multiplied with so that their mean squared length is their number of dimensions.

    The kernel of the KID is made for InceptionV3 features. On vectors of length 1 it would be all but linear.
    """
    squares = sum(float(np.square(vectors[s : s + PART], dtype=np.float64).sum()) for s in range(0, len(vectors), PART))
    return float(np.sqrt(vectors.size / squares)) if squares else 1.0


def inception_score(features: np.ndarray, classifier: np.ndarray, seed: int, splits: int = 10) -> tuple[float, float]:
    """The inception score: how surely a classifier names images, and how evenly it names its classes.

    ``exp(mean KL(p(y|x) || p(y)))`` over random parts: Salimans et al., "Improved techniques for training GANs",
    NeurIPS 2016, section 4, with 10 parts; the logits are without bias, as in the original code.

    Args:
        features: float (images x 2048), of InceptionV3
        classifier: float (classes x 2048), the weights of its last layer
        seed: of the parts
        splits (10): number of parts; fewer where there are fewer than 2 images for each

    Returns:
        mean and standard deviation over the parts; 1 to the number of classes, higher is better
    """
    from scipy.special import log_softmax

    order = np.random.default_rng(seed).permutation(len(features))
    found = []
    for part in np.array_split(order, max(1, min(splits, len(features) // 2))):
        sure, total = 0.0, np.zeros(len(classifier))
        for start in range(0, len(part), PART):
            rows = np.sort(part[start : start + PART])
            logs = log_softmax(np.asarray(features[rows], np.float64) @ classifier.T.astype(np.float64), axis=1)
            shares = np.exp(logs)
            sure += float((shares * logs).sum())
            total += shares.sum(0)
        mean = total / len(part)
        found.append(np.exp(sure / len(part) - float((mean * np.log(np.maximum(mean, 1e-300))).sum())))
    return float(np.mean(found)), float(np.std(found))


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """Vectors scaled to length 1; those of length 0 stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
