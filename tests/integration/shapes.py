"""Pictures of the shapes world in a dataset, and the tiny models that were trained on that world."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.zoo import shapes_world as world

ROOT = Path(__file__).parents[2]


def trained(name: str) -> str:
    """The folder of a model of the zoo, e.g. ``"blip"``; the test is skipped where there is none."""
    places = [ROOT / "tests/zoo/models" / name, ROOT.parent / "shared/reference/zoo/models" / name]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        pytest.skip(f"there is no trained {name} in tests/zoo/models")
    return str(found)


def scenes_of_one(count: int, seed: int = 77) -> list[world.Scene]:
    """Scenes of one large shape each, of all colours in turn."""
    colours = list(world.COLOURS)
    return [world.random_scene(seed + n, 1, colour=colours[n % 4], size="large") for n in range(count)]


def fill(dataset: Any, folder: Path, scenes: Sequence[world.Scene]) -> list[str]:
    """Adds scenes to a dataset as PNG files; returns the colours of their first shapes, in the dataset's order."""
    import cv2
    import fiftyone as fo

    samples = []
    for number, scene in enumerate(scenes):
        path = folder / f"scene-{number:03d}.png"
        cv2.imwrite(str(path), scene.image[..., ::-1])
        samples.append(fo.Sample(filepath=str(path)))
    dataset.add_samples(samples, progress=False)
    return [scene.things[0].colour for scene in scenes]


def broken_image(folder: Path, name: str = "broken.png") -> str:
    """A file that begins like a PNG and goes on as nothing."""
    path = folder / name
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"nothing" * 20)
    return str(path)
