"""Pictures of any size through a model that enlarges, tile by tile, in bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..models.batches import empty_cache, out_of_memory
from ..models.errors import OutOfDeviceMemory
from ..models.roles import Upscaler

LEAST_TILE = 32
"""Tiles are not made smaller than this, in pixels, when memory is short."""


@dataclass(frozen=True)
class Tile:
    """A part of a picture along one axis.

    Attributes:
        start: where it begins
        stop: where it ends
        first: where the part of its result begins that is used
        last: where that ends
    """

    start: int
    stop: int
    first: int
    last: int


def tiles(length: int, tile: int, overlap: int, unit: int) -> list[Tile]:
    """Divides one side of a picture.

    Tiles begin at multiples of the unit, so that the model's windows lie as in the whole picture. Neighbours share
    ``overlap`` pixels at least; each uses its part up to the middle of what they share.

    Args:
        length: in pixels
        tile: length of a tile, made a multiple of the unit
        overlap: in pixels, made a multiple of the unit
        unit: see :class:`fiftyone_idsynth.models.roles.Upscaler`
    """
    overlap = -(-overlap // unit) * unit
    tile = max(-(-tile // unit) * unit, overlap + unit)
    if length <= tile:
        return [Tile(0, length, 0, length)]
    step = tile - overlap
    starts = list(range(0, length - overlap, step))
    stops = [min(start + tile, length) for start in starts]
    cuts = [0, *((start + stop) // 2 for start, stop in zip(starts[1:], stops, strict=False)), length]
    return [Tile(*ends) for ends in zip(starts, stops, cuts, cuts[1:], strict=False)]


class TiledUpscaler:
    """Enlarges pictures with a model, tile by tile.

    Args:
        model: gives the model
        tile: side of a tile in pixels
        overlap: pixels that neighbours share
        batch_size: tiles that the model gets at once
        note: is told when tiles are made smaller

    Attributes:
        tile: side of a tile, smaller than asked for once memory has been short
    """

    def __init__(
        self, model: Callable[[], Upscaler], tile: int, overlap: int, batch_size: int, note: Callable[[str], None]
    ):
        self._model, self.overlap, self._note = model, overlap, note
        self.tile, self.batch_size = tile, batch_size
        self._lock = threading.Lock()

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Enlarges a picture.

        Args:
            pixels: RGB, uint8

        Raises:
            OutOfDeviceMemory: even small tiles do not fit
        """
        with self._lock:
            while True:
                try:
                    return self._in_tiles(pixels)
                except Exception as error:
                    if not out_of_memory(error):
                        raise
                    self._shrink(min(self.tile, max(pixels.shape[:2])), error)
                empty_cache()  # only here are the failed tiles no longer held by the traceback

    def _shrink(self, tried: int, error: Exception) -> None:
        model = self._model()
        if self.batch_size > 1:
            self.batch_size //= 2
            self._note(f"{model.about}: out of memory, {self.batch_size} tiles at once from now on")
        elif tried > LEAST_TILE:
            self.tile = max(LEAST_TILE, tried // 2)
            self.overlap = min(self.overlap, self.tile // 2)
            self._note(f"{model.about}: out of memory, tiles of {self.tile} x {self.tile} pixels from now on")
        else:
            raise OutOfDeviceMemory(
                f"{model.about}: the memory of {model.device} is too small even for tiles of {tried} x {tried} pixels: "
                "end other programs that use it, choose a smaller model, or run on the processor with device='cpu'"
            ) from error

    def _in_tiles(self, pixels: np.ndarray) -> np.ndarray:
        model = self._model()
        height, width = pixels.shape[:2]
        scale = model.scale
        result = np.empty((height * scale, width * scale, 3), np.uint8)
        for batch in self._batches(height, width, model.unit):
            parts = [np.ascontiguousarray(pixels[y.start : y.stop, x.start : x.stop]) for y, x in batch]
            for (y, x), made in zip(batch, model.upscale(parts), strict=True):
                rows, columns = (slice((t.first - t.start) * scale, (t.last - t.start) * scale) for t in (y, x))
                result[y.first * scale : y.last * scale, x.first * scale : x.last * scale] = made[rows, columns]
        return result

    def _batches(self, height: int, width: int, unit: int) -> Iterator[list[tuple[Tile, Tile]]]:
        """Tiles of one size, as many as the model gets at once."""
        places = [
            (y, x)
            for y in tiles(height, self.tile, self.overlap, unit)
            for x in tiles(width, self.tile, self.overlap, unit)
        ]
        same: dict[tuple[int, int], list[tuple[Tile, Tile]]] = {}
        for y, x in places:
            same.setdefault((y.stop - y.start, x.stop - x.start), []).append((y, x))
        for group in same.values():
            for start in range(0, len(group), self.batch_size):
                yield group[start : start + self.batch_size]
