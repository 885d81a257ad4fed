"""The course of a fine-tuning: what is claimed, trained, validated and left in the folder."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from ...media import write_atomically
from ...models.found import Found
from ...models.options import Options
from ...stage import Run
from ...training_folder import TrainingFolder
from .examples import Example
from .fitting import Fitting
from .settings import Settings
from .trainee import load_trainee

_ESTIMATE_AFTER = 5
"""Steps after which the rest of the time is estimated; the first ones are slower."""


def fine_tune(
    found: Found, options: Options, settings: Settings, examples: Sequence[Example], validation: Sequence[Example],
    folder: TrainingFolder, run: Run, *, checkpoint_every: int, num_workers: int | None,
) -> dict[str, Any]:  # fmt: skip
    """Trains a model, from the beginning or from the last checkpoint, and finishes its folder.

    Args:
        found: the model
        options: device
        settings: how it is trained
        examples: what it is trained on
        validation: what is held out
        folder: where it goes; it is claimed for this training
        run: shows how far it is
        checkpoint_every: steps between checkpoints
        num_workers: threads that decode images

    Returns:
        what came of it
    """
    trainee = load_trainee(settings.task, found, options, settings.classes, settings.seed)
    workers = num_workers or os.cpu_count() or 1
    fitting = Fitting(trainee, settings, examples, validation, folder, workers)
    fitting.resume()
    first, before = fitting.step, fitting.seconds
    with run.progress(fitting.steps - first) as bar:

        def after(step: int) -> None:
            bar.update(1)
            if step - first == _ESTIMATE_AFTER and step < fitting.steps:
                each, left = (fitting.seconds - before) / _ESTIMATE_AFTER, fitting.steps - step
                end = datetime.now() + timedelta(seconds=left * each)
                run.announce(f"at most {left} steps are left, {each:.2g} s each: done by about {end:%a %H:%M}")

        fitting.run(after, checkpoint_every)
    for file, why in fitting.refused.items():
        run.failed(file, why)
    result = _result(fitting, settings, examples, validation)
    trainee.save(folder.path)
    write_atomically(folder.path / "history.csv", _table(fitting.history))
    folder.finish(result)
    return result


def _result(
    fitting: Fitting, settings: Settings, examples: Sequence[Example], validation: Sequence[Example]
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "images": len(examples),
        "classes": list(settings.classes),
        "epochs": len(fitting.history),
        "stopped_early": fitting.stopped,
        "loss": round(fitting.history[-1]["loss"], 6),
        "seconds_per_step": round(fitting.seconds / max(1, fitting.step), 4),
    }
    if validation and fitting.best_epoch is not None:
        best = fitting.history[fitting.best_epoch - 1]
        result |= {
            "best_epoch": fitting.best_epoch,
            "validation_images": len(validation),
            "validation": {
                name.removeprefix("validation_"): value
                for name, value in best.items()
                if name.startswith("validation_")
            },
        }
    return result


def _table(history: Sequence[Mapping[str, float]]) -> bytes:
    """Losses and metrics of each epoch."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for epoch in history for name in epoch))
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["epoch", *names])
    table.writerows(
        [number, *(f"{epoch[name]:.6g}" for name in names)] for number, epoch in enumerate(history, start=1)
    )
    return text.getvalue().encode()
