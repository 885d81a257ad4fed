"""What came of a cascade: what people did, what the classifiers labelled, and how good that is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .flow import Work
from .state import CONTROL, HIDDEN, POOL, Settings, State
from .thresholds import UNDECIDED, Total


def summary(settings: Settings, state: State, work: Work) -> dict[str, Any]:
    """What a report says of a cascade.

    Args:
        settings: what was to be done
        state: how far it has come
        work: what people did
    """
    pool = state.rows(POOL)
    labelled = int((state.given[pool] != UNDECIDED).sum())
    asked = int((state.asked[pool] >= 0).sum())
    outputs: dict[str, Any] = {
        "rounds": len(state.rounds),
        "ended": state.ended or "no",
        "labelled by the cascade": labelled,
        "images people labelled": {
            "to learn from": asked, "hidden": len(state.rows(HIDDEN)), "control questions": len(state.rows(CONTROL)),
        },
        "left": len(pool) - labelled - asked,
        "answers of people": work.answers,
    }  # fmt: skip
    if labelled:
        outputs["answers per label gained"] = work.answers / labelled
        last = [one for one in state.rounds if one.kept][-1]
        outputs["precision"] = {
            "promised": settings.precision, "at least": last.precision,
            "in the hidden set": 1 - last.wrong / last.judged if last.judged else None,
        }  # fmt: skip
        outputs["recall"] = {"promised": settings.recall, "at least": last.recall}
    if dropped := sum(not one.kept for one in state.rounds):
        outputs["proposals dropped"] = dropped
    if work.settled.agreement is not None:
        outputs["agreement of two people"] = work.settled.agreement
    if work.controls:
        outputs["control questions answered rightly"] = {
            name: f"{right} of {total}" for name, (right, total) in sorted(work.controls.items())
        }
    if work.discarded:
        outputs["people whose answers do not count"] = sorted(work.discarded)
    if work.settled.disputed:
        outputs["images on which people disagree"] = len(work.settled.disputed)
    if work.waiting:
        outputs["waiting for answers"] = work.waiting
    return outputs


def measured(settings: Settings, state: State, truth: Mapping[str, str]) -> dict[str, float]:
    """The precision and recall of what was labelled, where all classes are known.

    Args:
        settings: what was to be done
        state: how far it has come
        truth: sample id -> its class
    """
    numbers = {name: number for number, name in enumerate(settings.names)}
    classes = len(settings.classes)
    pool = state.rows(POOL)
    its = np.array([numbers.get(truth[i], classes) for i in state.of(pool)], int)
    total = Total.of(state.given[pool], its, classes)
    return {
        "precision": 1 - total.wrong / total.named if total.named else 1.0,
        "recall": 1 - total.missed / total.positives if total.positives else 1.0,
    }
