"""Points through transforms that bend pictures: albumentations' own way takes a pass over the picture for each."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

_ROUNDS = 60
_ENOUGH = 0.01
"""Pixels between two rounds at which the search for a point ends."""

_RIGHT = 0.25
"""Pixels that a point may be off where it is looked up in the map again."""


def bend(points: np.ndarray, map_x: np.ndarray, map_y: np.ndarray) -> np.ndarray:
    """Where points come to lie in a picture that is made by looking up each of its pixels in the old one.

    The map leads from the new picture to the old one; the way back is found by fixed-point iteration (Chen et al., "A
    simple fixed-point approach to invert a deformation field", Medical Physics 2008), to a small part of a pixel.
    Beyond the border, points are moved as those on it.

    Args:
        points: N x 2, columns and rows from the centre of the first pixel
        map_x: the column in the old picture of each pixel of the new one
        map_y: its row

    Returns:
        N x 2; not a number where the map folds the picture over, so that the iteration finds no place
    """
    from scipy import ndimage

    height, width = map_x.shape
    rows, columns = np.mgrid[:height, :width]
    moves = [np.asarray(map_x, np.float64) - columns, np.asarray(map_y, np.float64) - rows]

    def move(at: np.ndarray) -> np.ndarray:
        where = at[:, ::-1].T
        return np.stack([ndimage.map_coordinates(one, where, order=1, mode="nearest") for one in moves], axis=1)

    found = points.copy()
    for _ in range(_ROUNDS):
        before, found = found, points - move(found)
        if not len(found) or np.abs(found - before).max() < _ENOUGH:
            break
    found[np.abs(found + move(found) - points).max(axis=1, initial=0) > _RIGHT] = np.nan
    return found


@functools.cache
def with_exact_points(kind: type) -> type:
    """A transform of albumentations that moves points exactly and fast, if it is one that bends pictures.

    Where the picture is folded over, points are moved in the library's way.

    Args:
        kind: its class
    """
    from albumentations.augmentations.geometric.distortion import BaseDistortion

    if not issubclass(kind, BaseDistortion):
        return kind

    def apply_to_keypoints(
        self: Any, keypoints: np.ndarray, map_x: np.ndarray, map_y: np.ndarray, **params: Any
    ) -> Any:
        moved = np.array(keypoints, float)
        moved[:, :2] = bend(moved[:, :2], map_x, map_y)
        folded = np.isnan(moved[:, 0])
        if not folded.any():
            return moved
        usual = kind.apply_to_keypoints(self, keypoints[folded], map_x, map_y, **params)  # type: ignore[attr-defined]
        return np.concatenate([moved[~folded], usual])

    return type(kind.__name__, (kind,), {"apply_to_keypoints": apply_to_keypoints, "__doc__": kind.__doc__})
