"""The learning loop on handwritten digits, through the stage ``learn`` and a real database: curves and stopping rules.

    python benchmarks/learn.py [--seeds 10] [--budget 240] [--quick]

The protocol is that of ``benchmarks/active_learning.py``: two thirds of scikit-learn's digits to choose from and a
third to test with, 10 labels to start with, 10 a round, a logistic regression on pixels. The loop runs until the budget
is spent; where each rule would have stopped it is then read from the recorded rounds, with the accuracy at that point
as a share of the accuracy with all labels.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

START = BATCH = 10
LEVELS = (0.95, 0.98)
IN_A_ROW = 3
RULES = {
    "stable predictions: kappa >= 0.99": {"stability": 0.99},
    "stable predictions: kappa >= 0.98": {"stability": 0.98},
    "test images: lower bound >= 0.90": {"target": 0.90},
    "test images: lower bound >= 0.93": {"target": 0.93},
    "no better for 5 rounds": {"patience": 5},
}


def make_digits(seed: int) -> Any:
    """A dataset of the digits, with pixels as embeddings and the tag ``test`` on a third."""
    import fiftyone as fo
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, classes = load_digits(return_X_y=True)
    _, tests = train_test_split(np.arange(len(images)), test_size=1 / 3, stratify=classes, random_state=seed)
    testing = set(tests.tolist())
    dataset = fo.Dataset(f"digits-{seed}")
    dataset.add_samples(
        [
            fo.Sample(
                filepath=f"/digits/{row}.png",
                embedding=(images[row] / 16).astype(np.float32),
                truth=fo.Classification(label=str(classes[row])),
                tags=["test"] if row in testing else [],
            )
            for row in range(len(images))
        ],
        progress=False,
    )
    return dataset


def run(seed: int, budget: int, folder: Path) -> tuple[list[Any], float]:
    """Runs the loop; returns its rounds, and the accuracy with all labels."""
    import fiftyone_idsynth as ids
    from fiftyone_idsynth.learning.looping.rounds import read_rounds

    dataset = make_digits(seed)
    ids.train(dataset, path=folder / "all", answers_field="truth", progress=False)
    report = ids.predict(
        dataset, model=str(folder / "all"), label_field="with_all", answers_field="truth", progress=False
    )
    full = report.outputs["test"]["accuracy"]
    ids.learn(
        dataset, path=folder / "loop", count=BATCH, start=START, oracle_field="truth", compare=False, budget=budget,
        patience=1000, seed=seed, progress=False,
    )  # fmt: skip
    rounds = read_rounds(dataset, "ground_truth")["mixed"]
    dataset.delete()
    return rounds, full


def reached(rounds: Sequence[Any], accuracy: float) -> int | None:
    """The first number of labels with an accuracy that this round and the next ones of a row have."""
    for start in range(len(rounds) - IN_A_ROW + 1):
        if all(one.quality >= accuracy - 1e-12 for one in rounds[start : start + IN_A_ROW]):
            return int(rounds[start].labels)
    return None


def stopped(rounds: Sequence[Any], rule: dict[str, Any]) -> Any:
    """The round after which a rule stops the loop; None if it does not."""
    from fiftyone_idsynth.learning.looping.stopping import Stop

    stop = Stop(**{"budget": None, "target": None, "stability": None, "patience": None, **rule})
    return next((rounds[n] for n in range(len(rounds)) if stop.reason(rounds[: n + 1])), None)


def show(found: list[tuple[list[Any], float]]) -> None:
    print(f"\n{len(found)} seeds, accuracy with all labels {np.mean([full for _, full in found]):.4f}\n")
    print("| level | labels | reached |\n|---|---:|---:|")
    for level in LEVELS:
        labels = [reached(rounds, level * full) for rounds, full in found]
        there = [count for count in labels if count is not None]
        mean = f"{np.mean(there):.0f} ± {np.std(there):.0f}" if there else ""
        print(f"| {level:.0%} | {mean} | {len(there)} of {len(labels)} |")
    print("\n| rule | labels | share of the full accuracy | worst | fired |\n|---|---:|---:|---:|---:|")
    for name, rule in RULES.items():
        ends = [(stopped(rounds, rule), full) for rounds, full in found]
        fired = [(one.labels, one.quality / full) for one, full in ends if one is not None]
        if not fired:
            print(f"| {name} | | | | 0 of {len(found)} |")
            continue
        labels, shares = map(np.array, zip(*fired, strict=True))
        print(
            f"| {name} | {labels.mean():.0f} ± {labels.std():.0f} | {shares.mean():.2%} | {shares.min():.2%} | "
            f"{len(fired)} of {len(found)} |"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=int, default=240, help="labels")
    parser.add_argument("--quick", action="store_true", help="one seed and 60 labels: shows that it runs")
    given = parser.parse_args()
    seeds, budget = (1, 60) if given.quick else (given.seeds, given.budget)
    from database import PrivateDatabase

    os.environ["FIFTYONE_DO_NOT_TRACK"] = "true"
    print(f"{platform.machine()}, {os.cpu_count()} processors, load at the start {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        database = PrivateDatabase(Path(folder) / "database")
        os.environ["FIFTYONE_DATABASE_URI"] = database.uri
        try:
            found = []
            for seed in range(seeds):
                found.append(run(seed, budget, Path(folder) / str(seed)))
                print(f"seed {seed}: {found[-1][0][-1].labels} labels, {found[-1][0][-1].quality:.4f}", flush=True)
            show(found)
        finally:
            database.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
