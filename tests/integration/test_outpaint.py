"""Outpainting on a real database with a small trained diffusion model: old pixels, labels, resume, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fiftyone_idsynth.errors import EmptyViewError, FieldError, ParameterError, StorageError
from fiftyone_idsynth.generation.outpaint import outpaint as stage
from fiftyone_idsynth.media import read_image
from tests.integration.shapes import broken_image, scenes_of_one, trained


@pytest.fixture(scope="module")
def model() -> str:
    return trained("sd")


@pytest.fixture
def scenes(dataset: Any, tmp_path: Path) -> Any:
    """Three pictures of one large shape, with exact boxes, masks and an outline."""
    import fiftyone as fo

    samples = []
    for number, scene in enumerate(scenes_of_one(3)):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), scene.image[..., ::-1])
        thing = scene.things[0]
        x0, y0, x1, y1 = thing.box
        box = [x0 / 64, y0 / 64, (x1 - x0) / 64, (y1 - y0) / 64]
        sample = fo.Sample(filepath=str(path), tags=[("train", "val", "test")[number], "mine"], caption=scene.caption)
        sample["ground_truth"] = fo.Detections(
            detections=[fo.Detection(label=thing.shape, bounding_box=box, mask=thing.mask[y0:y1, x0:x1])]
        )
        sample["classes"] = fo.Segmentation(mask=thing.mask.astype(np.uint8))
        samples.append(sample)
    dataset.add_samples(samples, progress=False)
    return dataset


def outpaint(samples: Any, model: str, **options: Any) -> Any:
    return stage(samples, **{"right": "50%", "top": "16", "model": model, "steps": 3, "progress": False, **options})


def made(dataset: Any) -> Any:
    from fiftyone import ViewField as F

    return dataset.match(F("source.kind") == "generated")


def contents(dataset: Any) -> dict[str, Any]:
    """What the pictures are, by parent and number."""
    columns = ("lineage.parents", "lineage.params.variant", "filepath", "lineage.seed", "lineage.params.prompt", "tags")
    return {
        f"{parents[0]}-{variant}": [Path(path).name, *rest]
        for parents, variant, path, *rest in zip(*made(dataset).values(list(columns)), strict=True)
    }


def test_old_pixels_stay_and_labels_move_with_them(scenes: Any, model: str) -> None:
    report = outpaint(scenes, model, prompts=("a plain background",))
    assert (report.created, report.failed) == (3, [])
    assert report.outputs["sizes"] == "96x80"
    for sample in made(scenes):
        parent = scenes[sample.lineage.parents[0]]
        old, new = read_image(parent.filepath).pixels, read_image(sample.filepath).pixels
        assert new.shape == (80, 96, 3)
        assert (sample.metadata.width, sample.metadata.height) == (96, 80)
        np.testing.assert_array_equal(new[16:, :64], old)
        mirrored = np.pad(old, ((16, 0), (0, 32), (0, 0)), "reflect")
        assert (new != mirrored).any(-1)[:16].mean() > 0.9  # painted, not only continued

        (label,), (was,) = sample.ground_truth.detections, parent.ground_truth.detections
        (before, after) = (
            detection.to_segmentation(frame_size=size, target=255).mask > 0
            for detection, size in ((was, (64, 64)), (label, (96, 80)))
        )
        np.testing.assert_array_equal(after[16:, :64], before)
        assert after.sum() == before.sum()
        assert (label.label, label.inherited, label.inherited_from) == (was.label, True, parent.id)
        np.testing.assert_array_equal(sample.classes.get_mask()[16:, :64], parent.classes.mask)

        assert sample.tags == ["synthetic", parent.tags[0]]
        params = sample.lineage.params
        assert params["margins"] == {"left": 0, "right": 32, "top": 16, "bottom": 0}
        assert (params["prompt"], params["model"]) == ("a plain background", model)
        assert sample.lineage.stage == "outpaint"


def test_a_rerun_makes_nothing_and_more_variants_add(scenes: Any, model: str) -> None:
    prompts = ("stripes", "noise")
    outpaint(scenes, model, prompts=prompts)
    first = contents(scenes)
    again = outpaint(scenes, model, prompts=prompts)
    assert (again.created, again.skipped) == (0, 3)
    more = outpaint(scenes, model, prompts=prompts, variants=2)
    assert (more.created, more.skipped) == (3, 3)
    both = contents(scenes)
    assert {key: both[key] for key in first} == first
    assert len({value[0] for value in both.values()}) == len({value[1] for value in both.values()}) == 6
    for parent in {key.partition("-")[0] for key in both}:  # the pictures of a sample get different prompts
        assert {both[f"{parent}-{variant}"][2] for variant in range(2)} == set(prompts)


def test_the_same_pictures_come_in_any_batch_and_after_a_full_disk(
    scenes: Any, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fiftyone_idsynth import media
    from fiftyone_idsynth.errors import storage_error

    write, written = media.write_atomically, []

    def write_until_full(path: Any, data: bytes) -> None:
        if len(written) == 1:
            raise storage_error(OSError(28, "No space left on device"), str(path))
        write(path, data)
        written.append(path)

    with monkeypatch.context() as patched:
        patched.setattr(media, "write_atomically", write_until_full)
        with pytest.raises(StorageError, match="the disk is full"):
            outpaint(scenes, model, label_fields=("ground_truth",), batch_size=1)
    assert made(scenes).count() == 1
    report = outpaint(scenes, model, label_fields=("ground_truth",), batch_size=1)
    assert (report.created, report.skipped) == (2, 1)
    resumed = contents(scenes)
    scenes.delete_samples(made(scenes))
    assert outpaint(scenes, model, label_fields=("ground_truth",), batch_size=3).created == 3
    together = contents(scenes)
    assert resumed.keys() == together.keys()
    for key, value in resumed.items():
        assert value[1:] == together[key][1:]


def test_images_larger_than_the_model_paints_keep_their_pixels(dataset: Any, model: str, tmp_path: Path) -> None:
    import fiftyone as fo

    picture = np.random.default_rng(0).integers(0, 256, (150, 201, 3), np.uint8)
    path = tmp_path / "large.png"
    cv2.imwrite(str(path), picture[..., ::-1])
    dataset.add_sample(fo.Sample(filepath=str(path)))
    report = outpaint(dataset, model, right="0", top="0", left="31", prompts=("noise",))
    new = read_image(made(dataset).first().filepath).pixels
    assert new.shape == (150, 232, 3)
    np.testing.assert_array_equal(new[:, 31:], picture)
    assert any("painted at 96 pixels" in note for note in report.notes)


def test_objects_cover_the_share_that_is_asked_for(scenes: Any, model: str) -> None:
    import fiftyone_idsynth as ids

    nothing = {"right": "0", "top": "0"}
    with pytest.raises(ParameterError, match="run score_quality with the label_field"):
        outpaint(scenes, model, object_ratio=0.1, **nothing)
    ids.score_quality(scenes, label_field="ground_truth", progress=False)
    before = dict(zip(*scenes.values(["id", "quality.object_ratio"]), strict=True))
    report = outpaint(scenes, model, object_ratio=0.1, **nothing)
    assert report.created == sum(share > 0.1 for share in before.values()) > 0
    for sample in made(scenes):
        width, height = sample.metadata.width, sample.metadata.height
        (label,) = sample.ground_truth.detections
        mask = label.to_segmentation(frame_size=(width, height), target=255).mask > 0
        assert mask.mean() == pytest.approx(0.1, abs=0.01)
        assert abs(width - height) <= 1
    with pytest.raises(ParameterError, match="no more than this of any image"):
        outpaint(scenes, model, object_ratio=0.9, **nothing)
    with pytest.raises(ParameterError, match="leave left, right, top and bottom out"):
        outpaint(scenes, model, object_ratio=0.1)


def test_the_prompt_may_come_from_a_field(scenes: Any, model: str) -> None:
    outpaint(scenes, model, prompt_field="caption")
    for sample in made(scenes):
        assert sample.lineage.params["prompt"] == scenes[sample.lineage.parents[0]].caption


def test_what_models_wrote_stays_theirs_and_people_keep_their_work(scenes: Any, model: str) -> None:
    import fiftyone as fo

    from fiftyone_idsynth.authorship import authors_of, declare_authors, written_by_people
    from fiftyone_idsynth.samples import set_fields

    ids = scenes.values("id")
    label = fo.Detections(detections=[fo.Detection(label="square", bounding_box=[0.1, 0.1, 0.5, 0.5])])
    scenes.add_sample_field("detections", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    declare_authors(scenes, ["detections"])
    set_fields(scenes, {"detections": dict.fromkeys(ids, label)})
    (note,) = authors_of({"detections": label}).values()
    set_fields(scenes, {"authors.detections": dict.fromkeys(ids[:2], note)})  # a person drew the third
    outpaint(scenes, model)
    pictures = made(scenes)
    people = written_by_people(scenes, pictures.values("id"), ["detections"])
    assert [scenes[i].lineage.parents[0] for i in people] == ids[2:]


def test_a_dry_run_says_what_would_be_made_and_writes_nothing(scenes: Any, model: str) -> None:
    before = scenes.count(), scenes.list_runs()
    report = outpaint(scenes, model, prompts=("stripes", "noise"), variants=2, dry_run=True)
    assert report.outputs["images to make"] == 6
    assert report.outputs["prompts"] == ["stripes", "noise"]
    assert report.outputs["seconds"] > 0
    assert (scenes.count(), scenes.list_runs()) == before


def test_one_bad_image_costs_only_itself(scenes: Any, model: str, tmp_path: Path) -> None:
    import fiftyone as fo

    other = np.zeros((30, 20), np.uint8)
    path = scenes.first().filepath
    scenes.add_samples(
        [
            fo.Sample(filepath=broken_image(tmp_path)),
            fo.Sample(filepath=path, classes=fo.Segmentation(mask=other)),
        ],
        progress=False,
    )
    report = outpaint(scenes, model)
    assert report.created == 3
    why = " ".join(reason for _, reason in report.failed)
    assert len(report.failed) == 2
    assert "not_an_image" in why or "truncated" in why or "corrupt" in why
    assert "the mask is 20 x 30, the image 64 x 64 pixels" in why


def test_bad_input_says_what_to_do(scenes: Any, model: str) -> None:
    with pytest.raises(ParameterError, match="widen at least one side"):
        outpaint(scenes, model, right="0", top="0")
    with pytest.raises(ParameterError, match="bottom='lots': give pixels, e.g. 128, or a share"):
        outpaint(scenes, model, bottom="lots")
    with pytest.raises(ParameterError, match="less than one"):
        outpaint(scenes, model, strength=0.1)
    with pytest.raises(ParameterError, match="either prompts or a field"):
        outpaint(scenes, model, prompts=("noise",), prompt_field="caption")
    with pytest.raises(ParameterError, match="did you mean 'caption'"):
        outpaint(scenes, model, prompt_field="captoin")
    with pytest.raises(FieldError, match="did you mean 'ground_truth'"):
        outpaint(scenes, model, label_fields=("ground_thruth",))
    outpaint(scenes, model)
    with pytest.raises(EmptyViewError, match="made by outpaint itself"):
        outpaint(made(scenes), model)
    assert not made(scenes).exists("rejected").count()
    long = outpaint(scenes, model, prompts=("a red circle on stripes " * 30,), dry_run=True)
    assert any("does not read" in note for note in long.notes)
