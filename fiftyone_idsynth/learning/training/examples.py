"""Images with what people said of them, decoded when their turn comes. No FiftyOne in here."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from ...media import read_image

IGNORED = 255
"""The value of pixels that neither teach nor count."""


@dataclass(frozen=True)
class Boxes:
    """The objects of an image.

    Attributes:
        boxes: float32 (objects x 4): relative x, y, width, height
        numbers: of their classes
    """

    boxes: np.ndarray
    numbers: np.ndarray


@dataclass(frozen=True)
class Outline:
    """A part of an image that is of one class.

    Attributes:
        number: of its class
        box: relative x, y, width, height of a mask; None for polygons
        mask: the mask inside the box: a path of a file, or the content of a PNG file
        polygons: of each the points, relative x, y
    """

    number: int
    box: tuple[float, float, float, float] | None = None
    mask: str | bytes | None = None
    polygons: tuple[tuple[tuple[float, float], ...], ...] = ()


@dataclass(frozen=True)
class PixelClasses:
    """The class of each pixel of an image.

    Attributes:
        mask: a mask of the whole image: a path of a file, or the content of a PNG file
        numbers: value of a pixel -> number of its class; others are background, and 255 is ignored
        outlines: instead of a mask: what is painted on the background, one after the other
    """

    mask: str | bytes | None = None
    numbers: tuple[tuple[int, int], ...] = ()
    outlines: tuple[Outline, ...] = ()


@dataclass(frozen=True)
class Example:
    """An image and what it teaches.

    Attributes:
        id: what it is known by
        file: its path
        target: number of its class, :class:`Boxes` or :class:`PixelClasses`
    """

    id: str
    file: str
    target: int | Boxes | PixelClasses


@dataclass
class Loaded:
    """An image in memory.

    Attributes:
        pixels: uint8, height x width x 3, RGB, upright
        number: of its class
        boxes: float32 (objects x 4): x0, y0, x1, y1 in pixels
        numbers: int64, of the objects' classes
        mask: uint8, height x width: the number of the class of each pixel, or :data:`IGNORED`
    """

    pixels: np.ndarray
    number: int = 0
    boxes: np.ndarray | None = None
    numbers: np.ndarray | None = None
    mask: np.ndarray | None = None


def load_example(example: Example, side: int) -> Loaded:
    """Decodes an image and what it teaches.

    Args:
        example: the image
        side: larger images are reduced so that their shorter side is this long

    Raises:
        RefusedImage: it cannot be read
    """
    from PIL import Image as pil

    image = read_image(example.file, draft=(side, side))
    picture = pil.fromarray(image.pixels)
    scale = side / min(picture.size)
    if scale < 1:
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, pil.Resampling.BILINEAR)
    loaded = Loaded(np.array(picture))
    height, width = loaded.pixels.shape[:2]
    if isinstance(example.target, Boxes):
        boxes = example.target.boxes.reshape(-1, 4)
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).clip(0, 1)
        loaded.boxes = (corners * [width, height, width, height]).astype(np.float32)
        loaded.numbers = example.target.numbers.astype(np.int64)
    elif isinstance(example.target, PixelClasses):
        loaded.mask = paint(example.target, height, width)
    else:
        loaded.number = example.target
    return loaded


def paint(target: PixelClasses, height: int, width: int) -> np.ndarray:
    """The number of the class of each pixel: uint8, height x width."""
    import cv2

    if target.mask is not None:
        lookup = np.zeros(256, np.uint8)
        lookup[IGNORED] = IGNORED
        for value, number in target.numbers:
            lookup[value] = number
        return np.asarray(lookup[_stretched(_read_mask(target.mask), height, width)])
    found = np.zeros((height, width), np.uint8)
    for outline in target.outlines:
        if outline.mask is not None and outline.box is not None:
            x, y, w, h = outline.box
            left, top = round(max(x, 0) * width), round(max(y, 0) * height)
            right = min(width, max(left + 1, round((x + w) * width)))
            bottom = min(height, max(top + 1, round((y + h) * height)))
            if right > left and bottom > top:
                inside = _stretched(_read_mask(outline.mask), bottom - top, right - left) > 0
                found[top:bottom, left:right][inside] = outline.number
        for polygon in outline.polygons:
            points = np.rint(np.asarray(polygon) * [width, height]).astype(np.int32)
            cv2.fillPoly(found, [points], int(outline.number))
    return found


def png_bytes(mask: np.ndarray) -> bytes:
    """A mask as the content of a PNG file, which takes a fraction of the memory."""
    from ...media import encode_image

    return encode_image(mask.astype(np.uint8), ".png")


def _read_mask(mask: str | bytes) -> np.ndarray:
    from PIL import Image as pil

    with pil.open(io.BytesIO(mask) if isinstance(mask, bytes) else mask) as opened:
        return np.array(opened if opened.mode in ("L", "P", "1") else opened.convert("L")).astype(np.uint8)


def _stretched(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    import cv2

    if mask.shape == (height, width):
        return mask
    return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))
