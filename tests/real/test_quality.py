"""How well the measures tell degraded photographs from clean ones, and whether pyiqa gives the published values."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from fiftyone_idsynth.measures.defects import measure
from fiftyone_idsynth.measures.rating import MEASURES, Standard, judge
from fiftyone_idsynth.media import read_image
from fiftyone_idsynth.quality import metrics

Pixels = np.ndarray
Degrade = Callable[[Pixels], Pixels]


def blurred(sigma: float) -> Degrade:
    return lambda a: cv2.GaussianBlur(a, (0, 0), sigma)


def moved(length: int, angle: float) -> Degrade:
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1
    kernel = cv2.warpAffine(line, cv2.getRotationMatrix2D((length / 2 - 0.5, length / 2 - 0.5), angle, 1), line.shape)
    return lambda a: cv2.filter2D(a, -1, kernel / kernel.sum())


def noisy(sigma: float) -> Degrade:
    return lambda a: scaled_sum(a, np.random.default_rng(1).normal(0, sigma, a.shape))


def scaled_sum(a: Pixels, b: Pixels) -> Pixels:
    return np.clip(a + b, 0, 255).round().astype(np.uint8)


def impulses(share: float) -> Degrade:
    def degrade(a: Pixels) -> Pixels:
        drawn, out = np.random.default_rng(2).random(a.shape[:2]), a.copy()
        out[drawn < share / 2], out[drawn > 1 - share / 2] = 0, 255
        return out

    return degrade


def jpeg(quality: int) -> Degrade:
    def degrade(a: Pixels) -> Pixels:
        data = cv2.imencode(".jpg", a[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]

    return degrade


def exposed(*gains: float) -> Degrade:
    return lambda a: np.clip(a * np.array(gains), 0, 255).round().astype(np.uint8)


def faded(contrast: float) -> Degrade:
    return lambda a: np.clip((a - 128.0) * contrast + 128, 0, 255).round().astype(np.uint8)


def letterboxed(a: Pixels) -> Pixels:
    out, bar = a.copy(), len(a) // 8
    out[:bar] = out[-bar:] = 0
    return out


@pytest.fixture(scope="module")
def clean(shared: Path) -> list[Pixels]:
    """60 photographs from two collections, the same every time."""
    chosen: list[Path] = []
    for pattern in ("flowers5/*/*.jpg", "coco128/images/**/*.jpg"):
        chosen += random.Random(7).sample(sorted((shared / "data").glob(pattern)), 30)
    return [read_image(path).pixels for path in chosen]


@pytest.fixture(scope="module")
def measures(clean: list[Pixels]) -> Callable[[Degrade], list[dict[str, float | None]]]:
    def compute(degrade: Degrade) -> list[dict[str, float | None]]:
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda a: measure(degrade(a)), clean))

    return compute


@pytest.fixture(scope="module")
def of_clean(measures):
    return measures(lambda a: a)


def auc(clean, degraded, name: str) -> float:
    from sklearn.metrics import roc_auc_score

    sign = 1 if MEASURES[name].bad > MEASURES[name].good else -1
    values = [sign * (m[name] or 0) for m in (*clean, *degraded)]
    return roc_auc_score([0] * len(clean) + [1] * len(degraded), values)


CASES = [
    ("blur", "sigma 1", blurred(1), 0.95),
    ("blur", "sigma 2", blurred(2), 0.99),
    ("blur", "sigma 4", blurred(4), 0.99),
    ("blur", "sigma 2, noise 10", lambda a: noisy(10)(blurred(2)(a)), 0.98),
    ("blur", "motion 15", moved(15, 30), 0.97),
    ("motion_blur", "motion 15", moved(15, 30), 0.9),
    ("noise", "sigma 10", noisy(10), 0.93),
    ("noise", "sigma 20", noisy(20), 0.98),
    ("noise", "sigma 40", noisy(40), 0.99),
    ("impulse_noise", "1 %", impulses(0.01), 0.99),
    ("impulse_noise", "10 %", impulses(0.1), 0.99),
    ("blockiness", "quality 10", jpeg(10), 0.98),
    ("blockiness", "quality 30", jpeg(30), 0.93),
    ("jpeg_quality", "quality 10", jpeg(10), 0.99),
    ("jpeg_quality", "quality 50", jpeg(50), 0.97),
    ("overexposure", "x 2", exposed(2, 2, 2), 0.96),
    ("overexposure", "x 3", exposed(3, 3, 3), 0.97),
    ("underexposure", "x 0.5", exposed(0.5, 0.5, 0.5), 0.95),
    ("underexposure", "x 0.3", exposed(0.3, 0.3, 0.3), 0.99),
    ("contrast", "x 0.5", faded(0.5), 0.96),
    ("contrast", "x 0.3", faded(0.3), 0.98),
    ("color_cast", "warm light", exposed(1.3, 1, 0.7), 0.85),
    ("color_cast", "cold light", exposed(0.6, 0.8, 1.2), 0.85),
    ("border", "letterbox", letterboxed, 0.95),
]


@pytest.mark.parametrize(("name", "what", "degrade", "least"), CASES, ids=[f"{n}: {w}" for n, w, *_ in CASES])
def test_degraded_photos_are_told_from_clean_ones(of_clean, measures, name, what, degrade, least):
    found = auc(of_clean, measures(degrade), name)
    print(f"\n{name:14} {what:18} ROC AUC {found:.3f}")
    assert found >= least


@pytest.mark.parametrize("sigma", [5, 10, 20, 40])
def test_noise_is_within_a_tenth_of_the_truth(of_clean, measures, sigma):
    """The truth is the noise added and what the photo had."""
    expected = np.hypot(sigma, [m["noise"] for m in of_clean])
    found = np.array([m["noise"] for m in measures(noisy(sigma))])
    assert np.median(found / expected) == pytest.approx(1, abs=0.05)
    assert np.mean(abs(found / expected - 1) <= 0.1) >= 0.85


def test_clean_photos_pass_and_degraded_ones_are_named(of_clean, measures):
    standard = Standard(MEASURES)

    def issues(found):
        return [judge(m, standard).issues for m in found]

    passing = sum("detection" in judge(m, standard).suits for m in of_clean) / len(of_clean)
    print(f"\nclean photos that suit detection: {passing:.2f}")
    assert passing >= 0.8
    expected = {
        "blur": blurred(2), "noise": noisy(20), "impulse_noise": impulses(0.02), "low_jpeg_quality": jpeg(30),
        "overexposure": exposed(2.5, 2.5, 2.5), "underexposure": exposed(0.4, 0.4, 0.4), "low_contrast": faded(0.4),
    }  # fmt: skip
    for issue, degrade in expected.items():
        recall = np.mean([issue in found for found in issues(measures(degrade))])
        false_alarms = np.mean([issue in found for found in issues(of_clean)])
        print(f"{issue:18} found {recall:.2f}, false alarms {false_alarms:.2f}")
        assert recall >= 0.8, issue
        assert false_alarms <= 0.1, issue


@pytest.mark.skipif(not metrics.has_pyiqa(), reason="needs the extra iqa")
@pytest.mark.parametrize(
    ("name", "expected", "tolerance"),
    [
        ("niqe", [15.656, 3.655, 3.234, 3.192, 9.073], 0.01),
        ("brisque", [94.644, -0.115, 1.075, 5.138, 66.835], 0.02),
        ("piqe", [100.0, 21.624, 35.865, 41.147, 76.949], 0.01),
    ],
)
def test_pyiqa_metrics_have_their_published_values(shared, name, expected, tolerance):
    folder = shared / "data" / "iqa_calibration" / "pyiqa" / "ResultsCalibra" / "dist_dir"
    compute = metrics.load(name, weights_dir=shared / "weights" / "iqa")
    found = [compute(read_image(folder / f"I{n}.bmp").pixels) for n in ("03", "04", "06", "08", "19")]
    assert found == pytest.approx(expected, abs=tolerance)
