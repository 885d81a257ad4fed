"""Makes widened pictures: paints the new area, puts the old pixels back and moves the labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..carrying import Move, carried
from ..engine import NewSample, Task, Worker
from ..errors import RefusedImage
from ..media import MAX_PIXELS, MediaStore, read_image
from ..painting import Painter
from ..parents import Order, made_from
from ..stage import current_run
from .repainting import Job, repaint, working_size
from .widening import Continuation, Margins, Widening, area_to_paint, joined, margins_for_ratio, widened

RATIO_FIELD = "quality.object_ratio"
"""The share of an image that its objects cover, as ``score_quality`` measures it."""


class OutpaintWorker(Worker):
    """Makes widened pictures.

    Args:
        painter: who paints
        store: where pictures and masks are written
        widening: how far they are widened
        continuation: what stands in the new area before it is painted
        overlap: width in pixels of the strip of the picture that is painted too
        feather: how far differences at the edge fade out, in pixels
        strength: how much of what stands in the new area is given up
        negative: what the pictures shall not show
        longest: see :func:`~fiftyone_idsynth.generation.repainting.working_size`
        label_fields: the fields whose labels are carried over
        ratio: the share of the picture that objects are to cover, instead of how far it is widened
    """

    decode = None
    serial = True

    def __init__(
        self,
        painter: Painter,
        store: MediaStore,
        widening: Widening,
        *,
        continuation: Continuation = "reflect",
        overlap: int = 8,
        feather: int = 16,
        strength: float = 1.0,
        negative: str = "",
        longest: int | None = None,
        label_fields: Sequence[str] = (),
        ratio: float | None = None,
    ):
        self.painter, self.store, self.widening = painter, store, widening
        self.continuation, self.overlap, self.feather = continuation, overlap, feather
        self.strength, self.negative, self.longest = strength, negative, longest
        self.label_fields = tuple(label_fields)
        self.ratio = ratio

    def setup(self) -> None:
        """Loads the model."""
        self.painter.generator  # noqa: B018

    def __call__(self, items: Sequence[Task]) -> list[list[NewSample] | RefusedImage]:
        results: dict[int, list[NewSample] | RefusedImage] = {}
        prepared: dict[int, tuple[np.ndarray, Margins, Job]] = {}
        for number, task in enumerate(items):
            try:
                prepared[number] = self._prepare(task.payload)
            except RefusedImage as refusal:
                results[number] = refusal
        painted = repaint(self.painter, [job for *_, job in prepared.values()], self.strength, self.longest)
        for (number, (picture, margins, job)), made in zip(prepared.items(), painted, strict=True):
            try:
                if isinstance(made, RefusedImage):
                    raise made
                pixels = joined(made, picture, margins, self.feather)
                results[number] = [self._sample(items[number], picture, margins, job, pixels)]
            except RefusedImage as refusal:
                results[number] = refusal
        return [results[number] for number in range(len(items))]

    def _prepare(self, order: Order) -> tuple[np.ndarray, Margins, Job]:
        picture = read_image(order.parent.filepath).pixels
        height, width = picture.shape[:2]
        margins = self._margins(order, width, height)
        new_width, new_height = margins.size(width, height)
        if new_width * new_height > MAX_PIXELS:
            raise RefusedImage("too_many_pixels", f"{new_width} x {new_height}: widen less")
        if not margins:
            raise RefusedImage("nothing_to_paint", f"the share of {width} x {height} pixels is none: widen more")
        job = Job(
            widened(picture, margins, self.continuation), area_to_paint(width, height, margins, self.overlap),
            order.prompt, order.seed, self.negative,
        )  # fmt: skip
        return picture, margins, job

    def _margins(self, order: Order, width: int, height: int) -> Margins:
        if self.ratio is None:
            return self.widening.margins(width, height)
        return margins_for_ratio(width, height, order.parent.values[RATIO_FIELD], self.ratio)

    def _sample(self, task: Task, picture: np.ndarray, margins: Margins, job: Job, pixels: np.ndarray) -> NewSample:
        from ..models.roles import Wanted

        order: Order = task.payload
        height, width = picture.shape[:2]
        size = margins.size(width, height)
        move = Move((width, height), size, (margins.left, margins.top))
        labels = {
            name: carried(order.parent.values[name], move, order.parent.id, self.store) for name in self.label_fields
        }
        painted = working_size(self.painter, *size, self.longest)
        if painted.scaled != size:
            current_run().note(_SCALED.format(side=max(painted.scaled)))
        lineage = self.painter.lineage(
            Wanted(job.prompt, job.seed, job.negative), painted.width, painted.height, self.strength,
            variant=order.variant, size=list(size),
            margins={"left": margins.left, "right": margins.right, "top": margins.top, "bottom": margins.bottom},
            continuation=self.continuation, overlap=self.overlap, feather=self.feather,
        )  # fmt: skip
        return made_from(order, task.keys[0], pixels, self.store, lineage, labels)


_SCALED = (
    "images that do not suit the model's own size are painted at {side} pixels on the longer side; what is new is then "
    "scaled and put round the old pixels, which stay as they are (working_side sets the size)"
)
