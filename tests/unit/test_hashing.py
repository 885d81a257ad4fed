"""Hashes, the exact search for near pairs, and groups that do not chain."""

from __future__ import annotations

import io
import itertools
import time

import numpy as np
import pytest
from PIL import Image

from fiftyone_idsynth.curation import grouping
from fiftyone_idsynth.measures import hashing
from fiftyone_idsynth.media import decode_image


def random_hashes(count: int, seed: int = 0) -> hashing.Hashes:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def flipped(value: int, *bits: int) -> int:
    return int(value) ^ sum(1 << bit for bit in bits)


def with_near_pairs(count: int, seed: int = 0) -> hashing.Hashes:
    """Random hashes, a tenth of which are copies of another one with 0 to 20 bits flipped."""
    rng = np.random.default_rng(seed)
    hashes = random_hashes(count, seed)
    for i in rng.choice(count, count // 10, replace=False):
        bits = rng.choice(64, rng.integers(0, 21), replace=False)
        hashes[i] = flipped(hashes[rng.integers(count)], *bits.tolist())
    return hashes


def pairs_by_comparing_all(hashes: hashing.Hashes, radius: int) -> set[tuple[int, int, int]]:
    distance = np.bitwise_count(hashes[:, None] ^ hashes[None])
    i, j = np.nonzero(np.triu(distance <= radius, 1))
    return set(zip(i.tolist(), j.tolist(), distance[i, j].tolist(), strict=True))


def photo(seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int = 90, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, **options)
    return buffer.getvalue()


def grey(data: bytes) -> np.ndarray:
    return decode_image(data, mode="L", draft=(72, 64)).pixels


def test_hashes_are_those_of_imagehash() -> None:
    import imagehash

    image = photo()
    assert hashing.to_hex(hashing.dhash(image)) == str(imagehash.dhash(image))
    assert hashing.to_hex(hashing.phash(image)) == str(imagehash.phash(image))


def test_hex_and_back() -> None:
    hashes = np.array([0, 1, 2**63, 2**64 - 1], np.uint64)
    assert [hashing.to_hex(h) for h in hashes][1] == "0000000000000001"
    assert (hashing.from_hex([hashing.to_hex(h) for h in hashes]) == hashes).all()


def test_draft_decoding_hardly_moves_the_hash() -> None:
    distances = [
        int(hashing.hamming(hashing.dhash(grey(jpeg(photo(seed)))), hashing.dhash(photo(seed)))) for seed in range(20)
    ]
    assert np.mean(distances) <= 1.5


def test_hash_is_of_the_upright_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    image = photo()
    sideways = jpeg(image.transpose(Image.Transpose.ROTATE_90), exif=exif)
    assert hashing.hamming(hashing.dhash(grey(sideways)), hashing.dhash(grey(jpeg(image)))) <= 2


@pytest.mark.parametrize("radius", range(17))
def test_near_pairs_are_exact(radius: int) -> None:
    hashes = np.unique(with_near_pairs(1500, seed=radius))
    np.random.default_rng(1).shuffle(hashes)
    found = hashing.near_pairs(hashes, radius)
    got = list(zip(found.first.tolist(), found.second.tolist(), found.distance.tolist(), strict=True))
    assert len(got) == len(set(got))
    assert set(got) == pairs_by_comparing_all(hashes, radius)


@pytest.mark.parametrize("blocks", range(5, 10))
def test_every_plan_finds_the_same_pairs(blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = np.unique(with_near_pairs(1500))
    monkeypatch.setattr(hashing, "_plan", lambda unique, radius: blocks)
    found = hashing.near_pairs(hashes, 4)
    assert set(zip(*(part.tolist() for part in found), strict=True)) == pairs_by_comparing_all(hashes, 4)


def test_crowded_hashes_are_exact_too() -> None:
    """Near-blank images: thousands of different hashes that share most of their bits."""
    rng = np.random.default_rng(0)
    hashes = np.unique(np.bitwise_and.reduce(rng.integers(0, 2**64, (4, 1200), dtype=np.uint64)))
    found = hashing.near_pairs(hashes, 6)
    assert set(zip(*(part.tolist() for part in found), strict=True)) == pairs_by_comparing_all(hashes, 6)


def test_equal_hashes_are_one_node() -> None:
    hashes = np.concatenate([np.full(20_000, 7, np.uint64), [np.uint64(6)], random_hashes(1000)])
    start = time.perf_counter()
    found = hashing.near_pairs(hashes, 4)
    assert time.perf_counter() - start < 2
    assert len(found.first) == 20_000
    assert (found.first == 0).all()
    assert sorted(found.second.tolist()) == list(range(1, 20_001))
    assert found.distance[found.second == 20_000] == 1


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare(count: int) -> None:
    assert [len(part) for part in hashing.near_pairs(random_hashes(count), 4)] == [0, 0, 0]


@pytest.mark.parametrize("radius", [-1, 17])
def test_radius_out_of_range(radius: int) -> None:
    with pytest.raises(ValueError, match="between 0 and 16"):
        hashing.near_pairs(random_hashes(3), radius)


# -- groups -----------------------------------------------------------------------------------------------------------


def groups(hashes: list[int], contents: list[str | None] | None = None, **options: object) -> list[int]:
    made = grouping.star_groups(
        np.array(hashes, np.uint64), contents or [None] * len(hashes), **{"threshold": 4, **options}
    )
    return made.keeper.tolist()


def test_the_best_image_takes_what_resembles_it() -> None:
    assert groups([0, 0b11, 2**60 - 1, 0b111]) == [0, 0, 2, 0]


def test_groups_do_not_chain() -> None:
    a, b, c = 0, flipped(0, 1, 2, 3), flipped(0, 1, 2, 3, 4, 5, 6)  # a ~ b ~ c, but a and c are 6 bits apart
    assert groups([a, b, c]) == [0, 0, 2]
    assert groups([b, a, c]) == [0, 0, 0]


def test_equal_files_join_even_without_a_hash() -> None:
    made = grouping.star_groups(
        np.zeros(3, np.uint64), ["x", "y", "x"], threshold=4, hashed=np.array([False, False, False])
    )
    assert made.keeper.tolist() == [0, 1, 0]
    assert made.identical.tolist() == [False, False, True]


def test_a_copy_of_a_near_duplicate_goes_to_the_keeper() -> None:
    made = grouping.star_groups(np.array([0, 1, 1], np.uint64), ["x", "y", "y"], threshold=4)
    assert made.keeper.tolist() == [0, 0, 0]
    assert made.distance.tolist() == [0, 1, 1]
    assert made.identical.tolist() == [False, False, False]


def test_contents_only() -> None:
    assert groups([0, 0, 0], ["x", "y", "x"], threshold=None) == [0, 1, 0]


def test_pinned_images_are_kept() -> None:
    pinned = np.array([False, True, False])
    assert groups([0, 0, 0], ["x", "x", "x"], pinned=pinned) == [0, 1, 0]


def test_many_equal_hashes_group_quickly() -> None:
    start = time.perf_counter()
    assert set(groups([0] * 20_000)) == {0}
    assert time.perf_counter() - start < 2


# -- the second look --------------------------------------------------------------------------------------------------


def on_backdrop(shape: str, colour: tuple[int, int, int], backdrop: int = 255) -> Image.Image:
    from PIL import ImageDraw

    image = Image.new("RGB", (640, 480), (backdrop,) * 3)
    draw = ImageDraw.Draw(image)
    box = (280, 200, 360, 280)
    {"disc": draw.ellipse, "square": draw.rectangle, "none": lambda *_, **__: None}[shape](box, fill=colour)
    return image


def test_photographs_are_not_plain() -> None:
    assert not grouping.is_plain(np.asarray(photo().convert("L")))
    assert grouping.is_plain(np.asarray(on_backdrop("disc", (0, 0, 0)).convert("L")))


def look_at(images: list[bytes]) -> tuple[hashing.Hashes, grouping.SecondLook]:
    pictures = [grey(data) for data in images]
    thumbnails = [
        grouping.plain_thumbnail(decode_image(data, draft=(72, 64)).pixels) if grouping.is_plain(picture) else None
        for data, picture in zip(images, pictures, strict=True)
    ]
    phashes = np.array([hashing.phash(p) for p in pictures], np.uint64)
    return np.array([hashing.dhash(p) for p in pictures], np.uint64), grouping.SecondLook(phashes, thumbnails, 4)


def test_different_plain_images_stay_apart() -> None:
    """They share difference hashes by chance; copies of each are still found."""
    originals = [
        on_backdrop("none", (0, 0, 0)),
        on_backdrop("none", (0, 0, 0), backdrop=0),
        on_backdrop("disc", (200, 30, 30)),
        on_backdrop("square", (30, 30, 200)),
        on_backdrop("disc", (30, 120, 30)),
    ]
    copies = [jpeg(image, quality=40) for image in originals] + [jpeg(im.resize((320, 240))) for im in originals]
    hashes, look = look_at([jpeg(image) for image in originals] + copies)
    blind = grouping.star_groups(hashes, [None] * 15, threshold=4).keeper.tolist()
    assert len(set(blind)) < 5, "the difference hash alone mixes them up"
    seen = grouping.star_groups(hashes, [None] * 15, threshold=4, agrees=look).keeper.tolist()
    assert seen == [0, 1, 2, 3, 4] * 3


def test_far_pairs_need_a_second_hash() -> None:
    hashes = np.array([0, flipped(0, *range(8)), flipped(0, *range(20, 28))], np.uint64)
    phashes = np.array([0, 2**64 - 1, 1], np.uint64)
    look = grouping.SecondLook(phashes, [None] * 3, 4)
    assert groups(hashes.tolist(), threshold=10, agrees=look) == [0, 1, 0]
    assert groups(hashes.tolist(), threshold=10) == [0, 0, 0]


def test_thumbnail_survives_storage() -> None:
    pixels = np.asarray(photo())
    expected = np.asarray(Image.fromarray(pixels).resize((16, 16), Image.Resampling.BOX)).ravel()
    assert (grouping.decode_thumbnail(grouping.plain_thumbnail(pixels)) == expected).all()


def test_every_order_of_ties_gives_groups_of_the_same_sizes() -> None:
    hashes = [0, 1, 2**64 - 1, 2**64 - 2]
    for order in itertools.permutations(range(4)):
        keepers = groups([hashes[i] for i in order])
        assert sorted(np.bincount(keepers)[np.unique(keepers)].tolist()) == [2, 2]
