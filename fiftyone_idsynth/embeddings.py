"""Embeddings of samples: from a field, or computed into it by a model that compares images with texts."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .engine.worker import Item
from .errors import FieldError, ParameterError
from .modelling import ModelWorker
from .samples import pages
from .stage import current_run

if TYPE_CHECKING:
    import fiftyone as fo

    from .models.options import Options

IN_MEMORY = 2**28
"""Bytes of embeddings that are held in memory; more lie in a temporary file."""


class Embeddings:
    """Gives the embeddings of samples.

    Args:
        dataset: the dataset
        name: the field that holds them
        worker (None): computes those that are missing or out of date; else the field must hold them
        num_workers (None): threads that decode images
        batch_size (16): images that the model gets at once
    """

    def __init__(
        self, dataset: fo.Dataset, name: str, worker: EmbedWorker | None = None, *, num_workers: int | None = None,
        batch_size: int = 16,
    ):  # fmt: skip
        self._dataset, self._name, self._worker = dataset, name, worker
        self._num_workers, self._batch_size = num_workers, batch_size
        self._computed: set[str] = set()

    def known(self, ids: Sequence[str], compute: bool = True) -> list[str]:
        """Those of some samples that have an embedding.

        Args:
            ids: the samples
            compute (True): whether missing ones are computed now, where there is a model; else all count as known
        """
        if self._worker is not None:
            if not compute:
                return list(ids)
            self._compute(ids)
        there: set[str] = set()
        for page in pages(list(ids)):
            there.update(self._dataset.select(page).exists(self._name).values("id"))
        return [sample_id for sample_id in ids if sample_id in there]

    def of(self, ids: Sequence[str]) -> np.ndarray:
        """The embeddings of samples: float32 (samples x dimensions); rows of NaN where there is none.

        Raises:
            FieldError: they differ in length, or are no vectors
        """
        if self._worker is not None:
            self._compute(ids)
        found: np.ndarray | None = None
        start = 0
        for page in pages(list(ids)):
            for row, vector in enumerate(self._dataset.select(page, ordered=True).values(self._name), start):
                if vector is not None:
                    vector = self._checked(vector)
                    found = _empty(len(ids), vector.size) if found is None else found
                    if vector.size != found.shape[1]:
                        raise FieldError(
                            f"embeddings_field={self._name!r}: it holds vectors of {found.shape[1]} and of "
                            f"{vector.size} numbers, from different models: compute them anew into another field"
                        )
                    found[row] = vector
            start += len(page)
        return np.full((len(ids), 0), np.nan, np.float32) if found is None else found

    def _checked(self, vector: Any) -> np.ndarray:
        try:
            values = np.asarray(vector, np.float32)
        except (TypeError, ValueError):
            values = np.zeros((0, 0), np.float32)
        if values.ndim != 1 or not values.size or not np.isfinite(values).all():
            raise FieldError(
                f"embeddings_field={self._name!r}: it holds {str(vector)[:80]!r}, which is no vector of finite "
                "numbers: name a field with embeddings, or a model to compute them with"
            )
        return values

    def _compute(self, ids: Sequence[str]) -> None:
        import fiftyone as fo

        from .engine import update_samples

        ids = [sample_id for sample_id in ids if sample_id not in self._computed]
        if not ids:
            return
        assert self._worker is not None
        self._computed.update(ids)
        if self._dataset.get_field(self._name) is None:
            about = {"description": "Embedding of the image", "info": dict(self._worker.about)}
            self._dataset.add_sample_field(self._name, fo.VectorField, **about)
        self._forget(ids)
        update_samples(
            self._dataset.select(list(ids)), self._worker, batch_size=self._batch_size, num_workers=self._num_workers
        )

    def _forget(self, ids: Sequence[str]) -> None:
        """Lets embeddings be computed again that were deleted."""
        from . import fields
        from .samples import set_fields

        done = f"stages.{current_run().stage.name}"
        fields.declare(self._dataset, done)
        for page in pages(list(ids)):
            gone = self._dataset.select(page).exists(self._name, False).exists(done).values("id")
            set_fields(self._dataset, {done: dict.fromkeys(gone)})


class EmbedWorker(ModelWorker):
    """Computes embeddings of images.

    Args:
        model: the name of a model that compares images with texts
        options: how it is loaded
        field: the field that gets the embeddings
        batch_size: images that the model gets at once
    """

    def __init__(self, model: str, options: Options, field: str, batch_size: int):
        from .models.roles import Matcher

        self._field = field
        super().__init__(Matcher, model, options, [field], batch_size)

    def ask(self, pictures: Sequence[np.ndarray], items: Sequence[Item]) -> Sequence[Any]:
        return self.batches(self.model.embed, pictures)

    def values(self, item: Item, answer: Any) -> dict[str, Any]:
        return {self._field: np.asarray(answer, np.float32)}


def check_field(dataset: fo.Dataset, name: str, about: dict[str, str]) -> None:
    """Makes sure that a field, if there is one of this name, is for the embeddings of a model, and of no other one.

    Raises:
        ParameterError: it holds something else
    """
    import fiftyone as fo

    field = dataset.get_field(name)
    if field is None:
        return
    if not isinstance(field, fo.VectorField):
        problem = f"this field holds other values ({type(field).__name__}): choose another name"
        raise ParameterError("embeddings_field", name, problem)
    if (field.info or {}) != about:
        made_by = f"by {field.info['model']}" if field.info and "model" in field.info else "otherwise"
        problem = f"its embeddings were made {made_by}, which do not compare with those of {about['model']}"
        raise ParameterError("embeddings_field", name, f"{problem}: choose another name, or leave out the model")


def _empty(samples: int, dimensions: int) -> np.ndarray:
    """Room for embeddings, filled with NaN."""
    if samples * dimensions * 4 <= IN_MEMORY:
        return np.full((samples, dimensions), np.nan, np.float32)
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the mapping needs it for as long as it lives
    room = np.memmap(file, np.float32, "w+", shape=(samples, dimensions))
    for start in range(0, samples, 4096):
        room[start : start + 4096] = np.nan
    return room
