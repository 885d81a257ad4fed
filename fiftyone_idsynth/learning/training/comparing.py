"""How sure a difference between two ways of training is: pure functions on arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .metrics import class_iou

RESAMPLES = 2000


@dataclass(frozen=True)
class Gain:
    """A difference of two qualities.

    Attributes:
        first: the mean quality of one way
        second: that of the other
        low: lower end of the interval of first - second
        high: upper end
    """

    first: float
    second: float
    low: float
    high: float

    @property
    def value(self) -> float:
        """The difference of the means."""
        return self.first - self.second

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


Quality = Callable[[np.ndarray], float]
"""Takes what one repeat counted on some images (images x ...), gives the quality."""


def mean_quality(counted: np.ndarray) -> float:
    """The mean over the images, e.g. the accuracy of hits and misses."""
    return float(counted.mean())


def miou_quality(counted: np.ndarray) -> float:
    """The mean IoU of the classes that occur, of confusion matrices (images x classes x classes)."""
    total = counted.sum(axis=0)
    each = class_iou(total, [str(number) for number in range(len(total))])
    return float(np.mean(list(each.values()))) if each else 0.0


def bootstrap_gain(
    first: np.ndarray, second: np.ndarray, quality: Quality, confidence: float, seed: int, resamples: int = RESAMPLES
) -> Gain:
    """Compares two ways by the percentile bootstrap (Efron and Tibshirani 1993, 13.3) over repeats and test images.

    The same repeats and images are drawn for both ways, since both were tested on them. Of a single repeat only images
    are drawn. With few repeats the part of the interval that comes from them is rather too narrow.

    Args:
        first: repeats x images x ...: what was counted on each image
        second: the same of the other way
        quality: makes a quality of the counts of one repeat
        confidence: of the interval, 0..1
        seed: of the draws
        resamples (2000): how often is drawn
    """
    rng = np.random.default_rng(seed)
    repeats, images = first.shape[:2]
    drawn = np.empty(resamples)
    for number in range(resamples):
        rows = rng.integers(0, images, size=images)
        chosen = np.atleast_1d(rng.integers(0, repeats, size=repeats))
        drawn[number] = np.mean([quality(first[r, rows]) - quality(second[r, rows]) for r in chosen])
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    means = [float(np.mean([quality(one) for one in way])) for way in (first, second)]
    return Gain(means[0], means[1], float(low), float(high))


def t_gain(first: Sequence[float], second: Sequence[float], confidence: float) -> Gain:
    """Compares two ways by Student's t over repeats, each with the same seed for both.

    Args:
        first: the quality in each repeat, two at least
        second: the same of the other way
        confidence: of the interval, 0..1
    """
    from scipy.stats import t

    differences = np.asarray(first, float) - np.asarray(second, float)
    reach = t.ppf((1 + confidence) / 2, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    middle = float(differences.mean())
    return Gain(float(np.mean(first)), float(np.mean(second)), middle - float(reach), middle + float(reach))
