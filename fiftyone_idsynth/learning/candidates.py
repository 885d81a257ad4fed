"""Which samples people may be asked about: not those that they labelled, that are rejected, or that test the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import fields
from ..authorship import checksum
from ..samples import pages
from .predictions import INNER

if TYPE_CHECKING:
    import fiftyone as fo
    from fiftyone.core.collections import SampleCollection

LABELLED_TAG = "labelled"
"""Marks samples that people have labelled, whatever field their labels are in."""

SKIPPED_TAG = "skipped"
"""Marks samples that people looked at and did not label."""

CONFLICT_TAG = "conflict"
"""Marks samples that people labelled differently, so that nobody knows what is right."""

TEST_TAG = "test"


@dataclass
class Candidates:
    """The samples that people may be asked about.

    Attributes:
        ids: their ids, in the order in which they were added to the dataset
        left_out: why others are not among them -> how many
    """

    ids: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def find_candidates(
    samples: SampleCollection,
    dataset: fo.Dataset,
    answers: str | None,
    label_field: str | None,
    kind: str | None,
    progress: Callable[[int], None] = lambda count: None,
) -> Candidates:
    """Finds the samples that people may be asked about.

    Args:
        samples: a dataset or view
        dataset: its dataset
        answers: the field with people's labels, if there is one
        label_field: the field with the labels of a model, if there is one
        kind: the class of these labels
        progress: called with the number of samples that were looked at
    """
    found = Candidates()
    for page in pages(sorted(samples.values("id"))):
        view = dataset.select(page, ordered=True)
        answered = set(view.exists(answers).values("id")) if answers else set()
        theirs = _changed_by_people(dataset, view, label_field, kind) if label_field and kind else set()
        for sample_id, tags in zip(page, view.values("tags"), strict=True):
            if fields.REJECTED_TAG in tags:
                found.left_out["rejected"] += 1
            elif TEST_TAG in tags:
                found.left_out["in the test split"] += 1
            elif SKIPPED_TAG in tags:
                found.left_out["skipped by people"] += 1
            elif CONFLICT_TAG in tags:
                found.left_out["labelled differently by several people"] += 1
            elif LABELLED_TAG in tags or sample_id in answered or sample_id in theirs:
                found.left_out["labelled by people"] += 1
            else:
                found.ids.append(sample_id)
        progress(len(page))
    return found


def find_labelled(dataset: fo.Dataset, answers: str | None) -> list[str]:
    """The samples of a dataset that people have labelled and that a model may be trained with."""
    view = dataset.match_tags([fields.REJECTED_TAG, TEST_TAG], bool=False)
    ids = set(view.match_tags(LABELLED_TAG).values("id"))
    if answers:
        ids.update(view.exists(answers).values("id"))
    return sorted(ids)


def labelled_classes(dataset: fo.Dataset, ids: Sequence[str], answers: str, kind: str) -> Counter[str]:
    """How many samples people found each class in."""
    found: Counter[str] = Counter()
    path = f"{answers}.{INNER[kind]}.label" if INNER[kind] else f"{answers}.label"
    for page in pages(list(ids)):
        for labels in dataset.select(page).values(path):
            found.update({labels} if isinstance(labels, str) else set(labels or ()))
    found.pop(None, None)  # type: ignore[call-overload]  # labels without a class
    return found


def _changed_by_people(dataset: fo.Dataset, view: Any, name: str, kind: str) -> set[str]:
    """The samples whose labels a person made, changed or removed.

    Models of this package note what they write. What nobody noted comes from elsewhere: labels with a confidence from
    another model, labels without one from a person.
    """
    noted = dataset.has_field(f"authors.{name}")
    inside = f"{name}.{INNER[kind]}" if INNER[kind] else name
    paths = ["id", f"{inside}.label", f"{inside}.confidence", *([f"authors.{name}"] if noted else [])]
    columns = view.values(paths)
    people, to_compare = set(), {}
    for sample_id, labels, sure, *note in zip(*columns, strict=True):
        if noted and note[0]:
            to_compare[sample_id] = note[0]
        elif labels and (sure is None if INNER[kind] is None else any(one is None for one in sure or [None])):
            people.add(sample_id)
    # As they are stored, labels are compared twenty times as fast as when objects are made of them, which decide.
    for raw in (True, False):
        if to_compare:
            its = dataset.select(list(to_compare)).values(["id", name], _raw=raw)
            now = {str(i): checksum(label) or "none" for i, label in zip(*its, strict=True)}
            to_compare = {i: note for i, note in to_compare.items() if now[i] != note}
    return people | set(to_compare)
