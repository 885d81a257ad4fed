"""What every dataset format offers: to write one split, and to read it back.

FiftyOne's exporters and importers do the work. They are driven directly, with labels made for them, so that nothing of
a sample slips into an export by accident (foreign attributes crash the COCO exporter), nothing is added to the user's
database, and memory stays flat.
"""

from __future__ import annotations

import abc
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import UsageError
from .pictures import Picture


@dataclass(slots=True)
class Found:
    """What was read back of one image.

    Attributes:
        path: the image file
        objects: ``(class, (x, y, width, height) in pixels, mask area in pixels or None)`` per object
        label: its class, for classification
        text: its caption, for captions
        pixels: its semantic mask
    """

    path: Path
    objects: list[tuple[str, tuple[float, ...], int | None]] = field(default_factory=list)
    label: str | None = None
    text: str | None = None
    pixels: np.ndarray | None = None


class Format(abc.ABC):
    """A dataset format.

    Attributes:
        name: its name
        title: its name in prose
        labels: FiftyOne label classes that it can hold; none for text
        task: the task of the Hugging Face dataset card
        keeps_unlabelled: whether an image without labels has a place in it
        box_tolerance: how far, in pixels, the edges of a box may move by being stored
        stores_boxes: whether boxes are stored; if not, they are those of the outlines
    """

    name: ClassVar[str]
    title: ClassVar[str]
    labels: ClassVar[tuple[str, ...]] = ("Detections",)
    task: ClassVar[str] = "object-detection"
    keeps_unlabelled: ClassVar[bool] = True
    box_tolerance: float = 0.05
    stores_boxes: bool = True

    def __init__(self, root: Path, classes: list[str], *, masks: bool = False, licenses: dict[str, str] | None = None):
        self.root = root
        self.classes = classes
        self.masks = masks
        self.licenses = licenses or {}

    @property
    def draws_masks(self) -> bool:
        """Whether objects need their instance masks."""
        return self.masks

    def check_classes(self) -> None:
        """Raises :class:`UsageError` if a class has a name that this format cannot hold."""
        for label in self.classes:
            if not label.strip() or label != label.strip() or any(ord(c) < 32 or ord(c) == 127 for c in label):
                raise UsageError(
                    f"class {label!r} cannot be exported: its name is empty, has spaces around it or control "
                    "characters. Rename it (dataset.map_values), or leave it out with classes=..."
                )

    def begin(self) -> None:
        """Writes what all splits share."""

    @abc.abstractmethod
    def write(self, split: str, pictures: Iterable[Picture]) -> None:
        """Writes one split; the image files are moved into place."""

    @abc.abstractmethod
    def read(self, split: str) -> Iterator[Found]:
        """Reads one split back with FiftyOne's importer."""

    @abc.abstractmethod
    def read_classes(self, split: str) -> list[str]:
        """The classes as a reader of this split sees them."""

    @abc.abstractmethod
    def image_folder(self, split: str) -> Path:
        """The folder that holds a split's image files."""

    def image_path(self, picture: Picture) -> Path:
        """Where the image file of a picture is when it has been written."""
        return self.image_folder(picture.split) / picture.name

    def hub_configs(self, splits: list[str], extensions: set[str]) -> list[dict[str, Any]]:
        """What the Hugging Face Hub must be told to find the files, if it does not find them by itself."""
        return []


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Width and height of an image file, as stored."""
    from PIL import Image

    with Image.open(path) as image:
        return image.size
