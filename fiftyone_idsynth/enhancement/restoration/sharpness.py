"""Blur: Wiener deconvolution and unsharp masking."""

from __future__ import annotations

import math

import cv2
import numpy as np

LEAST_BALANCE = 3e-3
"""Regularization where there is no noise but that of rounding: what is unknown of the blur weighs more."""


def deconvolve(pixels: np.ndarray, sigma: float, balance: float = LEAST_BALANCE) -> np.ndarray:
    """Undoes a Gaussian blur by Wiener deconvolution (scikit-image's ``restoration.wiener``).

    Args:
        pixels: uint8 RGB
        sigma: standard deviation of the blur in pixels
        balance (LEAST_BALANCE): how much smoothness counts against sharpness, more where there is noise

    Returns:
        uint8 RGB
    """
    from scipy.fft import next_fast_len
    from skimage.restoration import wiener

    radius = math.ceil(4 * sigma)
    kernel = cv2.getGaussianKernel(2 * radius + 1, sigma)
    height, width = pixels.shape[:2]
    before = 2 * radius
    beyond = tuple((before, next_fast_len(side + 2 * before) - side - before) for side in (height, width))
    sharp = np.empty(pixels.shape, np.uint8)
    for channel in range(3):
        plane = np.pad(pixels[..., channel].astype(np.float64) / 255, beyond, "symmetric")
        found = wiener(plane, kernel @ kernel.T, balance, clip=False)[before : before + height, before : before + width]
        sharp[..., channel] = np.clip(np.rint(255 * found), 0, 255)
    return sharp


def balance_for(noise: float) -> float:
    """The regularization for a standard deviation of the noise in grey levels."""
    return LEAST_BALANCE + 2e-3 * noise**2


def unsharp(pixels: np.ndarray, sigma: float, amount: float) -> np.ndarray:
    """Sharpens by adding the difference to a blurred copy (unsharp mask).

    Args:
        pixels: uint8 RGB
        sigma: standard deviation of that blur in pixels
        amount: how much of the difference is added

    Returns:
        uint8 RGB
    """
    values = pixels.astype(np.float32)
    sharp = values + amount * (values - cv2.GaussianBlur(values, (0, 0), sigma))
    return np.clip(np.rint(sharp), 0, 255).astype(np.uint8)
