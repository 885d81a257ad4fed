"""The detection formats: YOLO, COCO and Pascal VOC."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import numpy as np

from ..errors import UsageError, VerificationError
from .base import Format, Found, image_size
from .pictures import Object, Picture
from .polygons import mask_to_polygon, mask_to_polygons, mask_to_rle, polygons_to_mask, rle_to_mask

if TYPE_CHECKING:
    import fiftyone as fo

MAX_OBJECTS = 100_000
"""Objects per image that have their own COCO annotation id (image id * 100 000 + position)."""


class YOLO(Format):
    """``dataset.yaml`` with ``images/SPLIT`` and ``labels/SPLIT``; the folder can be moved anywhere.

    With masks, each object is one polygon: its parts are joined by slits, its holes cut in.
    """

    name = "yolo"
    title = "YOLO"

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.masks:
            self.stores_boxes = False
            self.box_tolerance = 1.0

    def image_folder(self, split: str) -> Path:
        return self.root / "images" / split

    def write(self, split: str, pictures: Iterable[Picture]) -> None:
        from fiftyone.utils.yolo import YOLOv5DatasetExporter

        exporter = YOLOv5DatasetExporter(
            export_dir=str(self.root), split=split, classes=self.classes, export_media="move", include_path=False
        )
        labels = self.root / "labels" / split
        labels.mkdir(parents=True)
        with exporter:
            for picture in pictures:
                exporter.export_sample(str(picture.path), None if self.masks else _detections(picture))
                if self.masks:
                    text = "\n".join(self._polygon_rows(picture))
                    (labels / picture.name).with_suffix(".txt").write_text(text, encoding="utf-8")

    def read(self, split: str) -> Iterator[Found]:
        from fiftyone.utils.yolo import YOLOv5DatasetImporter

        importer = YOLOv5DatasetImporter(dataset_dir=str(self.root), split=split, include_all_data=True)
        with importer:
            for path, _, label in importer:
                width, height = image_size(path)
                if label is None:
                    raise VerificationError(f"{path} has no label file")
                found = Found(Path(path), [_from_detection(d, width, height) for d in label.detections])
                if self.masks:
                    areas = self._areas(split, found.path, width, height)
                    found.objects = [
                        (name, box, area) for (name, box, _), area in zip(found.objects, areas, strict=True)
                    ]
                yield found

    def read_classes(self, split: str) -> list[str]:
        import yaml

        names = yaml.safe_load((self.root / "dataset.yaml").read_text(encoding="utf-8"))["names"]
        return [names[i] for i in range(len(names))]

    def _polygon_rows(self, picture: Picture) -> Iterator[str]:
        """The rows of a label file; FiftyOne's exporter writes a row, and so an object, per part and per hole."""
        numbers = {label: i for i, label in enumerate(self.classes)}
        for item in picture.objects:
            polygon = mask_to_polygon(item.mask, item.corner) if item.mask is not None else None
            if polygon is not None:
                points = np.clip(polygon / (picture.width, picture.height), 0, 1)
                yield f"{numbers[item.label]} " + " ".join(f"{value:.6f}" for value in points.ravel())

    def _areas(self, split: str, image: Path, width: int, height: int) -> list[int]:
        text = (self.root / "labels" / split / image.name).with_suffix(".txt").read_text(encoding="utf-8")
        polygons = (np.array(row.split()[1:], float).reshape(-1, 2) * (width, height) for row in text.splitlines())
        return [int(polygons_to_mask([polygon], width, height).sum()) for polygon in polygons]


class COCO(Format):
    """``SPLIT/data`` and ``SPLIT/labels.json`` with stable image and annotation ids; category ids count from 1."""

    name = "coco"
    title = "COCO"

    def image_folder(self, split: str) -> Path:
        return self.root / split / "data"

    def write(self, split: str, pictures: Iterable[Picture]) -> None:
        from fiftyone.utils.coco import COCODetectionDatasetExporter

        exporter = COCODetectionDatasetExporter(
            export_dir=str(self.root / split),
            export_media="move",
            categories=[{"id": i, "name": c, "supercategory": None} for i, c in enumerate(self.classes, start=1)],
            info={"licenses": [{"id": i, "name": n, "url": u} for i, (n, u) in enumerate(self._licenses(), start=1)]},
            extra_attrs=False,
            annotation_id="annotation_id",
            num_decimals=3,
        )
        images: list[tuple[int, str]] = []
        shapes: dict[int, tuple[Any, int]] = {}
        with exporter:
            for picture in pictures:
                if len(picture.objects) >= MAX_OBJECTS:
                    raise UsageError(f"{picture.name} has {len(picture.objects)} objects: at most {MAX_OBJECTS - 1}")
                images.append((picture.export_id, picture.license))
                label = _detections(picture)
                pairs = zip(label.detections, picture.objects, strict=True)
                for number, (detection, item) in enumerate(pairs, start=1):
                    annotation_id = picture.export_id * MAX_OBJECTS + number
                    detection["annotation_id"] = annotation_id
                    detection["iscrowd"] = int(item.crowd)
                    if self.masks and item.mask is not None:
                        shapes[annotation_id] = _segmentation(item, picture)
                exporter.export_sample(str(picture.path), label, metadata=_metadata(picture))
        self._complete(self.root / split / "labels.json", images, shapes)

    def read(self, split: str) -> Iterator[Found]:
        from fiftyone.utils.coco import COCODetectionDatasetImporter

        importer = COCODetectionDatasetImporter(
            dataset_dir=str(self.root / split), label_types="detections", include_annotation_id=True, extra_attrs=False
        )
        shapes = {}
        if self.masks:
            content = json.loads((self.root / split / "labels.json").read_text(encoding="utf-8"))
            shapes = {a["id"]: a["segmentation"] for a in content.get("annotations", ())}
        with importer:
            for path, metadata, label in importer:
                found = Found(Path(path))
                for detection in label.detections if label is not None else ():
                    name, box, _ = _from_detection(detection, metadata.width, metadata.height)
                    area = None
                    if self.masks:
                        shape = shapes[detection["coco_id"]]
                        size = (metadata.width, metadata.height)
                        mask = rle_to_mask(shape) if isinstance(shape, dict) else polygons_to_mask(shape, *size)
                        area = int(mask.sum())
                    found.objects.append((name, box, area))
                yield found

    def read_classes(self, split: str) -> list[str]:
        content = json.loads((self.root / split / "labels.json").read_text(encoding="utf-8"))
        return [c["name"] for c in sorted(content["categories"], key=lambda c: c["id"])]

    def _licenses(self) -> list[tuple[str, str]]:
        return sorted(self.licenses.items())

    def _complete(self, path: Path, images: list[tuple[int, str]], shapes: dict[int, tuple[Any, int]]) -> None:
        """Sets what FiftyOne's exporter cannot: stable image ids (it counts 1, 2, ... in the order of writing),
        licences, outlines with holes, and areas counted in mask pixels."""
        content = json.loads(path.read_text(encoding="utf-8"))
        numbers = {name: i for i, (name, _) in enumerate(self._licenses(), start=1)}
        for image in content["images"]:
            image["id"], license = images[image["id"] - 1]
            image["license"] = numbers.get(license)
        for annotation in content.setdefault("annotations", []):
            annotation["image_id"] = images[annotation["image_id"] - 1][0]
            annotation["segmentation"], annotation["area"] = shapes.get(annotation["id"], ([], annotation["area"]))
        path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


class VOC(Format):
    """``SPLIT/data`` and ``SPLIT/labels`` with one XML file per image; box edges are whole pixels."""

    name = "voc"
    title = "Pascal VOC"
    box_tolerance = 1.0

    def image_folder(self, split: str) -> Path:
        return self.root / split / "data"

    def begin(self) -> None:
        text = "".join(label + "\n" for label in self.classes)
        (self.root / "classes.txt").write_text(text, encoding="utf-8")

    def write(self, split: str, pictures: Iterable[Picture]) -> None:
        from fiftyone.utils.voc import VOCDetectionDatasetExporter

        exporter = VOCDetectionDatasetExporter(
            export_dir=str(self.root / split),
            export_media="move",
            include_paths=False,
            extra_attrs=["pose", "truncated", "difficult"],
        )
        with exporter:
            for picture in pictures:
                label = _detections(picture)
                for detection in label.detections:
                    # The exporter truncates edges to whole pixels and does not escape text for XML.
                    detection.bounding_box = _whole_pixels(detection.bounding_box, picture.width, picture.height)
                    detection.label = escape(detection.label)
                    detection["pose"], detection["truncated"], detection["difficult"] = "Unspecified", 0, 0
                exporter.export_sample(str(picture.path), label, metadata=_metadata(picture))

    def read(self, split: str) -> Iterator[Found]:
        from fiftyone.utils.voc import VOCDetectionDatasetImporter

        importer = VOCDetectionDatasetImporter(
            dataset_dir=str(self.root / split), include_all_data=True, extra_attrs=False
        )
        with importer:
            for path, metadata, label in importer:
                if label is None:
                    raise VerificationError(f"{path} has no label file")
                size = (metadata.width, metadata.height)
                yield Found(Path(path), [_from_detection(d, *size) for d in label.detections])

    def read_classes(self, split: str) -> list[str]:
        return (self.root / "classes.txt").read_text(encoding="utf-8").splitlines()


def _metadata(picture: Picture) -> fo.ImageMetadata:
    import fiftyone as fo

    return fo.ImageMetadata(width=picture.width, height=picture.height, num_channels=picture.channels)


def _detections(picture: Picture) -> fo.Detections:
    import fiftyone as fo

    return fo.Detections(detections=[fo.Detection(label=o.label, bounding_box=list(o.box)) for o in picture.objects])


def _from_detection(detection: fo.Detection, width: int, height: int) -> tuple[str, tuple[float, ...], int | None]:
    x, y, w, h = detection.bounding_box
    return detection.label, (x * width, y * height, w * width, h * height), None


def _segmentation(item: Object, picture: Picture) -> tuple[Any, int]:
    """COCO's ``segmentation`` (run lengths for a crowd, else polygons) and ``area`` of an object."""
    assert item.mask is not None
    area = int(item.mask.sum())
    if item.crowd:
        full = np.zeros((picture.height, picture.width), bool)
        x, y = item.corner
        full[y : y + item.mask.shape[0], x : x + item.mask.shape[1]] = item.mask
        return mask_to_rle(full), area
    return [np.round(p, 2).ravel().tolist() for p in mask_to_polygons(item.mask, item.corner)], area


def _whole_pixels(box: list[float], width: int, height: int) -> list[float]:
    """Moves the edges of a relative box to the nearest pixels, plus a quarter so that truncation keeps them."""
    edges = []
    for start, length, size in ((box[0], box[2], width), (box[1], box[3], height)):
        first = min(round(start * size), size - 1)
        edges.append((first, max(first + 1, round((start + length) * size)) - first, size))
    (x, w, _), (y, h, _) = edges
    return [(x + 0.25) / width, (y + 0.25) / height, w / width, h / height]
