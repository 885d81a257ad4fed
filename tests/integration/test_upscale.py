"""Upscale on a real database with a tiny Swin2SR: sizes, labels, odd and broken files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from fiftyone_idsynth.enhancement.upscale import upscale as stage
from fiftyone_idsynth.errors import ParameterError
from fiftyone_idsynth.media import read_image
from fiftyone_idsynth.models.errors import ModelNotFound, OutOfDeviceMemory
from fiftyone_idsynth.models.upscalers import TransformersUpscaler
from tests.models.tiny_upscalers import swin2sr


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(swin2sr(tmp_path_factory.mktemp("swin2sr")))


def upscale(samples: Any, model: str, **options: Any) -> Any:
    return stage(samples, **{"model": model, "device": "cpu", "tile": 48, "overlap": 24, "progress": False, **options})


def made(dataset: Any) -> Any:
    from fiftyone import ViewField as F

    return dataset.match(F("source.kind") == "enhanced") if dataset.has_field("source") else dataset.limit(0)


@pytest.fixture
def labelled(dataset: Any, tmp_path: Path) -> Any:
    """Two photographs of odd sizes with labels of every kind."""
    import fiftyone as fo
    from skimage import data

    for number, (width, height) in enumerate(((61, 45), (100, 83))):
        path = tmp_path / f"{number}.png"
        Image.fromarray(cv2.resize(data.astronaut(), (width, height), interpolation=cv2.INTER_AREA)).save(path)
        area = np.zeros((height, width), np.uint8)
        area[5:20, 7:31] = 4
        dataset.add_sample(
            fo.Sample(
                filepath=str(path), tags=["test"],
                boxes=fo.Detections(
                    detections=[
                        fo.Detection(label="face", bounding_box=[0.1, 0.2, 0.3, 0.4], mask=np.eye(6, dtype=bool))
                    ]
                ),
                area=fo.Segmentation(mask=area), shape=fo.Polylines(polylines=[fo.Polyline(points=[[(0.1, 0.2)]])]),
                eyes=fo.Keypoints(keypoints=[fo.Keypoint(points=[(0.25, 0.5)])]),
            )
        )  # fmt: skip
    return dataset


def test_images_and_labels_are_enlarged_beside_the_originals(labelled: Any, model: str) -> None:
    report = upscale(labelled, model)
    assert (report.created, report.failed, report.outputs["factor"]) == (2, [], 2)
    assert len(labelled) == 4
    for new in made(labelled):
        parent = labelled[new.lineage.parents[0]]
        old, pixels = read_image(parent.filepath).pixels, read_image(new.filepath).pixels
        assert pixels.shape == (2 * old.shape[0], 2 * old.shape[1], 3)
        assert (new.metadata.width, new.metadata.height) == pixels.shape[1::-1]
        assert new.boxes.detections[0].bounding_box == parent.boxes.detections[0].bounding_box
        assert np.array_equal(new.boxes.detections[0].mask, parent.boxes.detections[0].mask)
        assert np.array_equal(new.area.get_mask(), np.kron(parent.area.get_mask(), np.ones((2, 2), np.uint8)))
        assert new.shape.polylines[0].points == parent.shape.polylines[0].points
        assert new.eyes.keypoints[0].points == parent.eyes.keypoints[0].points
        assert new.tags == ["enhanced", "test"]
        assert new.lineage.params["factor"] == 2
        assert new.lineage.params["model"] == model


def test_a_second_run_makes_nothing(labelled: Any, model: str) -> None:
    upscale(labelled, model)
    again = upscale(labelled, model)
    assert (again.created, again.skipped) == (0, 2)
    assert len(labelled) == 4


def test_only_small_images_if_asked(labelled: Any, model: str) -> None:
    report = upscale(labelled, model, smaller_than=100)
    assert report.created == 1
    assert report.outputs["too large"] == 1


def test_odd_and_broken_files_cost_only_themselves(dataset: Any, tmp_path: Path, model: str) -> None:
    import fiftyone as fo

    Image.new("RGB", (1, 1), (200, 30, 30)).save(tmp_path / "dot.png")
    Image.new("L", (20, 10), 90).save(tmp_path / "grey.png")
    Image.new("RGBA", (20, 10), (10, 20, 30, 0)).save(tmp_path / "alpha.png")
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((9, 17), 40_000, np.uint16))
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    Image.new("1", (9000, 4000)).save(tmp_path / "huge.png")
    names = ("dot.png", "grey.png", "alpha.png", "deep.png", "broken.jpg", "huge.png", "gone.png")
    dataset.add_samples([fo.Sample(filepath=str(tmp_path / name)) for name in names], progress=False)
    report = upscale(dataset, model)
    assert report.created == 4
    assert sorted(why.partition(":")[0] for _, why in report.failed) == ["missing", "too_many_pixels", "truncated"]
    assert any("transparent" in note for note in report.notes)
    sizes = sorted((new.metadata.width, new.metadata.height) for new in made(dataset))
    assert sizes == [(2, 2), (34, 18), (40, 20), (40, 20)]
    assert len(dataset) == len(names) + 4


def test_short_memory_makes_tiles_smaller_and_says_so(
    labelled: Any, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    real = TransformersUpscaler.upscale

    def short(self: Any, pictures: Any) -> Any:
        if pictures[0].shape[0] > 40:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, pictures)

    monkeypatch.setattr(TransformersUpscaler, "upscale", short)
    report = upscale(labelled, model, tile=64)
    assert report.created == 2
    assert any("tiles of 32 x 32 pixels" in note for note in report.notes)

    def never(self: Any, pictures: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(TransformersUpscaler, "upscale", never)
    report = upscale(labelled, model, tile=40)
    assert report.created == 0
    assert all(OutOfDeviceMemory.__name__ in why and "device='cpu'" in why for _, why in report.failed)
    assert len(report.failed) == 2


def test_wrong_parameters_are_refused(labelled: Any, model: str) -> None:
    with pytest.raises(ModelNotFound):
        upscale(labelled, "/no/such/model")
    with pytest.raises(ParameterError, match="tile"):
        upscale(labelled, model, tile=3)
    assert len(labelled) == 2
