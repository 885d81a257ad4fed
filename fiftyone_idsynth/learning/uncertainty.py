"""How unsure a model is, from the scores it gives: pure functions on arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def probabilities(scores: Sequence[Sequence[float]]) -> np.ndarray:
    """Makes probabilities of scores.

    Scores of several classes are shared out so that they sum up to 1: where each class is judged alone, as SigLIP does,
    and where only the greatest scores are kept, the question is still which class it is. A single score is that of a
    thing that is there or not: it is completed by its opposite.

    Args:
        scores: for each thing the scores of its classes, in any order, 0 or more; of a single one 0 to 1

    Returns:
        float64 (things x the greatest number of classes), filled up with NaN; a row of NaN where there are no scores,
        or some that are negative or not finite
    """
    width = max([2, *map(len, scores)])
    found = np.full((len(scores), width), np.nan)
    for row, given in zip(found, scores, strict=True):
        row[: len(given)] = given
        if len(given) == 1:
            row[1] = 1 - row[0]
    counts = np.array([max(2, len(given)) if len(given) else 0 for given in scores], int)
    there = np.arange(width) < counts[:, None]
    usable = (counts > 0) & ~(there & ~(np.isfinite(found) & (found >= 0))).any(axis=1)
    found[~usable] = np.nan
    total = np.nansum(found, axis=1, keepdims=True)
    uniform = np.where(there & usable[:, None], 1 / np.maximum(counts, 1)[:, None], np.nan)
    return np.where(total > 0, found / np.where(total > 0, total, 1), uniform)


def softmax(logits: Sequence[float]) -> np.ndarray:
    """Makes scores of what a network gives before its last function: softmax, of a single value the logistic one."""
    values = np.asarray(logits, np.float64).ravel()
    if values.size == 1:
        return 1 / (1 + np.exp(-np.clip(values, -700, 700)))
    powers = np.exp(values - values.max(initial=0))
    shares: np.ndarray = powers / powers.sum()
    return shares


def least_confidence(shares: np.ndarray) -> np.ndarray:
    """1 - the greatest probability (Lewis and Gale 1994): 0 to 1 - 1 / classes.

    Args:
        shares: what :func:`probabilities` returns

    Returns:
        float64, one value per row; NaN for rows without scores
    """
    result: np.ndarray = 1 - _ranked(shares)[:, 0]
    return result


def margin(shares: np.ndarray) -> np.ndarray:
    """1 - the difference of the two greatest probabilities (Scheffer et al. 2001): 0 to 1; see least_confidence."""
    ranked = _ranked(shares)
    result: np.ndarray = 1 - (ranked[:, 0] - ranked[:, 1])
    return result


def entropy(shares: np.ndarray) -> np.ndarray:
    """The entropy of the probabilities over that of even ones (Shannon 1948): 0 to 1; see least_confidence."""
    classes = np.isfinite(shares).sum(axis=1)
    logs = np.log(np.where(shares > 0, shares, 1))
    result: np.ndarray = -np.where(np.isfinite(shares), shares * logs, 0).sum(axis=1)
    return np.where(classes > 0, result / np.log(np.maximum(classes, 2)), np.nan)


MEASURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "least_confidence": least_confidence,
    "margin": margin,
    "entropy": entropy,
}
"""Name -> function of what :func:`probabilities` returns."""


def aggregate(values: np.ndarray, counts: Sequence[int], how: str) -> np.ndarray:
    """Puts the values of the objects of images together to one for each image.

    Args:
        values: of all objects, image by image; NaN for those without scores, which do not count
        counts: how many objects each image has
        how: ``"max"``, ``"mean"`` or ``"sum"``

    Returns:
        float64, one value per image: 0 for images without objects, NaN for those whose objects all lack scores
    """
    owners = np.repeat(np.arange(len(counts)), counts)
    known = np.isfinite(values)
    result = np.zeros(len(counts))
    if how == "max":
        np.maximum.at(result, owners[known], values[known])
    else:
        np.add.at(result, owners[known], values[known])
    usable = np.bincount(owners[known], minlength=len(counts))
    if how == "mean":
        result /= np.maximum(usable, 1)
    result[(usable == 0) & (np.asarray(counts, int) > 0)] = np.nan
    return result


def _ranked(shares: np.ndarray) -> np.ndarray:
    """The two greatest of each row, the greatest first."""
    filled = np.where(np.isfinite(shares), shares, -np.inf)
    ranked = np.partition(filled, filled.shape[1] - 2, axis=1)[:, :-3:-1]
    return np.where(np.isfinite(ranked), ranked, np.nan)
