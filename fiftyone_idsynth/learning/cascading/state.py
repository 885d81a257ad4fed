"""What a cascade is asked to do, how far it has come, and what came of it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...errors import UsageError
from .bounds import needed
from .thresholds import UNDECIDED, Promise

POOL, HIDDEN, CONTROL, KNOWN = range(4)
"""What an image is for: to be labelled, to judge the labels, to judge people, to learn from."""

ROLES = ("pool", "hidden", "control", "known")
"""The names of what images are for."""


class HiddenSetTooSmall(UsageError):
    """The hidden set could not show what is promised, even if no label in it were wrong.

    Attributes:
        needed: how many hidden images are needed
    """

    def __init__(self, message: str, needed: int):
        self.needed = needed
        super().__init__(message)

    def __reduce__(self) -> tuple[type[HiddenSetTooSmall], tuple[str, int]]:
        return type(self), (str(self), self.needed)


@dataclass(frozen=True)
class Settings:
    """What a cascade is asked to do.

    Attributes:
        classes: the names of the classes
        other: the name of images that are of none of them; ``None`` if there are no such images
        precision: see :class:`~.thresholds.Promise`
        recall: likewise
        confidence: likewise
        hidden: how many hidden images there are
        batch: how many images people label in each round
        rounds: how many rounds there are at most
        annotators: how many people label each image
        bar: the least share of right answers to control questions
        seed: of all random choices
    """

    classes: tuple[str, ...]
    other: str | None = None
    precision: float = 0.95
    recall: float = 0.95
    confidence: float = 0.95
    hidden: int = 300
    batch: int = 50
    rounds: int = 10
    annotators: int = 2
    bar: float = 0.8
    seed: int = 51

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all labels; what an image is that is of none of the classes comes last."""
        return self.classes if self.other is None else (*self.classes, self.other)

    def name_of(self, label: str) -> str:
        """What an image is called in the cascade: one that is of none of the classes by ``other``, if that is given."""
        return label if label in self.classes or self.other is None else self.other

    @property
    def promise(self) -> Promise:
        none = self.other is not None
        return Promise(self.precision, self.recall, self.confidence, len(self.classes), none, self.rounds)


@dataclass(frozen=True)
class Round:
    """A round: what people labelled until then, and what the classifiers then labelled.

    Attributes:
        number: of the round, from 0
        asked: images that people were asked about so far, without the hidden ones and control questions
        answers: answers that people gave so far, to all questions
        learned_from: images that the classifiers were trained with
        labelled: images that the cascade has labelled so far
        gained: of these, in this round
        wrong: hidden images that got a class wrongly so far, this proposal included
        judged: hidden images that got a class so far
        precision: the lower bound of the precision of all labels so far
        recall: the lower bound of the recall
        kept: whether the hidden images found the proposal good; if not, nothing of it was labelled
        finished_at: ISO 8601, UTC
    """

    number: int
    asked: int
    answers: int
    learned_from: int
    labelled: int
    gained: int
    wrong: int
    judged: int
    precision: float
    recall: float
    kept: bool
    finished_at: str = ""


@dataclass
class State:
    """How far a cascade has come; one value per image, in the order of ``ids``.

    Attributes:
        ids: the samples
        embeddings: float64 (images x dimensions), see :func:`~.classifiers.scaled`
        known: sample id -> its class, of those that are known from the start
        roles: int8, what each image is for
        asked: int, the round in which people were asked about it, -1 for those that they were not
        given: int, the label that the cascade gave, :data:`~.thresholds.UNDECIDED` for those without; hidden images too
        rounds_of: int, the round in which it was given, -1 for those without
        confidences: float64, how probably that label is right, 0 to 1; NaN for those without
        rounds: the rounds that are finished
        ended: why no more rounds follow; empty while they do
        begun: whether hidden images and first questions are chosen
    """

    ids: list[str]
    embeddings: np.ndarray
    known: dict[str, str] = field(default_factory=dict)
    roles: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int8))
    asked: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    given: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    rounds_of: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    confidences: np.ndarray = field(default_factory=lambda: np.zeros(0))
    rounds: list[Round] = field(default_factory=list)
    ended: str = ""
    begun: bool = False

    @classmethod
    def fresh(
        cls, ids: Sequence[str], embeddings: np.ndarray, known: dict[str, str] | None = None,
        controls: Sequence[str] = (),
    ) -> State:  # fmt: skip
        """A cascade that has not begun.

        Args:
            ids: the samples
            embeddings: float64 (images x dimensions), see :func:`~.classifiers.scaled`
            known (None): sample id -> its class, of those that people labelled before
            controls (()): those of the known ones that are control questions
        """
        known, questions = known or {}, set(controls)
        roles = np.array([CONTROL if i in questions else KNOWN if i in known else POOL for i in ids], np.int8)
        none = np.full(len(ids), UNDECIDED)
        return cls(
            list(ids), embeddings, known, roles, none.copy(), none.copy(), none.copy(), np.full(len(ids), np.nan)
        )

    def rows(self, *roles: int) -> np.ndarray:
        """The rows of the images that are for something."""
        return np.flatnonzero(np.isin(self.roles, roles))

    def of(self, rows: np.ndarray) -> list[str]:
        """The samples of rows."""
        return [self.ids[row] for row in rows]


def check_hidden(settings: Settings, free: int) -> None:
    """Makes sure that a hidden set can show what is promised.

    Args:
        settings: what is promised
        free: how many images may be hidden or labelled

    Raises:
        HiddenSetTooSmall: even without a wrong label it could not
    """
    promise = settings.promise
    shares = {"precision": settings.precision} | ({"recall": settings.recall} if promise.both else {})
    for what, share in shares.items():
        promised = f"{what}={share:g} with confidence={settings.confidence:g}"
        least = functools.partial(needed, 1 - share, promise.risk(0))
        if settings.hidden < free and settings.hidden >= least(free - settings.hidden):
            continue
        enough = next((n for n in range(1, free) if n >= least(free - n)), None)
        if enough is None:
            many = least(10**9)
            raise HiddenSetTooSmall(
                f"hidden={settings.hidden}: {promised} takes at least {many} hidden images and as many more to label, "
                f"and there are {free} images in all: collect more, let people label all of them, or promise less",
                many,
            )
        problem = "none would be left to label" if settings.hidden >= free else "the hidden set is too small"
        raise HiddenSetTooSmall(
            f"hidden={settings.hidden}: of {free} images {problem}. {promised} takes at least {enough} hidden images, "
            "none of which may then be labelled wrongly; more leave room for errors. Hide as many, or promise less",
            enough,
        )
