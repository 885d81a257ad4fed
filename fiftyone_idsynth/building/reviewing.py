"""Which labels a person should look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..samples import active

if TYPE_CHECKING:
    import fiftyone as fo

TO_REVIEW = "to_review"
"""The saved view of the images whose labels a person should look at."""

SURE = 0.6
"""Confidence from which a box needs no second look."""


def save_unsure(dataset: fo.Dataset, task: str) -> int:
    """Saves a view of the images whose labels the models are unsure of; where there is no confidence, of all.

    Unsure is an image without any box, or with a box of a confidence below :data:`SURE`.

    Args:
        dataset: the dataset
        task: what it is for

    Returns:
        how many images there are
    """
    from fiftyone import ViewField as F

    view: Any = active(dataset)
    if task == "detection":
        boxes = F("detections.detections")
        unsure = boxes.filter(F("confidence") < SURE).length() > 0
        view = view.match((boxes.length() == 0) | unsure)
    dataset.save_view(TO_REVIEW, view, description="Labels a person should look at", overwrite=True)
    return int(view.count())
