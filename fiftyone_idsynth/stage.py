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
import functools
import importlib
import inspect
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .errors import DatabaseError, IdsynthError, ParameterError, UsageError, storage_error, suggestion
from .parameters import (
    EXECUTION_PARAMETERS,
    BatchSize,
    Bounds,
    Choices,
    Convert,
    Described,
    Engine,
    ExistingPath,
    Fraction,
    LabelField,
    NumWorkers,
    Parameter,
    Progress,
    SampleReference,
    Samples,
    Seed,
    documented_arguments,
    make_parameter,
    plain_text,
)
from .runs import Report, Run, current_run, execute, fingerprint, storable

# A stage needs one import.
__all__ = [
    "EXECUTION_PARAMETERS", "BatchSize", "Bounds", "Choices", "Convert", "Described", "Engine", "ExistingPath",
    "Fraction", "LabelField", "NumWorkers", "Parameter", "Progress", "Report", "Run", "SampleReference",
    "Samples", "Seed", "Stage", "current_run", "fingerprint", "parse_options", "stage", "stages", "storable",
]  # fmt: skip

ROOMS = (
    "collection", "generation", "augmentation", "annotation", "quality", "enhancement", "curation", "learning",
    "exporting", "building",
)  # fmt: skip
"""The packages that hold stages; each names the modules with stages in ``STAGES``."""


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
        self.__doc__ = self._completed_docstring()

    @property
    def command(self) -> str:
        """The name of its shell command."""
        return self.name.replace("_", "-")

    @functools.cached_property
    def documented(self) -> dict[str, tuple[str | None, str]]:
        """What the docstring's ``Args`` say, else what is said where many stages share a parameter.

        Name -> (default as written, help).
        """
        written = documented_arguments(inspect.getdoc(self.function) or "")
        return written | {
            name: (repr(parameter.default), shared.help)
            for name, parameter in inspect.signature(self.function).parameters.items()
            if name not in written and (shared := _described(self._hints[name]))
        }

    @functools.cached_property
    def _hints(self) -> dict[str, Any]:
        return typing.get_type_hints(self.function, include_extras=True)

    @functools.cached_property
    def summary(self) -> str:
        return plain_text((inspect.getdoc(self.function) or "").partition("\n\n")[0])

    @functools.cached_property
    def description(self) -> str:
        """The docstring without its ``Args``, as plain text."""
        return (inspect.getdoc(self.function) or "").partition("\nArgs:")[0].strip().replace("``", "")

    @functools.cached_property
    def _all_parameters(self) -> list[Parameter]:
        return [
            make_parameter(name, self._hints[name], p.default, self.documented.get(name, (None, ""))[1])
            for name, p in inspect.signature(self.function).parameters.items()
        ]

    def _completed_docstring(self) -> str:
        """The docstring with the parameters that many stages share, so that ``help()`` shows them all."""
        text = inspect.getdoc(self.function) or ""
        written = documented_arguments(text)
        shared = [
            f"    {name} ({default}): {help}"
            for name, (default, help) in self.documented.items()
            if name not in written
        ]
        head, returns, rest = text.partition("\n\nReturns:")
        if shared and "\nArgs:\n" not in head:
            head += "\n\nArgs:"
        return "\n".join([head, *shared]) + returns + rest

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
                return execute(run, lambda: self.function(collection, **values))

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


def _described(annotation: Any) -> Described | None:
    return next((m for m in getattr(annotation, "__metadata__", ()) if isinstance(m, Described)), None)


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


def parse_options(options: dict[str, Any], names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Reads the parameters of single stages that a stage which runs them was given as ``options``.

    Args:
        options: STAGE.PARAMETER -> value
        names: the stages that are run

    Returns:
        stage -> parameter -> checked value

    Raises:
        ParameterError: a stage is not among them, a parameter does not exist or its value is not allowed
    """
    known = list(dict.fromkeys(names))
    found: dict[str, dict[str, Any]] = {}
    for name, value in options.items():
        its, dot, parameter = name.partition(".")
        if not dot or its not in known:
            problem = f"{name!r} must be STAGE.PARAMETER: {suggestion(its, known)}"
            raise ParameterError("options", options, problem)
        parameters = stages()[its].parameters
        if parameter not in parameters:
            problem = f"{its} has no {parameter!r}: {suggestion(parameter, parameters)}"
            raise ParameterError("options", options, problem)
        found.setdefault(its, {})[parameter] = parameters[parameter].parse(value)
    return found


@contextlib.contextmanager
def _made_for_nothing(reference: Any) -> Iterator[None]:
    """Removes the empty dataset that was made for a stage that then found its input wrong, or only showed its plan."""
    import fiftyone as fo

    existed = not isinstance(reference, str) or fo.dataset_exists(reference)

    def remove() -> None:
        if not existed and fo.dataset_exists(reference) and not fo.load_dataset(reference).count():
            fo.delete_dataset(reference)

    try:
        yield
    except UsageError:
        remove()
        raise
    else:
        if not existed and not fo.load_dataset(reference).list_runs():
            remove()


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
