"""Which objects of a sample are cut out: their masks and classes, from its labels or from a model."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from ..cutting import Tidy, cut_out, parts
from ..errors import ParameterError, RefusedImage
from ..models.options import Options
from ..parents import Parent
from ..samples import dataset_of
from .cutouts import bounds
from .recontextualize import KINDS
from .sources import IGNORED_INDICES, class_names, instance_mask, mask_targets

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

Cutting = Literal["masks", "boxes", "remover", "segmenter"]

DEFAULT_CUTTERS = {
    "boxes": "facebook/sam-vit-base",
    "remover": "onnx-community/BiRefNet-ONNX",
    "segmenter": "CIDAS/clipseg-rd64-refined",
}
"""The models that cut out, where none is named."""

_REMEDIES = {
    "empty_mask": "no pixel of the mask is set",
    "no_label": "the sample has no label in the label field: label it, or cut out by another method (cutout)",
    "other_class": "none of its objects is of one of the classes",
    "no_class": "no class is known: give label, or a label_field with the class",
    "several_classes": "the image has several classes and no masks: give label, or cut out by masks or boxes",
    "no_mask": "the object has no mask: cut out by boxes (cutout='boxes')",
    "truncated": "the image's border cuts the object off: allow_truncated=True uses it all the same",
    "too_small": "the object is smaller than min_side or min_area",
    "no_object": "the model found none",
}


@dataclass(frozen=True, eq=False)
class Found:
    """An object of a sample.

    Attributes:
        name: its name among those of the sample
        label: its class
        mask: bool array of the size of the picture
        label_id: the label that it comes from; empty if it comes from none
    """

    name: str
    label: str
    mask: np.ndarray
    label_id: str = ""


@dataclass(frozen=True)
class ObjectFinder:
    """Finds the objects of samples.

    Attributes:
        method: ``"masks"``: the masks of the labels; ``"boxes"``: a SAM model outlines what is in their boxes;
            ``"remover"``: a background remover finds one object; ``"segmenter"``: each connected part of a class
        label_field: the field with the labels, if any
        targets: the class names of a segmentation's indices
        classes: only objects of these classes; what a segmenter looks for
        default_label: the class of objects that have none
        model: the model, for all methods but masks
        options: how it is loaded
        threshold: least probability of an object's pixels, 0 to 1
        min_side: least width and height in pixels
        min_area: least number of pixels
        allow_truncated: whether objects that the picture's border cuts off are used
    """

    method: Cutting
    label_field: str | None = None
    targets: Mapping[int, str] = field(default_factory=dict)
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    default_label: str | None = None
    model: str = ""
    options: Options = field(default_factory=Options)
    threshold: float = 0.5
    min_side: int = 24
    min_area: int = 400
    allow_truncated: bool = False

    @property
    def about(self) -> dict[str, str]:
        """The method, and the model and its revision if there is one."""
        model = self._model()
        return {"method": self.method, **({"model": model.name, "revision": model.revision} if model else {})}

    def setup(self) -> None:
        """Loads the model."""
        self._model()

    def check(self) -> None:
        """Loads the model, and lets it refuse what it cannot look for, before any image is opened."""
        model = self._model()
        if self.method == "segmenter":
            model.segment([], self.classes, threshold=self.threshold)

    def find(self, pictures: Sequence[np.ndarray], parents: Sequence[Parent]) -> list[list[Found] | RefusedImage]:
        """Finds the objects of samples.

        Args:
            pictures: uint8 RGB arrays
            parents: their samples

        Returns:
            for each its objects, one at least, or why there are none
        """
        look = {
            "masks": self._by_masks, "boxes": self._by_boxes, "remover": self._by_remover,
            "segmenter": self._by_segmenter,
        }[self.method]  # fmt: skip
        results: list[list[Found] | RefusedImage] = []
        for found in look(pictures, parents) if pictures else ():
            results.append(found if isinstance(found, RefusedImage) else self._usable(found))
        return results

    def _model(self) -> Any:
        from ..models import roles
        from ..models.loading import find_model

        role = {"boxes": "Refiner", "remover": "BackgroundRemover", "segmenter": "Segmenter"}.get(self.method)
        return find_model(getattr(roles, role), self.model, self.options) if role else None

    def _by_masks(
        self, pictures: Sequence[np.ndarray], parents: Sequence[Parent]
    ) -> Iterator[list[Found] | RefusedImage]:
        for picture, parent in zip(pictures, parents, strict=True):
            try:
                yield self._masks_of(parent.values.get(self.label_field or ""), picture)
            except RefusedImage as refusal:
                yield refusal if refusal.reason not in _REMEDIES else _refusal(refusal.reason)

    def _masks_of(self, label: Any, picture: np.ndarray) -> list[Found]:
        """The objects that a label outlines."""
        import fiftyone as fo

        height, width = picture.shape[:2]
        if isinstance(label, fo.Segmentation):
            return self._parts_of(label, width, height)
        return [
            self._found(one, instance_mask(one, width, height), number)
            for number, one in enumerate(self._chosen(label))
        ]

    def _parts_of(self, label: Any, width: int, height: int) -> list[Found]:
        indices = label.get_mask()
        if indices is None or indices.ndim != 2:
            raise RefusedImage("no_mask", "the segmentation has no mask with one index for each pixel")
        if indices.shape != (height, width):
            size = f"{indices.shape[1]} x {indices.shape[0]}"
            raise RefusedImage("mask_of_other_size", f"the mask is {size}, the image {width} x {height} pixels")
        named = {int(index): self.targets.get(int(index), str(index)) for index in np.unique(indices)}
        if self.classes:
            chosen = {index: name for index, name in named.items() if name in self.classes}
        else:
            chosen = {index: name for index, name in named.items() if index not in IGNORED_INDICES}
        if not chosen:
            raise _refusal("other_class" if self.classes else "no_label")
        return [
            Found(f"{name} {number}", name, part, str(label.id))
            for index, name in chosen.items()
            for number, part in enumerate(parts(indices == index, self.min_area))
        ]

    def _chosen(self, label: Any) -> list[Any]:
        """The single labels of the classes that are asked for."""
        import fiftyone as fo

        many = getattr(label, "_LABEL_LIST_FIELD", None) if label is not None else None
        labels = list(getattr(label, many)) if many else [label] if label is not None else []
        objects = [one for one in labels if isinstance(one, (fo.Detection, fo.Polyline))]
        if not objects:
            raise _refusal("no_label")
        chosen = [one for one in objects if not self.classes or one.label in self.classes]
        if not chosen:
            raise _refusal("other_class")
        return chosen

    def _found(self, label: Any, mask: np.ndarray, number: int) -> Found:
        name = label.label or self.default_label
        if not name:
            raise _refusal("no_class")
        return Found(f"{name} {number}", name, mask, str(label.id))

    def _by_boxes(
        self, pictures: Sequence[np.ndarray], parents: Sequence[Parent]
    ) -> Iterator[list[Found] | RefusedImage]:
        for picture, parent in zip(pictures, parents, strict=True):
            try:
                labels = self._chosen(parent.values.get(self.label_field or ""))
                (cuts,) = cut_out([picture], self._model(), boxes=[[_box(label) for label in labels]])
                yield (
                    cuts
                    if isinstance(cuts, RefusedImage)
                    else [self._found(labels[cut.number], cut.mask, cut.number) for cut in cuts]
                )
            except RefusedImage as refusal:
                yield refusal

    def _by_remover(
        self, pictures: Sequence[np.ndarray], parents: Sequence[Parent]
    ) -> Iterator[list[Found] | RefusedImage]:
        found = cut_out(pictures, self._model(), threshold=self.threshold)
        for cuts, parent in zip(found, parents, strict=True):
            names = class_names(parent.values.get(self.label_field or ""), dict(self.targets))
            name = self.default_label or (names.pop() if len(names) == 1 else None)
            if isinstance(cuts, RefusedImage):
                yield cuts
            elif name is None:
                yield _refusal("several_classes" if names else "no_class")
            else:
                yield [Found(name, name, cut.mask) for cut in cuts]

    def _by_segmenter(
        self, pictures: Sequence[np.ndarray], parents: Sequence[Parent]
    ) -> Iterator[list[Found] | RefusedImage]:
        tidy = Tidy(min_area=self.min_area)
        for cuts in cut_out(pictures, self._model(), classes=self.classes, threshold=self.threshold, tidy=tidy):
            yield (
                cuts
                if isinstance(cuts, RefusedImage)
                else [Found(f"{cut.label} {number}", cut.label, cut.mask) for number, cut in enumerate(cuts)]
            )

    def _usable(self, found: Sequence[Found]) -> list[Found] | RefusedImage:
        """The objects that are large enough and whole."""
        why = Counter(self._unusable(one.mask) for one in found)
        usable = [one for one in found if not self._unusable(one.mask)]
        if usable:
            return usable
        return _refusal(why.most_common(1)[0][0] if why else "no_object")

    def _unusable(self, mask: np.ndarray) -> str:
        box = bounds(mask)
        if box is None:
            return "empty_mask"
        x, y, w, h = box
        if min(w, h) < self.min_side or np.count_nonzero(mask) < self.min_area:
            return "too_small"
        cut_off = x == 0 or y == 0 or x + w == mask.shape[1] or y + h == mask.shape[0]
        return "truncated" if cut_off and not self.allow_truncated else ""


def finder_for(samples: SampleCollection, params: Mapping[str, Any], options: Options) -> ObjectFinder:
    """What finds the objects of samples.

    Args:
        samples: the samples
        params: ``cutout``, ``cutter``, ``label_field``, ``classes``, ``label`` and what else the stage is given
        options: how models are loaded

    Raises:
        UsageError: the samples, or the model, cannot say where objects are
    """
    label_field = _label_field(samples, params["label_field"])
    method = _method(samples, params, label_field)
    stays = params["replace"] == "object" or params["placement"] == "same_place"
    finder = ObjectFinder(
        method,
        label_field,
        mask_targets(samples, label_field),
        _described(params["classes"]),
        params["label"],
        params["cutter"] or DEFAULT_CUTTERS.get(method, ""),
        # The revision that was asked for is one of the generator.
        dataclasses.replace(options, revision=None),
        params["mask_threshold"],
        params["min_side"],
        params["min_area"],
        params["allow_truncated"] or stays,
    )
    finder.check()
    return finder


def _described(classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Classes with their texts: of ``"text"``, ``"text|text"`` or ``"label=text|text"`` each."""
    from ..models.regions import class_texts

    found: dict[str, tuple[str, ...]] = {}
    for written in classes:
        label, equals, texts = written.partition("=")
        found |= class_texts({label: texts} if equals else [written])
    return found


def _label_field(samples: SampleCollection, name: str | None) -> str | None:
    """The field with the labels; ``ground_truth`` if none is named and some have it."""
    import fiftyone as fo

    from ..samples import require_field

    if name is None:
        return "ground_truth" if samples.has_field("ground_truth") and samples.exists("ground_truth").count() else None
    require_field(samples, name, *(getattr(fo, kind) for kind in KINDS))
    return name


def _method(samples: SampleCollection, params: Mapping[str, Any], label_field: str | None) -> Cutting:
    """What separates the objects."""
    import fiftyone as fo

    chosen = params["cutout"]
    kind = dataset_of(samples).get_field(label_field).document_type if label_field else None
    located = kind not in (None, fo.Classification)
    if chosen in ("masks", "boxes") and not located:
        what = "masks" if chosen == "masks" else "boxes"
        raise ParameterError(
            "cutout", chosen,
            f"needs the {what} of a label field: name it in label_field, or let a model find the objects "
            "(cutout='remover', or 'segmenter' with classes)",
        )  # fmt: skip
    if chosen == "boxes" and kind is fo.Segmentation:
        raise ParameterError("cutout", chosen, f"label_field={label_field!r} has masks and no boxes: use 'masks'")
    if chosen == "auto":
        chosen = _best_method(samples, label_field, kind) if located else "remover"
    if chosen == "remover" and not (params["label"] or label_field):
        raise ParameterError(
            "label", None, "say what the objects are, e.g. 'red panda', or name a label_field with their classes"
        )
    if chosen == "segmenter" and not params["classes"]:
        raise ParameterError("classes", (), "say what the segmenter shall look for, e.g. 'red panda'")
    return cast("Cutting", chosen)


def _best_method(samples: SampleCollection, label_field: str | None, kind: Any) -> str:
    """Masks where any label has one, else boxes."""
    import fiftyone as fo

    if kind not in (fo.Detections, fo.Detection):
        return "masks"
    root = f"{label_field}.detections" if kind is fo.Detections else label_field
    masked = samples.count(f"{root}.mask_path") or samples.count(f"{root}.mask")
    return "masks" if masked else "boxes"


def _refusal(reason: str) -> RefusedImage:
    return RefusedImage(reason, _REMEDIES.get(reason, ""))


def _box(label: Any) -> tuple[float, float, float, float]:
    """The relative box (x, y, width, height) of a detection or polyline."""
    if hasattr(label, "bounding_box"):
        x, y, w, h = label.bounding_box
        return x, y, w, h
    points = np.array([point for shape in label.points for point in shape])
    (x, y), (right, bottom) = points.min(0), points.max(0)
    return float(x), float(y), float(right - x), float(bottom - y)
