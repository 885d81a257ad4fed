"""Upscale: images are enlarged by super-resolution, and their labels follow."""

from __future__ import annotations

from typing import Annotated

from ..modelling import AllowPickle, Device, DType, Offline, Revision
from ..models.options import Options
from ..stage import Bounds, Described, LabelField, Progress, Report, Samples, current_run, stage


@stage(label="Upscale images", group="Enhance", icon="photo_size_select_large", unit="images")
def upscale(
    samples: Samples,
    *,
    model: str = "caidas/swin2SR-classical-sr-x2-64",
    smaller_than: Annotated[int | None, Bounds(1, 65_536)] = None,
    tile: Annotated[int, Bounds(16, 8192)] = 256,
    overlap: Annotated[int, Bounds(0, 1024)] = 32,
    label_fields: tuple[Annotated[str, LabelField()], ...] | None = None,
    device: Device = "auto",
    dtype: DType = "auto",
    revision: Revision = None,
    offline: Offline = False,
    allow_pickle: AllowPickle = False,
    batch_size: Annotated[
        int, Bounds(1, 256), Described("tiles that the model gets at once; halved when the device's memory is short")
    ] = 1,
    progress: Progress = None,
) -> Report:
    """Enlarges images by super-resolution, tile by tile, so that memory does not limit their size.

    Where memory is short, tiles are made smaller. Enlarged images are new samples with ``source.kind`` ``enhanced``,
    linked to the originals, which stay. Boxes, polylines and keypoints, which are relative, and the masks of whole
    images are those of the new size; split tags are inherited. Samples that were made from other samples are left out,
    unless there are no others.

    Args:
        model ("caidas/swin2SR-classical-sr-x2-64"): hub id or folder of a Swin2SR model of transformers, or, with the
            extra ``upscale``, a ``.safetensors`` file in one of the layouts that spandrel knows (ESRGAN, SwinIR, HAT,
            DAT, SPAN and others)
        smaller_than (None): only images whose longer side has fewer pixels than this are enlarged; by default all
        tile (256): side in pixels of the tiles that the model gets; smaller ones take less memory and more time
        overlap (32): pixels that neighbouring tiles share, so that no seam is seen
        label_fields (None): the fields whose labels are carried over; all by default
        dtype ("auto"): precision of the model; auto means 32 bits, since pictures show what fewer lose

    Returns:
        a report with the number of images and the factor
    """
    from ..carrying import chosen_fields
    from ..engine import create_samples
    from ..media import media_store
    from ..parents import find_parents, plan_of, read_parents, tasks
    from .upscaling import UpscaleWorker

    run = current_run()
    carried = chosen_fields(samples, label_fields)
    ids = find_parents(samples, run)
    worker = UpscaleWorker(
        model, Options(device, dtype, revision, offline, allow_pickle), media_store(run.dataset), tile=tile,
        overlap=overlap, batch_size=batch_size, smaller_than=smaller_than, label_fields=carried,
    )  # fmt: skip
    upscaler = worker.model
    run.models[upscaler.name] = upscaler.revision
    plan = plan_of(run, None, upscaler.name, upscaler.revision)
    wanted = tasks(read_parents(samples, ids, carried), plan, 1, lambda parent: (), run)
    create_samples(run.dataset, wanted, worker, total=len(ids))
    if worker.transparent:
        run.note(f"{worker.transparent} images are transparent in places: there their enlarged copies are white")
    return run.report({"model": model, "factor": upscaler.scale, "too large": worker.too_large})
