"""The model that is trained: a model of transformers with a head for the classes that people used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...models.backends import load_processor, load_trainable
from ...models.errors import WrongModel
from ...models.found import look_up
from ...models.options import Options
from .answers import Task
from .settings import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ...models.found import Found


@dataclass(frozen=True)
class Trainee:
    """A model to train.

    Attributes:
        model: of transformers, on its device, in float32
        processor: what makes its inputs
        new: names of the parameters that were made anew
    """

    model: Any
    processor: Any
    new: frozenset[str]

    def save(self, folder: Path) -> None:
        """Writes an ordinary folder of transformers."""
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)


def find_trainee(task: Task, name: str, options: Options) -> Found:
    """Looks up a model that can learn a task.

    Raises:
        WrongModel: it cannot
        ModelError: it cannot be found
    """
    from transformers.models.auto import modeling_auto as auto

    families = {
        "classification": auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        "detection": auto.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES,
        "segmentation": auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES,
    }[task]
    found = look_up(name, options)
    if found.file or found.model_type not in families:
        raise WrongModel(
            f"{name} is {found.kind}, which cannot be trained for {task}: name a model of transformers for it, e.g. "
            f"{EXAMPLES[task]}"
        )
    return found


def load_trainee(task: Task, found: Found, options: Options, classes: Sequence[str], seed: int) -> Trainee:
    """Loads a model, with a new head unless it has one for as many classes.

    Args:
        task: what it learns
        found: where it is
        options: device, and whether pickled weights may be opened
        classes: the names of the classes
        seed: of the weights that are made anew

    Raises:
        ModelError: it cannot be loaded
    """
    import torch
    import transformers

    auto_class = {
        "classification": transformers.AutoModelForImageClassification,
        "detection": transformers.AutoModelForObjectDetection,
        "segmentation": transformers.AutoModelForSemanticSegmentation,
    }[task]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, new = load_trainable(auto_class, found, options, classes)
    if task == "classification":
        model.config.problem_type = "single_label_classification"
    return Trainee(model, load_processor(transformers.AutoImageProcessor, found), frozenset(new))
