"""Makes a FiftyOne operator, with its form, of a stage."""

from __future__ import annotations

import base64
import os
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_idsynth.errors import IdsynthError
from fiftyone_idsynth.keys import provided_by
from fiftyone_idsynth.runs import announced_to
from fiftyone_idsynth.stage import LabelField, Parameter, Report, Stage

_SECONDS_BETWEEN_UPDATES = 0.5


def operator_class(stage: Stage) -> type[foo.Operator]:
    """The operator of a stage: FiftyOne wants a class that it can make without arguments."""
    return type(f"Stage_{stage.name}", (StageOperator,), {"stage": stage})


class StageOperator(foo.Operator):
    """Runs a stage on the view that the user chose, with progress; long runs can be scheduled."""

    stage: Stage

    @property
    def config(self) -> foo.OperatorConfig:
        return foo.OperatorConfig(
            name=self.stage.name,
            label=f"{self.stage.group}: {self.stage.label}",
            description=self.stage.summary,
            icon=self.stage.icon,
            dynamic=True,
            execute_as_generator=True,
            allow_immediate_execution=True,
            allow_delegated_execution=True,
            rerunnable=True,
        )

    def resolve_input(self, ctx: foo.ExecutionContext) -> types.Property:
        inputs = types.Object()
        inputs.md(_escape(self.stage.description.partition("\n\n")[0]), name="about")
        if not self.stage.creates:
            ctx.target_view()  # makes FiftyOne add its choice of dataset, view or selection
        for parameter in self.stage.parameters.values():
            if parameter.name != "progress":
                _add_input(inputs, ctx, parameter)
        return types.Property(inputs, view=types.View(label=self.stage.label))

    def execute(self, ctx: foo.ExecutionContext) -> Iterator[Any]:
        samples = ctx.dataset if self.stage.creates else ctx.target_view()
        params = _given(self.stage, ctx.params)
        running = _Running(self.stage, samples, params, _Secrets(ctx.secrets))
        for label, fraction in running.updates():
            if ctx.delegated:
                ctx.set_progress(progress=fraction, label=label)
            else:
                yield ctx.ops.set_progress(label=label, progress=fraction)
        try:
            report = running.report()
        except IdsynthError as error:
            if not ctx.delegated:
                yield ctx.ops.notify(str(error), variant="error")
            raise
        if ctx.delegated:
            ctx.log(str(report))
            return
        yield ctx.ops.reload_dataset()
        picture = _picture(report)
        outputs = {"report": _as_markdown(report), **({"preview": picture} if picture else {})}
        yield ctx.ops.show_output(_output_form(self.stage, report).to_json(), outputs)

    def resolve_output(self, ctx: foo.ExecutionContext) -> types.Property:
        return _output_form(self.stage)


class _Secrets:
    """Looks up the secrets of an execution context by name."""

    def __init__(self, secrets: Any):
        self._secrets = secrets

    def __call__(self, name: str) -> str | None:
        value = self._secrets.get(name)
        return getattr(value, "value", value)  # a context that was made by hand holds secrets as objects


class _Running:
    """A stage at work on a thread, so that its progress can be passed on while it works."""

    def __init__(self, stage: Stage, samples: Any, params: dict[str, Any], secrets: _Secrets):
        self._updates: queue.Queue[tuple[str, float] | None] = queue.Queue()
        self._report: Report | None = None
        self._error: BaseException | None = None
        self._unit = stage.unit
        self._started = time.monotonic()
        callback = fo.report_progress(self._on_progress, dt=_SECONDS_BETWEEN_UPDATES)
        arguments = (stage, samples, params, callback, secrets)
        self._thread = threading.Thread(target=self._run, args=arguments, name=stage.name)
        self._thread.start()

    def updates(self) -> Iterator[tuple[str, float]]:
        """Progress as it comes, until the stage has ended."""
        while (update := self._updates.get()) is not None:
            yield update
        self._thread.join()

    def report(self) -> Report:
        """What the stage returned, or raises what it raised."""
        if self._error is not None:
            raise self._error
        assert self._report is not None
        return self._report

    def _run(self, stage: Stage, samples: Any, params: dict[str, Any], callback: Any, secrets: _Secrets) -> None:
        try:
            with announced_to(lambda text: self._updates.put((text, 0.0))), provided_by(secrets):
                self._report = stage(samples, **params, progress=callback)
        except BaseException as error:  # handed to the caller's thread, which raises it
            self._error = error
        finally:
            self._updates.put(None)

    def _on_progress(self, bar: Any) -> None:
        seconds = max(time.monotonic() - self._started, 1e-6)
        done, total = bar.iteration, bar.total or 0
        fraction = min(done / total, 1.0) if total else 0.0
        label = f"{done} of {total} {self._unit}, {done / seconds:.1f}/s"
        if done and done < total:
            label += f", {_duration((total - done) * seconds / done)} left"
        self._updates.put((label, fraction))


def _add_input(inputs: types.Object, ctx: foo.ExecutionContext, parameter: Parameter) -> None:
    """Adds one parameter with its choices, bounds, default and help to a form."""
    name, default = parameter.name, None if parameter.required else parameter.default
    options: dict[str, Any] = {
        "label": _title(name), "description": parameter.help, "required": parameter.required,
    }  # fmt: skip
    choices = _choices(ctx, parameter)
    if parameter.is_mapping:
        shown = ", ".join(f"{k}={v}" for k, v in (default or {}).items())
        options["description"] += " (NAME=VALUE, NAME=VALUE)"
        added = inputs.str(name, default=shown or None, **options)
    elif parameter.is_sequence and choices:
        view = types.DropdownView(multiple=True)
        for choice in choices:
            view.add_choice(choice, label=str(choice))
        added = inputs.list(name, types.String(), default=list(default or ()), view=view, **options)
    elif parameter.is_sequence:
        added = inputs.str(name, default=", ".join(map(str, default or ())) or None, **options)
    elif choices is not None:
        free = parameter.is_samples or parameter.marker(LabelField) is not None
        view = types.AutocompleteView(allow_user_input=free) if free else types.DropdownView()
        for choice in choices:
            view.add_choice(choice, label=str(choice))
        if free:
            added = inputs.str(name, default=default, view=view, **options)
        else:
            added = inputs.enum(name, [str(c) for c in choices], default=default, view=view, **options)
    elif parameter.type is bool:
        added = inputs.bool(name, default=default, **options)
    elif parameter.type in (int, float):
        add = inputs.int if parameter.type is int else inputs.float
        added = add(name, default=default, min=parameter.bounds.ge, max=parameter.bounds.le, **options)
    else:
        added = inputs.str(name, default=str(default) if default is not None else None, **options)
    problem = _problem(parameter, ctx.params.get(name))
    if problem:
        added.invalid = True
        added.error_message = problem


def _choices(ctx: foo.ExecutionContext, parameter: Parameter) -> list[Any] | None:
    if parameter.is_samples:
        names = []
        for name in fo.list_datasets():
            names.append(name)
            if ctx.dataset is not None and name == ctx.dataset.name:
                names += [f"{name}:{view}" for view in ctx.dataset.list_saved_views()]
                names += [f"{name}#{tag}" for tag in ctx.dataset.distinct("tags")]
        return names
    marker = parameter.marker(LabelField)
    if marker is not None and ctx.dataset is not None:
        kinds = tuple(getattr(fo, kind) for kind in marker.kinds) or (fo.Label,)
        return [
            name
            for name, field in ctx.dataset.get_field_schema().items()
            if isinstance(field, fo.EmbeddedDocumentField) and issubclass(field.document_type, kinds)
        ]
    return parameter.choices


def _problem(parameter: Parameter, value: Any) -> str | None:
    if value is None or value == "" or value == []:
        return None
    try:
        parameter.parse(value)
    except IdsynthError as error:
        return str(error)
    return None


def _given(stage: Stage, params: dict[str, Any]) -> dict[str, Any]:
    """The parameters that were filled in; an empty input means the default."""
    return {
        name: params[name]
        for name in stage.parameters
        if name != "progress" and params.get(name) is not None and params[name] != "" and params[name] != []
    }


def _output_form(stage: Stage, report: Report | None = None) -> types.Property:
    outputs = types.Object()
    if report and "preview" in report.outputs:
        outputs.str("preview", view=types.ImageView(width="100%"))
    outputs.str("report", view=types.MarkdownView())
    for number, chart in enumerate(report.charts if report else ()):
        outputs.plot(f"chart_{number}", data=chart["data"], layout=chart["layout"])
    return types.Property(outputs, view=types.View(label=stage.label))


def _picture(report: Report) -> str | None:
    """The picture that a preview wrote, as the App shows it."""
    path = report.outputs.get("preview")
    if not path or not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        return "data:image/jpeg;base64," + base64.b64encode(file.read()).decode()


def _as_markdown(report: Report) -> str:
    first, *rest = str(report).splitlines()
    return f"**{_escape(first)}**\n\n" + "\n".join(f"- {_escape(line.strip())}" for line in rest)


def _escape(text: str) -> str:
    """Text of images and people may hold markup: it is shown, never interpreted."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("`", "'")


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
