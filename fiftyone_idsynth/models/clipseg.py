"""Regions from text by CLIPSeg (Lüddecke and Ecker, "Image Segmentation Using Text and Image Prompts", CVPR 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .found import Found
from .options import Options
from .pretrained import Pretrained
from .regions import Descriptions, background_texts, class_texts, mask_regions
from .roles import Finder, Model, Region

_DECODED_AT_ONCE = 64
"""How many maps (pictures times texts) the decoder makes in one go; the encoders are not concerned."""


def fits(found: Found, role: type[Model]) -> bool:
    return role is Finder and found.model_type == "clipseg"


def load(found: Found, options: Options, role: type[Model]) -> Model:
    from transformers import AutoProcessor, CLIPSegForImageSegmentation

    from .backends import load_pretrained, load_processor

    # In no auto class: AutoModel gives the encoders without the decoder.
    model = load_pretrained(CLIPSegForImageSegmentation, found, options)
    return ClipSeg(model, load_processor(AutoProcessor, found), found)


class ClipSeg(Pretrained, Finder):
    """Finds what texts describe, pixel by pixel.

    A picture is encoded once, whatever the number of texts, and a text once, whatever the number of pictures.
    """

    def find(
        self,
        pictures: Sequence[np.ndarray],
        classes: Descriptions,
        *,
        threshold: float = 0.5,
        background: Sequence[str] = (),
        one_box: bool = False,
        min_area: float = 0.001,
        exclusive: bool = False,
    ) -> list[list[Region]]:
        """Finds regions of classes.

        A pixel belongs to a class if its probability is over the threshold and over that of every description of the
        background, where the probability of a class is that of its best text.

        Args:
            pictures: RGB, uint8, of any sizes
            classes: texts, or labels with their texts; ``"red panda|small red animal"`` are two texts for one class
            threshold (0.5): the least probability of a pixel, 0..1
            background (()): what is no class, e.g. ``["leaves", "sky"]``
            one_box (False): one region round all pixels of a class instead of one for each connected component
            min_area (0.001): connected components with a smaller share of the picture are dropped
            exclusive (False): a pixel belongs to the likeliest of the classes alone

        Returns:
            for each picture its regions with masks, the surest first; the mean probability inside a region is its
            confidence
        """
        wanted, others = class_texts(classes), background_texts(background)
        if not len(pictures):
            return []
        groups = [*wanted.values(), others] if others else [*wanted.values()]
        found = []
        for picture, maps in zip(pictures, self._group_maps(pictures, groups), strict=True):
            regions = []
            sized = _resized(maps, *picture.shape[:2])
            best = sized[: len(wanted)].max(0) if exclusive and len(wanted) > 1 else None
            for label, probability in zip(wanted, sized, strict=False):
                mask = probability > threshold
                if others:
                    mask &= probability > sized[-1]
                if best is not None:
                    mask &= probability >= best
                regions += mask_regions(label, mask, probability, min_area=min_area, one_box=one_box)
            found.append(sorted(regions, key=lambda region: -region.confidence))
        return found

    def probabilities(self, pictures: Sequence[np.ndarray], texts: Sequence[str]) -> np.ndarray:
        """How likely each pixel is what each text says.

        Returns:
            float32, pictures x texts x the model's height x width
        """
        import torch

        with torch.inference_mode():
            activations = self._encoded(pictures)
            conditions = self._conditions(texts)
            return self._decoded(activations, conditions).float().cpu().numpy()

    def _group_maps(self, pictures: Sequence[np.ndarray], groups: list[tuple[str, ...]]) -> np.ndarray:
        """The probability of the best text of each group: pictures x groups x height x width."""
        texts = list(dict.fromkeys(text for group in groups for text in group))
        maps = self.probabilities(pictures, texts)
        return np.stack([maps[:, [texts.index(text) for text in group]].max(1) for group in groups], axis=1)

    def _encoded(self, pictures: Sequence[np.ndarray]) -> list[Any]:
        """The activations that the decoder reads, each pictures x patches x width."""
        inputs = self.processor.image_processor(
            images=list(pictures), input_data_format="channels_last", return_tensors="pt"
        )
        pixels = inputs["pixel_values"].to(self.device, self.model.dtype)
        encoded = self.model.clip.get_image_features(
            pixel_values=pixels, interpolate_pos_encoding=True, output_hidden_states=True
        )
        return [encoded.hidden_states[layer + 1] for layer in self.model.extract_layers]

    def _conditions(self, texts: Sequence[str]) -> Any:
        """What the decoder is told to look for: texts x projection."""
        tokens = self.processor.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        encoded = self.model.clip.get_text_features(**tokens.to(self.device))
        return getattr(encoded, "pooler_output", encoded)

    def _decoded(self, activations: list[Any], conditions: Any) -> Any:
        import torch

        pictures, texts = len(activations[0]), len(conditions)
        step = max(1, _DECODED_AT_ONCE // texts)
        maps = []
        for first in range(0, pictures, step):
            part = [a[first : first + step] for a in activations]
            count = len(part[0])
            logits = self.model.decoder(
                [a.repeat_interleave(texts, 0) for a in part], conditions.repeat(count, 1)
            ).logits
            maps.append(logits.sigmoid().reshape(count, texts, *logits.shape[-2:]))
        return torch.cat(maps)


def _resized(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Maps (n x h x w) in the size of the picture, by linear interpolation."""
    import cv2

    return np.stack([cv2.resize(m, (width, height), interpolation=cv2.INTER_LINEAR) for m in maps])
