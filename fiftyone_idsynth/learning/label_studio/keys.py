"""What ties a task of Label Studio to a sample: a key in the task's data, and the title of a dataset's project."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import fiftyone as fo

DATA_FIELD = "idsynth"
"""The field of a task's data that holds its key. Ids of tasks are no keys: SQLite gives a deleted task's id again."""

IMAGE_FIELD = "image"
"""The field of a task's data that holds the address of its image."""

_KEY = re.compile(r"([0-9a-f]{24})/([0-9a-f]{24})/(\d{1,9})")
_TITLE_MIN, _TITLE_MAX = 3, 50


@dataclass(frozen=True)
class TaskKey:
    """What a task is about.

    Attributes:
        dataset_id: the dataset, see :func:`dataset_id`
        sample_id: the sample
        round: the round in which people are asked; the same image in another round is another task
    """

    dataset_id: str
    sample_id: str
    round: int

    def __str__(self) -> str:
        return f"{self.dataset_id}/{self.sample_id}/{self.round}"


def task_key(dataset_id: str, sample_id: str, round: int) -> str:
    """The key of a task: ``DATASET/SAMPLE/ROUND``."""
    return str(TaskKey(dataset_id, sample_id, round))


def parse_key(text: Any) -> TaskKey | None:
    """Reads a task's key; ``None`` if it is not one of ours."""
    found = _KEY.fullmatch(text) if isinstance(text, str) else None
    return TaskKey(found[1], found[2], int(found[3])) if found else None


def key_of(task: dict[str, Any]) -> TaskKey | None:
    """The key of a task as the server gives it; ``None`` if it was not made by this package."""
    return parse_key((task.get("data") or {}).get(DATA_FIELD))


def dataset_id(dataset: fo.Dataset) -> str:
    """The id of a dataset, which it keeps when it is renamed; a clone, whose samples keep their ids, has another."""
    return str(dataset._doc.id)


def mark_of(dataset: fo.Dataset) -> str:
    """What stands in the description of a dataset's project, so that it is found again."""
    return f"idsynth:{dataset_id(dataset)}"


def project_title(dataset_name: str) -> str:
    """The title of a dataset's project: its name, cut or lengthened to the 3 to 50 characters that are allowed."""
    if len(dataset_name) > _TITLE_MAX:
        mark = hashlib.blake2b(dataset_name.encode(), digest_size=4).hexdigest()
        return f"{dataset_name[: _TITLE_MAX - len(mark) - 1]}-{mark}"
    return dataset_name if len(dataset_name) >= _TITLE_MIN else f"idsynth {dataset_name}"
