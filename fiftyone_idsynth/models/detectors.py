"""Boxes of fixed classes by detectors of transformers: DETR and its relatives, RT-DETR, D-FINE, YOLOS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .found import Found
from .options import Options
from .pretrained import Pretrained
from .regions import Descriptions, join, known_classes, relative_box
from .roles import Finder, Model, Region


def fits(found: Found, role: type[Model]) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES as FAMILIES

    if role is not Finder or found.file or found.model_type not in FAMILIES:
        return False
    return any("ForObjectDetection" in name for name in found.architectures)


def load(found: Found, options: Options, role: type[Model]) -> Model:
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    from .backends import load_pretrained, load_processor

    model = load_pretrained(AutoModelForObjectDetection, found, options)
    return Detector(model, load_processor(AutoImageProcessor, found), found)


class Detector(Pretrained, Finder):
    """A detector that gives a box and the scores of its classes for each of a number of queries.

    DETR and YOLOS share a probability of 1 among the classes and nothing; others judge each class alone. Either way a
    query is one object, of its likeliest class. No boxes are suppressed: these models learn to give one an object.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        labels = self.model.config.id2label
        return tuple(str(labels[number]) for number in range(len(labels)))

    def find(
        self,
        pictures: Sequence[np.ndarray],
        classes: Descriptions = (),
        *,
        threshold: float = 0.25,
        background: Sequence[str] = (),
        one_box: bool = False,
    ) -> list[list[Region]]:
        """Finds boxes of classes.

        Args:
            pictures: RGB, uint8, of any sizes
            classes (()): some of :attr:`classes`, or other labels for them, e.g. ``{"animal": ["cat", "dog"]}``; empty
                for all
            threshold (0.25): the least confidence, 0..1
            background (()): classes of the detector that are left out
            one_box (False): one box round all boxes of a class

        Returns:
            for each picture its regions, the surest first, with the scores of all classes that are asked for

        Raises:
            ParameterError: it has no such class
        """
        labels = known_classes(classes, self.classes, self.name)
        dropped = known_classes(background, self.classes, self.name) if background else {}
        wanted = [labels.get(name) if name not in dropped else None for name in self.classes]
        if not len(pictures):
            return []
        boxes, scores = self._run(pictures)
        found = []
        for corners, its_scores in zip(boxes, scores, strict=True):
            regions = []
            best = its_scores.argmax(axis=1)
            for number in np.flatnonzero(its_scores.max(axis=1) >= threshold):
                label = wanted[best[number]]
                box = relative_box(corners[number], 1, 1)
                if label is None or not (box[2] > 0 and box[3] > 0):
                    continue
                each = _merged(wanted, its_scores[number])
                regions.append(Region(label, float(its_scores[number].max()), box, scores=each))
            regions.sort(key=lambda region: -region.confidence)
            found.append(join(regions) if one_box else regions)
        return found

    def _run(self, pictures: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Relative corners (pictures x queries x 4) and scores (pictures x queries x classes)."""
        import torch

        inputs = self.processor(images=list(pictures), input_data_format="channels_last", return_tensors="pt")
        with torch.inference_mode():
            outputs = self.model(**inputs.to(self.model.device, self.model.dtype))
        logits, boxes = outputs.logits.float(), outputs.pred_boxes.float().cpu().numpy()
        shared = logits.shape[-1] == len(self.classes) + 1  # the last one is that of nothing
        scores = (logits.softmax(-1)[..., :-1] if shared else logits.sigmoid()).cpu().numpy()
        centre, size = boxes[..., :2], boxes[..., 2:]
        return np.concatenate([centre - size / 2, centre + size / 2], axis=-1), scores


def _merged(wanted: Sequence[Any], scores: np.ndarray) -> dict[str, float]:
    """Label -> the greatest score of its classes, the greatest first."""
    found: dict[str, float] = {}
    for number in np.argsort(-scores, kind="stable"):
        label = wanted[number]
        if label is not None:
            found.setdefault(label, float(scores[number]))
    return found
