"""Classes of images, and how far annotators agree, as ``agree`` measures it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import FieldError, ParameterError
from ...samples import dataset_of, pages

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

LABELS_IN = {
    "Classification": "label",
    "Classifications": "classifications.label",
    "Detections": "detections.label",
    "Polylines": "polylines.label",
}
"""The kinds of labels that have classes, and where."""

DEFAULT_FIELDS = ("ground_truth", "classification", "detections")
"""The fields that are looked for classes, unless one is named."""


def label_path(samples: SampleCollection, name: str | None, reference: SampleCollection | None = None) -> str | None:
    """The path of the classes, e.g. ``"ground_truth.detections.label"``, or ``None`` where there is no such field.

    Args:
        samples: the images
        name: a field; by default the first of :data:`DEFAULT_FIELDS` that there is
        reference (None): images that must have the field, too

    Raises:
        FieldError: the field that is named is missing or has no classes
    """
    import fiftyone as fo

    from ...samples import require_field

    kinds = [getattr(fo, kind) for kind in LABELS_IN]
    if name is not None:
        for view in (samples, reference):
            if view is not None:
                require_field(view, name, *kinds)
    for path in (name,) if name else DEFAULT_FIELDS:
        kind = getattr(samples.get_field(path), "document_type", None)
        other = reference is None or getattr(reference.get_field(path), "document_type", None) is kind
        if kind is not None and kind.__name__ in LABELS_IN and other:
            return f"{path}.{LABELS_IN[kind.__name__]}"
    return None


def count_classes(samples: SampleCollection, path: str) -> dict[str, int]:
    """Class -> number of labels, the most frequent first; counted by the database."""
    found = {str(name): count for name, count in samples.count_values(path).items() if name is not None}
    return dict(Counter(found).most_common())


def agreement_of(samples: SampleCollection, annotators: Sequence[str]) -> np.ndarray:
    """How far annotators agree about each image: 1 minus the disagreement that ``agree`` finds, 0 to 1.

    Args:
        samples: the images
        annotators: label fields to compare, e.g. that of a model and that of people; without any, what ``agree`` has
            stored counts

    Returns:
        one number for each image that two annotators at least have judged
    """
    if not annotators:
        return 1 - np.array([value for value in samples.values("disagreement") if value is not None], float)
    import fiftyone as fo

    from ...annotation.agreement import KINDS, AgreeWorker
    from ...engine import Item
    from ...samples import require_field

    if len(set(annotators)) < 2 or len(set(annotators)) < len(annotators):
        raise ParameterError("annotators", list(annotators), "name two or more label fields, each once")
    for name in annotators:
        require_field(samples, name, *(getattr(fo, kind) for kind in KINDS), parameter="annotators")
    kinds = {samples.get_field(name).document_type.__name__ for name in annotators}
    if len(kinds) > 1:
        raise FieldError(
            f"annotators={list(annotators)}: fields of one kind can be compared, these are of {len(kinds)}"
        )
    worker = AgreeWorker(annotators, kinds == {"Detections"}, 0.5, None, "consensus", None)
    dataset, found = dataset_of(samples), list[Any]()
    known = [path for path in worker.fields if dataset.has_field(path)]
    for page in pages(samples.values("id")):
        columns = dict(zip(known, dataset.select(page).values(known), strict=True))
        nothing = [None] * len(page)
        rows = zip(*(columns.get(path, nothing) for path in worker.fields), strict=True)
        items = [Item("", "", dict(zip(worker.fields, row, strict=True))) for row in rows]
        found += [values["disagreement"] for values in worker(items)]
    return 1 - np.array([value for value in found if value is not None], float)
