"""Train a tiny CLIPSegForImageSegmentation: a text and a picture in, a mask out. It starts from the zoo's CLIP::

    python -m tests.zoo.train_clip
    python -m tests.zoo.train_clipseg

The published model freezes its CLIP part (its forward runs it without gradients); here everything is trained, so the
parts are called one by one.
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
from tests.zoo.train_clip import OUT as CLIP
from tests.zoo.train_clip import VISION, text_config
from tests.zoo.wording import matches, query

OUT = MODELS / "clipseg"


def asked(scene: world.Scene, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Returns a query and its mask: mostly a kind of shape, sometimes any shape, or the background."""
    anything = np.any([t.mask for t in scene.things], axis=0)
    kind = rng.random()
    if kind < 0.06:
        return ("a shape", "an object", "the object")[rng.integers(3)], anything
    if kind < 0.16:
        return ("background", "the background", world.BACKGROUNDS[scene.background])[rng.integers(3)], ~anything
    wording = query(scene, rng)
    masks = [t.mask for t in scene.things if matches(t, wording.parts[0])]
    return wording.text, np.any([np.zeros_like(anything), *masks], axis=0)


def build() -> tuple[Any, Any]:
    """Returns tokenizer and model, its CLIP part with the weights of the zoo's CLIP."""
    from transformers import CLIPModel, CLIPSegConfig, CLIPSegForImageSegmentation

    tokenizer = clip_tokenizer()
    model = CLIPSegForImageSegmentation(
        CLIPSegConfig(
            text_config=text_config(tokenizer),
            vision_config={**VISION, "image_size": world.SIZE, "patch_size": 8},
            projection_dim=64,
            extract_layers=[1, 2, 3],
            reduce_dim=64,
            decoder_num_attention_heads=4,
            decoder_intermediate_size=128,
            conditional_layer=0,
            # The two-step decoder of the published "refined" model gives patch_size ** 2 / 16 pixels per patch,
            # which is the full resolution for patches of 16 only.
            use_complex_transposed_convolution=False,
        )
    )
    model.clip.load_state_dict(CLIPModel.from_pretrained(CLIP).state_dict())
    return tokenizer, model


def dice(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Returns 1 - Dice coefficient of each mask, with one pixel added so that empty masks count."""
    p, y = logits.sigmoid().flatten(1), truth.flatten(1)
    return 1 - (2 * (p * y).sum(1) + 1) / (p.sum(1) + y.sum(1) + 1)


def train(steps: int, batch: int = 24, queries: int = 3) -> None:
    """Trains and writes the model.

    Args:
        steps: how many
        batch (24): pictures of a step
        queries (3): texts for each picture
    """
    from transformers import CLIPSegProcessor, ViTImageProcessorPil

    torch.manual_seed(0)
    tokenizer, model = build()
    patches = AttributeHead(VISION["hidden_size"])

    def loss_of(scenes: list[world.Scene], rng: np.random.Generator) -> torch.Tensor:
        pairs = [asked(s, rng) for s in scenes for _ in range(queries)]
        encoded = tokenizer([text for text, _ in pairs], padding=True, return_tensors="pt")
        truth = torch.from_numpy(np.stack([mask for _, mask in pairs])).float()
        hidden = model.clip.vision_model(pixel_values=pixels(scenes, rng), output_hidden_states=True).hidden_states
        layers = [hidden[i + 1].repeat_interleave(queries, 0) for i in model.extract_layers]
        condition = model.clip.get_text_features(**encoded).pooler_output
        logits = model.decoder(layers, condition).logits
        mask = nn.functional.binary_cross_entropy_with_logits(logits, truth) + 0.3 * dice(logits, truth).mean()
        return mask + 0.05 * patches.loss(hidden[-1][:, 1:], patch_attributes(scenes))

    fit(
        "clipseg",
        nn.ModuleDict({"model": model, "patches": patches}),
        loss_of,
        pool={"seed": 31, "n": (1, 2, 2, 3)},
        steps=steps,
        batch=batch,
        peak=1.2e-3,
    )
    model.save_pretrained(OUT)  # float32: transformers 5 loads the dtype of the file
    processor = ViTImageProcessorPil(size={"height": world.SIZE, "width": world.SIZE})
    CLIPSegProcessor(image_processor=processor, tokenizer=tokenizer).save_pretrained(OUT)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000)
    train(parser.parse_args(argv).steps)


if __name__ == "__main__":
    main()
