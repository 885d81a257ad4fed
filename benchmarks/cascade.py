"""How often the label cascade keeps what it promises, and what it costs people, beside the naive rule.

    python benchmarks/cascade.py [--seeds 200] [--settings all] [--jobs 2] [--quick]

Simulated people (six, two per image, twelve control questions) are wrong with the given chance, about images whose
classes are known. Per seed all random choices differ: which images are hidden, who answers what and how wrongly. The
cascade is the one of the stage (``fiftyone_idsynth.learning.cascading``), without a database.

"kept" is the share of runs in which the images that were labelled automatically have at least the promised precision
and recall, by their true classes; it is to be at least the confidence asked for, 95 %. "labelled" are runs that
labelled anything at all: one that labels nothing, or says that the hidden set is too small ("refused"), breaks no
promise. "gained" is the share of the images (without hidden ones and control questions) that people did not have to
label. "answers" are all that people gave, each of two or more people per image, with hidden images, control questions
and what was asked again, and "per label gained" is their number divided by the automatic labels; labelling everything
by two people costs 2 per label.

The naive rule, as LSUN's cascade is mostly built: in each round the lowest threshold at which the whole hidden set,
whatever was labelled before, shows the promised precision and recall, as they are counted.

Settings: the handwritten digits of scikit-learn (1,797), with wrong answers of 0, 5 and 10 %; one digit against all
others, where two people who are wrong always agree; and 8,000 points in 10 overlapping clouds (the embeddings of a
larger collection), with a stricter promise.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from fiftyone_idsynth.learning.cascading.bounds import lower_bound
from fiftyone_idsynth.learning.cascading.classifiers import scaled
from fiftyone_idsynth.learning.cascading.flow import Cascade, Work
from fiftyone_idsynth.learning.cascading.results import measured
from fiftyone_idsynth.learning.cascading.state import HIDDEN, POOL, HiddenSetTooSmall, Settings, State
from fiftyone_idsynth.learning.cascading.thresholds import (
    UNDECIDED,
    Caution,
    Judgement,
    Part,
    Promise,
    Thresholds,
    Total,
)
from fiftyone_idsynth.learning.people import Oracle

CONTROLS = 12
ROUNDS = 6
PEOPLE = 6
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Setting:
    """What is labelled, and what is promised.

    Attributes:
        error: how often people are wrong
        target: the promised precision and recall
        hidden: the size of the hidden set
        batch: images that people label in each round
        kind: ``"digits"``, ``"one digit"`` or ``"clouds"``
    """

    error: float
    target: float = 0.95
    hidden: int = 300
    batch: int = 75
    kind: str = "digits"


SETTINGS = {
    "digits, 0 % wrong": Setting(0.0),
    "digits, 5 % wrong": Setting(0.05),
    "digits, 10 % wrong": Setting(0.1),
    "one digit, 2 % wrong": Setting(0.02, target=0.9, hidden=600, kind="one digit"),
    "clouds, 0.98, 5 % wrong": Setting(0.05, target=0.98, hidden=1000, batch=150, kind="clouds"),
}
METHODS = ("cascade", "naive")


@dataclass(frozen=True)
class Outcome:
    """What came of a run: real precision and recall, labels gained, images they are of, and answers of people."""

    precision: float
    recall: float
    gained: int
    images: int
    answers: int
    refused: bool = False

    def kept(self, target: float) -> bool:
        return self.refused or (self.precision >= target and self.recall >= target)


def load(setting: Setting, seed: int) -> tuple[np.ndarray, list[str]]:
    """Embeddings and classes, in random order."""
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(1000 + seed)
    if setting.kind == "clouds":
        classes = rng.integers(0, 10, 8000)
        centres = rng.normal(0, 1, (10, 32))
        embeddings = centres[classes] + rng.normal(0, 1.2, (8000, 32))
    else:
        embeddings, classes = load_digits(return_X_y=True)
    order = rng.permutation(len(classes))
    names = [str(one) for one in classes[order]]
    if setting.kind == "one digit":
        names = [name if name == "3" else "other" for name in names]
    return scaled(embeddings[order]), names


def label(method: str, setting: Setting, seed: int) -> Outcome:
    """Runs a cascade.

    Args:
        method: ``"cascade"``, or the naive rule
        setting: what is labelled
        seed: of everything random
    """
    embeddings, names = load(setting, seed)
    ids = [f"{number:05}" for number in range(len(names))]
    truth = dict(zip(ids, names, strict=True))
    one = setting.kind == "one digit"
    settings = Settings(
        ("3",) if one else tuple(sorted(set(names))), "other" if one else None, setting.target, setting.target,
        CONFIDENCE, setting.hidden, setting.batch, ROUNDS, seed=seed,
    )  # fmt: skip
    state = State.fresh(ids, embeddings, {i: truth[i] for i in ids[:CONTROLS]}, ids[:CONTROLS])
    people = Oracle(truth, classes=settings.names, error=setting.error, annotators=PEOPLE, seed=seed)
    cascade = (Naive if method == "naive" else Cascade)(settings, state, people)
    pool = state.rows(POOL)
    try:
        work = cascade.advance()
    except HiddenSetTooSmall:  # which is said, once the hidden set is labelled, instead of labelling anything
        return Outcome(np.nan, np.nan, 0, len(pool), len(people.answers(ids)), refused=True)
    real = measured(settings, state, truth)
    gained = int((state.given[pool] != UNDECIDED).sum())
    return Outcome(real["precision"], real["recall"], gained, len(pool), work.answers)


class Naive(Cascade):
    """The same cascade with the naive rule in place of proposals and judgements."""

    def proposal(self, work: Work, hidden: Part, pool: Part, caution: Caution) -> Thresholds | None:
        promise = self._settings.promise
        truth = self.labels(work, self.state.of(self.state.rows(HIDDEN)))
        anew = Part(hidden.decisions, hidden.doubts, np.full_like(hidden.given, UNDECIDED), hidden.doubts_before)
        best, most = None, 0
        for positive, negative in _pairs(anew, promise):
            thresholds = Thresholds(positive, negative, promise.classes)
            total = Total.of(anew.after(thresholds), truth, promise.classes)
            gained = int(pool.new(thresholds).sum())
            right = total.named - total.wrong >= promise.precision * total.named
            found = total.positives - total.missed >= promise.recall * total.positives
            if gained > most and right and found:
                best, most = thresholds, gained
        return best

    def verdict(self, given: np.ndarray, truth: np.ndarray, labelled: np.ndarray, failed: int) -> Judgement:
        return Judgement(True, 0.0, 0.0)


def _pairs(hidden: Part, promise: Promise) -> list[tuple[float, float]]:
    """Pairs of thresholds to compare."""
    scores: dict[bool, list[float]] = {}
    for named in (True, False):
        its = np.sort(hidden.decisions.scores[(hidden.decisions.labels < promise.classes) == named])
        scores[named] = [*(its[:: max(1, len(its) // 40)].tolist() if len(its) else []), np.inf]
    return [(positive, negative) for positive in scores[True] for negative in scores[False]]


def measure(title: str, methods: Sequence[str], seeds: int, jobs: int) -> bool:
    """Runs a setting and prints its rows; returns whether the cascade kept its promise often enough."""
    from joblib import Parallel, delayed

    setting = SETTINGS[title]
    kept = True
    for method in methods:
        started = time.perf_counter()
        found = Parallel(n_jobs=jobs)(delayed(_alone)(method, setting, seed) for seed in range(seeds))
        good = sum(one.kept(setting.target) for one in found)
        labelled = [one for one in found if one.gained]
        precision = [one.precision for one in labelled] or [np.nan]
        recall = [one.recall for one in labelled] or [np.nan]
        gained = sum(one.gained for one in found)
        answers = sum(one.answers for one in found)
        print(
            f"| {title} | {method} | {setting.target:g} | {setting.hidden} | {good} of {seeds} "
            f"| {len(labelled)} | {sum(one.refused for one in found)} "
            f"| {np.mean(precision):.4f} ({np.min(precision):.4f}) "
            f"| {np.mean(recall):.4f} ({np.min(recall):.4f}) | {gained / sum(one.images for one in found):.0%} "
            f"| {answers / seeds:.0f} | {answers / gained if gained else float('inf'):.2f} "
            f"| {(time.perf_counter() - started) / seeds:.2f} |",
            flush=True,
        )
        if method == "cascade":
            kept = good >= CONFIDENCE * seeds
            surely = lower_bound(good, seeds, 0.95)
            judged = f"kept in {good / seeds:.1%} of the runs (at least {surely:.1%}, 95 % sure)"
    print(f"{'kept' if kept else 'MISSED'}: {title}: {judged}, {CONFIDENCE:.0%} promised", file=sys.stderr, flush=True)
    return kept


def _alone(method: str, setting: Setting, seed: int) -> Outcome:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return label(method, setting, seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--settings", nargs="+", choices=[*SETTINGS, "all"], default=["all"])
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--quick", action="store_true", help="two seeds of the first setting: shows that it runs")
    given = parser.parse_args()
    settings = list(SETTINGS) if "all" in given.settings else given.settings
    seeds = given.seeds
    if given.quick:
        settings, seeds = settings[:1], 2
    print(f"{platform.machine()}, {os.cpu_count()} processors, load at the start {os.getloadavg()[0]:.1f}\n")
    print(
        "| setting | rule | promise | hidden | kept | labelled | refused | precision (worst) | recall (worst) | gained "
        "| answers | per label gained | s per run |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    kept = [measure(title, METHODS, seeds, given.jobs) for title in settings]
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
