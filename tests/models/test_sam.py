"""SAM and SAM 2: a mask for each box, as the models' own processors make them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fiftyone_idsynth.models.errors import WrongModel
from fiftyone_idsynth.models.loading import find_model
from fiftyone_idsynth.models.options import Options
from fiftyone_idsynth.models.roles import Finder, Refiner
from fiftyone_idsynth.models.sam import Sam
from tests.models import tiny_regions

BOXES = [[(0.1, 0.2, 0.5, 0.5), (0.0, 0.0, 1.0, 1.0)], [], [(0.3, 0.3, 0.4, 0.2)]]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=[tiny_regions.sam, tiny_regions.sam2], ids=["sam", "sam2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    build: Callable[[Path], Path] = request.param
    return build(tmp_path_factory.mktemp("sam"))


@pytest.fixture
def sam(folder: Path) -> Sam:
    found = find_model(Refiner, str(folder), Options(device="cpu", dtype="float32"))
    assert isinstance(found, Sam)
    return found


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (*size, 3), np.uint8) for size in ((60, 100), (90, 50), (64, 64))]


def test_a_mask_of_the_size_of_the_picture_for_each_box(sam: Sam):
    masks = sam.refine(pictures(), BOXES)
    assert [[m.shape for m in listed] for listed in masks] == [[(60, 100)] * 2, [], [(64, 64)]]
    assert all(m.dtype == bool for listed in masks for m in listed)


def test_masks_are_those_of_transformers(sam: Sam, folder: Path):
    from PIL import Image
    from transformers import AutoProcessor

    processor: Any = AutoProcessor.from_pretrained(folder)
    corners = [[[x * 100, y * 60, (x + w) * 100, (y + h) * 60] for x, y, w, h in BOXES[0]]]
    inputs = processor(images=Image.fromarray(pictures()[0]), input_boxes=corners, return_tensors="pt")
    with torch.inference_mode():
        outputs = sam.model(**inputs, multimask_output=False)
    sizes = {name: inputs[name] for name in ("original_sizes", "reshaped_input_sizes") if name in inputs}
    expected = processor.post_process_masks(outputs.pred_masks, **sizes)[0][:, 0].numpy()
    np.testing.assert_array_equal(np.stack(sam.refine(pictures(), BOXES)[0]), expected)


def test_a_batch_gives_what_single_pictures_give(sam: Sam):
    batch = sam.refine(pictures(), BOXES)
    for picture, boxes, masks in zip(pictures(), BOXES, batch, strict=True):
        for alone, together in zip(sam.refine([picture], [boxes])[0], masks, strict=True):
            assert np.mean(alone != together) < 0.001


def test_a_picture_is_encoded_once_whatever_the_number_of_its_boxes(sam: Sam, monkeypatch: pytest.MonkeyPatch):
    calls = []
    encode = sam.model.get_image_embeddings
    monkeypatch.setattr(sam.model, "get_image_embeddings", lambda pixels: calls.append(len(pixels)) or encode(pixels))
    boxes = [(0.1, 0.1, 0.2 + n / 100, 0.3) for n in range(40)]  # more than are decoded at once
    masks = sam.refine(pictures()[:1], [boxes])[0]
    assert calls == [1]
    assert len(masks) == 40
    for n in (0, 39):
        assert np.mean(sam.refine(pictures()[:1], [[boxes[n]]])[0][0] != masks[n]) < 0.001


def test_nothing_to_do(sam: Sam):
    assert sam.refine([], []) == []
    assert sam.refine(pictures(), [[], [], []]) == [[], [], []]


def test_it_finds_nothing_by_itself(folder: Path):
    with pytest.raises(WrongModel, match="not a finder.*refiner"):
        find_model(Finder, str(folder), Options(device="cpu"))
