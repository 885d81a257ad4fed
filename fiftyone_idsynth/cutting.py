"""Masks of the objects in pictures, by models that cut out, and how their edges are tidied."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .errors import ParameterError, RefusedImage

if TYPE_CHECKING:
    from .models.roles import BackgroundRemover, Box, Refiner, Segmenter

BEYOND_BOX = 0.1
"""How far an outline may reach beyond its box, as a share of the box's sides."""

MOST_CLASSES = 255
"""Classes that a map of one byte for each pixel can tell apart."""


@dataclass(frozen=True, eq=False)
class Cut:
    """An object that was found in a picture.

    Attributes:
        mask: bool, height x width, of the size of the picture
        label: its class; empty where the model knows none
        number: which of the given boxes it was found in; 0 where none were given
    """

    mask: np.ndarray
    label: str = ""
    number: int = 0


@dataclass(frozen=True)
class Tidy:
    """What is done to a mask, in this order.

    Attributes:
        fill_holes: whether holes in it are filled
        min_area: connected parts of fewer pixels are dropped
        largest: whether only the largest connected part is kept
        grow: by how many pixels it becomes wider on every side; narrower if negative
    """

    fill_holes: bool = False
    min_area: int = 0
    largest: bool = False
    grow: int = 0

    def __call__(self, mask: np.ndarray) -> np.ndarray:
        """Returns the tidied mask, which can be empty."""
        if self.fill_holes:
            mask = filled(mask)
        if self.largest or self.min_area > 1:
            kept = parts(mask, self.min_area)
            kept = kept[:1] if self.largest else kept
            mask = np.logical_or.reduce(kept) if kept else np.zeros_like(mask)
        return grow(mask, self.grow)


def cut_out(
    pictures: Sequence[np.ndarray],
    model: BackgroundRemover | Segmenter | Refiner,
    *,
    classes: Mapping[str, Sequence[str]] | None = None,
    background: Sequence[str] = (),
    boxes: Sequence[Sequence[Box]] | None = None,
    threshold: float | None = None,
    tidy: Tidy | None = None,
) -> list[list[Cut] | RefusedImage]:
    """Cuts objects out.

    A background remover finds one object, whatever it is; a segmenter each connected part of its classes; a refiner
    what is in each box.

    Args:
        pictures: RGB, uint8, of any sizes
        model: what cuts out
        classes (None): for a segmenter: labels with their texts; by default all that it knows but the background
        background (()): for a segmenter: what is no object
        boxes (None): for a refiner: for each picture its boxes: relative x, y, width, height
        threshold (None): the least probability of an object's pixels, 0..1; by default 0.5, or what is usual with the
            segmenter
        tidy (None): what is done to the masks

    Returns:
        for each picture its objects, one at least, or why there are none

    Raises:
        ParameterError: classes or boxes are missing, there are too many classes, or the model does not know them
    """
    from .models.roles import BackgroundRemover, Segmenter

    if not pictures:
        return []
    tidy = tidy or Tidy()
    if isinstance(model, BackgroundRemover):
        least = 0.5 if threshold is None else threshold
        found = [[Cut(share >= least)] for share in model.foreground(pictures)]
    elif isinstance(model, Segmenter):
        chosen = _classes(model, classes)
        maps = model.segment(pictures, chosen, threshold=threshold, background=background)
        found = [_parts(one.values, list(chosen), tidy) for one in maps]
    else:
        if boxes is None:
            raise ParameterError("boxes", boxes, f"{model.name} outlines what is in boxes: give them for each picture")
        found = [
            [Cut(near_box(mask, box), "", number) for number, (mask, box) in enumerate(zip(masks, those, strict=True))]
            for masks, those in zip(model.refine(pictures, boxes), boxes, strict=True)
        ]
    return [_tidied(cuts, tidy, model.name) for cuts in found]


def grow(mask: np.ndarray, pixels: int) -> np.ndarray:
    """A mask (bool, height x width) that is wider by some pixels on every side, or narrower, with round corners.

    The border of the picture is no edge: a mask that it cuts off stays so when it becomes narrower.
    """
    import cv2

    if not pixels:
        return mask
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(pixels) + 1,) * 2)
    change = cv2.dilate if pixels > 0 else cv2.erode
    return np.asarray(change(mask.astype(np.uint8), disc)) > 0


def filled(mask: np.ndarray) -> np.ndarray:
    """A mask (bool, height x width) without holes: without background that is not connected to the border."""
    import cv2

    framed = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), np.uint8)
    framed[1:-1, 1:-1] = mask
    cv2.floodFill(framed, None, (0, 0), 2)
    return np.asarray(framed[1:-1, 1:-1] != 2)


def parts(mask: np.ndarray, min_area: int = 0) -> list[np.ndarray]:
    """The connected parts (8 neighbours) of a mask, the largest first.

    Args:
        mask: bool, height x width
        min_area (0): parts of fewer pixels are left out
    """
    import cv2

    count, numbers, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[1:count, cv2.CC_STAT_AREA]
    return [numbers == n + 1 for n in np.argsort(-areas, kind="stable") if areas[n] >= min_area]


def near_box(mask: np.ndarray, box: Box) -> np.ndarray:
    """What of a mask (bool, height x width) lies near a box: refiners leave specks far from it.

    Args:
        mask: of the size of the picture
        box: relative x, y, width, height; see :data:`BEYOND_BOX`
    """
    height, width = mask.shape
    x, y, w, h = box
    left, right = (x - BEYOND_BOX * w) * width, (x + (1 + BEYOND_BOX) * w) * width
    top, bottom = (y - BEYOND_BOX * h) * height, (y + (1 + BEYOND_BOX) * h) * height
    rows = slice(max(0, math.floor(top)), max(0, math.ceil(bottom)))
    columns = slice(max(0, math.floor(left)), max(0, math.ceil(right)))
    near = np.zeros_like(mask)
    near[rows, columns] = mask[rows, columns]
    return near


def _classes(model: Segmenter, classes: Mapping[str, Sequence[str]] | None) -> Mapping[str, Sequence[str]]:
    """The classes that are cut out."""
    if not classes and model.classes is None:
        raise ParameterError("classes", classes, f"{model.name} looks for any text: name what is to be cut out")
    chosen = classes or {name: (name,) for name in model.classes or ()}
    if len(chosen) > MOST_CLASSES:
        raise ParameterError(
            "classes", f"{len(chosen)} classes", f"at most {MOST_CLASSES}: name those that are to be cut out"
        )
    return chosen


def _parts(values: np.ndarray, labels: Sequence[str], tidy: Tidy) -> list[Cut]:
    """Each connected part of each class, or the largest one; what is too small is dropped before masks pile up."""
    cuts = []
    for value in np.unique(values[values > 0]):
        found = parts(values == value, tidy.min_area)
        cuts += [Cut(part, labels[value - 1]) for part in (found[:1] if tidy.largest else found)]
    return cuts


def _tidied(cuts: Sequence[Cut], tidy: Tidy, name: str) -> list[Cut] | RefusedImage:
    tidied = [Cut(tidy(cut.mask), cut.label, cut.number) for cut in cuts]
    kept = [cut for cut in tidied if cut.mask.any()]
    return kept or RefusedImage("no_object", f"{name} found nothing to cut out")
