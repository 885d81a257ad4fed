"""From a topic to an exported dataset in one step: the plan first, then an editable recipe, then the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from ..collection.queries import Variants
from ..collection.sources import source_names
from ..errors import UsageError
from ..modelling import Device, Offline
from ..stage import Bounds, Choices, ExistingPath, Progress, Report, Samples, current_run, stage
from .steps import FINISHING, Filter, PlannedStep, Task, Wish, make_steps, render, slug

Source = Annotated[str, Choices(source_names)]


@stage(label="Build a dataset", group="Build", icon="construction", unit="steps", creates=True)
def build(
    dataset: Samples,
    *,
    topic: str | None = None,
    task: Task = "detection",
    classes: tuple[str, ...] = (),
    count: Annotated[int, Bounds(1, 10_000_000)] = 200,
    sources: tuple[Source, ...] = ("openverse", "wikimedia"),
    licenses: tuple[str, ...] = (),
    languages: tuple[str, ...] = (),
    variants: Variants = "none",
    urls: Annotated[Path | None, ExistingPath()] = None,
    generated: Annotated[int, Bounds(0, 10_000_000)] = 0,
    generator: str | None = None,
    filter: Filter = "similarity",
    detector: str | None = None,
    captioner: str | None = None,
    tagger: str | None = None,
    matcher: str | None = None,
    trigger_word: str = "",
    review: bool = False,
    path: Path | None = None,
    recipe: Path | None = None,
    llm_model: str | None = None,
    llm_url: str | None = None,
    device: Device = "auto",
    offline: Offline = False,
    options: dict[str, str] = {},  # noqa: B006
    dry_run: bool = False,
    progress: Progress = None,
) -> Report:
    """Builds a dataset for a task from nothing but a topic: collects, cleans, labels, splits and exports.

    The plan comes first: queries, sources, hosts, models, the number of images, an estimate of the time. It is written
    as a recipe, which you can edit and run again with ``idsynth run``; then it is run. Everything is checked before
    anything is fetched: keys, models, parameters. Run it again to go on after an interruption.

    Args:
        topic (None): what the images shall show; by default the name of the dataset
        task ("detection"): what the dataset is for: detection (boxes), segmentation (masks), classification (a folder
            per class) or generation (captions)
        classes (()): the classes, each searched for by its name; by default the topic is the only one
        count (200): how many images to collect, all classes together
        sources (("openverse", "wikimedia")): where to search, see collect
        licenses (()): only images under one of these licences, e.g. cc0, cc-by
        languages (()): languages to search in, as ISO 639-1 codes; English by default
        variants ("none"): where translations and synonyms come from: the word list (words) or a language model (llm)
        urls (None): a file of image addresses to collect as well
        generated (0): how many images to generate beside them, all classes together; they go to the training split only
        generator (None): the model that generates images, by default that of generate
        filter ("similarity"): how images that do not show their class are found, see filter_irrelevant
        detector (None): the model that finds boxes or masks, by default that of detect and segment
        captioner (None): the model that writes captions, by default that of caption
        tagger (None): the model that writes tags, by default that of tag
        matcher (None): the model that compares images with the topic, by default that of filter_irrelevant
        trigger_word (""): what training texts begin with, for generation
        review (False): whether to stop before the split, so that a person can correct labels in the App; the saved
            view to_review has the images that the models are unsure of. Without it the next run goes on from there
        path (None): the folder of the export, by default the name of the dataset
        recipe (None): where the recipe is written, by default NAME.yaml beside the export
        llm_model (None): the language model, by default that of collect and filter_irrelevant
        llm_url (None): the address of the language model
        options ({}): parameters of single stages, as STAGE.PARAMETER -> value, e.g. detect.threshold=0.4
        dry_run (False): whether to show the plan and the recipe only

    Returns:
        a report of what every step did

    Raises:
        UsageError: the input is wrong, or there is another recipe in that place; nothing was fetched
    """
    from .forecast import forecast
    from .reviewing import TO_REVIEW, save_unsure

    run = current_run()
    name = run.dataset.name
    topic = topic or name
    folder = (path or Path(slug(name))).expanduser().absolute()
    file = (recipe or folder.parent / f"{slug(name)}.yaml").expanduser().absolute()
    models = {
        "generator": generator, "detector": detector, "captioner": captioner, "tagger": tagger, "matcher": matcher,
    }  # fmt: skip
    llm = {"llm_model": llm_model, "llm_url": llm_url}
    wish = Wish(
        topic, task, classes or (topic,), count, generated, sources, licenses, languages, variants,
        str(urls.expanduser().absolute()) if urls else None, filter,
        {role: model for role, model in models.items() if model}, trigger_word, str(folder),
        {key: value for key, value in llm.items() if value}, device, offline, options,
    )  # fmt: skip
    steps = make_steps(wish)
    text = render(name, steps, f"Made by idsynth build for {task}: {', '.join(wish.classes)}.\n"
                               f"Edit it as you like and run it with: idsynth run {file.name}")  # fmt: skip
    _check_recipe(file, text)
    plan = forecast(dataset, steps)
    if dry_run:
        run.preview = True
        return run.report({**plan, "recipe": text.splitlines()})
    run.announce("\n".join(f"{key}: {value}" for key, value in plan.items()) + f"\nrecipe: {file}")
    _write(file, text)
    done = _run(file, steps, progress, stop_before=FINISHING if review else ())
    if review:
        unsure = save_unsure(run.dataset, task)
        run.note(
            f"look at the saved view {TO_REVIEW!r} ({unsure} images) in the App and correct what is wrong: what you "
            f"change stays. Then run the same without review, or `idsynth run {file}`: it goes on from here"
        )
    return run.report({"recipe": str(file), **done})


def _check_recipe(file: Path, text: str) -> None:
    """Refuses to overwrite a recipe that somebody edited."""
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise UsageError(
            f"{file} is another recipe than the one for these parameters, perhaps because you edited it: run it with "
            f"`idsynth run {file}`, remove it, or name another file (recipe)"
        )


def _write(file: Path, text: str) -> None:
    from ..media import write_atomically

    if not file.exists():
        write_atomically(file, text.encode())


def _run(file: Path, steps: list[PlannedStep], progress: Progress, stop_before: tuple[str, ...]) -> dict[str, Any]:
    """Runs the recipe step by step; returns a line for each."""
    from ..recipe import load_recipe

    run = current_run()
    loaded = load_recipe(file)
    wanted = [step for step in loaded.steps if step.stage.name not in stop_before]
    done: dict[str, Any] = {}
    for number, report in enumerate(replace(loaded, steps=wanted).run(progress=progress), 1):
        run.processed()
        run.created(report.created)
        for reason, times in report.rejected.items():
            run.rejected(reason, times)
        for what, why in report.failed:
            run.failed(what, why)
        for note in report.notes:
            run.note(f"{report.stage}: {note}")
        line = str(report).splitlines()[0]
        done[f"{number}. {report.stage}"] = line.partition(": ")[2]
        if number < len(wanted):
            run.announce(f"{line}; next: {steps[number].stage} (step {number + 1} of {len(wanted)})")
    return done
