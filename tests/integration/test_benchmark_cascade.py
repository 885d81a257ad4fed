"""The benchmark of the label cascade runs, and its table says what it should."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT


def test_the_cascade_keeps_its_promise_and_costs_less_than_labelling_everything() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "cascade.py"), "--quick", "--jobs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("|")]
    rows = {line[1]: dict(zip(lines[0], line, strict=True)) for line in lines[2:]}
    assert set(rows) == {"cascade", "naive"}
    assert rows["cascade"]["kept"] == "2 of 2"
    assert 0 < float(rows["cascade"]["per label gained"]) < 2
    assert "95% promised" in done.stderr
