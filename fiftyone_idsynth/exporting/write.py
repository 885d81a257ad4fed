"""Writes a selection into an export folder, verifies it, and adds what tells about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any

from .. import __version__
from ..errors import IdsynthError
from ..stage import Run
from .base import Format
from .card import GRID, HISTOGRAM, CardFacts, now, read_steps, write_card
from .credits import UNKNOWN, CreditedFile, credits_csv, credits_markdown, licenses_of
from .figures import Thumbnail, quality_histogram, sample_grid
from .folder import ExportFolder, list_files
from .folders import Segmentation
from .lineage import lineage_lines
from .pictures import Picture
from .selection import Row, Selection
from .staging import Staging
from .verify import Expected, verify_split

GRID_IMAGES = 16


class Writing:
    """Writes one export.

    Args:
        run: the run that it belongs to
        kind: the format
        folder: where it is prepared
        selection: what is exported
        masks: whether instance masks are exported
        semantic: whether the label field holds one mask per image
        mask_targets: names of the pixel values of these masks
        num_workers: how many images are copied at the same time
    """

    def __init__(
        self, run: Run, kind: type[Format], folder: ExportFolder, selection: Selection, *, masks: bool,
        semantic: bool, mask_targets: dict[int, str], num_workers: int,
    ):  # fmt: skip
        self.run, self.folder, self.selection = run, folder, selection
        licenses = {c.license_name: c.license_url for row in selection.rows for c in row.credits}
        self.format = kind(folder.content, selection.classes, masks=masks, licenses=_joint(selection.rows, licenses))
        if isinstance(self.format, Segmentation) and semantic:
            self.format.values = mask_targets
        self.staging = Staging(run.dataset, selection, self.format, folder.scratch, num_workers, semantic)
        self._expected: dict[str, dict[str, Expected]] = {}
        self._files: dict[str, str] = {}
        self._images: Counter[str] = Counter()
        self._empty: Counter[str] = Counter()
        self._labels: dict[str, Counter[str]] = {label: Counter() for label in selection.classes}
        self._thumbnails: list[Thumbnail] = []
        step = max(1, len(selection.rows) // GRID_IMAGES)
        self._shown = {row.id for row in selection.rows[::step][:GRID_IMAGES]}

    def write(self, *, verify: bool) -> None:
        """Writes all splits and everything about them; see :func:`~.verify.verify_split` for what is compared."""
        self.format.check_classes()
        self.format.begin()
        with self.run.progress(len(self.selection.rows)) as bar:
            for split in self.selection.splits:
                pictures = self.staging.pictures(split)
                first = next(pictures, None)
                if first is not None:
                    self.format.write(split, self._recorded(chain([first], pictures), bar))
        for what, why in self.staging.failed:
            self.run.failed(what, why)
        if not self._files:
            raise IdsynthError(f"no image could be exported; the first: {': '.join(self.staging.failed[0])}")
        if verify:
            for split, expected in self._expected.items():
                verify_split(self.format, split, expected)
        self._describe()

    def manifest(self) -> dict[str, Any]:
        """What the manifest says about the export."""
        return {
            "version": __version__,
            "created_at": now(),
            "dataset": self.run.dataset.name,
            "fingerprint": self.selection.fingerprint,
            "images": len(self.selection.rows),
            "splits": dict(self._images),
            "classes": self.selection.classes,
            "left_out": [[file.rpartition("/")[2], why] for file, why in self.staging.failed],
        }

    def counts(self) -> dict[str, Any]:
        """What the report says about the export."""
        counts: dict[str, Any] = {"images": dict(self._images)}
        if self.selection.classes:
            counts["classes"] = len(self.selection.classes)
            counts[self._counted] = sum(sum(its.values()) for its in self._labels.values())
        return counts

    @property
    def _counted(self) -> str:
        return "labels" if self.format.labels == ("Classification",) else "objects"

    def _recorded(self, pictures: Iterator[Picture], bar: Any) -> Iterator[Picture]:
        """Hands pictures to the format; when it asks for the next one, notes what became of the last."""
        for picture in pictures:
            yield picture
            self._expected.setdefault(picture.split, {})[picture.name] = Expected.of(picture, self.format)
            image = self.format.image_path(picture)
            self._files[picture.sample_id] = image.relative_to(self.folder.content).as_posix()
            self._images[picture.split] += 1
            labels = [item.label for item in picture.objects] if picture.label is None else [picture.label]
            for label in labels:
                self._labels[label][picture.split] += 1
            self._empty[picture.split] += not labels and "Detections" in self.format.labels and picture.pixels is None
            if picture.sample_id in self._shown:
                boxes = [(item.label, item.box) for item in picture.objects]
                self._thumbnails.append(Thumbnail(image, boxes, picture.label or picture.text or ""))
            self.run.processed()
            bar.update()

    def _describe(self) -> None:
        content, rows = self.folder.content, [row for row in self.selection.rows if row.id in self._files]
        notes = self._notes()
        for note in notes:
            self.run.note(note)
        credited = [CreditedFile(row.split, self._files[row.id], row.credits) for row in rows]
        (content / "CREDITS.csv").write_text(credits_csv(credited), encoding="utf-8")
        (content / "CREDITS.md").write_text(credits_markdown(credited), encoding="utf-8")
        with (content / "lineage.jsonl").open("w", encoding="utf-8") as lines:
            lines.writelines(lineage_lines(self.run.dataset, {row.id: self._files[row.id] for row in rows}))
        (content / GRID).parent.mkdir()
        sample_grid(self._thumbnails, self.selection.classes).save(content / GRID)
        scores = [row.score for row in rows if row.score is not None]
        if scores:
            quality_histogram(scores, content / HISTOGRAM)
        dataset = self.run.dataset
        facts = CardFacts(
            title=dataset.name,
            format=self.format.title,
            task=self.format.task,
            description=dataset.description or "",
            images=dict(self._images),
            empty=dict(self._empty),
            labels={label: dict(counts) for label, counts in self._labels.items()},
            counted="images" if self._counted == "labels" else "objects",
            credits=[row.credits for row in rows],
            steps=read_steps(dataset),
            scores=scores,
            layout=self._layout(),
            notes=notes,
            configs=self.format.hub_configs(list(self._images), {f.rpartition(".")[2] for f in self._files.values()}),
        )
        (content / "README.md").write_text(write_card(facts), encoding="utf-8")

    def _notes(self) -> list[str]:
        notes = [f"{count} objects were left out: {why}" for why, count in sorted(self.staging.dropped.items())]
        if self.staging.failed:
            notes.append(f"{len(self.staging.failed)} images could not be exported; idsynth.json names them")
        if self.format.name == "yolo" and "val" not in self._images:
            notes.append("there is no split 'val'; training with ultralytics needs one (stage split)")
        missing = ((label, split) for label, its in self._labels.items() for split in self._images if not its[split])
        empty = [f"{label} in {split}" for label, split in missing]
        if self.format.labels == ("Classification",) and empty:
            notes.append(f"folders without images, so that class numbers agree: {', '.join(empty[:10])}")
        return notes

    def _layout(self) -> str:
        """The files by folder and extension, with their number."""
        counts: Counter[str] = Counter()
        for name in list_files(self.folder.content):
            folder, _, file = name.rpartition("/")
            counts[f"{folder}/*.{file.rpartition('.')[2]}" if folder else file] += 1
        lines = [name if count == 1 else f"{name}  ({count})" for name, count in sorted(counts.items())]
        text = "\n".join([*lines[:100], *(["..."] if len(lines) > 100 else [])])
        return text.replace("```", "'''")


def _joint(rows: list[Row], licenses: dict[str, str]) -> dict[str, str]:
    """The licences of all images with their addresses, also joint ones (``"cc-by-4.0 + cc0"``) of composed images."""
    names = {licenses_of(row.credits) for row in rows} - {UNKNOWN}
    return {name: licenses.get(name, "") for name in sorted(names)}
