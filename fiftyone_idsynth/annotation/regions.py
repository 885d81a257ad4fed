"""Where objects are: boxes and masks of classes that are named, or that a model knows."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from .. import fields
from ..errors import UsageError, suggestion
from ..fields import Field
from ..modelling import AllowPickle, Device, DType, ModelBatch, ModelWorker, Offline, Revision, check_label_field
from ..models.loading import find_model
from ..models.options import Options
from ..models.regions import mask_box
from ..models.roles import Box, Finder, Refiner, Region
from ..stage import Bounds, Fraction, NumWorkers, Progress, Report, Samples, current_run, stage
from .descriptions import Classes, check_classes, class_path, classes_of, parse_classes
from .scoring import SCORES_KEPT

if TYPE_CHECKING:
    import fiftyone as fo
    from fiftyone.core.collections import SampleCollection

    from ..engine.worker import Item
    from ..media import MediaStore

BEYOND_BOX = 0.1
"""How far the outline of an object may reach beyond the box it was found in, as a share of the box's sides."""

fields.register(Field("detections", "Detections", "Objects that a model found, with its confidence"))


@stage(label="Detect objects", group="Annotate", icon="center_focus_strong")
def detect(
    samples: Samples,
    *,
    model: str = "CIDAS/clipseg-rd64-refined",
    classes: tuple[str, ...] = (),
    background: tuple[str, ...] = (),
    classes_field: str | None = None,
    threshold: Fraction | None = None,
    one_box: bool = False,
    min_area: Fraction = 0.001,
    max_objects: Annotated[int | None, Bounds(1, 10000)] = None,
    refiner: str | None = None,
    masks: bool = True,
    label_field: str = "detections",
    device: Device = "auto",
    dtype: DType = "auto",
    revision: Revision = None,
    offline: Offline = False,
    allow_pickle: AllowPickle = False,
    batch_size: ModelBatch = 8,
    num_workers: NumWorkers = None,
    progress: Progress = None,
) -> Report:
    """Finds objects: boxes, and masks where the model makes them or another one refines the boxes.

    The classes are described in words for CLIPSeg and for open-vocabulary detectors (OWLv2, Grounding DINO), and chosen
    from those that the model knows for detectors of transformers (DETR, RT-DETR, YOLOS and others), of the YOLO family
    in ONNX files and models of FiftyOne's zoo (``zoo:NAME``). Every object has the model, its revision, a confidence,
    and from detectors of transformers the ``scores`` of its classes. Boxes that a person drew, changed or removed stay
    as they are.

    Args:
        model ("CIDAS/clipseg-rd64-refined"): a hub id, a folder, an .onnx file or zoo:NAME
        classes (()): what to look for: a text each, text|text where several describe one class, or label=text|text;
            all that the model knows by default, if it has classes of its own
        background (()): descriptions of what is no object, e.g. leaves, sky; classes that are left out, if the model
            has classes of its own
        classes_field (None): a field with the class or text of each image, e.g. classification or source.query: only
            this class is looked for in it, and images without any of the classes are left alone
        threshold (None): least confidence; by default what is usual: 0.5 for CLIPSeg (of each pixel), 0.3 for
            open-vocabulary detectors, 0.25 for others
        one_box (False): whether all objects of a class get one box together
        min_area (0.001): least share of the image that an object covers
        max_objects (None): the surest so many objects of an image
        refiner (None): a SAM or SAM 2 model that turns boxes into masks, e.g. facebook/sam-vit-base
        masks (True): whether masks are kept
        label_field ("detections"): the field that gets the objects

    Returns:
        a report with the number of objects of each class, and of images without any
    """
    from ..engine import update_samples
    from ..media import media_store
    from ..samples import active, require_samples

    run = current_run()
    check_label_field(label_field)
    samples = active(samples)
    require_samples(samples)
    wanted = parse_classes(classes)
    path = class_path(samples, classes_field) if classes_field else None
    searched, asked = (samples, wanted) if path is None else _with_class(samples, path, wanted)
    worker = DetectWorker(
        model,
        Options(device, dtype, revision, offline, allow_pickle),
        Search(wanted, background, threshold, one_box, path),
        Rules(min_area, max_objects, masks),
        label_field,
        batch_size,
        media_store(run.dataset),
        refiner,
    )
    check_classes(worker.model, asked, background)
    worker.model.find([], asked, background=background, threshold=0.5)  # refuses what cannot be looked for
    worker.record()
    fields.declare_label(run.dataset, label_field, "Detections")
    ids = searched.values("id")
    left = samples.count() - len(ids)
    if left:
        run.note(f"{left} images have none of the classes in {classes_field}: they were left alone")
    update_samples(searched, worker, batch_size=batch_size, num_workers=num_workers)
    return run.report(_summary(run.dataset, ids, label_field))


@dataclass(frozen=True)
class Search:
    """What is looked for.

    Attributes:
        classes: descriptions of classes; empty for all that the model knows
        background: descriptions of what is no object
        threshold: least confidence; None for what is usual with the model
        one_box: whether all objects of a class get one box together
        path: where the class of each image is, if only that is looked for
    """

    classes: Classes
    background: tuple[str, ...] = ()
    threshold: float | None = None
    one_box: bool = False
    path: str | None = None

    def storable(self) -> list[Any]:
        return [list(self.classes.items()), self.background, self.threshold, self.one_box, self.path]


@dataclass(frozen=True)
class Rules:
    """Which objects are kept.

    Attributes:
        min_area: least share of the image that one covers: of its mask where it has one, else of its box
        max_objects: the surest so many
        masks: whether masks are kept
    """

    min_area: float = 0.0
    max_objects: int | None = None
    masks: bool = True

    def keep(self, regions: Sequence[Region]) -> list[Region]:
        """The regions that are kept, the surest first."""
        large = [region for region in regions if area(region) >= self.min_area]
        return sorted(large, key=lambda region: -region.confidence)[: self.max_objects]


class DetectWorker(ModelWorker):
    """Finds objects; see :class:`ModelWorker` and :func:`detect` for the arguments."""

    def __init__(
        self, model: str, options: Options, search: Search, rules: Rules, label_field: str, batch_size: int,
        store: MediaStore, refiner: str | None = None,
    ):  # fmt: skip
        self._refiner = refiner
        # The revision that was asked for is one of the finder.
        self._refiner_options = dataclasses.replace(options, revision=None)
        key: list[Any] = [search.storable(), dataclasses.astuple(rules), label_field]
        outlines: dict[str, str] = {}
        if refiner:
            found = self._find_refiner()
            outlines = {"refiner": found.name, "refiner_revision": found.revision}
        super().__init__(Finder, model, options, [key, outlines], batch_size)
        self.about |= outlines
        self.labels = (label_field,)
        self.fields = (search.path,) if search.path else ()
        self._search, self._rules, self._field, self._store = search, rules, label_field, store

    def setup(self) -> None:
        super().setup()
        if self._refiner:
            self._outliner = Outliner(self._find_refiner())

    def _find_refiner(self) -> Refiner:
        assert self._refiner is not None
        return find_model(Refiner, self._refiner, self._refiner_options)  # type: ignore[type-abstract]  # an interface

    def record(self) -> None:
        super().record()
        if self._refiner:
            current_run().models[self.about["refiner"]] = self.about["refiner_revision"]

    def ask(self, pictures: Sequence[np.ndarray], items: Sequence[Item]) -> Sequence[list[Region]]:
        found: list[list[Region]] = [[] for _ in pictures]
        for classes, numbers in self._groups(items):
            regions = self.batches(self._find(classes), [pictures[n] for n in numbers])
            for n, those in zip(numbers, regions, strict=True):
                found[n] = those
        if self._refiner:
            found = self._refine(pictures, found)
        return [self._rules.keep(regions) for regions in found]

    def values(self, item: Item, answer: Sequence[Region]) -> dict[str, Any]:
        import fiftyone as fo

        labels = []
        for region in answer:
            attributes: dict[str, Any] = dict(self.about)
            if self._rules.masks and region.mask is not None:
                attributes["mask_path"] = write_mask(self._store, region.mask, region.box)
            if region.scores:
                attributes["scores"] = dict(list(region.scores.items())[:SCORES_KEPT])
            labels.append(
                fo.Detection(
                    label=region.label, bounding_box=list(region.box), confidence=region.confidence, **attributes
                )
            )
        return {self._field: fo.Detections(detections=labels)}

    def _groups(self, items: Sequence[Item]) -> list[tuple[Classes, list[int]]]:
        """The classes to look for, with the numbers of the images that they are looked for in."""
        if self._search.path is None:
            return [(self._search.classes, list(range(len(items))))]
        groups: dict[tuple[str, ...], tuple[Classes, list[int]]] = {}
        for number, item in enumerate(items):
            classes = classes_of(item.values[self._search.path], self._search.classes)
            groups.setdefault(tuple(classes), (classes, []))[1].append(number)
        return list(groups.values())

    def _find(self, classes: Classes) -> functools.partial[Any]:
        options: dict[str, Any] = {"background": self._search.background, "one_box": self._search.one_box}
        if self._search.threshold is not None:
            options["threshold"] = self._search.threshold
        # Models that make regions of maps of pixels must drop specks before they are joined in one box.
        if "min_area" in inspect.signature(self.model.find).parameters:
            options["min_area"] = self._rules.min_area
        return functools.partial(self.model.find, classes=classes, **options)

    def _refine(self, pictures: Sequence[np.ndarray], found: Sequence[list[Region]]) -> list[list[Region]]:
        boxes = {id(p): [r.box for r in regions] for p, regions in zip(pictures, found, strict=True)}
        self._outliner.boxes = boxes
        masks = self.batches(self._outliner.outline, pictures)
        return [
            [outlined(region, mask) for region, mask in zip(regions, those, strict=True)]
            for regions, those in zip(found, masks, strict=True)
        ]


class Outliner:
    """A refiner that knows the boxes of the pictures it is given, so that batches of pictures can be cut anywhere.

    Args:
        model: the refiner

    Attributes:
        boxes: ``id`` of a picture -> its boxes
    """

    def __init__(self, model: Refiner):
        self.model = model
        self.about, self.device = model.about, model.device
        self.boxes: dict[int, list[Box]] = {}

    def outline(self, pictures: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """Masks for the boxes of each picture."""
        return self.model.refine(pictures, [self.boxes[id(picture)] for picture in pictures])


def area(region: Region) -> float:
    """The share of the picture that a region covers, 0..1."""
    return region.box[2] * region.box[3] if region.mask is None else float(region.mask.mean())


def outlined(region: Region, mask: np.ndarray) -> Region:
    """A region with the outline that a refiner found, in the box round it.

    What lies further outside the box than :data:`BEYOND_BOX` is cut off: refiners leave specks that would make the box
    many times larger. A refiner that finds nothing leaves the region as it was.
    """
    height, width = mask.shape
    x, y, w, h = region.box
    left, right = (x - BEYOND_BOX * w) * width, (x + (1 + BEYOND_BOX) * w) * width
    top, bottom = (y - BEYOND_BOX * h) * height, (y + (1 + BEYOND_BOX) * h) * height
    rows = slice(max(0, math.floor(top)), max(0, math.ceil(bottom)))
    columns = slice(max(0, math.floor(left)), max(0, math.ceil(right)))
    cut = np.zeros_like(mask)
    cut[rows, columns] = mask[rows, columns]
    return Region(region.label, region.confidence, mask_box(cut), cut, region.scores) if cut.any() else region


def write_mask(store: MediaStore, mask: np.ndarray, box: Box) -> str:
    """Writes the part of a mask (bool, of the size of the picture) inside a box, as FiftyOne's detections want it.

    Returns:
        the path of a PNG file: 255 where the object is
    """
    height, width = mask.shape
    left, top = min(round(box[0] * width), width - 1), min(round(box[1] * height), height - 1)
    right, bottom = max(left + 1, round((box[0] + box[2]) * width)), max(top + 1, round((box[1] + box[3]) * height))
    return store.write_image(mask[top:bottom, left:right].astype(np.uint8) * 255, ".png")


def _with_class(samples: SampleCollection, path: str, classes: Classes) -> tuple[SampleCollection, Classes]:
    """The samples that have one of the classes, and the descriptions of all classes that occur.

    Raises:
        UsageError: no sample has any
    """
    ids, named = samples.values(["id", path])
    chosen = [classes_of(value, classes) for value in named]
    keep = [sample_id for sample_id, its_classes in zip(ids, chosen, strict=True) if its_classes]
    if not keep:
        there = Counter(name for value in named for name in ([value] if isinstance(value, str) else value or ()))
        name = next(iter(classes), "")
        raise UsageError(f"classes_field: no image has one of the classes in {path}: {suggestion(name, there)}")
    return samples.select(keep), {label: texts for its in chosen for label, texts in its.items()}


def _summary(dataset: fo.Dataset, ids: list[str], label_field: str) -> dict[str, Any]:
    from ..samples import pages

    counts: Counter[str] = Counter()
    empty = 0
    for page in pages(ids):
        for labels in dataset.select(page).values(f"{label_field}.detections.label"):
            counts.update(labels or ())
            empty += labels == []
    return {"objects": dict(counts.most_common()), "images without objects": empty}
