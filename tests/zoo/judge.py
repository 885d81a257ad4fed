"""Judge painted pictures of the shapes world, with the zoo's tagger and by measuring saturated pixels.

Neither was used in training the painter. ``python -m tests.zoo.evaluate_diffusion judge`` tells how good they are.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np

from tests.zoo import shapes_world as world
from tests.zoo.common import MODELS, batches


@dataclass(frozen=True)
class Seen:
    """What the tagger holds most likely for a picture of one shape.

    Args:
        colour: one of ``shapes_world.COLOURS``
        shape: one of ``shapes_world.SHAPES``
        background: one of ``shapes_world.BACKGROUNDS``
    """

    colour: str
    shape: str
    background: str


@cache
def _tagger() -> tuple[Any, list[str]]:
    import onnxruntime as ort

    session = ort.InferenceSession(str(MODELS / "wd14" / "model.onnx"), providers=["CPUExecutionProvider"])
    with open(MODELS / "wd14" / "selected_tags.csv", newline="") as file:
        return session, [row["name"] for row in csv.DictReader(file)]


def see(pictures: Sequence[np.ndarray]) -> list[Seen]:
    """Returns what pictures show.

    Args:
        pictures: uint8 ``(64, 64, 3)`` RGB

    Returns:
        a list of :class:`Seen`
    """
    session, names = _tagger()
    places = [[names.index(v) for v in values] for values in (world.COLOURS, world.SHAPES, world.BACKGROUNDS)]
    seen = []
    for group in batches([np.ascontiguousarray(p[..., ::-1]).astype(np.float32) for p in pictures]):
        for scores in session.run(None, {"input": np.stack(group)})[0]:
            seen.append(Seen(*(names[max(place, key=lambda k: scores[k])] for place in places)))
    return seen


def cover(picture: np.ndarray) -> np.ndarray:
    """Returns where a picture is saturated, that is, covered by a shape: bool ``(H, W)``."""
    values = cv2.GaussianBlur(picture, (3, 3), 0).astype(np.int16)
    return (values.max(2) - values.min(2)) > 60


def colour_of(picture: np.ndarray) -> str | None:
    """Returns the name of the colour that is nearest to the median saturated pixel, None without such pixels."""
    mask = cover(picture)
    if not mask.any():
        return None
    median = np.median(picture[mask], axis=0)
    return min(world.COLOURS, key=lambda name: float(np.linalg.norm(median - world.COLOURS[name])))


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the intersection over union of two masks."""
    return float((a & b).sum() / max(1, (a | b).sum()))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the distance between the centres of two masks in pixels, infinite where one is empty."""
    if not a.any() or not b.any():
        return float("inf")
    return float(np.linalg.norm(np.argwhere(a).mean(0) - np.argwhere(b).mean(0)))


def solidity(mask: np.ndarray) -> float:
    """Returns the share of its convex hull that the largest part of a mask fills: the known shapes fill it, a star
    does not; 0 for an empty mask."""
    parts, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not parts:
        return 0.0
    largest = max(parts, key=cv2.contourArea)
    return cv2.contourArea(largest) / max(1.0, cv2.contourArea(cv2.convexHull(largest)))


def sharpness(picture: np.ndarray) -> float:
    """Returns the steepest slopes of the saturation (99th percentile, levels per pixel)."""
    values = picture.astype(np.float32)
    saturation = values.max(2) - values.min(2)
    slopes = np.hypot(cv2.Sobel(saturation, cv2.CV_32F, 1, 0), cv2.Sobel(saturation, cv2.CV_32F, 0, 1)) / 8
    return float(np.percentile(slopes, 99))


def star(rng: np.random.Generator, colour: str | None = None, background: str | None = None) -> world.Scene:
    """Draws a shape that the world does not have, a star of five points, for teaching it.

    Args:
        rng: source of chance
        colour (None): one of ``shapes_world.COLOURS``; by default any
        background (None): one of ``shapes_world.BACKGROUNDS``; by default any

    Returns:
        a scene of one large star; its caption says "star"
    """
    name = colour or str(rng.choice(list(world.COLOURS)))
    kind = background or str(rng.choice(list(world.BACKGROUNDS)))
    radius = rng.uniform(17, 23)
    turn = (np.arange(10) / 10 - 0.25) * 2 * np.pi
    points = np.stack([np.cos(turn), np.sin(turn)], 1) * (radius * np.where(np.arange(10) % 2, 0.42, 1))[:, None]
    points = np.rint((points + rng.uniform(radius + 1, world.SIZE - radius - 1, 2)) * 16).astype(np.int32)
    layer = cv2.fillPoly(np.zeros((world.SIZE, world.SIZE), np.uint8), [points], 255, cv2.LINE_AA, 4)
    alpha = layer[:, :, None] / 255
    rgb = np.clip(np.array(world.COLOURS[name]) + rng.uniform(-18, 18, 3), 0, 255)
    image = (world.draw_background(kind, rng) * (1 - alpha) + rgb * alpha + 0.5).astype(np.uint8)
    mask = layer > 127
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = (int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1)
    return world.Scene(image, (world.Thing("star", name, "large", box, mask),), kind)
