"""Where composites come from: reads source samples, and cuts objects out of their photographs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..carrying import relative_box
from ..engine import Item, Worker, process
from ..errors import RefusedImage
from ..fields import SPLITS
from ..media import Image, MediaStore
from ..relations import RELATION_FIELDS, relation_tokens
from ..samples import active, dataset_of
from ..stage import Run

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

    from .cutouts import Cutout, CutoutFilter

Method = Literal["auto", "mask", "alpha", "plain"]

IGNORED_INDICES = (0, 255)
"""Indices of a segmentation mask that mean background and "ignore", unless a class asked for goes by them."""

_BACKGROUND_NAMES = ("background", "unlabeled", "unlabelled", "void", "ignore", "other")
_PAGE = 500


@dataclass(frozen=True)
class Source:
    """A sample that objects or backgrounds are taken from.

    Attributes:
        id: its id
        dataset: the name of its dataset
        filepath: its image
        key: a name that is the same in every run: the content hash where it is known, else the path
        splits: the split tags that it carries
        relatives: tokens that it shares with the samples that belong to the same split as it
    """

    id: str
    dataset: str
    filepath: str
    key: str
    splits: tuple[str, ...]
    relatives: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class CutoutFile:
    """A cut-out that is written to a file.

    Attributes:
        name: its name: the sample's and the label's id, and the part's number for a segmentation
        label: its class; empty for a distractor without one
        path: an RGBA image, tight
        sample_id: the sample it comes from
        label_id: the label that outlines it
    """

    name: str
    label: str
    path: str
    sample_id: str
    label_id: str


@dataclass
class Extraction:
    """The cut-outs of some samples, and why others gave none (reason -> count)."""

    cutouts: list[CutoutFile] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[str, str]] = field(default_factory=list)


def read_sources(samples: SampleCollection) -> list[Source]:
    """The usable samples of a view: neither rejected nor composites themselves."""
    dataset = dataset_of(samples)
    schema = dataset.get_field_schema(flat=True)
    optional = (*RELATION_FIELDS, "lineage.stage")
    paths = ["id", "filepath", "tags", *(path for path in optional if path in schema)]
    sources = []
    for row in zip(*active(samples).values(paths), strict=True):
        values = dict(zip(paths, row, strict=True))
        if values.get("lineage.stage") == "compose":
            continue
        splits = tuple(tag for tag in values["tags"] if tag in SPLITS)
        key = values.get("source.sha256") or values["filepath"]
        relatives = tuple(relation_tokens(values, dataset.name))
        sources.append(Source(values["id"], dataset.name, values["filepath"], key, splits, relatives))
    return sources


def labels_of(samples: SampleCollection, ids: Sequence[str], *paths: str) -> Iterator[tuple[str, list[Any]]]:
    """The labels of samples in some fields, a page at a time."""
    dataset = dataset_of(samples)
    for start in range(0, len(ids), _PAGE):
        view = dataset.select(list(ids[start : start + _PAGE]), ordered=True)
        for sample_id, *labels in zip(*view.values(["id", *paths]), strict=True):
            yield sample_id, labels


def label_summary(samples: SampleCollection, sources: Sequence[Source], label_field: str | None) -> list[Any]:
    """Plain values that change when the labels of sources change, without reading a mask."""
    import fiftyone as fo

    if label_field is None:
        return []
    kind = dataset_of(samples).get_field(label_field).document_type
    root = label_field + {fo.Detections: ".detections", fo.Polylines: ".polylines"}.get(kind, "")
    parts = {
        fo.Detections: ("id", "label", "bounding_box", "mask_path"), fo.Detection: ("id", "label", "bounding_box"),
        fo.Polylines: ("id", "label", "points"), fo.Polyline: ("id", "label", "points"),
        fo.Segmentation: ("id", "mask_path"), fo.Classification: ("label",),
    }.get(kind, ("id",))  # fmt: skip
    view = dataset_of(samples).select([source.id for source in sources], ordered=True)
    return list(view.values([f"{root}.{part}" for part in parts]))


def mask_targets(samples: SampleCollection, label_field: str | None) -> dict[int, str]:
    """The class names of a segmentation field's indices, as the dataset declares them."""
    dataset = dataset_of(samples)
    targets = dataset.mask_targets.get(label_field or "") or dataset.default_mask_targets or {}
    return {int(index): str(name) for index, name in targets.items() if not isinstance(index, str)}


def class_names(label: Any, targets: dict[int, str]) -> set[str]:
    """The classes that a label shows."""
    import fiftyone as fo

    if label is None:
        return set()
    if isinstance(label, fo.Segmentation):
        mask = label.get_mask()
        indices = np.unique(mask) if mask is not None and mask.ndim == 2 else ()
        return {targets.get(int(index), str(index)) for index in indices}
    many = getattr(label, label._LABEL_LIST_FIELD) if hasattr(label, "_LABEL_LIST_FIELD") else [label]
    return {one.label for one in many if getattr(one, "label", None)}


def extract_cutouts(
    samples: SampleCollection,
    sources: Sequence[Source],
    worker: CutoutWorker,
    run: Run,
    *,
    num_workers: int | None,
) -> Extraction:
    """Cuts the objects out of the photographs of samples and writes them to files.

    Args:
        samples: where the sources' labels are read
        sources: the samples
        worker: what to cut out
        run: the run that reports progress
        num_workers (None): threads

    Returns:
        the cut-outs, in the order of the sources
    """
    files = {source.id: source.filepath for source in sources}
    paths = tuple(path for path in (worker.label_field, worker.single_object_field) if path)

    def batches() -> Iterator[list[Item]]:
        for sample_id, labels in labels_of(samples, list(files), *paths):
            yield [Item(sample_id, files[sample_id], dict(zip(paths, labels, strict=True)))]

    found = Extraction()
    with run.progress(len(files)) as bar:
        for outcomes in process(worker, batches(), num_workers=num_workers):
            for outcome in outcomes:
                if outcome.result is not None:
                    cutouts, refused = outcome.result
                    found.cutouts += cutouts
                    found.refused += refused
                else:
                    found.refused["unreadable"] += 1
                    found.failed.append((outcome.item.filepath, str(outcome.refused or outcome.error)))
                bar.update()
    return found


class CutoutWorker(Worker):
    """Cuts the objects out of photographs.

    Args:
        store: where cut-outs are written
        method: ``"mask"``: by the masks of ``label_field``; ``"alpha"``: by the alpha channel; ``"plain"``: by a plain
            background; ``"auto"``: by the first of these that a sample has
        usable: which cut-outs are usable
        label_field: the field of masks and classes, if any
        single_object_field: only samples with exactly one object in this field are used, if given
        targets: the class names of a segmentation's indices
        classes: only these classes are cut out; all if empty
        default_label: the class of objects that have none; such objects are refused if it is ``None``
    """

    decode = "RGBA"

    def __init__(
        self,
        store: MediaStore,
        method: Method,
        usable: CutoutFilter,
        *,
        label_field: str | None = None,
        single_object_field: str | None = None,
        targets: dict[int, str] | None = None,
        classes: Sequence[str] = (),
        default_label: str | None = None,
    ):
        self.store = store
        self.method = method
        self.usable = usable
        self.label_field = label_field
        self.single_object_field = single_object_field
        self.targets = targets or {}
        self.classes = frozenset(classes)
        self.default_label = default_label

    def __call__(self, items: Sequence[Item]) -> list[tuple[list[CutoutFile], Counter[str]]]:
        return [self._extract(item) for item in items]

    def _extract(self, item: Item) -> tuple[list[CutoutFile], Counter[str]]:
        refused: Counter[str] = Counter()
        found: list[CutoutFile] = []
        label = item.values.get(self.label_field or "")
        if self.single_object_field and _number_of_objects(item.values.get(self.single_object_field)) != 1:
            refused["not_one_object"] += 1
            return found, refused
        assert item.image is not None
        names: Counter[str] = Counter()
        for make in self._cutters(item, item.image, label):
            try:
                cutout = make()
            except RefusedImage as refusal:
                refused[refusal.reason] += 1
                continue
            why = self.usable.refusal(cutout)
            if why:
                refused[why] += 1
                continue
            base = ":".join(filter(None, (item.id, cutout.origin.label_id)))
            names[base] += 1
            name = base if names[base] == 1 else f"{base}:{names[base]}"
            path = self.store.write_image(cutout.pixels, ".png")
            found.append(CutoutFile(name, cutout.label, path, item.id, cutout.origin.label_id))
        return found, refused

    def _cutters(self, item: Item, image: Image, label: Any) -> Iterator[Callable[[], Cutout]]:
        """What to try, one after another; each makes a cut-out or raises why not."""
        if self.method == "mask" or (self.method == "auto" and _has_masks(label)):
            yield from self._by_masks(item, image, label)
            return
        see_through = image.has_alpha and bool((image.pixels[..., 3] < 128).any())
        by_alpha = self.method == "alpha" or (self.method == "auto" and see_through)
        yield lambda: self._whole(item, image, label, by_alpha)

    def _whole(self, item: Item, image: Image, label: Any, by_alpha: bool) -> Cutout:
        from . import cutouts

        names = class_names(label, self.targets)
        name = names.pop() if len(names) == 1 else self.default_label
        if name is None:
            raise RefusedImage("several_classes" if names else "no_class", item.filepath)
        self._check_class(name)
        if by_alpha:
            mask = cutouts.alpha_mask(image.pixels)
        else:
            mask = cutouts.plain_background_mask(np.ascontiguousarray(image.pixels[..., :3]))
        origin = cutouts.Origin(item.id, "", item.filepath)
        return cutouts.cut(image.pixels, mask, name, origin, framed=not by_alpha)

    def _by_masks(self, item: Item, image: Image, label: Any) -> Iterator[Callable[[], Cutout]]:
        import fiftyone as fo

        from . import cutouts

        if isinstance(label, fo.Segmentation):
            yield from self._by_segmentation(item, image, label)
            return
        objects = _objects(label)
        if not objects:
            yield lambda: _refuse("no_label", item.filepath)

        def cutter(one: Any) -> Cutout:
            self._check_class(one.label or self.default_label or "")
            mask = instance_mask(one, image.width, image.height)
            name = one.label or self.default_label
            if not name:
                raise RefusedImage("no_class", item.filepath)
            return cutouts.cut(image.pixels, mask, name, cutouts.Origin(item.id, str(one.id), item.filepath))

        for one in objects:
            yield lambda one=one: cutter(one)  # type: ignore[misc]

    def _by_segmentation(self, item: Item, image: Image, label: Any) -> Iterator[Callable[[], Cutout]]:
        from . import cutouts

        indices = label.get_mask()
        if indices is None or indices.ndim != 2:
            yield lambda: _refuse("no_mask" if indices is None else "colour_mask", item.filepath)
            return
        if indices.shape != (image.height, image.width):
            yield lambda: _refuse("mask_of_other_size", item.filepath)
            return
        origin = cutouts.Origin(item.id, str(label.id), item.filepath)
        for index in np.unique(indices):
            name = self.targets.get(int(index), str(index))
            if name in self.classes or not (
                self.classes or int(index) in IGNORED_INDICES or name.lower() in _BACKGROUND_NAMES
            ):
                for part in cutouts.components(indices, int(index), min_area=self.usable.min_area):
                    yield lambda part=part, name=name: cutouts.cut(image.pixels, part, name, origin)  # type: ignore[misc]

    def _check_class(self, name: str) -> None:
        if self.classes and name not in self.classes:
            raise RefusedImage("other_class", name)


def instance_mask(label: Any, width: int, height: int) -> np.ndarray:
    """The mask of a ``fo.Detection`` or a filled ``fo.Polyline`` in its whole image. Bool array, height x width."""
    import fiftyone as fo

    if isinstance(label, fo.Polyline):
        if not (label.filled or label.closed) or not label.points:
            raise RefusedImage("open_polyline", str(label.id))
        label = fo.Polyline(points=label.points, closed=True, filled=True)
    elif not label.has_mask:
        raise RefusedImage("no_mask", str(label.id))
    else:
        x, y, w, h = (v * side for v, side in zip(label.bounding_box, (width, height) * 2, strict=True))
        left, top, right, bottom = (round(v) for v in (x, y, x + w, y + h))
        if right <= left or bottom <= top:
            raise RefusedImage("empty_mask", str(label.id))
        box = relative_box((left, top, right - left, bottom - top), width, height)
        label = fo.Detection(label=label.label, bounding_box=box, mask=label.mask, mask_path=label.mask_path)
    try:
        rendered = label.to_segmentation(frame_size=(width, height), target=255).mask
    except (OSError, ValueError, IndexError) as error:
        raise RefusedImage("unreadable_mask", str(error)) from error
    inside: np.ndarray = rendered > 0
    return inside


def _refuse(reason: str, detail: str) -> Cutout:
    raise RefusedImage(reason, detail)


def _objects(label: Any) -> list[Any]:
    import fiftyone as fo

    if isinstance(label, (fo.Detection, fo.Polyline)):
        return [label]
    if isinstance(label, fo.Detections):
        return list(label.detections)
    return list(label.polylines) if isinstance(label, fo.Polylines) else []


def _number_of_objects(label: Any) -> int:
    import fiftyone as fo

    if isinstance(label, fo.Classifications):
        return len(label.classifications)
    return len(_objects(label))


def _has_masks(label: Any) -> bool:
    import fiftyone as fo

    if isinstance(label, fo.Segmentation):
        return bool(label.has_mask)
    return any(isinstance(one, fo.Polyline) or one.has_mask for one in _objects(label))
