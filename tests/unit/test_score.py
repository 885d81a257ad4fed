"""Ratings, the score, issues and what an image suits; and the names of metrics."""

from __future__ import annotations

import numpy as np
import pytest

from fiftyone_idsynth.errors import MissingExtraError, ParameterError, RefusedImage, UsageError
from fiftyone_idsynth.measures.rating import (
    MEASURES,
    OBJECT_RATIOS,
    TASKS,
    THRESHOLDS,
    Measure,
    Standard,
    judge,
    rate,
    with_overrides,
)
from fiftyone_idsynth.quality import metrics
from fiftyone_idsynth.quality.objects import object_ratio

FLAWLESS = {name: measure.good for name, measure in MEASURES.items()}
STANDARD = Standard(MEASURES)


@pytest.mark.parametrize(("value", "rating"), [(1, 1), (3, 1), (0.5, 0.5), (0, 0), (-4, 0), (None, None)])
def test_a_rating_runs_from_bad_to_good(value, rating):
    assert rate(value, Measure("", good=1, bad=0, weight=1, issue="")) == rating


def test_a_rating_runs_down_where_less_is_better():
    noise = MEASURES["noise"]
    assert rate(noise.good, noise) == 1
    assert rate(noise.bad + 1, noise) == 0
    assert rate((noise.good + noise.bad) / 2, noise) == pytest.approx(0.5)


def test_a_flawless_image_scores_1_and_suits_everything():
    verdict = judge(FLAWLESS, STANDARD)
    assert (verdict.score, verdict.issues, verdict.suits) == (1.0, (), TASKS)


@pytest.mark.parametrize("name", [n for n, m in MEASURES.items() if m.weight])
def test_one_severe_defect_decides(name):
    verdict = judge({**FLAWLESS, name: MEASURES[name].bad}, STANDARD)
    assert verdict.score == 0
    assert verdict.issues == (MEASURES[name].issue,)
    assert verdict.suits == ()


def test_several_mild_defects_add_up():
    mild = {n: m.good + 0.2 * (m.bad - m.good) for n, m in MEASURES.items()}
    verdict = judge(mild, STANDARD)
    assert verdict.issues == ()
    assert verdict.score < 0.3


def test_tasks_are_ever_stricter():
    assert THRESHOLDS["classification"] < THRESHOLDS["detection"] < THRESHOLDS["generation"]
    noise = MEASURES["noise"]
    some = {**FLAWLESS, "noise": noise.good + 0.4 * (noise.bad - noise.good)}
    assert judge(some, STANDARD).suits == ("classification", "detection")
    assert judge(some, Standard(MEASURES, "generation")).issues == ("noise",)
    assert judge(some, Standard(MEASURES, "detection")).issues == ()


def test_issues_are_listed_worst_first_and_motion_belongs_to_blur():
    bad = {**FLAWLESS, "noise": 17.0, "blur": 1.8, "motion_blur": 0.6}
    assert judge(bad, STANDARD).issues == ("blur", "motion_blur", "noise")
    assert judge({**FLAWLESS, "motion_blur": 0.6}, STANDARD).issues == ()


def test_measures_without_a_value_do_not_count():
    assert judge({**FLAWLESS, "blur": None}, STANDARD).score == 1
    assert judge({}, STANDARD).score is None


@pytest.mark.parametrize("task", TASKS)
def test_the_size_of_the_objects_decides_too(task):
    low, high = OBJECT_RATIOS[task]
    assert task in judge(FLAWLESS, STANDARD, (low + high) / 2).suits
    assert task not in judge(FLAWLESS, STANDARD, low / 2).suits
    assert task in judge(FLAWLESS, STANDARD, None).suits


def test_everything_can_be_overridden():
    measures = with_overrides(MEASURES, good={"noise": 0}, bad={"noise": 10}, weights={"blur": 0})
    assert rate(5, measures["noise"]) == 0.5
    assert judge({**FLAWLESS, "noise": 0.0, "blur": 99.0}, Standard(measures)).score == 1
    tolerant = Standard(MEASURES, thresholds={"detection": 0.0})
    assert "detection" in judge({**FLAWLESS, "noise": 99.0}, tolerant).suits


def test_defects_stands_for_all_built_in_measures():
    assert metrics.resolve(["defects", "blur"]) == (tuple(MEASURES), ())
    assert metrics.resolve(["noise", "blur"])[0] == ("blur", "noise")


def test_an_unknown_metric_is_answered_with_near_names_and_all_that_is_allowed():
    with pytest.raises(ParameterError, match=r"'blurr'.*did you mean 'blur'\? Allowed: defects, blur"):
        metrics.resolve(["blurr"])
    with pytest.raises(ParameterError, match="at least one metric"):
        metrics.resolve([])


def test_without_pyiqa_the_extra_and_its_licence_are_named(monkeypatch):
    monkeypatch.setattr(metrics, "has_pyiqa", lambda: False)
    assert "niqe" in metrics.names()
    with pytest.raises(MissingExtraError, match=r"(?s)Noncommercial.*fiftyone-idsynth\[iqa\]"):
        metrics.resolve(["niqe"])
    with pytest.raises(ParameterError, match=r"fiftyone-idsynth\[iqa\]"):
        metrics.resolve(["musiq"])


def test_field_names_are_plain():
    assert metrics.field_name("clipiqa+_rn50_512") == "clipiqa_plus_rn50_512"
    assert metrics.field_name("arniqa-tid") == "arniqa_tid"


@pytest.mark.skipif(not metrics.has_pyiqa(), reason="needs the extra iqa")
class TestPyiqa:
    def test_all_its_no_reference_metrics_are_offered_and_described(self):
        assert {"niqe", "brisque", "piqe", "liqe", "musiq"} <= set(metrics.names())
        assert not {"psnr", "ssim", "fid", "inception_score"} & set(metrics.names())
        for name in metrics.names()[1:]:
            described = metrics.describe(name)
            assert described.good != described.bad, name
        fields = [metrics.field_name(n) for n in metrics.names()]
        assert len(set(fields)) == len(fields)

    def test_the_direction_is_pyiqas(self):
        assert metrics.describe("niqe").good < metrics.describe("niqe").bad
        assert metrics.describe("musiq").good > metrics.describe("musiq").bad

    def test_missing_weights_are_named_and_not_downloaded(self, tmp_path):
        with pytest.raises(UsageError, match=r"niqe_modelparameters\.mat.*download_weights"):
            metrics.load("niqe", weights_dir=tmp_path)

    def test_weights_that_hold_code_are_refused(self, tmp_path):
        import pickle

        class Hostile:
            def __reduce__(self):
                return (tmp_path.joinpath("ran").touch, ())

        (tmp_path / "brisque_svm_weights.pth").write_bytes(pickle.dumps(Hostile()))
        with pytest.raises(UsageError, match="brisque"):
            metrics.load("brisque", weights_dir=tmp_path)
        assert not (tmp_path / "ran").exists()


def test_the_weights_folder_is_the_argument_then_the_variable_then_pyiqas_own(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert metrics.weights_folder() == tmp_path / "torch" / "hub" / "pyiqa"
    monkeypatch.setenv(metrics.WEIGHTS_VARIABLE, str(tmp_path / "other"))
    assert metrics.weights_folder() == tmp_path / "other"
    assert metrics.weights_folder(tmp_path / "given") == tmp_path / "given"


def detections(boxes, files=None, masks=None):
    return {"gt.detections.bounding_box": boxes, "gt.detections.mask_path": files, "gt.detections.mask": masks}


def test_the_object_ratio_counts_overlaps_once_and_cuts_at_the_image():
    assert object_ratio(detections([[0, 0, 0.5, 0.5]])) == pytest.approx(0.25, abs=0.002)
    assert object_ratio(detections([[0, 0, 0.5, 0.5], [0.25, 0, 0.5, 0.5]])) == pytest.approx(0.375, abs=0.002)
    assert object_ratio(detections([[0.5, 0.5, 1, 1]])) == pytest.approx(0.25, abs=0.002)
    assert object_ratio(detections([])) == 0
    assert object_ratio(detections(None)) is None


def test_the_object_ratio_follows_masks_polygons_and_segmentations(tmp_path):
    import cv2

    disk = cv2.circle(np.zeros((100, 100), np.uint8), (50, 50), 50, 255, -1)
    cv2.imwrite(str(tmp_path / "disk.png"), disk)
    full, part = [0, 0, 1, 1], np.mean(disk > 0)
    assert object_ratio(detections([full], [str(tmp_path / "disk.png")])) == pytest.approx(part, abs=0.01)
    assert object_ratio(detections([full], [None], [disk > 0])) == pytest.approx(part, abs=0.01)
    assert object_ratio({"s.mask": None, "s.mask_path": str(tmp_path / "disk.png")}) == pytest.approx(part)
    assert object_ratio({"s.mask": None, "s.mask_path": None}) is None
    triangle = [[[(0, 0), (1, 0), (0, 1)]]]
    assert object_ratio({"p.polylines.points": triangle}) == pytest.approx(0.5, abs=0.01)
    with pytest.raises(RefusedImage, match="missing_mask"):
        object_ratio(detections([full], [str(tmp_path / "gone.png")]))


def test_the_documentation_lists_every_measure_and_threshold_as_it_is() -> None:
    from pathlib import Path

    from fiftyone_idsynth.measures.rating import MEASURES, OBJECT_RATIOS, THRESHOLDS

    text = (Path(__file__).parents[2] / "docs" / "quality.md").read_text(encoding="utf-8")
    for name, m in MEASURES.items():
        assert f"| `{name}` | {m.help} | {m.good:g} | {m.bad:g} | {m.weight:g} | `{m.issue}` |" in text
    for task, threshold in THRESHOLDS.items():
        low, high = OBJECT_RATIOS[task]
        assert f"| {task} | {threshold:g} | {low:g} to {high:g} |" in text
