"""Super-resolution by single files in the layouts that spandrel knows: ESRGAN, SwinIR, HAT, DAT, SPAN and others."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MissingExtraError
from .batches import out_of_memory
from .errors import BrokenModel, OutOfDeviceMemory, UnsafeWeights, WrongModel
from .found import PICKLES, Found
from .options import Options
from .roles import Model, Upscaler
from .upscalers import enlarge, exact


def fits(found: Found, role: type[Model]) -> bool:
    return role is Upscaler and found.file.endswith((".safetensors", *PICKLES))


def load(found: Found, options: Options, role: type[Model]) -> Model:
    """Loads a model for super-resolution.

    Raises:
        MissingExtraError: spandrel is not installed
        UnsafeWeights: the file is pickled, and that is not allowed
        WrongModel: spandrel does not know its layout, or it does something else
        BrokenModel: it is damaged
        OutOfDeviceMemory: the device has too little memory
    """
    if importlib.util.find_spec("spandrel") is None:
        raise MissingExtraError("spandrel", extra="upscale", why=f"the model {found.name}")
    import spandrel

    path = found.fetch([found.file]) / found.file
    if path.suffix in PICKLES and not options.allow_pickle:
        raise UnsafeWeights(
            f"{found.name} is a pickled file, which can run any code when it is opened. Name a .safetensors file, or, "
            "if you trust its makers, set allow_pickle=True"
        )
    options = exact(options)
    try:
        model = spandrel.ModelLoader("cpu").load_from_file(path)
    except spandrel.UnsupportedModelError as error:
        raise WrongModel(f"{found.name} has no layout that spandrel {_version()} knows: name another model") from error
    except Exception as error:  # whatever its readers raise on a damaged file
        raise BrokenModel(f"{found.name} cannot be opened ({type(error).__name__}): download it again") from error
    if not isinstance(model, spandrel.ImageModelDescriptor) or model.input_channels != 3 or model.output_channels != 3:
        raise WrongModel(f"{found.name} is no model that enlarges colour pictures: name one, e.g. {Upscaler.example}")
    try:
        model.to(options.torch_device(), options.torch_dtype()).eval()
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise OutOfDeviceMemory(
            f"{found.name} does not fit into the memory of the device: end other programs that use it, or run on the "
            "processor with device='cpu'"
        ) from error
    return SpandrelUpscaler(model, found, path)


def _version() -> str:
    from importlib.metadata import version

    return version("spandrel")


_WINDOW = 8
"""Side of the windows of most of these models, in pixels; those without windows do not mind."""


class SpandrelUpscaler(Upscaler):
    """A model that spandrel has loaded.

    Args:
        model: ready for inference
        found: where it comes from
        path: its file
    """

    def __init__(self, model: Any, found: Found, path: Path):
        self.model = model
        self.name, self.revision, self.device = found.name, found.revision, str(model.device)
        needs = model.size_requirements
        multiple = max(1, int(needs.multiple_of))
        self.scale, self.unit = int(model.scale), -(-_WINDOW // multiple) * multiple
        self._least = int(needs.minimum)

    def upscale(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        return enlarge(pictures, self._run, self.scale, self.unit, self._least)

    def _run(self, inputs: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            found = self.model(torch.from_numpy(inputs).to(self.model.device, self.model.dtype))
            result: np.ndarray = found.float().cpu().numpy()
        return result
