"""What people's answers are worth: who is wrong too often, which class an image has, and who is to be asked again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..people import Answer

MORE = 3
"""How many further people are asked about an image on which they disagree."""

LEAST_CONTROLS = 5
"""After how many control questions a person is judged."""


@dataclass
class Settled:
    """What is known from answers.

    Attributes:
        labels: sample id -> the class on which people agree
        disputed: those on which they do not, however many are asked, or which they skip
        wanted: sample id -> how many people must answer it, where answers are still missing
        missing: how many answers are missing
        agreement: the share of images with two answers in which the first two are the same; None without such images
    """

    labels: dict[str, str] = field(default_factory=dict)
    disputed: set[str] = field(default_factory=set)
    wanted: dict[str, int] = field(default_factory=dict)
    missing: int = 0
    agreement: float | None = None


def by_sample(answers: Iterable[Answer]) -> dict[str, list[Answer]]:
    """Answers by the sample that they are about."""
    found: dict[str, list[Answer]] = {}
    for answer in answers:
        found.setdefault(answer.sample_id, []).append(answer)
    return found


def scores(answers: Iterable[Answer], known: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """How well people answered control questions.

    Args:
        answers: answers to any questions; those skipped do not count
        known: sample id -> its class, for the control questions

    Returns:
        person -> how many were right, of how many
    """
    found: dict[str, tuple[int, int]] = {}
    for answer in answers:
        if answer.sample_id in known and answer.label is not None:
            right, total = found.get(answer.annotator, (0, 0))
            found[answer.annotator] = right + (answer.label == known[answer.sample_id]), total + 1
    return found


def below(found: Mapping[str, tuple[int, int]], bar: float) -> set[str]:
    """The people whose share of right answers to at least :data:`LEAST_CONTROLS` control questions is below a bar."""
    return {name for name, (right, total) in found.items() if total >= LEAST_CONTROLS and right < bar * total}


def settle(ids: Sequence[str], answers: Mapping[str, list[Answer]], discarded: set[str], annotators: int) -> Settled:
    """Finds what people agree on.

    An image has the class that more than half of the people wanted per image name, and more than name any other. Where
    they disagree, one more is asked at a time, up to :data:`MORE`.

    Args:
        ids: the samples that were asked about
        answers: sample id -> answers
        discarded: people whose answers do not count
        annotators: how many people are wanted per image
    """
    found = Settled()
    pairs = equal = 0
    for sample_id in ids:
        its = answers.get(sample_id, [])
        counted = [answer.label for answer in its if answer.annotator not in discarded]
        if len(counted) >= 2:
            pairs += 1
            equal += counted[0] == counted[1]
        votes = Counter(label for label in counted if label is not None).most_common(2)
        agreed = bool(votes) and votes[0][1] > annotators // 2 and (len(votes) < 2 or votes[0][1] > votes[1][1])
        if len(counted) >= annotators and agreed:
            found.labels[sample_id] = votes[0][0]
        elif len(counted) >= annotators + MORE:
            found.disputed.add(sample_id)
        else:
            lacking = max(1, annotators - len(counted))
            found.wanted[sample_id] = len(its) + lacking
            found.missing += lacking
    found.agreement = equal / pairs if pairs else None
    return found
