"""What stages with a pretrained model share: their parameters, and the worker that puts images through the model."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from .engine.worker import Item, Worker
from .errors import ParameterError
from .models.options import Precision
from .stage import Bounds, Described, current_run, fingerprint

if TYPE_CHECKING:
    from .models.options import Options
    from .models.roles import Model

__all__ = [
    "AllowPickle", "DType", "Device", "ModelBatch", "ModelWorker", "Offline", "Revision", "check_label_field",
]  # fmt: skip

Device = Annotated[str, Described("where models run: auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:N or mps")]
DType = Annotated[
    Precision,
    Described(
        "precision of the model: auto means 16 bits where the device computes in them (CUDA, and processors with "
        "instructions for bfloat16) and 32 elsewhere"
    ),
]
Revision = Annotated[str | None, Described("branch, tag or commit of the model on the hub")]
Offline = Annotated[bool, Described("whether only local folders and what was downloaded before are used")]
AllowPickle = Annotated[bool, Described("whether pickled weights may be opened, which can run code that is in them")]
ModelBatch = Annotated[
    int, Bounds(1, 1024), Described("images that the model gets at once; halved when the device's memory is short")
]

KEPT_FOR_PEOPLE = {"ground_truth"}
"""Fields that hold exact or human labels only."""


def check_label_field(name: str, parameter: str = "label_field") -> None:
    """Refuses fields that models must not write to.

    Raises:
        ParameterError: it is one of them, or no name of a field
    """
    if name in KEPT_FOR_PEOPLE:
        raise ParameterError(parameter, name, "this field is kept for exact and human labels: choose another one")
    if not name.isidentifier():
        raise ParameterError(parameter, name, "give the name of a field: letters, digits and _")


class ModelWorker(Worker):
    """Puts decoded images through a model, loaded once per process, and makes field values of what it says.

    Args:
        role: the kind of model
        name: its id or folder
        options: how it is loaded
        key: what the values depend on besides the image and the model's weights
        batch_size: images that the model gets at once
    """

    serial = True

    def __init__(self, role: type[Model], name: str, options: Options, key: Any, batch_size: int):
        self._role, self._name, self._options, self._batch_size = role, name, options, batch_size
        model = self.model  # loaded here, so that a wrong name fails before anything runs
        self.about = {"model": model.name, "revision": model.revision}
        self.key = fingerprint(type(self).__name__, model.name, model.revision, options.dtype, key)

    @property
    def model(self) -> Any:
        """The model; loaded when it is first asked for in a process."""
        from .models.loading import find_model

        return find_model(self._role, self._name, self._options)

    def setup(self) -> None:
        """Loads the model."""
        self.model  # noqa: B018

    def __call__(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        # Pillow's arrays cannot be written to, which torch wants of what it takes over.
        pictures = [np.require(item.image.pixels, requirements="W") for item in items if item.image is not None]
        answers = self.ask(pictures, items)
        return [self.values(item, answer) for item, answer in zip(items, answers, strict=True)]

    def batches(self, function: Any, pictures: Sequence[np.ndarray]) -> list[Any]:
        """Puts pictures through a method of the model, in batches that shrink when memory is short."""
        from .models.batches import in_batches

        return in_batches(function, pictures, self._batch_size, self._note)

    @abc.abstractmethod
    def ask(self, pictures: Sequence[np.ndarray], items: Sequence[Item]) -> Sequence[Any]:
        """What the model says of each picture."""

    @abc.abstractmethod
    def values(self, item: Item, answer: Any) -> dict[str, Any]:
        """The field values of a sample."""

    def record(self) -> None:
        """Notes the model in the run's record."""
        current_run().models[self.about["model"]] = self.about["revision"]

    def _note(self, text: str) -> None:
        current_run().note(text)
