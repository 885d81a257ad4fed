"""What came of making images better, remembered with the samples: which were tried in vain, which originals go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import fields
from ..painting import SYNTHETIC_TAG
from ..samples import Rejection, pages, set_fields

if TYPE_CHECKING:
    import fiftyone as fo
    import numpy as np

    from ..engine import NewSample, Task
    from ..media import MediaStore
    from ..parents import Order
    from ..stage import Run


ENHANCED_TAG = "enhanced"
"""Sample tag of pictures that were made better without painting anything anew."""


def given_up(run: Run, ids: Sequence[str], plan: str) -> dict[str, str]:
    """The samples that were tried in vain with a plan.

    Args:
        run: the run
        ids: ids of samples
        plan: what :func:`fiftyone_idsynth.parents.plan_of` gave

    Returns:
        sample id -> the key of the picture that was no better
    """
    path = f"stages.{run.stage.name}"
    if not run.dataset.has_field(path):
        return {}
    found: dict[str, str] = {}
    for page in pages(list(ids)):
        tried = zip(*run.dataset.select(page).values(["id", path]), strict=True)
        found |= {sample_id: key for sample_id, key in tried if key and key.startswith(f"{run.stage.name}-{plan}-")}
    return found


def give_up(dataset: fo.Dataset, stage: str, keys: Mapping[str, str]) -> None:
    """Remembers samples that a stage could not make better: sample id -> the key of the picture that was no better."""
    if keys:
        fields.declare(dataset, f"stages.{stage}")
        set_fields(dataset, {f"stages.{stage}": keys})


def without(tasks: Iterable[Task], tried: Mapping[str, str], run: Run) -> Iterator[Task]:
    """The tasks of making a picture of a sample, without those that were tried in vain."""
    for task in tasks:
        if tried.get(task.payload.parent.id) == task.keys[0]:
            run.skipped(1)
        else:
            yield task


def reject_originals(run: Run, plan: str, reason: str) -> None:
    """Leaves the originals of what was made with a plan out, for samples whose lineage has both scores."""
    rejections = {
        parents[0]: Rejection(reason, f"score {params['score_before']:.2f}, {params['score']:.2f} when {reason}", made)
        for made, parents, params in lineages(run, plan)
    }
    run.reject(rejections)


def lineages(run: Run, plan: str) -> Iterator[tuple[str, list[str], dict[str, Any]]]:
    """Id, parents and parameters of all samples that were made with a plan, by this run and by earlier ones."""
    from fiftyone import ViewField as F

    if not run.dataset.has_field("lineage.key"):
        return
    ids = run.dataset.match(F("lineage.key").starts_with(f"{run.stage.name}-{plan}-")).values("id")
    for page in pages(ids):
        view = run.dataset.select(page, ordered=True)
        yield from zip(*view.values(["id", "lineage.parents", "lineage.params"]), strict=True)


def enhanced(
    order: Order, key: str, pixels: np.ndarray, store: MediaStore, params: Mapping[str, Any], labels: Mapping[str, Any]
) -> NewSample:
    """Writes a better picture of a photograph, which stays a photograph, and makes the sample of it.

    Args:
        order: what was asked for
        key: the picture's key
        pixels: uint8 RGB array
        store: where it is written
        params: what is needed to make it again
        labels: field -> label
    """
    from ..parents import made_from

    made = made_from(order, key, pixels, store, {"params": dict(params)}, labels, "enhanced", tag=ENHANCED_TAG)
    if SYNTHETIC_TAG in order.parent.tags:
        made.tags.append(SYNTHETIC_TAG)
    return made
