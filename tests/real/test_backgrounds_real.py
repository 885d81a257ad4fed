"""Objects cut out of photographs by a real segmenter, compared with what people outlined."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import yaml

from fiftyone_idsynth.cutting import Tidy, cut_out
from fiftyone_idsynth.errors import RefusedImage
from fiftyone_idsynth.models.loading import find_model
from fiftyone_idsynth.models.options import Options
from fiftyone_idsynth.models.roles import Segmenter

CLASSES = ("person", "cat", "dog", "bird", "horse")
PHOTOS = 12


def outlined(shared: Path) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """Photographs with one of the classes on a tenth of their pixels or more, and the mask of it."""
    folder = shared / "data" / "coco128"
    config = yaml.safe_load((folder / "semantic_segmentation" / "config.yaml").read_text(encoding="utf-8"))
    values = {str(name): int(value) for value, name in config["classes"].items()}
    found = []
    for photo in sorted((folder / "images" / "train2017").glob("*.jpg")):
        file = folder / "semantic_segmentation" / "masks" / "train2017" / f"{photo.stem}.png"
        numbers = cv2.imread(str(file), cv2.IMREAD_UNCHANGED) if file.is_file() else None
        for name in CLASSES if numbers is not None else ():
            mask = numbers == values[name]
            if mask.mean() >= 0.1:
                found.append((cv2.cvtColor(cv2.imread(str(photo)), cv2.COLOR_BGR2RGB), mask, name))
    return found[:PHOTOS]


def test_people_and_animals_are_cut_out_where_people_outlined_them(shared: Path) -> None:
    name = str(shared / "weights" / "voc_deeplab_v3.onnx")
    model = find_model(Segmenter, name, Options(device="cpu"))
    overlaps = []
    for picture, truth, label in outlined(shared):
        (cuts,) = cut_out([picture], model, classes={label: [label]}, tidy=Tidy(fill_holes=True, min_area=400))
        if isinstance(cuts, RefusedImage):
            assert cuts.reason == "no_object"
            overlaps.append(0.0)
            continue
        assert {cut.label for cut in cuts} == {label}
        mask = np.logical_or.reduce([cut.mask for cut in cuts])
        assert mask.shape == truth.shape
        overlaps.append(float((mask & truth).sum() / (mask | truth).sum()))
    assert len(overlaps) == PHOTOS
    assert np.mean(overlaps) > 0.7
    assert np.median(overlaps) > 0.75
