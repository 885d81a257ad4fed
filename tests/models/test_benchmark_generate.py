"""The benchmark of generating runs, and its table says what it should."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT

KINDS = ("sd", "sdxl", "lcm")


def test_generating_is_compared_with_diffusers_alone() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "generate.py"), "--size", "tiny", "--images", "3"]
    options = ["--repeat", "1", "--batches", "1", "3", "--steps", "3", "--dtype", "float32"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    lines = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("|")]
    rows = [dict(zip(lines[0], (cell.strip() for cell in line), strict=True)) for line in lines[2:]]
    assert "cpu: " in done.stdout
    assert "load at the end" in done.stdout
    for kind in KINDS:
        its = [row for row in rows if row["model"] == kind]
        assert [(row["way"], row["batch"]) for row in its[:2]] == [("one by one", "1"), ("stage", "1")]
        assert its[0]["times one by one"] == "1.00"
        # The best batch may be 1.
        assert [(row["way"], row["batch"]) for row in its[2:]] in ([], [("diffusers", "3"), ("stage", "3")])
        assert all(float(row["images/s"]) > 0 and float(row["times one by one"]) > 0 for row in its)
        assert all(float(row["times diffusers at the same batch"]) > 0 for row in its[1:])
    assert {row["model"] for row in rows} == set(KINDS)
