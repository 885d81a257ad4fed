"""From a topic to an exported dataset, through a web on loopback and trained models: the plan, the recipe, the run."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

import fiftyone_idsynth as ids
from fiftyone_idsynth.errors import IdsynthError, UsageError
from tests.small_web import SmallWeb
from tests.zoo import shapes_world
from tests.zoo.common import MODELS

TOPIC = "red circle"
SIDE = 256
FIT = 20
INTRUDERS = 8


class ShapesWeb(SmallWeb):
    """Finds pictures of red circles, and some blue squares among them.

    Attributes:
        scenes: path of a picture -> what is drawn on it
    """

    def __init__(self) -> None:
        super().__init__(0, 0)
        self.scenes: dict[str, shapes_world.Scene] = {}
        drawn = iter(shapes_world.scenes(4321, 4000, 1))
        for number in range(FIT + INTRUDERS):
            wanted = ("blue", "square") if number % 3 == 2 and number // 3 < INTRUDERS else ("red", "circle")
            scene = next(s for s in drawn if (s.things[0].colour, s.things[0].shape) == wanted)
            path = f"/o/{number}.jpg"
            out = io.BytesIO()
            Image.fromarray(scene.image).resize((SIDE, SIDE), Image.Resampling.NEAREST).save(out, "JPEG", quality=95)
            self.photos[path], self.scenes[path] = out.getvalue(), scene
            self._openverse.append(path)

    def fits(self, url: str) -> bool:
        thing = self.scenes[url.removeprefix(self.url)].things[0]
        return (thing.colour, thing.shape) == ("red", "circle")


@pytest.fixture(scope="module")
def web() -> Iterator[ShapesWeb]:
    with ShapesWeb() as server:
        yield server


@pytest.fixture
def name() -> Iterator[str]:
    yield "built dataset"
    if fo.dataset_exists("built dataset"):
        fo.delete_dataset("built dataset")


def wishes(web: ShapesWeb, folder: Path, **more: Any) -> dict[str, Any]:
    options = {
        "collect.endpoints": f"openverse={web.url}", "collect.allowed_hosts": web.host, "collect.rate_per_host": "0",
        "collect.min_side": "64", "score_quality.reject": "false", **more.pop("options", {}),
    }  # fmt: skip
    return {
        "topic": TOPIC, "sources": ("openverse",), "count": FIT + INTRUDERS, "path": folder / "out",
        "matcher": str(MODELS / "clip"), "detector": str(MODELS / "clipseg"), "captioner": str(MODELS / "blip"),
        "tagger": str(MODELS / "wd14"), "options": options, "progress": False, **more,
    }  # fmt: skip


def iou(box: Any, truth: tuple[int, int, int, int]) -> float:
    x, y, w, h = (value * 64 for value in box)
    left, top, right, bottom = truth
    wide, high = min(x + w, right) - max(x, left), min(y + h, bottom) - max(y, top)
    shared = max(wide, 0) * max(high, 0)
    return shared / (w * h + (right - left) * (bottom - top) - shared)


def test_a_detector_s_dataset_from_nothing_but_a_topic(web: ShapesWeb, name: str, tmp_path: Path) -> None:
    given = wishes(web, tmp_path, options={"filter_irrelevant.negatives": "blue square, green triangle, yellow square"})
    report = ids.build(name, task="detection", **given)
    dataset = fo.load_dataset(name)
    left = dataset.match_tags("rejected", bool=False).values("source.image_url")
    assert sum(web.fits(url) for url in left) >= 0.8 * FIT
    assert sum(not web.fits(url) for url in left) <= 0.25 * INTRUDERS

    kind, exports = fo.types.YOLOv5Dataset, str(tmp_path / "out")
    exported = fo.Dataset.from_dir(dataset_type=kind, dataset_dir=exports, split="train")
    assert exported.default_classes == [TOPIC] or exported.distinct("ground_truth.detections.label") == [TOPIC]
    exported.delete()
    found = [
        max((iou(box, web.scenes[url.removeprefix(web.url)].things[0].box) for box in boxes or ()), default=0.0)
        for url, boxes in zip(*dataset.match_tags("rejected", bool=False).values(
            ["source.image_url", "detections.detections.bounding_box"]), strict=True) if web.fits(url)
    ]  # fmt: skip
    assert np.mean(found) > 0.6
    assert (tmp_path / "out" / "CREDITS.md").exists()
    recipe = Path(report.outputs["recipe"])
    assert recipe == tmp_path / "built-dataset.yaml"
    assert "- detect:" in recipe.read_text()

    before = dataset.values("last_modified_at")
    again = ids.build(name, task="detection", **given)
    assert again.created == 0
    assert dataset.values("last_modified_at") == before
    for step in ids.run_recipe(recipe, progress=False):
        assert (step.processed if step.stage != "collect" else step.created) == 0, "the recipe alone goes on as well"


def test_a_person_s_review_comes_before_split_and_export(web: ShapesWeb, name: str, tmp_path: Path) -> None:
    given = wishes(web, tmp_path, filter="none")
    report = ids.build(name, task="detection", review=True, **given)
    dataset = fo.load_dataset(name)
    assert dataset.has_saved_view("to_review")
    assert any("to_review" in note for note in report.notes)
    assert not (tmp_path / "out").exists()
    sample = dataset.match_tags("rejected", bool=False).first()
    sample.detections = fo.Detections(detections=[fo.Detection(label=TOPIC, bounding_box=[0.25, 0.25, 0.5, 0.5])])
    sample.save()
    ids.build(name, task="detection", **given)
    sample.reload()
    assert sample.detections.detections[0].bounding_box == [0.25, 0.25, 0.5, 0.5]
    assert (tmp_path / "out").exists()


def test_generated_images_join_the_training_split_only(web: ShapesWeb, name: str, tmp_path: Path) -> None:
    templates = "a large {subject} on {place}|a small {subject} on {place}"
    options = {"generate.steps": "12", "generate.templates": templates}
    given = wishes(web, tmp_path, filter="none", options=options, generated=6, generator=str(MODELS / "sd"))
    plan = ids.build(name, task="detection", dry_run=True, **given)
    assert plan.outputs["models"]["generate"] == str(MODELS / "sd")
    report = ids.build(name, task="detection", **given)
    assert report.created == FIT + INTRUDERS + 6
    dataset = fo.load_dataset(name)
    made = dataset.match_tags("synthetic")
    assert len(made) == 6
    assert all({"train", "red-circle"} <= set(tags) for tags in made.values("tags"))
    assert set(made.values("source.kind")) == {"generated"}
    assert made.exists("detections.detections").count() >= 4
    assert len(dataset.match_tags(["val", "test"])) > 0
    assert ids.build(name, task="detection", **given).created == 0


@pytest.mark.parametrize("task", ["classification", "generation", "segmentation"])
def test_other_tasks(web: ShapesWeb, name: str, tmp_path: Path, task: str) -> None:
    report = ids.build(name, task=task, filter="none", trigger_word="zkx", **wishes(web, tmp_path))
    assert report.created == FIT + INTRUDERS
    assert (tmp_path / "out").is_dir()
    dataset = fo.load_dataset(name)
    kept = dataset.match_tags("rejected", bool=False)
    if task == "generation":
        texts = [file.read_text() for file in (tmp_path / "out").rglob("*.txt")]
        assert len(texts) == len(kept)
        assert all(text.startswith("zkx, ") and ("red" in text or "blue" in text) for text in texts)
    elif task == "classification":
        assert {folder.name for folder in (tmp_path / "out").glob("*/*") if folder.is_dir()} >= {TOPIC}
    else:
        assert len(list((tmp_path / "out").glob("*/labels/*.png"))) == len(kept)


def test_the_plan_is_shown_first_and_fetches_nothing(web: ShapesWeb, name: str, tmp_path: Path) -> None:
    web.requests.clear()
    report = ids.build(name, dry_run=True, **wishes(web, tmp_path))
    assert report.outputs["queries"] == [f"en:{TOPIC}"]
    assert report.outputs["images at most"] == FIT + INTRUDERS
    assert report.outputs["hosts"][0] == web.host
    assert report.outputs["models"]["detect"] == str(MODELS / "clipseg")
    assert "minutes, roughly" in report.outputs
    assert any("- detect:" in line for line in report.outputs["recipe"])
    assert not web.requests
    assert not fo.dataset_exists(name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"options": {"detekt.threshold": "0.3"}}, "did you mean 'detect'"),
        ({"options": {"detect.treshold": "0.3"}}, "did you mean 'threshold'"),
        ({"options": {"detect.threshold": "7"}}, "must be between 0 and 1"),
        ({"detector": "/no/such/folder"}, "/no/such/folder"),
        ({"sources": ("pexels",)}, "PEXELS_API_KEY"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_fetched(
    web: ShapesWeb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], problem: str
) -> None:
    monkeypatch.delenv("PEXELS_API_KEY", raising=False)
    web.requests.clear()
    given = wishes(web, tmp_path, **more)
    if "sources" in more:
        given["options"].pop("collect.endpoints")
    with pytest.raises(IdsynthError, match=problem):
        ids.build("never-made", **given)
    assert not web.requests
    assert not list(tmp_path.iterdir())


def test_an_edited_recipe_is_never_overwritten(web: ShapesWeb, name: str, tmp_path: Path) -> None:
    (tmp_path / "built-dataset.yaml").write_text("dataset: mine\nstages: [deduplicate]\n")
    with pytest.raises(UsageError, match=r"another recipe.*idsynth run"):
        ids.build(name, **wishes(web, tmp_path))
    assert (tmp_path / "built-dataset.yaml").read_text().startswith("dataset: mine")
