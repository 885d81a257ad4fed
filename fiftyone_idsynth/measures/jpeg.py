"""Traces of JPEG compression: the quality of a file from its tables, or of an image from its pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np

_LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
"""Quantization of luminance in ITU-T T.81, annex K.1, which libjpeg scales by the quality."""

_BINS = 255
"""Histogram bins of a coefficient: -127 to 127."""


@cache
def _tables() -> np.ndarray:
    """The luminance table of every quality from 1 to 100, as libjpeg's ``jpeg_quality_scaling`` makes them."""
    qualities = np.arange(1, 101)
    scale = np.where(qualities < 50, 5000 // qualities, 200 - 2 * qualities)
    return np.clip((_LUMINANCE[None] * scale[:, None, None] + 50) // 100, 1, 255)


def quality_of_tables(quantization: Mapping[int, Any]) -> float | None:
    """Returns the quality that a JPEG file was written with.

    Args:
        quantization: its quantization tables as Pillow gives them: table number -> 64 values row by row

    Returns:
        1 to 100: exact for the tables of libjpeg and all that follow it; for other tables the nearest quality
    """
    table = np.asarray(next(iter(quantization.values()), ()))
    if 0 in quantization:
        table = np.asarray(quantization[0])
    if table.size != 64:
        return None
    # Log steps: a step of 2 against 1 matters as much as 40 against 20. A table whose entries are sorted otherwise
    # (by frequency) would still have the same values, so the nearest is right for every order of equal content.
    distance = np.abs(np.log(_tables().reshape(100, 64)) - np.log(np.maximum(table.reshape(1, 64), 1))).sum(axis=1)
    return float(100 - int(np.argmin(distance[::-1])))


def blockiness_and_quality(crops: Sequence[np.ndarray]) -> tuple[float, float]:
    """Measures the 8 x 8 blocks that JPEG compression leaves, and estimates the quality it had.

    Blocks show as steps where second differences peak every eighth row and column. The quality follows from
    the histograms of the block's cosine coefficients, which pile up at multiples of the quantization steps (Fan and de
    Queiroz, Identification of bitmap compression history, 2003): the table whose multiples fit best wins. The position
    of the grid is searched for, so cropped images count too; scaled images have no trace.

    Args:
        crops: uint8 arrays, height x width x 3 (RGB), all with their corner at the same position in the grid

    Returns:
        the height of the steps relative to the gradients between them, from 0; the quality, 1 to 100 (100: no trace)
    """
    greys = [cv2.cvtColor(np.ascontiguousarray(c), cv2.COLOR_RGB2GRAY) for c in crops if min(c.shape[:2]) >= 24]
    if not greys:
        return 0.0, 100.0
    vertical, column = _steps(greys, 1)
    horizontal, row = _steps(greys, 0)
    blockiness = (vertical + horizontal) / 2
    for y, x in dict.fromkeys(((row, column), (0, 0))):  # fine steps do not show the grid, and most start at 0
        if (quality := _quality_of_pixels([g[y:, x:] for g in greys])) < 100:
            return blockiness, quality
    return blockiness, 100.0


def _steps(greys: Sequence[np.ndarray], axis: int) -> tuple[float, int]:
    """The relative height of the steps across block borders along one axis, and the position of the first border."""
    peaks, gradients = np.zeros(8), 0.0
    counts = np.zeros(8)
    kernel = np.array([[1.0, -3.0, 3.0, -1.0]], np.float32)  # a step against the slopes beside it
    plain = np.array([[0.0, -1.0, 1.0, 0.0]], np.float32)
    if axis == 0:
        kernel, plain = kernel.T, plain.T
    anchor = (1, 0) if axis == 1 else (0, 1)
    total = 0
    for whole in greys:
        grey = whole[::2] if axis == 1 else np.ascontiguousarray(whole[:, ::2])  # every second line is enough
        # Strong edges of the scene are cut off at 40 grey levels: they would drown the steps.
        third = np.minimum(cv2.convertScaleAbs(cv2.filter2D(grey, cv2.CV_16S, kernel, anchor=anchor)), 40)
        slope = cv2.convertScaleAbs(cv2.filter2D(grey, cv2.CV_16S, plain, anchor=anchor))
        profile = cv2.reduce(third, 1 - axis, cv2.REDUCE_SUM, dtype=cv2.CV_32F).ravel()[2:-2]
        phase = (np.arange(len(profile)) + 3) % 8  # of the pixel behind the step
        peaks += np.bincount(phase, profile, minlength=8)
        counts += np.bincount(phase, minlength=8) * grey.shape[1 - axis]
        gradients += float(cv2.sumElems(slope)[0])
        total += grey.size
    mean = peaks / np.maximum(counts, 1)
    first = int(np.argmax(mean))
    others = float(np.median(np.delete(mean, first)))
    return max(0.0, float(mean[first]) - others) / (gradients / total + 1.0), first


@cache
def _cosines() -> np.ndarray:
    """The orthonormal 8-point cosine transform."""
    k, n = np.mgrid[:8, :8]
    matrix = np.cos((2 * n + 1) * k * np.pi / 16) / 2
    matrix[0] /= np.sqrt(2)
    return matrix.astype(np.float32)


_FREQUENCIES = [(0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (0, 3), (3, 0), (2, 2), (1, 3), (3, 1)]


@cache
def _fits() -> tuple[np.ndarray, np.ndarray]:
    """Per quality, for every frequency and value of a coefficient: how well it fits the step, and whether it counts."""
    values = np.arange(_BINS) - _BINS // 2
    steps = np.array([[table[f] for f in _FREQUENCIES] for table in _tables()])[:, :, None]
    counts = abs(values) > steps / 2 - 0.5
    counts &= steps > 2  # rounding to whole grey levels hides finer steps
    fits = np.where(counts, np.cos(2 * np.pi * values / steps), 0.0)
    return fits.reshape(100, -1), counts.astype(float).reshape(100, -1)


def _quality_of_pixels(greys: Sequence[np.ndarray]) -> float:
    histogram = np.zeros(len(_FREQUENCIES) * _BINS)
    for grey in greys:
        rows, columns = grey.shape[0] // 8, grey.shape[1] // 8
        blocks = grey[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3).reshape(-1, 8, 8)
        blocks = blocks[:: max(1, len(blocks) // 1500)]
        cut_off = (blocks.min(axis=(1, 2)) == 0) | (blocks.max(axis=(1, 2)) == 255)  # not what was quantized
        blocks = blocks[~cut_off].astype(np.float32) - 128
        coefficients = np.matmul(np.matmul(_cosines(), blocks), _cosines().T)
        chosen = np.stack([coefficients[:, y, x] for y, x in _FREQUENCIES])
        bins = np.clip(np.rint(chosen), -(_BINS // 2), _BINS // 2).astype(int) + _BINS // 2
        bins += np.arange(len(_FREQUENCIES))[:, None] * _BINS
        histogram += np.bincount(bins.ravel(), minlength=histogram.size)
    table = histogram.reshape(len(_FREQUENCIES), _BINS).copy()
    table[:, [0, -1]] = 0
    fit, counts = _fits()
    support = counts @ table.ravel()
    score = fit @ table.ravel() / np.maximum(support, 1)
    score[support < 60] = 0
    best = float(score.max())
    if best < 0.4:
        return 100.0
    # Every multiple fits a finer step that divides it: the coarsest of the good fits is the one that was used.
    coarsest = int(np.argmax(score >= 0.9 * best))
    near = score[coarsest : coarsest + 4]  # neighbours share most steps; of equals the best quality
    return float(1 + coarsest + int(np.flatnonzero(near >= near.max() - 1e-9)[-1]))
