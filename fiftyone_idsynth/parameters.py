"""The vocabulary of stage parameters: types, bounds and markers, and how a value is checked and converted."""

from __future__ import annotations

import functools
import inspect
import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from .errors import ParameterError, suggestion

if TYPE_CHECKING:
    from pydantic import TypeAdapter

EXECUTION_PARAMETERS = {"batch_size", "num_workers", "engine", "progress"}
"""Parameters that change how a stage runs and never what it writes."""


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
class Described:
    """Says what a parameter is for where many stages have it; a stage that means more by it documents it itself."""

    help: str


@dataclass(frozen=True)
class SampleReference:
    """Marks a dataset or view, or its name."""


Samples = Annotated[Any, SampleReference()]
"""A FiftyOne dataset or view, or ``"DATASET"``, ``"DATASET:SAVED_VIEW"``, ``"DATASET#TAG"``."""

Progress = Annotated[
    bool | Callable[[Any], Any] | None, Described("whether to show a progress bar, or a function that is given it")
]
"""FiftyOne's progress contract: ``None`` (FiftyOne's setting), ``True``, ``False`` or a callback."""

BatchSize = Annotated[int, Bounds(1, 4096)]
NumWorkers = Annotated[
    int | None, Bounds(1, 256), Described("threads that decode images, by default one per processor")
]
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


def documented_arguments(docstring: str) -> dict[str, tuple[str | None, str]]:
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
    return {name: (default, plain_text(help)) for name, (default, help) in found.items()}


def plain_text(documentation: str | None) -> str:
    """A piece of docstring as one line of plain text."""
    return " ".join((documentation or "").split()).replace("``", "")


def _plain(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def make_parameter(name: str, annotation: Any, default: Any, help: str) -> Parameter:
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
