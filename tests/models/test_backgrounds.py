"""Foreground by ONNX files in the conventions of every family, and objects cut out of pictures by any model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fiftyone_idsynth.cutting import Tidy, cut_out, filled, grow, near_box, parts
from fiftyone_idsynth.errors import ParameterError, RefusedImage
from fiftyone_idsynth.models.errors import BrokenModel, WrongModel
from fiftyone_idsynth.models.loading import find_model
from fiftyone_idsynth.models.options import Options
from fiftyone_idsynth.models.roles import BackgroundRemover, Box, Refiner, Segmenter, Tagger
from tests.models import tiny, tiny_regions, tiny_segmenters
from tests.models.tiny_backgrounds import HALF, IMAGENET, LEAST, remover
from tests.zoo.shapes_world import SIZE, scenes

CPU = Options(device="cpu")

FAMILIES: dict[str, dict[str, Any]] = {
    "u2net": {"side": 320, "convention": IMAGENET, "share": 0.4, "outputs": 7},
    "isnet": {"side": 1024, "convention": HALF, "share": 0.4, "outputs": 2, "batch": 1},
    "rmbg": {"side": 1024, "convention": HALF, "share": 0.4},
    "birefnet": {"side": 1024, "convention": IMAGENET, "logits": True},
    "any size": {"side": "side", "convention": IMAGENET, "logits": True},
    "small": {"side": 256, "convention": IMAGENET},
}


def load(path: Path) -> BackgroundRemover:
    return find_model(BackgroundRemover, str(path), CPU)


def colourful(picture: np.ndarray, white: int = 255) -> np.ndarray:
    """The exact mask of the shapes: all else is grey.

    Args:
        picture: RGB, uint8
        white (255): the level that counts as 1
    """
    return np.ptp(picture, axis=2) > LEAST * white


def enlarged(picture: np.ndarray, side: int) -> np.ndarray:
    return picture.repeat(side // SIZE, 0).repeat(side // SIZE, 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_foreground_is_exact_in_the_convention_of_each_family(tmp_path: Path, family: str) -> None:
    described = FAMILIES[family]
    model = load(remover(tmp_path / "file.onnx", **described))
    side = described["side"] if isinstance(described["side"], int) else 1024
    pictures = [enlarged(scene.image, side) for scene in scenes(3, 2)]
    for picture, share in zip(pictures, model.foreground(pictures), strict=True):
        assert share.dtype == np.float32
        assert share.shape == picture.shape[:2]
        assert 0 <= share.min() < 0.01
        assert 0.99 < share.max() <= 1  # also where the file itself does not get that far
        truth = colourful(picture, picture.max() if family == "u2net" else 255)
        assert ((share >= 0.5) == truth).all()


@pytest.mark.parametrize(("family", "wrong"), [("u2net", HALF), ("rmbg", IMAGENET), ("birefnet", HALF)])
def test_another_convention_would_show(tmp_path: Path, family: str, wrong: Any) -> None:
    described = {**FAMILIES[family], "convention": wrong}
    picture = enlarged(scenes(3, 1)[0].image, described["side"])
    (share,) = load(remover(tmp_path / "file.onnx", **described)).foreground([picture])
    assert ((share >= 0.5) == colourful(picture)).mean() < 0.98


def test_pictures_of_other_sizes(tmp_path: Path) -> None:
    model = load(remover(tmp_path / "file.onnx", 320, IMAGENET, outputs=7))
    picture = np.full((90, 150, 3), 128, np.uint8)
    picture[30:60, 20:110] = (220, 30, 30)
    small, other = model.foreground([picture, scenes(3, 1)[0].image])
    assert small.shape == (90, 150)
    assert other.shape == (SIZE, SIZE)
    found = small >= 0.5
    assert (found & colourful(picture)).sum() / (found | colourful(picture)).sum() > 0.95
    assert model.foreground([]) == []


def test_dark_pictures_are_brightened_as_u2net_was_trained(tmp_path: Path) -> None:
    model = load(remover(tmp_path / "file.onnx", 320, IMAGENET, outputs=7))
    for scene in scenes(3, 3):
        dark = enlarged(scene.image // 4, 320)
        (share,) = model.foreground([dark])
        assert ((share >= 0.5) == colourful(dark, dark.max())).all()


def test_a_configuration_beside_the_file_counts(tmp_path: Path) -> None:
    mean, std = (0.2, 0.3, 0.4), (0.5, 0.6, 0.7)
    (tmp_path / "onnx").mkdir()
    remover(tmp_path / "onnx" / "model.onnx", "side", (mean, std))
    config = {"do_normalize": True, "image_mean": mean, "image_std": std, "size": {"width": 128, "height": 128}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config), encoding="utf-8")
    picture = enlarged(scenes(5, 1)[0].image, 128)
    (share,) = load(tmp_path).foreground([picture])
    assert ((share >= 0.5) == colourful(picture)).all()


@pytest.mark.parametrize("family", ["u2net", "birefnet"])
def test_nothing_is_found_in_a_grey_picture(tmp_path: Path, family: str) -> None:
    model = load(remover(tmp_path / "file.onnx", **FAMILIES[family]))
    grey = np.tile(np.linspace(0, 255, 200, dtype=np.uint8)[None, :, None], (100, 1, 3))
    assert model.foreground([grey])[0].max() < 0.05
    red = grey.copy()
    red[20:60, 50:90] = (220, 30, 30)
    refused, found = cut_out([grey, red], model)
    assert isinstance(refused, RefusedImage)
    assert refused.reason == "no_object"
    assert isinstance(found, list)
    assert 1400 < found[0].mask.sum() < 1800


def test_files_that_remove_no_background(tmp_path: Path) -> None:
    with pytest.raises(WrongModel, match=r"takes 2 inputs \(pixels, trimap\)"):
        load(remover(tmp_path / "matting.onnx", 320, IMAGENET, more_inputs=["trimap"]))
    with pytest.raises(WrongModel, match="not a share for each pixel"):
        load(remover(tmp_path / "classes.onnx", 320, IMAGENET, channels=3))
    numbers = tiny_segmenters.colour_segmenter(tmp_path / "numbers.onnx", numbers=True)
    with pytest.raises(WrongModel, match="Models with classes serve as segmenters"):
        load(numbers)
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x08broken")
    with pytest.raises(BrokenModel, match="Download it again"):
        load(tmp_path / "broken.onnx")
    with pytest.raises(WrongModel, match="not a background remover .it can serve as tagger"):
        load(tiny.vit_classifier(tmp_path / "vit"))
    with pytest.raises(WrongModel, match="it can serve as .*background remover"):
        find_model(Tagger, str(_with_own_code(tmp_path / "birefnet")), CPU)


def test_code_of_a_model_is_not_run(tmp_path: Path) -> None:
    with pytest.raises(WrongModel, match="brings code of its own, which is not run: name an ONNX export"):
        load(_with_own_code(tmp_path / "birefnet"))


def _with_own_code(folder: Path) -> Path:
    """A folder as the hub has it of BiRefNet and RMBG."""
    folder.mkdir()
    auto_map = {"AutoModelForImageSegmentation": "birefnet.BiRefNet"}
    config = {"architectures": ["BiRefNet"], "auto_map": auto_map, "model_type": "birefnet"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "birefnet.py").write_text("raise SystemExit('this must not run')\n", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def test_segmenters_cut_out_each_part_of_each_class(tmp_path: Path) -> None:
    model = find_model(Segmenter, str(tiny_segmenters.colour_segmenter(tmp_path / "colours.onnx")), CPU)
    picture = np.tile(np.array([0, 255, 0], np.uint8), (64, 64, 1))  # green is no class
    picture[4:20, 4:20] = picture[40:60, 40:60] = (255, 0, 0)
    picture[4:20, 40:60] = (0, 0, 255)
    (found,) = cut_out([picture], model)
    assert isinstance(found, list)
    assert [cut.label for cut in found] == ["red", "red", "blue"]
    assert found[0].mask[50, 50]
    assert found[1].mask[10, 10]
    assert not (found[0].mask & found[1].mask).any()
    (main,) = cut_out([picture], model, classes={"rouge": ["red"]}, tidy=Tidy(largest=True))
    assert isinstance(main, list)
    assert [cut.label for cut in main] == ["rouge"]
    (refused,) = cut_out([picture], model, classes={"blue": ["blue"]}, tidy=Tidy(min_area=2000))
    assert isinstance(refused, RefusedImage)
    text = find_model(Segmenter, str(tiny_regions.clipseg(tmp_path / "clipseg")), CPU)
    with pytest.raises(ParameterError, match="name what is to be cut out"):
        cut_out([picture], text)


class Ellipses(Refiner):
    """Marks the middle of a box, and a speck in a corner of the picture, as SAM can."""

    name, revision, device = "ellipses", "", "cpu"

    def refine(self, pictures: Any, boxes: Any) -> list[list[np.ndarray]]:
        return [[self._mask(p.shape[:2], box) for box in those] for p, those in zip(pictures, boxes, strict=True)]

    def _mask(self, size: tuple[int, int], box: Box) -> np.ndarray:
        mask = np.zeros(size, bool)
        x, y, w, h = box
        mask[round((y + h / 4) * size[0]) : round((y + 0.75 * h) * size[0]), round((x + w / 4) * size[1])] = True
        mask[-1, -1] = True
        return mask


def test_boxes_are_cut_out_one_by_one_without_specks() -> None:
    picture = np.zeros((100, 200, 3), np.uint8)
    boxes: list[Box] = [(0.1, 0.1, 0.2, 0.4), (0.5, 0.5, 0.2, 0.2)]
    found, refused = cut_out([picture, picture], Ellipses(), boxes=[boxes, []])
    assert isinstance(found, list)
    assert [cut.number for cut in found] == [0, 1]
    assert found[0].mask[30, 30]
    assert not any(cut.mask[-1, -1] for cut in found)
    assert isinstance(refused, RefusedImage)
    with pytest.raises(ParameterError, match="give them for each picture"):
        cut_out([picture], Ellipses())


def test_masks_are_tidied() -> None:
    mask = np.zeros((60, 60), bool)
    mask[10:40, 10:40] = True
    mask[20:24, 20:24] = False  # a hole
    mask[50:53, 50:53] = True  # a speck
    assert filled(mask)[10:40, 10:40].all()
    assert [part.sum() for part in parts(mask)] == [884, 9]
    assert Tidy(min_area=10)(mask).sum() == 884
    assert Tidy(largest=True, fill_holes=True)(mask).sum() == 900
    square = Tidy(largest=True, fill_holes=True, grow=3)(mask)
    assert square[25, 7]
    assert not square[25, 6]
    assert not square[7, 7]  # round corners
    assert (grow(grow(square, -3), 0)[10:40, 10:40]).all()
    assert not grow(mask, -20).any()
    assert (grow(np.ones((9, 9), bool), -2)).all()
    assert not Tidy(min_area=10000)(mask).any()
    assert near_box(mask, (10 / 60, 10 / 60, 0.5, 0.5)).sum() == 884
