"""People in a real Label Studio, asked for classes one image after the other."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from fiftyone_idsynth.learning.label_studio.client import Server
from fiftyone_idsynth.learning.label_studio.errors import ProjectError
from fiftyone_idsynth.learning.label_studio.keys import key_of
from fiftyone_idsynth.learning.label_studio.people import PeopleInLabelStudio
from fiftyone_idsynth.learning.people import Answer
from tests.label_studio_server import LabelStudioServer
from tests.labelling.annotator import Annotator, choice

CLASSES = ("cat", "dog")


@pytest.fixture
def images(dataset: Any, label_studio: LabelStudioServer) -> Any:
    import fiftyone as fo
    from PIL import Image

    folder = label_studio.document_root / uuid.uuid4().hex[:8]
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", (40, 30), (60 * number, 9, 9)).save(folder / f"{number}.png")
    dataset.add_samples([fo.Sample(filepath=str(folder / f"{n}.png")) for n in range(4)], progress=False)
    return dataset


def next_of(annotator: Annotator, project: int) -> str | None:
    """The sample that Label Studio gives somebody next."""
    from fiftyone_idsynth.learning.label_studio.errors import Refused

    try:
        task = annotator.api.get(f"/api/projects/{project}/next")
    except Refused:
        return None
    key = key_of(task)
    assert key is not None
    return key.sample_id


def test_people_answer(images: Any, label_studio: LabelStudioServer) -> None:
    people = PeopleInLabelStudio(images, classes=CLASSES)
    with pytest.raises(ProjectError, match="ask first"):
        people.answers(images.values("id"))
    one, two, skipped, later = images.values("id")
    people.ask([one])
    people.ask([one, two, skipped], annotators=2, hidden=True)
    people.ask([two])  # asks nobody less
    project = Server().project_of(images)
    assert project is not None
    assert Server().count(project.id) == 3
    alice, bob = Annotator(label_studio), Annotator.sign_up(label_studio, "bob")
    alice.answer(project.id, lambda i: None if i == skipped else [choice("ground_truth", "cat")])
    # The server gives them to a second person, and to no third.
    assert next_of(bob, project.id) in (one, two, skipped)
    bob.answer(project.id, lambda i: [choice("ground_truth", "dog")])
    assert people.answers([two, one]) == [
        Answer(two, str(alice.id), "cat"), Answer(two, str(bob.id), "dog"),
        Answer(one, str(alice.id), "cat"), Answer(one, str(bob.id), "dog"),
    ]  # fmt: skip
    assert set(people.answers([skipped])) == {Answer(skipped, str(alice.id), None), Answer(skipped, str(bob.id), "dog")}
    carol = Annotator.sign_up(label_studio, "carol")
    assert next_of(carol, project.id) in (None, skipped)
    # A third opinion on one image alone.
    people.ask([one], annotators=3)
    assert next_of(carol, project.id) in (one, skipped)
    carol.answer(project.id, lambda i: [choice("ground_truth", "dog")] if i == one else None)
    assert [one.label for one in people.answers([one])] == ["cat", "dog", "dog"]
    people.ask([later])
    assert Server().count(project.id) == 4
    assert people.answers([later]) == []
