"""What a trained model gets right on each test image, without writing anything to the dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...media import read_image
from ...models.batches import in_batches
from ...models.loading import find_model
from ...models.options import Options
from ...models.roles import Finder, Segmenter, Tagger
from .examples import Boxes, Example, PixelClasses, paint
from .workers import LEAST_OF_BOXES

if TYPE_CHECKING:
    from .answers import Task

_AT_ONCE = 64


def count_images(
    task: Task, folder: str, tests: Sequence[Example], classes: Sequence[str], options: Options, batch_size: int
) -> np.ndarray:
    """Lets a trained model label test images, and compares.

    Args:
        task: what the model does
        folder: of the model
        tests: the images, with what people said of them
        classes: the names of the numbers in these
        options: how the model is loaded
        batch_size: images that it gets at once

    Returns:
        of classes 1.0 for each image that is right; of pixels a confusion matrix for each; of boxes COCO's mAP of all
    """
    if task == "classification":
        return _hits(folder, tests, classes, options, batch_size)
    if task == "segmentation":
        return _confusions(folder, tests, classes, options, batch_size)
    return np.array([_map(folder, tests, classes, options, batch_size)])


def _answers(
    function: Callable[..., Any], tests: Sequence[Example], batch_size: int
) -> Iterator[tuple[Example, np.ndarray, Any]]:
    """The images, a few at a time, with what a model says of each."""
    from ...stage import current_run

    for start in range(0, len(tests), _AT_ONCE):
        part = tests[start : start + _AT_ONCE]
        pictures = [read_image(test.file).pixels for test in part]
        writable = [np.require(picture, requirements="W") for picture in pictures]
        said = in_batches(function, writable, batch_size, current_run().note)
        yield from zip(part, pictures, said, strict=True)


def _hits(
    folder: str, tests: Sequence[Example], classes: Sequence[str], options: Options, batch_size: int
) -> np.ndarray:
    model = find_model(Tagger, folder, options)  # type: ignore[type-abstract]
    found = [tags[0].name == classes[test.target] for test, _, tags in _answers(model.tag, tests, batch_size)]  # type: ignore[index]
    return np.array(found, float)


def _confusions(
    folder: str, tests: Sequence[Example], classes: Sequence[str], options: Options, batch_size: int
) -> np.ndarray:
    import functools

    model = find_model(Segmenter, folder, options)  # type: ignore[type-abstract]
    segment = functools.partial(model.segment, classes={name: (name,) for name in classes[1:]})
    count, found = len(classes), []
    for test, picture, said in _answers(segment, tests, batch_size):
        assert isinstance(test.target, PixelClasses)
        true = paint(test.target, *picture.shape[:2]).astype(int)
        there = true < count
        pairs = true[there] * count + said.values[there]
        found.append(np.bincount(pairs, minlength=count * count).reshape(count, count))
    return np.array(found)


def _map(folder: str, tests: Sequence[Example], classes: Sequence[str], options: Options, batch_size: int) -> float:
    """The mAP by FiftyOne, in a dataset that is deleted afterwards."""
    import functools

    import fiftyone as fo

    model = find_model(Finder, folder, options)  # type: ignore[type-abstract]
    find = functools.partial(model.find, classes=(), threshold=LEAST_OF_BOXES)
    samples = []
    for test, _, regions in _answers(find, tests, batch_size):
        assert isinstance(test.target, Boxes)
        pairs = zip(test.target.numbers, test.target.boxes, strict=True)
        true = [fo.Detection(label=classes[number], bounding_box=box.tolist()) for number, box in pairs]
        said = [fo.Detection(label=r.label, bounding_box=list(r.box), confidence=r.confidence) for r in regions]
        samples.append(
            fo.Sample(filepath=test.file, true=fo.Detections(detections=true), said=fo.Detections(detections=said))
        )
    dataset = fo.Dataset()
    try:
        dataset.add_samples(samples, progress=False)
        results = dataset.evaluate_detections("said", gt_field="true", compute_mAP=True, progress=False)
        return max(float(results.mAP()), 0.0)
    finally:
        dataset.delete()
