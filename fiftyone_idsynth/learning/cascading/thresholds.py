"""How sure the classifiers must be: proposed from what they learnt, judged with the hidden images."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize, stats

from .bounds import lower_bound, most_wrong, passes, upper_bound
from .classifiers import Decisions

UNKNOWN = -2
"""The label of a hidden image that people could not agree on. Whatever it is given counts as wrong."""

UNDECIDED = -1
"""The label of an image that the cascade has not labelled."""

CANDIDATES = 100
"""How many thresholds of each kind are compared."""

UNFAILED = 0.8
"""The part of the risk that the proposals before the first failure have; those after it have this part of the rest."""


@dataclass(frozen=True)
class Promise:
    """What is promised of the labels.

    Attributes:
        precision: the least share of images labelled with a class that are of this class
        recall: the least share of images of the classes that are not labelled otherwise
        confidence: how often both are to hold
        classes: how many classes there are
        none: whether images may be of none of them
        rounds: how many proposals there are at most
    """

    precision: float
    recall: float
    confidence: float
    classes: int
    none: bool
    rounds: int

    @property
    def both(self) -> bool:
        """Whether recall must be judged by itself.

        Where every image is of one of the classes, an image that is missed is one that is labelled wrongly, and they
        are fewer among all images than among the labelled ones: precision keeps the promise of recall.
        """
        return self.none or self.recall > self.precision

    def risk(self, failed: int) -> float:
        """How often a judgement may be mistaken (Bonferroni, if there are two); see :func:`level`."""
        return level(1 - self.confidence, failed, self.rounds) / (2 if self.both else 1)


def level(risk: float, failed: int, rounds: int) -> float:
    """The level at which a proposal is tested.

    The proposals of a cascade depend on the hidden images only by which of those before failed. For a given number of
    failures there are as many sequences of proposals as there are ways to choose the rounds that failed, and in each of
    them proposals are tested until one fails, which takes no correction. The levels of all sequences sum up to less
    than the risk.

    Args:
        risk: how often any wrong proposal may pass
        failed: how many proposals failed so far
        rounds: how many proposals there are at most
    """
    return risk * UNFAILED * (1 - UNFAILED) ** failed / math.comb(rounds, failed)


@dataclass(frozen=True)
class Total:
    """What the cascade did to some images in all rounds.

    Attributes:
        named: images that got a class
        wrong: of these, with a wrong one
        positives: images of the classes
        missed: of these, labelled otherwise
    """

    named: int
    wrong: int
    positives: int
    missed: int

    @classmethod
    def of(cls, given: np.ndarray, truth: np.ndarray, classes: int) -> Total:
        """Counts.

        Args:
            given: the labels of the cascade, :data:`UNDECIDED` where it gave none
            truth: the classes, :data:`UNKNOWN` where they are not known: then whatever is given is wrong and missed
            classes: how many classes there are; this number stands for none of them
        """
        labelled = given != UNDECIDED
        named = labelled & (given < classes)
        false = labelled & (given != truth)
        positive = (truth >= 0) & (truth < classes) | ((truth == UNKNOWN) & labelled)
        return cls(int(named.sum()), int((named & false).sum()), int(positive.sum()), int((positive & false).sum()))


@dataclass(frozen=True)
class Thresholds:
    """The least scores (log-odds) that are labelled in a round.

    Attributes:
        positive: of images that get a class
        negative: of images that are none of the classes
        classes: how many classes there are
    """

    positive: float
    negative: float
    classes: int


@dataclass(frozen=True)
class Part:
    """A part of the images, and how they stand when a round begins.

    Attributes:
        decisions: what the classifiers of this round say of them
        doubts: float64, how probably that is wrong, 0 to 1
        given: the labels from the rounds before, :data:`UNDECIDED` where there are none
        doubts_before: float64, how probably those are wrong
    """

    decisions: Decisions
    doubts: np.ndarray
    given: np.ndarray
    doubts_before: np.ndarray

    def new(self, thresholds: Thresholds) -> np.ndarray:
        """Which images get a label in the round."""
        named = self.decisions.labels < thresholds.classes
        sure = self.decisions.scores >= np.where(named, thresholds.positive, thresholds.negative)
        result: np.ndarray = (self.given == UNDECIDED) & sure
        return result

    def after(self, thresholds: Thresholds) -> np.ndarray:
        """The labels after the round."""
        result: np.ndarray = np.where(self.new(thresholds), self.decisions.labels, self.given)
        return result

    def expected_wrong(self, thresholds: Thresholds, *, named: bool) -> float:
        """How many of the images with a class, or of those that are none, are probably wrong after the round."""
        after = self.after(thresholds)
        of_these = (after != UNDECIDED) & ((after < thresholds.classes) == named)
        return float(np.where(self.new(thresholds), self.doubts, self.doubts_before)[of_these].sum())


@dataclass(frozen=True)
class Judgement:
    """What the hidden images say.

    Attributes:
        kept: whether the promise holds with the confidence asked for
        precision: the lower bound of Clopper and Pearson
        recall: likewise
    """

    kept: bool
    precision: float
    recall: float


@dataclass(frozen=True)
class Caution:
    """How careful proposals are.

    Attributes:
        chance: how probably the hidden images must find precision good, and likewise recall, 0 to 1
        failed: how many proposals failed so far; for each, twice as many errors are expected
        seen: how many wrong decisions there were in cross-validation: from few of them it is little known how many are
            to be expected
    """

    chance: float
    failed: int
    seen: int

    def bearable(self, allowed: int) -> float:
        """How many errors may be expected if at most so many are allowed; negative if none may be expected."""
        return _mean(allowed, self.chance, self.seen + 0.5) / 2**self.failed


def propose(promise: Promise, hidden: Part, pool: Part, caution: Caution) -> Thresholds | None:
    """The thresholds that label most images among those that the hidden ones will probably find good.

    What is known of the hidden images is only what the classifiers say of them, never their classes: errors are
    expected as cross-validation found them.

    Args:
        promise: what is promised
        hidden: the images that will judge
        pool: the images to label
        caution: how careful proposals are

    Returns:
        the thresholds, or ``None`` if no more images can be labelled
    """
    none = Thresholds(np.inf, np.inf, promise.classes)
    before = int((pool.given != UNDECIDED).sum())
    options: list[list[tuple[float, int, float]]] = []
    for named in (True, False):
        found = []
        for score in _candidates(hidden, pool, promise, named=named):
            thresholds = replace(none, positive=score) if named else replace(none, negative=score)
            labelled = pool.after(thresholds)
            wrong = hidden.expected_wrong(thresholds, named=named)
            if not named or score == np.inf or wrong <= _bearable(promise, hidden.after(thresholds), labelled, caution):
                found.append((score, int((labelled != UNDECIDED).sum()) - before, wrong))
        options.append(found)
    limit = _bearable_missed(promise, hidden, len(pool.given), caution)
    # With a single class an image that gets it wrongly is none of the classes, and so none that is missed.
    counts = 1 if promise.classes > 1 else 0
    pairs = [
        (gain + more, Thresholds(positive, negative, promise.classes))
        for positive, gain, wrong in options[0]
        for negative, more, missed in options[1]
        if not promise.both or counts * wrong + missed <= limit or gain + more == 0
    ]
    gained, best = max(pairs, key=lambda pair: pair[0])
    return best if gained else None


def judge(promise: Promise, given: np.ndarray, truth: np.ndarray, labelled: np.ndarray, failed: int) -> Judgement:
    """Judges labels by those that the hidden images got.

    Args:
        promise: what is promised
        given: the labels of the hidden images
        truth: their classes
        labelled: the labels of the images that are not hidden
        failed: how many proposals failed so far
    """
    total = Total.of(given, truth, promise.classes)
    risk = promise.risk(failed)
    precision = lower_bound(total.named - total.wrong, total.named, 1 - risk)
    recall = 1 - upper_bound(total.missed, total.positives, 1 - risk)
    named = _named(labelled, promise)
    kept = named == 0 or passes(total.wrong, total.named, 1 - promise.precision, risk, named)
    if promise.both:
        alike = _alike(total.positives, len(given), len(labelled))
        kept &= passes(total.missed, total.positives, 1 - promise.recall, risk, alike)
    return Judgement(bool(kept), precision, recall)


def _named(labels: np.ndarray, promise: Promise) -> int:
    return int(((labels != UNDECIDED) & (labels < promise.classes)).sum())


def _bearable(promise: Promise, hidden: np.ndarray, labelled: np.ndarray, caution: Caution) -> float:
    """How many wrong ones may be expected among the hidden images with a class for their precision to be found good."""
    named = _named(labelled, promise)
    if not named:
        return math.inf
    risk = promise.risk(caution.failed)
    return caution.bearable(most_wrong(_named(hidden, promise), 1 - promise.precision, risk, named))


def _bearable_missed(promise: Promise, hidden: Part, pool: int, caution: Caution) -> float:
    """How many of the hidden images may be expected to be missed for the recall to be found good."""
    final = np.where(hidden.given == UNDECIDED, hidden.decisions.labels, hidden.given)
    positives = _named(final, promise)
    alike = _alike(positives, len(final), pool)
    return caution.bearable(most_wrong(positives, 1 - promise.recall, promise.risk(caution.failed), alike))


@functools.lru_cache(maxsize=1024)
def _mean(allowed: int, chance: float, shape: float) -> float:
    """How many errors may be expected for there to be at most so many with a given chance; negative if none may be.

    Errors are distributed like the negative binomial distribution of some shape, the predictive one of Poisson's with
    Jeffreys' prior, after half an error less was seen than the shape says.
    """
    if allowed < 0:
        return -1.0

    def lacking(mean: float) -> float:
        return float(stats.nbinom.cdf(allowed, shape, shape / (shape + mean))) - chance

    return float(optimize.brentq(lacking, 0.0, 1e3 * (allowed + 1), xtol=1e-3))


def _alike(positives: int, hidden: int, pool: int) -> int:
    """How many images of the classes the pool has, if it has as great a share of them as the hidden images."""
    return round(positives * pool / hidden) if hidden else 0


def _candidates(hidden: Part, pool: Part, promise: Promise, *, named: bool) -> list[float]:
    """Thresholds to compare, from those that label all to the one that labels none: scores of images."""
    found = [np.array([np.inf])]
    for part in (hidden, pool):
        here = (part.given == UNDECIDED) & ((part.decisions.labels < promise.classes) == named)
        scores = np.unique(part.decisions.scores[here])
        if len(scores):
            found.append(scores[np.unique(np.linspace(0, len(scores) - 1, CANDIDATES // 2).astype(int))])
    return np.unique(np.concatenate(found)).tolist()  # type: ignore[no-any-return]
