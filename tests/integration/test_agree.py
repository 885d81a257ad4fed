"""What the stage ``agree`` writes for the labels of several annotators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fiftyone as fo
import pytest

import fiftyone_idsynth as ids
from fiftyone_idsynth import fields
from fiftyone_idsynth.authorship import authors_of, declare_authors
from fiftyone_idsynth.errors import FieldError, ParameterError, UsageError
from fiftyone_idsynth.samples import set_fields

CAT, DOG = ("cat", [0.1, 0.1, 0.4, 0.4]), ("dog", [0.6, 0.6, 0.3, 0.3])
NEAR_CAT = ("cat", [0.12, 0.1, 0.4, 0.4])


def boxes(*found: tuple[str, Sequence[float]], confidence: float | None = 0.8) -> fo.Detections:
    return fo.Detections(
        detections=[fo.Detection(label=label, bounding_box=list(box), confidence=confidence) for label, box in found]
    )


def write_as_model(dataset: Any, field: str, labels: Sequence[Any], kind: str = "Detections") -> None:
    """Writes what a model would write, with the note of it; ``...`` stands for a sample that it has not seen."""
    fields.declare_label(dataset, field, kind)
    declare_authors(dataset, [field])
    for sample_id, label in zip(dataset.values("id"), labels, strict=True):
        if label is not ...:
            for path, value in {field: label, **authors_of({field: label})}.items():
                set_fields(dataset, {path: {sample_id: value}})


@pytest.fixture
def judged(dataset: Any) -> Any:
    """Five images: seen alike, seen by one, found empty by both, judged by one, judged by nobody."""
    dataset.add_samples([fo.Sample(filepath=f"/tmp/none-{number}.jpg") for number in range(5)])
    write_as_model(dataset, "one", [boxes(CAT, DOG), boxes(CAT), boxes(), boxes(CAT), ...])
    write_as_model(dataset, "two", [boxes(NEAR_CAT), boxes(), boxes(), ..., ...])
    return dataset


def labels_of(dataset: Any, field: str) -> list[Any]:
    return dataset.values(f"{field}.detections.label")


def test_the_consensus_and_what_is_disputed(judged: Any) -> None:
    report = ids.agree(judged, annotators=["one", "two"])
    assert labels_of(judged, "consensus") == [["cat"], [], [], None, None]
    assert labels_of(judged, "disputed") == [["dog"], ["cat"], [], None, None]
    first = judged.first()
    (cat,), (dog,) = first.consensus.detections, first.disputed.detections
    assert cat.bounding_box == pytest.approx([0.11, 0.1, 0.4, 0.4])
    assert (cat.votes, cat.annotators) == (2, ["one", "two"])
    assert cat.confidence == pytest.approx(0.8)
    assert 0 < cat.disagreement < 0.15
    assert (dog.votes, dog.annotators, dog.disagreement) == (1, ["one"], 1.0)
    assert report.outputs["agreed"] == {"cat": 1}
    assert report.outputs["disputed"] == 2
    assert report.outputs["judged by fewer than two"] == 2


def test_disagreement_of_images(judged: Any) -> None:
    report = ids.agree(judged, annotators=["one", "two"])
    alike, missed, empty, *unknown = judged.values("disagreement")
    assert 0.3 < alike < 0.45  # one of one and a half objects is shared, nearly in one place
    assert missed == 1
    assert empty == 0
    assert unknown == [None, None]
    assert report.outputs["mean disagreement"] == pytest.approx((alike + missed) / 3)
    assert judged.get_field("disagreement").description
    order = judged.exists("disagreement").sort_by("disagreement", reverse=True).values("filepath")
    assert order[0].endswith("none-1.jpg")


def test_a_person_who_drew_nothing_has_not_judged_and_one_who_removed_all_has(judged: Any) -> None:
    ids_of = judged.values("id")
    judged.add_sample_field("drawn", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    first = judged[ids_of[0]]
    first["drawn"] = boxes(CAT, confidence=None)
    first.save()
    removed = judged[ids_of[3]]
    removed["one"] = None  # a model had found a cat here
    removed["drawn"] = boxes(CAT)
    removed.save()
    ids.agree(judged, annotators=["one", "drawn"])
    assert judged.values("disagreement") == [pytest.approx(1 / 3), None, None, 1.0, None]


def test_three_annotators_decide_by_majority_or_as_asked(judged: Any) -> None:
    write_as_model(judged, "three", [boxes(DOG), boxes(CAT), boxes(CAT), boxes(CAT), boxes(DOG)])
    everyone = ["one", "two", "three"]
    ids.agree(judged, annotators=everyone)
    assert labels_of(judged, "consensus") == [["cat", "dog"], ["cat"], [], ["cat"], None]
    ids.agree(judged, annotators=everyone, min_votes=1)
    assert labels_of(judged, "consensus") == [["cat", "dog"], ["cat"], ["cat"], ["cat"], None]
    ids.agree(judged, annotators=everyone, min_votes=3, disputed_field=None)
    assert labels_of(judged, "consensus") == [[], [], [], [], None]


def test_classes_of_images(dataset: Any) -> None:
    dataset.add_samples([fo.Sample(filepath=f"/tmp/none-{number}.jpg") for number in range(3)])

    def named(*names: str | None) -> list[Any]:
        return [fo.Classification(label=name, confidence=0.6) if name else None for name in names]

    write_as_model(dataset, "one", named("cat", "cat", None), "Classification")
    write_as_model(dataset, "two", named("cat", "dog", None), "Classification")
    write_as_model(dataset, "three", named("cat", "cat", None), "Classification")
    report = ids.agree(dataset, annotators=["one", "two", "three"])
    assert dataset.values("consensus.label") == ["cat", "cat", None]
    assert dataset.values("consensus.annotators") == [["one", "two", "three"], ["one", "three"], None]
    assert dataset.values("disputed.classifications.label") == [[], ["dog"], []]
    assert dataset.values("disagreement") == [pytest.approx(0), pytest.approx(2 / 3), 0]
    assert report.outputs["agreed"] == {"cat": 2}


def test_a_second_run_skips_all_until_a_label_changes(judged: Any) -> None:
    ids.agree(judged, annotators=["one", "two"])
    again = ids.agree(judged, annotators=["one", "two"])
    assert (again.processed, again.skipped) == (0, 5)
    sample = judged.first()
    sample.two.detections.append(fo.Detection(label=DOG[0], bounding_box=DOG[1]))
    sample.save()
    third = ids.agree(judged, annotators=["one", "two"])
    assert (third.processed, third.skipped) == (1, 4)
    assert sorted(labels_of(judged, "consensus")[0]) == ["cat", "dog"]


def test_what_a_person_changed_in_the_consensus_stays(judged: Any) -> None:
    ids.agree(judged, annotators=["one", "two"])
    sample = judged.first()
    sample.consensus.detections[0].label = "lynx"
    sample.save()
    report = ids.agree(judged, annotators=["one", "two"], iou=0.4)
    assert labels_of(judged, "consensus")[0] == ["lynx"]
    assert report.outputs["left as people wrote them"] == 1


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"annotators": ["one"]}, ParameterError, "two or more"),
        ({"annotators": ["one", "one"]}, ParameterError, "each once"),
        ({"annotators": ["one", "tow"]}, FieldError, "did you mean 'two'"),
        ({"annotators": ["one", "classes"]}, FieldError, "classes holds Classification"),
        ({"annotators": ["one", "two"], "min_votes": 3}, ParameterError, "2 annotators"),
        ({"annotators": ["one", "two"], "label_field": "two"}, ParameterError, "a field of its own"),
        ({"annotators": ["one", "two"], "disputed_field": "consensus"}, ParameterError, "a field of its own"),
        ({"annotators": ["one", "two"], "label_field": "ground_truth"}, ParameterError, "exact and human"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_written(judged: Any, given: dict, error: type, words: str) -> None:
    judged.add_sample_field("classes", fo.EmbeddedDocumentField, embedded_doc_type=fo.Classification)
    with pytest.raises(error, match=words):
        ids.agree(judged, **given)
    assert not judged.has_field("consensus")
    assert not judged.list_runs()
    assert issubclass(error, UsageError)
