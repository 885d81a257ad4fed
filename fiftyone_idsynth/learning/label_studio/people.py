"""People in Label Studio who are asked for the classes of images, as the cascade asks them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..people import Answer, People
from .client import Project, Server
from .config import Labelling
from .errors import ProjectError
from .keys import TaskKey, dataset_id
from .pull import OVERLAP
from .push import read_keys
from .reading import Answered, read_task
from .values import from_results

if TYPE_CHECKING:
    import fiftyone as fo


class PeopleInLabelStudio(People):
    """People who name the classes of images in a project of Label Studio.

    Each image is one task. How many people are to answer it is kept at the task itself, so that images that are asked
    about together may need different numbers of people. An empty answer counts as skipped: it names no class.

    Args:
        dataset: the dataset
        project (None): title or id of the project; by default the one that was made for this dataset
        label_field ("ground_truth"): the field that the project asks for
        classes (()): the classes to choose from; by default those of the dataset
        round (0): the same images in another round are asked about once more
        url (None): the server's address; by default that in LABEL_STUDIO_URL
        sending (None): further parameters of ``send_to_label_studio``, e.g. ``images``
    """

    def __init__(
        self, dataset: fo.Dataset, *, project: str | None = None, label_field: str = "ground_truth",
        classes: Sequence[str] = (), round: int = 0, url: str | None = None, sending: dict[str, Any] | None = None,
    ):  # fmt: skip
        self._dataset, self._project_name, self._field, self._round = dataset, project, label_field, round
        self._sending = {
            "project": project, "label_field": label_field, "label_type": "classification", "classes": tuple(classes),
            "round": round, "url": url, "progress": False, **(sending or {}),
        }  # fmt: skip
        self._server = Server(url)
        self._owner = dataset_id(dataset)
        self._tasks: dict[str, Answered] = {}
        self._since: datetime | None = None

    def ask(self, ids: Sequence[str], *, annotators: int = 1, hidden: bool = False) -> None:
        from ..send_to_label_studio import send_to_label_studio

        if not ids:
            return
        shown = annotators == 1 and not hidden
        send_to_label_studio(self._dataset.select(list(ids)), show_predictions=shown, **self._sending)
        if annotators > 1:
            known = read_keys(self._server, self._project().id).by_key
            for sample_id in ids:
                task = known.get(TaskKey(self._owner, sample_id, self._round))
                if task is not None:
                    self._need(task.id, annotators)

    def answers(self, ids: Sequence[str]) -> list[Answer]:
        project = self._project()
        labelling = Labelling.parse(project.config_xml)
        self._read(project)
        found = []
        for sample_id in ids:
            task = self._tasks.get(sample_id)
            if task is None:
                continue
            for one in task.given:
                label = from_results(labelling, one.results, 1, 1).get(self._field)
                found.append(Answer(sample_id, one.annotator, label.label if label is not None else None))
            found += [Answer(sample_id, person, None) for person in task.skips]
        return found

    def _need(self, task: int, annotators: int) -> None:
        """Asks for so many people, never for fewer than before."""
        path = f"/api/tasks/{task}"
        if int(self._server.get(path).get("overlap") or 1) < annotators:
            self._server.patch(path, {"overlap": annotators})

    def _project(self) -> Project:
        found = self._server.project_of(self._dataset, self._project_name)
        if found is None:
            raise ProjectError(
                "not_found", f"Label Studio at {self._server.url} has no project for {self._dataset.name!r}: ask first"
            )
        return found

    def _read(self, project: Project) -> None:
        """Reads what changed since it was read last; of each sample the task of this round."""
        raw = list(self._server.tasks(project.id, since=self._since))
        times = []
        for one in raw:
            times.append(datetime.fromisoformat(one["updated_at"]))
            task = read_task(one)
            if task is not None and (task.key.dataset_id, task.key.round) == (self._owner, self._round):
                self._tasks[task.key.sample_id] = task
        if times:
            self._since = max(times) - OVERLAP
