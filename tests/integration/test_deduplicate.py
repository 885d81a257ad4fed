"""``deduplicate`` and ``restore`` on a real dataset."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fiftyone_idsynth as ids
from fiftyone_idsynth.errors import EmptyViewError, ParameterError
from fiftyone_idsynth.samples import Rejection, reject


def picture(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Four pictures; of the first there is an identical file, a smaller copy and a stronger compressed one."""
    paths = {}
    for name in "abcd":
        paths[name] = tmp_path / f"{name}.jpg"
        picture(ord(name)).save(paths[name], quality=92)
    paths["a_same"] = tmp_path / "a_same.jpg"
    shutil.copy(paths["a"], paths["a_same"])
    paths["a_small"] = tmp_path / "a_small.jpg"
    picture(ord("a")).resize((160, 120)).save(paths["a_small"], quality=90)
    paths["a_coarse"] = tmp_path / "a_coarse.jpg"
    picture(ord("a")).save(paths["a_coarse"], quality=30)
    return paths


@pytest.fixture
def filled(dataset: Any, files: dict[str, Path]) -> Any:
    add(dataset, *files.values())
    return dataset


def add(dataset: Any, *paths: Path, **values: Any) -> None:
    import fiftyone as fo

    dataset.add_samples([fo.Sample(filepath=str(path), **values) for path in paths])


def named(dataset: Any, pattern: str) -> Any:
    from fiftyone import ViewField as F

    return dataset.match(F("filepath").re_match(f"/({pattern})\\.jpg$"))


def state(dataset: Any) -> dict[str, Any]:
    """Everything the stage writes, by file name and without database ids."""
    dataset.reload()
    name_of = {s: Path(p).stem for s, p in zip(*dataset.values(["id", "filepath"]), strict=True)}
    rows = dataset.values(
        ["id", "tags", "dhash", "duplicate_group", "rejected.reason", "rejected.detail", "rejected.other"]
    )
    return {
        name_of[i]: (tags, dhash, name_of.get(group), reason, detail, name_of.get(other))
        for i, tags, dhash, group, reason, detail, other in zip(*rows, strict=True)
    }


def kept(dataset: Any) -> set[str]:
    return {Path(p).stem for p in dataset.match_tags("rejected", bool=False).values("filepath")}


def test_keeps_the_best_and_says_why_others_go(filled: Any) -> None:
    report = ids.deduplicate(filled)
    assert kept(filled) == {"a", "b", "c", "d"}
    assert report.rejected == {"exact_duplicate": 1, "near_duplicate": 2}
    assert report.outputs == {"kept": 4, "groups": 1, "exact_duplicate": 1, "near_duplicate": 2}
    found = state(filled)
    assert found["a_same"][2:] == ("a", "exact_duplicate", "the same file as a.jpg", "a")
    assert found["a_small"][3] == "near_duplicate"
    assert "bits differ from a.jpg" in found["a_small"][4]
    assert found["a"][2] == "a"
    assert found["b"][2] is None
    assert len(found["b"][1]) == 16
    assert filled.load_saved_view("rejected").count() == 3


def test_quality_decides_who_stays(filled: Any) -> None:
    filled.set_values("quality", [score(p) for p in filled.values("filepath")], dynamic=True)
    ids.deduplicate(filled)
    assert kept(filled) == {"a_coarse", "b", "c", "d"}


def score(path: str) -> Any:
    import fiftyone as fo

    return fo.DynamicEmbeddedDocument(score=0.9 if "coarse" in path else 0.5)


def test_running_again_changes_nothing(filled: Any) -> None:
    ids.deduplicate(filled)
    before = state(filled)
    again = ids.deduplicate(filled)
    assert state(filled) == before
    assert (again.processed, again.skipped, again.rejected) == (0, 7, {})


def test_order_of_samples_and_of_runs_does_not_matter(dataset: Any, files: dict[str, Path]) -> None:
    add(dataset, *(files[n] for n in ("a_coarse", "b", "a_small")))
    ids.deduplicate(dataset)
    assert kept(dataset) == {"a_coarse", "b"}
    add(dataset, *(files[n] for n in ("a_same", "d", "a", "c")))
    ids.deduplicate(dataset)
    late = state(dataset)
    dataset.clear()
    add(dataset, *files.values())
    ids.deduplicate(dataset)
    assert state(dataset) == late


def test_another_threshold_brings_images_back(filled: Any) -> None:
    ids.deduplicate(filled)
    report = ids.deduplicate(filled, near=False)
    assert kept(filled) == {"a", "a_small", "a_coarse", "b", "c", "d"}
    assert report.outputs["brought_back"] == 2
    assert state(filled)["a_small"][2:] == (None, None, None, None)
    assert report.processed == 0, "hashes are not computed again"


def test_restored_images_stay(filled: Any) -> None:
    ids.deduplicate(filled)
    small = named(filled, "a_(small|coarse)")
    assert ids.restore(small).outputs["restored"] == 2
    ids.deduplicate(filled)
    assert kept(filled) == {"a", "a_small", "a_coarse", "b", "c", "d"}


def test_restore_by_reason(filled: Any) -> None:
    ids.deduplicate(filled)
    assert ids.restore(filled, reason=("exact_duplicate",)).outputs["restored"] == 1
    assert "a_same" in kept(filled)
    assert ids.restore(filled, reason=("blurry",)).notes == [
        "no rejected sample for this reason among these; reasons found: near_duplicate (2)"
    ]


def test_images_rejected_for_other_reasons_take_no_part(filled: Any) -> None:
    worst = named(filled, "a").first()
    reject(filled, {worst.id: Rejection("irrelevant")}, stage="filter_relevance")
    ids.deduplicate(filled)
    assert kept(filled) == {"a_coarse", "b", "c", "d"} or kept(filled) == {"a_same", "b", "c", "d"}
    assert state(filled)["a"][3] == "irrelevant"


def test_views_compare_only_their_samples(filled: Any) -> None:
    part = named(filled, "a_small|a_coarse|b")
    ids.deduplicate(part)
    assert kept(filled) == {"a", "a_same", "a_coarse", "b", "c", "d"}
    others = named(filled, "a_small|b|c")
    ids.deduplicate(others)  # the image that a_small lost to is not among these: it stays out
    assert kept(filled) == {"a", "a_same", "a_coarse", "b", "c", "d"}


def test_a_deleted_keeper_lets_its_duplicates_back(filled: Any) -> None:
    ids.deduplicate(filled)
    filled.delete_samples(named(filled, "a"))
    ids.deduplicate(filled)
    assert len(kept(filled)) == 4


def test_broken_files_are_reported_and_kept(filled: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    add(filled, broken, tmp_path / "missing.jpg")
    report = ids.deduplicate(filled)
    assert sorted(Path(what).name for what, _ in report.failed) == ["broken.jpg", "missing.jpg"]
    assert {"broken", "missing", "a"} <= kept(filled)


def test_identical_blanks(dataset: Any, tmp_path: Path) -> None:
    for i in range(60):
        Image.new("RGB", (200 + i, 150), (255, 255, 255)).save(tmp_path / f"white{i:02}.jpg")
    Image.new("RGB", (200, 150), (0, 0, 0)).save(tmp_path / "black.jpg")
    add(dataset, *sorted(tmp_path.iterdir()))
    ids.deduplicate(dataset)
    assert kept(dataset) == {"white59", "black"}


@pytest.fixture(params=[False, True], ids=["", "shared-backgrounds"])
def composed(dataset: Any, photos: Path, request: pytest.FixtureRequest) -> Any:
    """Twelve layouts of coins on photographs, in four blending modes each, with the sources."""
    for folder, tag in (("objects/coin", "coin"), ("backgrounds", "background")):
        add(dataset, *sorted(p for p in (photos / folder).iterdir() if p.stem not in ("broken", "dark")), tags=[tag])
    ids.compose(
        dataset, dataset.match_tags("coin"), dataset.match_tags("background"), default_label="coin", count=12,
        max_objects=1, scale_min=0.1, scale_max=0.2, share_backgrounds=request.param, progress=False,
    )  # fmt: skip
    return dataset


def test_composites_are_no_duplicates_of_one_another_or_of_their_backgrounds(composed: Any) -> None:
    report = ids.deduplicate(composed)
    assert composed.match_tags("composed").count() == 48
    assert composed.match_tags("composed").match_tags("rejected").count() == 0
    assert report.outputs["exact_duplicate"] == 1
    lost = {Path(p).stem for p in composed.match_tags("rejected").values("filepath")}
    assert "china_small" in lost, "originals are still compared with one another"


def test_copies_of_composites_and_of_backgrounds_change_nothing(composed: Any, tmp_path: Path) -> None:
    """Copies made without a lineage: of a composite, the same file; of backgrounds, better ones that replace them."""
    import fiftyone as fo

    from fiftyone_idsynth import fields

    fields.declare(composed, "quality")
    made = composed.match_tags("composed").first()
    shutil.copy(made.filepath, tmp_path / "again.jpg")
    add(composed, tmp_path / "again.jpg")
    used = composed.select(
        [p for name in ("parents", "shared") for its in composed.values(f"lineage.{name}") for p in its or ()]
    )
    copies = []
    for path in used.match_tags("background").values("filepath"):
        copies.append(tmp_path / f"{Path(path).stem}_better.jpg")
        Image.open(path).save(copies[-1], quality=97)
    add(composed, *copies, quality=fo.DynamicEmbeddedDocument(score=0.9))
    ids.deduplicate(composed)
    lost = composed.match_tags("rejected")
    assert len({Path(made.filepath).stem, "again"} - kept(composed)) == 1, "one of two identical files stays"
    assert set(lost.match_tags("composed").values("id")) <= {made.id}
    assert {path.stem for path in copies} - {"china_small_better"} <= kept(composed)
    assert used.match_tags("background").match_tags("rejected", bool=False).count() == 0


@pytest.mark.parametrize("stage", ["augment", None])
def test_variants_of_variants_are_spared_if_a_stage_made_them(dataset: Any, tmp_path: Path, stage: str | None) -> None:
    from fiftyone_idsynth import fields

    fields.declare(dataset, "lineage")
    for number, parent in enumerate([None, 0, 0, 1]):  # the fourth is made of the second
        path = tmp_path / f"{number}.jpg"
        picture(1).save(path, quality=90 - number)
        known = dataset.values("id")
        values = {"parents": [known[parent]], "stage": stage} if parent is not None else {}
        add(dataset, path, **({"lineage": fields.document(values)} if values else {}))
    ids.deduplicate(dataset if stage is None else dataset.match({"filepath": {"$not": {"$regex": "/1.jpg"}}}))
    assert len(kept(dataset)) == (1 if stage is None else 4)


def test_wrong_input(dataset: Any, filled: Any) -> None:
    with pytest.raises(ParameterError, match="between 0 and 16"):
        ids.deduplicate(filled, threshold=17)
    with pytest.raises(EmptyViewError):
        ids.deduplicate(filled.limit(1).skip(5))
