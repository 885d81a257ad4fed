"""Dataset cards, credits and outlines, without a database."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
import yaml

from fiftyone_idsynth.exporting.card import CardFacts, Step, write_card
from fiftyone_idsynth.exporting.credits import Credit, CreditedFile, credits_csv, credits_markdown
from fiftyone_idsynth.exporting.lineage import public
from fiftyone_idsynth.exporting.markup import link, markdown
from fiftyone_idsynth.exporting.names import FileNames, file_stem
from fiftyone_idsynth.exporting.pictures import clip_box, place_mask
from fiftyone_idsynth.exporting.polygons import (
    mask_to_polygon,
    mask_to_polygons,
    mask_to_rle,
    polygons_to_mask,
    rle_to_mask,
)
from fiftyone_idsynth.licenses import is_allowed

HOSTILE = "</pre><script>alert(1)</script> | [x](javascript:alert(1)) ![y](z) `code` **b**\n# title\n---"


def blobs(seed: int) -> np.ndarray:
    """A mask with several parts and holes."""
    from scipy import ndimage

    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(70, 90)), 4)
    return np.asarray(noise > np.quantile(noise, 0.6))


def test_a_card_counts_and_names_everything() -> None:
    credit = Credit("Ann", "cc-by-4.0", "https://creativecommons.org/licenses/by/4.0/", kind="web", engine="openverse")
    facts = CardFacts(
        title="red panda", format="YOLO", task="object-detection",
        images={"train": 8, "val": 2}, empty={"train": 1, "val": 0}, labels={"panda": {"train": 9, "val": 2}},
        credits=[[credit]] * 10, scores=[i / 10 for i in range(10)],
        steps=[Step("compose", {"images": 10, "path": "/home/alice/cuts", "classes": None}, {"m": "1.0"}, seed=7)],
    )  # fmt: skip
    text = write_card(facts)
    matter = yaml.safe_load(text.split("---\n")[1])
    assert matter["license"] == "cc-by-4.0"
    assert matter["size_categories"] == ["n<1K"]
    assert matter["pretty_name"] == "red panda"
    assert "| train | 8 | 1 |" in text
    assert "| panda | 9 | 2 | 11 |" in text
    assert "| web | openverse | 10 |" in text
    assert "median 0.40" in text
    assert "seed: 7" in text
    assert "cuts" in text
    assert "alice" not in text


def test_text_from_the_web_stays_text() -> None:
    credit = Credit(HOSTILE, HOSTILE, "javascript:alert(1)", "https://example.org/a b>)(", HOSTILE, HOSTILE, HOSTILE)
    facts = CardFacts(
        title=HOSTILE, format="YOLO", task="object-detection", description=HOSTILE, images={"train": 1},
        labels={HOSTILE: {"train": 1}}, credits=[[credit]], notes=[HOSTILE],
        steps=[Step(HOSTILE, {HOSTILE: HOSTILE}, {HOSTILE: HOSTILE}, counts={HOSTILE: 1})],
    )  # fmt: skip
    card = write_card(facts)
    _, matter, body = card.split("---\n", 2)
    assert yaml.safe_load(matter)["pretty_name"] == HOSTILE
    body += credits_markdown([CreditedFile("train", "a.jpg", [credit])])
    assert "<script>" not in body
    assert "](javascript" not in body
    assert "](<javascript" not in body
    assert "\n# title" not in body
    assert body.count("\n| ") == body.count(" |\n")  # no cell broke its table


def test_links_and_markup() -> None:
    assert link("a", "https://example.org/x y)") == "[a](<https://example.org/x%20y)>)"
    assert link("a", "https://[broken") == "a"
    assert link("a", "") == "a"
    assert markdown("a\u202eb\x00c") == "abc"
    assert len(markdown("x" * 1000)) == 300


def test_credits_are_a_table_that_spreadsheets_can_open() -> None:
    files = [CreditedFile("train", "a.jpg", [Credit('=1+1, "x"', "", page_url="https://example.org")])]
    (row,) = csv.DictReader(io.StringIO(credits_csv(files)))
    assert row["creator"] == '\'=1+1, "x"'
    assert row["license"] == "unknown"


@pytest.mark.parametrize(
    ("license", "allowed", "expected"),
    [
        ("CC BY 4.0", "cc-by", True), ("cc_by-4.0", "CC BY 4.0", True), ("cc-by-4.0", "cc-by-3.0", False),
        ("cc-by-nc-4.0", "cc-by", False), ("cc-by-sa-4.0", "cc-by", False), ("", "cc-by", False),
        ("cc-by-sa-3.0-de", "cc-by-sa", True), ("cc-by-sa-3.0-de", "cc-by-sa-3.0", True),
        ("CC0 1.0", "cc0", True), ("Creative Commons BY-SA 4.0", "cc-by-sa", True), ("MIT", "mit", True),
    ],
)  # fmt: skip
def test_allowed_licences(license: str, allowed: str, expected: bool) -> None:
    assert is_allowed(license, [allowed]) is expected


def test_file_names_are_safe_and_their_own() -> None:
    assert file_stem("/x/Süßer Panda (1).jpg") == "Süßer_Panda_1"
    assert file_stem("/x/(?).jpg") == "image"
    assert file_stem("/x/熊猫.png") == "熊猫"
    assert len(file_stem("/x/" + "熊" * 200 + ".png").encode()) <= 80
    assert file_stem("/store/" + "ab" * 32 + ".png", "/home/x/photo 1.tif") == "photo_1"
    assert file_stem("/store/" + "ab" * 32 + ".png") == "abababababababab"
    names = FileNames()
    assert names.name("a", "12345678ff", ".jpg", 1) == "a_12345678.jpg"
    assert names.name("A", "12345678ff", ".png", 9) == "A_12345678-9.png"


def test_recorded_paths_lose_their_folders() -> None:
    value = {"path": "/home/alice/photos", "win": "C:\\Users\\alice\\p", "n": [1, "/a/b"], "text": "a/b"}
    assert public(value) == {"path": "photos", "win": "p", "n": [1, "b"], "text": "a/b"}


def test_masks_survive_outlines_with_holes_and_parts() -> None:
    for seed in range(8):
        mask = blobs(seed)
        full = np.zeros((100, 120), bool)
        full[20:90, 10:100] = mask
        exact = mask_to_polygons(mask, (10, 20), tolerance=0)
        assert (polygons_to_mask(exact, 120, 100) == full).all()
        single = mask_to_polygon(mask, (10, 20), tolerance=0)
        assert (polygons_to_mask([single], 120, 100) == full).all()
        simple = polygons_to_mask(mask_to_polygons(mask, (10, 20)), 120, 100)
        assert (simple & full).sum() / (simple | full).sum() > 0.95
        assert (rle_to_mask(mask_to_rle(full)) == full).all()
    assert mask_to_polygon(np.zeros((5, 5), bool)) is None
    (dot,) = mask_to_polygons(np.ones((1, 1), bool), (3, 4))
    assert dot.min(axis=0).tolist() == [3, 4]
    assert dot.max(axis=0).tolist() == [4, 5]


def test_boxes_and_masks_are_placed_on_whole_pixels() -> None:
    assert clip_box([-0.5, 0.25, 1.0, 2.0]) == (0.0, 0.25, 0.5, 0.75)
    for box in ([0.5, 0.5, 0, 0.1], [1.5, 0, 1, 1], [float("nan"), 0, 1, 1], None):
        assert clip_box(box) is None
    for x in range(100):  # x / 100 * 100 is often just short of x
        mask, corner = place_mask(np.ones((5, 7), bool), [x / 100, 0.1, 7 / 100, 5 / 50], 100, 50)
        assert corner == (x, 5)
        assert mask.shape == (5, min(7, 100 - x))
    mask, corner = place_mask(np.ones((10, 10), bool), [-0.05, 0.5, 0.1, 0.2], 100, 50)
    assert (mask.shape, corner) == ((10, 5), (0, 25))
    assert place_mask(np.ones((4, 4), bool), [0, 0, 0.5, 0.5], 16, 16)[0].shape == (8, 8)
