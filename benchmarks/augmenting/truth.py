"""How true labels stay: boxes that were carried by themselves, against the masks of the same objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

SMALL = 32
"""Side in pixels below which one pixel of rounding is much of a box."""


@dataclass
class Found:
    """What was seen of some transforms.

    Attributes:
        transforms: how many were applied to a picture with its labels
        ious: IoU of each object's carried box with the box round its carried mask
        sides: the shorter side of that box, in pixels
        polygons: IoU of the box round each carried polygon with the box round the carried mask
        written: IoU of the box that is written for an object with a mask, with the box round that mask
        outside: boxes that reach beyond their picture
        refused: transforms that were refused, by reason
    """

    transforms: int = 0
    ious: list[float] = field(default_factory=list)
    sides: list[float] = field(default_factory=list)
    polygons: list[float] = field(default_factory=list)
    written: list[float] = field(default_factory=list)
    outside: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    def add(self, other: Found) -> None:
        """Adds what another one saw."""
        self.transforms += other.transforms
        self.outside += other.outside
        for name in ("ious", "sides", "polygons", "written"):
            getattr(self, name).extend(getattr(other, name))
        for reason, count in other.refused.items():
            self.refused[reason] = self.refused.get(reason, 0) + count


def coco_pictures(folder: Path) -> list[tuple[Path, list[np.ndarray]]]:
    """Photographs of coco128 with the polygons of their objects, relative."""
    found = []
    for file in sorted((folder / "instance_segmentation/labels/train2017").glob("*.txt")):
        rows = [line.split() for line in file.read_text().splitlines()]
        polygons = [np.array(row[1:], float).reshape(-1, 2) for row in rows if len(row) >= 7]
        found.append((folder / "images/train2017" / f"{file.stem}.jpg", polygons))
    return [(path, polygons) for path, polygons in found if path.is_file() and polygons]


def raccoon_pictures(folder: Path) -> list[tuple[Path, list[np.ndarray]]]:
    """Photographs of raccoons with their boxes, as the polygons of four corners."""
    found = []
    for file in sorted((folder / "annotations").glob("*.xml")):
        root = ElementTree.parse(file).getroot()
        width, height = (float(root.findtext(f"size/{side}") or 0) for side in ("width", "height"))
        boxes = [
            [float(box.findtext(name) or 0) for name in ("xmin", "ymin", "xmax", "ymax")] for box in root.iter("bndbox")
        ]
        polygons = [
            np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]) / (width, height)
            for x0, y0, x1, y1 in boxes
            if width and height
        ]
        path = folder / "images" / (root.findtext("filename") or "")
        if path.is_file() and polygons:
            found.append((path, polygons))
    return found


def measure(
    pictures: Sequence[tuple[Path, list[np.ndarray]]], spec: Any, count: int, *, threads: int = 2, seed: int = 0
) -> Found:
    """Applies transforms and compares what became of each object.

    Args:
        pictures: files with the polygons of their objects
        spec: the pipeline
        count: transforms, spread over the pictures
        threads (2): how many work at once
        seed (0): of the transforms
    """
    from fiftyone_idsynth.augmentation.applying import Applier
    from fiftyone_idsynth.augmentation.pipelines import read_pipeline

    applier, total = Applier(read_pipeline(spec)), Found()
    shares = np.diff(np.linspace(0, count, len(pictures) + 1).astype(int))
    with ThreadPoolExecutor(threads) as pool:
        work = zip(pictures, shares, range(len(pictures)), strict=True)
        for found in pool.map(lambda one: _one(applier, *one[0], int(one[1]), seed + 100_000 * one[2]), work):
            total.add(found)
    return total


def _one(applier: Any, path: Path, polygons: list[np.ndarray], count: int, seed: int) -> Found:
    from fiftyone_idsynth.errors import RefusedImage
    from fiftyone_idsynth.label_parts import as_label
    from fiftyone_idsynth.media import MediaStore, read_image
    from fiftyone_idsynth.warping import KeepRule, Tally

    picture, found = read_image(path).pixels, Found()
    height, width = picture.shape[:2]
    load = applier.load(_labels(polygons, width, height), (width, height))
    for number in range(count):
        found.transforms += 1
        try:
            pixels, points, maps = applier(picture, load, seed + number)
            size = (pixels.shape[1], pixels.shape[0])
            labels = load.unload(
                points, maps, size, KeepRule(), parent="", store=MediaStore(""), tally=Tally()
            )  # fmt: skip
        except RefusedImage as refusal:
            found.refused[refusal.reason] = found.refused.get(refusal.reason, 0) + 1
            continue
        _compare({name: as_label(label) for name, label in labels.items() if label}, size, found)
    return found


def _labels(polygons: list[np.ndarray], width: int, height: int) -> dict[str, Any]:
    """Each object three times: with a mask, with a box alone, and as a polygon."""
    import cv2
    import fiftyone as fo

    from fiftyone_idsynth.carrying import relative_box

    masked, boxes, lines = [], [], []
    for number, polygon in enumerate(polygons):
        canvas = np.zeros((height, width), np.uint8)
        corners = np.rint((polygon * (width, height) - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(canvas, [corners], 1, shift=4)
        rows, columns = np.nonzero(canvas)
        if not len(rows):
            continue
        left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        box = relative_box((int(left), int(top), int(right - left), int(bottom - top)), width, height)
        name, mask = str(number), canvas[top:bottom, left:right] > 0
        masked.append(fo.Detection(label=name, bounding_box=box, mask=mask))
        boxes.append(fo.Detection(label=name, bounding_box=box))
        lines.append(fo.Polyline(label=name, points=[polygon.tolist()], closed=True, filled=True))
    return {
        "masked": fo.Detections(detections=masked), "boxes": fo.Detections(detections=boxes),
        "lines": fo.Polylines(polylines=lines),
    }  # fmt: skip


def _compare(labels: dict[str, Any], size: tuple[int, int], found: Found) -> None:
    masked = {one.label: one for one in labels["masked"].detections}
    boxes = {one.label: _corners(one.bounding_box) for one in labels["boxes"].detections}
    lines = {one.label: np.concatenate([np.array(ring) for ring in one.points]) for one in labels["lines"].polylines}
    for name, one in masked.items():
        # The tight box is measured anew, on the mask drawn into the picture as FiftyOne does.
        drawn = one.to_segmentation(frame_size=size, target=255).mask > 0
        rows, columns = np.nonzero(drawn)
        tight = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / (size * 2)
        found.written.append(iou(_corners(one.bounding_box), tight))
        if name in boxes:
            found.ious.append(iou(boxes[name], tight))
            found.sides.append(float(min((tight[2:] - tight[:2]) * size)))
        if name in lines:
            found.polygons.append(iou(np.concatenate([lines[name].min(axis=0), lines[name].max(axis=0)]), tight))
    for corners in [*boxes.values(), *(_corners(one.bounding_box) for one in masked.values())]:
        found.outside += bool((corners < 0).any() or (corners > 1 + 1e-9).any())


def _corners(box: Sequence[float]) -> np.ndarray:
    x, y, w, h = box
    return np.array([x, y, x + w, y + h])


def iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two boxes: left, top, right, bottom."""
    inner = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    shared = float(np.prod(np.clip(inner, 0, None)))
    return shared / float(np.prod(first[2:] - first[:2]) + np.prod(second[2:] - second[:2]) - shared)


def lines_of(name: str, found: Found) -> Iterator[str]:
    """What was found, as lines of a report."""
    ious, sides = np.array(found.ious), np.array(found.sides)
    large = ious[sides >= SMALL]
    yield f"{name}: {found.transforms} transforms, {len(ious)} objects, {found.outside} boxes outside the image"
    for title, values in (
        ("written box / its mask", np.array(found.written)), ("box alone / mask, all", ious),
        (f"box alone / mask, sides >= {SMALL} px", large), ("polygon / mask, all", np.array(found.polygons)),
    ):  # fmt: skip
        if len(values):
            yield (
                f"  IoU, {title:35s} mean {values.mean():.4f}  lowest {values.min():.3f}  "
                f">= 0.9: {(values >= 0.9).mean():.2%} of {len(values)}"
            )
    if found.refused:
        yield f"  refused: {found.refused}"
