"""Repair on a real database with a small trained diffusion model and a tagger that sees blur."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fiftyone_idsynth.enhancement.repair import repair as stage
from fiftyone_idsynth.errors import ParameterError, UsageError
from fiftyone_idsynth.media import read_image
from tests.integration.shapes import broken_image, scenes_of_one, trained
from tests.models.tiny_yolo import node, value, write_model
from tests.zoo import judge
from tests.zoo import shapes_world as world

MEASURES = ("blur", "noise", "impulse_noise")


@pytest.fixture(scope="module")
def model() -> str:
    return trained("sd")


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tagger that calls a picture blurry if its steepest change (Laplacian of the colours' mean) is below 11."""
    folder = tmp_path_factory.mktemp("tagger")
    laplacian = np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]], np.float32) / 3
    constants = {
        "kernel": np.broadcast_to(laplacian, (1, 3, 3, 3)).copy(),
        "weights": np.array([[0, -1, 1]], np.float32),
        "bias": np.array([9, 11, -11], np.float32),
    }
    nodes = [
        node("Transpose", ["input"], "planes", perm=[0, 3, 1, 2]),
        node("Conv", ["planes", "kernel"], "changes"),
        node("Abs", ["changes"], "sizes"),
        node("ReduceMax", ["sizes"], "steepest", axes=[2, 3], keepdims=0),
        node("MatMul", ["steepest", "weights"], "product"),
        node("Add", ["product", "bias"], "scores"),
        node("Sigmoid", ["scores"], "output"),
    ]
    shape = [value("input", ("batch", 64, 64, 3))]
    write_model(folder / "model.onnx", nodes, constants, shape, [value("output", ("batch", 3))])
    rows = [
        ("tag_id", "name", "category", "count"),
        (1, "general", 9, 0),
        (2, "blurry", 0, 9),
        (3, "sharp_edges", 0, 9),
    ]
    with open(folder / "selected_tags.csv", "w", newline="") as opened:
        csv.writer(opened).writerows(rows)
    return str(folder)


def tags(*names: str) -> Any:
    import fiftyone as fo

    return fo.Classifications(classifications=[fo.Classification(label=name, confidence=0.9) for name in names])


def sample_of(scene: world.Scene, path: Path, picture: np.ndarray, *names: str, **more: Any) -> Any:
    """A picture of one shape, with tags, box and mask."""
    import fiftyone as fo

    cv2.imwrite(str(path), picture[..., ::-1])
    thing = scene.things[0]
    x0, y0, x1, y1 = thing.box
    box = fo.Detection(label=thing.shape, bounding_box=[x0 / 64, y0 / 64, (x1 - x0) / 64, (y1 - y0) / 64])
    return fo.Sample(
        filepath=str(path), ground_truth=fo.Detections(detections=[box]),
        shapes=fo.Segmentation(mask=cv2.resize(thing.mask.astype(np.uint8), picture.shape[1::-1])),
        content_tags=tags(*names, thing.size, thing.colour, thing.shape), **more,
    )  # fmt: skip


@pytest.fixture
def scenes(dataset: Any, tmp_path: Path) -> Any:
    """Two blurred pictures that are tagged so, a noisy one of odd size whose noise was measured, and a good one."""
    first, second, third, fourth = scenes_of_one(4)
    rng = np.random.default_rng(0)
    noisy = np.clip(fourth.image[:61, :59] + rng.normal(0, 18, (61, 59, 3)), 0, 255).astype(np.uint8)
    samples = [
        sample_of(
            first, tmp_path / "0.png", cv2.GaussianBlur(first.image, (0, 0), 2), "Blurry", tags=["train", "mine"]
        ),
        sample_of(second, tmp_path / "1.png", cv2.GaussianBlur(second.image, (0, 0), 2), "blurry", tags=["test"]),
        sample_of(third, tmp_path / "2.png", third.image),
        sample_of(fourth, tmp_path / "3.png", noisy),
    ]
    dataset.add_samples(samples, progress=False)
    return dataset


def repair(samples: Any, model: str, tagger: str | None, **options: Any) -> Any:
    defaults = {"model": model, "tagger": tagger, "steps": 20, "guidance": 4.0, "measures": MEASURES,
                "task": "classification", "progress": False}  # fmt: skip
    return stage(samples, **{**defaults, **options})


def made(dataset: Any) -> Any:
    from fiftyone import ViewField as F

    return dataset.match(F("source.kind") == "enhanced") if dataset.has_field("source") else dataset.limit(0)


def score(pixels: np.ndarray) -> float:
    from fiftyone_idsynth.measures import defects, rating

    values = defects.measure(pixels)
    verdict = rating.judge(
        {name: values[name] for name in MEASURES}, rating.Standard({name: rating.MEASURES[name] for name in MEASURES})
    )
    return verdict.score or 0.0


def test_blurred_pictures_become_sharp_and_better_and_the_originals_stay(scenes: Any, model: str, tagger: str) -> None:
    before = {
        sample.id: (Path(sample.filepath).read_bytes(), sample.ground_truth, sample.content_tags) for sample in scenes
    }
    report = repair(scenes, model, tagger, negative_prompt="low quality")
    assert (report.created, report.failed) == (2, [])
    assert (report.outputs["with defects"], report.outputs["no better"]) == (2, 0)
    assert report.outputs["defects before"] == {"blurry": 2}
    assert report.outputs["defects left"] == {}
    assert report.outputs["mean score"] > report.outputs["mean score before"] + 0.3
    for sample in made(scenes):
        parent = scenes[sample.lineage.parents[0]]
        old, new = read_image(parent.filepath).pixels, read_image(sample.filepath).pixels
        assert old.shape == new.shape
        assert judge.sharpness(new) > 1.3 * judge.sharpness(old)
        assert score(new) > score(old) + 0.2
        colour = parent.content_tags.classifications[2].label
        assert judge.colour_of(new) == colour
        mask = parent.shapes.mask > 0
        assert judge.overlap(judge.cover(new), mask) > 0.7
        (label,) = sample.ground_truth.detections
        assert label.bounding_box == parent.ground_truth.detections[0].bounding_box
        assert (label.inherited, label.inherited_from) == (True, parent.id)
        np.testing.assert_array_equal(sample.shapes.mask, parent.shapes.mask)
        assert parent.content_tags.classifications[0].label.lower() == "blurry"
        assert "blurry" not in [tag.label.lower() for tag in sample.content_tags.classifications]
        params = sample.lineage.params
        assert "blurry" not in params["prompt"].lower()
        assert colour in params["prompt"]
        assert params["negative_prompt"] == "blurry, low quality"
        assert (params["strength"], params["defects_left"]) == (pytest.approx(0.3 + 0.1 * params["round"]), [])
        assert params["score"] > params["score_before"]
        assert sample.tags == ["synthetic", parent.tags[0]]
        assert sample.lineage.stage == "repair"
    for sample_id, (content, boxes, its_tags) in before.items():
        assert Path(scenes[sample_id].filepath).read_bytes() == content
        assert scenes[sample_id].ground_truth == boxes
        assert scenes[sample_id].content_tags == its_tags
        assert "rejected" not in scenes[sample_id].tags


def test_what_does_not_get_better_is_not_added_and_not_tried_again(
    scenes: Any, model: str, tagger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fiftyone_idsynth.painting import Painter

    good = scenes.skip(2).first()
    good.content_tags = tags("watermark", "red")  # it is a flawless drawing: painting it anew costs sharpness
    good.save()
    calls = []
    paint = Painter.paint
    monkeypatch.setattr(Painter, "paint", lambda self, *rest: calls.append(rest) or paint(self, *rest))
    view = scenes.select(good.id)
    options = {"measures": ("impulse_noise",), "max_rounds": 2}
    report = repair(view, model, tagger, **options)
    assert (report.created, report.failed) == (0, [])
    assert (report.outputs["with defects"], report.outputs["no better"]) == (1, 1)
    assert len(calls) == 2  # both rounds
    assert not made(scenes).count()
    again = repair(view, model, tagger, **options)
    assert (again.created, again.skipped, again.outputs["no better"], len(calls)) == (0, 1, 1, 2)
    assert repair(view, model, tagger, dry_run=True, **options).outputs["images to make"] == 0
    good.reload()
    good.content_tags = tags("watermark", "green")  # something changed
    good.save()
    repair(view, model, tagger, **options)
    assert len(calls) == 4


def test_measured_issues_count_and_any_size_stays_exactly(scenes: Any, model: str) -> None:
    from fiftyone_idsynth.quality.score import score_quality

    score_quality(scenes, metrics=MEASURES, task="classification", progress=False)
    noisy = scenes.skip(3).first()
    assert "noise" in noisy.quality.issues
    report = repair(scenes.select(noisy.id), model, None)
    assert (report.created, report.failed) == (1, [])
    sample = made(scenes).first()
    new = read_image(sample.filepath).pixels
    assert new.shape == (61, 59, 3)
    assert score(new) > score(read_image(noisy.filepath).pixels)
    assert "noise" in sample.lineage.params["defects"]
    np.testing.assert_array_equal(sample.shapes.mask, noisy.shapes.mask)


def test_an_image_that_was_made_smaller_must_beat_the_original_made_smaller(
    dataset: Any, model: str, tagger: str, tmp_path: Path
) -> None:
    scene = scenes_of_one(2)[1]
    large = cv2.resize(cv2.GaussianBlur(scene.image, (0, 0), 2), (310, 230), interpolation=cv2.INTER_CUBIC)
    dataset.add_sample(sample_of(scene, tmp_path / "large.png", large, "blurry"))
    repair(dataset, model, tagger)
    for sample in made(dataset):
        new = read_image(sample.filepath).pixels
        assert new.shape == (71, 96, 3)
        assert sample.shapes.get_mask().shape == (71, 96)
        assert score(new) > score(cv2.resize(large, (96, 71), interpolation=cv2.INTER_AREA))
    assert made(dataset).count() == 1


def test_a_rerun_makes_nothing_and_originals_may_be_rejected(scenes: Any, model: str, tagger: str) -> None:
    repair(scenes, model, tagger)
    again = repair(scenes, model, tagger, reject_originals=True)
    assert (again.created, again.skipped) == (0, 2)
    assert again.rejected == {"repaired": 2}
    for sample in made(scenes):
        parent = scenes[sample.lineage.parents[0]]
        assert "rejected" in parent.tags
        assert (parent.rejected.reason, parent.rejected.other) == ("repaired", sample.id)


def test_batches_do_not_matter(scenes: Any, model: str, tagger: str) -> None:
    repair(scenes, model, tagger, batch_size=1)
    alone = set(made(scenes).values("lineage.key"))
    sharp = {key: judge.sharpness(read_image(path).pixels) for key, path in zip(
        *made(scenes).values(["lineage.key", "filepath"]), strict=True)}  # fmt: skip
    scenes.delete_samples(made(scenes))
    repair(scenes, model, tagger, batch_size=3)
    assert set(made(scenes).values("lineage.key")) == alone
    for key, path in zip(*made(scenes).values(["lineage.key", "filepath"]), strict=True):
        assert judge.sharpness(read_image(path).pixels) == pytest.approx(sharp[key], rel=0.02)


def test_a_dry_run_writes_nothing(scenes: Any, model: str, tagger: str) -> None:
    before = scenes.count(), scenes.list_runs(), sorted(scenes.get_field_schema(flat=True))
    report = repair(scenes, model, tagger, dry_run=True)
    assert report.outputs["images to make"] == 2
    assert report.outputs["defects"] == {"blurry": 2}
    assert len(report.outputs["prompts"]) == 2
    assert report.outputs["seconds"] > 0
    assert (scenes.count(), scenes.list_runs(), sorted(scenes.get_field_schema(flat=True))) == before


def test_one_bad_image_costs_only_itself(scenes: Any, model: str, tagger: str, tmp_path: Path) -> None:
    import fiftyone as fo

    scenes.add_sample(fo.Sample(filepath=broken_image(tmp_path), content_tags=tags("blurry")))
    report = repair(scenes, model, tagger)
    assert report.created == 2
    assert [why.partition(":")[0] for _, why in report.failed] == ["truncated"]


def test_wrong_input_is_refused(scenes: Any, model: str, tagger: str) -> None:
    with pytest.raises(ParameterError, match="steps x strength"):
        repair(scenes, model, tagger, strength=0.04)
    with pytest.raises(ParameterError, match="blr"):
        repair(scenes, model, tagger, measures=("blr",))
    scenes.delete_sample_field("content_tags")
    with pytest.raises(UsageError, match="run tag or score_quality first"):
        repair(scenes, model, tagger)


def test_nothing_to_repair_is_no_error(scenes: Any, model: str, tagger: str) -> None:
    report = repair(scenes, model, tagger, defects=("watermark",))
    assert (report.created, report.outputs["with defects"]) == (0, 0)
