"""What is written about a sample: the text that prompts are made of, and the classes of its objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .errors import FieldError, suggestion

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

PROMPT = "lineage.params.prompt"
"""The prompt of a generated image."""

TEXT_FIELDS = ("training_text", "caption", PROMPT, "content_tags", "classification")
"""Where a sample's text is looked for, the fullest first."""

_KINDS = ("Classification", "Classifications")


def text_fields(samples: SampleCollection, name: str | None, parameter: str = "text_field") -> tuple[str, ...]:
    """The fields that hold the text of samples.

    Args:
        samples: a dataset or view
        name: the field that the user names, or ``None`` for those of :data:`TEXT_FIELDS` that there are
        parameter ("text_field"): the parameter that names it

    Raises:
        FieldError: the field has no text
    """
    import fiftyone as fo

    texts = [path for path in samples.get_field_schema(ftype=fo.StringField) if path not in ("id", "filepath")]
    labels = samples.get_field_schema(ftype=fo.EmbeddedDocumentField)
    kinds = tuple(getattr(fo, kind) for kind in _KINDS)
    if samples.has_field("lineage.params"):
        texts.append(PROMPT)
    known = [*texts, *(path for path, field in labels.items() if issubclass(field.document_type, kinds))]
    if name is None:
        return tuple(path for path in TEXT_FIELDS if path in known)
    if name not in known:
        raise FieldError(f"{parameter}={name!r}: must be a field that holds text, tags or a class: "
                         f"{suggestion(name, known)}")  # fmt: skip
    return (name,)


def text_of(values: Mapping[str, Any], fields: Iterable[str], leave_out: Iterable[str] = ()) -> str:
    """The text of a sample: a caption as it is, tags and classes with commas between them.

    Args:
        values: field -> value
        fields: where it is looked for; the first that says something counts
        leave_out (()): tags that do not count, as :func:`plain` spells them

    Returns:
        the text; empty if there is none
    """
    without = set(leave_out)
    for name in fields:
        value = values.get(name)
        if without or not isinstance(value, str):
            parts = value.split(",") if isinstance(value, str) else labels_of(value)
            value = ", ".join(part.strip() for part in parts if part.strip() and plain(part) not in without)
        if text := " ".join(value.split()):
            return text
    return ""


def labels_of(value: Any) -> list[str]:
    """The names in a label: the class, or those of all its tags or objects, each once, with spaces."""
    many = getattr(value, "_LABEL_LIST_FIELD", None)
    labels = getattr(value, many) if many else [value]
    names = (getattr(label, "label", None) for label in labels)
    return list(dict.fromkeys(name.replace("_", " ") for name in names if name))


def plain(tag: str) -> str:
    """A tag in the spelling that is compared: lower case, with spaces."""
    return " ".join(tag.lower().replace("_", " ").replace("-", " ").split())
