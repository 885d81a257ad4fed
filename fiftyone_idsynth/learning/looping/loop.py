"""The learning loop: label, train, predict, measure, choose, and again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import fields
from ...errors import FieldError
from ...fields import Field
from ...media import write_atomically
from ...samples import active, pages, set_fields
from ...stage import fingerprint
from ..candidates import LABELLED_TAG, SKIPPED_TAG, TEST_TAG, find_labelled, labelled_classes
from ..predictions import INNER, NOTHING
from .asking import SETTLED_TAGS, Asking
from .rounds import Round, read_rounds, write_rounds
from .stopping import Stop, agreement, lower_bound

if TYPE_CHECKING:
    import fiftyone as fo
    from fiftyone.core.collections import SampleCollection

METRICS = {"classification": "accuracy", "detection": "mAP", "segmentation": "mIoU"}
"""Task -> what quality is."""

ASKED_TAG = "to_label"
"""Marks the samples that people are asked about now."""

LEAST_CLASSES = 2
"""Classes without which no classifier can be trained."""

fields.register(Field("learning_round", "int", "In which round of the learning loop people were asked about the image"))


@dataclass(frozen=True)
class Plan:
    """What the loop shall do.

    Attributes:
        task: what the model learns
        model: what is trained
        answers: the field of people's labels
        predicted: the field of the model's labels
        start: images that are labelled before the first model is trained
        count: images that people label in a round
        strategy: how images are chosen
        stop: when it is enough
        folder: where models go
        seed: of random choices
        selecting: further parameters of ``select_uncertain``
        training: of ``train``
        predicting: of ``predict``
    """

    task: str
    model: str
    answers: str
    predicted: str
    start: int
    count: int
    strategy: str
    stop: Stop
    folder: Path
    seed: int
    selecting: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    predicting: dict[str, Any] = field(default_factory=dict)


@dataclass
class Outcome:
    """What came of the loop.

    Attributes:
        rounds: all rounds, those of earlier runs too
        stopped: why it stopped; None if it waits for people
        waiting: how many images people are asked about
    """

    rounds: list[Round]
    stopped: str | None = None
    waiting: int = 0


class Loop:
    """Goes on from whatever the dataset says has been done: a loop that is killed at any moment is continued.

    Args:
        samples: the samples to learn from, the test images among them
        dataset: their dataset
        plan: what to do
        asking: who answers
        tell: is told of every round
    """

    def __init__(
        self, samples: SampleCollection, dataset: fo.Dataset, plan: Plan, asking: Asking, tell: Callable[[str], None]
    ):
        self._samples, self._dataset, self._plan, self._asking, self._tell = samples, dataset, plan, asking, tell
        self.rounds = read_rounds(dataset, plan.answers).get(plan.strategy, [])
        fields.declare(dataset, "learning_round")

    def run(self, wait: float, progress: Any) -> Outcome:
        """Runs rounds until enough is learnt, or until people have to answer.

        Args:
            wait: seconds to wait for answers in each round
            progress: as in FiftyOne
        """
        plan = self._plan
        if waiting := self._ask(self._open(self._tests_without_answer()), wait):
            return Outcome(self.rounds, waiting=waiting)
        if len(self._tests_without_answer()) == active(self._samples).match_tags(TEST_TAG).count():
            raise FieldError(
                f"answers_field={plan.answers!r}: nobody labelled any of the test images (those with the tag 'test'), "
                "which measure every round: tag others, or label some"
            )
        while True:
            if waiting := self._ask(self._asked(), wait):
                return Outcome(self.rounds, waiting=waiting)
            labelled = self._labelled()
            if lacking := self._lacking(labelled):
                if not self._choose("random", lacking):
                    return Outcome(self.rounds, f"no images are left to ask about; {len(labelled)} are labelled")
                continue
            last = self.rounds[-1] if self.rounds else None
            if last is None or (last.labels, last.model) != (len(labelled), plan.model):
                self._round(labelled, progress)
            if reason := plan.stop.reason(self.rounds):
                return Outcome(self.rounds, reason)
            count = plan.count if plan.stop.budget is None else min(plan.count, plan.stop.budget - len(labelled))
            if not self._choose(plan.strategy, count):
                return Outcome(self.rounds, f"no images are left to choose; {len(labelled)} are labelled")

    # -- people -------------------------------------------------------------------------------------------------------

    def _tests_without_answer(self) -> list[str]:
        tests, answers = active(self._samples).match_tags(TEST_TAG), self._field()
        answered = set(tests.exists(answers).values("id")) if answers else set()
        return [i for i in tests.values("id") if i not in answered]

    def _asked(self) -> list[str]:
        """The samples that people are asked about and have not settled."""
        view = active(self._samples).match_tags(ASKED_TAG).match_tags([*SETTLED_TAGS, TEST_TAG], bool=False)
        ids: list[str] = view.values("id")
        return ids

    def _ask(self, ids: Sequence[str], wait: float) -> int:
        """Asks about samples and gathers the answers; returns how many are not settled."""
        if not ids:
            return 0
        self._asking.ask(self._dataset, ids)
        until = time.monotonic() + wait
        while True:
            self._asking.gather(self._dataset, ids)
            open_ids = self._open(ids)
            for page in pages(sorted(set(ids) - set(open_ids))):
                self._dataset.select(page).untag_samples(ASKED_TAG)
            if not open_ids or time.monotonic() >= until:
                return len(open_ids)
            self._tell(f"waiting for {len(open_ids)} answers in {self._asking.where}")
            time.sleep(min(5.0, max(0.1, until - time.monotonic())))

    def _open(self, ids: Sequence[str]) -> list[str]:
        found: list[str] = []
        for page in pages(list(ids)):
            found += self._dataset.select(page).match_tags(list(SETTLED_TAGS), bool=False).values("id")
        return found

    def _labelled(self) -> list[str]:
        given = set(self._samples.values("id"))
        return [i for i in find_labelled(self._dataset, self._field()) if i in given]

    def _field(self) -> str | None:
        return self._plan.answers if self._dataset.get_field(self._plan.answers) is not None else None

    def _lacking(self, labelled: list[str]) -> int:
        """How many images, chosen at random, have to be labelled before a model can be trained."""
        plan, answers = self._plan, self._field()
        if len(labelled) < plan.start:
            return plan.start - len(labelled)
        if answers is None:
            return plan.count
        kind = str(self._dataset.get_field(answers).document_type.__name__)
        if kind not in INNER:
            return 0
        known = labelled_classes(self._dataset, labelled, answers, kind)
        return 0 if len(known) >= (LEAST_CLASSES if plan.task == "classification" else 1) else plan.count

    # -- the model ----------------------------------------------------------------------------------------------------

    def _round(self, labelled: list[str], progress: Any) -> None:
        """Trains, predicts and measures with all labels so far, and records it."""
        from ...models.loading import release
        from ..predict import predict
        from ..train import train

        plan, number, started = self._plan, len(self.rounds), time.monotonic()
        folder = self._model_folder(number, labelled)
        train(
            self._samples, path=folder, task=plan.task, model=plan.model, answers_field=plan.answers, seed=plan.seed,
            progress=progress, **plan.training,
        )  # fmt: skip
        report = predict(
            self._samples, model=str(folder), label_field=plan.predicted, answers_field=plan.answers,
            task=plan.task, progress=progress, **plan.predicting,
        )  # fmt: skip
        measured, metric = report.outputs["test"], METRICS[plan.task]
        quality, images = measured[metric], measured["images"]
        bounded = plan.task == "classification"
        one = Round(
            number, len(labelled), quality, metric, lower_bound(round(quality * images), images) if bounded else None,
            self._kappa(number, labelled), plan.model, str(folder), round(time.monotonic() - started, 3),
            datetime.now(UTC).isoformat(timespec="seconds"),
        )  # fmt: skip
        self.rounds = [*self.rounds, one]
        write_rounds(self._dataset, plan.answers, plan.strategy, self.rounds)
        self._forget()
        release()  # or the models of all rounds would stay in memory
        self._tell(told(one))

    def _folder(self, number: int) -> Path:
        return self._plan.folder / self._plan.strategy / f"round-{number:03}"

    def _model_folder(self, number: int, labelled: list[str]) -> Path:
        """Where the model of a round goes: a training that was interrupted goes on only if nothing has changed."""
        from ...authorship import checksum

        answers = [
            checksum(label)
            for page in pages(labelled)
            for label in self._dataset.select(page, ordered=True).values(self._plan.answers, _raw=True)
        ]
        mine = self._folder(number) / f"model-{fingerprint(self._plan.model, self._plan.training, labelled, answers)}"
        for other in self._folder(number).glob("model-*"):  # of a round that was never finished
            if other != mine:
                shutil.rmtree(other)
        return mine

    def _kappa(self, number: int, labelled: list[str]) -> float | None:
        """The agreement with the model before, on images it was not trained on; what it says is kept for the next."""
        if self._plan.task == "segmentation":
            return None
        ids, said = self._said()
        now = dict(zip(ids, said, strict=True))
        kept = _said_file(self._folder(number))
        _keep(kept, ids, said)
        before = _read(_said_file(self._folder(number - 1))) if number else {}
        same_model = bool(self.rounds) and self.rounds[-1].model == self._plan.model
        common = sorted(before.keys() & now.keys() - set(labelled))
        if not common or not same_model:
            return None
        return agreement([before[i] for i in common], [now[i] for i in common])

    def _said(self) -> tuple[list[str], list[list[str]]]:
        """The classes that the model found in each image."""
        kind = "Classification" if self._plan.task == "classification" else "Detections"
        path = f"{self._plan.predicted}.{INNER[kind]}.label" if INNER[kind] else f"{self._plan.predicted}.label"
        ids: list[str] = sorted(active(self._samples).values("id"))
        said: list[list[str]] = []
        for page in pages(ids):
            labels = self._dataset.select(page, ordered=True).values(path)
            said += [[one or NOTHING] if kind == "Classification" else sorted(set(one or ())) for one in labels]
        return ids, said

    def _forget(self) -> None:
        """Removes the models of earlier rounds, but for the best one, and what they said."""
        best = max(self.rounds, key=lambda one: (one.quality, one.number))
        for one in self.rounds[:-1]:
            if one.number != best.number and Path(one.folder).exists():
                shutil.rmtree(one.folder)
            _said_file(self._folder(one.number)).unlink(missing_ok=True)
            if self._folder(one.number).is_dir() and not any(self._folder(one.number).iterdir()):
                self._folder(one.number).rmdir()

    # -- the choice ---------------------------------------------------------------------------------------------------

    def _choose(self, strategy: str, count: int) -> int:
        """Chooses what people are asked about next; returns how many images."""
        from ..select_uncertain import select_uncertain

        plan = self._plan
        by_model = {} if strategy == "random" or plan.task == "segmentation" else {"label_field": plan.predicted}
        report = select_uncertain(
            self._samples, count=count, strategy=strategy, answers_field=self._field(), tag=ASKED_TAG,
            seed=plan.seed + len(self.rounds), progress=False, **by_model, **plan.selecting,
        )  # fmt: skip
        chosen = self._asked()
        set_fields(self._dataset, {"learning_round": dict.fromkeys(chosen, len(self.rounds))})
        return int(report.outputs["chosen"])


def told(one: Round) -> str:
    """A line on a round."""
    bound = f" (at least {one.lower:.3f})" if one.lower is not None else ""
    kappa = f", kappa {one.kappa:.3f}" if one.kappa is not None else ""
    return f"round {one.number}: {one.labels} labels, {one.metric} {one.quality:.3f}{bound}{kappa}, {one.seconds:.1f} s"


def forget_labels(dataset: fo.Dataset, answers: str) -> None:
    """Takes away what people were asked by the loop, as if it had never run: for a copy of a dataset."""
    asked = dataset.exists("learning_round") if dataset.get_field("learning_round") else dataset.limit(0)
    ids = asked.values("id")
    dataset.untag_samples(ASKED_TAG)
    for page in pages(ids):
        dataset.select(page).untag_samples([LABELLED_TAG, SKIPPED_TAG])
        set_fields(dataset, {answers: dict.fromkeys(page), "learning_round": dict.fromkeys(page)})


def _said_file(folder: Path) -> Path:
    return folder / "classes.npz"


def _keep(path: Path, ids: Sequence[str], said: Sequence[Sequence[str]]) -> None:
    import io

    out = io.BytesIO()
    np.savez_compressed(out, ids=np.array(ids, str), classes=np.array(["\n".join(its) for its in said], str))
    write_atomically(path, out.getvalue())


def _read(path: Path) -> dict[str, list[str]]:
    if not path.exists():
        return {}
    with np.load(path) as stored:
        pairs = zip(stored["ids"].tolist(), stored["classes"].tolist(), strict=True)
        return {i: text.split("\n") if text else [] for i, text in pairs}
