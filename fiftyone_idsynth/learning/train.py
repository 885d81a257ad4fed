"""Training a model on what people labelled so far."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ..errors import ParameterError
from ..modelling import AllowPickle, Device, DType, Offline, Revision
from ..models.options import Options
from ..stage import (
    Bounds,
    Fraction,
    LabelField,
    NumWorkers,
    Progress,
    Report,
    Samples,
    Seed,
    current_run,
    stage,
)
from ..training_folder import TrainingFolder
from .training.answers import Answered, Task, chosen_classes, find_answered
from .training.linear_course import check_classes, train_linear
from .training.settings import EPOCHS, EXAMPLES, LEARNING_RATE, LINEAR, VALIDATION, Settings, precision_of

if TYPE_CHECKING:
    from .training.targets import Targets


@stage(label="Train a model", group="Learn", icon="model_training", unit="steps")
def train(
    samples: Samples,
    *,
    path: Path,
    task: Task = "classification",
    model: str = LINEAR,
    answers_field: Annotated[
        str, LabelField(("Classification", "Detections", "Polylines", "Segmentation"))
    ] = "ground_truth",
    classes: tuple[str, ...] = (),
    embeddings_field: str = "embedding",
    penalty: Annotated[float, Bounds(1e-6, 1e6)] = 1.0,
    epochs: Annotated[int | None, Bounds(1, 100_000)] = None,
    learning_rate: Annotated[float | None, Bounds(0, 1)] = None,
    train_batch_size: Annotated[int, Bounds(1, 1024)] = 16,
    validation: Fraction | None = None,
    patience: Annotated[int, Bounds(1, 100_000)] = 10,
    augment: bool = True,
    checkpoint_every: Annotated[int, Bounds(1, 1_000_000)] = 250,
    seed: Seed = 51,
    device: Device = "auto",
    dtype: DType = "auto",
    revision: Revision = None,
    offline: Offline = False,
    allow_pickle: AllowPickle = False,
    num_workers: NumWorkers = None,
    progress: Progress = None,
) -> Report:
    """Trains a classifier, a detector or a segmenter on the images that people have labelled.

    ``linear`` is a logistic regression on embeddings, which takes a moment. Everything else is a model of transformers,
    which gets a new head for the classes and is fine-tuned whole: an image classifier (ViT, ConvNeXt, ResNet, ...), a
    detector (DETR, RT-DETR, D-FINE, YOLOS, ...) or a semantic segmenter (SegFormer, BEiT, UperNet, ...). Detectors
    learn from Detections or the boxes round Polylines; segmenters from masks, from the masks of Detections or from
    Polylines.

    Rejected images, those of the split ``test`` and their relatives are never trained on, nor are labels that a model
    wrote and nobody changed. Images of the split ``val``, or else the share ``validation``, are held out, relatives
    together; the weights of the epoch with the least loss on them are kept. An image in which people found nothing
    teaches that too.

    The folder becomes an ordinary one of transformers, with the losses as a table and ``training.json`` with all
    parameters and images. A training that was interrupted goes on from its last checkpoint and ends as if it had not
    been; one that is finished is not done again. On processors the same seed gives the same weights. The samples are
    not changed.

    Args:
        path: the folder of the model; it must be new, empty or that of the same training
        task ("classification"): what the model learns
        model ("linear"): linear, or a hub id or folder, e.g. google/vit-base-patch16-224, PekingU/rtdetr_r18vd,
            nvidia/mit-b0
        answers_field ("ground_truth"): the labels of people
        classes (()): the classes to learn, by default all that people used. Images of others are left out; objects of
            others become background
        embeddings_field ("embedding"): the field with the images' embeddings, which the linear model learns from
        penalty (1.0): on large weights of the linear model: more makes it less sure
        epochs (None): how often all images are seen at most; 50 by default
        learning_rate (None): the greatest learning rate, of a new head ten times as much; 5e-5 by default
        train_batch_size (16): images whose gradients make one step
        validation (None): the share of the images that is held out; 0.2 by default, and none for the linear model
        patience (10): epochs without a lower loss on the held-out images after which the training stops
        augment (True): whether images are mirrored, cropped and recoloured by chance; not for what is another thing
            when mirrored, such as letters
        checkpoint_every (250): steps after which an interrupted training can go on
        seed (51): of every random choice
        dtype ("auto"): what is computed in; weights are always float32. auto means 16 bits on CUDA and 32 elsewhere

    Returns:
        a report with the images of each class, the quality on those held out, what was left out, and seconds per step
    """
    run = current_run()
    folder = TrainingFolder(path.expanduser().absolute())
    shared = {"task": task, "model": model, "version": run.stage.version}
    if model == LINEAR:
        _only_classes(task, epochs=epochs, learning_rate=learning_rate)
        found = find_answered(samples, run.dataset, answers_field, "classification")
        named = _keep(found, classes, answers_field)
        labels = {i: [answer] for i, answer in found.answers.items()}
        result = train_linear(
            found, named, found.kin.hold_out(labels, validation or 0.0, seed), folder, run,
            embeddings_field=embeddings_field, penalty=penalty,
            parameters={**shared, "embeddings_field": embeddings_field},
        )  # fmt: skip
    else:
        from .training.course import fine_tune
        from .training.targets import Targets
        from .training.trainee import find_trainee

        options = Options(device, dtype, revision, offline, allow_pickle)
        base = find_trainee(task, model, options)
        found = find_answered(samples, run.dataset, answers_field, task)
        targets = Targets(run.dataset, answers_field, found, task, classes)
        held_out = _held_out(targets, found, task, VALIDATION if validation is None else validation, seed)
        settings = Settings(
            task, tuple(targets.classes), epochs or EPOCHS, learning_rate or LEARNING_RATE, train_batch_size, patience,
            augment, seed, precision_of(options),
        )  # fmt: skip
        images = {i: {**stamp, "validates": i in held_out} for i, stamp in targets.stamps.items()}
        folder.claim_for({**shared, "revision": base.revision, **settings.storable()}, images)
        run.models[base.name] = base.revision
        result = None
        if not folder.result:
            examples = targets.examples
            result = fine_tune(
                base, options, settings, [e for i, e in examples.items() if i not in held_out],
                [e for i, e in examples.items() if i in held_out], folder, run, checkpoint_every=checkpoint_every,
                num_workers=num_workers,
            )  # fmt: skip
    if result is None:
        run.skipped(len(found.answers))
        result = folder.result
        folder.clean()
    else:
        run.processed(result["images"])
    return run.report({"model": str(folder.path), **result, **_left_out(found)})


def _only_classes(task: Task, **options: Any) -> None:
    """Refuses what the linear model cannot do."""
    if task != "classification":
        problem = f"the linear model only classifies: name a model of transformers, e.g. model={EXAMPLES[task]!r}"
        raise ParameterError("task", task, problem)
    for name, value in options.items():
        if value is not None:
            raise ParameterError(name, value, "the linear model has no such thing: leave it out")


def _keep(found: Answered, classes: tuple[str, ...], name: str) -> list[str]:
    """Leaves out what is of no class that is asked for; returns the classes."""
    named = chosen_classes(Counter(found.answers.values()), classes, name)
    others = [i for i, answer in found.answers.items() if answer not in named]
    for sample_id in others:
        del found.answers[sample_id]
    found.left_out["of other classes"] += len(others)
    return named


def _held_out(targets: Targets, found: Answered, task: Task, share: float, seed: int) -> set[str]:
    """The samples that validate; classes that none of them shows are named.

    Raises:
        FieldError: there is nothing to tell apart, or nothing left to train on
    """
    classes = targets.classes_of()
    held_out = found.kin.hold_out(classes, share, seed)
    trained = Counter(name for i, its in classes.items() if i not in held_out for name in its)
    validated = Counter(name for i, its in classes.items() if i in held_out for name in its)
    if len(held_out) == len(classes):
        raise ParameterError(
            "validation", share, f"all {len(classes)} labelled images would be held out, and none is left to train on: "
            "label more, or choose a smaller share"
        )  # fmt: skip
    if task == "classification":
        check_classes(sorted(trained), list(trained.elements()))
    note = current_run().note
    if untaught := [name for name in validated if not trained[name]]:
        note(f"only held-out images show {_listed(untaught)}: nothing is learnt of it; label more of them")
    if held_out and (unseen := [name for name in trained if not validated[name]]):
        note(f"no held-out image shows {_listed(unseen)}: label more of them to have it validated")
    if not held_out:
        note("no image is held out, so that the training goes on to its last epoch and nothing is validated")
    return held_out


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(sorted(names)[:5]) + more


def _left_out(found: Answered) -> dict[str, Any]:
    return {"left_out": dict(+found.left_out)} if +found.left_out else {}
