"""Traces of JPEG compression: blocks and ringing."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

_BLOCK = 8


def decompress(
    pixels: np.ndarray, tables: Sequence[Sequence[int]] | None = None, quality: float | None = None
) -> np.ndarray:
    """Removes blocks, and then what is left of the ringing; see :func:`deblock` and :func:`dering`."""
    return dering(deblock(pixels, tables, quality), _ripples(tables, quality))


def _ripples(tables: Sequence[Sequence[int]] | None, quality: float | None) -> float:
    """About how high ripples are, in grey levels: they grow with the steps of middle frequencies."""
    quality = quality or 50
    step = tables[0][3] if tables else 16 * (50 / quality if quality < 50 else 2 - quality / 50)
    return min(12.0, step / 7)


def deblock(
    pixels: np.ndarray, tables: Sequence[Sequence[int]] | None = None, quality: float | None = None
) -> np.ndarray:
    """Removes the blocks of JPEG compression by compressing shifted copies again and averaging them.

    Each copy is quantized as the picture was, in another position of the grid of blocks; blocks and ringing of one
    position average out against those of the others (Nosratinia, Enhancement of JPEG-compressed images by
    re-application of JPEG, 2001). Half of the 64 positions do as well as all.

    Args:
        pixels: uint8 RGB
        tables (None): the quantization tables of the file, 64 values each, row by row: luminance, colour
        quality (None): the quality, 1 to 100, that is taken where there are no tables

    Returns:
        uint8 RGB
    """
    how: dict[str, Any] = {"quality": max(1, round(quality or 50))}
    if tables:
        # More than 255 is not allowed in baseline files, and is rare.
        how = {"qtables": [[min(255, step) for step in table] for table in (tables[0], tables[-1])]}
    height, width = pixels.shape[:2]
    total = np.zeros(pixels.shape, np.uint16)
    shifts = [(y, x) for y in range(_BLOCK) for x in range(_BLOCK) if (x + y) % 2]
    for y, x in shifts:
        beyond = ((y, _BLOCK + -(height + y) % _BLOCK), (x, _BLOCK + -(width + x) % _BLOCK), (0, 0))
        total += _again(np.pad(pixels, beyond, "edge"), how)[y : y + height, x : x + width]
    return ((total + len(shifts) // 2) // len(shifts)).astype(np.uint8)


def _again(pixels: np.ndarray, how: Mapping[str, Any]) -> np.ndarray:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", subsampling=0, **how)
    with Image.open(buffer) as opened:
        return np.asarray(opened.convert("RGB"))


def dering(pixels: np.ndarray, strength: float) -> np.ndarray:
    """Smooths the ripples beside strong edges and leaves the edges and the texture elsewhere as they are.

    Ripples reach a block's length from an edge. There, and not on the edge itself, a bilateral filter evens out what
    differs less than the ripples do.

    Args:
        pixels: uint8 RGB
        strength: height of the ripples in grey levels

    Returns:
        uint8 RGB
    """
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    slope = cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)) / 8
    edge = (slope > max(10.0, 1.5 * strength)).astype(np.uint8)
    near = cv2.dilate(edge, np.ones((2 * _BLOCK - 1, 2 * _BLOCK - 1), np.uint8)) - cv2.dilate(edge, np.ones((3, 3)))
    share = cv2.GaussianBlur(near.astype(np.float32), (0, 0), 1.0)[..., None]
    even = cv2.bilateralFilter(np.ascontiguousarray(pixels), 5, 2.5 * strength, 2)
    return np.rint(pixels + share * (even.astype(np.float32) - pixels)).astype(np.uint8)
