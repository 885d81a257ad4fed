"""Outpainting: widens images on chosen sides; their own pixels stay as they are, and their labels move with them."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ..errors import ParameterError, suggestion
from ..modelling import AllowPickle, Device, DType, Offline, Revision
from ..models.options import Options
from ..painting import (
    SHOWN,
    DryRun,
    Guidance,
    Loras,
    NegativePrompt,
    PaintBatch,
    Painter,
    SafetyChecker,
    Scheduler,
    Steps,
    Strength,
)
from ..samples import dataset_of
from ..stage import Bounds, Convert, LabelField, Progress, Report, Run, Samples, Seed, current_run, stage
from .prompts import read_texts

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

    from ..parents import Parent
    from .widening import Widening


@stage(label="Widen images (outpaint)", group="Generate", icon="aspect_ratio", unit="images")
def outpaint(
    samples: Samples,
    *,
    left: str = "0",
    right: str = "0",
    top: str = "0",
    bottom: str = "0",
    object_ratio: Annotated[float | None, Bounds(0.001, 0.99)] = None,
    prompts: Annotated[tuple[str, ...], Convert(read_texts)] = (),
    prompt_field: str | None = None,
    negative_prompt: NegativePrompt = "",
    variants: Annotated[int, Bounds(1, 10_000)] = 1,
    model: str = "stable-diffusion-v1-5/stable-diffusion-inpainting",
    steps: Steps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = "default",
    strength: Strength = 1.0,
    loras: Loras = {},  # noqa: B006 (never changed)
    safety_checker: SafetyChecker = True,
    continuation: Literal["reflect", "replicate"] = "reflect",
    overlap: Annotated[int, Bounds(0, 512)] = 8,
    feather: Annotated[int, Bounds(0, 512)] = 16,
    working_side: Annotated[int | None, Bounds(64, 8192)] = None,
    label_fields: tuple[Annotated[str, LabelField()], ...] | None = None,
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
    """Widens images by painting on beyond their edges; every pixel that was there stays byte for byte.

    The new samples are exactly as large as asked for, whatever sizes the model takes. Boxes, polylines, keypoints and
    the masks of whole images are moved to where their objects are in the new image, and marked by the attributes
    ``inherited`` and ``inherited_from``; split tags are inherited. An image that would be longer than
    ``working_side`` is painted smaller, and only what is new is enlarged and put round the old pixels.

    Samples that were made from other samples are left out, unless there are no others.

    Args:
        left ("0"): how far to widen on this side: pixels, e.g. 128, or a share of the width, e.g. 25%
        right ("0"): the same on the right
        top ("0"): the same at the top: pixels, or a share of the height
        bottom ("0"): the same at the bottom
        object_ratio (None): instead of these: widen all sides until the objects cover this share of the image, as
            ``score_quality`` measured it (``quality.object_ratio``); images where they cover less are left out
        prompts (()): what the whole image shall show: texts, or a text file with one a line; each image of a sample
            gets another one, as far as there are
        prompt_field (None): a field with the text for each image, e.g. caption, instead of ``prompts``
        variants (1): images made from each sample; a larger number later adds to the earlier ones
        model ("stable-diffusion-v1-5/stable-diffusion-inpainting"): hub id, folder or .safetensors file: an inpainting
            model, or one that makes pictures from text
        continuation ("reflect"): what stands in the new area before it is painted, which models see at strengths below
            1: the image mirrored, or its outermost pixels drawn out
        overlap (8): so many pixels of the image along the new area are painted too, to go on from them smoothly; the
            image's own pixels are put back there
        feather (16): so far into the new area, in pixels, the difference between what was painted in the overlap and
            the image's own pixels fades out, so that no seam is seen
        working_side (None): longest side in pixels that is painted at its own size; by default 1.5 times the side that
            the model was trained at. If none is given, images smaller than 0.75 times that side are painted larger
        seed (51): of every random choice
        label_fields (None): the fields whose labels are carried over; all by default

    Returns:
        a report with the number of images and their size
    """
    from ..carrying import chosen_fields
    from ..engine import create_samples
    from ..media import media_store
    from ..parents import find_parents, not_yet_made, plan_of, read_parents, sizes_of, tasks
    from .outpaintings import RATIO_FIELD, OutpaintWorker
    from .repainting import check_painter, working_size
    from .widening import SIDES, Widening, parse_extent

    run = current_run()
    widening = Widening(*(parse_extent(run.params[side], side) for side in SIDES))
    _check_extent(samples, widening, object_ratio)
    carried = chosen_fields(samples, label_fields)
    _check_prompt_field(samples, prompt_field, prompts)
    ids = find_parents(samples, run)
    shares = _shares(samples, run, ids, object_ratio)
    ids = list(shares)
    painter = Painter(
        model, Options(device, dtype, revision, offline, allow_pickle), steps=steps, guidance=guidance,
        scheduler=scheduler, loras=loras, safety_checker=safety_checker, batch_size=batch_size,
    )  # fmt: skip
    check_painter(painter, strength)
    texts = list(dict.fromkeys(prompts))
    if prompt_field:
        texts = sorted({text for text in dataset_of(samples).select(ids).values(prompt_field) if text})
    if not texts:
        run.note("no prompts were given: the model goes on from what it sees alone")
    painter.check_prompts(texts, negative_prompt)

    plan, total = plan_of(run, painter), len(ids) * variants
    left_to_make = not_yet_made(run, plan, total)
    sizes = [
        _new_size(size, widening, statistics.median(shares.values()), object_ratio) for size in sizes_of(samples, ids)
    ]
    seconds = 0.0
    if sizes and left_to_make:
        usual = working_size(painter, *sorted(sizes, key=math.prod)[len(sizes) // 2], working_side)
        seconds = painter.announce(left_to_make, usual.width, usual.height, strength, always=dry_run)
    shown: dict[str, Any] = {"model": model, "sizes": _sizes(sizes)}
    if dry_run:
        run.preview = True
        return run.report(
            {**shown, "images to make": left_to_make, "seconds": round(seconds, 1), "prompts": texts[:SHOWN]}
        )
    painter.record()
    worker = OutpaintWorker(
        painter, media_store(run.dataset), widening, continuation=continuation, overlap=overlap, feather=feather,
        strength=strength, negative=negative_prompt, longest=working_side, label_fields=carried, ratio=object_ratio,
    )  # fmt: skip
    more = [*([prompt_field] if prompt_field else []), *([RATIO_FIELD] if object_ratio else [])]
    parents = read_parents(samples, ids, [*carried, *more])

    def prompts_for(parent: Parent) -> list[str]:
        own = parent.values.get(prompt_field or "")
        return ([own] if own else []) if prompt_field else texts

    create_samples(
        run.dataset, tasks(parents, plan, variants, prompts_for, run), worker, total=total, batch_size=batch_size
    )
    return run.report(shown)


def _check_extent(samples: SampleCollection, widening: Widening, ratio: float | None) -> None:
    """Refuses to widen nothing, or in two ways at once."""
    from .outpaintings import RATIO_FIELD

    if ratio is None and not widening:
        raise ParameterError(
            "left", "0", "widen at least one side: left, right, top or bottom, e.g. by 25% or 128; or give object_ratio"
        )
    if ratio is not None and widening:
        raise ParameterError("object_ratio", ratio, "says how far to widen: leave left, right, top and bottom out")
    if ratio is not None and not samples.has_field(RATIO_FIELD):
        raise ParameterError(
            "object_ratio", ratio, f"needs {RATIO_FIELD}: run score_quality with the label_field of the objects first"
        )


def _shares(samples: SampleCollection, run: Run, ids: list[str], ratio: float | None) -> dict[str, float]:
    """The samples that are widened, with the share that their objects cover, where that matters."""
    from .outpaintings import RATIO_FIELD

    if ratio is None:
        return dict.fromkeys(ids, 1.0)
    measured = dataset_of(samples).select(ids, ordered=True).values(RATIO_FIELD)
    shares = {sample_id: share for sample_id, share in zip(ids, measured, strict=True) if share and share > ratio}
    if len(shares) < len(ids):
        run.note(f"{len(ids) - len(shares)} images were left out: their objects cover no more than {ratio:g} of them")
    if not shares:
        raise ParameterError("object_ratio", ratio, "the objects cover no more than this of any image: take less")
    return shares


def _new_size(size: tuple[int, int], widening: Widening, share: float, ratio: float | None) -> tuple[int, int]:
    """The size of a widened picture."""
    from .widening import margins_for_ratio

    margins = widening.margins(*size) if ratio is None else margins_for_ratio(*size, share, ratio)
    return margins.size(*size)


def _check_prompt_field(samples: SampleCollection, name: str | None, prompts: tuple[str, ...]) -> None:
    """Refuses a field that has no texts."""
    import fiftyone as fo

    if name is None:
        return
    if prompts:
        raise ParameterError("prompt_field", name, "give either prompts or a field with the text for each image")
    schema = samples.get_field_schema(ftype=fo.StringField)
    if name not in schema:
        texts = [path for path in schema if path not in ("id", "filepath")]
        raise ParameterError("prompt_field", name, f"must be a field that holds text: {suggestion(name, texts)}")


def _sizes(sizes: list[tuple[int, int]]) -> str:
    """Sizes in words, the commonest first."""
    counted = Counter(f"{width}x{height}" for width, height in sizes).most_common(3)
    return ", ".join(size for size, _ in counted) + (", ..." if len(set(sizes)) > 3 else "")
