"""Cut-and-paste composition: labelled images from cut-outs and backgrounds, with exact boxes and instance masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ..errors import FieldError, ParameterError
from ..fields import SPLITS
from ..relations import check_fractions
from ..stage import (
    Bounds,
    Engine,
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
from .ingredients import Preparation, field_in
from .partition import split_sequence

if TYPE_CHECKING:
    import fiftyone as fo
    from fiftyone.core.collections import SampleCollection

    from .composites import ComposeWorker

_KINDS = ("Detections", "Detection", "Polylines", "Polyline", "Segmentation", "Classification")


@stage(label="Compose images from cut-outs", group="Generate", icon="layers", unit="layouts", creates=True)
def compose(
    dataset: Samples,
    foregrounds: Samples,
    backgrounds: Samples,
    *,
    count: Annotated[int, Bounds(1, 10_000_000)] = 100,
    label_field: Annotated[str | None, LabelField(_KINDS)] = None,
    classes: tuple[str, ...] = (),
    default_label: str | None = None,
    cutout: Literal["auto", "mask", "alpha", "plain"] = "auto",
    distractors: Samples | None = None,
    max_distractors: Annotated[int, Bounds(0, 50)] = 2,
    min_objects: Annotated[int, Bounds(0, 50)] = 1,
    max_objects: Annotated[int, Bounds(1, 50)] = 3,
    scale_min: Annotated[float, Bounds(0.01, 2)] = 0.2,
    scale_max: Annotated[float, Bounds(0.01, 2)] = 0.6,
    max_upscale: Annotated[float, Bounds(0.1, 10)] = 2.0,
    rotation: Annotated[float, Bounds(0, 180)] = 30.0,
    flip: bool = True,
    max_overlap: Fraction = 0.3,
    max_truncation: Fraction = 0.0,
    min_side: Annotated[int, Bounds(1, 10_000)] = 24,
    min_area: Annotated[int, Bounds(1, 100_000_000)] = 400,
    min_convexity: Fraction = 0.0,
    allow_truncated: bool = False,
    single_object_field: Annotated[str | None, LabelField()] = None,
    check_backgrounds: bool = True,
    blending: tuple[Literal["none", "gaussian", "motion", "poisson"], ...] = ("none", "gaussian", "motion", "poisson"),
    width: Annotated[int | None, Bounds(16, 8192)] = None,
    height: Annotated[int | None, Bounds(16, 8192)] = None,
    image_format: Literal["jpg", "png"] = "jpg",
    fractions: dict[str, Fraction] = {"train": 0.8, "val": 0.1, "test": 0.1},  # noqa: B006 (never changed)
    share_backgrounds: bool = False,
    seed: Seed = 51,
    num_workers: NumWorkers = None,
    engine: Engine = "local",
    progress: Progress = None,
) -> Report:
    """Pastes cut-outs on backgrounds and labels the result exactly.

    Every layout is rendered in each blending mode, one sample per mode, with the same boxes and masks, so that a model
    learns the object and not the traces of pasting. New samples get ``ground_truth`` detections with instance masks of
    what is visible and their ``area`` in pixels, the tags ``composed`` and that of their split, and a ``lineage`` from
    which they can be made again. The method is that of Parcel2D (Naumann et al., 2022) and "Cut, Paste and Learn"
    (Dwibedi et al., 2017).

    A composite uses cut-outs and a background of one split only. Samples that carry a split tag keep it; relatives of
    theirs (duplicates, parents and children, the same page) follow; the others are assigned by ``seed`` so that each
    split gets cut-outs of every class where there are enough, and are tagged if they belong to ``dataset``. Rejected
    samples and composites are never cut out or used as backgrounds.

    Args:
        dataset: the dataset that the composites are added to
        foregrounds: the samples whose objects are cut out; choose them by hand with a view or a tag
        backgrounds: the samples that objects are placed on
        count (100): number of layouts; a larger number later adds to the earlier images and changes none of them
        label_field (None): the field with the masks and classes of the foregrounds; ``ground_truth`` if they have it.
            Each connected part of a class in a segmentation is one object
        classes (()): the classes to cut out; all if empty
        default_label (None): the class of objects without one, e.g. where cut-outs are by alpha channel
        cutout ("auto"): what separates the object: ``"mask"``: the masks of ``label_field``; ``"alpha"``: the image's
            alpha channel; ``"plain"``: a plain background (colour variance of the outer 2 % of at most 60);
            ``"auto"``: the first of these that the sample has
        distractors (None): samples whose objects are placed without a label, other than those of the labelled classes;
            they cover and are covered as the others
        max_distractors (2): greatest number of distractors in an image; the number is drawn from 0 up to it
        min_objects (1): least number of labelled objects in a layout; where there is no room for them, fewer are placed
        max_objects (3): greatest number of labelled objects
        scale_min (0.2): least size of an object: its longer side before rotation / the canvas's shorter side
        scale_max (0.6): greatest size of an object
        max_upscale (2.0): an object is enlarged at most so many times
        rotation (30.0): greatest rotation to either side in degrees
        flip (True): whether every second object is mirrored
        max_overlap (0.3): greatest covered share of the mask of any object, by all that is in front of it together
        max_truncation (0.0): greatest share of an object's mask outside the canvas
        min_side (24): least width and height of a cut-out in pixels of its photograph
        min_area (400): least number of mask pixels of a cut-out in its photograph
        min_convexity (0.0): least convexity of a cut-out: mask area / area of its convex hull; 0.95 for boxes
        allow_truncated (False): whether objects are used that their photograph's border cuts off (for masks and plain
            backgrounds; a file with an alpha channel may fit its object tightly)
        single_object_field (None): use only foregrounds on which this field shows exactly one object
        check_backgrounds (True): whether backgrounds are left out on which ``label_field`` shows one of the composed
            classes, which would stay unlabelled
        blending (("none", "gaussian", "motion", "poisson")): the blending modes: none, feathered edge, motion blur of
            the finished image, gradient-domain cloning
        width (None): canvas width in pixels; the background is cropped and scaled to fill the canvas. If only one side
            is given, the other follows the background's proportions; if none is, the canvas is the background
        height (None): canvas height in pixels
        image_format ("jpg"): ``"jpg"`` (quality 95) or ``"png"``, in which the pixels are exact
        fractions ({"train": 0.8, "val": 0.1, "test": 0.1}): share of each split; leave splits out if there are too few
            cut-outs for all
        share_backgrounds (False): whether all splits use the same backgrounds, except those related to a cut-out
        seed (51): of every random choice
        num_workers (None): threads, or actors on Ray; one per processor by default
        engine ("local"): where the images are made
        progress (None): FiftyOne's progress setting
    """
    from ..engine import made_already
    from ..samples import dataset_of
    from .layout import LayoutRules

    run = current_run()
    made = dataset_of(dataset)
    options = dict(run.params)
    _check(made, options)
    views = {"foregrounds": foregrounds, "backgrounds": backgrounds}
    if distractors is not None and max_distractors:
        views["distractors"] = distractors
    label_field = _label_field(views, label_field)
    if single_object_field:
        from ..samples import require_field

        require_field(foregrounds, single_object_field, parameter="single_object_field")
    plan = _plan_key(run, views, label_field)
    modes = tuple(dict.fromkeys(blending))
    keys = [_key(plan, index, mode) for index in range(count) for mode in modes]
    if run.remembered.get("plan") == plan and len(made_already(made, keys)) == len(keys):
        run.skipped(count * len(modes))
        return run.report(outputs=run.remembered.get("outputs", {}))

    preparation = Preparation(run, made, label_field, options, num_workers)
    pools, ingredients, outputs = preparation.prepare(views, seed)
    rules = LayoutRules(
        min_objects, max_objects, max_distractors, scale_min, scale_max, max_upscale, rotation, flip, max_overlap,
        max_truncation,
    )  # fmt: skip
    from .composites import ComposeWorker

    worker = ComposeWorker(
        preparation.store, pools, ingredients, rules, seed=seed, width=width or 0, height=height or 0,
        ext=f".{image_format}", params={"plan": plan},
    )  # fmt: skip
    _make(made, worker, plan, modes, split_sequence(fractions, count), num_workers, engine)
    outputs |= _placed(made, plan)
    run.remembered = {"plan": plan, "outputs": outputs}
    return run.report(outputs=outputs)


def _check(dataset: fo.Dataset, options: Mapping[str, Any]) -> None:
    import fiftyone as fo

    for low, high in (("min_objects", "max_objects"), ("scale_min", "scale_max")):
        if options[low] > options[high]:
            raise ParameterError(low, options[low], f"must not be greater than {high}={options[high]}")
    if not options["blending"]:
        raise ParameterError("blending", (), "name at least one of none, gaussian, motion, poisson")
    check_fractions(options["fractions"], SPLITS)
    existing = dataset.get_field("ground_truth")
    if existing is not None and getattr(existing, "document_type", None) is not fo.Detections:
        raise FieldError(
            f"the field 'ground_truth' of {dataset.name!r} does not hold Detections, which composites need: rename it "
            f'(dataset.rename_sample_field("ground_truth", ...)), or compose into another dataset'
        )


def _label_field(views: Mapping[str, SampleCollection], label_field: str | None) -> str | None:
    import fiftyone as fo

    from ..samples import dataset_of, require_field, require_samples
    from .sources import read_sources

    for name, view in views.items():
        require_samples(view, name)
    foregrounds = views["foregrounds"]
    if label_field is None and foregrounds.has_field("ground_truth"):
        labelled = dataset_of(foregrounds).select([source.id for source in read_sources(foregrounds)])
        label_field = "ground_truth" if labelled.exists("ground_truth").count() else None
    if label_field:
        require_field(foregrounds, label_field, *(getattr(fo, kind) for kind in _KINDS))
    return label_field


def _plan_key(run: Run, views: Mapping[str, SampleCollection], label_field: str | None) -> str:
    """Names what is composed: the same parameters and sources always give the same images.

    Neither the number of images nor the blending modes belong to it, so that more can be added to those there are; nor
    do split tags, which this stage sets itself.
    """
    from .sources import label_summary, read_sources

    leave_out = ("dataset", "count", "blending", "num_workers", "engine", "foregrounds", "backgrounds", "distractors")
    parts: list[Any] = [{name: value for name, value in run.params.items() if name not in leave_out}]
    for name, view in views.items():
        sources = read_sources(view)
        parts += [name, [(s.id, s.key) for s in sources], label_summary(view, sources, field_in(view, label_field))]
    return fingerprint(run.stage.name, run.stage.version, parts)


def _key(plan: str, index: int, mode: str) -> str:
    return f"compose-{plan}-{index}-{mode}"


def _make(
    dataset: fo.Dataset, worker: ComposeWorker, plan: str, modes: Sequence[Any], splits: Sequence[str],
    num_workers: int | None, engine: str,
) -> None:  # fmt: skip
    import fiftyone as fo

    from ..engine import Task, create_samples
    from .composites import Order

    dataset.add_sample_field("ground_truth", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    dataset.add_sample_field("ground_truth.detections.area", fo.FloatField, description="Visible pixels of the object")

    def tasks() -> Iterator[Task]:
        for index, split in enumerate(splits):
            keys = {_key(plan, index, mode): mode for mode in modes}
            yield Task(tuple(keys), Order(index, split, keys))

    create_samples(dataset, tasks(), worker, total=len(splits), num_workers=num_workers, engine=engine)


def _placed(dataset: fo.Dataset, plan: str) -> dict[str, int]:
    """How many objects and distractors were wanted, and how many found room, over all layouts of a plan."""
    from fiftyone import ViewField as F

    view = dataset.match(F("lineage.params.plan") == plan)
    indices, layouts = view.values(["lineage.params.index", "lineage.params.layout"])
    by_index = dict(zip(indices, layouts, strict=True))
    others = dataset.match((F("lineage.stage") == "compose") & (F("lineage.params.plan") != plan)).count()
    if others:
        current_run().note(f"{others} composites of other parameters or sources stay in the dataset")
    return {
        "objects_wanted": sum(layout["wanted"] for layout in by_index.values()),
        "objects_placed": sum(len(layout["placements"]) for layout in by_index.values()),
    }
