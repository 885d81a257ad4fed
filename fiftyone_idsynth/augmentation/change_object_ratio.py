"""Changing the share of images that their objects fill."""

from __future__ import annotations

from typing import Annotated

from ..errors import ParameterError
from ..modelling import AllowPickle, Device, DType, Offline, Revision
from ..models.options import Options
from ..painting import Guidance, ImageFormat, NegativePrompt, Painter, Steps
from ..parameters import EXECUTION_PARAMETERS
from ..stage import (
    Bounds,
    Fraction,
    LabelField,
    NumWorkers,
    Progress,
    Report,
    Samples,
    Seed,
    current_run,
    fingerprint,
    stage,
)
from .proportions import Padding

REFRAMED_TAG = "reframed"
"""Sample tag of what ``change_object_ratio`` makes."""


@stage(label="Change the share that objects fill", group="Augment", icon="crop", unit="images")
def change_object_ratio(
    samples: Samples,
    *,
    label_field: Annotated[str, LabelField(("Detection", "Detections", "Polyline", "Polylines"))] = "ground_truth",
    ratio: Annotated[float, Bounds(0.001, 0.99)] = 0.3,
    classes: tuple[str, ...] = (),
    margin: Annotated[float, Bounds(0, 10)] = 0.1,
    padding: Padding = "constant",
    fill: Annotated[int, Bounds(0, 255)] = 114,
    model: str = "stable-diffusion-v1-5/stable-diffusion-inpainting",
    prompt: str = "",
    negative_prompt: NegativePrompt = "",
    steps: Steps = None,
    guidance: Guidance = None,
    label_fields: tuple[Annotated[str, LabelField()], ...] | None = None,
    min_area: Annotated[float, Bounds(0, 1e9)] = 1,
    min_visibility: Fraction = 0.25,
    image_format: ImageFormat = "png",
    seed: Seed = 51,
    device: Device = "auto",
    dtype: DType = "auto",
    revision: Revision = None,
    offline: Offline = False,
    allow_pickle: AllowPickle = False,
    num_workers: NumWorkers = None,
    progress: Progress = None,
) -> Report:
    """Crops background away, or adds some, until the objects of an image fill a given share of it; labels follow.

    Where they fill less, the image is cropped round them, in its own proportions, never into an object that counts nor
    into the margin round them; nothing is scaled. Where they fill more, the image gets room on all sides. The results
    are new samples with the tag ``reframed`` and the split of their image; the images stay as they are. Images whose
    objects fill about the share already are left alone. Images that were made from other samples are left out, unless
    there are no others.

    Args:
        label_field ("ground_truth"): the objects; by their masks or outlines where they have any, else by their boxes
        ratio (0.3): the share of the image that they are to fill together, 0 to 1
        classes (()): only objects of these classes count; all by default. The others are carried along and may be cut
        margin (0.1): what stays round the objects at least, as a share of the sides of the box round all of them
        padding ("constant"): how images grow: constant: grey; replicate: their outermost pixels drawn out; paint: a
            generator paints on beyond them; none: they do not, and are left alone
        fill (114): for constant: the grey, 0 to 255
        model ("stable-diffusion-v1-5/stable-diffusion-inpainting"): for paint: hub id, folder or .safetensors file
        prompt (""): for paint: what the whole image shall show
        label_fields (None): the fields whose labels are carried along; all by default
        min_area (1): objects with fewer pixels in the result are dropped
        min_visibility (0.25): objects of which a smaller share is seen, because a crop cuts them, are dropped
        seed (51): for paint: of every random choice

    Returns:
        a report with the images that were left as they are and those in which the margin did not allow the share
    """
    from ..carrying import chosen_fields
    from ..engine import Task, create_samples
    from ..media import media_store
    from ..parents import find_parents, keys_of, read_parents
    from ..samples import dataset_of, require_field
    from ..warping import KeepRule
    from .augment import TEXT_FIELDS
    from .proportions import ProportionWorker

    run = current_run()
    require_field(samples, label_field)
    if padding != "paint" and prompt:
        raise ParameterError("prompt", prompt, "is for padding='paint'")
    carried = tuple(dict.fromkeys((*chosen_fields(samples, label_fields), label_field)))
    texts = tuple(name for name in TEXT_FIELDS if dataset_of(samples).has_field(name))
    ids = find_parents(samples, run)
    painter = None
    if padding == "paint":
        from ..generation.repainting import check_painter

        options = Options(device, dtype, revision, offline, allow_pickle)
        painter = Painter(model, options, steps=steps, guidance=guidance)
        check_painter(painter, 1.0)
        painter.check_prompts([prompt] if prompt else [], negative_prompt)
        painter.record()
    worker = ProportionWorker(
        ratio, label_field, media_store(run.dataset), KeepRule(min_area, min_visibility), classes=classes,
        margin=margin, padding=padding, painter=painter, prompt=prompt, negative=negative_prompt, seed=seed,
        label_fields=carried, text_fields=texts, params={"ratio": ratio, "margin": margin, "padding": padding},
        tag=REFRAMED_TAG, ext=f".{image_format}", fill=fill,
    )  # fmt: skip
    never = {*EXECUTION_PARAMETERS, "label_fields", "model", "revision", "device", "dtype", "offline", "allow_pickle"}
    params = {name: value for name, value in run.params.items() if name not in never}
    plan = fingerprint(run.stage.name, run.stage.version, params, sorted(carried), painter.key if painter else None)
    parents = read_parents(samples, ids, [*carried, *texts], stored=True)
    tasks = (Task(tuple(keys_of(run, plan, parent, 1)), parent) for parent in parents)
    create_samples(run.dataset, tasks, worker, total=len(ids), num_workers=num_workers)
    if worker.limited:
        run.note(f"in {worker.limited} images the margin round the objects leaves them a smaller share than {ratio:g}")
    return run.report({"left as they are": worker.kept, **worker.tally.outputs})
