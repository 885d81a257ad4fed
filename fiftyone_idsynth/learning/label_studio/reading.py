"""The answers of people in a project: complete ones alone, the last of each person, by sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .keys import TaskKey, key_of


@dataclass(frozen=True)
class Given:
    """One person's answer about one image.

    Attributes:
        annotator: the number of that person at the server, as it is claimed: members can answer in another's name
        at: when it was given or last changed
        results: its results; none if the person says that nothing is there
    """

    annotator: str
    at: datetime
    results: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Answered:
    """What people did with one task.

    Attributes:
        key: what the task is about
        task: its id at the server
        changed: when an answer of the task was last given, changed, skipped or deleted, or a prediction was added
        given: the last answer of each person, in the order in which they were given; not those begun or skipped
        skips: who skipped it and gave no answer
    """

    key: TaskKey
    task: int
    changed: datetime
    given: tuple[Given, ...]
    skips: tuple[str, ...]

    @property
    def version(self) -> str:
        """Grows with every answer; a later round comes after all answers of an earlier one."""
        return f"{self.key.round:09d} {self.changed.isoformat(timespec='microseconds')}"


def read_task(task: Mapping[str, Any]) -> Answered | None:
    """Reads what people did with a task as the server gives it; ``None`` if it is not one of ours."""
    key = key_of(dict(task))
    if key is None:
        return None
    answers = sorted(task.get("annotations") or (), key=lambda one: (_time(one), int(one.get("id") or 0)))
    last: dict[str, Given] = {}
    skipped: dict[str, None] = {}
    for answer in answers:
        person = _person(answer.get("completed_by"))
        if answer.get("was_cancelled"):
            skipped[person] = None
            continue
        last.pop(person, None)  # the last answer counts, and its place in the order
        last[person] = Given(person, _time(answer), tuple(answer.get("result") or ()))
    changed = _parsed(task.get("updated_at")) or max((one.at for one in last.values()), default=_BEGINNING)
    return Answered(
        key, int(task["id"]), changed, tuple(last.values()), tuple(one for one in skipped if one not in last)
    )  # fmt: skip


def latest_by_sample(tasks: Iterable[Answered]) -> dict[str, Answered]:
    """For each sample the task that says most about it: with answers before without, then by :attr:`~Answered.version`.

    Returns:
        sample id -> task
    """
    found: dict[str, Answered] = {}
    for task in tasks:
        other = found.get(task.key.sample_id)
        if other is None or (bool(task.given), task.version) > (bool(other.given), other.version):
            found[task.key.sample_id] = task
    return found


_BEGINNING = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _person(completed_by: Any) -> str:
    return str(completed_by.get("id") if isinstance(completed_by, Mapping) else completed_by)


def _time(answer: Mapping[str, Any]) -> datetime:
    return _parsed(answer.get("updated_at")) or _parsed(answer.get("created_at")) or _BEGINNING


def _parsed(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) and text else None
