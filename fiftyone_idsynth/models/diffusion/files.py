"""Which files of a diffusion model are needed, and what a single-file checkpoint is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import BrokenModel, ModelUnreachable, UnsafeWeights, WrongModel
from ..found import Found
from ..options import Options

INDEX = "model_index.json"
"""Names the parts of a pipeline and their classes."""

_SETTINGS = (".json", ".txt", ".model", ".jinja")


def read_index(found: Found) -> dict[str, Any]:
    """The parts of a pipeline: name -> (library, class).

    Raises:
        BrokenModel: the file is damaged
    """
    path = found.fetch([INDEX]) / INDEX
    try:
        index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BrokenModel(f"{path} is not valid JSON ({error}): download the model again") from error
    return index


def pipeline_files(found: Found, options: Options) -> tuple[list[str], str | None]:
    """Chooses the files of a pipeline.

    Args:
        found: where it is
        options: whether pickled weights may be opened

    Returns:
        the files, and their variant, e.g. ``"fp16"``, for a model that has no others

    Raises:
        UnsafeWeights: a part has only pickled weights, and these are not allowed
        BrokenModel: a part has no weights
    """
    files, variants = settings_files(found), set()
    for part in _parts(found):
        inside = [file for file in found.files if file.startswith(f"{part}/")]
        if any(f"{part}/{name}" in inside for name in ("scheduler_config.json", "tokenizer_config.json")) or not any(
            file == f"{part}/config.json" for file in inside
        ):
            continue  # it has no weights
        weights, variant = _weights(found, part, inside, options)
        files += weights
        variants.add(variant)
    named = variants - {""}
    return files, named.pop() if len(named) == 1 and "" not in variants else None


def settings_files(found: Found) -> list[str]:
    """The files of a pipeline without the weights of its parts."""
    starts = tuple(f"{part}/" for part in _parts(found))
    return [INDEX, *(file for file in found.files if file.startswith(starts) and file.endswith(_SETTINGS))]


def _parts(found: Found) -> list[str]:
    return [name for name, made in read_index(found).items() if isinstance(made, list) and len(made) == 2 and made[0]]


def _weights(found: Found, part: str, inside: list[str], options: Options) -> tuple[list[str], str]:
    """The weights of a part, and their variant."""
    for ending in (".safetensors", ".bin"):
        names = [file for file in inside if file.endswith(ending) and "flax" not in file]
        if not names:
            continue
        if ending == ".bin" and not options.allow_pickle:
            raise UnsafeWeights(
                f"{found.name} has the weights of its {part} only in {names[0]}, a pickled file, which can run any "
                "code when it is opened. Name a model or revision with .safetensors files, or, if you trust its "
                "makers, set allow_pickle=True"
            )
        by_variant: dict[str, list[str]] = {}
        for name in names:
            stem = name.rpartition("/")[2].removesuffix(ending).split("-000")[0]
            by_variant.setdefault(stem.partition(".")[2], []).append(name)
        variant = "" if "" in by_variant else sorted(by_variant)[0]
        return by_variant[variant], variant
    if found.repo and found.folder:
        raise ModelUnreachable(
            f"{found.name}: the cache has only a part of it (no weights in {part}). Load it once with network"
        )
    raise BrokenModel(f"{found.name}: the folder {part!r} has no weights: download the whole model again")


def checkpoint_class(path: Path) -> str:
    """The pipeline of diffusers that opens a single-file checkpoint.

    Args:
        path: a ``.safetensors`` file in the layout of the original Stable Diffusion

    Raises:
        WrongModel: it is no such checkpoint
        BrokenModel: it is damaged
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            keys = set(file.keys())
            start = "model.diffusion_model.input_blocks.0.0.weight"
            channels = file.get_slice(start).get_shape()[1] if start in keys else 0
    except (SafetensorError, OSError) as error:
        raise BrokenModel(f"{path} cannot be read ({error}): download it again") from error
    if not channels:
        lora = any("lora" in key.lower() for key in keys)
        what = (
            "a LoRA: name it in loras, beside its base model" if lora else "no checkpoint of Stable Diffusion or SDXL"
        )
        raise WrongModel(f"{path} is {what}")
    base = "StableDiffusionXL" if any(key.startswith("conditioner.embedders") for key in keys) else "StableDiffusion"
    return f"{base}{'Inpaint' if channels == 9 else ''}Pipeline"


def base_model(path: Path) -> str:
    """The hub id of the model whose settings a single-file checkpoint has, as diffusers tells by its weights."""
    import torch
    from diffusers.loaders.single_file_utils import fetch_diffusers_config
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
    weights = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    return str(fetch_diffusers_config(weights)["pretrained_model_name_or_path"])
