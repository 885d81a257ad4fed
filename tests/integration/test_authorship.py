"""What a model wrote it may write again; what a person made, changed or removed stays."""

from __future__ import annotations

from typing import Any

import fiftyone as fo
import pytest

from fiftyone_idsynth import fields
from fiftyone_idsynth.authorship import authors_of, checksum, declare_authors, written_by_people
from fiftyone_idsynth.samples import set_fields


def box(x: float = 0.1, label: str = "cat") -> fo.Detection:
    return fo.Detection(label=label, bounding_box=[x, 0.2, 0.3, 0.4], confidence=0.9, model="some/model")


@pytest.fixture
def written(dataset: Any) -> Any:
    """Four samples with what a model wrote, and the note of it."""
    dataset.add_samples([fo.Sample(filepath=f"/tmp/none-{number}.jpg") for number in range(4)])
    fields.declare_label(dataset, "found", "Detections")
    fields.declare_label(dataset, "caption", "str")
    declare_authors(dataset, ["found", "caption"])
    values = {"found": fo.Detections(detections=[box(), box(0.5, "dog")]), "caption": "a cat and a dog"}
    for path, value in {**values, **authors_of(values)}.items():
        set_fields(dataset, {path: dict.fromkeys(dataset.values("id"), value)})
    return dataset


def test_what_a_model_wrote_is_recognised_after_a_round_trip(written: Any) -> None:
    assert written_by_people(written, written.values("id"), ["found", "caption"]) == {}


def test_every_kind_of_change_by_a_person_is_recognised(written: Any) -> None:
    first, second, third, fourth = written
    first.found.detections[0].bounding_box = [0.11, 0.2, 0.3, 0.4]
    second.found.detections = second.found.detections[:1]
    third.found, third.caption = None, "a person's words"
    fourth.found.detections[1].tags.append("look")  # a tag says nothing new about the picture
    for sample in (first, second, third, fourth):
        sample.save()
    assert written_by_people(written, written.values("id"), ["found", "caption"]) == {
        first.id: {"found"}, second.id: {"found"}, third.id: {"found", "caption"},
    }  # fmt: skip


def test_labels_from_elsewhere_are_taken_for_a_persons(dataset: Any) -> None:
    dataset.add_sample(fo.Sample(filepath="/tmp/none.jpg", found=fo.Detections(detections=[box()])))
    dataset.add_sample(fo.Sample(filepath="/tmp/empty.jpg"))
    declare_authors(dataset, ["found"])
    assert list(written_by_people(dataset, dataset.values("id"), ["found"])) == [dataset.first().id]


def test_a_model_that_found_nothing_may_look_again_until_a_person_adds_something(dataset: Any) -> None:
    sample = fo.Sample(filepath="/tmp/none.jpg")
    dataset.add_sample(sample)
    fields.declare_label(dataset, "found", "Detections")
    declare_authors(dataset, ["found"])
    nothing = {"found": fo.Detections(detections=[])}
    for path, value in {**nothing, **authors_of(nothing)}.items():
        set_fields(dataset, {path: {sample.id: value}})
    assert written_by_people(dataset, [sample.id], ["found"]) == {}
    sample.reload()
    sample.found.detections.append(box())
    sample.save()
    assert written_by_people(dataset, [sample.id], ["found"]) == {sample.id: {"found"}}


def test_the_checksum_depends_on_content_alone() -> None:
    assert checksum(box()) == checksum(box())
    assert checksum(box()) != checksum(box(0.2))
    assert checksum(None) == ""
    assert checksum("a") != checksum("b")
