"""send_to_label_studio against a real server: every image once, whatever breaks on the way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3

import fiftyone_idsynth as ids
from fiftyone_idsynth.errors import FieldError, ParameterError
from fiftyone_idsynth.learning.label_studio import push
from fiftyone_idsynth.learning.label_studio.client import Project, Server
from fiftyone_idsynth.learning.label_studio.errors import LabelStudioError, ProjectError, TokenError
from fiftyone_idsynth.learning.label_studio.keys import key_of
from tests.label_studio_server import LabelStudioServer
from tests.labelling.annotator import Annotator, choice
from tests.labelling.proxy import Proxy

ODD_NAMES = ("two words.jpg", "#1 100%.jpg", "naïve 熊猫.jpg", "a+b&c=d?.jpg")

FillDataset = Callable[..., Any]


@pytest.fixture
def folder(label_studio: LabelStudioServer) -> Path:
    """A folder that the server may serve."""
    made = label_studio.document_root / uuid.uuid4().hex[:8]
    made.mkdir()
    return made


def write_image(path: Path, seed: int = 0) -> str:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (24, 32, 3), dtype=np.uint8)).save(path)
    return str(path)


@pytest.fixture
def fill(dataset: Any, folder: Path) -> FillDataset:
    """Adds images with predictions that grow surer: cat, dog, cat, ..."""

    def add(names: Any, *, where: Path = folder) -> Any:
        import fiftyone as fo

        names = [f"{n}.jpg" for n in range(names)] if isinstance(names, int) else list(names)
        dataset.add_samples(
            [
                fo.Sample(
                    filepath=write_image(where / name, seed),
                    classification=fo.Classification(
                        label=("cat", "dog")[seed % 2], confidence=0.5 + 0.49 * seed / len(names), model="org/model",
                        revision="0123456789abcdef",
                    ),
                )
                for seed, name in enumerate(names)
            ],
            progress=False,
        )  # fmt: skip
        return dataset

    return add


@pytest.fixture
def many(dataset: Any, folder: Path) -> Any:
    """2,500 samples, all of the same image."""
    import fiftyone as fo

    path = write_image(folder / "one.jpg")
    size = fo.ImageMetadata(width=32, height=24)
    dataset.add_samples(
        [
            fo.Sample(
                filepath=path, metadata=size, classification=fo.Classification(label="cat", confidence=n / 2500)
            )
            for n in range(2500)
        ],
        progress=False,
    )  # fmt: skip
    return dataset


def project_of(dataset: Any) -> Project:
    found = Server().project_of(dataset)
    assert found is not None
    return found


def keys_of(dataset: Any) -> list[str]:
    """The sample of each task, in the order of the tasks."""
    keys = [key_of(task) for task in Server().tasks(project_of(dataset).id, key_only=True)]
    assert None not in keys
    return [key.sample_id for key in keys if key]


def assert_each_once(dataset: Any) -> None:
    assert sorted(keys_of(dataset)) == sorted(dataset.values("id"))


def spoiling_imports(left: list[Any]) -> Callable[[str, str], Any]:
    """Spoils the next imports, each in one of the given ways."""
    return lambda method, path: left.pop() if left and method == "POST" and path.endswith("/import") else None


# -- what arrives -----------------------------------------------------------------------------------------------------


def test_every_image_arrives_once_and_is_served_where_it_is(label_studio: LabelStudioServer, fill: FillDataset) -> None:
    dataset = fill(ODD_NAMES)
    report = ids.send_to_label_studio(dataset)
    assert report.processed == 4
    assert report.outputs["images"] == "local"
    assert report.outputs["tasks in the project"] == report.outputs["with predictions"] == 4
    assert report.outputs["address"].startswith(label_studio.url)
    assert_each_once(dataset)
    server = Server()
    for task in server.tasks(project_of(dataset).id, key_only=True):
        sample = dataset[key_of(task).sample_id]
        assert server.content(task["data"]["image"]) == Path(sample.filepath).read_bytes()
        anonymous = urllib3.request("GET", server.url + task["data"]["image"], redirect=False, retries=False)
        assert anonymous.status == 401, "images are for people who are logged in"
    again = ids.send_to_label_studio(dataset)
    assert (again.processed, again.skipped, again.outputs["tasks in the project"]) == (0, 4, 4)


def test_images_that_the_server_cannot_read_are_uploaded(
    label_studio: LabelStudioServer, fill: FillDataset, tmp_path: Path
) -> None:
    dataset = fill([*ODD_NAMES, "odd.jfif"], where=tmp_path)
    with pytest.raises(LabelStudioError, match="LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT.*images='upload'"):
        ids.send_to_label_studio(dataset, images="local")
    report = ids.send_to_label_studio(dataset)
    assert report.outputs["images"] == "upload"
    assert any("uploaded" in note for note in report.notes), "it is said why the better way does not work"
    assert_each_once(dataset)
    server = Server()
    for task in server.tasks(project_of(dataset).id, key_only=True):
        assert server.content(task["data"]["image"]) == Path(dataset[key_of(task).sample_id].filepath).read_bytes()
    assert ids.send_to_label_studio(dataset).processed == 0


def test_images_in_several_folders_below_the_document_root_are_served(
    label_studio: LabelStudioServer, fill: FillDataset
) -> None:
    dataset = fill(["1.jpg"], where=label_studio.document_root / f"one {uuid.uuid4().hex[:6]}")
    fill(["2.jpg"], where=label_studio.document_root / f"two-{uuid.uuid4().hex[:6]}" / "deep")
    assert ids.send_to_label_studio(dataset, images="local").outputs["images"] == "local"
    server = Server()
    for task in server.tasks(project_of(dataset).id, key_only=True):
        assert server.content(task["data"]["image"]) == Path(dataset[key_of(task).sample_id].filepath).read_bytes()


def test_images_by_address(label_studio: LabelStudioServer, fill: FillDataset, folder: Path) -> None:
    dataset = fill(ODD_NAMES[:2])
    with pytest.raises(ParameterError, match="source.image_url.*image_urls"):
        ids.send_to_label_studio(dataset, images="url")
    ids.send_to_label_studio(dataset, images="url", image_urls={str(folder): "https://files.example.org/p/"})
    found = {task["data"]["image"] for task in Server().tasks(project_of(dataset).id, key_only=True)}
    assert found == {"https://files.example.org/p/two%20words.jpg", "https://files.example.org/p/%231%20100%25.jpg"}
    with pytest.raises(ParameterError, match="http or https"):
        ids.send_to_label_studio(dataset, images="url", image_urls={str(folder): "javascript:alert(1)"})


def test_the_least_certain_come_first_and_test_images_without_predictions(
    label_studio: LabelStudioServer, fill: FillDataset
) -> None:
    dataset = fill(6)
    first, second, *_, last = dataset.values("id")
    dataset.select([second]).tag_samples("test")
    dataset.add_sample_field("uncertainty", __import__("fiftyone").FloatField)
    sample = dataset[last]
    sample["uncertainty"] = 0.9
    sample.save()
    ids.send_to_label_studio(dataset)
    server = Server()
    project = project_of(dataset)
    tasks = {key_of(task).sample_id: task for task in server.tasks(project.id, page_size=3, key_only=False)}
    whole = {i: server.get(f"/api/tasks/{task['id']}")["predictions"] for i, task in tasks.items()}
    assert whole[second] == [], "predictions would bias the labels that the model is measured with"
    (said,) = whole[first]
    assert said["model_version"] == "org/model@0123456789ab"
    assert said["score"] == pytest.approx(0.5)
    assert said["result"][0]["value"] == {"choices": ["cat"]}
    assert whole[last][0]["score"] == pytest.approx(0.1)
    assert keys_of(dataset)[:2] == [last, first]
    assert key_of(server.get(f"/api/projects/{project.id}/next")).sample_id == last


def test_several_annotators_see_no_predictions(label_studio: LabelStudioServer, fill: FillDataset) -> None:
    dataset = fill(3)
    report = ids.send_to_label_studio(dataset, annotators=2)
    assert report.outputs["with predictions"] == 0
    project = project_of(dataset)
    settings = Server().get(f"/api/projects/{project.id}")
    assert settings["maximum_annotations"] == 2
    assert settings["show_collab_predictions"] is False
    assert all(task["total_predictions"] == 0 for task in Server().tasks(project.id, key_only=True))


def test_another_round_asks_again_and_a_renamed_dataset_keeps_its_project(
    label_studio: LabelStudioServer, fill: FillDataset
) -> None:
    dataset = fill(2)
    ids.send_to_label_studio(dataset)
    project = project_of(dataset)
    dataset.name = f"{dataset.name}-renamed"
    report = ids.send_to_label_studio(dataset, round=1)
    assert (report.processed, report.outputs["tasks in the project"]) == (2, 4)
    assert project_of(dataset).id == project.id
    assert ids.send_to_label_studio(dataset).processed == 0


def test_boxes_of_a_model_are_a_start(label_studio: LabelStudioServer, dataset: Any, folder: Path) -> None:
    import fiftyone as fo

    box = fo.Detection(label="bear", bounding_box=[0.25, 0.5, 0.5, 0.25], confidence=0.4, model="org/finder")
    found = fo.Detections(detections=[box, fo.Detection(label="cub", bounding_box=[0, 0, 1, 1], confidence=0.9)])
    for n, label in enumerate((found, fo.Detections())):
        dataset.add_sample(fo.Sample(filepath=write_image(folder / f"{n}.jpg"), detections=label))
    ids.send_to_label_studio(dataset)
    server = Server()
    said = {}
    for task in server.tasks(project_of(dataset).id, key_only=True):
        said[key_of(task).sample_id] = server.get(f"/api/tasks/{task['id']}")["predictions"][0]
    first, second = (said[i] for i in dataset.values("id"))
    assert first["score"] == pytest.approx(0.6), "the bear is there with 40 %, so it is not with 60 %"
    values = [one["value"] for one in first["result"]]
    assert {name: values[0][name] for name in ("x", "y", "width", "height")} == {
        "x": 25, "y": 50, "width": 50, "height": 25,
    }  # fmt: skip
    assert [value["rectanglelabels"] for value in values] == [["bear"], ["cub"]]
    assert second["result"] == [], "the model says that nothing is there"
    assert first["model_version"] == "org/finder"


# -- projects ---------------------------------------------------------------------------------------------------------


def test_a_project_gets_the_classes_that_it_lacks_and_keeps_what_people_changed(
    label_studio: LabelStudioServer, fill: FillDataset
) -> None:
    dataset = fill(2)
    ids.send_to_label_studio(dataset)
    server, project = Server(), project_of(dataset)
    by_hand = project.config_xml.replace("<View>", '<View><Header value="Look closely"/>', 1)
    server.update_config(project, by_hand)
    report = ids.send_to_label_studio(dataset, classes=("cat", "dog", "bär & <co>"))
    config = project_of(dataset).config_xml
    assert "Look closely" in config
    assert "bär &amp; &lt;co" in config
    assert any("extended" in note for note in report.notes)
    assert ids.send_to_label_studio(dataset).notes == [], "classes that are not named stay"


def test_a_project_for_something_else_is_not_bent(label_studio: LabelStudioServer, fill: FillDataset) -> None:
    server = Server()
    text = '<View><Text name="text" value="$text"/><Choices name="c" toName="text"><Choice value="a"/></Choices></View>'
    title = f"texts {uuid.uuid4().hex[:6]}"
    made = server.create_project(title, text)
    with pytest.raises(ProjectError, match="name another project"):
        ids.send_to_label_studio(fill(1), project=title)
    assert server.project(made.id) == made


def test_what_cannot_be_asked_is_refused_before_anything_is_sent(
    label_studio: LabelStudioServer, fill: FillDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = fill(1)
    with pytest.raises(FieldError, match="did you mean 'classification'"):
        ids.send_to_label_studio(dataset, prediction_field="classificaton")
    with pytest.raises(ParameterError, match="also name cat"):
        ids.send_to_label_studio(dataset, classes=("dog",))
    with pytest.raises(FieldError, match="holds Classification"):
        ids.send_to_label_studio(dataset, label_type="detections", prediction_field="classification")
    dataset.delete_sample_field("classification")
    with pytest.raises(ParameterError, match="label_type.*is needed"):
        ids.send_to_label_studio(dataset)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "wrong" * 8)
    with pytest.raises(TokenError, match="does not know the token"):
        ids.send_to_label_studio(dataset, label_type="detections", classes=("cat",))
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.token)
    assert Server().project_of(dataset) is None


# -- what breaks ------------------------------------------------------------------------------------------------------


def test_files_that_moved(label_studio: LabelStudioServer, fill: FillDataset, folder: Path) -> None:
    dataset = fill(3)
    ids.send_to_label_studio(dataset)
    person = Annotator(label_studio)
    project = project_of(dataset)
    person.submit(next(person.api.tasks(project.id))["id"], [choice("ground_truth", "dog")])
    elsewhere = folder.with_name(folder.name + " elsewhere")
    shutil.move(folder, elsewhere)
    lost = ids.send_to_label_studio(dataset)
    assert len(lost.failed) == 3
    assert "filepath" in lost.failed[0][1]
    for sample in dataset.iter_samples(autosave=True):
        sample.filepath = str(elsewhere / Path(sample.filepath).name)
    (elsewhere / "2.jpg").unlink()
    report = ids.send_to_label_studio(dataset)
    assert (report.processed, report.outputs["images moved"], len(report.failed)) == (0, 2, 1)
    tasks = {key_of(task).sample_id: task for task in person.api.tasks(project.id)}
    for sample in dataset[:2]:
        assert person.api.content(tasks[sample.id]["data"]["image"]) == Path(sample.filepath).read_bytes()
    assert sum(len(task["annotations"]) for task in tasks.values()) == 1, "answers stay"
    assert all(task["predictions"] for task in tasks.values())


@pytest.mark.parametrize("fault", ["502 after", "502 before", "dropped after"])
def test_an_answer_that_is_lost_doubles_nothing(
    label_studio: LabelStudioServer, fill: FillDataset, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "SETTLE_SECONDS", 0.5)
    dataset = fill(5)
    left = [fault, fault]
    with Proxy(
        label_studio.url,
        fault=lambda method, path: left.pop() if left and method == "POST" and "import" in path else None,
    ) as proxy:
        report = ids.send_to_label_studio(dataset, url=proxy.url, batch_size=2)
    assert not left
    assert report.processed == 5
    assert_each_once(dataset)


def test_what_a_gateway_finds_too_large_is_sent_in_parts(label_studio: LabelStudioServer, fill: FillDataset) -> None:
    dataset = fill(5)
    left = ["413", "413"]
    with Proxy(
        label_studio.url,
        fault=lambda method, path: left.pop() if left and method == "POST" and "import" in path else None,
    ) as proxy:
        ids.send_to_label_studio(dataset, url=proxy.url)
    assert not left
    assert_each_once(dataset)


def test_tasks_that_are_there_twice_are_removed_and_answers_never(
    label_studio: LabelStudioServer, fill: FillDataset
) -> None:
    dataset = fill(4)
    ids.send_to_label_studio(dataset)
    person = Annotator(label_studio)
    project = project_of(dataset)
    tasks = list(person.api.tasks(project.id, key_only=True))
    person.api.import_tasks(project.id, [{"data": task["data"]} for task in tasks])
    copies = list(person.api.tasks(project.id, key_only=True))[4:]
    person.submit(copies[0]["id"], [choice("ground_truth", "cat")])
    person.draft(copies[1]["id"], [choice("ground_truth", "dog")])
    report = ids.send_to_label_studio(dataset)
    assert report.outputs["removed because they were there twice"] == 3
    left = {task["id"] for task in person.api.tasks(project.id, key_only=True)}
    assert {copies[0]["id"], copies[1]["id"]} <= left
    assert len(left) == 5, "both of a pair stay if somebody began to answer the surplus one"


def test_a_server_that_is_killed_while_thousands_of_tasks_arrive(label_studio: LabelStudioServer, many: Any) -> None:
    counts: list[int] = []

    def kill_in_the_middle() -> None:
        server = Server()
        while not counts or counts[-1] < 500:
            found = server.project_of(many)
            counts.append(server.count(found.id) if found else 0)
            time.sleep(0.01)
        time.sleep(0.1)
        label_studio.kill()

    killer = threading.Thread(target=kill_in_the_middle)
    killer.start()
    with pytest.raises(LabelStudioError):
        ids.send_to_label_studio(many, batch_size=500)
    killer.join()
    label_studio.start()
    before = len(keys_of(many))
    assert 500 <= before < 2500
    report = ids.send_to_label_studio(many)
    assert (report.processed, report.skipped) == (2500 - before, before)
    assert_each_once(many)


def test_a_client_that_is_killed_is_continued(label_studio: LabelStudioServer, fill: FillDataset) -> None:
    dataset = fill(300)
    code = f"import fiftyone_idsynth as ids; ids.send_to_label_studio({dataset.name!r}, batch_size=5)"
    client = subprocess.Popen([sys.executable, "-c", code], env=os.environ.copy())
    server = Server()
    deadline = time.monotonic() + 120
    while (found := server.project_of(dataset)) is None or server.count(found.id) < 100:
        assert time.monotonic() < deadline
        assert client.poll() is None
        time.sleep(0.05)
    client.send_signal(signal.SIGKILL)
    client.wait()
    report = ids.send_to_label_studio(dataset)
    assert report.skipped >= 100
    assert report.outputs["tasks in the project"] == 300
    assert_each_once(dataset)
