"""Partition of source samples into splits, so that nothing seen in training is met again in a test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..relations import draw


@dataclass(frozen=True)
class Group:
    """Relatives that must share a split.

    Attributes:
        key: a name that stays the same from run to run
        strata: the classes found in it; every split gets something of each where possible
        fixed: the split its members carry already
    """

    key: str
    strata: frozenset[str]
    fixed: str | None = None


def assign_splits(groups: Sequence[Group], fractions: Mapping[str, float], seed: int) -> dict[str, str]:
    """Assigns each group to a split.

    Groups go, in an order that depends on their keys and the seed alone, to the split that lacks most of their rarest
    class. Then fixed groups get the split they carry, and a split that has nothing of a class gets a free group of it
    from the split with most, if that leaves no class of the group without one.

    Args:
        groups: the groups
        fractions: split -> its share
        seed: of the order

    Returns:
        group key -> split
    """
    ordered = sorted(groups, key=lambda group: draw(group.key, seed))
    members = {name: [g for g in ordered if name in g.strata] for name in {s for g in ordered for s in g.strata}}
    assigned: dict[str, str] = {}
    for name in sorted(members, key=lambda n: (len(members[n]), n)):
        counts = dict.fromkeys(fractions, 0)
        for group in members[name]:
            if group.key in assigned:
                counts[assigned[group.key]] += 1
        for group in members[name]:
            if group.key not in assigned:
                split = max(fractions, key=lambda s: fractions[s] * len(members[name]) - counts[s])
                assigned[group.key] = split
                counts[split] += 1
    assigned |= {group.key: group.fixed for group in groups if group.fixed}
    for name in sorted(members):
        for split, fraction in fractions.items():
            if fraction > 0 and not _held(members[name], split, assigned):
                _fill(name, split, members, assigned)
    return assigned


def _fill(name: str, split: str, members: Mapping[str, list[Group]], assigned: dict[str, str]) -> None:
    """Moves one free group of a class to a split, if another can spare it."""
    donors = sorted(set(assigned.values()), key=lambda s: (-len(_held(members[name], s, assigned)), s))
    for donor in donors:
        for group in _held(members[name], donor, assigned):
            spared = all(len(_held(members[stratum], donor, assigned)) > 1 for stratum in group.strata)
            if donor != split and spared and group.fixed in (None, split):
                assigned[group.key] = split
                return


def _held(groups: Iterable[Group], split: str, assigned: Mapping[str, str]) -> list[Group]:
    return [group for group in groups if assigned[group.key] == split]


def split_sequence(fractions: Mapping[str, float], count: int) -> list[str]:
    """The split of each of a number of images: any first part of them keeps the shares as well as it can.

    The split of an image depends on its position alone, not on the number of images.
    """
    given = dict.fromkeys(fractions, 0)
    sequence = []
    for position in range(1, count + 1):
        split = max(fractions, key=lambda s: fractions[s] * position - given[s])
        given[split] += 1
        sequence.append(split)
    return sequence
