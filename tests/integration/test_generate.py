"""Images from text: the right things are to be seen on them, and they come again from the same seed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
import torch
from PIL import Image

import fiftyone_idsynth as ids
from fiftyone_idsynth.errors import IdsynthError, ParameterError, UsageError
from tests.zoo import shapes_world
from tests.zoo.common import MODELS

MODEL = str(MODELS / "sd")
COLOURS = list(shapes_world.COLOURS)
QUICK: dict[str, Any] = {"model": MODEL, "steps": 12, "guidance": 4.0, "device": "cpu", "progress": False}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pixels(sample: Any) -> np.ndarray:
    return np.asarray(Image.open(sample.filepath).convert("RGB"))


def colour_of(picture: np.ndarray) -> str:
    """The nearest colour of the world, by the mean of what is not grey."""
    spread = picture.max(2).astype(int) - picture.min(2)
    seen = picture[spread > 80].mean(0)
    return min(COLOURS, key=lambda name: float(np.linalg.norm(seen - shapes_world.COLOURS[name])))


def test_a_prompt_gives_the_colour_that_it_asks_for(dataset: Any) -> None:
    prompts = [f"a large {colour} {shape} on stripes" for colour in COLOURS for shape in ("circle", "square")]
    report = ids.generate(dataset, prompts=prompts, count=8, **QUICK)
    assert report.created == 8
    dataset.reload()
    right = [sample.lineage.params["prompt"].split()[2] == colour_of(pixels(sample)) for sample in dataset]
    assert sum(right) >= 7
    assert dataset.distinct("source.kind") == ["generated"]
    assert dataset.count_sample_tags() == {"synthetic": 8}
    kept = dataset.first().lineage.params
    assert kept["model"] == MODEL
    assert kept["revision"]
    assert (kept["steps"], kept["guidance"], kept["scheduler"]) == (12, 4.0, "ddim")
    assert (kept["width"], kept["height"]) == (64, 64)
    assert kept["safety_checker"] == "none in the model"


def test_the_same_seed_gives_the_same_picture_in_any_batch(dataset: Any) -> None:
    other = fo.Dataset()
    prompts = [f"a small {colour} triangle on noise" for colour in COLOURS]
    ids.generate(dataset, prompts=prompts, count=6, batch_size=6, **QUICK)
    ids.generate(other, prompts=prompts[::-1], count=4, batch_size=1, **QUICK)
    dataset.reload(), other.reload()
    first = {sample.lineage.key: sample for sample in dataset}
    assert len(first) == 6
    assert set(other.values("lineage.key")) <= set(first)
    for sample in other:
        assert sample.lineage.seed == first[sample.lineage.key].lineage.seed
        difference = np.abs(pixels(sample).astype(int) - pixels(first[sample.lineage.key]))
        assert difference.max() <= 2  # sums of another order may round to a neighbouring level
        assert (difference > 0).mean() < 0.01
    repeated = [sample for sample in dataset if sample.lineage.params["prompt"] == prompts[0]]
    assert len({sample.lineage.seed for sample in repeated}) == 2
    assert not np.array_equal(pixels(repeated[0]), pixels(repeated[1]))
    other.delete()


def test_again_makes_nothing_and_more_makes_the_rest(dataset: Any) -> None:
    settings = {**QUICK, "prompts": ["a red circle", "a blue square"]}
    ids.generate(dataset, count=2, **settings)
    dataset.reload()
    before = dict(zip(dataset.values("id"), dataset.values("filepath"), strict=True))
    again = ids.generate(dataset, count=2, **settings)
    assert (again.created, again.skipped) == (0, 2)
    more = ids.generate(dataset, count=5, **settings)
    assert (more.created, more.skipped) == (3, 2)
    dataset.reload()
    assert before.items() <= dict(zip(dataset.values("id"), dataset.values("filepath"), strict=True)).items()
    changed = ids.generate(dataset, count=2, **{**settings, "steps": 8})
    assert changed.created == 2


def test_killed_and_resumed_equals_uninterrupted(dataset: Any, tmp_path: Path) -> None:
    settings = {
        "prompts": [f"a {c} {s}" for c in COLOURS for s in shapes_world.SHAPES], "count": 60, **QUICK, "steps": 6,
    }  # fmt: skip
    program = (
        "import json, sys, torch; torch.set_num_threads(1); import fiftyone_idsynth as ids; "
        "import fiftyone_idsynth.engine as e; e._WRITE_EVERY_SECONDS = 0.1; "
        "ids.generate(sys.argv[1], **json.loads(sys.argv[2]))"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", program, dataset.name, json.dumps(settings)], cwd=Path(__file__).parents[2]
    )
    deadline = time.monotonic() + 240
    while len(dataset) < 4 and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
        dataset.reload()
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    dataset.reload()
    made = len(dataset)
    assert 4 <= made < 60
    report = ids.generate(dataset, **settings)
    assert report.created == 60 - made
    whole = fo.Dataset()
    ids.generate(whole, **settings)
    dataset.reload(), whole.reload()
    once, twice = ({sample.lineage.key: pixels(sample) for sample in one} for one in (whole, dataset))
    assert once.keys() == twice.keys()
    assert max(int(np.abs(once[key].astype(int) - twice[key]).max()) for key in once) <= 2
    whole.delete()


def test_subjects_share_the_count_and_become_classes(dataset: Any) -> None:
    report = ids.generate(
        dataset, subject=("red circle", "blue square"), count=6, class_field="kind", tags=("train",),
        negative_prompt="blurry", templates=["a photo of {subject} on {setting}"], **QUICK,
    )  # fmt: skip
    dataset.reload()
    assert report.created == 6
    assert dataset.count_values("kind.label") == {"red circle": 3, "blue square": 3}
    assert dataset.count_sample_tags() == {"synthetic": 6, "train": 6}
    assert set(dataset.values("lineage.params.negative_prompt")) == {"blurry"}
    assert len(set(dataset.values("lineage.params.prompt"))) == 6


def test_a_dry_run_shows_prompts_and_time_and_makes_nothing() -> None:
    report = ids.generate("only a plan", subject="red circle", count=500, dry_run=True, **QUICK)
    assert report.outputs["images to make"] == 500
    assert report.outputs["seconds"] > 0
    assert len(report.outputs["prompts"]) == 10
    assert all("red circle" in prompt for prompt in report.outputs["prompts"])
    assert report.outputs["distinct-2"] > 0
    assert any("take about" in note for note in report.notes)
    assert not fo.dataset_exists("only a plan")


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        ({}, UsageError, "say what the images shall show"),
        ({"subject": "x", "width": 60}, ParameterError, "width=60: must divide by 8 .* 56 or 64"),
        ({"subject": "x", "model": str(MODELS / "wd14")}, IdsynthError, "not an image generator"),
        ({"subject": "x", "model": "/nowhere"}, IdsynthError, "there is no folder"),
        ({"subject": "x", "loras": {"/nowhere.safetensors": 1.0}}, IdsynthError, "nowhere"),
        ({"subject": "x", "templates": ["a photo of {subjekt}"]}, UsageError, "subjekt|subject"),
        ({"subject": "x", "scheduler": "eular"}, UsageError, "did you mean 'euler'"),
        ({"subject": "x", "steps": 0}, UsageError, "must be between 1 and 1000"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(wrong: Any, kind: type, message: str, dataset: Any) -> None:
    with pytest.raises(kind, match=message):
        ids.generate(dataset, **{**QUICK, "count": 1, **wrong})
    dataset.reload()
    assert len(dataset) == 0


def test_what_is_over_the_limit_is_said(dataset: Any) -> None:
    long = "a red circle " + "on stripes " * 60 + "with a triangle"
    report = ids.generate(dataset, prompts=[long], count=1, **QUICK)
    assert report.created == 1
    assert any("does not read 'on stripes" in note or "does not read 'stripes" in note for note in report.notes)


def test_a_full_disk_keeps_what_is_finished(dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from fiftyone_idsynth import media

    real, written = media.write_atomically, []

    def fails(path: Any, data: bytes) -> None:
        if len(written) == 3:
            raise media.storage_error(OSError(28, "No space left on device", str(path)), str(path))
        written.append(path)
        real(path, data)

    settings = {**QUICK, "prompts": [f"a {colour} circle" for colour in COLOURS], "batch_size": 1}
    monkeypatch.setattr(media, "write_atomically", fails)
    with pytest.raises(IdsynthError, match="space"):
        ids.generate(dataset, count=4, **settings)
    dataset.reload()
    assert len(dataset) == 3
    monkeypatch.undo()
    assert ids.generate(dataset, count=4, **settings).created == 1
