"""What scores say of how unsure a model is."""

from __future__ import annotations

import numpy as np
import pytest

from fiftyone_idsynth.learning.uncertainty import (
    MEASURES,
    aggregate,
    entropy,
    least_confidence,
    margin,
    probabilities,
    softmax,
)

SURE, TORN, EVEN = [0.98, 0.01, 0.01], [0.49, 0.48, 0.03], [1 / 3, 1 / 3, 1 / 3]


def test_measures_by_hand() -> None:
    shares = probabilities([SURE, TORN, EVEN])
    assert least_confidence(shares) == pytest.approx([0.02, 0.51, 2 / 3])
    assert margin(shares) == pytest.approx([0.03, 0.99, 1])
    by_hand = -(0.49 * np.log(0.49) + 0.48 * np.log(0.48) + 0.03 * np.log(0.03)) / np.log(3)
    assert entropy(shares)[1:] == pytest.approx([by_hand, 1])


@pytest.mark.parametrize("measure", MEASURES)
def test_measures_lie_between_0_and_1_and_rise_with_doubt(measure: str) -> None:
    values = MEASURES[measure](probabilities([[1, 0, 0], SURE, [0.7, 0.2, 0.1], EVEN, [0.5, 0.5], [1.0, 0.0]]))
    assert (values >= 0).all()
    assert (values <= 1).all()
    assert list(values[:4]) == sorted(values[:4])
    assert values[0] == values[5] == 0


def test_scores_of_any_number_of_classes_stand_side_by_side() -> None:
    shares = probabilities([[0.5, 0.5], [0.1] * 10])
    assert shares.shape == (2, 10)
    assert entropy(shares) == pytest.approx([1, 1])
    assert margin(shares) == pytest.approx([1, 1])


def test_scores_that_do_not_sum_up_to_1_are_shared_out() -> None:
    judged_alone = probabilities([[0.9, 0.9, 0.0], [0.002, 0.0001]])
    assert judged_alone[0] == pytest.approx([0.5, 0.5, 0])
    assert margin(judged_alone)[0] == pytest.approx(1)
    assert margin(judged_alone)[1] < 0.1  # small scores, yet no doubt between the classes


def test_a_single_score_is_completed_by_its_opposite() -> None:
    shares = probabilities([[0.5], [0.9], [0.1], [1.0]])
    assert margin(shares) == pytest.approx([1, 0.2, 0.2, 0])
    assert least_confidence(shares) == pytest.approx([0.5, 0.1, 0.1, 0])


def test_no_score_and_broken_scores_are_unknown_and_all_zero_is_even() -> None:
    shares = probabilities([[], [np.nan, 0.5], [-0.1, 0.5], [np.inf], [1.5], [0.0, 0.0]])
    for measure in MEASURES.values():
        values = measure(shares)
        assert np.isnan(values[:5]).all()
        assert np.isfinite(values[5])
    assert margin(shares)[5] == 1
    assert probabilities([]).shape == (0, 2)


def test_softmax() -> None:
    assert softmax([0, 0]) == pytest.approx([0.5, 0.5])
    assert softmax([1000, 0]) == pytest.approx([1, 0])
    assert softmax([0.0]) == pytest.approx([0.5])
    assert softmax([-2000.0]) == pytest.approx([0])


def test_objects_are_put_together() -> None:
    values, counts = np.array([0.2, 0.6, 0.1, np.nan, 0.5, np.nan]), [2, 0, 1, 2, 1]
    assert aggregate(values, counts, "max") == pytest.approx([0.6, 0, 0.1, 0.5, np.nan], nan_ok=True)
    assert aggregate(values, counts, "mean") == pytest.approx([0.4, 0, 0.1, 0.5, np.nan], nan_ok=True)
    assert aggregate(values, counts, "sum") == pytest.approx([0.8, 0, 0.1, 0.5, np.nan], nan_ok=True)
    assert aggregate(np.zeros(0), [], "max").shape == (0,)
