"""Splits a dataset into train, val and test so that relatives stay together and classes are balanced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from os.path import basename
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from .. import fields
from ..errors import UsageError
from ..relations import RELATION_FIELDS, check_fractions, connected, draw, relation_tokens
from ..samples import dataset_of, pages, require_field, set_fields
from ..stage import Fraction, LabelField, Progress, Report, Samples, Seed, current_run, stage

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

DEFAULT_FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}

SIMILAR = 4
"""Images whose difference hashes are at most this many bits apart share a split where their present tags allow it."""

NOTICEABLE = 0.05
"""A split's share of all samples may exceed the one asked for by this much before a note says why."""

_LABELS_IN = {
    "Classification": "label",
    "Classifications": "classifications.label",
    "Detections": "detections.label",
    "Polylines": "polylines.label",
}
_KEYS = ("lineage.key", "source.sha256", "filepath")
_DEFAULT_LABEL_FIELDS = ("ground_truth", "classification")


@stage(label="Split into train, val and test", group="Curate", icon="call_split")
def split(
    samples: Samples,
    *,
    fractions: dict[str, Fraction] = DEFAULT_FRACTIONS,
    label_field: Annotated[str, LabelField(tuple(_LABELS_IN))] | None = None,
    seed: Seed = 51,
    keep_existing: bool = True,
    progress: Progress = None,
) -> Report:
    """Gives every sample one of the tags ``train``, ``val`` and ``test``, so that relatives stay together.

    Relatives are: duplicates of one image, files with the same content, parents and children (``lineage.parents``),
    images found on the same page, and images with almost equal difference hashes. Classes are spread over the splits
    as evenly as the groups allow, rare ones first. The result depends on the seed and the images alone, not on their
    order or ids. Rejected samples belong to no split.

    Args:
        samples: the samples to assign
        fractions ({"train": 0.8, "val": 0.1, "test": 0.1}): the share of each split; they add up to 1
        label_field (None): the labels whose classes are balanced; by default ``ground_truth``, or else
            ``classification``, where the dataset has them
        seed (51): of the assignment
        keep_existing (True): whether samples keep the split they have, so that later additions never move a sample; if
            not, all samples given are assigned anew
        progress (None): accepted as by every stage; the assignment takes a moment
    """
    check_fractions(fractions)
    run = current_run()
    labels = _labels(samples, label_field)
    family = _Family(run.dataset, set(samples.values("id")), {*fractions, *fields.SPLITS}, keep_existing)
    groups = family.groups(labels)
    assigned = assign_splits(groups, fractions, seed)
    changed = family.write(assigned)
    run.processed(changed)
    run.skipped(len(family.members) - changed)
    return run.report(outputs=_summary(groups, assigned, fractions))


# -- assignment -------------------------------------------------------------------------------------------------------


@dataclass
class Group:
    """Samples that must share a split.

    Attributes:
        key: a name that does not depend on database ids
        size: how many samples are to be assigned
        classes: in how many of them each class occurs
        fixed: the split it is bound to
    """

    key: str
    size: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    fixed: str | None = None


def assign_splits(groups: Sequence[Group], fractions: Mapping[str, float], seed: int) -> dict[str, str]:
    """Assigns groups to splits, balancing their sizes and every class.

    Bound groups come first; then large groups before small ones, those with a rare class before others, and the rest
    in an order given by the seed. Each goes to the split that is furthest below its share of what was assigned so
    far, summed over all samples and over the classes of the group: the greedy step for the least sum of squared
    deviations. (After Sechidis, Tsoumakas, Vlahavas, "On the stratification of multi-label data", ECML PKDD 2011, for
    groups.) Whoever stops after any number of groups and goes on later with those bound gets the same result.

    Args:
        groups: the groups; keys are unique
        fractions: split -> its share, 0..1
        seed: of the order

    Returns:
        group key -> split, in the order of assignment
    """
    total: Counter[str] = Counter()
    for group in groups:
        total.update(group.classes)
    shares = {name: share for name, share in fractions.items() if share > 0}
    sizes: Counter[str] = Counter()
    classes: dict[str, Counter[str]] = {}
    seen, seen_classes, assigned = 0, Counter[str](), {}
    for group in sorted(groups, key=lambda g: _order(g, total, seed)):
        seen += group.size
        seen_classes.update(group.classes)
        choice = group.fixed
        if choice is None:
            excess = {
                name: group.size * (sizes[name] - share * seen)
                + sum(n * (classes.get(name, sizes)[c] - share * seen_classes[c]) for c, n in group.classes.items())
                for name, share in shares.items()
            }
            choice = min(excess, key=lambda name: (excess[name], -shares[name]))
        assigned[group.key] = choice
        sizes[choice] += group.size
        classes.setdefault(choice, Counter()).update(group.classes)
    return assigned


def distortion(groups: Sequence[Group], assigned: Mapping[str, str], fractions: Mapping[str, float]) -> str:
    """Says which relatives had to go where they distort the shares: past :data:`NOTICEABLE`, and by more than a sample.

    Groups that were bound before, and shares that differ because of those, are no news.

    Args:
        groups: the groups
        assigned: group key -> split
        fractions: split -> its share, 0..1

    Returns:
        one sentence; empty if the shares are met
    """
    sizes: Counter[str] = Counter()
    for group in groups:
        sizes[assigned[group.key]] += group.size
    total = sizes.total()
    limit = {name: share * total + max(NOTICEABLE * total, 1) for name, share in fractions.items()}
    free = [g for g in groups if g.fixed is None and g.size > 1 and sizes[assigned[g.key]] > limit[assigned[g.key]]]
    if not free:
        return ""
    largest = max(free, key=lambda group: group.size)
    name = assigned[largest.key]
    return (
        f"{largest.size} of {total} samples are relatives of one another (they share parents, pages or duplicates), so "
        f"the shares cannot be met: {name!r} gets {sizes[name] / total:.0%} instead of {fractions[name]:.0%}"
    )


def _order(group: Group, total: Mapping[str, int], seed: int) -> tuple[Any, ...]:
    rarest = min((total[name] for name in group.classes), default=sum(total.values()))
    return group.fixed is None, -group.size, rarest, draw(group.key, seed), group.key


# -- relatives --------------------------------------------------------------------------------------------------------


class _Family:
    """The relations between all samples of a dataset: those outside the view bind their relatives too."""

    def __init__(self, dataset: Any, wanted: set[str], names: set[str], keep_existing: bool):
        columns = ["id", "filepath", "tags"]
        optional = [*RELATION_FIELDS, "lineage.key", "dhash", "plain_thumbnail"]
        known = [name for name in optional if dataset.has_field(name)]
        values = dict(zip(columns + known, dataset.values(columns + known), strict=True))
        self.ids: list[str] = values["id"]
        empty = [None] * len(self.ids)
        self._columns = {name: values.get(name, empty) for name in columns + optional}
        self._keys: list[str] = [k or s or p for k, s, p in zip(*(self._columns[n] for n in _KEYS), strict=True)]
        self._dataset, self._names = dataset, names
        self.rejected = [fields.REJECTED_TAG in tags for tags in values["tags"]]
        self.members = {
            i: row for row, i in enumerate(self.ids) if i in wanted and not self.rejected[row]
        }  # id -> row of the samples to assign
        self._given = wanted
        self._bound = [
            [] if not keep_existing and self.ids[row] in wanted else [t for t in tags if t in names]
            for row, tags in enumerate(values["tags"])
        ]

    def groups(self, labels: Mapping[str, Iterable[str]]) -> list[Group]:
        """Groups the samples to assign with their relatives.

        Raises:
            UsageError: relatives are in different splits already
        """
        component = self._join_similar(self._relatives())
        rows_of: dict[int, list[int]] = {}
        for row, number in enumerate(component):
            rows_of.setdefault(number, []).append(row)
        groups, self._group_of = [], {}
        for number in sorted({component[row] for row in self.members.values()}):
            rows = rows_of[number]
            group = Group(min(self._keys[row] for row in rows), fixed=self._binding(rows))
            for row in rows:
                if self.ids[row] in self.members:
                    group.size += 1
                    group.classes.update(set(labels.get(self.ids[row], ())))
                    self._group_of[self.ids[row]] = group.key
            groups.append(group)
        return groups

    def _relatives(self) -> list[int]:
        """Numbers the connected groups of relatives."""
        names = ("id", "filepath", *RELATION_FIELDS)
        rows = zip(*(self._columns[name] for name in names), strict=True)
        dataset = self._dataset.name
        return connected([relation_tokens(dict(zip(names, row, strict=True)), dataset) for row in rows])

    def _join_similar(self, component: list[int]) -> list[int]:
        """Joins groups that hold similar images, unless they are bound to different splits."""
        from ..measures.hashing import from_hex, near_pairs

        hashes, plain = self._columns["dhash"], self._columns["plain_thumbnail"]
        rows = [row for row, text in enumerate(hashes) if text and not plain[row]]
        pairs = near_pairs(from_hex([hashes[row] for row in rows]), SIMILAR)
        bound: dict[int, set[str]] = {}
        for row, number in enumerate(component):
            bound.setdefault(number, set()).update(self._bound[row])
        parent: dict[int, int] = {}

        def root(number: int) -> int:
            while (up := parent.get(number, number)) != number:
                parent[number] = parent.get(up, up)
                number = up
            return number

        order = sorted(range(len(rows)), key=lambda position: self._keys[rows[position]])
        rank = np.empty(len(rows), np.int64)
        rank[order] = np.arange(len(rows))
        ranks = np.sort(np.stack([rank[pairs.first], rank[pairs.second]]), axis=0)
        for pair in np.lexsort((ranks[1], ranks[0], pairs.distance)):
            a, b = (component[rows[order[position]]] for position in ranks[:, pair])
            first, second = root(a), root(b)
            if first != second and len(bound[first] | bound[second]) <= 1:
                parent[second] = first
                bound[first] |= bound.pop(second)
        return [root(number) for number in component]

    def _binding(self, rows: Sequence[int]) -> str | None:
        """The split that present tags bind a group to; tags of rejected samples count if there are no others."""
        active: dict[str, int] = {name: row for row in rows if not self.rejected[row] for name in self._bound[row]}
        if len(active) > 1:
            raise UsageError(self._leak(active))
        if active:
            return next(iter(active))
        former: Counter[str] = Counter(name for row in rows for name in self._bound[row])
        return min(former, key=lambda name: (-former[name], name)) if former else None

    def _leak(self, found: Mapping[str, int]) -> str:
        shown = ", ".join(
            f"{basename(self._columns['filepath'][row])} ({self.ids[row]}) is in {name!r}"
            for name, row in sorted(found.items())
        )
        outside = any(self.ids[row] not in self._given for row in found.values())
        return (
            f"a leak between splits: these are relatives (duplicates, parent and child, or from one page), yet {shown}."
            " Take the wrong tag off, or assign all anew with keep_existing=False"
            + (" on the whole dataset" if outside else "")
        )

    def write(self, assigned: Mapping[str, str]) -> int:
        """Writes the tags that change, in the order of assignment, and returns how many samples to assign changed.

        An interrupted run leaves a first part of the assignment, from which the next run goes on to the same result.
        """
        order = {key: position for position, key in enumerate(assigned)}
        changes = {}
        for sample_id in sorted(self._group_of, key=lambda i: order[self._group_of[i]]):
            tags = self._columns["tags"][self.members[sample_id]]
            new = [*(tag for tag in tags if tag not in self._names), assigned[self._group_of[sample_id]]]
            if sorted(new) != sorted(tags):
                changes[sample_id] = new
        count = len(changes)
        for row, sample_id in enumerate(self.ids):
            tags = self._columns["tags"][row]
            if self.rejected[row] and sample_id in self._given and self._names & set(tags):
                changes[sample_id] = [tag for tag in tags if tag not in self._names]
        for page in pages(list(changes)):
            set_fields(self._dataset, {"tags": {sample_id: changes[sample_id] for sample_id in page}})
        return count


# -- labels and report ------------------------------------------------------------------------------------------------


def _labels(samples: SampleCollection, label_field: str | None) -> dict[str, Iterable[str]]:
    """The classes of each sample, by id."""
    import fiftyone as fo

    kinds = tuple(getattr(fo, name) for name in _LABELS_IN)
    if label_field is not None:
        require_field(samples, label_field, *kinds)
    schema = dataset_of(samples).get_field_schema()
    for name in [label_field] if label_field else _DEFAULT_LABEL_FIELDS:
        kind = getattr(schema.get(name), "document_type", None)
        if kind is not None and kind in kinds:
            found = samples.values(["id", f"{name}.{_LABELS_IN[kind.__name__]}"])
            labels: dict[str, Iterable[str]] = {
                i: [v] if isinstance(v, str) else [c for c in v or () if c] for i, v in zip(*found, strict=True)
            }
            if any(labels.values()):
                return labels
    return {}


def _summary(groups: Sequence[Group], assigned: Mapping[str, str], fractions: Mapping[str, float]) -> dict[str, Any]:
    run = current_run()
    sizes = Counter(dict.fromkeys(fractions, 0))
    classes: dict[str, Counter[str]] = {}
    for group in groups:
        name = assigned[group.key]
        sizes[name] += group.size
        for label, count in group.classes.items():
            classes.setdefault(label, Counter(dict.fromkeys(fractions, 0)))[name] += count
    if note := distortion(groups, assigned, fractions):
        run.note(note)
    missing = [f"{label} in {name}" for label, counts in sorted(classes.items()) for name, n in counts.items()
               if not n and fractions.get(name, 0) > 0]  # fmt: skip
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        run.note(f"too few groups of related samples for some classes: none of {', '.join(islice(missing, 5))}{more}")
    return {
        **sizes,
        "groups": len(groups),
        "largest_group": max((group.size for group in groups), default=0),
        "classes": {label: dict(counts) for label, counts in sorted(classes.items())},
    }
