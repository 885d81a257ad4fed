"""The benchmark of the learning loop runs, and its table says what it should."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT


def test_the_loop_runs_and_its_tables_are_printed() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "learn.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    last = next(line for line in done.stdout.splitlines() if line.startswith("seed 0"))
    assert last.startswith("seed 0: 60 labels")
    assert float(last.rpartition(" ")[2]) > 0.8
    assert "| stable predictions: kappa >= 0.99 |" in done.stdout
