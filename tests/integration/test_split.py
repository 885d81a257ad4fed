"""``split`` on a real dataset."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

import fiftyone_idsynth as ids
from fiftyone_idsynth.errors import FieldError, ParameterError, UsageError
from fiftyone_idsynth.samples import Rejection, reject

SPLITS = {"train", "val", "test"}


def add(dataset: Any, *names: str, **values: Any) -> None:
    import fiftyone as fo

    from fiftyone_idsynth import fields

    fields.declare(dataset, "source", "lineage", "duplicate_group", "dhash", "plain_thumbnail", "classification")
    documents = {k: fields.document(v) if isinstance(v, dict) else v for k, v in values.items()}
    dataset.add_samples([fo.Sample(filepath=f"/images/{name}.jpg", **documents) for name in names])


def labelled(dataset: Any, count: int, start: int = 0) -> None:
    import fiftyone as fo

    for label in ("cat", "dog"):
        names = [f"{label}-{i:03}" for i in range(start, start + count)]
        add(dataset, *names, classification=fo.Classification(label=label))


def splits(dataset: Any) -> dict[str, str]:
    dataset.reload()
    found = {}
    for path, tags in zip(*dataset.values(["filepath", "tags"]), strict=True):
        mine = SPLITS & set(tags)
        assert len(mine) <= 1
        found[path.split("/")[-1][:-4]] = next(iter(mine), "")
    return found


def test_every_sample_gets_one_split_and_classes_are_balanced(dataset: Any) -> None:
    labelled(dataset, 50)
    report = ids.split(dataset)
    assert report.outputs["train"] == 80
    assert report.outputs["val"] == 10
    assert report.outputs["test"] == 10
    assert report.outputs["classes"]["cat"] == {"train": 40, "val": 5, "test": 5}
    assert Counter(splits(dataset).values()) == {"train": 80, "val": 10, "test": 10}


def test_other_tags_stay(dataset: Any) -> None:
    add(dataset, "a", tags=["mine"])
    ids.split(dataset)
    assert dataset.first().tags == ["mine", "train"]


def test_running_again_changes_nothing(dataset: Any) -> None:
    labelled(dataset, 20)
    ids.split(dataset)
    before = splits(dataset)
    report = ids.split(dataset)
    assert splits(dataset) == before
    assert (report.processed, report.skipped) == (0, 40)


def test_the_order_of_samples_does_not_matter(dataset: Any) -> None:
    add(dataset, *map(str, range(40)))
    ids.split(dataset)
    before = splits(dataset)
    dataset.clear()
    add(dataset, *map(str, reversed(range(40))))
    ids.split(dataset)
    assert splits(dataset) == before
    ids.split(dataset, seed=1, keep_existing=False)
    assert splits(dataset) != before


def test_additions_leave_others_where_they_are(dataset: Any) -> None:
    labelled(dataset, 20)
    ids.split(dataset)
    before = splits(dataset)
    labelled(dataset, 30, start=20)
    ids.split(dataset)
    after = splits(dataset)
    assert {name: after[name] for name in before} == before
    assert Counter(after.values()) == {"train": 80, "val": 10, "test": 10}


def relatives(dataset: Any, kind: str) -> None:
    """Sixteen groups of five relatives among twenty singles."""
    for group in range(16):
        names = [f"group-{group:02}-{i}" for i in range(5)]
        if kind == "page":
            add(dataset, *names, source={"page_url": f"https://example.org/{group}"})
        elif kind == "content":
            add(dataset, *names, source={"sha256": f"{group:064x}"})
        elif kind == "duplicates":
            add(dataset, *names, duplicate_group=str(group))
        elif kind == "similar":
            for i, name in enumerate(names):
                add(dataset, name, dhash=f"{(group * 0x1234567890ABCDEF % 2**64) ^ (1 << i):016x}")
        elif kind == "parents":
            add(dataset, names[0])
            parent = dataset.last().id
            add(dataset, *names[1:3], lineage={"parents": [parent]})
            add(dataset, *names[3:], lineage={"parents": [dataset.last().id]})
    add(dataset, *(f"single-{i}" for i in range(20)))


@pytest.mark.parametrize("kind", ["page", "content", "duplicates", "similar", "parents"])
def test_relatives_stay_together(dataset: Any, kind: str) -> None:
    relatives(dataset, kind)
    report = ids.split(dataset)
    found = splits(dataset)
    for group in range(16):
        assert len({found[f"group-{group:02}-{i}"] for i in range(5)}) == 1
    assert Counter(found.values()) == {"train": 80, "val": 10, "test": 10}
    assert report.outputs["groups"] == 36


def test_an_addition_joins_its_relatives(dataset: Any) -> None:
    add(dataset, *(f"{i}" for i in range(20)), source={"page_url": "https://example.org/a"}, tags=["test"])
    add(dataset, *(f"{i}" for i in range(20, 25)), source={"page_url": "https://example.org/a"})
    ids.split(dataset)
    assert set(splits(dataset).values()) == {"test"}


def test_relatives_outside_the_view_count(dataset: Any) -> None:
    add(dataset, "a", source={"page_url": "https://example.org/a"}, tags=["val"])
    add(dataset, "b", source={"page_url": "https://example.org/a"})
    ids.split(dataset.skip(1))
    assert splits(dataset) == {"a": "val", "b": "val"}


def test_a_leak_is_reported_and_can_be_repaired(dataset: Any) -> None:
    add(dataset, "a", source={"page_url": "https://example.org/a"}, tags=["train"])
    add(dataset, "b", source={"page_url": "https://example.org/a"}, tags=["test"])
    add(dataset, *map(str, range(8)))
    with pytest.raises(
        UsageError, match=r"a leak between splits.*b\.jpg .* is in 'test', a\.jpg .* is in 'train'.*anew"
    ):
        ids.split(dataset)
    assert splits(dataset)["0"] == "", "nothing is written"
    ids.split(dataset, keep_existing=False)
    assert len({splits(dataset)[name] for name in "ab"}) == 1


def test_similar_images_in_different_splits_are_not_moved(dataset: Any) -> None:
    add(dataset, "a", dhash="00000000000000ff", tags=["train"])
    add(dataset, "b", dhash="00000000000000fe", tags=["test"])
    ids.split(dataset)
    assert splits(dataset) == {"a": "train", "b": "test"}


def test_rejected_samples_get_no_split(dataset: Any) -> None:
    add(dataset, "worse", "better", duplicate_group="1")
    add(dataset, *map(str, range(8)))
    dataset.match({"filepath": "/images/worse.jpg"}).tag_samples("test")
    reject(dataset, {dataset.first().id: Rejection("near_duplicate")}, stage="deduplicate")
    ids.split(dataset)
    found = splits(dataset)
    assert found["worse"] == ""
    assert found["better"] == "test", "it takes the place of its duplicate"
    assert all(found[str(i)] for i in range(8))


def test_boxes_are_balanced(dataset: Any) -> None:
    import fiftyone as fo

    box = [0.1, 0.1, 0.2, 0.2]
    for i in range(40):
        labels = ["panda"] + ["bamboo"] * (i % 4 == 0)
        objects = fo.Detections(detections=[fo.Detection(label=label, bounding_box=box) for label in labels])
        add(dataset, str(i), ground_truth=objects)
    report = ids.split(dataset)
    assert report.outputs["classes"] == {
        "bamboo": {"train": 8, "val": 1, "test": 1},
        "panda": {"train": 32, "val": 4, "test": 4},
    }


def test_own_names_and_shares(dataset: Any) -> None:
    add(dataset, *map(str, range(10)))
    report = ids.split(dataset, fractions={"train": 0.5, "holdout": 0.5})
    assert (report.outputs["train"], report.outputs["holdout"]) == (5, 5)


def test_missing_classes_are_noted(dataset: Any) -> None:
    labelled(dataset, 3)
    assert "none of" in ids.split(dataset).notes[0]


def test_relatives_that_distort_the_shares_are_noted_once(dataset: Any) -> None:
    add(dataset, *map(str, range(30)), source={"page_url": "https://example.org/a"})
    add(dataset, *map(str, range(30, 40)), source={"page_url": "https://example.org/b"})
    (note,) = ids.split(dataset).notes
    assert note.startswith("10 of 40 samples are relatives of one another")
    assert note.endswith("so the shares cannot be met: 'val' gets 25% instead of 10%")
    assert ids.split(dataset).notes == [], "all are assigned already"


def test_a_large_group_that_fits_its_split_is_not_noted(dataset: Any) -> None:
    add(dataset, *map(str, range(32)), source={"page_url": "https://example.org/a"})
    add(dataset, *map(str, range(32, 40)))
    report = ids.split(dataset)
    assert (report.outputs["train"], report.outputs["largest_group"]) == (32, 32)
    assert report.notes == []


def test_shares_that_present_tags_distort_are_not_noted(dataset: Any) -> None:
    add(dataset, *map(str, range(30)), source={"page_url": "https://example.org/a"}, tags=["test"])
    add(dataset, "a", "b", source={"page_url": "https://example.org/b"})
    assert ids.split(dataset).notes == []


def test_wrong_input(dataset: Any) -> None:
    labelled(dataset, 3)
    with pytest.raises(ParameterError, match=r"add up to 1, not 1.2"):
        ids.split(dataset, fractions={"train": 0.8, "val": 0.4})
    with pytest.raises(ParameterError, match="cannot name a split"):
        ids.split(dataset, fractions={"rejected": 1.0})
    with pytest.raises(FieldError, match="did you mean 'classification'"):
        ids.split(dataset, label_field="classifcation")
