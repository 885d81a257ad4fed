"""filter_irrelevant with models that understand the shapes world: tags by a tagger, likeness by a CLIP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fiftyone_idsynth as ids
from tests.zoo import evaluate
from tests.zoo import shapes_world as world
from tests.zoo.common import MODELS

PICTURES = 120


@pytest.fixture
def shapes(dataset: Any, tmp_path: Path) -> Any:
    """Pictures of one shape each, with its name and its shape as classes."""
    import fiftyone as fo

    scenes = evaluate.exactly(91, PICTURES, 1)
    samples = []
    for number, (scene, picture) in enumerate(zip(scenes, evaluate.pictures(scenes), strict=True)):
        path = tmp_path / f"{number}.png"
        picture.save(path)
        thing = scene.things[0]
        samples.append(
            fo.Sample(
                filepath=str(path),
                shape=fo.Classification(label=thing.shape),
                colour=fo.Classification(label=thing.colour),
            )
        )
    dataset.add_samples(samples, progress=False)
    return dataset


def test_statistics_of_a_real_taggers_tags(shapes: Any) -> None:
    ids.tag(shapes, model=str(MODELS / "wd14"), device="cpu", progress=False)
    report = ids.filter_irrelevant(shapes, "photos of triangles", apply=True, ground_truth="shape", progress=False)
    condemning = set(report.outputs["tags that condemn"])
    assert {"circle", "square"} <= condemning
    assert not any("triangle" in tag for tag in condemning)
    assert report.outputs["against ground truth"]["accuracy"] >= 0.95
    kept = shapes.match_tags("rejected", bool=False).count_values("shape.label")
    assert kept["triangle"] >= 0.95 * sum(kept.values())


def test_likeness_to_a_text_by_a_real_clip(shapes: Any) -> None:
    others = tuple(colour for colour in world.COLOURS if colour != "red")
    report = ids.filter_irrelevant(
        shapes, "red", method="similarity", model=str(MODELS / "clip"), negatives=others, device="cpu",
        ground_truth="colour", apply=True, progress=False,
    )  # fmt: skip
    assert report.outputs["against ground truth"]["accuracy"] >= 0.95
    assert set(shapes.match_tags("rejected").count_values("rejected.reason")) == {"irrelevant"}
    assert str(MODELS / "clip") in shapes.get_run_info(report.run_key).config.models


def test_likeness_to_good_examples_by_a_real_clip(shapes: Any) -> None:
    from fiftyone import ViewField as F

    shapes.match(F("colour.label") == "blue").limit(8).tag_samples("good")
    report = ids.filter_irrelevant(
        shapes, "blue", method="similarity", model=str(MODELS / "clip"),
        negatives=tuple(colour for colour in world.COLOURS if colour != "blue"), good=f"{shapes.name}#good",
        device="cpu", ground_truth="colour", progress=False,
    )  # fmt: skip
    assert report.outputs["against ground truth"]["accuracy"] >= 0.9
