"""Placing objects: their pixels stay, the rest is to be painted, and boxes and masks say exactly where they are."""

from __future__ import annotations

import numpy as np
import pytest

from fiftyone_idsynth.cutting import grow
from fiftyone_idsynth.errors import RefusedImage
from fiftyone_idsynth.generation.cutouts import bounds
from fiftyone_idsynth.generation.layout import LayoutRules, transform
from fiftyone_idsynth.generation.placing import (
    Scene,
    Subject,
    cut_subject,
    keep_in_place,
    place_at_random,
    surroundings_of,
)

GREY = 120
ONE = LayoutRules(min_objects=1, max_objects=1, max_distractors=0, rotation=0, flip=False)


def photograph(width: int = 90, height: int = 70) -> tuple[np.ndarray, np.ndarray]:
    """A noisy picture, and the mask of an ellipse in it: every pixel of the object is told from every other."""
    picture = np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)
    rows, columns = np.mgrid[0:height, 0:width]
    mask = ((columns - 40) / 18) ** 2 + ((rows - 30) / 12) ** 2 <= 1
    return picture, mask


def subject(dilation: int = 0, name: str = "it", label: str = "panda") -> Subject:
    return cut_subject(*photograph(), name, label, dilation)


def canvas(width: int = 128, height: int = 96) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def mask_on_canvas(scene: Scene, number: int = 0) -> np.ndarray:
    found = scene.objects[number]
    x, y, w, h = found.box
    mask = np.zeros(scene.paint.shape, bool)
    mask[y : y + h, x : x + w] = found.mask
    return mask


@pytest.mark.parametrize("seed", range(5))
def test_at_its_own_size_every_pixel_of_the_object_is_that_of_the_source(seed: int) -> None:
    picture, mask = photograph()
    rules = LayoutRules(1, 1, 0, rotation=0, flip=False, own_size=True)
    scene = place_at_random(np.random.default_rng(seed), [subject()], canvas(), rules)
    placed = mask_on_canvas(scene)
    np.testing.assert_array_equal(scene.picture[placed], picture[mask])
    np.testing.assert_array_equal(scene.paint, ~placed)
    assert bounds(placed) == scene.objects[0].box
    assert (scene.picture[~placed] == GREY).all()


def test_at_other_sizes_the_pixels_are_those_of_the_scaled_cutout() -> None:
    scene = place_at_random(np.random.default_rng(1), [subject()], canvas(), ONE)
    (placement,) = scene.placements
    assert placement.scale != 1
    patch = transform(subject().pixels, placement.scale, 0, False)
    np.testing.assert_array_equal(
        scene.picture[mask_on_canvas(scene)], np.rint(patch.colour[patch.mask]).astype(np.uint8)
    )
    x, y, w, h = scene.objects[0].box
    assert 0.2 * 96 <= max(w, h) <= 0.6 * 96 + 1
    assert min(x, y) >= 0
    assert x + w <= 128
    assert y + h <= 96


def test_the_same_seed_places_alike() -> None:
    one, other = (place_at_random(np.random.default_rng(7), [subject()], canvas(), ONE) for _ in range(2))
    assert one.placements == other.placements
    np.testing.assert_array_equal(one.picture, other.picture)


def test_the_rim_is_kept_but_does_not_belong_to_the_mask() -> None:
    picture, mask = photograph()
    scene = keep_in_place([subject(dilation=3)], canvas(90, 70))
    np.testing.assert_array_equal(mask_on_canvas(scene), mask)
    np.testing.assert_array_equal(~scene.paint, grow(mask, 3))
    np.testing.assert_array_equal(scene.picture[grow(mask, 3)], picture[grow(mask, 3)])
    assert scene.objects[0].box == bounds(mask)


def test_the_rim_follows_the_scale() -> None:
    scene = place_at_random(np.random.default_rng(0), [subject(dilation=4)], canvas(), ONE)
    placed = mask_on_canvas(scene)
    assert placed.sum() < (~scene.paint).sum() < 2 * placed.sum()
    assert not (placed & scene.paint).any()
    without_rim = subject().mask.sum() * scene.placements[0].scale ** 2
    assert placed.sum() == pytest.approx(without_rim, rel=0.05)


def test_rims_cover_no_object() -> None:
    """Two objects that touch: the rim of either reaches over the other."""
    picture = np.random.default_rng(5).integers(0, 256, (60, 80, 3), np.uint8)
    left, right = np.zeros((60, 80), bool), np.zeros((60, 80), bool)
    left[10:50, 10:40], right[15:45, 40:70] = True, True
    subjects = [cut_subject(picture, mask, name, name, 6) for name, mask in (("left", left), ("right", right))]
    scene = keep_in_place(subjects, canvas(80, 60))
    by_label = {found.label: mask_on_canvas(scene, n) for n, found in enumerate(scene.objects)}
    np.testing.assert_array_equal(by_label["left"], left)
    np.testing.assert_array_equal(by_label["right"], right)
    np.testing.assert_array_equal(scene.picture[left | right], picture[left | right])


def test_several_placements_keep_the_limit_of_overlap() -> None:
    rules = LayoutRules(4, 4, 0, 0.3, 0.5, rotation=0, flip=False, max_overlap=0.1)
    for seed in range(6):
        scene = place_at_random(np.random.default_rng(seed), [subject()], canvas(), rules)
        assert len(scene.placements) >= 2
        masks = [mask_on_canvas(scene, n) for n in range(len(scene.objects))]
        assert not (masks[0] & masks[1]).any()
        for found, placement in zip(scene.objects, scene.placements, strict=True):
            whole = transform(subject().pixels, placement.scale, 0, False).area
            assert found.area >= 0.9 * whole


def test_objects_may_leave_the_canvas_by_a_share() -> None:
    rules = LayoutRules(1, 1, 0, 0.5, 0.6, rotation=0, flip=False, max_truncation=0.4)
    shares = []
    for seed in range(30):
        scene = place_at_random(np.random.default_rng(seed), [subject()], canvas(), rules)
        whole = transform(subject().pixels, scene.placements[0].scale, 0, False).area
        shares.append(1 - scene.objects[0].area / whole)
        np.testing.assert_array_equal(mask_on_canvas(scene), ~scene.paint)
    assert max(shares) <= 0.4
    assert max(shares) > 0.05
    assert min(shares) == 0


def test_each_object_of_a_picture_is_placed_under_its_own_class() -> None:
    subjects = [subject(name="a", label="panda"), subject(name="b", label="fox")]
    rules = LayoutRules(2, 3, 0, 0.2, 0.3, rotation=0, flip=False)
    labels = {
        found.label
        for seed in range(5)
        for found in place_at_random(np.random.default_rng(seed), subjects, canvas(), rules).objects
    }
    assert labels == {"panda", "fox"}


@pytest.mark.parametrize(
    ("rules", "size", "reason", "remedy"),
    [
        (LayoutRules(1, 1, 0, rotation=0, own_size=True), (32, 32), "larger_than_canvas", "a larger canvas"),
        (LayoutRules(1, 1, 0, 0.9, 1.0, 1.0), (512, 512), "source_too_small", "max_upscale"),
    ],
)
def test_an_object_that_finds_no_place_is_refused_with_advice(
    rules: LayoutRules, size: tuple[int, int], reason: str, remedy: str
) -> None:
    with pytest.raises(RefusedImage, match=remedy) as refused:
        place_at_random(np.random.default_rng(0), [subject()], canvas(*size), rules)
    assert refused.value.reason == reason
    assert "37 x 25 pixels" in str(refused.value)
    assert f"{size[0]} x {size[1]}" in str(refused.value)


def test_bad_masks_are_refused() -> None:
    picture, mask = photograph()
    with pytest.raises(RefusedImage, match="empty_mask"):
        cut_subject(picture, np.zeros_like(mask), "it", "panda", 3)
    with pytest.raises(RefusedImage, match="the mask is 40 x 30, the image 90 x 70"):
        cut_subject(picture, np.ones((30, 40), bool), "it", "panda")
    with pytest.raises(RefusedImage, match="nothing_to_paint"):
        keep_in_place([cut_subject(picture, np.ones_like(mask), "it", "panda")], canvas(90, 70))


@pytest.mark.parametrize("filling", ["blur", "mean", "source"])
def test_nothing_of_the_old_object_is_left_in_the_surroundings(filling: str) -> None:
    picture = np.zeros((80, 120, 3), np.uint8)
    picture[:] = (30, 90, 160)
    hole = np.zeros((80, 120), bool)
    hole[20:60, 30:90] = True
    picture[hole] = (255, 0, 0)
    around = surroundings_of(picture, hole, (64, 64), filling)  # type: ignore[arg-type]
    assert around.shape == (64, 64, 3)
    assert np.abs(around.astype(int) - (30, 90, 160)).max() <= 3


def test_the_source_filling_keeps_the_background_as_it_is() -> None:
    picture, mask = photograph()
    around = surroundings_of(picture, mask, (90, 70), "source")
    np.testing.assert_array_equal(around[~mask], picture[~mask])
    assert around[mask].std() < picture[mask].std() / 2
