"""Batches of images as a model takes them: decoded by threads ahead of their turn, augmented, prepared."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from ...errors import RefusedImage
from .augmenting import augmented
from .examples import Example, Loaded, load_example
from .settings import Settings

_AHEAD = 3
"""Batches that are decoded ahead."""


class Batches:
    """Makes batches.

    Args:
        settings: task, batch size, augmentation and seed
        processor: of the model
        num_workers: threads that decode

    Attributes:
        refused: file -> why it could not be read
    """

    def __init__(self, settings: Settings, processor: Any, num_workers: int):
        self._settings, self._processor, self._workers = settings, processor, num_workers
        self._side = _side(processor)
        self.refused: dict[str, str] = {}

    def order(self, count: int, epoch: int) -> list[list[int]]:
        """The rows of each batch of an epoch; the same for the same seed."""
        rows = np.random.default_rng([self._settings.seed, epoch]).permutation(count)
        size = self._settings.batch_size
        return [rows[start : start + size].tolist() for start in range(0, count, size)]

    def training(self, examples: Sequence[Example], epoch: int, start: int) -> Iterator[Any]:
        """The batches of an epoch.

        Args:
            examples: what is trained on
            epoch: its number
            start: the first batch that is wanted

        Yields:
            what the model takes, and None for a batch without an image that can be read
        """
        for rows, pictures in self._loaded(examples, self.order(len(examples), epoch)[start:]):
            if self._settings.augment:
                pictures = [
                    picture and augmented(picture, self._settings.task, self._seed(epoch, row))
                    for row, picture in zip(rows, pictures, strict=True)
                ]
            yield self._prepared([picture for picture in pictures if picture is not None])

    def validating(self, examples: Sequence[Example]) -> Iterator[tuple[list[Loaded], Any]]:
        """The pictures in their order, unchanged, and what the model takes."""
        size = self._settings.batch_size
        rows = [list(range(start, min(start + size, len(examples)))) for start in range(0, len(examples), size)]
        for _, pictures in self._loaded(examples, rows):
            kept = [picture for picture in pictures if picture is not None]
            if kept:
                yield kept, self._prepared(kept)

    def _seed(self, epoch: int, row: int) -> int:
        return int(np.random.SeedSequence([self._settings.seed, epoch, row]).generate_state(1)[0])

    def _loaded(
        self, examples: Sequence[Example], order: Sequence[list[int]]
    ) -> Iterator[tuple[list[int], list[Loaded | None]]]:
        """Decodes batch after batch, some ahead, so that memory does not grow with the number of images."""
        with ThreadPoolExecutor(self._workers) as pool:
            waiting: deque[tuple[list[int], list[Future[Loaded | None]]]] = deque()
            for rows in order:
                waiting.append((rows, [pool.submit(self._load, examples[row]) for row in rows]))
                if len(waiting) > _AHEAD:
                    yield _results(waiting.popleft())
            while waiting:
                yield _results(waiting.popleft())

    def _load(self, example: Example) -> Loaded | None:
        try:
            return load_example(example, self._side)
        except (RefusedImage, OSError) as error:
            self.refused[example.file] = str(error)
            return None

    def _prepared(self, pictures: Sequence[Loaded]) -> Any:
        """What the model takes, with labels."""
        if not pictures:
            return None
        images = [picture.pixels for picture in pictures]
        options: dict[str, Any] = {"input_data_format": "channels_last", "return_tensors": "pt"}
        return {
            "classification": self._of_classes, "detection": self._of_boxes, "segmentation": self._of_pixels,
        }[self._settings.task](pictures, images, options)  # fmt: skip

    def _of_classes(self, pictures: Sequence[Loaded], images: list[np.ndarray], options: dict[str, Any]) -> Any:
        import torch

        inputs = self._processor(images=images, **options)
        inputs["labels"] = torch.tensor([picture.number for picture in pictures])
        return inputs

    def _of_boxes(self, pictures: Sequence[Loaded], images: list[np.ndarray], options: dict[str, Any]) -> Any:
        import torch

        inputs = self._processor(images=images, **options)
        inputs["labels"] = []
        for picture in pictures:
            assert picture.boxes is not None
            height, width = picture.pixels.shape[:2]
            corners = picture.boxes / np.array([width, height, width, height], np.float32)
            size = corners[:, 2:] - corners[:, :2]
            boxes = np.concatenate([corners[:, :2] + size / 2, size], axis=1).astype(np.float32)
            inputs["labels"].append(
                {"class_labels": torch.from_numpy(picture.numbers), "boxes": torch.from_numpy(boxes)}
            )
        return inputs

    def _of_pixels(self, pictures: Sequence[Loaded], images: list[np.ndarray], options: dict[str, Any]) -> Any:
        masks = [picture.mask for picture in pictures]
        if getattr(self._processor, "do_center_crop", False):  # made for classifiers: it would lose the margins
            crop = self._processor.crop_size
            whole = {"height": crop["height"], "width": crop["width"]}
            options |= {"do_center_crop": False, "size": whole}
        inputs = self._processor(images=images, segmentation_maps=masks, do_reduce_labels=False, **options)
        inputs["labels"] = inputs["labels"].long()
        return inputs


def _results(
    batch: tuple[list[int], list[Future[Loaded | None]]],
) -> tuple[list[int], list[Loaded | None]]:
    return batch[0], [future.result() for future in batch[1]]


def _side(processor: Any) -> int:
    """The shorter side that pictures need before they are prepared: twice what models see, so that crops are sharp."""
    size = dict(getattr(processor, "size", None) or {})
    sides = [size.get(name) for name in ("shortest_edge", "height", "width")]
    known = [side for side in sides if side]
    return 2 * max(known) if known else 1024
