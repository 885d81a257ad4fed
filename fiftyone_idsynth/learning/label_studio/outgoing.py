"""Labels of FiftyOne as results of Label Studio; see :mod:`.values`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ...errors import suggestion
from .config import OBJECT, Control
from .forms import ValuesError, box_around
from .masks import drawn, instance_mask
from .rle import encode

POINT_WIDTH = 0.5
"""The size in which points are shown, in percent of the image's width."""


def _known(control: Control, label: Any) -> str:
    if label not in control.classes:
        raise ValuesError(
            "unknown_label",
            f"{label!r} in {control.field!r} is not among the classes that people can choose: add it to them; "
            f"{suggestion(str(label), control.classes)}",
        )
    return str(label)


def _result(
    control: Control, value: dict[str, Any], label: Any, size: tuple[int, int], part: int = 0
) -> dict[str, Any]:
    """One result; of several parts of one label the later ones name the first."""
    first = str(label.id) if getattr(label, "id", None) else _fresh_id()
    result: dict[str, Any] = {
        "id": first, "from_name": control.name, "to_name": OBJECT, "type": control.type, "value": value,
        "original_width": size[0], "original_height": size[1], "image_rotation": 0,
    }  # fmt: skip
    if part:
        result |= {"id": f"{first}.{part}", "parentID": first}
    score = getattr(label, "confidence", None)
    if score is not None and math.isfinite(score):
        result["score"] = float(score)
    return result


def _fresh_id() -> str:
    from bson import ObjectId

    return str(ObjectId())


def _class_out(control: Control, value: Any, size: tuple[int, int]) -> list[dict[str, Any]]:
    return [_result(control, {"choices": [_known(control, value.label)]}, value, size)] if value.label else []


def _classes_out(control: Control, value: Any, size: tuple[int, int]) -> list[dict[str, Any]]:
    chosen = [_known(control, one.label) for one in value.classifications]
    return [_result(control, {"choices": chosen}, None, size)] if chosen else []


def _text_out(control: Control, value: Any, size: tuple[int, int]) -> list[dict[str, Any]]:
    texts = [value] if isinstance(value, str) else list(value)
    return [_result(control, {"text": texts}, None, size)] if any(texts) else []


def _detections_out(control: Control, value: Any, size: tuple[int, int]) -> list[dict[str, Any]]:
    if control.tag == "BrushLabels":
        return [_mask_out(control, one.label, instance_mask(one, size), one, size) for one in value.detections]
    results = []
    for one in value.detections:
        x, y, w, h, rotation = _turned(one, size)
        shares = {"x": x, "y": y, "width": w, "height": h}
        _check_numbers(one.label, shares.values())
        box = {name: 100 * share for name, share in shares.items()} | {"rotation": rotation}
        results.append(_result(control, {**box, control.type: [_known(control, one.label)]}, one, size))
    return results


def _polylines_out(control: Control, value: Any, size: tuple[int, int]) -> list[dict[str, Any]]:
    results = []
    for one in value.polylines:
        for number, ring in enumerate(one.points):
            _check_numbers(one.label, (share for point in ring for share in point))
            shape: dict[str, Any] = {"points": [[100 * x, 100 * y] for x, y in ring], "closed": bool(one.closed)}
            if bool(one.filled) != bool(one.closed):
                shape["filled"] = bool(one.filled)
            label = {control.type: [_known(control, one.label)]}
            results.append(_result(control, {**shape, **label}, one, size, number))
    return results


def _keypoints_out(control: Control, value: Any, size: tuple[int, int]) -> list[dict[str, Any]]:
    results = []
    for one in value.keypoints:
        for number, (x, y) in enumerate(one.points):
            _check_numbers(one.label, (x, y))
            point = {"x": 100 * x, "y": 100 * y, "width": POINT_WIDTH, control.type: [_known(control, one.label)]}
            results.append(_result(control, point, None, size) | _part_of(one, number))
    return results


def _part_of(one: Any, number: int) -> dict[str, Any]:
    """The ids of a point of an object; each point has a confidence of its own."""
    first = str(one.id)
    scores = one.confidence if isinstance(one.confidence, list) else None
    return {
        **({"id": f"{first}.{number}", "parentID": first} if number else {"id": first}),
        **({"score": float(scores[number])} if scores and scores[number] is not None else {}),
    }


def _segmentation_out(control: Control, value: Any, size: tuple[int, int]) -> list[dict[str, Any]]:
    mask = value.get_mask()
    if mask is None:
        return []
    if mask.ndim != 2:
        raise ValuesError(
            "mask_form", f"{control.field!r} holds a mask in colours: masks of numbers can be shown alone"
        )
    whole = drawn(mask, size)
    unknown = sorted(set(np.unique(whole).tolist()) - {0, *control.targets})
    if unknown:
        raise ValuesError(
            "unknown_label",
            f"{control.field!r} holds the value {unknown[0]}, which is no class: add it to the dataset's mask_targets",
        )
    there = set(np.unique(whole).tolist())
    return [
        _mask_out(control, name, whole == target, None, size)
        for target, name in control.mask_targets.items()
        if target in there
    ]


def _mask_out(control: Control, name: Any, mask: np.ndarray, label: Any, size: tuple[int, int]) -> dict[str, Any]:
    return _result(control, {"format": "rle", "rle": encode(mask), control.type: [_known(control, name)]}, label, size)


def _turned(one: Any, size: tuple[int, int]) -> tuple[float, float, float, float, float]:
    """A box before it is turned, and by how many degrees; 0 where somebody moved the box round it since."""
    x, y, w, h = one.bounding_box
    turned, rotation = one.get_field("turned_box") if one.has_field("turned_box") else None, 0.0
    if turned and one.has_field("rotation") and one.rotation is not None:
        rotation = float(one.rotation)
        around = box_around(turned, rotation, size)
        if max(abs(a - b) for a, b in zip(around, (x, y, w, h), strict=True)) < 1e-6:
            return (*turned, rotation)
    return x, y, w, h, 0.0


def _check_numbers(label: Any, numbers: Iterable[float]) -> None:
    if not all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers):
        raise ValuesError(
            "not_a_number", f"a part of {label!r} has a place that is no number: people cannot be shown it"
        )


WAYS_OUT: dict[str, Callable[[Control, Any, tuple[int, int]], list[dict[str, Any]]]] = {
    "Classification": _class_out,
    "Classifications": _classes_out,
    "Detections": _detections_out,
    "Polylines": _polylines_out,
    "Keypoints": _keypoints_out,
    "Segmentation": _segmentation_out,
    "str": _text_out,
    "list[str]": _text_out,
}
"""Kind of control -> what makes results of its field's value."""
