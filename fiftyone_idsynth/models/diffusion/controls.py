"""ControlNets: keep the layout of a picture by its edges or its depth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import BrokenModel, WrongModel
from ..found import look_up
from ..options import Options

if TYPE_CHECKING:
    from .generator import PipelineGenerator

_WEIGHTS = "diffusion_pytorch_model.safetensors"


def load_controlnet(name: str, generator: PipelineGenerator, options: Options) -> Any:
    """Loads a ControlNet for a generator.

    Args:
        name: a hub id or folder
        generator: the model that it shall steer
        options: whether the hub may be asked

    Raises:
        WrongModel: it is none, or made for another base model
        ModelError: it cannot be found or loaded
    """
    import diffusers

    found = look_up(name, Options(device=options.device, offline=options.offline))
    made = str(found.config.get("_class_name", ""))
    if "ControlNet" not in made or not hasattr(diffusers, made):
        raise WrongModel(
            f"controlnet={name!r} is {found.kind}, no ControlNet: name one, e.g. lllyasviel/sd-controlnet-canny"
        )
    width, unet = found.config.get("cross_attention_dim"), generator.parts.get("unet")
    wanted = unet.config.get("cross_attention_dim") if unet is not None else None
    if wanted is not None and width is not None and width != wanted:
        raise WrongModel(
            f"controlnet={name!r} was made for another base model than {generator.about}: its texts are {width} wide, "
            f"the model's {wanted}"
        )
    files = [file for file in found.files if file in ("config.json", _WEIGHTS)]
    if _WEIGHTS not in files:
        raise WrongModel(f"controlnet={name!r} has no {_WEIGHTS}: name a revision or another one with safetensors")
    folder = found.fetch(files)
    try:
        loaded = getattr(diffusers, made).from_pretrained(
            folder, torch_dtype=options.torch_dtype(), use_safetensors=True
        )
    except Exception as error:  # damaged files show in many types of errors
        raise BrokenModel(f"controlnet={name!r} cannot be loaded: {str(error).splitlines()[0][:200]}") from error
    return loaded.to(generator.device)
