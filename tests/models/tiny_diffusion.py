"""Tiny diffusion models with random weights, in folders laid out as published ones are.

``model("sd")`` gives the folder of a layout (a key of :data:`LAYOUTS`), written once per process; tests must not change
it, but may copy it. Pictures of 64 x 64 pixels are those that the models are made for; a prompt is spelt letter by
letter, of which the text encoder reads 75.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.models import tiny

SIDE = 64
TEXT = 32
"""Width of the texts of the small Stable Diffusion; SDXL, which has two text encoders, has twice as much."""


@functools.cache
def _root() -> Path:
    root = Path(tempfile.mkdtemp(prefix="idsynth-tiny-diffusion-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root


@functools.cache
def model(layout: str) -> Path:
    """The folder, or file, of a layout."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with _quiet():
            return LAYOUTS[layout](_root() / layout)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    import diffusers

    before = diffusers.utils.logging.get_verbosity()
    diffusers.utils.logging.set_verbosity_error()
    try:
        yield
    finally:
        diffusers.utils.logging.set_verbosity(before)


def vae(latents: int = 4, **more: Any) -> Any:
    """An autoencoder that makes eight times fewer rows and columns, as that of Stable Diffusion does."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=latents, sample_size=SIDE, norm_num_groups=2,
        block_out_channels=(4, 4, 8, 8), layers_per_block=1, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, **more,
    )  # fmt: skip


def unet(channels: int = 4, **more: Any) -> Any:
    """The UNet of Stable Diffusion 1.x with one layer per block.

    Args:
        channels (4): of its input: 9 for inpainting, 5 with depth
        **more: settings
    """
    from diffusers import UNet2DConditionModel

    cross = "CrossAttnDownBlock2D"
    return UNet2DConditionModel(
        sample_size=SIDE // 8, in_channels=channels, out_channels=4, layers_per_block=1, norm_num_groups=4,
        block_out_channels=(8, 16, 16, 16), attention_head_dim=2, down_block_types=(cross, cross, cross, "DownBlock2D"),
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3), **{"cross_attention_dim": TEXT, **more},
    )  # fmt: skip


def unet_xl(**more: Any) -> Any:
    """The UNet of SDXL: it is told sizes, and has several transformers in a row."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIDE // 8, in_channels=4, out_channels=4, layers_per_block=2, norm_num_groups=4,
        block_out_channels=(8, 16, 16), attention_head_dim=(2, 4, 4), transformer_layers_per_block=(1, 1, 2),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=8 * 6 + TEXT, cross_attention_dim=2 * TEXT, **more,
    )  # fmt: skip


def text_config(tokenizer: Any) -> Any:
    """A text encoder of CLIP's kind."""
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=TEXT, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, projection_dim=TEXT,
    )  # fmt: skip


def texts() -> dict[str, Any]:
    """Tokenizer and text encoder of Stable Diffusion."""
    from transformers import CLIPTextModel

    tokenizer = tiny.byte_tokenizer()
    return {"tokenizer": tokenizer, "text_encoder": CLIPTextModel(text_config(tokenizer))}


def two_texts(first_projects: bool = False) -> dict[str, Any]:
    """The tokenizers and text encoders of SDXL; of SD3 if the first one has a projection too."""
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    tokenizer = tiny.byte_tokenizer()
    first = CLIPTextModelWithProjection if first_projects else CLIPTextModel
    return {
        "tokenizer": tokenizer, "text_encoder": first(text_config(tokenizer)),
        "tokenizer_2": tiny.byte_tokenizer(), "text_encoder_2": CLIPTextModelWithProjection(text_config(tokenizer)),
    }  # fmt: skip


def t5(width: int = TEXT) -> Any:
    """The text encoder that SD3 and Flux have besides CLIP."""
    from transformers import T5Config, T5EncoderModel

    entries = len(tiny.byte_tokenizer())
    return T5EncoderModel(T5Config(vocab_size=entries, d_model=width, d_kv=8, d_ff=37, num_layers=1, num_heads=4))


NOISE = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
    "steps_offset": 1,
}  # fmt: skip
"""The noise schedule of Stable Diffusion."""


def pndm() -> Any:
    """The scheduler that Stable Diffusion 1.5 comes with."""
    from diffusers import PNDMScheduler

    return PNDMScheduler(**NOISE, skip_prk_steps=True, set_alpha_to_one=False)


WITHOUT_CHECKER = ("StableDiffusionDepth2ImgPipeline", "StableDiffusionUpscalePipeline")
"""Pipelines for which no safety checker is known."""


def sd(folder: Path, made: str = "StableDiffusionPipeline", **parts: Any) -> Path:
    """Stable Diffusion 1.5.

    Args:
        folder: where to
        made ("StableDiffusionPipeline"): the pipeline's class
        **parts: instead of the usual ones
    """
    import diffusers

    checked = parts.get("safety_checker") is not None
    usual = {"vae": vae(), "unet": unet(), "scheduler": pndm(), **texts()}
    if made not in WITHOUT_CHECKER:
        usual |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": checked}
    getattr(diffusers, made)(**{**usual, **parts}).save_pretrained(folder)
    _rename(folder / "text_encoder" / "model.safetensors", _in_text_model)
    return folder


def sd_checked(folder: Path, strict: bool) -> Path:
    """Stable Diffusion 1.5 with a safety checker, which refuses every picture (``strict``) or none."""
    import torch
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    vision = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4,
              "image_size": 32, "patch_size": 8}  # fmt: skip
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=16))
    with torch.no_grad():
        # Cosines lie between -1 and 1: each is above the one threshold, none above the other.
        for thresholds in (checker.concept_embeds_weights, checker.special_care_embeds_weights):
            thresholds.fill_(-2.0 if strict else 2.0)
    prepare = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    sd(folder, safety_checker=checker, feature_extractor=prepare)
    weights = folder / "safety_checker" / "model.safetensors"
    _rename(weights, lambda name: f"vision_model.{name}" if name.startswith("vision_model.") else name)
    return folder


def inpainting(folder: Path) -> Path:
    """A model trained for inpainting alone, like Stable Diffusion Inpainting: its UNet has nine channels."""
    return sd(folder, "StableDiffusionInpaintPipeline", unet=unet(channels=9))


def depth(folder: Path) -> Path:
    """Stable Diffusion 2 with depth."""
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

    config = DPTConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=37, image_size=64, patch_size=16,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[16, 16, 16, 16], fusion_hidden_size=16, is_hybrid=False,
    )  # fmt: skip
    return sd(
        folder, "StableDiffusionDepth2ImgPipeline", unet=unet(channels=5),
        depth_estimator=DPTForDepthEstimation(config),
        feature_extractor=DPTImageProcessor(size={"height": 64, "width": 64}),
    )  # fmt: skip


def lcm(folder: Path) -> Path:
    """A latent consistency model, like LCM Dreamshaper v7: guidance is an input of its UNet."""
    from diffusers import LCMScheduler

    return sd(
        folder, "LatentConsistencyModelPipeline", unet=unet(time_cond_proj_dim=16),
        scheduler=LCMScheduler(**{name: value for name, value in NOISE.items() if name != "steps_offset"}),
    )  # fmt: skip


def sd_turbo(folder: Path) -> Path:
    """SD-Turbo: Euler steps with trailing timesteps."""
    from diffusers import EulerDiscreteScheduler

    return sd(folder, scheduler=EulerDiscreteScheduler(**NOISE, timestep_spacing="trailing"))


def sdxl(folder: Path, scheduler: Any = None) -> Path:
    """SDXL."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    scheduler = scheduler or EulerDiscreteScheduler(**NOISE, timestep_spacing="leading")
    StableDiffusionXLPipeline(
        vae=vae(), unet=unet_xl(), scheduler=scheduler, add_watermarker=False, **two_texts()
    ).save_pretrained(folder)
    _rename(folder / "text_encoder" / "model.safetensors", _in_text_model)
    return folder


def sdxl_turbo(folder: Path) -> Path:
    """SDXL-Turbo: ancestral Euler steps with trailing timesteps."""
    from diffusers import EulerAncestralDiscreteScheduler

    return sdxl(folder, EulerAncestralDiscreteScheduler(**NOISE, timestep_spacing="trailing"))


def sd3(folder: Path, with_t5: bool = True) -> Path:
    """Stable Diffusion 3."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    transformer = SD3Transformer2DModel(
        sample_size=SIDE // 8, patch_size=2, in_channels=16, out_channels=16, num_layers=1, attention_head_dim=8,
        num_attention_heads=4, caption_projection_dim=32, joint_attention_dim=2 * TEXT, pooled_projection_dim=2 * TEXT,
        pos_embed_max_size=32,
    )  # fmt: skip
    third = {"text_encoder_3": None, "tokenizer_3": None}
    if with_t5:  # it is as wide as the texts of both CLIP encoders side by side
        third = {"text_encoder_3": t5(width=2 * TEXT), "tokenizer_3": tiny.byte_tokenizer()}
    StableDiffusion3Pipeline(
        transformer=transformer, vae=vae(latents=16, shift_factor=0.0, scaling_factor=1.0),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), **two_texts(first_projects=True), **third,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def flux(folder: Path) -> Path:
    """Flux."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=TEXT, pooled_projection_dim=TEXT, axes_dims_rope=[4, 4, 8], guidance_embeds=True,
    )  # fmt: skip
    FluxPipeline(
        transformer=transformer, vae=vae(latents=1, shift_factor=0.0, scaling_factor=1.5), **texts(),
        scheduler=FlowMatchEulerDiscreteScheduler(), text_encoder_2=t5(), tokenizer_2=tiny.byte_tokenizer(),
    ).save_pretrained(folder)  # fmt: skip
    return folder


def upscaler(folder: Path) -> Path:
    """A pipeline that makes pictures larger, which is no generator."""
    from diffusers import DDPMScheduler

    return sd(
        folder, "StableDiffusionUpscalePipeline", unet=unet(channels=7, num_class_embeds=1000),
        low_res_scheduler=DDPMScheduler(), watermarker=None, max_noise_level=350,
    )  # fmt: skip


def controlnet(folder: Path, **more: Any) -> Path:
    """A ControlNet for the small Stable Diffusion.

    Args:
        folder: where to
        **more: settings of the UNet that it is made for
    """
    import torch
    from diffusers import ControlNetModel

    control = ControlNetModel.from_unet(unet(**more), load_weights_from_unet=False)
    # A ControlNet starts with zeros in the layers that lead out of it, and changes nothing until it is trained.
    for block in (*control.controlnet_down_blocks, control.controlnet_mid_block):
        torch.nn.init.normal_(block.weight, std=0.5)
    for layer in control.controlnet_cond_embedding.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    control.save_pretrained(folder)
    return folder


def pickled(folder: Path) -> Path:
    """Stable Diffusion 1.5 in a folder without safetensors, as old models are."""
    import torch
    from safetensors.torch import load_file

    shutil.copytree(model("sd"), folder)
    for path in folder.rglob("*.safetensors"):
        name = "pytorch_model.bin" if path.name == "model.safetensors" else "diffusion_pytorch_model.bin"
        torch.save(load_file(path), path.with_name(name))
        path.unlink()
    return folder


def fp16(folder: Path) -> Path:
    """Stable Diffusion 1.5 of which there are only the files for float16."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(model("sd"), folder)
    for path in folder.rglob("*.safetensors"):
        halves = {name: weight.to(torch.float16) for name, weight in load_file(path).items()}
        save_file(halves, path.with_name(f"{path.stem}.fp16.safetensors"), {"format": "pt"})
        path.unlink()
    return folder


def _in_text_model(name: str) -> str:
    return name if name.startswith("text_model.") else f"text_model.{name}"


def _rename(path: Path, new: Callable[[str], str]) -> None:
    """Names weights as in the files on the hub, which are older than transformers 5."""
    from safetensors.torch import load_file, save_file

    save_file({new(name): weight for name, weight in load_file(path).items()}, path, {"format": "pt"})


def checkpoint(folder: Path, channels: int = 4, settings: bool = True) -> Path:
    """Stable Diffusion 1.5 as a single file in the layout of the original code.

    Args:
        folder: where to
        channels (4): of the UNet's input: 9 for inpainting
        settings (True): whether the settings of the parts lie beside the file

    Returns:
        the file
    """
    from tests.models.tiny_checkpoints import to_original

    source = model("sd" if channels == 4 else "inpainting")
    folder.mkdir()
    if settings:
        for path in source.rglob("*"):
            if path.is_file() and path.suffix != ".safetensors":
                (folder / path.relative_to(source)).parent.mkdir(exist_ok=True)
                shutil.copy(path, folder / path.relative_to(source))
    return to_original(source, folder / "checkpoint.safetensors")


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "sd": sd,
    "sd_strict": functools.partial(sd_checked, strict=True),
    "sd_lenient": functools.partial(sd_checked, strict=False),
    "sd_turbo": sd_turbo,
    "sd_file": checkpoint,
    "sd_file_alone": functools.partial(checkpoint, settings=False),
    "inpainting": inpainting,
    "inpainting_file": functools.partial(checkpoint, channels=9),
    "depth": depth,
    "lcm": lcm,
    "sdxl": sdxl,
    "sdxl_turbo": sdxl_turbo,
    "sd3": sd3,
    "sd3_without_t5": functools.partial(sd3, with_t5=False),
    "flux": flux,
    "upscaler": upscaler,
    "controlnet": controlnet,
    "controlnet_other_base": functools.partial(controlnet, cross_attention_dim=2 * TEXT),
    "pickled": pickled,
    "fp16": fp16,
}
"""Layout -> what writes it."""
