"""Every file of the hostile collection ends as a sample or as a refusal with a reason: no crash, no hang."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image

import fiftyone_idsynth as ids


def test_every_hostile_file_ends_as_a_sample_or_a_refusal(dataset: Any, shared: Path) -> None:
    folder = shared / "data" / "malformed"
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    report = ids.ingest(dataset, folder, min_side=1)
    assert report.failed == [], "a refusal has a reason; nothing crashed"
    assert report.created + sum(report.rejected.values()) == len(files)
    assert set(report.rejected) <= {"corrupt", "truncated", "not_an_image", "too_many_pixels", "empty_file"}
    for path, width, height in zip(*dataset.values(["filepath", "metadata.width", "metadata.height"]), strict=True):
        from fiftyone_idsynth.media import read_image

        pixels = read_image(path).pixels
        assert pixels.shape == (height, width, 3), path
    converted = Counter(", ".join(filter(None, dataset.values("source.converted"))).split(", "))
    assert converted["animated"] > 10
    assert converted["cmyk"] >= 2
    assert ids.ingest(dataset, folder, min_side=1).processed == 0


def test_all_orientations_of_one_scene_look_alike(dataset: Any, shared: Path) -> None:
    import numpy as np

    from fiftyone_idsynth.media import read_image

    folder = shared / "data" / "malformed" / "exif_orientation"
    ids.ingest(dataset, folder, copy=True)
    scenes = {os.path.basename(p): q for p, q in zip(*dataset.values(["source.path", "filepath"]), strict=True)}
    reference = read_image(scenes["Landscape_1.jpg"]).pixels.astype(int)
    for number in range(2, 9):
        copied = scenes[f"Landscape_{number}.jpg"]
        assert Image.open(copied).getexif().get(0x0112, 1) == 1
        difference = np.abs(read_image(copied).pixels.astype(int) - reference).mean()
        assert difference < 12, f"orientation {number}: {difference:.1f}"
