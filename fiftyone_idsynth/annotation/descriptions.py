"""What a model is to look for, as a person writes it, and per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import FieldError, ParameterError, suggestion
from ..models.regions import background_texts, known_classes

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

Classes = dict[str, tuple[str, ...]]
"""Label -> the texts that describe it, each enough."""


def parse_classes(classes: Sequence[str], parameter: str = "classes") -> Classes:
    """Reads class descriptions.

    Args:
        classes: each a text, texts with ``|`` between them, of which the first is the label, or ``label=text|text``
        parameter ("classes"): for messages

    Raises:
        ParameterError: one is empty, or a label occurs twice
    """
    found: Classes = {}
    for written in classes:
        label, equals, described = written.partition("=")
        parts = (part.strip() for part in (described if equals else written).split("|"))
        texts = tuple(dict.fromkeys(part for part in parts if part))
        name = label.strip() if equals else texts[0] if texts else ""
        if not texts or not name:
            raise ParameterError(parameter, written, "write a text, 'text|text' or 'label=text|text'")
        if name in found:
            raise ParameterError(
                parameter, name, f"is named twice; join the texts: '{name}={'|'.join(found[name])}|...'"
            )
        found[name] = texts
    return found


def class_path(samples: SampleCollection, field: str) -> str:
    """The path of the classes in a field.

    Args:
        samples: the samples
        field: a field with a classification, with several, or with text

    Raises:
        FieldError: there is no such field, or it holds something else
    """
    import fiftyone as fo

    parts = {fo.Classification: ".label", fo.Classifications: ".classifications.label"}
    schema = samples.get_field_schema(flat=True)
    fitting = {
        name: name + parts.get(getattr(found, "document_type", None), "")
        for name, found in schema.items()
        if isinstance(found, fo.StringField) or getattr(found, "document_type", None) in parts
    }
    if field not in fitting:
        problem = "must hold a Classification, Classifications or text" if field in schema else "there is no such field"
        raise FieldError(f"classes_field={field!r}: {problem}: {suggestion(field, fitting)}")
    return fitting[field]


def classes_of(named: Any, classes: Classes) -> Classes:
    """What to look for in an image that has a class, or several.

    Args:
        named: the value of its field
        classes: the descriptions to choose from; by default the names describe themselves

    Returns:
        those descriptions whose label or one of whose texts is among the names, in any case
    """
    names = [name.strip() for name in ([named] if isinstance(named, str) else named or ()) if name and name.strip()]
    if not classes:
        return {name: (name,) for name in dict.fromkeys(names)}
    spelt = {name.casefold() for name in names}
    return {label: texts for label, texts in classes.items() if spelt & {t.casefold() for t in (label, *texts)}}


def check_classes(model: Any, classes: Classes, background: Sequence[str]) -> None:
    """Sees to it that a model can look for classes, before any image is opened.

    Args:
        model: with ``name`` and ``classes``
        classes: what to look for; empty for all that it knows
        background: what is left out

    Raises:
        ParameterError: it takes no such classes
    """
    if not model.classes:
        return
    known_classes(classes, model.classes, model.name)
    spelt = {name.casefold() for name in model.classes}
    for text in background_texts(background):
        if text.casefold() not in spelt:
            problem = f"{model.name} does not know it: {suggestion(text, model.classes)}"
            raise ParameterError("background", text, problem)
