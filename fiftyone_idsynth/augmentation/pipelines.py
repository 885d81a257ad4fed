"""Pipelines of albumentations: read as people write them, checked, and made ready to run."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ParameterError, UsageError, suggestion
from .bending import with_exact_points
from .catalogue import TRANSFORMS, Spec

_COMPOSITIONS = ("Compose", "OneOf", "OneOrOther", "RandomOrder", "Sequential", "SomeOf")
_OURS = ("bbox_params", "keypoint_params", "additional_targets", "is_check_shapes", "strict", "mask_interpolation",
         "seed", "save_applied_params")  # fmt: skip
"""Parameters of ``Compose`` that belong to how labels are carried, which is done here."""

_INTERFACES = {"BasicTransform", "DualTransform", "ImageOnlyTransform", "Transform3D"}

_STRAIGHT = {
    "Affine", "BBoxSafeRandomCrop", "AtLeastOneBBoxRandomCrop", "CenterCrop", "Crop", "CropAndPad",
    "CropNonEmptyMaskIfExists", "D4", "HorizontalFlip", "LongestMaxSize", "NoOp", "Pad", "PadIfNeeded", "Perspective",
    "RandomCrop", "RandomCropFromBorders", "RandomCropNearBBox", "RandomResizedCrop", "RandomRotate90", "RandomScale",
    "RandomSizedBBoxSafeCrop", "RandomSizedCrop", "Resize", "Rotate", "SafeRotate", "ShiftScaleRotate",
    "SmallestMaxSize", "SquareSymmetry", "Transpose", "VerticalFlip",
}  # fmt: skip
"""Transforms of a picture's geometry that keep straight lines straight."""


def albumentations() -> Any:
    """The module, kept from asking the network for newer versions of itself when it is imported."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


_UPRIGHT = _STRAIGHT - {"Affine", "Perspective", "Rotate", "SafeRotate", "ShiftScaleRotate"}
"""Those of them that map upright boxes to upright boxes."""


class Pipeline:
    """Transforms in order.

    Attributes:
        spec: what they are, as plain values
    """

    def __init__(self, spec: Spec):
        self.spec = spec

    def storable(self) -> Spec:
        """Plain values, for records."""
        return self.spec

    @property
    def names(self) -> list[str]:
        """The class names of its transforms, those of compositions of them included."""
        return [name for name, _ in _walk(self.spec)]

    @property
    def needs_boxes(self) -> bool:
        """Whether what it does depends on where objects are."""
        return any("BBox" in name for name in self.names)

    @property
    def needs_masks(self) -> bool:
        """Whether what it does depends on masks."""
        return any("Mask" in name for name in self.names)

    @property
    def bends(self) -> bool:
        """Whether straight lines can become curves."""
        return any(name not in _STRAIGHT for name in self.geometric)

    @property
    def turns(self) -> bool:
        """Whether upright boxes can become others."""
        return any(name not in _UPRIGHT for name in self.geometric)

    @property
    def geometric(self) -> list[str]:
        """The names of its transforms that move labels."""
        A = albumentations()
        leaves = [name for name in self.names if name not in _COMPOSITIONS]
        return [name for name in leaves if not issubclass(getattr(A, name), A.ImageOnlyTransform)]

    def leaves(self) -> Iterator[Pipeline]:
        """Each transform by itself, always applied."""
        for name, parameters in _walk(self.spec):
            if name not in _COMPOSITIONS:
                yield Pipeline([{name: {**parameters, "p": 1.0}}])

    def make(self) -> Any:
        """The transforms as one ``albumentations.Compose`` that carries points, and boxes if it needs them.

        Raises:
            ParameterError: albumentations refuses a parameter
        """
        A = albumentations()
        boxes = A.BboxParams("albumentations", clip=True) if self.needs_boxes else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that image-only pipelines move no points
            return A.Compose(
                [_made(one) for one in self.spec], bbox_params=boxes,
                keypoint_params=A.KeypointParams("xy", remove_invisible=False, check_each_transform=False),
            )  # fmt: skip


def read_pipeline(value: Any) -> Pipeline:
    """A pipeline as people write it.

    That is: a YAML or JSON file, or its text, with a list of transforms (``- HorizontalFlip``, ``- Affine: {rotate:
    [-20, 20], p: 0.8}``, ``- OneOf: {p: 0.3, transforms: [...]}``, or a plain name of
    :data:`fiftyone_idsynth.augmentation.catalogue.TRANSFORMS`); the same as Python values; what ``albumentations.save``
    and ``albumentations.to_dict`` write; or an albumentations object.

    Raises:
        ParameterError: a transform is unknown, or albumentations refuses a parameter
    """
    if isinstance(value, Pipeline):
        return value
    if hasattr(value, "to_dict") and hasattr(value, "get_dict_with_id"):
        value = value.to_dict()
    if isinstance(value, Path) or (isinstance(value, str) and _is_file_name(value)):
        value = _read_file(Path(value).expanduser())
    elif isinstance(value, str):
        value = _parsed(value, "pipeline")
    if isinstance(value, Mapping) and "transform" in value:
        value = value["transform"]
    if not isinstance(value, Sequence) or isinstance(value, str):
        value = [value]
    spec = [_read(one) for one in value]
    if len(spec) == 1 and next(iter(spec[0])) == "Compose":
        spec = spec[0]["Compose"].get("transforms", []) if spec[0]["Compose"].get("p", 1) == 1 else spec
    if not spec:
        raise ParameterError("pipeline", value, "has no transforms: leave it out to use the preset")
    pipeline = Pipeline(spec)
    pipeline.make()
    return pipeline


def named_transforms() -> list[str]:
    """The plain names of transforms."""
    return list(TRANSFORMS)


def _is_file_name(text: str) -> bool:
    return "\n" not in text and text.strip().lower().endswith((".yaml", ".yml", ".json"))


def _read_file(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError("pipeline", str(path), f"cannot be read: {error}") from error
    return _parsed(text, str(path))


def _parsed(text: str, where: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        shown = " ".join(str(error).split())
        raise ParameterError("pipeline", where, f"is no YAML or JSON: {shown[:300]}") from error


def _read(value: Any) -> dict[str, dict[str, Any]]:
    """One transform as ``{class name: parameters}``."""
    if isinstance(value, str):
        name, parameters = value, {}
    elif isinstance(value, Mapping) and "__class_fullname__" in value:
        name = str(value["__class_fullname__"]).rpartition(".")[2]
        parameters = {key: one for key, one in value.items() if key != "__class_fullname__"}
    elif isinstance(value, Mapping) and len(value) == 1:
        ((name, parameters),) = value.items()
        parameters = {} if parameters is None else parameters
    else:
        raise ParameterError("pipeline", value, "is no transform: write NAME, or NAME: {PARAMETER: VALUE}")
    if isinstance(parameters, Sequence) and not isinstance(parameters, str) and name in _COMPOSITIONS:
        parameters = {"transforms": parameters}
    if not isinstance(parameters, Mapping):
        raise ParameterError("pipeline", value, f"the parameters of {name} must be a mapping: {{PARAMETER: VALUE}}")
    parameters = {str(key): _plain(one) for key, one in parameters.items()}
    if name in TRANSFORMS:
        ((kind, usual),) = TRANSFORMS[name].items()
        return {kind: {**usual, **parameters}}
    _check_name(str(name))
    if name in _COMPOSITIONS:
        inner = parameters.get("transforms")
        if not isinstance(inner, list) or not inner:
            raise ParameterError("pipeline", value, f"{name} needs a list of transforms")
        kept = {key: one for key, one in parameters.items() if key not in _OURS}
        return {str(name): {**kept, "transforms": [_read(one) for one in inner]}}
    return {str(name): parameters}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return getattr(value, "value", value)


def _check_name(name: str) -> None:
    A = albumentations()
    if name == "Lambda":
        raise ParameterError("pipeline", name, "has no parameters that can be stored: it cannot be made again")
    known = [other for other, one in vars(A).items() if inspect.isclass(one) and issubclass(one, A.BasicTransform)]
    if name not in (*_COMPOSITIONS, *known) or name in _INTERFACES:
        # What somebody means is as likely written as a plain name.
        near = suggestion(name, [*TRANSFORMS, *sorted(set(known) - _INTERFACES)], limit=len(TRANSFORMS))
        raise ParameterError("pipeline", name, f"is no transform: {near} of albumentations")


def _made(one: Mapping[str, Mapping[str, Any]]) -> Any:
    """An albumentations object."""
    ((name, parameters),) = one.items()
    kind = getattr(albumentations(), name)
    arguments = {key: _made_inside(value) if key == "transforms" else value for key, value in parameters.items()}
    accepted = [key for key in inspect.signature(kind.__init__).parameters if key != "self"]
    for key in arguments:
        if key not in accepted:
            raise ParameterError("pipeline", {name: {key: arguments[key]}}, f"{name} has no parameter {key!r}: "
                                 f"{suggestion(key, accepted)}")  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return with_exact_points(kind)(**arguments)
    except (ValueError, TypeError) as error:
        shown = "; ".join(line.strip() for line in str(error).splitlines()[1:4] if "errors.pydantic" not in line)
        shown = shown or str(error)
        raise ParameterError("pipeline", {name: dict(parameters)}, f"albumentations refuses it: {shown}") from error


def _made_inside(transforms: Sequence[Mapping[str, Mapping[str, Any]]]) -> list[Any]:
    return [_made(one) for one in transforms]


def _walk(spec: Sequence[Mapping[str, Mapping[str, Any]]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for one in spec:
        for name, parameters in one.items():
            yield name, parameters
            yield from _walk(parameters.get("transforms", ()))


def chosen(preset: str, names: Sequence[str], pipeline: Pipeline | None) -> Pipeline | None:
    """The pipeline that was asked for, by plain names, written out, or as a preset; ``None`` if that does nothing.

    Raises:
        UsageError: it was asked for in two ways
    """
    from .catalogue import PRESETS

    if names and pipeline:
        raise UsageError("transforms and pipeline are two ways to say the same: give one of them")
    if pipeline:
        return pipeline
    spec = [TRANSFORMS[name] for name in dict.fromkeys(names)] if names else PRESETS[preset]
    return Pipeline(spec) if spec else None
