"""Objects in new surroundings, and new objects in old surroundings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ..errors import ParameterError
from ..modelling import AllowPickle, Device, DType, Offline, Revision
from ..models.options import Options
from ..painting import (
    SHOWN,
    DryRun,
    Guidance,
    Loras,
    PaintBatch,
    Painter,
    SafetyChecker,
    Scheduler,
    Steps,
    Strength,
)
from ..stage import (
    Bounds,
    Convert,
    ExistingPath,
    Fraction,
    LabelField,
    Progress,
    Report,
    Run,
    Samples,
    Seed,
    current_run,
    stage,
)
from .prompts import read_texts

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

    from .objects import ObjectFinder
    from .recontexts import Plan, RecontextWorker

REPLACED_RIM = 6
"""Pixels round an object's mask that are painted anew with it, where nothing else is asked for: its edge and shadow."""

KINDS = ("Detections", "Detection", "Polylines", "Polyline", "Segmentation", "Classification")
"""FiftyOne's label classes that tell where, or what, objects are."""


@stage(label="Change the surroundings of objects", group="Generate", icon="wallpaper", unit="images")
def recontextualize(
    samples: Samples,
    *,
    replace: Literal["background", "object"] = "background",
    prompts: Annotated[tuple[str, ...], Convert(read_texts)] = (),
    scenes: Annotated[int, Bounds(1, 10_000)] = 50,
    written_by: Literal["words", "llm"] = "words",
    vocabulary: Annotated[Path | None, ExistingPath()] = None,
    cutout: Literal["auto", "masks", "boxes", "remover", "segmenter"] = "auto",
    cutter: str | None = None,
    label_field: Annotated[str | None, LabelField(KINDS)] = None,
    classes: tuple[str, ...] = (),
    label: str | None = None,
    mask_threshold: Fraction = 0.5,
    dilation: Annotated[int | None, Bounds(0, 256)] = None,
    whole_box: bool = False,
    min_side: Annotated[int, Bounds(1, 10_000)] = 24,
    min_area: Annotated[int, Bounds(1, 100_000_000)] = 400,
    allow_truncated: bool = False,
    placement: Literal["random", "same_size", "same_place"] = "random",
    canvas: tuple[str, ...] = (),
    min_objects: Annotated[int, Bounds(1, 50)] = 1,
    max_objects: Annotated[int, Bounds(1, 50)] = 1,
    scale_min: Annotated[float, Bounds(0.01, 2)] = 0.3,
    scale_max: Annotated[float, Bounds(0.01, 2)] = 0.7,
    max_upscale: Annotated[float, Bounds(0.1, 10)] = 1.5,
    rotation: Annotated[float, Bounds(0, 180)] = 0.0,
    flip: bool = False,
    max_overlap: Fraction = 0.1,
    max_truncation: Fraction = 0.0,
    filling: Literal["blur", "mean", "source"] = "blur",
    verifier: str | None = None,
    min_iou: Fraction = 0.5,
    variants: Annotated[int, Bounds(1, 10_000)] = 1,
    model: str = "stable-diffusion-v1-5/stable-diffusion-inpainting",
    negative_prompt: str = "",
    steps: Steps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = "default",
    strength: Strength = 1.0,
    loras: Loras = {},  # noqa: B006 (never changed)
    safety_checker: SafetyChecker = True,
    working_side: Annotated[int | None, Bounds(64, 8192)] = None,
    instruction: str | None = None,
    llm_model: str = "gpt-4o-mini",
    llm_url: str | None = None,
    llm_budget: Annotated[int, Bounds(1, 100_000_000)] = 100_000,
    seed: Seed = 51,
    dry_run: DryRun = False,
    device: Device = "auto",
    dtype: DType = "auto",
    revision: Revision = None,
    offline: Offline = False,
    allow_pickle: AllowPickle = False,
    batch_size: PaintBatch = 4,
    progress: Progress = None,
) -> Report:
    """Cuts objects out, places them anew and paints everything round them; or paints other objects in their place.

    The pixels of an object are never painted over: at its own size they are those of its image byte for byte, at other
    sizes those of the scaled cut-out. So its box and mask are exact, and stand in ``ground_truth``. Where the object is
    replaced instead, the background is what stays, and the new object has the box and mask of the old one, with the
    attributes ``inherited`` and ``inherited_from``: a detector may verify that it is there.

    Samples that were made from other samples are left out, unless there are no others.

    Args:
        replace ("background"): what is painted anew: the background, or the object
        prompts (()): what the surroundings shall be, e.g. "a beach at sunset": texts, or a text file with one a line;
            {subject} stands for the class of the objects. What names the object may make the model paint a second one.
            Where the object is replaced: what the whole image shall show. Each image of a sample gets another prompt,
            as far as there are
        scenes (50): number of surroundings that are made up where no prompts are given
        written_by ("words"): what makes them up: the word list, or a language model (llm)
        vocabulary (None): a file with words for them, in the groups setting, light and weather; added to the words
            there are, see :mod:`fiftyone_idsynth.generation.variation`
        cutout ("auto"): what separates the objects: ``"masks"``: the masks of ``label_field``; ``"boxes"``: a SAM
            model, from the boxes of ``label_field``; ``"remover"``: a background remover, one object an image;
            ``"segmenter"``: each connected part of ``classes``; ``"auto"``: masks where there are, else boxes, and the
            remover without a label field
        cutter (None): the model that cuts out: hub id, folder or .onnx file; by default a usual one of its kind
        label_field (None): the field with the masks, boxes or classes; ``ground_truth`` if there is one
        classes (()): only objects of these classes; for a segmenter, what it looks for: text, text|text or
            label=text|text
        label (None): the class of the objects in the new images; by default that of their labels
        mask_threshold (0.5): least probability of an object's pixels, for a remover or segmenter
        dilation (None): width in pixels of a rim round the masks: kept with the object, or painted with it where it is
            replaced; by default 0 and 6. The new mask is without it
        whole_box (False): whether the whole box of an object that is replaced is painted anew, so that another shape
            has room; the new label then has no mask
        min_side (24): least width and height of an object in pixels of its image
        min_area (400): least number of its pixels there
        allow_truncated (False): whether objects are used that the image's border cuts off; always where they stay in
            their place
        placement ("random"): where the objects go: ``"random"``: at any size and place; ``"same_size"``: at any
            place; ``"same_place"``: where they are, all of them
        canvas (()): sizes of the new images, of which one is drawn: e.g. 512x512, or a range 512-768x512-768; by
            default that of the sample's image, for random placement no larger than ``working_side``
        min_objects (1): least number of objects in an image; where there is no room for them, fewer are placed
        max_objects (1): greatest number of objects
        scale_min (0.3): least size of an object: its longer side before rotation / the canvas's shorter side
        scale_max (0.7): greatest size of an object
        max_upscale (1.5): an object is enlarged at most so many times
        rotation (0.0): greatest rotation to either side in degrees
        flip (False): whether every second object is mirrored
        max_overlap (0.1): greatest covered share of the mask of any object, by all that is in front of it together
        max_truncation (0.0): greatest share of an object's mask outside the canvas
        filling ("blur"): what surrounds objects before it is painted, which models see at strengths below 1:
            ``"blur"``: only large shapes of the old background; ``"mean"``: its mean colour; ``"source"``: the
            background itself
        verifier (None): a detector that looks for the objects that replaced others, e.g. google/owlv2-base-patch16:
            labels that it does not confirm are dropped
        min_iou (0.5): least overlap (intersection over union) of an inherited box and the one that the verifier finds
        variants (1): images made from each sample; a larger number later adds to the earlier ones
        negative_prompt (""): what shall not be painted, e.g. people, text, or {subject}
        model ("stable-diffusion-v1-5/stable-diffusion-inpainting"): hub id, folder or .safetensors file: an inpainting
            model, or one that makes pictures from text
        working_side (None): longest side in pixels that is painted at its own size; by default 1.5 times the side that
            the model was trained at. If none is given, images smaller than 0.75 times that side are painted larger
        seed (51): of every random choice
        instruction (None): what the language model is told, by default
            :data:`fiftyone_idsynth.generation.scenes.INSTRUCTION`
        llm_model ("gpt-4o-mini"): the language model, behind any OpenAI-compatible address
        llm_url (None): that address, by default OPENAI_BASE_URL or OpenAI's
        llm_budget (100_000): tokens that the language model may use

    Returns:
        a report with the number of objects wanted and placed
    """
    from ..engine import create_samples
    from ..parents import find_parents, not_yet_made, plan_of, read_parents, tasks
    from .objects import finder_for
    from .repainting import check_painter

    run = current_run()
    _check(run.params)
    options = Options(device, dtype, revision, offline, allow_pickle)
    finder = finder_for(samples, run.params, options)
    ids = find_parents(samples, run)
    painter = Painter(
        model, options, steps=steps, guidance=guidance, scheduler=scheduler, loras=loras,
        safety_checker=safety_checker, batch_size=batch_size,
    )  # fmt: skip
    check_painter(painter, strength)
    worker = _worker(run, painter, finder, options)
    plan, total = plan_of(run, painter, finder.about), len(ids) * variants
    left = not_yet_made(run, plan, total)
    texts = list(dict.fromkeys(prompts))
    if left and not texts:
        texts = _surroundings(run, vocabulary, classes or ((label,) if label else ()))
    painter.check_prompts(texts, negative_prompt)
    size = _usual_size(samples, ids, painter, worker.plan)
    seconds = painter.announce(left, *size, strength, always=dry_run) if size else 0.0
    if dry_run:
        run.preview = True
        return run.report(
            {"model": model, "images to make": left, "seconds": round(seconds, 1), "prompts": texts[:SHOWN]}
        )
    painter.record()
    run.models |= worker.models
    _declare(run, worker)
    parents = read_parents(samples, ids, [finder.label_field] if finder.label_field else [])
    create_samples(
        run.dataset, tasks(parents, plan, variants, lambda parent: texts, run), worker, total=total,
        batch_size=batch_size,
    )  # fmt: skip
    return run.report(_placed(run, plan))


def _check(params: Mapping[str, Any]) -> None:
    """Refuses parameters that contradict one another."""
    for low, high in (("min_objects", "max_objects"), ("scale_min", "scale_max")):
        if params[low] > params[high]:
            raise ParameterError(low, params[low], f"must not be greater than {high}={params[high]}")
    replaced, placement = params["replace"] == "object", params["placement"]
    if replaced and placement != "random":
        raise ParameterError("placement", placement, "objects that are replaced stay where they are: leave it out")
    if params["canvas"] and (replaced or placement == "same_place"):
        problem = "objects that stay where they are need the canvas of their image: leave it out"
        raise ParameterError("canvas", params["canvas"], problem)
    for name in ("whole_box", "verifier"):
        if params[name] and not replaced:
            raise ParameterError(name, params[name], "is for objects that are replaced: add replace='object'")
    if replaced and not params["prompts"]:
        raise ParameterError("prompts", (), "say what the image shows instead, e.g. 'a fox on a road'")


def _surroundings(run: Run, vocabulary: Path | None, subjects: Sequence[str]) -> list[str]:
    """Descriptions of surroundings, where none are given."""
    from .scenes import scenes_from_model, scenes_from_words

    params = run.params
    scenes = scenes_from_words(params["scenes"], params["seed"], vocabulary)
    if params["written_by"] == "words":
        return scenes
    return scenes_from_model(
        run, scenes, [subject.partition("=")[0].partition("|")[0].strip() for subject in subjects],
        name=params["llm_model"], url=params["llm_url"], budget=params["llm_budget"],
        instruction=params["instruction"],
    )  # fmt: skip


def _worker(run: Run, painter: Painter, finder: ObjectFinder, options: Options) -> RecontextWorker:
    """What makes the pictures."""
    import fiftyone as fo

    from ..media import media_store
    from .canvases import parse_canvas
    from .layout import LayoutRules
    from .recontexts import Plan, RecontextWorker, ReplaceWorker
    from .verifying import Verifier

    params = run.params
    replaced = params["replace"] == "object"
    rules = LayoutRules(
        params["min_objects"], params["max_objects"], 0, params["scale_min"], params["scale_max"],
        params["max_upscale"], params["rotation"], params["flip"], params["max_overlap"], params["max_truncation"],
        own_size=params["placement"] == "same_size",
    )  # fmt: skip
    rim = params["dilation"]
    plan = Plan(
        params["placement"], rules, tuple(parse_canvas(size, painter.unit) for size in params["canvas"]),
        params["filling"], (REPLACED_RIM if replaced else 0) if rim is None else rim, params["whole_box"],
        params["strength"], params["negative_prompt"], params["working_side"], params["label"],
    )  # fmt: skip
    store = media_store(run.dataset)
    if not replaced:
        return RecontextWorker(painter, finder, store, plan)
    field = finder.label_field or ""
    holds_boxes = field and run.dataset.get_field(field).document_type is fo.Detections
    verifier = None
    if params["verifier"]:
        verifier = Verifier(params["verifier"], finder.options, params["min_iou"])
        verifier.setup()
    return ReplaceWorker(painter, finder, store, plan, field if holds_boxes else "detections", verifier)


def _usual_size(samples: SampleCollection, ids: Sequence[str], painter: Painter, plan: Plan) -> tuple[int, int] | None:
    """The size in pixels that most pictures are painted at; None if no image can be read."""
    from ..parents import sizes_of
    from .repainting import working_size

    sizes = [canvas.middle for canvas in plan.canvases] or sizes_of(samples, ids)
    if not sizes:
        return None
    size = working_size(painter, *sorted(sizes, key=math.prod)[len(sizes) // 2], plan.longest)
    return size.width, size.height


def _declare(run: Run, worker: RecontextWorker) -> None:
    """Makes sure that the dataset has the field that the new labels go to."""
    import fiftyone as fo

    from .. import fields

    fields.declare_label(run.dataset, worker.output_field, "Detections")
    path = f"{worker.output_field}.detections.area"
    if not run.dataset.has_field(path):
        run.dataset.add_sample_field(path, fo.FloatField, description="Visible pixels of the object")


def _placed(run: Run, plan: str) -> dict[str, int]:
    """How many objects were wanted, and how many found room, over all pictures of a plan."""
    from fiftyone import ViewField as F

    if not run.dataset.has_field("lineage.key"):
        return {}
    made = run.dataset.match(F("lineage.key").starts_with(f"{run.stage.name}-{plan}-"))
    placed = [params for params in made.values("lineage.params") if params]
    return {
        "objects wanted": sum(params.get("objects_wanted", len(params["objects"])) for params in placed),
        "objects placed": sum(len(params.get("placements", params["objects"])) for params in placed),
    }
