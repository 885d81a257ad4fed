"""The learning loop with models of transformers, which are trained anew each round."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import fiftyone as fo
import numpy as np
import pytest
import torch

import fiftyone_idsynth as ids
from fiftyone_idsynth.learning.looping.rounds import read_rounds
from fiftyone_idsynth.models import loading
from tests.models import tiny, tiny_detectors, tiny_segmenters
from tests.zoo import shapes_world as world

COLOURS = {"red": 1, "green": 2, "blue": 3, "yellow": 4}
POOL, TESTS = 24, 8


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    loading.release()


@pytest.fixture
def shapes(dataset: Any, tmp_path: Path) -> Any:
    """Pictures of one large shape; its class, box and mask are known to the oracle alone."""
    samples = []
    for number in range(POOL + TESTS):
        scene = world.random_scene(7000 + number, 1, size="large", colour=list(COLOURS)[number % 4])
        thing = scene.things[0]
        path, mask_path = tmp_path / f"shape-{number:03}.png", tmp_path / f"mask-{number:03}.png"
        cv2.imwrite(str(path), scene.image[..., ::-1])
        cv2.imwrite(str(mask_path), thing.mask.astype(np.uint8) * COLOURS[thing.colour])
        x0, y0, x1, y1 = thing.box
        box = [x0 / 64, y0 / 64, (x1 - x0) / 64, (y1 - y0) / 64]
        samples.append(
            fo.Sample(
                filepath=str(path),
                colour=fo.Classification(label=thing.colour),
                boxes=fo.Detections(detections=[fo.Detection(label=thing.colour, bounding_box=box)]),
                masks=fo.Segmentation(mask_path=str(mask_path)),
                embedding=scene.image.mean(axis=(0, 1)).astype(np.float32),
                tags=["test"] if number >= POOL else [],
            )
        )
    dataset.add_samples(samples, progress=False)
    dataset.mask_targets = {"masks": {value: name for name, value in COLOURS.items()}}
    dataset.save()
    return dataset


@pytest.mark.parametrize(
    ("task", "oracle", "make", "strategy", "metric", "field"),
    [
        ("classification", "colour", tiny.vit_classifier, "uncertain", "accuracy", "classification"),
        ("detection", "boxes", tiny_detectors.yolos, "mixed", "mAP", "detections"),
        ("segmentation", "masks", tiny_segmenters.segformer, "diverse", "mIoU", "segmentation"),
    ],
)
def test_models_of_every_task_learn_round_by_round(
    shapes: Any, tmp_path: Path, task: str, oracle: str, make: Callable[[Path], Path], strategy: str, metric: str,
    field: str,
) -> None:  # fmt: skip
    base = make(tmp_path / "base")
    options = {"train.epochs": "2", "train.learning_rate": "0.002", "predict.dtype": "float32"}
    report = ids.learn(
        shapes, path=tmp_path / "models", task=task, model=str(base), oracle_field=oracle, strategy=strategy, count=10,
        budget=20, compare=False, device="cpu", options=options, progress=False,
    )  # fmt: skip
    rounds = read_rounds(shapes, "ground_truth")[strategy]
    assert [(one.labels, one.metric) for one in rounds] == [(10, metric), (20, metric)]
    assert all(0 <= one.quality <= 1 for one in rounds)
    assert (rounds[0].lower is not None) == (task == "classification")
    assert (rounds[1].kappa is not None) == (task != "segmentation")
    assert shapes.exists(field).count() == POOL + TESTS
    assert shapes.match_tags("test", bool=False).exists("ground_truth").count() == 20
    assert (Path(report.outputs["best model"]) / "model.safetensors").exists()
    assert not loading._loaded
    again = ids.learn(
        shapes, path=tmp_path / "models", task=task, model=str(base), oracle_field=oracle, strategy=strategy, count=10,
        budget=20, compare=False, device="cpu", options=options, progress=False,
    )  # fmt: skip
    assert (again.processed, again.skipped) == (0, 2)
