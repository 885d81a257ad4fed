"""Training a model on what people labelled so far."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from ..errors import ParameterError
from ..stage import Bounds, Fraction, LabelField, Progress, Report, Samples, Seed, current_run, stage
from ..training_folder import TrainingFolder
from .training.answers import Answered, chosen_classes, find_answered
from .training.linear_course import train_linear

LINEAR = "linear"


@stage(label="Train a model", group="Learn", icon="model_training", unit="steps")
def train(
    samples: Samples,
    *,
    path: Path,
    model: str = LINEAR,
    answers_field: Annotated[str, LabelField(("Classification",))] = "ground_truth",
    classes: tuple[str, ...] = (),
    embeddings_field: str = "embedding",
    penalty: Annotated[float, Bounds(1e-6, 1e6)] = 1.0,
    validation: Fraction | None = None,
    seed: Seed = 51,
    progress: Progress = None,
) -> Report:
    """Trains a model on the images that people have labelled.

    ``linear`` is a logistic regression on embeddings, which takes a moment. Rejected images, those of the split
    ``test`` and their relatives are never trained on. Images of the split ``val``, or else the share ``validation``,
    are held out, relatives together, and measure the model.

    The folder gets the weights and ``training.json`` with all parameters and images. The same training is not done
    again. The samples are not changed.

    Args:
        path: the folder of the model; it must be new, empty or that of the same training
        model ("linear"): what is trained
        answers_field ("ground_truth"): the labels of people
        classes (()): the classes to learn, by default all that people used; images of others are left out
        embeddings_field ("embedding"): the field with the images' embeddings, which the linear model learns from
        penalty (1.0): of large weights in the linear model: more makes it less sure
        validation (None): the share of the images that is held out; none by default for the linear model
        seed (51): of every random choice

    Returns:
        a report with the number of images of each class, how well the held-out ones were told, and what was left out
    """
    run = current_run()
    if model != LINEAR:
        raise ParameterError("model", model, f"must be {LINEAR!r}")
    folder = TrainingFolder(path.expanduser().absolute())
    found = find_answered(samples, run.dataset, answers_field, "classification")
    named = _keep(found, classes, answers_field)
    held_out = found.kin.hold_out({i: [answer] for i, answer in found.answers.items()}, validation or 0.0, seed)
    parameters = {
        "task": "classification", "model": model, "version": run.stage.version, "embeddings_field": embeddings_field,
    }  # fmt: skip
    result = train_linear(
        found, named, held_out, folder, run, embeddings_field=embeddings_field, penalty=penalty, parameters=parameters
    )  # fmt: skip
    if result is None:
        run.skipped(len(found.answers))
        result = folder.result
    else:
        run.processed(result["images"])
    return run.report({"model": str(folder.path), **result, **_left_out(found)})


def _keep(found: Answered, classes: tuple[str, ...], name: str) -> list[str]:
    """Leaves out what is of no class that is asked for; returns the classes."""
    named = chosen_classes(Counter(answer for answer in found.answers.values()), classes, name)
    others = [i for i, answer in found.answers.items() if answer not in named]
    for sample_id in others:
        del found.answers[sample_id]
    found.left_out["of other classes"] += len(others)
    return named


def _left_out(found: Answered) -> dict[str, Any]:
    return {"left_out": dict(+found.left_out)} if +found.left_out else {}
