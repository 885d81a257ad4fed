"""The benchmark of active learning runs, and its table says what it should."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT


def test_the_default_needs_fewer_labels_than_random_choice() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "active_learning.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("|")]
    rows = {line[0]: dict(zip(lines[0], line, strict=True)) for line in lines[2:]}
    for level in ("labels @ 95 %", "labels @ 98 %"):
        needed = {name: float(row[level].split()[0]) for name, row in rows.items()}
        assert needed["mixed"] < needed["random"]
    assert "kept: batch 10: mixed" in done.stdout
