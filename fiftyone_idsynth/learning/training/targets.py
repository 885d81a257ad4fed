"""What people's answers teach: from FiftyOne's labels to examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...engine import file_stamp
from ...errors import FieldError, suggestion
from ...samples import pages
from ...stage import fingerprint
from .answers import Answered, Task, chosen_classes
from .examples import IGNORED, Boxes, Example, Outline, PixelClasses, png_bytes
from .settings import BACKGROUND

if TYPE_CHECKING:
    import fiftyone as fo


class Targets:
    """The examples of a training.

    Args:
        dataset: the dataset
        name: the field with people's answers
        found: the samples; those that teach nothing are taken out of it
        task: what is learnt
        classes (()): the classes that are asked for; none for all
        known (()): instead of them: all classes in the order of their numbers, whether they occur or not

    Attributes:
        classes: the classes, in the order of their numbers; of a segmentation the first is the background
        examples: sample id -> example
        stamps: sample id -> what changes when the example does

    Raises:
        FieldError: the answers name no classes, or have no masks
        ParameterError: a class that is asked for does not occur
    """

    def __init__(
        self, dataset: fo.Dataset, name: str, found: Answered, task: Task, classes: Sequence[str] = (), *,
        known: Sequence[str] = (),
    ):  # fmt: skip
        self._dataset, self._name, self._found = dataset, name, found
        self._values = _mask_targets(dataset, name) if found.kind == "Segmentation" else {}
        self.classes = list(known) or self._classes(task, classes)
        self._number = {label: number for number, label in enumerate(self.classes)}
        self.examples: dict[str, Example] = {}
        self.stamps: dict[str, dict[str, Any]] = {}
        read = {
            "Classification": self._of_class, "Segmentation": self._of_mask,
            "Detections": self._of_outlines if task == "segmentation" else self._of_boxes,
            "Polylines": self._of_polygons if task == "segmentation" else self._of_polygon_boxes,
        }[found.kind]  # fmt: skip
        for page in pages(list(found.answers)):
            read(page)
        for sample_id in set(found.answers) - set(self.examples):
            del found.answers[sample_id]

    def _classes(self, task: Task, asked: Sequence[str]) -> list[str]:
        if self._found.kind == "Segmentation":
            return [BACKGROUND, *_asked(self._values, asked)]
        counts: Counter[str] = Counter()
        for answer in self._found.answers.values():
            counts.update({answer} if isinstance(answer, str) else {label for label in answer if label})
        named = chosen_classes(counts, asked, self._name)
        return [BACKGROUND, *named] if task == "segmentation" else named

    def classes_of(self) -> dict[str, list[str]]:
        """Sample id -> the classes that it shows, as far as they are known without opening masks."""
        found = {}
        for sample_id, example in self.examples.items():
            target = example.target
            if isinstance(target, Boxes):
                numbers = set(target.numbers.tolist())
            elif isinstance(target, PixelClasses):
                numbers = {outline.number for outline in target.outlines}
            else:
                numbers = {target}
            found[sample_id] = [self.classes[number] for number in sorted(numbers)]
        return found

    def _columns(self, ids: list[str], *paths: str) -> list[list[Any]]:
        columns: list[list[Any]] = self._dataset.select(ids, ordered=True).values([f"{self._name}.{p}" for p in paths])
        return columns

    def _add(self, sample_id: str, target: Any, *said: Any) -> None:
        file = self._found.files[sample_id]
        self.examples[sample_id] = Example(sample_id, file, target)
        stamp = {"file": file, "content": file_stamp(file)[1:], "answer": fingerprint(*said)}
        self.stamps[sample_id] = {**stamp, "answer": said[0]} if isinstance(target, int) else stamp

    def _of_class(self, ids: list[str]) -> None:
        for sample_id in ids:
            label = self._found.answers[sample_id]
            if label in self._number:
                self._add(sample_id, self._number[label], label)
            else:
                self._found.left_out["of other classes"] += 1

    def _of_boxes(self, ids: list[str]) -> None:
        for sample_id, labels, boxes in zip(ids, *self._columns(ids, "detections.label", "detections.bounding_box"),
                                            strict=True):  # fmt: skip
            self._add_boxes(sample_id, labels, boxes)

    def _of_polygon_boxes(self, ids: list[str]) -> None:
        for sample_id, labels, shapes in zip(ids, *self._columns(ids, "polylines.label", "polylines.points"),
                                             strict=True):  # fmt: skip
            boxes = []
            for shape in shapes or ():
                points = np.array([point for part in shape for point in part], float).reshape(-1, 2)
                low, high = (points.min(axis=0), points.max(axis=0)) if len(points) else (np.zeros(2), np.zeros(2))
                boxes.append([*low, *(high - low)])
            self._add_boxes(sample_id, labels, boxes)

    def _add_boxes(self, sample_id: str, labels: Sequence[str] | None, boxes: Sequence[Any] | None) -> None:
        pairs = zip(labels or (), boxes or (), strict=True)
        kept = [(self._number[label], box) for label, box in pairs
                if label in self._number and box[2] > 0 and box[3] > 0]  # fmt: skip
        numbers = np.array([number for number, _ in kept], np.int64)
        corners = np.array([box for _, box in kept], np.float32).reshape(-1, 4)
        self._add(sample_id, Boxes(corners, numbers), numbers.tolist(), corners.tolist())

    def _of_mask(self, ids: list[str]) -> None:
        numbers = tuple(
            (value, self._number.get(label, 0)) for value, label in self._values.items() if value not in (0, IGNORED)
        )
        paths = self._columns(ids, "mask_path")[0]
        inside = [i for i, path in zip(ids, paths, strict=True) if not path]
        arrays = dict(zip(inside, self._columns(inside, "mask")[0], strict=True)) if inside else {}
        for sample_id, path in zip(ids, paths, strict=True):
            mask = path or arrays[sample_id]
            if mask is None:
                self._found.left_out["without a mask"] += 1
                continue
            if not path:
                if mask.ndim != 2 or mask.max(initial=0) > IGNORED:
                    raise FieldError(_coloured(self._name))
                mask = png_bytes(mask)
            said = file_stamp(path) if path else [fingerprint(mask.hex())]
            self._add(sample_id, PixelClasses(mask, numbers), said, numbers)

    def _of_outlines(self, ids: list[str]) -> None:
        paths = ("detections.label", "detections.bounding_box", "detections.mask_path", "detections.mask")
        for sample_id, labels, *columns in zip(ids, *self._columns(ids, *paths), strict=True):
            objects = [
                (label, box, path or (png_bytes(np.asarray(mask) > 0) if mask is not None else None))
                for label, box, path, mask in zip(labels or (), *(column or () for column in columns), strict=True)
                if label in self._number
            ]
            if any(mask is None for _, _, mask in objects):
                self._found.left_out["with objects without a mask"] += 1
                continue
            outlines = tuple(Outline(self._number[label], tuple(box), mask) for label, box, mask in objects)
            said = [[o.number, o.box, o.mask if isinstance(o.mask, str) else fingerprint((o.mask or b"").hex())]
                    for o in outlines]  # fmt: skip
            self._add(sample_id, PixelClasses(outlines=outlines), said)

    def _of_polygons(self, ids: list[str]) -> None:
        for sample_id, labels, shapes in zip(ids, *self._columns(ids, "polylines.label", "polylines.points"),
                                             strict=True):  # fmt: skip
            outlines = tuple(
                Outline(self._number[label], polygons=tuple(tuple((x, y) for x, y in part) for part in shape))
                for label, shape in zip(labels or (), shapes or (), strict=True)
                if label in self._number
            )
            self._add(sample_id, PixelClasses(outlines=outlines), [[o.number, o.polygons] for o in outlines])


def _mask_targets(dataset: fo.Dataset, name: str) -> dict[int, str]:
    targets = dataset.mask_targets.get(name) or dataset.default_mask_targets or {}
    if not targets:
        raise FieldError(
            f"answers_field={name!r}: the values of its masks have no names: name them in "
            f"dataset.mask_targets[{name!r}], e.g. {{1: 'cat'}}"
        )
    if any(not isinstance(value, int) or not 0 <= value <= IGNORED for value in targets):
        raise FieldError(_coloured(name))
    return {int(value): str(label) for value, label in targets.items()}


def _asked(targets: Mapping[int, str], classes: Sequence[str]) -> list[str]:
    known = [label for value, label in sorted(targets.items()) if value not in (0, IGNORED)]
    for label in classes:
        if label not in known:
            raise FieldError(f"classes={label!r}: the masks have no such class: {suggestion(label, known)}")
    return list(dict.fromkeys(classes or known))


def _coloured(name: str) -> str:
    return f"answers_field={name!r}: its masks are colours or have values above 255: use masks of 8-bit numbers"
