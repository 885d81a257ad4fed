"""How far a cascade has come, as it is kept in a dataset: in ``dataset.info``, and in the field ``cascade``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import fields
from ...authorship import authors_of, declare_authors, written_by_people
from ...fields import Field
from ...runs import fingerprint
from ...samples import pages, set_fields
from ..candidates import CONFLICT_TAG, LABELLED_TAG
from .flow import Work
from .state import POOL, ROLES, Round, Settings, State
from .thresholds import UNDECIDED

if TYPE_CHECKING:
    import fiftyone as fo

INFO = "cascade"
"""The key of ``dataset.info`` under which the cascade is."""

PARTS = ("role", "asked", "label", "round", "confidence")
"""What is kept of each sample."""

fields.register(
    Field("cascade", "document", "The part of the image in the label cascade"),
    Field("cascade.role", "str", "What it is for: pool (to be labelled), hidden, control (a known answer) or known"),
    Field("cascade.asked", "int", "The round in which people were asked about it"),
    Field("cascade.label", "str", "What the cascade labelled it; of hidden images nothing else tells this"),
    Field("cascade.round", "int", "The round in which the cascade labelled it"),
    Field("cascade.confidence", "float", "How probably that is right, 0 to 1"),
)


@dataclass(frozen=True)
class Places:
    """Where the parts of a cascade are.

    Attributes:
        embeddings: the field with embeddings
        answers: the field for people's answers
        labels: the field for the labels of the cascade
        tag: of the samples that the cascade labelled
    """

    embeddings: str
    answers: str
    labels: str
    tag: str


class Store:
    """Keeps a cascade in a dataset.

    Args:
        dataset: the dataset
        settings: what the cascade is asked to do
        places: where its parts are
    """

    def __init__(self, dataset: fo.Dataset, settings: Settings, places: Places):
        self._dataset, self._settings, self._places = dataset, settings, places
        self._about = {**asdict(settings), "classes": list(settings.classes), **asdict(places)}
        self._saved: dict[str, np.ndarray] = {}
        self.labelled: set[str] = set()
        self.left_to_people: set[str] = set()
        self.answered: set[str] = set()

    def found(self) -> dict[str, Any] | None:
        """What is kept of a cascade in the dataset, if there is one."""
        self._dataset.reload()
        return self._dataset.info.get(INFO)

    def other(self) -> dict[str, tuple[Any, Any]]:
        """The parameters in which the kept cascade differs -> (its value, the one that is wanted)."""
        kept = (self.found() or {}).get("settings", {})
        return {name: (kept.get(name), wish) for name, wish in self._about.items() if kept.get(name) != wish}

    def load(self, embed: Callable[[Sequence[str]], np.ndarray], usable: Callable[[Any], Any]) -> State:
        """The state that is kept.

        Args:
            embed: gives the embeddings of samples
            usable: of a view, those samples that still count
        """
        kept = self.found() or {}
        view = usable(self._dataset.exists("cascade.role").exists(self._places.embeddings))
        ids = sorted(view.values("id"))
        paths = [f"cascade.{name}" for name in PARTS]
        columns: list[list[Any]] = [[] for _ in paths]
        for page in pages(ids):
            for column, values in zip(columns, self._dataset.select(page, ordered=True).values(paths), strict=True):
                column += values
        roles, asked, labels, rounds, confidences = columns
        done = len(kept.get("rounds", ()))
        # What was written of a round that was not finished does not count: the round is repeated.
        counts = [number is not None and number < done for number in rounds]
        numbers = {name: number for number, name in enumerate(self._settings.names)}
        known = self._known([i for i, role in zip(ids, roles, strict=True) if role in ("known", "control")])
        state = State.fresh(ids, embed(ids), known)
        state.roles = np.array([ROLES.index(role) for role in roles], np.int8)
        state.asked = np.array([-1 if number is None or number > done else number for number in asked], int)
        if counts:
            rows = np.flatnonzero(counts)
            state.given[rows] = [numbers[labels[row]] for row in rows]
            state.rounds_of[rows] = [rounds[row] for row in rows]
            state.confidences[rows] = [confidences[row] for row in rows]
        state.rounds = [Round(**one) for one in kept.get("rounds", ())]
        state.ended, state.begun = kept.get("ended", ""), True
        self._remember(state)
        return state

    def known(self, ids: Sequence[str]) -> dict[str, str]:
        """The classes that people gave samples before the cascade."""
        return self._known(ids)

    def forget(self) -> int:
        """Takes back the labels of the kept cascade, unless people changed them; returns how many."""
        dataset = self._dataset
        kept = (self.found() or {}).get("settings", {})
        taken = 0
        if dataset.get_field("cascade.role") is None:
            return 0
        name, tag = kept.get("labels"), kept.get("tag")
        for page in pages(dataset.exists("cascade.role").values("id")):
            if name and dataset.get_field(name) is not None:
                declare_authors(dataset, [name])
                view = dataset.select(page).exists("cascade.label").match_tags(tag)
                theirs = written_by_people(dataset, page, [name])
                ours = [i for i in view.values("id") if i not in theirs]
                set_fields(dataset, {name: dict.fromkeys(ours), f"authors.{name}": dict.fromkeys(ours)})
                if ours:
                    dataset.select(ours).untag_samples(tag)
                taken += len(ours)
            set_fields(dataset, {f"cascade.{part}": dict.fromkeys(page) for part in PARTS})
        dataset.info.pop(INFO, None)
        dataset.save()
        return taken

    def save(self, state: State) -> None:
        """Writes what changed: first the samples, then how far the cascade has come."""
        fields.declare(self._dataset, "cascade")
        names = np.array([*self._settings.names, None], object)
        columns: dict[str, tuple[np.ndarray, Callable[[int], Any]]] = {
            "role": (state.roles, lambda row: ROLES[state.roles[row]]),
            "asked": (state.asked, lambda row: int(state.asked[row]) if state.asked[row] >= 0 else None),
            "label": (state.given, lambda row: names[state.given[row]] if state.given[row] != UNDECIDED else None),
            "round": (state.rounds_of, lambda row: int(state.rounds_of[row]) if state.rounds_of[row] >= 0 else None),
            "confidence": (state.confidences, lambda row: _number(state.confidences[row])),
        }
        changed = {
            name: np.flatnonzero(~_same(values, self._saved[name])) if name in self._saved else np.arange(len(values))
            for name, (values, _) in columns.items()
        }
        by_id = {state.ids[row]: row for row in np.unique(np.concatenate(list(changed.values()))).tolist()}
        for page in pages(list(by_id)):
            here = {by_id[sample_id] for sample_id in page}
            values = {
                f"cascade.{name}": {state.ids[row]: value(row) for row in changed[name].tolist() if row in here}
                for name, (_, value) in columns.items()
            }
            set_fields(self._dataset, values)
        self._write_labels(state)
        self._dataset.reload()
        self._dataset.info[INFO] = {
            "settings": self._about, "rounds": [asdict(one) for one in state.rounds], "ended": state.ended,
        }  # fmt: skip
        self._dataset.save()
        self._remember(state)

    def write_answers(self, work: Work) -> None:
        """Writes what people agreed on where no label is yet, and tags what they do not agree on."""
        import fiftyone as fo

        dataset, name = self._dataset, self._places.answers
        fields.declare_label(dataset, name, "Classification")
        labels = work.settled.labels
        for page in pages(list(labels)):
            empty = dataset.select(page).exists(name, False).values("id")
            set_fields(dataset, {name: {i: fo.Classification(label=labels[i]) for i in empty}})
            if empty:
                dataset.select(empty).tag_samples(LABELLED_TAG)
                dataset.select(empty).untag_samples(CONFLICT_TAG)
            self.answered.update(empty)
        for page in pages(sorted(work.settled.disputed)):
            dataset.select(page).exists(name, False).tag_samples(CONFLICT_TAG)

    def _write_labels(self, state: State) -> None:
        """Writes the labels of the cascade where they are not yet, and nobody labelled the image otherwise."""
        import fiftyone as fo

        dataset, places = self._dataset, self._places
        fields.declare_label(dataset, places.labels, "Classification")
        fields.declare_label(dataset, places.answers, "Classification")
        declare_authors(dataset, [places.labels])
        model, revision = f"logistic regression on {places.embeddings}", fingerprint(self._about)
        rows = np.flatnonzero((state.roles == POOL) & (state.given != UNDECIDED))
        by_id = {state.ids[row]: row for row in rows}
        for page in pages(list(by_id)):
            there = dataset.select(page).match_tags(places.tag).values("id")
            answered = dataset.select(page).exists(places.answers).values("id")
            fresh = [i for i in page if i not in {*there, *answered}]
            theirs = written_by_people(dataset, fresh, [places.labels])
            self.left_to_people |= {*theirs, *(set(answered) - set(there))}
            values: dict[str, dict[str, Any]] = {places.labels: {}, f"authors.{places.labels}": {}}
            for sample_id in fresh:
                if sample_id in theirs:
                    continue
                row = by_id[sample_id]
                label = fo.Classification(
                    label=self._settings.names[state.given[row]], confidence=float(state.confidences[row]),
                    model=model, revision=revision, round=int(state.rounds_of[row]),
                )  # fmt: skip
                values[places.labels][sample_id] = label
                for path, note in authors_of({places.labels: label}).items():
                    values[path][sample_id] = note
            set_fields(dataset, values)
            ours = list(values[places.labels])
            if ours:
                dataset.select(ours).tag_samples(places.tag)
            self.labelled.update(ours)

    def _known(self, ids: Sequence[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        if self._dataset.get_field(self._places.answers) is None:
            return found
        for page in pages(list(ids)):
            its = self._dataset.select(page).values(["id", f"{self._places.answers}.label"])
            found.update({i: self._settings.name_of(label) for i, label in zip(*its, strict=True) if label is not None})
        return found

    def _remember(self, state: State) -> None:
        self._saved = {
            "role": state.roles.copy(), "asked": state.asked.copy(), "label": state.given.copy(),
            "round": state.rounds_of.copy(), "confidence": state.confidences.copy(),
        }  # fmt: skip


def _same(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Which values are equal, NaN included."""
    result: np.ndarray = (one == other) | ((one != one) & (other != other))
    return result


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
