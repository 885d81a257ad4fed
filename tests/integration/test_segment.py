"""What the stage ``segment`` writes, with a model that understands the shapes world and one that knows two colours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

import fiftyone_idsynth as ids
from fiftyone_idsynth.annotation.segments import extended
from fiftyone_idsynth.errors import FieldError, ParameterError, UsageError
from fiftyone_idsynth.models.errors import BrokenModel, WrongModel
from tests.models.tiny_segmenters import colour_segmenter
from tests.models.tiny_yolo import detector
from tests.zoo import shapes_world as world
from tests.zoo.common import MODELS

COUNT = 16
COLOURS = tuple(world.COLOURS)


@pytest.fixture(scope="module")
def clipseg() -> str:
    folder = MODELS / "clipseg"
    if not (folder / "config.json").exists():
        pytest.skip("the CLIPSeg of the shapes world is not trained")
    return str(folder)


@pytest.fixture
def scenes() -> list[world.Scene]:
    return world.scenes(78, COUNT, (1, 2))


@pytest.fixture
def shapes(dataset: Any, tmp_path: Path, scenes: list[world.Scene]) -> Any:
    for number, scene in enumerate(scenes):
        path = tmp_path / f"{number}.png"
        Image.fromarray(scene.image).save(path)
        dataset.add_sample(fo.Sample(filepath=str(path)))
    return dataset


@pytest.fixture
def halves(dataset: Any, tmp_path: Path) -> Any:
    """Five pictures of 80 x 48 pixels: the left half red, the right half blue."""
    pixels = np.full((48, 80, 3), (255, 0, 0), np.uint8)
    pixels[:, 40:] = (0, 0, 255)
    for number in range(5):
        pixels[0, 0] = number
        path = tmp_path / f"halves-{number}.png"
        Image.fromarray(pixels).save(path)
        dataset.add_sample(fo.Sample(filepath=str(path)))
    return dataset


@pytest.fixture(params=["scores", "numbers"])
def colours(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(colour_segmenter(tmp_path / "colours.onnx", numbers=request.param == "numbers"))


@pytest.fixture
def scoring(tmp_path: Path) -> str:
    return str(colour_segmenter(tmp_path / "colours.onnx"))


def masks(dataset: Any, field: str = "segmentation") -> list[np.ndarray]:
    return [np.asarray(Image.open(path)) for path in dataset.values(f"{field}.mask_path")]


def test_pixels_get_the_class_that_the_texts_say(shapes: Any, scenes: list[world.Scene], clipseg: str) -> None:
    report = ids.segment(shapes, model=clipseg, classes=[f"{c}=a {c} shape|a {c} square" for c in COLOURS])
    assert (report.processed, report.failed) == (COUNT, [])
    names = shapes.mask_targets["segmentation"]
    assert names == {0: "background", 1: "red", 2: "green", 3: "blue", 4: "yellow"}
    overlaps, truth_of = [], {name: value for value, name in names.items()}
    for mask, scene in zip(masks(shapes), scenes, strict=True):
        assert mask.shape == (world.SIZE, world.SIZE)
        for thing in scene.things:
            found = mask == truth_of[thing.colour]
            same = np.logical_or.reduce([t.mask for t in scene.things if t.colour == thing.colour])
            overlaps.append((found & same).sum() / (found | same).sum())
    assert np.median(overlaps) >= 0.6
    for label in shapes.values("segmentation"):
        assert label.model == clipseg
        assert len(label.revision) == 12
        assert label.confidence is None or 0.5 < label.confidence <= 1
        assert Path(label.mask_path).is_relative_to(os.environ["IDSYNTH_MEDIA_DIR"])


def test_a_model_with_classes_of_its_own(halves: Any, colours: str) -> None:
    report = ids.segment(halves, model=colours)
    assert halves.mask_targets["segmentation"] == {0: "background", 1: "red", 2: "blue"}
    for mask in masks(halves):
        assert mask.shape == (48, 80)
        assert (mask[:, 4:38] == 1).all()
        assert (mask[:, 42:] == 2).all()
    assert report.outputs["images that show"] == {"red": 5, "blue": 5}
    assert {label.classes[0] for label in halves.values("segmentation")} <= {"red", "blue"}


def test_only_the_classes_asked_for_under_their_labels(halves: Any, colours: str) -> None:
    report = ids.segment(halves, model=colours, classes=["sky=Blue"])
    assert report.outputs == {"images that show": {"sky": 5}, "images without any class": 0}
    assert all((mask[:, :38] == 0).all() and (mask[:, 42:] == 1).all() for mask in masks(halves))
    ids.segment(halves, model=colours, background=["blue"], label_field="rest")
    assert halves.mask_targets["rest"] == {0: "background", 1: "red"}


def test_a_class_keeps_its_value_whatever_is_segmented_later(halves: Any, scoring: str) -> None:
    ids.segment(halves[:2], model=scoring, classes=["blue"])
    ids.segment(halves[2:], model=scoring, classes=["red", "blue"])
    assert halves.mask_targets["segmentation"] == {0: "background", 1: "blue", 2: "red"}
    assert all((mask[:, 42:] == 1).all() for mask in masks(halves))
    assert all((mask[:, 4:38] == 2).all() for mask in masks(halves)[2:])


def test_values_are_given_from_the_lowest_that_is_free() -> None:
    assert extended({2: "cat"}, ["dog", "cat", "cow"]) == {0: "background", 1: "dog", 2: "cat", 3: "cow"}
    assert extended({0: "other"}, []) == {0: "other"}
    with pytest.raises(ParameterError, match="room for 254 classes"):
        extended({}, [str(number) for number in range(255)])


def test_masks_are_what_evaluation_and_export_read(halves: Any, scoring: str, tmp_path: Path) -> None:
    ids.segment(halves, model=scoring, label_field="predicted")
    ids.segment(halves, model=scoring, label_field="other", classes=["red", "blue"])
    results = halves.evaluate_segmentations("predicted", gt_field="other", eval_key="same", progress=False)
    assert results.metrics()["accuracy"] == 1
    ids.export(halves, format="segmentation", path=tmp_path / "out", label_field="predicted")
    assert len(list((tmp_path / "out").rglob("labels/*.png"))) == 5


def test_a_second_run_skips_all_and_a_person_is_never_overwritten(halves: Any, scoring: str) -> None:
    ids.segment(halves, model=scoring)
    again = ids.segment(halves, model=scoring)
    assert (again.processed, again.skipped) == (0, 5)
    first, second = halves.first(), halves.skip(1).first()
    first["segmentation"] = fo.Segmentation(mask=np.full((48, 80), 2, np.uint8))
    second["segmentation"] = None
    first.save()
    second.save()
    report = ids.segment(halves, model=scoring, classes=["blue"])
    assert (report.processed, report.outputs["left as people wrote them"]) == (3, 2)
    halves.reload()
    assert (halves.first().segmentation.mask == 2).all()
    assert halves.values("segmentation")[1] is None


def test_a_corrupt_image_costs_only_itself(halves: Any, scoring: str) -> None:
    broken = halves.values("filepath")[1]
    Path(broken).write_bytes(b"no image")
    report = ids.segment(halves, model=scoring, batch_size=5)
    assert [path for path, _ in report.failed] == [broken]
    assert [path is not None for path in halves.values("segmentation.mask_path")] == [True, False, True, True, True]


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"classes": ["green"]}, ParameterError, "does not know it: Allowed: red, blue"),
        ({"background": ["green"]}, ParameterError, "background='green'"),
        ({"label_field": "ground_truth"}, ParameterError, "exact and human"),
        ({"label_field": "kind"}, FieldError, "values have no names|holds Classification"),
        ({"model": str(MODELS / "wd14")}, WrongModel, "not a segmenter"),
        ({"label_field": "drawn"}, FieldError, "values have no names"),
    ],
)
def test_wrong_input_is_refused_before_anything_runs(
    halves: Any, scoring: str, given: dict, error: type, words: str
) -> None:
    halves.set_values("kind", [fo.Classification(label="panda")] * 5)
    halves.set_values("drawn", [fo.Segmentation(mask=np.ones((48, 80), np.uint8))] * 5)
    with pytest.raises(error, match=words):
        ids.segment(halves, **{"model": scoring, **given})
    assert not halves.has_field("segmentation")
    assert not halves.list_runs()
    assert issubclass(error, UsageError)


def test_a_detector_is_no_segmenter(halves: Any, tmp_path: Path) -> None:
    with pytest.raises(WrongModel, match="is no segmenter"):
        ids.segment(halves, model=str(detector(tmp_path / "boxes.onnx")))


def test_an_onnx_file_must_name_its_classes(halves: Any, scoring: str) -> None:
    (Path(scoring).parent / "colours_labels.txt").unlink()
    with pytest.raises(BrokenModel, match=r"one a line, to colours_labels\.txt"):
        ids.segment(halves, model=scoring)


def test_a_model_for_texts_must_be_told_what_to_look_for(halves: Any, clipseg: str) -> None:
    with pytest.raises(ParameterError, match="at least one class"):
        ids.segment(halves, model=clipseg)
