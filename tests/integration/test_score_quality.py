"""The stage score_quality on real photographs in the real database."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fiftyone_idsynth.errors import EmptyViewError, FieldError, ParameterError
from fiftyone_idsynth.measures import defects
from fiftyone_idsynth.measures.rating import MEASURES, TASKS
from fiftyone_idsynth.quality import metrics
from fiftyone_idsynth.quality.score import QualityWorker, score_quality


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One photo as it is, and with known defects."""
    from skimage import data

    photo = data.astronaut()[..., ::-1]
    noise = np.random.default_rng(0).normal(0, 30, photo.shape)
    made = {
        "clean.png": photo,
        "blurred.png": cv2.GaussianBlur(photo, (0, 0), 4),
        "noisy.png": np.clip(photo + noise, 0, 255).astype(np.uint8),
        "dark.png": (photo * 0.15).astype(np.uint8),
        "empty.png": np.full_like(photo, 90),
    }
    for name, pixels in made.items():
        cv2.imwrite(str(tmp_path / name), pixels)
    cv2.imwrite(str(tmp_path / "coarse.jpg"), photo, [cv2.IMWRITE_JPEG_QUALITY, 8])
    return tmp_path


def fill(dataset: Any, folder: Path) -> dict[str, Any]:
    import fiftyone as fo

    dataset.add_samples([fo.Sample(filepath=str(p)) for p in sorted(folder.iterdir())], progress=False)
    return by_name(dataset)


def by_name(dataset: Any) -> dict[str, Any]:
    dataset.reload()
    return {os.path.basename(sample.filepath): sample for sample in dataset}


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry per image that was measured."""
    calls: list[int] = []
    real = defects.measure

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(defects, "measure", counted)
    return calls


def test_values_scores_issues_and_tasks_are_written(dataset, folder):
    fill(dataset, folder)
    report = score_quality(dataset, progress=False)
    samples = by_name(dataset)
    assert report.processed == 6
    assert not report.failed
    clean = samples["clean.png"].quality
    assert clean.score > 0.7
    assert clean.issues == []
    assert clean.suits == list(TASKS)
    assert clean.noise < 4
    assert not clean.has_field("object_ratio")
    assert samples["noisy.png"].quality.noise == pytest.approx(30, rel=0.12)
    assert samples["coarse.jpg"].quality.jpeg_quality == 8
    expected = {"blurred": "blur", "noisy": "noise", "dark": "underexposure", "empty": "empty"}
    for name, issue in expected.items():
        assert issue in samples[name + ".png"].quality.issues, name
    assert "low_jpeg_quality" in samples["coarse.jpg"].quality.issues
    assert samples["empty.png"].quality.score == 0
    assert report.outputs["issues"]["noise"] == 1
    assert report.outputs["suits"]["classification"] >= report.outputs["suits"]["generation"] >= 1
    assert report.outputs["mean_score"] == pytest.approx(np.mean([s.quality.score for s in samples.values()]), abs=1e-6)


def test_fields_carry_their_meaning_and_the_run_is_recorded(dataset, folder):
    fill(dataset, folder)
    report = score_quality(dataset, progress=False)
    schema = dataset.get_field_schema(flat=True)
    for name, measure in MEASURES.items():
        assert schema[f"quality.{name}"].description == measure.help
    assert dataset.get_run_info(report.run_key).config.params["task"] == "detection"


def test_a_second_run_does_nothing(dataset, folder, decoded):
    fill(dataset, folder)
    score_quality(dataset, progress=False)
    before = dataset.values("last_modified_at")
    again = score_quality(dataset, progress=False)
    assert len(decoded) == 6
    assert (again.processed, again.skipped) == (0, 6)
    assert dataset.values("last_modified_at") == before


def test_another_task_or_threshold_judges_again_without_decoding(dataset, folder, decoded):
    fill(dataset, folder)
    score_quality(dataset, progress=False)
    strict = score_quality(dataset, task="generation", progress=False)
    assert strict.outputs["suits"]["detection"] >= 1
    lax = score_quality(dataset, thresholds={"detection": 0.0}, weights={"emptiness": 0}, progress=False)
    assert lax.outputs["suits"]["detection"] == 6
    score_quality(dataset, good={"noise": 40}, bad={"noise": 80}, progress=False)
    assert "noise" not in by_name(dataset)["noisy.png"].quality.issues
    assert len(decoded) == 6


def test_a_changed_file_is_measured_again(dataset, folder, decoded):
    fill(dataset, folder)
    score_quality(dataset, progress=False)
    shutil.copy(folder / "noisy.png", folder / "clean.png")
    report = score_quality(dataset, progress=False)
    assert (report.processed, report.skipped, len(decoded)) == (1, 5, 7)
    assert "noise" in by_name(dataset)["clean.png"].quality.issues


def test_a_bad_file_costs_only_itself(dataset, folder):
    (folder / "broken.png").write_bytes((folder / "clean.png").read_bytes()[:5000])
    (folder / "text.jpg").write_text("no image")
    fill(dataset, folder)
    (folder / "dark.png").unlink()
    report = score_quality(dataset, batch_size=8, progress=False)
    assert {os.path.basename(what) for what, _ in report.failed} == {"broken.png", "text.jpg", "dark.png"}
    samples = by_name(dataset)
    assert samples["clean.png"].quality.score > 0.7
    assert sum(s.quality is not None and s.quality.score is not None for s in samples.values()) == 5


def test_only_the_chosen_measures_are_written_and_count(dataset, folder):
    fill(dataset, folder)
    score_quality(dataset, metrics=("noise",), progress=False)
    quality = by_name(dataset)["empty.png"].quality
    assert quality.score == 1
    assert quality.noise == 0
    assert not quality.has_field("blur")
    score_quality(dataset, progress=False)
    assert by_name(dataset)["empty.png"].quality.score == 0


def test_the_object_ratio_decides_what_an_image_suits(dataset, folder):
    import fiftyone as fo

    for name in ("empty", "noisy", "dark", "blurred"):
        (folder / f"{name}.png").unlink()
    shutil.copy(folder / "clean.png", folder / "small.png")
    shutil.copy(folder / "clean.png", folder / "background.png")
    samples = fill(dataset, folder)
    for name, boxes in {"clean": [[0.2, 0.2, 0.6, 0.6]], "small": [[0.4, 0.4, 0.1, 0.1]], "background": []}.items():
        sample = samples[name + ".png"]
        sample["ground_truth"] = fo.Detections(detections=[fo.Detection(label="a", bounding_box=b) for b in boxes])
        sample.save()
    score_quality(dataset, label_field="ground_truth", progress=False)
    samples = by_name(dataset)
    assert samples["clean.png"].quality.object_ratio == pytest.approx(0.36, abs=0.002)
    assert samples["clean.png"].quality.suits == list(TASKS)
    assert samples["small.png"].quality.suits == ["detection"]
    assert samples["background.png"].quality.object_ratio == 0
    assert samples["background.png"].quality.suits == list(TASKS)
    assert dataset.count("quality.object_ratio") == 3
    score_quality(dataset, label_field="ground_truth", min_object_ratio={"classification": 0.005}, progress=False)
    assert by_name(dataset)["small.png"].quality.suits == ["classification", "detection"]
    with pytest.raises(FieldError, match="ground_truth"):
        score_quality(dataset, label_field="ground_truht", progress=False)


def test_rejecting_is_asked_for_and_gives_a_reason(dataset, folder):
    fill(dataset, folder)
    assert score_quality(dataset, progress=False).rejected == {}
    report = score_quality(dataset, reject=True, progress=False)
    samples = by_name(dataset)
    assert report.rejected["low_quality"] == sum("rejected" in s.tags for s in samples.values()) >= 4
    assert "rejected" not in samples["clean.png"].tags
    assert "noise" in samples["noisy.png"].rejected.detail
    assert samples["noisy.png"].rejected.stage == "score_quality"
    again = score_quality(dataset, reject=True, progress=False)
    assert again.rejected == {}


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"metrics": ("blurr",)}, r"did you mean 'blur'"),
        ({"task": "detecting"}, "Allowed: classification, detection, generation"),
        ({"thresholds": {"detect": 0.5}}, r"did you mean 'detection'"),
        ({"thresholds": {"detection": 5}}, "between 0 and 1"),
        ({"weights": {"noise": -1}}, "at least 0"),
        ({"good": {"niqqe": 1}}, "unknown"),
        ({"good": {"noise": 24}}, "must differ"),
    ],
)
def test_wrong_parameters_are_named_with_what_is_allowed(dataset, folder, params, problem):
    fill(dataset, folder)
    with pytest.raises(ParameterError, match=problem):
        score_quality(dataset, progress=False, **params)
    assert "quality" not in dataset.get_field_schema()


def test_an_empty_dataset_is_an_error(dataset):
    with pytest.raises(EmptyViewError):
        score_quality(dataset)


def test_the_worker_can_be_sent_to_another_process(folder):
    from fiftyone_idsynth.engine import Item
    from fiftyone_idsynth.engine.worker import run_batch

    worker = pickle.loads(pickle.dumps(QualityWorker(tuple(MEASURES))))
    worker.setup()
    [outcome] = run_batch(worker, [Item("1", str(folder / "clean.png"))])
    assert outcome.result == {
        f"quality.{name}": value
        for name, value in defects.measure(cv2.imread(str(folder / "clean.png"))[..., ::-1]).items()
    }


@pytest.mark.skipif(not metrics.has_pyiqa(), reason="needs the extra iqa")
def test_a_pyiqa_metric_is_written_beside_the_measures_and_its_licence_said(dataset, folder):
    (folder / "tiny.png").write_bytes(cv2.imencode(".png", np.zeros((3, 3, 3), np.uint8))[1].tobytes())
    fill(dataset, folder)
    report = score_quality(dataset, metrics=("defects", "piqe"), progress=False)
    samples = by_name(dataset)
    assert 0 < samples["clean.png"].quality.piqe < 100
    assert samples["clean.png"].quality.noise is not None
    assert any("Noncommercial" in note for note in report.notes)
    assert all("tiny.png" in what for what, _ in report.failed)
    assert "piqe" in dataset.get_field_schema(flat=True)["quality.piqe"].description
