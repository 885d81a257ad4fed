"""What comes of a judgement of relevance: saved views to look at, rejections, and how right they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import fiftyone as fo
from fiftyone import ViewField as F

from .. import fields
from ..errors import ParameterError, suggestion
from ..samples import Rejection, pages, require_field, set_fields
from ..stage import current_run
from .irrelevance import Evaluation, plain, words_of

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

    from .judging import Judge

VIEWS = "irrelevant: "
"""What the names of the saved views begin with."""

_ABOUT = "Images that do not fit"
"""What the descriptions of the saved views begin with, by which those of an earlier preview are known."""


@dataclass
class Findings:
    """The images that do not fit.

    Attributes:
        rejections: sample id -> why
        outputs: what the report says of how they were found
        spellings: the tags that condemn -> how they are written in the field
        threshold: the least relevance of images that fit, if it is that which decides
    """

    rejections: dict[str, Rejection]
    outputs: dict[str, Any] = field(default_factory=dict)
    spellings: dict[str, list[str]] = field(default_factory=dict)
    threshold: float | None = None


def publish(
    judge: Judge, found: Findings, truth: Mapping[str, bool], tags_field: str, min_confidence: float, *, apply: bool
) -> dict[str, Any]:
    """Saves views, rejects the images if that is wanted, and sums up."""
    run = current_run()
    views = _save_views(judge, found, tags_field, min_confidence)
    out = len(found.rejections)
    outputs: dict[str, Any] = {**found.outputs, "irrelevant": out, "fitting": len(judge.ids) - out}
    if apply:
        if back := _bring_back(judge.samples, found.rejections):
            outputs["brought back"] = back
        run.reject(found.rejections)
    elif out:
        tags = f", tags={tuple(found.spellings)!r}" if found.spellings else ""
        run.note(f"nothing is rejected yet: look at the saved views, then run it again with apply=True{tags}")
    if views:
        outputs["saved views"] = views
    if truth:
        judged = [sample_id for sample_id in judge.ids if sample_id in truth]
        rejected = [sample_id in found.rejections for sample_id in judged]
        outputs["against ground truth"] = Evaluation.of([truth[i] for i in judged], rejected).outputs()
    return outputs


def truth_of(
    samples: SampleCollection, query: str, ground_truth: str | None, relevant: Sequence[str]
) -> dict[str, bool]:
    """Reads which images are truly relevant.

    Args:
        samples: the samples
        query: the class that is relevant unless others are given
        ground_truth: a field with classes or booleans, or ``"#TAG"``
        relevant: the classes that are relevant

    Returns:
        sample id -> whether it is; samples without a value are left out

    Raises:
        UsageError: there is no such field, tag or class
    """
    if ground_truth is None:
        return {}
    if ground_truth.startswith("#"):
        tag = ground_truth[1:]
        ids, tags = samples.values(["id", "tags"])
        known = sorted({each for its in tags for each in its})
        if tag not in known:
            raise ParameterError("ground_truth", ground_truth, f"no sample has this tag: {suggestion(tag, known)}")
        return {i: tag in its for i, its in zip(ids, tags, strict=True)}
    found = samples.get_field(ground_truth)
    path = ground_truth
    if not isinstance(found, (fo.BooleanField, fo.StringField)):
        require_field(samples, ground_truth, fo.Classification, parameter="ground_truth")
        path = f"{ground_truth}.label"
    ids, values = samples.values(["id", path])
    truth = {i: value for i, value in zip(ids, values, strict=True) if value is not None}
    if not truth:
        raise ParameterError("ground_truth", ground_truth, "this field is empty: no image can be compared with it")
    if isinstance(found, fo.BooleanField):
        return truth
    return _relevant_classes(truth, query, relevant)


def _relevant_classes(classes: Mapping[str, str], query: str, relevant: Sequence[str]) -> dict[str, bool]:
    known = sorted(set(classes.values()))
    wanted = {plain(name) for name in relevant}
    if not relevant:
        wanted = {plain(name) for name in known if words_of(name) == words_of(query)}
    missing = [name for name in relevant if plain(name) not in set(map(plain, known))]
    if missing or not wanted:
        name = missing[0] if missing else query
        listed = suggestion(name, known)
        raise ParameterError("relevant", tuple(relevant), f"no image has the class {name!r} in ground_truth: {listed}")
    return {i: plain(name) in wanted for i, name in classes.items()}


def _bring_back(samples: SampleCollection, rejections: Mapping[str, Rejection]) -> int:
    """Takes back what this stage rejected before and does not now."""
    dataset = current_run().dataset
    ids = [i for i in samples.match_tags(fields.REJECTED_TAG).values("id") if i not in rejections]
    for page in pages(ids):
        dataset.select(page).untag_samples(fields.REJECTED_TAG)
        set_fields(dataset, {"rejected": dict.fromkeys(page, None)})
    return len(ids)


def _save_views(judge: Judge, found: Findings, tags_field: str, min_confidence: float) -> list[str]:
    """Saves a view for each tag that condemns, instead of those of an earlier preview; returns their names."""
    dataset, samples = current_run().dataset, judge.samples
    for name in dataset.list_saved_views():
        if name.startswith(VIEWS) and (dataset.get_saved_view_info(name)["description"] or "").startswith(_ABOUT):
            dataset.delete_saved_view(name)
    label, confidence = F("label"), F("confidence")
    sure = (confidence == None) | (confidence >= min_confidence)  # noqa: E711 (an expression)
    views = {
        tag: samples.match_labels(fields=tags_field, filter=label.is_in(spellings) & sure)
        for tag, spellings in found.spellings.items()
    }
    if found.threshold is not None:
        views = {"unlike the query": samples.match(F("relevance") < found.threshold).sort_by("relevance")}
    names = []
    for tag, view in views.items():
        name = _free_name(dataset, tag)
        dataset.save_view(name, view, description=f"{_ABOUT} {judge.query!r}: {tag}")
        names.append(name)
    return names


def _free_name(dataset: fo.Dataset, tag: str) -> str:
    """A name for a saved view; FiftyOne takes none that differs from another only in signs."""
    from fiftyone.core.utils import to_slug

    taken = {to_slug(name) for name in dataset.list_saved_views()}
    name, number = f"{VIEWS}{tag}"[:90], 1
    while to_slug(name) in taken:
        number += 1
        name = f"{VIEWS}{tag}"[:90] + f" {number}"
    return name
