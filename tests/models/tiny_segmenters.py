"""Segmenters: an ONNX file that knows red and blue, and random models of transformers in folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.models.tiny_yolo import field, fields, node, value, write_model

SIDE = 32
NAMES = ("background", "red", "blue")


def colour_segmenter(path: Path, *, numbers: bool = False) -> Path:
    """Scores each pixel of a picture of 32 x 32 as background, red or blue; its labels lie beside it.

    Args:
        path: the file
        numbers (False): whether it gives the number of the likeliest class instead of the scores
    """
    # Rows: classes; columns: red, green, blue of a pixel as torchvision normalises them.
    weights = np.array([[0, 0, 0], [4, -2, -2], [-2, -2, 4]], np.float32)[:, :, None, None]
    nodes = [node("Conv", ["pixels", "weights"], "scores")]
    scores = value("scores", ["batch", 3, SIDE, SIDE])
    if numbers:
        nodes.append(node("ArgMax", ["scores"], "numbers", axis=1, keepdims=0))
        shape = field(1, field(2, "batch")) + fields(1, [field(1, SIDE)] * 2)
        scores = field(1, "numbers") + field(2, field(1, field(1, 7) + field(2, shape)))  # of int64
    inputs = [value("pixels", ["batch", 3, SIDE, SIDE])]
    made = write_model(path, nodes, {"weights": weights}, inputs, [scores])
    path.with_name(f"{path.stem}_labels.txt").write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    return made


def segformer(folder: Path) -> Path:
    """A SegFormer of two stages."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    config = SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[4, 2], hidden_sizes=[8, 16], patch_sizes=[7, 3],
        strides=[4, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=16, **_labels(),
    )  # fmt: skip
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def mobilenet(folder: Path) -> Path:
    """A MobileNetV2 with DeepLabV3+, whose processor crops pictures unless it is told not to."""
    from transformers import MobileNetV2Config, MobileNetV2ForSemanticSegmentation, MobileNetV2ImageProcessor

    config = MobileNetV2Config(image_size=64, depth_multiplier=0.25, **_labels())
    MobileNetV2ForSemanticSegmentation(config).save_pretrained(folder)
    MobileNetV2ImageProcessor(size={"shortest_edge": 72}, crop_size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def maskformer(folder: Path) -> Path:
    """A MaskFormer on a Swin backbone."""
    from transformers import (
        DetrConfig,
        MaskFormerConfig,
        MaskFormerForInstanceSegmentation,
        MaskFormerImageProcessor,
        SwinConfig,
    )

    backbone = SwinConfig(
        image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    decoder = DetrConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16, decoder_ffn_dim=16,
        encoder_attention_heads=2, decoder_attention_heads=2, num_queries=6,
    )  # fmt: skip
    config = MaskFormerConfig(
        backbone_config=backbone, decoder_config=decoder, fpn_feature_size=32, mask_feature_size=32, **_labels()
    )
    MaskFormerForInstanceSegmentation(config).save_pretrained(folder)
    MaskFormerImageProcessor(size={"shortest_edge": 64, "longest_edge": 128}, size_divisor=32).save_pretrained(folder)
    return folder


def _labels() -> dict[str, Any]:
    names = dict(enumerate(NAMES))
    return {"id2label": names, "label2id": {name: number for number, name in names.items()}}
