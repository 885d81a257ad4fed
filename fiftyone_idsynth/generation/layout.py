"""Layouts: which cut-outs stand where on which background, and the masks that remain visible.

A layout is drawn from one seed and can be stored and replayed: it holds numbers and names, never pixels. Every decision
is made on the real transformed masks, and every blending mode renders the same layout.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from ..carrying import relative_box
from .cutouts import bounds

TRIES = 40
"""How often a place is sought for one object before the image gets along without it."""

MIN_VISIBLE_PIXELS = 16
"""Objects of which fewer pixels are visible are neither placed nor labelled."""

MOTION_LENGTHS = (3, 5, 7, 9)
"""Lengths in pixels of the motion blur, as in Parcel2D."""


@dataclass(frozen=True)
class LayoutRules:
    """The ranges that layouts are drawn from.

    Attributes:
        min_objects: least number of labelled objects wanted
        max_objects: greatest number
        max_distractors: greatest number of unlabelled objects; the number is drawn from 0 up to it
        scale_min: least longer side of an object before rotation / shorter side of the canvas
        scale_max: greatest
        max_upscale: an object is enlarged at most so many times; one that cannot reach ``scale_min`` so is not used
        rotation: greatest rotation to either side in degrees, 0 to 180
        flip: whether one object in two is mirrored
        max_overlap: greatest covered share of the mask (within the canvas) of any object, labelled or not, by all that
            stand in front of it together
        max_truncation: greatest share of an object's mask outside the canvas
        own_size: whether objects keep the size that they have in their file, whatever the scales say
    """

    min_objects: int = 1
    max_objects: int = 3
    max_distractors: int = 2
    scale_min: float = 0.2
    scale_max: float = 0.6
    max_upscale: float = 2.0
    rotation: float = 30.0
    flip: bool = True
    max_overlap: float = 0.3
    max_truncation: float = 0.0
    own_size: bool = False


@dataclass(frozen=True)
class Placement:
    """One cut-out on the canvas.

    Attributes:
        cutout: the cut-out's name in its library
        label: its class, or ``None`` for a distractor
        scale: its size / its size in its file
        angle: rotation in degrees, counter-clockwise
        flip: whether it is mirrored before it is rotated
        x: column of the patch's left edge on the canvas, negative where it is cut off
        y: row of its top edge
    """

    cutout: str
    label: str | None
    scale: float
    angle: float
    flip: bool
    x: int
    y: int


@dataclass(frozen=True)
class Layout:
    """Everything that is needed to render an image again, in any blending mode.

    Attributes:
        width: canvas width in pixels
        height: canvas height in pixels
        background: the background's name in its library
        crop: ``(x, y, width, height)`` of the part of the background that is scaled to the canvas, in pixels
        placements: the objects, from back to front
        motion_length: length of the motion blur in pixels
        motion_angle: its direction in degrees
        wanted: how many objects and distractors were drawn; fewer are placed where there was no room
        refused: how often a place was refused, by reason
    """

    width: int
    height: int
    background: str
    crop: tuple[int, int, int, int]
    placements: tuple[Placement, ...] = ()
    motion_length: int = 5
    motion_angle: float = 0.0
    wanted: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The layout as plain values that can be stored."""
        return {**asdict(self), "crop": list(self.crop), "placements": [asdict(p) for p in self.placements]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Layout:
        """Reads what :meth:`as_dict` wrote; other keys are ignored."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        placements = tuple(Placement(**placement) for placement in values["placements"])
        return cls(**{**known, "crop": tuple(values["crop"]), "placements": placements})


@dataclass(frozen=True, eq=False)
class Patch:
    """A transformed cut-out.

    Attributes:
        colour: float32 RGB array, height x width x 3, 0 to 255, continued beyond the mask by the nearest object colours
        alpha: float32 array, height x width, 0 to 1: its opacity
        mask: bool array, height x width: opacity of at least one half
    """

    colour: np.ndarray
    alpha: np.ndarray
    mask: np.ndarray

    @cached_property
    def area(self) -> int:
        return int(np.count_nonzero(self.mask))


@dataclass(frozen=True, eq=False)
class VisibleObject:
    """What can be seen of one labelled object.

    Attributes:
        label: its class
        mask: bool array, tight: the visible pixels
        box: ``(x, y, width, height)`` of the mask on the canvas, in pixels
        placement: its position among the layout's placements
    """

    label: str
    mask: np.ndarray
    box: tuple[int, int, int, int]
    placement: int

    @property
    def area(self) -> int:
        """Number of visible pixels: COCO's ``area``."""
        return int(np.count_nonzero(self.mask))

    def relative_box(self, width: int, height: int) -> list[float]:
        """The box as FiftyOne stores it: ``[x, y, width, height]`` relative to the canvas, 0 to 1."""
        return relative_box(self.box, width, height)


class Occlusion:
    """Keeps account of what is visible while objects are placed from back to front.

    Args:
        width: canvas width in pixels
        height: canvas height in pixels
    """

    def __init__(self, width: int, height: int):
        self._front = np.full((height, width), -1, np.int32)
        self._total: list[int] = []
        self._visible: list[int] = []

    def refusal(self, mask: np.ndarray, x: int, y: int, rules: LayoutRules) -> str | None:
        """The reason why a mask must not be placed, or ``None``."""
        on_canvas, part = self._window(mask, x, y)
        inside = int(np.count_nonzero(part))
        whole = int(np.count_nonzero(mask))
        if inside < MIN_VISIBLE_PIXELS:
            return "too_small_on_canvas"
        if whole - inside > rules.max_truncation * whole:
            return "truncated"
        for placed, covered in self._covers(on_canvas, part):
            if self._total[placed] - self._visible[placed] + covered > rules.max_overlap * self._total[placed]:
                return "overlap"
        return None

    def place(self, mask: np.ndarray, x: int, y: int) -> None:
        """Places a mask in front of everything placed before."""
        on_canvas, part = self._window(mask, x, y)
        for placed, covered in self._covers(on_canvas, part):
            self._visible[placed] -= covered
        on_canvas[part] = len(self._total)
        inside = int(np.count_nonzero(part))
        self._total.append(inside)
        self._visible.append(inside)

    def visible(self, index: int) -> tuple[np.ndarray, tuple[int, int, int, int]] | None:
        """The visible mask of the object placed as number ``index``, tight, and its box; ``None`` if it is hidden."""
        mask = self._front == index
        box = bounds(mask)
        if box is None:
            return None
        x, y, w, h = box
        return mask[y : y + h, x : x + w], box

    def _window(self, mask: np.ndarray, x: int, y: int) -> tuple[np.ndarray, np.ndarray]:
        rows, columns, part_rows, part_columns = window(self._front.shape, mask.shape, x, y)
        return self._front[rows, columns], mask[part_rows, part_columns]

    def _covers(self, on_canvas: np.ndarray, part: np.ndarray) -> list[tuple[int, int]]:
        counts = np.bincount(on_canvas[part] + 1, minlength=1)[1:]
        return [(int(i), int(counts[i])) for i in np.flatnonzero(counts)]


def window(canvas: tuple[int, ...], patch: tuple[int, ...], x: int, y: int) -> tuple[slice, slice, slice, slice]:
    """Where a patch at ``(x, y)`` lies on the canvas: rows and columns of the canvas, then of the patch."""
    top, left = max(y, 0), max(x, 0)
    bottom, right = max(top, min(y + patch[0], canvas[0])), max(left, min(x + patch[1], canvas[1]))
    return slice(top, bottom), slice(left, right), slice(top - y, bottom - y), slice(left - x, right - x)


def transform(rgba: np.ndarray, scale: float, angle: float, flip: bool) -> Patch:
    """Mirrors, scales and rotates a cut-out, in this order.

    Colours are interpolated weighted by their opacity, so that nothing of the old background gets into the object.

    Args:
        rgba: uint8 array, height x width x 4
        scale: size / size in the file
        angle: degrees, counter-clockwise
        flip: whether to mirror left and right

    Returns:
        a :class:`Patch`, as tight as its mask
    """
    if flip:
        rgba = rgba[:, ::-1]
    alpha = rgba[..., 3].astype(np.float32) / 255
    layers = np.dstack([rgba[..., :3].astype(np.float32) * alpha[..., None], alpha])
    height, width = alpha.shape
    if scale != 1:
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
        layers = cv2.resize(layers, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    if angle:
        layers = _rotate(layers, angle)
    return _patch(layers)


def _rotate(layers: np.ndarray, angle: float) -> np.ndarray:
    height, width = layers.shape[:2]
    turn = math.radians(angle)
    w = math.ceil(width * abs(math.cos(turn)) + height * abs(math.sin(turn))) + 2
    h = math.ceil(width * abs(math.sin(turn)) + height * abs(math.cos(turn))) + 2
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    matrix[:, 2] += (w - width) / 2, (h - height) / 2
    return cv2.warpAffine(layers, matrix, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)


def _patch(layers: np.ndarray) -> Patch:
    alpha = np.clip(layers[..., 3], 0, 1)
    mask = alpha >= 0.5
    box = bounds(mask)
    if box is None:
        empty = np.zeros((0, 0), np.float32)
        return Patch(np.zeros((0, 0, 3), np.float32), empty, empty.astype(bool))
    x, y, w, h = box
    part = (slice(y, y + h), slice(x, x + w))
    alpha = alpha[part]
    colour = layers[part][..., :3] / np.maximum(alpha, 0.02)[..., None]
    return Patch(np.clip(colour, 0, 255), alpha, mask[part])


def draw_layout(
    rng: np.random.Generator,
    canvas: tuple[int, int],
    background: str,
    crop: tuple[int, int, int, int],
    rules: LayoutRules,
    objects: Sequence[tuple[str, Sequence[str]]],
    distractors: Sequence[str],
    load: Callable[[str], np.ndarray],
) -> tuple[Layout, list[Patch]]:
    """Draws a layout.

    The class of each object is drawn first, then one of its cut-outs, so that classes come out equally often whatever
    the number of their cut-outs. Objects and distractors stand in front of one another in random order.

    Args:
        rng: the only source of chance
        canvas: ``(width, height)`` in pixels
        background: the background's name
        crop: the part of the background that is used, see :class:`Layout`
        rules: the ranges to draw from
        objects: ``(class, names of its cut-outs)`` pairs
        distractors: names of the cut-outs that are placed without a label
        load: returns a cut-out's RGBA pixels by its name

    Returns:
        the layout and the transformed patch of each of its placements
    """
    wanted = _wanted(rng, rules, bool(objects), bool(distractors))
    occlusion = Occlusion(*canvas)
    placements: list[Placement] = []
    patches: list[Patch] = []
    refused: Counter[str] = Counter()
    for is_object in wanted:
        for _ in range(TRIES):
            label, name = _choose(rng, objects, distractors, is_object)
            found = _draw_placement(rng, canvas, rules, load(name))
            if isinstance(found, str):
                refused[found] += 1
                continue
            scale, angle, flip, x, y, patch = found
            why = occlusion.refusal(patch.mask, x, y, rules)
            if why:
                refused[why] += 1
                continue
            occlusion.place(patch.mask, x, y)
            placements.append(Placement(name, label, scale, angle, flip, x, y))
            patches.append(patch)
            break
    length = MOTION_LENGTHS[int(rng.integers(len(MOTION_LENGTHS)))]
    layout = Layout(
        canvas[0], canvas[1], background, crop, tuple(placements), length, round(float(rng.uniform(0, 180)), 2),
        len(wanted), dict(refused),
    )  # fmt: skip
    return layout, patches


def _wanted(rng: np.random.Generator, rules: LayoutRules, objects: bool, distractors: bool) -> list[bool]:
    """Which of the things to place, from back to front, are objects of interest."""
    number = int(rng.integers(rules.min_objects, rules.max_objects + 1)) if objects else 0
    others = int(rng.integers(0, rules.max_distractors + 1)) if distractors else 0
    wanted = np.array([True] * number + [False] * others, bool)
    rng.shuffle(wanted)
    return [bool(w) for w in wanted]


def _choose(
    rng: np.random.Generator, objects: Sequence[tuple[str, Sequence[str]]], distractors: Sequence[str], is_object: bool
) -> tuple[str | None, str]:
    if not is_object:
        return None, distractors[int(rng.integers(len(distractors)))]
    label, names = objects[int(rng.integers(len(objects)))]
    return label, names[int(rng.integers(len(names)))]


def _draw_placement(
    rng: np.random.Generator, canvas: tuple[int, int], rules: LayoutRules, rgba: np.ndarray
) -> tuple[float, float, bool, int, int, Patch] | str:
    longer = max(rgba.shape[:2])
    least, most = (s * min(canvas) / longer for s in (rules.scale_min, rules.scale_max))
    least, most = (1.0, 1.0) if rules.own_size else (least, min(most, rules.max_upscale))
    if most < least:
        return "source_too_small"
    # Rounded, so that the stored layout is the one that was checked.
    scale = round(float(rng.uniform(least, most)), 6)
    angle = round(float(rng.uniform(-rules.rotation, rules.rotation)), 2)
    flip = bool(rules.flip and rng.random() < 0.5)
    patch = transform(rgba, scale, angle, flip)
    x = _position(rng, canvas[0], patch.mask.shape[1], rules.max_truncation)
    y = _position(rng, canvas[1], patch.mask.shape[0], rules.max_truncation)
    if x is None or y is None:
        return "larger_than_canvas"
    return scale, angle, flip, x, y, patch


def _position(rng: np.random.Generator, canvas: int, side: int, max_truncation: float) -> int | None:
    # A part that sticks out by more than this share of its side may still be a small share of its mask, so twice the
    # share is tried; the mask itself decides.
    out = math.floor(min(0.95, 2 * max_truncation) * side)
    low, high = -out, canvas - side + out
    return int(rng.integers(low, high + 1)) if high >= low else None


def visible_objects(layout: Layout, patches: Sequence[Patch]) -> list[VisibleObject]:
    """The labelled objects of a layout as far as they can be seen, from back to front.

    Args:
        layout: the layout
        patches: the transformed patch of each placement

    Returns:
        a list of :class:`VisibleObject`, without those of which fewer than :data:`MIN_VISIBLE_PIXELS` are visible
    """
    occlusion = Occlusion(layout.width, layout.height)
    for placement, patch in zip(layout.placements, patches, strict=True):
        occlusion.place(patch.mask, placement.x, placement.y)
    found = []
    for index, placement in enumerate(layout.placements):
        seen = occlusion.visible(index) if placement.label is not None else None
        if seen is not None and placement.label is not None and np.count_nonzero(seen[0]) >= MIN_VISIBLE_PIXELS:
            found.append(VisibleObject(placement.label, seen[0], seen[1], index))
    return found


def draw_crop(rng: np.random.Generator, size: tuple[int, int], canvas: tuple[int, int]) -> tuple[int, int, int, int]:
    """Draws the part of a background that fills the canvas: the largest of the canvas's proportions, anywhere in it.

    Args:
        rng: the source of chance
        size: ``(width, height)`` of the background in pixels
        canvas: ``(width, height)`` of the canvas in pixels

    Returns:
        ``(x, y, width, height)`` in pixels of the background
    """
    zoom = min(size[0] / canvas[0], size[1] / canvas[1])
    w, h = min(size[0], max(1, round(canvas[0] * zoom))), min(size[1], max(1, round(canvas[1] * zoom)))
    return int(rng.integers(0, size[0] - w + 1)), int(rng.integers(0, size[1] - h + 1)), w, h
