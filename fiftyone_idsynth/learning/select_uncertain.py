"""Chooses the images that people should label next."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from .. import fields
from ..embeddings import Embeddings, EmbedWorker, check_field
from ..errors import FieldError, ParameterError
from ..fields import Field
from ..modelling import AllowPickle, Device, DType, ModelBatch, Offline, Revision
from ..stage import (
    Bounds,
    Choices,
    LabelField,
    NumWorkers,
    Progress,
    Report,
    Samples,
    Seed,
    current_run,
    stage,
)
from .acquisition import BY_EMBEDDINGS, BY_SHARES, BY_UNCERTAINTY, PEERS, Pool, choose, strategies
from .candidates import LABELLED_TAG, Candidates, find_candidates, find_labelled, labelled_classes
from .predictions import INNER, NOTHING, Predictions, read_predictions, read_shares

if TYPE_CHECKING:
    import fiftyone as fo
    from fiftyone.core.collections import SampleCollection

ANSWERS = "ground_truth"
"""The field that people's labels are in, unless another one is named."""

LABEL_FIELDS = ("classification", "detections")
"""The fields that are looked for a model's labels, unless another one is named."""

VIEW = "Images that people should label next, the most uncertain first"

fields.register(
    Field("uncertainty", "float", "How unsure a model is of the image: 0 (sure) to 1; summed over objects also above")
)


@stage(label="Choose what people label next", group="Learn", icon="contact_support")
def select_uncertain(
    samples: Samples,
    *,
    count: Annotated[int, Bounds(1, 1_000_000)] = 50,
    strategy: Annotated[str, Choices(strategies)] = "mixed",
    label_field: Annotated[str, LabelField(tuple(INNER))] | None = None,
    measure: Literal["margin", "least_confidence", "entropy", "disagreement"] = "margin",
    aggregation: Literal["max", "mean", "sum"] = "max",
    balance: bool = False,
    answers_field: Annotated[str, LabelField()] | None = None,
    embeddings_field: str = "embedding",
    model: str | None = None,
    tag: str = "to_label",
    seed: Seed = 51,
    device: Device = "auto",
    dtype: DType = "auto",
    revision: Revision = None,
    offline: Offline = False,
    allow_pickle: AllowPickle = False,
    batch_size: ModelBatch = 16,
    num_workers: NumWorkers = None,
    progress: Progress = None,
) -> Report:
    """Chooses the images that a model learns most from when people label them.

    ``mixed``, the default, takes the most uncertain image of each of ``count`` clusters among the ten times as many
    most uncertain ones; ``uncertain`` takes the most uncertain alone, which can be much the same images; ``diverse``
    those that differ most from all that are labelled or chosen (k-center), and ``random`` any. Badge, Clue, CoreSet,
    Falcun, MaxHerding, ProbCover and TypiClust are strategies of scikit-activeml (the extra ``activeml``).

    Chosen images get the tag, and a saved view of that name shows them, the most uncertain first. Images that people
    have labelled are never chosen: those with a label in ``answers_field``, with a label in ``label_field`` that a
    person made or changed, or with the tag ``labelled``. Neither are rejected ones and those of the split ``test``. The
    same images, labels and seed give the same choice; of the samples given, those that are not chosen again lose the
    tag.

    How uncertain a model is comes from the scores of all classes, as ``classify`` writes them (``scores``), or from
    ``logits``. Where only a confidence is known, an object or tag counts as there with this probability or else not;
    for the class of an image choose the measure ``least_confidence``.

    Args:
        count (50): how many images to choose; if fewer are left, all of them
        strategy ("mixed"): how they are chosen
        label_field (None): the labels of a model; by default ``classification``, or else ``detections``
        measure ("margin"): what counts as uncertain: a small ``margin`` between the two likeliest classes,
            ``least_confidence`` in the likeliest one, the ``entropy`` of all, or the ``disagreement`` of several
            annotators, as ``agree`` writes it
        aggregation ("max"): of several objects or tags in an image, whether the most uncertain counts, their mean or
            their sum. An image in which nothing was found counts 0
        balance (False): whether as many images of each class as possible are chosen, counting those that people have
            labelled; the class is the model's, for objects that of the most uncertain one
        answers_field (None): the labels of people; by default ``ground_truth``, where there is one
        embeddings_field ("embedding"): the field with the images' embeddings; random and uncertain need none
        model (None): a hub id or folder of a model that compares images with texts, e.g. openai/clip-vit-base-patch32:
            it computes the embeddings that are missing into that field
        tag ("to_label"): the tag of the chosen images, and the name of the saved view
        seed (51): of random choices and clusterings

    Returns:
        a report with how many images were chosen and are left, why others cannot be chosen, the classes of the chosen
        and their mean uncertainty beside that of all
    """
    run = current_run()
    dataset = run.dataset
    _check_tag(dataset, tag)
    source = _source(samples, strategy, label_field, measure, aggregation, balance)
    answers = _answers(samples, answers_field, source)
    embeddings = None
    if strategy in BY_EMBEDDINGS:
        options = (device, dtype, revision, offline, allow_pickle)
        embeddings = _embeddings(dataset, embeddings_field, model, options, batch_size, num_workers)
    if strategy in PEERS:
        from .scikit_activeml import require

        require(strategy)
    with run.progress(samples.count()) as bar:
        found = find_candidates(samples, dataset, answers, source.label_field, source.kind, bar.update)
    said = source.read(dataset, found.ids)
    rows = _usable(found, said, strategy, source, embeddings, embeddings_field)
    kept = [found.ids[row] for row in rows]
    chooser = _Chooser(dataset, kept, said.uncertainty[rows], source, answers, embeddings)
    classes = [said.classes[row] for row in rows] if balance else None
    picked = chooser.choose(strategy, count, seed, classes)
    if len(picked) < count:
        run.note(f"{len(picked)} images instead of {count} are chosen: no others are left")
    changed = _write_uncertainty(samples, dataset, found.ids, said.uncertainty)
    changed |= _write_choice(samples, dataset, [kept[row] for row in picked], tag)
    run.processed(len(changed))
    run.skipped(len(set(found.ids) - changed))
    return run.report(_summary(found, said, rows[picked], len(rows) - len(picked), tag))


# -- input ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """Where it stands how uncertain a model is.

    Attributes:
        label_field: the labels of a model, if there are any
        kind: the class of these labels
        measure: what counts as uncertain
        aggregation: how objects are put together
    """

    label_field: str | None
    kind: str | None
    measure: str
    aggregation: str

    def read(self, dataset: fo.Dataset, ids: list[str]) -> Predictions:
        """How uncertain the model is of samples, and the classes that it names."""
        if self.label_field and self.kind:
            by = "margin" if self.measure == "disagreement" else self.measure
            said = read_predictions(dataset, ids, self.label_field, self.kind, by, self.aggregation)
        else:
            said = Predictions(np.full(len(ids), np.nan), [NOTHING] * len(ids))
        if self.measure == "disagreement":
            from ..samples import pages

            values = [v for page in pages(ids) for v in dataset.select(page, ordered=True).values("disagreement")]
            said.uncertainty = np.array([np.nan if value is None else value for value in values], float)
        return said

    def lacking(self) -> FieldError:
        """What to say if uncertainty is unknown everywhere."""
        if self.measure == "disagreement":
            return FieldError(
                "measure='disagreement': no image has a disagreement: let agree compare annotators, or choose another "
                "measure"
            )
        what = "class scores" if self.kind == "Classification" else "confidence"
        remedy = "let classify write them, or choose another strategy, e.g. 'diverse'"
        if self.kind == "Classification" and self.measure != "least_confidence":
            remedy = "let classify write them, or choose the measure 'least_confidence', which confidence is enough for"
        elif self.kind != "Classification":
            remedy = "let a model find them, or choose another strategy, e.g. 'diverse'"
        return FieldError(
            f"label_field={self.label_field!r}: none of the images that can be chosen has a label with {what}, which "
            f"the measure {self.measure!r} needs: {remedy}"
        )


def _source(
    samples: SampleCollection, strategy: str, name: str | None, measure: str, aggregation: str, balance: bool
) -> _Source:
    import fiftyone as fo

    from ..samples import require_field

    schema = samples.get_field_schema()
    if measure == "disagreement" and "disagreement" not in schema and strategy in BY_UNCERTAINTY:
        raise FieldError("measure='disagreement': the samples have no field 'disagreement': run agree first")
    if name is None:
        kinds = {n: getattr(schema.get(n), "document_type", None) for n in LABEL_FIELDS}
        name = next((n for n, kind in kinds.items() if kind and kind.__name__ in INNER), None)
    elif name == ANSWERS:
        raise ParameterError("label_field", name, "this field is for labels of people: name that of a model")
    needed = balance or strategy in BY_SHARES or (strategy in BY_UNCERTAINTY and measure != "disagreement")
    if name is None and needed:
        raise FieldError(
            "label_field: the samples have no labels of a model in 'classification' or 'detections': name the field, "
            "let classify or detect write them, or choose the strategy 'diverse' or 'random'"
        )
    kind = None
    if name is not None:
        require_field(samples, name, *(getattr(fo, kind) for kind in INNER))
        kind = str(samples.get_field(name).document_type.__name__)
    if strategy in BY_SHARES and kind != "Classification":
        problem = f"needs the probabilities of classes of whole images, and {name!r} holds {kind}: choose 'mixed'"
        raise ParameterError("strategy", strategy, problem)
    return _Source(name, kind, measure, aggregation)


def _answers(samples: SampleCollection, name: str | None, source: _Source) -> str | None:
    """The field with the labels of people, if there is one."""
    from ..samples import require_field

    if name is None:
        return ANSWERS if ANSWERS in samples.get_field_schema() else None
    require_field(samples, name, parameter="answers_field")
    if name == source.label_field:
        raise ParameterError("answers_field", name, "this is the field of the model: name that of people's labels")
    return name


def _embeddings(
    dataset: fo.Dataset, name: str, model: str | None, options: tuple[Any, ...], batch_size: int,
    num_workers: int | None,
) -> Embeddings:  # fmt: skip
    if model is None:
        if dataset.get_field(name) is None:
            raise ParameterError(
                "embeddings_field", name, "there is no such field: name one with embeddings, or a model that computes "
                "them, e.g. model='openai/clip-vit-base-patch32'; the strategy 'uncertain' needs none"
            )  # fmt: skip
        return Embeddings(dataset, name)
    if not name.isidentifier():
        raise ParameterError("embeddings_field", name, "give the name of a field: letters, digits and _")
    from ..models.options import Options

    worker = EmbedWorker(model, Options(*options), name, batch_size)
    check_field(dataset, name, worker.about)
    worker.record()
    return Embeddings(dataset, name, worker, num_workers=num_workers, batch_size=batch_size)


def _check_tag(dataset: fo.Dataset, tag: str) -> None:
    """Refuses tags and saved views that mean something else."""
    if not tag.strip() or tag in (fields.REJECTED_TAG, LABELLED_TAG, *fields.SPLITS):
        raise ParameterError("tag", tag, "this tag means something else: choose another one, e.g. 'to_label'")
    if dataset.has_saved_view(tag) and dataset.get_saved_view_info(tag)["description"] != VIEW:
        raise ParameterError("tag", tag, "there is a saved view of this name already: choose another one")


def _usable(
    found: Candidates, said: Predictions, strategy: str, source: _Source, embeddings: Embeddings | None, field: str
) -> np.ndarray:
    """The candidates of which is known what the strategy needs.

    Raises:
        FieldError: there are candidates, and it is known of none
    """
    usable = np.ones(len(found.ids), bool)
    if strategy in BY_UNCERTAINTY:
        usable = np.isfinite(said.uncertainty)
        found.left_out["of unknown uncertainty"] += int((~usable).sum())
        if len(usable) and not usable.any():
            raise source.lacking()
    if embeddings is not None:
        there = set(embeddings.known([i for i, so in zip(found.ids, usable, strict=True) if so], strategy != "mixed"))
        lacking = usable & np.array([i not in there for i in found.ids], bool)
        found.left_out["without an embedding"] += int(lacking.sum())
        if usable.any() and not there:
            raise FieldError(
                f"embeddings_field={field!r}: none of the images that can be chosen has an embedding: name another "
                "field, or a model that computes them"
            )
        usable &= ~lacking
    values = said.uncertainty[usable]
    if strategy in BY_UNCERTAINTY and len(values) > 1 and np.ptp(values) == 0:
        current_run().note(
            f"all images are equally uncertain ({values[0]:g}), as where a model knows a single class: the choice "
            "among them is arbitrary"
        )
    return np.flatnonzero(usable)


# -- choice -----------------------------------------------------------------------------------------------------------


class _Chooser:
    """Chooses among samples; see :func:`select_uncertain`."""

    def __init__(
        self, dataset: fo.Dataset, ids: list[str], uncertainty: np.ndarray, source: _Source, answers: str | None,
        embeddings: Embeddings | None,
    ):  # fmt: skip
        self._dataset, self._ids, self._uncertainty = dataset, ids, uncertainty
        self._source, self._answers, self._embeddings = source, answers, embeddings

    def choose(self, strategy: str, count: int, seed: int, classes: list[str] | None) -> np.ndarray:
        """The rows of the chosen samples."""
        labelled = Counter[str]()
        if classes is not None and self._answers:
            kind = getattr(self._dataset.get_field(self._answers), "document_type", None)
            if kind is not None and kind.__name__ in INNER:
                its = find_labelled(self._dataset, self._answers)
                labelled = labelled_classes(self._dataset, its, self._answers, kind.__name__)
        pool = Pool(self._uncertainty, self._embed, self._covered, self._shares)
        return choose(strategy, pool, count, seed=seed, classes=classes, labelled=labelled)

    def _named(self, rows: np.ndarray) -> list[str]:
        return [self._ids[row] for row in rows]

    def _embed(self, rows: np.ndarray) -> np.ndarray:
        assert self._embeddings is not None
        return self._embeddings.of(self._named(rows))

    def _covered(self) -> np.ndarray:
        assert self._embeddings is not None
        return self._embeddings.of(self._embeddings.known(find_labelled(self._dataset, self._answers)))

    def _shares(self, rows: np.ndarray) -> np.ndarray:
        assert self._source.label_field is not None
        return read_shares(self._dataset, self._named(rows), self._source.label_field)


# -- output -----------------------------------------------------------------------------------------------------------


def _write_uncertainty(
    samples: SampleCollection, dataset: fo.Dataset, candidates: list[str], uncertainty: np.ndarray
) -> set[str]:
    """Writes what changed, and takes away what no longer holds; returns the samples that changed."""
    from ..samples import pages, set_fields

    fields.declare(dataset, "uncertainty")
    now = {i: float(value) for i, value in zip(candidates, uncertainty, strict=True) if np.isfinite(value)}
    changed: set[str] = set()
    for page in pages(samples.values("id")):
        before = dataset.select(page, ordered=True).values("uncertainty")
        new = {i: now.get(i) for i, value in zip(page, before, strict=True) if now.get(i) != value}
        set_fields(dataset, {"uncertainty": new})
        changed.update(new)
    return changed


def _write_choice(samples: SampleCollection, dataset: fo.Dataset, chosen: list[str], tag: str) -> set[str]:
    """Gives the tag to the chosen samples, takes it from others, and saves the view; returns what changed."""
    from ..samples import pages

    before = set(samples.match_tags(tag).values("id"))
    gone, new = sorted(before - set(chosen)), sorted(set(chosen) - before)
    for page in pages(gone):
        dataset.select(page).untag_samples(tag)
    for page in pages(new):
        dataset.select(page).tag_samples(tag)
    view = dataset.match_tags(tag).sort_by("uncertainty", reverse=True)
    dataset.save_view(tag, view, description=VIEW, overwrite=True)
    return {*gone, *new}


def _summary(found: Candidates, said: Predictions, picked: np.ndarray, left: int, tag: str) -> dict[str, Any]:
    outputs: dict[str, Any] = {"chosen": len(picked), "left to choose": left}
    outputs["not to choose"] = {why: count for why, count in found.left_out.items() if count}
    classes = Counter(said.classes[row] for row in picked)
    if set(classes) - {NOTHING}:
        outputs["classes of the chosen, by the model"] = dict(classes.most_common())
    known = said.uncertainty[np.isfinite(said.uncertainty)]
    its = said.uncertainty[picked]
    if len(known) and np.isfinite(its).any():
        outputs["mean uncertainty"] = {"chosen": float(np.nanmean(its)), "all": float(known.mean())}
    outputs["saved view"] = tag
    return outputs
