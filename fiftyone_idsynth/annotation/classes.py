"""Which class an image is of: by texts, by a trained classifier, or by the words it was found with."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from .. import fields
from ..engine.worker import Item, Worker
from ..errors import FieldError, ParameterError
from ..modelling import AllowPickle, Device, DType, ModelBatch, ModelWorker, Offline, Revision, check_label_field
from ..stage import Fraction, NumWorkers, Progress, Report, Samples, current_run, fingerprint, stage
from .descriptions import Classes, parse_classes
from .scoring import ClassWords, LabelRules, class_scores

if TYPE_CHECKING:
    import fiftyone as fo
    import numpy as np

    from ..models.options import Options

WeakSource = Literal["title", "keywords", "description", "query"]


@stage(label="Classify images", group="Annotate", icon="category")
def classify(
    samples: Samples,
    *,
    method: Literal["model", "weak_labels"] = "model",
    model: str = "openai/clip-vit-base-patch32",
    classes: tuple[str, ...] = (),
    templates: tuple[str, ...] = ("a photo of a {}",),
    threshold: Fraction = 0.0,
    other: str | None = None,
    weak_from: tuple[WeakSource, ...] = ("title", "keywords", "description", "query"),
    label_field: str = "classification",
    device: Device = "auto",
    dtype: DType = "auto",
    revision: Revision = None,
    offline: Offline = False,
    allow_pickle: AllowPickle = False,
    batch_size: ModelBatch = 16,
    num_workers: NumWorkers = None,
    progress: Progress = None,
) -> Report:
    """Gives each image a class: by comparing it with texts, by a trained classifier, or by the words it was found with.

    With CLIP, SigLIP and their relatives the classes can be anything that can be said. CLIP shares a confidence of 1
    among the classes, SigLIP judges each alone. A trained classifier gives its own classes, or those of them that are
    named. Classes that a person set, changed or removed stay as they are.

    Each label has the attributes model, revision and scores: class -> score, of the hundred likeliest. Weak labels
    name the field of the source as their model. Their confidence is 1 / the number of classes that the text names.

    Args:
        method ("model"): model, or weak_labels: by the words of collected images, without a model
        model ("openai/clip-vit-base-patch32"): a hub id, a folder or an .onnx file
        classes (()): each a text, or label=text|text with several texts for a class; for a trained classifier its own
            names, by default all of them. A comma stands between classes
        templates (("a photo of a {}",)): sentences that texts are put into at {} before they are compared
        threshold (0): the least confidence of a class
        other (None): the label of images without a class; by default they get none
        weak_from (("title", "keywords", "description", "query")): where words are looked for; the first that names a
            class decides. Whole words count, in any case; of several classes the one that is named first, and of those
            that begin with the same word the longest
        label_field ("classification"): the field that gets the class

    Returns:
        a report with the number of images of each class
    """
    from ..engine import update_samples
    from ..models.options import Options
    from ..samples import active, pages, require_samples

    run = current_run()
    check_label_field(label_field)
    named = parse_classes(classes)
    _check(method, named, templates, threshold, other)
    samples = active(samples)
    require_samples(samples)
    rules = LabelRules(threshold, other)
    worker: Worker
    if method == "weak_labels":
        worker = WeakWorker(run.dataset, named, weak_from, rules, label_field)
    else:
        options = Options(device, dtype, revision, offline, allow_pickle)
        worker = model_worker(model, options, named, templates, rules, label_field, batch_size)
        worker.record()
    fields.declare_label(run.dataset, label_field, "Classification")
    ids = samples.values("id")
    update_samples(samples, worker, batch_size=batch_size, num_workers=num_workers)
    counts: Counter[str] = Counter()
    for page in pages(ids):
        counts.update(run.dataset.select(page).count_values(f"{label_field}.label"))
    without = counts.pop(None, 0)  # type: ignore[call-overload]
    return run.report({"classes": dict(counts.most_common()), "without a class": without})


def _check(method: str, classes: Classes, templates: Sequence[str], threshold: float, other: str | None) -> None:
    """Refuses parameters that do not fit one another."""
    if method == "weak_labels" and not classes:
        raise ParameterError("classes", (), "name the classes to look for, e.g. 'cat=cat|cats|kitten'")
    for template in templates or ("",):
        if "{}" not in template:
            raise ParameterError("templates", template, "must have {} where the text goes, e.g. 'a photo of a {}'")
    if other is not None and other in classes:
        raise ParameterError("other", other, "is one of the classes: choose another name")
    if other is not None and method == "model" and not threshold:
        raise ParameterError("other", other, "is for images below the threshold: set one above 0")


def model_worker(
    model: str, options: Options, classes: Classes, templates: Sequence[str], rules: LabelRules, field: str,
    batch_size: int,
) -> ModelWorker:  # fmt: skip
    """The worker for a model: one that compares with texts, else a trained classifier.

    Raises:
        ModelError: the model is neither, or cannot be loaded
    """
    from ..models.errors import WrongModel

    try:
        return MatchWorker(model, options, classes, templates, rules, field, batch_size)
    except WrongModel as no_matcher:
        try:
            return TrainedWorker(model, options, classes, rules, field, batch_size)
        except WrongModel:
            raise no_matcher from None


class _ClassWorker(ModelWorker):
    """Writes a class from scores."""

    _rules: LabelRules
    _field: str

    def values(self, item: Item, answer: Any) -> dict[str, Any]:
        return {self._field: self._rules.label(answer, **self.about)}


class MatchWorker(_ClassWorker):
    """Compares images with texts; see :class:`ModelWorker`."""

    def __init__(
        self, model: str, options: Options, classes: Classes, templates: Sequence[str], rules: LabelRules, field: str,
        batch_size: int,
    ):  # fmt: skip
        from ..models.roles import Matcher

        self.labels = (field,)
        self._classes, self._rules, self._field = classes, rules, field
        self._templates = len(templates)
        self._texts = [t.replace("{}", text) for texts in classes.values() for text in texts for t in templates]
        key = [list(classes), self._texts, rules.threshold, rules.other, field]
        super().__init__(Matcher, model, options, key, batch_size)
        if not classes:
            raise ParameterError("classes", (), f"name the classes that {model} is to tell apart, e.g. 'cat, dog'")
        if len(classes) == 1 and self.model.exclusive:
            problem = f"{model} compares classes with one another: name two or more, e.g. also what it is not"
            raise ParameterError("classes", tuple(classes), problem)

    def ask(self, pictures: Sequence[np.ndarray], items: Sequence[Item]) -> Sequence[Any]:
        import numpy as np

        model = self.model
        rows = np.stack(self.batches(functools.partial(model.match, texts=self._texts), pictures))
        texts = [len(texts) for texts in self._classes.values()]
        scores = class_scores(rows, texts, self._templates, exclusive=model.exclusive)
        return [dict(zip(self._classes, row, strict=True)) for row in scores.tolist()]


class TrainedWorker(_ClassWorker):
    """Asks a classifier that was trained for its classes; see :class:`ModelWorker`."""

    def __init__(self, model: str, options: Options, classes: Classes, rules: LabelRules, field: str, batch_size: int):
        from ..models.roles import Tagger

        self.labels = (field,)
        self._rules, self._field = rules, field
        super().__init__(Tagger, model, options, [list(classes.items()), rules.threshold, rules.other, field],
                         batch_size)  # fmt: skip
        names, self._exclusive = self._vocabulary()
        if not self._exclusive and not classes:
            problem = f"{model} gives many tags to an image: name those that are its classes, or use the stage tag"
            raise ParameterError("classes", (), problem)
        self._label_of = self._named(classes, names)

    def _vocabulary(self) -> tuple[list[str], bool]:
        """The names that the model has, none if it tells only the likeliest; and whether one of them is true."""
        import numpy as np

        (tags,) = self.model.tag([np.zeros((64, 64, 3), np.uint8)])
        if len(tags) <= 1:
            return [], True
        return sorted({tag.name for tag in tags}), abs(sum(tag.confidence for tag in tags) - 1) < 0.02

    def _named(self, classes: Classes, names: Sequence[str]) -> dict[str, str] | None:
        """The model's name of each class, case-folded -> the label; None for all of its own names."""
        from ..models.regions import known_classes

        if not classes:
            return None
        if names:
            known_classes(classes, names, self.about["model"])
        return {text.casefold(): label for label, texts in classes.items() for text in texts}

    def ask(self, pictures: Sequence[np.ndarray], items: Sequence[Item]) -> Sequence[Any]:
        return [self._scores(tags) for tags in self.batches(self.model.tag, pictures)]

    def _scores(self, tags: Sequence[Any]) -> dict[str, float]:
        """The score of each class: the sum over its names where one of them is true, else the greatest."""
        scores: dict[str, float] = {}
        for tag in tags:
            label = tag.name if self._label_of is None else self._label_of.get(tag.name.casefold())
            if label is not None:
                before = scores.get(label, 0.0)
                scores[label] = before + tag.confidence if self._exclusive else max(before, tag.confidence)
        return scores


class WeakWorker(Worker):
    """Takes classes from the words that images were found with, without a model.

    Args:
        dataset: the dataset
        classes: label -> its texts
        sources: where to look, in this order
        rules: threshold and the label of the rest
        field: the field that gets the class

    Raises:
        FieldError: no sample came with any of the sources
    """

    decode = None

    def __init__(self, dataset: fo.Dataset, classes: Classes, sources: Sequence[str], rules: LabelRules, field: str):
        schema = dataset.get_field_schema(flat=True)
        self.fields = tuple(path for path in (f"source.{name}" for name in sources) if path in schema)
        if not self.fields:
            raise FieldError(
                f"weak_from={', '.join(sources) or '()'}: the samples have no such field of their source, which "
                "collect writes: let a model find the classes (method='model')"
            )
        self.labels = (field,)
        self.key = fingerprint("weak classes", list(classes.items()), self.fields, rules.threshold, rules.other, field)
        self._words, self._rules, self._field = ClassWords(classes), rules, field

    def __call__(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        return [{self._field: self._label(item)} for item in items]

    def _label(self, item: Item) -> fo.Classification | None:
        for path in self.fields:
            value = item.values[path] or ""
            # What stands between keywords belongs to no class, so that none is read across two of them.
            if scores := self._words.find(value if isinstance(value, str) else " | ".join(value)):
                return self._rules.label(scores, model=path)
        return self._rules.label({}, model="weak_labels")
