"""LoRA files: finds them, says whether they fit a model, and switches them on and off."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import BrokenModel, ModelNotFound, WrongModel
from ..found import Found, look_up
from ..options import Options

_TEXT_INPUT = re.compile(r"attn2[._]to_k[._].*?(lora_A|lora_down|down|lora\.down)\.(?:\w+\.)?weight$")
"""The input of a cross-attention: as wide as the texts of the model that a LoRA was made for."""


def find_lora(name: str, options: Options) -> Path:
    """Finds the file of a LoRA.

    Args:
        name: a ``.safetensors`` file, a folder or hub id with one, or ``OWNER/NAME/FILE.safetensors`` on the hub
        options: whether the hub may be asked

    Raises:
        ModelError: there is none, or more than one
    """
    found = look_up(name, Options(device=options.device, offline=options.offline))
    return found.fetch([file := _only_file(found)]) / file


def _only_file(found: Found) -> str:
    if found.file:
        return found.file
    files = [file for file in found.files if file.endswith(".safetensors")]
    if "pytorch_lora_weights.safetensors" in files:  # as diffusers names it
        return "pytorch_lora_weights.safetensors"
    if len(files) == 1:
        return files[0]
    if not files:
        raise ModelNotFound(f"{found.name} has no LoRA file (.safetensors): name the file, or another folder or hub id")
    raise ModelNotFound(f"{found.name} has several files: name one of {', '.join(sorted(files)[:5])}")


def check_lora(path: Path, parts: dict[str, Any], about: str) -> None:
    """Looks whether a LoRA was made for the kind of model that it shall change.

    Args:
        path: its file
        parts: the parts of the model
        about: what the model is called

    Raises:
        WrongModel: it is no LoRA, or one for another base model
        BrokenModel: the file is damaged
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BrokenModel(f"{path} cannot be read ({error}): download it again") from error
    if not any("lora" in key.lower() for key in shapes):
        raise WrongModel(f"{path} is no LoRA: none of its {len(shapes)} weights is named as one")
    unet = parts.get("unet")
    widths = {shape[1] for key, shape in shapes.items() if _TEXT_INPUT.search(key) and len(shape) >= 2}
    wanted = unet.config.get("cross_attention_dim") if unet is not None else None
    if isinstance(wanted, int) and widths and wanted not in widths:
        raise WrongModel(
            f"the LoRA {path} was made for another base model: its texts are {min(widths)} wide "
            f"({_BASES.get(min(widths), 'of a kind that is not known')}), those of {about} {wanted} "
            f"({_BASES.get(wanted, 'of a kind that is not known')}). Name a LoRA for this model, or its own base model"
        )


_BASES = {768: "as in Stable Diffusion 1.x", 1024: "as in Stable Diffusion 2.x", 2048: "as in SDXL"}


def use_loras(pipeline: Any, loras: Sequence[tuple[Path, float]], about: str) -> None:
    """Switches to these LoRA files, instead of those before.

    Args:
        pipeline: the model, as a pipeline of diffusers
        loras: files, each with its strength
        about: what the model is called

    Raises:
        WrongModel: one does not fit the model
    """
    if not hasattr(pipeline, "load_lora_weights"):
        raise WrongModel(f"{about} ({type(pipeline).__name__}) takes no LoRA: leave loras empty, or name another model")
    pipeline.unload_lora_weights()
    names = [f"lora_{number}" for number in range(len(loras))]
    for name, (path, _) in zip(names, loras, strict=True):
        try:
            pipeline.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=name)
        except Exception as error:  # what does not fit shows in many types of errors
            pipeline.unload_lora_weights()
            raise WrongModel(f"the LoRA {path} does not fit {about}: {str(error).splitlines()[0][:200]}") from error
        if not any(name in adapters for adapters in pipeline.get_list_adapters().values()):
            pipeline.unload_lora_weights()
            raise WrongModel(f"the LoRA {path} changes nothing in {about}: it was made for another base model")
    if loras:
        pipeline.set_adapters(names, [strength for _, strength in loras])
