"""LoRA files with random weights for the models of ``tiny_diffusion``, named as the tools that train them do."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from tests.models import tiny_diffusion
from tests.models.tiny_checkpoints import unet_key

Layout = Literal["diffusers", "peft", "kohya"]

RANK = 4

UNET = (".to_q", ".to_k", ".to_v", ".to_out.0")
TEXTS = (".q_proj", ".k_proj", ".v_proj", ".out_proj")
"""The layers that a LoRA changes."""


def lora(path: Path, base: str = "sd", layout: Layout = "diffusers", parts: Iterable[str] = ("unet",)) -> Path:
    """Writes a LoRA.

    Args:
        path: the file; the same weights whatever the layout
        base ("sd"): the layout of the model that it changes, ``"sd"`` or ``"sdxl"``
        layout ("diffusers"): how its weights are named
        parts (("unet",)): what it changes, of ``"unet"``, ``"text_encoder"`` and ``"text_encoder_2"``
    """
    import torch
    from safetensors.torch import save_file

    random = torch.Generator().manual_seed(0)
    weights: dict[str, torch.Tensor] = {}
    for part in parts:
        for name, layer in _layers(base, part):
            down, up = (f"{_key(layout, base, part, name)}.{end}" for end in _ends(layout, part))
            weights[down] = torch.randn(RANK, layer.in_features, generator=random)
            weights[up] = torch.randn(layer.out_features, RANK, generator=random) * 0.2
            if layout == "kohya":
                weights[down.replace("lora_down.weight", "alpha")] = torch.tensor(float(RANK))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path, {"format": "pt"})
    return path


def _layers(base: str, part: str) -> list[tuple[str, Any]]:
    if part == "unet":
        whole, ends = tiny_diffusion.unet() if base == "sd" else tiny_diffusion.unet_xl(), UNET
    else:
        whole, ends = tiny_diffusion.two_texts()[part], TEXTS
    return [(name, layer) for name, layer in whole.named_modules() if name.endswith(ends)]


def _ends(layout: Layout, part: str) -> tuple[str, str]:
    if layout == "diffusers":
        between = "lora" if part == "unet" else "lora_linear_layer"
        return f"{between}.down.weight", f"{between}.up.weight"
    return ("lora_A.weight", "lora_B.weight") if layout == "peft" else ("lora_down.weight", "lora_up.weight")


def _key(layout: Layout, base: str, part: str, name: str) -> str:
    if part != "unet":
        name = "text_model." + name.removeprefix("text_model.")  # as in all files that there are
    if layout != "kohya":
        return f"{part}.{name}"
    if part == "unet":
        original = unet_key(name + ".weight", layers=2).removesuffix(".weight") if base == "sdxl" else name
        return "lora_unet_" + original.replace(".", "_")
    number = "" if base == "sd" else "2" if part.endswith("_2") else "1"
    return f"lora_te{number}_" + name.replace(".", "_")
