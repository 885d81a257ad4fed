"""ONNX files for which foreground is what has a colour, in the conventions of the published background removers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.models.tiny_yolo import node, value, write_model

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))

STEEPNESS = 60.0
LEAST = 0.3
"""The saturation (largest less smallest of red, green and blue, 0..1) over which pixels are foreground. In the
convention of another family greys get more, or colours less."""


def remover(
    path: Path,
    side: int | str,
    convention: tuple[Sequence[float], Sequence[float]],
    *,
    logits: bool = False,
    share: float = 1.0,
    outputs: int = 1,
    batch: int | str = "batch",
    more_inputs: Sequence[str] = (),
    channels: int = 1,
) -> Path:
    """Writes a background remover.

    Args:
        path: the file
        side: of the pictures that it takes, or a name where it takes any
        convention: mean and standard deviation that it expects pictures to be normalised with
        logits (False): whether it leaves out the sigmoid
        share (1.0): what probabilities are multiplied with
        outputs (1): how many maps it gives; all but the first tell the background
        batch ("batch"): a fixed size of batches, or a name for a free one
        more_inputs (()): names of further inputs
        channels (1): values for each pixel
    """
    mean, std = (np.array(values, np.float32)[None, :, None, None] for values in convention)
    numbers = {"mean": mean, "std": std, "least": np.float32([LEAST]), "steepness": np.float32([STEEPNESS])}
    numbers |= {"share": np.float32([share]), "one": np.float32([1]), "channels": np.ones((channels, 1, 1, 1), "f4")}
    nodes = [
        node("Mul", ["pixels", "std"], "spread"),
        node("Add", ["spread", "mean"], "rgb"),
        node("ReduceMax", ["rgb"], "largest", axes=[1], keepdims=1),
        node("ReduceMin", ["rgb"], "smallest", axes=[1], keepdims=1),
        node("Sub", ["largest", "smallest"], "saturation"),
        node("Sub", ["saturation", "least"], "over"),
        node("Mul", ["over", "steepness"], "single"),
        node("Conv", ["single", "channels"], "logits"),
    ]
    if not logits:
        nodes += [node("Sigmoid", ["logits"], "sure"), node("Mul", ["sure", "share"], "map")]
    names = ["logits" if logits else "map"]
    for number in range(1, outputs):
        names.append(f"side{number}")
        nodes.append(node("Sub", ["one", names[0]], names[-1]))
    inputs = [value("pixels", [batch, 3, side, side]), *(value(name, [1]) for name in more_inputs)]
    given = [value(name, [batch, channels, side, side]) for name in names]
    return write_model(path, nodes, numbers, inputs, given)
