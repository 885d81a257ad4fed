"""Blending: renders a layout in several modes, so that a model learns the object and not the traces of pasting.

The modes are those of "Cut, Paste and Learn" (Dwibedi et al., ICCV 2017) and Parcel2D (Naumann et al., 2022).
All of them draw the same objects at the same places: boxes and masks are the same in every mode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import cv2
import numpy as np

from .layout import Layout, Patch, window

BlendMode = Literal["none", "gaussian", "motion", "poisson"]

FEATHER_SIGMA = 2.0
"""Standard deviation in pixels of the feathered edge, as in Parcel2D."""

CLONE_STRENGTH = 0.35
"""How much of the colour shift of gradient-domain cloning is kept deep inside an object, 0 to 1."""

_FEATHER_MARGIN = 6
_CLONE_MARGIN = 4
_CLONE_EROSION = 3
"""``cv2.seamlessClone`` erodes the mask it is given by so many pixels."""


def render(background: np.ndarray, layout: Layout, patches: Sequence[Patch], mode: BlendMode) -> np.ndarray:
    """Renders a layout.

    Args:
        background: uint8 RGB array of the background as stored
        layout: what stands where
        patches: the transformed patch of each placement
        mode: ``"none"``: the object's pixels as they are; every other pixel is the background's.
            ``"gaussian"``: the object's edge is feathered.
            ``"motion"``: the finished image is blurred along a line, as by a moving camera; the kernel is symmetric, so
            that nothing moves.
            ``"poisson"``: gradient-domain cloning (Perez et al., 2003): the object takes on the light around it

    Returns:
        uint8 RGB array, height x width x 3
    """
    canvas = canvas_of(background, layout)
    paste = _PASTE[mode]
    for placement, patch in zip(layout.placements, patches, strict=True):
        paste(canvas, patch, placement.x, placement.y)
    if mode == "motion":
        kernel = motion_kernel(layout.motion_length, layout.motion_angle)
        return cv2.filter2D(canvas, -1, kernel, borderType=cv2.BORDER_REPLICATE)
    return canvas


def canvas_of(background: np.ndarray, layout: Layout) -> np.ndarray:
    """The part of a background that a layout uses, scaled to the canvas. A new array."""
    x, y, w, h = layout.crop
    part = background[y : y + h, x : x + w]
    if (w, h) == (layout.width, layout.height):
        return part.copy()
    shrinks = layout.width < w
    return cv2.resize(
        part, (layout.width, layout.height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )


def motion_kernel(length: int, angle: float) -> np.ndarray:
    """A motion blur's kernel: a line of given length through the centre, of sum 1.

    Args:
        length: odd length in pixels
        angle: degrees, counter-clockwise from the horizontal
    """
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1
    centre = ((length - 1) / 2, (length - 1) / 2)
    line = cv2.warpAffine(line, cv2.getRotationMatrix2D(centre, angle, 1.0), (length, length))
    line = line + line[::-1, ::-1]
    return line / line.sum()


def _paste_hard(canvas: np.ndarray, patch: Patch, x: int, y: int) -> None:
    rows, columns, part_rows, part_columns = window(canvas.shape, patch.mask.shape, x, y)
    mask = patch.mask[part_rows, part_columns]
    canvas[rows, columns][mask] = np.rint(patch.colour[part_rows, part_columns][mask]).astype(np.uint8)


def _paste_feathered(canvas: np.ndarray, patch: Patch, x: int, y: int) -> None:
    colour, mask = _continued(patch, _FEATHER_MARGIN)
    opacity = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), FEATHER_SIGMA)
    x, y = x - _FEATHER_MARGIN, y - _FEATHER_MARGIN
    rows, columns, part_rows, part_columns = window(canvas.shape, mask.shape, x, y)
    weight = opacity[part_rows, part_columns, None]
    below = canvas[rows, columns]
    mixed = weight * colour[part_rows, part_columns] + (1 - weight) * below
    below[...] = np.rint(mixed).astype(np.uint8)


def _paste_cloned(canvas: np.ndarray, patch: Patch, x: int, y: int) -> None:
    """Clones by ``cv2.seamlessClone``, around its traps.

    It erodes the mask it is given, so that thin parts vanish: the mask is widened by as much before. It centres the
    mask's bounding box on a point: box and point are taken from the same widened mask. It fails where the box leaves
    the image: the canvas is continued beyond its edges and cropped afterwards. It shifts the colours of the whole
    bounding box, up to a white dog turning black: the shift is kept whole at the outline, where it hides the seam,
    fades to a part of itself inside the object and to nothing around it.
    """
    margin = _CLONE_EROSION + 1 + _CLONE_MARGIN
    colour, mask = _continued(patch, margin)
    wide = cv2.dilate(mask.astype(np.uint8) * 255, np.ones((2 * _CLONE_EROSION + 1,) * 2, np.uint8))
    x, y = x - margin, y - margin
    height, width = mask.shape
    local = _patch_of(canvas, x, y, width, height)
    left, top, w, h = cv2.boundingRect(wide)
    source = np.rint(colour).astype(np.uint8)
    cloned = cv2.seamlessClone(source, local, wide, (left + w // 2, top + h // 2), cv2.NORMAL_CLONE)
    pasted = np.where(mask[..., None], colour, local)
    mixed = pasted + _clone_weight(mask)[..., None] * (cloned - pasted)
    rows, columns, part_rows, part_columns = window(canvas.shape, mask.shape, x, y)
    canvas[rows, columns] = np.rint(np.clip(mixed[part_rows, part_columns], 0, 255)).astype(np.uint8)


def _patch_of(canvas: np.ndarray, x: int, y: int, width: int, height: int) -> np.ndarray:
    """A part of the canvas, continued by the nearest pixels where it leaves the canvas."""
    columns = np.clip(np.arange(x, x + width), 0, canvas.shape[1] - 1)
    rows = np.clip(np.arange(y, y + height), 0, canvas.shape[0] - 1)
    return canvas[rows[:, None], columns]


def _clone_weight(mask: np.ndarray) -> np.ndarray:
    """How much of the cloned colours is used: 1 at the outline, less with the distance from it on either side."""
    size = float(np.sqrt(np.count_nonzero(mask)))
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    within = CLONE_STRENGTH + (1 - CLONE_STRENGTH) * np.exp(-np.maximum(inside - 1, 0) / (0.08 * size + 1))
    return np.where(mask, within, np.exp(-np.maximum(outside - 1, 0) / (0.02 * size + 1)))


def _continued(patch: Patch, margin: int) -> tuple[np.ndarray, np.ndarray]:
    """The patch with a margin, its colours continued beyond the mask by the nearest pixel of the object."""
    mask = np.pad(patch.mask, margin)
    colour = np.pad(patch.colour, ((margin, margin), (margin, margin), (0, 0)))
    _, nearest = cv2.distanceTransformWithLabels(
        (~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    colours = np.zeros((int(nearest.max()) + 1, 3), np.float32)
    colours[nearest[mask]] = colour[mask]
    return colours[nearest], mask


_PASTE: dict[str, Callable[[np.ndarray, Patch, int, int], None]] = {
    "none": _paste_hard,
    "motion": _paste_hard,
    "gaussian": _paste_feathered,
    "poisson": _paste_cloned,
}
