"""Groups of duplicates around the image that is kept, without chaining."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..measures.hashing import Hashes, Indices, hamming, near_pairs

PHASH_RADIUS = 10
"""Two images are confirmed as near-duplicates if their pHashes differ in at most this many bits."""

PLAIN_STEPS = 24
"""An image is plain if at least this many of the 64 brightness steps of its difference hash are flat ..."""

FLAT_STEP = 2
"""... that is, at most this many grey levels high."""

THUMBNAIL = 16
"""Side of a plain image's thumbnail, in pixels."""

THUMBNAIL_MEAN, THUMBNAIL_MAX = 4, 32
"""Two plain images are alike if their thumbnails differ by at most this many levels on average, and in any value."""

Agrees = Callable[[int, Indices, NDArray[np.uint8]], NDArray[np.bool_]]


@dataclass
class Groups:
    """Which image each image is a duplicate of.

    Attributes:
        keeper: for each image the position of the image that is kept in its place; its own if it is kept itself
        distance: for each image the Hamming distance of its hash to the keeper's, 0..64
        identical: for each image whether its file is identical to the keeper's
    """

    keeper: Indices
    distance: NDArray[np.uint8]
    identical: NDArray[np.bool_]


def star_groups(
    hashes: Hashes,
    contents: Sequence[str | None],
    *,
    threshold: int | None,
    hashed: NDArray[np.bool_] | None = None,
    agrees: Agrees | None = None,
    pinned: NDArray[np.bool_] | None = None,
) -> Groups:
    """Groups images around keepers, the best image first.

    The best image becomes a keeper and takes every image whose hash is within the threshold of its own; the best
    image that is left becomes the next keeper, and so on. An image joins only a keeper that it resembles itself,
    never one that merely resembles a resembling image, so that groups cannot chain from one picture to an unrelated
    one.

    Args:
        hashes: uint64 array of shape (n,), the best image first
        contents: content hash of each image's file, or ``None`` if it is to be ignored
        threshold: the largest Hamming distance, 0..16; ``None`` compares contents only
        hashed (None): bool array of shape (n,), False where an image has no hash
        agrees (None): ``agrees(keeper, others, distances)`` tells which others a second look confirms
        pinned (None): bool array of shape (n,), True for images that have to be kept

    Returns:
        :class:`Groups`
    """
    count = len(hashes)
    keeper = np.arange(count)
    identical = np.zeros(count, bool)
    pinned = np.zeros(count, bool) if pinned is None else pinned
    best_of: dict[str, int] = {}
    for i, content in enumerate(contents):
        if content is not None:
            best = best_of.setdefault(content, i)
            if best != i and not pinned[i]:
                keeper[i], identical[i] = best, True
    if threshold is not None:
        alone = ~identical if hashed is None else ~identical & hashed
        _take_near(keeper, hashes, np.flatnonzero(alone), threshold, agrees, pinned)
    final = keeper[keeper]  # a copy of an image that was taken goes where that image went
    identical &= final == keeper
    return Groups(final, np.where(identical, 0, hamming(hashes, hashes[final])).astype(np.uint8), identical)


def _take_near(
    keeper: Indices, hashes: Hashes, nodes: Indices, threshold: int, agrees: Agrees | None, pinned: NDArray[np.bool_]
) -> None:
    pairs = near_pairs(hashes[nodes], threshold)
    first, second = nodes[pairs.first], nodes[pairs.second]
    equal = pairs.distance == 0
    twins = _lists(first[equal], second[equal])  # hash -> further images with the same hash, under its first image
    root = dict(zip(second[equal].tolist(), first[equal].tolist(), strict=True))
    neighbours = _lists(
        np.concatenate([first[~equal], second[~equal]]), np.concatenate([second[~equal], first[~equal]])
    )
    taken = pinned.copy()
    for i in np.unique(np.concatenate([first, second])).tolist():
        if keeper[i] != i:
            continue
        taken[i] = True
        own = root.get(i, i)
        near = [own, *neighbours.get(own, ())]
        others = np.array([x for node in near for x in (node, *twins.get(node, ())) if not taken[x]], np.int64)
        if len(others) and agrees is not None:
            others = others[agrees(i, others, hamming(hashes[i], hashes[others]))]
        keeper[others] = i
        taken[others] = True


def _lists(keys: Indices, values: Indices) -> dict[int, list[int]]:
    order = np.lexsort((values, keys))
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    parts = np.split(values[order], starts[1:])
    return {int(key): part.tolist() for key, part in zip(keys[order][starts], parts, strict=True)} if len(keys) else {}


class SecondLook:
    """Confirms near-duplicates by more than the difference hash.

    Plain images (a blank page, a gradient, an object on an even backdrop) share difference hashes by chance: of 99
    compositions of different objects on plain backdrops 315 pairs were within 4 bits. They are duplicates only if their
    thumbnails agree. Other images that are more than ``sure`` bits apart, or all of them, are duplicates only if their
    pHashes agree too.

    Args:
        phashes: uint64 array of shape (n,)
        thumbnails: encoded thumbnail of each plain image, ``None`` for the others; see :func:`plain_thumbnail`
        sure: up to this distance two images that are not plain need no confirmation; -1 confirms all
    """

    def __init__(self, phashes: Hashes, thumbnails: Sequence[str | None], sure: int):
        self._phashes = phashes
        self._sure = sure
        plain = [i for i, thumbnail in enumerate(thumbnails) if thumbnail]
        self._row = np.full(len(phashes), -1)
        self._row[plain] = np.arange(len(plain))
        self._pixels = np.array([decode_thumbnail(thumbnails[i] or "") for i in plain], np.uint8)

    def __call__(self, keeper: int, others: Indices, distances: NDArray[np.uint8]) -> NDArray[np.bool_]:
        alike = (distances <= self._sure) | (hamming(self._phashes[keeper], self._phashes[others]) <= PHASH_RADIUS)
        plain = self._row[others] >= 0
        if self._row[keeper] >= 0 and plain.any():
            ours = self._pixels[self._row[keeper]].astype(np.int16)
            difference = np.abs(self._pixels[self._row[others[plain]]].astype(np.int16) - ours)
            alike[plain] = (difference.mean(axis=1) <= THUMBNAIL_MEAN) & (difference.max(axis=1) <= THUMBNAIL_MAX)
        # One plain and one just not: their hashes are close, so both are nearly plain, and pHash has to decide.
        borderline = plain != (self._row[keeper] >= 0)
        alike[borderline] = hamming(self._phashes[keeper], self._phashes[others[borderline]]) <= PHASH_RADIUS
        return alike


def is_plain(grey: NDArray[np.uint8]) -> bool:
    """Tells whether an image is so even that its difference hash says little about it.

    Args:
        grey: uint8 array of shape (H, W), upright
    """
    from PIL import Image

    steps = np.diff(np.asarray(Image.fromarray(grey).resize((9, 8), Image.Resampling.LANCZOS), np.int16), axis=1)
    return bool((np.abs(steps) <= FLAT_STEP).sum() >= PLAIN_STEPS)


def plain_thumbnail(pixels: NDArray[np.uint8]) -> str:
    """Encodes the thumbnail of a plain image as text: 16 x 16 RGB values, compressed, about 250 characters.

    Args:
        pixels: uint8 array of shape (H, W, 3)
    """
    from PIL import Image

    small = Image.fromarray(pixels).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return base64.b64encode(zlib.compress(small.tobytes(), 9)).decode("ascii")


def decode_thumbnail(text: str) -> NDArray[Any]:
    """Decodes :func:`plain_thumbnail` into a flat uint8 array."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
