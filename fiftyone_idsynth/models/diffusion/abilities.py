"""What a pipeline of diffusers can do, and for which sizes it is made."""

from __future__ import annotations

import inspect
from typing import Any

_INPAINTING_CHANNELS = 9
"""Inputs of a UNet that was trained for inpainting: latents, those of the masked picture, and the mask."""

_DEPTH_CHANNELS = 5
"""Inputs of a UNet that looks at the depth of the picture as well."""


def unit_of(pipeline: Any) -> int:
    """What the sides of a picture must divide by."""
    factor = int(getattr(pipeline, "vae_scale_factor", 8) or 8)
    transformer = getattr(pipeline, "transformer", None)
    if transformer is None:
        return max(8, factor)  # the pipelines with a UNet check for 8 whatever the autoencoder's factor
    if type(pipeline).__name__.startswith("Flux"):
        return factor * 2  # it packs two latents by two, whatever its patch size says
    patch = transformer.config.get("patch_size")
    return factor * (patch if isinstance(patch, int) else 1)


def side_of(pipeline: Any) -> int:
    """The side in pixels that it was trained with."""
    denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    size = denoiser.config.get("sample_size") if denoiser is not None else None
    if isinstance(size, (list, tuple)):
        size = max(size)
    factor = int(getattr(pipeline, "vae_scale_factor", 8) or 8)
    return factor * int(size or getattr(pipeline, "default_sample_size", None) or 64)


def family_of(parts: dict[str, Any]) -> str:
    """``"sd"``, ``"sdxl"`` or ``"other"``, by the parts it has."""
    if parts.get("unet") is None or "text_encoder" not in parts:
        return "other"
    return "sdxl" if "text_encoder_2" in parts else "sd"


def does(pipeline: Any, kind: str) -> bool:
    """Whether a pipeline does a kind of work as it is."""
    known = inspect.signature(type(pipeline).__call__).parameters
    if "image" in known:  # without a strength it makes pictures larger, or follows instructions
        has = "inpaint" if "mask_image" in known else "image" if "strength" in known else ""
    else:  # others make sounds, videos, or pictures without being asked for something
        has = "text" if {"prompt", "height"} <= set(known) and "num_frames" not in known else ""
    return has == kind


def kinds_of(pipeline: Any) -> tuple[str, ...]:
    """What a pipeline and the others that are made of its parts can do."""
    from diffusers.pipelines.auto_pipeline import (
        AUTO_IMAGE2IMAGE_PIPELINES_MAPPING,
        AUTO_INPAINT_PIPELINES_MAPPING,
        AUTO_TEXT2IMAGE_PIPELINES_MAPPING,
    )

    unet = getattr(pipeline, "unet", None)
    channels = unet.config.get("in_channels") if unet is not None else None
    if channels == _INPAINTING_CHANNELS:
        return ("inpaint",)
    if channels == _DEPTH_CHANNELS:
        return ("image",)
    tables = {
        "text": AUTO_TEXT2IMAGE_PIPELINES_MAPPING,
        "image": AUTO_IMAGE2IMAGE_PIPELINES_MAPPING,
        "inpaint": AUTO_INPAINT_PIPELINES_MAPPING,
    }
    names = {name for table in tables.values() for name, made in table.items() if made is type(pipeline)}
    return tuple(kind for kind, table in tables.items() if names & set(table) or does(pipeline, kind))
