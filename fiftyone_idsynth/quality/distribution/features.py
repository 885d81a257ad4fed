"""The embeddings of the samples and of the reference: found, computed where they are missing, and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ...errors import EmptyViewError, FieldError, ParameterError
from ...samples import active, dataset_of, require_samples
from ...stage import current_run
from . import inception

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

    from ...models.options import Options

DEFAULT_FIELD = "embedding"


@dataclass(frozen=True)
class Source:
    """Where embeddings come from.

    Attributes:
        field: the field that holds them
        worker: computes those that are missing, if there is a model
        name: what they are called for people, e.g. ``"InceptionV3"`` or the name of a model
        canonical: whether they are the InceptionV3 features that the FID is defined with
    """

    field: str
    worker: Any
    name: str
    canonical: bool

    @property
    def on(self) -> str:
        """What follows the name of a figure."""
        return "" if self.canonical else f" on {self.name}"


@dataclass(frozen=True)
class Side:
    """The samples or the reference.

    Attributes:
        view: the samples
        ids: of those that have an embedding
        paths: their images
        vectors: float32 (ids x dimensions)
    """

    view: SampleCollection
    ids: list[str]
    paths: list[str]
    vectors: np.ndarray


def find_source(
    samples: SampleCollection, field: str | None, model: str | None, weights: Path | None, wants_inception: bool,
    options: Options, batch_size: int,
) -> Source | None:  # fmt: skip
    """Decides which embeddings are measured.

    Args:
        samples: the samples
        field: the field that is named, if any
        model: the model that is named, if any
        weights: the weights of InceptionV3, or a folder with them, if they are named
        wants_inception: whether the figures asked for need InceptionV3
        options: how a model is loaded
        batch_size: images that it gets at once

    Returns:
        the source, or ``None`` if there are no embeddings

    Raises:
        ParameterError: the parameters contradict one another, or there is no such field
    """
    if model is not None and weights is not None:
        raise ParameterError("model", model, "give either a model or inception_weights: figures are of one embedding")
    if model is not None and wants_inception:
        raise ParameterError(
            "model", model, "fid, kid and inception_score are defined with InceptionV3: leave out the model, or "
            "measure frechet_distance and kernel_distance"
        )  # fmt: skip
    dataset = dataset_of(samples)
    if model is not None:
        from ...embeddings import EmbedWorker

        name = field or DEFAULT_FIELD
        return _made(samples, EmbedWorker(model, options, name, batch_size), name, model, canonical=False)
    asked = weights is not None or wants_inception or (field is None and dataset.get_field(DEFAULT_FIELD) is None)
    file = inception.find_weights(weights) if asked else None
    if file is not None:
        name = field or inception.FIELD
        worker = inception.InceptionWorker(file, name, options.device)
        return _made(samples, worker, name, "InceptionV3", canonical=True)
    if wants_inception and field is None:
        field = inception.FIELD if dataset.get_field(inception.FIELD) is not None else None
    name = field or DEFAULT_FIELD
    if dataset.get_field(name) is None:
        if field is not None:
            problem = "there is no such field: name one with embeddings, or a model that computes them"
            raise ParameterError("embeddings_field", field, problem)
        return None
    about = dataset.get_field(name).info or {}
    canonical = about.get("model") == inception.MODEL
    return Source(name, None, "InceptionV3" if canonical else str(about.get("model") or name), canonical)


def _made(samples: SampleCollection, worker: Any, field: str, name: str, canonical: bool) -> Source:
    from ...embeddings import check_field

    if not field.isidentifier():
        raise ParameterError("embeddings_field", field, "give the name of a field: letters, digits and _")
    check_field(dataset_of(samples), field, worker.about)
    worker.record()
    return Source(field, worker, name, canonical)


def find_reference(samples: SampleCollection, reference: SampleCollection) -> tuple[SampleCollection, SampleCollection]:
    """The samples and the reference without rejected samples, and without each other's.

    Raises:
        EmptyViewError: nothing is left of one of them
        ParameterError: the reference is the samples themselves
    """
    reference = active(reference)
    require_samples(reference, "reference")
    if dataset_of(samples) is not dataset_of(reference):
        return samples, reference
    theirs = reference.values("id")
    own, shared = set(samples.values("id")), set(theirs)
    if own == shared:
        raise ParameterError(
            "reference", dataset_of(reference).name, "these are the samples themselves: name other images, e.g. a "
            "saved view or a tag of the real ones (DATASET:VIEW, DATASET#TAG)"
        )  # fmt: skip
    both = own & shared
    if both:
        samples = samples.exclude(list(both))
        if not samples.count():
            raise EmptyViewError("samples: all of them are in the reference, too: choose other samples or reference")
        current_run().note(f"{len(both)} images are in both: they count as reference only")
    return samples, reference


def check_same(source: Source, samples: SampleCollection, reference: SampleCollection) -> None:
    """Refuses embeddings of another model in the dataset of the reference.

    Raises:
        FieldError: the reference has none, or they were made otherwise
    """
    import fiftyone as fo

    field = dataset_of(reference).get_field(source.field)
    if field is None and source.worker is None:
        raise FieldError(
            f"embeddings_field={source.field!r}: the reference, dataset {dataset_of(reference).name!r}, has no such "
            "field: name a model, which computes the embeddings of both"
        )
    if dataset_of(samples) is dataset_of(reference):
        return
    if source.worker is not None:
        from ...embeddings import check_field

        check_field(dataset_of(reference), source.field, source.worker.about)
        return
    own = dataset_of(samples).get_field(source.field)
    said = [(f.info or {}) if isinstance(f, fo.Field) else {} for f in (own, field)]
    if all(said) and said[0] != said[1]:
        names = [" ".join(str(info.get(key, "")) for key in ("model", "revision")).strip() for info in said]
        raise FieldError(
            f"embeddings_field={source.field!r}: the samples' embeddings are of {names[0]}, those of the reference of "
            f"{names[1]}: compute both with one model (model=...) into another field"
        )
    if said[0] != said[1]:
        current_run().note(f"it is not recorded which model made the embeddings {source.field!r} of both datasets")


def read_side(
    what: str, view: SampleCollection, source: Source, batch_size: int, num_workers: int | None
) -> Side:  # fmt: skip
    """The embeddings of samples; those that are missing are computed where there is a model.

    Raises:
        FieldError: no image has one
    """
    from ...embeddings import Embeddings

    dataset = dataset_of(view)
    table = Embeddings(
        dataset, source.field, cast(Any, source.worker), num_workers=num_workers, batch_size=batch_size
    )  # fmt: skip
    ids, paths = view.values(["id", "filepath"])
    known = set(table.known(ids))
    if not known:
        raise FieldError(
            f"embeddings_field={source.field!r}: no image of the {what} has an embedding: name another field, or a "
            "model that computes them"
        )
    if len(known) < len(ids):
        current_run().note(f"{len(ids) - len(known)} images of the {what} have no embedding and were left out")
    rows = [(i, path) for i, path in zip(ids, paths, strict=True) if i in known]
    kept = [i for i, _ in rows]
    return Side(view, kept, [path for _, path in rows], table.of(kept))


def check_sizes(source: Source, sides: Sequence[Side]) -> None:
    """Refuses embeddings of different lengths.

    Raises:
        FieldError: the samples' embeddings are of another length than those of the reference
    """
    lengths = [side.vectors.shape[1] for side in sides]
    if len(set(lengths)) > 1:
        raise FieldError(
            f"embeddings_field={source.field!r}: the samples' embeddings have {lengths[0]} numbers, those of the "
            f"reference {lengths[1]}, from different models: compute both with one model (model=...) into another field"
        )
    if source.canonical and lengths[0] != inception.DIMENSIONS:
        raise FieldError(
            f"embeddings_field={source.field!r}: features of InceptionV3 have {inception.DIMENSIONS} numbers, these "
            f"have {lengths[0]}: compute them anew with inception_weights into another field"
        )
