"""Adds tasks to a project, each once: whatever breaks on the way, a task is there or it is not, and never twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from .client import Server
from .errors import LabelStudioError, Refused, Unconfirmed
from .keys import DATA_FIELD, IMAGE_FIELD, TaskKey, key_of

SETTLE_SECONDS = 5.0
"""How long is waited at least for a request to show its effect after its answer was lost."""

TRIES = 3
"""How often tasks are sent, if each time the answer was lost and they are not there."""

Tasks = Sequence[dict[str, Any]]


@dataclass
class Known:
    """A task that is there.

    Attributes:
        id: its id at the server
        data: its data
        answers: how many answers it has, those that were skipped included
    """

    id: int
    data: dict[str, Any]
    answers: int

    @property
    def image(self) -> str:
        return str(self.data.get(IMAGE_FIELD, ""))


@dataclass
class KnownTasks:
    """The tasks of a project.

    Attributes:
        by_key: key -> the task; of several with the same key the one with most answers, or else the first
        surplus: the others
        total: how many tasks the project has, those of others included
    """

    by_key: dict[TaskKey, Known] = field(default_factory=dict)
    surplus: list[Known] = field(default_factory=list)
    total: int = 0


def read_keys(server: Server, project_id: int) -> KnownTasks:
    """Reads which tasks a project has."""
    found = KnownTasks()
    for task in server.tasks(project_id, key_only=True):
        found.total += 1
        key = key_of(task)
        if key is None:
            continue
        answers = int(task.get("total_annotations") or 0) + int(task.get("cancelled_annotations") or 0)
        known = Known(int(task["id"]), task["data"], answers)
        other = found.by_key.setdefault(key, known)
        if other is not known:
            if known.answers > other.answers:
                found.by_key[key], known = known, other
            found.surplus.append(known)
    return found


def add_tasks(
    server: Server,
    project_id: int,
    chunks: Iterable[Tasks],
    known: KnownTasks,
    added: Callable[[int], None] = lambda count: None,
) -> tuple[int, int]:
    """Adds tasks and makes sure that each is there once.

    Args:
        server: the server
        project_id: the project
        chunks: tasks with keys that are not there, as the server takes them, one request each
        known: what is there, as :func:`read_keys` gave it
        added: called with the number of tasks that were added

    Returns:
        how many tasks the project has now, and how many were removed because they were there twice

    Raises:
        LabelStudioError: the server cannot be reached or refuses; called again with what is lacking, this continues
    """
    expected = known.total
    with closing(ahead(chunks)) as prepared:
        for chunk in prepared:
            expected += len(chunk)
            _add(server, project_id, chunk, expected)
            added(len(chunk))
    return verify(server, project_id, expected, known)


def verify(server: Server, project_id: int, expected: int, known: KnownTasks) -> tuple[int, int]:
    """Counts the tasks of a project and removes those that are there twice.

    Keys are read again only if the number is not the expected one, or if there were such tasks before.

    Returns:
        how many there are, and how many were removed
    """
    total = server.count(project_id)
    if total == expected and not known.surplus:
        return total, 0
    removed = remove_surplus(server, project_id, read_keys(server, project_id).surplus)
    return server.count(project_id), removed


def remove_surplus(server: Server, project_id: int, surplus: Sequence[Known]) -> int:
    """Deletes tasks that another one stands for, unless somebody has answered them or begun to."""
    removed = 0
    for start in range(0, len(surplus), 50):
        ids = [task.id for task in surplus[start : start + 50]]
        for task in server.export(project_id, ids):
            if not task["annotations"] and not task["drafts"]:
                server.delete_task(task["id"])
                removed += 1
    return removed


def _add(server: Server, project_id: int, tasks: Tasks, expected: int) -> None:
    """Adds tasks in one request, in two if the server finds it too large, and again if it was lost."""
    for attempt in range(TRIES):
        began = time.monotonic()
        try:
            server.import_tasks(project_id, tasks)
            return
        except Refused as error:
            if error.reason != "too_large" or len(tasks) == 1:
                raise
            half = len(tasks) // 2
            _add(server, project_id, tasks[:half], expected - len(tasks) + half)
            _add(server, project_id, tasks[half:], expected)
            return
        except Unconfirmed as error:
            _settle(server, project_id, expected, time.monotonic() - began)
            there = read_keys(server, project_id).by_key
            tasks = [task for task in tasks if key_of(task) not in there]
            if not tasks:
                return
            if attempt == TRIES - 1:
                raise LabelStudioError(
                    "unconfirmed", f"{error.detail}, {TRIES} times, and {len(tasks)} tasks did not arrive. What is "
                    "there stays; the same command continues"
                ) from error  # fmt: skip


def _settle(server: Server, project_id: int, expected: int, spent: float) -> None:
    """Waits until tasks are there, or the server has had twice the time that it had before the answer was lost."""
    deadline = time.monotonic() + max(SETTLE_SECONDS, spent)
    while server.count(project_id) < expected and time.monotonic() < deadline:
        time.sleep(0.25)


def ahead(chunks: Iterable[Tasks]) -> Generator[Tasks, None, None]:
    """Prepares each chunk while the one before it is sent."""
    waiting = iter(chunks)
    with ThreadPoolExecutor(1, "prepare") as pool:
        future = pool.submit(next, waiting, None)
        while (chunk := future.result()) is not None:
            future = pool.submit(next, waiting, None)
            yield chunk


def make_task(
    key: str, image: str, prediction: Sequence[dict[str, Any]] | None = None, score: float | None = None,
    model_version: str = "",
) -> dict[str, Any]:  # fmt: skip
    """A task as the server takes it.

    Args:
        key: see :func:`~fiftyone_idsynth.learning.label_studio.keys.task_key`
        image: the address of its image
        prediction (None): what a model says, as results of Label Studio; empty if it says that nothing is there
        score (None): how sure the model is; the lowest come first
        model_version (""): the model
    """
    task: dict[str, Any] = {"data": {IMAGE_FIELD: image, DATA_FIELD: key}}
    if prediction is not None:
        said = {"model_version": model_version, "result": list(prediction)}
        task["predictions"] = [said if score is None else {**said, "score": float(score)}]
    return task


def cut(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Cuts a sequence into parts."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
