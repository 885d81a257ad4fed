"""How far several annotators of the same images agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from .. import fields
from ..engine.worker import Item, Worker
from ..errors import FieldError, ParameterError
from ..fields import Field
from ..modelling import check_label_field
from ..stage import Bounds, Fraction, LabelField, NumWorkers, Progress, Report, Samples, current_run, fingerprint, stage
from .consensus import Agreed, Mark, agree_on_class, agree_on_objects, image_disagreement, majority

if TYPE_CHECKING:
    import fiftyone as fo
    from fiftyone.core.collections import SampleCollection

KINDS = ("Detections", "Classification")

fields.register(
    Field("consensus", "Detections", "What enough annotators agree on; votes and annotators say who"),
    Field("disputed", "Detections", "What too few annotators see; votes and annotators say who"),
    Field("disagreement", "float", "How far the image's annotators disagree: 0 (not at all) to 1 (completely)"),
)


@stage(label="Compare annotators", group="Annotate", icon="how_to_vote")
def agree(
    samples: Samples,
    *,
    annotators: tuple[Annotated[str, LabelField(KINDS)], ...],
    iou: Fraction = 0.5,
    min_votes: Annotated[int | None, Bounds(1, 100)] = None,
    label_field: str = "consensus",
    disputed_field: str | None = "disputed",
    num_workers: NumWorkers = None,
    progress: Progress = None,
) -> Report:
    """Compares the labels of several annotators, keeps what they agree on, and measures how far they disagree.

    Objects are the same if their class is the same and their boxes overlap enough; the highest overlap is matched
    first, whatever the order of the annotators. The box of the consensus is the mean weighted by confidence; labels
    without a confidence, as people draw them, count as 1. Each label says how many (``votes``) and who
    (``annotators``), and has a ``disagreement`` of its own. The field ``disagreement`` has one for each image.

    An annotator whose field is empty says that nothing is there, if a model has written to it or the field holds an
    empty list. Otherwise it has not judged the image and does not count. Images that fewer than two have judged get no
    consensus. Masks are not compared. What a person changed in the consensus stays.

    Args:
        annotators: the label fields to compare, two or more, all with boxes or all with the class of the image
        iou (0.5): least intersection over union of two boxes of the same object
        min_votes (None): how many annotators must see an object; by default more than half of those that have judged
            the image
        label_field ("consensus"): the field that gets what they agree on
        disputed_field ("disputed"): the field that gets what too few of them see, if any
        num_workers (None): threads, by default one per processor

    Returns:
        a report with the classes that were agreed on, how many labels are disputed, and the mean disagreement
    """
    from ..authorship import declare_authors
    from ..engine import update_samples
    from ..samples import active, require_samples

    run = current_run()
    samples = active(samples)
    require_samples(samples)
    kind = _check(samples, annotators, label_field, disputed_field, min_votes)
    boxes = kind == "Detections"
    declare_authors(run.dataset, annotators)
    fields.declare_label(run.dataset, label_field, kind)
    if disputed_field:
        fields.declare_label(run.dataset, disputed_field, "Detections" if boxes else "Classifications")
    fields.declare(run.dataset, "disagreement")
    worker = AgreeWorker(annotators, boxes, iou, min_votes, label_field, disputed_field)
    ids = samples.values("id")
    update_samples(samples, worker, batch_size=64, num_workers=num_workers)
    return run.report(_summary(run.dataset, ids, label_field, disputed_field, boxes))


class AgreeWorker(Worker):
    """Compares the labels of each sample; see :func:`agree` for the arguments."""

    decode = None

    def __init__(
        self, annotators: Sequence[str], boxes: bool, iou: float, min_votes: int | None, label_field: str,
        disputed_field: str | None,
    ):  # fmt: skip
        self._annotators, self._boxes, self._iou, self._min_votes = tuple(annotators), boxes, iou, min_votes
        self._field, self._disputed = label_field, disputed_field
        self._parts = (
            ("detections.label", "detections.bounding_box", "detections.confidence") if boxes
            else ("label", "confidence")
        )  # fmt: skip
        self.fields = tuple(
            path for name in annotators for path in (*(f"{name}.{part}" for part in self._parts), f"authors.{name}")
        )
        self.labels = tuple(path for path in (label_field, disputed_field) if path)
        self.key = fingerprint(
            type(self).__name__, self._annotators, boxes, iou, min_votes, label_field, disputed_field
        )

    def __call__(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        return [self._compare(item.values) for item in items]

    def _compare(self, values: dict[str, Any]) -> dict[str, Any]:
        said = self._said(values)
        judges = list(said)
        if len(judges) < 2:
            return dict.fromkeys((*self.labels, "disagreement"))
        agreed = agree_on_objects(said, self._iou) if self._boxes else agree_on_class(said)
        least = self._min_votes or majority(len(judges))
        kept = [one for one in agreed if one.votes >= least]
        if not self._boxes:
            kept = kept[:1]
        disputed = [one for one in agreed if one not in kept]
        written: dict[str, Any] = {"disagreement": image_disagreement(agreed, judges)}
        written[self._field] = self._labels(kept) if self._boxes else _classification(kept)
        if self._disputed:
            written[self._disputed] = self._labels(disputed)
        return written

    def _said(self, values: dict[str, Any]) -> dict[str, Any]:
        """What each annotator says that has judged the image."""
        said: dict[str, Any] = {}
        for name in self._annotators:
            label, *rest = (values[f"{name}.{part}"] for part in self._parts)
            if label is None and values[f"authors.{name}"] is None:
                continue
            if self._boxes:
                found = zip(label or (), *(part or () for part in rest), strict=True)
                said[name] = [Mark(name, what, _confidence(sure), tuple(box)) for what, box, sure in found]
            else:
                said[name] = None if label is None else Mark(name, label, _confidence(rest[0]))
        return said

    def _labels(self, agreed: Sequence[Agreed]) -> Any:
        import fiftyone as fo

        if self._boxes:
            return fo.Detections(
                detections=[
                    fo.Detection(label=one.label, bounding_box=list(one.box or ()), **_attributes(one))
                    for one in agreed
                ]
            )
        return fo.Classifications(classifications=[_classification([one]) for one in agreed])


def _check(
    samples: SampleCollection,
    annotators: Sequence[str],
    label_field: str,
    disputed_field: str | None,
    min_votes: int | None,
) -> str:
    """Checks the parameters and returns the kind of label that is compared."""
    import fiftyone as fo

    from ..samples import require_field

    if len(set(annotators)) < 2 or len(set(annotators)) < len(annotators):
        raise ParameterError("annotators", annotators, "name two or more label fields, each once")
    for name in annotators:
        require_field(samples, name, *(getattr(fo, kind) for kind in KINDS), parameter="annotators")
    kinds = {name: samples.get_field(name).document_type.__name__ for name in annotators}
    if len(set(kinds.values())) > 1:
        listed = ", ".join(f"{name} holds {kind}" for name, kind in kinds.items())
        raise FieldError(f"annotators: fields of one kind can be compared, but {listed}: leave out those of one kind")
    if min_votes is not None and min_votes > len(annotators):
        raise ParameterError("min_votes", min_votes, f"there are {len(annotators)} annotators: ask for so many at most")
    for parameter, field, others in (
        ("label_field", label_field, annotators), ("disputed_field", disputed_field, (*annotators, label_field)),
    ):  # fmt: skip
        if field is not None:
            check_label_field(field, parameter)
            if field in others:
                raise ParameterError(parameter, field, "this field holds other labels: choose a field of its own")
    return kinds[annotators[0]]


def _summary(
    dataset: fo.Dataset, ids: list[str], label_field: str, disputed_field: str | None, boxes: bool
) -> dict[str, Any]:
    from ..samples import pages

    agreed: Counter[str] = Counter()
    scores: list[float] = []
    disputed = 0
    for page in pages(ids):
        view = dataset.select(page)
        agreed.update(view.count_values(f"{label_field}.detections.label" if boxes else f"{label_field}.label"))
        scores += [score for score in view.values("disagreement") if score is not None]
        if disputed_field:
            disputed += view.count(f"{disputed_field}.{'detections' if boxes else 'classifications'}")
    agreed.pop(None, None)  # type: ignore[call-overload]  # images without a class
    outputs: dict[str, Any] = {"agreed": dict(agreed.most_common())}
    if disputed_field:
        outputs["disputed"] = disputed
    if scores:
        outputs["mean disagreement"] = sum(scores) / len(scores)
    if len(scores) < len(ids):
        outputs["judged by fewer than two"] = len(ids) - len(scores)
    return outputs


def _classification(agreed: Sequence[Agreed]) -> Any:
    import fiftyone as fo

    return fo.Classification(label=agreed[0].label, **_attributes(agreed[0])) if agreed else None


def _attributes(one: Agreed) -> dict[str, Any]:
    return {
        "confidence": one.confidence,
        "votes": one.votes,
        "annotators": list(one.annotators),
        "disagreement": one.disagreement,
    }


def _confidence(value: float | None) -> float:
    return 1.0 if value is None else float(value)
