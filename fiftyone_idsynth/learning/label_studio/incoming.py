"""Results of Label Studio as labels of FiftyOne; see :mod:`.values`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import suggestion
from .config import Control
from .forms import ValuesError, box_around
from .masks import drawn, tight
from .rle import decode

_ASPECT_TOLERANCE = 0.02
_ID = re.compile("[0-9a-f]{24}")


class Reader:
    """Reads results about one image; see :func:`from_results` for the arguments."""

    def __init__(self, size: tuple[int, int], labels: Mapping[str, str], confidence: bool):
        self.size, self._labels, self._confidence = size, labels, confidence

    def label(self, control: Control, name: Any) -> str:
        if name in self._labels:
            return self._labels[name]
        if name not in control.classes:
            raise ValuesError(
                "unknown_label",
                f"somebody chose {name!r} for {control.field!r}, which is not among its classes. If it was renamed, "
                f"give labels={{{name!r}: NEW_NAME}}; {suggestion(str(name), control.classes)}",
            )
        return str(name)

    def one_label(self, control: Control, result: Mapping[str, Any]) -> str:
        names = self.value(result).get(control.type) or []
        if len(names) != 1:
            said = f"{len(names)} labels ({', '.join(map(str, names))})" if names else "no label"
            raise ValuesError("label_count", f"a part of {control.field!r} has {said}: it must have one")
        return self.label(control, names[0])

    def value(self, result: Mapping[str, Any]) -> Mapping[str, Any]:
        value = result.get("value")
        if not isinstance(value, Mapping):
            raise ValuesError("form", f"a result of {result.get('from_name')!r} has no value")
        return value

    def numbers(self, result: Mapping[str, Any], *names: str) -> list[float]:
        """Shares of what is given in percent."""
        value = self.value(result)
        self._check_frame(result)
        return [_share(value.get(name)) for name in names]

    def points(self, result: Mapping[str, Any]) -> list[list[float]]:
        self._check_frame(result)
        points = [[_share(x), _share(y)] for x, y in self.value(result).get("points") or ()]
        if not points:
            raise ValuesError("form", f"a polygon of {result.get('from_name')!r} has no points")
        return points

    def common(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """What every label has: its id if it came from here, and its confidence."""
        score = result.get("score")
        found: dict[str, Any] = {}
        if isinstance(score, (int, float)) and self._confidence:
            found["confidence"] = float(score)
        if _ID.fullmatch(str(result.get("id"))):
            found["id"] = str(result["id"])
        return found

    def mask(self, result: Mapping[str, Any]) -> np.ndarray:
        """The brush mask of a result: bool (height x width)."""
        self._check_frame(result)
        value = self.value(result)
        width = int(result.get("original_width") or self.size[0])
        height = int(result.get("original_height") or self.size[1])
        if value.get("format", "rle") != "rle" or not value.get("rle"):
            raise ValuesError("form", f"a brush mask of {result.get('from_name')!r} is not in the form 'rle'")
        try:
            return drawn(decode(value["rle"], width, height), self.size)
        except (ValueError, OverflowError, TypeError) as error:
            raise ValuesError("form", f"a brush mask of {result.get('from_name')!r} cannot be read: {error}") from None

    def _check_frame(self, result: Mapping[str, Any]) -> None:
        """Checks that the image has still the shape that it had when somebody drew on it."""
        width, height = result.get("original_width"), result.get("original_height")
        if not width or not height:
            return
        own = self.size[0] / self.size[1]
        if abs(width / height / own - 1) > _ASPECT_TOLERANCE:
            raise ValuesError(
                "other_image",
                f"the answer was drawn on an image of {width} x {height} pixels, but this one has {self.size[0]} x "
                f"{self.size[1]}: the file was exchanged or turned since. Ask again",
            )


def _share(percent: Any) -> float:
    if isinstance(percent, bool) or not isinstance(percent, (int, float)) or not math.isfinite(percent):
        raise ValuesError("not_a_number", f"a result has the place {percent!r}, which is no number")
    return percent / 100


def _class_back(reader: Reader, control: Control, results: Sequence[Mapping[str, Any]]) -> Any:
    import fiftyone as fo

    names = [name for result in results for name in reader.value(result).get("choices") or ()]
    if len(names) > 1:
        raise ValuesError(
            "label_count", f"{control.field!r} has one class, but {', '.join(map(str, names))} are chosen"
        )
    if not names:
        return None
    return fo.Classification(label=reader.label(control, names[0]), **reader.common(results[0]))


def _classes_back(reader: Reader, control: Control, results: Sequence[Mapping[str, Any]]) -> Any:
    import fiftyone as fo

    names = [reader.label(control, name) for result in results for name in reader.value(result).get("choices") or ()]
    return fo.Classifications(classifications=[fo.Classification(label=name) for name in dict.fromkeys(names)])


def _text_back(reader: Reader, control: Control, results: Sequence[Mapping[str, Any]]) -> Any:
    texts: list[str] = []
    for result in results:
        said = reader.value(result).get("text") or []
        texts += [said] if isinstance(said, str) else [str(text) for text in said]
    return texts if control.kind == "list[str]" else "\n".join(texts) or None


def _detections_back(reader: Reader, control: Control, results: Sequence[Mapping[str, Any]]) -> Any:
    import fiftyone as fo

    read = _instance_back if control.tag == "BrushLabels" else _box_back
    found = [read(reader, control, result) for result in results]
    return fo.Detections(detections=[one for one in found if one is not None])


def _box_back(reader: Reader, control: Control, result: Mapping[str, Any]) -> Any:
    import fiftyone as fo

    label = reader.one_label(control, result)
    box = reader.numbers(result, "x", "y", "width", "height")
    if min(box[2:]) <= 0:
        raise ValuesError("form", f"a box of {label!r} has no area")
    rotation = reader.value(result).get("rotation") or 0.0
    common = reader.common(result)
    if rotation % 360 == 0:
        return fo.Detection(label=label, bounding_box=box, **common)
    around = box_around(box, rotation, reader.size)
    return fo.Detection(label=label, bounding_box=around, turned_box=box, rotation=float(rotation), **common)


def _instance_back(reader: Reader, control: Control, result: Mapping[str, Any]) -> Any:
    import fiftyone as fo

    label = reader.one_label(control, result)
    part = tight(reader.mask(result))
    if part is None:  # painted and wiped out again
        return None
    box, mask = part
    return fo.Detection(label=label, bounding_box=box, mask=mask, **reader.common(result))


def _polylines_back(reader: Reader, control: Control, results: Sequence[Mapping[str, Any]]) -> Any:
    import fiftyone as fo

    found = []
    for group in _groups(results):
        first = reader.value(group[0])
        closed = bool(first.get("closed", True))
        found.append(
            fo.Polyline(
                label=reader.one_label(control, group[0]), points=[reader.points(result) for result in group],
                closed=closed, filled=bool(first.get("filled", closed)), **reader.common(group[0]),
            )
        )  # fmt: skip
    return fo.Polylines(polylines=found)


def _keypoints_back(reader: Reader, control: Control, results: Sequence[Mapping[str, Any]]) -> Any:
    import fiftyone as fo

    found = []
    for group in _groups(results):
        common = [reader.common(result) for result in group]
        scores = [one.pop("confidence", None) for one in common]
        if any(score is not None for score in scores):
            common[0]["confidence"] = scores
        points = [reader.numbers(result, "x", "y") for result in group]
        found.append(fo.Keypoint(label=reader.one_label(control, group[0]), points=points, **common[0]))
    return fo.Keypoints(keypoints=found)


def _segmentation_back(reader: Reader, control: Control, results: Sequence[Mapping[str, Any]]) -> Any:
    import fiftyone as fo

    targets = {name: target for target, name in control.mask_targets.items()}
    whole = np.zeros((reader.size[1], reader.size[0]), np.uint8 if max(targets.values()) < 256 else np.uint16)
    for result in results:
        name = reader.one_label(control, result)
        if name not in targets:
            raise ValuesError(
                "unknown_label", f"{name!r} has no value in the masks of {control.field!r}: add the class"
            )
        whole[reader.mask(result)] = targets[name]
    return fo.Segmentation(mask=whole)


def _groups(results: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Results that belong together: those that name another of the same control as their parent are parts of it."""
    by_id = {result.get("id"): result for result in results}
    groups: dict[int, list[Mapping[str, Any]]] = {}
    for result in results:
        root, seen = result, {id(result)}
        while (parent := by_id.get(root.get("parentID"))) is not None and id(parent) not in seen:
            seen.add(id(parent))
            root = parent
        groups.setdefault(id(root), [root])
        if result is not root:
            groups[id(root)].append(result)
    return list(groups.values())


WAYS_BACK: dict[str, Callable[[Reader, Control, Sequence[Mapping[str, Any]]], Any]] = {
    "Classification": _class_back,
    "Classifications": _classes_back,
    "Detections": _detections_back,
    "Polylines": _polylines_back,
    "Keypoints": _keypoints_back,
    "Segmentation": _segmentation_back,
    "str": _text_back,
    "list[str]": _text_back,
}
"""Kind of control -> what makes a field's value of its results."""
