"""Training LoRAs for models of all layouts: what is trained, what is written, and that others can read it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import fiftyone as fo
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

import fiftyone_idsynth as ids
from fiftyone_idsynth.models.errors import ModelError, WrongModel
from fiftyone_idsynth.models.loading import find_model, release
from fiftyone_idsynth.models.options import Options
from fiftyone_idsynth.models.roles import Generator, Sampling, Wanted
from fiftyone_idsynth.painting import picture_seed
from tests.models.tiny_diffusion import model

SIZES = [(64, 64), (64, 64), (96, 64), (90, 60), (60, 96), (80, 80)]
PROMPT = "zorb on a street"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    release()


@pytest.fixture
def pictures(dataset: Any, tmp_path: Path) -> Any:
    """Six captioned pictures of four proportions."""
    rng = np.random.default_rng(0)
    for number, (width, height) in enumerate(SIZES):
        picture = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), np.uint8), (0, 0), 3)
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
        dataset.add_sample(fo.Sample(filepath=str(tmp_path / f"{number}.png"), caption=f"thing {number}"))
    return dataset


def train(samples: Any, layout: str, path: Path, **options: Any) -> Any:
    quick: dict[str, Any] = {
        "model": str(model(layout)), "path": path, "name": "zorb", "trigger_word": "zorb", "steps": 4, "rank": 4,
        "train_batch_size": 2, "learning_rate": 0.05, "text_learning_rate": 0.05, "warmup": 0.0, "device": "cpu",
        "progress": False,
    }  # fmt: skip
    return ids.train_lora(samples, **{**quick, **options})


def painted(layout: str, **options: Any) -> np.ndarray:
    generator = find_model(Generator, str(model(layout)), Options(device="cpu", dtype="float32"))  # type: ignore[type-abstract]
    picture = generator.paint([Wanted(PROMPT, 5)], Sampling(64, 64, steps=3, **options))[0]
    assert isinstance(picture, np.ndarray)
    return picture


@pytest.mark.parametrize(("layout", "encoders"), [("sd", False), ("sd", True), ("sdxl", False), ("sdxl", True)])
def test_both_files_give_the_pictures_of_the_trained_model(
    pictures: Any, tmp_path: Path, layout: str, encoders: bool
) -> None:
    prompts = {"validation_prompts": (PROMPT,), "validation_every": 1000}
    report = train(
        pictures, layout, tmp_path / "lora", alpha=2, train_text_encoder=encoders, **prompts
    )  # fmt: skip
    plain = painted(layout)
    kohya = painted(layout, loras=((report.outputs["lora"], 1.0),))
    diffusers = painted(layout, loras=((report.outputs["lora_for_diffusers"], 1.0),))
    folder = painted(layout, loras=((str(tmp_path / "lora"), 1.0),))
    assert np.abs(kohya.astype(int) - plain).mean() > 1  # it learnt something
    for other in (diffusers, folder):
        assert np.abs(kohya.astype(int) - other).max() <= 1  # sums of another order may round to a neighbouring level

    # The last validation picture is what the model painted itself when its training was over.
    before, after = (np.asarray(Image.open(file)) for file in report.outputs["validation"])
    generator = find_model(Generator, str(model(layout)), Options(device="cpu", dtype="float32"))  # type: ignore[type-abstract]
    wanted = Wanted(PROMPT, picture_seed(51, "validation", 1))
    for lora, expected in (((), before), (((report.outputs["lora"], 1.0),), after)):
        picture = generator.paint([wanted], Sampling(64, 64, loras=lora))[0]
        assert np.abs(np.asarray(picture).astype(int) - expected).max() <= 2


def test_a_lora_for_stable_diffusion_is_named_as_kohyas_trainers_do(pictures: Any, tmp_path: Path) -> None:
    report = train(pictures, "sd", tmp_path / "lora", alpha=2, train_text_encoder=True)
    weights = load_file(report.outputs["lora"])
    block = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0"
    assert weights[f"{block}_attn2_to_k.lora_down.weight"].shape == (4, 32)
    assert weights[f"{block}_attn1_to_out_0.lora_up.weight"].shape == (8, 4)
    assert weights[f"{block}_ff_net_0_proj.alpha"] == 2
    assert weights["lora_unet_mid_block_attentions_0_proj_in.lora_down.weight"].shape == (4, 16, 1, 1)
    assert weights["lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight"].shape == (32, 4)
    assert {name.split("_")[1] for name in weights} == {"unet", "te"}
    with safe_open(report.outputs["lora"], "pt") as opened:
        header = opened.metadata()
    assert header["ss_network_module"] == "networks.lora"
    assert (header["ss_network_dim"], header["ss_network_alpha"]) == ("4", "2")
    assert header["ss_base_model_version"] == "sd_v1"
    assert header["ss_num_train_images"] == "6"
    assert json.loads(header["ss_tag_frequency"])["zorb"]["zorb"] == 6
    assert header["modelspec.trigger_phrase"] == "zorb"
    assert header["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert header["ss_sd_model_name"] == str(model("sd"))


def test_a_lora_for_sdxl_has_the_block_names_of_the_original(pictures: Any, tmp_path: Path) -> None:
    report = train(pictures, "sdxl", tmp_path / "lora", train_text_encoder=True, layers="attention")
    weights = load_file(report.outputs["lora"])
    blocks = {"_".join(name.split("_")[2:6]) for name in weights if name.startswith("lora_unet_")}
    # As kohya names them for two layers in each of three blocks, of which the outermost have no attention.
    assert blocks == {
        "input_blocks_4_1", "input_blocks_5_1", "input_blocks_7_1", "input_blocks_8_1", "middle_block_1_transformer",
        "output_blocks_0_1", "output_blocks_1_1", "output_blocks_2_1", "output_blocks_3_1", "output_blocks_4_1",
        "output_blocks_5_1",
    }  # fmt: skip
    assert "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight" in weights
    assert "lora_te2_text_model_encoder_layers_1_self_attn_v_proj.alpha" in weights
    assert not any("_ff_" in name or "proj_in" in name for name in weights)


def test_the_model_that_others_use_is_left_alone(pictures: Any, tmp_path: Path) -> None:
    before = painted("sd")
    shared = find_model(Generator, str(model("sd")), Options(device="cpu", dtype="float32"))  # type: ignore[type-abstract]
    weights = {name: value.clone() for name, value in shared.parts["unet"].state_dict().items()}
    train(pictures, "sd", tmp_path / "lora")
    np.testing.assert_array_equal(painted("sd"), before)
    assert not getattr(shared.parts["unet"], "peft_config", None)
    after = shared.parts["unet"].state_dict()
    assert weights.keys() == after.keys()
    assert all(torch.equal(weights[name], after[name]) for name in weights)


def test_computing_activations_twice_trains_the_same(pictures: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"train_text_encoder": True, "learning_rate": 0.01}
    plain = train(pictures, "sdxl", tmp_path / "plain", **options)
    twice = train(pictures, "sdxl", tmp_path / "twice", gradient_checkpointing=True, **options)
    first, second = (load_file(report.outputs["lora"]) for report in (plain, twice))
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)
    assert any(first[name].abs().max() > 1e-3 for name in first if "lora_up" in name and "te2" in name)


def test_half_precision_trains_weights_in_full_precision_and_stores_them_in_16_bits(
    pictures: Any, tmp_path: Path
) -> None:
    whole = train(pictures, "sd", tmp_path / "whole", learning_rate=0.01, train_text_encoder=True)
    half = train(pictures, "sd", tmp_path / "half", learning_rate=0.01, train_text_encoder=True, dtype="bfloat16")
    first, second = (load_file(report.outputs["lora"]) for report in (whole, half))
    assert {tensor.dtype for name, tensor in second.items() if "alpha" not in name} == {torch.float16}
    for name, tensor in first.items():
        assert torch.isfinite(second[name]).all()
        assert torch.nn.functional.cosine_similarity(tensor.flatten(), second[name].float().flatten(), dim=0) > 0.8
    assert half.outputs["final_loss"] == pytest.approx(whole.outputs["final_loss"], rel=0.05)


def test_the_signal_to_noise_limit_and_accumulation_change_the_loss_only_as_they_should(
    pictures: Any, tmp_path: Path
) -> None:
    plain = train(pictures, "sd", tmp_path / "plain", learning_rate=0.0, steps=6)
    limited = train(pictures, "sd", tmp_path / "limited", learning_rate=0.0, steps=6, snr_gamma=5.0)
    summed = train(pictures, "sd", tmp_path / "summed", learning_rate=0.0, steps=3, gradient_accumulation_steps=2)
    loss, less, pairs = (
        np.loadtxt(tmp_path / name / "loss.csv", delimiter=",", skiprows=1)[:, 1]
        for name in ("plain", "limited", "summed")
    )
    assert plain.outputs["steps"] == limited.outputs["steps"] == 2 * summed.outputs["steps"]
    assert (less <= loss + 1e-6).all()
    assert less.sum() < loss.sum()
    np.testing.assert_allclose(pairs, loss.reshape(3, 2).mean(1), rtol=1e-4)


@pytest.mark.parametrize(
    ("layout", "why"),
    [
        ("inpainting", "inpainting"), ("depth", "depth"), ("lcm", "distilled"), ("sd3", "neither Stable Diffusion"),
        ("flux", "neither Stable Diffusion"), ("upscaler", "cannot|neither"), ("controlnet", "not an? image generator"),
    ],
)  # fmt: skip
def test_models_that_no_lora_can_be_trained_for(pictures: Any, tmp_path: Path, layout: str, why: str) -> None:
    with pytest.raises(ModelError, match=why) as caught:
        train(pictures, layout, tmp_path / "lora")
    assert isinstance(caught.value, WrongModel)
    assert not (tmp_path / "lora").exists()
