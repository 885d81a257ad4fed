"""FiftyOne's annotate() and load_annotations() with the backend "idsynth", against a real server."""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fiftyone_idsynth.errors import UsageError
from fiftyone_idsynth.learning.label_studio.client import Server
from fiftyone_idsynth.learning.label_studio.keys import key_of
from fiftyone_idsynth.learning.label_studio.registration import CONFIG_CLASS, install_backend, register_backend
from tests.label_studio_server import LabelStudioServer
from tests.labelling.annotator import Annotator, choice, rectangle

SIZE = (60, 40)


@pytest.fixture(autouse=True)
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The backend is known; the annotation configuration is a file of the test's."""
    path = tmp_path / "annotation_config.json"
    monkeypatch.setenv("FIFTYONE_ANNOTATION_CONFIG_PATH", str(path))
    register_backend()
    return path


@pytest.fixture
def images(dataset: Any, label_studio: LabelStudioServer) -> Any:
    """Four samples with images that the server may serve."""
    import fiftyone as fo
    from PIL import Image

    folder = label_studio.document_root / uuid.uuid4().hex[:8]
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", SIZE, (60 * number, 9, 9)).save(folder / f"{number}.png")
    dataset.add_samples([fo.Sample(filepath=str(folder / f"{n}.png")) for n in range(4)], progress=False)
    return dataset


@pytest.fixture
def alice(label_studio: LabelStudioServer) -> Annotator:
    return Annotator(label_studio)


def tasks_of(results: Any) -> dict[str, dict[str, Any]]:
    """Sample id -> task."""
    found = {}
    for task in Server().tasks(results.project_id):
        key = key_of(task)
        assert key is not None
        found[key.sample_id] = Server().get(f"/api/tasks/{task['id']}")
    return found


class TestNewField:
    def test_classes(self, images: Any, alice: Annotator) -> None:
        results = images.annotate(
            "kinds", backend="idsynth", label_field="kind", label_type="classification", classes=["cat", "dog"]
        )
        tasks = tasks_of(results)
        first, second, third, fourth = images.values("id")
        alice.submit(tasks[first]["id"], [choice("kind", "cat")])
        alice.skip(tasks[second]["id"])
        alice.draft(tasks[third]["id"], [choice("kind", "dog")])
        images.load_annotations("kinds")
        assert images.values("kind.label") == ["cat", None, None, None]
        assert images.values("tags") == [["labelled"], ["skipped"], [], []]
        # A second load brings what is new, and leaves alone what was changed here.
        sample = images[first]
        sample.kind.label = "bird"
        sample.save()
        alice.submit(tasks[fourth]["id"], [choice("kind", "dog")])
        images.load_annotations("kinds")
        assert images.values("kind.label") == ["bird", None, None, "dog"]
        # A newer answer counts more than what was changed here.
        answer = tasks_of(results)[first]["annotations"][0]["id"]
        alice.edit(answer, [choice("kind", "dog")])
        images.load_annotations("kinds", cleanup=True)
        assert images.values("kind.label") == ["dog", None, None, "dog"]
        assert results.project_id not in [project.id for project in Server().projects()]

    def test_masks_are_files(self, images: Any, alice: Annotator) -> None:
        from fiftyone_idsynth.learning.label_studio.rle import encode

        results = images.annotate(
            "areas",
            backend="idsynth",
            label_field="area",
            label_type="segmentation",
            mask_targets={1: "road", 2: "sky"},
        )
        mask = np.zeros((SIZE[1], SIZE[0]), bool)
        mask[5:20, 10:30] = True
        brush = {
            "from_name": "area", "to_name": "image", "type": "brushlabels", "id": "x1", "original_width": SIZE[0],
            "original_height": SIZE[1], "value": {"format": "rle", "rle": encode(mask), "brushlabels": ["sky"]},
        }  # fmt: skip
        first = images.first().id
        alice.submit(tasks_of(results)[first]["id"], [brush])
        for _ in range(2):
            images.load_annotations("areas")
            area = images[first].area
            assert area.mask is None
            assert Path(area.mask_path).is_file()
            assert (area.get_mask() == mask * 2).all()
        assert images.values("area.mask_path")[1:] == [None] * 3

    def test_captions(self, images: Any, alice: Annotator) -> None:
        import fiftyone as fo

        images.add_sample_field("caption", fo.StringField)
        first, second = images.limit(2)
        first["caption"], second["caption"] = "a cat", "a dog"
        first.save()
        second.save()
        results = images.annotate("texts", backend="idsynth", label_field="caption")
        task = tasks_of(results)[first.id]
        said = task["predictions"][0]["result"]
        assert said[0]["value"]["text"] == ["a cat"]
        said[0]["value"]["text"] = ["a <b>red</b> cat"]
        alice.submit(task["id"], said)
        images.load_annotations("texts")
        assert images.values("caption") == ["a <b>red</b> cat", "a dog", None, None]


class TestExistingField:
    @pytest.fixture
    def boxes(self, images: Any) -> Any:
        import fiftyone as fo

        for number, sample in enumerate(images):
            sample["boxes"] = fo.Detections(
                detections=[
                    fo.Detection(label="cat", bounding_box=[0.1, 0.1, 0.2, 0.2], confidence=0.7, number=number),
                    fo.Detection(label="cat", bounding_box=[0.6, 0.6, 0.2, 0.2]),
                ]
            )
            sample.save()
        return images

    def test_edits_additions_and_deletions(self, boxes: Any, alice: Annotator) -> None:
        results = boxes.annotate("fix", backend="idsynth", label_field="boxes", classes=["cat", "dog"])
        first, nothing, *left = boxes.values("id")
        before = {sample.id: sample.boxes.to_dict() for sample in boxes}
        tasks = tasks_of(results)
        kept, removed = tasks[first]["predictions"][0]["result"]
        kept["value"] |= {"rectanglelabels": ["dog"], "x": 20}
        added = rectangle("boxes", "dog", 0.5, 0.1, 0.2, 0.3, size=SIZE)
        alice.submit(tasks[first]["id"], [kept, added])
        alice.submit(tasks[nothing]["id"], [])
        for _ in range(2):
            boxes.load_annotations("fix")
            one, two = boxes[first].boxes.detections
            assert (one.id, one.label, one.number) == (kept["id"], "dog", 0)
            assert one.bounding_box == pytest.approx([0.2, 0.1, 0.2, 0.2])
            assert (two.label, two.bounding_box) == ("dog", pytest.approx([0.5, 0.1, 0.2, 0.3]))
            assert removed["id"] not in (one.id, two.id)
            assert boxes[nothing].boxes.detections == []
            # Nobody has answered the others: their labels stay as they are.
            assert {i: boxes[i].boxes.to_dict() for i in left} == {i: before[i] for i in left}

    def test_a_second_answer_replaces_the_first(self, boxes: Any, alice: Annotator) -> None:
        results = boxes.annotate("fix", backend="idsynth", label_field="boxes", classes=["cat", "dog"])
        first = boxes.first().id
        task = tasks_of(results)[first]
        answer = alice.submit(task["id"], [rectangle("boxes", "dog", 0.5, 0.1, 0.2, 0.3, size=SIZE)])
        boxes.load_annotations("fix")
        alice.edit(answer, [rectangle("boxes", "cat", 0.3, 0.1, 0.2, 0.3, size=SIZE)])
        boxes.reload()
        boxes.clear_cache()
        boxes.load_annotations("fix")
        assert [one.label for one in boxes[first].boxes.detections] == ["cat"]

    def test_into_another_field(self, boxes: Any, alice: Annotator) -> None:
        results = boxes.annotate("fix", backend="idsynth", label_field="boxes", classes=["cat", "dog"])
        first = boxes.first().id
        alice.submit(tasks_of(results)[first]["id"], [rectangle("boxes", "dog", 0.5, 0.1, 0.2, 0.3, size=SIZE)])
        boxes.load_annotations("fix", dest_field="checked")
        assert [one and len(one.detections) for one in boxes.values("checked")] == [1, None, None, None]
        assert [len(one.detections) for one in boxes.values("boxes")] == [2, 2, 2, 2]
        boxes.load_annotation_results("fix").forget_loaded()
        boxes.load_annotations("fix")
        assert [len(one.detections) for one in boxes.values("boxes")] == [1, 2, 2, 2]

    def test_labels_that_nobody_knows(self, boxes: Any, alice: Annotator) -> None:
        results = boxes.annotate("fix", backend="idsynth", label_field="boxes", classes=["cat", "dog"])
        first, second = boxes.limit(2).values("id")
        tasks = tasks_of(results)
        alice.submit(tasks[first]["id"], [rectangle("boxes", "lynx", 0.5, 0.1, 0.2, 0.3, size=SIZE)])
        alice.submit(tasks[second]["id"], [rectangle("boxes", "dog", 0.5, 0.1, 0.2, 0.3, size=SIZE)])
        boxes.load_annotations("fix")
        assert [len(one.detections) for one in boxes.values("boxes")] == [2, 1, 2, 2]
        results.config.labels = {"lynx": "cat"}
        boxes.load_annotations("fix")
        assert [one.label for one in boxes[first].boxes.detections] == ["cat"]

    def test_two_who_disagree(self, boxes: Any, alice: Annotator, label_studio: LabelStudioServer) -> None:
        results = boxes.annotate("two", backend="idsynth", label_field="boxes", classes=["cat", "dog"], annotators=2)
        tasks = tasks_of(results)
        assert not any(task["predictions"] for task in tasks.values())  # what is shown leads people to agree
        first = boxes.first().id
        bob = Annotator.sign_up(label_studio, "bob")
        alice.submit(tasks[first]["id"], [rectangle("boxes", "dog", 0.5, 0.1, 0.2, 0.3, size=SIZE)])
        bob.submit(tasks[first]["id"], [rectangle("boxes", "dog", 0.1, 0.6, 0.2, 0.3, size=SIZE)])
        boxes.load_annotations("two")
        assert len(boxes[first].boxes.detections) == 2
        assert boxes[first].tags == ["conflict"]


class TestRegistration:
    def test_a_users_configuration_stays(self, backend: Path) -> None:
        theirs = {"default_backend": "cvat", "backends": {"cvat": {"url": "http://cvät"}, "idsynth": {"iou": 0.7}}}
        backend.write_text(json.dumps(theirs), encoding="utf-8")
        assert install_backend() == backend
        written = json.loads(backend.read_text(encoding="utf-8"))
        theirs["backends"]["idsynth"]["config_cls"] = CONFIG_CLASS  # type: ignore[index]
        assert written == theirs
        before = backend.stat().st_mtime_ns
        assert install_backend() is None
        assert backend.stat().st_mtime_ns == before

    @pytest.mark.parametrize("text", ["{", "[]", '{"backends": 3}'])
    def test_a_broken_configuration_is_left_alone(self, backend: Path, text: str) -> None:
        backend.write_text(text)
        with pytest.raises(UsageError, match=str(backend)):
            install_backend()
        assert backend.read_text() == text

    def test_the_shell_installs_it_with_the_plugin(
        self, backend: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        import fiftyone as fo

        from fiftyone_idsynth.cli import entry

        monkeypatch.setattr(sys, "argv", ["idsynth", "install-plugin"])
        entry()
        assert str(backend) in capsys.readouterr().out
        config = fo.core.config.load_annotation_config()
        assert config.backends["idsynth"]["config_cls"] == CONFIG_CLASS
        assert set(config.backends) > {"cvat", "labelstudio"}
