"""Writes the answers of people to samples, and never anything over what is newer or was made by a person here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ... import fields
from ...authorship import checksum
from ...media import MediaStore, media_store
from ...samples import set_fields
from ...stage import Run, fingerprint
from ..candidates import CONFLICT_TAG, LABELLED_TAG, SKIPPED_TAG
from .config import Labelling
from .keys import dataset_id
from .masks import to_files
from .merging import Merge, Merged, agreement_of, merge_answers
from .reading import Answered, latest_by_sample, read_task
from .values import ValuesError, from_results

if TYPE_CHECKING:
    import fiftyone as fo

OVERLAP = timedelta(minutes=2)
"""Changes of this span before the last one that was seen are read again, as they may have come in late."""

CHUNK = 100
"""How many samples are written at a time."""


@dataclass(frozen=True)
class Rules:
    """How answers become labels.

    Attributes:
        merge: how answers of several people are merged, see :func:`~.merging.merge_answers`
        iou: least intersection over union of the same object
        min_annotators: an image is left alone until as many people have answered
        labels: label in answers -> class, for labels that were renamed
        overwrite: whether labels that people made or changed in FiftyOne are replaced
    """

    merge: Merge
    iou: float
    min_annotators: int
    labels: Mapping[str, str] = field(default_factory=dict)
    overwrite: bool = False


@dataclass(frozen=True)
class _Sample:
    """What a sample holds before it is written to."""

    id: str
    filepath: str
    tags: Sequence[str]
    size: tuple[int, int] | None
    values: Mapping[str, Any]
    notes: Mapping[str, str | None]
    authors: Mapping[str, str | None]


class Pull:
    """Writes the answers in a project to the samples of a dataset.

    Args:
        run: the run that is told what happens
        labelling: what people are asked
        rules: how answers become labels
    """

    def __init__(self, run: Run, labelling: Labelling, rules: Rules):
        self._run, self._dataset, self._labelling, self._rules = run, run.dataset, labelling, rules
        self._store: MediaStore = media_store(run.dataset)
        self._kinds = labelling.fields
        self._merged: dict[str, list[Merged]] = {name: [] for name in self._kinds}
        self._counts: Counter[str] = Counter()
        self._again: list[datetime] = []
        self._way = fingerprint(rules.merge, rules.iou, rules.min_annotators, dict(rules.labels), labelling.xml())

    def prepare(self) -> None:
        """Makes the fields that answers are written to.

        Raises:
            FieldError: there is such a field, which holds something else
        """
        for name, kind in self._kinds.items():
            fields.declare_label(self._dataset, name, kind)
        fields.declare(self._dataset, "answered", *(f"answered.{name}" for name in self._kinds))
        fields.declare(self._dataset, "authors", *(f"authors.{name}" for name in self._kinds))
        targets = {one.field: {0: "background", **one.mask_targets} for one in self._labelling.controls if one.targets}
        missing = {name: its for name, its in targets.items() if not self._dataset.mask_targets.get(name)}
        if missing and not self._dataset.default_mask_targets:
            self._dataset.mask_targets.update(missing)
            self._dataset.save()

    def select(self, tasks: Iterable[Mapping[str, Any]], ids: Iterable[str]) -> dict[str, Answered]:
        """Finds the tasks that are about some samples: sample id -> task.

        Args:
            tasks: tasks as the server gives them, all of them
            ids: the samples
        """
        own, wanted = dataset_id(self._dataset), set(ids)
        ours = []
        for task in map(read_task, tasks):
            if task is None:
                self._counts["tasks of others"] += 1
            elif task.key.dataset_id != own:
                self._counts["tasks of other datasets"] += 1
            elif task.key.sample_id not in wanted:
                self._counts["tasks of samples that are not asked for or not there"] += 1
            elif task.given or task.skips:
                ours.append(task)
        return latest_by_sample(ours)

    def write(self, tasks: Mapping[str, Answered], bar: Any) -> None:
        """Writes the answers in tasks; what is interrupted is done by the next pull.

        Args:
            tasks: sample id -> task
            bar: a progress bar
        """
        ids = sorted(tasks)
        for start in range(0, len(ids), CHUNK):
            chunk = ids[start : start + CHUNK]
            values: dict[str, dict[str, Any]] = {}
            tags: dict[str, list[str]] = {}
            for sample in self._read(chunk):
                tag = self._settle(sample, tasks[sample.id], values)
                if tag:
                    tags.setdefault(tag, []).append(sample.id)
            # A label and the note of whose it is arrive together or not at all; tags are set again by the next pull.
            set_fields(self._dataset, values)
            tag_settled(self._dataset, tags)
            bar.update(len(chunk))

    def next_since(self, changed: Iterable[datetime]) -> datetime | None:
        """The time from which the next pull must read: of the last change, or the first that could not be written."""
        times = list(changed)
        last = min([max(times), *self._again]) if times else None
        return None if last is None else last - OVERLAP

    def summary(self) -> dict[str, Any]:
        """What is reported."""
        outputs: dict[str, Any] = {name: count for name, count in sorted(self._counts.items()) if count}
        for name, merged in self._merged.items():
            found = agreement_of(merged)
            if found.mean is None:
                continue
            figures: dict[str, Any] = {"images": found.images, "mean": round(found.mean, 4)}
            if found.kappa is not None:
                figures["kappa"] = round(found.kappa, 4)
            outputs[f"agreement about {name}"] = figures
            outputs[f"agreement of annotators about {name}"] = {
                person: round(value, 4) for person, value in found.people.items()
            }
        return outputs

    def _read(self, ids: Sequence[str]) -> Iterable[_Sample]:
        names = list(self._kinds)
        view = self._dataset.select(list(ids), ordered=True)
        columns = view.values(
            ["id", "filepath", "tags", "metadata.width", "metadata.height", *names,
             *(f"answered.{name}" for name in names), *(f"authors.{name}" for name in names)]
        )  # fmt: skip
        for sample_id, filepath, tags, width, height, *rest in zip(*columns, strict=True):
            held, notes, authors = (rest[n * len(names) : (n + 1) * len(names)] for n in range(3))
            yield _Sample(
                sample_id, filepath, tags, (width, height) if width and height else _size_of(filepath),
                dict(zip(names, held, strict=True)), dict(zip(names, notes, strict=True)),
                dict(zip(names, authors, strict=True)),
            )  # fmt: skip

    def _settle(self, sample: _Sample, task: Answered, values: dict[str, dict[str, Any]]) -> str | None:
        """Decides what is written to a sample, and returns the tag it gets."""
        if not task.given:
            if LABELLED_TAG in sample.tags or CONFLICT_TAG in sample.tags or any(sample.notes.values()):
                return None
            self._counts["skipped by people"] += 1
            return SKIPPED_TAG
        self._counts["answers"] += len(task.given)
        if self._is_settled(sample, task):
            self._run.skipped()
            return None
        if len(task.given) < self._rules.min_annotators:
            self._counts["waiting for more people"] += 1
            return None
        try:
            merged = self._merge(sample, task)
        except ValuesError as error:
            self._run.failed(sample.filepath, f"{error.reason}: {error.detail}")
            self._again.append(task.changed)
            return None
        done = {name: self._decide(sample, name, one, task.version, values) for name, one in merged.items()}
        if any(what == "written" for what in done.values()):
            self._run.processed()
        elif all(what == "older" for what in done.values()):
            self._counts["older than what is there"] += 1
            return None
        else:
            self._run.skipped()
        if any(one.conflict and done[name] != "kept" for name, one in merged.items()):
            self._counts["conflicts"] += 1
            return CONFLICT_TAG
        return LABELLED_TAG

    def _is_settled(self, sample: _Sample, task: Answered) -> bool:
        """Whether these very answers were written, in the same way, and the sample got its tag."""
        if self._rules.overwrite or not {LABELLED_TAG, CONFLICT_TAG} & set(sample.tags):
            return False
        return all((note or "").endswith(f" {task.version} {self._way}") for note in sample.notes.values())

    def _merge(self, sample: _Sample, task: Answered) -> dict[str, Merged]:
        rules = self._rules
        size = sample.size or _drawn_on(task)
        said = {
            one.annotator: from_results(self._labelling, one.results, *size, labels=rules.labels) for one in task.given
        }
        merged = {}
        for name, kind in self._kinds.items():
            theirs = {person: values[name] for person, values in said.items()}
            merged[name] = merge_answers(kind, theirs, rules.merge, rules.iou)
            self._merged[name].append(merged[name])
            to_files(merged[name].value, self._store.write_image)
        return merged

    def _decide(
        self, sample: _Sample, name: str, merged: Merged, version: str, values: dict[str, dict[str, Any]]
    ) -> str:
        """Whether a field gets an answer: ``"written"``, ``"same"``, ``"older"``, or ``"kept"`` as people made it."""
        now = checksum(sample.values[name]) or "none"
        new = checksum(merged.value) or "none"
        note = f"{new} {version} {self._way}"
        was, _, rest = (sample.notes[name] or "").partition(" ")
        if was and version < rest.rpartition(" ")[0]:
            return "older"
        if now != new and not self._rules.overwrite:
            # Ours if it is as we left it, or as a model left it; else somebody made, changed or removed it here.
            ours = now == was if was else now in ("none", sample.authors[name])
            if not ours:
                self._run.left_to_people([sample.id])
                return "kept"
        if now == new and note == sample.notes[name]:
            return "same"
        values.setdefault(f"answered.{name}", {})[sample.id] = note
        if now == new:
            return "same"
        values.setdefault(name, {})[sample.id] = merged.value
        if sample.authors[name]:  # it is no model's any more
            values.setdefault(f"authors.{name}", {})[sample.id] = None
        return "written"


def tag_settled(dataset: fo.Dataset, tags: Mapping[str, Sequence[str]]) -> None:
    """Gives samples the tag that says what people did with them, and takes the others of that kind away.

    Args:
        dataset: the dataset
        tags: ``labelled``, ``conflict`` or ``skipped`` -> ids of samples
    """
    for tag, ids in tags.items():
        view = dataset.select(list(ids))
        for other in {LABELLED_TAG, CONFLICT_TAG, SKIPPED_TAG} - {tag}:
            view.match_tags(other).untag_samples(other)
        view.match_tags(tag, bool=False).tag_samples(tag)


def _size_of(filepath: str) -> tuple[int, int] | None:
    """Width and height of an image as it is displayed; ``None`` if the file is not there or cannot be read."""
    from ...errors import RefusedImage
    from ...media import probe_image

    try:
        found = probe_image(filepath)
    except (OSError, RefusedImage):
        return None
    return found.width, found.height


def _drawn_on(task: Answered) -> tuple[int, int]:
    """The size of the image that people saw, for files that were moved since."""
    for one in task.given:
        for result in one.results:
            if result.get("original_width") and result.get("original_height"):
                return int(result["original_width"]), int(result["original_height"])
    return 1, 1
