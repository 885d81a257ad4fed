"""Train a tiny tagger and write it in the file layout of the WD14 taggers.

``model.onnx`` takes NHWC, BGR, float 0..255 and gives probabilities; ``selected_tags.csv`` names them. Tags of
category 0 are attributes, of category 4 ``colour_shape`` pairs such as "red_circle"; the four rows of category 9 are
the ratings, of which the first is always true. From scratch::

    python -m tests.zoo.train_tagger        # needs the package onnx, for the export only

The graph is written node by node, so that no exporter of a particular torch version is needed.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.zoo import shapes_world as world
from tests.zoo.common import MODELS, fit, worn

OUT = MODELS / "wd14"
RATINGS = ("general", "sensitive", "questionable", "explicit")
PAIRS = tuple(f"{c}_{s}" for c in world.COLOURS for s in world.SHAPES)
NAMES = (*RATINGS, *world.TAGS, *PAIRS)
CATEGORY = (*(9 for _ in RATINGS), *(0 for _ in world.TAGS), *(4 for _ in PAIRS))
WIDTHS = ((3, 24, 2), (24, 48, 2), (48, 64, 1), (64, 96, 2), (96, 96, 1))  # in, out, stride


def target(scene: world.Scene) -> np.ndarray:
    """Returns 1 for each of the tags that is true of a scene, else 0."""
    have = {"general", *scene.tags, *(f"{t.colour}_{t.shape}" for t in scene.things)}
    return np.array([name in have for name in NAMES], np.float32)


class Tagger(nn.Module):
    """Five convolutions, then the maximum and the mean over the picture, then one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, s, 1, bias=False) for i, o, s in WIDTHS)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o, _ in WIDTHS)
        self.head = nn.Linear(2 * WIDTHS[-1][1], len(NAMES))

    def forward(self, bgr: torch.Tensor) -> torch.Tensor:
        """Maps ``(N, H, W, 3)`` BGR 0..255 to logits."""
        x = (bgr.permute(0, 3, 1, 2) / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x)).relu()
        return self.head(torch.cat([x.amax((2, 3)), x.mean((2, 3))], 1))


def export(net: Tagger, folder: Path, counts: np.ndarray) -> None:
    """Writes the model with the batch norms folded into the convolutions, and the table of its tags.

    Args:
        net: a trained tagger
        folder: where to
        counts: how often each tag occurs
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights, nodes = [], []

    def const(name: str, value: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(op: str, inputs: list[str], output: str, **attributes: object) -> str:
        nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    x = node("Transpose", ["input"], "nchw", perm=[0, 3, 1, 2])
    x = node("Mul", [x, const("scale", np.float32(1 / 127.5))], "scaled")
    x = node("Sub", [x, const("one", np.float32(1))], "centred")
    for k, (conv, norm) in enumerate(zip(net.convs, net.norms, strict=True)):
        factor = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
        weight = (conv.weight * factor[:, None, None, None]).detach().numpy()
        bias = (norm.bias - norm.running_mean * factor).detach().numpy()
        shape = {"kernel_shape": [3, 3], "strides": [*conv.stride], "pads": [1, 1, 1, 1]}
        x = node("Conv", [x, const(f"w{k}", weight), const(f"b{k}", bias)], f"conv{k}", **shape)
        x = node("Relu", [x], f"relu{k}")
    x = node("Concat", [node("GlobalMaxPool", [x], "max"), node("GlobalAveragePool", [x], "mean")], "pool", axis=1)
    x = node("Flatten", [x], "flat")
    head = [const("hw", net.head.weight.detach().numpy()), const("hb", net.head.bias.detach().numpy())]
    node("Sigmoid", [node("Gemm", [x, *head], "logits", transB=1)], "output")
    graph = helper.make_graph(
        nodes,
        "shapes_tagger",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", world.SIZE, world.SIZE, 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", len(NAMES)])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    with open(folder / "selected_tags.csv", "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["tag_id", "name", "category", "count"])
        for i, (name, category, count) in enumerate(zip(NAMES, CATEGORY, counts, strict=True)):
            table.writerow((9999999 - i if category == 9 else i, name, category, int(count)))


def train(steps: int, batch: int = 64) -> None:
    """Trains and writes the tagger.

    Args:
        steps: how many
        batch (64): pictures of a step
    """
    torch.manual_seed(0)
    net = Tagger().to(memory_format=torch.channels_last)

    def loss_of(scenes: list[world.Scene], rng: np.random.Generator) -> torch.Tensor:
        bgr = torch.from_numpy(np.stack([worn(s.image, rng)[:, :, ::-1] for s in scenes]).astype(np.float32))
        truth = torch.from_numpy(np.stack([target(s) for s in scenes]))
        return nn.functional.binary_cross_entropy_with_logits(net(bgr), truth)

    fit("tagger", net, loss_of, pool={"seed": 21, "n": (1, 2, 3)}, steps=steps, batch=batch, peak=4e-3)
    export(net, OUT, sum(target(s) for s in world.scenes(21, 8000)))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4000)
    train(parser.parse_args(argv).steps)


if __name__ == "__main__":
    main()
