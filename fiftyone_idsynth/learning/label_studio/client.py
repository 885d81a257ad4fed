"""What this project asks of a Label Studio server.

CLIENT API::

    server = Server(url=None, token=None)       # LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY; checks nothing yet
    server.whoami() -> dict                     # raises TokenError, Unreachable
    server.projects() -> list[Project]
    server.project(7) -> Project                # by id
    server.find_project("cats") -> Project | None                   # by title, or by id as text
    server.project_of(dataset, name=None) -> Project | None         # the named one, or that of the dataset
    server.create_project(title, xml, annotators=1, ...) -> Project
    server.update_project(project, config_xml=..., ...) -> Project;  server.update_config(project, xml) -> Project
    server.count(project_id) -> int
    server.tasks(project_id, since=None, key_only=False) -> Iterator[dict]   # raw JSON; exhaust it, then act
    server.import_tasks(project_id, tasks) -> int                   # one POST, never repeated; may raise Unconfirmed
    server.upload(project_id, paths) -> list[str]
    server.local_storage(project_id, folder)
    server.local_storages(project_id) -> list[str]
    server.update_task(task_id, data);  server.delete_task(task_id);  server.export(project_id, ids)
    server.content(path) -> bytes               # e.g. of an image
    server.sdk                                  # label_studio_sdk's LabelStudio(base_url, api_key) for the rest

All errors are :class:`~fiftyone_idsynth.learning.label_studio.errors.LabelStudioError`. Reading is repeated when it
fails; a POST never is, because the server may have carried it out although its answer was lost.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .connection import Connection
from .errors import LabelStudioError, ProjectError, Refused, TruncatedAnswer, Unconfirmed
from .extending import lost_labels
from .keys import mark_of, project_title

if TYPE_CHECKING:
    import fiftyone as fo
    from label_studio_sdk import LabelStudio

MAX_FILES = 100
"""How many files the server takes in one request (its ``DATA_UPLOAD_MAX_NUMBER_FILES``)."""

PAGE_SIZE, KEY_PAGE_SIZE = 1000, 2500

EXPORTED_AT_ONCE = 10_000
"""The largest project whose tasks are read in one answer instead of pages, unless only changes are wanted."""

_INCLUDED = "id,title,label_config,maximum_annotations,description"
"""What is read of projects in a list; counting the tasks of each would take most of the time."""

_UPLOADED_AS = {".bmp", ".gif", ".jpg", ".jpeg", ".png", ".webp"}
"""Image files that the server takes by their names; a browser shows others whatever they are called."""


@dataclass(frozen=True)
class Project:
    """A project of Label Studio.

    Attributes:
        id: its number
        title: its title, which other projects may have too
        config_xml: its labelling configuration
        annotators: how many people are to label each task
        description: what it is, in words
    """

    id: int
    title: str
    config_xml: str
    annotators: int = 1
    description: str = ""


class Server(Connection):
    """A Label Studio server; see :class:`Connection` for the arguments and the module for an overview."""

    @functools.cached_property
    def sdk(self) -> LabelStudio:
        """The same server as a client of ``label_studio_sdk``, which takes seconds to import.

        It repeats what fails, also what must not be done twice: give ``request_options={"max_retries": 0}``.
        """
        from label_studio_sdk import LabelStudio

        return LabelStudio(base_url=self.url + "/", api_key=self.token)

    def whoami(self) -> dict[str, Any]:
        """Whose token it is, e.g. ``{"id": 1, "email": ...}``."""
        return dict(self.get("/api/current-user/whoami"))

    # -- projects -----------------------------------------------------------------------------------------------------

    def projects(self, title: str | None = None) -> list[Project]:
        """All projects that the token's owner may see, those with the title if one is given, in the order of ids."""
        found: list[Project] = []
        page = 1
        while True:
            answer = self.get("/api/projects", page=page, page_size=200, title=title, include=_INCLUDED)
            found += [_project(one) for one in answer["results"]]
            if not answer.get("next"):
                break
            page += 1
        return sorted((p for p in found if title in (None, p.title)), key=lambda project: project.id)

    def project(self, project_id: int) -> Project:
        """A project by its id.

        Raises:
            ProjectError: there is none
        """
        try:
            return _project(self.get(f"/api/projects/{project_id}"))
        except Refused as error:
            if error.reason != "not_found":
                raise
            titles = ", ".join(f"{p.title!r} ({p.id})" for p in self.projects()[:20]) or "none"
            raise ProjectError(
                "not_found", f"Label Studio at {self.url} has no project {project_id}. There are: {titles}"
            ) from None

    def find_project(self, title: str) -> Project | None:
        """A project by its title or, where none has it, by its id as text.

        Raises:
            ProjectError: several projects have this title
        """
        found = self.projects(title)
        if len(found) > 1:
            ids = ", ".join(str(project.id) for project in found)
            raise ProjectError(
                "ambiguous", f"several projects of {self.url} are called {title!r}: give the id of one, out of {ids}"
            )
        if found:
            return found[0]
        return self.project(int(title)) if title.isdecimal() else None

    def project_of(self, dataset: fo.Dataset, name: str | None = None) -> Project | None:
        """The project of a dataset.

        Args:
            dataset: the dataset
            name (None): the title or id of a project; by default the one that was made for this dataset, also if the
                dataset or the project was renamed since
        """
        if name is not None:
            return self.find_project(name)
        mark = mark_of(dataset)
        marked = [project for project in self.projects() if mark in project.description]
        titled = [project for project in marked if project.title == project_title(dataset.name)]
        if len(titled or marked) > 1:
            listed = ", ".join(f"{project.title!r} ({project.id})" for project in titled or marked)
            raise ProjectError("ambiguous", f"dataset {dataset.name!r} has several projects, name one: {listed}")
        return next(iter(titled or marked), None)

    def create_project(
        self,
        title: str,
        config_xml: str,
        *,
        annotators: int = 1,
        description: str = "",
    ) -> Project:
        """Makes a project.

        Args:
            title: 3 to 50 characters
            config_xml: its labelling configuration
            annotators (1): how many people are to label each task
            description (""): what it is

        Raises:
            ProjectError: the server refuses the configuration or the title
        """
        values = {
            "title": title, "label_config": config_xml, "description": description, "maximum_annotations": annotators,
        }  # fmt: skip
        try:
            return _project(self.post("/api/projects", values))
        except Refused as error:
            raise ProjectError("config", error.detail) from error
        except Unconfirmed:
            made = [p for p in self.projects(title) if p.description == description and not self.count(p.id)]
            if not made:
                raise
            return made[-1]

    def update_project(self, project: Project, **values: Any) -> Project:
        """Changes settings of a project.

        Args:
            project: the project
            **values: settings by the server's own names, e.g. ``label_config``, ``maximum_annotations``,
                ``model_version``, ``show_collab_predictions``

        Raises:
            ProjectError: the server refuses, e.g. because answers use a control that would vanish
        """
        try:
            return _project(self.patch(f"/api/projects/{project.id}", values))
        except Refused as error:
            raise ProjectError("config", error.detail) from error

    def update_config(self, project: Project, config_xml: str) -> Project:
        """Changes a project's labelling configuration.

        Raises:
            ProjectError: labels that people have used would vanish, which the server itself would not mind
        """
        lost = lost_labels(self.used_labels(project), config_xml)
        if lost:
            raise ProjectError(
                "config",
                f"people have used labels in project {project.title!r} that would vanish: {', '.join(lost[:10])}. Keep "
                "them among the classes, or name another project",
            )
        return self.update_project(project, label_config=config_xml)

    def used_labels(self, project: Project) -> dict[str, dict[str, int]]:
        """The labels that answers and drafts in a project use: control -> label -> how often."""
        summary = self.get(f"/api/projects/{project.id}/summary")
        used: dict[str, dict[str, int]] = {}
        for kind in ("created_labels", "created_labels_drafts"):
            for control, labels in (summary.get(kind) or {}).items():
                counts = used.setdefault(control, {})
                for label, count in labels.items():
                    counts[label] = counts.get(label, 0) + count
        return used

    # -- tasks --------------------------------------------------------------------------------------------------------

    def count(self, project_id: int, *, since: datetime | None = None) -> int:
        """How many tasks a project has; those that changed since then if a time is given."""
        return int(self._tasks_after(project_id, 0, since, page_size=1)["total"])

    def tasks(
        self, project_id: int, *, since: datetime | None = None, key_only: bool = False, page_size: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """The tasks of a project as the server gives them, in the order of their ids.

        Read all of them before anything is changed: whether some are lacking is known only at the end. ``predictions``
        may be whole or ids alone, depending on how the tasks are read.

        Args:
            project_id: the project
            since (None): only tasks that changed later than this time (with a time zone): by an answer, also one that
                was skipped, changed or deleted, or by a prediction; not by a draft
            key_only (False): leave out annotations, drafts and predictions
            page_size (None): tasks per request

        Raises:
            TruncatedAnswer: the server gave fewer tasks than it says there are
        """
        size = page_size or (KEY_PAGE_SIZE if key_only else PAGE_SIZE)
        if not key_only and self._exported_sooner(project_id, since):
            yield from self._exported(project_id, since)
            return
        last = seen = 0
        promised = None
        while True:
            # Pages are asked for by id: by number, tasks would be passed over when others are deleted meanwhile.
            answer = self._tasks_after(project_id, last, since, page_size=size, whole=not key_only)
            tasks, left = answer["tasks"], int(answer["total"])
            promised = left if promised is None else promised
            if len(tasks) < min(left, size):
                raise self._truncated(project_id, len(tasks), min(left, size))
            yield from tasks
            seen += len(tasks)
            if left <= len(tasks):
                break
            last = tasks[-1]["id"]
        if seen < promised and seen < (now := self.count(project_id, since=since)):
            raise self._truncated(project_id, seen, min(promised, now))

    def export(self, project_id: int, ids: Sequence[int] = ()) -> list[dict[str, Any]]:
        """Tasks as the server exports them, with the drafts of all people: those with some ids, or all."""
        query = {"exportType": "JSON", "download_all_tasks": "true", "ids[]": list(ids)}
        return list(self.get(f"/api/projects/{project_id}/export", **query))

    def _exported_sooner(self, project_id: int, since: datetime | None) -> bool:
        """Whether all tasks in one answer come sooner than pages of those that changed: half as long a task."""
        total = self.count(project_id)
        return total <= EXPORTED_AT_ONCE and (since is None or 2 * self.count(project_id, since=since) > total)

    def _exported(self, project_id: int, since: datetime | None) -> list[dict[str, Any]]:
        """The tasks in one answer, of which the server keeps a copy among its exports."""
        promised = self.count(project_id)
        found = self.export(project_id)
        if len(found) < promised and len(found) < (now := self.count(project_id)):
            raise self._truncated(project_id, len(found), min(promised, now))
        if since is not None:
            found = [task for task in found if datetime.fromisoformat(task["updated_at"]) > since]
        return sorted(found, key=lambda task: task["id"])

    def _tasks_after(
        self, project_id: int, last: int, since: datetime | None, *, page_size: int, whole: bool = False
    ) -> dict[str, Any]:
        wanted: list[tuple[str, str, Any]] = [("id", "Number", last)] if last else []
        if since is not None:
            wanted.append(("updated_at", "Datetime", since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")))
        filters = [
            {"filter": f"filter:tasks:{name}", "operator": "greater", "type": kind, "value": value}
            for name, kind, value in wanted
        ]
        query = {"filters": {"conjunction": "and", "items": filters}, "ordering": ["tasks:id"]}
        try:
            answer: dict[str, Any] = self.get(
                "/api/tasks", project=project_id, page_size=page_size, resolve_uri="false",
                fields="all" if whole else "task_only", query=json.dumps(query),
            )  # fmt: skip
        except Refused as error:
            if error.reason == "not_found":
                self.project(project_id)  # says so if it is the project that is not there
            raise
        return answer

    def _truncated(self, project_id: int, got: int, promised: int) -> TruncatedAnswer:
        return TruncatedAnswer(
            "truncated",
            f"the answer is truncated: {self.url} gave {got} of {promised} tasks of project {project_id}. Nothing was "
            "changed by it; try again",
        )

    def import_tasks(self, project_id: int, tasks: Sequence[dict[str, Any]]) -> int:
        """Adds tasks, all or none, in one request that is never sent again.

        Returns:
            how many the server says that it added

        Raises:
            Unconfirmed: nobody knows whether they were added: read the keys
        """
        answer = self.post(f"/api/projects/{project_id}/import", list(tasks))
        return int(answer["task_count"])

    def update_task(self, task_id: int, data: dict[str, Any]) -> None:
        """Replaces a task's data; its answers and predictions stay."""
        self.patch(f"/api/tasks/{task_id}", {"data": data})

    def delete_task(self, task_id: int) -> None:
        """Deletes a task with all answers that it has."""
        self.delete(f"/api/tasks/{task_id}")

    # -- images -------------------------------------------------------------------------------------------------------

    def upload(self, project_id: int, paths: Sequence[str | os.PathLike[str]]) -> list[str]:
        """Uploads up to :data:`MAX_FILES` images and returns their addresses at the server, in the same order."""
        files = [Path(path) for path in paths]
        fields = {f"f{n}": (_upload_name(file), file.read_bytes()) for n, file in enumerate(files)}
        answer = self.post(f"/api/projects/{project_id}/import", fields=fields, commit_to_project="false")
        ids = answer["file_upload_ids"]
        listed = self.get(f"/api/projects/{project_id}/file-uploads", ids=json.dumps(ids))
        names = {one["id"]: one["file"] for one in listed}
        if len(ids) != len(files) or set(names) != set(ids):
            raise LabelStudioError(
                "upload", f"{self.url} took {len(ids)} of {len(files)} images and lists {len(names)}: try again"
            )
        return [quote(f"/data/{names[number]}") for number in ids]

    def local_storages(self, project_id: int) -> list[str]:
        """The folders whose files the server may serve for a project."""
        return [str(one["path"]) for one in self.get("/api/storages/localfiles", project=project_id)]

    def local_storage(self, project_id: int, folder: str | os.PathLike[str]) -> None:
        """Lets the server serve the files of a folder, which is below its document root.

        Raises:
            Refused: the server does not see the folder, or serves no local files; it says why
        """
        if any(Path(folder).is_relative_to(known) for known in self.local_storages(project_id)):
            return
        values = {
            "project": project_id, "path": str(folder), "title": f"images in {Path(folder).name}"[:200],
            "use_blob_urls": True,
        }  # fmt: skip
        self.post("/api/storages/localfiles", values)


def _project(found: dict[str, Any]) -> Project:
    return Project(
        int(found["id"]),
        str(found.get("title") or ""),
        str(found.get("label_config") or ""),
        int(found.get("maximum_annotations") or 1),
        str(found.get("description") or ""),
    )


def _upload_name(file: Path) -> str:
    return file.name if file.suffix.lower() in _UPLOADED_AS else f"{file.name}.jpg"
