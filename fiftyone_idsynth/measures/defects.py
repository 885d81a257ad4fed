"""Defects of a photograph that are measured without a learned model: arrays in, numbers out.

:func:`measure` looks at an image once and returns every measure; the grey image, the crops and the histogram behind
them are computed once and shared. Tone, colour, blur and borders are measured on an image of at most
:data:`WORKING_SIDE` pixels on its longer side, so that they mean the same for a 12-megapixel photo and for its
thumbnail; noise and traces of compression, which scaling destroys, on native pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from .jpeg import blockiness_and_quality, quality_of_tables
from .rating import MEASURES

WORKING_SIDE = 1024
"""Longest side, in pixels, of the image that tone, colour, blur and borders are measured on."""

NATIVE_PIXELS = 1_200_000
"""Images with more pixels are measured for noise and compression on nine crops of :data:`CROP` pixels a side."""

CROP = 384


@dataclass(frozen=True)
class _View:
    """What the measures share of one image."""

    rgb: np.ndarray  # at working resolution
    grey: np.ndarray  # at working resolution
    histogram: np.ndarray  # of grey, sums to 1
    crops: list[np.ndarray]  # RGB at native resolution; their corners lie on multiples of 8 pixels


def measure(pixels: np.ndarray, *, quantization: Mapping[int, Any] | None = None) -> dict[str, float | None]:
    """Measures every defect of one image.

    Args:
        pixels: uint8 array, height x width x 3 (RGB), upright, at least 1 x 1
        quantization (None): the quantization tables of the JPEG file it was decoded from

    Returns:
        a dictionary with the names of :data:`fiftyone_idsynth.measures.rating.MEASURES`; ``None`` where an image has
        nothing to measure, e.g. the blur of an image without edges
    """
    view = _look(pixels)
    noise_sigma = noise(view.crops)
    blurred, motion = blur(view.grey, noise_sigma or 0.0)
    blocks, from_pixels = blockiness_and_quality(view.crops)
    from_file = quality_of_tables(quantization) if quantization else None
    low, high, top = _percentiles(view.histogram, (0.01, 0.98, 0.99))
    found: dict[str, float | None] = {
        "blur": blurred,
        "motion_blur": motion,
        "noise": noise_sigma,
        "impulse_noise": impulse_noise(view.crops),
        "blockiness": blocks,
        "jpeg_quality": from_file if from_file is not None else from_pixels,
        "overexposure": overexposure(view.rgb),
        "underexposure": 1 - high / 255,
        "contrast": (top - low) / 255,
        "color_cast": color_cast(view.rgb),
        "border": border(view.grey),
        "emptiness": emptiness(view.grey),
    }
    return {name: None if (value := found[name]) is None else round(float(value), 5) for name in MEASURES}


def _look(pixels: np.ndarray) -> _View:
    height, width = pixels.shape[:2]
    pixels = np.ascontiguousarray(pixels)
    scale = WORKING_SIDE / max(height, width)
    rgb = pixels
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        rgb = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    histogram = cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel() / grey.size
    return _View(rgb, grey, histogram, _crops(pixels))


def _crops(pixels: np.ndarray) -> list[np.ndarray]:
    height, width = pixels.shape[:2]
    if height * width <= NATIVE_PIXELS:
        return [pixels]
    rows = sorted({int(f * max(0, height - CROP)) // 8 * 8 for f in (0.1, 0.5, 0.9)})
    columns = sorted({int(f * max(0, width - CROP)) // 8 * 8 for f in (0.1, 0.5, 0.9)})
    return [pixels[y : y + CROP, x : x + CROP] for y in rows for x in columns]


def _percentiles(histogram: np.ndarray, shares: tuple[float, ...]) -> list[float]:
    return [float(level) for level in np.searchsorted(np.cumsum(histogram), np.array(shares) - 1e-6)]


# -- blur -------------------------------------------------------------------------------------------------------------


_BLUR_SCALE = 1.45
"""Found on 100 photographs that were blurred by Gaussians of 1 to 3 pixels."""


def blur(grey: np.ndarray, noise_sigma: float = 0.0) -> tuple[float | None, float | None]:
    """Estimates how wide edges are blurred, by blurring them once more.

    At a step edge blurred by a Gaussian of standard deviation s, blurring again by 1 pixel lowers the gradient by the
    factor R = sqrt(s^2 + 1) / s, hence s = 1 / sqrt(R^2 - 1) (Zhuo and Sim, Defocus map estimation from a single
    image, 2011). The sharpest tenth of the edges counts, because a photo with a sharp subject before a soft background
    is sharp. It is taken per direction of the gradient: motion widens the edges across its path only. The sharpest
    tenth lies below the mean; :data:`_BLUR_SCALE` makes up for it.

    Args:
        grey: uint8 array, height x width
        noise_sigma (0): standard deviation of the image's noise, which passes for sharp edges: edges must stand out of
            it, and it is smoothed away first

    Returns:
        the standard deviation in pixels in the direction that is blurred most, at most 15, and the relative difference
        between the directions, 0 (defocus) to 1 (motion); ``(None, None)`` without edges
    """
    smoothing = 0.0 if noise_sigma < 2.5 else 0.7 if noise_sigma < 6 else 1.0 if noise_sigma < 15 else 1.5
    image = grey.astype(np.float32)
    again = cv2.GaussianBlur(image, (0, 0), float(np.hypot(smoothing, 1.0)))
    if smoothing:
        image = cv2.GaussianBlur(image, (0, 0), smoothing)
    dx, dy = cv2.Sobel(image, cv2.CV_32F, 1, 0), cv2.Sobel(image, cv2.CV_32F, 0, 1)
    before = cv2.magnitude(dx, dy)
    least = 24.0 + noise_sigma * (8.0 if smoothing == 0 else 3.0 / smoothing)
    peaks = (before >= cv2.dilate(before, np.ones((3, 3), np.uint8))) & (before > least)
    peaks[:3] = peaks[-3:] = peaks[:, :3] = peaks[:, -3:] = False
    at = np.flatnonzero(peaks)
    if len(at) < 12:
        return None, None
    after = np.hypot(cv2.Sobel(again, cv2.CV_32F, 1, 0).ravel()[at], cv2.Sobel(again, cv2.CV_32F, 0, 1).ravel()[at])
    ratio = before.ravel()[at] / np.maximum(after, 1e-3)
    square = 1.0 / np.maximum(ratio**2 - 1.0, 0.01) - 0.27 * smoothing**2
    sigma = np.sqrt(np.maximum(square, 0.01))
    direction = np.round(np.arctan2(dy.ravel()[at], dx.ravel()[at]) / (np.pi / 8)).astype(int) % 8
    per_direction = [_lowest_tenth(sigma[direction == d]) for d in range(8) if np.count_nonzero(direction == d) >= 15]
    if len(per_direction) < 2:
        return _BLUR_SCALE * _lowest_tenth(sigma), None
    most, least_blurred = max(per_direction), min(per_direction)
    return _BLUR_SCALE * most, 1 - least_blurred / most


def _lowest_tenth(values: np.ndarray) -> float:
    """The value that a tenth of the values stays below."""
    return float(np.partition(values, len(values) // 10)[len(values) // 10])


# -- noise ------------------------------------------------------------------------------------------------------------

_SECOND_DIFFERENCE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
"""Immerkaer's mask (Fast noise variance estimation, 1996), scaled so that it keeps the variance of white noise."""

_NOISE_BLOCK = 8

_CLIPPED = np.where((np.arange(256) < 3) | (np.arange(256) > 252), 255, 0).astype(np.uint8)
_IMPULSE_LIMIT = np.minimum(3 * np.arange(256) + 40, 255).astype(np.uint8)


def noise(crops: list[np.ndarray]) -> float | None:
    """Estimates the standard deviation of additive noise.

    Immerkaer's second difference removes planes of grey; its mean square is taken over blocks of 8 x 8 pixels, and the
    median over the flattest twentieth of the blocks counts. Flat is judged on the smoothed image, which the noise
    itself hardly moves, so that texture is left out without preferring quiet blocks. Blocks that are burnt out or
    black, where noise is cut off, are left out. The green channel is used: converting to grey would average
    the noise of the three.

    Args:
        crops: uint8 arrays, height x width x 3

    Returns:
        grey levels; ``None`` for images smaller than 16 x 16
    """
    energy: list[np.ndarray] = []
    slope: list[np.ndarray] = []
    clipped: list[np.ndarray] = []
    for crop in crops:
        rows, columns = crop.shape[0] // _NOISE_BLOCK, crop.shape[1] // _NOISE_BLOCK
        if rows < 2 or columns < 2:
            continue
        green = np.ascontiguousarray(crop[: rows * _NOISE_BLOCK, : columns * _NOISE_BLOCK, 1])
        residual = cv2.filter2D(green, cv2.CV_32F, _SECOND_DIFFERENCE)
        smooth = cv2.GaussianBlur(green, (0, 0), 1.5)
        dx, dy = cv2.spatialGradient(smooth)
        gradient = cv2.add(cv2.convertScaleAbs(dx, alpha=4), cv2.convertScaleAbs(dy, alpha=4))
        extreme = cv2.LUT(green, _CLIPPED)
        for image, values in ((cv2.multiply(residual, residual), energy), (gradient, slope), (extreme, clipped)):
            values.append(cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA).ravel())
    if not energy:
        return None
    energies, slopes, clips = np.concatenate(energy), np.concatenate(slope), np.concatenate(clipped)
    usable = clips < 0.02 * 255
    if np.count_nonzero(usable) < 8:
        usable = clips <= np.quantile(clips, 0.1)
    energies, slopes = energies[usable], slopes[usable]
    count = min(len(energies), max(8, len(energies) // 20))
    flattest = np.argpartition(slopes, count - 1)[:count]
    return float(np.sqrt(np.median(energies[flattest])))


def impulse_noise(crops: list[np.ndarray]) -> float:
    """Estimates the share of pixels that salt-and-pepper noise replaced.

    An impulse is (nearly) black or white and differs from the median of its neighbourhood far more than its
    neighbours do.

    Args:
        crops: uint8 arrays, height x width x 3

    Returns:
        a share, 0 to 1
    """
    found = total = 0
    for crop in crops:
        green = np.ascontiguousarray(crop[..., 1])
        total += green.size
        if min(green.shape) < 5:
            continue
        difference = cv2.absdiff(green, cv2.medianBlur(green, 5))
        usual = cv2.medianBlur(difference, 5)
        outlier = difference > cv2.LUT(usual, _IMPULSE_LIMIT)
        found += int(np.count_nonzero(outlier & ((green < 6) | (green > 249))))
    return found / total


# -- tone and colour --------------------------------------------------------------------------------------------------


def overexposure(rgb: np.ndarray) -> float:
    """Measures how much of an image is burnt out.

    Overexposure cuts off channels one after the other, so pixels with any channel at its end count. Where pure white
    makes up most of the image's outline it is the plain background of a product photo, of which a tenth counts, and the
    rest of the image is judged by itself.

    Args:
        rgb: uint8 array, height x width x 3

    Returns:
        share of the pixels, 0 to 1
    """
    red, green, blue = cv2.split(rgb)
    brightest, darkest = cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)
    white = darkest >= 250
    outline = np.concatenate([white[0], white[-1], white[:, 0], white[:, -1]])
    white_share = np.count_nonzero(white) / white.size
    partly = np.count_nonzero((brightest >= 253) & ~white)
    if np.count_nonzero(outline) >= 0.6 * outline.size:
        return partly / max(1.0, white.size * (1 - white_share)) * 0.9 + 0.1 * white_share
    return partly / white.size + white_share


def color_cast(rgb: np.ndarray) -> float:
    """Estimates how far the colour of the light is from neutral.

    Three estimates of the light (grey edge, white patch, shades of grey: van de Weijer, Edge-based color constancy,
    2007) err on different scenes: a field of sunflowers is yellow, its edges and highlights are not. The smallest of
    their angles to grey counts.

    Args:
        rgb: uint8 array, height x width x 3

    Returns:
        degrees, 0 (neutral) to 55
    """
    height, width = rgb.shape[:2]
    scale = min(1.0, 96 / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    colors = small.reshape(-1, 3)
    highlights = np.percentile(colors, 98, axis=0)
    strongest = np.maximum(np.maximum(colors[:, 0], colors[:, 1]), colors[:, 2])
    usable = colors[(strongest < 250) & (strongest > 12)]
    shades = np.mean((usable if len(usable) > 50 else colors) ** 5, axis=0) ** 0.2
    differences = np.concatenate([np.diff(small, axis=0).reshape(-1, 3), np.diff(small, axis=1).reshape(-1, 3)])
    edges = np.sqrt(np.mean(differences**2, axis=0)) if len(differences) else shades
    return min(_angle_to_grey(light) for light in (highlights, shades, edges))


def _angle_to_grey(light: np.ndarray) -> float:
    length = float(np.linalg.norm(light))
    if length < 1:  # black, or without edges: no light to judge
        return 0.0
    return float(np.degrees(np.arccos(min(1.0, float(light.sum()) / (length * np.sqrt(3))))))


# -- content ----------------------------------------------------------------------------------------------------------


def border(grey: np.ndarray) -> float:
    """Measures plain bars along the edges: letterbox, pillarbox, frames.

    A bar is a run of lines of one even grey that ends in a step along at least half of its length; the white around a
    product photo, which ends at the outline of the product, is none.

    Args:
        grey: uint8 array, height x width

    Returns:
        share of the area, 0 to 1
    """
    height, width = grey.shape
    inner = grey
    top, bottom = _bar(inner), _bar(inner[::-1])
    if top + bottom < height:
        inner = inner[top : height - bottom]
    columns = np.ascontiguousarray(inner.T)
    left, right = _bar(columns), _bar(columns[::-1])
    if left + right < width:
        columns = columns[left : width - right]
    return 1 - columns.size / grey.size


def _bar(grey: np.ndarray) -> int:
    height = len(grey)
    if height < 8 or grey.shape[1] < 8:
        return 0
    low, high = grey.min(axis=1).astype(int), grey.max(axis=1).astype(int)
    level = int(low[0] + high[0]) // 2
    even = (high - low <= 20) & (abs((low + high) // 2 - level) <= 10)
    end = int(np.argmin(even))
    if even[end] or end == 0:  # the whole image is one plain area, or there is no bar
        return 0
    beyond = grey[min(end + 2, height - 1)].astype(int)
    return end if np.mean(abs(beyond - level) > 12) >= 0.5 else 0


def emptiness(grey: np.ndarray) -> float:
    """Measures how much of an image shows nothing: plain colour, a smooth gradient.

    Args:
        grey: uint8 array, height x width

    Returns:
        share of the area, in cells of a 32nd of the longer side, whose grey levels differ by less than 12 after
        smoothing; 0 to 1
    """
    cell = max(2, max(grey.shape) // 32)
    smooth = cv2.blur(grey, (3, 3))
    kernel = np.ones((cell, cell), np.uint8)
    span = cv2.subtract(cv2.dilate(smooth, kernel), cv2.erode(smooth, kernel))[cell // 2 :: cell, cell // 2 :: cell]
    return float(np.mean(span < 12)) if span.size else 1.0
