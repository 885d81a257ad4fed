"""What several annotators agree on, and how far they do not."""

from __future__ import annotations

import itertools

import pytest

from fiftyone_idsynth.annotation.consensus import (
    Mark,
    agree_on_class,
    agree_on_objects,
    image_disagreement,
    iou,
    majority,
    match,
    object_disagreement,
)

BOX = (0.1, 0.1, 0.4, 0.4)
FAR = (0.6, 0.6, 0.3, 0.3)


def moved(by: float) -> tuple[float, float, float, float]:
    return (BOX[0] + by, *BOX[1:])


def said(**boxes: list) -> dict[str, list[Mark]]:
    return {who: [Mark(who, label, confidence, box) for label, confidence, box in them] for who, them in boxes.items()}


def test_iou() -> None:
    assert iou(BOX, BOX) == pytest.approx(1)
    assert iou(BOX, FAR) == 0
    assert iou((0, 0, 2, 1), (1, 0, 2, 1)) == pytest.approx(1 / 3)
    assert iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0


@pytest.mark.parametrize(("judges", "votes"), [(2, 2), (3, 2), (4, 3), (5, 3)])
def test_a_majority_is_more_than_half(judges: int, votes: int) -> None:
    assert majority(judges) == votes


def test_marks_are_the_same_object_by_class_and_place() -> None:
    marks = said(
        a=[("cat", 1.0, BOX), ("dog", 1.0, FAR)],
        b=[("cat", 1.0, moved(0.05)), ("cat", 1.0, FAR)],
        c=[("cat", 1.0, BOX)],
    )
    groups = sorted([(g[0].label, tuple(m.annotator for m in g)) for g in match(marks)])
    assert groups == [("cat", ("a", "b", "c")), ("cat", ("b",)), ("dog", ("a",))]


def test_the_nearest_marks_are_matched_and_no_object_has_two_marks_of_one_annotator() -> None:
    marks = said(a=[("cat", 1.0, BOX)], b=[("cat", 1.0, moved(0.08)), ("cat", 1.0, moved(0.01))])
    groups = match(marks, 0.3)
    assert sorted(len(group) for group in groups) == [1, 2]
    pair = next(group for group in groups if len(group) == 2)
    assert pair[1].box == moved(0.01)


def test_the_order_of_annotators_changes_nothing() -> None:
    marks = said(
        a=[("cat", 0.9, BOX), ("cat", 0.5, FAR)], b=[("cat", 0.8, moved(0.04))], c=[("cat", 0.3, moved(-0.03))]
    )
    results = set()
    for order in itertools.permutations(marks):
        found = agree_on_objects({who: marks[who] for who in order})
        boxes = tuple((one.votes, tuple(round(v, 9) for v in one.box or ())) for one in found)
        results.add((boxes, round(image_disagreement(found, order) or 0, 9)))
    assert len(results) == 1


def test_the_consensus_is_nearer_to_the_surer_annotator() -> None:
    (one,) = agree_on_objects(said(a=[("cat", 0.9, BOX)], b=[("cat", 0.3, moved(0.04))]))
    assert one.box == pytest.approx((0.11, 0.1, 0.4, 0.4))
    assert (one.votes, one.annotators, one.label) == (2, ("a", "b"), "cat")
    assert one.confidence == pytest.approx(0.6)


def test_confidence_falls_with_those_who_miss_it() -> None:
    (one,) = agree_on_objects(said(a=[("cat", 0.9, BOX)], b=[("cat", 0.9, BOX)], c=[]))
    assert one.confidence == pytest.approx(0.6)
    assert one.votes == 2


def test_marks_without_any_confidence_have_a_mean_all_the_same() -> None:
    (one,) = agree_on_objects(said(a=[("cat", 0.0, BOX)], b=[("cat", 0.0, moved(0.04))]))
    assert one.box == pytest.approx((0.12, 0.1, 0.4, 0.4))


def test_disagreement_about_an_object_goes_from_0_to_1() -> None:
    same, other = Mark("a", "cat", 1, BOX), Mark("b", "cat", 1, BOX)
    assert object_disagreement([same, other], 2) == pytest.approx(0)
    assert object_disagreement([same], 2) == 1
    assert object_disagreement([same], 3) == 1
    assert object_disagreement([same, other], 3) == pytest.approx(2 / 3)  # one pair of three agrees
    apart = Mark("b", "cat", 1, moved(0.05))
    assert object_disagreement([same, apart], 2) == pytest.approx(1 - iou(BOX, moved(0.05)))


def disagreement(**boxes: list) -> float | None:
    marks = said(**boxes)
    return image_disagreement(agree_on_objects(marks), list(marks))


def test_disagreement_about_an_image() -> None:
    cat, dog = ("cat", 1.0, BOX), ("dog", 1.0, FAR)
    assert disagreement(a=[cat, dog], b=[dog, cat]) == pytest.approx(0)
    assert disagreement(a=[], b=[]) == 0  # both say that nothing is there
    assert disagreement(a=[cat], b=[]) == 1
    assert disagreement(a=[cat], b=[("dog", 1.0, BOX)]) == 1
    assert disagreement(a=[cat, dog], b=[cat]) == pytest.approx(1 / 3)  # one shared object of one and a half
    assert disagreement(a=[cat], b=[cat], c=[]) == pytest.approx(2 / 3)
    assert disagreement(a=[cat]) is None  # nobody to agree with


def test_the_further_boxes_lie_apart_the_larger_is_the_disagreement() -> None:
    values = [disagreement(a=[("cat", 1.0, BOX)], b=[("cat", 1.0, moved(by))]) or 0.0 for by in (0, 0.02, 0.06, 0.3)]
    assert values == sorted(values)
    assert len(set(values)) == 4


def test_classes_are_counted() -> None:
    votes = {"a": Mark("a", "cat", 0.9), "b": Mark("b", "dog", 0.8), "c": Mark("c", "cat", 0.5)}
    first, second = agree_on_class(votes)
    assert (first.label, first.votes, first.annotators) == ("cat", 2, ("a", "c"))
    assert first.confidence == pytest.approx(0.7 * 2 / 3)
    assert (second.label, second.votes) == ("dog", 1)
    assert first.disagreement == pytest.approx(2 / 3)
    assert image_disagreement([first, second], list(votes)) == pytest.approx(2 / 3)


def test_who_names_no_class_disagrees_with_who_names_one() -> None:
    found = agree_on_class({"a": Mark("a", "cat"), "b": None})
    assert image_disagreement(found, ["a", "b"]) == 1
    assert image_disagreement(agree_on_class({"a": None, "b": None}), ["a", "b"]) == 0
