"""Restyling on a real database with a small trained diffusion model: colours, places, labels, resume, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fiftyone_idsynth.errors import EmptyViewError, FieldError, ParameterError, StorageError, UsageError
from fiftyone_idsynth.generation.restyle import restyle as stage
from fiftyone_idsynth.media import read_image
from tests.integration.shapes import broken_image, scenes_of_one, trained
from tests.llm_server import LlmServer, Reply
from tests.models import tiny_diffusion
from tests.zoo import judge
from tests.zoo import shapes_world as world

NEXT = dict(zip(world.COLOURS, [*list(world.COLOURS)[1:], *list(world.COLOURS)[:1]], strict=True))
"""Colour -> another colour."""


@pytest.fixture(scope="module")
def model() -> str:
    return trained("sd")


def sample_of(scene: world.Scene, path: Path, side: tuple[int, int] = (64, 64), **more: Any) -> Any:
    """A picture of one shape in a size (width, height), with its box, instance mask and a mask of the whole picture."""
    import fiftyone as fo

    cv2.imwrite(str(path), cv2.resize(scene.image, side, interpolation=cv2.INTER_NEAREST)[..., ::-1])
    thing = scene.things[0]
    x0, y0, x1, y1 = thing.box
    box = [x0 / 64, y0 / 64, (x1 - x0) / 64, (y1 - y0) / 64]
    mask = cv2.resize(thing.mask.astype(np.uint8), side, interpolation=cv2.INTER_NEAREST)
    label = fo.Detection(
        label=f"{thing.colour} {thing.shape}", bounding_box=box, mask=thing.mask[y0:y1, x0:x1], occluded=False
    )
    return fo.Sample(
        filepath=str(path), caption=f"a {thing.phrase} on {world.BACKGROUNDS[scene.background]}",
        ground_truth=fo.Detections(detections=[label]), shapes=fo.Segmentation(mask=mask), **more,
    )  # fmt: skip


@pytest.fixture
def scenes(dataset: Any, tmp_path: Path) -> Any:
    """Four pictures, one of each colour."""
    splits = ("train", "val", "test", "train")
    dataset.add_samples(
        [
            sample_of(scene, tmp_path / f"{number}.png", tags=[splits[number], "mine"])
            for number, scene in enumerate(scenes_of_one(4))
        ],
        progress=False,
    )
    return dataset


def restyle(samples: Any, model: str, **options: Any) -> Any:
    defaults = {"model": model, "steps": 20, "guidance": 4.0, "swaps": NEXT, "progress": False}
    return stage(samples, **{**defaults, **options})


def made(dataset: Any) -> Any:
    from fiftyone import ViewField as F

    return dataset.match(F("source.kind") == "generated") if dataset.has_field("source") else dataset.limit(0)


def pixels(sample: Any) -> np.ndarray:
    return read_image(sample.filepath).pixels


def mask_in(label: Any, width: int, height: int) -> np.ndarray:
    return label.to_segmentation(frame_size=(width, height), target=1).mask > 0


def test_another_colour_word_changes_the_colour_and_keeps_place_and_labels(scenes: Any, model: str) -> None:
    files = {sample.id: Path(sample.filepath).read_bytes() for sample in scenes}
    labels = {sample.id: sample.to_dict() for sample in scenes}
    report = restyle(scenes, model)
    assert (report.created, report.failed) == (4, [])
    assert report.outputs["nothing to swap"] == 0
    for sample in made(scenes):
        parent = scenes[sample.lineage.parents[0]]
        (label,), (was,) = sample.ground_truth.detections, parent.ground_truth.detections
        colour, shape = was.label.split()
        assert judge.colour_of(pixels(sample)) == NEXT[colour]
        assert judge.overlap(judge.cover(pixels(sample)), mask_in(was, 64, 64)) > 0.6
        assert label.label == f"{NEXT[colour]} {shape}"
        assert label.bounding_box == was.bounding_box
        assert (label.inherited, label.inherited_from, label.occluded) == (True, parent.id, False)
        assert sample.tags == ["synthetic", parent.tags[0]]
        params = sample.lineage.params
        assert params["prompt"] == parent.caption.replace(colour, NEXT[colour])
        assert (params["prompt_before"], params["swapped"]) == (parent.caption, [f"{colour}={NEXT[colour]}"])
        assert (params["strength"], sample.lineage.stage) == (0.6, "restyle")
    for sample in scenes.select(list(files)):
        assert Path(sample.filepath).read_bytes() == files[sample.id]
        now = sample.to_dict()
        assert {name: now[name] for name in labels[sample.id] if name != "last_modified_at"} == {
            name: value for name, value in labels[sample.id].items() if name != "last_modified_at"
        }


def test_masks_are_right_at_sizes_that_the_model_does_not_take(dataset: Any, model: str, tmp_path: Path) -> None:
    (scene,) = scenes_of_one(1)
    dataset.add_sample(sample_of(scene, tmp_path / "odd.png", (157, 121)))
    report = restyle(dataset, model, strength=0.4, longest_side=96)
    assert (report.created, report.failed) == (1, [])
    sample, parent = made(dataset).first(), dataset.first()
    picture = pixels(sample)
    assert picture.shape == (72, 96, 3)
    assert (sample.metadata.width, sample.metadata.height) == (96, 72)
    assert sample.lineage.params["size_before"] == [157, 121]
    mask = sample.shapes.get_mask()
    assert mask.shape == (72, 96)
    assert set(np.unique(mask)) == {0, 1}  # nearest: no class between
    assert mask.mean() == pytest.approx(parent.shapes.mask.mean(), abs=0.01)
    instance = mask_in(sample.ground_truth.detections[0], 96, 72)
    assert judge.overlap(mask > 0, instance) > 0.95
    assert judge.overlap(judge.cover(picture), mask > 0) > 0.6  # and the object is there


def test_boxes_of_objects_that_are_gone_are_dropped(scenes: Any, model: str) -> None:
    import fiftyone as fo

    first, second = scenes.limit(2)
    invented = fo.Detection(label="green triangle", bounding_box=[0.0, 0.0, 0.2, 0.2])
    first.ground_truth.detections.append(invented)
    first.save()
    second.ground_truth.detections[0].bounding_box = [0.0, 0.0, 0.15, 0.15]
    second.save()
    report = restyle(scenes, model, strength=0.4, verifier=trained("owlv2"), min_iou=0.5)
    assert report.outputs["boxes confirmed"] == 3
    assert report.outputs["boxes dropped"] == 2
    assert report.outputs["images without a confirmed box"] == 1
    by_parent = {sample.lineage.parents[0]: sample for sample in made(scenes)}
    (kept,) = by_parent[first.id].ground_truth.detections
    assert kept.label != "blue triangle"
    assert kept.verified_iou >= 0.5
    assert by_parent[second.id].ground_truth.detections == []
    assert [sample.id for sample in scenes.match_tags("unconfirmed")] == [by_parent[second.id].id]


def test_words_are_swapped_at_random_but_not_those_of_classes(scenes: Any, model: str, tmp_path: Path) -> None:
    words = tmp_path / "words.csv"
    words.write_text("group,words\nfigure,large|small\nground,stripes|noise|gradient\n")
    options = {"swaps": {}, "vocabulary": str(words), "variants": 3, "dry_run": True}
    report = restyle(scenes, model, **options)
    assert report.outputs["images to make"] == 12
    captions = [caption for caption in scenes.values("caption") for _ in range(3)]
    assert len(report.outputs["prompts"]) == 10
    for prompt, caption in zip(report.outputs["prompts"], captions, strict=False):
        assert prompt != caption
        assert [word for word in prompt.split() if word in world.COLOURS] == [
            word for word in caption.split() if word in world.COLOURS
        ]
    assert report.outputs["prompts"] == restyle(scenes, model, **options).outputs["prompts"]


def test_templates_take_the_text_and_stand_in_turn(scenes: Any, model: str) -> None:
    templates = ("a drawing of {text}", "a photo of {text}, high quality")
    report = restyle(scenes, model, swaps={}, prompts=templates, variants=2, dry_run=True)
    texts = scenes.values("caption")
    assert set(report.outputs["prompts"][:2]) == {template.replace("{text}", texts[0]) for template in templates}


def test_a_language_model_rewrites_what_is_written(scenes: Any, model: str) -> None:
    def answer(request: Any) -> Any:
        lines = [line for line in request.text.splitlines() if "[keep: " in line]
        kept = [line.split("[keep: ")[1].rstrip("]") for line in lines]
        return {"descriptions": [f"a {words} on noise, version {len(server.requests)}" for words in kept]}

    with LlmServer(answer) as server:
        options = {"change": "rewrite", "swaps": {}, "llm_url": server.url, "llm_model": "test"}
        report = restyle(scenes, model, instruction="Only the background may change.", **options)
        assert (report.created, report.failed) == (4, [])
        assert any("Only the background may change." in request.text for request in server.requests)
        for sample in made(scenes):
            parent = scenes[sample.lineage.parents[0]]
            assert sample.lineage.params["prompt"].startswith(f"a {parent.ground_truth.detections[0].label} on noise")
            assert sample.lineage.params["prompt_before"] == parent.caption
        asked = len(server.requests)
        again = restyle(scenes, model, instruction="Only the background may change.", **options)
        assert (again.created, again.skipped, len(server.requests)) == (0, 4, asked)  # nothing is asked again


def test_a_language_model_that_loses_the_subject_costs_that_image_only(scenes: Any, model: str) -> None:
    def answer(request: Any) -> Any:
        lines = [line for line in request.text.splitlines() if "[keep: " in line]
        kept = [line.split("[keep: ")[1].rstrip("]") for line in lines]
        return {"descriptions": ["nothing of that kind", *(f"one {words} on stripes" for words in kept[1:])]}

    with LlmServer(answer) as server:
        options = {"change": "rewrite", "swaps": {}, "llm_url": server.url, "llm_model": "test"}
        report = restyle(scenes, model, **options)
    assert report.created == 3
    assert [why.partition(":")[0] for _, why in report.failed] == ["subject_lost"]
    with LlmServer([Reply(401, "no")] * 9) as server, pytest.raises(Exception, match="401|key"):
        restyle(scenes, model, **{**options, "llm_url": server.url, "seed": 2})


def test_a_rerun_makes_nothing_and_more_variants_add(scenes: Any, model: str) -> None:
    options = {"steps": 3, "strength": 0.7}
    restyle(scenes, model, **options)
    columns = ("lineage.key", "lineage.seed", "lineage.params.prompt", "filepath")
    first = set(zip(*made(scenes).values(list(columns)), strict=True))
    again = restyle(scenes, model, **options)
    assert (again.created, again.skipped) == (0, 4)
    more = restyle(scenes, model, variants=2, batch_size=3, **options)
    assert (more.created, more.skipped) == (4, 4)
    both = set(zip(*made(scenes).values(list(columns)), strict=True))
    assert first < both
    assert len({path for *_, path in both}) == 8


def test_finished_images_stay_and_the_rest_is_the_same_afterwards(
    scenes: Any, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fiftyone_idsynth import media
    from fiftyone_idsynth.errors import storage_error

    write, written = media.write_atomically, []

    def write_until_full(path: Any, data: bytes) -> None:
        if len(written) == 2:
            raise storage_error(OSError(28, "No space left on device"), str(path))
        write(path, data)
        written.append(path)

    options = {"steps": 3, "strength": 0.7, "label_fields": ("ground_truth",)}
    with monkeypatch.context() as patched:
        patched.setattr(media, "write_atomically", write_until_full)
        with pytest.raises(StorageError, match="the disk is full"):
            restyle(scenes, model, batch_size=1, **options)
    assert made(scenes).count() == 2
    assert restyle(scenes, model, batch_size=1, **options).created == 2
    resumed = set(made(scenes).values("filepath"))
    scenes.delete_samples(made(scenes))
    assert restyle(scenes, model, batch_size=1, **options).created == 4
    assert set(made(scenes).values("filepath")) == resumed


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A Stable Diffusion and a ControlNet for it, with random weights."""
    folder = tmp_path_factory.mktemp("tiny")
    return str(tiny_diffusion.sd(folder / "sd")), str(tiny_diffusion.controlnet(folder / "control"))


def test_edges_and_depth_reach_the_controlnet(scenes: Any, tiny: tuple[str, str], tmp_path: Path) -> None:
    from tests.models.test_depth import depth_anything

    model, controlnet = tiny
    depth = str(depth_anything(tmp_path / "depth"))
    options = {"steps": 6, "strength": 0.8, "controlnet": controlnet}
    seen: set[str] = set()
    for more in (
        {"controlnet": None},
        {"control": "edges"},
        {"control": "edges", "control_scale": 0.1},
        {"control": "depth", "depth_model": depth},
    ):
        report = restyle(scenes, model, **{**options, **more})
        assert (report.created, report.failed) == (4, [])
        there = set(made(scenes).values("filepath"))
        assert len(there - seen) >= 3  # other pictures than before
        seen = there
    assert made(scenes).count_values("lineage.params.control") == {"none": 4, "edges": 8, "depth": 4}
    assert set(made(scenes).values("lineage.params.controlnet")) == {None, controlnet}


def test_a_dry_run_writes_nothing(scenes: Any, model: str) -> None:
    before = scenes.count(), scenes.list_runs(), sorted(scenes.get_field_schema(flat=True))
    report = restyle(scenes, model, dry_run=True)
    assert report.outputs["images to make"] == 4
    assert report.outputs["seconds"] > 0
    assert (scenes.count(), scenes.list_runs(), sorted(scenes.get_field_schema(flat=True))) == before


def test_samples_without_a_text_or_a_word_to_swap_are_left_out(scenes: Any, model: str) -> None:
    samples = list(scenes)
    samples[0].caption, samples[1].caption = None, "something else"
    for sample in samples[:2]:
        sample.save()
    report = restyle(scenes, model, steps=3)
    assert report.created == 2
    assert (report.outputs["without a text"], report.outputs["nothing to swap"]) == (1, 1)


def test_one_bad_image_costs_only_itself(scenes: Any, model: str, tmp_path: Path) -> None:
    import fiftyone as fo

    scenes.add_sample(fo.Sample(filepath=broken_image(tmp_path), caption="a red circle"))
    odd = sample_of(scenes_of_one(1)[0], tmp_path / "odd.png", (100, 60))
    odd.shapes = fo.Segmentation(mask=np.zeros((3, 4), np.uint8))
    scenes.add_sample(odd)
    report = restyle(scenes, model, steps=3)
    assert report.created == 4
    assert sorted(why.partition(":")[0] for _, why in report.failed) == ["mask_of_other_size", "truncated"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"strength": 0.04}, ParameterError, "steps x strength"),
        ({"swaps": {"red": "red"}}, ParameterError, "two different words"),
        ({"swaps": {"violet": "red"}}, ParameterError, "no text has any of the words violet"),
        ({"prompts": ("{class} in snow",)}, ParameterError, "is no slot"),
        ({"text_field": "captoin"}, FieldError, "did you mean 'caption'"),
        ({"label_fields": ("caption",)}, FieldError, "must hold"),
        ({"controlnet": "x/y"}, ParameterError, "control='edges'"),
        ({"instruction": "be bold"}, ParameterError, "change='rewrite'"),
        ({"change": "rewrite"}, ParameterError, "change='swap'"),
        ({"verifier": "x", "label_fields": ("shapes",)}, ParameterError, "no boxes to verify"),
        ({"model": trained("clip")}, UsageError, "pipeline|generator|diffusers"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_made(
    scenes: Any, model: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        restyle(scenes, **{"model": model, **options})
    assert not made(scenes).count()


def test_rejected_samples_are_left_alone(scenes: Any, model: str) -> None:
    scenes.tag_samples("rejected")
    with pytest.raises(EmptyViewError):
        restyle(scenes, model)
