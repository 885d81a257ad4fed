"""Segmenters of every family give each pixel a class; two of them are right about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fiftyone_idsynth.errors import ParameterError
from fiftyone_idsynth.models.errors import BrokenModel, WrongModel
from fiftyone_idsynth.models.loading import find_model
from fiftyone_idsynth.models.options import Options
from fiftyone_idsynth.models.roles import Finder, Segmenter
from fiftyone_idsynth.models.segmenters import WORK_SIDE, likeliest, work_size
from tests.models import tiny_regions, tiny_segmenters
from tests.models.tiny_segmenters import NAMES

CPU = Options(device="cpu")
OWN = {"red": ("red",), "blue": ("blue",)}


def load(path: Path) -> Segmenter:
    return find_model(Segmenter, str(path), CPU)


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, size, np.uint8) for size in ((48, 64, 3), (90, 40, 3), (48, 64, 3))]


@pytest.mark.parametrize("build", [tiny_segmenters.segformer, tiny_segmenters.mobilenet, tiny_segmenters.maskformer])
def test_models_of_transformers(tmp_path: Path, build: Callable[[Path], Path]) -> None:
    model = load(build(tmp_path / "model"))
    assert model.classes == NAMES[1:]
    together = model.segment(pictures(), OWN)
    for picture, found in zip(pictures(), together, strict=True):
        assert found.values.shape == picture.shape[:2]
        assert found.values.dtype == np.uint8
        assert set(np.unique(found.values)) <= {0, 1, 2}
        (alone,) = model.segment([picture], OWN)
        assert (alone.values == found.values).mean() > 0.98
    assert model.segment([], OWN) == []
    swapped = model.segment(pictures(), {"blue": ("blue",), "red": ("red",)})
    for found, other in zip(together, swapped, strict=True):
        assert (np.array([0, 2, 1])[other.values] == found.values).all()


def test_the_margins_of_a_picture_are_seen(tmp_path: Path) -> None:
    model = load(tiny_segmenters.mobilenet(tmp_path / "model"))
    inputs = model._inputs(pictures())  # type: ignore[attr-defined]
    assert inputs["pixel_values"].shape == (3, 3, 64, 64)
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[:, -8:] = 255
    assert model._inputs([picture])["pixel_values"][0, :, :, -2:].min() > 0.9  # type: ignore[attr-defined]


@pytest.mark.parametrize("numbers", [False, True])
def test_onnx_files(tmp_path: Path, numbers: bool) -> None:
    model = load(tiny_segmenters.colour_segmenter(tmp_path / "colours.onnx", numbers=numbers))
    picture = np.zeros((50, 100, 3), np.uint8)
    picture[:, :50, 0] = picture[:, 50:, 2] = 255
    (found,) = model.segment([picture], {"sea": ("blue",), "fire": ("RED",)})
    assert (found.values[:, :46] == 2).all()
    assert (found.values[:, 54:] == 1).all()
    assert (found.confidence is None) == numbers
    (only,) = model.segment([picture], {"red": ("red",)}, background=["blue"])
    assert set(np.unique(only.values)) == {0, 1}
    with pytest.raises(ParameterError, match="does not know it"):
        model.segment([picture], {"green": ("green",)})


def test_an_unsure_pixel_has_no_class(tmp_path: Path) -> None:
    model = load(tiny_segmenters.colour_segmenter(tmp_path / "colours.onnx"))
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    (sure,) = model.segment([red], OWN)
    assert sure.confidence is not None
    (unsure,) = model.segment([red], OWN, threshold=min(1.0, sure.confidence + 1e-6))
    assert not unsure.values.any()
    assert unsure.confidence is None


def test_more_classes_than_names(tmp_path: Path) -> None:
    path = tiny_segmenters.colour_segmenter(tmp_path / "colours.onnx", numbers=True)
    labels = path.with_name("colours_labels.txt")
    labels.write_text("background\nred\n\nand 255 is ignored\n", encoding="utf-8")
    model = load(path)
    assert model.classes == ("red",)
    blue = np.zeros((32, 32, 3), np.uint8)
    blue[..., 2] = 255
    with pytest.raises(BrokenModel, match="classes up to 2, but the file beside it names 2"):
        model.segment([blue], {"red": ("red",)})


def test_clipseg(tmp_path: Path) -> None:
    model = load(tiny_regions.clipseg(tmp_path / "clipseg"))
    assert model.classes is None
    found = model.segment(pictures(), {"a": ("a red panda", "a cat"), "b": ("a dog",)}, threshold=0.0)
    assert [f.values.shape for f in found] == [p.shape[:2] for p in pictures()]
    assert all(f.values.min() > 0 for f in found)  # with a threshold of 0 every pixel has a class
    nothing = model.segment(pictures(), {"a": ("a cat",)}, threshold=0.0, background=["a cat", "a dog"])
    assert all(set(np.unique(f.values)) <= {0, 1} for f in nothing)


def test_the_likeliest_class_wins_where_it_is_over_the_threshold() -> None:
    maps = np.zeros((3, 4, 4), np.float32)
    maps[0, :2], maps[1, 1:3], maps[2, 3] = 0.6, 0.9, 0.3
    found = likeliest(maps, [1, 2, 0], (4, 4), 0.5)
    assert found.values[:, 0].tolist() == [1, 2, 2, 0]
    assert found.confidence == pytest.approx((0.6 + 0.9 + 0.9) / 3)


def test_large_pictures_are_compared_in_a_smaller_size() -> None:
    assert work_size(3000, 4000) == (768, WORK_SIDE)
    assert work_size(48, 64) == (48, 64)
    maps = np.zeros((1, 2, 2), np.float32)
    maps[0, :, 0] = 1
    found = likeliest(maps, [1], (2000, 3000), 0.5)
    assert found.values.shape == (2000, 3000)
    assert found.values[:, :1400].all()
    assert not found.values[:, 1600:].any()


def test_other_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongModel, match="not a segmenter"):
        load(tiny_regions.owlv2(tmp_path / "owl"))
    with pytest.raises(WrongModel, match="serve as segmenter"):
        find_model(Finder, str(tiny_segmenters.segformer(tmp_path / "segformer")), CPU)
