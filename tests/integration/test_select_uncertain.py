"""Which images ``select_uncertain`` chooses in a dataset, and what it writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_idsynth as ids
from fiftyone_idsynth import fields
from fiftyone_idsynth.authorship import authors_of, declare_authors
from fiftyone_idsynth.errors import FieldError, MissingExtraError, ParameterError
from fiftyone_idsynth.samples import Rejection, reject, set_fields
from tests.integration.shapes import fill, scenes_of_one, trained

NAMES = ("cat", "dog", "elk")


def predicted(doubt: float, name: str = "cat") -> fo.Classification:
    """A class with scores: a doubt of 0 is sure, one of 1 is torn between two classes."""
    other = NAMES[(NAMES.index(name) + 1) % 3]
    scores = {name: 1 - doubt / 2, other: doubt / 2}
    return fo.Classification(label=name, confidence=scores[name], scores=scores)


@pytest.fixture
def pool(dataset: Any) -> Any:
    """Sixty images in three clumps of twenty; those that were added later are more uncertain."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(60):
        clump = number % 3
        vector = (np.eye(4)[clump] * 10 + rng.normal(0, 0.1, 4)).astype(np.float32)
        samples.append(
            fo.Sample(
                filepath=f"/tmp/none-{number:02}.jpg",
                classification=predicted(number / 60, NAMES[clump]),
                embedding=vector,
            )
        )
    dataset.add_samples(samples, progress=False)
    return dataset


def numbers(view: Any) -> list[int]:
    return [int(path[-6:-4]) for path in view.values("filepath")]


def chosen(dataset: Any, tag: str = "to_label") -> list[int]:
    return sorted(numbers(dataset.match_tags(tag)))


def test_the_most_uncertain_are_tagged_and_shown_first(pool: Any) -> None:
    report = ids.select_uncertain(pool, count=5, strategy="uncertain")
    assert chosen(pool) == [55, 56, 57, 58, 59]
    assert numbers(pool.load_saved_view("to_label")) == [59, 58, 57, 56, 55]
    assert pool.values("uncertainty") == pytest.approx([number / 60 for number in range(60)])
    assert pool.get_field("uncertainty").description
    assert report.outputs["chosen"] == 5
    assert report.outputs["left to choose"] == 55
    assert report.outputs["classes of the chosen, by the model"] == {"dog": 2, "elk": 2, "cat": 1}
    assert report.outputs["mean uncertainty"]["chosen"] > report.outputs["mean uncertainty"]["all"]
    assert pool.get_run_info(report.run_key).config.seed == 51


def test_the_default_chooses_of_each_kind_and_the_same_again(pool: Any) -> None:
    first = ids.select_uncertain(pool, count=6)
    picked = chosen(pool)
    assert len(picked) == 6
    assert {number % 3 for number in picked} == {0, 1, 2}
    assert 59 in picked
    again = ids.select_uncertain(pool, count=6)
    assert chosen(pool) == picked
    assert first.processed == 60
    assert (again.processed, again.skipped) == (0, 60)
    ids.select_uncertain(pool.shuffle(), count=6)
    assert chosen(pool) == picked


def test_a_new_batch_takes_the_place_of_what_was_labelled(pool: Any) -> None:
    ids.select_uncertain(pool, count=3, strategy="uncertain")
    pool.match_tags("to_label").tag_samples("labelled")
    report = ids.select_uncertain(pool, count=3, strategy="uncertain")
    assert chosen(pool) == [54, 55, 56]
    assert report.outputs["not to choose"] == {"labelled by people": 3}
    assert pool.match_tags("labelled").values("uncertainty") == [None, None, None]


def test_never_what_people_labelled_what_is_rejected_or_the_test_split(pool: Any) -> None:
    by_number = dict(zip(numbers(pool), pool.values("id"), strict=True))
    fields.declare_label(pool, "ground_truth", "Detections")
    set_fields(
        pool, {"ground_truth": {by_number[59]: fo.Detections(detections=[])}}
    )  # a person saw that nothing is there
    pool.select(by_number[58]).tag_samples("labelled")
    reject(pool, {by_number[57]: Rejection("blurry")}, stage="test")
    pool.select(by_number[56]).tag_samples("test")
    drawn = fo.Classification(label="cat")  # nobody but a person leaves out the confidence
    set_fields(pool, {"classification": {by_number[55]: drawn}})
    report = ids.select_uncertain(pool, count=2, strategy="uncertain")
    assert chosen(pool) == [53, 54]
    assert report.outputs["not to choose"] == {"labelled by people": 3, "rejected": 1, "in the test split": 1}
    for strategy in ("random", "diverse", "mixed"):
        ids.select_uncertain(pool, count=55, strategy=strategy)
        assert chosen(pool) == list(range(55))


def test_a_label_that_a_person_changed_or_removed_counts_as_theirs(pool: Any) -> None:
    declare_authors(pool, ["classification"])
    for sample in pool:
        notes = authors_of({"classification": sample.classification})
        set_fields(pool, {path: {sample.id: note} for path, note in notes.items()})
    ids.select_uncertain(pool, count=2, strategy="uncertain")
    assert chosen(pool) == [58, 59]
    changed, removed = pool.match_tags("to_label")
    changed.classification.label = "elk"
    changed.save()
    removed.classification = None
    removed.save()
    report = ids.select_uncertain(pool, count=2, strategy="uncertain")
    assert chosen(pool) == [56, 57]
    assert report.outputs["not to choose"] == {"labelled by people": 2}


def test_people_may_answer_in_another_field(pool: Any) -> None:
    fields.declare_label(pool, "answers", "Classification")
    last = pool.last()
    set_fields(pool, {"answers": {last.id: fo.Classification(label="cat")}})
    ids.select_uncertain(pool, count=1, strategy="uncertain", answers_field="answers")
    assert chosen(pool) == [58]
    with pytest.raises(FieldError, match="answers_field='answer': .* did you mean 'answers'"):
        ids.select_uncertain(pool, answers_field="answer")


def test_classes_are_balanced_with_what_is_labelled(pool: Any) -> None:
    fields.declare_label(pool, "ground_truth", "Classification")
    cats = [i for i, number in zip(pool.values("id"), numbers(pool), strict=True) if number % 3 == 0][:4]
    set_fields(pool, {"ground_truth": {i: fo.Classification(label="cat") for i in cats}})
    report = ids.select_uncertain(pool, count=8, balance=True)
    assert report.outputs["classes of the chosen, by the model"] == {"dog": 4, "elk": 4}
    report = ids.select_uncertain(pool, count=11, balance=True, strategy="diverse")
    assert report.outputs["classes of the chosen, by the model"] == {"dog": 5, "elk": 5, "cat": 1}


def test_diverse_keeps_away_from_what_is_labelled(pool: Any) -> None:
    fields.declare_label(pool, "ground_truth", "Classification")
    set_fields(pool, {"ground_truth": {pool.first().id: fo.Classification(label="cat")}})  # of clump 0
    ids.select_uncertain(pool, count=2, strategy="diverse")
    assert {number % 3 for number in chosen(pool)} == {1, 2}


def test_more_than_there_are(pool: Any) -> None:
    report = ids.select_uncertain(pool, count=100)
    assert chosen(pool) == list(range(60))
    assert report.notes == ["60 images instead of 100 are chosen: no others are left"]
    pool.tag_samples("labelled")
    report = ids.select_uncertain(pool, count=100)
    assert chosen(pool) == []
    assert report.outputs["chosen"] == 0
    assert report.notes == ["0 images instead of 100 are chosen: no others are left"]


def test_other_tags_are_left_alone(pool: Any) -> None:
    pool.tag_samples("mine")
    ids.select_uncertain(pool, count=3, tag="round_1")
    ids.select_uncertain(pool[:30], count=3, tag="round_2")
    assert len(chosen(pool, "round_1")) == len(chosen(pool, "round_2")) == 3
    assert max(chosen(pool, "round_2")) < 30
    assert pool.count_sample_tags()["mine"] == 60
    for tag in ("labelled", "test", "rejected", " "):
        with pytest.raises(ParameterError, match="this tag means something else"):
            ids.select_uncertain(pool, tag=tag)
    pool.save_view("theirs", pool.limit(3))
    with pytest.raises(ParameterError, match="there is a saved view of this name already"):
        ids.select_uncertain(pool, tag="theirs")


# -- what is known of samples -----------------------------------------------------------------------------------------


def objects(*found: tuple[str, float | None]) -> fo.Detections:
    return fo.Detections(
        detections=[fo.Detection(label=n, confidence=sure, bounding_box=[0, 0, 1, 1]) for n, sure in found]
    )


def add(dataset: Any, field: str, labels: Sequence[Any]) -> Any:
    samples = [fo.Sample(filepath=f"/tmp/none-{n:02}.jpg", **{field: label}) for n, label in enumerate(labels)]
    dataset.add_samples(samples, progress=False)
    return dataset


def test_boxes_of_a_detector(dataset: Any) -> None:
    torn = fo.Detection(label="cat", confidence=0.9, bounding_box=[0, 0, 1, 1], scores={"cat": 0.9, "dog": 0.9})
    add(
        dataset,
        "detections",
        [
            objects(("cat", 0.9), ("dog", 0.6)),
            objects(("cat", 0.9)),
            objects(),
            None,
            fo.Detections(detections=[torn]),
        ],
    )
    expected = {
        ("margin", "max"): [0.8, 0.2, 0, None, 1],
        ("margin", "mean"): [0.5, 0.2, 0, None, 1],
        ("margin", "sum"): [1.0, 0.2, 0, None, 1],
        ("least_confidence", "max"): [0.4, 0.1, 0, None, 0.5],
    }
    for (measure, aggregation), values in expected.items():
        report = ids.select_uncertain(dataset, count=1, strategy="uncertain", measure=measure, aggregation=aggregation)
        found = dataset.values("uncertainty")
        assert found[3] is None
        assert [v for v in found if v is not None] == pytest.approx([v for v in values if v is not None])
        assert report.outputs["not to choose"] == {"of unknown uncertainty": 1}
    ids.select_uncertain(dataset, count=4, strategy="uncertain", balance=True, tag="even")
    assert chosen(dataset, "even") == [0, 1, 2, 4]


def test_tags(dataset: Any) -> None:
    def tags(*sure: float) -> fo.Classifications:
        return fo.Classifications(classifications=[fo.Classification(label="x", confidence=s) for s in sure])

    add(dataset, "content_tags", [tags(0.99, 0.95), tags(0.99, 0.5), tags()])
    ids.select_uncertain(dataset, count=1, strategy="uncertain", label_field="content_tags")
    assert chosen(dataset) == [1]
    assert dataset.values("uncertainty") == pytest.approx([0.1, 1, 0])


def test_logits(dataset: Any) -> None:
    add(dataset, "classification", [
        fo.Classification(label="cat", confidence=0.9, logits=np.array([3.0, 0.0, 0.0])),
        fo.Classification(label="cat", confidence=0.4, logits=np.array([1.0, 1.0, 0.0])),
    ])  # fmt: skip
    ids.select_uncertain(dataset, count=1, strategy="uncertain")
    assert chosen(dataset) == [1]
    assert dataset.values("uncertainty")[1] == pytest.approx(1)


def test_confidence_alone(dataset: Any) -> None:
    add(dataset, "classification", [fo.Classification(label="cat", confidence=sure) for sure in (0.9, 0.4, 0.6)])
    with pytest.raises(FieldError, match="none of the images .* class scores.*choose the measure 'least_confidence'"):
        ids.select_uncertain(dataset, count=1, strategy="uncertain")
    assert dataset.list_runs() == []
    assert not dataset.has_field("uncertainty")
    ids.select_uncertain(dataset, count=1, strategy="uncertain", measure="least_confidence")
    assert chosen(dataset) == [1]


def test_disagreement_of_annotators(dataset: Any) -> None:
    add(dataset, "disagreement", [0.1, None, 0.9, 0.5])
    ids.select_uncertain(dataset, count=2, strategy="uncertain", measure="disagreement")
    assert numbers(dataset.load_saved_view("to_label")) == [2, 3]
    with pytest.raises(FieldError, match="label_field: the samples have no labels of a model"):
        ids.select_uncertain(dataset, strategy="uncertain")


def test_a_model_of_a_single_class(dataset: Any) -> None:
    sure = fo.Classification(label="cat", confidence=1.0, scores={"cat": 1.0})
    add(dataset, "classification", [sure.copy() for _ in range(4)])
    report = ids.select_uncertain(dataset, count=2, strategy="uncertain")
    assert len(chosen(dataset)) == 2
    assert "all images are equally uncertain (0)" in report.notes[0]


def test_random_needs_nothing(dataset: Any) -> None:
    add(dataset, "classification", [None] * 20)
    report = ids.select_uncertain(dataset, count=4, strategy="random")
    picked = chosen(dataset)
    assert len(picked) == 4
    assert report.run_key in dataset.list_runs()
    ids.select_uncertain(dataset, count=4, strategy="random", seed=52)
    assert chosen(dataset) != picked


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embeddings_field": "vectors"}, "there is no such field: name one with embeddings, or a model"),
        ({"embeddings_field": "classification"}, "it holds .*, which is no vector of finite numbers"),
        ({"embeddings_field": "nothing"}, "none of the images that can be chosen has an embedding"),
        ({"label_field": "ground_truth"}, "this field is for labels of people"),
        ({"label_field": "classifcation"}, "did you mean 'classification'"),
        ({"label_field": "boxes", "strategy": "Badge"}, "needs the probabilities of classes of whole images"),
        ({"strategy": "mixd"}, "did you mean 'mixed'"),
        ({"count": 0}, "must be between 1 and 1e\\+06"),
        ({"measure": "disagreement"}, "run agree first"),
    ],
)
def test_wrong_input_says_what_to_do(pool: Any, settings: dict[str, Any], message: str) -> None:
    pool.add_sample_field("nothing", fo.VectorField)
    fields.declare_label(pool, "boxes", "Detections")
    with pytest.raises((ParameterError, FieldError), match=message):
        ids.select_uncertain(pool, **settings)
    assert chosen(pool) == []
    assert pool.list_runs() == []


def test_embeddings_of_different_models_are_told_apart(pool: Any) -> None:
    last = pool.last()
    last.embedding = np.ones(7, np.float32)
    last.save()
    with pytest.raises(FieldError, match="vectors of 7 and of 4 numbers, from different models"):
        ids.select_uncertain(pool, count=3)


def test_scikit_activeml_by_name(pool: Any) -> None:
    pytest.importorskip("skactiveml")
    for strategy in ("Badge", "TypiClust"):
        ids.select_uncertain(pool, count=4, strategy=strategy)
        picked = chosen(pool)
        assert len(picked) == 4
        ids.select_uncertain(pool, count=4, strategy=strategy)
        assert chosen(pool) == picked


def test_scikit_activeml_is_optional(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "skactiveml", None)
    with pytest.raises(MissingExtraError, match="strategy='CoreSet' needs the package"):
        ids.select_uncertain(pool, count=3, strategy="CoreSet")


# -- a model ----------------------------------------------------------------------------------------------------------


def test_a_model_computes_the_embeddings_that_are_needed(
    dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    from fiftyone_idsynth.models import loading
    from fiftyone_idsynth.models.roles import Matcher

    seen: list[int] = []

    class Colours(Matcher):
        name, revision, device, exclusive = "colours", "1", "cpu", True

        def match(self, pictures: Sequence[np.ndarray], texts: Sequence[str]) -> np.ndarray:
            raise AssertionError("never called")

        def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
            seen.append(len(pictures))
            vectors = np.stack([picture.mean(axis=(0, 1)) for picture in pictures]).astype(np.float32)
            return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

        def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
            raise AssertionError("never called")

    model = Colours()
    monkeypatch.setattr(loading, "find_model", lambda role, name, options=None: model)
    samples = []
    for number in range(40):
        path = tmp_path / f"photo-{number:02}.png"
        colour = [(255, 0, 0), (0, 255, 0), (0, 0, 255)][number % 3]
        if number == 39:
            path.write_bytes(b"no image")
        else:
            Image.new("RGB", (16, 16), colour).save(path)
        samples.append(fo.Sample(filepath=str(path), classification=predicted(number / 40)))
    dataset.add_samples(samples, progress=False)

    report = ids.select_uncertain(dataset, count=3, model="colours")
    picked = chosen(dataset)
    assert sum(seen) == 29  # ten times as many as wanted, but the one that cannot be read
    assert len(report.failed) == 1
    assert {number % 3 for number in picked} == {0, 1, 2}
    assert 39 not in picked
    assert dataset.count("embedding") == 29
    assert dataset.get_field("embedding").info["model"] == "colours"

    seen.clear()
    ids.select_uncertain(dataset, count=3, model="colours")
    assert seen == []
    assert chosen(dataset) == picked
    ids.select_uncertain(dataset, count=3, model="colours", strategy="diverse")
    assert sum(seen) == 10
    assert {number % 3 for number in chosen(dataset)} == {0, 1, 2}

    dataset.clear_sample_field("embedding")
    ids.select_uncertain(dataset, count=3, model="colours")
    assert chosen(dataset) == picked
    other = Colours()
    other.name = "others"
    monkeypatch.setattr(loading, "find_model", lambda role, name, options=None: other)
    with pytest.raises(ParameterError, match="made by colours, which do not compare with those of others"):
        ids.select_uncertain(dataset, count=3, model="others")
    assert chosen(dataset) == picked


def test_what_classify_wrote_and_a_real_model_embeds(dataset: Any, tmp_path: Path) -> None:
    clip = trained("clip")
    colours = fill(dataset, tmp_path, scenes_of_one(24))
    settings: dict[str, Any] = {"model": clip, "device": "cpu", "progress": False}
    # Only red and blue are known: between them the model wavers where something else is shown.
    ids.classify(dataset, classes=("red", "blue"), **settings)
    report = ids.select_uncertain(dataset, count=4, **settings)
    picked = dataset.match_tags("to_label")
    assert report.outputs["chosen"] == 4
    assert report.outputs["not to choose"] == {}
    scores = [sorted(scores.values()) for scores in dataset.values("classification.scores")]
    assert dataset.values("uncertainty") == pytest.approx([1 - (most - next_) for next_, most in scores], abs=1e-5)
    shown = dict(zip(dataset.values("id"), colours, strict=True))
    assert {shown[i] for i in picked.values("id")} & {"green", "yellow"}
    lengths = [float(np.linalg.norm(vector)) for vector in dataset.values("embedding")]
    assert lengths == pytest.approx([1] * 24, abs=1e-2)
    assert list(dataset.get_run_info(report.run_key).config.models) == [clip]

    first = picked.first()
    first.classification.label = "green"  # a person corrects it
    first.save()
    report = ids.select_uncertain(dataset, count=4, **settings)
    assert report.outputs["not to choose"] == {"labelled by people": 1}
    assert first.id not in dataset.match_tags("to_label").values("id")
