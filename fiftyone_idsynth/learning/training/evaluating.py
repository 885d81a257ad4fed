"""How good a model's labels are on test images, by FiftyOne's evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...samples import active
from ..candidates import TEST_TAG
from .answers import Task
from .metrics import class_iou, class_metrics

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

FIELD_KINDS: dict[Task, str] = {
    "classification": "Classification", "detection": "Detections", "segmentation": "Segmentation",
}  # fmt: skip
"""Task -> the kind of label that its models write, and that theirs is compared with."""


def test_samples(samples: SampleCollection, answers: str, task: Task) -> SampleCollection | None:
    """The samples of the split ``test`` that people answered, if there are any."""
    field = samples.get_field(answers)
    kind = getattr(field, "document_type", None)
    if kind is None or kind.__name__ != FIELD_KINDS[task]:
        return None
    path = f"{answers}.label" if task == "classification" else answers
    view = active(samples).match_tags(TEST_TAG).exists(path)
    return view if len(view) else None


def evaluate(
    view: SampleCollection, task: Task, predicted: str, answers: str, key: str, *, progress: Any = None
) -> dict[str, Any]:
    """Compares a model's labels with people's, and stores the evaluation with the dataset.

    Args:
        view: the test samples
        task: what the model does
        predicted: the field with its labels
        answers: the field with people's
        key: the name of the evaluation
        progress (None): as in FiftyOne

    Returns:
        the number of images, and: of classes the accuracy, the balanced accuracy and the macro averages of precision,
        recall and F1; of boxes COCO's mAP, and precision and recall at an IoU of 0.5; of masks the mean IoU of the
        classes, the accuracy of the pixels and the IoU of each class
    """
    found = {"classification": _classes, "detection": _boxes, "segmentation": _masks}[task]
    return {"images": len(view), **found(view, predicted, answers, key, progress)}


def _classes(view: SampleCollection, predicted: str, answers: str, key: str, progress: Any) -> dict[str, Any]:
    results = view.evaluate_classifications(predicted, gt_field=answers, eval_key=key, progress=progress)
    macro = results.metrics(average="macro")
    said, true = view.values([f"{predicted}.label", f"{answers}.label"])
    averages = {"precision": macro["precision"], "recall": macro["recall"], "f1": macro["fscore"]}
    return {**class_metrics(true, said), **{name: round(float(value), 6) for name, value in averages.items()}}


def _boxes(view: SampleCollection, predicted: str, answers: str, key: str, progress: Any) -> dict[str, Any]:
    results = view.evaluate_detections(
        predicted, gt_field=answers, eval_key=key, compute_mAP=True, use_boxes=True, progress=progress
    )
    at_half = results.metrics()
    found = {"mAP": results.mAP(), "precision": at_half["precision"], "recall": at_half["recall"]}
    return {name: round(max(float(value), 0.0), 6) for name, value in found.items()}  # of no object it is -1


def _masks(view: SampleCollection, predicted: str, answers: str, key: str, progress: Any) -> dict[str, Any]:
    dataset = view._dataset
    targets = dataset.mask_targets.get(answers) or dataset.default_mask_targets or {}
    named = {int(value): str(name) for value, name in {0: "background", **targets}.items()}
    results = view.evaluate_segmentations(
        predicted, gt_field=answers, eval_key=key, mask_targets=named, progress=progress
    )
    confusion = np.asarray(results.pixel_confusion_matrix)
    each = class_iou(confusion, [str(name) for name in results.classes][: len(confusion)])
    return {
        "mIoU": round(float(np.mean(list(each.values()))), 6),
        "accuracy": round(float(np.trace(confusion) / max(confusion.sum(), 1)), 6),
        "IoU": {name: round(value, 6) for name, value in each.items()},
    }
