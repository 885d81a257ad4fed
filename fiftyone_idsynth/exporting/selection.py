"""What an export consists of, decided before anything is written: samples, splits, label field, classes, licences."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import fields
from ..errors import EmptyViewError, FieldError, ParameterError, UsageError
from ..licenses import is_allowed
from ..samples import active, dataset_of, require_field
from ..stage import current_run, fingerprint
from .base import Format
from .captions import TEXT_FIELDS, one_line
from .credits import Credit, licenses_of, read_credits

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

LAYOUT = 1
"""Raised when the same dataset is written to other files than before."""


@dataclass(slots=True)
class Row:
    """One sample that is exported."""

    id: str
    filepath: str
    export_id: int
    split: str
    labels: tuple[str, ...]
    credits: list[Credit]
    score: float | None = None


@dataclass(slots=True)
class Selection:
    """What is exported.

    Attributes:
        rows: the samples in the order of their export ids
        label_field: the field that labels (or captions) are read from
        classes: all classes, in order
        size: bytes of all image files
        fingerprint: changes when anything that would be written changes
    """

    rows: list[Row]
    label_field: str | None
    classes: list[str]
    size: int
    fingerprint: str

    @property
    def splits(self) -> list[str]:
        present = {row.split for row in self.rows}
        return [name for name in fields.SPLITS if name in present]

    def split(self, name: str) -> list[Row]:
        return [row for row in self.rows if row.split == name]


@dataclass(slots=True)
class _Table:
    """The columns that are read of every sample, by name; absent fields are None throughout."""

    columns: dict[str, list[Any]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> list[Any]:
        return self.columns[name]

    @classmethod
    def read(cls, samples: SampleCollection, paths: dict[str, str]) -> _Table:
        schema = samples.get_field_schema()
        known = {name: path for name, path in paths.items() if path.partition(".")[0] in schema}
        found = dict(zip(known, samples.values(list(known.values())), strict=True)) if known else {}
        count = len(next(iter(found.values()))) if found else 0
        return cls({name: found.get(name, [None] * count) for name in paths})

    def where(self, keep: list[bool]) -> _Table:
        return _Table({name: [v for v, k in zip(c, keep, strict=True) if k] for name, c in self.columns.items()})


def choose_samples(samples: SampleCollection, *, include_rejected: bool) -> SampleCollection:
    """The images of a collection that may be exported, rejected ones only if asked for."""
    if samples.media_type != "image":
        raise UsageError(f"only images can be exported; this collection holds {samples.media_type or 'nothing'}")
    chosen = samples if include_rejected else active(samples)
    if not chosen.count():
        raise EmptyViewError(
            "samples: every sample is rejected. Bring some back (restore), or export them with include_rejected=True"
        )
    return chosen


def find_label_field(samples: SampleCollection, kind: type[Format], label_field: str | None) -> str | None:
    """The field that a format takes its labels from.

    Args:
        samples: the samples
        kind: the format
        label_field: the field that was asked for; None: the only one that fits and has a value

    Returns:
        its name; None for captions taken from :data:`~.captions.TEXT_FIELDS`
    """
    import fiftyone as fo

    if not kind.labels:
        schema = samples.get_field_schema(flat=True)
        if label_field is not None and not isinstance(schema.get(label_field), fo.StringField):
            raise FieldError(f"label_field={label_field!r}: captions are taken from a text field, and this is none")
        if label_field is None and not any(name in schema for name in TEXT_FIELDS):
            raise FieldError(f"no sample has a caption: none of the fields {', '.join(TEXT_FIELDS)} exists")
        return label_field
    kinds = tuple(getattr(fo, name) for name in kind.labels)
    if label_field is not None:
        require_field(samples, label_field, *kinds)
        return label_field
    schema = samples.get_field_schema(ftype=fo.EmbeddedDocumentField)
    fitting = [name for name, f in schema.items() if issubclass(f.document_type, kinds)]
    filled = [name for name in fitting if samples.count(name)]
    candidates = filled or fitting
    if len(candidates) == 1:
        return candidates[0]
    wanted = " or ".join(kind.labels)
    if not candidates:
        raise FieldError(f"format {kind.name!r} needs a label field of {wanted}, and these samples have none")
    raise FieldError(f"several fields hold {wanted}: choose one with label_field=: {', '.join(candidates)}")


def assign_splits(ids: list[str], tags: list[list[str]]) -> list[str]:
    """The split of each sample, from its tags; everything is ``"train"`` if no sample has a split.

    Raises:
        UsageError: some samples have a split and some have none, or one has two
    """
    found = [[name for name in fields.SPLITS if name in its] for its in tags]
    several = [sample_id for sample_id, names in zip(ids, found, strict=True) if len(names) > 1]
    if several:
        raise UsageError(
            f"{len(several)} samples are in more than one split (e.g. {several[0]}): remove one of their tags "
            f"{', '.join(fields.SPLITS)}"
        )
    without = sum(not names for names in found)
    if without == len(ids):
        return ["train"] * len(ids)
    if without:
        raise UsageError(
            f"{without} of {len(ids)} samples have no split tag ({', '.join(fields.SPLITS)}), e.g. "
            f"{ids[[bool(names) for names in found].index(False)]}. Put them in a split (stage split), or export only "
            "those that have one: samples.match_tags(['train', 'val', 'test'])"
        )
    return [names[0] for names in found]


def select(
    samples: SampleCollection,
    kind: type[Format],
    *,
    label_field: str | None,
    classes: tuple[str, ...] | None,
    masks: bool,
    unlabeled: str,
    only_licenses: tuple[str, ...] | None,
    settings: dict[str, Any],
) -> Selection:
    """Decides what is exported, from one read of the columns that matter.

    Args:
        samples: the samples, see :func:`choose_samples`; they have their export ids
        kind: the format
        label_field: see :func:`find_label_field`
        classes: the classes that were asked for; None: all that occur, sorted
        masks: whether instance masks are exported
        unlabeled: ``"keep"`` or ``"skip"`` samples whose label field is empty
        only_licenses: the licences that are allowed; None: all
        settings: parameters that change what is written; part of the fingerprint

    Returns:
        a :class:`Selection`
    """
    table = _read_columns(samples, kind, label_field, masks)
    ids = table["id"]
    credits = read_credits(dataset_of(samples), ids)
    present = [bool(text) for text in table["text"]] if not kind.labels else [v is not None for v in table["labelled"]]
    keep = [
        has_label and allowed
        for has_label, allowed in zip(
            _with_labels(present, kind, unlabeled, label_field), _with_license(ids, credits, only_licenses), strict=True
        )
    ]
    table = table.where(keep)
    if not table["id"]:
        raise EmptyViewError("nothing is left to export: no sample has both a label and a licence that is allowed")
    columns = (table["id"], table["filepath"], table["export_id"], assign_splits(table["id"], table["tags"]))
    rows = [
        Row(i, path, number, split, tuple(its_labels), credits[i], score)
        for i, path, number, split, its_labels, score in zip(
            *columns, _labels_of(table, kind), table["score"], strict=True
        )
    ]
    chosen = _choose_classes(samples, rows, classes, kind, label_field)
    size, stamp = _stamp(table, rows, {**settings, "label_field": label_field, "classes": chosen, "layout": LAYOUT})
    return Selection(sorted(rows, key=lambda row: row.export_id), label_field, chosen, size, stamp)


def _read_columns(samples: SampleCollection, kind: type[Format], label_field: str | None, masks: bool) -> _Table:
    paths = {"id": "id", "filepath": "filepath", "export_id": "export_id", "tags": "tags", "score": "quality.score"}
    paths["original"] = "source.path"
    if not kind.labels:
        texts = _Table.read(samples, {name: name for name in ([label_field] if label_field else TEXT_FIELDS)})
        table = _Table.read(samples, paths)
        choices = zip(*texts.columns.values(), strict=True)
        table.columns["text"] = [next((one_line(t) for t in choice if one_line(t)), "") for choice in choices]
        return table
    paths["labelled"] = f"{label_field}.id"
    if samples.get_field(label_field).document_type.__name__ == "Detections":
        paths["labelled"] = f"{label_field}.detections.id"
        paths |= {name: f"{label_field}.detections.{name}" for name in ("label", "bounding_box", "iscrowd")}
        if masks:
            paths["mask_path"] = f"{label_field}.detections.mask_path"
    else:
        paths |= {"label": f"{label_field}.label", "mask_path": f"{label_field}.mask_path"}
    inline = f"{paths['labelled'].removesuffix('.id')}.mask"
    if "mask_path" in paths and inline in samples.get_field_schema(flat=True) and samples.count(inline):
        paths["changed"] = "last_modified_at"  # masks that are stored in the database are too large to be compared
    return _Table.read(samples, paths)


def _labels_of(table: _Table, kind: type[Format]) -> list[list[str]]:
    if "label" not in table.columns:
        return [[] for _ in table["id"]]
    return [[v] if isinstance(v, str) else [label for label in v or () if label is not None] for v in table["label"]]


def _with_labels(present: list[bool], kind: type[Format], unlabeled: str, label_field: str | None) -> list[bool]:
    without = present.count(False)
    if without and kind.keeps_unlabelled and unlabeled == "keep":
        current_run().note(
            f"{without} images have no value in {label_field!r}: they are exported as images without objects. If "
            "nobody has looked at them yet, leave them out with unlabeled='skip'"
        )
        return [True] * len(present)
    if without:
        current_run().rejected("no label" if kind.labels else "no caption", without)
    return present


def _with_license(ids: list[str], credits: dict[str, list[Credit]], allowed: tuple[str, ...] | None) -> list[bool]:
    if allowed is None:
        return [True] * len(ids)
    keep = [all(is_allowed(credit.license, allowed) for credit in credits[i]) for i in ids]
    left_out = Counter(licenses_of(credits[i]) for i, kept in zip(ids, keep, strict=True) if not kept)
    for name, count in sorted(left_out.items()):
        current_run().rejected(f"licence {name}", count)
    if not any(keep):
        there = ", ".join(sorted(left_out))
        raise EmptyViewError(f"only_licenses={list(allowed)}: no image has one of these licences; there are {there}")
    return keep


def mask_targets(samples: SampleCollection, label_field: str) -> dict[int, str]:
    """The names of a semantic mask's pixel values, as the dataset declares them."""
    dataset = dataset_of(samples)
    declared = dataset.mask_targets.get(label_field) or dataset.default_mask_targets or {}
    if any(not isinstance(value, int) or not 0 <= value <= 255 for value in declared):
        raise FieldError(f"label_field={label_field!r}: masks are exported with pixel values 0 to 255, not as colours")
    return {int(value): str(name) for value, name in sorted(declared.items())}


def is_semantic(samples: SampleCollection, label_field: str | None) -> bool:
    """Whether a label field holds one mask per image rather than one per object."""
    return label_field is not None and samples.get_field(label_field).document_type.__name__ == "Segmentation"


def _choose_classes(
    samples: SampleCollection,
    rows: list[Row],
    classes: tuple[str, ...] | None,
    kind: type[Format],
    label_field: str | None,
) -> list[str]:
    if not kind.labels:
        return []
    if "Segmentation" in kind.labels and is_semantic(samples, label_field):
        if classes is not None:
            raise ParameterError("classes", classes, f"the classes of {label_field!r} are the dataset's mask targets")
        return [name for value, name in mask_targets(samples, str(label_field)).items() if value]
    occurring = Counter(label for row in rows for label in row.labels)
    if classes is None:
        return sorted(occurring)
    chosen = list(dict.fromkeys(classes))
    if not chosen or not set(chosen) & set(occurring):
        listed = ", ".join(sorted(occurring)) or "there is none"
        raise ParameterError("classes", classes, f"no sample has one of these; classes of {label_field!r}: {listed}")
    return chosen


def _stamp(table: _Table, rows: list[Row], settings: dict[str, Any]) -> tuple[int, str]:
    """Bytes of all image files, and a hash of everything that the export is made from.

    Files are told apart by size and time of change, so that a finished export is recognized without reading images.
    """
    total = 0
    files = []
    for path in table["filepath"]:
        size, changed = _stat(path)
        total += max(size, 0)
        files.append((size, changed))
    masks = []
    for value in table.columns.get("mask_path", ()):
        masks.append([_stat(path) for path in ([value] if isinstance(value, str) else value or ()) if path])
    columns = {name: column for name, column in table.columns.items() if name not in ("labelled", "tags")}
    order = [i for _, i in sorted((row.export_id, i) for i, row in enumerate(rows))]
    content = [[column[i] for column in columns.values()] + [rows[i].split, rows[i].credits, files[i]] for i in order]
    content.append([masks[i] for i in order] if masks else [])
    return total, fingerprint(settings, content)


def _stat(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return -1, 0
    return found.st_size, found.st_mtime_ns
