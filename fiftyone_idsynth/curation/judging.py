"""The ways in which :func:`~fiftyone_idsynth.curation.relevance.filter_irrelevant` finds images that do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from fiftyone import ViewField as F

from .. import fields
from ..engine import update_samples
from ..errors import FieldError, ParameterError
from ..llm import LanguageModel
from ..samples import Rejection, pages, require_field, require_samples
from ..stage import current_run, fingerprint
from .irrelevance import TagTable, find_columns, least_images, means, unrelated_tags, words_of
from .relevance import STAGE
from .verdict import Findings

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

    from ..models.options import Options

COMPANIONS = 3
"""How many of the tags that a tag is most often seen with a language model is told."""


class Judge:
    """The images that are judged, and what is known of them beforehand.

    Args:
        samples: the samples that the stage was given
        query: what the images shall show
        synonyms: further words for it
        good: samples that a person marked as good

    Attributes:
        samples: those that take part: not rejected, or rejected by this stage
        ids: their ids
        spared: whether each stays whatever is found: marked as good, or restored by a person
    """

    def __init__(self, samples: SampleCollection, query: str, synonyms: Sequence[str], good: Any):
        import fiftyone as fo

        rejected = F("tags").contains(fields.REJECTED_TAG)
        self.samples = samples.match((~rejected) | (F("rejected.stage") == STAGE))
        require_samples(self.samples)
        self.query, self.synonyms = query, tuple(synonyms)
        self.ids, stages, restored, tags = self.samples.values(["id", "rejected.stage", "rejected.restored", "tags"])
        self.good = good
        marked: set[str] = set()
        if good is not None:
            require_samples(good, "good")
            marked = set(good.values("id"))
        self.spared = np.array([
            i in marked or bool(back and by == STAGE and fields.REJECTED_TAG not in its)
            for i, by, back, its in zip(self.ids, stages, restored, tags, strict=True)
        ])  # fmt: skip
        self._classifications = fo.Classifications

    @cached_property
    def phrases(self) -> list[str]:
        """The query and other words for it."""
        from ..words import find_words

        known = find_words(" ".join(words_of(self.query)), ["en"], spoken=["en"])
        listed = known.words.get("en", ()) if known else ()
        return list(dict.fromkeys([self.query, *self.synonyms, *listed]))

    def read_tags(self, tags_field: str, min_confidence: float) -> TagTable:
        """Reads the tags.

        Raises:
            FieldError: there are none
        """
        run = current_run()
        if not self.samples.has_field(tags_field):
            raise FieldError(
                f"tags_field={tags_field!r}: the images have no tags: run the stage 'tag' first, name the field that "
                "has them, or use method='similarity', which needs none"
            )
        require_field(self.samples, tags_field, self._classifications, parameter="tags_field")
        images: list[list[tuple[str, float]]] = []
        with run.progress(len(self.ids)) as bar:
            for page in pages(self.ids):
                columns = run.dataset.select(page).values(
                    ["id", f"{tags_field}.classifications.label", f"{tags_field}.classifications.confidence"]
                )
                its = {}
                for sample_id, labels, confidences in zip(*columns, strict=True):
                    pairs = zip(labels or (), confidences or (), strict=True)
                    its[sample_id] = [(label, 1.0 if sure is None else sure) for label, sure in pairs if label]
                images += [its[sample_id] for sample_id in page]
                run.processed(len(page))
                bar.update(len(page))
        table = TagTable(images, min_confidence)
        if not table.names:
            seen = sum(map(len, images))
            why = f"none of the {seen} tags reaches min_confidence={min_confidence:g}" if seen else "no image has a tag"
            raise FieldError(f"tags_field={tags_field!r}: {why}: run the stage 'tag' first, or lower min_confidence")
        return table

    def query_columns(self, table: TagTable) -> list[int]:
        """The tags that mean the query."""
        return [n for n, name in enumerate(table.names) if any(means(name, phrase) for phrase in self.phrases)]

    def condemn(self, table: TagTable, columns: Sequence[int], **outputs: Any) -> Findings:
        """The images with one of these tags."""
        order = sorted(columns, key=lambda column: -table.counts[column])
        rejections = {
            self.ids[row]: Rejection(
                "irrelevant", f"tagged {table.names[column]!r} ({sure:.2f}), which does not fit {self.query!r}"
            )
            for row, (column, sure) in table.surest(columns).items()
            if not self.spared[row]
        }  # fmt: skip
        counts = {table.names[column]: int(table.counts[column]) for column in order}
        spellings = {table.names[column]: sorted(table.spellings[column]) for column in order}
        if table.untagged:
            outputs["without tags, kept"] = table.untagged
        return Findings(rejections, {"tags that condemn": counts, **outputs}, spellings)


def by_tags(judge: Judge, table: TagTable, tags: Sequence[str]) -> Findings:
    """The images with one of the tags that the user names.

    Raises:
        ParameterError: none of them occurs
    """
    columns, remarks = find_columns(table, tags)
    if not columns:
        raise ParameterError("tags", tuple(tags), "; ".join(remarks))
    for remark in remarks:
        current_run().note(remark)
    return judge.condemn(table, columns)


def by_statistics(judge: Judge, table: TagTable, max_tags: int) -> Findings:
    """The images with tags that are practically never where the query is.

    Raises:
        ParameterError: nothing says which images show the query
    """
    run = current_run()
    core = judge.query_columns(table)
    reference = table.with_any(core) | judge.spared
    sure = int(reference.sum())
    if not sure:
        frequent = ", ".join(table.names[n] for n in np.argsort(-table.counts, kind="stable")[:10])
        raise ParameterError(
            "query", judge.query,
            "no tag means this, so the statistics of tags say nothing about it. The most frequent tags are "
            f"{frequent}. Name those that mean it as synonyms, mark some images as good, use method='llm' or "
            "'similarity', or name the tags that condemn yourself",
        )  # fmt: skip
    columns = unrelated_tags(table, reference, core, max_tags)
    if not columns:
        least = least_images(len(table), sure)
        needed = (
            f"with {sure} of {len(table)} images that surely fit, a tag must be on at least {least} others"
            if least
            else f"{sure} of {len(table)} images surely fit, too few or too many to prove anything"
        )
        run.note(f"no tag condemns: {needed}")
    names = {table.names[n]: int(table.counts[n]) for n in core}
    return judge.condemn(table, columns, **{"tags that mean the query": names, "images that surely fit": sure})


def by_llm(judge: Judge, table: TagTable, model: LanguageModel, max_tags: int, prompt: str | None) -> Findings:
    """The images with tags that a language model names. The answer to the same question is remembered.

    Raises:
        LanguageModelError: there was no usable answer
    """
    from .condemning import TAG_INSTRUCTION, TagLine, name_tags

    run = current_run()
    lines = [
        TagLine(name, int(count), companions)
        for name, count, companions in zip(table.names, table.counts, table.companions(COMPANIONS), strict=True)
    ]
    question = fingerprint(judge.query, sorted(map(str, lines)))
    if run.remembered.get("question") == question:
        run.note("the tags are those of the last run: query, tags and language model are the same")
        named = [name for name in run.remembered["named"] if table.column(name) is not None]
    else:
        run.announce(f"asking {model.model} about {len(lines)} tags")
        spared = [table.names[column] for column in judge.query_columns(table)]
        with run.progress(len(lines)) as bar:
            answer = name_tags(
                model, judge.query, lines, max_tags=max_tags, prompt=prompt or TAG_INSTRUCTION, spared=spared,
                progress=bar.update,
            )  # fmt: skip
        for remark in [*answer.remarks, *model.notes]:
            run.note(remark)
        named = answer.tags
        run.remembered.update(question=question, named=named)
    run.models[model.model] = model.base_url
    columns, _ = find_columns(table, named)
    if not columns:
        run.note(f"{model.model} named no tag: in its view every tag may be on an image that fits")
    return judge.condemn(table, columns, tokens=model.spent_tokens)


def by_similarity(
    judge: Judge, model: str, options: Options, negatives: Sequence[str], threshold: float | None, batch_size: int,
    num_workers: int | None,
) -> Findings:  # fmt: skip
    """The images that are less like the query than the others; ``relevance`` is written.

    Raises:
        ParameterError: there are too few good examples
    """
    from . import likeness

    run = current_run()
    good = judge.good
    examples = [] if good is None else good.values("filepath")
    if 0 < len(examples) < likeness.LEAST_EXAMPLES:
        raise ParameterError("good", len(examples), f"mark at least {likeness.LEAST_EXAMPLES} images as good")
    topics = likeness.texts_of(judge.phrases)
    worker = likeness.LikenessWorker(
        model, options, topics, negatives or likeness.NEGATIVES, examples, batch_size
    )  # fmt: skip
    worker.record()
    fields.declare(run.dataset, "relevance")
    update_samples(judge.samples, worker, batch_size=batch_size, num_workers=num_workers)
    scores: list[float | None] = []
    for page in pages(judge.ids):
        its = dict(zip(*run.dataset.select(page).values(["id", "relevance"]), strict=True))
        scores += [its[sample_id] for sample_id in page]
    known = [score for score in scores if score is not None]
    if threshold is None:
        threshold, two = likeness.cut(known)
        if not two:
            run.note(
                f"the images do not form two groups by their relevance, so those below {threshold:g} are taken for "
                "irrelevant: look at them sorted by 'relevance' and give a threshold"
            )
    rejections = {
        sample_id: Rejection("irrelevant", f"relevance {score:.3f} for {judge.query!r} is below {threshold:.3f}")
        for sample_id, score, spared in zip(judge.ids, scores, judge.spared, strict=True)
        if score is not None and score < threshold and not spared
    }
    return Findings(
        rejections, {"threshold": threshold, "could not be judged": len(scores) - len(known)}, {}, threshold
    )
