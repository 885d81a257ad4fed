from __future__ import annotations

import cv2
import numpy as np
import pytest

from fiftyone_idsynth.generation import blend
from fiftyone_idsynth.generation.layout import Layout, Patch, Placement, transform, visible_objects

MODES: tuple[blend.BlendMode, ...] = ("none", "gaussian", "motion", "poisson")
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


def scene(seed: int = 0) -> tuple[np.ndarray, Layout, list[Patch]]:
    """Three overlapping blobs of pure colours, one cut off by the canvas, on a textured grey background."""
    rng = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(rng.integers(60, 200, (200, 300), np.uint8), (0, 0), 3)
    background = np.repeat(texture[..., None], 3, axis=2)
    placements, patches = [], []
    for colour, (x, y) in zip(COLOURS, ((20, 30), (70, 50), (240, 120)), strict=True):
        rgba = np.zeros((90, 120, 4), np.uint8)
        rgba[..., :3] = colour
        cv2.ellipse(rgba, (60, 45), (55, 30), 15, 0, 360, (*colour, 255), -1)
        angle = float(rng.uniform(-180, 180))
        placements.append(Placement(str(colour), str(colour), 1.0, angle, False, x, y))
        patches.append(transform(rgba, 1.0, angle, False))
    return background, Layout(300, 200, "bg", (0, 0, 300, 200), tuple(placements)), patches


@pytest.mark.parametrize("seed", range(4))
def test_without_blending_every_pixel_is_what_its_mask_says(seed: int) -> None:
    background, layout, patches = scene(seed)
    image = blend.render(background, layout, patches, "none")
    labelled = np.zeros(image.shape[:2], int)
    for found in visible_objects(layout, patches):
        x, y, w, h = found.box
        region = image[y : y + h, x : x + w]
        colour = COLOURS[found.placement]
        assert (region[found.mask] == colour).all()
        assert (region == colour).all(axis=2).sum() == found.mask.sum() == found.area
        labelled[y : y + h, x : x + w] += found.mask
    assert labelled.max() == 1
    assert (image[labelled == 0] == background[labelled == 0]).all()


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_draws_the_objects_at_their_places(mode: blend.BlendMode) -> None:
    background, layout, patches = scene()
    before = background.copy()
    image = blend.render(background, layout, patches, mode)
    assert image.shape == background.shape
    assert image.dtype == np.uint8
    assert (background == before).all()
    for found in visible_objects(layout, patches):
        x, y, w, h = found.box
        inner = cv2.erode(np.pad(found.mask, 1).astype(np.uint8), np.ones((11, 11)))[1:-1, 1:-1] > 0
        channel = COLOURS[found.placement].index(255)
        colours = image[y : y + h, x : x + w][inner].mean(axis=0)
        assert colours.argmax() == channel
        assert colours[channel] > 150


def test_feathering_is_limited_to_the_edge() -> None:
    background, layout, patches = scene()
    none, soft = (blend.render(background, layout, patches, mode) for mode in ("none", "gaussian"))
    edge = np.zeros(none.shape[:2], np.uint8)
    for p, patch in zip(layout.placements, patches, strict=True):
        full = np.zeros((400, 500), np.uint8)
        full[p.y : p.y + patch.mask.shape[0], p.x : p.x + patch.mask.shape[1]] = patch.mask
        edge |= cv2.morphologyEx(full, cv2.MORPH_GRADIENT, np.ones((17, 17)))[:200, :300]
    far = np.abs(none.astype(int) - soft).max(axis=2)[edge == 0]
    assert far.max() <= 1
    assert np.abs(none.astype(int) - soft).max() > 50


def test_the_motion_kernel_moves_nothing() -> None:
    for length in (3, 5, 7, 9):
        for angle in (0, 17, 45, 90, 133):
            kernel = blend.motion_kernel(length, angle)
            assert kernel.sum() == pytest.approx(1, abs=1e-5)
            assert np.allclose(kernel, kernel[::-1, ::-1])
    dot = np.zeros((21, 21, 3), np.uint8)
    dot[10, 10] = 255
    blurred = cv2.filter2D(dot, -1, blend.motion_kernel(9, 30))[..., 0].astype(float)
    rows, columns = np.mgrid[:21, :21]
    assert (blurred * rows).sum() / blurred.sum() == pytest.approx(10, abs=0.1)
    assert (blurred * columns).sum() / blurred.sum() == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize("corner", [(100, 60), (-40, 10), (250, 150), (60, -30)])
def test_cloning_a_part_of_the_image_onto_itself_changes_nothing(corner: tuple[int, int]) -> None:
    """Neither the bounding box's centre nor the canvas border shifts what is cloned."""
    background, layout, _ = scene()
    wide = cv2.copyMakeBorder(background, 100, 100, 100, 100, cv2.BORDER_REPLICATE)
    x, y = corner
    rgba = np.zeros((61, 84, 4), np.uint8)
    cv2.ellipse(rgba, (40, 30), (35, 22), 20, 0, 360, (0, 0, 0, 255), -1)
    rgba[..., :3] = wide[y + 100 : y + 161, x + 100 : x + 184]
    patch = transform(rgba, 1.0, 0.0, False)
    left, top, _, _ = cv2.boundingRect(rgba[..., 3])
    layout = Layout(300, 200, "bg", (0, 0, 300, 200), (Placement("p", "p", 1.0, 0.0, False, x + left, y + top),))
    image = blend.render(background, layout, [patch], "poisson")
    difference = np.abs(image.astype(int) - background).max(axis=2)
    assert np.percentile(difference, 99) <= 4
    assert difference.mean() < 0.5


def test_cloning_keeps_an_object_recognisable_against_a_dark_background() -> None:
    background = np.full((200, 300, 3), 12, np.uint8)
    rgba = np.full((120, 120, 4), 240, np.uint8)
    rgba[..., 3] = 0
    cv2.circle(rgba, (60, 60), 55, (240, 240, 240, 255), -1)
    patch = transform(rgba, 1.0, 0.0, False)
    layout = Layout(300, 200, "bg", (0, 0, 300, 200), (Placement("p", "p", 1.0, 0.0, False, 90, 40),))
    image = blend.render(background, layout, [patch], "poisson")
    assert image[95, 145].mean() > 130
    assert abs(int(image[5, 5, 0]) - 12) <= 1


def test_a_thin_object_survives_cloning() -> None:
    background = np.full((100, 200, 3), 120, np.uint8)
    rgba = np.full((5, 90, 4), 255, np.uint8)
    rgba[:, ::2, :3] = 0
    patch = transform(rgba, 1.0, 0.0, False)
    layout = Layout(200, 100, "bg", (0, 0, 200, 100), (Placement("p", "p", 1.0, 0.0, False, 50, 50),))
    image = blend.render(background, layout, [patch], "poisson")
    assert image[52, 55:135].std() > 60


def test_the_background_is_cropped_and_scaled_to_the_canvas() -> None:
    background = np.zeros((200, 400, 3), np.uint8)
    background[:, 200:] = 255
    layout = Layout(50, 50, "bg", (200, 0, 200, 200))
    assert (blend.render(background, layout, [], "none") == 255).all()
