"""The workers of ``classify``, ``detect`` and ``segment``, for models with classes of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...annotation.classes import TrainedWorker
from ...annotation.regions import DetectWorker, Rules, Search
from ...annotation.scoring import LabelRules
from ...annotation.segments import SegmentWorker
from ...errors import FieldError
from ...media import media_store
from ...modelling import ModelWorker
from ...models.errors import WrongModel
from ...models.found import Found
from ...models.loading import roles_of
from ...models.options import Options
from ...models.roles import Finder, Segmenter, Tagger
from ...samples import pages
from .answers import Task

if TYPE_CHECKING:
    import fiftyone as fo

ROLES: dict[type, Task] = {Tagger: "classification", Finder: "detection", Segmenter: "segmentation"}

LEAST_OF_BOXES = 0.05
"""Confidence below which boxes are not kept, unless another is asked for."""


def tasks_of(found: Found) -> list[Task]:
    """The tasks that a model can do, as far as its files tell."""
    return [ROLES[role] for role in roles_of(found) if role in ROLES]


def classes_of(model: Any) -> tuple[str, ...]:
    """The names of the classes that a model knows; empty where it does not say."""
    return tuple(getattr(model, "classes", None) or getattr(model, "names", None) or ())


def make_worker(
    task: Task, model: str, options: Options, field: str, threshold: float | None, batch_size: int,
    dataset: fo.Dataset, answers: str,
) -> ModelWorker:  # fmt: skip
    """Makes the worker that labels samples.

    Args:
        task: what the model does
        model: its name
        options: how it is loaded
        field: the field that gets the labels
        threshold: least confidence; None for the task's own
        batch_size: images that the model gets at once
        dataset: the dataset, which learns the values of masks
        answers: the field with people's labels, whose masks have the same values

    Raises:
        ModelError: it is no such model
        FieldError: people's masks and those of the field have other values
    """
    if task == "classification":
        return TrainedWorker(model, options, {}, LabelRules(threshold or 0.0), field, batch_size)
    if task == "detection":
        least = LEAST_OF_BOXES if threshold is None else threshold
        boxes = DetectWorker(
            model, options, Search({}, threshold=least), Rules(), field, batch_size, media_store(dataset)
        )
        if boxes.model.classes is None:
            raise WrongModel(f"{model} takes any text and has no classes of its own: let detect use it, with classes")
        return boxes
    masks = SegmentWorker(model, options, {}, (), threshold, field, batch_size, media_store(dataset))
    masks.name_values(mask_values(dataset, field, answers))
    dataset.mask_targets[field] = masks.targets
    dataset.save()
    return masks


def mask_values(dataset: fo.Dataset, field: str, answers: str) -> dict[int, str]:
    """The values that the pixels of classes have in people's masks, and in those that a field holds already.

    Raises:
        FieldError: they contradict one another
    """
    theirs = _named(dataset, answers)
    there = _named(dataset, field) if dataset.has_field(field) and dataset.exists(field).count() else {}
    values_of = {name: value for value, name in theirs.items()}
    for value, name in there.items():
        if values_of.get(name, value) != value or theirs.get(value, name) != name:
            raise FieldError(
                f"label_field={field!r}: its masks have {value} for {name!r}, and those in {answers!r} have other "
                "values: choose another label_field"
            )
    return {**theirs, **there}


def summary(dataset: fo.Dataset, ids: Sequence[str], field: str, task: Task) -> dict[str, Any]:
    """How often each class was found, and how often none."""
    path = {"classification": "label", "detection": "detections.label", "segmentation": "classes"}[task]
    counts: Counter[str] = Counter()
    empty = 0
    for page in pages(list(ids)):
        for names in dataset.select(page).values(f"{field}.{path}"):
            counts.update([names] if isinstance(names, str) else names or ())
            empty += not names
    what = {"classification": "classes", "detection": "objects", "segmentation": "images that show"}[task]
    return {what: dict(counts.most_common()), "without a class": empty}


def _named(dataset: fo.Dataset, field: str) -> dict[int, str]:
    targets = dataset.mask_targets.get(field) or dataset.default_mask_targets or {}
    return {int(value): str(name) for value, name in targets.items() if isinstance(value, int)}
