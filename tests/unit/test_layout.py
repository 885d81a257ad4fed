from __future__ import annotations

import cv2
import numpy as np
import pytest

from fiftyone_idsynth.generation import layout as layouts
from fiftyone_idsynth.generation.layout import Layout, LayoutRules, Placement

CANVAS = (320, 240)


def disc(colour: tuple[int, int, int], side: int = 100) -> np.ndarray:
    rgba = np.zeros((side, side, 4), np.uint8)
    cv2.circle(rgba, (side // 2, side // 2), side // 2 - 1, (*colour, 255), -1)
    return rgba


LIBRARY = {"red": disc((255, 0, 0)), "blue": disc((0, 0, 255), 80), "grey": disc((128, 128, 128), 60)}


def draw(seed: int, rules: LayoutRules, distractors: tuple[str, ...] = ("grey",)) -> tuple[Layout, list[layouts.Patch]]:
    rng = np.random.default_rng([51, seed])
    objects = [("a", ["red"]), ("b", ["blue"])]
    return layouts.draw_layout(rng, CANVAS, "bg", (0, 0, *CANVAS), rules, objects, distractors, LIBRARY.__getitem__)


def test_a_seed_gives_one_layout_and_it_survives_storage() -> None:
    first, _ = draw(3, LayoutRules())
    again, _ = draw(3, LayoutRules())
    other, _ = draw(4, LayoutRules())
    assert first == again != other
    assert Layout.from_dict(first.as_dict()) == first
    assert Layout.from_dict({**first.as_dict(), "blend": "none"}) == first


@pytest.mark.parametrize("max_overlap", [0.0, 0.3])
@pytest.mark.parametrize("max_truncation", [0.0, 0.25])
def test_limits_hold_on_the_real_masks(max_overlap: float, max_truncation: float) -> None:
    rules = LayoutRules(
        min_objects=6, max_objects=8, max_distractors=3, max_overlap=max_overlap, max_truncation=max_truncation
    )
    cut_off = covered = 0.0
    for seed in range(25):
        layout, patches = draw(seed, rules)
        fronts = np.full((CANVAS[1] + 400, CANVAS[0] + 400), -1)
        for index, (p, patch) in enumerate(zip(layout.placements, patches, strict=True)):
            rows = slice(p.y + 200, p.y + 200 + patch.mask.shape[0])
            fronts[rows, p.x + 200 : p.x + 200 + patch.mask.shape[1]][patch.mask] = index
            whole = np.zeros(fronts.shape, bool)
            whole[rows, p.x + 200 : p.x + 200 + patch.mask.shape[1]] = patch.mask
            outside = 1 - whole[200:-200, 200:-200].sum() / patch.area
            cut_off = max(cut_off, float(outside))
        seen = fronts[200:-200, 200:-200]
        for index, (p, patch) in enumerate(zip(layout.placements, patches, strict=True)):
            whole = np.zeros(fronts.shape, bool)
            whole[p.y + 200 : p.y + 200 + patch.mask.shape[0], p.x + 200 : p.x + 200 + patch.mask.shape[1]] = patch.mask
            inside = whole[200:-200, 200:-200].sum()
            covered = max(covered, 1 - float((seen == index).sum() / inside))
    assert covered <= max_overlap
    assert cut_off <= max_truncation
    assert (covered > 0.1) == (max_overlap > 0)
    assert (cut_off > 0.1) == (max_truncation > 0)


def test_where_there_is_no_room_fewer_are_placed_and_counted() -> None:
    rules = LayoutRules(min_objects=12, max_objects=12, scale_min=0.5, scale_max=0.6, max_overlap=0, max_distractors=0)
    layout, patches = draw(0, rules)
    assert layout.wanted == 12 > len(layout.placements) == len(patches) > 0
    assert layout.refused["overlap"] >= layouts.TRIES


def test_a_cutout_is_not_enlarged_beyond_the_limit() -> None:
    layout, _ = draw(0, LayoutRules(scale_min=0.9, scale_max=1.0, max_upscale=1.2))
    assert not layout.placements
    assert set(layout.refused) == {"source_too_small"}


def test_scale_is_relative_to_the_shorter_side() -> None:
    for seed in range(10):
        _, patches = draw(seed, LayoutRules(scale_min=0.2, scale_max=0.4, rotation=0, flip=False))
        for patch in patches:
            assert 0.2 * 240 - 2 <= max(patch.mask.shape) <= 0.4 * 240 + 2


def test_visible_masks_are_exact_under_occlusion() -> None:
    patch = layouts.transform(LIBRARY["red"], 1.0, 0.0, False)
    placements = (
        Placement("red", "a", 1.0, 0.0, False, 10, 20),
        Placement("red", None, 1.0, 0.0, False, 60, 20),
        Placement("red", "b", 1.0, 0.0, False, 250, 200),
    )
    layout = Layout(*CANVAS, "bg", (0, 0, *CANVAS), placements)
    back, cut_off = layouts.visible_objects(layout, [patch] * 3)
    canvas = np.zeros((CANVAS[1], CANVAS[0]), bool)
    h, w = patch.mask.shape
    canvas[20 : 20 + h, 10 : 10 + w] = patch.mask
    canvas[20 : 20 + h, 60 : 60 + w][patch.mask] = False
    x, y, bw, bh = back.box
    assert (back.label, cut_off.label) == ("a", "b")
    assert back.area == canvas.sum()
    assert (canvas[y : y + bh, x : x + bw] == back.mask).all()
    assert back.mask.any(0).all()
    assert back.mask.any(1).all()
    assert cut_off.box[0] + cut_off.box[2] == 320
    assert cut_off.box[1] + cut_off.box[3] == 240
    assert back.relative_box(*CANVAS) == pytest.approx([x / 320, y / 240, bw / 320, bh / 240], abs=1e-12)


def test_a_hidden_object_has_no_label() -> None:
    patch = layouts.transform(LIBRARY["red"], 1.0, 0.0, False)
    placements = tuple(Placement("red", label, 1.0, 0.0, False, 10, 20) for label in ("a", None))
    assert layouts.visible_objects(Layout(*CANVAS, "bg", (0, 0, *CANVAS), placements), [patch] * 2) == []


def test_transforming_keeps_colours_and_area() -> None:
    rgba = disc((200, 100, 50), 120)
    for scale, angle in ((1.0, 0.0), (0.5, 30.0), (1.7, -77.0)):
        patch = layouts.transform(rgba, scale, angle, True)
        assert np.abs(patch.colour[patch.mask] - (200, 100, 50)).max() < 0.51
        assert patch.area == pytest.approx(np.count_nonzero(rgba[..., 3]) * scale**2, rel=0.03)
        assert patch.mask.any(0).all()
        assert patch.mask.any(1).all()


def test_the_crop_fills_the_canvas_with_its_proportions() -> None:
    rng = np.random.default_rng(0)
    for size, canvas in (((640, 480), (100, 200)), ((300, 900), (512, 512)), ((64, 48), (64, 48))):
        x, y, w, h = layouts.draw_crop(rng, size, canvas)
        assert 0 <= x <= size[0] - w
        assert 0 <= y <= size[1] - h
        assert size[0] == w or size[1] == h
        assert w / h == pytest.approx(canvas[0] / canvas[1], rel=0.02)
