"""Tiny models of the published families: random weights, or weights written by hand so that their answers are known.

Each builder writes a folder in the layout of the family and returns it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.models.tiny_yolo import node, value, write_model

SIDE = 64
LABELS = ("cat", "dog", "crane, bird", "crane, machine")


def pictures(*sizes: tuple[int, int]) -> list[np.ndarray]:
    """Noise of the sizes (height, width)."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


def plain(colour: Sequence[int], height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """A picture of one colour (red, green, blue)."""
    return np.broadcast_to(np.asarray(colour, np.uint8), (height, width, 3)).copy()


def vit_classifier(folder: Path, *, several: bool = False, labels: Sequence[str] = LABELS) -> Path:
    """An image classifier of transformers.

    Args:
        folder: where to
        several (False): whether several labels can be true of a picture
        labels: what it tells apart
    """
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    config = ViTConfig(
        **_VISION,
        problem_type="multi_label_classification" if several else "single_label_classification",
        id2label=dict(enumerate(labels)),
        label2id={label: n for n, label in enumerate(labels)},
    )
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def clip(folder: Path) -> Path:
    """CLIP."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    text = {**_TEXT, "vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
            "projection_dim": 32}  # fmt: skip
    CLIPModel(CLIPConfig(text_config=text, vision_config=_VISION, projection_dim=32)).save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def siglip(folder: Path) -> Path:
    """SigLIP."""
    import torch
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipProcessor

    torch.manual_seed(0)
    tokenizer = byte_tokenizer(max_length=16)
    text = {**_TEXT, "vocab_size": len(tokenizer), "max_position_embeddings": 16}
    SiglipModel(SiglipConfig(text_config=text, vision_config=_VISION)).save_pretrained(folder)
    SiglipProcessor(SiglipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


def byte_tokenizer(max_length: int = 77) -> Any:
    """A ``CLIPTokenizer`` that spells every text."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    # CLIP pools at the highest id: it must be that of the end.
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocab = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=max_length)


def mean_colour_onnx(
    path: Path,
    weights: Sequence[Sequence[float]],
    bias: Sequence[float],
    *,
    channels_first: bool = False,
    end: str = "Sigmoid",
    batch: int | str = "batch",
    side: int | str = SIDE,
) -> Path:
    """An ONNX file that scores the mean colour of what it is given.

    Args:
        path: the file
        weights: for each tag one number per channel, in the order of the input's channels
        bias: for each tag
        channels_first (False): whether it takes 3 x H x W
        end ("Sigmoid"): what follows the scores: ``"Sigmoid"``, ``"Softmax"`` or ``"Identity"``
        batch ("batch"): a fixed size of batches, or a name for a free one
        side (64): of its input, in pixels, or a name for a free one
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (batch, 3, side, side) if channels_first else (batch, side, side, 3)
    nodes = [
        node("ReduceMean", ["input"], "colour", axes=[2, 3] if channels_first else [1, 2], keepdims=0),
        node("MatMul", ["colour", "weights"], "product"),
        node("Add", ["product", "bias"], "scores"),
        node(end, ["scores"], "output"),
    ]
    constants = {"weights": np.asarray(weights, np.float32).T.copy(), "bias": np.asarray(bias, np.float32)}
    return write_model(path, nodes, constants, [value("input", shape)], [value("output", (batch, len(bias)))])


def wd14(folder: Path) -> Path:
    """A tagger in the layout of the WD14 family that knows red, blue and how bright a picture is."""
    rows = [(9999999, "general", 9, 0), (1, "red", 0, 9), (2, "blue", 0, 9), (3, "bright", 0, 9), (4, "mr_red", 4, 9)]
    red, blue = (-0.05, -0.05, 0.1), (0.1, -0.05, -0.05)  # of blue, green, red
    mean_colour_onnx(
        folder / "model.onnx", [(0, 0, 0), red, blue, (0.02, 0.02, 0.02), red], [9, -3, -3, -0.06 * 127.5, -3]
    )
    with open(folder / "selected_tags.csv", "w", newline="") as opened:
        csv.writer(opened).writerows([("tag_id", "name", "category", "count"), *rows])
    return folder


def write_json(path: Path, content: Any) -> None:
    """Writes a configuration."""
    path.write_text(json.dumps(content))


_VISION = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37,
           "image_size": 32, "patch_size": 8}  # fmt: skip
_TEXT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37,
         "max_position_embeddings": 77}  # fmt: skip
