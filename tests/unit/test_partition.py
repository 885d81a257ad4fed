from __future__ import annotations

from fiftyone_idsynth.generation.partition import Group, assign_splits, split_sequence

FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}


def test_shares_are_kept_within_every_class() -> None:
    groups = [Group(f"{name}{i}", frozenset([name])) for name in "ab" for i in range(50)]
    assigned = assign_splits(groups, FRACTIONS, seed=51)
    for name in "ab":
        counts = [sum(assigned[f"{name}{i}"] == split for i in range(50)) for split in FRACTIONS]
        assert counts == [40, 5, 5]
    assert assigned == assign_splits(groups[::-1], FRACTIONS, seed=51)
    assert assigned != assign_splits(groups, FRACTIONS, seed=52)


def test_every_split_gets_something_of_each_class_where_there_is_enough() -> None:
    groups = [Group(f"a{i}", frozenset("a")) for i in range(3)] + [Group("b0", frozenset("b"))]
    assigned = assign_splits(groups, FRACTIONS, seed=51)
    assert {assigned[f"a{i}"] for i in range(3)} == set(FRACTIONS)
    assert assigned["b0"] == "train"


def test_fixed_groups_stay_and_holes_are_filled_from_the_free() -> None:
    groups = [Group(f"a{i}", frozenset("a"), "train") for i in range(8)]
    groups += [Group(f"b{i}", frozenset("a")) for i in range(2)]
    assigned = assign_splits(groups, FRACTIONS, seed=51)
    assert all(assigned[f"a{i}"] == "train" for i in range(8))
    assert {assigned["b0"], assigned["b1"]} == {"val", "test"}


def test_the_split_of_an_image_does_not_depend_on_their_number() -> None:
    long = split_sequence(FRACTIONS, 1000)
    assert split_sequence(FRACTIONS, 37) == long[:37]
    assert [long.count(split) for split in FRACTIONS] == [800, 100, 100]
    assert [long[:10].count(split) for split in FRACTIONS] == [8, 1, 1]
    assert set(split_sequence({"train": 1.0, "test": 0.0}, 20)) == {"train"}
