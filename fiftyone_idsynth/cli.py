"""The shell command ``idsynth``: every stage, recipes, the demo, and what a user needs around them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from . import __version__
from .errors import IdsynthError, UsageError, suggestion
from .stage import Parameter, Stage, stages


class _Commands(click.Group):
    """The fixed commands and one command per stage."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *(stage.command for stage in stages().values())]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        fixed = super().get_command(ctx, name)
        if fixed is not None:
            return fixed
        stage = stages().get(name.replace("-", "_"))
        return _stage_command(stage) if stage else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None:
            raise click.UsageError(
                f"there is no command {args[0]!r}: {suggestion(args[0], self.list_commands(ctx))}", ctx
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(n, c.get_short_help_str(90)) for n, c in sorted(self.commands.items())])
        with formatter.section("Stages (idsynth STAGE DATASET --help)"):
            formatter.write_dl([(stage.command, stage.summary) for stage in stages().values()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="idsynth")
def main() -> None:
    """Training-ready image datasets inside FiftyOne.

    DATASET is the name of a FiftyOne dataset, or DATASET:SAVED_VIEW, or DATASET#TAG.
    """


@main.command("stages")
def _stages() -> None:
    """List the stages with what they do."""
    group = None
    for stage in stages().values():
        if stage.group != group:
            group = stage.group
            click.echo(f"\n{group}")
        click.echo(f"  {stage.command:<18} {stage.summary}")


@main.command("run")
@click.argument("recipe", type=click.Path(dir_okay=False))
@click.option("--dataset", help="Use this dataset instead of the one the recipe names.")
@click.option("--check", is_flag=True, help="Only check the recipe, run nothing.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
def _run(recipe: str, dataset: str | None, check: bool, quiet: bool) -> None:
    """Run a recipe; what is up to date is not done again."""
    from .recipe import load_recipe

    loaded = load_recipe(recipe, dataset=dataset)
    if check:
        click.echo(f"{recipe} is valid: {', '.join(step.stage.name for step in loaded.steps)} on {loaded.dataset}")
        return
    for report in loaded.run(progress=not quiet):
        click.echo(str(report))


@main.command("demo")
@click.option("--path", default="idsynth-demo", show_default=True, type=click.Path(file_okay=False, path_type=Path),
              help="The folder that gets the photographs, the recipe and the exports.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="No progress bars.")
def _demo(path: Path, quiet: bool) -> None:
    """Build a small detection dataset, without network or weights, in about a minute."""
    from .demo import run_demo

    run_demo(path, progress=not quiet, say=click.echo)


@main.command("doctor")
def _doctor() -> None:
    """Say what is missing and what to do about it."""
    from .doctor import examine

    findings = examine()
    for finding in findings:
        click.echo(str(finding))
    if any(finding.state == "broken" for finding in findings):
        sys.exit(1)


@main.command("install-plugin")
@click.option("--copy", is_flag=True, help="Copy instead of linking.")
def _install_plugin(copy: bool) -> None:
    """Link the plugin into FiftyOne's plugins folder, so that the App shows it, and name its annotation backend."""
    from .learning.label_studio.registration import install_backend
    from .plugin import install_plugin

    target = install_plugin(copy=copy)
    click.echo(
        f"The plugin is in {target}. Open a dataset in the App (fiftyone app launch) and press ` to see its operators."
    )
    if config := install_backend():
        click.echo(f'{config} now names the annotation backend: dataset.annotate(KEY, backend="idsynth", ...).')


def _stage_command(stage: Stage) -> click.Command:
    """The command of a stage: its first parameter and those without default are arguments, the others options."""
    params: list[click.Parameter] = [click.Argument([stage.target.name], metavar="DATASET")]
    arguments = [p for p in stage.parameters.values() if p.required]
    params += [click.Argument([p.name], metavar=p.name.upper(), nargs=-1 if p.name == "path" and p.type is Any else 1,
                              required=True) for p in arguments]  # fmt: skip
    params += [_option(p) for p in stage.parameters.values() if not p.required and p.name != "progress"]
    params.append(click.Option(["--quiet"], is_flag=True, help="No progress bar."))

    def invoke(**given: Any) -> None:
        quiet = given.pop("quiet")
        target = given.pop(stage.target.name)
        values = {}
        for name, value in given.items():
            if value is None or value == ():
                continue
            if name == "path" and isinstance(value, tuple):
                value = value[0] if len(value) == 1 else list(value)
            values[name] = value
        click.echo(str(stage(target, **values, progress=not quiet)))

    text = stage.description
    if arguments:
        text += "\n\n\b\n" + "\n".join(f"{p.name.upper()}: {p.help}" for p in arguments)
    return click.Command(stage.command, params=params, callback=invoke, help=text, short_help=stage.summary)


def _option(parameter: Parameter) -> click.Option:
    flag = "--" + parameter.name.replace("_", "-")
    if parameter.type is bool:
        return click.Option([f"{flag}/--no-{flag[2:]}", parameter.name], default=None,
                            help=f"{parameter.help}  [default: {parameter.default}]")  # fmt: skip
    default = parameter.default
    if parameter.is_mapping:
        default, metavar = ",".join(f"{k}={v}" for k, v in (default or {}).items()), "NAME=VALUE,..."
    elif parameter.is_sequence:
        default, metavar = ",".join(map(str, default or ())), "A,B,..."
    else:
        metavar = "|".join(map(str, parameter.choices)) if parameter.choices and not parameter.is_samples else ""
        metavar = metavar if metavar and len(metavar) < 60 else getattr(parameter.type, "__name__", "text").upper()
    shown = f"  [default: {default}]" if default not in (None, "") else ""
    return click.Option([flag, parameter.name], metavar=metavar, help=parameter.help + shown)


def entry() -> None:
    """Runs the command line: exit code 0 for success, 1 for a failure, 2 for wrong input."""
    try:
        main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("\nStopped. What is done is saved: the same command continues.", err=True)
        sys.exit(130)
    except IdsynthError as error:
        click.echo(f"{'Usage error' if isinstance(error, UsageError) else 'Error'}: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    entry()
