"""Aspect-ratio buckets: the sizes that images are trained in, and which images are trained together.

The method is that of NovelAI and kohya's trainers: sizes of about the same area, each image in the one nearest to its
proportions, so that little is cropped and batches hold images of one size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Size = tuple[int, int]
"""Width and height in pixels."""

COARSEST_STEP = 64
"""Sides of buckets are multiples of this from 512 pixels on, and of an eighth of the resolution below."""


@dataclass(frozen=True)
class Placement:
    """How an image is brought to the size of a bucket: scaled until it covers it, and cropped around its middle.

    Attributes:
        bucket: the size that it gets
        scaled: its size before it is cropped
        left: columns that are cropped on the left
        top: rows that are cropped above
    """

    bucket: Size
    scaled: Size
    left: int
    top: int


def bucket_step(resolution: int, unit: int) -> int:
    """What the sides of buckets must divide by.

    Args:
        resolution: the side of a square image in pixels
        unit: what the model's sides must divide by
    """
    return max(unit, min(COARSEST_STEP, resolution // 8) // unit * unit)


def bucket_sizes(resolution: int, unit: int) -> list[Size]:
    """The sizes of buckets.

    Args:
        resolution: the side of a square image in pixels
        unit: what the model's sides must divide by; ``resolution`` does

    Returns:
        sizes of at most ``resolution`` squared pixels, each side from half of it to twice, sorted
    """
    step = bucket_step(resolution, unit)
    sizes = {(resolution, resolution)}
    for short in range(-(-resolution // 2 // step) * step, resolution + 1, step):
        long = min(2 * resolution, resolution * resolution // short // step * step)
        if short and long >= short:
            sizes |= {(short, long), (long, short)}
    return sorted(sizes)


def nearest_bucket(width: int, height: int, sizes: Sequence[Size]) -> Size:
    """The bucket whose proportions are nearest to those of an image, the largest of those that are equally near."""
    return min(sizes, key=lambda size: (abs(math.log(width * size[1] / (height * size[0]))), -size[0] * size[1]))


def enlargement(width: int, height: int, bucket: Size) -> float:
    """How many times an image is enlarged to cover a bucket; less than 1 if it is reduced."""
    return max(bucket[0] / width, bucket[1] / height)


def place(width: int, height: int, bucket: Size) -> Placement:
    """Says how an image is scaled and cropped for a bucket."""
    scale = enlargement(width, height, bucket)
    scaled = (max(bucket[0], round(width * scale)), max(bucket[1], round(height * scale)))
    return Placement(bucket, scaled, (scaled[0] - bucket[0]) // 2, (scaled[1] - bucket[1]) // 2)


class Order:
    """Which images make up each batch. It depends on nothing but these arguments, so a training can go on anywhere.

    In every epoch each image comes as often as it is repeated; all images of a batch are of one bucket.

    Args:
        buckets: the size of each image
        repeats: how often each image comes
        batch_size: images in a batch; the last one of a bucket may be smaller
        seed: of the order
    """

    def __init__(self, buckets: Sequence[Size], repeats: Sequence[int], batch_size: int, seed: int):
        numbers: dict[Size, list[int]] = {}
        for number, (size, times) in enumerate(zip(buckets, repeats, strict=True)):
            numbers.setdefault(size, []).extend([number] * times)
        self._buckets = [numbers[size] for size in sorted(numbers)]
        self._batch_size, self._seed = batch_size, seed
        self._epoch, self._batches = -1, [[0]]
        self.batches_per_epoch = sum(-(-len(numbers) // batch_size) for numbers in self._buckets)

    def batch(self, number: int) -> list[int]:
        """The numbers of the images of a batch; batches are counted from 0 through all epochs."""
        epoch, index = divmod(number, self.batches_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._shuffled(epoch)
        return self._batches[index]

    def _shuffled(self, epoch: int) -> list[list[int]]:
        rng = np.random.default_rng((self._seed, epoch))
        batches = []
        for numbers in self._buckets:
            order = [numbers[i] for i in rng.permutation(len(numbers))]
            batches += [order[start : start + self._batch_size] for start in range(0, len(order), self._batch_size)]
        return [batches[i] for i in rng.permutation(len(batches))]
