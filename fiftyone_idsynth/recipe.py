"""Recipes: a YAML list of stages, validated completely before anything runs.

::

    dataset: red_panda
    stages:
      - ingest: {path: photos/, class_field: classification, tags: [mine]}
      - score_quality: {samples: "#mine", task: detection}
      - deduplicate:
      - split:
      - export: {format: yolo, path: exports/yolo}

Each step names a stage and its parameters, in any order and as often as needed. Steps work on ``dataset`` unless they
name other samples in the stage's first parameter: ``"#mine"`` (a tag of the recipe's dataset), ``":reviewed"`` (a saved
view of it), or ``"OTHER"``, ``"OTHER#TAG"``, ``"OTHER:VIEW"`` (another dataset). Relative paths are relative to the
recipe.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import IdsynthError, RecipeError, UsageError, suggestion
from .stage import Parameter, Progress, Report, Stage, stages


@dataclass(frozen=True)
class Step:
    """One step of a recipe.

    Attributes:
        stage: the stage
        target: the dataset or samples it works on, as written
        params: its parameters, as written
        line: where it stands in the recipe, from 1
    """

    stage: Stage
    target: str
    params: dict[str, Any]
    line: int


@dataclass(frozen=True)
class Recipe:
    """A valid recipe.

    Attributes:
        path: its file
        dataset: the name of the dataset
        steps: its steps in order
    """

    path: str
    dataset: str
    steps: list[Step]

    def run(self, *, progress: Progress = None) -> Iterator[Report]:
        """Runs the steps one after the other; yields each one's report as soon as it is done."""
        for step in self.steps:
            try:
                yield step.stage(step.target, **step.params, progress=progress)
            except UsageError as error:  # what only shows once earlier steps have run: an unknown field, an empty view
                raise RecipeError(self.path, [(step.line, f"{step.stage.name}: {error}")]) from error


def load_recipe(path: str | os.PathLike[str], *, dataset: str | None = None) -> Recipe:
    """Reads a recipe and checks everything that can be checked before it runs.

    Args:
        path: a YAML file
        dataset (None): a dataset name that replaces the one in the recipe

    Returns:
        a :class:`Recipe`

    Raises:
        RecipeError: it is not valid; every problem is listed with its line, key, value and what is allowed
    """
    content = _parse(str(path))
    return _Checker(str(path), dataset).check(content)


def run_recipe(
    recipe: Recipe | str | os.PathLike[str], *, dataset: str | None = None, progress: Progress = None
) -> list[Report]:
    """Runs a recipe. What a stage did before is not done again unless its input, parameters or model changed.

    Args:
        recipe: a recipe or its file
        dataset (None): a dataset name that replaces the one in the recipe
        progress (None): FiftyOne's progress setting, or a function that is given the progress bar

    Returns:
        one :class:`~fiftyone_idsynth.stage.Report` per step
    """
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, dataset=dataset)
    return list(loaded.run(progress=progress))


def _parse(path: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError

    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the recipe {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the recipe {path} is not a UTF-8 text file ({error.reason})") from error
    try:
        return YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError(path, [(line, f"not valid YAML: {error.problem}")]) from error


class _Checker:
    """Collects every problem of a recipe instead of stopping at the first."""

    def __init__(self, path: str, dataset: str | None):
        self._path = path
        self._dataset = dataset
        self._problems: list[tuple[int, str]] = []

    def check(self, content: Any) -> Recipe:
        steps: list[Step] = []
        if not isinstance(content, dict):
            self._problem(1, "a recipe is a mapping with the keys 'dataset' and 'stages'")
        else:
            for key in content:
                if key not in ("dataset", "stages"):
                    self._problem(
                        _line(content, key), f"unknown key {key!r}: {suggestion(str(key), ['dataset', 'stages'])}"
                    )
            name = self._dataset or content.get("dataset")
            if not isinstance(name, str) or not name:
                self._problem(
                    _line(content, "dataset"), f"dataset: {name!r} is no name: write e.g. 'dataset: red_panda'"
                )
            listed = content.get("stages")
            if not isinstance(listed, list) or not listed:
                self._problem(
                    _line(content, "stages"), "stages: a list is needed, e.g. '- score_quality: {task: detection}'"
                )
            else:
                for number, entry in enumerate(listed):
                    steps += self._step(entry, _line(listed, number), str(name))
        if self._problems:
            raise RecipeError(self._path, self._problems)
        return Recipe(self._path, str(self._dataset or content["dataset"]), steps)

    def _step(self, entry: Any, line: int, dataset: str) -> list[Step]:
        if isinstance(entry, str):
            entry = {entry: None}
        if not isinstance(entry, dict) or len(entry) != 1:
            self._problem(
                line,
                f"a step is one stage and its parameters, e.g. '- split: {{seed: 1}}', not {_plain(entry)!r}",
            )
            return []
        (name, params), known = next(iter(entry.items())), stages()
        name = str(name).replace("-", "_")
        if name not in known:
            self._problem(line, f"there is no stage {name!r}: {suggestion(name, known)}")
            return []
        if params is not None and not isinstance(params, dict):
            self._problem(line, f"{name}: parameters are 'key: value' pairs, not {_plain(params)!r}")
            return []
        stage, values = known[name], {}
        for key, value in (params or {}).items():
            where = _line(params, key)
            if key == stage.target.name:
                continue
            if key not in stage.parameters or key == "progress":
                allowed = [stage.target.name, *(p for p in stage.parameters if p != "progress")]
                self._problem(where, f"{name} has no parameter {key!r}: {suggestion(str(key), allowed)}")
                continue
            values[key] = self._value(stage.parameters[key], _plain(value), f"{name}.{key}", where, dataset)
        for parameter in stage.parameters.values():
            if parameter.required and parameter.name not in (params or {}):
                self._problem(line, f"{name} needs {parameter.name!r}: {parameter.help}")
        target = (params or {}).get(stage.target.name, dataset)
        return [Step(stage, _of_dataset(str(target), dataset), values, line)]

    def _value(self, parameter: Parameter, value: Any, where: str, line: int, dataset: str) -> Any:
        if parameter.is_samples and isinstance(value, str):
            return _of_dataset(value, dataset)  # not looked up yet: an earlier step may make it
        value = self._absolute(parameter, value)
        try:
            parameter.parse(value)
        except IdsynthError as error:
            self._problem(line, str(error).replace(parameter.name, where, 1))
        return value

    def _absolute(self, parameter: Parameter, value: Any) -> Any:
        """Paths are relative to the recipe."""
        folder = os.path.dirname(os.path.abspath(self._path))
        if parameter.type is Path and isinstance(value, str):
            return os.path.join(folder, os.path.expanduser(value))
        if parameter.name == "path" and isinstance(value, str):
            candidate = os.path.join(folder, os.path.expanduser(value))
            return candidate if os.path.exists(candidate) else value
        if parameter.name == "path" and isinstance(value, list):
            return [os.path.join(folder, os.path.expanduser(str(file))) for file in value]
        return value

    def _problem(self, line: int, message: str) -> None:
        self._problems.append((line, message))


def _of_dataset(reference: str, dataset: str) -> str:
    """``"#tag"`` and ``":view"`` belong to the recipe's dataset."""
    return dataset + reference if reference.startswith(("#", ":")) else reference


def _line(container: Any, key: Any) -> int:
    """The line of a key or list element, from 1."""
    try:
        marks = container.lc
        position = marks.item(key) if isinstance(container, list) else marks.key(key)
    except (AttributeError, KeyError, IndexError, TypeError):
        position = (getattr(getattr(container, "lc", None), "line", 0) or 0, 0)
    return int(position[0]) + 1


def _plain(value: Any) -> Any:
    """ruamel's containers and scalars as Python's own."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value
