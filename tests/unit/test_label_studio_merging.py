"""Answers of several people as one: what most say, what is open, and how far they agree."""

from __future__ import annotations

from typing import Any

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_idsynth.learning.label_studio.keys import task_key
from fiftyone_idsynth.learning.label_studio.merging import Merged, agreement_of, kappa, mean_iou, merge_answers
from fiftyone_idsynth.learning.label_studio.reading import latest_by_sample, read_task


def classes(*names: str | None) -> dict[str, Any]:
    return {f"p{n}": None if name is None else fo.Classification(label=name) for n, name in enumerate(names)}


def boxes(*people: list[tuple[str, list[float]]]) -> dict[str, Any]:
    return {
        f"p{n}": fo.Detections(detections=[fo.Detection(label=label, bounding_box=box) for label, box in its])
        for n, its in enumerate(people)
    }


NEAR, NEARER, FAR = [0.1, 0.1, 0.4, 0.4], [0.12, 0.1, 0.4, 0.4], [0.6, 0.6, 0.3, 0.3]


class TestClasses:
    @pytest.mark.parametrize(
        ("said", "method", "label"),
        [
            (("cat", "cat", "dog"), "majority", "cat"), (("cat", "dog"), "majority", None),
            (("cat", "cat", "dog"), "consensus", None), (("cat", "cat"), "consensus", "cat"),
            (("cat", "dog"), "latest", "dog"), (("cat",), "consensus", "cat"),
            (("cat", "dog", "bird"), "majority", None), (("cat", "cat", "dog", "dog"), "majority", None),
        ],
    )  # fmt: skip
    def test_votes(self, said: tuple[str, ...], method: Any, label: str | None) -> None:
        merged = merge_answers("Classification", classes(*said), method, 0.5)
        assert getattr(merged.value, "label", None) == label
        assert merged.conflict is (label is None)

    def test_none_of_the_classes_is_an_answer(self) -> None:
        merged = merge_answers("Classification", classes(None, None, "cat"), "majority", 0.5)
        assert (merged.value, merged.conflict) == (None, False)

    def test_who_said_it(self) -> None:
        merged = merge_answers("Classification", classes("dog", "cat", "cat"), "majority", 0.5)
        assert (merged.value.annotators, merged.value.votes) == (["p1", "p2"], 2)

    def test_tags(self) -> None:
        def tags(*names: str) -> Any:
            return fo.Classifications(classifications=[fo.Classification(label=name) for name in names])

        said = {"a": tags("red", "big"), "b": tags("red"), "c": tags("red", "odd")}
        merged = merge_answers("Classifications", said, "majority", 0.5)
        assert [one.label for one in merged.value.classifications] == ["red"]
        assert merge_answers("Classifications", said, "consensus", 0.5).conflict
        assert merge_answers("list[str]", {"a": ["x", "y"], "b": ["x", "y"]}, "majority", 0.5).value == ["x", "y"]

    def test_texts(self) -> None:
        assert merge_answers("str", {"a": "a cat", "b": " a cat"}, "consensus", 0.5).value == " a cat"
        assert merge_answers("str", {"a": "a cat", "b": "a dog"}, "majority", 0.5).conflict


class TestObjects:
    def test_boxes_are_averaged(self) -> None:
        merged = merge_answers("Detections", boxes([("cat", NEAR)], [("cat", NEARER)]), "majority", 0.5)
        (one,) = merged.value.detections
        assert one.bounding_box == pytest.approx([0.11, 0.1, 0.4, 0.4])
        assert (one.votes, one.annotators) == (2, ["p0", "p1"])

    def test_what_one_of_three_sees_is_left_out(self) -> None:
        said = boxes([("cat", NEAR)], [("cat", NEARER), ("dog", FAR)], [("cat", NEAR)])
        merged = merge_answers("Detections", said, "majority", 0.5)
        assert [one.label for one in merged.value.detections] == ["cat"]
        assert merge_answers("Detections", said, "consensus", 0.5).conflict

    @pytest.mark.parametrize("second", [[], [("dog", NEAR)], [("cat", FAR)]])
    def test_two_who_see_different_things(self, second: Any) -> None:
        merged = merge_answers("Detections", boxes([("cat", NEAR)], second), "majority", 0.5)
        assert (merged.value, merged.conflict, merged.pairs) == (None, True, {("p0", "p1"): 0.0})

    def test_nothing_is_there(self) -> None:
        merged = merge_answers("Detections", boxes([], []), "consensus", 0.5)
        assert merged.value.detections == []
        assert merged.pairs == {("p0", "p1"): 1.0}

    def test_turned_boxes_and_masks_are_not_averaged(self) -> None:
        said = boxes([("cat", NEAR)], [("cat", NEARER)], [("cat", NEARER)])
        for value in said.values():
            value.detections[0].mask = np.ones((4, 4), bool)
        (one,) = merge_answers("Detections", said, "majority", 0.5).value.detections
        assert one.bounding_box == NEARER

    def test_points_and_lines(self) -> None:
        def points(*xy: tuple[float, float]) -> Any:
            return fo.Keypoints(keypoints=[fo.Keypoint(label="nose", points=list(xy))])

        near = {"a": points((0.5, 0.5)), "b": points((0.505, 0.5))}
        assert len(merge_answers("Keypoints", near, "majority", 0.5).value.keypoints) == 1
        assert merge_answers("Keypoints", {**near, "b": points((0.6, 0.5))}, "majority", 0.5).conflict

        def line(shift: float) -> Any:
            return fo.Polylines(
                polylines=[fo.Polyline(label="wire", points=[[(0.1, 0.5 + shift), (0.9, 0.5 + shift)]])]
            )

        assert len(merge_answers("Polylines", {"a": line(0), "b": line(0.01)}, "majority", 0.5).value.polylines) == 1


class TestMasks:
    def mask(self, *columns: int) -> np.ndarray:
        found = np.zeros((10, 10), np.uint8)
        for name, column in enumerate(columns, 1):
            found[:, :column] = np.where(found[:, :column] == 0, name, found[:, :column])
        return found

    def test_pixels_are_voted_on(self) -> None:
        said = {str(n): fo.Segmentation(mask=self.mask(width)) for n, width in enumerate((5, 6, 9))}
        merged = merge_answers("Segmentation", said, "majority", 0.5)
        assert (merged.value.mask == self.mask(6)).all()
        assert merged.pairs["0", "1"] == pytest.approx(5 / 6)
        assert merge_answers("Segmentation", said, "consensus", 0.7).conflict

    def test_of_two_the_last_decides(self) -> None:
        said = {"a": fo.Segmentation(mask=self.mask(5)), "b": fo.Segmentation(mask=self.mask(6))}
        assert (merge_answers("Segmentation", said, "majority", 0.5).value.mask == self.mask(6)).all()

    def test_mean_iou(self) -> None:
        assert mean_iou(self.mask(5, 8), self.mask(5, 10)) == pytest.approx((1 + 3 / 5) / 2)
        assert mean_iou(self.mask(), self.mask()) == 1


class TestAgreement:
    def test_cohens_kappa(self) -> None:
        # Cohen's own kind of table: 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no gives 0.4.
        answers = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
        assert kappa([{"a": a, "b": b} for a, b in answers]) == pytest.approx(0.4)

    def test_fleiss_kappa(self) -> None:
        # The table in Fleiss (1971) as it is commonly quoted: 10 subjects, 14 raters, 5 categories, kappa 0.210.
        table = [
            (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
            (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
        ]  # fmt: skip
        names = [
            dict(enumerate("abcde"[category] for category, count in enumerate(row) for _ in range(count)))
            for row in table
        ]
        assert kappa([{str(n): name for n, name in one.items()} for one in names]) == pytest.approx(0.210, abs=5e-4)

    def test_who_agrees_how_much(self) -> None:
        merged = [
            merge_answers("Classification", classes(*said), "majority", 0.5)
            for said in (("cat", "cat", "dog"), ("dog", "dog", "dog"), ("cat",))
        ]
        found = agreement_of(merged)
        assert (found.images, found.mean) == (2, pytest.approx((1 / 3 + 1) / 2))
        assert found.people == pytest.approx({"p0": 0.75, "p1": 0.75, "p2": 0.5})
        assert agreement_of([Merged(None)]).mean is None

    def test_where_all_always_say_the_same_there_is_no_kappa(self) -> None:
        assert kappa([{"a": "x", "b": "x"}] * 3) is None
        assert kappa([{"a": "x", "b": "x", "c": "x"}] * 3) is None


class TestReading:
    def task(self, *annotations: Any, sample: str = "a" * 24, round: int = 0, at: int = 9) -> dict[str, Any]:
        return {
            "id": 1, "updated_at": f"2026-01-01T00:00:{at:02}.000000Z", "annotations": list(annotations),
            "data": {"idsynth": task_key("b" * 24, sample, round)},
        }  # fmt: skip

    def answer(self, person: Any, second: int, name: str = "", **more: Any) -> dict[str, Any]:
        at = f"2026-01-01T00:00:{second:02}.000000Z"
        return {"id": second, "completed_by": person, "updated_at": at, "result": [{"name": name}], **more}

    def test_the_last_real_answer_of_each_person(self) -> None:
        found = read_task(
            self.task(
                self.answer(1, 3, "late"), self.answer(1, 1, "early"), self.answer({"id": 2}, 2, "other"),
                self.answer(1, 4, was_cancelled=True), self.answer(3, 5, was_cancelled=True),
            )
        )  # fmt: skip
        assert found is not None
        assert [(one.annotator, one.results[0]["name"]) for one in found.given] == [("2", "other"), ("1", "late")]
        assert found.skips == ("3",)

    def test_tasks_of_others(self) -> None:
        for data in ({}, {"idsynth": "x"}, {"idsynth": 4}, None):
            assert read_task({"id": 1, "data": data}) is None

    def test_the_task_that_says_most(self) -> None:
        answered = read_task(self.task(self.answer(1, 1)))
        later = read_task(self.task(round=1))
        both = read_task(self.task(self.answer(1, 1), round=1, at=1))
        assert answered is not None
        assert later is not None
        assert both is not None
        assert latest_by_sample([answered, later]) == {"a" * 24: answered}
        assert latest_by_sample([both, answered]) == {"a" * 24: both}
