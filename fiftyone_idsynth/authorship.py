"""Who wrote a label: what a model wrote it may write again; what a person made, changed or removed it never touches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from . import fields
from .runs import fingerprint

if TYPE_CHECKING:
    import fiftyone as fo

_VOLATILE = {"_id", "_cls", "tags", "_media_path", "_dataset_id"}

_MATCHES = {"tp", "fp", "fn"}
"""What FiftyOne's evaluation writes into labels: ``KEY``, beside ``KEY_id`` and ``KEY_iou``."""


def checksum(value: Any) -> str:
    """A short hash of a label's content, the same before and after it was in the database; of nothing it is empty.

    Ids, the tags of labels and the marks of an evaluation do not count, so that tagging or evaluating labels is not
    taken for changing them.

    Args:
        value: a FiftyOne label, a plain value, or ``None``
    """
    return "" if value is None else fingerprint(_content(value))


def declare_authors(dataset: fo.Dataset, paths: Iterable[str]) -> None:
    """Makes sure that it can be noted what models wrote in some fields."""
    fields.declare(dataset, "authors", *(f"authors.{path}" for path in paths))


def authors_of(values: dict[str, Any]) -> dict[str, str]:
    """What to note beside values that a model wrote, so that a later change is recognised.

    Args:
        values: path of a field -> its value

    Returns:
        path of the note -> the note
    """
    return {f"authors.{path}": checksum(value) or "none" for path, value in values.items()}


def written_by_people(dataset: fo.Dataset, ids: Sequence[str], paths: Sequence[str]) -> dict[str, set[str]]:
    """The fields that hold what a person made, changed or removed.

    Args:
        dataset: the dataset
        ids: samples
        paths: fields that a model is about to write; all declared

    Returns:
        sample id -> paths of such fields; samples without any are left out
    """
    found: dict[str, set[str]] = {}
    if not ids or not paths:
        return found
    columns = dataset.select(list(ids)).values(["id", *paths, *(f"authors.{path}" for path in paths)])
    for sample_id, *values in zip(*columns, strict=True):
        now, noted = values[: len(paths)], values[len(paths) :]
        theirs = {path for path, value, note in zip(paths, now, noted, strict=True) if _differs(value, note)}
        if theirs:
            found[sample_id] = theirs
    return found


def _differs(value: Any, note: str | None) -> bool:
    """Whether a field holds something else than what a model noted that it wrote there."""
    return (checksum(value) or "none") != note if note else checksum(value) != ""


def _content(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, dict):
        marks = {k + end for k, v in value.items() if _is_match(k, v, value) for end in ("", "_id", "_iou")}
        left_out = _VOLATILE | marks
        return {k: _content(v) for k, v in value.items() if k not in left_out and v is not None and v != {}}
    if isinstance(value, (list, tuple)):
        return [_content(element) for element in value]
    return value


def _is_match(name: str, value: Any, label: dict[str, Any]) -> bool:
    return isinstance(value, str) and value in _MATCHES and f"{name}_id" in label
