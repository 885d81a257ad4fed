"""How good a model is on images that it was not trained on: pure functions."""

from __future__ import annotations

from collections.abc import Sequence

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
