"""What a model said of samples: how unsure it was, the class it named, and the probabilities of all classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from ..samples import pages
from .uncertainty import MEASURES, aggregate, probabilities, softmax

if TYPE_CHECKING:
    import fiftyone as fo

INNER = {"Classification": None, "Classifications": "classifications", "Detections": "detections"}
"""Kind of label -> the list of labels in it."""

NOTHING = "(nothing)"
"""What the class of an image without any object is called."""


@dataclass
class Predictions:
    """What a model said of samples.

    Attributes:
        uncertainty: float64, one value per sample; NaN where it is unknown
        classes: the class of each sample, or of its most uncertain object
    """

    uncertainty: np.ndarray
    classes: list[str] = field(default_factory=list)


def read_predictions(
    dataset: fo.Dataset, ids: Sequence[str], label_field: str, kind: str, measure: str, aggregation: str
) -> Predictions:
    """Measures how unsure a model was of samples.

    A label with ``scores`` (class -> score, as ``classify`` writes them) or ``logits`` is measured by these. Of others
    only the confidence is known: for the class of an image that is enough for ``least_confidence`` alone; an object or
    a tag is there with this probability, or else not.

    Args:
        dataset: the dataset
        ids: its samples
        label_field: the field with the labels of the model
        kind: the class of these labels, one of :data:`INNER`
        measure: one of :data:`~.uncertainty.MEASURES`
        aggregation: how the values of the objects of an image are put together, see :func:`~.uncertainty.aggregate`
    """
    values, classes = [np.zeros(0)], []
    for page in pages(list(ids)):
        if kind == "Classification":
            labels, *said = _columns(dataset, page, label_field, ("label", "confidence", "scores", "logits"))
            values.append(_of_classes(said[0], _scores(*said), measure))
            classes += [label or NOTHING for label in labels]
        else:
            inside = f"{label_field}.{INNER[kind]}"
            labels, *said = _columns(dataset, page, inside, ("label", "confidence", "scores"))
            counts = [len(its or ()) for its in labels]
            sure, scores = [_flat(column, counts) for column in said]
            found = MEASURES[measure](probabilities(_scores(sure, scores, alone=True)))
            # An image that was never looked at differs from one in which nothing was found.
            total = aggregate(found, counts, aggregation)
            total[[its is None for its in labels]] = np.nan
            values.append(total)
            classes += _most_uncertain(labels, found, counts)
    return Predictions(np.concatenate(values), classes)


def read_shares(dataset: fo.Dataset, ids: Sequence[str], label_field: str) -> np.ndarray:
    """The probabilities of all classes that occur, for labels of whole images with scores.

    Returns:
        float32 (samples x classes); even ones where a sample has no scores
    """
    numbers: dict[str, int] = {}
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for page in pages(list(ids)):
        for scores, logits in zip(*_columns(dataset, page, label_field, ("scores", "logits")), strict=True):
            names = list(scores) if scores else [str(n) for n in range(len(logits))] if logits is not None else []
            given = list(scores.values()) if scores else softmax(logits) if names else []
            columns = np.array([numbers.setdefault(name, len(numbers)) for name in names], int)
            found.append((columns, np.asarray(given, np.float32)))
    shares = np.zeros((len(found), max(2, len(numbers))), np.float32)
    for row, (columns, given) in zip(shares, found, strict=True):
        row[columns] = given
    total = shares.sum(axis=1, keepdims=True)
    result: np.ndarray = np.where(total > 0, shares / np.where(total > 0, total, 1), 1 / shares.shape[1])
    return result


def _columns(dataset: fo.Dataset, ids: list[str], path: str, names: Sequence[str]) -> list[list[Any]]:
    found: list[list[Any]] = dataset.select(ids, ordered=True).values([f"{path}.{name}" for name in names])
    return found


def _scores(
    confidence: Sequence[float | None], scores: Sequence[Any], logits: Sequence[Any] | None = None, *,
    alone: bool = False,
) -> list[list[float]]:  # fmt: skip
    """The scores of each label; of one without, its confidence if that can stand alone."""
    rows = []
    for sure, named, raw in zip(confidence, scores, logits or [None] * len(scores), strict=True):
        if named:
            rows.append(list(named.values()))
        elif raw is not None and len(raw):
            rows.append(softmax(raw).tolist())
        else:
            rows.append([sure] if alone and sure is not None else [])
    return rows


def _of_classes(confidence: Sequence[float | None], scores: list[list[float]], measure: str) -> np.ndarray:
    found = MEASURES[measure](probabilities(scores))
    if measure == "least_confidence":
        sure = np.array([np.nan if value is None else value for value in confidence])
        found = np.where(np.isfinite(found), found, 1 - sure)
    return found


def _flat(column: Sequence[Any], counts: Sequence[int]) -> list[Any]:
    """The values of all objects, image by image."""
    return list(chain.from_iterable(its or [None] * count for its, count in zip(column, counts, strict=True)))


def _most_uncertain(labels: Sequence[Any], values: np.ndarray, counts: Sequence[int]) -> list[str]:
    """The class of the most uncertain object of each image."""
    found, start = [], 0
    for its, count in zip(labels, counts, strict=True):
        here = values[start : start + count]
        known = np.isfinite(here).any()
        found.append((its[int(np.nanargmax(here))] if known else its[0] if count else None) or NOTHING)
        start += count
    return found
