"""Makes variants of images: the pixels, the labels carried along, and what is needed to make them again."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np

from ..authorship import checksum
from ..engine import NewSample, Task, Worker
from ..errors import RefusedImage
from ..media import MediaStore, read_image
from ..painting import picture_seed
from ..parents import Order, Parent, keys_of, made_from
from ..stage import Run
from ..warping import KeepRule, Load, Tally
from .applying import Applier, failed, lost
from .pipelines import Pipeline

AUGMENTED_TAG = "augmented"
"""Sample tag of variants: ``"DATASET#augmented"`` stands for all of them."""

TRIES = 10
"""How often a variant is drawn until one differs from its image, and shows any of its objects."""


@dataclass(frozen=True)
class Variant:
    """A variant of a picture.

    Attributes:
        pixels: uint8 RGB array
        labels: field -> label
        seed: that it was made with
        applied: names of the transforms that were applied
    """

    pixels: np.ndarray
    labels: dict[str, Any]
    seed: int
    applied: list[str] = field(default_factory=list)


class AugmentWorker(Worker):
    """Makes all variants of an image, which is read once.

    Args:
        pipeline: what is applied
        store: where images and masks are written
        rule: which objects stay
        seed: of the run
        label_fields: the fields whose labels are carried along
        text_fields: the fields with texts that stay true
        ext: of the image files
    """

    decode = None

    def __init__(
        self,
        pipeline: Pipeline,
        store: MediaStore,
        rule: KeepRule,
        seed: int,
        *,
        label_fields: Sequence[str] = (),
        text_fields: Sequence[str] = (),
        ext: str = ".jpg",
    ):
        self._applier, self._store, self._rule, self._seed = Applier(pipeline), store, rule, seed
        self._label_fields, self._text_fields, self._ext = tuple(label_fields), tuple(text_fields), ext
        self._pipeline = pipeline
        self.setup()

    def setup(self) -> None:
        """Begins to count anew."""
        self.tally, self.failures = Tally(), list[tuple[str, str]]()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "tally", "failures")}

    def __call__(self, items: Sequence[Task]) -> list[list[NewSample] | RefusedImage]:
        results: list[list[NewSample] | RefusedImage] = []
        for task in items:
            try:
                results.append(self._all_of(task))
            except RefusedImage as refusal:
                results.append(refusal)
        return results

    def _all_of(self, task: Task) -> list[NewSample] | RefusedImage:
        parent: Parent = task.payload
        picture = read_image(parent.filepath).pixels
        labels = self.labels_of(parent)
        load = self.load(labels, picture)
        common = self._common(load, labels)
        samples, refusals = [], []
        tally = Tally()
        for key in task.keys:
            number = int(key.rpartition("-")[2])
            try:
                variant = self.make(picture, load, parent, number, tally)
            except RefusedImage as refusal:
                refusals.append((f"{parent.filepath} (variant {number})", refusal))
                continue
            params = {**common, "variant": number, "applied": variant.applied}
            texts = {name: text for name in self._text_fields if (text := parent.values[name])}
            order = Order(parent, number, "", variant.seed)
            values = {**variant.labels, **texts}
            lineage = {"seed": variant.seed, "params": params}
            samples.append(
                made_from(
                    order, key, variant.pixels, self._store, lineage, values, "augmented", ext=self._ext,
                    tag=AUGMENTED_TAG,
                )
            )  # fmt: skip
        if refusals and not samples:
            return failed([refusal for _, refusal in refusals])
        with self._lock:
            self.tally.add(tally)
            self.failures += [(what, str(refusal)) for what, refusal in refusals]
        return samples

    def labels_of(self, parent: Parent) -> dict[str, Any]:
        """The labels that are carried along."""
        return {name: parent.values[name] for name in self._label_fields}

    def load(self, labels: dict[str, Any], picture: np.ndarray) -> Load:
        """Labels of a picture, taken apart."""
        return self._applier.load(labels, (picture.shape[1], picture.shape[0]))

    def make(self, picture: np.ndarray, load: Load, parent: Parent, number: int, tally: Tally) -> Variant:
        """Makes one variant; another one is drawn where nothing was changed, or no object is left.

        Raises:
            RefusedImage: a transform failed, labels would not be true, or no try gave a variant that can be used
        """
        refusals = []
        for turn in range(TRIES):
            seed = picture_seed(self._seed, parent.id, number, *([turn] if turn else []))
            counts = Tally()
            try:
                pixels, points, maps = self._applier(picture, load, seed)
                if not self._applier.applied():
                    raise RefusedImage("unchanged", f"in {TRIES} tries no transform was applied: raise their p")
                size = (pixels.shape[1], pixels.shape[0])
                labels = load.unload(
                    points, maps, size, self._rule, parent=parent.id, store=self._store, tally=counts
                )  # fmt: skip
                if lost(load, labels):
                    raise RefusedImage("no_object_left", f"in {TRIES} tries; use milder transforms, or a lower "
                                       "min_area or min_visibility")  # fmt: skip
            except RefusedImage as refusal:
                refusals.append(refusal)
                continue
            tally.add(counts)
            return Variant(pixels, labels, seed, self._applier.applied())
        raise failed(refusals)

    def _common(self, load: Load, labels: dict[str, Any]) -> dict[str, Any]:
        """What the lineage of all variants of an image says."""
        params: dict[str, Any] = {"pipeline": self._pipeline.spec, "albumentations": _albumentations_version()}
        if self._pipeline.needs_boxes:
            params["boxes"] = [[round(float(value), 6) for value in box] for box in load.boxes]
        if self._pipeline.needs_masks:
            params["labels"] = {name: checksum(value) for name, value in labels.items()}
        return params


def tasks(parents: Iterator[Parent], plan: str, variants: int, run: Run) -> Iterator[Task]:
    """The tasks of making variants: one for each sample, with a key for each variant."""
    for parent in parents:
        yield Task(tuple(keys_of(run, plan, parent, variants)), parent)


@functools.lru_cache(maxsize=1)
def _albumentations_version() -> str:
    return version("albumentations")
