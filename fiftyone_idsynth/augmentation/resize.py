"""Resizing to a training size, with the labels following."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ..errors import ParameterError
from ..painting import ImageFormat
from ..parameters import EXECUTION_PARAMETERS
from ..stage import (
    Bounds,
    Fraction,
    LabelField,
    NumWorkers,
    Progress,
    Report,
    Samples,
    current_run,
    fingerprint,
    stage,
)

if TYPE_CHECKING:
    import numpy as np

    from .framing import Framed, Framing, Size

RESIZED_TAG = "resized"
"""Sample tag of what ``resize`` makes."""

Method = Literal["letterbox", "crop", "object_crop", "longest_side", "shortest_side", "stretch", "scale", "buckets"]


@stage(label="Resize images", group="Augment", icon="photo_size_select_large", unit="images")
def resize(
    samples: Samples,
    *,
    method: Method = "letterbox",
    size: Annotated[int, Bounds(1, 16384)] = 640,
    height: Annotated[int | None, Bounds(1, 16384)] = None,
    factor: Annotated[float, Bounds(0.001, 64)] = 0.5,
    multiple: Annotated[int, Bounds(1, 512)] = 64,
    fill: Annotated[int, Bounds(0, 255)] = 114,
    enlarge: bool = False,
    label_fields: tuple[Annotated[str, LabelField()], ...] | None = None,
    min_area: Annotated[float, Bounds(0, 1e9)] = 1,
    min_visibility: Fraction = 0.25,
    image_format: ImageFormat = "jpg",
    num_workers: NumWorkers = None,
    progress: Progress = None,
) -> Report:
    """Makes copies of images in a training size; boxes, masks, polylines and keypoints follow.

    The copies are new samples with the tag ``resized`` and the split of their image; the images stay as they are. An
    image that would have to be enlarged is left out and named in the report, unless ``enlarge`` allows it. Objects that
    a crop cuts off stay as far as they are seen, by the same rule as in ``augment``. Images that were made from other
    samples are left out, unless there are no others.

    Args:
        method ("letterbox"): letterbox: the whole image in a frame, with grey beside it; crop: the middle of the image
            fills the frame; object_crop: the same, with the part that shows most of the objects; longest_side and
            shortest_side: that side gets the size, the other follows; stretch: both sides get the size, proportions
            change; scale: both sides are multiplied by the factor; buckets: the nearest of the sizes of about
            size x size pixels that generators are trained in, cropped around the middle
        size (640): width of the frame in pixels, or the length of the side
        height (None): height of the frame in pixels; by default the same as its width
        factor (0.5): for scale: how many times as long the sides become
        multiple (64): for buckets: what the model's sides must divide by
        fill (114): for letterbox: grey beside the image, 0 to 255
        enlarge (False): whether images may become larger than they are
        label_fields (None): the fields whose labels are carried along; all by default
        min_area (1): objects with fewer pixels in the copy are dropped
        min_visibility (0.25): objects of which a smaller share is seen, because a crop cuts them, are dropped

    Returns:
        a report with the objects that were carried over, cut and dropped
    """
    from ..carrying import chosen_fields
    from ..engine import Task, create_samples
    from ..media import media_store
    from ..parents import find_parents, keys_of, read_parents
    from ..samples import dataset_of
    from ..warping import KeepRule
    from .augment import TEXT_FIELDS
    from .framing import FrameWorker

    run = current_run()
    framing = _framing(method, size, height, factor, multiple)
    carried = chosen_fields(samples, label_fields)
    texts = tuple(name for name in TEXT_FIELDS if dataset_of(samples).has_field(name))
    ids = find_parents(samples, run)
    worker = FrameWorker(
        framing, media_store(run.dataset), KeepRule(min_area, min_visibility), label_fields=carried,
        text_fields=texts, params={"method": method}, tag=RESIZED_TAG, ext=f".{image_format}", enlarge=enlarge,
        fill=fill,
    )  # fmt: skip
    params = {name: value for name, value in run.params.items() if name not in (*EXECUTION_PARAMETERS, "label_fields")}
    plan = fingerprint(run.stage.name, run.stage.version, params, sorted(carried))
    parents = read_parents(samples, ids, [*carried, *texts], stored=True)
    tasks = (Task(tuple(keys_of(run, plan, parent, 1)), parent) for parent in parents)
    create_samples(run.dataset, tasks, worker, total=len(ids), num_workers=num_workers)
    if worker.enlarged:
        run.note(f"{worker.enlarged} images were enlarged, which adds pixels and no detail: upscale can do better")
    return run.report(worker.tally.outputs)


def _framing(method: Method, size: int, height: int | None, factor: float, multiple: int) -> Framing:
    """What chooses the frame of each image."""
    from . import framing

    if height is not None and method in ("longest_side", "shortest_side", "scale", "buckets"):
        raise ParameterError("height", height, f"is for letterbox, crop, object_crop and stretch, not for {method}")
    frame = (size, height or size)
    if method == "buckets":
        from ..generation.lora.buckets import bucket_sizes

        if size % multiple:
            raise ParameterError("size", size, f"must divide by {multiple} (multiple) for buckets")
        return partial(_bucketed, sizes=bucket_sizes(size, multiple))
    choices: dict[str, Framing] = {
        "letterbox": lambda old, boxes: framing.letterboxed(old, frame),
        "crop": lambda old, boxes: framing.cropped(old, frame),
        "object_crop": lambda old, boxes: framing.cropped(old, frame, boxes),
        "stretch": lambda old, boxes: framing.Framed(frame, frame),
        "longest_side": lambda old, boxes: _whole(framing.scaled_by(old, size / max(old))),
        "shortest_side": lambda old, boxes: _whole(framing.scaled_by(old, size / min(old))),
        "scale": lambda old, boxes: _whole(framing.scaled_by(old, factor)),
    }
    return choices[method]


def _whole(size: Size) -> Framed:
    from .framing import Framed

    return Framed(size, size)


def _bucketed(old: Size, boxes: np.ndarray, sizes: list[Any]) -> Framed:
    """An image in the bucket that is nearest to its proportions."""
    from ..generation.lora.buckets import nearest_bucket
    from .framing import cropped

    return cropped(old, nearest_bucket(*old, sizes))
