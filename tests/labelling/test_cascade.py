"""The label cascade with people in a real Label Studio, one of whom guesses."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest

import fiftyone_idsynth as ids
from fiftyone_idsynth.learning.label_studio.client import Server
from tests.label_studio_server import LabelStudioServer
from tests.labelling.annotator import Annotator

CLASSES = ("0", "1", "2", "3")
CONTROLS, HIDDEN, BATCH = 8, 60, 10
WISHES: dict[str, Any] = {
    "classes": CLASSES, "precision": 0.9, "recall": 0.9, "hidden": HIDDEN, "batch": BATCH, "rounds": 3,
    "progress": False,
}  # fmt: skip


@pytest.fixture
def digits(dataset: Any, label_studio: LabelStudioServer) -> Any:
    """Handwritten digits as image files that the server may serve; of eight the classes are known."""
    import fiftyone as fo
    from PIL import Image
    from sklearn.datasets import load_digits

    folder = label_studio.document_root / uuid.uuid4().hex[:8]
    folder.mkdir()
    images, classes = load_digits(n_class=4, return_X_y=True)
    samples = []
    for number in range(300):
        path = folder / f"digit {number:03}.png"
        pixels = (images[number].reshape(8, 8) * 15).astype(np.uint8)
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(path)
        known = number < CONTROLS
        samples.append(
            fo.Sample(
                filepath=str(path),
                embedding=(images[number] / 16).astype(np.float32),
                ground_truth=fo.Classification(label=str(classes[number])) if known else None,
                tags=["control"] if known else [],
            )
        )
    dataset.add_samples(samples, progress=False)
    return dataset


def test_a_cascade_with_people_one_of_whom_guesses(digits: Any, label_studio: LabelStudioServer) -> None:
    from sklearn.datasets import load_digits

    _, classes = load_digits(n_class=4, return_X_y=True)
    truth = {i: str(label) for i, label in zip(digits.values("id"), classes, strict=False)}
    report = ids.cascade(digits, **WISHES)
    first = HIDDEN + 3 * BATCH
    assert report.outputs["waiting for answers"] == 2 * first
    server = Server()
    project = server.find_project(digits.name)
    assert project is not None
    assert server.count(project.id) == first + CONTROLS

    # Asking again before anybody answered asks nothing new.
    assert ids.cascade(digits, **WISHES).outputs["waiting for answers"] == 2 * first
    assert server.count(project.id) == first + CONTROLS

    good, guessing = Annotator(label_studio), Annotator.sign_up(label_studio, "guessing", wrong=0.7, seed=3)
    other = Annotator.sign_up(label_studio, "other")
    for one in (good, guessing):
        assert one.classify(project.id, truth, CLASSES) == first + CONTROLS
    report = ids.cascade(digits, **WISHES)
    assert len(report.outputs["people whose answers do not count"]) == 1
    assert report.outputs["waiting for answers"] == first
    assert not digits.match_tags("auto_labelled").count()

    waited = 0
    while "waiting for answers" in report.outputs:
        waited += 1
        assert waited < 6
        assert good.classify(project.id, truth, CLASSES) + other.classify(project.id, truth, CLASSES) > 0
        report = ids.cascade(digits, **WISHES)
    labelled = digits.match_tags("auto_labelled")
    assert labelled.count() == report.outputs["labelled by the cascade"] > 50
    right = [truth[i] == label for i, label in zip(*labelled.values(["id", "classification.label"]), strict=True)]
    assert np.mean(right) >= 0.9
    answered = digits.match_tags("labelled").match_tags("control", bool=False)
    assert all(truth[i] == label for i, label in zip(*answered.values(["id", "ground_truth.label"]), strict=True))
    asked = report.outputs["images people labelled"]
    assert server.count(project.id) == sum(asked.values())
    assert report.outputs["answers of people"] == sum(len(task["annotations"]) for task in server.tasks(project.id))
