"""Widening pictures: what is asked for on each side, what stays, and where labels come to lie."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fiftyone_idsynth.errors import ParameterError, RefusedImage
from fiftyone_idsynth.generation.repainting import Job, repaint, working_size
from fiftyone_idsynth.generation.widening import (
    Margins,
    Widening,
    area_to_paint,
    joined,
    margins_for_ratio,
    parse_extent,
    widened,
)

COLOUR = (10, 200, 60)


class PlainPainter:
    """Paints one colour wherever it may, as a model does: only in sizes that divide by its unit."""

    generator = SimpleNamespace(side=64)
    unit = 8

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def paint(self, wanted: Sequence[Any], strength: float) -> list[np.ndarray | RefusedImage]:
        painted: list[np.ndarray | RefusedImage] = []
        for one in wanted:
            height, width = one.mask.shape
            assert one.picture.shape == (height, width, 3)
            assert width % self.unit == height % self.unit == 0
            self.seen.append((width, height))
            if one.prompt == "refuse":
                painted.append(RefusedImage("unsafe", "no"))
            else:
                painted.append(np.where(one.mask[..., None], np.uint8(COLOUR), one.picture))
        return painted


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)


def painter() -> Any:
    return PlainPainter()


@pytest.mark.parametrize(
    ("text", "side", "pixels"),
    [("128", 500, 128), ("25%", 500, 125), (" 12.5 % ", 80, 10), ("40px", 9, 40), ("0", 9, 0)],
)
def test_extents_are_pixels_or_shares(text: str, side: int, pixels: int) -> None:
    assert parse_extent(text, "left").pixels(side) == pixels


@pytest.mark.parametrize("text", ["a quarter", "-5", "", "1e3", "500%", "90000"])
def test_extents_that_say_nothing_are_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="top"):
        parse_extent(text, "top")


def test_a_share_without_its_sign_is_not_taken_for_pixels() -> None:
    with pytest.raises(ParameterError, match="write 25% for a share"):
        parse_extent("0.25", "left")


def test_shares_are_of_the_width_at_the_sides_and_of_the_height_above_and_below() -> None:
    widening = Widening(*(parse_extent(text, "") for text in ("50%", "10", "50%", "0")))
    assert widening.margins(200, 100) == Margins(100, 10, 50, 0)
    assert widening.margins(200, 100).size(200, 100) == (310, 150)


def test_all_sides_grow_in_proportion_until_objects_cover_the_share() -> None:
    margins = margins_for_ratio(200, 101, 0.36, 0.09)
    assert margins.size(200, 101) == (400, 202)
    assert (margins.left, margins.right, margins.top, margins.bottom) == (100, 100, 50, 51)


@pytest.mark.parametrize("continuation", ["reflect", "replicate"])
def test_the_picture_is_continued_beyond_its_edges(continuation: str) -> None:
    picture, margins = noise(6, 5), Margins(20, 3, 0, 4)  # further than the picture is wide
    wide = widened(picture, margins, continuation)  # type: ignore[arg-type]
    assert wide.shape == (9, 29, 3)
    np.testing.assert_array_equal(wide[margins.inside(6, 5)], picture)
    beside = picture[:, 1] if continuation == "reflect" else picture[:, 0]
    np.testing.assert_array_equal(wide[:5, 19], beside)


def test_only_sides_that_are_widened_are_painted_over() -> None:
    mask = area_to_paint(40, 40, Margins(8, 0, 0, 16), overlap=4)
    assert mask.shape == (56, 48)
    np.testing.assert_array_equal(np.flatnonzero(~mask.all(0)), np.arange(12, 48))
    np.testing.assert_array_equal(np.flatnonzero(~mask.all(1)), np.arange(0, 36))


@pytest.mark.parametrize("feather", [0, 6, 40])
def test_the_old_pixels_stay_byte_for_byte(feather: int) -> None:
    picture, margins = noise(30, 20), Margins(7, 5, 0, 9)
    wide = joined(noise(42, 29), picture, margins, feather)
    np.testing.assert_array_equal(wide[margins.inside(30, 20)], picture)


def test_the_seam_is_faded_out_and_the_far_end_stays_as_painted() -> None:
    picture, margins = np.full((40, 40, 3), 150, np.uint8), Margins(0, 40, 0, 0)
    painted = np.full((40, 80, 3), 90, np.uint8)  # also on the old picture: it is off by 60 there
    hard, soft = (joined(painted, picture, margins, feather) for feather in (0, 16))
    assert np.abs(np.diff(hard[20, :, 0].astype(int))).max() == 60
    assert np.abs(np.diff(soft[20, :, 0].astype(int))).max() <= 5
    assert (np.diff(soft[20, 39:, 0].astype(int)) <= 0).all()
    np.testing.assert_array_equal(soft[:, 56:], painted[:, 56:])


@pytest.mark.parametrize("size", [(64, 64), (70, 45), (96, 96), (500, 300), (20, 30)])
def test_pictures_of_any_size_are_painted_in_the_mask_only(size: tuple[int, int]) -> None:
    width, height = size
    picture = noise(width, height)
    mask = np.zeros((height, width), bool)
    mask[:, width // 2 :] = True
    (made,) = repaint(painter(), [Job(picture, mask, "", 0)])
    assert isinstance(made, np.ndarray)
    np.testing.assert_array_equal(made[~mask], picture[~mask])
    inner = mask.copy()
    mixed = 1 + 2 * -(-max(size) // 96)  # the edge of what was enlarged mixes with what is kept
    inner[:, : width // 2 + mixed] = False
    assert np.abs(made[inner].astype(int) - COLOUR).max() <= 2


def test_large_pictures_are_painted_smaller_and_small_ones_larger() -> None:
    model = painter()
    assert working_size(model, 500, 300).scaled == (96, 58)
    assert (working_size(model, 500, 300).width, working_size(model, 500, 300).height) == (96, 64)
    assert working_size(model, 500, 300, 256).scaled == (256, 154)
    assert working_size(model, 90, 61).scaled == (90, 61)
    assert working_size(model, 16, 32).scaled == (32, 64)
    assert working_size(model, 16, 32, 256).scaled == (16, 32)
    jobs = [Job(noise(w, h), np.ones((h, w), bool), "", 0) for w, h in ((500, 300), (16, 32))]
    repaint(model, jobs)
    assert model.seen == [(96, 64), (32, 64)]


def test_a_refused_picture_is_passed_on() -> None:
    jobs = [Job(noise(64, 64), np.ones((64, 64), bool), prompt, 0) for prompt in ("refuse", "a fox")]
    refused, made = repaint(painter(), jobs)
    assert isinstance(refused, RefusedImage)
    assert isinstance(made, np.ndarray)
