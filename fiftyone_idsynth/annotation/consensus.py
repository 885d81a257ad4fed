"""What several annotators of one image agree on: pure functions over boxes and classes.

An annotator that has judged an image and marked nothing says that nothing is there; one that has not judged it says
nothing at all and does not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

Box = tuple[float, float, float, float]
"""x, y, width, height, in any unit."""


@dataclass(frozen=True)
class Mark:
    """What one annotator says: an object in an image, or the class of the image.

    Attributes:
        annotator: who says it
        label: the class
        confidence: 0..1
        box: where; None for the class of an image
    """

    annotator: str
    label: str
    confidence: float = 1.0
    box: Box | None = None


@dataclass(frozen=True)
class Agreed:
    """An object that at least one annotator sees, or the class of an image that at least one names.

    Attributes:
        label: the class
        marks: those of the annotators who say so, in the order of the annotators
        box: the mean of their boxes, weighted by confidence; None for the class of an image
        confidence: the mean of their confidences times the share of the annotators who say so, 0..1
        disagreement: see :func:`object_disagreement`, 0..1
    """

    label: str
    marks: tuple[Mark, ...]
    box: Box | None
    confidence: float
    disagreement: float

    @property
    def annotators(self) -> tuple[str, ...]:
        return tuple(mark.annotator for mark in self.marks)

    @property
    def votes(self) -> int:
        return len(self.marks)


def majority(judges: int) -> int:
    """The least number of votes that is more than half."""
    return judges // 2 + 1


def ious(first: Sequence[Box], second: Sequence[Box]) -> np.ndarray:
    """The intersection over union of each of the first boxes with each of the second: float64 (n x m), 0..1."""
    a, b = (np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in (first, second))
    a, b = a[:, None], b[None]
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    union = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def iou(first: Box, second: Box) -> float:
    """The intersection over union of two boxes, 0..1."""
    return float(ious([first], [second])[0, 0])


def match(said: Mapping[str, Sequence[Mark]], least_iou: float = 0.5) -> list[tuple[Mark, ...]]:
    """Finds which marks of several annotators mean the same object.

    Pairs of marks of one class by two annotators are joined in the order of their IoU, the highest first, as long as
    no object gets two marks of one annotator. Unlike pairwise optimal assignment this serves any number of annotators,
    does not depend on their order, and never gives up a better pair to gain a worse one.

    Args:
        said: annotator -> marks with boxes
        least_iou (0.5): marks with a lower IoU are not the same object

    Returns:
        groups of marks, each with one of an annotator at most; a mark that nobody shares is a group of its own
    """
    marks = [mark for listed in said.values() for mark in listed]
    groups: list[list[int]] = [[n] for n in range(len(marks))]
    for _, first, second in _pairs(marks, least_iou):
        a, b = groups[first], groups[second]
        if a is b or {marks[n].annotator for n in a} & {marks[n].annotator for n in b}:
            continue
        a += b
        for number in b:
            groups[number] = a
    distinct = {id(group): group for group in groups}.values()
    return [tuple(marks[n] for n in sorted(group)) for group in distinct]


def agree_on_objects(said: Mapping[str, Sequence[Mark]], least_iou: float = 0.5) -> list[Agreed]:
    """Joins what annotators say of the objects in an image.

    The box is the mean weighted by confidence, and the confidence falls with the share of annotators that miss the
    object, as in Solovyev, Wang and Gabruseva, "Weighted boxes fusion", Image and Vision Computing 107, 2021.

    Args:
        said: annotator that has judged the image -> marks with boxes, possibly none
        least_iou (0.5): marks with a lower IoU are not the same object

    Returns:
        all objects that somebody sees, those with the most votes and the highest confidence first
    """
    found = [_agreed(group, list(said)) for group in match(said, least_iou)]
    return sorted(found, key=lambda one: (-one.votes, -one.confidence))


def agree_on_class(said: Mapping[str, Mark | None]) -> list[Agreed]:
    """Joins what annotators say of the class of an image.

    Args:
        said: annotator that has judged the image -> its class, or None where it names none

    Returns:
        all classes that somebody names, those with the most votes and the highest confidence first
    """
    groups: dict[str, list[Mark]] = {}
    for mark in said.values():
        if mark is not None:
            groups.setdefault(mark.label, []).append(mark)
    found = [_agreed(tuple(group), list(said)) for group in groups.values()]
    return sorted(found, key=lambda one: (-one.votes, -one.confidence))


def object_disagreement(marks: Sequence[Mark], judges: int) -> float:
    """How far annotators disagree about one object.

    Of the pairs of annotators of whom at least one sees the object, the mean of 1 - IoU, where the IoU is 0 if only
    one of the two sees it, and 1 if both name a class without a box.

    Args:
        marks: the marks of those who see it
        judges: how many have judged the image, 2 at least

    Returns:
        0 (all see the same) to 1 (only one sees it)
    """
    pairs = _choose_two(judges) - _choose_two(judges - len(marks))
    shared = sum(_overlap(a, b) for a, b in combinations(marks, 2))
    return float(np.clip(1 - shared / pairs, 0.0, 1.0))


def image_disagreement(agreed: Iterable[Agreed], judges: Sequence[str]) -> float | None:
    """How far annotators disagree about all objects of an image, or about its class.

    One minus the mean panoptic quality (Kirillov et al., "Panoptic Segmentation", CVPR 2019) of all pairs of
    annotators: the sum of the IoU of the objects that both see over the mean number of objects that they see. Two that
    say that nothing is there agree.

    Args:
        agreed: what somebody sees
        judges: the annotators that have judged the image

    Returns:
        0 (all say the same) to 1 (no two share anything); None if fewer than two have judged it
    """
    if len(judges) < 2:
        return None
    shared = dict.fromkeys(combinations(judges, 2), 0.0)
    counts = dict.fromkeys(judges, 0)
    order = {judge: n for n, judge in enumerate(judges)}
    for one in agreed:
        for mark in one.marks:
            counts[mark.annotator] += 1
        for a, b in combinations(sorted(one.marks, key=lambda mark: order[mark.annotator]), 2):
            shared[a.annotator, b.annotator] += _overlap(a, b)
    quality = [2 * s / total if (total := counts[a] + counts[b]) else 1.0 for (a, b), s in shared.items()]
    return float(np.clip(1 - np.mean(quality), 0.0, 1.0))


def _agreed(marks: tuple[Mark, ...], judges: Sequence[str]) -> Agreed:
    confidence = float(np.mean([mark.confidence for mark in marks])) * len(marks) / len(judges)
    disagreement = object_disagreement(marks, len(judges)) if len(judges) > 1 else 0.0
    return Agreed(marks[0].label, marks, _mean_box(marks), confidence, disagreement)


def _mean_box(marks: Sequence[Mark]) -> Box | None:
    boxes = [mark.box for mark in marks if mark.box is not None]
    if not boxes:
        return None
    weights = np.array([mark.confidence for mark in marks], np.float64)
    if not weights.any():
        weights += 1
    x, y, w, h = np.average(np.asarray(boxes, np.float64), axis=0, weights=weights)
    return float(x), float(y), float(w), float(h)


def _pairs(marks: Sequence[Mark], least_iou: float) -> list[tuple[float, int, int]]:
    """Marks of one class by two annotators that overlap enough: the IoU and both numbers, the highest IoU first."""
    by_label: dict[str, list[int]] = {}
    for number, mark in enumerate(marks):
        by_label.setdefault(mark.label, []).append(number)
    found = []
    for numbers in by_label.values():
        boxes = [box for n in numbers if (box := marks[n].box) is not None]
        overlaps = ious(boxes, boxes)
        for a, b in zip(*np.nonzero(np.triu(overlaps, 1) >= max(least_iou, 1e-9)), strict=True):
            first, second = numbers[a], numbers[b]
            if marks[first].annotator != marks[second].annotator:
                found.append((float(overlaps[a, b]), first, second))
    return sorted(found, key=lambda pair: (-pair[0], pair[1], pair[2]))


def _overlap(first: Mark, second: Mark) -> float:
    return 1.0 if first.box is None or second.box is None else iou(first.box, second.box)


def _choose_two(number: int) -> int:
    return number * (number - 1) // 2
