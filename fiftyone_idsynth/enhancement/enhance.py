"""Enhance: measured defects are repaired without a learned model, and what got better is kept beside the original."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from ..measures.rating import MEASURES
from ..stage import (
    Bounds,
    Choices,
    Fraction,
    LabelField,
    NumWorkers,
    Progress,
    Report,
    Run,
    Samples,
    current_run,
    stage,
)

if TYPE_CHECKING:
    from ..measures.rating import Standard


def _names() -> list[str]:
    from .remedies import REMEDIES

    return list(REMEDIES)


@stage(label="Enhance images", group="Enhance", icon="auto_fix_high", unit="images")
def enhance(
    samples: Samples,
    *,
    repairs: tuple[Annotated[str, Choices(_names)], ...] = (),
    task: Literal["classification", "detection", "generation"] = "detection",
    measures: tuple[Annotated[str, Choices(lambda: list(MEASURES))], ...] = (),
    min_fidelity: Fraction = 0.75,
    label_fields: tuple[Annotated[str, LabelField()], ...] | None = None,
    reject_originals: bool = False,
    batch_size: Annotated[int, Bounds(1, 256)] = 1,
    num_workers: NumWorkers = None,
    progress: Progress = None,
) -> Report:
    """Repairs blur, noise, JPEG artefacts, wrong exposure, colour casts and low contrast, as far as they were measured.

    Every image is measured as ``score_quality`` does. Each defect past the threshold of the task is repaired at the
    strength that its measure asks for: adaptive median, removal of JPEG blocks and ringing, denoising, white balance,
    exposure, Wiener deconvolution, unsharp mask, stretched grey levels, CLAHE, in this order. The image is measured
    again after each repair, which is kept only if the score rose and the picture is still faithful to the original;
    noise is removed only where what goes looks like noise, and not like fine texture.

    Enhanced images are new samples with ``source.kind`` ``enhanced``, linked to the originals, which stay; their
    lineage holds every repair with its parameters. Labels and split tags are inherited. An image without defects, or
    that did not get better, gives no new sample, and is not tried again until something changes. Samples that were made
    from other samples are left out, unless there are no others.

    Args:
        repairs (()): the repairs that may be made, by default all: adaptive_median, decompress, denoise, white_balance,
            expose, deconvolve, unsharp, stretch, clahe
        task ("detection"): what the images are for: classification is tolerant, generation strict
        measures (()): the measures of ``score_quality`` that the score is made of, and whose defects are repaired; all
            by default
        min_fidelity (0.75): least share of the original's structure that must be left, 0 to 1, see
            :func:`fiftyone_idsynth.enhancement.mending.fidelity`
        label_fields (None): the fields whose labels are carried over; all by default
        reject_originals (False): whether originals are rejected, with the reason enhanced, where one got better
        batch_size (1): images given to a thread at once

    Returns:
        a report with how many got better, the mean score before and after, how often each repair was made, and for each
        defect how often it was found and is left, and its mean measure before and after
    """
    from ..carrying import chosen_fields
    from ..engine import create_samples
    from ..media import media_store
    from ..parents import find_parents, plan_of, read_parents, tasks
    from . import outcomes
    from .enhancing import EnhanceWorker

    run = current_run()
    carried = chosen_fields(samples, label_fields)
    standard = _standard(measures, task)
    plan = plan_of(run, None)
    ids = find_parents(samples, run)
    tried = outcomes.given_up(run, ids, plan)
    worker = EnhanceWorker(
        media_store(run.dataset), standard, repairs or tuple(_names()), min_fidelity, label_fields=carried,
        give_up=lambda keys: outcomes.give_up(run.dataset, run.stage.name, keys),
    )  # fmt: skip
    wanted = tasks(read_parents(samples, ids, carried), plan, 1, lambda parent: (), run)
    create_samples(
        run.dataset, outcomes.without(wanted, tried, run), worker, total=len(ids), batch_size=batch_size,
        num_workers=num_workers,
    )  # fmt: skip
    if worker.transparent:
        run.note(f"{worker.transparent} images are transparent in places: there their repaired copies are white")
    if reject_originals:
        outcomes.reject_originals(run, plan, "enhanced")
    return run.report({"no better": worker.no_better + len(tried), **_summary(run, plan, standard)})


def _standard(names: tuple[str, ...], task: str) -> Standard:
    """What images are judged by."""
    from ..measures.rating import Standard

    return Standard({name: MEASURES[name] for name in names or MEASURES}, task)


def _summary(run: Run, plan: str, standard: Standard) -> dict[str, Any]:
    """What came of all images that got better, for the report."""
    from collections import Counter

    from .outcomes import lineages

    made = [params for _, _, params in lineages(run, plan)]
    if not made:
        return {"enhanced": 0}
    repairs = Counter(step["name"] for params in made for step in params["steps"])
    return {
        "enhanced": len(made),
        "mean score before": _mean([params["score_before"] for params in made]),
        "mean score": _mean([params["score"] for params in made]),
        "mean fidelity": _mean([params["fidelity"] for params in made]),
        "repairs": dict(repairs.most_common()),
        "defects": _table(made, standard),
    }


def _table(made: list[dict[str, Any]], standard: Standard) -> list[dict[str, Any]]:
    """A row for each defect: how often it was found and is left, and its mean measure before and after."""
    rows = []
    for name, measure in standard.measures.items():
        its = [params for params in made if measure.issue in params["issues_before"]]
        if its:
            rows.append(
                {
                    "defect": measure.issue,
                    "found": len(its),
                    "left": sum(measure.issue in params["issues"] for params in its),
                    "measure": name,
                    "before": _mean([params["before"][name] for params in its]),
                    "after": _mean([params["after"][name] for params in its]),
                }
            )
    return rows


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
