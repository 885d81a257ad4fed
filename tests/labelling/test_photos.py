"""People label photographs and shapes in a real Label Studio: flowers, boxes of raccoons, and a detector's loop."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import fiftyone_idsynth as ids
from fiftyone_idsynth.learning.label_studio.client import Project, Server
from fiftyone_idsynth.learning.looping.rounds import read_rounds
from tests.label_studio_server import LabelStudioServer
from tests.labelling.annotator import Annotator, rectangle

FLOWERS = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
OF_EACH = 8


def project_of(dataset: Any) -> Project:
    found = Server().project_of(dataset)
    assert found is not None
    return found


def test_two_people_label_flowers_and_err_now_and_then(
    dataset: Any, label_studio: LabelStudioServer, shared: Path
) -> None:
    import fiftyone as fo

    for flower in FLOWERS:
        for path in sorted((shared / "data/flowers5" / flower).glob("*.jpg"))[:OF_EACH]:
            dataset.add_sample(fo.Sample(filepath=str(path), flower=flower))
    report = ids.send_to_label_studio(
        dataset, label_type="classification", classes=FLOWERS, annotators=2, progress=False
    )
    assert report.processed == len(dataset) == OF_EACH * len(FLOWERS)
    truth = dict(zip(dataset.values("id"), dataset.values("flower"), strict=True))
    people = [Annotator(label_studio, wrong=0.15, seed=1), Annotator.sign_up(label_studio, wrong=0.15, seed=2)]
    for person in people:
        assert person.classify(project_of(dataset).id, truth, FLOWERS) == len(dataset)
    ids.pull_from_label_studio(dataset, progress=False)
    conflicts, labelled = dataset.match_tags("conflict"), dataset.match_tags("labelled")
    assert 0 < len(conflicts) < len(dataset) / 2
    assert len(conflicts) + len(labelled) == len(dataset)
    assert not conflicts.exists("ground_truth").count()
    said, true = labelled.values(["ground_truth.label", "flower"])
    assert np.mean(np.equal(said, true)) > 0.93, "two people rarely err alike"


def test_boxes_of_raccoons_come_back_as_they_were_drawn(
    dataset: Any, label_studio: LabelStudioServer, shared: Path
) -> None:
    import fiftyone as fo
    from PIL import Image

    folder = shared / "data/raccoon"
    sizes: dict[str, tuple[int, int]] = {}
    for path in sorted((folder / "images").glob("*.jpg"))[:20]:
        with Image.open(path) as image:
            width, height = image.size
        boxes = []
        for thing in ElementTree.parse(folder / "annotations" / f"{path.stem}.xml").iter("object"):
            x0, y0, x1, y1 = (float(thing.findtext(f"bndbox/{side}") or 0) for side in ("xmin", "ymin", "xmax", "ymax"))
            box = [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]
            boxes.append(fo.Detection(label="raccoon", bounding_box=box))
        sample = fo.Sample(filepath=str(path), truth=fo.Detections(detections=boxes))
        dataset.add_sample(sample)
        sizes[sample.id] = (width, height)
    ids.send_to_label_studio(dataset, label_type="detections", classes=("raccoon",), progress=False)
    drawn = {sample.id: sample.truth.detections for sample in dataset}
    annotator = Annotator(label_studio)
    annotator.answer(
        project_of(dataset).id,
        lambda i: [rectangle("ground_truth", "raccoon", *box.bounding_box, size=sizes[i]) for box in drawn[i]],
    )
    ids.pull_from_label_studio(dataset, progress=False)
    assert dataset.match_tags("labelled").count() == 20
    for sample in dataset:
        got = [box.bounding_box for box in sample.ground_truth.detections]
        assert np.allclose(got, [box.bounding_box for box in drawn[sample.id]], atol=1e-6)
        assert {box.label for box in sample.ground_truth.detections} == {"raccoon"}


@pytest.fixture
def shapes(dataset: Any, label_studio: LabelStudioServer) -> Any:
    """Pictures of one large shape with its box, in a folder that the server may serve."""
    import cv2
    import fiftyone as fo

    from tests.zoo import shapes_world as world

    folder = label_studio.document_root / uuid.uuid4().hex[:8]
    folder.mkdir()
    colours = ("red", "green", "blue", "yellow")
    for number in range(26):
        scene = world.random_scene(9000 + number, 1, size="large", colour=colours[number % 4])
        thing, path = scene.things[0], folder / f"{number}.png"
        cv2.imwrite(str(path), scene.image[..., ::-1])
        x0, y0, x1, y1 = thing.box
        box = fo.Detection(label=thing.colour, bounding_box=[x0 / 64, y0 / 64, (x1 - x0) / 64, (y1 - y0) / 64])
        tags = ["test"] if number < 6 else []
        dataset.add_sample(fo.Sample(filepath=str(path), truth=fo.Detections(detections=[box]), tags=tags))
    return dataset


def test_a_detector_learns_the_same_through_label_studio_as_in_memory(
    shapes: Any, label_studio: LabelStudioServer, tmp_path: Path
) -> None:
    from tests.models import tiny_detectors

    wishes = {
        "task": "detection", "model": str(tiny_detectors.yolos(tmp_path / "base")), "strategy": "uncertain", "count": 6,
        "budget": 12, "compare": False, "device": "cpu", "progress": False,
        "options": {"train.epochs": "2", "train.learning_rate": "0.002", "predict.dtype": "float32"},
    }  # fmt: skip
    in_memory = shapes.clone()
    ids.learn(in_memory, path=tmp_path / "memory", oracle_field="truth", **wishes)
    drawn = {sample.id: sample.truth.detections for sample in shapes}
    shapes.delete_sample_field("truth")
    wishes["classes"] = ("blue", "green", "red", "yellow")
    annotator, waited = Annotator(label_studio), []
    while "stopped" not in (report := ids.learn(shapes, path=tmp_path / "people", **wishes)).outputs:
        waited.append(report.outputs["waiting for"])
        annotator.answer(
            project_of(shapes).id,
            lambda i: [rectangle("ground_truth", box.label, *box.bounding_box, size=(64, 64)) for box in drawn[i]],
        )
    assert waited == [6, 6, 6]
    here, there = read_rounds(shapes, "ground_truth")["uncertain"], read_rounds(in_memory, "ground_truth")["uncertain"]
    assert [one.labels for one in here] == [6, 12]
    assert shapes.values("learning_round") == in_memory.values("learning_round")
    assert [one.quality for one in here] == pytest.approx([one.quality for one in there], abs=1e-6)
    in_memory.delete()
