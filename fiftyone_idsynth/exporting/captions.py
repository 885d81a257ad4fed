"""Image and caption pairs for training image generators; FiftyOne has no exporter for them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from ..errors import VerificationError
from .base import Format, Found
from .pictures import Picture

TEXT_FIELDS = ("training_text", "caption")
"""Where a caption is taken from, in this order."""


class Captions(Format):
    """One folder per split: each image beside a ``.txt`` with its caption (kohya and most web UIs), and a
    ``metadata.jsonl`` with ``file_name`` and ``text`` (Hugging Face ``imagefolder``, diffusers)."""

    name = "captions"
    title = "image and caption pairs"
    labels: ClassVar[tuple[str, ...]] = ()
    task = "text-to-image"
    keeps_unlabelled = False

    def image_folder(self, split: str) -> Path:
        return self.root / split

    def hub_configs(self, splits: list[str], extensions: set[str]) -> list[dict[str, Any]]:
        """Names image files and captions, lest the text files be taken for the data."""
        files = [
            {
                "split": "validation" if split == "val" else split,
                "path": [*(f"{split}/*.{ext}" for ext in sorted(extensions)), f"{split}/metadata.jsonl"],
            }
            for split in splits
        ]
        return [{"config_name": "default", "data_files": files}]

    def write(self, split: str, pictures: Iterable[Picture]) -> None:
        folder = self.image_folder(split)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "metadata.jsonl").open("w", encoding="utf-8") as metadata:
            for picture in pictures:
                image = folder / picture.name
                shutil.move(picture.path, image)
                image.with_suffix(".txt").write_text(f"{picture.text}\n", encoding="utf-8")
                row = {"file_name": picture.name, "text": picture.text}
                metadata.write(json.dumps(row, ensure_ascii=False) + "\n")

    def read(self, split: str) -> Iterator[Found]:
        folder = self.image_folder(split)
        with (folder / "metadata.jsonl").open(encoding="utf-8") as metadata:
            for line in metadata:
                row = json.loads(line)
                image = folder / row["file_name"]
                if image.with_suffix(".txt").read_text(encoding="utf-8") != row["text"] + "\n":
                    raise VerificationError(f"{image.with_suffix('.txt')} differs from metadata.jsonl")
                yield Found(image, text=row["text"])

    def read_classes(self, split: str) -> list[str]:
        return []


def one_line(text: str | None) -> str:
    """A caption on one line: trainers read the first line of a ``.txt`` file only."""
    return " ".join((text or "").split())
