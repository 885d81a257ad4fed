"""Applies pipelines to pictures and their labels together."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import ParameterError, RefusedImage
from ..label_parts import Stored
from ..media import MediaStore
from ..warping import KeepRule, Load, Tally, objects_in
from .pipelines import Pipeline

_TRIES = 2
"""How often each transform is tried before anything is made."""


class Applier:
    """A pipeline that several threads may use at once; each has its own copy, because copies have random states.

    Args:
        pipeline: what is applied
    """

    def __init__(self, pipeline: Pipeline):
        self.pipeline, self._bends, self._turns = pipeline, pipeline.bends, pipeline.turns
        self._copies = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {"pipeline": self.pipeline}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(state["pipeline"])  # type: ignore[misc]

    def load(self, labels: Mapping[str, Any], size: tuple[int, int]) -> Load:
        """Labels, taken apart as finely as this pipeline needs; see :class:`fiftyone_idsynth.warping.Load`."""
        return Load(labels, size, bends=self._bends, turns=self._turns)

    def pixels(
        self, picture: np.ndarray, seed: int, boxes: Sequence[Sequence[float]] = (), masks: Sequence[np.ndarray] = ()
    ) -> np.ndarray:
        """The new picture alone.

        Args:
            picture: uint8 RGB array
            seed: of every random choice
            boxes (()): of the objects: relative left, top, right, bottom
            masks (()): maps of the picture's size
        """
        return self._applied(picture, seed, np.zeros((0, 2)), masks, boxes)[0]

    def __call__(self, picture: np.ndarray, load: Load, seed: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """A new picture, and where the points and maps of its labels lie in it.

        Args:
            picture: uint8 RGB array
            load: its labels
            seed: of every random choice

        Raises:
            RefusedImage: a transform failed on this picture
        """
        return self._applied(picture, seed, load.points, load.maps, load.boxes)

    def applied(self) -> list[str]:
        """The names of the transforms that were applied to the last picture of this thread."""
        return [type(one).__name__ for one in _leaves(self._copies.made) if one.params]

    def _applied(
        self, picture: np.ndarray, seed: int, points: np.ndarray, maps: Sequence[np.ndarray], boxes: Any
    ) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        made = getattr(self._copies, "made", None)
        if made is None:
            made = self._copies.made = self.pipeline.make()
        # One state for all: set_random_seed gives each transform the same random numbers, and so applies all or none.
        made.set_random_state(np.random.default_rng(seed), random.Random(seed))
        for one in _leaves(made):
            one.params = {}
        known = np.isfinite(points).all(axis=1)
        # albumentations counts points from the centre of the first pixel; a third column tells which is which.
        numbered = np.column_stack([points[known] - 0.5, np.flatnonzero(known)])
        targets: dict[str, Any] = {"image": np.ascontiguousarray(picture), "keypoints": numbered}
        if maps:
            kind = np.uint8 if all(one.dtype == np.uint8 for one in maps) else np.float32
            targets["masks"] = np.stack([one.astype(kind, copy=False) for one in maps])
        if self.pipeline.needs_boxes:
            targets["bboxes"] = np.asarray(boxes, float).reshape(-1, 4)
        try:
            result = made(**targets)
        except (MemoryError, RefusedImage):
            raise
        except Exception as error:  # libraries raise what they like; one picture costs only itself
            shown = " ".join(str(error).split())[:300]
            raise RefusedImage("transform_failed", f"{type(error).__name__}: {shown}") from error
        pixels = result["image"]
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise RefusedImage("no_picture", f"the result is {pixels.dtype}, {pixels.shape}, not 8-bit RGB")
        moved = np.full((len(points), 2), np.nan)
        found = np.asarray(result["keypoints"], float).reshape(-1, 3)
        if len(found):
            moved[np.rint(found[:, 2]).astype(int)] = found[:, :2] + 0.5
        new = [one.astype(old.dtype, copy=False) for one, old in zip(result.get("masks", ()), maps, strict=True)]
        return pixels, moved, new


def _leaves(made: Any) -> list[Any]:
    """The transforms of a composition, and of those in it."""
    return [leaf for one in made for leaf in (_leaves(one) if hasattr(one, "transforms") else [one])]


def check(pipeline: Pipeline, size: tuple[int, int]) -> None:
    """Tries each transform on a picture of this size with labels, before anything is made.

    Raises:
        ParameterError: one fails, makes no picture, or moves masks elsewhere than boxes
    """
    picture = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    labels = _discs(size)
    rule, store = KeepRule(0, 0), MediaStore("")  # masks in memory are written nowhere
    for leaf in pipeline.leaves():
        ((name, _),) = leaf.spec[0].items()
        applier = Applier(leaf)
        load = applier.load(labels, size)
        for seed in range(_TRIES if leaf.geometric else 1):
            try:
                pixels, points, maps = applier(picture, load, seed)
                new = pixels.shape[1::-1]
                load.unload(points, maps, new, rule, parent="", store=store, tally=Tally())
            except RefusedImage as refusal:
                raise ParameterError("pipeline", name, f"{_REMEDIES[refusal.reason]} ({refusal.detail})") from refusal


_REMEDIES = {
    "transform_failed": "fails on pictures like yours: change its parameters",
    "no_picture": "makes no 8-bit RGB picture: leave such steps to the training program",
    "labels_disagree": "moves masks and boxes differently, so labels would be wrong: leave it out, or fill what lies "
    "beyond the border with a constant (border_mode: 0)",
}


def _discs(size: tuple[int, int]) -> dict[str, Any]:
    """Labels to try transforms with: discs with masks, in the middle and at the border."""
    import fiftyone as fo

    rows, columns = np.mgrid[-1:1:21j, -1:1:21j]
    mask = rows**2 + columns**2 <= 1
    side = min(0.5, 21 / max(1, min(size)))
    corners = [(0.4, 0.4), (0.0, 0.5), (0.95 - side, 0.1)] if min(size) > 1 else [(0.0, 0.0)]
    boxes = [[max(0.0, x), y, side, side] for x, y in corners]
    return {"labels": fo.Detections(detections=[fo.Detection(label="disc", bounding_box=b, mask=mask) for b in boxes])}


def lost(load: Load, labels: Mapping[str, Stored | None]) -> bool:
    """Whether a picture had objects and a new one shows none of them."""
    return load.objects > 0 and not any(True for one in objects_in(labels) if one["_cls"] in _OBJECTS)


_OBJECTS = ("Detection", "Polyline", "Keypoint")


def failed(refusals: Sequence[RefusedImage]) -> RefusedImage:
    """What is said of a variant none of whose tries could be used."""
    reason, _ = Counter(one.reason for one in refusals).most_common(1)[0]
    return next(one for one in refusals if one.reason == reason)
