"""What people are to be asked about a dataset: the kind of label, the classes, and what a model says already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from ...errors import FieldError, ParameterError, suggestion
from .config import Labelling

if TYPE_CHECKING:
    import fiftyone as fo
    from fiftyone.core.collections import SampleCollection

KINDS = {
    "classification": "Classification", "classifications": "Classifications", "detections": "Detections",
    "instances": "Instances", "polylines": "Polylines", "keypoints": "Keypoints", "segmentation": "Segmentation",
    "text": "str",
}  # fmt: skip
"""Label type, as FiftyOne's annotation API names it -> what people are asked for; instances are masked detections."""

MODEL_FIELDS = {
    "Classification": "classification", "Classifications": "content_tags", "Detections": "detections",
    "Segmentation": "segmentation", "str": "caption",
}  # fmt: skip
"""Kind of label -> the field that is looked for what a model says, unless another one is named."""


@dataclass(frozen=True)
class Question:
    """What people are asked.

    Attributes:
        label_field: the field for their answers
        kind: what both fields hold
        predictions: the field with what a model says, if there is one
        labelling: the labelling configuration
    """

    label_field: str
    kind: str
    predictions: str | None
    labelling: Labelling

    @classmethod
    def of(
        cls, samples: SampleCollection, dataset: fo.Dataset, label_field: str, label_type: str | None,
        classes: Sequence[str], predictions: str | None,
    ) -> Question:  # fmt: skip
        """Finds out what is not said, and refuses what does not fit together."""
        if not label_field.isidentifier():
            raise ParameterError("label_field", label_field, "give the name of a field: letters, digits and _")
        if predictions is not None and predictions == label_field:
            problem = "this is the field for people's answers: name that of a model"
            raise ParameterError("prediction_field", predictions, problem)
        kind = _kind(dataset, label_field, label_type, predictions)
        if predictions is None:
            named = MODEL_FIELDS.get(_held(kind))
            there = named is not None and named != label_field and _kind_of(dataset, named) == _held(kind)
            predictions = named if there else None
        elif _kind_of(dataset, predictions) != _held(kind):
            has = _kind_of(dataset, predictions)
            raise FieldError(f"prediction_field={predictions!r}: holds {has}, and people are asked for {_held(kind)}")
        if kind == "Segmentation" and predictions:
            _share_targets(dataset, label_field, predictions)
        names = _classes(dataset, samples, kind, [label_field, *([predictions] if predictions else [])], classes)
        return cls(label_field, _held(kind), predictions, Labelling.of(dataset, {label_field: kind}, names))


def _held(kind: str) -> str:
    """What a field holds for what people are asked for."""
    return "Detections" if kind == "Instances" else kind


def _share_targets(dataset: fo.Dataset, label_field: str, predictions: str) -> None:
    """Gives the values in people's masks the meaning that they have in those of the model."""
    theirs = dataset.mask_targets.get(predictions) or dataset.default_mask_targets
    own = dataset.mask_targets.get(label_field) or dataset.default_mask_targets
    if theirs and not own:
        dataset.mask_targets[label_field] = theirs
        dataset.save()
    elif theirs and own and any(own.get(value, name) != name for value, name in theirs.items()):
        raise FieldError(
            f"the values in the masks of {predictions!r} mean something else than in those of {label_field!r}: give "
            "both fields the same mask targets"
        )


def _kind_of(dataset: fo.Dataset, name: str) -> str | None:
    import fiftyone as fo

    found = dataset.get_field(name)
    if found is None:
        return None
    if isinstance(found, fo.StringField):
        return "str"
    return str(getattr(found, "document_type", type(found)).__name__)


def _kind(dataset: fo.Dataset, label_field: str, label_type: str | None, predictions: str | None) -> str:
    has = _kind_of(dataset, label_field)
    said = _kind_of(dataset, predictions) if predictions else None
    if predictions and said is None:
        known = [name for name in dataset.get_field_schema() if _kind_of(dataset, name) in KINDS.values()]
        raise FieldError(f"prediction_field={predictions!r}: there is no such field: {suggestion(predictions, known)}")
    if label_type is not None:
        if has not in (None, _held(KINDS[label_type])):
            problem = f"the field {label_field!r} holds {has}: name another label_field, or leave label_type out"
            raise ParameterError("label_type", label_type, problem)
        return KINDS[label_type]
    for name, kind in ((label_field, has), (predictions, said)):
        if kind is not None:
            if kind not in KINDS.values():
                raise FieldError(f"{name!r} holds {kind}, which people cannot be asked for in Label Studio")
            return kind
    models = [kind for kind, name in MODEL_FIELDS.items() if kind != "str" and _kind_of(dataset, name) == kind]
    if len(models) == 1:
        return models[0]
    raise ParameterError(
        "label_type", label_type, f"is needed, because the dataset has no field {label_field!r} yet: one of "
        f"{', '.join(KINDS)}"
    )  # fmt: skip


def _classes(
    dataset: fo.Dataset, samples: SampleCollection, kind: str, names: Sequence[str], given: Sequence[str]
) -> tuple[str, ...]:
    """The classes that people choose from, those that were named first."""
    if kind == "str":
        return ()
    if kind == "Segmentation":
        targets = [dataset.mask_targets.get(name) or dataset.default_mask_targets or {} for name in names]
        found = [str(label) for its in targets for value, label in its.items() if value != 0]
    else:
        found = list(chain.from_iterable(dataset.classes.get(name) or dataset.default_classes or () for name in names))
        found += list(chain.from_iterable(_labels(samples, name) for name in names))
    unknown = sorted(set(_labels(samples, names[-1])) - set(given)) if given and kind != "Segmentation" else []
    if unknown and len(names) > 1:
        problem = f"the predictions in {names[-1]!r} also name {', '.join(unknown[:10])}: add them, or map them first"
        raise ParameterError("classes", list(given), problem)
    return tuple(dict.fromkeys(given or found))


def _labels(samples: SampleCollection, name: str) -> list[str]:
    """The labels that occur in a field."""
    import fiftyone as fo

    found = samples.get_field(name)
    kind = getattr(found, "document_type", None)
    if kind is None or not issubclass(kind, fo.Label) or kind is fo.Segmentation:
        return []
    inner = getattr(kind, "_LABEL_LIST_FIELD", None)
    path = f"{name}.{inner}.label" if inner else f"{name}.label"
    return sorted(str(label) for label in samples.distinct(path) if label)
