"""Train a tiny BlipForConditionalGeneration on captions. Its vision encoder starts from the zoo's CLIP::

python -m tests.zoo.train_clip
python -m tests.zoo.train_captioner
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.zoo import shapes_world as world
from tests.zoo.common import MODELS, AttributeHead, bert_tokenizer, fit, patch_attributes, pixels
from tests.zoo.train_clip import OUT as CLIP
from tests.zoo.train_clip import VISION

OUT = MODELS / "blip"


def vision_weights() -> dict[str, torch.Tensor]:
    """Returns the weights of CLIP's vision encoder under the names that BLIP gives them."""
    from transformers import CLIPModel

    clip = CLIPModel.from_pretrained(CLIP).vision_model.state_dict()
    weights = {"embeddings.patch_embedding.weight": clip["embeddings.patch_embedding.weight"]}
    weights["embeddings.class_embedding"] = clip["embeddings.class_embedding"][None, None]
    weights["embeddings.position_embedding"] = clip["embeddings.position_embedding.weight"][None]
    for layer in range(VISION["num_hidden_layers"]):
        attention = f"encoder.layers.{layer}.self_attn"
        for kind in ("weight", "bias"):
            parts = [clip[f"{attention}.{name}_proj.{kind}"] for name in "qkv"]
            weights[f"{attention}.qkv.{kind}"] = torch.cat(parts)
            weights[f"{attention}.projection.{kind}"] = clip[f"{attention}.out_proj.{kind}"]
            for name in ("layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2"):
                key = f"encoder.layers.{layer}.{name}.{kind}"
                weights[key] = clip[key]
    return weights


def build() -> tuple[Any, Any]:
    """Returns tokenizer and model."""
    from transformers import BlipConfig, BlipForConditionalGeneration

    tokenizer = bert_tokenizer()
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "encoder_hidden_size": VISION["hidden_size"],
        "intermediate_size": 128,
        "projection_dim": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 32,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "label_smoothing": 0.0,
        "bos_token_id": tokenizer.convert_tokens_to_ids("[DEC]"),
        "eos_token_id": tokenizer.sep_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {**VISION, "image_size": world.SIZE, "patch_size": 8, "projection_dim": 64, "hidden_act": "quick_gelu"}
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=64, image_text_hidden_size=64)
    model = BlipForConditionalGeneration(config)
    unset = model.vision_model.load_state_dict(vision_weights(), strict=False)
    assert not unset.unexpected_keys, unset.unexpected_keys
    nn.init.zeros_(model.vision_model.embeddings.patch_embedding.bias)
    return tokenizer, model


def train(steps: int, batch: int = 40) -> None:
    """Trains and writes the model.

    Args:
        steps: how many
        batch (40): pictures of a step
    """
    from transformers import BlipImageProcessorPil, BlipProcessor

    torch.manual_seed(0)
    tokenizer, model = build()
    patches = AttributeHead(VISION["hidden_size"])

    def loss_of(scenes: list[world.Scene], rng: np.random.Generator) -> torch.Tensor:
        encoded = tokenizer([s.caption for s in scenes], padding=True, return_tensors="pt")
        ids = encoded.input_ids
        ids[:, 0] = model.config.text_config.bos_token_id  # generate() starts with [DEC], not with [CLS]
        seen = model.vision_model(pixel_values=pixels(scenes, rng)).last_hidden_state
        labels = ids.masked_fill(encoded.attention_mask == 0, -100)
        said = model.text_decoder(
            input_ids=ids, attention_mask=encoded.attention_mask, encoder_hidden_states=seen, labels=labels
        )
        return said.loss + 0.1 * patches.loss(seen[:, 1:], patch_attributes(scenes))

    fit(
        "captioner",
        nn.ModuleDict({"model": model, "patches": patches}),
        loss_of,
        pool={"seed": 41, "n": (1, 1, 2)},
        steps=steps,
        batch=batch,
        peak=1.5e-3,
    )
    model.save_pretrained(OUT)  # float32: transformers 5 loads the dtype of the file
    side = {"height": world.SIZE, "width": world.SIZE}
    processor = BlipImageProcessorPil(size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    BlipProcessor(processor, tokenizer).save_pretrained(OUT)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    train(parser.parse_args(argv).steps)


if __name__ == "__main__":
    main()
