"""Figures with their uncertainty."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Z = 1.959963984540054
"""Half the width of a 95 % interval, in standard errors."""

Direction = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        key: its name in results, e.g. ``"kid"``
        title: its name for people, with the embedding that it was measured on
        value: the number
        low: lower end of its 95 % interval, if it is known
        high: upper end of it
        better: which direction is better
        of: how many images it was measured on
        help: what it means, with its range
    """

    key: str
    title: str
    value: float
    low: float | None = None
    high: float | None = None
    better: Direction = "neither"
    of: int = 0
    help: str = ""

    def storable(self) -> Any:
        """The number, or a dictionary of it and of the ends of its interval."""
        if self.low is None:
            return self.value
        return {"value": self.value, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        interval = "" if self.low is None else f" ({self.low:.4g} to {self.high:.4g})"
        return f"{self.value:.4g}{interval}"


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share: Wilson, "Probable inference", JASA 22, 1927. 0 to 1, also for 0 or all hits."""
    if not trials:
        return 0.0, 1.0
    share, z2 = hits / trials, Z * Z
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z / (1 + z2 / trials) * np.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


def bootstrap_mean(values: np.ndarray, seed: int, resamples: int = 1000) -> tuple[float, float]:
    """The 95 % percentile interval of a mean: Efron, "Bootstrap methods", Annals of Statistics 7, 1979."""
    rng = np.random.default_rng(seed)
    count = len(values)
    means = [values[rng.integers(count, size=count)].mean() for _ in range(resamples)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True)
class Halves:
    """What an estimate is on random halves of its data.

    Attributes:
        mean: mean over the halves
        error: standard error of the estimate on all data
    """

    mean: float
    error: float


def by_halves(
    estimate: Callable[[np.ndarray, np.ndarray], float], first: int, second: int, seed: int, repetitions: int
) -> Halves:
    """Estimates how uncertain a figure of two sets is, from its values on random halves of both.

    The spread over halves is the standard error on all data (delete-d jackknife with d = n/2: Shao and Wu, "A general
    theory for jackknife variance estimation", Annals of Statistics 17, 1989). Unlike a bootstrap it draws no image
    twice, which would look like less variety. The mean over halves tells how much the figure depends on the number of
    images.

    Args:
        estimate: a function of the chosen rows of both sets, sorted
        first: size of the first set
        second: size of the second set
        seed: of the choice
        repetitions: number of halves
    """
    rng = np.random.default_rng(seed)
    found = [
        estimate(*(np.sort(rng.choice(size, max(2, size // 2), replace=False)) for size in (first, second)))
        for _ in range(repetitions)
    ]
    return Halves(float(np.mean(found)), float(np.std(found, ddof=1)))
