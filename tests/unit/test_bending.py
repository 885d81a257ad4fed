"""Points go where the pixels under them go when a picture is bent."""

from __future__ import annotations

import numpy as np
import pytest

from fiftyone_idsynth.augmentation.bending import bend, with_exact_points
from fiftyone_idsynth.augmentation.pipelines import albumentations

H, W = 90, 120
ROWS, COLUMNS = np.mgrid[:H, :W].astype(np.float32)
POINTS = np.array([[3.0, 4.0], [60.5, 45.25], [118.0, 80.0], [-6.0, 95.0]])


def test_a_shifted_picture_takes_all_points_along_also_those_beyond_the_border() -> None:
    np.testing.assert_allclose(bend(POINTS, COLUMNS + 7, ROWS - 2), POINTS + np.array([-7, 2]), atol=1e-3)


def test_looked_up_in_the_map_again_a_point_is_where_it_was() -> None:
    found = bend(POINTS[:3], COLUMNS + 4 * np.sin(ROWS / 9), ROWS + 3 * np.cos(COLUMNS / 11))
    back = np.stack([found[:, 0] + 4 * np.sin(found[:, 1] / 9), found[:, 1] + 3 * np.cos(found[:, 0] / 11)], axis=1)
    np.testing.assert_allclose(back, POINTS[:3], atol=0.05)
    assert np.abs(found - POINTS[:3]).max() > 1


def test_no_place_is_made_up_where_the_map_folds_the_picture_over() -> None:
    found = bend(POINTS[1:2], COLUMNS + 40 * np.sin(COLUMNS / 3), ROWS)
    assert np.isnan(found).all()


def test_no_points_are_none() -> None:
    assert bend(np.zeros((0, 2)), COLUMNS, ROWS).shape == (0, 2)


@pytest.mark.parametrize("name", ["ElasticTransform", "GridDistortion", "OpticalDistortion", "ThinPlateSpline"])
def test_points_lie_where_dots_are_drawn(name: str) -> None:
    """A bright dot is bent with the picture; its centre of mass in the result is where the point says."""
    A = albumentations()
    rng = np.random.default_rng(3)
    for seed in range(4):
        x, y = rng.uniform(30, 90), rng.uniform(25, 65)
        dot = np.exp(-((COLUMNS - x) ** 2 + (ROWS - y) ** 2) / 8)
        picture = np.repeat((250 * dot).astype(np.uint8)[..., None], 3, axis=2)
        made = A.Compose([with_exact_points(getattr(A, name))(p=1)], keypoint_params=A.KeypointParams("xy"), seed=seed)
        result = made(image=picture, keypoints=np.array([[x, y]]))
        weight = result["image"][..., 0].astype(float)
        centre = [(weight * axis).sum() / weight.sum() for axis in (COLUMNS, ROWS)]
        np.testing.assert_allclose(result["keypoints"][0][:2], centre, atol=1.0)


def test_what_bends_nothing_stays_the_librarys() -> None:
    A = albumentations()
    assert with_exact_points(A.HorizontalFlip) is A.HorizontalFlip
    assert with_exact_points(A.ElasticTransform).__name__ == "ElasticTransform"
