"""Pictures in other sizes, and the conditions that keep their layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..models.options import Options

if TYPE_CHECKING:
    from ..models.roles import DepthEstimator

Control = Literal["none", "edges", "depth"]

CONTROLNETS = {
    ("sd", "edges"): "lllyasviel/sd-controlnet-canny",
    ("sd", "depth"): "lllyasviel/sd-controlnet-depth",
    ("sdxl", "edges"): "diffusers/controlnet-canny-sdxl-1.0",
    ("sdxl", "depth"): "diffusers/controlnet-depth-sdxl-1.0",
}
"""Family of the generator, and what keeps the layout -> a ControlNet for it."""


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture in another size (width, height)."""
    import cv2

    height, width = picture.shape[:2]
    if size == (width, height):
        return picture
    smaller = size[0] * size[1] < width * height
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)


@dataclass(frozen=True)
class Layout:
    """What keeps the layout of pictures.

    Attributes:
        control: ``"none"``, ``"edges"`` or ``"depth"``
        depth_model: what estimates depth
        options: how it is loaded
    """

    control: Control
    depth_model: str
    options: Options

    def setup(self) -> None:
        """Loads the model, if one is needed."""
        if self.control == "depth":
            self._estimator()

    def conditions(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        """For each picture what a ControlNet is given: uint8 RGB of the same size."""
        from ..models.conditions import depth_map, edges

        if self.control == "edges":
            return [edges(picture) for picture in pictures]
        if self.control == "depth" and pictures:
            return [depth_map(depth) for depth in self._estimator().depth(list(pictures))]
        return [None] * len(pictures)

    def _estimator(self) -> DepthEstimator:
        from ..models.loading import find_model
        from ..models.roles import DepthEstimator

        return find_model(DepthEstimator, self.depth_model, self.options)  # type: ignore[type-abstract]  # an interface
