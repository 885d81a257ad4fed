"""Depth by models of transformers, and the pictures that ControlNets are given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fiftyone_idsynth.errors import ParameterError
from fiftyone_idsynth.models.conditions import depth_map, edges
from fiftyone_idsynth.models.depth import nearness
from fiftyone_idsynth.models.errors import BrokenModel, WrongModel
from fiftyone_idsynth.models.loading import find_model
from fiftyone_idsynth.models.options import Options
from fiftyone_idsynth.models.roles import DepthEstimator
from tests.models import tiny
from tests.zoo.shapes_world import scenes

EXACT = Options(device="cpu", dtype="float32")


def load(path: Path) -> DepthEstimator:
    return find_model(DepthEstimator, str(path), EXACT)


def dpt(folder: Path, *, metric: bool = False) -> Path:
    """A DPT with random weights; with a projection, as those of DINOv2 in metres, if it is metric."""
    import torch
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

    torch.manual_seed(0)
    config = DPTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=64, patch_size=16,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8, add_projection=metric,
    )  # fmt: skip
    _save(DPTForDepthEstimation(config), folder, 100)
    DPTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def depth_anything(folder: Path, kind: str = "relative") -> Path:
    """A Depth Anything with random weights, which are the same for all kinds."""
    import torch
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

    torch.manual_seed(0)
    backbone = Dinov2Config(
        image_size=56, patch_size=14, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, mlp_ratio=1,
        out_features=["stage1", "stage2", "stage3", "stage4"], reshape_hidden_states=False,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, patch_size=14, reassemble_hidden_size=16, neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8, head_hidden_size=4, depth_estimation_type=kind, max_depth=20,
    )  # fmt: skip
    _save(DepthAnythingForDepthEstimation(config), folder, 16)
    processor = DPTImageProcessor(size={"height": 56, "width": 56}, keep_aspect_ratio=True, ensure_multiple_of=14)
    processor.save_pretrained(folder)
    return folder


def _save(model: Any, folder: Path, factor: float) -> None:
    """Saves it with larger weights, so that pictures make a difference, and a head that is not cut off at 0.

    Args:
        model: with random weights
        folder: where to
        factor: what the weights of its head are multiplied with
    """
    import torch

    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "head" in name and "norm" not in name:
                weights.mul_(factor)
        last = [part for part in model.head.modules() if isinstance(part, torch.nn.Conv2d)][-1]
        last.bias.fill_(1.0)
    model.save_pretrained(folder)


def pictures() -> list[np.ndarray]:
    images = [scene.image for scene in scenes(1, 3)]
    return [images[0], np.ascontiguousarray(images[1][:40]), images[2]]


@pytest.mark.parametrize("build", [dpt, depth_anything])
def test_each_picture_gets_a_map_of_its_size(tmp_path: Path, build: Any) -> None:
    model = load(build(tmp_path / "model"))
    together = model.depth(pictures())
    for picture, found in zip(pictures(), together, strict=True):
        assert found.shape == picture.shape[:2]
        assert found.dtype == np.float32
        assert (found.min(), found.max()) == (0, 1)
        (alone,) = model.depth([picture])
        assert np.abs(alone - found).max() < 1e-3
    assert model.depth([]) == []


def test_distances_are_turned_round(tmp_path: Path) -> None:
    inverse = load(depth_anything(tmp_path / "relative"))
    distances = load(depth_anything(tmp_path / "metric", "metric"))
    near, far = inverse.depth(pictures())[0], distances.depth(pictures())[0]
    order, other = near.ravel().argsort().argsort(), far.ravel().argsort().argsort()
    # The same weights, read as inverse depth by the one and as metres by the other.
    assert np.corrcoef(order, other)[0, 1] < -0.95
    assert load(dpt(tmp_path / "dinov2", metric=True)).metric  # type: ignore[attr-defined]
    assert not load(dpt(tmp_path / "midas")).metric  # type: ignore[attr-defined]


def test_what_is_twice_as_near_is_twice_as_bright() -> None:
    found = nearness(np.array([[1.0, 2.0], [4.0, 1e9]]), metric=True)
    assert found.ravel() == pytest.approx([1, 0.5, 0.25, 0], abs=1e-6)
    assert nearness(np.array([[0.0, 3.0]]), metric=False).tolist() == [[0, 1]]
    assert nearness(np.array([[-1.0, 2.0]]), metric=True).tolist() == [[1, 0]]
    assert not nearness(np.full((4, 4), 7.0), metric=True).any()


def test_models_that_estimate_no_depth(tmp_path: Path) -> None:
    with pytest.raises(WrongModel, match="not a depth estimator .it can serve as tagger.*Depth-Anything"):
        load(tiny.vit_classifier(tmp_path / "vit"))
    folder = dpt(tmp_path / "dpt")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BrokenModel, match="download it again"):
        load(folder)
    other = depth_anything(tmp_path / "other")
    config = json.loads((other / "config.json").read_text(encoding="utf-8"))
    (other / "config.json").write_text(json.dumps({**config, "model_type": "chmv2"}), encoding="utf-8")
    with pytest.raises(WrongModel, match="not a depth estimator"):  # heights above the ground, seen from the air
        load(other)


def test_edges_are_those_of_the_shape() -> None:
    picture = np.full((80, 100, 3), 90, np.uint8)
    picture[20:60, 30:70] = (255, 255, 40)
    found = edges(picture)
    assert found.shape == picture.shape
    assert found.dtype == np.uint8
    assert set(np.unique(found)) == {0, 255}
    rows, columns = np.nonzero(found[..., 0])
    assert np.abs([rows.min() - 20, rows.max() - 59, columns.min() - 30, columns.max() - 69]).max() <= 1
    assert not found[24:56, 34:66].any()
    faint = np.full((80, 100, 3), 90, np.uint8)
    faint[20:60, 30:70] = 100
    assert not edges(faint).any()
    assert edges(faint, 5, 20).any()
    with pytest.raises(ParameterError, match="between 0 and high"):
        edges(picture, 300, 200)


def test_depth_as_a_picture() -> None:
    made = depth_map(np.array([[0.0, 0.5], [1.0, 1.2]], np.float32))
    assert made.shape == (2, 2, 3)
    assert made[..., 0].tolist() == [[0, 128], [255, 255]]
