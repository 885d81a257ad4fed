"""Super-resolution by models of transformers: Swin2SR."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .found import Found
from .options import Options
from .roles import Model, Upscaler


def fits(found: Found, role: type[Model]) -> bool:
    return role is Upscaler and any("ForImageSuperResolution" in name for name in found.architectures)


def load(found: Found, options: Options, role: type[Model]) -> Model:
    """Loads a model for super-resolution.

    Raises:
        ModelError: it cannot be loaded
    """
    from transformers import AutoModelForImageToImage

    from .backends import load_pretrained

    model = load_pretrained(AutoModelForImageToImage, found, exact(options))
    return TransformersUpscaler(model, found)


def exact(options: Options) -> Options:
    """The options with the precision that pixels need: bfloat16 tells only 256 levels from one another."""
    return dataclasses.replace(options, dtype="float32") if options.dtype == "auto" else options


class TransformersUpscaler(Upscaler):
    """A model of transformers for super-resolution.

    Args:
        model: ready for inference
        found: where it comes from
    """

    def __init__(self, model: Any, found: Found):
        self.model = model
        self.name, self.revision, self.device = found.name, found.revision, str(model.device)
        self.scale, self.unit = int(model.config.upscale), int(model.config.window_size)

    def upscale(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        return enlarge(pictures, self._run, self.scale, self.unit)

    def _run(self, inputs: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            tensor = torch.from_numpy(inputs).to(self.model.device, self.model.dtype)
            found: np.ndarray = self.model(pixel_values=tensor).reconstruction.float().cpu().numpy()
        return found


def enlarge(
    pictures: Sequence[np.ndarray], run: Callable[[np.ndarray], np.ndarray], scale: int, unit: int, least: int = 0
) -> list[np.ndarray]:
    """Puts pictures of one size through a network that takes sizes which divide by a number.

    Pictures are continued at their right and lower sides by their mirror image, and what was made of that is cut off.

    Args:
        pictures: RGB, uint8
        run: float32 in, picture x channel x height x width, 0 to 1; the same out, larger
        scale: by which factor
        unit: both sides have to divide by it
        least (0): and be at least this
    """
    height, width = pictures[0].shape[:2]
    down, across = (max(-(-side // unit), -(-least // unit)) * unit - side for side in (height, width))
    padded = [np.pad(picture, ((0, down), (0, across), (0, 0)), "symmetric") for picture in pictures]
    inputs = np.stack(padded).transpose(0, 3, 1, 2).astype(np.float32) / 255
    outputs = run(np.ascontiguousarray(inputs))[:, :, : height * scale, : width * scale]
    pixels = np.clip(np.rint(np.nan_to_num(outputs) * 255), 0, 255).astype(np.uint8)
    return [np.ascontiguousarray(picture.transpose(1, 2, 0)) for picture in pixels]
