"""Exports are complete, verified, private and stable, whatever is in the dataset."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fiftyone_idsynth as ids
from fiftyone_idsynth import fields
from fiftyone_idsynth.errors import EmptyViewError, FieldError, StorageError, UsageError, VerificationError
from fiftyone_idsynth.exporting.polygons import polygons_to_mask

SIZE = (120, 90)


def write_photo(path: Path, seed: int = 0, size: tuple[int, int] = SIZE, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (size[1] // 10, size[0] // 10, 3), np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BILINEAR).save(path, **options)
    return path


def ring() -> np.ndarray:
    """An object with a hole, in two parts: what occlusion makes of a cup."""
    y, x = np.mgrid[:40, :60]
    distance = np.hypot(x - 20, y - 20)
    return ((distance < 19) & (distance > 9)) | ((x > 48) & (y > 5) & (y < 30))


def detection(label: str, x: float, y: float, w: float, h: float, **attributes: Any) -> Any:
    import fiftyone as fo

    box = [x / SIZE[0], y / SIZE[1], w / SIZE[0], h / SIZE[1]]
    return fo.Detection(label=label, bounding_box=box, **attributes)


def fill(dataset: Any, folder: Path, splits: bool = True) -> None:
    """Twelve photos: two objects each, except for two backgrounds; the class "dog" occurs in training only."""
    import fiftyone as fo

    samples = []
    for i in range(12):
        path = write_photo(folder / f"photo {i}.jpg", seed=i)
        split = "train" if i < 8 else "val" if i < 10 else "test"
        label = fo.Detections()
        if i not in (3, 9):
            label.detections = [
                detection("cat", 5.3, 10.6, 60, 40, mask=ring(), confidence=0.5, category_id=7, area=-1, note="x"),
                detection("dog" if i < 4 else "cat", 70, 20, 30.4, 50.2, mask=np.ones((50, 30), bool)),
            ]
        sample = fo.Sample(filepath=str(path), tags=[split] if splits else [], ground_truth=label)
        sample["classification"] = fo.Classification(label="röd/panda".replace("/", "-") if i % 2 else "cat")
        sample["caption"] = f"a photo,\nnumber {i}"
        samples.append(sample)
    dataset.add_samples(samples, progress=False)


def set_field(dataset: Any, path: str, values: list[Any]) -> None:
    fields.declare(dataset, path.partition(".")[0])
    dataset.set_values(path, values, progress=False)


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix in (".jpg", ".png") and "card" not in p.parts)


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if ".idsynth-" in p.name]


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("format", ["yolo", "coco"])
def test_detections_read_back(dataset: Any, tmp_path: Path, format: str, masks: bool) -> None:
    import fiftyone as fo

    fill(dataset, tmp_path / "in")
    report = ids.export(dataset, path=tmp_path / "out", format=format, masks=masks)
    assert report.processed == 12
    assert not report.failed
    assert report.outputs["images"] == {"train": 8, "val": 2, "test": 2}
    kind = fo.types.YOLOv5Dataset if format == "yolo" else fo.types.COCODetectionDataset
    loaded = fo.Dataset()
    for split in ("train", "val", "test"):
        where = {"dataset_dir": str(tmp_path / "out"), "split": split}
        if format == "coco":
            where = {"dataset_dir": str(tmp_path / "out" / split), "label_types": "detections"}
        else:
            where["include_all_data"] = True
        loaded.add_dir(dataset_type=kind, tags=split, label_field="gt", progress=False, **where)
        assert sorted(loaded.default_classes or loaded.info.get("classes", ["cat", "dog"])) == ["cat", "dog"]
    assert loaded.count_sample_tags() == {"train": 8, "val": 2, "test": 2}
    counts = Counter(len(d or []) for d in loaded.values("gt.detections"))
    assert counts == {2: 10, 0: 2}
    assert Counter(loaded.count_values("gt.detections.label")) == {"cat": 17, "dog": 3}
    loaded.delete()


def test_coco_file_is_complete(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path / "in")
    set_field(dataset, "source.license", ["cc-by-4.0"] * 11 + [None])
    set_field(dataset, "source.license_url", ["https://creativecommons.org/licenses/by/4.0/"] * 12)
    ids.export(dataset, path=tmp_path / "out", format="coco", masks=True)
    contents = {s: json.loads((tmp_path / "out" / s / "labels.json").read_text()) for s in ("train", "val", "test")}
    categories = [{"id": 1, "name": "cat", "supercategory": None}, {"id": 2, "name": "dog", "supercategory": None}]
    image_ids, annotation_ids = [], []
    for content in contents.values():
        assert content["categories"] == categories
        assert content["licenses"] == [
            {"id": 1, "name": "cc-by-4.0", "url": "https://creativecommons.org/licenses/by/4.0/"}
        ]
        image_ids += [image["id"] for image in content["images"]]
        annotation_ids += [annotation["id"] for annotation in content["annotations"]]
        for annotation in content["annotations"]:
            assert set(annotation) == {"id", "image_id", "category_id", "bbox", "segmentation", "area", "iscrowd"}
            assert annotation["image_id"] in [image["id"] for image in content["images"]]
        cats = [a for a in content["annotations"] if len(a["segmentation"]) == 2]  # two parts
        for annotation in cats:
            assert annotation["area"] == ring().sum()
            mask = polygons_to_mask(annotation["segmentation"], *SIZE)
            whole = np.zeros(SIZE[::-1], bool)
            whole[11:51, 5:65] = ring()
            assert (mask & whole).sum() / (mask | whole).sum() > 0.97
    assert sorted(image_ids) == list(range(1, 13)) == sorted(dataset.values("export_id"))
    assert len(annotation_ids) == len(set(annotation_ids)) == 20
    assert [i["license"] for i in contents["test"]["images"]] == [1, None]


def test_crowds_are_run_lengths(dataset: Any, tmp_path: Path) -> None:
    import fiftyone as fo

    label = fo.Detections(detections=[detection("cat", 5, 10, 60, 40, mask=ring(), iscrowd=1)])
    dataset.add_sample(fo.Sample(filepath=str(write_photo(tmp_path / "a.jpg")), ground_truth=label))
    ids.export(dataset, path=tmp_path / "out", format="coco", masks=True)
    (annotation,) = json.loads((tmp_path / "out/train/labels.json").read_text())["annotations"]
    assert annotation["iscrowd"] == 1
    assert annotation["segmentation"]["size"] == [90, 120]
    assert sum(annotation["segmentation"]["counts"][1::2]) == annotation["area"] == ring().sum()


def test_yolo_polygons_are_one_per_object(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path / "in")
    ids.export(dataset, path=tmp_path / "out", masks=True)
    labels = sorted((tmp_path / "out/labels").rglob("*.txt"))
    assert Counter(len(p.read_text().splitlines()) for p in labels) == {2: 10, 0: 2}
    points = np.array(labels[0].read_text().splitlines()[0].split()[1:], float).reshape(-1, 2) * SIZE
    assert abs(polygons_to_mask([points], *SIZE).sum() - ring().sum()) < 25


def test_yolo_folder_can_be_moved(dataset: Any, tmp_path: Path) -> None:
    import fiftyone as fo
    import yaml

    fill(dataset, tmp_path / "in")
    ids.export(dataset, path=tmp_path / "out")
    shutil.move(tmp_path / "out", tmp_path / "elsewhere")
    content = yaml.safe_load((tmp_path / "elsewhere/dataset.yaml").read_text())
    assert content == {
        "names": {0: "cat", 1: "dog"}, "train": "./images/train/", "val": "./images/val/", "test": "./images/test/",
    }  # fmt: skip
    loaded = fo.Dataset.from_dir(str(tmp_path / "elsewhere"), fo.types.YOLOv5Dataset, split="val", progress=False)
    assert len(loaded) == 2
    loaded.delete()


def test_voc_boxes_are_rounded_and_names_escaped(dataset: Any, tmp_path: Path) -> None:
    import fiftyone as fo

    # 0.7 * 120 is 83.99999999999999: truncation would move the edge by a pixel.
    first = fo.Detection(label="<cat> & dög", bounding_box=[0.7, 0.1, 0.1, 0.5])
    label = fo.Detections(detections=[first, detection("b", 0, 0, 0.2, 0.2)])
    empty = fo.Sample(filepath=str(write_photo(tmp_path / "b.jpg", 1)), ground_truth=fo.Detections())
    dataset.add_samples([fo.Sample(filepath=str(write_photo(tmp_path / "a.jpg")), ground_truth=label), empty])
    ids.export(dataset, path=tmp_path / "out", format="voc")
    loaded = fo.Dataset.from_dir(str(tmp_path / "out/train"), fo.types.VOCDetectionDataset, progress=False)
    assert len(loaded) == 2
    first, second = loaded.sort_by("filepath").values("ground_truth.detections")
    assert [d.label for d in first] == ["<cat> & dög", "b"]
    assert second == []
    assert np.allclose(np.array(first[0].bounding_box) * (120, 90, 120, 90), [84, 9, 12, 45])
    assert (tmp_path / "out/classes.txt").read_text() == "<cat> & dög\nb\n"
    assert (
        str(tmp_path)
        not in (tmp_path / "out/train/labels").joinpath(os.listdir(tmp_path / "out/train/labels")[0]).read_text()
    )
    loaded.delete()


def test_classification_has_the_same_classes_in_every_split(dataset: Any, tmp_path: Path) -> None:
    import fiftyone as fo

    fill(dataset, tmp_path / "in")
    dataset.match_tags("test").set_values("classification.label", ["cat", "cat"], progress=False)
    sample = dataset.match_tags("train").first()
    sample["classification"] = None
    sample.save()
    report = ids.export(dataset, path=tmp_path / "out", format="classification")
    assert report.rejected == {"no label": 1}
    assert report.processed == 11
    for split in ("train", "val", "test"):
        assert sorted(os.listdir(tmp_path / "out" / split)) == ["cat", "röd-panda"]
    assert "röd-panda in test" in str(report)
    loaded = fo.Dataset.from_dir(str(tmp_path / "out/train"), fo.types.ImageClassificationDirectoryTree, progress=False)
    assert loaded.count_values("ground_truth.label") == {"cat": 3, "röd-panda": 4}
    loaded.delete()


def test_classes_cannot_leave_the_folder(dataset: Any, tmp_path: Path) -> None:
    import fiftyone as fo

    sample = fo.Sample(filepath=str(write_photo(tmp_path / "a.jpg")), classification=fo.Classification(label="../../x"))
    dataset.add_sample(sample)
    with pytest.raises(UsageError, match="cannot be the name of a folder"):
        ids.export(dataset, path=tmp_path / "out", format="classification")
    assert sorted(os.listdir(tmp_path)) == ["a.jpg"]


def test_segmentation_masks(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path / "in")
    ids.export(dataset, path=tmp_path / "out", format="segmentation")
    assert json.loads((tmp_path / "out/classes.json").read_text()) == {"0": "background", "1": "cat", "2": "dog"}
    first = next(m for m in sorted((tmp_path / "out/train/labels").iterdir()) if m.name.startswith("photo_0"))
    mask = np.asarray(Image.open(first))
    assert mask.shape == SIZE[::-1]
    assert (mask[11:51, 5:65] == ring()).all()
    assert (mask[20:70, 70:100] == 2).all()
    assert mask.max() == 2
    backgrounds = list((tmp_path / "out").rglob("labels/photo_3*.png"))
    assert len(backgrounds) == 1
    assert not np.asarray(Image.open(backgrounds[0])).any()


def test_semantic_masks_keep_their_values(dataset: Any, tmp_path: Path) -> None:
    import fiftyone as fo

    mask = np.zeros((45, 60), np.uint8)  # half the image's size
    mask[10:20, 10:30] = 17
    sample = fo.Sample(filepath=str(write_photo(tmp_path / "a.jpg")), seg=fo.Segmentation(mask=mask))
    dataset.add_samples([sample, fo.Sample(filepath=str(write_photo(tmp_path / "b.jpg", 1)))])
    dataset.mask_targets = {"seg": {0: "other", 17: "coral"}}
    dataset.save()
    report = ids.export(dataset, path=tmp_path / "out", format="segmentation")
    assert report.outputs["classes"] == 1
    first, second = sorted((tmp_path / "out/train/labels").iterdir())
    drawn = np.asarray(Image.open(first))
    assert drawn.shape == (90, 120)
    assert (drawn[20:40, 20:60] == 17).all()
    assert (drawn > 0).sum() == 800
    assert not np.asarray(Image.open(second)).any()
    assert json.loads((tmp_path / "out/classes.json").read_text())["17"] == "coral"


def test_captions(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path / "in")
    dataset.first().set_field("caption", None)
    dataset.set_values("training_text", ["zwx, a röd panda"] + [None] * 11, progress=False)
    dataset.set_values("caption", [None, None] + [f"a\n photo {i}" for i in range(10)], progress=False)
    report = ids.export(dataset, path=tmp_path / "out", format="captions")
    assert report.rejected == {"no caption": 1}
    rows = [json.loads(line) for line in (tmp_path / "out/train/metadata.jsonl").read_text().splitlines()]
    assert rows[0]["text"] == "zwx, a röd panda"
    assert rows[1]["text"] == "a photo 0"
    assert len(rows) == 7
    for row in rows:
        image = tmp_path / "out/train" / row["file_name"]
        assert image.exists()
        assert image.with_suffix(".txt").read_text() == row["text"] + "\n"


def test_personal_metadata_is_gone_and_pixels_upright(dataset: Any, tmp_path: Path) -> None:
    import fiftyone as fo

    upright = np.zeros((90, 120, 3), np.uint8)
    upright[10:40, 60:100] = (250, 20, 20)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned by 90 degrees counter-clockwise
    exif[0x010F] = "SECRETCAMERA"
    exif.get_ifd(0x8825)[1], exif.get_ifd(0x8825)[2] = "N", (51.0, 30.0, 0.0)
    stored = Image.fromarray(np.rot90(upright))
    stored.save(tmp_path / "turned.jpg", exif=exif, comment=b"SECRETCOMMENT", quality=95)
    Image.fromarray(upright).save(tmp_path / "plain.jpg", exif=_without_rotation(exif), xmp=b"<x>SECRETXMP</x>")
    Image.fromarray(upright).save(tmp_path / "plain.png", exif=_without_rotation(exif))
    Image.fromarray(upright).save(tmp_path / "plain.webp", exif=_without_rotation(exif))
    label = fo.Detections(detections=[detection("red", 60, 10, 40, 30)])
    dataset.add_samples(
        [fo.Sample(filepath=str(p), ground_truth=label.copy()) for p in sorted(tmp_path.iterdir())], progress=False
    )
    ids.export(dataset, path=tmp_path / "out", format="yolo")
    exported = images(tmp_path / "out")
    assert len(exported) == 4
    for path in exported:
        data = path.read_bytes()
        assert b"SECRET" not in data
        assert b"Exif" not in data
        with Image.open(path) as image:
            assert (dict(image.getexif()), image.size) == ({}, (120, 90)), path
            pixels = np.asarray(image.convert("RGB")).astype(int)
        _, xc, yc, w, h = map(float, (tmp_path / "out/labels/train" / f"{path.stem}.txt").read_text().split())
        left, top = round((xc - w / 2) * 120), round((yc - h / 2) * 90)
        assert (left, top) == (60, 10)
        assert pixels[12:38, 62:98, 0].min() > 200
        assert pixels[60:, :, 0].max() < 60
    original = Image.open(tmp_path / "turned.jpg")
    assert original.getexif()[0x010F] == "SECRETCAMERA"  # originals stay as they are


def _without_rotation(exif: Any) -> Any:
    copy = Image.Exif()
    copy.load(exif.tobytes())
    copy[0x0112] = 1
    return copy


def test_names_and_ids_stay_when_samples_are_added(dataset: Any, tmp_path: Path) -> None:
    import fiftyone as fo

    fill(dataset, tmp_path / "in")
    ids.export(dataset, path=tmp_path / "out", format="coco")
    before = {i["file_name"]: i["id"] for i in _coco_images(tmp_path / "out")}
    annotations = {a["id"] for a in _coco(tmp_path / "out", "annotations")}
    dataset.delete_samples([dataset.last()])
    new = [write_photo(tmp_path / "more" / f"photo {i}.jpg", seed=100 + i) for i in range(3)]
    dataset.add_samples([fo.Sample(filepath=str(p), tags=["train"], ground_truth=fo.Detections()) for p in new])
    with pytest.raises(UsageError, match=r"out of date.*overwrite=True"):
        ids.export(dataset, path=tmp_path / "out", format="coco")
    ids.export(dataset, path=tmp_path / "out", format="coco", overwrite=True)
    after = {i["file_name"]: i["id"] for i in _coco_images(tmp_path / "out")}
    kept = before.keys() & after.keys()
    assert len(kept) == 11
    assert all(before[name] == after[name] for name in kept)
    assert {after[name] for name in after.keys() - kept} == {13, 14, 15}  # 12 is never given again
    assert {a["id"] for a in _coco(tmp_path / "out", "annotations")} < annotations
    assert len(files(tmp_path / "out")) == 14 + 3 + 6  # nothing of the old export is left
    assert leftovers(tmp_path) == []


def _coco(folder: Path, what: str) -> list[Any]:
    return [item for p in sorted(folder.glob("*/labels.json")) for item in json.loads(p.read_text())[what]]


def _coco_images(folder: Path) -> list[Any]:
    return _coco(folder, "images")


def test_names_that_collide(dataset: Any, tmp_path: Path) -> None:
    import fiftyone as fo

    paths = [write_photo(tmp_path / d / "pändä & <1>.jpg", seed=s) for d, s in (("a", 1), ("b", 2), ("c", 1))]
    paths.append(write_photo(tmp_path / "a" / "pändä & <1>.png", seed=1))
    samples = [fo.Sample(filepath=str(p), ground_truth=fo.Detections(detections=[detection("x", i, 0, 50, 50)]))
               for i, p in enumerate(paths)]  # fmt: skip
    dataset.add_samples(samples, progress=False)
    for format in ("yolo", "voc", "coco"):
        ids.export(dataset, path=tmp_path / format, format=format)
        names = [p.name for p in images(tmp_path / format)]
        assert len(set(names)) == 4
        assert all(re.fullmatch(r"pändä_1_[0-9a-f]{8}(-3)?\.(jpg|png)", n) for n in names)
        assert sum("-3." in name for name in names) == 1  # the same photo twice: the later one carries its number
    # The box tells which image a label file belongs to.
    for path in images(tmp_path / "yolo"):
        x = float((tmp_path / "yolo/labels/train" / f"{path.stem}.txt").read_text().split()[1]) * 120 - 25
        assert path.suffix == paths[round(x)].suffix


def test_a_second_run_does_nothing(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path / "in")
    ids.export(dataset, path=tmp_path / "out")
    times = {p: (tmp_path / "out" / p).stat().st_mtime_ns for p in files(tmp_path / "out")}
    dataset.tag_samples("looked-at")  # nothing that is exported
    report = ids.export(dataset, path=tmp_path / "out")
    assert report.skipped == 12
    assert report.processed == 0
    assert "up to date" in str(report)
    assert times == {p: (tmp_path / "out" / p).stat().st_mtime_ns for p in files(tmp_path / "out")}
    sample = dataset.first()
    sample.ground_truth.detections[0].bounding_box[0] += 0.01
    sample.save()
    with pytest.raises(UsageError, match="out of date"):
        ids.export(dataset, path=tmp_path / "out")
    ids.export(dataset, path=tmp_path / "out", overwrite=True)
    next((tmp_path / "out/labels/val").iterdir()).unlink()
    with pytest.raises(UsageError, match="changed or removed"):
        ids.export(dataset, path=tmp_path / "out")


def test_foreign_folders_are_never_touched(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path / "in")
    before = {p: (tmp_path / "in" / p).read_bytes() for p in files(tmp_path / "in")}
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"did not write \(e.g. photo 0.jpg\)"):
            ids.export(dataset, path=tmp_path / "in", overwrite=overwrite)
    assert before == {p: (tmp_path / "in" / p).read_bytes() for p in files(tmp_path / "in")}
    ids.export(dataset, path=tmp_path / "out")
    (tmp_path / "out/labels/train.cache").write_text("left by a trainer")
    (tmp_path / "out/runs").mkdir()
    (tmp_path / "out/runs/best.pt").write_text("weights")
    with pytest.raises(UsageError, match=r"runs/best.pt"):
        ids.export(dataset, path=tmp_path / "out", format="coco", overwrite=True)
    assert (tmp_path / "out/runs/best.pt").read_text() == "weights"
    shutil.rmtree(tmp_path / "out/runs")
    ids.export(dataset, path=tmp_path / "out", format="coco", overwrite=True)
    assert (tmp_path / "out/train/labels.json").exists()
    assert not (tmp_path / "out/labels").exists()


def test_a_place_that_cannot_be_written(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path / "in")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"not a folder|a file stands"):
        ids.export(dataset, path=tmp_path / "file" / "out")
    with pytest.raises(UsageError, match="is a file"):
        ids.export(dataset, path=tmp_path / "file")
    if os.geteuid():
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(StorageError, match="no permission"):
            ids.export(dataset, path=tmp_path / "closed" / "out")


def test_a_full_disk_leaves_the_old_export(dataset: Any, tmp_path: Path) -> None:
    import resource

    fill(dataset, tmp_path / "in")
    ids.export(dataset, path=tmp_path / "out")
    before = files(tmp_path / "out")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, limits[1]))  # writing past it fails as on a full disk
    try:
        with pytest.raises(StorageError):
            ids.export(dataset.limit(11), path=tmp_path / "out", overwrite=True)
        with pytest.raises(StorageError):
            ids.export(dataset.limit(11), path=tmp_path / "new")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(tmp_path / "out") == before
    assert not (tmp_path / "new").exists()
    assert leftovers(tmp_path) == []


def test_what_a_killed_process_leaves_is_cleared(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path / "in")
    ids.export(dataset, path=tmp_path / "out")
    before = files(tmp_path / "out")
    # A process that is killed between moving the old export aside and putting the new one in place.
    program = (
        "import os, sys; from fiftyone_idsynth.exporting.folder import ExportFolder\n"
        "folder = ExportFolder(sys.argv[1]); folder.__enter__(); (folder.content / 'half').write_text('x')\n"
        "os.rename(folder.path, folder.content.parent / 'previous'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "out")], check=False, timeout=60)
    assert not (tmp_path / "out").exists()
    assert len(leftovers(tmp_path)) == 1
    report = ids.export(dataset, path=tmp_path / "out")
    assert report.skipped == 12
    assert files(tmp_path / "out") == before
    assert leftovers(tmp_path) == []


def test_verification_names_the_file(dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fiftyone_idsynth.exporting.detection import YOLO

    fill(dataset, tmp_path / "in")
    write = YOLO.write

    def damaged(self: Any, split: str, pictures: Any) -> None:
        write(self, split, pictures)
        label = sorted((self.root / "labels" / split).iterdir())[0]
        label.write_text(label.read_text().replace("0.", "0.1", 1))

    monkeypatch.setattr(YOLO, "write", damaged)
    with pytest.raises(VerificationError, match=r"images/train/photo_0_[0-9a-f]{8}.jpg does not read back"):
        ids.export(dataset, path=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert leftovers(tmp_path) == []


def test_splits(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path / "in", splits=False)
    report = ids.export(dataset, path=tmp_path / "out")
    assert report.outputs["images"] == {"train": 12}
    assert "no split 'val'" in str(report)
    dataset.limit(9).tag_samples("train")
    with pytest.raises(UsageError, match="3 of 12 samples have no split"):
        ids.export(dataset, path=tmp_path / "out2")
    dataset.tag_samples("val")
    with pytest.raises(UsageError, match="9 samples are in more than one split"):
        ids.export(dataset, path=tmp_path / "out2")


def test_rejected_samples_stay_out(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path / "in")
    dataset.limit(4).tag_samples("rejected")
    assert ids.export(dataset, path=tmp_path / "out").processed == 8
    assert ids.export(dataset, path=tmp_path / "all", include_rejected=True).processed == 12
    dataset.tag_samples("rejected")
    with pytest.raises(EmptyViewError, match="include_rejected"):
        ids.export(dataset, path=tmp_path / "none")


def test_the_label_field_is_found_or_named(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path / "in")
    dataset.clone_sample_field("ground_truth", "detections")
    with pytest.raises(FieldError, match="ground_truth, detections"):
        ids.export(dataset, path=tmp_path / "out")
    with pytest.raises(FieldError, match="classification"):
        ids.export(dataset, path=tmp_path / "out", label_field="classification")
    with pytest.raises(FieldError, match="no such sample field"):
        ids.export(dataset, path=tmp_path / "out", label_field="grund_truth")
    assert ids.export(dataset, path=tmp_path / "out", label_field="detections").processed == 12


def test_classes_can_be_chosen(dataset: Any, tmp_path: Path) -> None:
    import yaml

    fill(dataset, tmp_path / "in")
    report = ids.export(dataset, path=tmp_path / "out", classes=("dog", "bird"))
    assert yaml.safe_load((tmp_path / "out/dataset.yaml").read_text())["names"] == {0: "dog", 1: "bird"}
    assert report.outputs["objects"] == 3
    assert "17 objects were left out: of another class" in str(report)
    with pytest.raises(UsageError, match="cat, dog"):
        ids.export(dataset, path=tmp_path / "out2", classes=("doog",))


def test_images_without_value_are_kept_or_skipped(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path / "in")
    dataset.limit(2).clear_sample_field("ground_truth")
    report = ids.export(dataset, path=tmp_path / "out")
    assert report.processed == 12
    assert "unlabeled='skip'" in str(report)
    report = ids.export(dataset, path=tmp_path / "out2", unlabeled="skip")
    assert report.processed == 10
    assert report.rejected == {"no label": 2}


def test_one_bad_image_does_not_stop_the_others(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path / "in")
    (tmp_path / "in/photo 2.jpg").write_bytes(b"no image")
    (tmp_path / "in/photo 4.jpg").unlink()
    report = ids.export(dataset, path=tmp_path / "out")
    assert report.processed == 10
    assert len(report.failed) == 2
    assert "not_an_image" in str(report)
    assert len(images(tmp_path / "out")) == 10


def test_boxes_past_the_edge_are_clipped(dataset: Any, tmp_path: Path) -> None:
    import fiftyone as fo

    odd = [
        detection("a", -10, -10, 60, 40, mask=ring()), detection("a", 100, 80, 60, 40, mask=ring()),
        detection("a", 10, 10, 0, 5, mask=ring()), detection("a", float("nan"), 0, 5, 5, mask=ring()),
        detection("a", 200, 10, 5, 5, mask=ring()),
    ]  # fmt: skip
    path = write_photo(tmp_path / "a.jpg")
    dataset.add_sample(fo.Sample(filepath=str(path), ground_truth=fo.Detections(detections=odd)))
    for format, masks in (("yolo", False), ("yolo", True), ("coco", True), ("voc", False), ("segmentation", True)):
        report = ids.export(dataset, path=tmp_path / f"{format}{masks}", format=format, masks=format != "voc" and masks)
        assert report.outputs["objects"] == 2
        assert "3 objects were left out" in str(report)


def test_missing_masks_are_not_made_up(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path / "in")
    sample = dataset.first()
    sample.ground_truth.detections[0].mask = None
    sample.save()
    report = ids.export(dataset, path=tmp_path / "out", masks=True)
    assert report.processed == 11
    assert "no instance mask" in str(report)


def test_credits_licences_and_lineage(dataset: Any, tmp_path: Path) -> None:
    import fiftyone as fo

    fill(dataset, tmp_path / "in")
    n = len(dataset)
    licenses = ["CC BY 4.0"] * 6 + ["cc-by-nc-4.0"] * 5 + [None]
    values = {
        "kind": ["web"] * n, "license": licenses,
        "creator": ["=cmd|'x'!A1", "<script>alert(1)</script>"] + ["Ann"] * 10,
        "license_url": ["https://creativecommons.org/licenses/by/4.0/"] * n,
        "page_url": ["javascript:alert(1)"] + [f"https://example.org/{i}" for i in range(n - 1)],
        "path": [str(tmp_path / "home-of-alice" / f"{i}.jpg") for i in range(n)],
    }  # fmt: skip
    for name, column in values.items():
        set_field(dataset, f"source.{name}", column)
    parents = dataset.values("id")
    made = fo.Sample(filepath=str(write_photo(tmp_path / "made.png", 77)), tags=["train"], ground_truth=fo.Detections())
    made["source"] = fo.DynamicEmbeddedDocument(kind="composed")
    made["lineage"] = fo.DynamicEmbeddedDocument(
        parents=[parents[0]], shared=[parents[11]], stage="compose", key="k1", seed=5
    )
    fields.declare(dataset, "lineage")
    dataset.add_sample(made)
    ids.export(dataset, path=tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out/CREDITS.csv").open()))
    assert len(rows) == 14  # the composed image credits two
    composed = [row for row in rows if "made_" in row["file"]]
    assert {row["license"] for row in composed} == {"CC BY 4.0", "unknown"}
    assert all(row["creator"].startswith("'=") for row in rows if "cmd" in row["creator"])
    text = (tmp_path / "out/CREDITS.md").read_text() + (tmp_path / "out/README.md").read_text()
    assert "<script>" not in text
    assert "](<javascript" not in text
    assert "licence of some images is not known" in text
    lines = [json.loads(line) for line in (tmp_path / "out/lineage.jsonl").read_text().splitlines()]
    assert len(lines) == 13
    last = next(line for line in lines if "made_" in line["file"])
    assert last["lineage"] == {
        "parents": [parents[0]], "shared": [parents[11]], "stage": "compose", "key": "k1", "seed": 5,
    }  # fmt: skip
    assert (tmp_path / "out" / last["file"]).exists()
    for path in files(tmp_path / "out"):
        if path.endswith((".md", ".json", ".jsonl", ".csv", ".yaml")):
            assert str(tmp_path) not in (tmp_path / "out" / path).read_text(), path
    report = ids.export(dataset, path=tmp_path / "free", only_licenses=("cc-by", "cc0"))
    assert report.processed == 6
    assert report.rejected == {"licence cc-by-nc-4.0": 5, "licence unknown": 1, "licence CC BY 4.0 + unknown": 1}
    with pytest.raises(EmptyViewError, match=r"cc-by-nc-4.0"):
        ids.export(dataset, path=tmp_path / "none", only_licenses=("mit",))


def test_the_card_shows_what_was_done(dataset: Any, photos: Path, tmp_path: Path) -> None:
    import yaml

    ids.ingest(dataset, photos)
    set_field(dataset, "quality.score", [i / len(dataset) for i in range(len(dataset))])
    set_field(dataset, "caption", [f"photo {i}" for i in range(len(dataset))])
    ids.export(dataset, path=tmp_path / "out", format="captions")
    text = (tmp_path / "out/README.md").read_text()
    matter = yaml.safe_load(text.split("---")[1])
    assert matter["pretty_name"] == dataset.name
    assert matter["task_categories"] == ["text-to-image"]
    assert matter["configs"][0]["data_files"][0]["split"] == "train"
    assert "**ingest**" in text
    assert str(photos) not in text
    for name in ("card/samples.png", "card/quality.png"):
        with Image.open(tmp_path / "out" / name) as image:
            assert image.width > 200


def test_videos_are_refused(dataset: Any, tmp_path: Path) -> None:
    import fiftyone as fo

    dataset.add_sample(fo.Sample(filepath=str(tmp_path / "a.mp4")))
    with pytest.raises(UsageError, match="only images"):
        ids.export(dataset, path=tmp_path / "out")
