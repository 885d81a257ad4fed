"""In 16 bits, where the processor computes in them, models say what they say in 32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fiftyone_idsynth.models.loading import find_model
from fiftyone_idsynth.models.options import Options, has_bfloat16
from fiftyone_idsynth.models.roles import Captioner, Finder, Matcher
from tests.zoo import shapes_world
from tests.zoo.common import MODELS

PICTURES = 40


@pytest.fixture(scope="module")
def scenes() -> list[shapes_world.Scene]:
    return list(shapes_world.scenes(770, PICTURES, 1))


def both(role: Any, model: str) -> tuple[Any, Any]:
    return tuple(find_model(role, str(MODELS / model), Options("cpu", dtype)) for dtype in ("float32", "bfloat16"))


def test_auto_takes_what_the_processor_has_instructions_for() -> None:
    wanted = torch.bfloat16 if has_bfloat16() else torch.float32
    assert Options("cpu").torch_dtype() is wanted
    assert Options("cpu", "float32").torch_dtype() is torch.float32


def test_captions_are_the_same(scenes: list[shapes_world.Scene]) -> None:
    exact, short = (model.caption([s.image for s in scenes]) for model in both(Captioner, "blip"))
    assert sum(a == b for a, b in zip(exact, short, strict=True)) >= PICTURES - 1


def test_classes_are_the_same(scenes: list[shapes_world.Scene]) -> None:
    names = [f"a {colour} {shape}" for colour in shapes_world.COLOURS for shape in shapes_world.SHAPES]
    exact, short = (model.match([s.image for s in scenes], names) for model in both(Matcher, "clip"))
    assert (exact.argmax(1) == short.argmax(1)).mean() >= 0.95
    assert np.abs(exact - short).max() < 0.1


def test_boxes_are_the_same(scenes: list[shapes_world.Scene]) -> None:
    overlaps = []
    exact, short = both(Finder, "clipseg")
    for scene in scenes:
        name = f"{scene.things[0].colour} {scene.things[0].shape}"
        found = [model.find([scene.image], [name], threshold=0.5, one_box=True)[0] for model in (exact, short)]
        assert len(found[0]) == len(found[1])
        overlaps += [iou(a.box, b.box) for a, b in zip(*found, strict=True)]
    assert len(overlaps) >= PICTURES * 0.9
    assert np.mean(overlaps) >= 0.97


def iou(a: Any, b: Any) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(0.0, width) * max(0.0, height)
    return common / (a[2] * a[3] + b[2] * b[3] - common)
