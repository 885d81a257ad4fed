"""``@stage``: from one typed function come the Python call, recipe step, shell command, App operator and run record.

A stage is a function whose first parameter is the samples it works on (``samples``) or the dataset it fills
(``dataset``), and whose keyword-only parameters are typed and described in its docstring::

    @stage(label="Score image quality", group="Quality")
    def score_quality(
        samples: Samples,
        *,
        task: Literal["classification", "detection", "generation"] = "detection",
        batch_size: BatchSize = 16,
        progress: Progress = None,
    ) -> Report:
        '''Measures ...

        Args:
            task ("detection"): what the images are for
        '''
        run = current_run()
        ...
        return run.report(outputs={"mean_score": 0.7})

Nothing about a stage is written a second time: names, types, defaults, bounds and help are read from here.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import hashlib
import importlib
import inspect
import json
import re
import time
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from .errors import DatabaseError, IdsynthError, ParameterError, UsageError, storage_error, suggestion

if TYPE_CHECKING:
    import fiftyone as fo
    from fiftyone.core.collections import SampleCollection
    from pydantic import TypeAdapter

ROOMS = ("collection", "generation", "quality", "curation", "exporting")
"""The packages that hold stages; each names the modules with stages in ``STAGES``."""

EXECUTION_PARAMETERS = {"batch_size", "num_workers", "engine", "progress"}
"""Parameters that change how a stage runs and never what it writes."""

RECORDED_PACKAGES = (
    "fiftyone-idsynth", "fiftyone", "numpy", "pillow", "opencv-python-headless", "scikit-image", "imagehash",
    "torch", "transformers", "diffusers", "onnxruntime", "pyiqa",
)  # fmt: skip

MAX_RECORDED_FAILURES = 1000


# -- the vocabulary of parameter types --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bounds:
    """Least and greatest value of a number, both allowed."""

    ge: float | None = None
    le: float | None = None


@dataclass(frozen=True)
class LabelField:
    """Marks a string as the name of a label field; ``kinds`` are FiftyOne label classes it may hold (any if none)."""

    kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choices:
    """Marks a string as one of the names that ``names()`` returns when it is asked."""

    names: Callable[[], list[str]]


@dataclass(frozen=True)
class ExistingPath:
    """Marks a path that must exist."""


@dataclass(frozen=True)
class Convert:
    """Marks a parameter of a type of its own: ``function(value)`` makes it, or raises a ``UsageError``.

    An object that it makes may have a method ``storable()`` that returns plain values for the run record.
    """

    function: Callable[[Any], Any]


@dataclass(frozen=True)
class SampleReference:
    """Marks a dataset or view, or its name."""


Samples = Annotated[Any, SampleReference()]
"""A FiftyOne dataset or view, or ``"DATASET"``, ``"DATASET:SAVED_VIEW"``, ``"DATASET#TAG"``."""

Progress = bool | Callable[[Any], Any] | None
"""FiftyOne's progress contract: ``None`` (FiftyOne's setting), ``True``, ``False`` or a callback."""

BatchSize = Annotated[int, Bounds(1, 4096)]
NumWorkers = Annotated[int | None, Bounds(1, 256)]
Engine = Literal["local", "ray"]
Seed = Annotated[int, Bounds(0, 2**31 - 1)]
Fraction = Annotated[float, Bounds(0, 1)]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a stage.

    Attributes:
        name: its name
        type: its type without markers, e.g. ``int``, ``tuple[str, ...]``
        markers: the markers of its ``Annotated`` type, and of its elements
        default: its default, or ``inspect.Parameter.empty``
        help: what it is for
        optional: whether ``None`` is allowed
    """

    name: str
    annotation: Any
    type: Any
    markers: tuple[Any, ...]
    default: Any
    help: str
    optional: bool

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty

    @property
    def is_execution(self) -> bool:
        return self.name in EXECUTION_PARAMETERS

    @property
    def is_samples(self) -> bool:
        return self.marker(SampleReference) is not None

    @property
    def is_sequence(self) -> bool:
        return get_origin(self.type) in (tuple, list)

    @property
    def is_mapping(self) -> bool:
        return get_origin(self.type) is dict

    @property
    def element(self) -> Any:
        """The type of a sequence's elements or a mapping's values, else the type itself."""
        if self.is_sequence:
            return _plain(get_args(self.type)[0])
        return _plain(get_args(self.type)[1]) if self.is_mapping else self.type

    @property
    def bounds(self) -> Bounds:
        return self.marker(Bounds) or Bounds()

    @property
    def choices(self) -> list[Any] | None:
        """The values that are allowed, if they can be listed."""
        if get_origin(self.element) is Literal:
            return list(get_args(self.element))
        marker = self.marker(Choices)
        return marker.names() if marker else None

    def marker(self, kind: type) -> Any:
        return next((m for m in self.markers if isinstance(m, kind)), None)

    def parse(self, value: Any) -> Any:
        """Checks and converts a value.

        Raises:
            ParameterError: it is not allowed; the message says what is
        """
        from pydantic import ValidationError

        if value is None and self.optional:
            return None
        if self.is_samples:
            from .samples import find_samples

            return find_samples(value)
        if convert := self.marker(Convert):
            return convert.function(value)
        if self.is_sequence and isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if self.is_mapping and isinstance(value, str):
            pairs = [part.partition("=") for part in value.split(",") if part.strip()]
            value = {key.strip(): number.strip() for key, _, number in pairs}
        try:
            parsed = _adapter(self.type).validate_python(value)
        except ValidationError as error:
            raise ParameterError(self.name, value, self._problem(error)) from None
        for element in parsed if self.is_sequence else parsed.values() if self.is_mapping else [parsed]:
            self._check(element, value)
        return parsed

    def _check(self, element: Any, value: Any) -> None:
        bounds = self.bounds
        if isinstance(element, (int, float)) and not isinstance(element, bool):
            if element != element or (bounds.ge is not None and element < bounds.ge):
                raise ParameterError(self.name, value, self._range())
            if bounds.le is not None and element > bounds.le:
                raise ParameterError(self.name, value, self._range())
        choices = self.choices if self.marker(Choices) else None
        if choices is not None and element not in choices:
            raise ParameterError(self.name, value, f"{element!r} is unknown: {suggestion(str(element), choices)}")
        if self.marker(ExistingPath) and not Path(element).expanduser().exists():
            raise ParameterError(self.name, value, "this path does not exist: check its spelling")

    def _problem(self, error: Any) -> str:
        first = error.errors()[0]
        choices = self.choices
        if choices is not None:
            wrong = first["input"]
            return f"{wrong!r} is not allowed: {suggestion(str(wrong), [str(c) for c in choices])}"
        return f"must be {self.describe_type()}"

    def _range(self) -> str:
        low, high = self.bounds.ge, self.bounds.le
        if low is not None and high is not None:
            return f"must be between {low:g} and {high:g}"
        return f"must be at least {low:g}" if low is not None else f"must be at most {high:g}"

    def describe_type(self) -> str:
        """The type in words, e.g. ``"a whole number between 1 and 64"``."""
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
        element = (
            f"one of {', '.join(map(str, self.choices or []))}" if self.choices else words.get(self.element, "a value")
        )
        if self.bounds.ge is not None or self.bounds.le is not None:
            element += " " + self._range().removeprefix("must be ")
        if self.is_sequence:
            element = f"a list, each {element}"
        if self.is_mapping:
            element = f"a mapping of names, each to {element}"
        return element + (" (or nothing)" if self.optional else "")


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(kind, config=ConfigDict(coerce_numbers_to_str=True))


_ARGUMENT = re.compile(r"^ {4}(\w+)(?: \((.*?)\))?: (.*)$")


def _documented_arguments(docstring: str) -> dict[str, tuple[str | None, str]]:
    """Reads ``name (default): help`` from the ``Args`` of a docstring in FiftyOne's style; help may go on below."""
    found: dict[str, tuple[str | None, str]] = {}
    name = ""
    for line in docstring.partition("\nArgs:\n")[2].splitlines():
        if line and not line.startswith("    "):
            break
        if match := _ARGUMENT.match(line):
            name, default, help = match.groups()
            found[name] = (default, help)
        elif name:
            found[name] = (found[name][0], f"{found[name][1]} {line.strip()}")
    return {name: (default, _text(help)) for name, (default, help) in found.items()}


def _text(documentation: str | None) -> str:
    """A piece of docstring as one line of plain text."""
    return " ".join((documentation or "").split()).replace("``", "")


def _plain(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _parameter(name: str, annotation: Any, default: Any, help: str) -> Parameter:
    markers: list[Any] = []
    optional = False
    kind = annotation
    while True:
        if get_origin(kind) is Annotated:
            kind, *found = get_args(kind)
            markers += found
        elif get_origin(kind) in (Union, types.UnionType) and type(None) in get_args(kind):
            optional = True
            rest = tuple(a for a in get_args(kind) if a is not type(None))
            if len(rest) > 1:
                break
            kind = rest[0]
        else:
            break
    if get_origin(kind) in (tuple, list, dict):
        for argument in get_args(kind):
            if get_origin(argument) is Annotated:
                markers += get_args(argument)[1:]
    return Parameter(name, annotation, kind, tuple(markers), default, help, optional)


# -- runs and reports -------------------------------------------------------------------------------------------------


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

    def failed(self, what: str, why: str) -> None:
        """Records an image that could not be processed."""
        self._report.failed.append((what, why))

    def note(self, text: str) -> None:
        """Adds a remark for the user, once."""
        if text not in self._report.notes:
            self._report.notes.append(text)

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
        self._report.seconds = time.monotonic() - self._started
        return self._report


_current: contextvars.ContextVar[Run] = contextvars.ContextVar("run")


def current_run() -> Run:
    """The run of the stage that is being executed."""
    return _current.get()


def fingerprint(*parts: Any) -> str:
    """A short hash of plain values, equal exactly when they are equal."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


# -- the decorator ----------------------------------------------------------------------------------------------------


class Stage:
    """A stage, callable like the function it was made from.

    Attributes:
        name: the function's name
        label: its title in the App
        group: the heading it is listed under
        icon: a Material icon's name
        unit: what its progress counts
        version: raised when the same parameters give another result than before
        creates: whether its first parameter is a dataset that may not exist yet
        summary: the first paragraph of its docstring
        parameters: the keyword parameters, by name
    """

    def __init__(self, function: Callable[..., Report], *, label: str, group: str, icon: str, unit: str, version: int,
                 creates: bool):  # fmt: skip
        self.function = function
        self.name = function.__name__
        self.label, self.group, self.icon, self.unit = label, group, icon, unit
        self.version, self.creates = version, creates
        functools.update_wrapper(self, function)

    @property
    def command(self) -> str:
        """The name of its shell command."""
        return self.name.replace("_", "-")

    @functools.cached_property
    def documented(self) -> dict[str, tuple[str | None, str]]:
        """What the docstring's ``Args`` say: name -> (default as written, help)."""
        return _documented_arguments(inspect.getdoc(self.function) or "")

    @functools.cached_property
    def summary(self) -> str:
        return _text((inspect.getdoc(self.function) or "").partition("\n\n")[0])

    @functools.cached_property
    def description(self) -> str:
        """The docstring without its ``Args``, as plain text."""
        return (inspect.getdoc(self.function) or "").partition("\nArgs:")[0].strip().replace("``", "")

    @functools.cached_property
    def _all_parameters(self) -> list[Parameter]:
        hints = typing.get_type_hints(self.function, include_extras=True)
        return [
            _parameter(name, hints[name], p.default, self.documented.get(name, (None, ""))[1])
            for name, p in inspect.signature(self.function).parameters.items()
        ]

    @property
    def target(self) -> Parameter:
        """The first parameter: the samples it works on, or the dataset it fills."""
        return self._all_parameters[0]

    @functools.cached_property
    def parameters(self) -> dict[str, Parameter]:
        return {p.name: p for p in self._all_parameters[1:]}

    def parse(self, params: dict[str, Any]) -> dict[str, Any]:
        """Checks parameters and fills in defaults.

        Raises:
            UsageError: a parameter is unknown, missing or has a value that is not allowed
        """
        unknown = set(params) - set(self.parameters)
        if unknown:
            name = sorted(unknown)[0]
            raise UsageError(f"{self.name} has no parameter {name!r}: {suggestion(name, self.parameters)}")
        values = {}
        for name, parameter in self.parameters.items():
            if name == "progress":
                values[name] = params.get(name, parameter.default)
            elif name in params:
                values[name] = parameter.parse(params[name])
            elif parameter.required:
                raise UsageError(f"{self.name} needs the parameter {name!r}: {parameter.help}")
            else:
                values[name] = parameter.default
        return values

    def __call__(self, *args: Any, **kwargs: Any) -> Report:
        from .samples import dataset_of, find_samples, require_samples

        if len(args) > len(self._all_parameters):
            raise UsageError(f"{self.name} takes {len(self._all_parameters)} parameters, {len(args)} were given")
        given = {**dict(zip(inspect.signature(self.function).parameters, args, strict=False)), **kwargs}
        if self.target.name not in given:
            raise UsageError(f"{self.name} needs {self.target.name!r}: a FiftyOne dataset or view, or its name")
        reference = given.pop(self.target.name)
        with _readable_failures():
            values = self.parse(given)
            with _made_for_nothing(reference) if self.creates else contextlib.nullcontext():
                collection = find_samples(reference, create=self.creates)
                if not self.creates:
                    require_samples(collection, self.target.name)
                params = {name: storable(value) for name, value in values.items() if name != "progress"}
                run = Run(self, dataset_of(collection), {self.target.name: storable(collection)}, params, values)
                return _execute(run, lambda: self.function(collection, **values))

    def __get__(self, instance: Any, owner: Any = None) -> Stage:
        return self

    def __repr__(self) -> str:
        return f"<stage {self.name}{inspect.signature(self.function)}>"


def stage(
    *,
    label: str,
    group: str,
    icon: str = "auto_awesome",
    unit: str = "samples",
    version: int = 1,
    creates: bool = False,
) -> Callable[[Callable[..., Report]], Stage]:
    """Makes a stage of a function; see :class:`Stage` for the arguments and the module for an example."""

    def decorate(function: Callable[..., Report]) -> Stage:
        return Stage(
            function, label=label, group=group, icon=icon, unit=unit, version=version, creates=creates
        )  # fmt: skip

    return decorate


@functools.lru_cache(maxsize=1)
def stages() -> dict[str, Stage]:
    """All stages by name, in the order of the rooms."""
    package = __name__.rpartition(".")[0]
    found: dict[str, Stage] = {}
    for room in ROOMS:
        for module in importlib.import_module(f"{package}.{room}").STAGES:
            for value in vars(importlib.import_module(f"{package}.{room}.{module}")).values():
                if isinstance(value, Stage):
                    found[value.name] = value
    return found


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


@contextlib.contextmanager
def _made_for_nothing(reference: Any) -> Iterator[None]:
    """Removes the empty dataset that was made for a stage that then found its input wrong."""
    import fiftyone as fo

    existed = not isinstance(reference, str) or fo.dataset_exists(reference)
    try:
        yield
    except UsageError:
        if not existed and fo.dataset_exists(reference) and not fo.load_dataset(reference).count():
            fo.delete_dataset(reference)
        raise


def _execute(run: Run, function: Callable[[], Report]) -> Report:
    from pymongo.errors import ConnectionFailure

    record = _Record(run)
    token = _current.set(run)
    try:
        report = function()
    except BaseException as error:
        if isinstance(error, ConnectionFailure):  # a record cannot be written either
            raise
        with contextlib.suppress(Exception):  # the failure itself is what the user must see
            if isinstance(error, UsageError):
                record.discard()
            else:
                interrupted = isinstance(error, KeyboardInterrupt)
                record.finish(run.report(), "interrupted" if interrupted else f"failed: {error}")
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
        report.run_key = self._key
        changed = report.processed or report.created or report.rejected or report.failed  # since the last run
        if not changed and self._earlier.get("status") == status == "complete":
            return
        if self._earlier.get("status") not in (None, "complete"):  # an interrupted run went on: count both parts
            for name in ("processed", "created", "seconds"):
                setattr(report, "_" + name, getattr(report, name) + self._earlier.get(name, 0))
        self._save(report, status)

    def discard(self) -> None:
        """Forgets a run that never began because its input was wrong."""
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


@contextlib.contextmanager
def _readable_failures() -> Iterator[None]:
    """Turns what the database and the file system raise into errors that say what to do."""
    from pymongo.errors import ConnectionFailure, PyMongoError

    try:
        yield
    except IdsynthError:
        raise
    except ConnectionFailure as error:
        raise DatabaseError(
            f"the database went away ({str(error).splitlines()[0][:200]}). What is already written stays. Check that "
            "mongod runs and that there is disk space (idsynth doctor); then start the same command again: it continues"
        ) from error
    except PyMongoError as error:
        raise DatabaseError(f"the database refused: {str(error).splitlines()[0][:300]}. See idsynth doctor") from error
    except OSError as error:
        if error.filename is None or error.errno is None:
            raise
        raise storage_error(error, str(error.filename)) from error
