"""Every file ends as a sample or a refusal with a reason; a second run does nothing; originals are never changed."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

import fiftyone_idsynth as ids
from fiftyone_idsynth.errors import UsageError


def content(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_with_classes_and_tags(dataset: Any, photos: Path) -> None:
    before = content(photos)
    report = ids.ingest(dataset, photos, class_field="classification", tags=("mine",))
    assert content(photos) == before, "originals are never changed"
    assert report.created == len(dataset) == 46
    assert report.rejected == {"truncated": 1}
    assert "broken.jpg" in report.outputs["refused"][0]
    assert dataset.count_values("classification.label")["coin"] == 24
    sample = dataset.match(fo.ViewField("filepath").ends_with("china.jpg")).first()
    assert sample.tags == ["mine"]
    assert sample.source.kind == "local"
    assert sample.source.sha256 == before[sample.filepath]
    assert (sample.metadata.width, sample.metadata.height) == Image.open(sample.filepath).size
    info = dataset.get_run_info(report.run_key).config
    assert info.status == "complete"
    assert info.rejected == {"truncated": 1}
    assert info.params["class_field"] == "classification"
    assert info.versions["fiftyone"] == fo.__version__


def test_again_does_nothing_and_changes_are_noticed(dataset: Any, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(photos / "backgrounds", folder)
    ids.ingest(dataset, folder)
    modified = dataset.values("last_modified_at")
    again = ids.ingest(dataset, folder)
    assert (again.processed, again.created, again.skipped) == (0, 0, 20)
    assert dataset.values("last_modified_at") == modified

    changed = dataset.match(fo.ViewField("filepath").ends_with("moon.jpg")).first()
    before = changed.source.sha256
    Image.fromarray(np.zeros((100, 200, 3), np.uint8)).save(changed.filepath)
    (folder / "broken.jpg").write_bytes((folder / "china.jpg").read_bytes())
    shutil.copy(folder / "china.jpg", folder / "new.jpg")
    third = ids.ingest(dataset, folder)
    assert (third.processed, third.created, len(dataset)) == (3, 2, 21)
    changed.reload()
    assert changed.source.sha256 != before
    assert (changed.metadata.width, changed.metadata.height) == (200, 100)


def test_copies_are_upright_and_carry_no_personal_metadata(dataset: Any, tmp_path: Path) -> None:
    folder = tmp_path / "phone"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x9003] = "2026:01:02 03:04:05"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    Image.fromarray(np.tile(np.arange(200, dtype=np.uint8)[:, None, None], (1, 300, 3))).save(
        folder / "a.jpg", exif=exif
    )
    ids.ingest(dataset, folder)
    referenced = dataset.first()
    assert referenced.filepath == str(folder / "a.jpg")
    assert (referenced.metadata.width, referenced.metadata.height) == (200, 300), (
        "the size is that of the upright image"
    )
    ids.ingest(dataset, folder, copy=True)
    assert len(dataset) == 1
    dataset.reload()
    copied = Image.open(dataset.first().filepath)
    assert dataset.first().filepath != str(folder / "a.jpg")
    assert copied.size == (200, 300)
    assert dict(copied.getexif()) == {}
    assert (folder / "a.jpg").exists()


def test_files_that_training_code_stumbles_over_are_converted(dataset: Any, tmp_path: Path) -> None:
    grey16 = np.linspace(0, 65535, 96 * 96).reshape(96, 96).astype(np.uint16)
    Image.fromarray(grey16).save(tmp_path / "deep.png")
    Image.new("CMYK", (96, 96), (0, 255, 255, 0)).save(tmp_path / "print.jpg")
    Image.new("RGB", (96, 96), "red").save(tmp_path / "scan.tif")
    frames = [Image.new("RGB", (96, 96), (100 * index, 0, 0)) for index in range(3)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("RGB", (40, 40)).save(tmp_path / "tiny.png")
    report = ids.ingest(dataset, tmp_path)
    assert report.rejected == {"too_small": 1}
    why = dict(
        zip(
            [os.path.basename(p) for p in dataset.values("source.path")],
            dataset.values("source.converted"),
            strict=True,
        )
    )
    assert why == {
        "deep.png": "more_than_8_bits", "print.jpg": "cmyk", "scan.tif": "tiff_format", "moving.gif": "animated",
    }  # fmt: skip
    for path in dataset.values("filepath"):
        assert Image.open(path).mode in ("RGB", "L")
        assert os.path.dirname(path) != str(tmp_path)


def test_side_car_captions_and_labels(dataset: Any, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        Image.new("RGB", (100, 200), "red").save(tmp_path / f"{name}.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("1 0.5 0.5 0.2 0.4\n")
    (tmp_path / "labels" / "b.txt").write_text("seven\n")
    report = ids.ingest(dataset, tmp_path, labels="yolo", labels_dir=tmp_path / "labels", classes=("cat", "dog"),
                        recursive=False)  # fmt: skip
    assert report.rejected == {"bad_labels": 1}
    box = dataset.match(fo.ViewField("filepath").ends_with("a.png")).first().ground_truth.detections[0]
    assert box.label == "dog"
    assert box.bounding_box == pytest.approx([0.4, 0.3, 0.2, 0.4])
    (tmp_path / "a.txt").write_text("A red\nrectangle\n")
    ids.ingest(dataset, tmp_path, captions=True, recursive=False)
    dataset.reload()
    assert "A red rectangle" in dataset.values("caption")
    runs = dataset.list_runs()
    with pytest.raises(UsageError, match="give the class names"):
        ids.ingest(dataset, tmp_path, labels="yolo")
    assert dataset.list_runs() == runs, "a run that never began is not recorded"
    with pytest.raises(UsageError, match="give the class names"):
        ids.ingest("never-made", tmp_path, labels="yolo")
    assert not fo.dataset_exists("never-made")


def test_another_dataset_with_its_labels(dataset: Any, photos: Path) -> None:
    other = fo.Dataset()
    for name in ("china.jpg", "flower.jpg"):
        detection = fo.Detection(label="thing", bounding_box=[0.1, 0.2, 0.3, 0.4])
        other.add_sample(
            fo.Sample(
                filepath=str(photos / "backgrounds" / name), tags=["x"], boxes=fo.Detections(detections=[detection])
            )
        )
    report = ids.ingest(dataset, other.match(fo.ViewField("filepath").ends_with("flower.jpg")))
    assert report.created == 1
    sample = dataset.first()
    assert sample.boxes.detections[0].bounding_box == [0.1, 0.2, 0.3, 0.4]
    assert sample.tags == ["x"]
    assert sample.source.dataset == other.name
    assert ids.ingest(dataset, other).created == 1
    assert ids.ingest(other, other).created == 0, "ingesting a dataset into itself adds what is known about each file"
    other.reload()
    assert other.first().source.sha256
    other.delete()


def test_a_list_of_files_and_wrong_paths(dataset: Any, photos: Path) -> None:
    files = sorted((photos / "backgrounds").glob("c*.jpg"))
    assert ids.ingest(dataset, files).created == len(files)
    with pytest.raises(UsageError, match="1 of 2 files do not exist, the first is /nowhere"):
        ids.ingest(dataset, [files[0], "/nowhere/a.jpg"])
    with pytest.raises(UsageError, match="neither a folder or file .* nor a dataset of that name"):
        ids.ingest("never-made", "/nowhere")
    assert not fo.dataset_exists("never-made"), "wrong input makes nothing"
    with pytest.raises(UsageError, match="give a folder"):
        ids.ingest(dataset, 3)
