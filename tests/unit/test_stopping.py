"""When the learning loop stops."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from fiftyone_idsynth.errors import ParameterError
from fiftyone_idsynth.learning.looping.rounds import Round, tail
from fiftyone_idsynth.learning.looping.stopping import Stop, agreement, check_target, lower_bound

NEVER = Stop(budget=None, target=None, stability=None, patience=None)


def rounds(*quality: float, kappa: float | None = None, lower: float | None = None, model: str = "a") -> list[Round]:
    return [
        Round(n, 10 * (n + 1), value, "accuracy", lower, kappa if n else None, model, "", 0.0, "")
        for n, value in enumerate(quality)
    ]


def test_nothing_stops_before_the_first_round() -> None:
    assert Stop(budget=0, target=0.1, stability=0.1, patience=1).reason([]) is None


def test_no_rule_no_stop() -> None:
    assert NEVER.reason(rounds(*[1.0] * 30, kappa=1.0)) is None


def test_the_lower_bound_counts_for_the_target_where_there_is_one() -> None:
    stop = Stop(None, 0.95, None, None)
    assert stop.reason(rounds(0.97, lower=0.94)) is None
    assert "0.970" in str(stop.reason(rounds(0.97, lower=0.951)))
    assert "target" in str(stop.reason(rounds(0.95)))


def test_stable_predictions_stop_after_three_rounds() -> None:
    stop = Stop(None, None, 0.99, None)
    assert stop.reason(rounds(0.5, 0.5, 0.5, kappa=0.995)) is None  # the first has no predecessor
    assert "0.9950" in str(stop.reason(rounds(0.5, 0.5, 0.5, 0.5, kappa=0.995)))
    assert stop.reason(rounds(0.5, 0.5, 0.5, 0.5, kappa=0.98)) is None


def test_a_round_of_unknown_agreement_is_not_stable() -> None:
    its = rounds(0.5, 0.5, kappa=1.0) + rounds(0.5, kappa=1.0) + rounds(0.5, 0.5, kappa=1.0)[1:]
    assert Stop(None, None, 0.99, None).reason(its) is None


def test_patience_counts_from_the_first_best_round() -> None:
    stop = Stop(None, None, None, 2)
    assert stop.reason(rounds(0.5, 0.8, 0.8)) is None
    assert "0.800" in str(stop.reason(rounds(0.5, 0.8, 0.8, 0.7)))
    assert stop.reason(rounds(0.5, 0.8, 0.7, 0.81)) is None


def test_the_budget() -> None:
    stop = Stop(30, None, None, None)
    assert stop.reason(rounds(0.5, 0.6)) is None
    assert "30 images" in str(stop.reason(rounds(0.5, 0.6, 0.7)))


def test_rounds_of_another_model_are_not_compared() -> None:
    its = rounds(0.9, model="small") + rounds(0.1, 0.2, 0.3, model="large")
    assert [one.model for one in tail(its)] == ["large"] * 3
    assert Stop(None, None, None, 2).reason(its) is None


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    assert lower_bound(299, 299) == pytest.approx(0.05 ** (1 / 299))
    assert lower_bound(140, 150) == pytest.approx(0.8896, abs=2e-3)
    assert lower_bound(0, 10) == 0


def test_a_test_set_that_is_too_small_for_the_target_is_refused() -> None:
    check_target(0.99, 299)
    check_target(None, 1)
    with pytest.raises(ParameterError, match="takes 299 test images"):
        check_target(0.99, 298)
    with pytest.raises(ParameterError, match="no number of test images"):
        check_target(1.0, 1000)


def test_agreement_of_classes_is_cohens_kappa() -> None:
    rng = np.random.default_rng(5)
    first, second = rng.integers(0, 3, 200).astype(str), rng.integers(0, 3, 200).astype(str)
    second[:150] = first[:150]
    assert agreement([[c] for c in first], [[c] for c in second]) == pytest.approx(cohen_kappa_score(first, second))
    assert agreement([["a"]] * 5, [["a"]] * 5) == 1.0


def test_agreement_of_objects_counts_each_class_of_each_image() -> None:
    before, now = [["cat", "dog"], [], ["cat"]], [["cat"], [], ["cat", "cat"]]
    pairs = [1, 1, 0, 0, 1, 0], [1, 0, 0, 0, 1, 0]
    assert agreement(before, now) == pytest.approx(cohen_kappa_score(*pairs))
