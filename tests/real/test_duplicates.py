"""``deduplicate`` on photographs whose duplicates are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fiftyone_idsynth as ids

PHOTO = (".jpg", ".jpeg", ".png")


def add(dataset: Any, paths: list[Path]) -> None:
    import fiftyone as fo

    dataset.add_samples([fo.Sample(filepath=str(path)) for path in sorted(paths)])


def kept(dataset: Any) -> set[str]:
    return {Path(p).name for p in dataset.match_tags("rejected", bool=False).values("filepath")}


def groups(dataset: Any) -> set[frozenset[str]]:
    found: dict[str, set[str]] = {}
    for path, name in zip(*dataset.values(["filepath", "duplicate_group"]), strict=True):
        if name:
            found.setdefault(name, set()).add(Path(path).name)
    return {frozenset(names) for names in found.values()}


@pytest.mark.parametrize("options", [{}, {"threshold": 10}], ids=["default", "threshold-10-confirmed"])
def test_raccoons(dataset: Any, shared: Path, options: dict[str, Any]) -> None:
    known = json.loads((shared / "data/near_duplicates/raccoon_duplicates.json").read_text())
    images = list((shared / "data/raccoon/images").iterdir())
    add(dataset, images)
    ids.deduplicate(dataset, **options)
    near = [set(group) for group in known["near_groups"]]
    exact = [set(pair) for pair in known["exact_sha256"] if not any(set(pair) <= group for group in near)]
    assert groups(dataset) == {frozenset(group) for group in near + exact}
    assert len(kept(dataset)) == len(images) - sum(len(group) - 1 for group in near + exact)


def test_raccoon_copies_are_exact_duplicates(dataset: Any, shared: Path) -> None:
    known = json.loads((shared / "data/near_duplicates/raccoon_duplicates.json").read_text())
    add(dataset, list((shared / "data/raccoon/images").iterdir()))
    report = ids.deduplicate(dataset, near=False)
    assert report.rejected == {"exact_duplicate": 4}
    assert groups(dataset) == {frozenset(pair) for pair in known["exact_sha256"]}


@pytest.mark.parametrize("threshold", [4, 6])
def test_different_photographs_are_kept(dataset: Any, shared: Path, threshold: int) -> None:
    folders = [shared / "data/flowers5", shared / "data/coco128/images"]
    images = [path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in PHOTO]
    add(dataset, images)
    report = ids.deduplicate(dataset, threshold=threshold)
    assert len(images) > 300
    assert report.rejected == {}


def test_variants_of_one_image(dataset: Any, shared: Path) -> None:
    """Of one photograph the resized copy goes; the mirrored, the rotated and other photographs stay."""
    folder = shared / "data/near_duplicates/imagededup/tests/data/mixed_images"
    add(dataset, [path for path in folder.iterdir() if path.suffix.lower() in PHOTO])
    report = ids.deduplicate(dataset)
    assert groups(dataset) == {frozenset({"ukbench00120.jpg", "ukbench00120_resize.jpg"})}
    assert "ukbench00120.jpg" in kept(dataset)
    assert [Path(what).name for what, _ in report.failed] == ["ukbench09268_corrupt.jpg"]
