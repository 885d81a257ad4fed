"""Depth by models of transformers: DPT (MiDaS), Depth Anything, Depth Pro, GLPN, ZoeDepth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .found import Found
from .options import Options
from .pretrained import Pretrained
from .roles import DepthEstimator, Model

METRES = ("depth_pro", "glpn", "zoedepth")
"""Families that give distances. The others give the inverse of them, in units that differ from picture to picture."""

NEAREST = 0.01
"""Distances in metres are taken to be this at least."""


def fits(found: Found, role: type[Model]) -> bool:
    estimates = any("ForDepthEstimation" in name for name in found.architectures)
    return role is DepthEstimator and estimates and found.model_type in (*METRES, "dpt", "depth_anything")


def load(found: Found, options: Options, role: type[Model]) -> Model:
    """Loads a depth estimator.

    Raises:
        ModelError: it cannot be loaded
    """
    from transformers import AutoImageProcessor, AutoModelForDepthEstimation

    from .backends import load_pretrained, load_processor

    model = load_pretrained(AutoModelForDepthEstimation, found, options)
    return TransformersDepth(model, load_processor(AutoImageProcessor, found), found)


class TransformersDepth(Pretrained, DepthEstimator):
    """A model of transformers that estimates depth.

    What it gives is turned into inverse depth, as ControlNets for depth have seen it (MiDaS), and stretched from 0 to
    1 in each picture. Only pictures of one size run together, since many families keep the ratio of the sides.

    Attributes:
        metric: whether the model gives distances, not their inverse
    """

    def __init__(self, model: Any, processor: Any, found: Found):
        super().__init__(model, processor, found)
        config = model.config
        self._family = found.model_type
        # DPT heads with a projection are those of DINOv2, which were trained in metres.
        self.metric = (
            found.model_type in METRES
            or getattr(config, "depth_estimation_type", "relative") == "metric"
            or bool(found.model_type == "dpt" and config.add_projection)
        )

    def depth(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Estimates depth.

        Args:
            pictures: RGB, uint8, of any sizes

        Returns:
            for each picture float32, height x width: 1 for the nearest and 0 for the farthest thing in it; 0
            everywhere where all is equally far
        """
        same: dict[tuple[int, ...], list[int]] = {}
        for number, picture in enumerate(pictures):
            same.setdefault(picture.shape, []).append(number)
        found: dict[int, np.ndarray] = {}
        for (height, width, _), numbers in same.items():
            for number, values in zip(numbers, self._run([pictures[n] for n in numbers], height, width), strict=True):
                found[number] = nearness(values, self.metric)
        return [found[number] for number in range(len(pictures))]

    def _run(self, pictures: list[np.ndarray], height: int, width: int) -> list[np.ndarray]:
        import torch

        sizes: dict[str, Any] = {"target_sizes": [(height, width)] * len(pictures)}
        if self._family == "zoedepth":  # it pads pictures, and cuts that off again
            sizes["source_sizes"] = sizes["target_sizes"]
        with torch.inference_mode():
            inputs = self.processor(images=pictures, input_data_format="channels_last", return_tensors="pt")
            outputs = self.model(**inputs.to(self.device, self.model.dtype))
            outputs.predicted_depth = outputs.predicted_depth.float()
            results = self.processor.post_process_depth_estimation(outputs, **sizes)
        return [result["predicted_depth"].float().cpu().numpy() for result in results]


def nearness(values: np.ndarray, metric: bool) -> np.ndarray:
    """Inverse depth, stretched from 0 to 1.

    Args:
        values: height x width: distances, or inverse depth
        metric: whether they are distances

    Returns:
        float32, height x width
    """
    near = 1 / np.maximum(values, NEAREST) if metric else values
    low, high = float(near.min()), float(near.max())
    if not high > low:
        return np.zeros(near.shape, np.float32)
    stretched: np.ndarray = ((near - low) / (high - low)).astype(np.float32)
    return stretched
