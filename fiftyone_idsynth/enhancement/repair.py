"""Repair: images with defects are painted anew a little, until the defects are gone and the quality has risen."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ..errors import UsageError
from ..measures.rating import MEASURES
from ..modelling import AllowPickle, Device, DType, Offline, Revision
from ..models.options import Options
from ..painting import (
    SHOWN,
    DryRun,
    Guidance,
    Loras,
    PaintBatch,
    Painter,
    SafetyChecker,
    Scheduler,
    Steps,
    Strength,
)
from ..samples import dataset_of, pages
from ..stage import (
    Bounds,
    Choices,
    Fraction,
    LabelField,
    Progress,
    Report,
    Run,
    Samples,
    Seed,
    current_run,
    stage,
)
from .defects import DEFECTS

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

    from .repairing import Diagnosis, Tally

LARGEST = 1.5
"""Longest side of repaired images, as a share of the side that the model was trained at."""


@stage(label="Repair images", group="Enhance", icon="healing", unit="images")
def repair(
    samples: Samples,
    *,
    defects: tuple[str, ...] = (),
    tag_field: Annotated[str | None, LabelField(("Classifications",))] = None,
    by_issues: bool = True,
    text_field: str | None = None,
    negative_prompt: str = "",
    model: str = "stable-diffusion-v1-5/stable-diffusion-v1-5",
    strength: Strength = 0.3,
    increase: Annotated[float, Bounds(0, 0.5)] = 0.1,
    max_rounds: Annotated[int, Bounds(1, 20)] = 3,
    steps: Steps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = "default",
    loras: Loras = {},  # noqa: B006 (never changed)
    safety_checker: SafetyChecker = True,
    longest_side: Annotated[int | None, Bounds(64, 8192)] = None,
    tagger: str | None = "SmilingWolf/wd-vit-tagger-v3",
    tag_threshold: Fraction = 0.35,
    measures: tuple[Annotated[str, Choices(lambda: list(MEASURES))], ...] = (),
    task: Literal["classification", "detection", "generation"] = "detection",
    label_fields: tuple[Annotated[str, LabelField()], ...] | None = None,
    reject_originals: bool = False,
    seed: Seed = 51,
    dry_run: DryRun = False,
    device: Device = "auto",
    dtype: DType = "auto",
    revision: Revision = None,
    offline: Offline = False,
    allow_pickle: AllowPickle = False,
    batch_size: PaintBatch = 4,
    progress: Progress = None,
) -> Report:
    """Repairs images that are blurry, noisy, compressed or marked, by painting them anew at low strength.

    An image is taken if one of its tags names a defect, or if ``score_quality`` found an issue that does. Its prompt is
    what else is written about it; the defects go to the negative prompt. The result is tagged and measured: if a defect
    is left, the next round starts from the original again, with more strength and another seed. Of all rounds the
    result with the fewest defects and the best score is kept, but only if its score is above that of the original; else
    there is no new sample, and it is not tried again until something changes.

    Repaired images are new samples with ``source.kind`` ``enhanced``, linked to the originals, which stay. Their labels
    and split tags are inherited. Samples that were made from other samples are left out, unless there are no others.

    Args:
        defects (()): tags that name a defect, by default :data:`fiftyone_idsynth.enhancement.defects.DEFECTS`; measured
            issues count as blurry, motion blur, noise, jpeg artifacts, overexposed, underexposed and washed out
        tag_field (None): the field with tags; ``content_tags`` if there is one
        by_issues (True): whether the issues that ``score_quality`` found count too
        text_field (None): a field with the text of each image: text, tags or a class; by default the first of
            training_text, caption, the prompt of a generated image, content_tags and classification that says
            something
        negative_prompt (""): what the images shall not show besides their defects
        model ("stable-diffusion-v1-5/stable-diffusion-v1-5"): hub id, folder or .safetensors file
        strength (0.3): how much of the image is given up in the first round
        increase (0.1): how much more in each further round
        max_rounds (3): rounds for each image at most
        longest_side (None): longest side of the repaired images in pixels, by default 1.5 times the side that the model
            was trained at; smaller images keep their size exactly. A larger one is made smaller, and must then be
            better than the original made smaller too
        tagger ("SmilingWolf/wd-vit-tagger-v3"): looks whether the defects are gone; none: only what is measured counts
        tag_threshold (0.35): least confidence of its tags
        measures (()): the measures of ``score_quality`` that the score is made of; all by default. Drawings need fewer
        task ("detection"): what the images are for: decides which measures count as issues
        label_fields (None): the fields whose labels are carried over; all by default
        reject_originals (False): whether originals are rejected, with the reason repaired, where one got better
        seed (51): of every random choice

    Returns:
        a report with how many were repaired, how many did not get better, and the mean score before and after
    """
    from ..carrying import chosen_fields
    from ..engine import create_samples
    from ..media import media_store
    from ..parents import check_painter, find_parents, not_yet_made, plan_of, read_parents, sizes_of
    from . import outcomes
    from .judging import Judge
    from .repairing import Patience, RepairWorker

    run = current_run()
    diagnosis = _diagnosis(samples, run)
    carried = chosen_fields(samples, label_fields)
    found = _find(samples, find_parents(samples, run), diagnosis)
    options = Options(device, dtype, revision, offline, allow_pickle)
    painter = Painter(
        model, options, steps=steps, guidance=guidance, scheduler=scheduler, loras=loras,
        safety_checker=safety_checker, batch_size=batch_size,
    )  # fmt: skip
    check_painter(painter, strength)
    # The revision that was asked for is one of the generator.
    judge = Judge(
        measures or tuple(MEASURES), task, diagnosis.defects, tagger, replace(options, revision=None), tag_threshold,
        batch_size,
    )  # fmt: skip
    judge.setup()

    ids, plan = list(found), plan_of(run, painter, judge.model.about if tagger else "", diagnosis.defects)
    given_up = outcomes.given_up(run, ids, plan)
    left = max(0, not_yet_made(run, plan, len(ids)) - len(given_up))
    longest = longest_side or round(LARGEST * painter.generator.side)
    sizes = sorted((_size(painter, *one, longest) for one in sizes_of(samples, ids)), key=math.prod) if ids else []
    seconds = painter.announce(left * max_rounds, *sizes[len(sizes) // 2], strength, always=dry_run) if sizes else 0.0
    parents = read_parents(samples, ids, list(dict.fromkeys((*carried, *diagnosis.paths))))
    tasks = diagnosis.tasks(parents, plan, run, given_up)
    outputs: dict[str, Any] = {"model": model, "with defects": len(ids)}
    if dry_run:
        run.preview = True
        prompts = [order.payload.prompt for order, _ in zip(tasks, range(SHOWN), strict=False)]
        return run.report(
            {**outputs, "images to make": left, "seconds": round(seconds, 1), "defects": _counted(found),
             "prompts": prompts}
        )  # fmt: skip
    painter.record()
    if tagger:
        run.models[judge.model.name] = judge.model.revision
    worker = RepairWorker(
        painter, media_store(run.dataset), judge, Patience(strength, increase, max_rounds), negative=negative_prompt,
        longest=longest, label_fields=carried, tag_field=diagnosis.tag_field,
        give_up=functools.partial(outcomes.give_up, run.dataset, run.stage.name),
    )  # fmt: skip
    create_samples(run.dataset, tasks, worker, total=len(ids), batch_size=batch_size)
    painter.check_prompts(worker.prompts)
    if reject_originals:
        outcomes.reject_originals(run, plan, "repaired")
    return run.report({**outputs, **_summary(worker.tally, len(given_up))})


def _diagnosis(samples: SampleCollection, run: Run) -> Diagnosis:
    """Where it is read what is wrong with the samples."""
    import fiftyone as fo

    from ..describing import text_fields
    from ..samples import require_field
    from .repairing import Diagnosis

    params = run.params
    name, issues = params["tag_field"], params["by_issues"] and samples.has_field("quality.issues")
    if name:
        require_field(samples, name, fo.Classifications, parameter="tag_field")
    elif samples.has_field("content_tags"):
        name = "content_tags"
    if not name and not issues:
        raise UsageError(
            "samples: nothing says what is wrong with them: run tag or score_quality first, or name a tag_field"
        )
    defects = tuple(params["defects"]) or DEFECTS
    return Diagnosis(name, bool(issues), text_fields(samples, params["text_field"]), defects)


def _find(samples: SampleCollection, ids: list[str], diagnosis: Diagnosis) -> dict[str, list[str]]:
    """The samples with defects, and words for these."""
    paths = [f"{diagnosis.tag_field}.classifications.label"] if diagnosis.tag_field else []
    paths += ["quality.issues"] if diagnosis.by_issues else []
    found: dict[str, list[str]] = {}
    for page in pages(ids):
        for sample_id, *values in zip(
            *dataset_of(samples).select(page, ordered=True).values(["id", *paths]), strict=True
        ):
            tags = values[0] if diagnosis.tag_field else ()
            words = diagnosis.of([tag for tag in tags or () if tag], values[-1] if diagnosis.by_issues else ())
            if words:
                found[sample_id] = words
    return found


def _size(painter: Painter, width: int, height: int, longest: int) -> tuple[int, int]:
    """The size in which a picture is painted."""
    zoom, unit = min(1.0, longest / max(width, height)), painter.unit
    across, down = (max(1, round(side * zoom)) for side in (width, height))
    return -(-across // unit) * unit, -(-down // unit) * unit


def _summary(tally: Tally, tried_before: int) -> dict[str, Any]:
    """What came of the repairs, for the report."""
    found: dict[str, Any] = {"no better": tally.no_better + tried_before}
    if tally.repaired:
        found |= {
            "repaired": tally.repaired,
            "defects before": dict(tally.defects.most_common()),
            "defects left": dict(tally.left.most_common()),
            "mean score before": tally.before / tally.repaired,
            "mean score": tally.after / tally.repaired,
        }
    return found


def _counted(found: Mapping[str, list[str]]) -> dict[str, int]:
    from collections import Counter

    return dict(Counter(word for words in found.values() for word in words).most_common())
