"""The engine: reads, decodes, batches, prefetches, isolates errors, writes in bulk and resumes, around any worker."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from .. import fields
from ..authorship import authors_of, declare_authors, written_by_people
from ..samples import PAGE, Documents, dataset_of, pages, set_fields
from ..stage import Run, current_run, fingerprint
from .worker import Item, NewSample, Outcome, Task, Worker

if TYPE_CHECKING:
    import fiftyone as fo
    from fiftyone.core.collections import SampleCollection

__all__ = [
    "Item",
    "NewSample",
    "Outcome",
    "Task",
    "Worker",
    "batched",
    "create_samples",
    "made_already",
    "process",
    "saving",
    "update_samples",
]

_WRITE_EVERY_SAMPLES = 500
_WRITE_EVERY_SECONDS = 5.0


def process(
    worker: Worker, batches: Iterable[Sequence[Any]], *, num_workers: int | None = None, engine: str = "local"
) -> Generator[list[Outcome], None, None]:
    """Puts batches of items or tasks through a worker and yields the outcomes in order.

    Args:
        worker: the worker
        batches: an iterable of batches
        num_workers (None): threads or actors; by default one per processor
        engine ("local"): ``"local"`` or ``"ray"``
    """
    if engine == "ray":
        from . import ray as backend
    else:
        from . import local as backend  # type: ignore[no-redef]
    return backend.process(worker, batches, num_workers=num_workers)


def update_samples(
    samples: SampleCollection,
    worker: Worker,
    *,
    batch_size: int = 16,
    num_workers: int | None = None,
    engine: str = "local",
) -> None:
    """Computes field values for samples and writes them in bulk; what people wrote is left as it is.

    A sample whose file, fields, parameters and model did not change since the stage last worked on it is skipped: the
    fingerprint of all these is kept in ``stages.STAGE`` and written together with the values, so that a run which is
    killed at any moment is continued by the next. Samples are those in the view when the stage starts, whatever it
    changes. A sample that fails is counted and tried again by the next run.

    Args:
        samples: a dataset or view
        worker: returns a dictionary of field paths and values per item
        batch_size (16): images given to the worker at once
        num_workers (None): threads or actors
        engine ("local"): ``"local"`` or ``"ray"``
    """
    run = current_run()
    dataset = dataset_of(samples)
    done = f"stages.{run.stage.name}"
    fields.declare(dataset, done)
    declare_authors(dataset, worker.labels)
    ids = samples.values("id")
    buffer = _Buffer(dataset, done, worker.labels, run)
    with run.progress(len(ids)) as bar:
        batches = batched(_pending(dataset, ids, worker, run, done, bar), batch_size)
        results = process(worker, batches, num_workers=num_workers, engine=engine)
        with closing(results), saving(buffer.write):
            for outcomes in results:
                for outcome in outcomes:
                    if outcome.result is not None:
                        buffer.add(outcome.item, outcome.result)
                    else:
                        run.failed(outcome.item.filepath, str(outcome.refused or outcome.error))
                run.processed(len(outcomes))
                bar.update(len(outcomes))


def create_samples(
    dataset: fo.Dataset,
    tasks: Iterable[Task],
    worker: Worker,
    *,
    total: int,
    batch_size: int = 1,
    num_workers: int | None = None,
    engine: str = "local",
) -> None:
    """Makes new samples and adds them in bulk.

    A sample whose key is in the dataset already is not made again, so an interrupted run continues where it stopped.

    Args:
        dataset: the dataset to add to
        tasks: what to make, in order
        worker: returns a list of :class:`NewSample` per task, with image files already written
        total: the number of tasks, for progress
        batch_size (1): tasks given to the worker at once
        num_workers (None): threads or actors
        engine ("local"): ``"local"`` or ``"ray"``
    """
    run = current_run()
    fields.declare(dataset, "source", "lineage")
    if "lineage.key" not in dataset.list_indexes():
        dataset.create_index("lineage.key")
    added: list[NewSample] = []
    documents = Documents(dataset)
    written = time.monotonic()

    def write() -> None:
        nonlocal written
        fields.declare(dataset, *{path: None for new in added for path in new.fields if path in fields.FIELDS})
        documents.add(_stored(new, run) for new in added)
        run.created(len(added))
        added.clear()
        written = time.monotonic()

    with run.progress(total) as bar:
        batches = batched(_unmade(dataset, tasks, run, bar), batch_size)
        results = process(worker, batches, num_workers=num_workers, engine=engine)
        with closing(results), saving(write):
            for outcomes in results:
                for outcome in outcomes:
                    if outcome.result is None:
                        run.failed(outcome.item.keys[0], str(outcome.refused or outcome.error))
                    else:
                        added += outcome.result
                run.processed(len(outcomes))
                bar.update(len(outcomes))
                waited = time.monotonic() - written
                if len(added) >= _WRITE_EVERY_SAMPLES // 5 or waited >= _WRITE_EVERY_SECONDS:
                    write()


def made_already(dataset: fo.Dataset, keys: Iterable[str]) -> set[str]:
    """Which of these keys belong to samples that are in the dataset."""
    from fiftyone import ViewField as F

    if not dataset.has_field("lineage.key"):
        return set()
    return {
        key for page in batched(keys, PAGE) for key in dataset.match(F("lineage.key").is_in(page)).values("lineage.key")
    }


@contextmanager
def saving(write: Callable[[], None]) -> Iterator[None]:
    """Writes what was computed at the end, also when something fails, unless it is the database that fails."""
    from pymongo.errors import PyMongoError

    try:
        yield
    except PyMongoError:
        raise
    except BaseException:
        write()
        raise
    else:
        write()


def file_stamp(path: str) -> list[Any]:
    """What changes when a file changes: its path, size and modification time."""
    try:
        status = os.stat(path)
    except OSError:
        return [path, None, None]
    return [path, status.st_size, status.st_mtime_ns]


def _pending(dataset: fo.Dataset, ids: list[str], worker: Worker, run: Run, done: str, bar: Any) -> Iterator[Item]:
    key = worker.key or run.fingerprint
    for page in pages(ids):
        columns = dataset.select(page).values(["id", "filepath", done, *worker.fields])
        people = written_by_people(dataset, page, worker.labels)
        skipped = 0
        for sample_id, filepath, stamp, *values in zip(*columns, strict=True):
            now = fingerprint(key, file_stamp(filepath), values)
            if now == stamp:
                skipped += 1
            elif worker.labels and len(people.get(sample_id, ())) == len(worker.labels):
                skipped += 1
                run.left_to_people([sample_id])
            else:
                yield Item(sample_id, filepath, dict(zip(worker.fields, values, strict=True)), stamp=now)
        run.skipped(skipped)
        bar.update(skipped)


def _unmade(dataset: fo.Dataset, tasks: Iterable[Task], run: Run, bar: Any) -> Iterator[Task]:
    for page in batched(tasks, PAGE):
        existing = made_already(dataset, [key for task in page for key in task.keys])
        for task in page:
            missing = tuple(key for key in task.keys if key not in existing)
            run.skipped(len(task.keys) - len(missing))
            if missing:
                yield Task(missing, task.payload)
            else:
                bar.update()


def _stored(new: NewSample, run: Run) -> dict[str, Any]:
    """A sample as it is stored."""
    lineage = {"stage": run.stage.name, **new.fields.get("lineage", {}), "key": new.key}
    values = {
        path: fields.stored(value) if path in fields.FIELDS and fields.FIELDS[path].type == "document" else value
        for path, value in {**new.fields, "lineage": lineage}.items()
    }
    return {"filepath": new.filepath, "tags": list(new.tags), **values}


def batched(things: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Cuts an iterable into lists."""
    iterator = iter(things)
    while batch := list(islice(iterator, size)):
        yield batch


class _Buffer:
    """Collects field values and writes them in bulk, with the fingerprints."""

    def __init__(self, dataset: fo.Dataset, done: str, labels: Sequence[str], run: Run):
        self._dataset, self._labels, self._run = dataset, labels, run
        self._done = done
        self._clear()

    def _clear(self) -> None:
        self._values: dict[str, dict[str, Any]] = {}
        self._stamps: dict[str, str] = {}
        self._since = time.monotonic()

    def add(self, item: Item, values: dict[str, Any]) -> None:
        for path, value in values.items():
            self._values.setdefault(path, {})[item.id] = value
        self._stamps[item.id] = item.stamp
        waited = time.monotonic() - self._since
        if len(self._stamps) >= _WRITE_EVERY_SAMPLES or waited >= _WRITE_EVERY_SECONDS:
            self.write()

    def write(self) -> None:
        notes = self._note_authors()
        set_fields(self._dataset, {**self._values, **notes, self._done: self._stamps})
        self._clear()

    def _note_authors(self) -> dict[str, dict[str, str]]:
        """Takes out what a person wrote meanwhile, and notes what is about to be written."""
        people = written_by_people(self._dataset, list(self._stamps), self._labels)
        self._run.left_to_people(list(people))
        notes: dict[str, dict[str, str]] = {}
        for path in self._labels:
            by_id = self._values.get(path, {})
            for sample_id in [sample_id for sample_id in by_id if path in people.get(sample_id, ())]:
                del by_id[sample_id]
            for sample_id, value in by_id.items():
                for note, text in authors_of({path: value}).items():
                    notes.setdefault(note, {})[sample_id] = text
        return notes
