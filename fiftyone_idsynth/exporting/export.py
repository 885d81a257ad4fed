"""Stage ``export``: a dataset for training, complete and verified, in one folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from ..errors import ParameterError, UsageError
from ..stage import LabelField, NumWorkers, Progress, Report, Samples, current_run, stage
from .folder import ExportFolder, clear_leftovers, final_path, is_intact, read_manifest, require_own, require_space
from .formats import FORMATS
from .names import assign_export_ids
from .selection import Selection, choose_samples, find_label_field, is_semantic, mask_targets, select
from .write import Writing


@stage(label="Export for training", group="Export", icon="file_download", unit="images")
def export(
    samples: Samples,
    *,
    path: Path,
    format: Literal["yolo", "coco", "voc", "classification", "segmentation", "captions"] = "yolo",
    label_field: Annotated[str | None, LabelField(("Detections", "Classification", "Segmentation"))] = None,
    classes: tuple[str, ...] | None = None,
    masks: bool = False,
    unlabeled: Literal["keep", "skip"] = "keep",
    include_rejected: bool = False,
    only_licenses: tuple[str, ...] | None = None,
    overwrite: bool = False,
    verify: bool = True,
    num_workers: NumWorkers = None,
    progress: Progress = None,
) -> Report:
    """Writes a dataset for training into a folder, with credits, lineage and a dataset card, and reads it back.

    The sample tags ``train``, ``val`` and ``test`` are the splits; without any, all images are ``train``. All splits
    have the same classes in the same order. Images are copied upright and without personal metadata (camera, place,
    author) under names that never change; the samples' own files are not touched. The folder appears when it is
    complete and verified. Exporting again does nothing if nothing changed.

    Args:
        path: the folder to write; it must not exist yet, or hold an earlier export
        format ("yolo"): ``yolo``, ``coco`` and ``voc`` for objects, ``classification`` (one folder per class),
            ``segmentation`` (PNG masks), or ``captions`` (text files and ``metadata.jsonl``)
        label_field (None): the field with the labels; by default the only one that fits the format. Captions are taken
            from ``training_text``, else ``caption``
        classes (None): the classes to export and their order; by default all that occur, sorted. Give them to keep
            class numbers the same when a class is added
        masks (False): whether YOLO and COCO files hold the objects' outlines rather than boxes alone
        unlabeled ("keep"): what happens to images whose label field has no value: ``keep`` them as images without
            objects, or ``skip`` them. Where there is no place for them (classification, captions) they are skipped
        include_rejected (False): whether rejected samples are exported too
        only_licenses (None): export only images under these licences, e.g. ``cc0,cc-by,cc-by-sa-4.0``; a name without
            version allows all versions. Images whose licence is unknown are left out then
        overwrite (False): whether an earlier export in that folder is replaced when it is out of date; a folder with
            other files in it is never replaced
        verify (True): whether everything is loaded back and compared before the folder is put in place
        num_workers (None): images copied at the same time; by default one per processor, at most 8
        progress (None): whether to show a progress bar

    Returns:
        a report; its outputs name the folder and count images, objects and classes
    """
    run = current_run()
    kind = FORMATS[format]
    if masks and format not in ("yolo", "coco", "segmentation"):
        raise ParameterError("masks", masks, f"format {format!r} has no outlines: use yolo, coco or segmentation")
    target = final_path(path)
    if target.parent.is_dir():
        clear_leftovers(target)
    require_own(target)
    chosen = choose_samples(samples, include_rejected=include_rejected)
    field = find_label_field(chosen, kind, label_field)
    semantic = format == "segmentation" and is_semantic(chosen, field)
    values = mask_targets(chosen, str(field)) if semantic else {}
    settings = {"format": format, "masks": masks, "mask_targets": values}
    assign_export_ids(run.dataset, chosen)
    selection = select(
        chosen, kind, label_field=field, classes=classes, masks=masks or format == "segmentation", unlabeled=unlabeled,
        only_licenses=only_licenses, settings=settings,
    )  # fmt: skip
    outputs: dict[str, Any] = {"path": str(target), "format": format}
    if _is_up_to_date(target, selection, overwrite):
        run.skipped(len(selection.rows))
        run.note("this export is up to date; nothing was written")
        return run.report(outputs)
    require_space(target, selection.size)
    workers = num_workers or min(8, os.cpu_count() or 1)
    with ExportFolder(target) as folder:
        writing = Writing(run, kind, folder, selection, masks=masks, semantic=semantic, mask_targets=values,
                          num_workers=workers)  # fmt: skip
        writing.write(verify=verify)
        folder.commit({**writing.manifest(), "parameters": settings | {"label_field": field}})
    return run.report(outputs | writing.counts())


def _is_up_to_date(target: Path, selection: Selection, overwrite: bool) -> bool:
    """Whether an earlier export can stay; raises if it would have to be replaced without having been asked for."""
    manifest = read_manifest(target)
    if manifest is None:
        return False
    intact = is_intact(target, manifest)
    if intact and manifest["fingerprint"] == selection.fingerprint:
        return True
    if not overwrite:
        then, now = manifest.get("images", "?"), len(selection.rows)
        what = f"an export that is out of date ({then} images then, {now} to export now)"
        if not intact:
            what = "an export whose files were changed or removed since"
        raise UsageError(f"path={str(target)!r} holds {what}: replace it with overwrite=True, or choose another folder")
    return False
