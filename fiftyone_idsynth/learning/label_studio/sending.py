"""Sends the tasks that a project lacks, with what a model says and where their images are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ...samples import pages
from ...stage import Run
from ..candidates import TEST_TAG
from ..predictions import INNER, read_predictions
from .client import Project, Server
from .images import Images, Picture
from .keys import IMAGE_FIELD, TaskKey, dataset_id
from .push import KnownTasks, add_tasks, cut, make_task
from .question import Question

if TYPE_CHECKING:
    import fiftyone as fo
    from fiftyone.core.collections import SampleCollection

UPLOAD_CHUNK = 100
"""How many images are uploaded before their tasks are added: so many are lost at most if it breaks off."""


class Push:
    """Sends what is lacking."""

    def __init__(
        self, run: Run, server: Server, project: Project, asked: Question, known: KnownTasks, way: Images,
        paths: dict[str, str], round: int, shown: bool,
    ):  # fmt: skip
        self._run, self._server, self._project, self._asked = run, server, project, asked
        self._known, self._way, self._paths, self._shown = known, way, paths, shown
        owner = dataset_id(run.dataset)
        self._keys = {sample_id: TaskKey(owner, sample_id, round) for sample_id in paths}
        self._there = [sample_id for sample_id, key in self._keys.items() if key in known.by_key]
        self._version: str | None = None
        self._predicted = self._moved = self._removed = self._total = 0

    def update_moved(self) -> None:
        """Tells tasks where their images are now."""
        for page in pages(self._there):
            pictures = self._pictures(page)
            for sample_id in page:
                task = self._known.by_key[self._keys[sample_id]]
                if self._way.moved(pictures[sample_id], task.image):
                    address = self._way.addresses([pictures[sample_id]])[0]
                    self._server.update_task(task.id, {**task.data, IMAGE_FIELD: address})
                    self._moved += 1
        self._run.skipped(len(self._there))

    def add(self, batch_size: int) -> None:
        """Adds the tasks that are lacking, those first of which a model is least certain."""
        done = set(self._there)
        lacking = [sample_id for sample_id in self._paths if sample_id not in done]
        scores = self._scores(lacking)
        lacking.sort(key=lambda sample_id: scores.get(sample_id, math.inf))
        size = min(batch_size, UPLOAD_CHUNK) if self._way.name == "upload" else batch_size
        with self._run.progress(len(self._paths)) as bar:
            bar.update(len(done))

            def added(count: int) -> None:
                self._run.processed(count)
                bar.update(count)

            chunks = (self._tasks(page, scores) for page in cut(lacking, size))
            self._total, self._removed = add_tasks(self._server, self._project.id, chunks, self._known, added)

    def order(self) -> None:
        """Lets the server show the images first of which the model is least certain."""
        values: dict[str, Any] = {"show_collab_predictions": self._shown}
        if self._predicted and self._version:
            values |= {"sampling": "Uncertainty sampling", "model_version": self._version}
        elif not self._there:
            values |= {"sampling": "Sequential sampling"}
        self._server.update_project(self._project, **values)

    def summary(self) -> dict[str, Any]:
        """What the report says."""
        found: dict[str, Any] = {
            "project": self._project.title,
            "address": f"{self._server.url}/projects/{self._project.id}/data",
            "tasks in the project": self._total,
            "images": self._way.name,
            "with predictions": self._predicted,
        }
        if self._moved:
            found["images moved"] = self._moved
        if self._removed:
            found["removed because they were there twice"] = self._removed
        return found

    def _pictures(self, ids: Sequence[str]) -> dict[str, Any]:
        dataset = self._run.dataset
        urls: dict[str, str | None] = {}
        if self._way.name == "url" and dataset.has_field("source.image_url"):
            urls = dict(zip(*dataset.select(list(ids)).values(["id", "source.image_url"]), strict=True))
        return {sample_id: Picture(self._paths[sample_id], urls.get(sample_id)) for sample_id in ids}

    def _scores(self, ids: Sequence[str]) -> dict[str, float]:
        """How sure the model is of samples, where that is known: 1 less the uncertainty."""
        dataset, said = self._run.dataset, self._asked.predictions
        found: dict[str, float] = {}
        if said in (None, self._asked.label_field) or not ids:
            return found
        if self._asked.kind in INNER:
            values = read_predictions(dataset, ids, str(said), self._asked.kind, "least_confidence", "max").uncertainty
            found = {i: 1 - float(value) for i, value in zip(ids, values, strict=True) if math.isfinite(value)}
        if dataset.has_field("uncertainty"):
            for page in pages(list(ids)):
                for sample_id, value in zip(*dataset.select(page).values(["id", "uncertainty"]), strict=True):
                    if value is not None and math.isfinite(value):
                        found[sample_id] = 1 - value
        return found

    def _tasks(self, ids: Sequence[str], scores: dict[str, float]) -> list[dict[str, Any]]:
        pictures = self._pictures(ids)
        addresses = self._way.addresses([pictures[sample_id] for sample_id in ids])
        said = dict(self._predictions(ids)) if self._shown else {}
        self._predicted += len(said)
        return [
            make_task(
                str(self._keys[sample_id]), address, said.get(sample_id), scores.get(sample_id), self._version or ""
            )
            for sample_id, address in zip(ids, addresses, strict=True)
        ]

    def _predictions(self, ids: Sequence[str]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """What the model says of samples, as results of Label Studio; not of those that it is tested with."""
        from .values import to_results

        asked, dataset = self._asked, self._run.dataset
        view = dataset.select(list(ids), ordered=True)
        _measure(dataset, view)
        columns = view.values(["id", "tags", "metadata.width", "metadata.height", asked.predictions])
        for sample_id, tags, width, height, label in zip(*columns, strict=True):
            if TEST_TAG in tags or label is None or not width or not height:
                continue
            yield sample_id, to_results(asked.labelling, {asked.label_field: label}, width, height)
            self._version = self._version or _version(label, str(asked.predictions))


def _measure(dataset: fo.Dataset, view: SampleCollection) -> None:
    """Makes sure that the sizes of images are known."""
    lacking = [i for i, width in zip(*view.values(["id", "metadata.width"]), strict=True) if not width]
    if lacking:
        dataset.select(lacking).compute_metadata(
            overwrite=True, skip_failures=True, warn_failures=False, progress=False
        )


def _version(label: Any, name: str) -> str | None:
    """The model that made a label, as it says itself, else the field."""
    inner = getattr(label, "_LABEL_LIST_FIELD", None)
    labels = [label, *(getattr(label, inner) or [] if inner else [])]
    for one in labels:
        if getattr(one, "model", None):
            revision = getattr(one, "revision", None)
            return f"{one.model}@{revision[:12]}" if revision else str(one.model)
    return None if inner and len(labels) == 1 else name
