"""How good a model is on images that it was not trained on: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def class_metrics(answers: Sequence[str], said: Sequence[str | None]) -> dict[str, float]:
    """Accuracy, and the mean over the classes of people's answers of the share that was found (balanced accuracy).

    Args:
        answers: the class that people gave each image
        said: the class that the model gave it
    """
    right = np.array([a == s for a, s in zip(answers, said, strict=True)], float)
    names = np.array(list(answers), object)
    recalls = [right[names == name].mean() for name in dict.fromkeys(answers)]
    return {"accuracy": round(float(right.mean()), 6), "balanced_accuracy": round(float(np.mean(recalls)), 6)}


class Validation:
    """Adds up the loss and the metrics of what is held out.

    Args:
        task: what the model does
        classes: the names of its classes
    """

    def __init__(self, task: str, classes: Sequence[str]):
        self._task, self._classes = task, classes
        self._loss, self._count = 0.0, 0
        self._true: list[str] = []
        self._said: list[str | None] = []
        self._confusion = np.zeros((len(classes), len(classes)), np.int64)

    def add(self, loss: float, count: int, logits: Any, labels: Any) -> None:
        """Adds a batch.

        Args:
            loss: its mean loss
            count: its images
            logits: what the model gave, float32
            labels: what would have been right
        """
        self._loss += loss * count
        self._count += count
        if self._task == "classification":
            self._true += [self._classes[number] for number in labels.tolist()]
            self._said += [self._classes[number] for number in logits.argmax(-1).tolist()]
        elif self._task == "segmentation":
            from torch.nn.functional import interpolate

            larger = interpolate(logits, labels.shape[-2:], mode="bilinear")
            said, true = larger.argmax(1).cpu().numpy(), labels.cpu().numpy()
            there = true < len(self._classes)
            pairs = true[there] * len(self._classes) + said[there]
            self._confusion += np.bincount(pairs, minlength=self._confusion.size).reshape(self._confusion.shape)

    def summary(self) -> dict[str, float]:
        """The mean loss; of classes the accuracies; of pixels the mean IoU of the classes that occur."""
        found = {"loss": self._loss / max(1, self._count)}
        if self._true:
            found |= class_metrics(self._true, self._said)
        if self._confusion.any():
            each = class_iou(self._confusion, self._classes)
            found["mIoU"] = float(np.mean(list(each.values())))
        return {name: round(value, 6) for name, value in found.items()}


def class_iou(confusion: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """The intersection over union of each class that occurs.

    Args:
        confusion: pixels, true class x predicted class
        classes: their names

    Returns:
        class -> 0..1
    """
    right = np.diag(confusion).astype(float)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - right
    return {name: float(r / u) for name, r, u in zip(classes, right, union, strict=True) if u > 0}
