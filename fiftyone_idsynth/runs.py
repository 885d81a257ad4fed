"""What a stage does is counted in a run, returned as a report, and recorded among the dataset's custom runs."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UsageError
from .parameters import EXECUTION_PARAMETERS, Progress

if TYPE_CHECKING:
    import fiftyone as fo
    from fiftyone.core.collections import SampleCollection

    from .stage import Stage

RECORDED_PACKAGES = (
    "fiftyone-idsynth", "fiftyone", "numpy", "pillow", "opencv-python-headless", "scikit-image", "imagehash",
    "torch", "transformers", "diffusers", "onnxruntime", "pyiqa",
)  # fmt: skip

MAX_RECORDED_FAILURES = 1000


@dataclass
class Report:
    """What a stage did.

    Attributes:
        stage: the stage's name
        dataset: the dataset's name
        run_key: the key of the record among ``dataset.list_runs()``, if something was recorded
        processed: samples (or images) worked on
        skipped: samples left alone because nothing about them changed since the last run
        created: samples added
        rejected: samples or files left out, by reason
        failed: ``(what, why)`` per image that could not be processed
        outputs: what else the stage found
        notes: remarks for the user
        seconds: time it took
        charts: charts for the App, each with a ``title`` and the ``data`` and ``layout`` of a Plotly figure
    """

    stage: str
    dataset: str
    run_key: str | None = None
    processed: int = 0
    skipped: int = 0
    created: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    failed: list[tuple[str, str]] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    charts: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        rate = f", {self.processed / self.seconds:.1f}/s" if self.processed and self.seconds > 0.1 else ""
        lines = [f"{self.stage} on {self.dataset}: {self.processed} processed in {self.seconds:.1f} s{rate}"]
        lines += [
            f"  {name}: {count}" for name, count in (("added", self.created), ("up to date", self.skipped)) if count
        ]
        lines += [f"  rejected, {reason}: {count}" for reason, count in sorted(self.rejected.items())]
        for name, value in self.outputs.items():
            if isinstance(value, list) and len(_shown(value)) > 100:
                lines += [f"  {name}:", *(f"    {_shown(element)}" for element in value)]
            elif value not in ({}, [], ()):
                lines.append(f"  {name}: {_shown(value)}")
        lines += [f"  failed: {what}: {why}" for what, why in self.failed[:10]]
        if len(self.failed) > 10:
            lines.append(f"  ... and {len(self.failed) - 10} more failed; all are in the run record {self.run_key!r}")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{k} {_shown(v)}" for k, v in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value)) or "none"
    return str(value)


class Run:
    """A stage at work: what it was asked, and what it has done so far.

    Attributes:
        stage: the stage
        dataset: the dataset that is written to
        target: the samples it was given, as plain values that can be stored
        params: its parameters, as plain values that can be stored
        fingerprint: hash of the stage, its version and the parameters that change what it writes
        seed: the value of the parameter ``seed``, if the stage has one
        models: model id -> revision, filled in by the stage
        progress_setting: the parameter ``progress``
        continues: when the interrupted run began that this one goes on with (ISO 8601), if there is one
        preview: whether this run only shows what it would do: nothing of it is recorded
    """

    def __init__(
        self, stage: Stage, dataset: fo.Dataset, target: dict[str, Any], params: dict[str, Any], values: dict[str, Any]
    ):
        self.stage = stage
        self.dataset = dataset
        self.target = target
        self.params = params
        self.seed = values.get("seed")
        self.models: dict[str, str] = {}
        self.progress_setting: Progress = values.get("progress")
        self.fingerprint = fingerprint(
            stage.name, stage.version, {k: v for k, v in params.items() if k not in EXECUTION_PARAMETERS}
        )
        self.remembered: dict[str, Any] = {}
        self.continues: str | None = None
        self.preview = False
        self._people: set[str] = set()
        self._report = Report(stage.name, dataset.name)
        self._started = time.monotonic()

    def processed(self, count: int = 1) -> None:
        """Counts samples that were worked on."""
        self._report.processed += count

    def skipped(self, count: int = 1) -> None:
        """Counts samples that are up to date."""
        self._report.skipped += count

    def created(self, count: int = 1) -> None:
        """Counts samples that were added."""
        self._report.created += count

    def rejected(self, reason: str, count: int = 1) -> None:
        """Counts samples or files that were left out."""
        self._report.rejected[reason] = self._report.rejected.get(reason, 0) + count

    def left_to_people(self, ids: Iterable[str]) -> None:
        """Counts samples with labels that a person wrote and that therefore stay."""
        self._people.update(ids)

    def failed(self, what: str, why: str) -> None:
        """Records an image that could not be processed."""
        self._report.failed.append((what, why))

    def note(self, text: str) -> None:
        """Adds a remark for the user, once."""
        if text not in self._report.notes:
            self._report.notes.append(text)

    def announce(self, text: str) -> None:
        """Tells the user something before the work goes on."""
        if self.progress_setting is not False:
            _listener.get()(text)

    def reject(self, rejections: dict[str, Any]) -> None:
        """Rejects samples (see :func:`fiftyone_idsynth.samples.reject`) and counts them."""
        from .samples import reject

        for reason, count in reject(self.dataset, rejections, stage=self.stage.name).items():
            self.rejected(reason, count)

    def progress(self, total: int) -> Any:
        """A FiftyOne progress bar: ``with run.progress(n) as bar: bar.update(count)``."""
        import fiftyone.core.utils as fou

        return fou.ProgressBar(total=total, progress=self.progress_setting, iters_str=self.stage.unit)

    def report(self, outputs: dict[str, Any] | None = None) -> Report:
        """The report of what was counted so far."""
        self._report.outputs.update(outputs or {})
        if self._people:
            self._report.outputs["left as people wrote them"] = len(self._people)
        self._report.seconds = time.monotonic() - self._started
        return self._report


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


_current: contextvars.ContextVar[Run] = contextvars.ContextVar("run")
_listener: contextvars.ContextVar[Callable[[str], None]] = contextvars.ContextVar("listener", default=_print)


@contextlib.contextmanager
def announced_to(listener: Callable[[str], None]) -> Iterator[None]:
    """Sends what stages announce inside the context to a function; by default it goes to the standard error stream."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def current_run() -> Run:
    """The run of the stage that is being executed."""
    return _current.get()


def fingerprint(*parts: Any) -> str:
    """A short hash of plain values, equal exactly when they are equal."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def storable(value: Any) -> Any:
    """A parameter's value as plain values that can be stored and compared."""
    from fiftyone.core.collections import SampleCollection

    if isinstance(value, SampleCollection):
        return _collection_name(value)
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "storable"):
        return value.storable()
    if isinstance(value, dict):
        return {str(k): storable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable(v) for v in value]
    return value


def _collection_name(samples: SampleCollection) -> str:
    from .samples import dataset_of

    dataset = dataset_of(samples)
    if samples is dataset:
        return str(dataset.name)
    if samples.name and samples.is_saved:
        return f"{dataset.name}:{samples.name}"
    return f"{dataset.name}:view-{fingerprint([str(s) for s in samples._stages])}"


def execute(run: Run, function: Callable[[], Report]) -> Report:
    from pymongo.errors import ConnectionFailure

    record = _Record(run)
    token = _current.set(run)
    try:
        report = function()
    except BaseException as error:
        if isinstance(error, ConnectionFailure):  # a record cannot be written either
            raise
        try:
            if isinstance(error, UsageError):
                record.discard()
            else:
                interrupted = isinstance(error, KeyboardInterrupt)
                record.finish(run.report(), "interrupted" if interrupted else f"failed: {error}")
        except Exception as second:  # the first failure is what the user must see, with this one beside it
            error.add_note(f"The failed run could not be recorded either: {second}")
        raise
    finally:
        _current.reset(token)
    record.finish(report, "complete")
    return report


class _Record:
    """A stage's record among the dataset's custom runs: one per stage and set of parameters."""

    def __init__(self, run: Run):
        self._run = run
        self._fingerprint = fingerprint(run.fingerprint, run.target)
        self._key, self._earlier = self._find()
        run.remembered = self._results() if self._earlier else {}
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        if self._earlier.get("status") not in (None, "complete"):
            run.continues = self._started = self._earlier["started_at"]
        if not self._earlier:
            self._save(run.report(), "running")

    def _find(self) -> tuple[str, dict[str, Any]]:
        dataset, name = self._run.dataset, self._run.stage.name
        taken = set(dataset.list_runs())
        for key in sorted(taken, key=lambda k: (len(k), k)):
            if key == name or key.startswith(name + "_"):
                config = dataset.get_run_info(key).config.serialize()
                if config.get("stage") == name and config.get("fingerprint") == self._fingerprint:
                    return key, config
        number = 1
        while (key := name if number == 1 else f"{name}_{number}") in taken:
            number += 1
        return key, {}

    def _results(self) -> dict[str, Any]:
        results = self._run.dataset.load_run_results(self._key, cache=False)
        return dict(getattr(results, "remembered", None) or {}) if results is not None else {}

    def finish(self, report: Report, status: str) -> None:
        if self._run.preview:
            self.discard()
            return
        report.run_key = self._key
        changed = report.processed or report.created or report.rejected or report.failed  # since the last run
        if not changed and self._earlier.get("status") == status == "complete":
            return
        if self._earlier.get("status") not in (None, "complete"):  # an interrupted run went on: count both parts
            for name in ("processed", "created", "seconds"):
                setattr(report, "_" + name, getattr(report, name) + self._earlier.get(name, 0))
        self._save(report, status)

    def discard(self) -> None:
        """Forgets a run that never began."""
        if not self._earlier:
            self._run.dataset.delete_run(self._key)

    def _save(self, report: Report, status: str) -> None:
        run = self._run
        config = run.dataset.init_run(
            method=f"idsynth/{run.stage.name}",
            stage=run.stage.name,
            stage_version=run.stage.version,
            status=status,
            fingerprint=self._fingerprint,
            target=run.target,
            params=run.params,
            seed=run.seed,
            models=run.models,
            versions=_versions(),
            started_at=self._started,
            seconds=round(getattr(report, "_seconds", report.seconds), 3),
            processed=getattr(report, "_processed", report.processed),
            created=getattr(report, "_created", report.created),
            skipped=report.skipped,
            rejected=report.rejected,
            failed=len(report.failed),
        )
        run.dataset.register_run(self._key, config, overwrite=True)
        if status == "running":
            return
        results = run.dataset.init_run_results(
            self._key,
            outputs=storable(report.outputs),
            failures=[list(f) for f in report.failed[:MAX_RECORDED_FAILURES]],
            notes=report.notes,
            remembered=run.remembered,
        )
        run.dataset.save_run_results(self._key, results, overwrite=True)


@functools.lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    found = {}
    for package in RECORDED_PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
