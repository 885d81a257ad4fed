"""Aspect-ratio buckets: little is cropped, batches hold one size, and the order can be entered anywhere."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from fiftyone_idsynth.generation.lora.buckets import Order, bucket_sizes, enlargement, nearest_bucket, place
from fiftyone_idsynth.generation.lora.cache import crop
from fiftyone_idsynth.generation.lora.examples import Example, repeats, with_trigger


@pytest.mark.parametrize(("resolution", "unit", "step"), [(512, 8, 64), (1024, 8, 64), (768, 8, 64), (64, 8, 8)])
def test_sizes_are_those_of_kohyas_trainers(resolution: int, unit: int, step: int) -> None:
    sizes = bucket_sizes(resolution, unit)
    assert (resolution, resolution) in sizes
    assert {(height, width) for width, height in sizes} == set(sizes)
    for width, height in sizes:
        assert width % step == height % step == 0
        assert width * height <= resolution**2
        assert resolution / 2 <= width <= resolution * 2
        assert (width + step) * (height + step) > resolution**2  # not smaller than need be


def test_the_bucket_of_a_photograph_is_the_nearest_to_its_proportions() -> None:
    sizes = bucket_sizes(512, 8)
    assert nearest_bucket(512, 512, sizes) == (512, 512)
    assert nearest_bucket(3000, 2000, sizes) == (640, 384)
    assert nearest_bucket(2000, 3000, sizes) == (384, 640)
    assert nearest_bucket(9000, 300, sizes) == (1024, 256)  # a panorama gets the widest there is
    rng = np.random.default_rng(0)
    for width, height in rng.integers(100, 4000, (200, 2)):
        chosen = nearest_bucket(int(width), int(height), sizes)
        assert abs(np.log(chosen[0] / chosen[1] / (width / height))) == pytest.approx(
            min(abs(np.log(w / h / (width / height))) for w, h in sizes)
        )


@pytest.mark.parametrize("size", [(641, 479), (100, 1000), (512, 512), (65, 64), (2999, 71)])
def test_an_image_covers_its_bucket_and_is_cropped_around_its_middle(size: tuple[int, int]) -> None:
    bucket = nearest_bucket(*size, bucket_sizes(64, 8))
    placement = place(*size, bucket)
    assert placement.scaled[0] == bucket[0] or placement.scaled[1] == bucket[1]
    width, height = size
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, : width // 2, 0] = 255
    picture[: height // 2, :, 1] = 255
    cut = crop(picture, placement)
    assert cut.shape == (bucket[1], bucket[0], 3)
    left, top = (cut[..., channel].mean() / 255 for channel in (0, 1))
    assert left == pytest.approx(0.5, abs=1.5 / bucket[0] + 0.5 / width)
    assert top == pytest.approx(0.5, abs=1.5 / bucket[1] + 0.5 / height)


def test_enlargement_says_how_much_is_invented() -> None:
    assert enlargement(256, 512, (512, 512)) == 2
    assert enlargement(2048, 1024, (512, 512)) == 0.5


def test_each_epoch_has_every_image_as_often_as_it_is_repeated_in_batches_of_one_size() -> None:
    buckets = [(64, 64)] * 7 + [(96, 40)] * 4 + [(40, 96)]
    times = [1] * 10 + [3, 2]
    order = Order(buckets, times, batch_size=3, seed=5)
    assert order.batches_per_epoch == 3 + 2 + 1
    seen = []
    for epoch in range(3):
        batches = [order.batch(epoch * 6 + index) for index in range(6)]
        assert all(len({buckets[number] for number in batch}) == 1 and len(batch) <= 3 for batch in batches)
        assert Counter(number for batch in batches for number in batch) == Counter(dict(enumerate(times)))
        seen.append(batches)
    assert seen[0] != seen[1] != seen[2]


def test_the_order_is_the_same_wherever_it_is_entered() -> None:
    buckets = [(64, 64)] * 9 + [(96, 40)] * 4
    order = Order(buckets, [1] * 13, batch_size=2, seed=5)
    whole = [order.batch(number) for number in range(40)]
    fresh = Order(buckets, [1] * 13, batch_size=2, seed=5)
    assert [fresh.batch(number) for number in (39, 3, 20, 0)] == [whole[number] for number in (39, 3, 20, 0)]
    assert [Order(buckets, [1] * 13, 2, seed=6).batch(number) for number in range(40)] != whole


@pytest.mark.parametrize(
    ("text", "trigger", "expected"),
    [
        ("a red panda on a tree", "zorb", "zorb, a red panda on a tree"),
        ("a photo of Zorb, on a tree", "zorb", "a photo of Zorb, on a tree"),
        ("zorbs are others", "zorb", "zorb, zorbs are others"),
        ("", "zorb", "zorb"),
        ("a red panda", "", "a red panda"),
    ],
)
def test_every_text_names_the_trigger_word_once(text: str, trigger: str, expected: str) -> None:
    assert with_trigger(text, trigger) == expected


def test_what_is_learnt_and_what_is_kept_come_about_equally_often() -> None:
    placement = place(64, 64, (64, 64))

    def total(learnt: int, kept: int) -> tuple[int, int]:
        examples = [Example(str(n), "", "", (64, 64), "", placement, n >= learnt) for n in range(learnt + kept)]
        times = repeats(examples)
        return sum(times[:learnt]), sum(times[learnt:])

    assert total(10, 0) == (10, 0)
    assert total(10, 10) == (10, 10)
    assert total(10, 200) == (200, 200)
    assert total(30, 4) == (30, 32)
