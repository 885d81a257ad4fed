"""Labels in a wider picture lie where they lay, in absolute pixels, and say where they come from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_idsynth.carrying import Move, carried
from fiftyone_idsynth.errors import RefusedImage
from fiftyone_idsynth.media import MediaStore, read_image

MOVE = Move((60, 40), (100, 50), (30, 10))


def carry(label: Any, folder: Path, move: Move = MOVE) -> Any:
    return carried(label, move, "abc", MediaStore(folder))


def test_a_box_and_its_mask_keep_their_pixels(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).random((13, 17)) > 0.5
    old = fo.Detection(label="fox", bounding_box=[11 / 60, 5 / 40, 17 / 60, 13 / 40], mask=mask, confidence=0.5)
    new = carry(old, tmp_path)
    before, after = (
        label.to_segmentation(frame_size=size, target=255).mask > 0
        for label, size in ((old, MOVE.old), (new, MOVE.new))
    )
    np.testing.assert_array_equal(after[10:50, 30:90], before)
    assert after.sum() == before.sum() == mask.sum()
    assert (new.label, new.confidence) == ("fox", 0.5)
    assert (new.inherited, new.inherited_from) == (True, "abc")
    assert new.id != old.id
    assert "inherited" not in old


def test_a_box_between_pixels_is_moved_as_well(tmp_path: Path) -> None:
    new = carry(fo.Detection(label="fox", bounding_box=[0.1234, 0.2, 0.3, 0.4]), tmp_path)
    assert new.bounding_box == pytest.approx([(0.1234 * 60 + 30) / 100, (8 + 10) / 50, 18 / 100, 16 / 50])


def test_polylines_and_keypoints_move(tmp_path: Path) -> None:
    nan = float("nan")
    line = carry(fo.Polylines(polylines=[fo.Polyline(points=[[(0, 0), (1, 1)]], label="a")]), tmp_path)
    np.testing.assert_allclose(line.polylines[0].points[0], [(0.3, 0.2), (0.9, 1.0)])
    assert line.polylines[0].inherited
    points = carry(fo.Keypoint(points=[(0.5, 0.5), (nan, nan)], label="a"), tmp_path).points
    assert points[0] == pytest.approx((0.6, 0.6))
    assert math.isnan(points[1][0])


@pytest.mark.parametrize("in_file", [True, False])
def test_masks_of_whole_pictures_move(tmp_path: Path, in_file: bool) -> None:
    mask = np.random.default_rng(1).integers(0, 4, (40, 60), np.uint8)
    label = fo.Segmentation(mask=mask)
    if in_file:
        label = fo.Segmentation(mask_path=MediaStore(tmp_path).write_image(mask))
    new = carry(label, tmp_path)
    array = read_image(new.mask_path, mode="L").pixels if in_file else new.mask
    assert array.shape == (50, 100)
    np.testing.assert_array_equal(array[10:50, 30:90], mask)
    assert array.sum() == mask.sum()


def test_a_mask_of_another_size_than_the_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedImage, match="the mask is 30 x 20, the image 60 x 40 pixels"):
        carry(fo.Segmentation(mask=np.zeros((20, 30), np.uint8)), tmp_path)


def test_classes_of_the_whole_picture_are_marked_too(tmp_path: Path) -> None:
    new = carry(fo.Classifications(classifications=[fo.Classification(label="day")]), tmp_path)
    assert new.classifications[0].label == "day"
    assert new.classifications[0].inherited_from == "abc"
    assert carry(None, tmp_path) is None
