"""What the stage ``detect`` writes, with models that understand the shapes world."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

import fiftyone_idsynth as ids
from fiftyone_idsynth import fields
from fiftyone_idsynth.annotation.consensus import iou
from fiftyone_idsynth.errors import FieldError, ParameterError, UsageError
from fiftyone_idsynth.models.errors import ModelNotFound, WrongModel
from tests.models import tiny_regions
from tests.models.tiny_yolo import detector
from tests.zoo import shapes_world as world
from tests.zoo.common import MODELS

COUNT = 24
CLASSES = tuple(f"a {colour} {shape}" for colour in world.COLOURS for shape in world.SHAPES)


@pytest.fixture(scope="module")
def clipseg() -> str:
    folder = MODELS / "clipseg"
    if not (folder / "config.json").exists():
        pytest.skip("the CLIPSeg of the shapes world is not trained")
    return str(folder)


def true_name(thing: world.Thing) -> str:
    return f"a {thing.colour} {thing.shape}"


def true_box(thing: world.Thing) -> tuple[float, ...]:
    x0, y0, x1, y1 = (v / world.SIZE for v in thing.box)
    return x0, y0, x1 - x0, y1 - y0


@pytest.fixture
def shapes(dataset: Any, tmp_path: Path) -> Any:
    """Pictures of one or two shapes, their classes in ``classification`` and their boxes in ``ground_truth``."""
    fields.declare(dataset, "source")
    for number, scene in enumerate(world.scenes(77, COUNT, (1, 2))):
        path = tmp_path / f"{number}.png"
        Image.fromarray(scene.image).save(path)
        things = [fo.Detection(label=true_name(t), bounding_box=list(true_box(t))) for t in scene.things]
        dataset.add_sample(
            fo.Sample(
                filepath=str(path),
                ground_truth=fo.Detections(detections=things),
                classification=fo.Classification(label=true_name(scene.things[0])),
                source=fo.DynamicEmbeddedDocument(query=true_name(scene.things[0])),
            )
        )
    return dataset


@pytest.fixture
def squares(dataset: Any, tmp_path: Path) -> Any:
    """Six grey pictures of 64 pixels, each with a red and a blue square of 32 where the detector has its cells."""
    for number in range(6):
        pixels = np.full((64, 64, 3), 100, np.uint8)
        left = 32 * (number % 2)
        pixels[:32, left : left + 32] = (255, 0, 0)
        pixels[32:, left : left + 32] = (0, 0, 255)
        path = tmp_path / f"squares-{number}.png"
        Image.fromarray(pixels).save(path)
        dataset.add_sample(fo.Sample(filepath=str(path)))
    return dataset


@pytest.fixture
def yolo(tmp_path: Path) -> str:
    return str(detector(tmp_path / "colours.onnx"))


def best_ious(dataset: Any, field: str = "detections") -> list[float]:
    """For each true object the IoU of the best box of its class."""
    found = []
    for sample in dataset:
        for truth in sample.ground_truth.detections:
            same = [d for d in sample[field].detections if d.label == truth.label]
            found.append(max((iou(tuple(d.bounding_box), tuple(truth.bounding_box)) for d in same), default=0.0))
    return found


def test_boxes_and_masks_of_what_the_texts_say(shapes: Any, clipseg: str) -> None:
    report = ids.detect(shapes, model=clipseg, classes=CLASSES, min_area=0.01)
    assert (report.processed, report.failed) == (COUNT, [])
    overlaps = best_ious(shapes)
    assert np.mean(overlaps) >= 0.8
    assert report.outputs["objects"]
    for sample in shapes:
        for found in sample.detections.detections:
            assert found.model == clipseg
            assert len(found.revision) == 12
            assert 0 < found.confidence <= 1
            check_mask(found)


def check_mask(found: fo.Detection) -> None:
    """The mask is a file in the media store, as large as the box and reaching all four of its sides."""
    assert Path(found.mask_path).is_relative_to(os.environ["IDSYNTH_MEDIA_DIR"])
    stored = np.asarray(Image.open(found.mask_path))
    assert stored.dtype == np.uint8
    assert set(np.unique(stored)) <= {0, 255}
    width, height = (round(v * world.SIZE) for v in found.bounding_box[2:])
    assert stored.shape == (height, width)
    assert stored[0].any()
    assert stored[-1].any()
    assert stored[:, 0].any()
    assert stored[:, -1].any()
    whole = found.to_segmentation(frame_size=(world.SIZE, world.SIZE)).mask > 0
    x, y, _, _ = (round(v * world.SIZE) for v in found.bounding_box)
    assert whole[y : y + height, x : x + width].sum() == whole.sum() == (stored > 0).sum()


def test_masks_lie_on_the_shapes(shapes: Any, clipseg: str) -> None:
    ids.detect(shapes, model=clipseg, classes=CLASSES, classes_field="classification", max_objects=1, min_area=0.01)
    overlaps = []
    for sample, scene in zip(shapes, world.scenes(77, COUNT, (1, 2)), strict=True):
        for found in sample.detections.detections:
            mask = found.to_segmentation(frame_size=(world.SIZE, world.SIZE)).mask > 0
            truth = scene.things[0].mask
            overlaps.append((mask & truth).sum() / (mask | truth).sum())
    assert len(overlaps) >= 0.8 * COUNT
    assert np.median(overlaps) >= 0.65


def test_an_image_is_searched_for_its_own_class_alone(shapes: Any, clipseg: str) -> None:
    ids.detect(shapes, model=clipseg, classes_field="source.query", max_objects=1)
    for labels, query in zip(shapes.values("detections.detections.label"), shapes.values("source.query"), strict=True):
        assert set(labels) <= {query}
    assert np.mean([bool(labels) for labels in shapes.values("detections.detections.label")]) >= 0.8


def test_descriptions_stand_for_the_class_of_an_image_and_other_images_are_left_alone(
    shapes: Any, clipseg: str
) -> None:
    counts = shapes.count_values("classification.label")
    (name, times), *_ = sorted(counts.items(), key=lambda pair: -pair[1])
    report = ids.detect(shapes, model=clipseg, classes=[f"thing={name.upper()}|{name}"], classes_field="classification")
    assert report.processed == times
    assert set(report.outputs["objects"]) == {"thing"}
    assert any(f"{COUNT - times} images have none of the classes" in note for note in report.notes)
    assert shapes.count("detections") == times


def test_one_box_holds_all_objects_of_a_class(squares: Any, yolo: str) -> None:
    ids.detect(squares, model=yolo, classes=["square=red|blue"], label_field="each")
    ids.detect(squares, model=yolo, classes=["square=red|blue"], one_box=True)
    for each, joined in zip(
        squares.values("each.detections.bounding_box"),
        squares.values("detections.detections.bounding_box"),
        strict=True,
    ):
        assert len(each) == 2
        assert joined == [pytest.approx([each[0][0], 0, 0.5, 1])]


def test_a_detector_with_classes_of_its_own_finds_all_of_them_or_those_asked_for(squares: Any, yolo: str) -> None:
    report = ids.detect(squares, model=yolo)
    assert report.outputs["objects"] == {"red": 6, "blue": 6}
    report = ids.detect(squares, model=yolo, background=["blue"])
    assert report.outputs["objects"] == {"red": 6}
    report = ids.detect(squares, model=yolo, classes=["sky=Blue"])
    assert report.outputs == {"objects": {"sky": 6}, "images without objects": 0}
    assert squares.first().detections.detections[0].mask_path is None


def test_small_and_surplus_objects_are_dropped(squares: Any, yolo: str) -> None:
    assert ids.detect(squares, model=yolo, min_area=0.3).outputs == {"objects": {}, "images without objects": 6}
    assert sum(ids.detect(squares, model=yolo, max_objects=1).outputs["objects"].values()) == 6


def test_a_refiner_makes_masks_of_boxes(squares: Any, yolo: str, tmp_path: Path) -> None:
    sam = tiny_regions.sam(tmp_path / "sam")
    report = ids.detect(squares, model=yolo, refiner=str(sam))
    assert report.failed == []
    found = [d for sample in squares for d in sample.detections.detections]
    assert {d.refiner for d in found} == {str(sam)}
    assert all(len(d.refiner_revision) == 12 for d in found)
    masked = [d for d in found if d.mask_path]
    assert masked
    for detection in masked:
        check_mask(detection)
    run = squares.get_run_info(report.run_key).config.serialize()
    assert set(run["models"]) == {yolo, str(sam)}


def test_masks_can_be_left_out(shapes: Any, clipseg: str) -> None:
    ids.detect(shapes[:4], model=clipseg, classes=["red=a red shape"], masks=False)
    assert all(d.mask_path is None for sample in shapes[:4] for d in sample.detections.detections)


def test_a_second_run_skips_all_and_another_threshold_none(squares: Any, yolo: str) -> None:
    ids.detect(squares, model=yolo)
    again = ids.detect(squares, model=yolo)
    assert (again.processed, again.skipped) == (0, 6)
    assert ids.detect(squares, model=yolo, threshold=0.2).processed == 6


def test_an_image_whose_class_changed_is_searched_again(squares: Any, yolo: str) -> None:
    squares.set_values("label", [fo.Classification(label="red")] * 6)
    ids.detect(squares, model=yolo, classes_field="label")
    sample = squares.first()
    sample.label.label = "blue"
    sample.save()
    report = ids.detect(squares, model=yolo, classes_field="label")
    assert (report.processed, report.skipped) == (1, 5)
    squares.reload()
    assert squares.values("detections.detections.label") == [["blue"], *[["red"]] * 5]


def _draw(sample: fo.Sample) -> None:
    sample["detections"] = fo.Detections(detections=[fo.Detection(label="mine", bounding_box=[0.1, 0.1, 0.2, 0.2])])


def _move(sample: fo.Sample) -> None:
    sample.detections.detections[0].bounding_box = [0.2, 0.2, 0.3, 0.3]


def _delete(sample: fo.Sample) -> None:
    sample.detections.detections = sample.detections.detections[1:]


def _clear(sample: fo.Sample) -> None:
    sample.detections.detections = []


@pytest.mark.parametrize("edit", [_draw, _move, _delete, _clear])
def test_what_a_person_did_stays(squares: Any, yolo: str, edit: Callable[[fo.Sample], None]) -> None:
    ids.detect(squares, model=yolo)
    sample = squares.first()
    edit(sample)
    sample.save()
    before = sample.detections.to_dict()
    report = ids.detect(squares, model=yolo, classes=["blue"])
    squares.reload()
    assert squares.first().detections.to_dict() == before
    assert report.outputs["left as people wrote them"] == 1
    assert squares.values("detections.detections.label")[1:] == [["blue"]] * 5


def test_boxes_that_were_there_before_stay(squares: Any, yolo: str) -> None:
    sample = squares.first()
    _draw(sample)
    sample.save()
    assert ids.detect(squares, model=yolo).processed == 5
    squares.reload()
    assert squares.first().detections.detections[0].label == "mine"


def test_a_corrupt_image_costs_only_itself(squares: Any, yolo: str) -> None:
    broken = squares.values("filepath")[2]
    Path(broken).write_bytes(Path(broken).read_bytes()[:60])
    report = ids.detect(squares, model=yolo, batch_size=6)
    assert [path for path, _ in report.failed] == [broken]
    assert [labels is not None for labels in squares.values("detections.detections.label")] == [True, True, False] + [
        True
    ] * 3


def test_turned_photos_get_boxes_as_people_see_them(dataset: Any, yolo: str, tmp_path: Path) -> None:
    pixels = np.full((64, 64, 3), 100, np.uint8)
    pixels[:32, :32] = (255, 0, 0)
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 3  # shown upside down
    Image.fromarray(cv2.rotate(pixels, cv2.ROTATE_180)).save(path, quality=95, exif=exif)
    dataset.add_sample(fo.Sample(filepath=str(path)))
    ids.detect(dataset, model=yolo)
    (found,) = dataset.first().detections.detections
    assert found.bounding_box == pytest.approx([0, 0, 0.5, 0.5])


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"classes": ["green"]}, ParameterError, "does not know it: Allowed: red, blue"),
        ({"classes": ["red"], "background": ["bleu"]}, ParameterError, "background='bleu'.*did you mean 'blue'"),
        ({"classes": ["red", "red=blue"]}, ParameterError, "named twice"),
        ({"classes": ["red="]}, ParameterError, "label=text"),
        ({"label_field": "ground_truth"}, ParameterError, "exact and human"),
        ({"label_field": "kind"}, FieldError, "holds Classification, not Detections"),
        ({"classes_field": "kinds"}, FieldError, "did you mean 'kind'"),
        ({"classes_field": "kind"}, ParameterError, "does not know it"),
        ({"classes_field": "kind", "classes": ["red"]}, UsageError, "no image has one of the classes"),
        ({"threshold": 1.5}, ParameterError, "between 0 and 1"),
        ({"model": "./nothing-here"}, ModelNotFound, "no folder or file"),
        ({"model": str(MODELS / "wd14")}, WrongModel, "not a finder|no detector|is no"),
        ({"refiner": str(MODELS / "wd14")}, WrongModel, "refiner"),
    ],
)
def test_wrong_input_is_refused_before_anything_runs(
    squares: Any, yolo: str, given: dict, error: type, words: str
) -> None:
    squares.set_values("kind", [fo.Classification(label="panda")] * 6)
    with pytest.raises(error, match=words):
        ids.detect(squares, **{"model": yolo, **given})
    assert not squares.has_field("detections")
    assert not squares.list_runs()
    assert issubclass(error, UsageError)


def test_a_model_for_texts_must_be_told_what_to_look_for(squares: Any, clipseg: str) -> None:
    with pytest.raises(ParameterError, match="at least one class"):
        ids.detect(squares, model=clipseg)
