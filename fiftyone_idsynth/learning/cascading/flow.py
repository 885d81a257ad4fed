"""The cascade itself: people are asked, classifiers learn, the judged confident ones are labelled, the rest goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from ...errors import UsageError
from ..diversity import most_uncertain_of_clusters
from ..people import People
from .answers import Settled, below, by_sample, scores, settle
from .bounds import needed
from .classifiers import decide, doubt, doubts, fit
from .state import CONTROL, HIDDEN, KNOWN, POOL, HiddenSetTooSmall, Round, Settings, State, check_hidden
from .thresholds import UNDECIDED, UNKNOWN, Caution, Judgement, Part, Thresholds, Total, judge, propose

CHANCES = (0.95, 0.7)
"""How probably the hidden images must find a proposal good for it to be made, in the first round and in the last one.

A proposal that fails costs all later ones much of their chance, and in an early round one may as well wait."""

FIRST = 3
"""The first images for people, chosen at random, are so many times as many as those of another round."""

CLUSTERED = 10
"""People are asked about one image of each cluster among so many times as many of the least sure ones."""


@dataclass
class Work:
    """What people did so far.

    Attributes:
        settled: what is known from their answers
        answers: how many they gave, to all questions
        controls: person -> how many control questions were answered rightly, of how many
        discarded: the people whose answers do not count
        agreement: the share of images to learn from in which the first two people agreed; None if nothing is known
    """

    settled: Settled
    answers: int
    controls: dict[str, tuple[int, int]]
    discarded: set[str]
    agreement: float | None

    @property
    def waiting(self) -> int:
        return self.settled.missing

    def mistaken(self, labels: int) -> float:
        """How probably people are wrong about an image together, where two agree.

        If each is wrong with the probability e, two disagree in about 2 e of all cases. The same wrong label is given
        by two of the first two or three people in about 3 e^2 / (labels - 1).
        """
        each = (1 - self.agreement) / 2 if self.agreement is not None else 0.0
        return 3 * each**2 / max(1, labels - 1)


class Cascade:
    """Labels images together with people.

    Args:
        settings: what is to be done
        state: how far it has come; it is changed
        people: who is asked
        save: called with the state whenever something was decided that must not be decided again: when questions are
            chosen, before they are asked, and after each round
        heard: called with what people did whenever their answers were read
    """

    def __init__(
        self, settings: Settings, state: State, people: People, save: Callable[[State], None] = lambda state: None,
        heard: Callable[[Work], None] = lambda work: None,
    ):  # fmt: skip
        self._settings, self.state, self._people, self._save, self._heard = settings, state, people, save, heard
        self._told: dict[str, int] = {}
        self._number = {name: number for number, name in enumerate(settings.names)}

    def advance(self) -> Work:
        """Goes on until answers are missing or nothing is left to do.

        Raises:
            HiddenSetTooSmall: the promise cannot be kept with so few hidden images
            UsageError: people named a class that there is not
        """
        if not self.state.begun:
            self._begin()
            self._save(self.state)
        work = self.work()
        self._heard(work)
        while not work.waiting and not self.state.ended:
            self._round(work)
            self._save(self.state)
            if not self.state.ended:
                work = self.work()
                self._heard(work)
        return work

    def work(self) -> Work:
        """Asks people what they have not been asked yet, and reads what they answered."""
        ids = self.state.of(self._asked())
        questions = self.state.of(self.state.rows(CONTROL))
        known = {i: self.state.known[i] for i in questions}
        self._ask(self._mixed(ids + questions), self._settings.annotators)
        while True:
            answers = self._people.answers(ids + questions)
            # Everybody who answers anything is asked the control questions.
            self._ask(questions, len({answer.annotator for answer in answers}))
            found = scores(answers, known)
            bad = below(found, self._settings.bar)
            settled = settle(ids, by_sample(answers), bad, self._settings.annotators)
            again = {i: number for i, number in settled.wanted.items() if self._told[i] < number}
            if not again:
                taught = self.state.of(np.flatnonzero((self.state.asked >= 0) & (self.state.roles == POOL)))
                agreement = settle(taught, by_sample(answers), bad, self._settings.annotators).agreement
                return Work(settled, len(answers), found, bad, agreement)
            for number in sorted(set(again.values())):
                self._ask([i for i, n in again.items() if n == number], number)

    def labels(self, work: Work, ids: Sequence[str]) -> np.ndarray:
        """The numbers of the classes that people gave images, :data:`UNKNOWN` where they did not agree."""
        found = np.full(len(ids), UNKNOWN)
        for row, sample_id in enumerate(ids):
            name = self.state.known.get(sample_id) or work.settled.labels.get(sample_id)
            if name is None:
                continue
            if name not in self._number and self._settings.other is None:
                raise UsageError(
                    f"people called sample {sample_id} {name!r}, which is not one of the classes "
                    f"{', '.join(self._settings.classes)}: add the class, or set `other` to what images of none of the "
                    "classes are called"
                )
            found[row] = self._number.get(name, len(self._settings.classes))
        return found

    def proposal(self, work: Work, hidden: Part, pool: Part, caution: Caution) -> Thresholds | None:
        """What is to be labelled in a round; see :func:`~.thresholds.propose`."""
        return propose(self._settings.promise, hidden, pool, caution)

    def verdict(self, given: np.ndarray, truth: np.ndarray, labelled: np.ndarray, failed: int) -> Judgement:
        """Whether that may be; see :func:`~.thresholds.judge`."""
        return judge(self._settings.promise, given, truth, labelled, failed)

    # -- questions ----------------------------------------------------------------------------------------------------

    def _asked(self) -> np.ndarray:
        """The images that people are asked about to find their classes, in the order of the questions."""
        rows = np.flatnonzero(self.state.asked >= 0)
        return rows[np.argsort(self.state.asked[rows], kind="stable")]

    def _mixed(self, ids: list[str]) -> list[str]:
        """Questions in an order that does not tell what they are for."""
        order = np.random.default_rng(self._settings.seed).permutation(len(ids))
        return [ids[row] for row in order]

    def _ask(self, ids: list[str], annotators: int) -> None:
        """Asks about images, unless that was done already since the cascade was made."""
        new = [sample_id for sample_id in ids if self._told.get(sample_id, 0) < annotators]
        if new:
            self._people.ask(new, annotators=annotators, hidden=True)
            self._told |= dict.fromkeys(new, annotators)

    def _begin(self) -> None:
        """Chooses the hidden images, and the first ones for people."""
        state, settings = self.state, self._settings
        free = state.rows(POOL)
        check_hidden(settings, len(free))
        rng = np.random.default_rng(settings.seed)
        hidden = rng.choice(free, settings.hidden, replace=False)
        state.roles[hidden] = HIDDEN
        state.asked[hidden] = 0
        # What cross-validation says holds for images chosen at random.
        rest = state.rows(POOL)
        state.asked[rng.choice(rest, min(FIRST * settings.batch, len(rest)), replace=False)] = 0
        state.begun = True

    def _ask_about(self, rows: np.ndarray, uncertainty: np.ndarray, number: int) -> None:
        """Chooses images for people: of each cluster of the least sure ones the least sure."""
        count = min(self._settings.batch, len(rows))
        near = np.argsort(-uncertainty, kind="stable")[: CLUSTERED * count]
        chosen = most_uncertain_of_clusters(
            self.state.embeddings[rows[near]].astype(np.float32), uncertainty[near], count, self._settings.seed + number
        )
        self.state.asked[rows[near[chosen]]] = number

    # -- rounds -------------------------------------------------------------------------------------------------------

    def _round(self, work: Work) -> None:
        """Trains, proposes thresholds, has them judged, labels, and chooses what people are asked next."""
        state, settings, number = self.state, self._settings, len(self.state.rounds)
        self._check_positives(work)
        failed = sum(not one.kept for one in state.rounds)
        open_pool = state.rows(POOL)
        open_pool = open_pool[state.asked[open_pool] < 0]
        learner = self._learn(work)
        hidden, pool = learner.part(state, state.rows(HIDDEN)), learner.part(state, open_pool)
        thresholds = self.proposal(work, hidden, pool, self._caution(learner.wrong))
        step = thresholds or Thresholds(np.inf, np.inf, len(settings.classes))
        truth = self.labels(work, state.of(state.rows(HIDDEN)))
        verdict = self.verdict(hidden.after(step), truth, self._labelled(pool.after(step), open_pool), failed)
        kept = verdict.kept or thresholds is None
        total = Total.of(hidden.after(step), truth, len(settings.classes))
        gained = 0
        if thresholds is not None and kept:
            self._label(hidden, state.rows(HIDDEN), thresholds)
            gained = self._label(pool, open_pool, thresholds)
        everything = state.rows(POOL)
        state.rounds.append(
            Round(
                number=number,
                asked=int((state.asked[everything] >= 0).sum()),
                answers=work.answers,
                learned_from=learner.images,
                labelled=int((state.given[everything] != UNDECIDED).sum()),
                gained=gained,
                wrong=total.wrong,
                judged=total.named,
                precision=verdict.precision,
                recall=verdict.recall,
                kept=kept,
                finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
            )
        )
        left = state.given[open_pool] == UNDECIDED
        if not left.any():
            state.ended = "nothing is left"
        elif number + 1 >= settings.rounds:
            state.ended = "all rounds are done"
        else:
            self._ask_about(open_pool[left], pool.doubts[left], number + 1)

    def _caution(self, seen: int) -> Caution:
        """How careful the proposal of this round is."""
        rounds = self.state.rounds
        past = len(rounds) / max(1, self._settings.rounds - 1)
        chance = CHANCES[0] + (CHANCES[1] - CHANCES[0]) * past
        return Caution(chance, sum(not one.kept for one in rounds), seen)

    def _labelled(self, given: np.ndarray, pool: np.ndarray) -> np.ndarray:
        """The labels of all images of the pool, those that people label included, which the cascade leaves open."""
        whole = np.full(len(self.state.ids), UNDECIDED)
        whole[pool] = given
        return whole[self.state.rows(POOL)]

    def _learn(self, work: Work) -> Learner:
        """Trains the classifiers with all that people labelled, without the hidden images."""
        state = self.state
        asked = state.rows(POOL)
        rows = np.concatenate([asked[state.asked[asked] >= 0], state.rows(KNOWN, CONTROL)])
        labels = self.labels(work, state.of(rows))
        rows, labels = rows[labels >= 0], labels[labels >= 0]
        if len(rows) < 2:
            raise UsageError(
                "people agree on none of the images that the classifiers are to learn from: look at their answers, or "
                "ask about more images at a time (batch)"
            )
        mistaken = work.mistaken(len(self._settings.names))
        return Learner.trained(state.embeddings[rows], labels, state.asked[rows] == 0, self._settings, mistaken)

    def _label(self, part: Part, rows: np.ndarray, thresholds: Thresholds) -> int:
        """Notes the labels of a round; returns how many images got one."""
        state, new = self.state, part.new(thresholds)
        state.given[rows[new]] = part.decisions.labels[new]
        state.rounds_of[rows[new]] = len(state.rounds)
        state.confidences[rows[new]] = 1 - part.doubts[new]
        return int(new.sum())

    def _check_positives(self, work: Work) -> None:
        """Makes sure that there are enough hidden images of the classes to judge recall with."""
        settings, promise = self._settings, self._settings.promise
        if not promise.both or self.state.rounds:
            return
        labels = self.labels(work, self.state.of(self.state.rows(HIDDEN)))
        positives = int(((labels >= 0) & (labels < promise.classes)).sum())
        pool = round(positives * len(self.state.rows(POOL)) / len(labels))
        least = needed(1 - settings.recall, promise.risk(0), pool)
        if positives < least:
            enough = -(-settings.hidden * least // max(1, positives))
            raise HiddenSetTooSmall(
                f"hidden={settings.hidden}: the hidden set is too small. {positives} of its {len(labels)} images are "
                f"of the classes, and recall={settings.recall:g} with confidence={settings.confidence:g} takes at "
                f"least {least} of them: about {enough} hidden images are needed. Begin again (restart) with as "
                "many, or promise less",
                enough,
            )


@dataclass(frozen=True)
class Learner:
    """Classifiers, and how probably they are wrong.

    Attributes:
        weights: see :func:`~.classifiers.fit`
        scales: see :func:`~.classifiers.doubts`
        wrong: likewise
        none: whether images may be of none of the classes
        mistaken: how probably people are wrong about an image together
        images: how many images the classifiers were trained with
    """

    weights: np.ndarray
    scales: list[tuple[float, float]]
    wrong: int
    none: bool
    mistaken: float
    images: int

    @classmethod
    def trained(
        cls, embeddings: np.ndarray, labels: np.ndarray, at_random: np.ndarray, settings: Settings, mistaken: float
    ) -> Learner:
        from threadpoolctl import threadpool_limits

        classes, none = len(settings.classes), settings.other is not None
        # Such small systems of equations are solved soonest by one thread.
        with threadpool_limits(1, user_api="blas"):
            scales, wrong = doubts(embeddings, labels, at_random, classes, none=none, seed=settings.seed)
            weights = fit(embeddings, labels, classes)
        return cls(weights, scales, wrong, none, mistaken, len(labels))

    def part(self, state: State, rows: np.ndarray) -> Part:
        """What the classifiers say of images. Where people are mistaken, the right label counts as wrong."""
        said = decide(self.weights, state.embeddings[rows], none=self.none)
        own = np.minimum(1.0, doubt(said.scores, self.scales) + self.mistaken)
        return Part(said, own, state.given[rows], np.nan_to_num(1 - state.confidences[rows], nan=1.0))
