"""Makes composites: draws a layout per image, renders it in each blending mode and writes image, masks and boxes."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..engine import NewSample, Task, Worker
from ..errors import RefusedImage
from ..media import MediaStore, read_image
from .blend import BlendMode, render
from .layout import Layout, LayoutRules, Patch, draw_crop, draw_layout, transform, visible_objects

CACHE_BYTES = 256 * 1024**2
"""Memory for decoded cut-outs and backgrounds, per process."""

COMPOSED_TAG = "composed"
"""Sample tag of composites: ``"DATASET#composed"`` stands for them all."""

MIME_TYPES = {".jpg": "image/jpeg", ".png": "image/png"}


@dataclass(frozen=True)
class Pool:
    """What the composites of one split are made from.

    Attributes:
        objects: ``(class, names of its cut-outs)`` pairs
        distractors: names of cut-outs that are placed without a label
        backgrounds: names of backgrounds
    """

    objects: tuple[tuple[str, tuple[str, ...]], ...]
    distractors: tuple[str, ...]
    backgrounds: tuple[str, ...]


@dataclass(frozen=True)
class Ingredient:
    """A cut-out or background.

    Attributes:
        path: its image file
        sample_id: the sample it comes from
        label_id: the label that outlines it
        shared: whether other splits use it too, so that it makes no relatives
    """

    path: str
    sample_id: str
    label_id: str = ""
    shared: bool = False


@dataclass(frozen=True)
class Order:
    """What one task makes: one layout in some blending modes.

    Attributes:
        index: the number of the layout, from 0
        split: its split
        modes: key of the sample -> blending mode
    """

    index: int
    split: str
    modes: Mapping[str, BlendMode] = field(default_factory=dict)


class ComposeWorker(Worker):
    """Makes the composites of a layout.

    Args:
        store: where images and masks are written
        pools: split -> what its composites are made from
        ingredients: name of a cut-out or background -> its file and origin
        rules: the ranges that layouts are drawn from
        seed: of all layouts; the seed of one is derived from it and the layout's number
        width: canvas width in pixels; from the background, or in its proportions, if 0
        height: canvas height in pixels
        ext: ``".jpg"`` or ``".png"``
        params: what else is remembered with each image
    """

    decode = None

    def __init__(
        self,
        store: MediaStore,
        pools: Mapping[str, Pool],
        ingredients: Mapping[str, Ingredient],
        rules: LayoutRules,
        *,
        seed: int,
        width: int = 0,
        height: int = 0,
        ext: str = ".jpg",
        params: Mapping[str, Any] | None = None,
    ):
        self.store = store
        self.pools = dict(pools)
        self.ingredients = dict(ingredients)
        self.rules = rules
        self.seed = seed
        self.width, self.height = width, height
        self.ext = ext
        self.params = dict(params or {})

    def setup(self) -> None:
        self._cutout = Cache(lambda path: read_image(path, mode="RGBA").pixels, CACHE_BYTES // 2)
        self._background = Cache(lambda path: read_image(path).pixels, CACHE_BYTES // 2)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if not isinstance(value, Cache)}

    def __call__(self, tasks: Sequence[Task]) -> list[list[NewSample] | RefusedImage]:
        made: list[list[NewSample] | RefusedImage] = []
        for task in tasks:
            try:
                made.append(self._make(task.payload, task.keys))
            except RefusedImage as refusal:
                made.append(refusal)
        return made

    def draw(self, order: Order) -> tuple[Layout, list[Patch], np.ndarray]:
        """Draws the layout of an order: the layout, its patches and the background's pixels."""
        rng = np.random.default_rng(image_seed(self.seed, order.index))
        pool = self.pools[order.split]
        name = pool.backgrounds[int(rng.integers(len(pool.backgrounds)))]
        background = self._background(self.ingredients[name].path)
        size = background.shape[1], background.shape[0]
        canvas = canvas_size(size, self.width, self.height)
        crop = draw_crop(rng, size, canvas)
        layout, patches = draw_layout(
            rng, canvas, name, crop, self.rules, pool.objects, pool.distractors,
            lambda cutout: self._cutout(self.ingredients[cutout].path),
        )  # fmt: skip
        return layout, patches, background

    def _make(self, order: Order, keys: Sequence[str]) -> list[NewSample]:
        import fiftyone as fo

        layout, patches, background = self.draw(order)
        visible = visible_objects(layout, patches)
        if not visible and self.rules.min_objects:
            raise RefusedImage("nothing_placed", f"layout {order.index}: places refused {layout.refused}")
        masks = [self.store.write_image(found.mask.astype(np.uint8) * 255, ".png") for found in visible]
        lineage = self._lineage(layout, order)
        samples = []
        for key in keys:
            mode = order.modes[key]
            path = self.store.write_image(render(background, layout, patches, mode), self.ext)
            labels = [
                fo.Detection(
                    label=found.label,
                    bounding_box=found.relative_box(layout.width, layout.height),
                    mask_path=mask,
                    area=float(found.area),
                )
                for found, mask in zip(visible, masks, strict=True)
            ]
            values = {
                "ground_truth": fo.Detections(detections=labels),
                "source": {"kind": "composed"},
                "lineage": {**lineage, "params": {**lineage["params"], "blending": mode}},
                "metadata": fo.ImageMetadata(
                    size_bytes=os.path.getsize(path), mime_type=MIME_TYPES[self.ext],
                    width=layout.width, height=layout.height, num_channels=3,
                ),
            }  # fmt: skip
            samples.append(NewSample(key, path, values, [COMPOSED_TAG, order.split]))
        return samples

    def _lineage(self, layout: Layout, order: Order) -> dict[str, Any]:
        used = {name: self.ingredients[name] for name in [p.cutout for p in layout.placements] + [layout.background]}
        parents = list(dict.fromkeys(one.sample_id for one in used.values() if not one.shared))
        shared = list(dict.fromkeys(one.sample_id for one in used.values() if one.shared))
        files = [
            {"name": name, "path": one.path, "sample_id": one.sample_id, "label_id": one.label_id}
            for name, one in used.items()
        ]
        params = {
            **self.params,
            "index": order.index,
            "split": order.split,
            "layout": layout.as_dict(),
            "files": files,
        }
        return {
            "parents": parents,
            **({"shared": shared} if shared else {}),
            "seed": image_seed(self.seed, order.index),
            "params": params,
        }


def remake(params: Mapping[str, Any], blending: BlendMode | None = None) -> np.ndarray:
    """Makes a composite again from ``lineage.params`` of its sample.

    Args:
        params: the parameters
        blending (None): another blending mode than the sample's own

    Returns:
        uint8 RGB array: what was written, before JPEG compression

    Raises:
        RefusedImage: a cut-out or the background is gone
    """
    layout = Layout.from_dict(params["layout"])
    paths = {entry["name"]: entry["path"] for entry in params["files"]}
    patches = [
        transform(read_image(paths[p.cutout], mode="RGBA").pixels, p.scale, p.angle, p.flip) for p in layout.placements
    ]
    return render(read_image(paths[layout.background]).pixels, layout, patches, blending or params["blending"])


def image_seed(seed: int, index: int) -> int:
    """The seed of one image: it depends on the number of the image, not on how many there are."""
    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0]) >> 1


def canvas_size(background: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """The size of the canvas: as given; where one side is not, in the background's proportions."""
    if width and height:
        return width, height
    if width or height:
        zoom = width / background[0] if width else height / background[1]
        return width or max(1, round(background[0] * zoom)), height or max(1, round(background[1] * zoom))
    return background


class Cache:
    """Keeps the arrays used last, up to a number of bytes; safe in threads.

    Args:
        load: makes the array of a path
        max_bytes: how much is kept
    """

    def __init__(self, load: Callable[[str], np.ndarray], max_bytes: int):
        self._load = load
        self._max_bytes = max_bytes
        self._bytes = 0
        self._arrays: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, path: str) -> np.ndarray:
        with self._lock:
            if path in self._arrays:
                self._arrays.move_to_end(path)
                return self._arrays[path]
        array = self._load(path)
        with self._lock:
            if path not in self._arrays and array.nbytes <= self._max_bytes:
                self._arrays[path] = array
                self._bytes += array.nbytes
                while self._bytes > self._max_bytes:
                    self._bytes -= self._arrays.popitem(last=False)[1].nbytes
        return array
