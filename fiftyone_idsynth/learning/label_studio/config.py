"""What people are asked in Label Studio: the labelling configuration, made from a dataset's classes and label types."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import FieldError, ParameterError, suggestion
from .errors import ProjectError
from .keys import IMAGE_FIELD

if TYPE_CHECKING:
    import fiftyone as fo

OBJECT = "image"
"""The name of the picture that all controls belong to."""

KINDS = {
    "Classification": "Choices",
    "Classifications": "Choices",
    "Detections": "RectangleLabels",
    "Instances": "BrushLabels",
    "Polylines": "PolygonLabels",
    "Keypoints": "KeyPointLabels",
    "Segmentation": "BrushLabels",
    "str": "TextArea",
    "list[str]": "TextArea",
}
"""What people can be asked for -> the tag that asks for it. ``Instances`` are detections with a mask each."""

_OPTIONS: dict[str, dict[str, str]] = {
    "Classification": {"choice": "single", "showInline": "true"},
    "Classifications": {"choice": "multiple", "showInline": "true"},
    "Detections": {"canRotate": "true"},
    "str": {"rows": "3", "editable": "true", "maxSubmissions": "1"},
    "list[str]": {"rows": "1", "editable": "true"},
}

_KIND_ATTRIBUTE = "idsynth_kind"
_FIELD_ATTRIBUTE = "idsynth_field"
_UNSPEAKABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Control:
    """One question that people are asked.

    Attributes:
        name: its name in the configuration and in results
        tag: ``"Choices"``, ``"RectangleLabels"``, ``"PolygonLabels"``, ``"BrushLabels"``, ``"KeyPointLabels"`` or
            ``"TextArea"``
        field: the sample field that the answers belong to
        kind: what the field holds: the name of a FiftyOne label class, ``"str"`` or ``"list[str]"``
        classes: the classes to choose from; none for text
        targets: for a segmentation, the value of each class in masks, 1..255 or more
    """

    name: str
    tag: str
    field: str
    kind: str
    classes: tuple[str, ...] = ()
    targets: tuple[int, ...] = ()

    @property
    def type(self) -> str:
        """The type of its results, which is also where they keep their labels."""
        return self.tag.lower()

    @property
    def mask_targets(self) -> dict[int, str]:
        """Value in a mask -> class."""
        return dict(zip(self.targets, self.classes, strict=True))


@dataclass(frozen=True)
class Labelling:
    """What people are asked about each image.

    Attributes:
        controls: the questions
        others: names of controls in a configuration, made by somebody else, whose answers no field can hold
    """

    controls: tuple[Control, ...]
    others: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        dataset: fo.Dataset,
        fields: Mapping[str, str],
        classes: Sequence[str] | Mapping[str, Sequence[str]] = (),
    ) -> Labelling:
        """Makes the questions that fill some fields.

        Args:
            dataset: the dataset
            fields: sample field -> what it is to hold, one of :data:`KINDS`
            classes (()): the classes to choose from, for all fields or by field; by default those that the dataset
                names (``dataset.classes``, ``dataset.mask_targets`` and their defaults), else those in the field

        Raises:
            ParameterError: there are no classes, or one of them cannot be shown
        """
        found: dict[str, dict[int, str] | list[str]] = {}
        for field, kind in fields.items():
            given = list(classes.get(field, ()) if isinstance(classes, Mapping) else classes)
            if kind == "Segmentation":
                found[field] = _targets_of(dataset, field, given)
            elif KINDS.get(kind) != "TextArea":
                found[field] = given or _classes_of(dataset, field, kind)
        return cls.asked(fields, found)

    @classmethod
    def asked(cls, fields: Mapping[str, str], classes: Mapping[str, Sequence[str] | Mapping[int, str]]) -> Labelling:
        """Makes the questions that fill some fields, of classes that are known.

        Args:
            fields: sample field -> what it is to hold, one of :data:`KINDS`
            classes: field -> the classes to choose from; for a segmentation, value in masks -> class

        Raises:
            FieldError: nobody can be asked for such a thing
            ParameterError: there are no classes, or one of them cannot be shown
        """
        controls = []
        for field, kind in fields.items():
            if kind not in KINDS:
                raise FieldError(f"{field!r}: nobody can be asked for {kind} here: {suggestion(kind, KINDS)}")
            its = classes.get(field, ())
            names = tuple(its.values()) if isinstance(its, Mapping) else tuple(its)
            _check_classes(field, names, needed=KINDS[kind] != "TextArea")
            controls.append(
                Control(
                    f"{field}_labels" if field == OBJECT else field, KINDS[kind], field,
                    "Detections" if kind == "Instances" else kind, names,
                    tuple(its) if isinstance(its, Mapping) else (),
                )
            )  # fmt: skip
        return cls(tuple(controls))

    @classmethod
    def parse(cls, xml: str) -> Labelling:
        """Reads a configuration, also one that somebody wrote or changed by hand.

        Controls that this package did not make ask for the field of their name; the class of its labels follows from
        the tag.

        Raises:
            ProjectError: it is no labelling configuration
        """
        from xml.etree import ElementTree

        try:
            root = ElementTree.fromstring(xml)
        except ElementTree.ParseError as error:
            raise ProjectError("config", f"the project's labelling configuration is no XML: {error}") from None
        controls, others = [], []
        for element in root.iter():
            if element.get("toName") is None or element.get("name") is None:
                continue
            control = _parsed(element)
            if control is None:
                others.append(str(element.get("name")))
            else:
                controls.append(control)
        return cls(tuple(controls), tuple(others))

    def xml(self) -> str:
        """The configuration, as a project gets it."""
        from xml.etree import ElementTree

        view = ElementTree.Element("View")
        ElementTree.SubElement(
            view, "Image", {"name": OBJECT, "value": f"${IMAGE_FIELD}", "zoom": "true", "zoomControl": "true"}
        )
        for control in self.controls:
            if len(self.controls) > 1:
                ElementTree.SubElement(view, "Header", {"value": control.field, "size": "5"})
            view.append(_element(control))
        ElementTree.indent(view)
        return ElementTree.tostring(view, encoding="unicode")

    def control(self, name: str) -> Control | None:
        """The control with a name."""
        return next((control for control in self.controls if control.name == name), None)

    def of_field(self, field: str) -> tuple[Control, ...]:
        """The controls whose answers belong to a field."""
        return tuple(control for control in self.controls if control.field == field)

    @property
    def fields(self) -> dict[str, str]:
        """Sample field -> what it holds: the name of a FiftyOne label class, ``"str"`` or ``"list[str]"``."""
        return {control.field: control.kind for control in self.controls}


def _element(control: Control) -> Any:
    from xml.etree import ElementTree

    options = _OPTIONS.get(control.kind, {}) if control.tag != "BrushLabels" else {}
    element = ElementTree.Element(control.tag, {"name": control.name, "toName": OBJECT, **options})
    element.set(_FIELD_ATTRIBUTE, control.field)
    element.set(_KIND_ATTRIBUTE, control.kind)
    for number, name in enumerate(control.classes):
        child = ElementTree.SubElement(element, "Choice" if control.tag == "Choices" else "Label", {"value": name})
        if control.targets:
            child.set("category", str(control.targets[number]))
    return element


def _parsed(element: Any) -> Control | None:
    name, tag = element.get("name"), element.tag
    kind = element.get(_KIND_ATTRIBUTE)
    if kind is None or (KINDS.get(kind) != tag and (tag, kind) != ("BrushLabels", "Detections")):
        kind = {tag: kind for kind, tag in reversed(KINDS.items())}.get(tag)
        if tag == "BrushLabels":
            kind = "Segmentation"
        if tag == "Choices" and element.get("choice") == "multiple":
            kind = "Classifications"
    if kind is None or element.get("perRegion") == "true":
        return None
    children = [child for child in element.iter() if child.tag in ("Choice", "Label")]
    classes = tuple(child.get("alias") or child.get("value") or "" for child in children)
    targets: tuple[int, ...] = ()
    if kind == "Segmentation":
        given = [child.get("category") or "" for child in children]
        numbered = all(text.isdecimal() for text in given) and len(set(given)) == len(given)
        targets = tuple(map(int, given)) if numbered else tuple(range(1, len(given) + 1))
    return Control(name, tag, element.get(_FIELD_ATTRIBUTE) or name, kind, classes, targets)


def _targets_of(dataset: fo.Dataset, field: str, classes: Sequence[str]) -> dict[int, str]:
    known = dataset.mask_targets.get(field) or dataset.default_mask_targets or {}
    if any(not isinstance(value, int) for value in known):
        raise FieldError(f"{field!r} holds masks in colours: people can be asked for masks of numbers alone")
    targets = {int(value): name for value, name in known.items() if value != 0}
    if not classes:
        if not targets:
            names = dataset.classes.get(field) or dataset.default_classes or []
            return dict(enumerate(names, 1))
        return targets
    numbers = {name: value for value, name in targets.items()}
    free = (value for value in range(1, 2**16) if value not in targets)
    return {numbers[name] if name in numbers else next(free): name for name in classes}


def _classes_of(dataset: fo.Dataset, field: str, kind: str) -> list[str]:
    listed = dataset.classes.get(field) or dataset.default_classes
    if listed:
        return list(listed)
    if dataset.get_field(field) is None:
        return []
    inner = {
        "Classifications": ".classifications", "Detections": ".detections", "Instances": ".detections",
        "Polylines": ".polylines", "Keypoints": ".keypoints",
    }.get(kind, "")  # fmt: skip
    return sorted(name for name in dataset.distinct(f"{field}{inner}.label") if name)


def _check_classes(field: str, classes: Sequence[str], needed: bool) -> None:
    if needed and not classes:
        raise ParameterError(
            "classes", list(classes),
            f"people need classes to choose from for {field!r}: name them, or set them as the dataset's classes",
        )  # fmt: skip
    for name in classes:
        if not isinstance(name, str) or not name.strip() or name != name.strip() or _UNSPEAKABLE.search(name):
            problem = f"{name!r} cannot be shown: classes are text without space around it or control characters"
            raise ParameterError("classes", list(classes), problem)
    if len(set(classes)) < len(classes):
        twice = next(name for name in classes if list(classes).count(name) > 1)
        raise ParameterError("classes", list(classes), f"{twice!r} is named twice: name each class once")
