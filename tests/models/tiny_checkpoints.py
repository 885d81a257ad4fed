"""Writes Stable Diffusion 1.5 as a single file, named as in the original code (latent diffusion)."""

from __future__ import annotations

import json
import re
from pathlib import Path

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip

ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip

ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def to_original(pipeline: Path, path: Path) -> Path:
    """Writes the weights of a pipeline's folder into one file, and returns the file."""
    from safetensors.torch import load_file, save_file

    weights = {}
    layers = json.loads((pipeline / "unet" / "config.json").read_text())["layers_per_block"]
    for key, value in load_file(pipeline / "unet" / "diffusion_pytorch_model.safetensors").items():
        weights["model.diffusion_model." + unet_key(key, layers)] = value
    config = json.loads((pipeline / "vae" / "config.json").read_text())
    for key, value in load_file(pipeline / "vae" / "diffusion_pytorch_model.safetensors").items():
        name = vae_key(key, len(config["block_out_channels"]))
        convolution = re.search(r"attn_1\.(q|k|v|proj_out)\.weight", name)  # 1 x 1, where diffusers has linear layers
        weights["first_stage_model." + name] = value[:, :, None, None] if convolution else value
    for key, value in load_file(pipeline / "text_encoder" / "model.safetensors").items():
        weights["cond_stage_model.transformer.text_model." + key.removeprefix("text_model.")] = value
    save_file({key: value.contiguous() for key, value in weights.items()}, path)
    return path


def unet_key(key: str, layers: int) -> str:
    """The original name of a weight of the UNet.

    Args:
        key: its name in diffusers
        layers: layers per block
    """
    for ours, original in ENDS.items():
        if key.startswith(ours + "."):
            return original + key.removeprefix(ours)
    if found := re.match(r"mid_block\.(resnets|attentions)\.(\d+)\.(.*)", key):
        kind, number, rest = found[1], int(found[2]), found[3]
        return f"middle_block.{2 * number if kind == 'resnets' else 1}.{_inner(kind, rest)}"
    found = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)", key)
    assert found, key
    side, block, kind, layer, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * (layers + 1)}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":  # follows the transformers of the block's last layer; the first block has none
        return f"output_blocks.{block * (layers + 1) + layers}.{1 if block == 0 else 2}.{rest}"
    first = 1 if side == "down" else 0
    number = first + block * (layers + 1) + layer
    return f"{'input' if side == 'down' else 'output'}_blocks.{number}.{int(kind != 'resnets')}.{_inner(kind, rest)}"


def _inner(kind: str, rest: str) -> str:
    if kind != "resnets":
        return rest
    name, _, end = rest.partition(".")
    return f"{RESNET[name]}.{end}"


def vae_key(key: str, blocks: int) -> str:
    """The original name of a weight of the autoencoder.

    Args:
        key: its name in diffusers
        blocks: how many it has on each side
    """
    key = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", key)
    key = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", key)
    key = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", key)
    key = re.sub(r"up_blocks\.(\d)\.resnets", lambda found: f"up.{blocks - 1 - int(found[1])}.block", key)
    key = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda found: f"up.{blocks - 1 - int(found[1])}.upsample", key)
    if found := re.match(r"(.*)mid_block\.attentions\.0\.(group_norm|to_q|to_k|to_v|to_out\.0)\.(.*)", key):
        return f"{found[1]}mid.attn_1.{ATTENTION[found[2]]}.{found[3]}"
    return key
