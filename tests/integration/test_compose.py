"""Composition on a real database: exact labels, splits without leaks, resume, and errors that say what to do."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import fiftyone_idsynth as ids
from fiftyone_idsynth.errors import EmptyViewError, FieldError, ParameterError, UsageError

MODES = ("none", "gaussian", "motion", "poisson")
KINDS = ("disc", "square")


def shape(kind: str, number: int) -> np.ndarray:
    """A RGBA picture of a coloured shape; every number has a colour of its own."""
    rgba = np.zeros((110, 130, 4), np.uint8)
    rgba[..., :3] = 255
    colour = (40 + 17 * number % 200, 250 - 23 * number % 240, 60 + 41 * number % 190, 255)
    if kind == "disc":
        cv2.circle(rgba, (65, 55), 45, colour, -1)
    else:
        cv2.rectangle(rgba, (20, 15), (110, 95), colour, -1)
    return rgba


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Files: ten objects of each of two kinds, six distractors, nine textured backgrounds."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    made: dict[str, list[Path]] = {"background": [], "distractor": [], **{kind: [] for kind in KINDS}}
    for kind in KINDS:
        for number in range(10):
            made[kind].append(folder / f"{kind}{number}.png")
            Image.fromarray(shape(kind, number)).save(made[kind][-1])
    for number in range(6):
        rgba = np.zeros((80, 80, 4), np.uint8)
        cv2.drawMarker(rgba, (40, 40), (9, 9, 9, 255), cv2.MARKER_STAR, 60, 12)
        rgba[0, 0, 0] = number
        made["distractor"].append(folder / f"distractor{number}.png")
        Image.fromarray(rgba).save(made["distractor"][-1])
    for number in range(9):
        texture = cv2.GaussianBlur(rng.integers(60, 200, (240, 320, 3), np.uint8), (0, 0), 1)
        made["background"].append(folder / f"background{number}.png")
        Image.fromarray(texture).save(made["background"][-1])
    return made


@pytest.fixture
def sources(dataset: Any, pictures: dict[str, list[Path]]) -> Iterator[Any]:
    """A dataset of all pictures, tagged by what they are for."""
    import fiftyone as fo

    samples = []
    for name, paths in pictures.items():
        for path in paths:
            sample = fo.Sample(filepath=str(path), tags=["object" if name in KINDS else name])
            if name in KINDS:
                sample["kind"] = fo.Classification(label=name)
            samples.append(sample)
    dataset.add_samples(samples, progress=False)
    return dataset


def compose(dataset: Any, **options: Any) -> Any:
    views = {name: dataset.match_tags(name) for name in ("object", "background", "distractor")}
    options = {"label_field": "kind", "count": 10, "image_format": "png", "progress": False, **options}
    if options.pop("with_distractors", True):
        options["distractors"] = views["distractor"]
    return ids.compose(dataset, views["object"], views["background"], **options)


def composites(dataset: Any) -> Any:
    from fiftyone import ViewField as F

    return dataset.match(F("source.kind") == "composed")


def contents(dataset: Any) -> dict[str, Any]:
    """What a dataset's composites hold, by key."""
    made = composites(dataset)
    root = "ground_truth.detections"
    columns = ("filepath", "tags", f"{root}.label", f"{root}.bounding_box", f"{root}.area", f"{root}.mask_path")
    return {
        key: [os.path.basename(filepath), tags, labels, boxes, areas, [os.path.basename(m) for m in masks]]
        for key, filepath, tags, labels, boxes, areas, masks in zip(
            *made.values(["lineage.key", *columns]), strict=True
        )
    }


def test_every_layout_is_rendered_in_every_mode_with_the_same_labels(sources: Any) -> None:
    report = compose(sources)
    assert report.created == 40
    assert not report.failed
    assert report.outputs["cutouts"] == {"disc": 10, "square": 10}
    made = composites(sources)
    assert made.count() == 40
    by_layout: dict[int, dict[str, Any]] = {}
    for sample in made:
        by_layout.setdefault(sample.lineage.params["index"], {})[sample.lineage.params["blending"]] = sample
    for samples in by_layout.values():
        assert set(samples) == set(MODES)
        first = samples["none"]
        for sample in samples.values():
            assert sample.lineage.params["layout"] == first.lineage.params["layout"]
            assert [d.bounding_box for d in sample.ground_truth.detections] == [
                d.bounding_box for d in first.ground_truth.detections
            ]
            assert [d.mask_path for d in sample.ground_truth.detections] == [
                d.mask_path for d in first.ground_truth.detections
            ]
        assert len({s.filepath for s in samples.values()}) == 4
    assert made.exists("metadata").count() == 40
    assert all(1 <= n <= 3 for n in map(len, made.values("ground_truth.detections.label")))


def test_masks_boxes_and_areas_are_exact(sources: Any) -> None:
    """Without blending, the pixels of an object's colour are its visible mask, and all else is background."""
    from PIL import Image

    from fiftyone_idsynth.media import read_image

    compose(sources, blending=("none",), count=15, max_objects=5, max_truncation=0.2)
    for sample in composites(sources):
        image = np.asarray(Image.open(sample.filepath))
        height, width = image.shape[:2]
        assert (sample.metadata.width, sample.metadata.height) == (width, height) == (320, 240)
        layout, files = sample.lineage.params["layout"], sample.lineage.params["files"]
        paths = {entry["name"]: entry["path"] for entry in files}
        covered = np.zeros((height, width), bool)
        for detection in sample.ground_truth.detections:
            mask = np.asarray(Image.open(detection.mask_path)) > 0
            x, y, w, h = (v * s for v, s in zip(detection.bounding_box, (width, height) * 2, strict=True))
            assert mask.shape == (round(h), round(w))
            assert [x, y, w, h] == pytest.approx([round(v) for v in (x, y, w, h)], abs=1e-6)
            assert all(edge.any() for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))
            assert detection.area == mask.sum()
            whole = detection.to_segmentation(frame_size=(width, height)).mask > 0
            assert whole.sum() == mask.sum()
            colours = np.unique(image[whole], axis=0)
            assert len(colours) == 1
            assert not (covered & whole).any()
            covered |= whole
        background = read_image(paths[layout["background"]]).pixels
        marks = (image == 9).all(axis=2)
        assert (image[~covered & ~marks] == background[~covered & ~marks]).all()


def test_no_cutout_or_background_is_used_in_two_splits(sources: Any) -> None:
    compose(sources, count=30, blending=("none",))
    made = composites(sources)
    used: dict[str, set[str]] = {}
    for tags, parents, split in zip(*made.values(["tags", "lineage.parents", "lineage.params.split"]), strict=True):
        assert tags == ["composed", split]
        used.setdefault(split, set()).update(parents)
    assert set(used) == {"train", "val", "test"}
    assert not used["train"] & used["test"]
    assert not used["train"] & used["val"]
    assert not used["val"] & used["test"]
    assert made.count_sample_tags() == {"composed": 30, "train": 24, "val": 3, "test": 3}
    for split, parents in used.items():
        assert set(sources.select(list(parents)).match_tags(split).values("id")) == parents
    objects = sources.match_tags("object")
    for split in used:
        assert set(objects.match_tags(split).distinct("kind.label")) == set(KINDS)


def test_samples_keep_the_split_they_carry_and_so_do_their_relatives(sources: Any) -> None:
    objects = sources.match_tags("object").values("id")
    sources.select(objects[0]).tag_samples("test")
    groups = {objects[0]: "a", objects[1]: "a", objects[2]: "b", objects[3]: "b", objects[4]: "b"}
    sources.add_sample_field("duplicate_group", _string_field())
    sources.set_values("duplicate_group", groups, key_field="id")
    sources.select(objects[5]).tag_samples("train")
    sources.select(objects[6]).tag_samples("val")
    sources.set_values("duplicate_group", {objects[5]: "c", objects[6]: "c"}, key_field="id")
    report = compose(sources, count=20, blending=("none",))
    tags = dict(zip(*sources.values(["id", "tags"]), strict=True))
    assert "test" in tags[objects[1]]
    assert len({tuple(sorted(tags[i])) for i in objects[2:5]}) == 1
    parents = {p for its in composites(sources).values("lineage.parents") for p in its}
    assert not parents & {objects[5], objects[6]}
    assert any("different splits" in note for note in report.notes)


def test_a_second_run_makes_nothing_and_a_larger_count_changes_nothing(sources: Any) -> None:
    compose(sources, count=6, blending=("none", "poisson"))
    before = contents(sources)
    again = compose(sources, count=6, blending=("none", "poisson"))
    assert (again.created, again.skipped, again.processed) == (0, 12, 0)
    more = compose(sources, count=9, blending=MODES)
    assert more.created == 9 * 4 - 12
    after = contents(sources)
    assert {key: after[key] for key in before} == before


def test_composites_come_out_the_same_from_the_same_seed_alone(sources: Any) -> None:
    import fiftyone as fo

    compose(sources, count=6)
    first = contents(sources)
    sources.delete_samples(composites(sources))
    other = fo.Dataset(persistent=True)
    try:
        views = [sources.match_tags(t) for t in ("object", "background", "distractor")]
        ids.compose(
            other, views[0], views[1], distractors=views[2], label_field="kind", count=6, image_format="png",
            num_workers=1, progress=False,
        )  # fmt: skip
        assert sorted(map(str, contents(other).values())) == sorted(map(str, first.values()))
        assert ids.compose(
            sources, views[0], views[1], distractors=views[2], label_field="kind", count=6, image_format="png", seed=52,
            progress=False,
        ).created == 24  # fmt: skip
        assert not {v[0] for v in contents(sources).values()} & {v[0] for v in first.values()}
    finally:
        other.delete()


def test_a_composite_can_be_made_again_from_its_lineage(sources: Any) -> None:
    from PIL import Image

    from fiftyone_idsynth.generation.composites import remake

    compose(sources, count=3)
    for sample in composites(sources):
        assert (remake(sample.lineage.params) == np.asarray(Image.open(sample.filepath))).all()


def test_rejected_samples_and_composites_are_never_used(sources: Any) -> None:
    rejected = sources.match_tags("object").values("id")[:4] + sources.match_tags("background").values("id")[:2]
    sources.select(rejected).tag_samples("rejected")
    compose(sources, count=10, blending=("none",))
    parents = {p for its in composites(sources).values("lineage.parents") for p in its}
    assert parents
    assert not parents & set(rejected)
    backgrounds = sources.match_tags("background")
    report = ids.compose(sources, sources, backgrounds, label_field="kind", count=5, blending=("none",), progress=False)
    made = set(composites(sources).values("id"))
    assert report.created == 5
    assert not made & {p for its in composites(sources).values("lineage.parents") for p in its}


def test_shared_backgrounds_make_no_relatives(sources: Any) -> None:
    one = sources.match_tags("background").limit(1)
    objects = sources.match_tags("object")
    with pytest.raises(UsageError, match="share_backgrounds=True"):
        ids.compose(sources, objects, one, label_field="kind", count=10, progress=False)
    ids.compose(
        sources, objects, one, label_field="kind", count=20, share_backgrounds=True, blending=("none",), progress=False
    )
    background = one.first()
    made = composites(sources)
    assert made.count() == 20
    assert not [p for p in made.values("lineage.parents") if background.id in p]
    assert all(f[-1]["sample_id"] == background.id for f in made.values("lineage.params.files"))
    assert set(background.tags) == {"background"}


def test_distractors_are_placed_and_not_labelled(sources: Any) -> None:
    compose(sources, count=20, blending=("none",), max_distractors=4)
    made = composites(sources)
    unlabelled = [p for layout in made.values("lineage.params.layout") for p in layout["placements"] if not p["label"]]
    assert unlabelled
    assert set(made.distinct("ground_truth.detections.label")) == set(KINDS)


def test_canvas_size_and_crop(sources: Any) -> None:
    compose(sources, count=4, blending=("none",), width=200, height=200, with_distractors=False)
    assert set(zip(*composites(sources).values(["metadata.width", "metadata.height"]), strict=True)) == {(200, 200)}


def test_backgrounds_that_show_a_composed_class_are_left_out(sources: Any) -> None:
    import fiftyone as fo

    shown = sources.match_tags("background").values("id")[:3]
    sources.set_values("kind", {i: fo.Classification(label="disc") for i in shown}, key_field="id")
    report = compose(sources, count=8, blending=("none",))
    assert any("3 backgrounds" in note for note in report.notes)
    assert not set(shown) & {p for its in composites(sources).values("lineage.parents") for p in its}


def test_samples_with_more_than_one_object_can_be_left_out(sources: Any) -> None:
    import fiftyone as fo

    objects = sources.match_tags("object").values("id")
    box = [0.1, 0.1, 0.5, 0.5]
    seen = {i: fo.Detections(detections=[fo.Detection(label="x", bounding_box=box)] * 1) for i in objects[:18]}
    seen[objects[0]] = fo.Detections(detections=[fo.Detection(label="x", bounding_box=box) for _ in range(2)])
    sources.add_sample_field("seen", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    sources.set_values("seen", seen, key_field="id")
    report = compose(sources, count=5, blending=("none",), single_object_field="seen")
    assert report.outputs["cutouts_refused"]["not_one_object"] == 3


def test_killing_it_in_the_middle_and_going_on_gives_the_same_dataset(sources: Any, tmp_path: Path) -> None:
    """The process is killed with SIGKILL after some samples were written; the next run makes the rest."""
    import fiftyone as fo

    reference = fo.Dataset(persistent=True)
    views = {name: sources.match_tags(name) for name in ("object", "background", "distractor")}
    try:
        ids.compose(
            reference, views["object"], views["background"], distractors=views["distractor"], label_field="kind",
            count=35, image_format="png", progress=False,
        )  # fmt: skip
        script = tmp_path / "run.py"
        script.write_text(
            textwrap.dedent(f"""
            import os, signal
            import fiftyone as fo
            import fiftyone_idsynth as ids
            from fiftyone_idsynth.samples import Documents

            add, calls = Documents.add, []

            def add_and_die(self, documents):
                documents = list(documents)
                add(self, documents)
                calls.append(len(documents))
                if sum(calls) >= 100:
                    os.kill(os.getpid(), signal.SIGKILL)

            Documents.add = add_and_die
            d = fo.load_dataset({sources.name!r})
            views = [d.match_tags(t) for t in ("object", "background", "distractor")]
            ids.compose(d, views[0], views[1], distractors=views[2], label_field="kind", count=35, image_format="png",
                        progress=False)
        """)
        )
        client = fo.core.odm.get_db_conn().client
        address = "mongodb://{}:{}".format(*client.address)
        killed = subprocess.run(
            [sys.executable, script], timeout=120,
            env={**os.environ, "FIFTYONE_DATABASE_URI": address, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert killed.returncode == -9, killed.stderr
        sources.reload()
        left = composites(sources).count()
        assert 0 < left < 140
        report = compose(sources, count=35)
        assert report.created == 140 - left
        assert sorted(map(str, contents(sources).values())) == sorted(map(str, contents(reference).values()))
        keys = composites(sources).values("lineage.key")
        assert len(keys) == len(set(keys)) == 140
    finally:
        reference.delete()


def test_the_same_images_come_from_a_pickled_worker(sources: Any) -> None:
    import pickle

    from fiftyone_idsynth.generation.composites import ComposeWorker, Ingredient, Order, Pool
    from fiftyone_idsynth.generation.layout import LayoutRules
    from fiftyone_idsynth.media import media_store

    disc, behind = (sources.match_tags(tag).first() for tag in ("object", "background"))
    worker = ComposeWorker(
        media_store(sources), {"train": Pool((("disc", ("d",)),), (), ("b",))},
        {"d": Ingredient(disc.filepath, disc.id), "b": Ingredient(behind.filepath, behind.id)}, LayoutRules(), seed=1,
    )  # fmt: skip
    worker.setup()
    copy = pickle.loads(pickle.dumps(worker))
    copy.setup()
    order = Order(3, "train", {"k": "none"})
    assert copy.draw(order)[0] == worker.draw(order)[0]


def test_bad_input_says_what_to_do(sources: Any, pictures: dict[str, list[Path]]) -> None:
    import fiftyone as fo

    with pytest.raises(FieldError, match="did you mean 'kind'"):
        compose(sources, label_field="kinds")
    with pytest.raises(FieldError, match="single_object_field='nothing'"):
        compose(sources, single_object_field="nothing")
    with pytest.raises(ParameterError, match=r"scale_max=0\.1"):
        compose(sources, scale_min=0.5, scale_max=0.1)
    with pytest.raises(ParameterError, match="add up to 1"):
        compose(sources, fractions={"train": 0.5})
    with pytest.raises(ParameterError, match="'dev' is no split"):
        compose(sources, fractions={"train": 0.5, "dev": 0.5})
    with pytest.raises(ParameterError, match="'blur'"):
        compose(sources, blending=("blur",))
    with pytest.raises(EmptyViewError, match="backgrounds"):
        ids.compose(sources, sources.match_tags("object"), sources.match_tags("nothing"), progress=False)
    with pytest.raises(UsageError, match=r"nothing could be cut out of 9 samples.*9 x background_not_plain"):
        ids.compose(
            sources, sources.match_tags("background"), sources.match_tags("background"), default_label="x",
            cutout="plain", progress=False,
        )  # fmt: skip
    with pytest.raises(UsageError, match=r"20 x no_class \(no class is known"):
        ids.compose(sources, sources.match_tags("object"), sources.match_tags("background"), progress=False)
    with pytest.raises(UsageError, match=r"20 x other_class"):
        compose(sources, classes=("triangle",))
    with pytest.raises(UsageError, match=r"the split 'val' gets no cut-out.*fractions"):
        ids.compose(
            sources, sources.match_tags("object").limit(1), sources.match_tags("background"), label_field="kind",
            progress=False,
        )  # fmt: skip
    assert composites(sources).count() == 0 if sources.has_field("source.kind") else True
    sources.add_sample_field("ground_truth", fo.EmbeddedDocumentField, embedded_doc_type=fo.Classification)
    with pytest.raises(FieldError, match="does not hold Detections"):
        compose(sources)


def test_a_missing_file_is_reported_and_costs_only_itself(sources: Any, tmp_path: Path) -> None:
    import fiftyone as fo

    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    sources.add_sample(fo.Sample(filepath=str(broken), tags=["object"], kind=fo.Classification(label="disc")))
    report = compose(sources, count=5, blending=("none",))
    assert report.created == 5
    assert [what for what, _ in report.failed] == [str(broken)]


def _string_field() -> Any:
    import fiftyone as fo

    return fo.StringField
