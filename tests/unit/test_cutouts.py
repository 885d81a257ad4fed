from __future__ import annotations

import cv2
import numpy as np
import pytest

from fiftyone_idsynth.carrying import relative_box
from fiftyone_idsynth.errors import RefusedImage
from fiftyone_idsynth.generation import cutouts

ORIGIN = cutouts.Origin("sample", "label", "photo.jpg")


def ellipse(height: int = 120, width: int = 160) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, (70, 60), (40, 25), 20, 0, 360, 1, -1)
    return mask > 0


def test_a_cutout_is_tight_and_keeps_its_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    mask = ellipse()
    cutout = cutouts.cut(pixels, mask, "plate", ORIGIN)
    x, y, w, h = cutout.box
    inside = cutouts.hard_mask(cutout.pixels)
    assert inside.any(0).all()
    assert inside.any(1).all()
    assert inside.sum() == mask.sum()
    assert (cutout.pixels[inside][:, :3] == pixels[y : y + h, x : x + w][inside]).all()
    assert not cutout.truncated


def test_an_object_at_the_border_is_truncated_unless_it_was_cut_out_before() -> None:
    pixels = np.zeros((50, 50, 3), np.uint8)
    mask = np.zeros((50, 50), bool)
    mask[10:40, 0:30] = True
    assert cutouts.cut(pixels, mask, "box", ORIGIN).truncated
    assert not cutouts.cut(pixels, mask, "box", ORIGIN, framed=False).truncated
    assert cutouts.CutoutFilter().refusal(cutouts.cut(pixels, mask, "box", ORIGIN)) == "truncated"
    assert cutouts.CutoutFilter(allow_truncated=True).refusal(cutouts.cut(pixels, mask, "box", ORIGIN)) is None


def test_masks_that_cannot_be_used_say_why() -> None:
    pixels = np.zeros((50, 60, 3), np.uint8)
    with pytest.raises(RefusedImage, match="empty_mask"):
        cutouts.cut(pixels, np.zeros((50, 60), bool), "box", ORIGIN)
    with pytest.raises(RefusedImage, match="60 x 50"):
        cutouts.cut(pixels, np.ones((25, 30), bool), "box", ORIGIN)
    with pytest.raises(RefusedImage, match="opaque"):
        cutouts.alpha_mask(np.full((5, 5, 4), 255, np.uint8))


def test_convexity_of_known_shapes() -> None:
    square = np.zeros((100, 100), bool)
    square[20:80, 20:80] = True
    assert cutouts.convexity(square) == pytest.approx(1.0, abs=0.01)
    corner = square.copy()
    corner[20:60, 40:80] = False  # an L: 2000 of a hull of 2800 pixels
    assert cutouts.convexity(corner) == pytest.approx(2000 / 2800, abs=0.02)
    assert cutouts.CutoutFilter(min_convexity=0.9).refusal(_cutout(corner)) == "not_convex"
    assert cutouts.CutoutFilter(min_convexity=0.9).refusal(_cutout(square)) is None


def test_relative_boxes_come_back_whole() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20_000):
        size = int(rng.integers(16, 6000))
        start = int(rng.integers(0, size))
        length = int(rng.integers(1, size - start + 1))
        x, _, w, _ = relative_box((start, 0, length, 1), size, 1)
        assert int(size * x) == start == round(size * x)
        assert int(size * (x + w)) == start + length == round(size * (x + w))
        assert x + w <= 1


def test_small_cutouts_are_refused() -> None:
    mask = np.zeros((100, 100), bool)
    mask[40:50, 10:90] = True
    assert cutouts.CutoutFilter(min_side=24).refusal(_cutout(mask)) == "too_small"
    assert cutouts.CutoutFilter(min_side=8, min_area=900).refusal(_cutout(mask)) == "too_small"
    assert cutouts.CutoutFilter(min_side=8, min_area=800).refusal(_cutout(mask)) is None


def test_components_of_a_class_index_mask() -> None:
    indices = np.zeros((40, 40), np.uint8)
    indices[2:10, 2:10] = 3
    indices[20:35, 20:35] = 3
    indices[0:2, 38:] = 7
    parts = cutouts.components(indices, 3)
    assert [int(part.sum()) for part in parts] == [225, 64]
    assert cutouts.components(indices, 7, min_area=5) == []


def test_plain_backgrounds_are_removed() -> None:
    rng = np.random.default_rng(1)
    shape = np.zeros((480, 640), np.uint8)
    cv2.ellipse(shape, (320, 240), (150, 90), 30, 0, 360, 1, -1)
    mask = shape > 0
    pixels = np.full((480, 640, 3), (232, 230, 225), np.float64) + rng.normal(0, 2.5, (480, 640, 3))
    pixels[mask] = rng.normal((60, 110, 160), 25, (int(mask.sum()), 3))
    pixels[230:250, 300:340] = (232, 230, 225)  # a label of the background's colour belongs to the object
    found = cutouts.plain_background_mask(np.clip(pixels, 0, 255).astype(np.uint8))
    assert (found & mask).sum() / (found | mask).sum() > 0.97
    assert found[240, 320]


def test_the_same_photograph_gives_the_same_mask() -> None:
    pixels = np.full((200, 200, 3), 250, np.uint8)
    cv2.circle(pixels, (100, 100), 50, (30, 90, 40), -1)
    first = cutouts.plain_background_mask(pixels)
    assert (first == cutouts.plain_background_mask(pixels)).all()


def test_other_backgrounds_are_refused_with_a_reason() -> None:
    noise = np.random.default_rng(2).integers(0, 256, (100, 100, 3), np.uint8)
    with pytest.raises(RefusedImage, match="border variance"):
        cutouts.plain_background_mask(noise)
    with pytest.raises(RefusedImage, match="no_object"):
        cutouts.plain_background_mask(np.full((100, 100, 3), 240, np.uint8))


def _cutout(mask: np.ndarray) -> cutouts.Cutout:
    return cutouts.cut(np.zeros((*mask.shape, 3), np.uint8), mask, "box", ORIGIN)
