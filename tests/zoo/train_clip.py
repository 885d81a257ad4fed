"""Train a tiny CLIPModel on scenes and wordings of what they show. From scratch::

    python -m tests.zoo.train_clip

Many wordings are true of many scenes of a batch ("a red circle"), so the contrastive loss spreads the truth evenly
over all pairs that match, instead of the diagonal of the published loss. The towers start those of the segmenter and
of the detector, whose vision encoders have the same layout.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.zoo import shapes_world as world
from tests.zoo.common import MODELS, AttributeHead, clip_tokenizer, fit, patch_attributes, pixels
from tests.zoo.wording import wording

OUT = MODELS / "clip"
VISION = {"hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 4, "num_attention_heads": 4}
TEXT = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}


def text_config(tokenizer: Any) -> dict[str, Any]:
    """Returns the configuration of a text tower that fits the tokenizer."""
    return {
        **TEXT,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": tokenizer.model_max_length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def build() -> tuple[Any, Any]:
    """Returns tokenizer and model."""
    from transformers import CLIPConfig, CLIPModel

    tokenizer = clip_tokenizer()
    model = CLIPModel(
        CLIPConfig(
            text_config=text_config(tokenizer),
            vision_config={**VISION, "image_size": world.SIZE, "patch_size": 8},
            projection_dim=64,
        )
    )
    # The initialisation of CLIP is made for long training; these start faster.
    nn.init.normal_(model.text_model.embeddings.token_embedding.weight, std=0.3)
    nn.init.normal_(model.vision_model.embeddings.position_embedding.weight, std=0.1)
    nn.init.normal_(model.vision_model.embeddings.patch_embedding.weight, std=0.05)
    return tokenizer, model


def contrast(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Returns the cross entropy of each row and each column against its true entries, all alike."""
    truth = truth.float()
    rows = -(truth / truth.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()
    columns = -(truth / truth.sum(0, keepdim=True) * logits.log_softmax(0)).sum(0).mean()
    return (rows + columns) / 2


def train(steps: int, batch: int = 48) -> None:
    """Trains and writes the model.

    Args:
        steps: how many
        batch (48): pictures, and as many texts, of a step
    """
    from transformers import CLIPImageProcessorPil, CLIPProcessor

    torch.manual_seed(0)
    tokenizer, model = build()
    patches = AttributeHead(VISION["hidden_size"])

    def loss_of(scenes: list[world.Scene], rng: np.random.Generator) -> torch.Tensor:
        said = [wording(s, rng) for s in scenes]
        truth = torch.tensor([[w.fits(s) for w in said] for s in scenes])
        encoded = tokenizer([w.text for w in said], padding=True, return_tensors="pt")
        seen = model.vision_model(pixel_values=pixels(scenes, rng))
        image = nn.functional.normalize(model.visual_projection(seen.pooler_output), dim=-1)
        text = nn.functional.normalize(model.get_text_features(**encoded).pooler_output, dim=-1)
        model.logit_scale.data.clamp_(max=np.log(50))
        attributes = patches.loss(seen.last_hidden_state[:, 1:], patch_attributes(scenes))
        return contrast(image @ text.T * model.logit_scale.exp(), truth) + 0.3 * attributes

    fit(
        "clip",
        nn.ModuleDict({"model": model, "patches": patches}),
        loss_of,
        pool={"seed": 61, "n": (1, 1, 2, 3)},
        steps=steps,
        batch=batch,
        peak=1.5e-3,
    )
    model.save_pretrained(OUT)  # float32: transformers 5 loads the dtype of the file
    side = {"height": world.SIZE, "width": world.SIZE}
    processor = CLIPImageProcessorPil(size=side, crop_size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    CLIPProcessor(processor, tokenizer).save_pretrained(OUT)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3600)
    train(parser.parse_args(argv).steps)


if __name__ == "__main__":
    main()
