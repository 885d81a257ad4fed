"""pull_from_label_studio against a real server: what people answer arrives, and nothing else changes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fiftyone_idsynth as ids
from fiftyone_idsynth.learning.label_studio import pull as pulling
from fiftyone_idsynth.learning.label_studio.client import Project, Server
from fiftyone_idsynth.learning.label_studio.config import Labelling
from fiftyone_idsynth.learning.label_studio.errors import LabelStudioError, ProjectError, TruncatedAnswer
from fiftyone_idsynth.learning.label_studio.keys import key_of
from fiftyone_idsynth.learning.label_studio.values import to_results
from tests.label_studio_server import LabelStudioServer
from tests.labelling.annotator import Annotator, choice, rectangle
from tests.labelling.proxy import Proxy

SIZE = (60, 40)
HOSTILE = ("<b>cat</b>", "a \"dog\" & 'co'", "猫 🐈", "50 % > 5 $")

Fill = Callable[..., Any]


@pytest.fixture(scope="module")
def other(label_studio_server: LabelStudioServer) -> Annotator:
    """A second person."""
    label_studio_server.start()
    return Annotator.sign_up(label_studio_server, "bob")


@pytest.fixture
def people(label_studio: LabelStudioServer, other: Annotator) -> tuple[Annotator, Annotator]:
    return Annotator(label_studio), other


@pytest.fixture
def fill(dataset: Any, label_studio: LabelStudioServer) -> Fill:
    """Adds some images to the dataset."""

    def add(count: int, **options: Any) -> Any:
        import fiftyone as fo
        from PIL import Image

        folder = label_studio.document_root / uuid.uuid4().hex[:8]
        folder.mkdir()
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png", **options)
        dataset.add_samples([fo.Sample(filepath=str(folder / f"{n}.png")) for n in range(count)], progress=False)
        return dataset

    return add


def sent(dataset: Any, label_type: str = "classification", classes: Any = ("cat", "dog"), **options: Any) -> Project:
    """Sends all samples and returns their project."""
    ids.send_to_label_studio(dataset, label_type=label_type, classes=classes, progress=False, **options)
    found = Server().project_of(dataset)
    assert found is not None
    return found


def pulled(dataset: Any, **options: Any) -> Any:
    return ids.pull_from_label_studio(dataset, progress=False, **options)


def tasks_of(project: Project) -> dict[str, dict[str, Any]]:
    """Sample id -> task."""
    found = {}
    for task in Server().tasks(project.id):
        key = key_of(task)
        assert key is not None
        found[key.sample_id] = task
    return found


def said(results: list[dict[str, Any]]) -> Callable[[str], list[dict[str, Any]]]:
    return lambda sample_id: results


def labels_of(dataset: Any) -> list[str | None]:
    return list(dataset.values("ground_truth.label"))


def tagged(dataset: Any) -> list[list[str]]:
    return list(dataset.values("tags"))


class TestEveryKind:
    """Predictions and answers of each kind go out and come back."""

    def values(self) -> dict[str, tuple[str, Any]]:
        import fiftyone as fo

        ring, hole = [(0.1, 0.1), (0.9, 0.1), (0.9, 0.9)], [(0.5, 0.2), (0.8, 0.2), (0.8, 0.5)]
        mask = np.zeros((SIZE[1], SIZE[0]), np.uint8)
        mask[5:20, 10:30], mask[25:, 30:] = 1, 2
        part = np.ones((10, 20), bool)
        part[3:5, 3:8] = False
        box = [6 / SIZE[0], 4 / SIZE[1], 20 / SIZE[0], 10 / SIZE[1]]
        one = HOSTILE[0], HOSTILE[1]
        return {
            "classification": ("Classification", fo.Classification(label=HOSTILE[0])),
            "classifications": (
                "Classifications", fo.Classifications(classifications=[fo.Classification(label=x) for x in one])
            ),
            "detections": (
                "Detections",
                fo.Detections(detections=[fo.Detection(label=HOSTILE[2], bounding_box=[0.1, 0.2, 0.3, 0.25])]),
            ),
            "instances": (
                "Detections", fo.Detections(detections=[fo.Detection(label=HOSTILE[2], bounding_box=box, mask=part)])
            ),
            "polylines": (
                "Polylines",
                fo.Polylines(polylines=[fo.Polyline(label=HOSTILE[1], points=[ring, hole], closed=True, filled=True)]),
            ),
            "keypoints": (
                "Keypoints", fo.Keypoints(keypoints=[fo.Keypoint(label=HOSTILE[3], points=[(0.1, 0.2), (0.5, 0.5)])])
            ),
            "segmentation": ("Segmentation", fo.Segmentation(mask=mask)),
            "text": ("str", "a <b>red</b> cat & a dog\nin the sun"),
        }  # fmt: skip

    @pytest.mark.parametrize(
        "label_type",
        [
            "classification", "classifications", "detections", "instances", "polylines", "keypoints", "segmentation",
            "text",
        ],
    )  # fmt: skip
    def test_round_trip(self, fill: Fill, people: Any, label_type: str) -> None:
        kind, value = self.values()[label_type]
        dataset = fill(2)
        if label_type == "segmentation":
            dataset.mask_targets["ground_truth"] = {1: HOSTILE[0], 2: HOSTILE[1]}
            dataset.save()
        first, second = dataset
        first["said"] = value
        first.save()
        project = sent(
            dataset, label_type, () if label_type == "text" else HOSTILE[: 2 if label_type == "segmentation" else 4],
            prediction_field="said",
        )  # fmt: skip
        tasks = tasks_of(project)
        # As the editor does: the prediction of the first is accepted, nothing is found in the second.
        whole = Server().get(f"/api/tasks/{tasks[first.id]['id']}")
        people[0].submit(tasks[first.id]["id"], whole["predictions"][0]["result"])
        people[0].submit(tasks[second.id]["id"], [])
        report = pulled(dataset)
        assert (report.processed + report.skipped, report.failed) == (2, [])
        assert tagged(dataset) == [["labelled"], ["labelled"]]
        found, nothing = dataset.values("ground_truth")
        labelling = Labelling.parse(project.config_xml)
        assert labelling.fields == {"ground_truth": kind}

        def plain(label: Any) -> list[Any]:
            results = to_results(labelling, {"ground_truth": label}, *SIZE)
            return [{name: one["value"][name] for name in one["value"]} for one in results]

        for before, after in zip(plain(value), plain(found), strict=True):
            assert json.dumps(_rounded(before)) == json.dumps(_rounded(after))
        assert plain(nothing) == [] if nothing is not None else label_type in ("classification", "text")
        if label_type in ("instances", "segmentation"):
            holder = found.detections[0] if label_type == "instances" else found
            assert holder.mask is None
            assert Path(holder.mask_path).is_file()


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in sorted(value.items())}
    return [_rounded(one) for one in value] if isinstance(value, list) else value


def test_a_turned_photo_and_a_turned_box(dataset: Any, label_studio: LabelStudioServer, people: Any) -> None:
    import fiftyone as fo
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying, displayed upright
    path = label_studio.document_root / uuid.uuid4().hex[:8] / "turned.jpg"
    path.parent.mkdir()
    Image.new("RGB", (80, 40)).save(path, exif=exif.tobytes())
    dataset.add_samples([fo.Sample(filepath=str(path))], progress=False)
    dataset.compute_metadata(progress=False)
    task = tasks_of(sent(dataset, "detections"))[dataset.first().id]["id"]
    box = rectangle("ground_truth", "cat", 0.1, 0.2, 0.3, 0.4, size=(40, 80))  # as a browser shows it
    turned = rectangle("ground_truth", "dog", 0.5, 0.5, 0.2, 0.1, size=(40, 80))
    turned["value"]["rotation"] = 90
    people[0].submit(task, [box, turned])
    assert pulled(dataset).failed == []
    first, second = dataset.first().ground_truth.detections
    assert first.bounding_box == pytest.approx([0.1, 0.2, 0.3, 0.4])
    # A quarter turn about the top left corner: 8 x 8 pixels to the left of it.
    assert second.bounding_box == pytest.approx([0.5 - 8 / 40, 0.5, 8 / 40, 8 / 80])
    assert (second.rotation, second.turned_box) == (90, pytest.approx([0.5, 0.5, 0.2, 0.1]))
    lying = rectangle("ground_truth", "cat", 0.1, 0.2, 0.3, 0.4, size=(80, 40))
    people[0].submit(task, [lying])
    report = pulled(dataset)
    assert [why.split(":")[0] for _, why in report.failed] == ["other_image"]
    assert len(dataset.first().ground_truth.detections) == 2


class TestPeople:
    def test_two_who_disagree(self, fill: Fill, people: Any) -> None:
        dataset = fill(6)
        project = sent(dataset, annotators=2)
        names = dataset.values("id")
        alice, bob = people
        alice.answer(project.id, lambda i: [choice("ground_truth", ("cat", "dog")[names.index(i) % 2])])
        assert pulled(dataset, min_annotators=2).outputs["waiting for more people"] == 6
        assert not dataset.has_field("ground_truth.label") or labels_of(dataset) == [None] * 6
        bob.answer(project.id, lambda i: [choice("ground_truth", "cat")])
        report = pulled(dataset, min_annotators=2)
        assert labels_of(dataset) == ["cat", None, "cat", None, "cat", None]
        assert tagged(dataset) == [["labelled"], ["conflict"]] * 3
        assert report.outputs["conflicts"] == 3
        assert report.outputs["agreement about ground_truth"] == {"images": 6, "mean": 0.5, "kappa": 0.0}
        pulled(dataset, merge="latest")  # the same answers, read in another way
        assert labels_of(dataset) == ["cat"] * 6
        pulled(dataset, min_annotators=2)
        assert tagged(dataset) == [["labelled"], ["conflict"]] * 3
        # Another look settles it.
        task = tasks_of(project)[names[1]]["id"]
        alice.submit(task, [choice("ground_truth", "cat")])
        pulled(dataset, min_annotators=2)
        assert (labels_of(dataset)[1], tagged(dataset)[1]) == ("cat", ["labelled"])

    def test_boxes_of_two(self, fill: Fill, people: Any) -> None:
        dataset = fill(2)
        project = sent(dataset, "detections", annotators=2)
        alike, apart = dataset.values("id")
        one = rectangle("ground_truth", "cat", 0.1, 0.1, 0.4, 0.4, size=SIZE)
        near = rectangle("ground_truth", "cat", 0.12, 0.1, 0.4, 0.4, size=SIZE)
        far = rectangle("ground_truth", "cat", 0.6, 0.6, 0.3, 0.3, size=SIZE)
        people[0].answer(project.id, said([one]))
        people[1].answer(project.id, lambda i: [near] if i == alike else [one, far])
        pulled(dataset)
        assert dataset[alike].ground_truth.detections[0].bounding_box == pytest.approx([0.11, 0.1, 0.4, 0.4])
        assert dataset[alike].ground_truth.detections[0].votes == 2
        assert dataset[apart].ground_truth is None
        assert tagged(dataset) == [["labelled"], ["conflict"]]

    def test_skips_and_drafts(self, fill: Fill, people: Any) -> None:
        dataset = fill(4)
        project = sent(dataset)
        answered, skipped, begun, both = (tasks_of(project)[i]["id"] for i in dataset.values("id"))
        alice, bob = people
        alice.submit(answered, [choice("ground_truth", "cat")])
        alice.skip(skipped)
        alice.draft(begun, [choice("ground_truth", "dog")])
        alice.submit(both, [choice("ground_truth", "dog")])
        bob.skip(both)
        report = pulled(dataset)
        assert labels_of(dataset) == ["cat", None, None, "dog"]
        assert tagged(dataset) == [["labelled"], ["skipped"], [], ["labelled"]]
        assert (report.processed, report.outputs["skipped by people"]) == (2, 1)
        alice.skip(answered)  # a skip after an answer takes nothing away
        alice.submit(skipped, [choice("ground_truth", "dog")])
        pulled(dataset)
        assert labels_of(dataset) == ["cat", "dog", None, "dog"]
        assert tagged(dataset) == [["labelled"], ["labelled"], [], ["labelled"]]


class TestWhatStays:
    def test_a_second_pull_reads_what_changed(self, fill: Fill, people: Any, monkeypatch: Any) -> None:
        monkeypatch.setattr(pulling, "OVERLAP", pulling.OVERLAP * 0)
        dataset = fill(5)
        project = sent(dataset)
        people[0].answer(project.id, said([choice("ground_truth", "cat")]), limit=3)
        assert pulled(dataset).outputs["tasks read"] == 5
        report = pulled(dataset)
        assert (report.processed, report.outputs["tasks read"]) == (0, 0)
        first = tasks_of(project)[dataset.first().id]
        people[0].edit(first["annotations"][0]["id"], [choice("ground_truth", "dog")])
        report = pulled(dataset)
        assert (report.processed, report.outputs["tasks read"]) == (1, 1)
        assert labels_of(dataset) == ["dog", "cat", "cat", None, None]
        fill(1)
        assert pulled(dataset).outputs["tasks read"] == 5  # other samples than before: all tasks

    def test_edits_in_the_app_stay(self, fill: Fill, people: Any) -> None:
        dataset = fill(3)
        project = sent(dataset)
        people[0].answer(project.id, said([choice("ground_truth", "cat")]))
        pulled(dataset)
        edited, removed, _ = dataset
        edited.ground_truth.label = "bird"
        removed.ground_truth = None
        edited.save()
        removed.save()
        for task in tasks_of(project).values():
            people[0].edit(task["annotations"][0]["id"], [choice("ground_truth", "dog")])
        report = pulled(dataset)
        assert labels_of(dataset) == ["bird", None, "dog"]
        assert report.outputs["left as people wrote them"] == 2
        pulled(dataset, overwrite=True)
        assert labels_of(dataset) == ["dog", "dog", "dog"]

    def test_labels_of_people_stay_and_those_of_models_do_not(self, fill: Fill, people: Any) -> None:
        import fiftyone as fo

        from fiftyone_idsynth import fields
        from fiftyone_idsynth.authorship import authors_of, declare_authors
        from fiftyone_idsynth.samples import set_fields

        dataset = fill(2)
        fields.declare_label(dataset, "ground_truth", "Classification")
        declare_authors(dataset, ["ground_truth"])
        person, model = dataset.values("id")
        label = fo.Classification(label="bird", confidence=0.4)
        set_fields(dataset, {"ground_truth": {person: fo.Classification(label="bird"), model: label}})
        set_fields(dataset, {path: {model: note} for path, note in authors_of({"ground_truth": label}).items()})
        project = sent(dataset)
        people[0].answer(project.id, said([choice("ground_truth", "cat")]))
        pulled(dataset)
        assert labels_of(dataset) == ["bird", "cat"]

    def test_a_later_round_counts_more(self, fill: Fill, people: Any) -> None:
        dataset = fill(1)
        project = sent(dataset)
        people[0].answer(project.id, said([choice("ground_truth", "cat")]))
        sent(dataset, round=1)
        people[0].answer(project.id, said([choice("ground_truth", "dog")]))
        pulled(dataset)
        assert labels_of(dataset) == ["dog"]
        old = next(task for task in Server().tasks(project.id) if str(task["data"]["idsynth"]).endswith("/0"))
        people[0].edit(old["annotations"][0]["id"], [choice("ground_truth", "cat")])
        pulled(dataset)
        assert labels_of(dataset) == ["dog"]

    def test_deleted_and_strange_tasks_change_nothing(self, fill: Fill, people: Any) -> None:
        dataset = fill(3)
        project = sent(dataset)
        people[0].answer(project.id, said([choice("ground_truth", "cat")]))
        pulled(dataset)
        deleted, emptied, _ = tasks_of(project).values()
        Server().delete(f"/api/tasks/{deleted['id']}")
        people[0].remove(emptied["annotations"][0]["id"])
        foreign = f"{uuid.uuid4().hex[:24]}/{uuid.uuid4().hex[:24]}/0"
        for key in (None, "nonsense", foreign, 7):
            Server().import_tasks(project.id, [{"data": {"image": "/x.png", "idsynth": key}}])
        report = pulled(dataset, overwrite=True)
        assert labels_of(dataset) == ["cat", "cat", "cat"]
        assert (report.outputs["tasks of others"], report.outputs["tasks of other datasets"]) == (3, 1)
        Server().delete(f"/api/projects/{project.id}")
        with pytest.raises(ProjectError, match="send it samples first"):
            pulled(dataset)
        assert labels_of(dataset) == ["cat", "cat", "cat"]

    def test_moved_files(self, fill: Fill, people: Any, tmp_path: Path) -> None:
        dataset = fill(2)
        project = sent(dataset, "detections")
        people[0].answer(project.id, said([rectangle("ground_truth", "cat", 0.1, 0.1, 0.4, 0.4, size=SIZE)]))
        moved, gone = dataset
        Path(moved.filepath).rename(tmp_path / "elsewhere.png")
        moved["filepath"] = str(tmp_path / "elsewhere.png")
        Path(gone.filepath).unlink()
        for sample in (moved, gone):
            sample["metadata"] = None
            sample.save()
        assert pulled(dataset).failed == []
        assert [len(one.detections) for one in dataset.values("ground_truth")] == [1, 1]

    def test_renamed_labels(self, fill: Fill, people: Any) -> None:
        dataset = fill(2)
        project = sent(dataset, classes=("cat", "dog"))
        tasks = [task["id"] for task in tasks_of(project).values()]
        people[0].submit(tasks[0], [choice("ground_truth", "lynx")])  # the server takes any
        people[0].submit(tasks[1], [choice("ground_truth", "dog")])
        report = pulled(dataset)
        assert labels_of(dataset) == [None, "dog"]
        assert "'lynx'" in report.failed[0][1]
        assert "labels={'lynx': NEW_NAME}" in report.failed[0][1]
        assert len(pulled(dataset).failed) == 1  # not forgotten
        assert pulled(dataset, labels={"lynx": "cat"}).failed == []
        assert labels_of(dataset) == ["cat", "dog"]


class TestWhatBreaks:
    def test_the_server_dies_in_the_middle_of_a_pull(
        self, fill: Fill, people: Any, label_studio: LabelStudioServer, monkeypatch: Any
    ) -> None:
        dataset = fill(4)
        project = sent(dataset)
        people[0].answer(project.id, said([choice("ground_truth", "cat")]))
        get = Server.get

        def dying(self: Server, path: str, **params: Any) -> Any:
            if "/export" in path:
                label_studio.kill()
            return get(self, path, **params)

        with monkeypatch.context() as patch:
            patch.setattr(Server, "get", dying)
            with pytest.raises(LabelStudioError):
                pulled(dataset)
        assert tagged(dataset) == [[]] * 4
        label_studio.start()
        assert pulled(dataset).processed == 4

    def test_a_pull_that_is_cut_off_continues(self, fill: Fill, people: Any, monkeypatch: Any) -> None:
        monkeypatch.setattr(pulling, "CHUNK", 2)
        dataset = fill(6)
        project = sent(dataset)
        people[0].answer(project.id, said([choice("ground_truth", "cat")]))
        tag = pulling.tag_settled

        def cut(dataset: Any, tags: Any) -> None:
            if dataset.match_tags("labelled").count():
                raise KeyboardInterrupt
            tag(dataset, tags)

        with monkeypatch.context() as patch:
            patch.setattr(pulling, "tag_settled", cut)
            with pytest.raises(KeyboardInterrupt):
                pulled(dataset)
        assert labels_of(dataset).count("cat") == 4  # the last two of them without their tag
        report = pulled(dataset)
        assert (report.processed, report.skipped) == (2, 4)
        assert tagged(dataset) == [["labelled"]] * 6

    @pytest.mark.parametrize("empty", [True, False])
    def test_truncated_answers_change_nothing(
        self, fill: Fill, people: Any, label_studio: LabelStudioServer, empty: bool
    ) -> None:
        dataset = fill(4)
        project = sent(dataset)
        people[0].answer(project.id, said([choice("ground_truth", "cat")]))
        pulled(dataset)

        def cut(path: str, body: bytes) -> bytes:
            return json.dumps([] if empty else json.loads(body)[:2]).encode() if "/export" in path else body

        with Proxy(label_studio.url, change=cut) as proxy, pytest.raises(TruncatedAnswer):
            pulled(dataset, url=proxy.url, overwrite=True)
        assert labels_of(dataset) == ["cat"] * 4
        assert tagged(dataset) == [["labelled"]] * 4
