"""What a part of the data is worth: the same model trained with and without it, and tested on real images."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from ..errors import EmptyViewError, FieldError, ParameterError
from ..modelling import AllowPickle, Device, DType, Offline, Revision
from ..models.options import Options
from ..stage import (
    Bounds,
    Fraction,
    LabelField,
    NumWorkers,
    Progress,
    Report,
    Run,
    Samples,
    Seed,
    current_run,
    fingerprint,
    stage,
    storable,
)
from ..training_folder import TrainingFolder
from .training.answers import Answered, Task, find_answered, test_answered
from .training.comparing import Gain, bootstrap_gain, mean_quality, miou_quality, t_gain
from .training.settings import EPOCHS, LEARNING_RATE, LINEAR, VALIDATION, Settings, precision_of

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

INFO = "usefulness"
"""The key of ``dataset.info`` under which the gains are: name of the part -> what was measured."""

METRICS: dict[Task, str] = {"classification": "accuracy", "detection": "mAP", "segmentation": "mIoU"}


@stage(label="Measure what a part of the data is worth", group="Learn", icon="balance", unit="steps")
def measure_usefulness(
    samples: Samples,
    *,
    part: Samples,
    task: Task = "classification",
    model: str = LINEAR,
    answers_field: Annotated[
        str, LabelField(("Classification", "Detections", "Polylines", "Segmentation"))
    ] = "ground_truth",
    classes: tuple[str, ...] = (),
    embeddings_field: str = "embedding",
    penalty: Annotated[float, Bounds(1e-6, 1e6)] = 1.0,
    repeats: Annotated[int, Bounds(1, 100)] = 5,
    confidence: Annotated[float, Bounds(0.5, 0.999)] = 0.95,
    path: Path | None = None,
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
    """Measures what a part of the data, such as the synthetic images, is worth to a model that is trained with it.

    The same model is trained with all labelled images and without those of the part, several times with different
    seeds, and each is tested on the labelled images of the split ``test`` that do not belong to the part and were not
    generated. Both get the same number of steps and are validated by the same images, none of the part. Relatives of
    test images are never trained on, nor are images that were made from them.

    The gain comes with a confidence interval. For classes (accuracy) and pixels (mean IoU) it covers the choice of the
    test images and of the seeds, by the bootstrap; for boxes (COCO's mAP) the choice of the seeds alone, by Student's
    t. The linear model is the same for every seed, so that it is trained once. An interval with zero in it says that
    the data does not show a gain, not that there is none. The result is kept in ``dataset.info["usefulness"]``.

    Args:
        part: what is left out in turn: a view, "DATASET:SAVED_VIEW" or "DATASET#TAG", e.g. "pandas#synthetic"
        task ("classification"): what the model learns
        model ("linear"): linear, or a hub id or folder of transformers, as in ``train``
        answers_field ("ground_truth"): the labels of people, or exact ones
        classes (()): the classes to learn, by default all that occur
        embeddings_field ("embedding"): the field with the images' embeddings, which the linear model learns from
        penalty (1.0): on large weights of the linear model
        repeats (5): seeds that models of transformers are trained with, both ways
        confidence (0.95): of the interval
        path (None): where the trained models are kept; by default they are deleted in the end
        epochs (None): how often the images are seen at most, with the part; 50 by default
        learning_rate (None): as in ``train``; 5e-5 by default
        train_batch_size (16): images whose gradients make one step
        validation (None): the share of the images outside the part that is held out; 0.2 by default, none for linear
        patience (10): epochs without a lower loss after which a training stops
        augment (True): whether images are mirrored, cropped and recoloured by chance
        checkpoint_every (250): steps after which an interrupted training can go on
        seed (51): of the first repeat; the others count on from it

    Returns:
        a report with the quality with and without the part, the gain and its interval
    """
    run = current_run()
    name = str(storable(part))
    found = find_answered(samples, run.dataset, answers_field, task)
    inside = _inside(found, part, name)
    tests = test_answered(samples, run.dataset, answers_field, task, set(part.values("id")), run)
    if model == LINEAR:
        _only_classes(task)
        comparison = _linear(found, tests, inside, classes, answers_field, embeddings_field, penalty)
        gain = bootstrap_gain(*comparison.counted, mean_quality, confidence, seed)
    else:
        options = Options(device, dtype, revision, offline, allow_pickle)
        settings = Settings(
            task, (), epochs or EPOCHS, learning_rate or LEARNING_RATE, train_batch_size, patience, augment, seed,
            precision_of(options),
        )  # fmt: skip
        comparison = _fine_tuned(
            found, tests, inside, classes, answers_field, model, options, settings, repeats,
            VALIDATION if validation is None else validation, path, checkpoint_every, num_workers,
        )  # fmt: skip
        gain = _gain(task, comparison, confidence, seed)
    run.processed(comparison.trainings)
    return run.report(_kept(run, name, task, gain, comparison, confidence))


@dataclass(frozen=True)
class _Comparison:
    """What was counted.

    Attributes:
        counted: with the part and without: repeats x images x ...; of boxes repeats x 1
        images: how many were trained on with the part, without it, and tested
        trainings: how many models were trained
    """

    counted: tuple[np.ndarray, np.ndarray]
    images: dict[str, int]
    trainings: int


def _inside(found: Answered, part: SampleCollection, name: str) -> set[str]:
    """The samples of the part among those that may be trained on."""
    inside = set(part.values("id")) & set(found.answers)
    if not inside:
        raise EmptyViewError(
            f"part={name!r}: none of its samples is labelled and may be trained on, so that there is nothing to leave "
            f"out. {'; '.join(f'{count} {why}' for why, count in found.left_out.items())}"
        )
    if len(inside) == len(found.answers):
        raise EmptyViewError(f"part={name!r}: all {len(inside)} labelled samples belong to it, none would be left")
    return inside


def _only_classes(task: Task) -> None:
    if task != "classification":
        raise ParameterError("task", task, "the linear model only classifies: name a model of transformers")


def _linear(
    found: Answered, tests: Answered, inside: set[str], classes: Sequence[str], answers: str, field: str, penalty: float
) -> _Comparison:
    """Fits the linear model both ways."""
    from ..embeddings import Embeddings
    from .training.linear import fit_linear
    from .training.linear_course import check_classes
    from .training.targets import Targets

    dataset = current_run().dataset
    if dataset.get_field(field) is None:
        raise ParameterError("embeddings_field", field, "there is no such field: name one with embeddings")
    named = Targets(dataset, answers, found, "classification", classes).classes
    embeddings = Embeddings(dataset, field)
    ids = list(found.answers)
    vectors, test_vectors = embeddings.of(ids), embeddings.of(list(tests.answers))
    if not (np.isfinite(vectors).all() and np.isfinite(test_vectors).all()) or not vectors.shape[1]:
        raise FieldError(
            f"embeddings_field={field!r}: some labelled or test images have no embedding: compute them all"
        )
    # A class of test images that nothing is trained on is missed both ways.
    true = np.array([named.index(label) if label in named else -1 for label in tests.answers.values()])
    hits = []
    sizes = {}
    for way, rows in (
        ("with", np.arange(len(ids))), ("without", np.array([n for n, i in enumerate(ids) if i not in inside])),
    ):  # fmt: skip
        labels = [found.answers[ids[row]] for row in rows]
        known = [name for name in named if name in set(labels)]
        check_classes(known, labels)
        model = fit_linear(vectors[rows], np.array([known.index(label) for label in labels]), known, penalty)
        said = np.array([named.index(name) for name in known])[model.probabilities(test_vectors).argmax(axis=1)]
        hits.append((said == true).astype(float)[None])
        sizes[way] = len(rows)
    return _Comparison((hits[0], hits[1]), {**sizes, "test": len(true)}, 2)


def _fine_tuned(
    found: Answered, tests: Answered, inside: set[str], classes: Sequence[str], answers: str, model: str,
    options: Options, settings: Settings, repeats: int, share: float, path: Path | None, checkpoint_every: int,
    num_workers: int | None,
) -> _Comparison:  # fmt: skip
    """Trains and tests a model of transformers both ways with each seed."""
    from ..models.loading import release
    from .training.counting import count_images
    from .training.course import fine_tune
    from .training.targets import Targets
    from .training.trainee import find_trainee

    run = current_run()
    task = settings.task
    base = find_trainee(task, model, options)
    run.models[base.name] = base.revision
    targets = Targets(run.dataset, answers, found, task, classes)
    judged = list(Targets(run.dataset, answers, tests, task, known=targets.classes).examples.values())
    if tests.left_out:
        run.note(f"test images left out: {', '.join(f'{count} {why}' for why, count in tests.left_out.items())}")
    root = path.expanduser().absolute() if path else _place(run)
    counted: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    sizes = {"test": len(judged)}
    for number in range(repeats):
        chosen = replace(settings, classes=tuple(targets.classes), seed=settings.seed + number)
        outside = {i: its for i, its in targets.classes_of().items() if i not in inside}
        held_out = found.kin.hold_out(outside, share, chosen.seed)
        all_of_it = [i for i in targets.examples if i not in held_out]
        for way, left_out in enumerate((set[str](), inside)):
            ids = [i for i in all_of_it if i not in left_out]
            sizes[("with", "without")[way]] = len(ids)
            # As many steps for both: fewer images are seen more often.
            longer = len(all_of_it) / len(ids)
            own = replace(
                chosen, epochs=round(chosen.epochs * longer), patience=max(1, round(chosen.patience * longer))
            )
            folder = TrainingFolder(root / f"{('with', 'without')[way]}-{chosen.seed}")
            images = {i: {**targets.stamps[i], "validates": i in held_out} for i in [*ids, *sorted(held_out)]}
            folder.claim_for({"model": model, "revision": base.revision, **own.storable()}, images)
            if not folder.result:
                fine_tune(
                    base, options, own, [targets.examples[i] for i in ids],
                    [targets.examples[i] for i in targets.examples if i in held_out], folder, run,
                    checkpoint_every=checkpoint_every, num_workers=num_workers,
                )  # fmt: skip
            used = replace(options, revision=None, dtype="float32")
            counted[way].append(
                count_images(task, str(folder.path), judged, targets.classes, used, settings.batch_size)
            )
            release()
    if path is None:
        shutil.rmtree(root)
    return _Comparison((np.array(counted[0]), np.array(counted[1])), sizes, 2 * repeats)


def _place(run: Run) -> Path:
    from ..media import media_store

    return Path(media_store(run.dataset).root) / INFO / fingerprint(run.fingerprint, run.target)


def _gain(task: Task, comparison: _Comparison, confidence: float, seed: int) -> Gain:
    first, second = comparison.counted
    if task == "classification":
        return bootstrap_gain(first, second, mean_quality, confidence, seed)
    if task == "segmentation":
        return bootstrap_gain(first, second, miou_quality, confidence, seed)
    if len(first) < 2:
        raise ParameterError("repeats", len(first), "an interval for boxes needs two seeds at least")
    return t_gain(first[:, 0].tolist(), second[:, 0].tolist(), confidence)


def _kept(run: Run, name: str, task: Task, gain: Gain, comparison: _Comparison, confidence: float) -> dict[str, Any]:
    """Keeps what was measured with the dataset, and says what it means."""
    metric = METRICS[task]
    outputs: dict[str, Any] = {
        "part": name,
        "metric": metric,
        "with": round(gain.first, 6),
        "without": round(gain.second, 6),
        "gain": round(gain.value, 6),
        "interval": [round(gain.low, 6), round(gain.high, 6)],
        "confidence": confidence,
        "includes_zero": not gain.is_clear,
        "repeats": len(comparison.counted[0]),
        "images": comparison.images,
    }
    if gain.is_clear:
        outputs["verdict"] = f"the part makes the {metric} {'better' if gain.value > 0 else 'worse'}"
    else:
        outputs["verdict"] = f"no gain is shown: the interval of the difference in {metric} includes zero"
    run.dataset.info[INFO] = {**run.dataset.info.get(INFO, {}), name: outputs}
    run.dataset.save()
    return outputs
