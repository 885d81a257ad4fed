"""Train a tiny Owlv2ForObjectDetection: texts and a picture in, boxes out. It starts from the zoo's CLIP::

    python -m tests.zoo.train_clip
    python -m tests.zoo.train_detector

As in DETR (Carion et al. 2020, section 3.1) each shape is given to one prediction by the assignment of least cost, so
that the model learns to name a shape once: OWLv2 has no non-maximum suppression.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn
from torchvision.ops import box_convert, generalized_box_iou, generalized_box_iou_loss, sigmoid_focal_loss

from tests.zoo import shapes_world as world
from tests.zoo.common import MODELS, AttributeHead, clip_tokenizer, fit, patch_attributes, pixels
from tests.zoo.train_clip import OUT as CLIP
from tests.zoo.train_clip import VISION, text_config
from tests.zoo.wording import matches, query

OUT = MODELS / "owlv2"
#: Tokens of a query, as in the published model.
QUERY_LENGTH = 16


def build() -> tuple[Any, Any]:
    """Returns tokenizer and model, its towers with the weights of the zoo's CLIP."""
    from transformers import CLIPModel, Owlv2Config, Owlv2ForObjectDetection

    tokenizer = clip_tokenizer(QUERY_LENGTH)
    model = Owlv2ForObjectDetection(
        Owlv2Config(
            text_config=text_config(tokenizer),
            vision_config={**VISION, "image_size": world.SIZE, "patch_size": 8},
            projection_dim=64,
        )
    )
    weights = {}
    for name, value in CLIPModel.from_pretrained(CLIP).state_dict().items():
        if name == "text_model.embeddings.position_embedding.weight":
            value = value[:QUERY_LENGTH]
        weights[name.replace("pre_layrnorm", "pre_layernorm")] = value
    model.owlv2.load_state_dict(weights)
    for head in (model.class_head, model.box_head, model.objectness_head):
        for layer in [m for m in head.modules() if isinstance(m, nn.Linear)]:  # transformers draws them far too large
            nn.init.xavier_uniform_(layer.weight)
    # Begin with boxes of one patch and with "nothing is there": cosines of -1..1 become logits of -13..3.
    last = (
        model.box_head.dense2,
        model.objectness_head.dense2,
        model.class_head.logit_scale,
        model.class_head.logit_shift,
    )
    for layer in last:
        nn.init.normal_(layer.weight, std=0.01)
    nn.init.constant_(model.objectness_head.dense2.bias, -3.0)
    nn.init.constant_(model.class_head.logit_scale.bias, 7.0)
    nn.init.constant_(model.class_head.logit_shift.bias, -0.6)
    return tokenizer, model


def assign(cost: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns rows and columns of the assignment of least cost."""
    rows, columns = linear_sum_assignment(cost.detach().numpy())
    return torch.from_numpy(rows), torch.from_numpy(columns)


def detection_loss(
    logits: torch.Tensor, boxes: torch.Tensor, objectness: torch.Tensor, wanted: torch.Tensor, truth: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Compares the predictions for one picture with its shapes.

    Args:
        logits: ``(P, Q)``, of each prediction for each query
        boxes: ``(P, 4)``, centre and size in 0..1
        objectness: ``(P,)`` logits
        wanted: ``(G, Q)``, whether a shape is what the query asks for
        truth: ``(G, 4)`` boxes of the shapes

    Returns:
        the sums of the losses of queries, boxes and objectness
    """
    found, corners = box_convert(boxes, "cxcywh", "xyxy"), box_convert(truth, "cxcywh", "xyxy")
    named = logits.sigmoid() @ wanted.T / wanted.sum(1).clamp(min=1)
    cost = 5 * torch.cdist(boxes, truth, 1) - 2 * generalized_box_iou(found, corners)
    rows, columns = assign(cost - 2 * named - objectness.sigmoid()[:, None])
    label = torch.zeros_like(logits)
    label[rows] = wanted[columns]
    there = torch.zeros_like(objectness)
    there[rows] = 1
    apart = 5 * (boxes[rows] - truth[columns]).abs().sum()
    overlap = 2 * generalized_box_iou_loss(found[rows], corners[columns], reduction="sum")
    return (
        sigmoid_focal_loss(logits, label, alpha=0.5, gamma=1.5, reduction="sum"),
        apart + overlap,
        sigmoid_focal_loss(objectness, there, alpha=0.5, gamma=1.5, reduction="sum"),
    )


def train(steps: int, batch: int = 40, queries: int = 5) -> None:
    """Trains and writes the model.

    Args:
        steps: how many
        batch (40): pictures of a step
        queries (5): texts for each picture
    """
    from transformers import Owlv2ImageProcessorPil, Owlv2Processor

    torch.manual_seed(0)
    tokenizer, model = build()
    patches = AttributeHead(VISION["hidden_size"])

    def loss_of(scenes: list[world.Scene], rng: np.random.Generator) -> torch.Tensor:
        asked = [[query(s, rng) for _ in range(queries)] for s in scenes]
        encoded = tokenizer([w.text for row in asked for w in row], padding=True, return_tensors="pt")
        out = model(**encoded, pixel_values=pixels(scenes, rng))
        losses = []
        for k, (scene, row) in enumerate(zip(scenes, asked, strict=True)):
            wanted = torch.tensor([[float(matches(t, w.parts[0])) for w in row] for t in scene.things])
            corners = torch.tensor([t.box for t in scene.things]) / world.SIZE
            truth = box_convert(corners, "xyxy", "cxcywh")
            losses.append(detection_loss(out.logits[k], out.pred_boxes[k], out.objectness_logits[k], wanted, truth))
        words, boxes, objectness = (torch.stack(part).sum() for part in zip(*losses, strict=True))
        shapes = sum(len(s.things) for s in scenes)
        seen = out.vision_model_output.last_hidden_state[:, 1:]
        attributes = patches.loss(seen, patch_attributes(scenes))
        return (words + boxes + objectness) / shapes + 0.1 * attributes

    fit(
        "detector",
        nn.ModuleDict({"model": model, "patches": patches}),
        loss_of,
        pool={"seed": 71, "n": (1, 2, 2, 3)},
        steps=steps,
        batch=batch,
        peak=1.2e-3,
    )
    model.save_pretrained(OUT)  # float32: transformers 5 loads the dtype of the file
    side = {"height": world.SIZE, "width": world.SIZE}
    processor = Owlv2ImageProcessorPil(size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    Owlv2Processor(image_processor=processor, tokenizer=tokenizer).save_pretrained(OUT)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3600)
    train(parser.parse_args(argv).steps)


if __name__ == "__main__":
    main()
