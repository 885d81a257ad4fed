"""What composites are made from: cut-outs, distractors and backgrounds, divided among the splits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import EmptyViewError, UsageError
from ..relations import connected
from ..stage import Run
from .partition import Group, assign_splits

if TYPE_CHECKING:
    import fiftyone as fo
    from fiftyone.core.collections import SampleCollection

    from .composites import Ingredient, Pool
    from .sources import CutoutFile, Extraction, Source

_BACKGROUND, _DISTRACTOR = " background", " distractor"

_REASONS = {
    "no_mask": "the label has no mask",
    "no_label": "the sample has no label in the label field",
    "no_class": "no class is known: name a label field, or give default_label",
    "several_classes": "the image shows several classes and has no masks",
    "other_class": "its class is not among `classes`",
    "truncated": "the photograph's border cuts it off: allow_truncated=True uses it all the same",
    "too_small": "smaller than min_side or min_area",
    "not_convex": "less convex than min_convexity",
    "not_one_object": "single_object_field does not show exactly one object",
    "background_not_plain": "the photograph's border varies too much for the plain-background remover",
    "no_object": "nothing stands out from the plain background",
    "opaque": "the alpha channel hides nothing",
    "unreadable": "the image cannot be decoded",
}


def field_in(samples: SampleCollection, label_field: str | None) -> str | None:
    """The label field, if the samples have it."""
    return label_field if label_field and samples.has_field(label_field) else None


@dataclass
class Preparation:
    """Prepares what composites are made from.

    Attributes:
        run: the run that it belongs to
        dataset: the dataset that composites are added to
        label_field: the field with the foregrounds' labels, if any
        options: the parameters of the stage
        num_workers: threads
    """

    run: Run
    dataset: fo.Dataset
    label_field: str | None
    options: Mapping[str, Any]
    num_workers: int | None

    def __post_init__(self) -> None:
        from ..media import media_store

        self.store = media_store(self.dataset)

    def prepare(
        self, views: Mapping[str, SampleCollection], seed: int
    ) -> tuple[dict[str, Pool], dict[str, Ingredient], dict[str, Any]]:
        """Cuts out, chooses backgrounds and divides both among the splits."""
        from ..samples import dataset_of
        from .sources import read_sources

        options = self.options
        objects = self._cut(views["foregrounds"], options["classes"], options["default_label"], "foregrounds")
        classes = {cutout.label for cutout in objects.cutouts}
        behind = self._usable_backgrounds(views["backgrounds"], classes)
        refused, aside = objects.refused, []
        if "distractors" in views:
            found = self._cut(views["distractors"], (), "", "distractors", leave_out=classes)
            refused, aside = refused + found.refused, found.cutouts
        # Relatives are looked for in the whole datasets: one outside the views may carry a split's tag.
        sources = {s.id: s for view in views.values() for s in read_sources(dataset_of(view))}
        splits = self._splits(sources, objects.cutouts, aside, behind, seed)
        pools, ingredients = self._divide(splits, objects.cutouts, aside, behind)
        used = {c.sample_id for c in (*objects.cutouts, *aside)} | {s.id for s in behind}
        self._tag({sample_id: split for sample_id, split in splits.items() if sample_id in used}, sources)
        outputs: dict[str, Any] = {"cutouts": dict(Counter(cutout.label for cutout in objects.cutouts))}
        outputs |= {"distractor_cutouts": len(aside)} if aside else {}
        outputs |= {"backgrounds": len(behind)}
        outputs |= {"cutouts_refused": dict(refused)} if refused else {}
        return pools, ingredients, outputs

    def _cut(
        self, samples: SampleCollection, classes: Sequence[str], default_label: str | None, what: str,
        leave_out: set[str] | None = None,
    ) -> Extraction:  # fmt: skip
        from .cutouts import CutoutFilter
        from .sources import CutoutWorker, extract_cutouts, mask_targets, read_sources

        sources = read_sources(samples)
        if not sources:
            raise EmptyViewError(f"{what}: all samples are rejected, or composites themselves: choose other samples")
        options = self.options
        field = field_in(samples, self.label_field)
        usable = CutoutFilter(
            options["min_side"], options["min_area"], options["min_convexity"], options["allow_truncated"]
        )
        worker = CutoutWorker(
            self.store, options["cutout"], usable, label_field=field, targets=mask_targets(samples, field),
            single_object_field=options["single_object_field"] if leave_out is None else None,
            classes=classes, default_label=default_label,
        )  # fmt: skip
        found = extract_cutouts(samples, sources, worker, self.run, num_workers=self.num_workers)
        for path, why in found.failed:
            self.run.failed(path, why)
        if leave_out:
            kept = [cutout for cutout in found.cutouts if cutout.label not in leave_out]
            found.refused["of_a_composed_class"] += len(found.cutouts) - len(kept)
            found.cutouts = kept
            found.refused += Counter()
        if not found.cutouts:
            raise UsageError(f"{what}: nothing could be cut out of {len(sources)} samples{_explain(found.refused)}")
        return found

    def _usable_backgrounds(self, samples: SampleCollection, classes: set[str]) -> list[Source]:
        from .sources import class_names, labels_of, mask_targets, read_sources

        sources = read_sources(samples)
        field = field_in(samples, self.label_field)
        if field and self.options["check_backgrounds"] and sources:
            targets = mask_targets(samples, field)
            labels = labels_of(samples, [s.id for s in sources], field)
            showing = {sample_id for sample_id, (label,) in labels if class_names(label, targets) & classes}
            if showing:
                self.run.note(f"{len(showing)} backgrounds show a composed class and were left out")
                sources = [source for source in sources if source.id not in showing]
        if not sources:
            raise EmptyViewError(
                "backgrounds: none is left: all are rejected, composites, or show a composed class in "
                f"{field!r} (check_backgrounds=False uses these all the same)"
            )
        return sources

    def _splits(
        self, sources: Mapping[str, Source], objects: Sequence[CutoutFile], distractors: Sequence[CutoutFile],
        backgrounds: Sequence[Source], seed: int,
    ) -> dict[str, str | None]:  # fmt: skip
        """Sample id -> its split; ``None`` where relatives carry different splits. Shared backgrounds are left out."""
        strata: dict[str, set[str]] = defaultdict(set)
        for cutout in objects:
            strata[cutout.sample_id].add(cutout.label)
        for cutout in distractors:
            strata[cutout.sample_id].add(_DISTRACTOR)
        if not self.options["share_backgrounds"]:
            for source in backgrounds:
                strata[source.id].add(_BACKGROUND)
        ids = sorted(sources)
        members: dict[int, list[str]] = defaultdict(list)
        for sample_id, number in zip(ids, connected([sources[i].relatives for i in ids]), strict=True):
            members[number].append(sample_id)
        groups: dict[Group, list[str]] = {}
        splits: dict[str, str | None] = {}
        for its in members.values():
            found = frozenset().union(*(strata.get(sample_id, set()) for sample_id in its))
            carried = {split for sample_id in its for split in sources[sample_id].splits}
            if len(carried) > 1:
                splits |= dict.fromkeys(its) if found else {}
            elif found:
                key = min(sources[sample_id].key for sample_id in its)
                groups[Group(key, found, next(iter(carried), None))] = its
        if lost := len(strata.keys() & splits.keys()):
            self.run.note(f"{lost} source samples were not used: their relatives carry the tags of different splits")
        assigned = assign_splits(list(groups), self.options["fractions"], seed)
        for group, its in groups.items():
            splits |= dict.fromkeys(its, assigned[group.key])
        return splits

    def _divide(
        self, splits: Mapping[str, str | None], objects: Sequence[CutoutFile], distractors: Sequence[CutoutFile],
        backgrounds: Sequence[Source],
    ) -> tuple[dict[str, Pool], dict[str, Ingredient]]:  # fmt: skip
        from .composites import Ingredient, Pool

        ingredients = {c.name: Ingredient(c.path, c.sample_id, c.label_id) for c in (*objects, *distractors)}
        shared = [source for source in backgrounds if source.id not in splits]
        names = {source.id: f"background {source.id}" for source in backgrounds}
        for source in backgrounds:
            ingredients[names[source.id]] = Ingredient(source.filepath, source.id, shared=source.id not in splits)
        pools = {}
        for split, fraction in self.options["fractions"].items():
            if fraction == 0:
                continue
            by_class: dict[str, list[str]] = defaultdict(list)
            for cutout in objects:
                if splits[cutout.sample_id] == split:
                    by_class[cutout.label].append(cutout.name)
            pool = Pool(
                tuple((name, tuple(by_class[name])) for name in sorted(by_class)),
                tuple(cutout.name for cutout in distractors if splits[cutout.sample_id] == split),
                tuple(names[s.id] for s in backgrounds if s in shared or splits.get(s.id) == split),
            )
            self._require(pool, split, objects, backgrounds)
            pools[split] = pool
        return pools, ingredients

    def _require(self, pool: Pool, split: str, objects: Sequence[CutoutFile], backgrounds: Sequence[Source]) -> None:
        remedy = f"use fewer splits (fractions={{'train': 1}} for one), leave {split!r} out, or add samples"
        if not pool.objects:
            raise UsageError(
                f"foregrounds: the split {split!r} gets no cut-out: there are {len(objects)}, from "
                f"{len({c.sample_id for c in objects})} unrelated or tagged samples: {remedy}"
            )
        if not pool.backgrounds:
            raise UsageError(
                f"backgrounds: the split {split!r} gets none of the {len(backgrounds)} there are: {remedy}, or "
                "let the splits share them (share_backgrounds=True)"
            )
        missing = sorted({cutout.label for cutout in objects} - {name for name, _ in pool.objects})
        if missing:
            self.run.note(f"the split {split!r} has no cut-out of {', '.join(missing[:10])}: too few samples")

    def _tag(self, splits: Mapping[str, str | None], sources: Mapping[str, Source]) -> None:
        """Tags the source samples of the dataset with the split they were given."""
        for split in self.options["fractions"]:
            ids = [
                sample_id
                for sample_id, given in splits.items()
                if given == split and not sources[sample_id].splits and sources[sample_id].dataset == self.dataset.name
            ]
            if ids:
                self.dataset.select(ids).tag_samples(split)


def _explain(refused: Mapping[str, int]) -> str:
    """The reasons why nothing is left, most frequent first."""
    if not refused:
        return ""
    ordered = sorted(refused.items(), key=lambda pair: -pair[1])
    return ": " + "; ".join(
        f"{count} x {reason}" + (f" ({_REASONS[reason]})" if reason in _REASONS else "") for reason, count in ordered
    )
