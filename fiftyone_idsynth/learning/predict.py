"""Letting a trained model label images, and measuring it on the test images that people labelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from .. import fields
from ..errors import FieldError, ParameterError
from ..modelling import AllowPickle, Device, DType, ModelBatch, Offline, Revision, check_label_field
from ..models.options import Options
from ..stage import (
    Fraction,
    LabelField,
    NumWorkers,
    Progress,
    Report,
    Samples,
    current_run,
    stage,
)
from .training.answers import Task
from .training.evaluating import FIELD_KINDS, evaluate, test_samples

if TYPE_CHECKING:
    import fiftyone as fo
    from fiftyone.core.collections import SampleCollection

    from ..models.found import Found

LABEL_FIELDS: dict[Task, str] = {
    "classification": "classification", "detection": "detections", "segmentation": "segmentation",
}  # fmt: skip
"""Task -> the field that gets the labels, unless another one is named."""


@stage(label="Predict with a model", group="Learn", icon="online_prediction")
def predict(
    samples: Samples,
    *,
    model: str,
    task: Task | None = None,
    label_field: str | None = None,
    threshold: Fraction | None = None,
    answers_field: Annotated[str, LabelField(tuple(FIELD_KINDS.values()))] = "ground_truth",
    embeddings_field: str | None = None,
    eval_key: str | None = None,
    device: Device = "auto",
    dtype: DType = "auto",
    revision: Revision = None,
    offline: Offline = False,
    allow_pickle: AllowPickle = False,
    batch_size: ModelBatch = 16,
    num_workers: NumWorkers = None,
    progress: Progress = None,
) -> Report:
    """Lets a trained model label images, and measures it on the test images that people labelled.

    The model is a folder that ``train`` wrote, or any other classifier, detector or semantic segmenter. Classes get
    ``scores``, the probabilities of the hundred likeliest, and so do the boxes of detectors of transformers, so that
    ``select_uncertain`` can tell what the model is unsure of. Labels that a person made, changed or removed stay as
    they are; rejected images are left out.

    Images of the split ``test`` with an answer of a person measure the model: accuracy and macro averages for classes,
    COCO's mAP for boxes, mean IoU for masks. The evaluation is stored with the dataset, where the App shows it.

    Args:
        model: a folder of ``train``, a hub id, a folder or an .onnx file
        task (None): what the model does, where its files do not tell
        label_field (None): the field that gets the labels; by default ``classification``, ``detections`` or
            ``segmentation``
        threshold (None): least confidence; by default 0 for classes and pixels, and 0.05 for boxes, of which the mAP
            needs the unsure ones too
        answers_field ("ground_truth"): the labels of people, which the model's are compared with
        embeddings_field (None): the field with the embeddings for a linear model; by default the one it was trained
            with
        eval_key (None): the name of the evaluation; by default ``eval_`` and the label field
        batch_size (16): images that the model gets at once; halved when the device's memory is short

    Returns:
        a report with what was found, and the quality on the test images
    """
    from ..models.found import look_up
    from ..samples import active, require_samples
    from .training.linear import MODEL_TYPE

    run = current_run()
    samples = active(samples)
    require_samples(samples)
    options = Options(device, dtype, revision, offline, allow_pickle)
    found = look_up(model, options)
    linear = found.model_type == MODEL_TYPE
    task = _task(found, task, linear)
    label_field = label_field or LABEL_FIELDS[task]
    check_label_field(label_field)
    if label_field == answers_field:
        raise ParameterError("label_field", label_field, "this field holds people's labels: name another one")
    tests = test_samples(samples, answers_field, task)
    if linear:
        outputs, classes = _predict_linear(samples, found, label_field, threshold or 0.0, embeddings_field)
    else:
        from ..engine import update_samples
        from .training.workers import classes_of, make_worker, summary

        worker = make_worker(task, model, options, label_field, threshold, batch_size, run.dataset, answers_field)
        worker.record()
        fields.declare_label(run.dataset, label_field, FIELD_KINDS[task])
        update_samples(samples, worker, batch_size=batch_size, num_workers=num_workers)
        outputs, classes = summary(run.dataset, samples.values("id"), label_field, task), classes_of(worker.model)
    if tests is not None:
        if differing := _differing(classes, tests, answers_field, task):
            run.note(differing)
        key = eval_key or f"eval_{label_field}"
        outputs["test"] = evaluate(tests, task, label_field, answers_field, key, progress=progress)
        outputs["evaluation"] = key
    else:
        run.note(_not_measured(samples, answers_field, task))
    return run.report(outputs)


def _task(found: Found, task: Task | None, linear: bool) -> Task:
    """What a model does.

    Raises:
        WrongModel: none of the tasks
        ParameterError: its files do not tell, or it does something else
    """
    if linear:
        if task not in (None, "classification"):
            raise ParameterError("task", task, f"{found.name} is a linear model, which classifies")
        return "classification"
    if task is not None:
        return task
    from ..models.errors import WrongModel
    from .training.workers import tasks_of

    possible = tasks_of(found)
    if not possible:
        raise WrongModel(
            f"{found.name} is {found.kind}, which is no classifier, detector or segmenter with classes of its own: "
            "name a folder that train wrote, or such a model; classify, detect and segment use those that take any text"
        )
    if len(possible) > 1:
        raise ParameterError("task", None, f"{found.name} may do several: say which, {' or '.join(possible)}")
    return possible[0]


def _predict_linear(
    samples: SampleCollection, found: Found, label_field: str, threshold: float, embeddings_field: str | None
) -> tuple[dict[str, Any], Sequence[str]]:
    """Labels samples by their embeddings; returns what was found, and the classes of the model."""
    from ..embeddings import Embeddings
    from ..samples import pages
    from .training.linear import load_linear
    from .training.linear_labels import write_classes

    run, dataset = current_run(), current_run().dataset
    assert found.folder is not None
    model = load_linear(found.folder)
    source = embeddings_field or str(found.config.get("embeddings_field"))
    ids = _embedded(samples, dataset, source, found)
    embeddings = Embeddings(dataset, source)
    dimensions = embeddings.of(ids[:1]).shape[1]
    if dimensions != model.weight.shape[1]:
        raise ParameterError(
            "embeddings_field", source, f"it holds vectors of {dimensions} numbers, and {found.name} was trained with "
            f"{model.weight.shape[1]}: name the field it was trained with"
        )  # fmt: skip
    run.models[found.name] = found.revision
    fields.declare_label(dataset, label_field, "Classification")
    about = {"model": found.name, "revision": found.revision}
    write_classes(dataset, ids, model, embeddings, label_field, threshold, about, run)
    counts: Counter[str | None] = Counter()
    for page in pages(ids):
        counts.update(dataset.select(page).values(f"{label_field}.label"))
    without = counts.pop(None, 0)
    outputs: dict[str, Any] = {"classes": dict(counts.most_common()), "without a class": without}
    lacking = samples.count() - len(ids)
    if lacking:
        outputs["without an embedding"] = lacking
    return outputs, model.classes


def _embedded(samples: SampleCollection, dataset: fo.Dataset, name: str, found: Found) -> list[str]:
    """The samples that have an embedding.

    Raises:
        FieldError: none has, or they were made by another model than those that were trained with
    """
    field = dataset.get_field(name)
    ids: list[str] = samples.exists(name).values("id") if field is not None else []
    if field is None or not ids:
        raise FieldError(
            f"embeddings_field={name!r}: the samples have no embeddings there, which the linear model {found.name} "
            "needs: name another field, or let select_uncertain compute them (its parameter model)"
        )
    made_by, trained_with = dict(field.info or {}), found.config.get("embeddings_made_by") or {}
    if made_by and trained_with and made_by != trained_with:
        raise FieldError(
            f"embeddings_field={name!r}: they were made by {made_by.get('model')}, and {found.name} was trained with "
            f"those of {trained_with.get('model')}: name another field, or train anew"
        )
    return ids


def _differing(classes: Sequence[str], tests: SampleCollection, answers: str, task: Task) -> str:
    """What to say where the classes of the model are not those of the test images; empty if they are."""
    path = {"classification": "label", "detection": "detections.label"}.get(task)
    if path is None or not classes:
        return ""
    counts = tests.count_values(f"{answers}.{path}")
    unknown = {str(name): count for name, count in counts.items() if name is not None and name not in set(classes)}
    if not unknown:
        return ""
    listed = ", ".join(f"{name} ({count})" for name, count in sorted(unknown.items())[:10])
    return f"the model does not know some classes of the test images, which count as mistakes: {listed}"


def _not_measured(samples: SampleCollection, answers: str, task: Task) -> str:
    """Why there is nothing to measure the model with."""
    field = samples.get_field(answers)
    kind = getattr(field, "document_type", None)
    if field is None:
        return f"the model was not measured: there is no field {answers!r} with people's labels"
    if kind is None or kind.__name__ != FIELD_KINDS[task]:
        holds = kind.__name__ if kind else type(field).__name__
        return f"the model was not measured: {answers!r} holds {holds}, and {FIELD_KINDS[task]} would be needed"
    return f"the model was not measured: no image with the tag 'test' has an answer in {answers!r}"
