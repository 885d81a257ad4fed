"""Sizes of the canvases that objects are placed on: given, or drawn from a list or a range."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ParameterError

_SIZE = re.compile(r"(\d+)(?:-(\d+))?x(\d+)(?:-(\d+))?")


@dataclass(frozen=True)
class Canvas:
    """Sizes of canvases.

    Attributes:
        width: least and greatest width in pixels
        height: least and greatest height in pixels
    """

    width: tuple[int, int]
    height: tuple[int, int]

    @property
    def middle(self) -> tuple[int, int]:
        """Width and height in the middle of the ranges."""
        return sum(self.width) // 2, sum(self.height) // 2

    def draw(self, rng: np.random.Generator, unit: int) -> tuple[int, int]:
        """Draws a size whose sides divide by a unit."""
        return _draw(rng, self.width, unit), _draw(rng, self.height, unit)


def parse_canvas(written: str, unit: int, parameter: str = "canvas") -> Canvas:
    """Reads ``"512x512"`` or a range such as ``"512-768x384-512"``.

    Args:
        written: width x height in pixels
        unit: what sides must divide by
        parameter ("canvas"): for messages

    Raises:
        ParameterError: it is no size, or no size in it divides by the unit
    """
    found = _SIZE.fullmatch(written.replace(" ", "").lower())
    if not found:
        raise ParameterError(
            parameter, written, "give sizes in pixels, width x height, e.g. 512x512, or ranges, e.g. 512-768x512-768"
        )
    left, right, top, bottom = found.groups()
    return Canvas(
        _range(int(left), int(right or left), unit, parameter, written),
        _range(int(top), int(bottom or top), unit, parameter, written),
    )


def draw_canvas(rng: np.random.Generator, canvases: Sequence[Canvas], unit: int) -> tuple[int, int]:
    """Draws one of some canvases, and a size in its range."""
    return canvases[int(rng.integers(len(canvases)))].draw(rng, unit)


def _range(least: int, most: int, unit: int, parameter: str, written: str) -> tuple[int, int]:
    if least > most:
        raise ParameterError(parameter, written, f"{least} is more than {most}: write the smaller one first")
    if not 64 <= least <= most <= 8192:
        raise ParameterError(parameter, written, "sides must be between 64 and 8192 pixels")
    if most // unit * unit < least:
        below = least // unit * unit
        near = f"{below} or {below + unit}" if below >= 64 else str(below + unit)
        side = f"{least}" if least == most else f"nothing between {least} and {most}"
        raise ParameterError(parameter, written, f"{side} does not divide by {unit}, as the model needs: take {near}")
    return least, most


def _draw(rng: np.random.Generator, sides: tuple[int, int], unit: int) -> int:
    least, most = -(-sides[0] // unit), sides[1] // unit
    return unit * int(rng.integers(least, most + 1))
