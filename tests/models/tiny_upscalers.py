"""Tiny super-resolution models of the published families, with random weights, or made to repeat pixels and change them
a little."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def swin2sr(folder: Path, *, scale: int = 2, upsampler: str = "pixelshuffledirect") -> Path:
    """A Swin2SR with windows of 4 x 4 pixels, whose output depends on 12 pixels around."""
    import torch
    from transformers import Swin2SRConfig, Swin2SRForImageSuperResolution, Swin2SRImageProcessor

    torch.manual_seed(0)
    config = Swin2SRConfig(
        image_size=16, patch_size=1, embed_dim=12, depths=[2], num_heads=[2], window_size=4, mlp_ratio=2.0,
        upscale=scale, upsampler=upsampler,
    )  # fmt: skip
    Swin2SRForImageSuperResolution(config).save_pretrained(folder)
    Swin2SRImageProcessor().save_pretrained(folder)
    return folder


def esrgan_compact(path: Path, *, scale: int = 2, pickled: bool = False) -> Path:
    """A network in the layout of Real-ESRGAN's compact model (SRVGG): it adds to the enlarged picture."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    parts: list[tuple[str, Any]] = [("body.0", torch.nn.Conv2d(3, 8, 3)), ("body.2", torch.nn.Conv2d(8, 8, 3))]
    parts.append(("body.4", torch.nn.Conv2d(8, 3 * scale**2, 3)))
    state = {f"{name}.{key}": tensor.clone() for name, part in parts for key, tensor in part.state_dict().items()}
    state |= {f"body.{number}.weight": torch.full((8,), 0.2) for number in (1, 3)}
    if pickled:
        torch.save(state, path)
    else:
        save_file(state, path)
    return path
