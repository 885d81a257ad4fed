"""What collect writes in bulk is what FiftyOne itself would write."""

from __future__ import annotations

from typing import Any

import fiftyone as fo
import pytest

import fiftyone_idsynth as ids
from tests.small_web import SmallWeb

OWN = ("_id", "_dataset_id", "_rand", "created_at", "last_modified_at")


@pytest.mark.parametrize("captions", ["title", "none"])
def test_samples_are_as_fiftyone_writes_them(dataset: Any, captions: str) -> None:
    with SmallWeb() as web:
        ids.collect(dataset, "panda", count=20, class_field="kind", captions=captions, tags=("web",), **web.options())
    copied = fo.Dataset()
    try:
        copied.add_samples([sample.copy() for sample in dataset.sort_by("filepath")], progress=False)
        written, expected = (
            list(each._sample_collection.find().sort("filepath")) for each in (dataset, copied)
        )  # fmt: skip
    finally:
        copied.delete()
    assert len(written) == 20
    for ours, theirs in zip(written, expected, strict=True):
        assert ours.keys() == theirs.keys()
        assert ours["kind"].pop("_id") != theirs["_id"]
        del theirs["kind"]["_id"]
        assert {k: v for k, v in ours.items() if k not in OWN} == {k: v for k, v in theirs.items() if k not in OWN}
        assert ours["_dataset_id"] == dataset._doc.id
        assert type(ours["created_at"]) is type(theirs["created_at"])
    assert len({ours["_rand"] for ours in written}) == 20
    assert len(set(dataset.values("kind.id"))) == 20
