"""Models of FiftyOne's zoo, and any other ``fo.Model``, as finders and taggers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import suggestion
from .errors import ModelNotFound, WrongModel
from .found import Found
from .options import Options
from .regions import Descriptions, class_texts, join, known_classes, mask_regions, suppress
from .roles import Finder, Model, Region, Tag, Tagger

_KINDS = {Tagger: ("classification", "tagging"), Finder: ("detection", "segmentation", "instances")}
"""Role -> how the zoo calls models that fit."""


def fits(found: Found, role: type[Model]) -> bool:
    return role in _KINDS and found.scheme == "zoo"


def load(found: Found, options: Options, role: type[Model]) -> Model:
    name = found.name.partition(":")[2]
    model = zoo_model(name, role, options.torch_device())
    return FiftyOneTagger(model, found.name) if role is Tagger else FiftyOneFinder(model, found.name)


class _FiftyOne:
    """What both roles share.

    Args:
        model: a ``fiftyone.core.models.Model`` for images
        name: what it is called in labels and messages
        revision (""): which weights it has, if that is known
    """

    def __init__(self, model: Any, name: str, revision: str = ""):
        self.model = model
        self.name = name
        self.revision = revision
        device = getattr(model, "device", None) or getattr(model, "_device", None)
        self.device = str(device) if device is not None else "cpu"
        media = getattr(model, "media_type", "image")
        if "image" not in ([media] if isinstance(media, str) else media):
            raise WrongModel(f"{name} is a model for {media}, not for images")

    @property
    def about(self) -> str:
        return f"{self.name} ({type(self.model).__name__})"

    def _predicted(self, pictures: Sequence[np.ndarray]) -> list[Any]:
        """The labels of each picture; models whose batches need pictures of one size get them one by one."""
        if not len(pictures):
            return []
        with self.model:
            if getattr(self.model, "ragged_batches", True) and len({p.shape for p in pictures}) > 1:
                return [self.model.predict(picture) for picture in pictures]
            return list(self.model.predict_all(list(pictures)))


class FiftyOneFinder(_FiftyOne, Finder):
    """A detection or segmentation model."""

    @property
    def classes(self) -> tuple[str, ...] | None:
        known = getattr(self.model, "classes", None)
        return tuple(known) if known else None

    def find(
        self,
        pictures: Sequence[np.ndarray],
        classes: Descriptions = (),
        *,
        threshold: float = 0.25,
        background: Sequence[str] = (),
        one_box: bool = False,
        iou: float = 0.5,
        min_area: float = 0.001,
    ) -> list[list[Region]]:
        """Finds regions of classes.

        Args:
            pictures: RGB, uint8, of any sizes
            classes (()): some of the model's classes, or other labels for them, e.g. ``{"animal": ["cat", "dog"]}``;
                empty for all
            threshold (0.25): the least confidence, 0..1; what has none counts as 1
            background (()): classes of the model that are left out
            one_box (False): one region round all regions of a class
            iou (0.5): of boxes of one class that overlap more than this, the surest is kept
            min_area (0.001): of a semantic segmentation, connected components with a smaller share of the picture are
                dropped

        Returns:
            for each picture its regions, the surest first

        Raises:
            ParameterError: it has no such class
            WrongModel: it predicts neither detections nor a segmentation
        """
        found = []
        for picture, label in zip(pictures, self._predicted(pictures), strict=True):
            regions = [r for r in self._regions(label, picture, min_area) if r.confidence >= threshold]
            known = self.classes or tuple(dict.fromkeys([*_named(classes), *_named(background)]))
            labels = known_classes(classes, known, self.name) if classes else {r.label: r.label for r in regions}
            left_out = known_classes(background, known, self.name) if background else {}
            chosen = [
                Region(labels[r.label], r.confidence, r.box, r.mask)
                for r in regions
                if r.label in labels and r.label not in left_out
            ]
            kept = suppress(chosen, iou)
            found.append(join(kept) if one_box else kept)
        return found

    def _regions(self, label: Any, picture: np.ndarray, min_area: float) -> list[Region]:
        import fiftyone as fo

        if isinstance(label, dict):
            kinds = (fo.Detections, fo.Segmentation)
            label = next((part for part in label.values() if isinstance(part, kinds)), label)
        if label is None:
            return []
        if isinstance(label, fo.Detections):
            return [_region(detection, picture.shape[:2]) for detection in label.detections]
        if isinstance(label, fo.Segmentation):
            return self._segments(np.asarray(label.get_mask()), picture.shape[:2], min_area)
        raise WrongModel(
            f"{self.name} predicts {type(label).__name__}, in which there are no regions: name a model that predicts "
            "detections or a segmentation"
        )

    def _segments(self, mask: np.ndarray, size: tuple[int, int], min_area: float) -> list[Region]:
        """The connected components of each class of a map of class numbers, 0 being the background."""
        import cv2

        if mask.ndim != 2:
            raise WrongModel(f"{self.name} predicts a coloured segmentation; one of class numbers is needed")
        mask = cv2.resize(mask.astype(np.int32), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        names, sure, found = self.classes or (), np.ones(size, np.float32), []
        for number in np.unique(mask[mask > 0]):
            name = names[number] if number < len(names) else str(number)
            found += mask_regions(name, mask == number, sure, min_area=min_area)
        return found


class FiftyOneTagger(_FiftyOne, Tagger):
    """A classification model, or one that predicts several classes for a picture."""

    @property
    def categories(self) -> tuple[str, ...]:
        return ("general",)

    def tag(self, pictures: Sequence[np.ndarray], threshold: float = 0.0) -> list[list[Tag]]:
        """Tags pictures.

        Args:
            pictures: RGB, uint8, of any sizes
            threshold (0): the least confidence, 0..1

        Returns:
            for each picture what the model predicts, the surest first; what has no confidence counts as 1

        Raises:
            WrongModel: it predicts no classifications
        """
        found = []
        for label in self._predicted(pictures):
            tags = [Tag(c.label, _confidence(c)) for c in self._classifications(label)]
            found.append(sorted((t for t in tags if t.confidence >= threshold), key=lambda t: -t.confidence))
        return found

    def _classifications(self, label: Any) -> list[Any]:
        import fiftyone as fo

        if isinstance(label, dict):
            kinds = (fo.Classification, fo.Classifications)
            label = next((part for part in label.values() if isinstance(part, kinds)), label)
        if label is None:
            return []
        if isinstance(label, fo.Classification):
            return [label]
        if isinstance(label, fo.Classifications):
            return list(label.classifications)
        raise WrongModel(
            f"{self.name} predicts {type(label).__name__}: name a model that predicts classifications, or use this one "
            "to detect"
        )


def zoo_model(name: str, role: type[Model], device: str = "cpu", **options: Any) -> Any:
    """Loads a model of FiftyOne's zoo, downloading it where needed.

    Args:
        name: its name in the zoo
        role: what it has to do
        device ("cpu"): where it runs, if it is a torch model
        **options: passed to the model, e.g. ``classes`` for a zero-shot one

    Returns:
        a ``fiftyone.core.models.Model``

    Raises:
        ModelNotFound: there is no such model
        WrongModel: it does something else
    """
    import fiftyone.zoo as foz

    known = foz.list_zoo_models()
    if name not in known:
        raise ModelNotFound(f"FiftyOne's zoo has no model {name!r}: {suggestion(name, known)}")
    tags = foz.get_zoo_model(name).tags or []
    if not set(tags) & set(_KINDS[role]):
        raise WrongModel(
            f"zoo:{name} is no {role.role} (the zoo calls it {', '.join(tags)}): name one that is called "
            f"{' or '.join(_KINDS[role])}"
        )
    if "torch" in tags:
        options.setdefault("device", device)
    return foz.load_zoo_model(name, **options)


def _region(detection: Any, size: tuple[int, int]) -> Region:
    x, y, w, h = (float(v) for v in detection.bounding_box)
    mask = None
    if detection.has_mask:
        mask = np.asarray(detection.to_segmentation(frame_size=size[::-1]).mask, bool)
    x, y = max(x, 0.0), max(y, 0.0)
    return Region(detection.label, _confidence(detection), (x, y, min(w, 1 - x), min(h, 1 - y)), mask)


def _confidence(label: Any) -> float:
    return 1.0 if label.confidence is None else float(label.confidence)


def _named(classes: Descriptions) -> list[str]:
    return [text for texts in class_texts(classes).values() for text in texts] if classes else []
