"""One answer of several people's: what most of them say, or nothing where they disagree. Pure functions on labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np

from ...annotation.consensus import Box, Mark, agree_on_objects, image_disagreement, ious

Merge = Literal["majority", "consensus", "latest"]

LEAST_EXTENT = 0.05
"""Lines and points are compared by the box round them, which is at least this share of the image wide and high."""


@dataclass(frozen=True)
class Merged:
    """What several people say together.

    Attributes:
        value: the label; nothing if they disagree
        conflict: whether they disagree, so that nobody knows what is right
        pairs: two annotators -> how far they agree, 0..1
        names: annotator -> the class that they say the image is of
    """

    value: Any
    conflict: bool = False
    pairs: Mapping[tuple[str, str], float] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)


def merge_answers(kind: str, said: Mapping[str, Any], method: Merge, iou: float) -> Merged:
    """Makes one answer of several people's about one image.

    ``majority`` keeps what more than half of them say and leaves out what fewer say; what exactly half of them say is a
    conflict, and so is a class or text that not more than half of them say. With ``consensus`` they must all say the
    same. ``latest`` takes the last answer. Objects are the same if their class is the same and their boxes overlap
    enough; boxes are averaged, of turned boxes, masks, lines and points that is kept which is most like the others.
    Masks of classes are voted on pixel by pixel if they overlap enough.

    Args:
        kind: what the field holds: the name of a FiftyOne label class, ``"str"`` or ``"list[str]"``
        said: annotator -> their label, in the order in which they were given; nothing found is an empty label or None
        method: how they are merged
        iou: least intersection over union of the same object, or mean of that of classes
    """
    if len(said) == 1:
        return Merged(next(iter(said.values())))
    if kind in _OBJECTS:
        merged = _merge_objects(kind, said, method, iou)
    elif kind == "Segmentation":
        merged = _merge_masks(said, method, iou)
    else:
        merged = _merge_names(kind, said, method)
    if method == "latest":
        return replace(merged, value=list(said.values())[-1], conflict=False)
    return merged


@dataclass(frozen=True)
class Agreement:
    """How far people agree about many images.

    Attributes:
        images: how many were answered by two or more people
        mean: how far they agree, 0..1: about classes, how often two say the same; about objects, the panoptic quality
            of one's against the other's; about masks of classes, the mean IoU
        people: annotator -> how far they agree with the others
        kappa: of classes, the agreement beyond chance; see :func:`kappa`
    """

    images: int
    mean: float | None = None
    people: Mapping[str, float] = field(default_factory=dict)
    kappa: float | None = None


def agreement_of(merged: Sequence[Merged]) -> Agreement:
    """How far people agree about images."""
    shared = [one for one in merged if one.pairs]
    if not shared:
        return Agreement(0)
    by_person: dict[str, list[float]] = {}
    for one in shared:
        for pair, value in one.pairs.items():
            for person in pair:
                by_person.setdefault(person, []).append(value)
    return Agreement(
        len(shared),
        float(np.mean([np.mean(list(one.pairs.values())) for one in shared])),
        {person: float(np.mean(values)) for person, values in sorted(by_person.items())},
        kappa([one.names for one in shared if len(one.names) > 1]),
    )


def kappa(names: Sequence[Mapping[str, str]]) -> float | None:
    """How far people name the same class beyond chance.

    Cohen's kappa where two people answered all images (Cohen, "A coefficient of agreement for nominal scales", 1960),
    else Fleiss' kappa (Fleiss, "Measuring nominal scale agreement among many raters", 1971), in which images count by
    the pairs of their answers, as their number may differ.

    Args:
        names: for each image, annotator -> class; two or more

    Returns:
        at most 1; None without images, or where everybody always names the same class
    """
    if not names:
        return None
    people = {frozenset(one) for one in names}
    if len(people) == 1 and len(next(iter(people))) == 2:
        from sklearn.metrics import cohen_kappa_score

        first, second = sorted(next(iter(people)))
        pair = [one[first] for one in names], [one[second] for one in names]
        if len({*pair[0], *pair[1]}) == 1:
            return None
        return float(cohen_kappa_score(*pair))
    totals: Counter[str] = Counter(name for one in names for name in one.values())
    share = np.array(list(totals.values())) / totals.total()
    chance = float((share**2).sum())
    if chance == 1:
        return None
    weights = np.array([len(one) * (len(one) - 1) for one in names], float)
    same = np.array([sum(n * (n - 1) for n in Counter(one.values()).values()) for one in names], float)
    return float((same.sum() / weights.sum() - chance) / (1 - chance))


# -- classes and text -------------------------------------------------------------------------------------------------


def _name(kind: str, value: Any) -> str:
    if kind == "Classification":
        return value.label if value is not None else ""
    return str(value or "").strip()


def _merge_names(kind: str, said: Mapping[str, Any], method: Merge) -> Merged:
    names = {person: _name(kind, value) for person, value in said.items()}
    best, votes = Counter(names.values()).most_common(1)[0]
    those = [person for person, name in names.items() if name == best]
    pairs = {(a, b): float(names[a] == names[b]) for a, b in combinations(names, 2)}
    names = names if kind == "Classification" else {}
    if votes <= len(said) / 2 or (method == "consensus" and votes < len(said)):
        return Merged(None, True, pairs, names)
    value = said[those[-1]]
    if kind == "Classification" and value is not None:
        value["annotators"], value["votes"] = those, votes
    return Merged(value, False, pairs, names)


# -- objects, and tags, which are objects without a place -------------------------------------------------------------


def _merge_objects(kind: str, said: Mapping[str, Any], method: Merge, iou: float) -> Merged:
    name, extent = _OBJECTS[kind]
    lists = {person: _items(value, name) for person, value in said.items()}
    found = {(person, n): one for person, items in lists.items() for n, one in enumerate(items)}
    places = {key: extent(one) for key, one in found.items()}
    marks = {
        person: [_mark(person, one, places[person, n]) for n, one in enumerate(items)]
        for person, items in lists.items()
    }
    origin = {id(mark): found[person, n] for person, its in marks.items() for n, mark in enumerate(its)}
    agreed = agree_on_objects(marks, iou)
    pairs = {(a, b): _likeness({a: marks[a], b: marks[b]}, iou) for a, b in combinations(marks, 2)}
    judges = len(said)
    kept = [one for one in agreed if one.votes > judges / 2]
    unsure = [one for one in agreed if one.votes * 2 == judges or (method == "consensus" and one.votes < judges)]
    if unsure:
        return Merged(None, True, pairs)
    labels = [_joined(kind, [origin[id(mark)] for mark in one.marks], one.box, one.annotators) for one in kept]
    last = list(said.values())[-1]
    return Merged(labels if kind == "list[str]" else type(last)(**{name: labels}), False, pairs)


def _likeness(marks: Mapping[str, Sequence[Mark]], iou: float) -> float:
    """How far two people agree about the objects in an image."""
    return 1 - float(image_disagreement(agree_on_objects(marks, iou), list(marks)) or 0)


def _items(value: Any, name: str) -> list[Any]:
    if not name:
        return list(dict.fromkeys(value or ()))
    return list(value[name]) if value is not None else []


def _mark(person: str, one: Any, box: Box) -> Mark:
    return Mark(person, one if isinstance(one, str) else one.label, 1.0, box)


def _joined(kind: str, ones: Sequence[Any], box: Box | None, people: Sequence[str]) -> Any:
    """One object of several people's."""
    if kind == "list[str]":
        return ones[0]
    if kind == "Detections" and len(ones) > 1 and not any(one.has_mask or one.has_field("turned_box") for one in ones):
        label = ones[0].copy()
        label.bounding_box = [float(share) for share in box or ()]
    else:
        extent = _OBJECTS[kind][1]
        label = _most_alike([(one, extent(one)) for one in ones]).copy()
    label["annotators"], label["votes"] = list(people), len(people)
    return label


def _most_alike(ones: Sequence[tuple[Any, Box]]) -> Any:
    """The one whose box overlaps most with those of the others; the first among equals."""
    boxes = [box for _, box in ones]
    return ones[int(ious(boxes, boxes).sum(axis=1).argmax())][0]


def _box_of(one: Any) -> Box:
    x, y, w, h = one.bounding_box
    return float(x), float(y), float(w), float(h)


def _round_points(points: Sequence[Sequence[float]]) -> Box:
    spots = np.asarray(points, float).reshape(-1, 2)
    low, high = spots.min(axis=0), spots.max(axis=0)
    half = np.maximum(high - low, LEAST_EXTENT) / 2
    x, y, w, h = map(float, np.concatenate([(low + high) / 2 - half, 2 * half]))
    return x, y, w, h


def _nowhere(one: Any) -> Box:
    return 0.0, 0.0, 1.0, 1.0


_OBJECTS: dict[str, tuple[str, Callable[[Any], Box]]] = {
    "Detections": ("detections", _box_of),
    "Polylines": ("polylines", lambda one: _round_points([point for ring in one.points for point in ring])),
    "Keypoints": ("keypoints", lambda one: _round_points(one.points)),
    "Classifications": ("classifications", _nowhere),
    "list[str]": ("", _nowhere),
}
"""Kind of label -> the list in it, and the box by which its elements are compared."""


# -- masks of classes -------------------------------------------------------------------------------------------------


def _merge_masks(said: Mapping[str, Any], method: Merge, iou: float) -> Merged:
    masks = {person: value.get_mask() for person, value in said.items()} if len(said) > 1 else {}
    pairs = {(a, b): mean_iou(masks[a], masks[b]) for a, b in combinations(masks, 2)}
    if pairs and (min(pairs.values()) if method == "consensus" else np.mean(list(pairs.values()))) < iou:
        return Merged(None, True, pairs)
    last = list(said.values())[-1]
    return Merged(type(last)(mask=_vote(list(masks.values()))) if pairs else last, False, pairs)


def mean_iou(first: np.ndarray, second: np.ndarray) -> float:
    """The mean intersection over union of the classes that are in one of two masks, without the background 0."""
    classes = sorted({*np.unique(first).tolist(), *np.unique(second).tolist()} - {0})
    if not classes:
        return 1.0
    found = [((first == n) & (second == n)).sum() / ((first == n) | (second == n)).sum() for n in classes]
    return float(np.mean(found))


def _vote(masks: Sequence[np.ndarray]) -> np.ndarray:
    """For each pixel the class that most name; among equals that of the last who names one of them."""
    classes = np.unique(np.concatenate(masks, axis=None))
    turns = np.arange(1, len(masks) + 1) / (2 * len(masks)) ** 2  # the later break ties and decide nothing else
    votes = [sum((1 + turn) * (mask == name) for turn, mask in zip(turns, masks, strict=True)) for name in classes]
    chosen: np.ndarray = classes[np.argmax(votes, axis=0)]
    return chosen.astype(masks[0].dtype)
