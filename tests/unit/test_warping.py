"""Labels follow a picture's geometry: through every transform, cut at the border, dropped by rule."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_idsynth.augmentation.applying import Applier, check
from fiftyone_idsynth.augmentation.catalogue import PRESETS, TRANSFORMS
from fiftyone_idsynth.augmentation.framing import cropped, letterboxed
from fiftyone_idsynth.augmentation.pipelines import Pipeline
from fiftyone_idsynth.augmentation.proportions import window
from fiftyone_idsynth.carrying import relative_box
from fiftyone_idsynth.errors import RefusedImage
from fiftyone_idsynth.label_parts import TOLERANCE_PIXELS, as_label
from fiftyone_idsynth.media import MediaStore
from fiftyone_idsynth.outlines import area_of, clipped_line, clipped_polygon, dense, ellipse_in
from fiftyone_idsynth.warping import KeepRule, Load, Placement, Tally

W, H = 160, 120


def disc(side: int) -> np.ndarray:
    rows, columns = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    return rows**2 + columns**2 <= 1


def labels() -> dict[str, Any]:
    """Two overlapping discs with masks, the first also as a polygon, a keypoint and in a mask of the whole picture."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    ring = np.stack([80 + 20 * np.cos(angle), 60 + 20 * np.sin(angle)], axis=1) / (W, H)
    whole = np.zeros((H, W), np.int32)
    whole[40:80, 60:100][disc(40)] = 300
    return {
        "boxes": fo.Detections(detections=[
            fo.Detection(label="a", bounding_box=[60 / W, 40 / H, 40 / W, 40 / H], mask=disc(40)),
            fo.Detection(label="b", bounding_box=[80 / W, 50 / H, 40 / W, 40 / H], mask=disc(40)),
        ]),
        "line": fo.Polyline(label="a", points=[ring.tolist()], closed=True, filled=True),
        "point": fo.Keypoint(label="a", points=[(0.5, 0.5), (math.nan, math.nan)]),
        "areas": fo.Segmentation(mask=whole),
    }  # fmt: skip


def unload(load: Load, points: np.ndarray, maps: Any, size: tuple[int, int], rule: KeepRule | None = None) -> Any:
    rule = rule or KeepRule(0, 0)
    made = load.unload(points, maps, size, rule, parent="p", store=MediaStore(""), tally=Tally())
    return {name: label and as_label(label) for name, label in made.items()}


def drawn(label: Any, size: tuple[int, int]) -> np.ndarray:
    """The mask of a box in its picture."""
    return np.asarray(label.to_segmentation(frame_size=size, target=1).mask > 0)


def bounds(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_moves_all_kinds_of_labels_alike(name: str) -> None:
    ((kind, parameters),) = TRANSFORMS[name].items()
    applier = Applier(Pipeline([{kind: {**parameters, "p": 1}}]))
    picture = np.random.default_rng(0).integers(0, 256, (H, W, 3), np.uint8)
    load = applier.load(labels(), (W, H))
    for seed in range(6):
        pixels, points, maps = applier(picture, load, seed)
        size = (pixels.shape[1], pixels.shape[0])
        new = unload(load, points, maps, size)
        mask = new["areas"].mask == 300
        box = next(one for one in new["boxes"].detections if one.label == "a")
        x, y, w, h = np.array(box.bounding_box) * (size * 2)
        np.testing.assert_allclose([x, y, x + w, y + h], bounds(mask), atol=1e-6)
        shown = drawn(box, size)
        assert (shown & mask).sum() >= 0.97 * (shown | mask).sum()
        ring = np.array(new["line"].points[0]) * size
        found = np.concatenate([ring.min(axis=0), ring.max(axis=0)])
        np.testing.assert_allclose(found, bounds(mask), atol=TOLERANCE_PIXELS)
        cx, cy = np.array(new["point"].points[0]) * size
        assert mask[int(cy), int(cx)]
        assert all(math.isnan(value) for value in new["point"].points[1])


@pytest.mark.parametrize("preset", ["classification", "detection"])
def test_presets_keep_labels_true(preset: str) -> None:
    check(Pipeline(PRESETS[preset]), (W, H))


def test_the_label_safe_preset_neither_turns_nor_bends_and_keeps_objects_whole() -> None:
    pipeline = Pipeline(PRESETS["detection"])
    assert (pipeline.turns, pipeline.bends, pipeline.needs_boxes) == (False, False, True)
    boxes = fo.Detections(detections=[fo.Detection(label=str(x), bounding_box=[x, 0.3, 0.2, 0.5]) for x in (0.0, 0.6)])
    applier, tally = Applier(pipeline), Tally()
    load = applier.load({"boxes": boxes}, (W, H))
    picture = np.zeros((H, W, 3), np.uint8)
    for seed in range(60):
        pixels, points, maps = applier(picture, load, seed)
        size = pixels.shape[1::-1]
        load.unload(points, maps, size, KeepRule(), parent="", store=MediaStore(""), tally=tally)
    assert (tally.carried, tally.cut, dict(tally.dropped)) == (120, 0, {})


def test_transforms_are_drawn_independently() -> None:
    pipeline = Pipeline([{"HorizontalFlip": {"p": 0.5}}, {"VerticalFlip": {"p": 0.5}}, {"Transpose": {"p": 0.5}}])
    applier = Applier(pipeline)
    picture = np.zeros((8, 8, 3), np.uint8)
    seen = []
    for seed in range(200):
        applier.pixels(picture, seed)
        seen.append(tuple(applier.applied()))
    assert len(set(seen)) == 8
    assert all(seen.count(one) > 8 for one in set(seen))  # 25 are expected of each


def test_masks_that_overlap_stay_apart() -> None:
    load = Load(labels(), (W, H))
    points, maps = Placement((W, H), (W, H))(load.points, load.maps)
    moved = unload(load, points, maps, (W, H))["boxes"].detections
    for old, new in zip(labels()["boxes"].detections, moved, strict=True):
        np.testing.assert_array_equal(drawn(new, (W, H)), drawn(old, (W, H)))
        assert (new.inherited, new.inherited_from) == (True, "p")
        assert new.id != old.id


def test_masks_in_files_stay_in_files(tmp_path: Path) -> None:
    store = MediaStore(tmp_path)
    path = store.write_image(disc(40).astype(np.uint8) * 255)
    box = fo.Detection(label="a", bounding_box=relative_box((80, 60, 40, 40), W, H), mask_path=path)
    load = Load({"box": box}, (W, H))
    points, maps = Placement((W, H), (100, 80))(load.points, load.maps)
    new = load.unload(points, maps, (100, 80), KeepRule(), parent="", store=store, tally=Tally())["box"]
    assert new is not None
    new = as_label(new)
    assert new.mask is None
    assert new.mask_path != path
    np.testing.assert_array_equal(drawn(new, (100, 80)), drawn(box, (W, H))[:80, :100])


@pytest.mark.parametrize(("visibility", "kept"), [(0.4, True), (0.6, False)])
def test_visibility_is_the_share_of_the_mask_that_is_seen(visibility: float, kept: bool) -> None:
    """The crop shows half of the disc, and enlarges it: the larger area is no larger share."""
    box = fo.Detection(label="a", bounding_box=[60 / W, 40 / H, 40 / W, 40 / H], mask=disc(40))
    load = Load({"box": box}, (W, H))
    points, maps = Placement((W, H), (160, 240), (2.0, 2.0))(load.points, load.maps)
    new = unload(load, points, maps, (160, 240), KeepRule(0, visibility))["box"]
    assert (new is not None) == kept


def test_masks_that_went_elsewhere_than_their_outline_are_refused() -> None:
    load = Load(labels(), (W, H))
    with pytest.raises(RefusedImage, match="labels_disagree"):
        unload(load, load.points, [np.roll(one, 25, axis=1) for one in load.maps], (W, H))


def test_polygons_and_lines_are_cut_at_the_border() -> None:
    square = np.array([(-10, -10), (30, -10), (30, 20), (-10, 20)], float)
    inside = clipped_polygon(square, (100, 50))
    assert area_of(inside) == 30 * 20
    assert not len(clipped_polygon(square - 100, (100, 50)))
    zigzag = np.array([(-10, 10), (20, 10), (20, 60), (40, 60), (40, 10)], float)
    first, second = clipped_line(zigzag, (100, 50))
    np.testing.assert_allclose(first, [(0, 10), (20, 10), (20, 50)])
    np.testing.assert_allclose(second, [(40, 50), (40, 10)])
    fine = dense(square, 7, closed=True)
    assert area_of(fine) == area_of(square)
    assert np.hypot(*np.diff(fine, axis=0).T).max() <= 7


def test_a_turned_box_is_that_round_the_ellipse_in_it() -> None:
    points = ellipse_in(0, 0, 40, 20)
    assert (points.min(axis=0) == 0).all()
    assert (points.max(axis=0) == (40, 20)).all()
    turned = points[:, ::-1]
    assert (turned.max(axis=0) == (20, 40)).all()


def test_frames() -> None:
    whole = letterboxed((200, 100), (64, 64))
    assert (whole.scaled, whole.at) == ((64, 32), (0, 16))
    assert cropped((200, 100), (50, 50)).at == (-25, 0)
    right = np.array([[0.8, 0.1, 1.0, 0.9]])
    assert cropped((200, 100), (50, 50), right).at == (-50, 0)


def test_a_window_never_cuts_objects_nor_their_margin() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        covered = np.zeros((90, 120), bool)
        x, y = rng.integers(0, 100), rng.integers(0, 70)
        covered[y : y + rng.integers(1, 20), x : x + rng.integers(1, 20)] = True
        framed = window((120, 90), covered, float(rng.uniform(0.01, 0.9)), margin := float(rng.uniform(0, 1)))
        left, top, right, bottom = bounds(covered)
        (fx, fy), (fw, fh) = framed.at, framed.frame
        room = margin * np.array([right - left, bottom - top])
        assert -fx <= max(0, left - room[0])
        assert -fy <= max(0, top - room[1])
        assert -fx + fw >= min(120, right + room[0])
        assert -fy + fh >= min(90, bottom + room[1])
        assert fx <= 0 >= fy
        assert -fx + fw <= 120
        assert -fy + fh <= 90
