"""The demo, as the README promises it: a finished dataset without network, twice, and the exports are right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

from fiftyone_idsynth.demo import run_demo
from fiftyone_idsynth.errors import UsageError


def test_the_demo_makes_a_dataset_and_running_it_again_changes_nothing(dataset: Any, tmp_path: Path) -> None:
    lines: list[str] = []
    reports = run_demo(tmp_path / "demo", dataset=dataset.name, progress=False, say=lines.append)
    assert [report.stage for report in reports] == [
        "ingest", "ingest", "ingest", "score_quality", "deduplicate", "compose", "split", "export", "export",
    ]  # fmt: skip
    assert not [failure for report in reports for failure in report.failed]
    assert "fiftyone app launch" in lines[-1]
    dataset.reload()
    composed = dataset.match_tags("composed")
    assert len(composed) == 24 * 4
    rejected = dataset.load_saved_view("rejected")
    names = {
        Path(path).stem: reason for path, reason in zip(*rejected.values(["filepath", "rejected.reason"]), strict=True)
    }
    assert names["blurred"] == names["dark"] == "low_quality"
    assert names["china_small"] == "near_duplicate"
    assert "exact_duplicate" in (names.get("rocket"), names.get("rocket_again"))

    by_split = {split: composed.match_tags(split) for split in ("train", "val", "test")}
    parents = {split: {p for ps in view.values("lineage.parents") for p in ps} for split, view in by_split.items()}
    assert all(parents.values())
    assert not parents["train"] & parents["test"]
    assert not parents["train"] & parents["val"]
    for kind in (fo.types.YOLOv5Dataset, fo.types.COCODetectionDataset):
        folder = tmp_path / "demo" / "exports" / ("yolo" if kind is fo.types.YOLOv5Dataset else "coco")
        for split, view in by_split.items():
            options = {"split": split} if kind is fo.types.YOLOv5Dataset else {"label_types": ["detections"]}
            where = folder if "split" in options else folder / split
            loaded = fo.Dataset.from_dir(
                dataset_dir=str(where), dataset_type=kind, label_field="ground_truth", **options
            )
            assert len(loaded) == len(view)
            assert loaded.count("ground_truth.detections") == view.count("ground_truth.detections") > 0
            loaded.delete()
    manifest = json.loads((tmp_path / "demo" / "exports" / "coco" / "idsynth.json").read_text())
    assert manifest["images"] == 96

    modified = dataset.values("last_modified_at")
    again = run_demo(tmp_path / "demo", dataset=dataset.name, progress=False, say=lines.append)
    assert sum(report.processed + report.created for report in again) == 0
    assert dataset.values("last_modified_at") == modified


def test_the_demo_does_not_write_into_a_folder_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="has other files in it"):
        run_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
