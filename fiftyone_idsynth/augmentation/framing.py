"""Brings pictures into frames: scaled, cropped or with room round them, and their labels with them."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine import NewSample, Task, Worker
from ..errors import RefusedImage
from ..media import MAX_PIXELS, MediaStore, read_image
from ..parents import Order, Parent, made_from
from ..warping import KeepRule, Load, Placement, Tally
from .catalogue import FILL

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class Framed:
    """How a picture comes into a frame.

    Attributes:
        scaled: its size before it is put into the frame
        frame: the size of the frame
        at: column and row of its upper left corner in the frame; negative where the frame cuts it off
    """

    scaled: Size
    frame: Size
    at: tuple[int, int] = (0, 0)

    def placement(self, old: Size) -> Placement:
        """Where points and maps of a picture of this size go."""
        scale = (self.scaled[0] / old[0], self.scaled[1] / old[1])
        return Placement(old, self.frame, scale, (float(self.at[0]), float(self.at[1])))

    def apply(self, picture: np.ndarray, fill: int = FILL) -> np.ndarray:
        """The frame with the picture in it.

        Args:
            picture: uint8 RGB array
            fill (FILL): grey of what is not covered, 0 to 255
        """
        import cv2

        size = (picture.shape[1], picture.shape[0])
        if size != self.scaled:
            smaller = math.prod(self.scaled) < math.prod(size)
            picture = cv2.resize(picture, self.scaled, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
        (x, y), (width, height) = self.at, self.frame
        left, top = max(0, x), max(0, y)
        part = picture[max(0, -y) : max(0, height - y), max(0, -x) : max(0, width - x)]
        if part.shape[:2] == (height, width):
            return np.ascontiguousarray(part)
        frame = np.full((height, width, 3), fill, np.uint8)
        frame[top : top + part.shape[0], left : left + part.shape[1]] = part
        return frame


def scaled_by(size: Size, zoom: float) -> Size:
    """A size with each side scaled, at least one pixel."""
    return max(1, round(size[0] * zoom)), max(1, round(size[1] * zoom))


def letterboxed(size: Size, frame: Size) -> Framed:
    """The whole picture in the middle of a frame, as large as possible."""
    scaled = scaled_by(size, min(frame[0] / size[0], frame[1] / size[1]))
    scaled = min(scaled[0], frame[0]), min(scaled[1], frame[1])
    return Framed(scaled, frame, ((frame[0] - scaled[0]) // 2, (frame[1] - scaled[1]) // 2))


def cropped(size: Size, frame: Size, boxes: np.ndarray | None = None) -> Framed:
    """A picture that covers a frame, cut off at two sides.

    Args:
        size: of the picture
        frame: of the frame
        boxes (None): relative left, top, right, bottom of objects: as much of their area as possible is kept, and
            among such crops the one nearest to the middle is taken; by default the middle
    """
    zoom = max(frame[0] / size[0], frame[1] / size[1])
    covering = scaled_by(size, zoom)
    scaled = max(covering[0], frame[0]), max(covering[1], frame[1])
    at = tuple(
        -_best_offset(scaled[axis], frame[axis], None if boxes is None else boxes[:, axis::2]) for axis in (0, 1)
    )
    return Framed(scaled, frame, (at[0], at[1]))


def _best_offset(length: int, frame: int, spans: np.ndarray | None) -> int:
    """Where a frame begins on a side of this length."""
    middle = (length - frame) // 2
    if spans is None or not len(spans) or length == frame:
        return middle
    offsets = np.arange(length - frame + 1)
    low, high = spans[:, :1] * length, spans[:, 1:] * length
    seen = np.clip(np.minimum(high, offsets + frame) - np.maximum(low, offsets), 0, None) / np.maximum(high - low, 1e-9)
    total = seen.sum(axis=0)
    best = offsets[total >= total.max() - 1e-9]
    return int(best[np.argmin(np.abs(best - middle))])


Framing = Callable[[Size, np.ndarray], Framed]
"""Chooses the frame of a picture by its size and the boxes of its objects (relative left, top, right, bottom)."""


class FrameWorker(Worker):
    """Brings pictures into frames.

    Args:
        framing: chooses the frame of each
        store: where images and masks are written
        rule: which objects stay
        label_fields: the fields whose labels are carried along
        text_fields: the fields with texts that stay true
        params: what the lineage says besides
        tag: the sample tag of what is made
        ext: of the image files
        enlarge: whether pictures may become larger; those that would are refused otherwise
        fill: grey of what a picture does not cover
    """

    decode = None

    def __init__(
        self,
        framing: Framing,
        store: MediaStore,
        rule: KeepRule,
        *,
        label_fields: Sequence[str] = (),
        text_fields: Sequence[str] = (),
        params: dict[str, Any] | None = None,
        tag: str,
        ext: str = ".jpg",
        enlarge: bool = False,
        fill: int = FILL,
    ):
        self._framing, self._store, self._rule = framing, store, rule
        self._label_fields, self._text_fields = tuple(label_fields), tuple(text_fields)
        self._params, self._tag, self._ext, self._enlarge, self._fill = params or {}, tag, ext, enlarge, fill
        self.setup()

    def setup(self) -> None:
        """Begins to count anew."""
        self.tally, self.enlarged = Tally(), 0
        self._lock = threading.Lock()

    def __call__(self, items: Sequence[Task]) -> list[list[NewSample] | RefusedImage]:
        results: list[list[NewSample] | RefusedImage] = []
        for task in items:
            try:
                results.append(self._made(task))
            except RefusedImage as refusal:
                results.append(refusal)
        return results

    def frame(self, size: Size, load: Load) -> Framed | None:
        """The frame of a picture; ``None`` if it stays as it is."""
        return self._framing(size, load.boxes)

    def _made(self, task: Task) -> list[NewSample]:
        parent: Parent = task.payload
        picture = read_image(parent.filepath).pixels
        size = (picture.shape[1], picture.shape[0])
        load = Load({name: parent.values[name] for name in self._label_fields}, size, turns=False)
        framed = self.frame(size, load)
        if framed is None:
            return []
        if math.prod(framed.frame) > MAX_PIXELS:
            raise RefusedImage("too_many_pixels", f"{framed.frame[0]} x {framed.frame[1]}")
        larger = framed.scaled[0] > size[0] or framed.scaled[1] > size[1]
        if larger and not self._enlarge:
            raise RefusedImage(
                "too_small", f"{size[0]} x {size[1]} would have to be enlarged to {framed.scaled[0]} x "
                f"{framed.scaled[1]}: take a smaller size, allow enlarge, or run upscale first"
            )  # fmt: skip
        points, maps = framed.placement(size)(load.points, load.maps)
        tally = Tally()
        labels = load.unload(
            points, maps, framed.frame, self._rule, parent=parent.id, store=self._store, tally=tally
        )  # fmt: skip
        pixels = self.pixels(picture, framed, parent)
        with self._lock:
            self.tally.add(tally)
            self.enlarged += larger
        texts = {name: text for name in self._text_fields if (text := parent.values[name])}
        params = {
            **self._params, "old_size": list(size), "scaled": list(framed.scaled), "size": list(framed.frame),
            "at": list(framed.at), "fill": self._fill, **self.more_params(parent, framed),
        }  # fmt: skip
        made = made_from(
            Order(parent, 0, "", 0), task.keys[0], pixels, self._store, {"params": params}, {**labels, **texts},
            "augmented", ext=self._ext, tag=self._tag,
        )  # fmt: skip
        return [made]

    def pixels(self, picture: np.ndarray, framed: Framed, parent: Parent) -> np.ndarray:
        """The picture in its frame."""
        return framed.apply(picture, self._fill)

    def more_params(self, parent: Parent, framed: Framed) -> dict[str, Any]:
        """What else the lineage of a picture says."""
        return {}
