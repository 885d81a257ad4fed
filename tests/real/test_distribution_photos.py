"""Distributions of real photographs, with the embeddings of a real model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import fiftyone as fo
import numpy as np
import pytest

import fiftyone_idsynth as ids
from fiftyone_idsynth.media import read_image

CLASSES = ("daisy", "dandelion", "roses", "sunflowers", "tulips")


@pytest.fixture(scope="module")
def embed(shared: Path) -> Any:
    """Embeds an image file with MobileNet v1: 1,024 numbers."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(shared / "weights/mobilenet_v1_embedding.onnx"), providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name

    def embed(path: str) -> np.ndarray:
        pixels = cv2.resize(read_image(path).pixels, (224, 224), interpolation=cv2.INTER_AREA)
        return np.asarray(session.run(None, {name: pixels[None]})[0], np.float32).ravel()

    return embed


@pytest.fixture(scope="module")
def flowers(shared: Path, embed: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Flower photos in two halves, street photos, and ten photos of the first half that were saved again, smaller."""
    folder = tmp_path_factory.mktemp("copies")
    dataset = fo.Dataset(persistent=True)
    samples = []
    for flower in CLASSES:
        for number, path in enumerate(sorted((shared / "data/flowers5" / flower).glob("*.jpg"))[:40]):
            tags = ["first" if number % 2 else "second"]
            samples.append(fo.Sample(filepath=str(path), tags=tags, classification=fo.Classification(label=flower)))
    street = sorted((shared / "data/coco128").rglob("*.jpg"))[:60]
    samples += [fo.Sample(filepath=str(path), tags=["street"]) for path in street]
    for number, sample in enumerate([s for s in samples if "first" in s.tags][:10]):
        pixels = cv2.resize(cv2.imread(sample.filepath), None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
        path = folder / f"{number}.jpg"
        cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, 70])
        samples.append(fo.Sample(filepath=str(path), tags=["copy"]))
    for sample in samples:
        sample["embedding"] = embed(sample.filepath)
    dataset.add_sample_field("embedding", fo.VectorField, info={"model": "mobilenet_v1"})
    dataset.add_samples(samples, progress=False)
    yield dataset
    dataset.delete()


def test_flowers_are_nearer_to_flowers_than_streets_are(flowers: Any, tmp_path: Path) -> None:
    def measure(tag: str) -> dict[str, Any]:
        return ids.measure_distribution(
            flowers.match_tags(tag), reference=flowers.match_tags("first"), report_path=tmp_path / "report.html",
            progress=False,
        ).outputs  # fmt: skip

    same, other = measure("second"), measure("street")
    assert same["kernel_distance"]["low"] < 0 < same["kernel_distance"]["high"]
    assert other["kernel_distance"]["low"] > 5 * same["kernel_distance"]["high"] > 0
    assert other["frechet_distance"]["low"] > same["frechet_distance"]["high"]
    assert same["coverage"]["low"] > other["coverage"]["high"]
    assert same["precision"]["low"] > other["precision"]["high"]
    assert same["train_copies"]["value"] <= 0.1
    assert same["authenticity"]["value"] == pytest.approx(0.7, abs=0.1)  # 0.7 is expected of these photos
    assert same["class_divergence"] == pytest.approx(0, abs=1e-6)
    assert same["vendi_ratio"]["low"] < 1 < same["vendi_ratio"]["high"]


def test_photos_that_were_saved_again_are_copies(flowers: Any, tmp_path: Path) -> None:
    report = ids.measure_distribution(
        flowers.match_tags(["second", "copy"]), reference=flowers.match_tags("first"), metrics=("train_copies",),
        report_path=tmp_path / "report.html", progress=False,
    )  # fmt: skip
    copies = flowers.match_tags("copy").values("id")
    assert set(report.outputs["copies"][:10]) == set(copies)  # all ten are nearer than any other photo
    assert len(report.outputs["copies"]) <= 18
    assert "the limit is that of the 2 real images that are most alike" in " ".join(report.notes)


def test_near_duplicates_in_the_test_split_are_found(flowers: Any, tmp_path: Path) -> None:
    report = ids.measure_distribution(
        flowers.match_tags(["first", "second", "copy"]), metrics=("leakage",), splits=("first", "second", "copy"),
        report_path=tmp_path / "report.html", progress=False,
    )  # fmt: skip
    assert report.outputs["leakage"]["value"] == pytest.approx(10 / 110, abs=0.011)
