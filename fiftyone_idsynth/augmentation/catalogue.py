"""Transforms by plain names, and presets of them per task, as pipelines of albumentations."""

from __future__ import annotations

from typing import Any

Spec = list[dict[str, dict[str, Any]]]
"""A pipeline: transforms in order, each ``{class name: parameters}``."""

FILL = 114
"""Grey of what comes into a picture from beyond its border: a constant, for a mirrored border would show objects again
that no label knows of."""


def _move(**parameters: Any) -> dict[str, Any]:
    return {"Affine": {"p": 0.5, "fill": FILL, **parameters}}


TRANSFORMS: dict[str, dict[str, dict[str, Any]]] = {
    "scale": _move(scale=[0.8, 1.25], keep_ratio=True),
    "rotate": _move(rotate=[-180, 180]),
    "shift": _move(translate_percent=[-0.15, 0.15]),
    "crop": {"CropAndPad": {"p": 0.5, "percent": [-0.2, 0.0]}},
    "safe_crop": {"BBoxSafeRandomCrop": {"p": 0.5}},
    "zoom_out": {"CropAndPad": {"p": 0.5, "percent": [0.0, 0.15], "fill": FILL}},
    "horizontal_flip": {"HorizontalFlip": {"p": 0.5}},
    "vertical_flip": {"VerticalFlip": {"p": 0.5}},
    "perspective": {"Perspective": {"p": 0.5, "scale": [0.02, 0.08], "fill": FILL}},
    "elastic": {"ElasticTransform": {"p": 0.5, "alpha": 100, "sigma": 10, "approximate": True, "fill": FILL}},
    "brightness": {"RandomBrightnessContrast": {"p": 0.5, "contrast_limit": [0, 0]}},
    "contrast": {"RandomBrightnessContrast": {"p": 0.5, "brightness_limit": [0, 0]}},
    "gamma": {"RandomGamma": {"p": 0.5, "gamma_limit": [75, 133]}},
    "white_balance": {"PlanckianJitter": {"p": 0.5}},
    "hue_saturation": {
        "HueSaturationValue": {"p": 0.5, "hue_shift_limit": 10, "sat_shift_limit": 30, "val_shift_limit": 10}
    },
    "gaussian_noise": {"GaussNoise": {"p": 0.5, "std_range": [0.02, 0.08]}},
    "salt_and_pepper": {"SaltAndPepper": {"p": 0.5, "amount": [0.002, 0.02]}},
    "poisson_noise": {"ShotNoise": {"p": 0.5, "scale_range": [0.02, 0.1]}},
    "blur": {"GaussianBlur": {"p": 0.5, "sigma_limit": [0.3, 1.8]}},
    "motion_blur": {"MotionBlur": {"p": 0.5, "blur_limit": [3, 9]}},
    "sharpen": {"Sharpen": {"p": 0.5}},
    "compression": {"ImageCompression": {"p": 0.5, "quality_range": [40, 90]}},
}
"""Plain name -> the transform, with ranges in which pictures stay recognisable."""


def _with(name: str, p: float, **parameters: Any) -> dict[str, Any]:
    (kind, usual), *_ = TRANSFORMS[name].items()
    return {kind: {**usual, **parameters, "p": p}}


def _one_of(p: float, *transforms: dict[str, Any]) -> dict[str, Any]:
    return {"OneOf": {"p": p, "transforms": list(transforms)}}


PRESETS: dict[str, Spec] = {
    "classification": [
        _with("elastic", 0.1),
        _with("horizontal_flip", 0.5),
        {"Affine": {"p": 0.7, "scale": [0.8, 1.25], "keep_ratio": True, "rotate": [-30, 30],
                    "translate_percent": [-0.1, 0.1], "fill": FILL}},
        _with("crop", 0.3), _with("perspective", 0.3),
        {"RandomBrightnessContrast": {"p": 0.6, "brightness_limit": 0.25, "contrast_limit": 0.25}},
        _with("gamma", 0.3), _with("white_balance", 0.3), _with("hue_saturation", 0.4),
        _one_of(0.3, _with("gaussian_noise", 1), _with("salt_and_pepper", 1), _with("poisson_noise", 0.5)),
        _one_of(0.3, _with("blur", 1), _with("motion_blur", 1), _with("sharpen", 1)),
        _with("compression", 0.3),
    ],
    "detection": [
        _with("horizontal_flip", 0.5), _with("safe_crop", 0.5), _with("zoom_out", 0.3),
        {"RandomBrightnessContrast": {"p": 0.5, "brightness_limit": 0.2, "contrast_limit": 0.2}},
        _with("gamma", 0.2), _with("white_balance", 0.2), _with("hue_saturation", 0.3),
        _one_of(0.15, _with("gaussian_noise", 1), _with("salt_and_pepper", 1), _with("poisson_noise", 0.3)),
        _one_of(0.15, _with("blur", 1), _with("motion_blur", 1), _with("sharpen", 1)),
        _with("compression", 0.2),
    ],
    "generation": [],
}  # fmt: skip
"""Task -> its pipeline.

* ``classification`` is tolerant: what is seen stays the same, however it is turned, bent or blurred.
* ``detection`` is label-safe: every transform maps upright boxes to upright boxes and keeps every object whole, so that
  a box without a mask stays as tight as it was drawn; colours, noise and blur are milder.
* ``generation`` is empty: a generator learns to make whatever it is shown, noise and turned horizons too.
"""
