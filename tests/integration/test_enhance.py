"""Enhance on a real database: photographs with known defects, their labels, broken and odd files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from fiftyone_idsynth.enhancement.enhance import enhance as stage
from fiftyone_idsynth.enhancement.mending import replay
from fiftyone_idsynth.errors import EmptyViewError, ParameterError
from fiftyone_idsynth.media import read_image


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    from skimage import data

    return cv2.resize(data.astronaut(), (300, 260), interpolation=cv2.INTER_AREA)


def noisy(pixels: np.ndarray, sigma: float) -> np.ndarray:
    return np.clip(pixels + np.random.default_rng(0).normal(0, sigma, pixels.shape), 0, 255).astype(np.uint8)


def add(dataset: Any, folder: Path, pictures: dict[str, np.ndarray], **more: Any) -> dict[str, Any]:
    """Adds pictures with a box, a mask of the whole picture and a class; returns the samples by name."""
    import fiftyone as fo

    samples = {}
    for name, pixels in pictures.items():
        path = folder / f"{name}.{'jpg' if name == 'compressed' else 'png'}"
        Image.fromarray(pixels).save(path, **({"quality": 12} if name == "compressed" else {}))
        mask = np.zeros(pixels.shape[:2], np.uint8)
        mask[10:40] = 3
        samples[name] = fo.Sample(
            filepath=str(path), tags=["train", "mine"],
            ground_truth=fo.Detections(
                detections=[fo.Detection(label="face", bounding_box=[0.25, 0.1, 0.5, 0.4], mask=np.ones((5, 4), bool))]
            ),
            area=fo.Segmentation(mask=mask), classification=fo.Classification(label="person"), **more,
        )  # fmt: skip
    dataset.add_samples(samples.values(), progress=False)
    return samples


def made(dataset: Any) -> Any:
    from fiftyone import ViewField as F

    return dataset.match(F("source.kind") == "enhanced") if dataset.has_field("source") else dataset.limit(0)


def enhance(samples: Any, **options: Any) -> Any:
    return stage(samples, progress=False, **options)


@pytest.fixture
def damaged(dataset: Any, tmp_path: Path, photo: np.ndarray) -> Any:
    add(
        dataset,
        tmp_path,
        {
            "noisy": noisy(photo, 25),
            "blurred": cv2.GaussianBlur(photo, (0, 0), 2),
            "dark": (photo * 0.35).astype(np.uint8),
            "compressed": photo,
            "clean": photo,
        },
    )
    return dataset


def test_defects_are_repaired_beside_the_originals(damaged: Any, photo: np.ndarray) -> None:
    before = {s.id: Path(s.filepath).read_bytes() for s in damaged}
    report = enhance(damaged)
    assert (report.created, report.processed, report.failed) == (4, 5, [])
    assert report.outputs["enhanced"] == 4
    assert report.outputs["no better"] == 1
    assert report.outputs["mean score"] > report.outputs["mean score before"] + 0.2
    rows = {row["defect"]: row for row in report.outputs["defects"]}
    assert {"noise", "blur", "underexposure", "low_jpeg_quality"} <= set(rows)
    assert rows["noise"]["before"] == pytest.approx(25, rel=0.1)
    assert rows["noise"]["after"] < 6
    assert all(row["left"] <= row["found"] for row in rows.values())
    assert "defect noise" in str(report)
    assert len(damaged) == 9
    assert all(Path(damaged[i].filepath).read_bytes() == content for i, content in before.items())
    for new in made(damaged):
        parent = damaged[new.lineage.parents[0]]
        pixels = read_image(new.filepath).pixels
        original = read_image(parent.filepath).pixels
        assert cv2.PSNR(photo, pixels) > cv2.PSNR(photo, original) + 0.2
        assert np.array_equal(replay(original, new.lineage.params["steps"]), pixels)
        assert new.lineage.params["score"] > new.lineage.params["score_before"]
        assert new.lineage.stage == "enhance"


def test_labels_and_split_are_carried_unchanged(damaged: Any) -> None:
    enhance(damaged)
    for new in made(damaged):
        parent = damaged[new.lineage.parents[0]]
        box, old = new.ground_truth.detections[0], parent.ground_truth.detections[0]
        assert box.bounding_box == old.bounding_box
        assert np.array_equal(box.mask, old.mask)
        assert box.inherited_from == parent.id
        assert np.array_equal(new.area.get_mask(), parent.area.get_mask())
        assert new.classification.label == "person"
        assert new.tags == ["enhanced", "train"]


def test_a_second_run_makes_nothing_and_tries_nothing(damaged: Any) -> None:
    first = enhance(damaged)
    again = enhance(damaged)
    assert (again.created, again.processed, again.skipped) == (0, 0, 5)
    assert again.outputs == first.outputs
    assert enhance(damaged, task="generation").processed == 5


def test_an_interrupted_run_goes_on(damaged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from fiftyone_idsynth.enhancement import enhancing

    real, calls = enhancing.mend, []

    def interrupted(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(enhancing, "mend", interrupted)
    with pytest.raises(KeyboardInterrupt):
        enhance(damaged, num_workers=1)
    done = len(made(damaged))
    monkeypatch.setattr(enhancing, "mend", real)
    enhance(damaged, num_workers=1)
    keys = made(damaged).values("lineage.key")
    assert 0 < done <= 4
    assert len(keys) == len(set(keys)) == 4


def test_relatives_stay_in_one_split(damaged: Any) -> None:
    from fiftyone_idsynth.curation.splits import split

    enhance(damaged)
    damaged.untag_samples(["train"])
    split(damaged, fractions={"train": 0.5, "test": 0.5}, progress=False)
    for new in made(damaged):
        parent = damaged[new.lineage.parents[0]]
        assert set(new.tags) & {"train", "test"} == set(parent.tags) & {"train", "test"}


def test_originals_can_be_rejected(damaged: Any) -> None:
    report = enhance(damaged, reject_originals=True)
    assert report.rejected == {"enhanced": 4}
    rejected = damaged.match_tags("rejected")
    assert set(rejected.values("id")) == {parents[0] for parents in made(damaged).values("lineage.parents")}


def test_odd_and_broken_files_cost_only_themselves(dataset: Any, tmp_path: Path, photo: np.ndarray) -> None:
    import fiftyone as fo

    dim = (photo * 0.35).astype(np.uint8)
    files = {name: str(tmp_path / name) for name in ("dot.png", "grey.png", "alpha.png", "deep.png", "broken.jpg")}
    Image.new("RGB", (1, 1), (9, 9, 9)).save(files["dot.png"])
    grey = cv2.cvtColor(dim, cv2.COLOR_RGB2GRAY)
    Image.fromarray(grey).save(files["grey.png"])
    alpha = np.full(dim.shape[:2], 255, np.uint8)
    alpha[:5, :5] = 0
    Image.fromarray(np.dstack([dim, alpha])).save(files["alpha.png"])
    cv2.imwrite(files["deep.png"], grey.astype(np.uint16) * 257)
    Path(files["broken.jpg"]).write_bytes(b"\xff\xd8\xff\xe0 no picture")
    dataset.add_samples([fo.Sample(filepath=path) for path in [*files.values(), str(tmp_path / "gone.png")]],
                        progress=False)  # fmt: skip
    report = enhance(dataset, measures=["underexposure", "noise", "blur"])
    assert report.created == 3
    assert sorted(why.partition(":")[0] for _, why in report.failed) == ["missing", "truncated"]
    assert any("transparent" in note for note in report.notes)
    for new in made(dataset):
        pixels = read_image(new.filepath).pixels
        assert pixels.shape == photo.shape
        assert np.percentile(pixels, 98) > 200
    assert len(dataset) == 9


def test_too_little_memory_costs_only_that_image(damaged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from fiftyone_idsynth.enhancement import enhancing

    real = enhancing.mend

    def short(pixels: np.ndarray, *args: Any, **options: Any) -> Any:
        if pixels.mean() < 60:
            raise MemoryError
        return real(pixels, *args, **options)

    monkeypatch.setattr(enhancing, "mend", short)
    report = enhance(damaged)
    assert report.created == 3
    assert ["not enough memory" in why for _, why in report.failed] == [True]


def test_wrong_parameters_are_refused(damaged: Any) -> None:
    with pytest.raises(ParameterError, match="sharpen"):
        enhance(damaged, repairs=["sharpen"])
    with pytest.raises(ParameterError, match="min_fidelity"):
        enhance(damaged, min_fidelity=2)
    assert made(damaged).count() == 0
    with pytest.raises(EmptyViewError):
        enhance(damaged.limit(0))
