"""The formats made of folders: one folder per class, and images beside masks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import UsageError, VerificationError
from .base import Format, Found
from .pictures import Picture, draw_objects


class Classification(Format):
    """One folder per class in every split, also where a split has no image of it, so that class numbers agree."""

    name = "classification"
    title = "one folder per class"
    labels = ("Classification",)
    task = "image-classification"
    keeps_unlabelled = False

    def image_folder(self, split: str) -> Path:
        return self.root / split

    def image_path(self, picture: Picture) -> Path:
        return self.image_folder(picture.split) / str(picture.label) / picture.name

    def check_classes(self) -> None:
        super().check_classes()
        for label in self.classes:
            if label.startswith((".", "_unlabeled")) or "/" in label or "\\" in label:
                raise UsageError(
                    f"class {label!r} cannot be the name of a folder. Rename it (dataset.map_values), or leave it out "
                    "with classes=..."
                )

    def write(self, split: str, pictures: Iterable[Picture]) -> None:
        import fiftyone as fo
        from fiftyone.utils.data.exporters import ImageClassificationDirectoryTreeExporter

        for label in self.classes:
            (self.root / split / label).mkdir(parents=True, exist_ok=True)
        exporter = ImageClassificationDirectoryTreeExporter(export_dir=str(self.root / split), export_media="move")
        with exporter:
            for picture in pictures:
                exporter.export_sample(str(picture.path), fo.Classification(label=picture.label))

    def read(self, split: str) -> Iterator[Found]:
        from fiftyone.utils.data.importers import ImageClassificationDirectoryTreeImporter

        with ImageClassificationDirectoryTreeImporter(dataset_dir=str(self.root / split)) as importer:
            for path, _, label in importer:
                yield Found(Path(path), label=label.label if label is not None else None)

    def read_classes(self, split: str) -> list[str]:
        return sorted(entry.name for entry in os.scandir(self.root / split) if entry.is_dir())


class Segmentation(Format):
    """``SPLIT/data`` and ``SPLIT/labels`` with one PNG per image whose pixel values are class numbers, 0 for none."""

    name = "segmentation"
    title = "segmentation masks"
    labels = ("Detections", "Segmentation")
    task = "image-segmentation"

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.values: dict[int, str] = dict(enumerate(self.classes, start=1))

    @property
    def draws_masks(self) -> bool:
        return True

    def image_folder(self, split: str) -> Path:
        return self.root / split / "data"

    def check_classes(self) -> None:
        super().check_classes()
        if len(self.classes) > 255:
            raise UsageError(f"{len(self.classes)} classes: a mask holds at most 255. Choose some with classes=...")

    def begin(self) -> None:
        named = {"0": "background"} | {str(value): label for value, label in self.values.items()}
        text = json.dumps(named, ensure_ascii=False, indent=1)
        (self.root / "classes.json").write_text(text + "\n", encoding="utf-8")

    def write(self, split: str, pictures: Iterable[Picture]) -> None:
        import fiftyone as fo
        from fiftyone.utils.data.exporters import ImageSegmentationDirectoryExporter

        numbers = {label: value for value, label in self.values.items()}
        with ImageSegmentationDirectoryExporter(export_dir=str(self.root / split), export_media="move") as exporter:
            for picture in pictures:
                mask = picture.pixels
                if mask is None:
                    mask = draw_objects(picture.objects, picture.width, picture.height, numbers)
                    picture.pixels = mask
                exporter.export_sample(str(picture.path), fo.Segmentation(mask=mask))

    def read(self, split: str) -> Iterator[Found]:
        from fiftyone.utils.data.importers import ImageSegmentationDirectoryImporter

        importer = ImageSegmentationDirectoryImporter(
            dataset_dir=str(self.root / split), load_masks=True, include_all_data=True
        )
        with importer:
            for path, _, label in importer:
                if label is None:
                    raise VerificationError(f"{path} has no mask")
                yield Found(Path(path), pixels=label.get_mask())

    def read_classes(self, split: str) -> list[str]:
        content = json.loads((self.root / "classes.json").read_text(encoding="utf-8"))
        return [content[str(value)] for value in sorted(int(key) for key in content) if value]
