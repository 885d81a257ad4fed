"""Labels of photographs through random transforms: coco128's polygons and the raccoons' boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.augmenting.truth import SMALL, coco_pictures, measure, raccoon_pictures
from fiftyone_idsynth.augmentation.catalogue import PRESETS


@pytest.mark.parametrize("name", ["coco128", "raccoon"])
def test_boxes_agree_with_masks_in_the_label_safe_preset(shared: Path, name: str) -> None:
    read = {"coco128": coco_pictures, "raccoon": raccoon_pictures}[name]
    pictures = read(shared / "data" / name)[::4]
    found = measure(pictures, PRESETS["detection"], 150)
    assert (found.transforms, found.outside, found.refused) == (150, 0, {})
    assert min(found.written) > 0.999
    large = np.array(found.ious)[np.array(found.sides) >= SMALL]
    assert len(large) > 50
    assert large.min() >= 0.9


def test_boxes_with_masks_stay_tight_however_a_picture_is_bent(shared: Path) -> None:
    found = measure(coco_pictures(shared / "data/coco128")[::5], PRESETS["classification"], 60)
    assert (found.outside, found.refused) == (0, {})
    assert min(found.written) > 0.999
