"""The folder of a LoRA: which training it belongs to, where it stands, and what came of it."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import IdsynthError, ParameterError
from ...media import write_atomically

if TYPE_CHECKING:
    from .examples import Example

_SMOOTHED = 50
"""Steps whose losses are averaged; the loss of a single step is mostly its noise level."""


class LoraFolder:
    """The folder of a LoRA.

    ``training.json`` names the parameters and images of the training, from its beginning, and its result at the end.
    The checkpoint and what is cached are removed when the training is finished.

    Args:
        path: the folder
        name: the name of the LoRA
    """

    def __init__(self, path: Path, name: str):
        self.path, self.name = path, name
        self.cache = path / "cache"
        self._record, self._checkpoint = path / "training.json", path / "checkpoint.pt"
        self.result: dict[str, Any] = {}

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
        wanted = {"parameters": json.loads(json.dumps(parameters)), "images": images}
        if self._record.exists():
            there = self._read()
            self.result = there.get("result", {})
            others = _differences(there, wanted)
            if others and not self.result and not self._checkpoint.exists():
                self.clean()  # nothing was learnt yet, so nothing is lost
                self._write(self._record, wanted)
            elif others:
                raise ParameterError(
                    "path", str(self.path),
                    f"this folder holds the training of another LoRA ({'; '.join(others)}), which is not overwritten: "
                    "choose another name or path, or delete the folder",
                )  # fmt: skip
            return
        if self.path.is_dir() and any(not file.name.startswith(".partial-") for file in self.path.iterdir()):
            raise ParameterError(
                "path", str(self.path), "this folder holds other files: choose one that is empty or does not exist"
            )
        self._write(self._record, wanted)

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Writes the state of the training; a process that is killed leaves the one before."""
        import torch

        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        write_atomically(self._checkpoint, buffer.getvalue())

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The state of the training, on the CPU, if there is one."""
        import pickle

        import torch

        if not self._checkpoint.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise IdsynthError(
                f"{self._checkpoint} is damaged ({str(error).splitlines()[0][:200]}): delete it, and the training "
                "begins anew"
            ) from error
        return state

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

    def finish(self, result: Mapping[str, Any]) -> None:
        """Notes the result, and removes what only the training needed."""
        self.result = dict(result)
        self._write(self._record, {**self._read(), "result": self.result})
        self.clean()

    def clean(self) -> None:
        """Removes what only an unfinished training needs."""
        self._checkpoint.unlink(missing_ok=True)
        if self.cache.is_dir():
            shutil.rmtree(self.cache)
        for partial in self.path.glob(".partial-*"):  # of a process that was killed
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink()

    def _read(self) -> dict[str, Any]:
        try:
            record: dict[str, Any] = json.loads(self._record.read_text(encoding="utf-8"))
        except ValueError as error:
            raise IdsynthError(f"{self._record} is damaged ({error}): choose another name or path") from error
        return record

    def _write(self, path: Path, value: Mapping[str, Any]) -> None:
        write_atomically(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def smoothed(losses: Sequence[float]) -> float:
    """The mean loss of the last steps."""
    last = losses[-_SMOOTHED:]
    return sum(last) / len(last)


def _differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """In what two trainings differ, in words."""
    before, now = there.get("parameters", {}), wanted["parameters"]
    found = [
        f"{name}={before.get(name)!r}, not {now.get(name)!r}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    had, has = (
        {
            id: (image["sha256"], image["text"], image["regularization"])
            for id, image in record.get("images", {}).items()
        }
        for record in (there, wanted)
    )
    if had != has:
        changed = sum(had[id] != has[id] for id in had.keys() & has.keys())
        new, gone = len(has.keys() - had.keys()), len(had.keys() - has.keys())
        found.append(f"images: {gone} of its {len(had)} are missing now, {new} are new, {changed} have changed")
    return found


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
