"""Impulse (salt-and-pepper) noise: the adaptive median."""

from __future__ import annotations

import cv2
import numpy as np

DARK, BRIGHT = 5, 250
"""An impulse is at most this dark, or at least this bright, as the measure of impulse noise has it."""

STEP = 40
"""Grey levels that an impulse differs from the median around it at least."""


def adaptive_median(pixels: np.ndarray, largest: int = 7) -> np.ndarray:
    """Replaces impulses by the median of the smallest window that is not made of impulses itself.

    The adaptive median of Hwang and Haddad (Adaptive median filters: new algorithms and results, 1995): a window grows
    until its median lies between its extremes. Only pixels that can be impulses are touched, nearly black or nearly
    white and far from that median, so that fine detail stays.

    Args:
        pixels: uint8 RGB
        largest (7): side of the largest window in pixels, odd

    Returns:
        uint8 RGB
    """
    planes = [_one_plane(np.ascontiguousarray(pixels[..., channel]), largest) for channel in range(3)]
    return np.dstack(planes)


def _one_plane(plane: np.ndarray, largest: int) -> np.ndarray:
    result = plane.copy()
    suspect = (plane <= DARK) | (plane >= BRIGHT)
    for side in range(3, largest + 1, 2):
        window = np.ones((side, side), np.uint8)
        median = cv2.medianBlur(plane, side)
        settled = suspect
        if side < largest:
            settled = suspect & (cv2.erode(plane, window) < median) & (median < cv2.dilate(plane, window))
        impulse = settled & (cv2.absdiff(plane, median) > STEP)
        result[impulse] = median[impulse]
        suspect = suspect & ~settled
    return result
