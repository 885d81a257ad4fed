"""The files of a trained LoRA: in the layout of kohya's trainers, which every tool loads, and in that of diffusers."""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...media import write_atomically

if TYPE_CHECKING:
    from .base import Base
    from .examples import Example
    from .training import Rules

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
"""The name that diffusers looks for when it is given a folder."""

_ARCHITECTURES = {
    768: ("sd_v1", "stable-diffusion-v1"),
    1024: ("sd_v2", "stable-diffusion-v2"),
    2048: ("sdxl_base_v1-0", "stable-diffusion-xl-v1-base"),
}
"""Width of the texts -> kohya's and ModelSpec's name of the base model."""


def adapter_states(base: Base, parts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The trained weights as PEFT names them, on the CPU: part -> name -> tensor."""
    from peft.utils import get_peft_model_state_dict

    return {
        part: {
            name: tensor.detach().to("cpu", copy=True)
            for name, tensor in get_peft_model_state_dict(getattr(base.pipeline, part)).items()
        }
        for part in parts
    }


def kohya_bytes(base: Base, parts: Iterable[str], metadata: Mapping[str, str]) -> bytes:
    """The content of a LoRA file in the layout of kohya's trainers.

    Weights are ``lora_unet_...`` and ``lora_te_...`` (SDXL: ``lora_te1_``, ``lora_te2_``), ``lora_down`` and
    ``lora_up``, each pair with its ``alpha``. For SDXL the blocks are named as in the original UNet, as kohya does.

    Args:
        base: the model with its trained adapters
        parts: which of its parts were trained, e.g. ``("unet",)``
        metadata: what is written into the header
    """
    import torch
    from diffusers.utils.state_dict_utils import convert_state_dict_to_kohya
    from safetensors.torch import save

    states = adapter_states(base, parts)
    weights = convert_state_dict_to_kohya(
        {f"{part}.{_with_text_model(part, name)}": t for part, state in states.items() for name, t in state.items()}
    )
    alpha = torch.tensor(float(base.unet.peft_config["default"].lora_alpha))
    depth = base.unet.config.layers_per_block
    rename = _original_name if base.generator.family == "sdxl" else _first_encoder_name
    tensors = {
        rename(name, depth): alpha if name.endswith(".alpha") else _stored(tensor, base)
        for name, tensor in weights.items()
    }
    return bytes(save({name: tensor.clone() for name, tensor in tensors.items()}, dict(metadata)))


def write_diffusers(folder: Path, base: Base, parts: Iterable[str]) -> Path:
    """Writes a LoRA file in the layout of diffusers, with rank and alpha in its header; returns its path.

    Weights keep the names of PEFT: ``convert_state_dict_to_diffusers`` renames those of attention only, and a file with
    both kinds of names is read in part.
    """
    given: dict[str, Any] = {}
    for part, state in adapter_states(base, parts).items():
        given[f"{part}_lora_layers"] = {
            _with_text_model(part, name): _stored(tensor, base) for name, tensor in state.items()
        }
        given[f"{part}_lora_adapter_metadata"] = getattr(base.pipeline, part).peft_config["default"].to_dict()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as aside:
        base.pipeline.save_lora_weights(aside, **given)
        write_atomically(folder / DIFFUSERS_FILE, (Path(aside) / DIFFUSERS_FILE).read_bytes())
    return folder / DIFFUSERS_FILE


def header(
    base: Base, rules: Rules, examples: Sequence[Example], *, name: str, trigger_word: str, resolution: int, step: int
) -> dict[str, str]:
    """What a LoRA file says of itself: the keys of kohya's trainers (``ss_``) and of ModelSpec that web UIs show."""
    width = base.unet.config.cross_attention_dim
    kohya, architecture = _ARCHITECTURES.get(width, _ARCHITECTURES[2048 if base.generator.family == "sdxl" else 768])
    texts = [example.text for example in examples if not example.regular]
    tags = Counter(tag for text in texts for part in text.split(",") if (tag := part.strip()))
    kind = str(base.pipeline.scheduler.config.get("prediction_type", "epsilon"))
    shown: dict[str, Any] = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": rules.rank,
        "ss_network_alpha": rules.alpha,
        "ss_base_model_version": kohya,
        "ss_v2": kohya == "sd_v2",
        "ss_sd_model_name": base.generator.name,
        "ss_output_name": name,
        "ss_num_train_images": len(texts),
        "ss_num_reg_images": sum(example.regular for example in examples),
        "ss_steps": step,
        "ss_max_train_steps": rules.steps,
        "ss_learning_rate": rules.learning_rate,
        "ss_text_encoder_lr": rules.text_learning_rate,
        "ss_lr_scheduler": rules.schedule,
        "ss_optimizer": "torch.optim.adamw.AdamW",
        "ss_mixed_precision": {"float16": "fp16", "bfloat16": "bf16"}.get(base.precision, "no"),
        "ss_min_snr_gamma": rules.snr_gamma,
        "ss_gradient_accumulation_steps": rules.accumulation,
        "ss_total_batch_size": rules.batch_size * rules.accumulation,
        "ss_resolution": f"({resolution}, {resolution})",
        "ss_enable_bucket": True,
        "ss_seed": rules.seed,
        "ss_tag_frequency": json.dumps({name: dict(tags.most_common(200))}, ensure_ascii=False),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{architecture}/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": name,
        "modelspec.resolution": f"{resolution}x{resolution}",
        "modelspec.prediction_type": "v" if kind == "v_prediction" else kind,
        "modelspec.trigger_phrase": trigger_word,
        "idsynth_base_revision": base.generator.revision,
    }
    return {key: str(value) for key, value in shown.items()}


def _stored(tensor: Any, base: Base) -> Any:
    """Weights are stored in 16 bits, as web UIs expect, unless the model itself was trained in 32."""
    import torch

    return tensor.to(torch.float32 if base.precision == "float32" else torch.float16).contiguous()


def _with_text_model(part: str, name: str) -> str:
    """The name of a weight as all tools know it; transformers 5 leaves ``text_model`` out in some text encoders."""
    return f"text_model.{name}" if part.startswith("text_encoder") and not name.startswith("text_model.") else name


def _first_encoder_name(name: str, depth: int) -> str:
    """kohya numbers the text encoders only where there are two."""
    return name.replace("lora_te1_", "lora_te_")


_BLOCK = re.compile(r"lora_unet_(?:(down|up)_blocks_(\d+)_attentions_(\d+)|mid_block_attentions_0)_(.+)")


def _original_name(name: str, depth: int) -> str:
    """The name of a weight of SDXL's UNet as in the original, where blocks are numbered through.

    Args:
        name: with the blocks of diffusers
        depth: layers per block
    """
    match = _BLOCK.fullmatch(name)
    if match is None:
        return name
    way, block, layer, rest = match.groups()
    if way is None:
        return f"lora_unet_middle_block_1_{rest}"
    number = int(block) * (depth + 1) + int(layer)
    return f"lora_unet_{'input' if way == 'down' else 'output'}_blocks_{number + (way == 'down')}_1_{rest}"
