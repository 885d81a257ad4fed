"""New surroundings and new objects on a real database, with a small diffusion model that was trained on shapes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fiftyone_idsynth.errors import FieldError, ParameterError, StorageError
from fiftyone_idsynth.generation.cutouts import bounds
from fiftyone_idsynth.generation.layout import transform
from fiftyone_idsynth.generation.recontextualize import recontextualize as stage
from fiftyone_idsynth.media import read_image
from tests.integration.shapes import broken_image, scenes_of_one, trained
from tests.zoo import shapes_world as world

SMALL = {"min_side": 8, "min_area": 40}


@pytest.fixture(scope="module")
def model() -> str:
    return trained("sd")


@pytest.fixture
def scenes(dataset: Any, tmp_path: Path) -> Any:
    """Six pictures of one large shape each, with exact boxes and masks, whose labels name colour and shape."""
    import fiftyone as fo

    samples = []
    for number, scene in enumerate(scenes_of_one(6, seed=300)):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), scene.image[..., ::-1])
        thing = scene.things[0]
        x0, y0, x1, y1 = thing.box
        found = fo.Detection(
            label=f"{thing.colour} {thing.shape}",
            bounding_box=[x0 / 64, y0 / 64, (x1 - x0) / 64, (y1 - y0) / 64],
            mask=thing.mask[y0:y1, x0:x1],
        )
        tags = [("train", "val", "test")[number % 3]]
        samples.append(fo.Sample(filepath=str(path), tags=tags, ground_truth=fo.Detections(detections=[found])))
    dataset.add_samples(samples, progress=False)
    return dataset


def recontextualize(samples: Any, model: str, **options: Any) -> Any:
    defaults = {"prompts": ("noise",), "model": model, "steps": 3, "progress": False, "allow_truncated": True, **SMALL}
    return stage(samples, **{**defaults, **options})


def made(dataset: Any) -> Any:
    from fiftyone import ViewField as F

    return dataset.match(F("source.kind") == "generated")


def contents(dataset: Any) -> dict[str, Any]:
    """What the pictures are, by key, with names of files for files."""
    columns = ("lineage.key", "filepath", "lineage.seed", "lineage.params.placements", "tags")
    boxes = "ground_truth.detections.bounding_box"
    return {
        key: [Path(path).name, *rest] for key, path, *rest in zip(*made(dataset).values([*columns, boxes]), strict=True)
    }


def mask_of(label: Any, width: int, height: int) -> np.ndarray:
    """The mask of a detection in its whole picture, as FiftyOne draws it."""
    rendered: np.ndarray = label.to_segmentation(frame_size=(width, height), target=255).mask > 0
    return rendered


def pixels(sample: Any) -> np.ndarray:
    return read_image(sample.filepath).pixels


def object_of(sample: Any) -> tuple[np.ndarray, np.ndarray]:
    """A parent's picture, and the mask of its object."""
    picture = pixels(sample)
    return picture, mask_of(sample.ground_truth.detections[0], picture.shape[1], picture.shape[0])


def hue_mask(picture: np.ndarray, colour: str) -> np.ndarray:
    """Where a picture has one of the world's colours, saturated: backgrounds are grey."""
    apart = np.abs(picture.astype(int) - world.COLOURS[colour]).sum(-1)
    others = [np.abs(picture.astype(int) - rgb).sum(-1) for name, rgb in world.COLOURS.items() if name != colour]
    saturated = np.ptp(picture.astype(int), axis=-1) > 70
    near: np.ndarray = saturated & (apart < np.min(others, axis=0))
    return near


@pytest.mark.parametrize("placement", ["same_place", "same_size"])
def test_the_object_is_that_of_the_source_byte_for_byte_and_its_label_exact(
    scenes: Any, model: str, placement: str
) -> None:
    report = recontextualize(scenes, model, placement=placement)
    assert (report.created, report.failed) == (6, [])
    assert report.outputs == {"objects wanted": 6, "objects placed": 6}
    for sample in made(scenes):
        parent = scenes[sample.lineage.parents[0]]
        picture, mask = object_of(parent)
        new, (label,) = pixels(sample), sample.ground_truth.detections
        placed = mask_of(label, 64, 64)
        np.testing.assert_array_equal(new[placed], picture[mask])
        box = bounds(placed)
        assert box is not None
        assert label.bounding_box == pytest.approx(np.array(box) / 64)
        assert (label.label, label.area) == (parent.ground_truth.detections[0].label, mask.sum())
        if placement == "same_place":
            np.testing.assert_array_equal(placed, mask)
            assert (new[~mask] != picture[~mask]).any(-1).mean() > 0.9
        assert sample.tags == ["synthetic", parent.tags[0]]
        assert sample.lineage.stage == "recontextualize"
        assert sample.lineage.params["placements"][0]["x"] == box[0]


def test_at_random_sizes_the_object_is_the_scaled_cutout(scenes: Any, model: str) -> None:
    report = recontextualize(
        scenes, model, canvas=("64x72", "72-88x64"), scale_min=0.4, scale_max=0.5, max_objects=3, min_objects=2,
        max_overlap=0.0,
    )  # fmt: skip
    assert report.created == 6
    sizes = set()
    for sample in made(scenes):
        picture, mask = object_of(scenes[sample.lineage.parents[0]])
        x, y, w, h = bounds(mask) or (0, 0, 0, 0)
        cutout = np.dstack([picture, mask * np.uint8(255)])[y : y + h, x : x + w]
        new = pixels(sample)
        height, width = new.shape[:2]
        sizes.add((width, height))
        kept = np.zeros((height, width), bool)
        for label, placement in zip(sample.ground_truth.detections, sample.lineage.params["placements"], strict=True):
            placed = mask_of(label, width, height)
            patch = transform(cutout, placement["scale"], 0, False)
            assert placed.sum() == patch.area == label.area
            np.testing.assert_array_equal(new[placed], np.rint(patch.colour[patch.mask]).astype(np.uint8))
            assert 0.4 * 64 - 1 <= max(patch.mask.shape) <= 0.5 * 72 + 1
            assert not (kept & placed).any()
            kept |= placed
    assert all(width % 8 == height % 8 == 0 for width, height in sizes)
    assert {(64, 72)} < sizes
    assert report.outputs["objects placed"] >= 12


def test_the_prompt_decides_the_surroundings(scenes: Any, model: str) -> None:
    """Noise is rough and a plain background is not; the object stays as it was in both."""
    roughness = {}
    for prompt in ("noise", "a plain background"):
        recontextualize(scenes, model, placement="same_place", prompts=(prompt,), steps=15)
        rough = []
        for sample in made(scenes).match_tags("synthetic"):
            if sample.lineage.params["prompt"] == prompt:
                new, placed = pixels(sample), mask_of(sample.ground_truth.detections[0], 64, 64)
                around = cv2.dilate(placed.astype(np.uint8), np.ones((13, 13))) == 0
                rough.append(float(new.mean(-1)[around].std()))
        assert len(rough) == 6
        roughness[prompt] = rough
    assert min(roughness["noise"]) > 2 * np.median(roughness["a plain background"])
    assert np.median(roughness["noise"]) > 25


@pytest.mark.parametrize("whole_box", [False, True])
def test_the_reverse_puts_a_new_object_in_the_place_of_the_old_one(scenes: Any, model: str, whole_box: bool) -> None:
    from fiftyone import ViewField as F

    red = scenes.match(F("ground_truth.detections.label").contains(["red square", "red circle", "red triangle"]))
    others = scenes.select([i for i in scenes.values("id") if i not in red.values("id")])
    report = recontextualize(
        others, model, replace="object", prompts=("a large {subject} on a plain background",), label="red square",
        whole_box=whole_box, dilation=4, steps=20, guidance=4.0,
    )  # fmt: skip
    assert report.created == others.count() >= 4
    right = 0
    for sample in made(scenes):
        parent = scenes[sample.lineage.parents[0]]
        picture, mask = object_of(parent)
        new = pixels(sample)
        x, y, w, h = bounds(mask) or (0, 0, 0, 0)
        room = np.zeros_like(mask)
        room[max(0, y - 4) : y + h + 4, max(0, x - 4) : x + w + 4] = True
        np.testing.assert_array_equal(new[~room], picture[~room])  # the background stays
        assert sample.lineage.params["prompt"] == "a large red square on a plain background"
        (label,), (old,) = sample.ground_truth.detections, parent.ground_truth.detections
        assert (label.label, label.inherited, label.inherited_from) == ("red square", True, parent.id)
        assert label.bounding_box == pytest.approx(old.bounding_box)
        assert label.has_mask is not whole_box
        red_now = hue_mask(new, "red")
        right += bool(red_now[mask].mean() > 0.5 and red_now[~room].mean() < 0.02)
    assert right >= 0.5 * others.count()  # by chance alone hardly any would be


def test_a_verifier_drops_labels_of_objects_that_are_not_there(scenes: Any, model: str) -> None:
    options = {
        "replace": "object", "label": "red square", "whole_box": True, "steps": 20, "guidance": 4.0,
        "verifier": trained("owlv2"), "min_iou": 0.4, "dilation": 4,
    }  # fmt: skip
    recontextualize(scenes, model, prompts=("a large red square on a plain background",), **options)
    there = made(scenes).values("ground_truth.detections.verified_iou", unwind=True)
    assert len(there) >= 4
    assert min(there) >= 0.4
    scenes.delete_samples(made(scenes))
    report = recontextualize(scenes, model, prompts=("a large green circle on a plain background",), **options)
    assert made(scenes).count("ground_truth.detections") <= 1
    assert any("labels were dropped" in note for note in report.notes)


def test_other_objects_keep_their_labels_where_one_is_replaced(scenes: Any, model: str) -> None:
    import fiftyone as fo

    sample = scenes.first()
    other = fo.Detection(label="stone", bounding_box=[0.0, 0.0, 0.1, 0.1])
    sample.ground_truth.detections.append(other)
    sample.save()
    name = sample.ground_truth.detections[0].label
    recontextualize(scenes.select(sample.id), model, replace="object", classes=(name,), prompts=("a red circle",))
    replaced, kept = made(scenes).first().ground_truth.detections
    assert (replaced.label, kept.label) == (name, "stone")
    assert kept.bounding_box == pytest.approx(other.bounding_box)
    assert kept.inherited_from == sample.id


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("cutout", ["remover", "segmenter", "boxes"])
def test_models_find_the_objects_where_there_are_no_masks(scenes: Any, model: str, tmp_path: Path, cutout: str) -> None:
    """A background remover that knows colours, CLIPSeg trained on shapes, and SAM (of random weights) from boxes."""
    from tests.models.tiny_backgrounds import IMAGENET, remover
    from tests.models.tiny_regions import sam

    options: dict[str, Any] = {
        "remover": lambda: {"cutter": str(remover(tmp_path / "remover.onnx", 320, IMAGENET)), "label": "shape"},
        "segmenter": lambda: {"cutter": trained("clipseg"), "classes": ("shape=red|green|blue|yellow",)},
        "boxes": lambda: {"cutter": str(sam(tmp_path / "sam")), "label": "shape"},
    }[cutout]()
    report = recontextualize(scenes, model, cutout=cutout, placement="same_place", **options)
    if cutout == "boxes":
        assert report.created + len(report.failed) == 6
    else:
        assert (report.created, report.failed) == (6, [])
    for sample in made(scenes):
        picture, mask = object_of(scenes[sample.lineage.parents[0]])
        placed = np.logical_or.reduce([mask_of(one, 64, 64) for one in sample.ground_truth.detections])
        np.testing.assert_array_equal(pixels(sample)[placed], picture[placed])
        assert {one.label for one in sample.ground_truth.detections} == {"shape"}
        if cutout == "boxes":
            x, y, w, h = bounds(mask) or (0, 0, 0, 0)
            far = np.ones_like(mask)
            far[max(0, y - h // 10 - 1) : y + h + h // 10 + 2, max(0, x - w // 10 - 1) : x + w + w // 10 + 2] = False
            assert not (placed & far).any()
        else:
            assert overlap(placed, mask) > 0.75
        cutting = sample.lineage.params["cutout"]
        assert (cutting["method"], cutting["model"]) == (cutout, options["cutter"])
        assert options["cutter"] in scenes.get_run_info(scenes.list_runs()[0]).config.models


def test_surroundings_come_from_the_word_list_where_none_are_given(scenes: Any, model: str, tmp_path: Path) -> None:
    words = tmp_path / "words.csv"
    words.write_text("group,words\nsetting,inside a volcano\n", encoding="utf-8")
    recontextualize(scenes, model, prompts=(), scenes=12, vocabulary=words, variants=2)
    texts = made(scenes).values("lineage.params.prompt")
    assert len(texts) == 12
    assert len(set(texts)) >= 6
    assert all(text.startswith("a photo taken") for text in texts)
    shown = recontextualize(scenes, model, prompts=(), scenes=200, vocabulary=words, dry_run=True).outputs["prompts"]
    assert not {"red", "green", "blue"} & set(" ".join(shown).split())


def test_a_language_model_may_describe_the_surroundings_but_not_the_object(scenes: Any, model: str) -> None:
    from tests.llm_server import LlmServer

    said = [f"a long quiet shore number {n}, in fog" for n in range(3)] + ["a red square in a field"]
    with LlmServer([{"descriptions": said}]) as server:
        options = {
            "prompts": (), "scenes": 4, "written_by": "llm", "llm_model": "test", "llm_url": server.url,
            "label": "red square", "variants": 2,
        }  # fmt: skip
        report = recontextualize(scenes, model, **options)
        assert recontextualize(scenes, model, **{**options, "variants": 3}).created == 6
    assert len(server.requests) == 1  # what it wrote is kept
    assert "Never name red square" in server.requests[0].text
    assert set(made(scenes).values("lineage.params.prompt")) == set(said[:3])
    assert any("1 name the object" in note for note in report.notes)


def test_sizes_that_no_model_takes_are_painted_all_the_same(dataset: Any, model: str, tmp_path: Path) -> None:
    import fiftyone as fo

    picture = np.random.default_rng(0).integers(0, 256, (151, 203, 3), np.uint8)
    path = tmp_path / "large.png"
    cv2.imwrite(str(path), picture[..., ::-1])
    mask = np.zeros((151, 203), np.uint8)
    cv2.circle(mask, (90, 70), 40, 1, -1)
    dataset.mask_targets["shapes"] = {1: "ball"}
    dataset.add_sample(fo.Sample(filepath=str(path), shapes=fo.Segmentation(mask=mask)))
    report = recontextualize(dataset, model, placement="same_place", label_field="shapes", dilation=5)
    (sample,) = made(dataset)
    new, kept = pixels(sample), cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (11, 11))) > 0
    assert new.shape == picture.shape
    np.testing.assert_array_equal(new[kept], picture[kept])
    np.testing.assert_array_equal(mask_of(sample.ground_truth.detections[0], 203, 151), mask > 0)
    assert sample.ground_truth.detections[0].label == "ball"
    assert any("painted at 96 pixels" in note for note in report.notes)


def test_a_rerun_makes_nothing_and_more_variants_add(scenes: Any, model: str) -> None:
    recontextualize(scenes, model)
    first = contents(scenes)
    again = recontextualize(scenes, model)
    assert (again.created, again.skipped) == (0, 6)
    assert recontextualize(scenes, model, variants=2).created == 6
    both = contents(scenes)
    assert {key: both[key] for key in first} == first
    assert len({value[0] for value in both.values()}) == 12


def test_finished_pictures_stay_when_the_disk_is_full(scenes: Any, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fiftyone_idsynth import media
    from fiftyone_idsynth.errors import storage_error

    write, written = media.write_atomically, []

    def write_until_full(path: Any, data: bytes) -> None:
        if len(written) == 7:
            raise storage_error(OSError(28, "No space left on device"), str(path))
        write(path, data)
        written.append(path)

    with monkeypatch.context() as patched:
        patched.setattr(media, "write_atomically", write_until_full)
        with pytest.raises(StorageError, match="the disk is full"):
            recontextualize(scenes, model, batch_size=1)
    left = made(scenes).count()
    assert 0 < left < 6
    assert all(Path(path).exists() for path in made(scenes).values("filepath"))
    assert recontextualize(scenes, model, batch_size=1).created == 6 - left


def test_killed_and_resumed_it_makes_what_it_would_have_made(scenes: Any, model: str, tmp_path: Path) -> None:
    """The process is killed with SIGKILL when it is about to write the third sample."""
    import fiftyone as fo

    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(f"""
        import os, signal
        import fiftyone as fo
        from fiftyone_idsynth import engine
        from fiftyone_idsynth import parents
        from fiftyone_idsynth.generation.recontextualize import recontextualize

        synthetic, calls = parents.synthetic, []
        engine._WRITE_EVERY_SECONDS = 0

        def make_and_die(*args, **kwargs):
            calls.append(1)
            if len(calls) == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            return synthetic(*args, **kwargs)

        parents.synthetic = make_and_die
        recontextualize(fo.load_dataset({scenes.name!r}), model={model!r}, prompts=("noise",), steps=3, progress=False,
                        allow_truncated=True, min_side=8, min_area=40, batch_size=1)
    """)
    )
    address = "mongodb://{}:{}".format(*fo.core.odm.get_db_conn().client.address)
    killed = subprocess.run(
        [sys.executable, script], timeout=240,
        env={**os.environ, "FIFTYONE_DATABASE_URI": address, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert killed.returncode == -9, killed.stderr
    scenes.reload()
    left = made(scenes).count()
    assert 0 < left < 6
    assert recontextualize(scenes, model, batch_size=1).created == 6 - left
    resumed = contents(scenes)
    scenes.delete_samples(made(scenes))
    recontextualize(scenes, model, batch_size=1)
    assert contents(scenes) == resumed


def test_a_dry_run_writes_nothing(scenes: Any, model: str) -> None:
    before = scenes.count(), scenes.list_runs(), sorted(scenes.get_field_schema(flat=True))
    report = recontextualize(scenes, model, prompts=("noise", "stripes"), variants=3, dry_run=True)
    assert report.outputs["images to make"] == 18
    assert report.outputs["prompts"] == ["noise", "stripes"]
    assert report.outputs["seconds"] > 0
    assert (scenes.count(), scenes.list_runs(), sorted(scenes.get_field_schema(flat=True))) == before


def test_a_sample_that_will_not_do_costs_only_itself(scenes: Any, model: str, tmp_path: Path) -> None:
    import fiftyone as fo

    path = scenes.first().filepath
    whole = fo.Detection(label="a", bounding_box=[0, 0, 1, 1], mask=np.ones((64, 64), bool))
    empty = fo.Detection(label="a", bounding_box=[0.1, 0.1, 0.5, 0.5], mask=np.zeros((32, 32), bool))
    bare = fo.Detection(label="a", bounding_box=[0.1, 0.1, 0.5, 0.5])
    small = fo.Detection(label="a", bounding_box=[0.1, 0.1, 0.05, 0.05], mask=np.ones((3, 3), bool))
    bad = [
        fo.Sample(filepath=path, ground_truth=fo.Detections(detections=[one])) for one in (whole, empty, bare, small)
    ]
    scenes.add_samples([*bad, fo.Sample(filepath=path), fo.Sample(filepath=broken_image(tmp_path))], progress=False)
    report = recontextualize(scenes, model, placement="same_place")
    assert report.created == 6
    assert len(report.failed) == 6
    why = "\n".join(reason for _, reason in report.failed)
    for expected in (
        "nothing_to_paint", "empty_mask", "cutout='boxes'", "smaller than min_side", "the sample has no label",
    ):  # fmt: skip
        assert expected in why


def test_objects_larger_than_the_canvas_are_refused_with_advice(scenes: Any, model: str, tmp_path: Path) -> None:
    import fiftyone as fo

    mask = np.zeros((200, 200), np.uint8)
    cv2.circle(mask, (100, 100), 60, 1, -1)
    path = tmp_path / "large.png"
    cv2.imwrite(str(path), mask * 200)
    large = scenes.add_sample(fo.Sample(filepath=str(path), seg=fo.Segmentation(mask=mask)))
    report = recontextualize(
        scenes.select(large), model, label_field="seg", placement="same_size", canvas=("64x64",), label="disc"
    )
    ((_, why),) = report.failed
    assert "larger_than_canvas" in why
    assert "121 x 121 pixels" in why
    assert "64 x 64" in why
    assert "take a larger canvas" in why


def test_bad_input_says_what_to_do(scenes: Any, model: str) -> None:
    for options, expected in (
        ({"canvas": ("100x64",)}, "100 does not divide by (4|8), as the model needs: take (96 or 104|100)"),
        ({"canvas": ("big",)}, "give sizes in pixels"),
        ({"scale_min": 0.9, "scale_max": 0.5}, "must not be greater than scale_max"),
        ({"min_objects": 3}, "must not be greater than max_objects"),
        ({"placement": "same_place", "canvas": ("64x64",)}, "leave it out"),
        ({"replace": "object", "placement": "same_place"}, "leave it out"),
        ({"replace": "object", "prompts": ()}, "say what the image shows instead"),
        ({"whole_box": True}, "replace='object'"),
        ({"cutout": "segmenter"}, "say what the segmenter shall look for"),
        ({"strength": 0.1}, "less than one"),
    ):
        with pytest.raises(ParameterError, match=expected):
            recontextualize(scenes, model, **options)
    with pytest.raises(FieldError, match="did you mean 'ground_truth'"):
        recontextualize(scenes, model, label_field="ground_thruth")
    scenes.delete_sample_field("ground_truth")
    with pytest.raises(ParameterError, match="say what the objects are"):
        recontextualize(scenes, model)
    with pytest.raises(ParameterError, match="needs the masks of a label field"):
        recontextualize(scenes, model, cutout="masks")
