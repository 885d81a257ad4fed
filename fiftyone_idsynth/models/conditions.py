"""Pictures that keep a layout: what ControlNets for edges and for depth are given."""

from __future__ import annotations

import numpy as np

from ..errors import ParameterError


def edges(picture: np.ndarray, low: int = 100, high: int = 200) -> np.ndarray:
    """The edges of a picture, white on black (J. Canny, A Computational Approach to Edge Detection, 1986).

    Args:
        picture: RGB, uint8, height x width x 3
        low (100): gradients over it belong to an edge if they are connected to a stronger one, 0 to 1000
        high (200): gradients over it always belong to an edge, 0 to 1000; the defaults are those that ControlNets for
            edges were published with

    Returns:
        uint8, height x width x 3, 0 or 255

    Raises:
        ParameterError: ``low`` is larger than ``high``, or below 0
    """
    import cv2

    if not 0 <= low <= high:
        raise ParameterError("low", low, f"must be between 0 and high ({high})")
    grey = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)
    return np.repeat(np.asarray(cv2.Canny(grey, low, high))[..., None], 3, axis=2)


def depth_map(depth: np.ndarray) -> np.ndarray:
    """Depth as a picture, near white and far black.

    Args:
        depth: float, height x width: 1 for the nearest and 0 for the farthest, as a
            :class:`~fiftyone_idsynth.models.roles.DepthEstimator` gives it

    Returns:
        uint8, height x width x 3
    """
    levels = np.rint(np.clip(depth, 0, 1) * 255).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=2)
