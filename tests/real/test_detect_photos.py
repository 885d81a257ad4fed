"""The stages detect, segment and agree on photographs, measured by FiftyOne against what people marked."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_idsynth as ids
from fiftyone_idsynth.annotation.consensus import iou
from fiftyone_idsynth.models.yolo import COCO

ANIMAL = "raccoon=" + "|".join(COCO[14:24])
RACCOONS = 60


def add(dataset: Any, photos: dict[Path, Sequence[tuple[str, Sequence[float]]]]) -> None:
    samples = []
    for path, marked in photos.items():
        boxes = [fo.Detection(label=label, bounding_box=list(box)) for label, box in marked]
        samples.append(fo.Sample(filepath=str(path), ground_truth=fo.Detections(detections=boxes)))
    dataset.add_samples(samples, progress=False)


@pytest.fixture
def raccoons(dataset: Any, shared: Path) -> Any:
    """Photographs with one raccoon."""
    folder = shared / "data" / "raccoon"
    photos: dict[Path, list[tuple[str, list[float]]]] = {}
    with open(folder / "data" / "raccoon_labels.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            left, top, right, bottom = (float(row[key]) for key in ("xmin", "ymin", "xmax", "ymax"))
            width, height = float(row["width"]), float(row["height"])
            box = [left / width, top / height, (right - left) / width, (bottom - top) / height]
            photos.setdefault(folder / "images" / row["filename"], []).append(("raccoon", box))
    single = {path: boxes for path, boxes in photos.items() if len(boxes) == 1}
    add(dataset, dict(list(single.items())[:RACCOONS]))
    return dataset


@pytest.fixture
def coco(dataset: Any, shared: Path) -> Any:
    """The photographs of coco128 that have boxes and, in ``pixels``, the class of each pixel."""
    import yaml

    folder = shared / "data" / "coco128"
    photos: dict[Path, list[tuple[str, list[float]]]] = {}
    for photo in sorted((folder / "images" / "train2017").glob("*.jpg")):
        labels = folder / "object_detection" / "labels" / "train2017" / f"{photo.stem}.txt"
        if labels.is_file():
            photos[photo] = []
            for line in labels.read_text(encoding="utf-8").splitlines():
                number, x, y, w, h = (float(value) for value in line.split()[:5])
                photos[photo].append((COCO[int(number)], [x - w / 2, y - h / 2, w, h]))
    add(dataset, photos)
    masks = folder / "semantic_segmentation"
    names = yaml.safe_load((masks / "config.yaml").read_text(encoding="utf-8"))["classes"]
    files = [masks / "masks" / "train2017" / f"{photo.stem}.png" for photo in photos]
    dataset.set_values("pixels", [fo.Segmentation(mask_path=str(f)) if f.is_file() else None for f in files])
    dataset.mask_targets = {"pixels": {int(value): str(name) for value, name in names.items()}}
    dataset.save()
    return dataset


def test_raccoons_are_found_as_some_animal(raccoons: Any, shared: Path) -> None:
    model = str(shared / "weights" / "coco_yolox_nano.onnx")
    report = ids.detect(raccoons, model=model, classes=[ANIMAL], max_objects=1)
    assert report.failed == []
    results = raccoons.evaluate_detections("detections", gt_field="ground_truth", iou=0.5, progress=False)
    figures = results.metrics()
    overlaps = [
        iou(tuple(found[0]), tuple(true[0]))
        for found, true in zip(
            raccoons.values("detections.detections.bounding_box"),
            raccoons.values("ground_truth.detections.bounding_box"),
            strict=True,
        )
        if found
    ]
    assert len(overlaps) >= 0.87 * RACCOONS
    assert np.mean(overlaps) >= 0.7
    assert figures["recall"] >= 0.75
    assert ids.detect(raccoons, model=model, classes=[ANIMAL], max_objects=1).skipped == RACCOONS


def test_agreement_with_people_is_what_evaluation_counts(coco: Any, shared: Path) -> None:
    ids.detect(coco, model=str(shared / "weights" / "coco_yolox_nano.onnx"), threshold=0.3)
    results = coco.evaluate_detections("detections", gt_field="ground_truth", eval_key="eval", progress=False)
    hits = coco.sum("eval_tp")
    figures = results.metrics()
    report = ids.agree(coco, annotators=["ground_truth", "detections"])
    agreed = sum(report.outputs["agreed"].values())
    assert figures["precision"] >= 0.68
    assert figures["recall"] >= 0.3
    assert agreed == pytest.approx(hits, rel=0.03)
    least, most = coco.sort_by("disagreement")[:20], coco.sort_by("disagreement", reverse=True)[:20]
    assert least.sum("eval_tp") / least.count("ground_truth.detections") > 0.7
    assert most.sum("eval_tp") / most.count("ground_truth.detections") < 0.3


def test_pixels_of_people_and_animals(coco: Any, shared: Path) -> None:
    """COCO's classes are finer than VOC's, so only pixels of classes that both know are compared."""
    model = str(shared / "weights" / "voc_deeplab_v3.onnx")
    wanted = ["person", "cat", "dog", "horse", "bus", "train"]
    photos = coco.exists("pixels")[:50]
    report = ids.segment(photos, model=model, classes=wanted)
    assert report.failed == []
    theirs = {name: value for value, name in coco.mask_targets["pixels"].items()}
    ours = {name: value for value, name in coco.mask_targets["segmentation"].items()}
    common, either = dict.fromkeys(wanted, 0), dict.fromkeys(wanted, 0)
    for sample in photos.select_fields(["pixels", "segmentation"]):
        truth, found = sample.pixels.get_mask(), sample.segmentation.get_mask()
        assert truth.shape == found.shape
        for name in wanted:
            common[name] += np.sum((truth == theirs[name]) & (found == ours[name]))
            either[name] += np.sum((truth == theirs[name]) | (found == ours[name]))
    assert common["person"] / either["person"] >= 0.6
    assert sum(common.values()) / sum(either.values()) >= 0.6
