"""How many labels the strategies of ``select_uncertain`` need, in the same run as random choice and scikit-activeml.

    python benchmarks/active_learning.py [--seeds 10] [--settings all] [--strategies all] [--jobs 1] [--quick]

Handwritten digits of scikit-learn, whose true classes answer in place of people. Per seed the images are split into
2/3 to choose from and 1/3 to test on (stratified; the test images are never chosen and decide nothing). Ten random
labels begin; each round a logistic regression on the pixels is trained on what is labelled, and a strategy chooses the
next batch. "labels @ 95 %" is the first number of labels with at least 95 % of the accuracy that the same model reaches
when everything is labelled, in that round and the next two, so that a lucky round does not count; a run that never
reaches it counts as the number of images. Means and standard deviations are over the seeds; "fewer than random" is in
how many of them a strategy needs fewer labels than random choice with the same split and start (@ 95 % and @ 98 %).

Settings: batches of 10; batches of 50; near-duplicates (240 images, each five times with slight noise, as in video);
rare classes (five of the ten classes with 12 images each); and 10 % of the answers wrong, all in batches of 10.

Strategies: ``mixed`` (the default), ``margin`` and ``entropy`` (``uncertain`` by these measures), ``diverse``,
``random``, and those of scikit-activeml, all through ``fiftyone_idsynth.learning.acquisition.choose``.
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

from fiftyone_idsynth.errors import MissingExtraError
from fiftyone_idsynth.learning.acquisition import Pool, choose
from fiftyone_idsynth.learning.scikit_activeml import require
from fiftyone_idsynth.learning.uncertainty import MEASURES

CLASSES = 10
START = 10
LEVELS = (0.95, 0.98)
IN_A_ROW = 3

OWN = {
    "random": ("random", "margin"),
    "margin": ("uncertain", "margin"),
    "entropy": ("uncertain", "entropy"),
    "diverse": ("diverse", "margin"),
    "mixed": ("mixed", "margin"),
}
"""Name in the table -> strategy and measure."""

PEERS = ("Falcun", "MaxHerding", "Badge", "TypiClust")
TARGETS = {"batch 10": (90, 150)}
"""Setting -> how many labels the default may need at 95 % and 98 %."""


@dataclass(frozen=True)
class Setting:
    """What the digits are made to.

    Attributes:
        batch: how many are chosen each round
        kind: ``"plain"``, ``"copies"`` or ``"rare"``
        wrong: the share of wrong answers
    """

    batch: int = 10
    kind: str = "plain"
    wrong: float = 0.0


SETTINGS = {
    "batch 10": Setting(),
    "batch 50": Setting(batch=50),
    "near-duplicates": Setting(kind="copies"),
    "rare classes": Setting(kind="rare"),
    "10 % wrong": Setting(wrong=0.1),
}


@dataclass(frozen=True)
class Data:
    """Images to choose from, with the answers that are given, and images to test on, with their classes."""

    images: np.ndarray
    answers: np.ndarray
    test_images: np.ndarray
    test_classes: np.ndarray


def load(setting: Setting, seed: int) -> Data:
    """The digits of a setting."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    rng = np.random.default_rng(1000 + seed)
    images, classes = load_digits(return_X_y=True)
    here, there, its, theirs = train_test_split(images, classes, test_size=1 / 3, stratify=classes, random_state=seed)
    if setting.kind == "rare":
        kept = [rng.permutation(np.where(its == c)[0])[: (12 if c < 5 else None)] for c in range(CLASSES)]
        rows = np.concatenate(kept)
        here, its = here[rows], its[rows]
    elif setting.kind == "copies":
        rows = np.repeat(rng.permutation(len(here))[:240], 5)
        here, its = np.clip(here[rows] + rng.normal(0, 0.5, (len(rows), 64)), 0, 16), its[rows]
    noise = np.random.default_rng(77 + seed)
    wrong = noise.random(len(its)) < setting.wrong
    answers = its.copy()
    answers[wrong] = (its[wrong] + noise.integers(1, CLASSES, wrong.sum())) % CLASSES
    return Data(here / 16, answers, there / 16, theirs)


class Learner:
    """A logistic regression on pixels."""

    def __init__(self, images: np.ndarray, classes: np.ndarray):
        from sklearn.linear_model import LogisticRegression

        self._classes = np.unique(classes)
        self._model = LogisticRegression(C=1.0, max_iter=3000)
        if len(self._classes) > 1:
            self._model.fit(images, classes)

    def shares(self, images: np.ndarray) -> np.ndarray:
        """The probabilities of all classes: images x classes."""
        found = np.zeros((len(images), CLASSES))
        found[:, self._classes] = self._model.predict_proba(images) if len(self._classes) > 1 else 1.0
        return found

    def accuracy(self, data: Data) -> float:
        return float((self.shares(data.test_images).argmax(axis=1) == data.test_classes).mean())


@dataclass
class Outcome:
    """What came of one strategy with one seed: the labels it needed at each level, and the seconds of its choices."""

    labels: tuple[int, ...]
    full: float
    seconds: float


def learn(name: str, setting: Setting, seed: int) -> Outcome:
    """Lets a strategy choose until both levels are reached.

    Args:
        name: of the strategy, as in the table
        setting: the data and the size of batches
        seed: of the split, the first labels and the choices
    """
    data = load(setting, seed)
    strategy, measure = OWN.get(name, (name, "margin"))
    rng = np.random.default_rng(seed)
    full = Learner(data.images, data.answers).accuracy(data)
    labelled = rng.choice(len(data.images), START, replace=False)
    curve: list[tuple[int, float]] = []
    seconds = 0.0
    while True:
        learner = Learner(data.images[labelled], data.answers[labelled])
        curve.append((len(labelled), learner.accuracy(data)))
        if reached(curve, LEVELS[-1] * full) or len(labelled) >= len(data.images):
            break
        others = np.setdiff1d(np.arange(len(data.images)), labelled)
        started = time.perf_counter()
        chosen = choose(
            strategy, pool_of(data, labelled, others, learner, measure), setting.batch, seed=int(rng.integers(2**31))
        )
        seconds += time.perf_counter() - started
        labelled = np.concatenate([labelled, others[chosen]])
    return Outcome(tuple(reached(curve, level * full) or len(data.images) for level in LEVELS), full, seconds)


def pool_of(data: Data, labelled: np.ndarray, others: np.ndarray, learner: Learner, measure: str) -> Pool:
    """What the strategies are told; the pixels are the embeddings."""
    shares, pixels = learner.shares(data.images[others]), data.images.astype(np.float32)
    return Pool(
        MEASURES[measure](shares),
        embed=lambda rows: pixels[others[rows]],
        covered=lambda: pixels[labelled],
        shares=lambda rows: shares[rows],
    )


def reached(curve: Sequence[tuple[int, float]], accuracy: float) -> int | None:
    """The first number of labels with an accuracy that this round and the next ones of a row have."""
    for start in range(len(curve) - IN_A_ROW + 1):
        if all(found >= accuracy - 1e-12 for _, found in curve[start : start + IN_A_ROW]):
            return curve[start][0]
    return None


def measure(title: str, names: Sequence[str], seeds: int, jobs: int) -> dict[str, np.ndarray]:
    """Runs a setting and prints its table.

    Returns:
        strategy -> labels needed: seeds x levels
    """
    from joblib import Parallel, delayed
    from threadpoolctl import threadpool_limits

    work = [(name, seed) for name in names for seed in range(seeds)]
    with threadpool_limits(1):
        done = Parallel(n_jobs=jobs)(delayed(learn)(name, SETTINGS[title], seed) for name, seed in work)
    outcomes = dict(zip(work, done, strict=True))
    labels = {name: np.array([outcomes[name, seed].labels for seed in range(seeds)]) for name in names}
    full = np.mean([outcomes[names[0], seed].full for seed in range(seeds)])
    print(f"\n{title}: {seeds} seeds, accuracy with all labels {full:.4f}\n")
    print("| strategy | labels @ 95 % | labels @ 98 % | random / strategy | fewer than random | s per run |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in names:
        mean, spread = labels[name].mean(axis=0), labels[name].std(axis=0)
        ratio = labels["random"].mean(axis=0) / mean
        wins = (labels[name] < labels["random"]).sum(axis=0)
        seconds = np.mean([outcomes[name, seed].seconds for seed in range(seeds)])
        print(
            f"| {name} | {mean[0]:.0f} ± {spread[0]:.0f} | {mean[1]:.0f} ± {spread[1]:.0f} | "
            f"{ratio[0]:.2f} / {ratio[1]:.2f} | {wins[0]} / {wins[1]} of {seeds} | {seconds:.2f} |",
            flush=True,
        )
    return labels


def judge(found: dict[str, dict[str, np.ndarray]]) -> bool:
    """Prints whether the default keeps what is promised of it: the targets, and never more labels than random."""
    kept = True
    print()
    for title, labels in found.items():
        mixed, at_random = labels["mixed"].mean(axis=0), labels["random"].mean(axis=0)
        target = np.array(TARGETS.get(title, (np.inf, np.inf)))
        good = bool((mixed <= at_random).all() and (mixed <= target).all())
        wanted = f", at most {target[0]:.0f} / {target[1]:.0f} wanted" if np.isfinite(target).all() else ""
        print(
            f"{'kept' if good else 'MISSED'}: {title}: mixed {mixed[0]:.0f} / {mixed[1]:.0f}, "
            f"random {at_random[0]:.0f} / {at_random[1]:.0f}{wanted}"
        )
        kept &= good
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--settings", nargs="+", choices=[*SETTINGS, "all"], default=["all"])
    parser.add_argument("--strategies", nargs="+", choices=[*OWN, *PEERS, "all"], default=["all"])
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--quick", action="store_true", help="two seeds of the first setting: shows that it runs")
    given = parser.parse_args()
    names = [*OWN, *PEERS] if "all" in given.strategies else list(dict.fromkeys(["random", "mixed", *given.strategies]))
    try:
        require("Falcun")
    except MissingExtraError as missing:
        print(f"without scikit-activeml: {missing}")
        names = [name for name in names if name not in PEERS]
    settings = list(SETTINGS) if "all" in given.settings else given.settings
    if given.quick:
        settings, names = settings[:1], [name for name in names if name in ("random", "mixed", "Falcun")]
    print(f"{platform.machine()}, {os.cpu_count()} processors, load at the start {os.getloadavg()[0]:.1f}")
    seeds = 2 if given.quick else given.seeds
    found = {title: measure(title, names, seeds, given.jobs) for title in settings}
    kept = judge(found)
    print(f"load at the end {os.getloadavg()[0]:.1f}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
