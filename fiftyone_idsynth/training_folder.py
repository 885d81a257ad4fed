"""The folder of a trained model: which training it belongs to, where it stands, and what came of it."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import IdsynthError, ParameterError
from .media import write_atomically

RECORD = "training.json"


class TrainingFolder:
    """The folder of a trained model.

    ``training.json`` names the parameters and images of the training, from its beginning, and its result at the end.
    The checkpoint, and the best weights so far, are removed when the training is finished.

    Args:
        path: the folder

    Attributes:
        path: the folder
        best: the file with the best weights so far, if the training keeps them
        result: what came of the training, once it is finished
        kind: what is trained, for messages
        elsewhere: what to do if another one is in the folder, for messages
    """

    kind = "model"
    elsewhere = "choose another path"

    def __init__(self, path: Path):
        self.path = path
        self._record, self._checkpoint = path / RECORD, path / "checkpoint.pt"
        self.best = path / "best.safetensors"
        self.result: dict[str, Any] = {}

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is an unfinished training to go on with."""
        return self._checkpoint.exists()

    def claim_for(self, parameters: Mapping[str, Any], images: Mapping[str, Mapping[str, Any]]) -> None:
        """Takes the folder for a training, or takes up the training that it holds.

        Args:
            parameters: what decides the weights, as plain values
            images: sample id -> its ``file``, and whatever else decides the weights

        Raises:
            ParameterError: it holds another training, or other files
        """
        wanted = {"parameters": json.loads(json.dumps(parameters)), "images": json.loads(json.dumps(images))}
        if self._record.exists():
            there = self.read()
            self.result = there.get("result", {})
            others = _differences(there, wanted)
            if others and not self.result and not self.has_checkpoint:
                self.clean()  # nothing was learnt yet, so nothing is lost
                self._write(wanted)
            elif others:
                raise ParameterError(
                    "path", str(self.path),
                    f"this folder holds the training of another {self.kind} ({'; '.join(others)}), which is not "
                    f"overwritten: {self.elsewhere}, or delete the folder",
                )  # fmt: skip
            return
        if self.path.is_dir() and any(not file.name.startswith(".partial-") for file in self.path.iterdir()):
            raise ParameterError(
                "path", str(self.path), "this folder holds other files: choose one that is empty or does not exist"
            )
        self._write(wanted)

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

        if not self.has_checkpoint:
            return None
        try:
            state: dict[str, Any] = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise IdsynthError(
                f"{self._checkpoint} is damaged ({str(error).splitlines()[0][:200]}): delete it, and the training "
                "begins anew"
            ) from error
        return state

    def finish(self, result: Mapping[str, Any]) -> None:
        """Notes the result, and removes what only the training needed."""
        self.result = dict(result)
        self._write({**self.read(), "result": self.result})
        self.clean()

    def clean(self) -> None:
        """Removes what only an unfinished training needs."""
        self._checkpoint.unlink(missing_ok=True)
        self.best.unlink(missing_ok=True)
        for partial in self.path.glob(".partial-*"):  # of a process that was killed
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink()

    def read(self) -> dict[str, Any]:
        """What is noted of the training."""
        try:
            record: dict[str, Any] = json.loads(self._record.read_text(encoding="utf-8"))
        except ValueError as error:
            raise IdsynthError(f"{self._record} is damaged ({error}): {self.elsewhere}") from error
        return record

    def _write(self, value: Mapping[str, Any]) -> None:
        write_atomically(self._record, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def _differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """In what two trainings differ, in words."""
    before, now = there.get("parameters", {}), wanted["parameters"]
    found = [
        f"{name}={before.get(name)!r}, not {now.get(name)!r}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    # A file may have moved; its content counts.
    had, has = (
        {id: {**image, "file": None} for id, image in record.get("images", {}).items()} for record in (there, wanted)
    )
    if had != has:
        changed = sum(had[id] != has[id] for id in had.keys() & has.keys())
        new, gone = len(has.keys() - had.keys()), len(had.keys() - has.keys())
        found.append(f"images: {gone} of its {len(had)} are missing now, {new} are new, {changed} have changed")
    return found
