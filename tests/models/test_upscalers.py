"""Super-resolution models: sizes, tiles against the whole picture, memory that is short, files of every layout."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fiftyone_idsynth.enhancement.tiling import LEAST_TILE, TiledUpscaler, tiles
from fiftyone_idsynth.errors import MissingExtraError
from fiftyone_idsynth.models.errors import BrokenModel, OutOfDeviceMemory, UnsafeWeights, WrongModel
from fiftyone_idsynth.models.loading import find_model
from fiftyone_idsynth.models.options import Options
from fiftyone_idsynth.models.roles import Upscaler
from tests.models import tiny
from tests.models.tiny_upscalers import esrgan_compact, swin2sr

CPU = Options(device="cpu")

needs_spandrel = pytest.mark.skipif(importlib.util.find_spec("spandrel") is None, reason="needs the extra upscale")


def load(path: Path, options: Options = CPU) -> Upscaler:
    return find_model(Upscaler, str(path), options)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Upscaler:
    return load(swin2sr(tmp_path_factory.mktemp("swin2sr")))


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Colours that change smoothly, 110 x 150 pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    return cv2.resize(noise, (150, 110), interpolation=cv2.INTER_CUBIC)


def tiled(model: Upscaler, tile: int, overlap: int, batch_size: int = 2, notes: list[str] | None = None) -> Any:
    return TiledUpscaler(lambda: model, tile, overlap, batch_size, (notes if notes is not None else []).append)


@pytest.mark.parametrize("length", [1, 7, 31, 64, 65, 100, 1000])
@pytest.mark.parametrize(("tile", "overlap", "unit"), [(64, 16, 8), (64, 0, 8), (20, 30, 8), (32, 5, 4)])
def test_tiles_cover_a_side_once_and_lie_at_multiples_of_the_unit(
    length: int, tile: int, overlap: int, unit: int
) -> None:
    found = tiles(length, tile, overlap, unit)
    assert [t.first for t in found] == [0, *(t.last for t in found[:-1])]
    assert found[-1].last == found[-1].stop == length
    assert all(t.start <= t.first < t.last <= t.stop for t in found)
    assert all(t.start % unit == 0 for t in found)
    for left, right in itertools.pairwise(found):
        assert left.stop - right.start >= overlap
        assert right.start + overlap // 2 <= right.first + unit
        assert left.last <= left.stop - overlap // 2 + unit


@pytest.mark.parametrize("upsampler", ["pixelshuffle", "pixelshuffledirect", "pixelshuffle_aux", "nearest+conv"])
def test_every_kind_of_swin2sr_gives_the_size_it_promises(tmp_path: Path, upsampler: str, picture: np.ndarray) -> None:
    scale = 4 if upsampler == "nearest+conv" else 2
    model = load(swin2sr(tmp_path, scale=scale, upsampler=upsampler))
    assert model.scale == scale
    for height, width in ((1, 1), (5, 3), (18, 21)):
        (made,) = model.upscale([picture[:height, :width]])
        assert made.shape == (height * scale, width * scale, 3)
        assert made.dtype == np.uint8


def test_tiles_give_what_the_whole_picture_gives(model: Upscaler, picture: np.ndarray) -> None:
    (whole,) = model.upscale([picture])
    assert whole.std() > 3
    for tile, batch_size in ((48, 1), (48, 4), (64, 3)):
        found = tiled(model, tile, 24, batch_size)(picture)
        assert np.abs(found.astype(int) - whole).max() <= 1
    seams = tiled(model, 24, 0)(picture)
    assert np.abs(seams.astype(int) - whole).max() > 1  # without overlap tiles do not know their neighbours


def test_the_model_never_gets_more_than_a_tile(model: Upscaler) -> None:
    class Watched:
        about, device, scale, unit, seen = "watched", "cpu", model.scale, model.unit, 0

        def upscale(self, parts: Any) -> list[np.ndarray]:
            self.seen = max(self.seen, len(parts) * parts[0].shape[0] * parts[0].shape[1])
            return [np.repeat(np.repeat(part, 2, 0), 2, 1) for part in parts]

    watched = Watched()
    big = np.random.default_rng(0).integers(0, 256, (700, 900, 3), np.uint8)
    made = tiled(watched, 128, 16, 2)(big)
    assert np.array_equal(made[::2, ::2], big)
    assert watched.seen <= 2 * 128 * 128


@pytest.mark.parametrize("error", ["torch", "cpu", "MemoryError"])
def test_tiles_shrink_when_memory_is_short(model: Upscaler, picture: np.ndarray, error: str) -> None:
    import torch

    class Small:
        about, device, scale, unit = "small", "cuda", 2, 8

        def upscale(self, parts: Any) -> list[np.ndarray]:
            if len(parts) * parts[0].shape[0] * parts[0].shape[1] > 50 * 50:
                raise {
                    "torch": torch.OutOfMemoryError("CUDA out of memory"),
                    "cpu": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
                    "MemoryError": MemoryError(),
                }[error]
            return [np.repeat(np.repeat(part, 2, 0), 2, 1) for part in parts]

    notes: list[str] = []
    enlarge = tiled(Small(), 128, 16, 4, notes)
    assert np.array_equal(enlarge(picture)[::2, ::2], picture)
    assert enlarge.tile <= 50
    assert "out of memory" in notes[0]
    assert "tiles of" in notes[-1]


def test_too_little_memory_for_the_least_tile_is_said(picture: np.ndarray) -> None:
    import torch

    class Tiny:
        about, device, scale, unit = "tiny", "cuda", 2, 8

        def upscale(self, parts: Any) -> list[np.ndarray]:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(OutOfDeviceMemory, match=f"tiles of {LEAST_TILE} x {LEAST_TILE}.*device='cpu'"):
        tiled(Tiny(), 128, 16)(picture)


def test_other_errors_are_not_taken_for_memory(picture: np.ndarray) -> None:
    class Wrong:
        about, device, scale, unit = "wrong", "cpu", 2, 8

        def upscale(self, parts: Any) -> list[np.ndarray]:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        tiled(Wrong(), 128, 16)(picture)


@needs_spandrel
def test_files_in_layouts_that_spandrel_knows(tmp_path: Path, picture: np.ndarray) -> None:
    model = load(esrgan_compact(tmp_path / "compact.safetensors", scale=4))
    assert model.scale == 4
    (whole,) = model.upscale([picture])
    assert whole.shape == (440, 600, 3)
    assert np.abs(tiled(model, 48, 16)(picture).astype(int) - whole).max() <= 1
    assert model.upscale([picture[:1, :1]])[0].shape == (4, 4, 3)


@needs_spandrel
def test_pickled_files_need_permission(tmp_path: Path, picture: np.ndarray) -> None:
    path = esrgan_compact(tmp_path / "compact.pth", pickled=True)
    with pytest.raises(UnsafeWeights, match="allow_pickle"):
        load(path)
    model = load(path, Options(device="cpu", allow_pickle=True))
    safe = load(esrgan_compact(tmp_path / "compact.safetensors"))
    assert np.array_equal(model.upscale([picture])[0], safe.upscale([picture])[0])


@needs_spandrel
def test_damaged_and_foreign_files_are_named(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    with pytest.raises(BrokenModel, match="broken.safetensors"):
        load(tmp_path / "broken.safetensors")
    save_file({"layer.weight": torch.ones(3)}, tmp_path / "other.safetensors")
    with pytest.raises(WrongModel, match="no layout"):
        load(tmp_path / "other.safetensors")


def test_without_spandrel_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = esrgan_compact(tmp_path / "compact.safetensors")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"fiftyone-idsynth\[upscale\]"):
        load(path)


def test_other_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongModel, match=r"not an upscaler.*swin2SR"):
        load(tiny.vit_classifier(tmp_path))
