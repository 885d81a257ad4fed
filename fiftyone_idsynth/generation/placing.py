"""Objects on a canvas whose rest is still to be painted: which pixels are kept, and the boxes and masks that follow.

The places are drawn by :mod:`fiftyone_idsynth.generation.layout`, on the real masks, from one seed. Arrays in, arrays
out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from ..cutting import grow
from ..errors import RefusedImage
from .blend import canvas_of, render
from .cutouts import Origin, bounds, cut
from .layout import Layout, LayoutRules, Patch, Placement, VisibleObject, draw_layout, transform, visible_objects

Filling = Literal["blur", "mean", "source"]
"""What surrounds the objects before it is painted anew."""

_BLUR_SIDE = 64
"""Side of the small picture in which surroundings are blurred: their details shall not remain."""

_REMEDIES = {
    "source_too_small": "it would have to be enlarged too much: raise max_upscale, or lower scale_min",
    "larger_than_canvas": "it is larger than the canvas: take a larger canvas, placement='random', or lower scale_max",
    "truncated": "too much of it would lie outside the canvas: raise max_truncation, or lower scale_max or rotation",
    "overlap": "it would cover too much of the others: raise max_overlap, or place fewer objects",
    "too_small_on_canvas": "too few of its pixels would be on the canvas: raise scale_min",
}


@dataclass(frozen=True, eq=False)
class Subject:
    """An object that is kept.

    Attributes:
        name: its name, which placements call it by
        label: its class
        pixels: uint8 RGBA array of what is kept of its picture, opaque or transparent: the object with the rim round
            it, tight
        mask: bool array of the same height and width: the object itself
        place: column and row of the array's corner in its picture
    """

    name: str
    label: str
    pixels: np.ndarray
    mask: np.ndarray
    place: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Scene:
    """Objects on a canvas.

    Attributes:
        picture: uint8 RGB array, height x width x 3
        paint: bool array, height x width: what is to be painted anew
        objects: what can be seen of the objects, from back to front
        placements: where they stand, from back to front
        wanted: how many were wanted; fewer are placed where there was no room
    """

    picture: np.ndarray
    paint: np.ndarray
    objects: list[VisibleObject]
    placements: tuple[Placement, ...]
    wanted: int


def cut_subject(picture: np.ndarray, mask: np.ndarray, name: str, label: str, dilation: int = 0) -> Subject:
    """Cuts an object out.

    Args:
        picture: uint8 RGB array, height x width x 3
        mask: bool array, height x width
        name: what placements call it
        label: its class
        dilation (0): width in pixels of the rim round the mask that is kept with the object

    Raises:
        RefusedImage: the mask is empty, or not of the picture's size
    """
    kept = cut(picture, grow(mask, dilation), label, Origin(name))
    x, y, w, h = kept.box
    if not mask.any():
        raise RefusedImage("empty_mask", "no pixel of the mask is set")
    return Subject(name, label, kept.pixels, mask[y : y + h, x : x + w], (x, y))


def place_at_random(
    rng: np.random.Generator, subjects: Sequence[Subject], surroundings: np.ndarray, rules: LayoutRules
) -> Scene:
    """Places objects at random on their new surroundings.

    Args:
        rng: the only source of chance
        subjects: the objects to choose from; each may be placed more than once
        surroundings: uint8 RGB array of the size of the canvas
        rules: the ranges to draw from

    Raises:
        RefusedImage: none could be placed
    """
    by_name = {subject.name: subject for subject in subjects}
    by_class: dict[str, list[str]] = {}
    for subject in subjects:
        by_class.setdefault(subject.label, []).append(subject.name)
    height, width = surroundings.shape[:2]
    layout, patches = draw_layout(
        rng, (width, height), "", (0, 0, width, height), rules, list(by_class.items()), (),
        lambda name: by_name[name].pixels,
    )  # fmt: skip
    if not layout.placements:
        raise _nothing_placed(layout, subjects)
    return _scene(surroundings, layout, patches, by_name)


def keep_in_place(subjects: Sequence[Subject], surroundings: np.ndarray) -> Scene:
    """Leaves objects where they are in their picture.

    Args:
        subjects: the objects, the largest of which stand behind
        surroundings: uint8 RGB array of the size of their picture
    """
    height, width = surroundings.shape[:2]
    ordered = sorted(subjects, key=lambda subject: -int(np.count_nonzero(subject.mask)))
    placements = tuple(Placement(s.name, s.label, 1.0, 0.0, False, *s.place) for s in ordered)
    layout = Layout(width, height, "", (0, 0, width, height), placements, wanted=len(ordered))
    return _scene(
        surroundings, layout, [_transformed(s, p) for s, p in zip(ordered, placements, strict=True)],
        {subject.name: subject for subject in subjects},
    )  # fmt: skip


def _scene(
    surroundings: np.ndarray, layout: Layout, patches: Sequence[Patch], subjects: Mapping[str, Subject]
) -> Scene:
    objects = [
        _object_in(subjects[placement.cutout], placement, patch)
        for placement, patch in zip(layout.placements, patches, strict=True)
    ]
    # Rims first, so that none covers a pixel of an object.
    picture = render(render(surroundings, layout, patches, "none"), layout, objects, "none")
    white = [dataclasses.replace(patch, colour=np.full_like(patch.colour, 255)) for patch in patches]
    kept = render(np.zeros_like(surroundings), layout, white, "none")[..., 0] > 0
    if kept.all():
        raise RefusedImage("nothing_to_paint", "the objects cover the whole canvas: nothing of it would be painted")
    return Scene(picture, ~kept, visible_objects(layout, objects), layout.placements, layout.wanted)


def _transformed(subject: Subject, placement: Placement) -> Patch:
    return transform(subject.pixels, placement.scale, placement.angle, placement.flip)


def _object_in(subject: Subject, placement: Placement, patch: Patch) -> Patch:
    """The patch with the mask of the object itself, without its rim."""
    if np.array_equal(subject.mask, subject.pixels[..., 3] >= 128):
        return patch
    # The mask goes through the same transformation in place of a colour.
    white = np.where(subject.mask, np.uint8(255), np.uint8(0))
    marked = np.dstack([white, white, white, subject.pixels[..., 3]])
    inside = transform(marked, placement.scale, placement.angle, placement.flip).colour[..., 0] >= 127.5
    return dataclasses.replace(patch, mask=inside & patch.mask)


def _nothing_placed(layout: Layout, subjects: Sequence[Subject]) -> RefusedImage:
    largest = max(subjects, key=lambda subject: subject.mask.size).mask.shape
    why = max(layout.refused, key=lambda reason: layout.refused[reason], default="")
    return RefusedImage(
        why or "nothing_placed",
        f"no place for the object ({largest[1]} x {largest[0]} pixels in its image) on a canvas of {layout.width} x "
        f"{layout.height}: {_REMEDIES.get(why, 'raise max_objects')}",
    )


def surroundings_of(picture: np.ndarray, hole: np.ndarray, size: tuple[int, int], filling: Filling) -> np.ndarray:
    """What surrounds objects before it is painted anew: the background of a picture, without what was in front of it.

    Models that paint see something of it at the edges of the objects, and more of it at strengths below 1.

    Args:
        picture: uint8 RGB array, height x width x 3
        hole: bool array, height x width: where the objects were
        size: ``(width, height)`` that is needed; the background is cropped to its proportions and scaled
        filling: ``"mean"``: its mean colour; ``"blur"``: only its large shapes; ``"source"``: as it is, with large
            shapes where the objects were

    Returns:
        uint8 RGB array of that size
    """
    behind = _smooth(picture, ~hole, mean=filling == "mean")
    if filling == "source":
        behind = np.where(hole[..., None], behind, picture)
    height, width = picture.shape[:2]
    zoom = min(width / size[0], height / size[1])
    w, h = min(width, max(1, round(size[0] * zoom))), min(height, max(1, round(size[1] * zoom)))
    crop = ((width - w) // 2, (height - h) // 2, w, h)
    return canvas_of(behind, Layout(*size, "", crop))


def _smooth(picture: np.ndarray, known: np.ndarray, *, mean: bool) -> np.ndarray:
    """The large shapes of what is known of a picture, continued to where nothing is known."""
    height, width = picture.shape[:2]
    colours = picture.astype(np.float32)
    average = colours[known].mean(axis=0) if known.any() else colours.reshape(-1, 3).mean(axis=0)
    if mean:
        return np.broadcast_to(np.rint(average).astype(np.uint8), picture.shape)
    zoom = min(1.0, _BLUR_SIDE / max(height, width))
    small = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    weight = cv2.resize(known.astype(np.float32), small, interpolation=cv2.INTER_AREA)
    weighted = cv2.resize(colours * known[..., None], small, interpolation=cv2.INTER_AREA)
    sigma = max(small) / 12
    weight, weighted = (cv2.GaussianBlur(a, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE) for a in (weight, weighted))
    # A trace of the average, which counts only where nothing is known nearby.
    blurred = (weighted + 1e-3 * average) / (weight[..., None] + 1e-3)
    large = cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.rint(np.clip(large, 0, 255)).astype(np.uint8)


def box_of(mask: np.ndarray) -> np.ndarray:
    """The box round a mask, as a mask (bool) of the same size."""
    found = bounds(mask)
    whole = np.zeros_like(mask)
    if found:
        x, y, w, h = found
        whole[y : y + h, x : x + w] = True
    return whole
