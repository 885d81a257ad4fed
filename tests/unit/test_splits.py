"""Assignment of groups to splits: sizes, classes, seeds and bound groups."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from fiftyone_idsynth.curation.splits import Group, assign_splits

FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}


def singles(classes: list[str]) -> list[Group]:
    return [Group(f"image-{i}", 1, Counter([name])) for i, name in enumerate(classes)]


def counts(groups: list[Group], assigned: dict[str, str], label: str | None = None) -> dict[str, int]:
    found = Counter(dict.fromkeys(FRACTIONS, 0))
    for group in groups:
        found[assigned[group.key]] += group.size if label is None else group.classes[label]
    return dict(found)


def test_shares_are_met_over_all_and_in_each_class() -> None:
    groups = singles(["cat"] * 500 + ["dog"] * 100 + ["owl"] * 20)
    assigned = assign_splits(groups, FRACTIONS, seed=51)
    assert counts(groups, assigned) == {"train": 496, "val": 62, "test": 62}
    assert counts(groups, assigned, "cat") == {"train": 400, "val": 50, "test": 50}
    assert counts(groups, assigned, "dog") == {"train": 80, "val": 10, "test": 10}
    assert counts(groups, assigned, "owl") == {"train": 16, "val": 2, "test": 2}


def test_many_rare_classes_do_not_all_end_in_train() -> None:
    groups = singles([str(i // 3) for i in range(90)])
    found = counts(groups, assign_splits(groups, FRACTIONS, seed=0))
    assert all(abs(found[name] - share * 90) <= 1 for name, share in FRACTIONS.items())


def test_several_classes_per_image() -> None:
    rng = np.random.default_rng(0)
    groups = [
        Group(str(i), 1, Counter({str(c): 1 for c in rng.choice(12, rng.integers(1, 5), replace=False)}))
        for i in range(600)
    ]
    assigned = assign_splits(groups, FRACTIONS, seed=3)
    assert counts(groups, assigned) == {"train": 480, "val": 60, "test": 60}
    for label in map(str, range(12)):
        total = sum(group.classes[label] for group in groups)
        found = counts(groups, assigned, label)
        assert all(abs(found[name] - share * total) <= 3 for name, share in FRACTIONS.items())


def test_large_groups_are_fitted_first() -> None:
    groups = [Group("page", 60, Counter(cat=60)), Group("video", 25, Counter(cat=25)), *singles(["cat"] * 415)]
    assert counts(groups, assign_splits(groups, FRACTIONS, seed=51)) == {"train": 400, "val": 50, "test": 50}


def test_only_the_seed_matters() -> None:
    groups = singles(["cat"] * 60 + ["dog"] * 40)
    assigned = assign_splits(groups, FRACTIONS, seed=1)
    shuffled = [groups[i] for i in np.random.default_rng(0).permutation(len(groups))]
    assert assign_splits(shuffled, FRACTIONS, seed=1) == assigned
    assert assign_splits(groups, FRACTIONS, seed=2) != assigned


def test_bound_groups_stay_and_additions_restore_the_shares() -> None:
    groups = singles(["cat"] * 40)
    for group in groups:
        group.fixed = "train"
    more = [Group(f"new-{i}", 1, Counter(cat=1)) for i in range(60)]
    assigned = assign_splits([*more, *groups], FRACTIONS, seed=51)
    assert {assigned[group.key] for group in groups} == {"train"}
    assert counts(groups + more, assigned) == {"train": 80, "val": 10, "test": 10}


@pytest.mark.parametrize("done", [1, 17, 60, 99])
def test_an_interrupted_assignment_goes_on_to_the_same_result(done: int) -> None:
    groups = singles(["cat"] * 70 + ["dog"] * 30)
    groups[0].size = 5
    whole = assign_splits(groups, FRACTIONS, seed=51)
    first_part = list(whole)[:done]
    for group in groups:
        group.fixed = whole[group.key] if group.key in first_part else None
    assert assign_splits(groups, FRACTIONS, seed=51) == whole


def test_splits_without_a_share_stay_empty() -> None:
    groups = singles(["cat"] * 10)
    assigned = assign_splits(groups, {"train": 0.9, "val": 0.1, "test": 0.0}, seed=51)
    assert counts(groups, assigned) == {"train": 9, "val": 1, "test": 0}


def test_a_single_image_goes_to_the_largest_split() -> None:
    assert assign_splits(singles(["cat"]), FRACTIONS, seed=51) == {"image-0": "train"}
