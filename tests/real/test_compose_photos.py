"""Composition from photographs with class-index masks, polygons, alpha channels and human-made segmentations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fiftyone_idsynth as ids
from fiftyone_idsynth.errors import RefusedImage
from fiftyone_idsynth.generation import cutouts

CLASSES = ("person", "dog", "cat", "car", "horse", "elephant", "bear", "zebra", "truck", "bus")


@pytest.fixture
def coco(dataset: Any, shared: Path) -> Any:
    """coco128 with its class-index masks (``segmentation``) and its polygons (``polygons``)."""
    import fiftyone as fo

    root = shared / "data/coco128"
    names = _names(root / "semantic_segmentation/config.yaml")
    samples = []
    for image in sorted((root / "images/train2017").glob("*.jpg")):
        sample = fo.Sample(filepath=str(image))
        mask = root / f"semantic_segmentation/masks/train2017/{image.stem}.png"
        if mask.exists():
            sample["segmentation"] = fo.Segmentation(mask_path=str(mask))
        polygons = root / f"instance_segmentation/labels/train2017/{image.stem}.txt"
        if polygons.exists():
            sample["polygons"] = fo.Polylines(polylines=[_polygon(line, names) for line in _lines(polygons)])
        samples.append(sample)
    dataset.add_samples(samples, progress=False)
    dataset.mask_targets = {"segmentation": names}
    dataset.save()
    return dataset


def _names(config: Path) -> dict[int, str]:
    import yaml

    return {int(k): v for k, v in yaml.safe_load(config.read_text())["classes"].items()}


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if len(line.split()) >= 7]


def _polygon(line: str, names: dict[int, str]) -> Any:
    import fiftyone as fo

    index, *numbers = line.split()
    points = list(zip(map(float, numbers[::2]), map(float, numbers[1::2]), strict=False))
    return fo.Polyline(label=names.get(int(index), index), points=[points], closed=True, filled=True)


def composites(dataset: Any) -> Any:
    from fiftyone import ViewField as F

    return dataset.match(F("source.kind") == "composed")


def check_exact(dataset: Any) -> int:
    """Checks labels against images that are made again without blending; returns the number of objects."""
    from fiftyone_idsynth.generation.blend import canvas_of
    from fiftyone_idsynth.generation.composites import remake
    from fiftyone_idsynth.generation.layout import Layout
    from fiftyone_idsynth.media import read_image

    objects = 0
    for sample in composites(dataset):
        params = sample.lineage.params
        layout = Layout.from_dict(params["layout"])
        background = next(f["path"] for f in params["files"] if f["name"] == layout.background)
        plain = canvas_of(read_image(background).pixels, layout)
        image = remake(params, "none")
        seen = np.zeros(image.shape[:2], bool)
        for detection in sample.ground_truth.detections:
            whole = detection.to_segmentation(frame_size=(layout.width, layout.height)).mask > 0
            sides = (layout.width, layout.height) * 2
            box = tuple(round(v * side) for v, side in zip(detection.bounding_box, sides, strict=True))
            assert cutouts.bounds(whole) == box
            assert detection.area == whole.sum()
            assert not (seen & whole).any()
            seen |= whole
            objects += 1
        if all(p.label for p in layout.placements):
            assert (image[~seen] == plain[~seen]).all()
    return objects


@pytest.mark.parametrize("label_field", ["segmentation", "polygons"])
def test_a_test_object_never_occurs_in_training(coco: Any, label_field: str) -> None:
    report = ids.compose(
        coco, coco, coco, label_field=label_field, classes=CLASSES, count=20, blending=("none", "poisson"),
        max_truncation=0.1, progress=False,
    )  # fmt: skip
    assert report.created == 40
    assert sum(report.outputs["cutouts"].values()) > 30
    assert check_exact(coco) >= 40
    used: dict[str, set[str]] = {}
    for split, parents in zip(*composites(coco).values(["lineage.params.split", "lineage.parents"]), strict=True):
        used.setdefault(split, set()).update(parents)
    assert set(used) == {"train", "val", "test"}
    for split, parents in used.items():
        for other, theirs in used.items():
            assert split == other or not parents & theirs
        assert all(split in tags for tags in coco.select(list(parents)).values("tags"))
    again = ids.compose(
        coco, coco, coco, label_field=label_field, classes=CLASSES, count=20, blending=("none", "poisson"),
        max_truncation=0.1, progress=False,
    )  # fmt: skip
    assert (again.created, again.skipped) == (0, 40)


def test_masks_of_segmentation_models(dataset: Any, shared: Path) -> None:
    """DeepLab's class-index masks; in the dog's, class 0 is the dog and must be asked for."""
    import fiftyone as fo

    root = shared / "data/masks/coral"
    pairs = (
        ("bird_segmentation.bmp", "bird_segmentation_mask.bmp"),
        ("cityscapes_segmentation.bmp", "cityscapes_segmentation_mask.bmp"),
        ("dog_segmentation_256.bmp", "dog_segmentation_mask_256.bmp"),
    )
    for image, mask in pairs:
        sample = fo.Sample(filepath=str(root / image), tags=["object"])
        sample["segmentation"] = fo.Segmentation(mask_path=str(root / mask))
        dataset.add_sample(sample)
    for name in ("sunflower.bmp", "owl.jpg", "pets.jpg"):
        dataset.add_sample(fo.Sample(filepath=str(root / name), tags=["background"]))
    objects, backgrounds = dataset.match_tags("object"), dataset.match_tags("background")
    dataset.mask_targets = {"segmentation": {0: "dog", 3: "bird", 13: "car"}}
    report = ids.compose(
        dataset, objects, backgrounds, label_field="segmentation", classes=("dog", "bird", "car"), cutout="mask",
        count=6, fractions={"train": 1}, allow_truncated=True, width=480, progress=False,
    )  # fmt: skip
    assert report.created == 24
    assert set(report.outputs["cutouts"]) == {"dog", "bird", "car"}
    assert check_exact(dataset) >= 24


def test_cutouts_with_alpha_channels(dataset: Any, shared: Path) -> None:
    import fiftyone as fo

    root = shared / "data/masks/rembg/examples"
    for path in sorted(root.glob("*.out.png")):
        dataset.add_sample(fo.Sample(filepath=str(path), tags=["object"]))
        dataset.add_sample(fo.Sample(filepath=str(path).replace(".out.png", ".jpg"), tags=["background"]))
    report = ids.compose(
        dataset, dataset.match_tags("object"), dataset.match_tags("background"), default_label="thing", count=6,
        fractions={"train": 0.5, "val": 0.5}, share_backgrounds=True, progress=False,
    )  # fmt: skip
    assert report.outputs["cutouts"] == {"thing": 4}
    assert report.created == 24
    assert check_exact(dataset) >= 24


def test_the_plain_background_remover_on_product_like_photographs(shared: Path) -> None:
    """Objects with a reference outline, on the plain backgrounds of product photographs with noise and a gradient."""
    from fiftyone_idsynth.media import read_image

    rng = np.random.default_rng(0)
    for name in ("animal-1", "car-1"):
        rgba = read_image(shared / f"data/masks/rembg/examples/{name}.out.png", mode="RGBA").pixels
        opacity = rgba[..., 3:] / 255
        light = np.linspace(-6, 6, rgba.shape[1])[None, :, None] + rng.normal(0, 2, (*rgba.shape[:2], 3))
        for colour in ((255, 255, 255), (200, 205, 210), (30, 30, 32)):
            photograph = rgba[..., :3] * opacity + (np.array(colour)) * (1 - opacity) + light
            found = cutouts.plain_background_mask(np.clip(photograph, 0, 255).astype(np.uint8))
            wanted = rgba[..., 3] >= 128
            assert (found & wanted).sum() / (found | wanted).sum() > 0.94


def test_ordinary_photographs_have_no_plain_background(shared: Path) -> None:
    from fiftyone_idsynth.media import read_image

    refused = 0
    files = sorted((shared / "data/coco128/images/train2017").glob("*.jpg"))[:60]
    for path in files:
        try:
            cutouts.plain_background_mask(read_image(path).pixels)
        except RefusedImage as refusal:
            refused += refusal.reason == "background_not_plain"
    assert refused >= 0.95 * len(files)
