"""The learning loop with people in a real Label Studio asks about the same images as with an oracle in memory."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest

import fiftyone_idsynth as ids
from fiftyone_idsynth.learning.label_studio.client import Server
from fiftyone_idsynth.learning.looping.rounds import read_rounds
from tests.label_studio_server import LabelStudioServer
from tests.labelling.annotator import Annotator

TESTS, POOL = 60, 240
CLASSES = tuple("0123456789")


@pytest.fixture
def digits(dataset: Any, label_studio: LabelStudioServer) -> Any:
    """Handwritten digits as image files that the server may serve, with their pixels as embeddings."""
    import fiftyone as fo
    from PIL import Image
    from sklearn.datasets import load_digits

    folder = label_studio.document_root / uuid.uuid4().hex[:8]
    folder.mkdir()
    images, classes = load_digits(return_X_y=True)
    samples = []
    for number in range(TESTS + POOL):
        path = folder / f"digit {number:03}.png"
        pixels = (images[number].reshape(8, 8) * 15).astype(np.uint8)
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(path)
        samples.append(
            fo.Sample(
                filepath=str(path),
                embedding=(images[number] / 16).astype(np.float32),
                truth=fo.Classification(label=str(classes[number])),
                tags=["test"] if number < TESTS else [],
            )
        )
    dataset.add_samples(samples, progress=False)
    return dataset


def test_the_curve_through_label_studio_is_the_one_in_memory(
    digits: Any, label_studio: LabelStudioServer, tmp_path: Any
) -> None:
    wishes = {"count": 20, "budget": 80, "classes": CLASSES, "compare": False, "progress": False}
    in_memory = digits.clone()
    ids.learn(in_memory, path=tmp_path / "memory", oracle_field="truth", **wishes)
    truth = dict(zip(digits.values("id"), digits.values("truth.label"), strict=True))
    digits.delete_sample_field("truth")
    annotator, server = Annotator(label_studio), Server()

    waited = []
    while True:
        report = ids.learn(digits, path=tmp_path / "people", **wishes)
        if "stopped" in report.outputs:
            break
        waited.append(report.outputs["waiting for"])
        assert any("wait for answers" in note for note in report.notes)
        project = server.find_project(digits.name)
        assert project is not None
        assert annotator.classify(project.id, truth, CLASSES) == waited[-1]
    assert waited == [TESTS, 20, 20, 20, 20]
    assert "the budget is spent" in report.outputs["stopped"]
    assert project is not None
    assert server.count(project.id) == TESTS + 80

    here, there = read_rounds(digits, "ground_truth")["mixed"], read_rounds(in_memory, "ground_truth")["mixed"]
    assert [(one.labels, one.quality, one.kappa) for one in here] == [
        (one.labels, one.quality, one.kappa) for one in there
    ]
    assert digits.values("learning_round") == in_memory.values("learning_round")
    assert digits.values("ground_truth.label") == in_memory.values("ground_truth.label")
    in_memory.delete()


def test_an_image_that_is_skipped_is_not_asked_about_again(
    digits: Any, label_studio: LabelStudioServer, tmp_path: Any
) -> None:
    truth = dict(zip(digits.values("id"), digits.values("truth"), strict=True))
    for sample in digits.match_tags("test"):
        sample["ground_truth"] = sample.truth.copy()
        sample.save()
    wishes = {"count": 20, "budget": 40, "classes": CLASSES, "progress": False, "path": tmp_path / "models"}
    assert ids.learn(digits, **wishes).outputs["waiting for"] == 20
    annotator, server = Annotator(label_studio), Server()
    project = server.find_project(digits.name)
    assert project is not None
    skipped = digits.match_tags("to_label").values("id")[:3]
    from tests.labelling.annotator import choice

    annotator.answer(
        project.id, lambda i: None if i in skipped else [choice("ground_truth", truth[i].label)], limit=None
    )
    assert ids.learn(digits, **wishes).outputs["waiting for"] == 3  # the start is filled up
    assert not set(skipped) & set(digits.match_tags("to_label").values("id"))
    assert set(digits.match_tags("skipped").values("id")) == set(skipped)
    assert not digits.select(skipped).exists("ground_truth").count()
