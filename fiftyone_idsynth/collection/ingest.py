"""Local sources: a folder, files, or another FiftyOne dataset."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ..engine.worker import Task, Worker
from ..errors import RefusedImage, UsageError
from ..stage import (
    BatchSize,
    Bounds,
    Convert,
    Engine,
    ExistingPath,
    NumWorkers,
    Progress,
    Report,
    Run,
    Samples,
    current_run,
    fingerprint,
    stage,
)

if TYPE_CHECKING:
    import fiftyone as fo
    from fiftyone.core.collections import SampleCollection

MAX_LISTED_REFUSALS = 20

_NOT_COPIED = {"id", "filepath", "metadata", "created_at", "last_modified_at", "stages", "rejected", "export_id"}


@dataclass
class Source:
    """Where images are taken from: a folder, files, or the samples of another dataset."""

    folder: str | None = None
    files: tuple[str, ...] = ()
    samples: Any = None

    def storable(self) -> Any:
        """The source as plain values for the run record; long lists as their number and hash."""
        from ..stage import storable

        if self.folder:
            return self.folder
        if self.samples is not None:
            return storable(self.samples)
        return (
            list(self.files) if len(self.files) <= 20 else {"files": len(self.files), "hash": fingerprint(self.files)}
        )


def find_source(value: Any) -> Source:
    """Finds out what ``path`` of :func:`ingest` means.

    Raises:
        UsageError: it is neither an existing folder or file nor a dataset
    """
    from fiftyone.core.collections import SampleCollection

    from ..errors import DatasetNotFound
    from ..samples import find_samples

    if isinstance(value, SampleCollection):
        return Source(samples=value)
    if isinstance(value, (str, os.PathLike)):
        path = os.path.abspath(os.path.expanduser(value))
        if os.path.isdir(path):
            return Source(folder=path)
        if os.path.exists(path):
            return Source(files=(path,))
        try:
            return Source(samples=find_samples(str(value)))
        except DatasetNotFound:
            raise UsageError(
                f"path={str(value)!r}: there is neither a folder or file {path} nor a dataset of that name: "
                "check its spelling"
            ) from None
    if isinstance(value, Iterable):
        files = tuple(os.path.abspath(os.path.expanduser(file)) for file in value)
        missing = [file for file in files if not os.path.exists(file)]
        if missing:
            raise UsageError(f"path: {len(missing)} of {len(files)} files do not exist, the first is {missing[0]}")
        return Source(files=files)
    raise UsageError(f"path={value!r}: give a folder, a file, a list of files, or a FiftyOne dataset or view")


@stage(label="Ingest images", group="Collect", icon="add_photo_alternate", unit="images", creates=True)
def ingest(
    dataset: Samples,
    path: Annotated[Any, Convert(find_source)],
    *,
    recursive: bool = True,
    copy: bool = False,
    min_side: Annotated[int, Bounds(1, 100_000)] = 64,
    tags: tuple[str, ...] = (),
    class_field: str | None = None,
    captions: bool = False,
    labels: Literal["none", "voc", "yolo"] = "none",
    labels_dir: Annotated[Path | None, ExistingPath()] = None,
    classes: tuple[str, ...] = (),
    label_field: str = "ground_truth",
    batch_size: BatchSize = 16,
    num_workers: NumWorkers = None,
    engine: Engine = "local",
    progress: Progress = None,
) -> Report:
    """Adds images from a folder, a list of files, or another FiftyOne dataset.

    Every file is decoded fully and ends as a sample or as a refusal with a reason (``truncated``, ``corrupt``,
    ``not_an_image``, ``too_many_pixels``, ``too_small``, ...). Files are referenced where they are and never changed.
    One that the App or training code would stumble over (CMYK, more than 8 bits per channel, animated, TIFF, a name
    that does not match the content) is converted into the dataset's media store and ``source.converted`` says why.
    What is written there carries no EXIF, GPS or other personal metadata. A file that was ingested before and did not
    change is left alone; one that changed is read again.

    Args:
        path: a folder, a file, a list of files, or a FiftyOne dataset or view, whose labels come along
        recursive (True): whether to look into sub-folders
        copy (False): whether to copy all images into the media store, upright and without personal metadata, so that
            the dataset does not depend on the originals
        min_side (64): smallest width and height in pixels
        tags (()): sample tags to give to all images
        class_field (None): a classification field that gets the name of the folder each image lies in
        captions (False): whether to read a caption from the file beside each image with the extension .txt or .caption
        labels ("none"): format of the label file that goes with each image: voc (.xml) or yolo (.txt)
        labels_dir (None): the folder of the label files, by default beside the images
        classes (()): class names in the order of their numbers, for yolo
        label_field ("ground_truth"): the field that gets the boxes
        batch_size (16): images handed to a worker at once
        num_workers (None): threads (or Ray actors), by default one per processor
        engine ("local"): local or ray

    Returns:
        a :class:`~fiftyone_idsynth.stage.Report`; ``outputs["refused"]`` lists refused files
    """
    from .. import fields
    from ..engine import batched, process, saving
    from ..engine.local import available_cpus
    from ..media import media_store

    run = current_run()
    if labels == "yolo" and not classes:
        raise UsageError("labels='yolo' needs classes: YOLO files hold numbers, so give the class names in their order")
    source: Source = path  # type: ignore[assignment]
    fields.declare(dataset, "source", "stages.ingest")
    if "source.path" not in dataset.list_indexes():
        dataset.create_index("source.path")

    options = _Options(copy, min_side, class_field, captions, labels, labels_dir, classes, label_field)
    worker = _Prober(options, media_store(dataset).root)
    writer = _Writer(dataset, run, tags)
    total = _count(source, recursive)
    with run.progress(total) as bar:
        fresh = _changed(dataset, source, recursive, options, run, bar)
        batches = batched(fresh, batch_size)
        workers = num_workers or available_cpus()
        results = process(worker, batches, num_workers=workers, engine=engine)
        with closing(results), saving(writer.write):
            for outcomes in results:
                for outcome in outcomes:
                    writer.take(outcome)
                run.processed(len(outcomes))
                bar.update(len(outcomes))
    listed = [f"{file}: {why}" for file, (_, why) in run.remembered.get("refused", {}).items()]
    if len(listed) > MAX_LISTED_REFUSALS:
        listed = [*listed[:MAX_LISTED_REFUSALS], f"and {len(listed) - MAX_LISTED_REFUSALS} more"]
    return run.report({"converted": writer.converted, "refused": listed} if listed or writer.converted else {})


@dataclass(frozen=True)
class _Options:
    copy: bool
    min_side: int
    class_field: str | None
    captions: bool
    labels: str
    labels_dir: Path | None
    classes: tuple[str, ...]
    label_field: str

    def sidecars(self, path: str) -> dict[str, str]:
        """The files that belong to an image: ``caption`` and ``labels``."""
        stem = os.path.splitext(path)[0]
        found = {}
        if self.captions:
            found["caption"] = next((p for p in (stem + ".txt", stem + ".caption") if os.path.isfile(p)), "")
        if self.labels != "none":
            folder = str(self.labels_dir.expanduser()) if self.labels_dir else os.path.dirname(path)
            name = os.path.basename(stem) + (".xml" if self.labels == "voc" else ".txt")
            found["labels"] = next((p for p in (os.path.join(folder, name),) if os.path.isfile(p)), "")
        return {kind: file for kind, file in found.items() if file}


class _Prober(Worker):
    """Decodes each file, converts it where needed, and reads what lies beside it."""

    decode = None

    def __init__(self, options: _Options, media_root: str):
        self._options = options
        self._media_root = media_root

    def __call__(self, items: Sequence[Task]) -> list[Any]:
        results: list[Any] = []
        for task in items:
            try:
                results.append(self._probe(task.filepath))
            except RefusedImage as refusal:
                results.append(refusal)
        return results

    def _probe(self, path: str) -> dict[str, Any]:
        import fiftyone as fo

        from ..media import MediaStore, clean_copy, probe_image

        options = self._options
        probe = probe_image(path)
        if min(probe.width, probe.height) < options.min_side:
            raise RefusedImage(
                "too_small", f"{probe.width} x {probe.height}, at least {options.min_side} are wanted (min_side)"
            )
        filepath = path
        if options.copy or probe.convert:
            filepath = MediaStore(self._media_root).write_bytes(*clean_copy(path))
        values: dict[str, Any] = {
            "filepath": filepath,
            "metadata": fo.ImageMetadata(
                size_bytes=os.path.getsize(filepath), mime_type=_mime(filepath), width=probe.width,
                height=probe.height, num_channels=probe.channels,
            ),
            "source": {
                "kind": "local", "path": path, "sha256": probe.sha256, "converted": ", ".join(probe.convert) or None,
            },
        }  # fmt: skip
        if options.class_field:
            values[options.class_field] = fo.Classification(label=os.path.basename(os.path.dirname(path)))
        for kind, file in options.sidecars(path).items():
            values |= self._caption(file) if kind == "caption" else self._labels(file)
        return values

    def _caption(self, file: str) -> dict[str, Any]:
        return {"caption": " ".join(Path(file).read_text(encoding="utf-8", errors="replace").split())}

    def _labels(self, file: str) -> dict[str, Any]:
        options = self._options
        try:
            if options.labels == "voc":
                from fiftyone.utils.voc import load_voc_detection_annotations

                return {options.label_field: load_voc_detection_annotations(file).to_detections()}
            from fiftyone.utils.yolo import load_yolo_annotations

            return {options.label_field: load_yolo_annotations(file, list(options.classes))}
        except Exception as error:  # a label file may hold anything; the image is not used without its labels
            raise RefusedImage("bad_labels", f"{file}: {type(error).__name__}: {error}") from error


class _Writer:
    """Adds new samples and updates those whose file changed, in bulk."""

    def __init__(self, dataset: fo.Dataset, run: Run, tags: tuple[str, ...]):
        self.converted: dict[str, int] = {}
        self._dataset, self._run, self._tags = dataset, run, tags
        self._waiting: list[tuple[Task, dict[str, Any]]] = []

    def take(self, outcome: Any) -> None:
        task, run = outcome.item, self._run
        if outcome.refused is not None:
            run.rejected(outcome.refused.reason)
            run.remembered.setdefault("refused", {})[task.filepath] = [task.payload["stamp"], str(outcome.refused)]
        elif outcome.error is not None:
            run.failed(task.filepath, outcome.error)
        else:
            run.remembered.get("refused", {}).pop(task.filepath, None)
            for reason in (outcome.result["source"]["converted"] or "").split(", "):
                if reason:
                    self.converted[reason] = self.converted.get(reason, 0) + 1
            self._waiting.append((task, outcome.result))
        if len(self._waiting) >= 500:
            self.write()

    def write(self) -> None:
        from .. import fields
        from ..samples import set_fields

        new, changed = [], {}
        for task, values in self._waiting:
            values = {**task.payload["values"], **values, "stages": {"ingest": task.payload["stamp"]}}
            values["source"] |= task.payload["source"]
            fields.declare(self._dataset, *(path for path in values if path in fields.FIELDS))
            if task.payload["id"]:
                changed[task.payload["id"]] = values
            else:
                new.append(self._sample(values, task.payload["tags"]))
        self._waiting = []
        if new:
            self._dataset.add_samples(new, progress=False)
            self._run.created(len(new))
        for sample_id, values in changed.items():
            values["stages.ingest"] = values.pop("stages")["ingest"]
            values["source"] = fields.document(values["source"])
            set_fields(self._dataset, {path: {sample_id: value} for path, value in values.items()})
        if changed and self._tags:
            self._dataset.select(list(changed)).tag_samples(list(self._tags))

    def _sample(self, values: dict[str, Any], tags: Iterable[str]) -> fo.Sample:
        import fiftyone as fo

        from .. import fields

        values["source"] = fields.document(values["source"])
        values["stages"] = fields.document(values["stages"])
        return fo.Sample(tags=list(dict.fromkeys([*tags, *self._tags])), **values)


def _candidates(source: Source, recursive: bool, run: Run | None = None) -> Iterator[Task]:
    """The files of a source in a fixed order, with what is known of each beforehand."""
    if source.samples is not None:
        yield from _samples_of(source.samples)
        return
    if source.folder is None:
        files: Iterable[str] = source.files
    else:
        files = _walk(source.folder, recursive, run)
    for file in files:
        yield Task((file,), {"id": None, "tags": [], "values": {}, "source": {}})


def _walk(folder: str, recursive: bool, run: Run | None) -> Iterator[str]:
    def unreadable(error: OSError) -> None:
        if run is not None:
            run.failed(str(error.filename), error.strerror or str(error))

    for parent, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if recursive else []
        yield from (os.path.join(parent, name) for name in sorted(names) if not name.startswith("."))


def _samples_of(samples: SampleCollection) -> Iterator[Task]:
    from ..samples import dataset_of

    name = dataset_of(samples).name
    for sample in samples.iter_samples():
        values = {
            field: sample[field].copy() if hasattr(sample[field], "copy") else sample[field]
            for field in sample.field_names
            if field not in _NOT_COPIED and not field.startswith("_") and field != "tags" and sample[field] is not None
        }
        before = values.pop("source", None)
        known = {key: before[key] for key in before.field_names} if before is not None else {}
        known = {key: value for key, value in known.items() if value is not None and key not in ("path", "sha256")}
        payload = {"id": None, "tags": sample.tags, "values": values,
                   "source": {**known, "dataset": name, "sample_id": sample.id}}  # fmt: skip
        yield Task((sample.filepath,), payload)


def _count(source: Source, recursive: bool) -> int:
    if source.samples is not None:
        return int(source.samples.count())
    return len(source.files) if source.folder is None else sum(1 for _ in _walk(source.folder, recursive, None))


def _changed(
    dataset: fo.Dataset, source: Source, recursive: bool, options: _Options, run: Run, bar: Any
) -> Iterator[Task]:
    """The files that are new, or changed since they were ingested or refused."""
    from fiftyone import ViewField as F

    from ..engine import batched, file_stamp
    from ..samples import PAGE

    refused = run.remembered.setdefault("refused", {})
    for page in batched(_candidates(source, recursive, run), PAGE):
        paths = [task.filepath for task in page]
        known = dataset.match(F("source.path").is_in(paths) | F("filepath").is_in(paths))
        columns = known.values(["id", "filepath", "source.path", "stages.ingest"])
        by_path = {
            origin or filepath: (sample_id, stamp) for sample_id, filepath, origin, stamp in zip(*columns, strict=True)
        }
        for task in page:
            sidecars = options.sidecars(task.filepath).values()
            stamp = fingerprint(run.fingerprint, file_stamp(task.filepath), [file_stamp(file) for file in sidecars])
            sample_id, before = by_path.get(task.filepath, (None, None))
            if stamp == before or stamp == refused.get(task.filepath, (None,))[0]:
                run.skipped()
                bar.update()
            else:
                task.payload |= {"id": sample_id, "stamp": stamp}
                yield task


def _mime(path: str) -> str:
    import mimetypes

    return mimetypes.guess_type(path)[0] or "image/" + os.path.splitext(path)[1][1:].lower()
