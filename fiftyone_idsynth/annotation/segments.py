"""What each pixel of an image shows."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import fields
from ..errors import FieldError, ParameterError
from ..fields import Field
from ..modelling import AllowPickle, Device, DType, ModelBatch, ModelWorker, Offline, Revision, check_label_field
from ..models.options import Options
from ..models.regions import background_texts
from ..models.roles import Segmenter, SegmentMap
from ..stage import Fraction, NumWorkers, Progress, Report, Samples, current_run, fingerprint, stage
from .descriptions import Classes, check_classes, parse_classes

if TYPE_CHECKING:
    import fiftyone as fo

    from ..engine.worker import Item
    from ..media import MediaStore

MAX_VALUE = 254
"""The greatest value that a class gets in an 8-bit mask: 255 marks pixels to be ignored, by custom."""

BACKGROUND = "background"

fields.register(Field("segmentation", "Segmentation", "The class of each pixel, as a model sees it"))


@stage(label="Segment images", group="Annotate", icon="texture")
def segment(
    samples: Samples,
    *,
    model: str = "CIDAS/clipseg-rd64-refined",
    classes: tuple[str, ...] = (),
    background: tuple[str, ...] = (),
    threshold: Fraction | None = None,
    label_field: str = "segmentation",
    device: Device = "auto",
    dtype: DType = "auto",
    revision: Revision = None,
    offline: Offline = False,
    allow_pickle: AllowPickle = False,
    batch_size: ModelBatch = 8,
    num_workers: NumWorkers = None,
    progress: Progress = None,
) -> Report:
    """Tells the class of each pixel, as a mask for each image.

    The classes are described in words for CLIPSeg, and chosen from those that the model knows for semantic segmentation
    models of transformers (SegFormer, BEiT, UperNet, MaskFormer and others) and in ONNX files. The values of the masks
    are named in the dataset's mask targets: a class keeps its value whatever is segmented later, and 0 is the
    background. Masks that a person made, changed or removed stay as they are.

    Args:
        model ("CIDAS/clipseg-rd64-refined"): a hub id, a folder or an .onnx file
        classes (()): what to look for: a text each, text|text where several describe one class, or label=text|text;
            all that the model knows by default, if it has classes of its own
        background (()): descriptions of what is no class, e.g. leaves, sky; classes that are left out, if the model has
            classes of its own
        threshold (None): least probability of a pixel's class; by default 0.5 for CLIPSeg and none for others
        label_field ("segmentation"): the field that gets the masks

    Returns:
        a report with the number of images that show each class
    """
    from ..engine import update_samples
    from ..media import media_store
    from ..samples import active, require_samples

    run = current_run()
    check_label_field(label_field)
    samples = active(samples)
    require_samples(samples)
    asked = parse_classes(classes)
    options = Options(device, dtype, revision, offline, allow_pickle)
    worker = SegmentWorker(
        model, options, asked, background, threshold, label_field, batch_size, media_store(run.dataset)
    )
    check_classes(worker.model, asked, background)
    worker.name_values(_targets(run.dataset, label_field))
    worker.record()
    fields.declare_label(run.dataset, label_field, "Segmentation")
    run.dataset.mask_targets[label_field] = worker.targets
    run.dataset.save()
    ids = samples.values("id")
    update_samples(samples, worker, batch_size=batch_size, num_workers=num_workers)
    return run.report(_summary(run.dataset, ids, label_field))


class SegmentWorker(ModelWorker):
    """Makes masks; see :class:`ModelWorker` and :func:`segment` for the arguments.

    Attributes:
        classes: label -> texts of what is looked for
        targets: value of a pixel -> label
    """

    def __init__(
        self, model: str, options: Options, classes: Classes, background: Sequence[str], threshold: float | None,
        label_field: str, batch_size: int, store: MediaStore,
    ):  # fmt: skip
        super().__init__(Segmenter, model, options, [], batch_size)
        self._weights_key = self.key
        self.labels = (label_field,)
        self.targets: dict[int, str] = {}
        self._background, self._threshold = tuple(background), threshold
        self._field, self._store = label_field, store
        self.classes = classes or self._all_classes()

    def name_values(self, targets: Mapping[int, str]) -> None:
        """Gives each class its value.

        Args:
            targets: the values that are given already

        Raises:
            ParameterError: there are too many classes
        """
        self.targets = extended(targets, self.classes)
        value_of = {label: value for value, label in self.targets.items()}
        self._lookup = np.array([0, *(value_of[label] for label in self.classes)], np.uint8)
        values = [value_of[label] for label in self.classes]
        self.key = fingerprint(
            self._weights_key, list(self.classes.items()), values, self._background, self._threshold, self._field
        )

    def ask(self, pictures: Sequence[np.ndarray], items: Sequence[Item]) -> Sequence[SegmentMap]:
        segment = functools.partial(
            self.model.segment, classes=self.classes, threshold=self._threshold, background=self._background
        )
        return self.batches(segment, pictures)

    def values(self, item: Item, answer: SegmentMap) -> dict[str, Any]:
        import fiftyone as fo

        mask = self._lookup[answer.values]
        counts = np.bincount(mask.ravel(), minlength=1)
        shown = sorted((int(value) for value in np.flatnonzero(counts) if value), key=lambda value: -counts[value])
        label = fo.Segmentation(
            mask_path=self._store.write_image(mask, ".png"),
            confidence=answer.confidence,
            classes=[self.targets[value] for value in shown],
            **self.about,
        )
        return {self._field: label}

    def _all_classes(self) -> Classes:
        """All that the model knows.

        Raises:
            ParameterError: it takes any text, so that it must be told
        """
        if self.model.classes is None:
            raise ParameterError("classes", [], "name at least one class to look for, e.g. 'red panda'")
        left_out = {text.casefold() for text in background_texts(self._background)}
        return {name: (name,) for name in self.model.classes if name.casefold() not in left_out}


def extended(targets: Mapping[int, str], labels: Iterable[str]) -> dict[int, str]:
    """Gives values to the labels that have none yet, the lowest that are free.

    Args:
        targets: value -> label
        labels: in the order in which they get values

    Returns:
        value -> label, with 0 for the background

    Raises:
        ParameterError: there are more labels than values
    """
    found = {0: BACKGROUND, **targets}
    free = iter([value for value in range(1, MAX_VALUE + 1) if value not in found])
    named = {label for value, label in found.items() if value}
    for label in labels:
        if label not in named:
            value = next(free, None)
            if value is None:
                problem = f"a mask has room for {MAX_VALUE} classes: name those that you need"
                raise ParameterError("classes", label, problem)
            found[value] = label
            named.add(label)
    return dict(sorted(found.items()))


def _targets(dataset: fo.Dataset, label_field: str) -> dict[int, str]:
    """The values of pixels that a field's masks have already.

    Raises:
        FieldError: there are masks whose values are colours, or have no names
    """
    targets = dataset.mask_targets.get(label_field) or dataset.default_mask_targets or {}
    if any(not isinstance(value, int) or not 0 <= value <= 255 for value in targets):
        raise FieldError(
            f"label_field={label_field!r}: its masks are colours, not values 0 to 255: choose another field"
        )
    if not targets and dataset.has_field(label_field) and dataset.exists(label_field).count():
        raise FieldError(
            f"label_field={label_field!r}: it holds masks whose values have no names: name them in "
            f"dataset.mask_targets[{label_field!r}], or choose another field"
        )
    return {int(value): str(label) for value, label in targets.items()}


def _summary(dataset: fo.Dataset, ids: list[str], label_field: str) -> dict[str, Any]:
    from ..samples import pages

    counts: Counter[str] = Counter()
    empty = 0
    for page in pages(ids):
        for shown in dataset.select(page).values(f"{label_field}.classes"):
            counts.update(shown or ())
            empty += shown == []
    return {"images that show": dict(counts.most_common()), "images without any class": empty}
