"""A binary classifier per class on embeddings, and what all of them together say of an image."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

FAR = 30.0
"""The score (log-odds) of a class that is certain or impossible because people named nothing else."""

FOLDS = 5
"""The parts of cross-validation."""

SMOOTHING = 0.3
"""How many wrong decisions are supposed beside those that were seen, and how many right ones. With Platt's 1, among a
few hundred hidden images more errors would be expected from the smoothing than from the classifiers."""


@dataclass(frozen=True)
class Decisions:
    """What the classifiers say of images.

    Attributes:
        labels: int, the class each image would get; the number of classes stands for "none of them"
        scores: float64, how sure that is, as log-odds: the least of what the classifiers concerned say
    """

    labels: np.ndarray
    scores: np.ndarray


def scaled(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings around 0 with a mean variance of 1, so that the same regularisation suits those of any model."""
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    spread = float(np.sqrt((centred**2).mean())) if centred.size else 0.0
    return centred / spread if spread > 0 else centred


def fit(embeddings: np.ndarray, labels: np.ndarray, classes: int, *, penalty: float = 1.0) -> np.ndarray:
    """Trains a logistic regression per class: images of the class against all others.

    Args:
        embeddings: float64 (images x dimensions), see :func:`scaled`
        labels: int, the class of each; the number of classes stands for none of them
        classes: how many classes there are
        penalty (1.0): the weight of the L2 regularisation (1 / C)

    Returns:
        float64 (classes x (dimensions + 1)): weights, then the intercept. Of a class of which people found only images
        or none, all images have the score :data:`FAR`, or less that
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    weights = np.zeros((classes, embeddings.shape[1] + 1))
    for one in range(classes):
        there = labels == one
        if there.all() or not there.any():
            weights[one, -1] = FAR if there.any() else -FAR
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=1 / penalty, max_iter=200).fit(embeddings, there)
        weights[one, :-1], weights[one, -1] = model.coef_[0], model.intercept_[0]
    return weights


def decide(weights: np.ndarray, embeddings: np.ndarray, *, none: bool) -> Decisions:
    """What the classifiers say of images.

    An image gets the likeliest class. How sure that is, is the lesser of two: that its classifier says yes, and that
    all others say no.

    Args:
        weights: see :func:`fit`
        embeddings: float64 (images x dimensions)
        none: whether images may be of none of the classes: an image to which all classifiers say no is
    """
    odds = embeddings @ weights[:, :-1].T + weights[:, -1]
    rows = np.arange(len(odds))
    labels = odds.argmax(axis=1)
    best = odds[rows, labels]
    second = np.partition(odds, -2, axis=1)[:, -2] if odds.shape[1] > 1 else np.full(len(odds), -FAR)
    scores = np.minimum(best, -second)
    if none:
        scores = np.where(best < 0, -best, scores)
        labels = np.where(best < 0, len(weights), labels)
    return Decisions(labels, scores)


def doubts(
    embeddings: np.ndarray, labels: np.ndarray, at_random: np.ndarray, classes: int, *, none: bool, seed: int
) -> tuple[list[tuple[float, float]], int]:
    """How probably decisions are wrong, as functions of their scores: found by cross-validation, for :func:`doubt`.

    Platt's scaling (1999, "Probabilistic outputs for support vector machines"), with smoothed targets: a logistic
    regression of whether a decision is right on its score, here on images that the classifiers were not trained with.
    There are two of them. Images chosen at random are like those to label, but few; among so few sure ones without an
    error nothing tells that errors are rarer still. All images are more, but the others were chosen because they are
    hard, and of these the classifiers are wrong more often than of others with the same score.

    Args:
        embeddings: float64 (images x dimensions)
        labels: int, the class of each image
        at_random: bool, which images were chosen at random
        classes: how many classes there are
        none: whether images may be of none of the classes
        seed: of the parts

    Returns:
        slope and intercept of each, and how many decisions on images chosen at random were wrong
    """
    parts = np.random.default_rng(seed).permutation(len(labels)) % FOLDS
    scores = np.zeros(len(labels))
    right = np.zeros(len(labels), bool)
    for part in range(FOLDS):
        test = parts == part
        if test.any() and not test.all():
            said = decide(fit(embeddings[~test], labels[~test], classes), embeddings[test], none=none)
            scores[test], right[test] = said.scores, said.labels == labels[test]
    rows = [np.ones(len(labels), bool), *([at_random] if at_random.any() else [])]
    return [_platt(scores[its], right[its]) for its in rows], int((~right[at_random]).sum())


def doubt(scores: np.ndarray, scales: list[tuple[float, float]]) -> np.ndarray:
    """How probably decisions with some scores are wrong, 0 to 1: the least of what :func:`doubts` says."""
    odds = [np.clip(slope * scores + intercept, -FAR, FAR) for slope, intercept in scales]
    result: np.ndarray = 1 / (1 + np.exp(np.max(odds, axis=0)))
    return result


def _platt(scores: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of the log-odds of being right."""
    from sklearn.linear_model import LogisticRegression

    share = SMOOTHING / (np.where(right, right.sum(), (~right).sum()) + 2 * SMOOTHING)
    goals = np.where(right, 1 - share, share)
    twice, both = np.concatenate([scores, scores])[:, None], np.repeat([1, 0], len(scores))
    model = LogisticRegression(C=1e3, max_iter=200).fit(twice, both, np.concatenate([goals, 1 - goals]))
    return max(0.0, float(model.coef_[0, 0])), float(model.intercept_[0])
