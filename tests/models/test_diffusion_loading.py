"""Diffusion models of every layout are loaded by what they are, and what makes no pictures is refused in words."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fiftyone_idsynth.errors import RefusedImage
from fiftyone_idsynth.models.errors import BrokenModel, ModelError, ModelUnreachable, UnsafeWeights, WrongModel
from fiftyone_idsynth.models.loading import find_model, release
from fiftyone_idsynth.models.options import Options
from fiftyone_idsynth.models.roles import Generator, Sampling, Tagger, Wanted
from tests.conftest import ROOT
from tests.models import hub_server, tiny, tiny_diffusion
from tests.models.tiny_diffusion import SIDE
from tests.models.tiny_loras import lora

CPU = Options(device="cpu", dtype="float32")
PHOTO = tiny.pictures((SIDE, SIDE))[0]
MASK = np.zeros((SIDE, SIDE), bool)
MASK[16:48, 24:56] = True

ALL = ("text", "image", "inpaint")
LAYOUTS: dict[str, tuple[str, tuple[str, ...], int]] = {
    "sd": ("sd", ALL, 8),
    "sd_file": ("sd", ALL, 8),
    "sd_lenient": ("sd", ALL, 8),
    "sd_turbo": ("sd", ALL, 8),
    "fp16": ("sd", ALL, 8),
    "inpainting": ("sd", ("inpaint",), 8),
    "inpainting_file": ("sd", ("inpaint",), 8),
    "depth": ("sd", ("image",), 8),
    "lcm": ("sd", ("text", "image"), 8),
    "sdxl": ("sdxl", ALL, 8),
    "sdxl_turbo": ("sdxl", ALL, 8),
    "sd3": ("other", ALL, 16),
    "sd3_without_t5": ("other", ALL, 16),
    "flux": ("other", ALL, 16),
}
"""Layout -> its family, what it can do, and what sides must divide by."""

DEFAULTS: dict[str, tuple[int, float, str]] = {
    "sd": (30, 7.5, "pndm"),
    "sdxl": (30, 5.0, "euler"),
    "lcm": (4, 8.5, "lcm"),
    "sd_turbo": (4, 0.0, "euler"),
    "sdxl_turbo": (4, 0.0, "euler_a"),
    "sd3": (28, 7.0, "default"),
    "flux": (28, 3.5, "default"),
}
"""Layout -> steps, guidance and scheduler that such a model is made for."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def _release() -> Iterator[None]:
    yield
    release()


def generator(layout: str, options: Options = CPU) -> Generator:
    return find_model(Generator, str(tiny_diffusion.model(layout)), options)  # type: ignore[type-abstract]


def load(path: Path, options: Options = CPU) -> Generator:
    return find_model(Generator, str(path), options)  # type: ignore[type-abstract]


def asked(kind: str, seed: int = 7) -> Wanted:
    picture = None if kind == "text" else PHOTO
    return Wanted("a red panda", seed, picture=picture, mask=MASK if kind == "inpaint" else None)


def paint(model: Generator, kind: str = "text", seed: int = 7, **more: Any) -> np.ndarray:
    sampling = Sampling(SIDE, SIDE, **{"steps": 3, "strength": 1.0 if kind == "text" else 0.7, **more})
    (made,) = model.paint([asked(kind, seed)], sampling)
    assert not isinstance(made, RefusedImage)
    return made


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of Stable Diffusion that a test may damage."""
    return Path(shutil.copytree(tiny_diffusion.model("sd"), tmp_path / "sd"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_does_what_its_weights_are_made_for_and_refuses_the_rest(layout: str):
    model = generator(layout)
    family, kinds, unit = LAYOUTS[layout]
    assert (model.family, model.kinds, model.unit) == (family, kinds, unit)
    assert model.side == (1024 if layout == "flux" else SIDE)  # Flux does not say for which size it was trained
    assert len(model.revision) == 12
    for kind in ALL:
        if kind in kinds:
            made = paint(model, kind)
            assert (made.shape, made.dtype) == ((SIDE, SIDE, 3), np.uint8)
            assert made.std() > 5  # neither black nor plain
            assert not np.array_equal(made, paint(model, kind, seed=8))
        else:
            with pytest.raises(WrongModel, match=r"it can only .*name another model"):
                paint(model, kind)


@pytest.mark.parametrize("layout", DEFAULTS)
def test_steps_guidance_and_scheduler_are_those_that_the_model_is_made_for(layout: str):
    made = generator(layout).complete(Sampling(SIDE, SIDE))
    assert (made.steps, made.guidance, made.scheduler) == DEFAULTS[layout]
    own = generator(layout).complete(Sampling(SIDE, SIDE, steps=7, guidance=2.0))
    assert (own.steps, own.guidance) == (7, 2.0)


def test_the_lcm_scheduler_needs_few_steps_and_no_guidance_with_a_model_that_has_not_learnt_it():
    made = generator("sd").complete(Sampling(SIDE, SIDE, scheduler="lcm"))
    assert (made.steps, made.guidance, made.scheduler) == (4, 1.0, "lcm")


def test_a_single_file_paints_what_the_folder_of_the_same_weights_paints():
    for file, folder, kind in (("sd_file", "sd", "text"), ("inpainting_file", "inpainting", "inpaint")):
        assert np.array_equal(paint(generator(file), kind), paint(generator(folder), kind))


def test_files_for_float16_alone_are_enough():
    assert np.abs(paint(generator("fp16")).astype(int) - paint(generator("sd"))).mean() < 1


def test_names_of_weights_from_before_transformers_5_are_understood():
    """Weights that are not recognised would be left at random: a safety checker would see nothing."""
    from safetensors.torch import load_file

    for part in ("text_encoder", "safety_checker"):
        parts = generator("sd_strict").parts[part].state_dict()
        published = load_file(tiny_diffusion.model("sd_strict") / part / "model.safetensors")
        prefix = "text_model." if part == "text_encoder" else "vision_model."
        renamed = {name.removeprefix(prefix): weight for name, weight in published.items()}
        assert len(parts) == len(renamed)
        assert all(torch.equal(weight, renamed[name]) for name, weight in parts.items())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_precision_is_kept_whatever_is_painted(dtype: Any):
    for layout in ("sd", "sdxl"):
        model = generator(layout, Options(device="cpu", dtype=dtype))
        pictures = [paint(model, kind) for kind in ALL]
        assert model.dtype == dtype
        assert all(model.parts[part].dtype == getattr(torch, dtype) for part in ("unet", "vae", "text_encoder"))
        if dtype != "float32":
            exact = [paint(generator(layout), kind) for kind in ALL]
            assert all(np.abs(a.astype(int) - b).mean() < 4 for a, b in zip(pictures, exact, strict=True))


def test_all_kinds_of_work_share_one_set_of_weights():
    model = generator("sd")
    before = {id(part) for part in model.parts.values()}
    for kind in ALL:
        paint(model, kind)
    assert {id(part) for part in model.parts.values()} == before
    assert generator("sd") is model


def test_pickled_weights_are_opened_only_when_allowed():
    with pytest.raises(UnsafeWeights, match=r"text_encoder/pytorch_model\.bin.*allow_pickle=True"):
        generator("pickled")
    allowed = generator("pickled", Options(device="cpu", dtype="float32", allow_pickle=True))
    assert np.array_equal(paint(allowed), paint(generator("sd")))


def test_a_checkpoint_pickled_by_old_tools_is_refused(tmp_path: Path):
    torch.save({"state_dict": {}}, tmp_path / "model.ckpt")
    with pytest.raises(ModelError):
        load(tmp_path / "model.ckpt")


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ("upscaler", "StableDiffusionUpscalePipeline.*neither from text nor from other pictures"),
        ("controlnet", "not an image generator"),
    ],
)
def test_what_makes_no_pictures_by_itself_is_no_generator(layout: str, said: str):
    with pytest.raises(WrongModel, match=said):
        generator(layout)


def test_other_models_and_files_are_no_generators(tmp_path: Path, copied: Path):
    with pytest.raises(WrongModel, match="it can serve as tagger"):
        load(tiny.vit_classifier(tmp_path / "tagger", several=True))
    with pytest.raises(WrongModel, match="is an image generator|it can serve as image generator"):
        find_model(Tagger, str(copied), CPU)
    with pytest.raises(WrongModel, match=r"is a LoRA: name it in loras"):
        load(lora(tmp_path / "style.safetensors"))
    with pytest.raises(WrongModel, match="no checkpoint of Stable Diffusion"):
        load(copied / "unet" / "diffusion_pytorch_model.safetensors")
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    unet = UNet2DModel(sample_size=8, block_out_channels=(8,), norm_num_groups=4, layers_per_block=1, **blocks)
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path / "faces")
    with pytest.raises(WrongModel, match="DDPMPipeline"):
        load(tmp_path / "faces")


def test_damaged_models_are_reported_as_such(copied: Path, tmp_path: Path):
    index = json.loads((copied / "model_index.json").read_text())
    tiny.write_json(copied / "model_index.json", {**index, "_class_name": "StableTomorrowPipeline"})
    with pytest.raises(WrongModel, match="StableTomorrowPipeline.*update diffusers"):
        load(copied)
    (copied / "model_index.json").write_text("{")
    with pytest.raises(BrokenModel, match="not valid JSON"):
        load(copied)
    tiny.write_json(copied / "model_index.json", index)
    weights = copied / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BrokenModel, match="Download it again"):
        load(copied)
    weights.unlink()
    with pytest.raises(BrokenModel, match="'unet' has no weights"):
        load(copied)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(tiny_diffusion.model("sd_file").read_bytes()[:5000])
    with pytest.raises(BrokenModel, match="download it again"):
        load(cut)


def test_a_single_file_without_settings_says_where_to_get_them_and_asks_nobody_offline(monkeypatch: Any):
    def reached(*_: Any, **__: Any) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", reached)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", reached)
    with pytest.raises(ModelUnreachable, match=r"stable-diffusion-v1-5.*beside the file"):
        generator("sd_file_alone", Options(device="cpu", offline=True))


PAINT = """
import json, sys
from fiftyone_idsynth.models.loading import find_model
from fiftyone_idsynth.models.options import Options
from fiftyone_idsynth.models.roles import Generator, Sampling, Wanted
for name, offline in json.loads(sys.argv[1]):
    model = find_model(Generator, name, Options(device="cpu", dtype="float32", offline=offline))
    made = model.paint([Wanted("a red panda", 7)], Sampling(64, 64, steps=3))[0]
    print(json.dumps([model.revision, int(made.sum())]))
"""


def test_from_the_hub_only_what_is_needed_is_downloaded(tmp_path: Path):
    base, file = "stable-diffusion-v1-5/stable-diffusion-v1-5", tiny_diffusion.model("sd_file_alone")
    both = tmp_path / "both"
    shutil.copytree(tiny_diffusion.model("sd"), both)
    shutil.copy(file, both / "v1-5.safetensors")
    (both / "unet" / "diffusion_pytorch_model.bin").write_bytes(bytes(10**6))
    (both / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(bytes(10**6))
    folders = {base: tiny_diffusion.model("sd_lenient"), "tiny/sd": both}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING")) and "proxy" not in k.lower()}
    with hub_server.serve(folders) as (endpoint, requests):
        environment = {**kept, "HF_HOME": str(tmp_path / "cache"), "HF_ENDPOINT": endpoint, "PYTHONPATH": str(ROOT),
                       "HF_HUB_DISABLE_TELEMETRY": "1"}  # fmt: skip
        names = [["tiny/sd", False], [str(file), False], ["tiny/sd", True], [str(file), True]]
        done = subprocess.run(
            [sys.executable, "-c", PAINT, json.dumps(names)], capture_output=True, text=True, env=environment,
            timeout=300,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len({total for _, total in answers}) == 1  # the same weights, four times
    assert answers[0][0] == answers[2][0] == hub_server.COMMIT
    fetched = [request.rpartition(f"/{hub_server.COMMIT}/")[2] for request in requests if request.startswith("GET")]
    assert sorted(name for name in fetched if name.endswith((".safetensors", ".bin"))) == [
        "text_encoder/model.safetensors", "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ]  # fmt: skip
