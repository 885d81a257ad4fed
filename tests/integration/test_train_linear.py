"""The linear model: trained on embeddings of what people labelled, used on all images, measured on the test ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_idsynth as ids
from fiftyone_idsynth import fields
from fiftyone_idsynth.authorship import authors_of, declare_authors, written_by_people
from fiftyone_idsynth.errors import EmptyViewError, FieldError, ParameterError
from fiftyone_idsynth.learning.predictions import read_predictions, read_shares
from fiftyone_idsynth.learning.uncertainty import MEASURES
from fiftyone_idsynth.models.errors import BrokenModel, WrongModel
from fiftyone_idsynth.samples import set_fields

TRAINED, POOL = 200, 400


@pytest.fixture
def digits(dataset: Any) -> Any:
    """Handwritten digits as embeddings: 200 labelled, 200 not, and 200 labelled ones to test with."""
    from sklearn.datasets import load_digits

    images, classes = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images, classes = images[order], classes[order]
    samples = []
    for number in range(600):
        answered = number < TRAINED or number >= POOL
        samples.append(
            fo.Sample(
                filepath=f"/nowhere/digit-{number:03}.png",
                embedding=(images[number] / 16).astype(np.float32),
                ground_truth=fo.Classification(label=str(classes[number])) if answered else None,
                truth=str(classes[number]),
                tags=["test"] if number >= POOL else [],
            )
        )
    dataset.add_samples(samples, progress=False)
    return dataset


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_digits_are_learnt_predicted_and_measured(digits: Any, tmp_path: Path) -> None:
    before = digits.values("last_modified_at")
    trained = ids.train(digits, path=tmp_path / "a", progress=False)
    assert digits.values("last_modified_at") == before
    assert (trained.processed, trained.outputs["images"]) == (TRAINED, TRAINED)
    assert sum(trained.outputs["images_of_each_class"].values()) == TRAINED
    report = ids.predict(digits, model=str(tmp_path / "a"), progress=False)
    assert report.processed == 600
    measured = report.outputs["test"]
    assert measured["images"] == 200
    assert measured["accuracy"] > 0.88
    said, true = digits.match_tags("test").values(["classification.label", "truth"])
    assert measured["accuracy"] == pytest.approx(np.mean(np.equal(said, true)))
    assert "eval_classification" in digits.list_evaluations()
    results = digits.load_evaluation_results("eval_classification")
    assert results.metrics(average="macro")["fscore"] == pytest.approx(measured["f1"], abs=1e-5)
    label = digits.first().classification
    assert label.model == str(tmp_path / "a")
    assert len(label.scores) == 10
    assert sum(label.scores.values()) == pytest.approx(1)
    assert label.confidence == max(label.scores.values()) == label.scores[label.label]


def test_it_is_the_logistic_regression_of_scikit_learn(digits: Any, tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    from fiftyone_idsynth.learning.training.linear import SQUARED_NORM

    ids.train(digits, path=tmp_path / "a", penalty=2.0, progress=False)
    ids.predict(digits, model=str(tmp_path / "a"), progress=False)
    vectors, true = np.stack(digits.values("embedding")), np.array(digits.values("truth"))
    centred = vectors - vectors[:TRAINED].mean(axis=0)
    scaled = centred * np.sqrt(SQUARED_NORM / (centred[:TRAINED] ** 2).sum(axis=1).mean())
    peer = LogisticRegression(C=0.5, max_iter=1000).fit(scaled[:TRAINED], true[:TRAINED])
    wanted = peer.predict_proba(scaled)
    found = [[scores[name] for name in peer.classes_] for scores in digits.values("classification.scores")]
    assert np.allclose(found, wanted, atol=1e-3)


def test_select_uncertain_reads_the_predictions(digits: Any, tmp_path: Path) -> None:
    ids.train(digits, path=tmp_path / "a", progress=False)
    ids.predict(digits, model=str(tmp_path / "a"), progress=False)
    everything = digits.values("id")
    for measure in MEASURES:
        said = read_predictions(digits, everything, "classification", "Classification", measure, "max")
        assert np.isfinite(said.uncertainty).all()
    assert np.allclose(read_shares(digits, everything, "classification").sum(axis=1), 1)
    report = ids.select_uncertain(digits, count=7, progress=False)
    assert report.outputs["chosen"] == 7
    assert not digits.match_tags("to_label").exists("ground_truth").count()


def test_the_same_training_is_not_done_again_and_another_is_refused(digits: Any, tmp_path: Path) -> None:
    first = ids.train(digits, path=tmp_path / "a", progress=False)
    stamp = (tmp_path / "a" / "model.safetensors").stat().st_mtime_ns
    again = ids.train(digits, path=tmp_path / "a", progress=False)
    assert (again.processed, again.skipped) == (0, TRAINED)
    assert again.outputs == first.outputs
    assert (tmp_path / "a" / "model.safetensors").stat().st_mtime_ns == stamp
    ids.train(digits, path=tmp_path / "b", progress=False)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    with pytest.raises(ParameterError, match=r"penalty=1.0, not 3.0.*another path"):
        ids.train(digits, path=tmp_path / "a", penalty=3.0, progress=False)
    new = digits.skip(TRAINED).first()
    new["ground_truth"] = fo.Classification(label="3")
    new.save()
    with pytest.raises(ParameterError, match="1 are new"):
        ids.train(digits, path=tmp_path / "a", progress=False)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "mine.txt").write_text("mine")
    with pytest.raises(ParameterError, match="other files"):
        ids.train(digits, path=tmp_path / "c", progress=False)


def test_predicting_again_changes_nothing_and_people_are_not_overwritten(digits: Any, tmp_path: Path) -> None:
    ids.train(digits, path=tmp_path / "a", progress=False)
    ids.train(digits, path=tmp_path / "b", penalty=30.0, progress=False)
    ids.predict(digits, model=str(tmp_path / "a"), progress=False)
    mine = digits.skip(5).first()
    mine["classification"] = fo.Classification(label="mine")
    mine.save()
    gone = digits.skip(6).first()
    gone["classification"] = None
    gone.save()
    again = ids.predict(digits, model=str(tmp_path / "a"), progress=False)
    assert (again.processed, again.skipped) == (0, 600)
    other = ids.predict(digits, model=str(tmp_path / "b"), progress=False)
    assert other.outputs["left as people wrote them"] == 2
    assert other.processed == 598
    digits.reload()
    assert digits[mine.id].classification.label == "mine"
    assert digits[gone.id].classification is None
    assert set(written_by_people(digits, digits.values("id"), ["classification"])) == {mine.id, gone.id}


def test_what_is_never_trained_on(digits: Any, tmp_path: Path) -> None:
    fields.declare(digits, "lineage")
    rejected, child, machine, unanswered = list(digits.limit(4))
    rejected.tags.append("rejected")
    rejected.save()
    test = digits.match_tags("test").first()
    child["lineage"] = fo.DynamicEmbeddedDocument(parents=[test.id])
    child.save()
    declare_authors(digits, ["ground_truth"])
    note = authors_of({"ground_truth": machine.ground_truth})
    set_fields(digits, {path: {machine.id: text} for path, text in note.items()})
    unanswered["ground_truth"] = None
    unanswered.tags.append("labelled")
    unanswered.save()
    report = ids.train(digits, path=tmp_path / "a", progress=False)
    assert report.outputs["left_out"] == {
        "relatives of test images": 1, "labelled by a model": 1,
        "tagged as labelled, without an answer in ground_truth": 1,
    }  # fmt: skip
    record = json.loads((tmp_path / "a" / "training.json").read_text())
    used = set(record["images"])
    assert not used & {rejected.id, child.id, machine.id, unanswered.id}
    assert not used & set(digits.match_tags("test").values("id"))


def test_images_are_held_out_with_their_relatives(digits: Any, tmp_path: Path) -> None:
    groups = [str(number // 4) if number < TRAINED else None for number in range(600)]
    digits.add_sample_field("duplicate_group", fo.StringField)
    digits.set_values("duplicate_group", groups)
    report = ids.train(digits, path=tmp_path / "a", validation=0.25, progress=False)
    assert report.outputs["images"] + report.outputs["validation_images"] == TRAINED
    assert 40 <= report.outputs["validation_images"] <= 60
    assert report.outputs["validation"]["accuracy"] > 0.7
    images = json.loads((tmp_path / "a" / "training.json").read_text())["images"]
    held_out = {i for i, image in images.items() if image["validates"]}
    group_of = dict(zip(digits.values("id"), groups, strict=True))
    assert not {group_of[i] for i in held_out} & {group_of[i] for i in set(images) - held_out}
    # The split val takes the place of the share.
    digits.match_tags("test", bool=False).limit(20).tag_samples("val")
    report = ids.train(digits, path=tmp_path / "b", validation=0.25, progress=False)
    assert (report.outputs["images"], report.outputs["validation_images"]) == (180, 20)


def test_two_classes_and_a_threshold(digits: Any, tmp_path: Path) -> None:
    report = ids.train(digits, path=tmp_path / "a", classes=("8", "1"), progress=False)
    assert list(report.outputs["images_of_each_class"]) in (["8", "1"], ["1", "8"])
    assert report.outputs["left_out"]["of other classes"] == TRAINED - report.outputs["images"]
    found = ids.predict(digits, model=str(tmp_path / "a"), threshold=0.9, progress=False)
    assert set(found.outputs["classes"]) == {"1", "8"}
    assert found.outputs["without a class"] > 0
    assert any("does not know" in note and "3 (" in note for note in found.notes)
    right = digits.match({"truth": {"$in": ["1", "8"]}}).exists("classification")
    said, true = right.values(["classification.label", "truth"])
    assert np.mean(np.equal(said, true)) > 0.95


def test_what_is_wrong_is_said(digits: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"path": tmp_path / "a", "progress": False}
    with pytest.raises(ParameterError, match=r"embeddings_field='vector': there is no such field"):
        ids.train(digits, embeddings_field="vector", **options)
    with pytest.raises(ParameterError, match=r"classes='11': no answer in 'ground_truth' is of this class"):
        ids.train(digits, classes=("1", "11"), **options)
    with pytest.raises(FieldError, match="all 20 images to train on are of the class"):
        ids.train(digits.match({"ground_truth.label": "1"}).limit(20), **options)
    with pytest.raises(EmptyViewError, match="none of the 200 samples has an answer"):
        ids.train(digits.exists("ground_truth", False), **options)
    with pytest.raises(FieldError, match="answers_field='nothing'"):
        ids.train(digits, answers_field="nothing", **options)
    assert not (tmp_path / "a").exists()
    ids.train(digits, **options)
    model = str(tmp_path / "a")
    digits.add_sample_field("short", fo.VectorField)
    digits.set_values("short", [np.ones(3, np.float32)] * 600)
    with pytest.raises(ParameterError, match=r"vectors of 3 numbers, and .* was trained with 64"):
        ids.predict(digits, model=model, embeddings_field="short", progress=False)
    with pytest.raises(ParameterError, match="kept for exact and human labels"):
        ids.predict(digits, model=model, label_field="ground_truth", progress=False)
    (tmp_path / "a" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(BrokenModel, match="train it again"):
        ids.predict(digits, model=model, progress=False)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "note.txt").write_text("nothing")
    with pytest.raises(WrongModel, match="no classifier, detector or segmenter"):
        ids.predict(digits, model=str(tmp_path / "empty"), progress=False)


def test_without_test_images_it_is_said_that_nothing_was_measured(digits: Any, tmp_path: Path) -> None:
    ids.train(digits, path=tmp_path / "a", progress=False)
    view = digits.match_tags("test", bool=False)
    report = ids.predict(view, model=str(tmp_path / "a"), progress=False)
    assert "test" not in report.outputs
    assert any("no image with the tag 'test'" in note for note in report.notes)
