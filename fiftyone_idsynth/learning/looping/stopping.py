"""When enough is learnt: the quality is shown, the model no longer changes, or nothing gets better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...errors import ParameterError
from .rounds import Round, tail

CONFIDENCE = 0.95
"""Of the lower bound of the accuracy."""

STABLE_ROUNDS = 3
"""Over how many rounds the agreement of successive models is averaged."""


@dataclass(frozen=True)
class Stop:
    """When the loop stops; None switches a rule off.

    Attributes:
        budget: images that people label at most
        target: quality that is enough: of the accuracy the lower 95 % confidence bound (Clopper and Pearson 1934)
            counts, since a small test set reaches a value by luck
        stability: mean of Cohen's kappa between the predictions of successive models over three rounds that is enough,
            on images that they were not trained on (Bloodgood and Vijay-Shanker 2009, "stabilizing predictions")
        patience: rounds in a row without a new best quality that are enough
    """

    budget: int | None
    target: float | None
    stability: float | None
    patience: int | None

    def reason(self, rounds: Sequence[Round]) -> str | None:
        """Why the loop shall stop after these rounds, or None."""
        if not rounds:
            return None
        its, last = tail(rounds), rounds[-1]
        shown = last.quality if last.lower is None else last.lower
        if self.target is not None and shown >= self.target:
            bound = "" if last.lower is None else f", at least {last.lower:.3f} with 95 % confidence"
            return f"the target is reached: {last.metric} {last.quality:.3f}{bound}"
        kappas = [one.kappa for one in its[-STABLE_ROUNDS:] if one.kappa is not None]
        if self.stability is not None and len(kappas) == STABLE_ROUNDS:
            mean = sum(kappas) / STABLE_ROUNDS
            if mean >= self.stability:
                return f"the predictions are stable: mean kappa {mean:.4f} over {STABLE_ROUNDS} rounds"
        best = max(range(len(its)), key=lambda number: its[number].quality)  # the first of the best
        if self.patience is not None and len(its) - 1 - best >= self.patience:
            return f"no better {last.metric} for {self.patience} rounds: {its[best].quality:.3f} is the best"
        if self.budget is not None and last.labels >= self.budget:
            return f"the budget is spent: {last.labels} images are labelled"
        return None


def lower_bound(right: int, total: int) -> float:
    """The lower bound of a share at :data:`CONFIDENCE`, one-sided and exact (Clopper and Pearson 1934)."""
    from scipy.stats import binomtest

    return float(binomtest(right, total, alternative="greater").proportion_ci(CONFIDENCE, "exact").low)


def check_target(target: float | None, tests: int) -> None:
    """Refuses a target that so few test images could never show.

    Raises:
        ParameterError: even without a single error the lower bound of the accuracy stays below the target
    """
    if target is None:
        return
    best = lower_bound(tests, tests)
    if best < target:
        needed = math.ceil(math.log(1 - CONFIDENCE) / math.log(target)) if target < 1 else None
        remedy = f"it takes {needed} test images" if needed else "no number of test images shows an accuracy of 1"
        raise ParameterError(
            "target", target, f"{tests} test images cannot show this: even without an error the accuracy is at least "
            f"{best:.3f} with 95 % confidence; {remedy}"
        )  # fmt: skip


def agreement(before: Iterable[Sequence[str]], now: Iterable[Sequence[str]]) -> float:
    """Cohen's kappa between the classes that two models found in the same images.

    Args:
        before: the classes in each image, one for classification
        now: likewise of the other model

    Returns:
        kappa over all pairs of image and class; 1 where both say the same throughout
    """
    from sklearn.metrics import cohen_kappa_score

    first, second = [list(its) for its in before], [list(its) for its in now]
    if first == second:
        return 1.0
    if all(len(its) == 1 for its in first + second):
        return float(cohen_kappa_score([its[0] for its in first], [its[0] for its in second]))
    classes = sorted({name for its in first + second for name in its})
    flat = [[name in its for its in map(set, side) for name in classes] for side in (first, second)]
    return float(cohen_kappa_score(*flat))
