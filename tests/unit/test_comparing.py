"""How sure a gain is: intervals hold the truth as often as they promise, and say when there is none."""

from __future__ import annotations

import numpy as np
import pytest

from fiftyone_idsynth.learning.training.comparing import bootstrap_gain, mean_quality, miou_quality, t_gain


def test_the_bootstrap_holds_the_true_gain_about_as_often_as_promised() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(150):
        second = (rng.random((1, 150)) < 0.7).astype(float)
        first = np.where(rng.random((1, 150)) < 0.2, 1.0, second)  # a fifth is mended: the gain is 0.2 * 0.3
        gain = bootstrap_gain(first, second, mean_quality, 0.9, seed, resamples=300)
        held += gain.low <= 0.06 <= gain.high
    assert 0.8 <= held / 150 <= 0.97


def test_the_same_twice_is_no_gain() -> None:
    hits = (np.random.default_rng(1).random((3, 80)) < 0.6).astype(float)
    gain = bootstrap_gain(hits, hits, mean_quality, 0.95, 0)
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)
    assert not gain.is_clear


def test_a_large_gain_is_clear_and_has_a_sign() -> None:
    poor, good = np.zeros((2, 50)), np.ones((2, 50))
    poor[:, :20] = 1
    better, worse = (bootstrap_gain(*pair, mean_quality, 0.95, 0) for pair in ((good, poor), (poor, good)))
    assert better.value == pytest.approx(0.6)
    assert 0 < better.low < 0.6 < better.high
    assert (worse.low, worse.high) == pytest.approx((-better.high, -better.low), abs=0.05)
    assert better.is_clear
    assert worse.is_clear


def test_one_image_decides_little_however_many_repeats() -> None:
    first = np.zeros((20, 3))
    first[:, 0] = 1  # the same image in every repeat
    gain = bootstrap_gain(first, np.zeros((20, 3)), mean_quality, 0.95, 0)
    assert gain.low == 0
    assert not gain.is_clear


def test_masks_are_compared_by_the_mean_iou_of_all_pixels() -> None:
    perfect = np.array([[[50, 0], [0, 14]]] * 4)
    missed = np.array([[[50, 0], [14, 0]]] * 4)
    assert miou_quality(perfect) == 1
    assert miou_quality(missed) == pytest.approx((50 / 64 + 0) / 2)
    gain = bootstrap_gain(perfect[None], missed[None], miou_quality, 0.95, 0)
    assert gain.value == pytest.approx(1 - 25 / 64)
    assert gain.is_clear


def test_the_t_interval_is_that_of_scipy() -> None:
    from scipy.stats import ttest_rel

    first, second = [0.61, 0.58, 0.66, 0.60], [0.55, 0.57, 0.59, 0.52]
    wanted = ttest_rel(first, second).confidence_interval(0.95)
    gain = t_gain(first, second, 0.95)
    assert (gain.low, gain.high) == pytest.approx((wanted.low, wanted.high))
    assert gain.value == pytest.approx(np.mean(first) - np.mean(second))
