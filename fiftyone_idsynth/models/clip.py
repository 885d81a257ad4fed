"""Pictures and texts in one space: CLIP, SigLIP and their relatives."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from .backends import load_pretrained, load_processor
from .found import Found
from .options import Options
from .pretrained import Pretrained
from .roles import Matcher, Model

SIGMOID = ("siglip", "siglip2")
"""The families that judge each text alone."""

_NO_TWO_TOWERS = ("blip", "blip-2", "clipseg")
"""What transformers lists beside CLIP, but is not used by comparing embeddings."""

_TEXTS_KEPT = 10_000


class Clip(Pretrained, Matcher):
    """Compares embeddings of pictures with those of texts. Each text is embedded once."""

    def __init__(self, model: Any, processor: Any, found: Found):
        super().__init__(model, processor, found)
        self.exclusive = found.model_type not in SIGMOID
        self._texts: OrderedDict[str, np.ndarray] = OrderedDict()

    def match(self, pictures: Sequence[np.ndarray], texts: Sequence[str]) -> np.ndarray:
        from .taggers import sigmoid, softmax

        if not len(pictures) or not len(texts):
            return np.zeros((len(pictures), len(texts)), np.float32)
        scale, bias = self._scale()
        logits = self.embed(pictures) @ self.embed_texts(texts).T * scale + bias
        return (softmax(logits) if self.exclusive else sigmoid(logits)).astype(np.float32)

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        import torch

        if not len(pictures):
            return np.zeros((0, self.dimensions), np.float32)
        images = self.processor.image_processor
        inputs = images(images=list(pictures), input_data_format="channels_last", return_tensors="pt")
        with torch.inference_mode():
            return _unit(self.model.get_image_features(**inputs.to(self.model.device, self.model.dtype)))

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        if not len(texts):
            return np.zeros((0, self.dimensions), np.float32)
        new = list(dict.fromkeys(text for text in texts if text not in self._texts))
        for first in range(0, len(new), 256):
            part = new[first : first + 256]
            self._texts.update(zip(part, self._embedded(part), strict=True))
        result = np.stack([self._texts[text] for text in texts])
        while len(self._texts) > _TEXTS_KEPT:
            self._texts.popitem(last=False)
        return result

    @property
    def dimensions(self) -> int:
        """Length of an embedding."""
        config = self.model.config
        return int(getattr(config, "projection_dim", 0) or config.vision_config.hidden_size)

    def _embedded(self, texts: list[str]) -> np.ndarray:
        import torch

        config = self.model.config.text_config
        inputs = self.processor.tokenizer(
            texts,
            # SigLIP was trained with texts filled up to their full length.
            padding=True if self.exclusive else "max_length",
            truncation=True,
            max_length=getattr(config, "max_position_embeddings", None),
            return_tensors="pt",
        ).to(self.model.device)
        with torch.inference_mode():
            return _unit(self.model.get_text_features(**inputs))

    def _scale(self) -> tuple[float, float]:
        """What the cosines are multiplied with, and what is added."""
        bias = getattr(self.model, "logit_bias", None)
        if hasattr(self.model, "logit_scale"):
            scale = float(self.model.logit_scale.float().exp())
        else:  # ALIGN
            scale = 1 / float(self.model.temperature)
        return scale, 0.0 if bias is None else float(bias)


def fits(found: Found, role: type[Model]) -> bool:
    """Whether this is a model with a tower for pictures and one for texts."""
    if role is not Matcher or not found.model_type or found.model_type in _NO_TWO_TOWERS:
        return False
    from transformers.models.auto.modeling_auto import MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES

    whole = MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES.get(found.model_type)
    return whole is not None and (not found.architectures or whole in found.architectures)


def load(found: Found, options: Options, role: type[Model]) -> Model:
    """Loads a model of the CLIP kind.

    Raises:
        ModelError: it cannot be loaded
    """
    from transformers import AutoModel, AutoProcessor

    return Clip(load_pretrained(AutoModel, found, options), load_processor(AutoProcessor, found), found)


def _unit(features: Any) -> np.ndarray:
    """Embeddings of length 1, from what ``get_image_features`` and ``get_text_features`` give."""
    features = getattr(features, "pooler_output", features).float()
    unit: np.ndarray = (features / features.norm(dim=-1, keepdim=True)).cpu().numpy()
    return unit
