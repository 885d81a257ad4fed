"""Variants in a real database: labels stay true, nothing is lost, nothing leaks, everything can be made again."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

import fiftyone_idsynth as ids
from fiftyone_idsynth.augmentation.replay import replay
from fiftyone_idsynth.errors import EmptyViewError, IdsynthError, UsageError
from fiftyone_idsynth.media import decode_image, read_image

W, H = 96, 72


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (W, H), mode: str = "RGB") -> str:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 4), np.uint8), "RGBA").resize(size, Image.Resampling.BICUBIC)
    small.convert(mode).save(path)
    return str(path)


def disc(side: int = 20) -> np.ndarray:
    rows, columns = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    return rows**2 + columns**2 <= 1


def labelled(path: str, tags: tuple[str, ...] = ()) -> fo.Sample:
    """An image with labels of every kind; the whole mask shows the disc as class 3."""
    whole = np.zeros((H, W), np.uint8)
    whole[30:50, 40:60][disc()] = 3
    return fo.Sample(
        filepath=path, tags=list(tags),
        ground_truth=fo.Detections(detections=[
            fo.Detection(label="disc", bounding_box=[40 / W, 30 / H, 20 / W, 20 / H], mask=disc(), weight=2.5),
            fo.Detection(label="box", bounding_box=[0.1, 0.2, 0.25, 0.3], confidence=0.75),
        ]),
        outline=fo.Polylines(polylines=[
            fo.Polyline(label="disc", points=[[(40 / W, 30 / H), (60 / W, 30 / H), (60 / W, 50 / H), (40 / W, 50 / H)]],
                        closed=True, filled=True)]),
        centre=fo.Keypoints(keypoints=[fo.Keypoint(label="disc", points=[(50 / W, 40 / H), (float("nan"),) * 2])]),
        areas=fo.Segmentation(mask=whole),
        kind=fo.Classification(label="round"),
        caption="a disc",
    )  # fmt: skip


@pytest.fixture
def discs(dataset: Any, tmp_path: Path) -> Any:
    dataset.add_samples([labelled(picture(tmp_path / f"{n}.png", n)) for n in range(3)])
    return dataset


def variants_of(dataset: Any) -> list[Any]:
    return list(dataset.match_tags("augmented"))


def test_labels_of_every_kind_come_along_and_agree(discs: Any) -> None:
    pipeline = "[HorizontalFlip: {p: 1}, Affine: {p: 1, rotate: [-40, 40], scale: [0.8, 1.2]}]"
    report = ids.augment(discs, pipeline=pipeline, variants=4, progress=False)
    assert (report.created, report.failed) == (12, [])
    made = variants_of(discs)
    assert len(made) == 12
    for sample in made:
        found = {one.label: one for one in sample.ground_truth.detections}
        mask = sample.areas.get_mask() == 3
        rows, columns = np.nonzero(mask)
        height, width = mask.shape
        left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        tight = np.array([left / width, top / height, right / width, bottom / height])
        x, y, w, h = found["disc"].bounding_box
        np.testing.assert_allclose([x, y, x + w, y + h], tight, atol=1e-6)
        assert found["disc"].weight == 2.5
        assert found["disc"].inherited
        assert found["disc"].inherited_from == sample.lineage.parents[0]
        (cx, cy), unknown = sample.centre.keypoints[0].points
        assert mask[int(cy * height), int(cx * width)]
        assert np.isnan(unknown).all()
        corners = np.array(sample.outline.polylines[0].points[0])
        low, high = corners.min(axis=0), corners.max(axis=0)
        assert (low <= tight[:2] + 2 / W).all()
        assert (high >= tight[2:] - 2 / W).all()
        assert (sample.kind.label, sample.caption) == ("round", "a disc")


def test_a_variant_can_be_made_again_from_its_lineage(discs: Any) -> None:
    for preset, ext in (("detection", "png"), ("classification", "jpg")):
        ids.augment(discs, preset=preset, variants=3, image_format=ext, progress=False)
    made = variants_of(discs)
    assert len(made) == 18
    for sample in made:
        assert sample.lineage.params["pipeline"]
        np.testing.assert_array_equal(replay(discs, sample.id), read_image(sample.filepath).pixels)
        parent = read_image(discs[sample.lineage.parents[0]].filepath).pixels
        same_size = parent.shape == read_image(sample.filepath).pixels.shape
        assert not (same_size and (parent == read_image(sample.filepath).pixels).all()), "a copy is no variant"


def test_replay_does_not_need_the_labels_as_they_were(discs: Any) -> None:
    ids.augment(discs, transforms="safe_crop,zoom_out", variants=2, image_format="png", progress=False)
    for sample in discs.match_tags("augmented", bool=False):
        sample.ground_truth = None
        sample.save()
    for sample in variants_of(discs):
        np.testing.assert_array_equal(replay(discs, sample.id), read_image(sample.filepath).pixels)


def test_replay_says_what_it_cannot_make(discs: Any) -> None:
    with pytest.raises(UsageError, match="not made by augment"):
        replay(discs, discs.first().id)
    ids.augment(discs, progress=False)
    sample = variants_of(discs)[0]
    discs.delete_samples(sample.lineage.parents)
    with pytest.raises(UsageError, match="no longer"):
        replay(discs, sample.id)


def test_a_second_run_makes_nothing_twice_and_more_variants_add_to_the_earlier(discs: Any) -> None:
    ids.augment(discs, progress=False)
    first = {sample.id for sample in variants_of(discs)}
    again = ids.augment(discs, progress=False)
    assert (again.created, again.skipped) == (0, 3)
    more = ids.augment(discs, variants=2, progress=False)
    assert (more.created, more.skipped) == (3, 3)
    assert first < {sample.id for sample in variants_of(discs)}


def test_test_images_and_their_relatives_are_left_out(dataset: Any, tmp_path: Path) -> None:
    paths = [picture(tmp_path / f"{n}.png", n) for n in range(5)]
    tags = [("train",), ("test",), ("val",), (), ()]
    dataset.add_samples([labelled(path, tag) for path, tag in zip(paths, tags, strict=True)])
    dataset.add_sample_field("duplicate_group", fo.StringField)
    dataset.set_values("duplicate_group", [None, "a", None, "a", None])
    report = ids.augment(dataset, variants=2, progress=False)
    assert any("3 images of other splits" in note for note in report.notes)
    made = variants_of(dataset)
    parents = dataset.values("id")
    assert sorted({sample.lineage.parents[0] for sample in made}) == sorted([parents[0], parents[4]])
    assert {tuple(sorted(sample.tags)) for sample in made} == {("augmented", "train"), ("augmented",)}
    assert {sample.source.kind for sample in made} == {"augmented"}
    with pytest.raises(EmptyViewError, match="another split"):
        ids.augment(dataset.match_tags("test"), progress=False)
    ids.augment(dataset.match_tags("test"), splits=("test",), progress=False)
    assert {tuple(sorted(s.tags)) for s in dataset.match_tags(["augmented", "test"], all=True)} == {
        ("augmented", "test")
    }


def test_a_split_keeps_images_and_their_variants_together(dataset: Any, tmp_path: Path) -> None:
    dataset.add_samples([labelled(picture(tmp_path / f"{n}.png", n)) for n in range(10)])
    ids.augment(dataset, variants=3, progress=False)
    ids.split(dataset, fractions={"train": 0.5, "test": 0.5}, progress=False)
    split_of = {sample.id: set(sample.tags) & {"train", "test"} for sample in dataset}
    assert set(map(len, split_of.values())) == {1}
    for sample in variants_of(dataset):
        assert split_of[sample.id] == split_of[sample.lineage.parents[0]]


def test_objects_that_leave_the_picture_are_dropped_by_rule(dataset: Any, tmp_path: Path) -> None:
    boxes = {"left": [0.0, 0.4, 0.2, 0.2], "right": [0.8, 0.4, 0.2, 0.2], "middle": [0.45, 0.4, 0.2, 0.2]}
    labels = fo.Detections(detections=[fo.Detection(label=n, bounding_box=b) for n, b in boxes.items()])
    dataset.add_sample(fo.Sample(filepath=picture(tmp_path / "a.png"), ground_truth=labels))
    half = "[Crop: {p: 1, x_min: 48, y_min: 0, x_max: 96, y_max: 72}]"  # its border cuts a quarter off `middle`
    report = ids.augment(dataset, pipeline=half, min_visibility=0.6, progress=False)
    (made,) = variants_of(dataset)
    found = {one.label: one.bounding_box for one in made.ground_truth.detections}
    assert found["right"] == pytest.approx([0.6, 0.4, 0.4, 0.2])
    assert found["middle"] == pytest.approx([0, 0.4, 0.3, 0.2])
    assert "left" not in found
    assert report.outputs["objects dropped"] == {"not in the picture": 1}
    assert report.outputs["cut at the border"] == 1
    strict = ids.augment(dataset, pipeline=half, min_visibility=0.8, progress=False)
    assert strict.outputs["objects dropped"] == {"less visible than min_visibility": 1, "not in the picture": 1}


def test_copies_are_no_variants(discs: Any) -> None:
    report = ids.augment(discs, pipeline="[Blur: {p: 0}]", progress=False)
    assert report.created == 0
    assert all("unchanged" in why for _, why in report.failed)


def test_an_image_that_would_lose_all_objects_is_reported(dataset: Any, tmp_path: Path) -> None:
    label = fo.Detections(detections=[fo.Detection(label="a", bounding_box=[0, 0, 0.2, 0.2])])
    dataset.add_sample(fo.Sample(filepath=picture(tmp_path / "a.png"), ground_truth=label))
    report = ids.augment(dataset, pipeline="[Crop: {p: 1, x_min: 48, y_min: 0, x_max: 96, y_max: 72}]", progress=False)
    assert report.created == 0
    assert "no_object_left" in report.failed[0][1]


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1"])
def test_other_kinds_of_pictures_become_rgb(dataset: Any, tmp_path: Path, mode: str) -> None:
    dataset.add_sample(labelled(picture(tmp_path / "a.png", mode=mode)))
    report = ids.augment(dataset, variants=2, progress=False)
    assert (report.created, report.failed) == (2, [])
    assert all(read_image(sample.filepath).pixels.shape[2] == 3 for sample in variants_of(dataset))


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (3, 2)])
def test_tiny_pictures_cost_only_themselves(discs: Any, tmp_path: Path, size: tuple[int, int]) -> None:
    discs.add_sample(fo.Sample(filepath=picture(tmp_path / "tiny.png", size=size)))
    report = ids.augment(discs, progress=False)
    assert report.created + len(report.failed) == 4
    assert report.created >= 3


def test_bad_labels_are_refused_or_dropped_and_nothing_is_lost(dataset: Any, tmp_path: Path) -> None:
    nan = float("nan")
    boxes = [
        [-0.2, 0.1, 0.5, 0.5],
        [1.2, 0.1, 0.3, 0.3],
        [0.5, 0.5, 0, 0.1],
        [0.2, nan, 0.1, 0.1],
        [0.3, 0.3, 0.3, 0.3],
    ]
    odd = fo.Sample(filepath=picture(tmp_path / "odd.png"), ground_truth=fo.Detections(
        detections=[fo.Detection(label=str(n), bounding_box=box) for n, box in enumerate(boxes)]))  # fmt: skip
    other_size = labelled(picture(tmp_path / "other.png"))
    other_size.areas = fo.Segmentation(mask=np.zeros((10, 10), np.uint8))
    missing = labelled(picture(tmp_path / "missing.png"))
    missing.ground_truth.detections[0].mask = None
    missing.ground_truth.detections[0].mask_path = str(tmp_path / "nowhere.png")
    broken = fo.Sample(filepath=str(tmp_path / "broken.png"))
    Path(broken.filepath).write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    dataset.add_samples([odd, other_size, missing, broken, labelled(picture(tmp_path / "good.png"))])
    before = dataset.count()
    report = ids.augment(dataset, transforms="horizontal_flip", progress=False)
    reasons = " ".join(why for _, why in report.failed)
    assert len(report.failed) == 3
    assert "mask_of_other_size" in reasons
    assert "unreadable_mask" in reasons
    made = {Path(dataset[sample.lineage.parents[0]].filepath).name: sample for sample in variants_of(dataset)}
    assert set(made) == {"odd.png", "good.png"}
    kept = made["odd.png"].ground_truth.detections
    assert [one.label for one in kept] == ["0", "4"]
    for one in kept:
        x, y, w, h = one.bounding_box
        assert 0 <= x <= x + w <= 1
        assert 0 <= y <= y + h <= 1
    assert dataset.count() == before + 2


@pytest.mark.parametrize(
    ("pipeline", "says"),
    [
        ("[HorizontlFlip]", "did you mean 'HorizontalFlip'"),
        ("[rotat]", "did you mean 'rotate'"),
        ("[Affine: {rotat: 3}]", "has no parameter 'rotat': did you mean 'rotate'"),
        ("[GaussNoise: {std_range: [5, 3]}]", "albumentations refuses it"),
        ("[Normalize]", "makes no 8-bit RGB picture"),
        ("[RandomCrop: {height: 900, width: 900}]", "fails on pictures like yours"),
        ("[Affine: {border_mode: 2, rotate: [30, 40]}]", "moves masks and boxes differently"),
        ("[Lambda]", "cannot be made again"),
        ("[: ", "is no YAML or JSON"),
        ("nowhere.yaml", "cannot be read"),
        ("[]", "has no transforms"),
    ],
)  # fmt: skip
def test_wrong_pipelines_are_refused_before_anything_runs(discs: Any, pipeline: str, says: str) -> None:
    with pytest.raises(IdsynthError, match=says):
        ids.augment(discs, pipeline=pipeline, progress=False)
    assert not variants_of(discs)
    assert not discs.list_runs()


def test_pipelines_that_albumentations_saved_are_read(discs: Any, tmp_path: Path) -> None:
    from fiftyone_idsynth.augmentation.pipelines import albumentations, read_pipeline

    A = albumentations()
    compose = A.Compose([A.OneOf([A.HorizontalFlip(p=1), A.VerticalFlip(p=1)], p=0.5), A.Affine(rotate=(-5, 5), p=0.7)])
    spec = read_pipeline(compose).spec
    assert [next(iter(one)) for one in spec] == ["OneOf", "Affine"]
    for form in ("json", "yaml"):
        A.save(compose, tmp_path / f"saved.{form}", data_format=form)
        assert read_pipeline(tmp_path / f"saved.{form}").spec == spec
    assert read_pipeline(json.dumps(spec)).spec == spec
    report = ids.augment(discs, pipeline=str(tmp_path / "saved.json"), progress=False)
    assert report.created == 3


def test_the_preset_for_generators_changes_nothing(discs: Any) -> None:
    report = ids.augment(discs, preset="generation", progress=False)
    assert report.created == 0
    assert "changes nothing" in report.notes[0]
    with pytest.raises(UsageError, match="two ways"):
        ids.augment(discs, transforms="blur", pipeline="[Blur]", progress=False)


def test_a_preview_shows_variants_and_makes_none(discs: Any) -> None:
    report = ids.augment(discs, variants=2, preview=True, progress=False)
    shown = read_image(report.outputs["preview"]).pixels
    assert shown.shape == (3 * 320, 5 * 320, 3)
    assert report.outputs["images to make"] == 6
    assert discs.count() == 3
    assert not discs.list_runs()
    Path(report.outputs["preview"]).unlink()


def test_the_app_shows_the_preview(discs: Any) -> None:
    from fiftyone.operators.executor import ExecutionContext, Executor

    from operators.form import operator_class

    operator = operator_class(ids.stages()["augment"])()
    params = {"preview": True, "pipeline": "[{HorizontalFlip: {p: 1}}]"}
    ctx = ExecutionContext(
        request_params={"dataset_name": discs.name, "params": params}, executor=Executor(), operator_uri="@test/augment"
    )
    *_, last = operator.execute(ctx)
    shown = last.body.params["results"]
    content = base64.b64decode(shown["preview"].removeprefix("data:image/jpeg;base64,"))
    assert decode_image(content).pixels.shape == (3 * 320, 5 * 320, 3)
    assert "images to make: 3" in shown["report"]
    assert discs.count() == 3


def test_killing_it_in_the_middle_and_going_on_gives_the_same_variants(discs: Any, tmp_path: Path) -> None:
    """The process is killed with SIGKILL after some samples were written; the next run makes the rest, and no more."""
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(f"""
        import os, signal
        import fiftyone as fo
        import fiftyone_idsynth as ids
        from fiftyone_idsynth.samples import Documents

        add = Documents.add

        def add_and_die(self, documents):
            add(self, documents)
            os.kill(os.getpid(), signal.SIGKILL)

        Documents.add = add_and_die
        ids.augment(fo.load_dataset({discs.name!r}), variants=60, progress=False)
    """)
    )
    host, port = fo.core.odm.get_db_conn().client.address
    killed = subprocess.run(
        [sys.executable, script], timeout=120, capture_output=True, text=True, check=False,
        env={**os.environ, "FIFTYONE_DATABASE_URI": f"mongodb://{host}:{port}",
             "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert killed.returncode == -9, killed.stderr
    discs.reload()
    left = discs.match_tags("augmented").count()
    assert 0 < left < 180
    report = ids.augment(discs, variants=60, progress=False)
    assert (report.created, report.skipped) == (180 - left, left)
    made = discs.match_tags("augmented")
    assert len(set(made.values("lineage.key"))) == len(made) == 180
    one = made.skip(left).first()
    np.testing.assert_array_equal(replay(discs, one.id), read_image(one.filepath).pixels)
