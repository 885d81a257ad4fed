"""Fine-tuning tiny models with random weights on drawn shapes, and predicting with what comes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import fiftyone as fo
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import fiftyone_idsynth as ids
from fiftyone_idsynth.authorship import written_by_people
from fiftyone_idsynth.errors import FieldError, ParameterError
from fiftyone_idsynth.learning.predictions import read_predictions
from fiftyone_idsynth.models.errors import WrongModel
from fiftyone_idsynth.models.loading import release
from tests.models import tiny, tiny_detectors, tiny_segmenters
from tests.zoo import shapes_world as world

ROOT = Path(__file__).parents[2]
COLOURS = {"red": 1, "green": 2, "blue": 3, "yellow": 4}
TRAINED, TESTED = 32, 16


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    release()


@pytest.fixture
def shapes(dataset: Any, tmp_path: Path) -> Any:
    """Pictures of one large shape, of four colours in turn, with the class, the box and the mask of it."""
    samples = []
    for number in range(TRAINED + TESTED):
        scene = world.random_scene(4000 + number, 1, size="large", colour=list(COLOURS)[number % 4])
        thing = scene.things[0]
        path = tmp_path / f"shape-{number:03}.png"
        cv2.imwrite(str(path), scene.image[..., ::-1])
        x0, y0, x1, y1 = thing.box
        box = [x0 / 64, y0 / 64, (x1 - x0) / 64, (y1 - y0) / 64]
        mask_path = tmp_path / f"mask-{number:03}.png"
        cv2.imwrite(str(mask_path), thing.mask.astype(np.uint8) * COLOURS[thing.colour])
        samples.append(
            fo.Sample(
                filepath=str(path),
                colour=fo.Classification(label=thing.colour),
                boxes=fo.Detections(detections=[fo.Detection(label=thing.colour, bounding_box=box)]),
                masks=fo.Segmentation(mask_path=str(mask_path)),
                instances=fo.Detections(
                    detections=[fo.Detection(label=thing.colour, bounding_box=box, mask=thing.mask[y0:y1, x0:x1])]
                ),
                tags=["test"] if number >= TRAINED else [],
            )
        )
    dataset.add_samples(samples, progress=False)
    dataset.mask_targets["masks"] = {value: name for name, value in COLOURS.items()}
    dataset.save()
    return dataset


def train(samples: Any, path: Path, base: Path, **options: Any) -> Any:
    quick = {"learning_rate": 2e-3, "device": "cpu", "progress": False, "num_workers": 2}
    return ids.train(samples, path=path, model=str(base), **{**quick, **options})


def predict(samples: Any, model: Path, **options: Any) -> Any:
    return ids.predict(samples, model=str(model), device="cpu", dtype="float32", progress=False, **options)


def same_weights(first: Path, second: Path) -> bool:
    one, two = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_classifier_learns_colours_and_predicts_as_plain_transformers(shapes: Any, tmp_path: Path) -> None:
    base = tiny.vit_classifier(tmp_path / "base", labels=("cat", "dog"))
    before = shapes.values("last_modified_at")
    report = train(shapes, tmp_path / "out", base, answers_field="colour", epochs=30, augment=True)
    assert shapes.values("last_modified_at") == before
    assert report.outputs["images"] + report.outputs["validation_images"] == TRAINED
    assert report.outputs["classes"] == sorted(COLOURS)
    assert not list((tmp_path / "out").glob("checkpoint*")) + list((tmp_path / "out").glob("best*"))
    assert len((tmp_path / "out" / "history.csv").read_text().splitlines()) == 1 + report.outputs["epochs"]

    found = predict(shapes, tmp_path / "out", answers_field="colour")
    assert found.outputs["test"]["accuracy"] > 0.7  # by chance 0.25
    assert shapes.load_evaluation_results(found.outputs["evaluation"]) is not None
    said = read_predictions(shapes, shapes.values("id"), "classification", "Classification", "margin", "max")
    assert np.isfinite(said.uncertainty).all()

    from PIL import Image
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(tmp_path / "out", dtype=torch.float32)
    processor = AutoImageProcessor.from_pretrained(tmp_path / "out")
    sample = shapes.last()
    with torch.inference_mode():
        wanted = model(**processor(Image.open(sample.filepath), return_tensors="pt")).logits.softmax(-1)[0]
    scores = [sample.classification.scores[model.config.id2label[number]] for number in range(4)]
    assert scores == pytest.approx(wanted.tolist(), abs=1e-5)


@pytest.mark.parametrize("answers", ["boxes", "outlines"])
def test_a_detector_learns_a_handful_of_pictures_by_heart(shapes: Any, tmp_path: Path, answers: str) -> None:
    outlines = []
    for boxes in shapes.values("boxes"):
        x, y, w, h = boxes.detections[0].bounding_box
        points = [[(x, y), (x + w, y), (x + w, y + h), (x, y + h)]]
        outlines.append(fo.Polylines(polylines=[fo.Polyline(label=boxes.detections[0].label, points=points)]))
    shapes.set_values("outlines", outlines)
    few = shapes.limit(6)
    base = tiny_detectors.yolos(tmp_path / "base")
    epochs = 150 if answers == "boxes" else 2
    report = train(
        few, tmp_path / "out", base, task="detection", answers_field=answers, epochs=epochs, validation=0.0,
        augment=False, train_batch_size=6, learning_rate=1e-3,
    )  # fmt: skip
    assert report.outputs["images"] == 6
    assert report.outputs["classes"] == ["blue", "green", "red", "yellow"]
    if answers == "outlines":
        return
    predict(shapes, tmp_path / "out", answers_field="boxes", threshold=0.5)
    good = 0
    for sample in few:
        best = max(sample.detections.detections, key=lambda one: one.confidence, default=None)
        true = sample.boxes.detections[0]
        good += best is not None and best.label == true.label and overlap(best.bounding_box, true.bounding_box) > 0.5
    assert good >= 5
    label = shapes.first().detections.detections[0]
    assert set(label.scores) == {"blue", "green", "red", "yellow"}
    assert label.confidence == max(label.scores.values())
    assert label.model == str(tmp_path / "out")


def overlap(a: list[float], b: list[float]) -> float:
    """Intersection over union of two boxes."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    inside = max(width, 0) * max(height, 0)
    return inside / (a[2] * a[3] + b[2] * b[3] - inside)


@pytest.mark.parametrize("family", ["yolos", "detr", "rt_detr"])
def test_detectors_are_trained_measured_and_predict_as_plain_transformers(
    shapes: Any, tmp_path: Path, family: str
) -> None:
    base = getattr(tiny_detectors, family)(tmp_path / "base")
    nothing = shapes.first()
    nothing["boxes"] = fo.Detections()
    nothing.save()
    report = train(shapes, tmp_path / "out", base, task="detection", answers_field="boxes", epochs=1)
    assert report.outputs["validation"]["loss"] > 0
    found = predict(shapes, tmp_path / "out", answers_field="boxes", threshold=0.0)
    assert 0 <= found.outputs["test"]["mAP"] <= 1
    assert found.outputs["test"]["images"] == TESTED
    # The evaluation marks what it matched, which is no change by a person.
    assert written_by_people(shapes, shapes.values("id"), ["detections"]) == {}
    again = predict(shapes, tmp_path / "out", answers_field="boxes", threshold=0.0)
    assert (again.processed, again.skipped) == (0, TRAINED + TESTED)
    said = read_predictions(shapes, shapes.values("id"), "detections", "Detections", "margin", "max")
    assert np.isfinite(said.uncertainty).all()

    from PIL import Image
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    model = AutoModelForObjectDetection.from_pretrained(tmp_path / "out", dtype=torch.float32)
    processor = AutoImageProcessor.from_pretrained(tmp_path / "out")
    sample = shapes.last()
    with torch.inference_mode():
        outputs = model(**processor(Image.open(sample.filepath), return_tensors="pt"))
    (wanted,) = processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=[(64, 64)])
    # Those that judge each class alone may name a query several times there, and the surest is its first.
    best = int(wanted["scores"].argmax())
    mine = max(sample.detections.detections, key=lambda one: one.confidence)
    assert mine.confidence == pytest.approx(float(wanted["scores"][best]), abs=1e-4)
    assert mine.label == model.config.id2label[int(wanted["labels"][best])]
    x0, y0, x1, y1 = (min(max(float(value) / 64, 0), 1) for value in wanted["boxes"][best])
    assert mine.bounding_box == pytest.approx([x0, y0, x1 - x0, y1 - y0], abs=1e-4)


@pytest.mark.parametrize("answers", ["masks", "instances"])
def test_a_segmenter_learns_colours(shapes: Any, tmp_path: Path, answers: str) -> None:
    base = tiny_segmenters.segformer(tmp_path / "base")
    report = train(
        shapes, tmp_path / "out", base, task="segmentation", answers_field=answers, epochs=40, learning_rate=5e-3,
        patience=40,
    )  # fmt: skip
    assert report.outputs["classes"][0] == "background"
    found = predict(shapes, tmp_path / "out", answers_field="masks")
    measured = found.outputs["test"]
    assert measured["mIoU"] > 0.4  # of five classes, all background would be 0.16
    assert set(measured["IoU"]) == {"background", *COLOURS}
    assert {value: name for value, name in shapes.mask_targets["segmentation"].items() if value} == {
        value: name for name, value in COLOURS.items()
    }
    sample = shapes.last()
    said, true = sample.segmentation.get_mask(), sample.masks.get_mask()
    assert said.shape == true.shape


def test_a_training_that_was_killed_ends_as_if_it_had_not_been(shapes: Any, tmp_path: Path) -> None:
    base = tiny.vit_classifier(tmp_path / "base")
    options: dict[str, Any] = {
        "answers_field": "colour", "epochs": 12, "checkpoint_every": 3, "learning_rate": 2e-3, "train_batch_size": 8,
        "num_workers": 2,
    }  # fmt: skip
    whole = train(shapes, tmp_path / "whole", base, **options)
    folder = tmp_path / "killed"
    program = textwrap.dedent(
        f"""
        import torch
        torch.set_num_threads(1)
        import fiftyone_idsynth as ids
        ids.train({shapes.name!r}, path={str(folder)!r}, model={str(base)!r}, device="cpu", progress=False,
                  **{options!r})
        """
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=os.environ)
    deadline = time.monotonic() + 240
    while not (folder / "checkpoint.pt").exists() and process.poll() is None:
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "model.safetensors").exists()
    report = train(shapes, folder, base, **options)
    assert same_weights(tmp_path / "whole", folder)
    assert (folder / "history.csv").read_text() == (tmp_path / "whole" / "history.csv").read_text()
    assert report.outputs["validation"] == whole.outputs["validation"]
    assert not list(folder.glob(".partial-*"))
    again = train(shapes, folder, base, **options)
    assert again.processed == 0
    assert again.outputs == report.outputs


def test_the_seed_decides_the_weights(shapes: Any, tmp_path: Path) -> None:
    base = tiny.vit_classifier(tmp_path / "base")
    options: dict[str, Any] = {"answers_field": "colour", "epochs": 2}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(shapes, tmp_path / name, base, seed=seed, **options)
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert not same_weights(tmp_path / "a", tmp_path / "c")
    with pytest.raises(ParameterError, match=r"another model \(.*epochs=2, not 3"):
        train(shapes, tmp_path / "a", base, seed=1, **{**options, "epochs": 3})


def test_pictures_that_cannot_be_read_cost_only_themselves(shapes: Any, tmp_path: Path) -> None:
    broken = shapes.first()
    Path(broken.filepath).write_bytes(b"nothing")
    base = tiny.vit_classifier(tmp_path / "base")
    report = train(shapes, tmp_path / "out", base, answers_field="colour", epochs=1)
    assert [what for what, _ in report.failed] == [broken.filepath]
    assert report.outputs["loss"] > 0


def test_what_is_wrong_is_said(shapes: Any, tmp_path: Path) -> None:
    base, out = tiny.vit_classifier(tmp_path / "base"), tmp_path / "out"
    with pytest.raises(ParameterError, match="the linear model only classifies"):
        ids.train(shapes, path=out, task="detection", answers_field="boxes", progress=False)
    with pytest.raises(ParameterError, match="epochs=3: the linear model has no such thing"):
        ids.train(shapes, path=out, answers_field="colour", epochs=3, progress=False)
    with pytest.raises(WrongModel, match="cannot be trained for detection"):
        train(shapes, out, base, task="detection", answers_field="boxes")
    with pytest.raises(FieldError, match="must hold Detections or Polylines"):
        train(shapes, out, tiny_detectors.yolos(tmp_path / "yolos"), task="detection", answers_field="colour")
    del shapes.mask_targets["masks"]
    shapes.save()
    segmenter = tiny_segmenters.segformer(tmp_path / "segformer")
    with pytest.raises(FieldError, match="the values of its masks have no names"):
        train(shapes, out, segmenter, task="segmentation", answers_field="masks")
    with pytest.raises(ParameterError, match="all 32 labelled images would be held out"):
        train(shapes, out, base, answers_field="colour", validation=1.0)
    assert not out.exists()
    with pytest.raises(WrongModel, match="no classifier, detector or segmenter"):
        predict(shapes, tiny.clip(tmp_path / "clip"))


def test_a_class_that_nothing_validates_is_named(shapes: Any, tmp_path: Path) -> None:
    only = shapes.first()
    only["colour"] = fo.Classification(label="purple")
    only.save()
    base = tiny.vit_classifier(tmp_path / "base")
    report = train(shapes, tmp_path / "out", base, answers_field="colour", epochs=1)
    assert any("purple" in note and "held-out" in note for note in report.notes)
