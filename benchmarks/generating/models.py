"""Diffusion models of published sizes with random weights, which cost what trained ones cost, and tiny ones.

Written to folders in float16, as the files for GPUs on the hub are.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

Size = Literal["published", "tiny"]

NOISE = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
}  # fmt: skip

_TINY_TEXT = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}


def sd(folder: Path, size: Size) -> None:
    """Stable Diffusion 1.5: 860 million weights in the UNet, 84 in the autoencoder, 123 in the text encoder."""
    from diffusers import PNDMScheduler

    pndm = PNDMScheduler(**NOISE, steps_offset=1, skip_prk_steps=True, set_alpha_to_one=False)
    _sd(folder, size, "StableDiffusionPipeline", pndm, {})


def lcm(folder: Path, size: Size) -> None:
    """A latent consistency model from Stable Diffusion 1.5, like LCM Dreamshaper v7."""
    from diffusers import LCMScheduler

    _sd(folder, size, "LatentConsistencyModelPipeline", LCMScheduler(**NOISE), {"time_cond_proj_dim": 256})


def sdxl(folder: Path, size: Size) -> None:
    """SDXL: 2.6 billion weights in the UNet, 84 million in the autoencoder, 123 and 695 in the text encoders."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    published = size == "published"
    tokenizer = _tokenizer(published)
    wide = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
            "projection_dim": 1280, "hidden_act": "gelu"}  # fmt: skip
    shape: dict[str, Any] = {
        "sample_size": 128, "block_out_channels": (320, 640, 1280), "attention_head_dim": (5, 10, 20),
        "transformer_layers_per_block": (1, 2, 10), "cross_attention_dim": 2048, "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    }  # fmt: skip
    if not published:
        wide = {**_TINY_TEXT, "projection_dim": 32}
        shape = {
            "sample_size": 8, "block_out_channels": (8, 16, 16), "attention_head_dim": (2, 4, 4), "norm_num_groups": 4,
            "transformer_layers_per_block": (1, 1, 1), "cross_attention_dim": 64, "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 8 * 6 + 32,
        }  # fmt: skip
    cross = "CrossAttnDownBlock2D"
    unet = UNet2DConditionModel(
        **shape, layers_per_block=2, use_linear_projection=True, addition_embed_type="text_time",
        down_block_types=("DownBlock2D", cross, cross),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    pipeline = StableDiffusionXLPipeline(
        vae=_vae(published, scaling_factor=0.13025), unet=unet, add_watermarker=False,
        scheduler=EulerDiscreteScheduler(**NOISE, steps_offset=1, timestep_spacing="leading"),
        text_encoder=CLIPTextModel(_text_config(tokenizer, published)), tokenizer=tokenizer,
        text_encoder_2=CLIPTextModelWithProjection(_text_config(tokenizer, published, **wide)), tokenizer_2=tokenizer,
    )  # fmt: skip
    _save(pipeline, folder)


BUILDERS: dict[str, Callable[[Path, Size], None]] = {"sd": sd, "sdxl": sdxl, "lcm": lcm}

SIDES = {"published": {"sd": 512, "lcm": 512, "sdxl": 1024}, "tiny": {"sd": 64, "lcm": 64, "sdxl": 64}}
"""Size of the model -> kind -> the side of the pictures, in pixels, that such a model is trained with."""


def build(kind: str, folder: Path, size: Size) -> Path:
    """Writes a model (a key of :data:`BUILDERS`), with the same weights each time.

    Returns:
        its folder
    """
    import torch

    torch.manual_seed(0)
    target = folder / f"{kind}-{size}"
    BUILDERS[kind](target, size)
    return target


def _sd(folder: Path, size: Size, made: str, scheduler: Any, more: dict[str, Any]) -> None:
    import diffusers
    from transformers import CLIPTextModel

    published = size == "published"
    tokenizer = _tokenizer(published)
    shape: dict[str, Any] = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
    if not published:
        shape = {
            "sample_size": 8, "cross_attention_dim": 32, "attention_head_dim": 2, "norm_num_groups": 4,
            "block_out_channels": (8, 16, 16, 16), "layers_per_block": 1,
        }  # fmt: skip
    pipeline = getattr(diffusers, made)(
        vae=_vae(published), unet=diffusers.UNet2DConditionModel(**shape, **more), scheduler=scheduler,
        text_encoder=CLIPTextModel(_text_config(tokenizer, published)), tokenizer=tokenizer, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    _save(pipeline, folder)


def _save(pipeline: Any, folder: Path) -> None:
    import torch

    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(folder)


def _vae(published: bool, **more: Any) -> Any:
    from diffusers import AutoencoderKL

    shape: dict[str, Any] = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 512}
    if not published:
        shape = {"block_out_channels": (4, 4, 8, 8), "layers_per_block": 1, "sample_size": 64, "norm_num_groups": 2}
    return AutoencoderKL(
        **shape, latent_channels=4, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, **more,
    )  # fmt: skip


def _text_config(tokenizer: Any, published: bool, **more: Any) -> Any:
    from transformers import CLIPTextConfig

    base = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    shape = {**(base if published else _TINY_TEXT), **more}
    return CLIPTextConfig(
        vocab_size=len(tokenizer), max_position_embeddings=77, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        **{"projection_dim": shape["hidden_size"], **shape},
    )  # fmt: skip


def _tokenizer(published: bool) -> Any:
    """CLIP's tokenizer over single bytes, with names of no meaning up to the published number of entries."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    known = [*letters, *(letter + "</w>" for letter in letters)]
    words = [f"word{number}" for number in range(49_408 - len(known) - 2 if published else 0)]
    # CLIP pools at the highest id: it must be that of the end.
    names = [*known, *words, "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={name: number for number, name in enumerate(names)}, merges=[], model_max_length=77)
