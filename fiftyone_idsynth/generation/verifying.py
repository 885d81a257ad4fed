"""Looks whether objects are where labels that were carried over say they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..models.options import Options
from ..models.roles import Finder
from ..stage import current_run


@dataclass(frozen=True)
class Verifier:
    """A detector that looks for objects again.

    Attributes:
        model: its id or folder
        options: how it is loaded
        min_iou: least overlap (intersection over union) of a label's box and the box that is found, 0 to 1
        threshold: least confidence of what is found, 0 to 1
    """

    model: str
    options: Options
    min_iou: float
    threshold: float = 0.3

    @property
    def finder(self) -> Finder:
        """The detector; loaded when it is first asked for in a process."""
        from ..models.loading import find_model

        return find_model(Finder, self.model, self.options)  # type: ignore[type-abstract]  # an interface

    def setup(self) -> None:
        """Loads the model."""
        self.finder  # noqa: B018

    def confirmed(self, picture: np.ndarray, labels: Sequence[Any], count: int) -> list[Any]:
        """Drops the labels whose objects are not found again.

        Args:
            picture: uint8 RGB array
            labels: ``fo.Detection`` labels
            count: how many of them, from the first on, are looked for; the others are kept

        Returns:
            the labels that are left; those that were found get the attribute ``verified_iou``
        """
        import fiftyone as fo
        from fiftyone.utils.iou import compute_ious

        classes = tuple(dict.fromkeys(label.label for label in labels[:count]))
        (regions,) = self.finder.find([picture], classes, threshold=self.threshold)
        found = [fo.Detection(label=region.label, bounding_box=list(region.box)) for region in regions]
        kept = []
        for label in labels[:count]:
            same = [one for one in found if one.label == label.label]
            best = float(compute_ious([label], same).max()) if same else 0.0
            if best >= self.min_iou:
                label["verified_iou"] = round(best, 4)
                kept.append(label)
        if len(kept) < count:
            current_run().note(
                f"{self.finder.about} did not find all new objects where they should be (overlap of at least "
                f"{self.min_iou:g}): their labels were dropped"
            )
        return [*kept, *labels[count:]]
