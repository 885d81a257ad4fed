"""Augmentation: variants of images, with their labels carried along."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from ..errors import EmptyViewError
from ..painting import ImageFormat
from ..parameters import EXECUTION_PARAMETERS, Described
from ..samples import dataset_of
from ..stage import (
    Bounds,
    Choices,
    Convert,
    Fraction,
    LabelField,
    NumWorkers,
    Progress,
    Report,
    Run,
    Samples,
    Seed,
    current_run,
    fingerprint,
    stage,
)
from .pipelines import Pipeline, chosen, named_transforms, read_pipeline

TEXT_FIELDS = ("caption", "training_text")
"""Texts that stay true of variants."""

Preview = Annotated[
    bool, Described("whether to make nothing but a picture of some images and what would become of them")
]


@stage(label="Augment images", group="Augment", icon="shuffle", unit="images")
def augment(
    samples: Samples,
    *,
    preset: Literal["classification", "detection", "generation"] = "detection",
    transforms: tuple[Annotated[str, Choices(named_transforms)], ...] = (),
    pipeline: Annotated[Pipeline | None, Convert(read_pipeline)] = None,
    variants: Annotated[int, Bounds(1, 1000)] = 1,
    splits: tuple[Literal["train", "val", "test"], ...] = ("train",),
    label_fields: tuple[Annotated[str, LabelField()], ...] | None = None,
    min_area: Annotated[float, Bounds(0, 1e9)] = 16,
    min_visibility: Fraction = 0.25,
    image_format: ImageFormat = "jpg",
    preview: Preview = False,
    seed: Seed = 51,
    num_workers: NumWorkers = None,
    progress: Progress = None,
) -> Report:
    """Makes variants of images with albumentations; boxes, masks, polylines and keypoints are carried along.

    The variants are new samples with the tag ``augmented`` and the split of their image; the images stay as they are.
    Images of the validation and the test split, and their relatives, are left out, so that nothing of them comes into
    the training split. Each variant keeps its transforms and its seed in ``lineage``, from which
    ``fiftyone_idsynth.augmentation.replay.replay`` makes the same pixels again. Where an object has a mask, its box is
    the one round what the mask shows in the variant; a mask that was moved elsewhere than its box is refused.

    Images that were made from other samples are left out, unless there are no others. Transparency becomes white, and
    grey images become RGB.

    Args:
        preset ("detection"): what the images are for: detection keeps every object whole and its box upright;
            classification allows turning, bending, blur and noise; generation changes nothing, because a generator
            would learn to make what it is shown
        transforms (()): instead of the preset, these, each with a probability of one half
        pipeline (None): instead of both, any transforms of albumentations: a YAML or JSON file or text, such as
            ``[HorizontalFlip, {Affine: {rotate: [-20, 20], p: 0.8}}]``, or what ``albumentations.save`` wrote
        variants (1): variants of each image; a larger number later adds to the earlier ones
        splits (("train",)): images of these splits, and those of none, are augmented
        label_fields (None): the fields whose labels are carried along; all by default
        min_area (16): objects with fewer pixels in the variant are dropped
        min_visibility (0.25): objects of which a smaller share is seen, because the border cuts them, are dropped
        seed (51): of every random choice

    Returns:
        a report with the objects that were carried over, cut and dropped
    """
    from ..carrying import chosen_fields
    from ..engine import create_samples
    from ..media import media_store
    from ..parents import find_parents, not_yet_made, read_parents, sizes_of
    from ..warping import KeepRule
    from .applying import check
    from .splitting import in_splits
    from .variants import AugmentWorker, tasks

    run = current_run()
    applied = chosen(preset, transforms, pipeline)
    if applied is None:
        run.note("the preset generation changes nothing: name transforms or a pipeline to vary images for a generator")
        return run.report({"images to make": 0})
    carried = chosen_fields(samples, label_fields)
    texts = tuple(name for name in TEXT_FIELDS if dataset_of(samples).has_field(name))
    ids = find_parents(samples, run)
    usable = in_splits(run.dataset, ids, splits)
    _tell_left_out(run, len(ids) - len(usable), len(usable), splits)
    if sizes := sizes_of(samples, usable):
        check(applied, sorted(sizes)[len(sizes) // 2])

    plan, total = _plan(run, applied, carried), len(usable) * variants
    parents = read_parents(samples, usable[:SHOWN] if preview else usable, [*carried, *texts], stored=True)
    worker = AugmentWorker(
        applied, media_store(run.dataset), KeepRule(min_area, min_visibility), seed,
        label_fields=carried, text_fields=texts, ext=f".{image_format}",
    )  # fmt: skip
    if preview:
        from .preview import write_preview

        run.preview = True
        shown = write_preview(itertools.islice(parents, SHOWN), worker, run.dataset.name)
        return run.report({"preview": shown, "images to make": not_yet_made(run, plan, total)})
    create_samples(run.dataset, tasks(parents, plan, variants, run), worker, total=len(usable), num_workers=num_workers)
    for what, why in worker.failures:
        run.failed(what, why)
    return run.report(worker.tally.outputs)


SHOWN = 4
"""Images in a preview."""


def _plan(run: Run, pipeline: Pipeline, carried: Sequence[str]) -> str:
    """Names what is made of an image: the same pipeline and rules always give the same variants."""
    never = {*EXECUTION_PARAMETERS, "preset", "transforms", "pipeline", "variants", "splits", "preview", "label_fields"}
    params: dict[str, Any] = {name: value for name, value in run.params.items() if name not in never}
    return fingerprint(run.stage.name, run.stage.version, pipeline.spec, params, sorted(carried))


def _tell_left_out(run: Run, count: int, left: int, splits: Sequence[str]) -> None:
    if not left:
        raise EmptyViewError(
            f"samples: all belong to another split than {', '.join(splits) or 'none'}, or relatives of them do: choose "
            "other samples, or name their split in splits"
        )
    if count:
        run.note(
            f"{count} images of other splits than {', '.join(splits) or 'none'}, or relatives of such, were left out"
        )
