"""The benchmark of the stages with models runs, and its table says what it should."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT

KINDS = ("tag", "caption", "detect", "filter_irrelevant")


def test_each_stage_is_compared_with_a_plain_loop() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "annotate.py"), "--size", "tiny", "--images", "3"]
    options = ["--repeat", "1", "--batches", "1", "3", "--new-tokens", "4"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    lines = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("|")]
    header, rows = lines[0], [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]
    assert "times the plain loop" in header
    assert "cpu: " in done.stdout
    assert "load at the end" in done.stdout
    for kind in KINDS:
        its = [row for row in rows if row["work"] == kind]
        assert [(row["way"], row["batch"]) for row in its[:2]] == [("plain loop", "1"), ("stage", "1")]
        assert its[0]["times the plain loop"] == "1.00"
        assert [row["batch"] for row in its[2:]] in ([], ["3"])  # the best may be batch 1
        assert all(float(row["images/s"]) > 0 and float(row["times the plain loop"]) > 0 for row in its)
    assert {row["work"] for row in rows} == set(KINDS)
