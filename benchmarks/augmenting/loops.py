"""The loops that ``augment`` is compared with: the same pipeline on the same photographs, one after the other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

Photo = tuple[str, list[list[float]]]
"""A file, and the boxes of its objects: relative left, top, right, bottom."""


def opencv_loop(photos: Sequence[Photo], spec: Any, folder: Path, seed: int) -> float:
    """Seconds of OpenCV and albumentations with boxes, as in the dissertation: read, transform, write, next."""
    import cv2
    import numpy as np

    from fiftyone_idsynth.augmentation.pipelines import albumentations, read_pipeline

    A = albumentations()
    made = read_pipeline(spec).make()
    compose = A.Compose(list(made), bbox_params=A.BboxParams("albumentations", label_fields=["names"]), seed=seed)
    started = time.perf_counter()
    for path, boxes in photos:
        picture = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
        result = compose(image=picture, bboxes=np.array(boxes).reshape(-1, 4), names=list(range(len(boxes))))
        cv2.imwrite(str(folder / Path(path).name), cv2.cvtColor(result["image"], cv2.COLOR_RGB2BGR))
    return time.perf_counter() - started


def bare_loop(photos: Sequence[Photo], spec: Any, folder: Path, seed: int) -> float:
    """Seconds of Pillow and albumentations without any labels."""
    import numpy as np
    from PIL import Image

    from fiftyone_idsynth.augmentation.pipelines import albumentations, read_pipeline

    compose = albumentations().Compose(_without_boxes(read_pipeline(spec).make()), seed=seed)
    started = time.perf_counter()
    for path, _ in photos:
        with Image.open(path) as opened:
            picture = np.asarray(opened.convert("RGB"))
        result = compose(image=picture)["image"]
        Image.fromarray(result).save(folder / Path(path).name, quality=95, subsampling=0)
    return time.perf_counter() - started


def work_alone(photos: Sequence[Photo], spec: Any, seed: int, threads: int) -> float:
    """Seconds of decoding, transforming and encoding on several threads: no labels, no file, no database."""
    import cv2

    from fiftyone_idsynth.augmentation.applying import Applier
    from fiftyone_idsynth.augmentation.pipelines import read_pipeline
    from fiftyone_idsynth.media import encode_image, read_image

    applier, before = Applier(read_pipeline(spec)), cv2.getNumThreads()

    def one(number: int) -> None:
        path, boxes = photos[number]
        for turn in range(10):
            pixels = applier.pixels(read_image(path).pixels, seed + 1000 * number + turn, boxes)
            if applier.applied():
                break
        encode_image(pixels, ".jpg")

    cv2.setNumThreads(1)
    try:
        started = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(one, range(len(photos))))
        return time.perf_counter() - started
    finally:
        cv2.setNumThreads(before)


def _without_boxes(made: Any) -> list[Any]:
    """The transforms of a pipeline but those that need boxes."""
    return [one for one in made if "BBox" not in type(one).__name__]
