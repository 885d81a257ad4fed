"""The annotation backend ``"idsynth"`` of FiftyOne: Label Studio by ``annotate()`` and ``load_annotations()``.

    from fiftyone_idsynth.learning.label_studio.registration import register_backend

    register_backend()  # or once for all: idsynth install-plugin
    dataset.annotate("boxes", backend="idsynth", label_field="ground_truth", label_type="detections", classes=["cat"])
    dataset.load_annotations("boxes")

Each run has a project of its own. Only samples with answers are changed, each once per answer: what a person changes
here after it was loaded stays until somebody answers anew.
"""

from __future__ import annotations

import logging
import os
import webbrowser
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import fiftyone as fo
import fiftyone.core.media as fom
import fiftyone.utils.annotations as foua

from ...errors import FieldError, UsageError
from ...media import media_store
from ...samples import pages
from ..candidates import CONFLICT_TAG, LABELLED_TAG, SKIPPED_TAG
from .client import Project, Server
from .config import Labelling
from .images import Picture, Way, find_way
from .keys import TaskKey, dataset_id, project_title
from .masks import to_files
from .merging import Merge, merge_answers
from .pull import tag_settled
from .push import add_tasks, cut, make_task, read_keys
from .reading import Answered, latest_by_sample, read_task
from .values import ValuesError, from_results, to_results

KINDS = {
    "classification": "Classification", "classifications": "Classifications", "detections": "Detections",
    "instances": "Instances", "polylines": "Polylines", "polygons": "Polylines", "keypoints": "Keypoints",
    "segmentation": "Segmentation", "scalar": "str",
}  # fmt: skip
"""Label type of FiftyOne -> what people are asked for."""

CHUNK = 100

logger = logging.getLogger(__name__)


class IdsynthBackendConfig(foua.AnnotationBackendConfig):  # type: ignore[misc]
    """Settings of a run. The token is read from LABEL_STUDIO_API_KEY and stored nowhere.

    Args:
        name: the backend's name
        label_schema: what people are asked, as FiftyOne describes it
        media_field ("filepath"): the field with the image files
        url (None): the server's address; by default that in LABEL_STUDIO_URL
        project_name (None): the title of the project; by default that of the dataset and the run
        annotators (1): how many people label each image; existing labels are shown to one alone
        images ("auto"): how images are shown, see ``send_to_label_studio``
        merge ("majority"): how answers of several people are merged, see ``pull_from_label_studio``
        iou (0.5): least intersection over union of the same object
        min_annotators (1): images are left alone until as many people answered
        labels (None): labels that were renamed, as they stand in answers -> their classes
        **kwargs: passed on
    """

    def __init__(
        self, name: str, label_schema: Any, media_field: str = "filepath", url: str | None = None,
        project_name: str | None = None, annotators: int = 1, images: Way = "auto", merge: Merge = "majority",
        iou: float = 0.5, min_annotators: int = 1, labels: dict[str, str] | None = None,
        **kwargs: Any,
    ):  # fmt: skip
        super().__init__(name, label_schema, media_field=media_field, **kwargs)
        self.url, self.project_name, self.annotators, self.images = url, project_name, annotators, images
        self.merge, self.iou, self.min_annotators, self.labels = merge, iou, min_annotators, labels

    def load_credentials(self, url: str | None = None, labels: dict[str, str] | None = None) -> None:
        """Takes what ``load_annotations()`` is given besides its own arguments."""
        self._load_parameters(url=url, labels=labels)


class IdsynthBackend(foua.AnnotationBackend):  # type: ignore[misc]
    """What FiftyOne asks of a backend; see the module."""

    @property
    def supported_media_types(self) -> list[str]:
        return [fom.IMAGE]

    @property
    def supported_label_types(self) -> list[str]:
        return list(KINDS)

    @property
    def supported_scalar_types(self) -> list[type]:
        return [fo.StringField]

    @property
    def supported_attr_types(self) -> list[str]:
        return []

    @property
    def supports_keyframes(self) -> bool:
        return False

    @property
    def supports_video_sample_fields(self) -> bool:
        return False

    @property
    def requires_label_schema(self) -> bool:
        return True

    def upload_annotations(self, samples: Any, anno_key: str, launch_editor: bool = False) -> IdsynthResults:
        """Sends the images, with the labels that they have; what was interrupted is continued."""
        config = self.config
        labelling = labelling_of(config.label_schema)
        ids, paths = samples.values(["id", config.media_field])
        missing = [path for path in paths if not path or not os.path.isfile(path)]
        if missing:
            raise UsageError(f"{len(missing)} image files are not there, e.g. {missing[0]}: leave these samples out")
        samples.compute_metadata(skip_failures=True, warn_failures=False, progress=False)
        server = Server(config.url)
        project = self._project(server, samples._root_dataset, anno_key, labelling)
        known = read_keys(server, project.id)
        owner = dataset_id(samples._root_dataset)
        keys = {sample_id: TaskKey(owner, sample_id, 0) for sample_id in ids}
        files = dict(zip(ids, paths, strict=True))
        way, _ = find_way(server, project.id, config.images, paths, {})
        lacking = [sample_id for sample_id in ids if keys[sample_id] not in known.by_key]

        def tasks(chunk: Sequence[str]) -> list[dict[str, Any]]:
            addresses = way.addresses([Picture(files[sample_id], None) for sample_id in chunk])
            said = _predictions(samples.select(list(chunk)), labelling) if config.annotators == 1 else {}
            return [
                make_task(str(keys[sample_id]), address, said.get(sample_id), model_version=anno_key)
                for sample_id, address in zip(chunk, addresses, strict=True)
            ]

        add_tasks(server, project.id, (tasks(chunk) for chunk in cut(lacking, CHUNK)), known)
        shown = config.annotators == 1 and any(info.get("existing_field") for info in config.label_schema.values())
        values = {"show_collab_predictions": shown, **({"model_version": anno_key} if shown else {})}
        server.update_project(project, **values)
        results = IdsynthResults(
            samples, config, anno_key, {}, project.id, _label_ids(samples, labelling), backend=self
        )
        if launch_editor:
            results.launch_editor()
        return results

    def download_annotations(self, results: IdsynthResults) -> dict[str, Any]:
        """Reads the answers that are new; nothing is said of other samples, so that they stay as they are."""
        config, dataset = self.config, results.samples._root_dataset
        server = Server(config.url)
        project = server.project(results.project_id)
        labelling = Labelling.parse(project.config_xml)
        owner = dataset_id(dataset)
        read = [task for task in map(read_task, list(server.tasks(project.id))) if task is not None]
        there = set(dataset.values("id"))
        tasks = latest_by_sample(
            task for task in read if task.key.dataset_id == owner and task.key.sample_id in there
        )  # fmt: skip
        results.remember_labels()
        found: dict[str, Any] = {
            name: {foua._RETURN_TYPES_MAP[info["type"]]: {}} for name, info in config.label_schema.items()
        }
        tags: dict[str, list[str]] = {}
        for page in pages(sorted(tasks)):
            sizes = zip(*dataset.select(page).values(["id", "metadata.width", "metadata.height"]), strict=True)
            for sample_id, width, height in sizes:
                task = tasks[sample_id]
                if not task.given and task.skips and sample_id not in results.loaded:
                    tags.setdefault(SKIPPED_TAG, []).append(sample_id)
                if len(task.given) < max(1, config.min_annotators):
                    continue
                if task.version <= results.loaded.get(sample_id, ""):
                    continue
                try:
                    merged = self._merged(labelling, task, (width or 1, height or 1))
                except ValuesError as error:
                    logger.warning("Sample %s stays as it is: %s", sample_id, error)
                    continue
                tag = CONFLICT_TAG if merged is None else LABELLED_TAG
                tags.setdefault(tag, []).append(sample_id)
                results.loaded[sample_id] = task.version
                for name, value in (merged or {}).items():
                    info = config.label_schema[name]
                    to_files(value, media_store(dataset).write_image)
                    label_ids = results.begin(name, sample_id)
                    said = _as_loaded(info["type"], value, label_ids)
                    if said is not None:
                        found[name][foua._RETURN_TYPES_MAP[info["type"]]][sample_id] = said
        tag_settled(dataset, tags)
        return found

    def _merged(self, labelling: Labelling, task: Answered, size: tuple[int, int]) -> dict[str, Any] | None:
        """Field -> label; ``None`` if people disagree about one."""
        config = self.config
        said = {one.annotator: from_results(labelling, one.results, *size, labels=config.labels) for one in task.given}
        found = {}
        for name, kind in labelling.fields.items():
            if name not in config.label_schema:
                continue
            theirs = {person: values[name] for person, values in said.items()}
            merged = merge_answers(kind, theirs, config.merge, config.iou)
            if merged.conflict:
                return None
            found[name] = merged.value
        return found

    def _project(self, server: Server, dataset: Any, anno_key: str, labelling: Labelling) -> Project:
        """The project of a run: made, or found again after an interruption."""
        mark = f"idsynth-run:{dataset_id(dataset)}/{anno_key}"
        for project in server.projects():
            if mark in project.description:
                return project
        config = self.config
        return server.create_project(
            config.project_name or project_title(f"{dataset.name} {anno_key}"), labelling.xml(),
            annotators=config.annotators,
            description=f"Annotation run {anno_key!r} of the FiftyOne dataset {dataset.name!r} ({mark})",
        )  # fmt: skip


class IdsynthResults(foua.AnnotationResults):  # type: ignore[misc]
    """What a run remembers.

    Args:
        samples: the samples
        config: the run's settings
        anno_key: the run
        id_map: the labels that FiftyOne compares with what comes back: those of samples with new answers alone
        project_id: the project
        label_ids: field -> sample -> ids of labels that people were shown or made
        loaded (None): sample -> the version of the answers that were loaded
        backend (None): the backend
    """

    def __init__(
        self, samples: Any, config: IdsynthBackendConfig, anno_key: str, id_map: dict[str, Any], project_id: int,
        label_ids: dict[str, dict[str, list[str]]], loaded: dict[str, str] | None = None, backend: Any = None,
    ):  # fmt: skip
        super().__init__(samples, config, anno_key, id_map, backend=backend)
        self.project_id, self.label_ids, self.loaded = project_id, label_ids, loaded or {}
        self.id_map: dict[str, Any] = id_map

    def launch_editor(self) -> None:
        """Opens the project in a browser."""
        webbrowser.open_new_tab(f"{Server(self.config.url).url}/projects/{self.project_id}/data")

    def cleanup(self) -> None:
        """Deletes the project with all tasks and answers."""
        Server(self.config.url).delete(f"/api/projects/{self.project_id}")

    def forget_loaded(self) -> None:
        """Lets the next load bring all answers, also those that were loaded before."""
        self.loaded = {}

    def remember_labels(self) -> None:
        """Takes over the ids of labels that FiftyOne added by the last load, and forgets which it was to compare."""
        for name, by_sample in self.id_map.items():
            for sample_id, ids in by_sample.items():
                known = self.label_ids.setdefault(name, {}).setdefault(sample_id, [])
                known += [one for one in ([ids] if isinstance(ids, str) else ids or []) if one not in known]
        self.id_map = {}

    def begin(self, name: str, sample_id: str) -> list[str]:
        """Lets FiftyOne compare a sample's labels with what comes back, and returns their ids."""
        for field, by_sample in self.label_ids.items():
            if field == name or field not in self.config.label_schema:  # that, or where it was loaded instead
                self.id_map.setdefault(field, {})[sample_id] = list(by_sample.get(sample_id, []))
        return self.label_ids.get(name, {}).get(sample_id, [])

    @classmethod
    def _from_dict(cls, d: Any, samples: Any, config: Any, anno_key: str) -> IdsynthResults:
        return cls(samples, config, anno_key, d["id_map"], d["project_id"], d["label_ids"], d["loaded"])


def labelling_of(label_schema: Mapping[str, Mapping[str, Any]]) -> Labelling:
    """What people are asked, of FiftyOne's description of it."""
    kinds = {field: KINDS[info["type"]] for field, info in label_schema.items()}
    classes: dict[str, Any] = {}
    for field, info in label_schema.items():
        if kinds[field] == "Segmentation":
            classes[field] = {value: str(name) for value, name in info["mask_targets"].items() if value != 0}
            if any(not isinstance(value, int) for value in classes[field]):
                raise FieldError(f"{field!r} holds masks in colours: people can be asked for masks of numbers alone")
        elif kinds[field] != "str":
            listed = info.get("classes") or ()
            classes[field] = list(
                chain.from_iterable(one["classes"] if isinstance(one, Mapping) else [one] for one in listed)
            )
    return Labelling.asked(kinds, classes)


def _values(samples: Any, labelling: Labelling) -> Iterable[tuple[str, int, int, dict[str, Any]]]:
    """Id, width, height and existing labels of samples."""
    names = [name for name in labelling.fields if samples.get_field(name) is not None]
    columns = samples.values(["id", "metadata.width", "metadata.height", *names])
    for sample_id, width, height, *values in zip(*columns, strict=True):
        yield sample_id, width or 0, height or 0, dict(zip(names, values, strict=True))


def _predictions(samples: Any, labelling: Labelling) -> dict[str, list[dict[str, Any]]]:
    """The labels that samples have, for people to correct."""
    return {
        sample_id: to_results(labelling, values, width, height)
        for sample_id, width, height, values in _values(samples, labelling)
        if width and height and any(value is not None for value in values.values())
    }


def _label_ids(samples: Any, labelling: Labelling) -> dict[str, dict[str, list[str]]]:
    """Field -> sample -> the ids of its labels."""
    found: dict[str, dict[str, list[str]]] = {name: {} for name in labelling.fields}
    for sample_id, _, _, values in _values(samples, labelling):
        for name, value in values.items():
            if isinstance(value, fo.Label):
                found[name][sample_id] = [str(one.id) for one in _parts(value)]
    return found


def _parts(value: Any) -> list[Any]:
    return list(value[value._LABEL_LIST_FIELD]) if hasattr(value, "_LABEL_LIST_FIELD") else [value]


def _as_loaded(label_type: str, value: Any, known: Sequence[str]) -> Any:
    """A label as FiftyOne's merging takes it: by the ids of its parts, or a text."""
    if label_type == "scalar":
        return value
    if value is None:
        return {}
    parts = _parts(value)
    if label_type == "classification" and known:
        parts[0].id = known[0]  # the class of an image has one id, whoever names it
    return {str(part.id): part for part in parts}
