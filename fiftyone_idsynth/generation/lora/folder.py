"""The folder of a LoRA: which training it belongs to, where it stands, and what came of it."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...media import write_atomically
from ...training_folder import TrainingFolder

if TYPE_CHECKING:
    from .examples import Example

_SMOOTHED = 50
"""Steps whose losses are averaged; the loss of a single step is mostly its noise level."""


class LoraFolder(TrainingFolder):
    """The folder of a LoRA; what is cached in it is removed when the training is finished.

    Args:
        path: the folder
        name: the name of the LoRA
    """

    kind = "LoRA"
    elsewhere = "choose another name or path"

    def __init__(self, path: Path, name: str):
        super().__init__(path)
        self.name = name
        self.cache = path / "cache"

    @property
    def file(self) -> Path:
        """The LoRA, in the layout that all tools load."""
        return self.path / f"{self.name}.safetensors"

    def claim(self, parameters: Mapping[str, Any], examples: Sequence[Example]) -> None:
        """Takes the folder for a training, or takes up the training that it holds.

        Args:
            parameters: what decides the weights, as plain values
            examples: the images and their texts

        Raises:
            ParameterError: it holds another training, or other files
        """
        images = {
            e.id: {"file": e.filepath, "sha256": e.sha256, "text": e.text, "regularization": e.regular}
            for e in examples
        }
        self.claim_for(parameters, images)

    def save_losses(self, losses: Sequence[float], rates: Sequence[float]) -> tuple[Path, Path]:
        """Writes the loss and learning rate of each step as a table and as a picture; returns their paths."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["step", "loss", "learning_rate"])
        table.writerows(
            [step, f"{loss:.6f}", f"{rate:.6g}"] for step, (loss, rate) in enumerate(zip(losses, rates, strict=True), 1)
        )
        write_atomically(self.path / "loss.csv", text.getvalue().encode())
        write_atomically(self.path / "loss.png", _curve(self.name, losses))
        return self.path / "loss.csv", self.path / "loss.png"

    def clean(self) -> None:
        super().clean()
        if self.cache.is_dir():
            shutil.rmtree(self.cache)


def smoothed(losses: Sequence[float]) -> float:
    """The mean loss of the last steps."""
    last = losses[-_SMOOTHED:]
    return sum(last) / len(last)


def _curve(name: str, losses: Sequence[float]) -> bytes:
    """The losses as a PNG picture: each step, and the mean of the steps around it."""
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    steps = np.arange(1, len(losses) + 1)
    axes.plot(steps, losses, color="0.8", linewidth=0.7, label="each step")
    width = min(_SMOOTHED, len(losses))
    mean = np.convolve(losses, np.full(width, 1 / width), "valid")
    axes.plot(steps[width - 1 :], mean, color="tab:orange", label=f"mean of {width} steps")
    axes.set(xlabel="step", ylabel="loss", title=name)
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
