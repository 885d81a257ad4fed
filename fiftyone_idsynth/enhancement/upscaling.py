"""Makes enlarged pictures, and moves their labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..carrying import Rescaled, carried
from ..engine import NewSample, Task, Worker
from ..errors import RefusedImage
from ..media import MAX_PIXELS, MediaStore, read_image
from ..models.options import Options
from ..stage import current_run
from .outcomes import enhanced
from .tiling import TiledUpscaler

if TYPE_CHECKING:
    from ..models.roles import Upscaler


class UpscaleWorker(Worker):
    """Makes enlarged pictures.

    Args:
        name: id, folder or file of the model
        options: how it is loaded
        store: where pictures and masks are written
        tile: side of a tile in pixels
        overlap: pixels that neighbouring tiles share
        batch_size: tiles that the model gets at once
        smaller_than: only pictures whose longer side has fewer pixels are enlarged
        label_fields: the fields whose labels are carried over

    Attributes:
        too_large: pictures that were not enlarged for their size
        transparent: pictures that were transparent in places
    """

    decode = None
    serial = True

    def __init__(
        self,
        name: str,
        options: Options,
        store: MediaStore,
        *,
        tile: int,
        overlap: int,
        batch_size: int,
        smaller_than: int | None,
        label_fields: Sequence[str],
    ):
        self._name, self._options, self.store = name, options, store
        self.smaller_than, self.label_fields = smaller_than, tuple(label_fields)
        note = current_run().note
        self.enlarge = TiledUpscaler(lambda: self.model, tile, overlap, batch_size, note)
        self.too_large = self.transparent = 0

    @property
    def model(self) -> Upscaler:
        """The model; loaded when it is first asked for in a process."""
        from ..models.loading import find_model
        from ..models.roles import Upscaler

        return find_model(Upscaler, self._name, self._options)  # type: ignore[type-abstract]  # an interface

    def setup(self) -> None:
        """Loads the model."""
        self.model  # noqa: B018

    def __call__(self, items: Sequence[Task]) -> list[list[NewSample] | RefusedImage]:
        results: list[list[NewSample] | RefusedImage] = []
        for task in items:
            try:
                results.append(self._upscale(task))
            except RefusedImage as refusal:
                results.append(refusal)
        return results

    def _upscale(self, task: Task) -> list[NewSample]:
        order, scale = task.payload, self.model.scale
        image = read_image(order.parent.filepath)
        size, larger = (image.width, image.height), (image.width * scale, image.height * scale)
        if self.smaller_than and max(size) >= self.smaller_than:
            self.too_large += 1
            return []
        if larger[0] * larger[1] > MAX_PIXELS:
            raise RefusedImage(
                "too_many_pixels", f"{larger[0]} x {larger[1]} when enlarged, at most {MAX_PIXELS} pixels are written"
            )
        pixels = self.enlarge(np.asarray(image.pixels))
        labels = {
            name: carried(order.parent.values[name], Rescaled(size, larger), order.parent.id, self.store)
            for name in self.label_fields
        }
        params = {
            "model": self.model.name, "revision": self.model.revision, "factor": scale, "dtype": self._options.dtype,
            "tile": self.enlarge.tile, "overlap": self.enlarge.overlap, "size_before": list(size), "size": list(larger),
        }  # fmt: skip
        self.transparent += image.has_alpha
        return [enhanced(order, task.keys[0], pixels, self.store, params, labels)]
