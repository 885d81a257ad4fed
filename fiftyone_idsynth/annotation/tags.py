"""What the images show, as tags."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from ..errors import ParameterError, suggestion
from ..modelling import AllowPickle, Device, DType, ModelBatch, ModelWorker, Offline, Revision, check_label_field
from ..stage import Bounds, Fraction, NumWorkers, Progress, Report, Samples, current_run, stage

if TYPE_CHECKING:
    import numpy as np

    from ..engine.worker import Item
    from ..models.options import Options

SHOWN_TAGS = 20

_WORD = re.compile(r"[^\W\d_]{2}")


@stage(label="Tag images", group="Annotate", icon="sell")
def tag(
    samples: Samples,
    *,
    model: str = "SmilingWolf/wd-vit-tagger-v3",
    threshold: Fraction = 0.35,
    category_thresholds: dict[str, float] = {},  # noqa: B006
    exclude: tuple[str, ...] = (),
    underscores: bool = False,
    max_tags: Annotated[int | None, Bounds(1, 1000)] = None,
    label_field: str = "content_tags",
    device: Device = "auto",
    dtype: DType = "auto",
    revision: Revision = None,
    offline: Offline = False,
    allow_pickle: AllowPickle = False,
    batch_size: ModelBatch = 8,
    num_workers: NumWorkers = None,
    progress: Progress = None,
) -> Report:
    """Tags what the images show, each tag with its confidence.

    Taggers of the WD14 family, DeepDanbooru and ML-Danbooru in ONNX, single ONNX classifiers with a file of labels
    beside them, and any image classifier of transformers will do, by hub id or as a local folder or file. Tags that a
    person made, changed or removed stay as they are.

    Args:
        model ("SmilingWolf/wd-vit-tagger-v3"): a hub id, a folder or an .onnx file
        threshold (0.35): least confidence of a tag
        category_thresholds ({}): category -> its own threshold, e.g. character=0.75
        exclude (()): tags to leave out, written with spaces or underscores
        underscores (False): whether tags keep their underscores; by default they become spaces
        max_tags (None): the surest so many tags of an image
        label_field ("content_tags"): the field that gets the tags

    Returns:
        a report with the most frequent tags
    """
    from .. import fields
    from ..engine import update_samples
    from ..models.options import Options
    from ..samples import active, pages, require_samples

    run = current_run()
    check_label_field(label_field)
    for category, value in category_thresholds.items():
        if not 0 <= value <= 1:
            raise ParameterError("category_thresholds", category_thresholds, f"{category} must be between 0 and 1")
    samples = active(samples)
    require_samples(samples)
    rules = TagRules(threshold, category_thresholds, frozenset(map(plain, exclude)), underscores, max_tags)
    options = Options(device, dtype, revision, offline, allow_pickle)
    worker = TagWorker(model, options, rules, label_field, batch_size)
    unknown = set(category_thresholds) - set(worker.model.categories)
    if unknown:
        name = sorted(unknown)[0]
        known = suggestion(name, worker.model.categories)
        raise ParameterError("category_thresholds", category_thresholds, f"{name!r} is no category: {known}")
    worker.record()
    fields.declare_label(run.dataset, label_field, "Classifications")
    ids = samples.values("id")
    update_samples(samples, worker, batch_size=batch_size, num_workers=num_workers)
    counts: Counter[str] = Counter()
    for page in pages(ids):
        counts.update(run.dataset.select(page).count_values(f"{label_field}.classifications.label"))
    return run.report({"tags": dict(counts.most_common(SHOWN_TAGS)), "different tags": len(counts)})


class TagRules:
    """Which of a tagger's tags are kept, and how they are written.

    Args:
        threshold: least confidence
        category_thresholds: category -> its own
        exclude: plain names of tags to leave out
        underscores: whether names keep their underscores
        max_tags: the surest so many
    """

    def __init__(
        self, threshold: float, category_thresholds: Mapping[str, float], exclude: frozenset[str], underscores: bool,
        max_tags: int | None,
    ):  # fmt: skip
        self.threshold, self.category_thresholds = threshold, dict(category_thresholds)
        self.exclude, self.underscores, self.max_tags = exclude, underscores, max_tags

    def storable(self) -> list[Any]:
        return [self.threshold, self.category_thresholds, sorted(self.exclude), self.underscores, self.max_tags]

    @property
    def lowest(self) -> float:
        """The least confidence that any category asks for."""
        return min([self.threshold, *self.category_thresholds.values()])

    def keep(self, tags: Sequence[Any]) -> list[Any]:
        """The tags that are kept, the surest first."""
        kept = [
            tag
            for tag in tags
            if tag.confidence >= self.category_thresholds.get(tag.category, self.threshold)
            and plain(tag.name) not in self.exclude
        ]
        return sorted(kept, key=lambda tag: -tag.confidence)[: self.max_tags]

    def name(self, tag: Any) -> str:
        return str(tag.name) if self.underscores else spaced(tag.name)


def plain(name: str) -> str:
    """A tag in the spelling that is compared: lower case, with spaces."""
    return spaced(name).strip().casefold()


def spaced(name: str) -> str:
    """A tag with spaces for underscores; emoticons such as ``^_^`` and ``(o)_(o)`` keep theirs."""
    return name.replace("_", " ") if _WORD.search(name) else name


class TagWorker(ModelWorker):
    """Tags images; see :class:`ModelWorker`."""

    def __init__(self, model: str, options: Options, rules: TagRules, label_field: str, batch_size: int):
        from ..models.roles import Tagger

        super().__init__(Tagger, model, options, [rules.storable(), label_field], batch_size)
        self.labels = (label_field,)
        self._rules, self._field = rules, label_field

    def ask(self, pictures: Sequence[np.ndarray], items: Sequence[Item]) -> Sequence[Any]:
        import functools

        return self.batches(functools.partial(self.model.tag, threshold=self._rules.lowest), pictures)

    def values(self, item: Item, answer: Any) -> dict[str, Any]:
        import fiftyone as fo

        labels = [
            fo.Classification(
                label=self._rules.name(tag), confidence=tag.confidence, category=tag.category, **self.about
            )
            for tag in self._rules.keep(answer)
        ]
        return {self._field: fo.Classifications(classifications=labels)}
