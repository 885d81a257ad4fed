"""Masks from boxes by SAM, SAM 2 and their relatives (SAM-HQ, EdgeTAM, SAM 3's tracker)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .found import Found
from .options import Options
from .pretrained import Pretrained
from .roles import Box, Model, Refiner

_BOXES_AT_ONCE = 32


def fits(found: Found, role: type[Model]) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASK_GENERATION_MAPPING_NAMES as FAMILIES

    return role is Refiner and found.model_type in FAMILIES


def load(found: Found, options: Options, role: type[Model]) -> Model:
    from transformers import AutoImageProcessor, AutoModelForMaskGeneration

    from .backends import load_pretrained, load_processor

    model = load_pretrained(AutoModelForMaskGeneration, found, options)
    return Sam(model, load_processor(AutoImageProcessor, found), found)


class Sam(Pretrained, Refiner):
    """Finds the outline of the object in a box. A picture is encoded once, whatever the number of its boxes."""

    def refine(self, pictures: Sequence[np.ndarray], boxes: Sequence[Sequence[Box]]) -> list[list[np.ndarray]]:
        """Turns boxes into masks.

        Args:
            pictures: RGB, uint8, of any sizes
            boxes: for each picture its boxes: relative x, y, width, height

        Returns:
            for each picture a mask (bool, H x W) for each of its boxes, in their order
        """
        import torch

        with_boxes = [n for n, listed in enumerate(boxes) if len(listed)]
        masks: list[list[np.ndarray]] = [[] for _ in pictures]
        if not with_boxes:
            return masks
        with torch.inference_mode():
            inputs = self.processor(
                images=[pictures[n] for n in with_boxes], input_data_format="channels_last", return_tensors="pt"
            )
            embeddings = self.model.get_image_embeddings(inputs["pixel_values"].to(self.device, self.model.dtype))
            for row, n in enumerate(with_boxes):
                masks[n] = self._outlined(inputs, embeddings, row, pictures[n], boxes[n])
        return masks

    def _outlined(
        self, inputs: Any, embeddings: Any, row: int, picture: np.ndarray, boxes: Sequence[Box]
    ) -> list[np.ndarray]:
        """Masks of one picture."""
        import torch

        if isinstance(embeddings, (list, tuple)):  # SAM 2: feature maps of several sizes
            embedding: Any = [level[row : row + 1] for level in embeddings]
        else:
            embedding = embeddings[row : row + 1]
        height, width = picture.shape[:2]
        seen_height, seen_width = self._seen_size(inputs, row)
        corners = torch.tensor(
            [[x * seen_width, y * seen_height, (x + w) * seen_width, (y + h) * seen_height] for x, y, w, h in boxes],
            dtype=torch.float32,
        )
        found: list[np.ndarray] = []
        for part in corners.split(_BOXES_AT_ONCE):
            outputs = self.model(
                image_embeddings=embedding,
                input_boxes=part[None].to(self.device, self.model.dtype),
                multimask_output=False,
            )
            sizes = {"original_sizes": [(height, width)]}
            if "reshaped_input_sizes" in inputs:
                sizes["reshaped_input_sizes"] = [(seen_height, seen_width)]
            masks = self.processor.post_process_masks(outputs.pred_masks.float().cpu(), **sizes)[0]
            found += [np.asarray(mask[0].numpy(), dtype=bool) for mask in masks]
        return found

    def _seen_size(self, inputs: Any, row: int) -> tuple[int, int]:
        """Height and width in which the model sees the picture: SAM pads it to a square, SAM 2 stretches it."""
        if "reshaped_input_sizes" in inputs:
            height, width = (int(v) for v in inputs["reshaped_input_sizes"][row])
            return height, width
        return int(inputs["pixel_values"].shape[-2]), int(inputs["pixel_values"].shape[-1])
