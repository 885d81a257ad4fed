"""What the linear model says of the samples of a dataset, written in bulk.

Labels of 1,797 samples take 0.3 s this way; made and written as objects one by one they take 2 s, which a loop that
predicts after every few answers would mostly wait for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from ...annotation.scoring import SCORES_KEPT
from ...authorship import checksum, declare_authors, written_by_people
from ...samples import pages
from ...stage import Run

if TYPE_CHECKING:
    import fiftyone as fo

    from ...embeddings import Embeddings
    from .linear import LinearModel


def write_classes(
    dataset: fo.Dataset, ids: Sequence[str], model: LinearModel, embeddings: Embeddings, field: str,
    threshold: float, about: Mapping[str, str], run: Run,
) -> None:  # fmt: skip
    """Gives samples the class that the model finds likeliest; what people wrote stays.

    Args:
        dataset: the dataset
        ids: its samples, all with an embedding
        model: the model
        embeddings: gives the embeddings
        field: the field that gets the classes; it is declared
        threshold: the least probability of a class
        about: what each label says of its model
        run: counts, and is told how far it is
    """
    declare_authors(dataset, [field])
    with run.progress(len(ids)) as bar:
        for page in pages(list(ids)):
            scores = model.probabilities(embeddings.of(page))
            labels = [_label(row, model.classes, threshold, about) for row in scores]
            changed = _write(dataset, page, field, labels, run)
            run.processed(changed)
            bar.update(len(page))


def _label(
    scores: np.ndarray, classes: Sequence[str], threshold: float, about: Mapping[str, str]
) -> dict[str, Any] | None:
    """The label as it is stored."""
    best = np.argsort(-scores, kind="stable")[:SCORES_KEPT]
    if scores[best[0]] < threshold:
        return None
    shares = {classes[number]: float(scores[number]) for number in best}
    name, confidence = next(iter(shares.items()))
    return {
        "_cls": "Classification", "tags": [], "label": name, "confidence": confidence, "scores": shares, **about,
    }  # fmt: skip


def _write(dataset: fo.Dataset, page: list[str], field: str, labels: Sequence[dict[str, Any] | None], run: Run) -> int:
    """Writes the labels that are new, and notes who wrote them; returns how many."""
    from bson import ObjectId
    from pymongo import UpdateOne

    note = f"authors.{field}"
    now, noted = dataset.select(page, ordered=True).values([field, note], _raw=True)
    sums = [checksum(label) or "none" for label in now]
    # As they are stored, labels are compared many times as fast as when objects are made of them, which decide.
    unsure = [i for i, its, by in zip(page, sums, noted, strict=True) if (its != by if by else its != "none")]
    people = written_by_people(dataset, unsure, [field])
    run.left_to_people(list(people))
    time = datetime.now(UTC)
    updates, changed = [], []
    for sample_id, before, by, label in zip(page, sums, noted, labels, strict=True):
        new = checksum(label) or "none"
        if sample_id in people or (by and new == by and (before == by or sample_id in unsure)):
            run.skipped(1)
            continue
        stored = label and {"_id": ObjectId(), **label}
        values = {field: stored, note: new, "last_modified_at": time}
        updates.append(UpdateOne({"_id": ObjectId(sample_id)}, {"$set": values}))
        changed.append(sample_id)
    if updates:
        dataset._bulk_write(updates, ids=changed)
    return len(changed)
