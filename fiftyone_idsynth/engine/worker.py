"""What one stage does per image, and how a batch of images is put through it without one costing another."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import RefusedImage, StorageError
from ..media import Image, Mode, read_image


@dataclass
class Item:
    """One sample as a worker sees it.

    Attributes:
        id: the sample's id
        filepath: its image file
        values: the values of the sample fields that the worker asked for
        image: the decoded image, unless the worker opens files itself
    """

    id: str
    filepath: str
    values: dict[str, Any] = field(default_factory=dict)
    image: Image | None = None
    stamp: str = ""


@dataclass
class Task:
    """Something to make.

    Attributes:
        keys: one unique key for each sample that it makes; a key that exists in the dataset is not made again
        payload: whatever the worker needs; picklable
    """

    keys: tuple[str, ...]
    payload: Any = None

    @property
    def filepath(self) -> str:
        return self.keys[0]


@dataclass
class NewSample:
    """A sample to add.

    Attributes:
        key: one of its task's keys
        filepath: its image file, already written
        fields: sample field -> value; embedded documents as dictionaries
        tags: sample tags
    """

    key: str
    filepath: str
    fields: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)


class Worker(abc.ABC):
    """The per-image work of a stage. Picklable; the engine does everything around it.

    Attributes:
        decode: the mode images are decoded in, or ``None`` if the worker opens files itself
        draft: the least size that a JPEG is decoded to, see :func:`fiftyone_idsynth.media.read_image`
        fields: paths of the sample fields it reads
        labels: paths of the fields it writes that people write as well: what a person made, changed or removed there
            stays as it is
        serial: whether it takes one batch at a time on one thread, as a model on a device does; otherwise several
            threads call it at once
        key: what its results depend on besides the image and the fields it reads, when that is less than all of the
            stage's parameters: a sample is worked on again when it changes
    """

    decode: Mode | None = "RGB"
    draft: tuple[int, int] | None = None
    fields: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    serial: bool = False
    key: str | None = None

    def setup(self) -> None:
        """Loads what is needed, once per process."""

    @abc.abstractmethod
    def __call__(self, items: Sequence[Any]) -> Sequence[Any]:
        """Works on a batch.

        Args:
            items: the batch: :class:`Item` instances to update, or :class:`Task` instances to make

        Returns:
            for each item a dictionary of field paths and values, or for each task a list of :class:`NewSample`; a
            :class:`~fiftyone_idsynth.errors.RefusedImage` in its place says why there is none
        """


@dataclass
class Outcome:
    """What came of one item or task: its result, or why there is none."""

    item: Any
    result: Any = None
    refused: RefusedImage | None = None
    error: str | None = None


def decode_items(worker: Worker, items: Sequence[Any]) -> list[Outcome]:
    """Decodes the images of a batch; one that is refused costs only itself."""
    outcomes = [Outcome(item) for item in items]
    if worker.decode is None:
        return outcomes
    for outcome in outcomes:
        try:
            outcome.item.image = read_image(outcome.item.filepath, mode=worker.decode, draft=worker.draft)
        except RefusedImage as refusal:
            outcome.refused = refusal
    return outcomes


def compute(worker: Worker, outcomes: list[Outcome]) -> list[Outcome]:
    """Puts the decoded part of a batch through the worker; if that fails, image by image to find the one to blame."""
    ready = [outcome for outcome in outcomes if outcome.refused is None]
    if ready:
        try:
            _take(ready, worker([outcome.item for outcome in ready]))
        except (StorageError, MemoryError):
            raise
        except Exception as error:
            if len(ready) == 1:
                _blame(ready[0], error)
            else:
                for outcome in ready:
                    compute(worker, [outcome])
    for outcome in outcomes:
        if isinstance(outcome.item, Item):
            outcome.item.image = None
    return outcomes


def run_batch(worker: Worker, items: Sequence[Any]) -> list[Outcome]:
    """Decodes a batch and puts it through the worker."""
    return compute(worker, decode_items(worker, items))


def _take(ready: list[Outcome], results: Sequence[Any]) -> None:
    if len(results) != len(ready):
        raise ValueError(f"the worker returned {len(results)} results for {len(ready)} images")
    for outcome, result in zip(ready, results, strict=True):
        if isinstance(result, RefusedImage):
            outcome.refused = result
        else:
            outcome.result = result


def _blame(outcome: Outcome, error: Exception) -> None:
    if isinstance(error, RefusedImage):
        outcome.refused = error
    else:
        outcome.error = f"{type(error).__name__}: {error}"
