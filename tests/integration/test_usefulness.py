"""What a part of the data is worth: found where it helps, not claimed where it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_idsynth as ids
from fiftyone_idsynth import fields
from fiftyone_idsynth.errors import EmptyViewError
from fiftyone_idsynth.media import media_store
from tests.models import tiny_detectors, tiny_segmenters
from tests.models.test_training import one_thread, shapes

__all__ = ["one_thread", "shapes"]


@pytest.fixture
def digits(dataset: Any) -> Any:
    """Handwritten digits as embeddings: 60 real ones, 300 of a part that helps, 60 of noise, 300 to test with."""
    from sklearn.datasets import load_digits

    images, classes = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(images))
    samples = []
    for number, row in enumerate(order[:720]):
        tag = "real" if number < 60 else "more" if number < 360 else "noise" if number < 420 else "test"
        vector = rng.permutation(images[row]) if tag == "noise" else images[row]
        samples.append(
            fo.Sample(
                filepath=f"/nowhere/digit-{number:03}.png",
                embedding=(vector / 16).astype(np.float32),
                ground_truth=fo.Classification(label=str(classes[row])),
                tags=[tag],
            )
        )
    dataset.add_samples(samples, progress=False)
    return dataset


def test_a_part_that_helps_is_found_and_the_gain_is_kept(digits: Any) -> None:
    view = digits.match_tags(["real", "more", "test"])
    report = ids.measure_usefulness(view, part=f"{digits.name}#more", progress=False)
    found = report.outputs
    assert found["images"] == {"with": 360, "without": 60, "test": 300}
    assert found["gain"] == pytest.approx(found["with"] - found["without"], abs=1e-5)
    assert found["gain"] > 0.03
    low, high = found["interval"]
    assert 0 < low < found["gain"] < high
    assert not found["includes_zero"]
    assert "better" in found["verdict"]
    digits.reload()
    assert [value["gain"] for value in digits.info["usefulness"].values()] == [found["gain"]]
    # It is the difference of what two trainings and two predictions give.
    assert ids.measure_usefulness(view, part=view.match_tags("more"), progress=False).outputs["gain"] == found["gain"]


def test_a_part_that_is_worth_nothing_is_not_praised(digits: Any) -> None:
    digits.match_tags("more").limit(240).tag_samples("rejected")
    view = digits.match_tags(["real", "more", "noise", "test"])
    found = ids.measure_usefulness(view, part=view.match_tags("noise"), progress=False).outputs
    assert found["includes_zero"] or found["gain"] < 0
    few = view.match_tags(["real", "more"]).limit(2)
    found = ids.measure_usefulness(view, part=few, progress=False).outputs
    assert found["includes_zero"]
    assert "no gain is shown" in found["verdict"]


def test_what_is_tested_on_is_real_and_unrelated(digits: Any) -> None:
    fields.declare(digits, "lineage", "source")
    tests = digits.match_tags("test")
    made, parent = tests.first(), tests.last()
    made["source"] = fields.document({"kind": "generated"})
    made.save()
    child = digits.match_tags("more").first()
    child["lineage"] = fields.document({"parents": [parent.id]})
    child.save()
    report = ids.measure_usefulness(digits, part=digits.match_tags("more"), progress=False)
    assert report.outputs["images"]["test"] == 299
    assert report.outputs["images"]["with"] == 419
    assert any("were made, not taken" in note for note in report.notes)


def test_what_is_wrong_is_said(digits: Any) -> None:
    with pytest.raises(EmptyViewError, match="nothing to leave out"):
        ids.measure_usefulness(digits, part=digits.match_tags("test"), progress=False)
    with pytest.raises(EmptyViewError, match="none would be left"):
        ids.measure_usefulness(digits, part=digits, progress=False)
    view = digits.match_tags(["real", "more"])
    with pytest.raises(EmptyViewError, match="nothing to test with"):
        ids.measure_usefulness(view, part=view.match_tags("more"), progress=False)


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_detectors_and_segmenters_are_compared(shapes: Any, tmp_path: Path, task: Any) -> None:
    maker = tiny_detectors.yolos if task == "detection" else tiny_segmenters.segformer
    report = ids.measure_usefulness(
        shapes, part=shapes.match_tags("test", bool=False).limit(16), task=task, model=str(maker(tmp_path / "base")),
        answers_field="boxes" if task == "detection" else "masks", epochs=2, repeats=2, learning_rate=1e-3,
        device="cpu", progress=False,
    )  # fmt: skip
    found = report.outputs
    assert found["metric"] == {"detection": "mAP", "segmentation": "mIoU"}[task]
    assert found["repeats"] == 2
    assert found["images"]["with"] == found["images"]["without"] + 16
    assert found["images"]["test"] == 16
    assert 0 <= found["with"] <= 1
    assert found["interval"][0] <= found["gain"] <= found["interval"][1]
    assert not list(Path(media_store(shapes).root).glob("usefulness/*"))
