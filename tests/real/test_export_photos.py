"""Exports of real, labelled photographs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fiftyone_idsynth as ids
from fiftyone_idsynth.exporting.polygons import polygons_to_mask


@pytest.mark.parametrize("format", ["yolo", "coco", "voc"])
def test_raccoons(dataset: Any, shared: Path, tmp_path: Path, format: str) -> None:
    import fiftyone as fo

    folder = shared / "data" / "raccoon"
    labels: dict[str, list[Any]] = {}
    for row in csv.DictReader((folder / "data/raccoon_labels.csv").open()):
        width, height = int(row["width"]), int(row["height"])
        x, y = int(row["xmin"]) / width, int(row["ymin"]) / height
        box = [x, y, int(row["xmax"]) / width - x, int(row["ymax"]) / height - y]
        labels.setdefault(row["filename"], []).append(fo.Detection(label="raccoon", bounding_box=box))
    paths = [path for path in sorted((folder / "images").glob("*.jpg")) if path.name in labels][:60]
    tags = ["train", "train", "train", "val"]
    dataset.add_samples(
        [fo.Sample(filepath=str(p), tags=[tags[i % 4]], ground_truth=fo.Detections(detections=labels[p.name]))
         for i, p in enumerate(paths)], progress=False,
    )  # fmt: skip
    report = ids.export(dataset, path=tmp_path / "out", format=format)
    assert report.outputs["images"] == {"train": 45, "val": 15}
    assert report.outputs["objects"] == sum(len(labels[p.name]) for p in paths)
    assert not report.failed


def test_instances_of_coco(dataset: Any, shared: Path, tmp_path: Path) -> None:
    import fiftyone as fo
    from fiftyone.utils.yolo import load_yolo_annotations

    folder = shared / "data" / "coco128"
    samples = []
    for path in sorted((folder / "images").rglob("*.jpg"))[:25]:
        metadata = fo.ImageMetadata.build_for(str(path))
        texts = list((folder / "instance_segmentation" / "labels").rglob(path.stem + ".txt"))
        names = [str(i) for i in range(100)]
        label = fo.Detections()
        if texts:
            size = (metadata.width, metadata.height)
            label = load_yolo_annotations(str(texts[0]), names, label_type="instances", frame_size=size)
        samples.append(fo.Sample(filepath=str(path), ground_truth=label))
    dataset.add_samples(samples, progress=False)
    for format in ("yolo", "segmentation"):
        report = ids.export(dataset, path=tmp_path / format, format=format, masks=True)
        assert report.processed == 25
        assert not report.failed
    ids.export(dataset, path=tmp_path / "coco", format="coco", masks=True)
    content = json.loads((tmp_path / "coco/train/labels.json").read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    differences = []
    for annotation in content["annotations"]:
        mask = polygons_to_mask(annotation["segmentation"], *sizes[annotation["image_id"]])
        differences.append(abs(mask.sum() - annotation["area"]) / annotation["area"])
    assert len(differences) > 100
    assert np.median(differences) < 0.01
