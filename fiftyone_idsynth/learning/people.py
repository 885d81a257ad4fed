"""People who are asked for the classes of images: what they are asked, what they answer, and a simulation of them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """What one person said of one image.

    Attributes:
        sample_id: the image
        annotator: who said it; the same text for the same person always
        label: the class, or ``None`` if the image was skipped
    """

    sample_id: str
    annotator: str
    label: str | None


class People(ABC):
    """Where the classes of images are asked for. Answers may come at once or days later."""

    @abstractmethod
    def ask(self, ids: Sequence[str], *, annotators: int = 1, hidden: bool = False) -> None:
        """Asks for the classes of images; returns before there are answers.

        Asking again changes nothing: an image is asked about until as many different people answered as the greatest
        number that was ever asked for. A greater number than before asks further people.

        Args:
            ids: the samples
            annotators (1): how many different people are to answer each of them, those who did so already included
            hidden (False): whether no prediction of a model may be shown with them
        """

    @abstractmethod
    def answers(self, ids: Sequence[str]) -> list[Answer]:
        """What has been answered about some samples so far: any number of answers each, at most one per person.

        The answers of a sample come in the order in which they were given.
        """


class Oracle(People):
    """Simulated people who answer at once from known classes, each wrong in a given share of cases.

    Who answers about an image and what depends on the seed, the image and the person alone, not on the order of
    questions. A wrong answer is any of the other classes with equal chances.

    Args:
        truth: sample id -> its class
        classes (()): the classes that wrong answers are taken from; by default those that occur
        error (0.0): how often people are wrong, 0 to 1; one number for all, or one per person
        annotators (5): how many people there are, unless ``error`` is one number per person
        seed (51): of who answers and of wrong answers

    Raises:
        ValueError: there are too few classes for wrong answers
    """

    def __init__(
        self, truth: Mapping[str, str], *, classes: Iterable[str] = (), error: float | Sequence[float] = 0.0,
        annotators: int = 5, seed: int = 51,
    ):  # fmt: skip
        self._truth = truth
        self._classes = sorted(set(classes) or set(truth.values()))
        self._errors = [float(error)] * annotators if isinstance(error, (int, float)) else [float(e) for e in error]
        if any(self._errors) and len(self._classes) < 2:
            raise ValueError(f"wrong answers need at least two classes: there are {self._classes}")
        self._seed = seed
        self._wanted: dict[str, int] = {}
        self._known: dict[tuple[str, int], str] = {}
        self._turns: dict[str, list[int]] = {}

    @property
    def names(self) -> list[str]:
        """The simulated people."""
        return [f"person {number + 1}" for number in range(len(self._errors))]

    def ask(self, ids: Sequence[str], *, annotators: int = 1, hidden: bool = False) -> None:
        for sample_id in ids:
            if sample_id not in self._truth:
                raise KeyError(f"nothing is known of the class of sample {sample_id}")
            self._wanted[sample_id] = max(self._wanted.get(sample_id, 0), annotators)

    def answers(self, ids: Sequence[str]) -> list[Answer]:
        names = self.names
        found = []
        for sample_id in ids:
            for person in self._turn(sample_id)[: self._wanted.get(sample_id, 0)]:
                found.append(Answer(sample_id, names[person], self._answer(sample_id, person)))
        return found

    def _turn(self, sample_id: str) -> list[int]:
        """The people in the order in which they answer about a sample."""
        if sample_id not in self._turns:
            people = range(len(self._errors))
            self._turns[sample_id] = sorted(people, key=lambda person: self._chance(sample_id, person, "turn"))
        return self._turns[sample_id]

    def _answer(self, sample_id: str, person: int) -> str:
        key = (sample_id, person)
        if key not in self._known:
            label = self._truth[sample_id]
            if self._chance(sample_id, person, "error") < self._errors[person]:
                others = [name for name in self._classes if name != label]
                label = others[int(self._chance(sample_id, person, "which") * len(others))]
            self._known[key] = label
        return self._known[key]

    def _chance(self, sample_id: str, person: int, what: str) -> float:
        """A number from 0 to 1 (excluded) that these values always give."""
        text = f"{self._seed}/{sample_id}/{person}/{what}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64
