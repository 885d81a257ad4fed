"""The training of the linear model on embeddings of samples."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ...embeddings import Embeddings
from ...errors import FieldError, ParameterError
from ...stage import Run
from ...training_folder import TrainingFolder
from .answers import Answered
from .linear import LinearModel, fit_linear
from .metrics import class_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence


def train_linear(
    found: Answered,
    classes: Sequence[str],
    held_out: set[str],
    folder: TrainingFolder,
    run: Run,
    *,
    embeddings_field: str,
    penalty: float,
    parameters: Mapping[str, Any],
) -> dict[str, Any] | None:
    """Trains the linear model on the embeddings of samples, and finishes its folder.

    Args:
        found: the samples, whose answers are names of classes
        classes: the classes, in their order
        held_out: the samples that validate
        folder: where it goes
        run: is told what is left out
        embeddings_field: the field with the embeddings
        penalty: strength of the penalty on large weights
        parameters: what else decides the weights

    Returns:
        what came of it; None if the folder holds this training already

    Raises:
        FieldError: there are no embeddings
        ParameterError: the folder holds another training
    """
    if run.dataset.get_field(embeddings_field) is None:
        raise ParameterError(
            "embeddings_field", embeddings_field, "there is no such field: name one with embeddings (select_uncertain "
            "computes them with model='openai/clip-vit-base-patch32'), or name a model of transformers instead of "
            "'linear'"
        )  # fmt: skip
    ids = list(found.answers)
    vectors = Embeddings(run.dataset, embeddings_field).of(ids)
    there = np.isfinite(vectors).all(axis=1) & (vectors.shape[1] > 0)
    if not there.any():
        raise FieldError(
            f"embeddings_field={embeddings_field!r}: none of the {len(ids)} labelled images has an embedding: name "
            "another field, or let select_uncertain compute them (its parameter model)"
        )
    found.left_out["without an embedding"] += int((~there).sum())
    numbers = np.array([classes.index(found.answers[i]) for i in ids])
    validating = np.array([i in held_out for i in ids])
    rows = np.flatnonzero(there & ~validating)
    named = [name for number, name in enumerate(classes) if (numbers[rows] == number).any()]
    check_classes(named, [found.answers[ids[row]] for row in rows])
    images = {
        ids[row]: {
            "file": found.files[ids[row]],
            "embedding": hashlib.blake2b(vectors[row].tobytes(), digest_size=8).hexdigest(),
            "answer": found.answers[ids[row]],
            "validates": bool(validating[row]),
        }
        for row in np.flatnonzero(there)
    }
    folder.claim_for({**parameters, "classes": named, "penalty": penalty}, images)
    if folder.result:
        return None
    positions = np.array([named.index(found.answers[ids[row]]) for row in rows])
    model = fit_linear(vectors[rows], positions, named, penalty)
    field = run.dataset.get_field(embeddings_field)
    model.save(folder.path, {"embeddings_field": embeddings_field, "embeddings_made_by": dict(field.info or {})})
    result = {
        "images": len(rows),
        "images_of_each_class": dict(Counter(found.answers[ids[row]] for row in rows).most_common()),
        **_validated(model, vectors, [found.answers[i] for i in ids], np.flatnonzero(there & validating)),
    }
    folder.finish(result)
    return result


def check_classes(named: Sequence[str], answers: Sequence[str]) -> None:
    """Raises :class:`FieldError` unless there are two classes at least to tell apart."""
    if len(named) < 2:
        seen = f"all {len(answers)} images to train on are of the class {named[0]!r}" if named else "there are none"
        raise FieldError(f"a classifier tells classes apart, and {seen}: label images of another class")


def _validated(model: LinearModel, vectors: np.ndarray, answers: Sequence[str], rows: np.ndarray) -> dict[str, Any]:
    if not len(rows):
        return {}
    best = model.probabilities(vectors[rows]).argmax(axis=1)
    said = [model.classes[number] for number in best]
    return {"validation_images": len(rows), "validation": class_metrics([answers[row] for row in rows], said)}
