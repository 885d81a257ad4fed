"""The run-length code of Label Studio's brush masks, which is that of thi.ng's rle-pack on RGBA pixels.

The SDK's own (``label_studio_sdk.converter.brush``) takes 8 s to import and reads what is painted value by value; tests
compare the two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_SIZES = (3, 4, 8, 16)
"""Bits of a run's length, by its order of magnitude."""

_HEADER = 32 + 5 + 4 * 4
_CHANNELS = 4


def encode(mask: np.ndarray) -> list[int]:
    """Encodes a mask.

    Args:
        mask: bool (height x width)

    Returns:
        bytes, each 0..255
    """
    values = mask.astype(bool).ravel()
    starts = np.flatnonzero(np.diff(values, prepend=~values[:1] if len(values) else False))
    lengths = np.diff(starts, append=len(values)) * _CHANNELS
    limit = 1 << _SIZES[-1]
    parts = [f"{len(values) * _CHANNELS:032b}", "00111", *(f"{size - 1:04b}" for size in _SIZES)]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        word = "11111111" if values[start] else "00000000"
        while length > 0:
            run = min(length, limit)
            number = next(n for n, size in enumerate(_SIZES) if run <= 1 << size)
            parts.append(f"1{number:02b}{run - 1:0{_SIZES[number]}b}{word}")
            length -= run
    bits = np.frombuffer("".join(parts).encode(), np.uint8) - ord("0")
    return [int(byte) for byte in np.packbits(bits)]


def decode(rle: Sequence[int], width: int, height: int) -> np.ndarray:
    """Decodes a mask, also one that was painted in a browser.

    Args:
        rle: bytes, each 0..255
        width: of the image, in pixels
        height: of the image, in pixels

    Returns:
        bool (height x width)

    Raises:
        ValueError: it is no such code, or is not of this size
    """
    bits = np.unpackbits(np.asarray(rle, np.uint8))
    text = (bits + ord("0")).tobytes().decode()
    if len(text) < _HEADER:
        raise ValueError("the mask's code is cut off")
    count, word = int(text[:32], 2), int(text[32:37], 2) + 1
    sizes = [int(text[at : at + 4], 2) + 1 for at in range(37, _HEADER, 4)]
    if count != width * height * _CHANNELS or word != 8:
        raise ValueError(f"the mask's code has {count} values, not the {width} x {height} x {_CHANNELS} of its image")
    values = np.empty(count, np.uint8)
    done, at = 0, _HEADER
    while done < count:
        start = at + 3 + (sizes[int(text[at + 1 : at + 3], 2)] if at + 3 <= len(text) else 0)
        if start >= len(text):
            raise ValueError("the mask's code is cut off")
        length = int(text[at + 3 : start], 2) + 1
        end = start + (word if text[at] == "1" else word * length)
        if done + length > count or end > len(text):
            raise ValueError("the mask's code is cut off")
        values[done : done + length] = int(text[start:end], 2) if text[at] == "1" else np.packbits(bits[start:end])
        done, at = done + length, end
    mask: np.ndarray = values.reshape(height, width, _CHANNELS)[..., 3] > 0
    return mask
