"""Detectors of transformers with random weights, small enough to be trained in a test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

LABELS = ("red", "blue")


def yolos(folder: Path, *, labels: Sequence[str] = LABELS) -> Path:
    """A YOLOS: a vision transformer with a token for each object. Classes and nothing share a probability of 1."""
    import torch
    from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessor

    torch.manual_seed(0)
    config = YolosConfig(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128, image_size=[64, 64],
        patch_size=8, num_detection_tokens=5, use_mid_position_embeddings=False, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, **_named(labels),
    )  # fmt: skip
    YolosForObjectDetection(config).save_pretrained(folder)
    YolosImageProcessor(size={"height": 64, "width": 64}, do_pad=False).save_pretrained(folder)
    return folder


def detr(folder: Path, *, labels: Sequence[str] = LABELS) -> Path:
    """A DETR on a small ResNet."""
    import torch
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessor, ResNetConfig

    torch.manual_seed(0)
    backbone = ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32, 48], depths=[1, 1, 1], layer_type="basic", out_features=["stage3"]
    )
    config = DetrConfig(
        backbone_config=backbone, use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, d_model=64,
        encoder_layers=1, decoder_layers=2, encoder_ffn_dim=128, decoder_ffn_dim=128, encoder_attention_heads=4,
        decoder_attention_heads=4, num_queries=6, dropout=0.0, auxiliary_loss=True, **_named(labels),
    )  # fmt: skip
    DetrForObjectDetection(config).save_pretrained(folder)
    DetrImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def rt_detr(folder: Path, *, labels: Sequence[str] = LABELS) -> Path:
    """An RT-DETR, which judges each class alone."""
    import torch
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrImageProcessor, RTDetrResNetConfig

    torch.manual_seed(0)
    backbone = RTDetrResNetConfig(
        embedding_size=16, hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = RTDetrConfig(
        backbone_config=backbone, use_timm_backbone=False, encoder_hidden_dim=32, encoder_in_channels=[24, 32, 48],
        encoder_ffn_dim=64, encoder_attention_heads=4, d_model=32, num_queries=20, decoder_in_channels=[32, 32, 32],
        decoder_ffn_dim=64, decoder_layers=2, decoder_attention_heads=4, num_denoising=0, hidden_expansion=0.5,
        feat_strides=[8, 16, 32], num_feature_levels=3, **_named(labels),
    )  # fmt: skip
    RTDetrForObjectDetection(config).save_pretrained(folder)
    RTDetrImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def _named(labels: Sequence[str]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(labels)), "label2id": {label: n for n, label in enumerate(labels)}}
