"""Bounds of a share that was counted in a sample: Clopper-Pearson, and its counterpart where the rest is finite."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from scipy import stats


def lower_bound(count: int, total: int, confidence: float) -> float:
    """The one-sided lower bound of Clopper and Pearson (1934) of a share.

    Args:
        count: how many of the sample have the property
        total: the size of the sample; nothing is known from an empty one
        confidence: how often such a bound is right, between 0 and 1
    """
    return 0.0 if count == 0 else float(stats.beta.ppf(1 - confidence, count, total - count + 1))


def upper_bound(count: int, total: int, confidence: float) -> float:
    """The one-sided upper bound of Clopper and Pearson (1934) of a share; see :func:`lower_bound`."""
    return 1.0 if count == total else float(stats.beta.ppf(confidence, count + 1, total - count))


def passes(wrong: int, judged: int, share: float, risk: float, unseen: int) -> bool:
    """Whether a sample shows that at most a given share of what was not seen is wrong.

    Two tests must reject the opposite: that of Clopper and Pearson, and one that counts with as many unseen images as
    there are. The sample is drawn without replacement from itself and the unseen ones together; if more of these than
    allowed were wrong, so few in the sample had at most the probability ``risk`` (hypergeometric distribution). Where
    the unseen are not many times as numerous as the sample, this is the stricter one.

    Args:
        wrong: how many of the sample are wrong
        judged: the size of the sample
        share: the greatest share that may be wrong, 0 to 1
        risk: how often the answer may be yes although more are wrong
        unseen: how many images were not seen
    """
    if judged == 0 or stats.binom.cdf(wrong, judged, share) > risk:
        return False
    too_many = math.floor(share * unseen + 1e-9) + 1
    if too_many > unseen:
        return True
    return bool(stats.hypergeom.cdf(wrong, judged + unseen, too_many + wrong, judged) <= risk)


@functools.lru_cache(maxsize=4096)
def most_wrong(judged: int, share: float, risk: float, unseen: int) -> int:
    """How many of a sample may be wrong for it to pass, see :func:`passes`; -1 if even none is too many."""
    return _least(lambda wrong: not passes(wrong, judged, share, risk, unseen), judged + 1) - 1


def needed(share: float, risk: float, unseen: int) -> int:
    """How large a sample must be to pass if none of it is wrong, see :func:`passes`."""
    return _least(lambda judged: passes(0, judged, share, risk, unseen), 10_000_000)


def _least(holds: Callable[[int], bool], limit: int) -> int:
    """The least number from 0 at which something begins to hold that then goes on to hold; the limit if none below."""
    high = 1
    while high < limit and not holds(high - 1):
        high *= 2
    low, high = high // 2, min(high - 1, limit)
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
