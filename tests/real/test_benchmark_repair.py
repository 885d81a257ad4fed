"""The benchmark of repairs in small: no repair makes photographs worse on average."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

LEAST_GAINS = {
    ("blur", "sigma 1"): 0, ("blur", "sigma 2"): 1, ("noise", "sigma 20"): 5,
    ("impulse noise", "1 %"): 8, ("impulse noise", "10 %"): 10, ("JPEG", "quality 10"): 0.3,
    ("JPEG", "quality 30"): 0.1, ("JPEG", "quality 50"): 0, ("exposure", "x 0.3"): 10, ("exposure", "x 3"): 3,
    ("colour cast", "warm"): 0, ("colour cast", "strong"): 3, ("contrast", "x 0.3"): 8,
}  # fmt: skip
"""Defect and level -> how much PSNR rises at least, in dB."""


@pytest.fixture(scope="module")
def bench() -> Any:
    spec = importlib.util.spec_from_file_location(
        "benchmark_repair", Path(__file__).parents[2] / "benchmarks" / "repair.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def photos(bench: Any, shared: Path) -> list[np.ndarray]:
    return [pixels for pixels in bench.read_photos(shared / "data", 12) if bench.is_clean(pixels)][:5]


def test_no_repair_lowers_psnr_on_average(bench: Any, photos: list[np.ndarray]) -> None:
    assert len(photos) == 5
    chosen = [defect for defect in bench.DEFECTS if (defect.name, defect.level) in LEAST_GAINS]
    rows = bench.run(photos, chosen, peer=False)
    print("\n" + bench.table(rows))
    assert len(rows) == len(LEAST_GAINS)
    for row in rows:
        assert row.psnr_after >= row.psnr_before - 1e-9, row
        assert row.kept > 0 or row.psnr_after == row.psnr_before
    for row in rows:
        assert row.psnr_after - row.psnr_before >= LEAST_GAINS[row.defect, row.level], row
    for row in rows:
        if row.measure == "jpeg_quality":
            assert row.exact == 1
            assert row.auc > 0.95
        if row.measure == "noise":
            assert row.estimate == pytest.approx(float(row.level.split()[1]), rel=0.15)
    assert all(row.ssim_after > row.ssim_before for row in rows if row.kept > 0.5 and row.defect != "colour cast")


def test_clean_photos_are_left_alone(bench: Any, photos: list[np.ndarray]) -> None:
    (row,) = bench.run(photos, [bench.Defect("none", "-", "blur", None, None, lambda pixels: pixels)], peer=False)
    assert row.kept == 0
    assert row.auc == 0.5
