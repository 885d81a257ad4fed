"""Chooses frames in which objects fill another share of a picture, and fills what is new in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ..errors import RefusedImage
from ..media import MediaStore
from ..painting import Painter, picture_seed
from ..parents import Parent
from ..warping import KeepRule, Load
from .framing import Framed, FrameWorker, Size

Padding = Literal["none", "constant", "replicate", "paint"]

TOLERANCE = 0.05
"""How far the share of a picture may be from the wanted one, relative to it, for the picture to stay as it is."""

_OVERLAP, _FEATHER = 8, 16


def window(size: Size, covered: np.ndarray, ratio: float, margin: float) -> Framed:
    """The part of a picture, of its proportions, in which objects fill a wanted share, as near as possible.

    Args:
        size: of the picture
        covered: bool array of its size: the pixels of the objects, one at least
        ratio: the wanted share, 0 to 1, more than they fill now
        margin: what stays round the objects at least, as a share of the sides of the box round them all

    Returns:
        the part as a frame; the whole picture where the margin leaves nothing to cut off
    """
    rows, columns = np.nonzero(covered)
    low = np.array([columns.min(), rows.min()], float)
    high = np.array([columns.max() + 1, rows.max() + 1], float)
    room = margin * (high - low)
    low, high = np.clip(low - room, 0, size), np.clip(high + room, 0, size)
    whole = np.array(size, float)
    wanted = math.sqrt(len(rows) / ratio / float(np.prod(whole)))
    zoom = min(1.0, max(wanted, float(np.max((high - low) / whole))))
    frame = np.minimum(np.maximum(np.rint(zoom * whole), np.ceil(high) - np.floor(low)), whole).astype(int)
    start = np.clip(np.rint((low + high - frame) / 2), np.ceil(high) - frame, np.floor(low))
    start = np.clip(start, 0, whole - frame).astype(int)
    return Framed(size, (int(frame[0]), int(frame[1])), (-int(start[0]), -int(start[1])))


class ProportionWorker(FrameWorker):
    """Makes objects fill another share of pictures: crops background away, or adds some.

    Args:
        ratio: the wanted share
        label_field: whose objects count
        classes: only those of these classes; all if none
        margin: what stays round the objects, see :func:`window`
        padding: how pictures grow in which objects fill more
        painter: paints what is new, for ``"paint"``
        prompt: what the whole picture shall show
        negative: what it shall not show
        seed: of the painter
        store, rule, options: see :class:`fiftyone_idsynth.augmentation.framing.FrameWorker`
    """

    def __init__(
        self,
        ratio: float,
        label_field: str,
        store: MediaStore,
        rule: KeepRule,
        *,
        classes: Sequence[str] = (),
        margin: float = 0.1,
        padding: Padding = "constant",
        painter: Painter | None = None,
        prompt: str = "",
        negative: str = "",
        seed: int = 51,
        **options: Any,
    ):
        self._ratio, self._field, self._classes = ratio, label_field, tuple(classes)
        self._margin, self._padding, self._painter = margin, padding, painter
        self._prompt, self._negative, self._seed = prompt, negative, seed
        super().__init__(lambda size, boxes: Framed(size, size), store, rule, **options)
        self.serial = painter is not None

    def setup(self) -> None:
        """Begins to count anew, and loads the painter."""
        super().setup()
        self.kept = self.limited = 0
        if self._painter:
            self._painter.generator  # noqa: B018

    def frame(self, size: Size, load: Load) -> Framed | None:
        """The frame in which the objects fill the wanted share; ``None`` if they do so already."""
        from ..generation.widening import margins_for_ratio

        covered = load.cover(self._field, self._classes)
        share = float(covered.mean())
        if not share:
            raise RefusedImage("no_object", f"{self._field} has none here that counts: label it, or change classes")
        if abs(share - self._ratio) <= TOLERANCE * self._ratio or (share > self._ratio and self._padding == "none"):
            with self._lock:
                self.kept += 1
            return None
        if share > self._ratio:
            margins = margins_for_ratio(*size, share, self._ratio)
            return Framed(size, margins.size(*size), (margins.left, margins.top)) if margins else None
        framed = window(size, covered, self._ratio, self._margin)
        reached = covered.sum() / math.prod(framed.frame)
        with self._lock:
            self.limited += bool(reached < (1 - TOLERANCE) * self._ratio)
            self.kept += framed.frame == size
        return None if framed.frame == size else framed

    def pixels(self, picture: np.ndarray, framed: Framed, parent: Parent) -> np.ndarray:
        """The picture in its frame, with what is new filled."""
        if framed.at[0] < 0 or framed.at[1] < 0 or self._padding in ("none", "constant"):
            return super().pixels(picture, framed, parent)
        from ..generation.widening import Margins, area_to_paint, joined, widened

        height, width = picture.shape[:2]
        left, top = framed.at
        margins = Margins(left, framed.frame[0] - width - left, top, framed.frame[1] - height - top)
        if self._painter is None:
            return widened(picture, margins, "replicate")
        from ..generation.repainting import Job, repaint

        area = area_to_paint(width, height, margins, _OVERLAP)
        job = Job(widened(picture, margins, "reflect"), area, self._prompt, self._seed_of(parent), self._negative)
        (made,) = repaint(self._painter, [job])
        if isinstance(made, RefusedImage):
            raise made
        return joined(made, picture, margins, _FEATHER)

    def more_params(self, parent: Parent, framed: Framed) -> dict[str, Any]:
        """What else the lineage of a picture says: the painter, where it painted."""
        if self._painter is None or framed.at[0] < 0 or framed.at[1] < 0:
            return {}
        from ..models.roles import Wanted

        wanted = Wanted(self._prompt, self._seed_of(parent), self._negative)
        return dict(self._painter.lineage(wanted, *framed.frame)["params"]) | {"seed": wanted.seed}

    def _seed_of(self, parent: Parent) -> int:
        return picture_seed(self._seed, parent.id)
