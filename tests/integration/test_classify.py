"""The stage classify: right classes by texts and by trained models, weak labels, people's classes, and errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

from fiftyone_idsynth import fields
from fiftyone_idsynth.annotation.classes import classify
from fiftyone_idsynth.errors import FieldError, ParameterError
from fiftyone_idsynth.models.errors import ModelNotFound, WrongModel
from fiftyone_idsynth.samples import set_fields
from tests.integration.shapes import broken_image, fill, scenes_of_one, trained
from tests.models import tiny
from tests.zoo.shapes_world import COLOURS

BY_COLOUR = tuple(f"{colour}={colour} shape|{colour}" for colour in COLOURS)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small models are faster without a pool of threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def clip() -> str:
    return trained("clip")


def test_texts_find_the_right_colours(dataset: Any, tmp_path: Path, clip: str) -> None:
    colours = fill(dataset, tmp_path, scenes_of_one(24))
    report = classify(dataset, model=clip, classes=BY_COLOUR, progress=False)
    found = dataset.values("classification.label")
    assert sum(a == b for a, b in zip(found, colours, strict=True)) >= 22
    assert sum(report.outputs["classes"].values()) == 24
    for label in dataset.values("classification"):
        assert set(label.scores) == set(COLOURS)
        assert sum(label.scores.values()) == pytest.approx(1, abs=1e-5)
        assert label.confidence == max(label.scores.values()) == label.scores[label.label]
        assert label.model == clip
        assert len(label.revision) >= 12
    assert list(dataset.get_run_info(report.run_key).config.models) == [clip]


def test_a_second_run_skips_all_and_other_texts_run_again(dataset: Any, tmp_path: Path, clip: str) -> None:
    fill(dataset, tmp_path, scenes_of_one(3))
    classify(dataset, model=clip, classes=("red", "blue"), progress=False)
    before = dataset.values("last_modified_at")
    again = classify(dataset, model=clip, classes=("red", "blue"), progress=False)
    assert (again.processed, again.skipped) == (0, 3)
    assert dataset.values("last_modified_at") == before
    assert classify(dataset, model=clip, classes=("red", "green"), progress=False).processed == 3
    assert set(dataset.first().classification.scores) == {"red", "green"}


def test_below_the_threshold_there_is_no_class_or_another(dataset: Any, tmp_path: Path, clip: str) -> None:
    fill(dataset, tmp_path, scenes_of_one(4))
    unsure = ("circle=an image", "square=an image of")  # two texts that say the same of every picture
    report = classify(dataset, model=clip, classes=unsure, threshold=1.0, progress=False)
    assert report.outputs == {"classes": {}, "without a class": 4}
    assert dataset.values("classification") == [None] * 4
    report = classify(dataset, model=clip, classes=unsure, threshold=1.0, other="unsure", progress=False)
    assert report.outputs["classes"] == {"unsure": 4}
    label = dataset.first().classification
    assert label.confidence == pytest.approx(1 - max(label.scores.values()))


def test_classes_of_people_stay(dataset: Any, tmp_path: Path, clip: str) -> None:
    fill(dataset, tmp_path, scenes_of_one(3))
    fields.declare_label(dataset, "classification", "Classification")
    first = dataset.first()
    first.classification = fo.Classification(label="by hand")
    first.save()
    report = classify(dataset, model=clip, classes=("red", "blue"), progress=False)
    assert report.outputs["left as people wrote them"] == 1
    second, third = dataset.skip(1)
    second.classification.label = "corrected"
    third.classification = None
    second.save()
    third.save()
    classify(dataset, model=clip, classes=("red", "green"), progress=False)
    assert dataset.values("classification.label") == ["by hand", "corrected", None]


def test_a_broken_image_costs_only_itself(dataset: Any, tmp_path: Path, clip: str) -> None:
    fill(dataset, tmp_path, scenes_of_one(2))
    dataset.add_sample(fo.Sample(filepath=broken_image(tmp_path)))
    more = tmp_path / "more"
    more.mkdir()
    fill(dataset, more, scenes_of_one(2, seed=99))
    report = classify(dataset, model=clip, classes=("red", "blue"), batch_size=5, progress=False)
    assert [label is not None for label in dataset.values("classification")] == [True, True, False, True, True]
    assert [Path(what).name for what, _ in report.failed] == ["broken.png"]


def test_siglip_judges_each_class_alone(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path, scenes_of_one(2))
    model = str(tiny.siglip(tmp_path / "siglip"))
    classify(dataset, model=model, classes=("red",), templates=("a photo of a {}", "{}"), progress=False)
    assert all(0 < label.confidence < 1 for label in dataset.values("classification"))


def test_a_trained_classifier_gives_its_best_class(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path, scenes_of_one(3))
    model = str(tiny.vit_classifier(tmp_path / "vit"))
    classify(dataset, model=model, progress=False)
    label = dataset.first().classification
    assert set(label.scores) == set(tiny.LABELS)
    assert sum(label.scores.values()) == pytest.approx(1, abs=1e-4)
    assert label.label == max(label.scores, key=label.scores.get)
    own = dict(label.scores)

    classify(dataset, model=model, classes=["pet=cat|Dog", "crane=crane, bird|crane, machine"], progress=False)
    label = dataset.first().classification
    assert label.scores["pet"] == pytest.approx(own["cat"] + own["dog"])
    assert label.scores["crane"] == pytest.approx(own["crane, bird"] + own["crane, machine"])


def test_named_tags_of_a_tagger_are_classes(dataset: Any, tmp_path: Path) -> None:
    colours = fill(dataset, tmp_path, scenes_of_one(12))
    classify(dataset, model=trained("wd14"), classes=tuple(COLOURS), progress=False)
    assert dataset.values("classification.label") == colours


def test_what_is_wrong_is_said_before_anything_runs(dataset: Any, tmp_path: Path, clip: str) -> None:
    fill(dataset, tmp_path, scenes_of_one(1))
    vit = str(tiny.vit_classifier(tmp_path / "vit"))
    for kind, message, given in [
        (ModelNotFound, "no-such-folder", {"model": str(tmp_path / "no-such-folder"), "classes": ("a", "b")}),
        (WrongModel, "not a matcher.*finder", {"model": trained("clipseg"), "classes": ("a", "b")}),
        (ParameterError, "name the classes", {"model": clip}),
        (ParameterError, "two or more", {"model": clip, "classes": ("red",)}),
        (ParameterError, "many tags", {"model": trained("wd14")}),
        (ParameterError, "does not know it: did you mean 'cat'", {"model": vit, "classes": ("catt",)}),
        (ParameterError, "must have {}", {"model": clip, "classes": ("red", "blue"), "templates": ("a photo",)}),
        (ParameterError, "named twice", {"model": clip, "classes": ("red", "red=crimson")}),
        (ParameterError, "is one of the classes", {"classes": ("a", "b"), "other": "a", "threshold": 0.5}),
        (ParameterError, "set one above 0", {"classes": ("a", "b"), "other": "c"}),
        (ParameterError, "kept for exact and human", {"label_field": "ground_truth"}),
        (ParameterError, "name the classes", {"method": "weak_labels"}),
        (FieldError, "collect writes", {"method": "weak_labels", "classes": ("a",)}),
    ]:
        with pytest.raises(kind, match=message):
            classify(dataset, progress=False, **given)
    assert dataset.list_runs() == []
    assert not dataset.has_field("classification")


def test_words_of_the_source_become_classes_without_a_model(
    dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fiftyone_idsynth.models import loading

    monkeypatch.setattr(loading, "find_model", lambda *_: pytest.fail("a model was loaded"))
    fill(dataset, tmp_path, scenes_of_one(4))
    fields.declare(dataset, "source")
    one, two, three, four = dataset.values("id")
    set_fields(dataset, {
        "source.title": {one: "A Red Panda and a cat", two: "IMG_1234", three: "scattered"},
        "source.keywords": {two: ["animal", "red", "panda", "Cats"]},
        "source.query": {three: "red-panda photo"},
    })  # fmt: skip
    classes = ("red panda", "cat=cat|cats")
    report = classify(dataset, method="weak_labels", classes=classes, progress=False)
    # Keywords are read one by one: "red" and "panda" are no red panda.
    assert dataset.values("classification.label") == ["red panda", "cat", "red panda", None]
    assert dataset.values("classification.confidence") == [0.5, 1.0, 1.0, None]
    assert dataset.values("classification.model") == ["source.title", "source.keywords", "source.query", None]
    assert report.outputs == {"classes": {"red panda": 2, "cat": 1}, "without a class": 1}
    assert classify(dataset, method="weak_labels", classes=classes, progress=False).skipped == 4

    report = classify(
        dataset, method="weak_labels", classes=classes, weak_from="query, title", threshold=0.6, other="unclear",
        progress=False,
    )  # fmt: skip
    assert dataset.values("classification.label") == ["unclear", "unclear", "red panda", "unclear"]

    set_fields(dataset, {"source.query": {four: "a cat"}})
    assert classify(
        dataset, method="weak_labels", classes=classes, weak_from="query, title", threshold=0.6, other="unclear",
        progress=False,
    ).processed == 1  # fmt: skip
    assert dataset[four].classification.label == "cat"
