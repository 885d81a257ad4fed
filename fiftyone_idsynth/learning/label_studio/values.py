"""Labels of FiftyOne as results of Label Studio, and back.

Both sides mean the image as it is displayed, turned as its EXIF orientation says: FiftyOne counts in shares of its
size, Label Studio in percent. What one side cannot say in one piece is said in several that belong together: rings of a
polygon and points of one object are results of which all but the first name the first as their ``parentID``.

    ==================  ================================================================================================
    Detections          a box each; a turned one has the box around it, and ``turned_box`` and ``rotation`` in degrees
    Detections + masks  a brush mask each
    Polylines           a polygon for each ring: a ring in another one is a hole
    Keypoints           a point each
    Segmentation        a brush mask for each class; where several cover a pixel, the last counts
    ==================  ================================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import suggestion
from .config import Labelling
from .forms import ValuesError, box_around
from .incoming import WAYS_BACK, Reader
from .outgoing import WAYS_OUT

__all__ = ["ValuesError", "box_around", "from_results", "to_results"]


def to_results(labelling: Labelling, values: Mapping[str, Any], width: int, height: int) -> list[dict[str, Any]]:
    """Says labels in Label Studio's way.

    Args:
        labelling: what people are asked
        values: sample field -> its label, text or texts; fields of which nothing is known are left out or ``None``
        width: of the displayed image, in pixels
        height: of the displayed image, in pixels

    Raises:
        ValuesError: a class is not among those that people can choose, or a label has no form there
    """
    results: list[dict[str, Any]] = []
    for control in labelling.controls:
        value = values.get(control.field)
        if value is not None:
            results += WAYS_OUT[control.kind](control, value, (width, height))
    return results


def from_results(
    labelling: Labelling,
    results: Iterable[Mapping[str, Any]],
    width: int,
    height: int,
    *,
    labels: Mapping[str, str] | None = None,
    confidence: bool = False,
) -> dict[str, Any]:
    """Says results in FiftyOne's way.

    Args:
        labelling: what people were asked
        results: the results of one annotation or prediction
        width: of the displayed image, in pixels
        height: of the displayed image, in pixels
        labels (None): label in results -> class, for labels that were renamed since
        confidence (False): whether the scores of results are read; answers of people have none

    Returns:
        each field that was asked for -> its label; nothing found is an empty label (of the class of an image: None)

    Raises:
        ValuesError: a label or control is unknown, or a result has not the form that it should
    """
    by_control: dict[str, list[Mapping[str, Any]]] = {control.name: [] for control in labelling.controls}
    for result in results:
        name = result.get("from_name")
        if result.get("type") == "relation" or name in labelling.others:
            continue
        if name not in by_control:
            raise ValuesError(
                "unknown_control",
                f"the answer is to {name!r}, which the project's configuration does not ask (any more): "
                f"{suggestion(str(name), by_control)}",
            )
        by_control[name].append(result)
    reader = Reader((width, height), labels or {}, confidence)
    found: dict[str, Any] = {}
    for control in labelling.controls:
        found[control.field] = WAYS_BACK[control.kind](reader, control, by_control[control.name])
    return found
