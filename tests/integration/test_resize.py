"""Copies in training sizes, and copies in which objects fill another share: labels follow, nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

import fiftyone_idsynth as ids
from fiftyone_idsynth.errors import UsageError
from fiftyone_idsynth.media import read_image

W, H = 200, 100
BOX = (120, 20, 60, 40)


def sample(folder: Path, size: tuple[int, int] = (W, H), box: tuple[int, int, int, int] = BOX) -> fo.Sample:
    """A grey picture with a red object; its labels say where."""
    x, y, w, h = box
    pixels = np.full((size[1], size[0], 3), 90, np.uint8)
    pixels[y : y + h, x : x + w] = (220, 30, 30)
    path = folder / f"{size[0]}x{size[1]}.png"
    Image.fromarray(pixels).save(path)
    relative = [x / size[0], y / size[1], w / size[0], h / size[1]]
    middle = (relative[0] + relative[2] / 2, relative[1] + relative[3] / 2)
    whole = np.zeros(size[::-1], np.uint8)
    whole[y : y + h, x : x + w] = 7
    return fo.Sample(
        filepath=str(path), tags=["train"], training_text="a red thing",
        ground_truth=fo.Detections(detections=[
            fo.Detection(label="thing", bounding_box=relative, mask=np.ones((h, w), bool)),
            fo.Detection(label="alone", bounding_box=relative),
        ]),
        areas=fo.Segmentation(mask=whole),
        centre=fo.Keypoints(keypoints=[fo.Keypoint(points=[middle])]),
    )  # fmt: skip


def red(pixels: np.ndarray) -> np.ndarray:
    """Left, top, right and bottom of what is red."""
    values = pixels.astype(int)
    rows, columns = np.nonzero((values[..., 0] > 150) & (values[..., 1] < 65))
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def check_labels(made: Any, atol: float = 1.5) -> np.ndarray:
    """Compares every label with the pixels; returns the pixels."""
    pixels = read_image(made.filepath).pixels
    size = np.array(pixels.shape[1::-1])
    where = red(pixels)
    for one in made.ground_truth.detections:
        x, y, w, h = np.array(one.bounding_box) * [*size, *size]
        np.testing.assert_allclose([x, y, x + w, y + h], where, atol=atol)
    rows, columns = np.nonzero(made.areas.get_mask() == 7)
    np.testing.assert_allclose([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], where, atol=atol)
    cx, cy = made.centre.keypoints[0].points[0] * size
    assert where[0] < cx < where[2]
    assert where[1] < cy < where[3]
    return pixels


@pytest.mark.parametrize(
    ("params", "size"),
    [
        ({"method": "letterbox", "size": 96}, (96, 96)),
        ({"method": "letterbox", "size": 96, "height": 64}, (96, 64)),
        ({"method": "object_crop", "size": 80}, (80, 80)),
        ({"method": "longest_side", "size": 150}, (150, 75)),
        ({"method": "shortest_side", "size": 50}, (100, 50)),
        ({"method": "stretch", "size": 64}, (64, 64)),
        ({"method": "scale", "factor": 0.25}, (50, 25)),
        ({"method": "scale", "factor": 2, "enlarge": True}, (400, 200)),
        ({"method": "buckets", "size": 96, "multiple": 8}, (128, 72)),
    ],
)
def test_labels_follow(dataset: Any, tmp_path: Path, params: dict[str, Any], size: tuple[int, int]) -> None:
    dataset.add_sample(sample(tmp_path))
    report = ids.resize(dataset, **params, image_format="png", progress=False)
    assert (report.created, report.failed) == (1, [])
    made = dataset.match_tags("resized").first()
    pixels = check_labels(made, atol=2.5)
    assert pixels.shape[1::-1] == size == (made.metadata.width, made.metadata.height)
    assert made.training_text == "a red thing"
    assert set(made.tags) == {"resized", "train"}
    assert made.lineage.params["method"] == params["method"]
    again = ids.resize(dataset, **params, image_format="png", progress=False)
    assert (again.created, again.skipped) == (0, 1)


def test_a_crop_cuts_objects_by_rule(dataset: Any, tmp_path: Path) -> None:
    dataset.add_sample(sample(tmp_path, box=(130, 20, 60, 40)))
    report = ids.resize(dataset, method="crop", size=100, min_visibility=0.3, progress=False)  # shows columns 50 to 150
    assert report.outputs["cut at the border"] == 2
    made = dataset.match_tags("resized").first()
    for one in made.ground_truth.detections:
        assert one.bounding_box == pytest.approx([0.8, 0.2, 0.2, 0.4])
    strict = ids.resize(dataset, method="crop", size=100, min_visibility=0.5, progress=False)
    assert strict.outputs["objects dropped"]["less visible than min_visibility"] == 2


def test_images_are_enlarged_only_when_that_is_allowed(dataset: Any, tmp_path: Path) -> None:
    dataset.add_samples([sample(tmp_path), sample(tmp_path, (400, 200))])
    report = ids.resize(dataset, size=320, progress=False)
    assert report.created == 1
    ((what, why),) = report.failed
    assert what
    assert "too_small: 200 x 100 would have to be enlarged to 320 x 160" in why
    allowed = ids.resize(dataset, size=320, enlarge=True, progress=False)
    assert allowed.created == 2
    assert any("1 images were enlarged" in note for note in allowed.notes)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_images_of_a_pixel(dataset: Any, tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "tiny.png"
    Image.new("L", size, 40).save(path)
    dataset.add_sample(fo.Sample(filepath=str(path)))
    for method in ("letterbox", "crop", "stretch", "longest_side", "shortest_side"):
        report = ids.resize(dataset, method=method, size=32, enlarge=True, progress=False)
        assert (report.created, report.failed) == (1, []), method


def test_wrong_sizes_are_refused(dataset: Any, tmp_path: Path) -> None:
    dataset.add_sample(sample(tmp_path))
    with pytest.raises(UsageError, match="is for letterbox"):
        ids.resize(dataset, method="longest_side", height=50, progress=False)
    with pytest.raises(UsageError, match="must divide by 64"):
        ids.resize(dataset, method="buckets", size=500, progress=False)
    with pytest.raises(UsageError, match="size=0"):
        ids.resize(dataset, size=0, progress=False)


def share(made: Any, width: int, height: int) -> float:
    left, top, right, bottom = red(read_image(made.filepath).pixels)
    return float((right - left) * (bottom - top)) / (width * height)


def test_background_is_cropped_away_until_objects_fill_the_share(dataset: Any, tmp_path: Path) -> None:
    dataset.add_sample(sample(tmp_path))  # the object fills 12 %
    report = ids.change_object_ratio(dataset, ratio=0.3, margin=0.05, progress=False)
    assert (report.created, report.failed) == (1, [])
    made = dataset.match_tags("reframed").first()
    pixels = check_labels(made, atol=0.01)
    height, width = pixels.shape[:2]
    assert width / height == pytest.approx(2, rel=0.03)
    assert share(made, width, height) == pytest.approx(0.3, rel=0.05)
    again = ids.change_object_ratio(dataset, ratio=0.3, margin=0.05, progress=False)
    assert (again.created, again.skipped) == (0, 1)


@pytest.mark.parametrize("padding", ["constant", "replicate"])
def test_room_is_added_until_objects_fill_the_share(dataset: Any, tmp_path: Path, padding: str) -> None:
    dataset.add_sample(sample(tmp_path))
    report = ids.change_object_ratio(dataset, ratio=0.04, padding=padding, progress=False)
    assert report.created == 1
    made = dataset.match_tags("reframed").first()
    pixels = check_labels(made, atol=0.01)
    height, width = pixels.shape[:2]
    assert share(made, width, height) == pytest.approx(0.04, rel=0.05)
    old = read_image(dataset.first().filepath).pixels
    x, y = made.lineage.params["at"]
    np.testing.assert_array_equal(pixels[y : y + H, x : x + W], old)


def test_what_fits_already_is_left_alone_and_margins_come_first(dataset: Any, tmp_path: Path) -> None:
    dataset.add_sample(sample(tmp_path))
    same = ids.change_object_ratio(dataset, ratio=0.12, progress=False)
    assert (same.created, same.outputs["left as they are"]) == (0, 1)
    none = ids.change_object_ratio(dataset, ratio=0.05, padding="none", progress=False)
    assert (none.created, none.outputs["left as they are"]) == (0, 1)
    narrow = ids.change_object_ratio(dataset, ratio=0.95, margin=0.5, progress=False)
    assert "smaller share than 0.95" in narrow.notes[0]
    made = dataset.match_tags("reframed").first()
    left, top, right, bottom = red(check_labels(made, atol=0.01))
    assert left >= 0.5 * (right - left) - 1  # the margin stays
    assert top >= min(20, 0.5 * (bottom - top)) - 1


def test_images_without_objects_are_reported(dataset: Any, tmp_path: Path) -> None:
    dataset.add_samples([sample(tmp_path), fo.Sample(filepath=sample(tmp_path, (150, 100)).filepath)])
    report = ids.change_object_ratio(dataset, progress=False)
    assert report.created == 1
    assert "no_object" in report.failed[0][1]
    other = ids.change_object_ratio(dataset, classes=("cat",), progress=False)
    assert len(other.failed) == 2
    with pytest.raises(UsageError, match="there is no such sample field"):
        ids.change_object_ratio(dataset, label_field="nothing", progress=False)


def test_a_generator_paints_what_is_new(dataset: Any, tmp_path: Path) -> None:
    from tests.integration.shapes import trained

    dataset.add_sample(sample(tmp_path, (64, 64), (16, 16, 32, 32)))
    report = ids.change_object_ratio(
        dataset, ratio=0.15, padding="paint", model=trained("sd"), steps=2, prompt="a red square", progress=False
    )
    assert (report.created, report.failed) == (1, [])
    made = dataset.match_tags("reframed").first()
    pixels = read_image(made.filepath).pixels
    x, y = made.lineage.params["at"]
    old = read_image(dataset.first().filepath).pixels
    np.testing.assert_array_equal(pixels[y : y + 64, x : x + 64], old)
    left, _, width, _ = made.ground_truth.detections[0].bounding_box
    side = pixels.shape[1]
    assert (left * side, width * side) == pytest.approx((x + 16, 32))
    assert made.lineage.params["prompt"] == "a red square"
    assert made.lineage.params["seed"] >= 0
