"""Repairs pictures in rounds: paints them anew a little, looks at them, and keeps what is better than it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..carrying import Rescaled, carried
from ..describing import plain, text_of
from ..engine import NewSample, Task, Worker
from ..errors import RefusedImage
from ..media import MediaStore, read_image
from ..painting import Painter, picture_seed
from ..parents import Order, Parent, keys_of, made_from
from ..stage import Run
from .defects import joined, measured, named
from .judging import Judge, Judgement


@dataclass(frozen=True)
class RepairOrder(Order):
    """A picture that is to be repaired.

    Attributes:
        defects: words for what is wrong with it
    """

    defects: tuple[str, ...] = ()


@dataclass(frozen=True)
class Patience:
    """How long and how hard is tried.

    Attributes:
        strength: how much of a picture is given up in the first round, 0 to 1
        increase: how much more in each further one
        rounds: how many there are at most
    """

    strength: float
    increase: float
    rounds: int

    def strength_in(self, number: int) -> float:
        """The strength in a round, from 0 on."""
        return round(min(1.0, self.strength + number * self.increase), 6)


@dataclass(frozen=True)
class Diagnosis:
    """Where it is read what is wrong with samples, and what they show.

    Attributes:
        tag_field: the field with their tags, if there is one
        by_issues: whether the issues that ``score_quality`` found count
        text_fields: the fields with texts
        defects: what counts as a defect
    """

    tag_field: str | None
    by_issues: bool
    text_fields: tuple[str, ...]
    defects: tuple[str, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """The fields that are read."""
        found = [*self.text_fields, *([self.tag_field] if self.tag_field else [])]
        return tuple(dict.fromkeys([*found, *(["quality.issues"] if self.by_issues else [])]))

    def of(self, tags: Iterable[str] | None, issues: Iterable[str] | None) -> list[str]:
        """Words for what is wrong with a sample."""
        return joined(named(tags or (), self.defects), measured(issues if self.by_issues else (), self.defects))

    def tasks(self, parents: Iterable[Parent], plan: str, run: Run, given_up: Mapping[str, str]) -> Iterator[Task]:
        """The tasks of repairing samples, without those that were tried in vain.

        Args:
            parents: the samples
            plan: fingerprint of all else that decides the pictures
            run: the run
            given_up: sample id -> the key of the picture that was no better
        """
        for parent in parents:
            (key,) = keys_of(run, plan, parent, 1)
            if given_up.get(parent.id) == key:
                run.skipped(1)
                continue
            tags = parent.values.get(self.tag_field or "")
            names = [tag.label for tag in tags.classifications if tag.label] if tags else []
            defects = self.of(names, parent.values.get("quality.issues"))
            prompt = text_of(parent.values, self.text_fields, {plain(word) for word in self.defects})
            yield Task((key,), RepairOrder(parent, 0, prompt, run.seed or 0, tuple(defects)))


@dataclass(eq=False)
class _Case:
    """A picture while it is repaired.

    Attributes:
        order: what is asked for
        size: its width and height as it was
        picture: as it is painted
        padded: the same, continued to a size that the model takes
        score: what a repaired picture must be better than
        best: the best one so far, and how it was made
    """

    order: RepairOrder
    size: tuple[int, int]
    picture: np.ndarray
    padded: np.ndarray
    score: float
    best: tuple[Judgement, int, np.ndarray] | None = None
    refused: RefusedImage | None = None

    @property
    def done(self) -> bool:
        return self.refused is not None or (self.best is not None and not self.best[0].defects)

    def take(self, judgement: Judgement, round: int, pixels: np.ndarray) -> None:
        """Keeps a picture if its score rose and it is better than the best one so far."""
        if judgement.score <= self.score:
            return
        if self.best is None or _merit(judgement) > _merit(self.best[0]):
            self.best = (judgement, round, pixels)


def _merit(judgement: Judgement) -> tuple[int, float]:
    return -len(judgement.defects), judgement.score


@dataclass
class Tally:
    """What came of the repairs.

    Attributes:
        no_better: pictures that were tried in vain
        defects: defect -> how many pictures had it before
        left: defect -> how many repaired pictures still have it
        before: sum of the scores of the pictures that were repaired, before
        after: sum of their scores now
        repaired: how many were repaired
    """

    no_better: int = 0
    defects: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    before: float = 0.0
    after: float = 0.0
    repaired: int = 0


class RepairWorker(Worker):
    """Makes repaired pictures.

    Args:
        painter: who paints
        store: where pictures and masks are written
        judge: who looks at them
        patience: how long and how hard is tried
        negative: what they shall not show besides their defects
        longest: their longest side in pixels
        label_fields: the fields whose labels are carried over
        tag_field: the field with tags, without those of defects that are gone
        give_up: remembers samples that could not be repaired: sample id -> key

    Attributes:
        tally: what came of it
        prompts: those that were used
    """

    decode = None
    serial = True

    def __init__(
        self,
        painter: Painter,
        store: MediaStore,
        judge: Judge,
        patience: Patience,
        *,
        negative: str,
        longest: int,
        label_fields: Sequence[str],
        tag_field: str | None,
        give_up: Callable[[Mapping[str, str]], None],
    ):
        self.painter, self.store, self.judge, self.patience = painter, store, judge, patience
        self.negative, self.longest = negative, longest
        self.label_fields, self.tag_field, self.give_up = tuple(label_fields), tag_field, give_up
        self.tally = Tally()
        self.prompts: list[str] = []

    def setup(self) -> None:
        """Loads the models."""
        self.painter.generator  # noqa: B018
        self.judge.setup()

    def __call__(self, items: Sequence[Task]) -> list[list[NewSample] | RefusedImage]:
        cases: dict[int, _Case] = {}
        results: dict[int, list[NewSample] | RefusedImage] = {}
        for number, task in enumerate(items):
            try:
                cases[number] = self._open(task.payload)
            except RefusedImage as refusal:
                results[number] = refusal
        for round in range(self.patience.rounds):
            self._try([case for case in cases.values() if not case.done], round)
        given_up = {}
        for number, case in cases.items():
            if case.best is None and case.refused is not None:
                results[number] = case.refused
            elif case.best is None:
                results[number] = []
                given_up[case.order.parent.id] = items[number].keys[0]
            else:
                try:
                    results[number] = [self._sample(items[number], case, *case.best)]
                except RefusedImage as refusal:
                    results[number] = refusal
        self.tally.no_better += len(given_up)
        self.give_up(given_up)
        return [results[number] for number in range(len(items))]

    def _open(self, order: RepairOrder) -> _Case:
        import cv2

        image = read_image(order.parent.filepath)
        height, width = image.pixels.shape[:2]
        zoom = min(1.0, self.longest / max(width, height))
        size = max(1, round(width * zoom)), max(1, round(height * zoom))
        score, _ = self.judge.score(image.pixels, image)
        picture = image.pixels
        if size != (width, height):
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            # Made smaller, a picture is sharper and less noisy: that is no repair.
            score = max(score, self.judge.score(picture)[0])
        unit = self.painter.unit
        beyond = ((0, -size[1] % unit), (0, -size[0] % unit), (0, 0))
        return _Case(order, (width, height), picture, np.pad(picture, beyond, "edge"), score)

    def _try(self, cases: Sequence[_Case], round: int) -> None:
        """Paints the pictures of a round and looks at them."""
        if not cases:
            return
        wanted = [self._wanted(case, round) for case in cases]
        painted = self.painter.paint(wanted, self.patience.strength_in(round))
        made: list[tuple[_Case, np.ndarray]] = []
        for case, pixels in zip(cases, painted, strict=True):
            if isinstance(pixels, RefusedImage):
                case.refused = pixels
            else:
                height, width = case.picture.shape[:2]
                made.append((case, np.ascontiguousarray(pixels[:height, :width])))
        judgements = self.judge.judge([pixels for _, pixels in made])
        for (case, pixels), judgement in zip(made, judgements, strict=True):
            case.take(judgement, round, pixels)

    def _wanted(self, case: _Case, round: int) -> Any:
        from ..models.roles import Wanted

        order = case.order
        negative = ", ".join(joined([*order.defects], [self.negative] if self.negative else []))
        return Wanted(order.prompt, picture_seed(order.seed, order.parent.id, round), negative, case.padded)

    def _sample(
        self, task: Task, case: _Case, judgement: Judgement, round: int, pixels: np.ndarray
    ) -> NewSample:  # fmt: skip
        order, wanted = case.order, self._wanted(case, round)
        height, width = pixels.shape[:2]
        move = Rescaled(case.size, (width, height))
        labels = {
            name: carried(order.parent.values[name], move, order.parent.id, self.store) for name in self.label_fields
        }
        tags = labels.get(self.tag_field or "")
        if tags is not None and self.judge.tagger:
            gone = {word for word in order.defects if word not in judgement.defects}
            tags.classifications = [tag for tag in tags.classifications if plain(tag.label or "") not in gone]
        padded_height, padded_width = case.padded.shape[:2]
        lineage = self.painter.lineage(
            wanted, padded_width, padded_height, self.patience.strength_in(round), round=round, size=[width, height],
            size_before=list(case.size), defects=list(order.defects), defects_left=list(judgement.defects),
            score_before=case.score, score=judgement.score,
        )  # fmt: skip
        tally = self.tally
        tally.repaired, tally.before, tally.after = (
            tally.repaired + 1, tally.before + case.score, tally.after + judgement.score,
        )  # fmt: skip
        tally.defects.update(order.defects)
        tally.left.update(judgement.defects)
        self.prompts.append(order.prompt)
        return made_from(order, task.keys[0], pixels, self.store, lineage, labels, "enhanced")
