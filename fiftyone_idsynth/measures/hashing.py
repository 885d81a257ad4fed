"""Perceptual hashes of images, and all pairs of hashes that differ in at most ``radius`` bits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]

BITS = 64
MAX_RADIUS = 16
# Nanoseconds per hash of one table, per candidate pair of a table, and per pair of the plain comparison, as measured:
# they only decide which of several exact plans runs.
_TABLE_COST, _CANDIDATE_COST, _PLAIN_COST = 70.0, 5.0, 1.0
_STEP_COST = 20_000.0  # nanoseconds per member of a table's longest run
_PART = 4096
_CHUNK = 1 << 20


def dhash(image: Any) -> int:
    """Computes the difference hash of an image: 64 bits, one per brightness step between horizontal neighbours.

    By ``imagehash.dhash`` (9 x 8 pixels, Pillow's antialiased resize). The image has to be upright already. JPEG
    files may be decoded at reduced size first (Pillow's ``draft("L", (72, 64))``): this is 2-3 times faster and moves
    the hash by about one bit.

    Args:
        image: a ``PIL.Image``, or a uint8 array of shape (H, W) or (H, W, 3)

    Returns:
        the hash, an int in 0..2**64-1
    """
    import imagehash

    return _as_int(imagehash.dhash(_as_pil(image)))


def phash(image: Any) -> int:
    """Computes the perceptual hash of an image: 64 bits, the signs of the lowest 8 x 8 cosine coefficients.

    By ``imagehash.phash``. It looks at other properties than :func:`dhash`, so that two images which agree in both are
    hardly ever different ones.

    Args:
        image: a ``PIL.Image``, or a uint8 array of shape (H, W) or (H, W, 3)

    Returns:
        the hash, an int in 0..2**64-1
    """
    import imagehash

    return _as_int(imagehash.phash(_as_pil(image)))


def to_hex(value: int) -> str:
    """Formats a hash as 16 hexadecimal digits, the way ``imagehash`` prints it."""
    return f"{int(value):016x}"


def from_hex(values: list[str]) -> Hashes:
    """Reads hashes of 16 hexadecimal digits into a uint64 array."""
    return np.fromiter((int(v, 16) for v in values), dtype=np.uint64, count=len(values))


def hamming(a: Any, b: Any) -> NDArray[np.uint8]:
    """Counts the bits in which two hashes (or arrays of hashes) differ, 0..64."""
    return np.bitwise_count(np.bitwise_xor(np.asarray(a, np.uint64), np.asarray(b, np.uint64)))


class NearPairs(NamedTuple):
    """Pairs of hashes, as positions in the array that was searched: ``first < second`` is not implied."""

    first: Indices
    second: Indices
    distance: NDArray[np.uint8]


def near_pairs(hashes: Hashes, radius: int) -> NearPairs:
    """Finds all pairs of 64-bit hashes that differ in at most ``radius`` bits. The answer is exact.

    Equal hashes count as one: each is paired with its first occurrence, and only this first occurrence takes part in
    pairs with other hashes. So 20,000 identical blanks give 19,999 pairs instead of 200 million.

    The method: cut the 64 bits into ``m`` blocks. Two hashes within ``radius`` agree in at least ``k = m - radius``
    of them, so for each choice of ``k`` blocks the hashes are sorted by these bits and compared inside each run of
    equal ones (the block permutation of Manku, Jain, Das Sarma, "Detecting near-duplicates for web crawling", WWW
    2007). A block takes every m-th bit, because neighbouring bits of a photograph's hash depend on one another. ``m``
    is the one with the least expected work for this radius and number of hashes; where sorting does not pay, every
    pair is compared. Memory grows with the number of hashes and of found pairs only.

    Args:
        hashes: a uint64 array of shape (n,)
        radius: the largest Hamming distance, 0..16

    Returns:
        a :class:`NearPairs` of positions in ``hashes`` and distances, sorted by positions
    """
    if not 0 <= radius <= MAX_RADIUS:
        raise ValueError(f"radius must be between 0 and {MAX_RADIUS}, got {radius}")
    unique, first, inverse = np.unique(np.ascontiguousarray(hashes, np.uint64), return_index=True, return_inverse=True)
    repeated = np.flatnonzero(first[inverse] != np.arange(len(hashes)))
    firsts, seconds = [first[inverse[repeated]]], [repeated]
    distances = [np.zeros(len(repeated), np.uint8)]
    for a, b in _distinct_pairs(unique, radius):
        i, j = first[np.searchsorted(unique, a)], first[np.searchsorted(unique, b)]
        firsts.append(np.minimum(i, j))
        seconds.append(np.maximum(i, j))
        distances.append(hamming(a, b))
    i, j, d = np.concatenate(firsts), np.concatenate(seconds), np.concatenate(distances)
    order = np.lexsort((j, i))
    return NearPairs(i[order], j[order], d[order])


def _distinct_pairs(unique: Hashes, radius: int) -> Iterator[tuple[Hashes, Hashes]]:
    """Yields each pair of different hashes within the radius exactly once, in chunks."""
    if radius == 0 or len(unique) < 2:
        return
    blocks = _plan(unique, radius)
    if blocks == 0:
        yield from _compare_all(unique, radius)
        return
    masks = [np.uint64(sum(1 << bit for bit in range(block, BITS, blocks))) for block in range(blocks)]
    for chosen in itertools.combinations(range(blocks), blocks - radius):
        bits, key_bits = _layout(blocks, chosen)
        back = (BITS - 1 - np.argsort(bits)[::-1]).tolist()
        # A pair that agrees in more blocks than needed turns up for several choices; it counts at the first of them.
        earlier = [masks[block] for block in range(chosen[-1]) if block not in chosen]
        for a, b in _compare_runs(np.sort(_permute(unique, bits)), BITS - key_bits, radius):
            a, b = _permute(a, back), _permute(b, back)
            new = np.ones(len(a), bool)
            for mask in earlier:
                new &= ((a ^ b) & mask) != 0
            yield a[new], b[new]


def _plan(unique: Hashes, radius: int) -> int:
    """Chooses the number of blocks with the least expected work; 0 means comparing every pair.

    How many candidates a table has is measured on a part of the hashes: photographs' are not evenly distributed.
    """
    count = len(unique)
    pairs = count * (count - 1) / 2
    part = unique
    if count > _PART:
        part = unique[np.random.default_rng(0).choice(count, _PART, replace=False)]
    best, best_cost = 0, pairs * _PLAIN_COST
    for blocks in range(radius + 1, min(BITS, radius + 8) + 1):
        tables = math.comb(blocks, radius)
        sorting = tables * count * _TABLE_COST
        if sorting >= best_cost:
            break
        bits, key_bits = _layout(blocks, range(blocks - radius))
        runs = np.unique(_permute(part, bits) >> np.uint64(BITS - key_bits), return_counts=True)[1]
        crowding = max(float((runs * (runs - 1.0)).sum()) / (len(part) * (len(part) - 1.0)), 2.0**-key_bits)
        longest = float(runs.max()) * count / len(part) if runs.max() > 1 else 0.0
        cost = sorting + tables * (pairs * crowding * _CANDIDATE_COST + longest * _STEP_COST)
        if cost < best_cost:
            best, best_cost = blocks, cost
    return best


def _layout(blocks: int, chosen: Sequence[int]) -> tuple[list[int], int]:
    """The order of bits that puts the chosen blocks first, and how many bits these have."""
    others = [block for block in range(blocks) if block not in chosen]
    bits = [bit for block in (*chosen, *others) for bit in range(block, BITS, blocks)]
    return bits, sum(len(range(block, BITS, blocks)) for block in chosen)


def _compare_all(hashes: Hashes, radius: int) -> Iterator[tuple[Hashes, Hashes]]:
    rows = max(1, _CHUNK // len(hashes))
    for start in range(0, len(hashes), rows):
        block = hashes[start : start + rows]
        near = np.bitwise_count(block[:, None] ^ hashes[None, start:]) <= radius
        i, j = np.nonzero(near)
        later = j > i
        yield block[i[later]], hashes[start + j[later]]


def _compare_runs(hashes: Hashes, low_bits: int, radius: int) -> Iterator[tuple[Hashes, Hashes]]:
    """Compares all pairs of a sorted array that agree in all but their lowest bits: neighbours 1, 2, 3, ... apart."""
    found: list[tuple[Hashes, Hashes]] = []
    waiting = 0
    limit = np.uint64(1 << low_bits)
    left, alive = np.arange(len(hashes) - 1), len(hashes) - 1
    step = 1
    while alive:
        dense = 4 * alive > len(hashes)  # then whole slices are compared sooner than single places
        difference = hashes[step:] ^ hashes[:-step] if dense else hashes[left] ^ hashes[left + step]
        same_run = difference < limit
        alive = int(np.count_nonzero(same_run))
        near = np.flatnonzero((np.bitwise_count(difference) <= radius) & same_run)
        if not dense:
            near, left = left[near], left[same_run]
        elif 4 * alive <= len(hashes):
            left = np.flatnonzero(same_run)
        if len(near):
            found.append((hashes[near], hashes[near + step]))
            waiting += len(near)
        if waiting >= _CHUNK:
            yield _joined(found)
            found, waiting = [], 0
        step += 1
        if 4 * alive <= len(hashes):
            left = left[: np.searchsorted(left, len(hashes) - step)]
            alive = len(left)
        elif step >= len(hashes):
            break
    if found:
        yield _joined(found)


def _joined(parts: list[tuple[Hashes, Hashes]]) -> tuple[Hashes, Hashes]:
    return np.concatenate([a for a, _ in parts]), np.concatenate([b for _, b in parts])


def _permute(hashes: Hashes, bits: list[int]) -> Hashes:
    """Reorders the bits of each hash: bit ``bits[0]`` becomes the highest, ``bits[-1]`` the lowest."""
    result = np.zeros(len(hashes), np.uint64)
    tables = _byte_tables(bits)
    chunk = 1 << 15  # stays in the processor's cache
    for start in range(0, len(hashes), chunk):
        octets = hashes[start : start + chunk].astype("<u8").view(np.uint8).reshape(-1, 8)
        part = result[start : start + chunk]
        for byte in range(8):
            part |= tables[byte][octets[:, byte]]
    return result


def _byte_tables(bits: list[int]) -> Hashes:
    """What each value of each of the eight bytes contributes to the permuted hash: shape (8, 256)."""
    position = np.empty(BITS, np.uint64)
    position[bits] = np.arange(BITS - 1, -1, -1, dtype=np.uint64)
    value_bits = (np.arange(256, dtype=np.uint64)[:, None] >> np.arange(8, dtype=np.uint64)) & np.uint64(1)
    tables: Hashes = np.bitwise_or.reduce(value_bits[None] << position.reshape(8, 1, 8), axis=2)
    return tables


def _as_pil(image: Any) -> Any:
    if isinstance(image, np.ndarray):
        from PIL import Image

        return Image.fromarray(image)
    return image


def _as_int(value: Any) -> int:
    return int.from_bytes(np.packbits(value.hash).tobytes(), "big")
