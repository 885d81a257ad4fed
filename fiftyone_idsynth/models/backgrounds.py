"""Foreground and background by ONNX files: U2-Net, IS-Net, RMBG, BiRefNet, MODNet and their relatives."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from .backends import onnx_session, session_device
from .errors import BrokenModel, WrongModel
from .found import Found
from .onnx_inputs import IMAGENET_MEAN, IMAGENET_STD, InputFormat, input_format
from .options import Options
from .roles import BackgroundRemover, Model
from .tag_tables import Table
from .taggers import as_scores, run, sigmoid

U2NET_SIDE = 320
"""The side of what the U2-Net family takes, in pixels."""

USUAL_SIDE = 1024
"""The side of what the others take, in pixels, where a file takes any size."""

NOTHING = 0.05
"""A picture without a pixel that is surer than this has no foreground: to stretch its map would make one of noise."""

_SHARES = ("tensor(float)", "tensor(float16)", "tensor(uint8)")
"""Types of outputs that tell shares, not numbers of classes."""


def fits(found: Found, role: type[Model]) -> bool:
    from transformers import CONFIG_MAPPING

    if role is not BackgroundRemover:
        return False
    if not found.onnx_files:
        return _needs_code(found)
    return not found.beside("selected_tags.csv") and (bool(found.file) or found.model_type not in CONFIG_MAPPING)


def load(found: Found, options: Options, role: type[Model]) -> Model:
    """Loads a background remover.

    Raises:
        ModelError: it cannot be loaded, or is none
    """
    if not found.onnx_files:
        raise WrongModel(
            f"{found.name} is {found.kind} and brings code of its own, which is not run: name an ONNX export of it, "
            f"e.g. {BackgroundRemover.example}, or a local .onnx file"
        )
    file = found.onnx_files[0]
    session = onnx_session(found, file, options)
    _check(found, file, session)
    return OnnxRemover(found, session)


class OnnxRemover(BackgroundRemover):
    """An ONNX file that gives one value for each pixel: how surely, or how much of, it is foreground.

    What it takes is said by ``preprocessor_config.json`` beside it. Without that file its family shows in its side and
    in the range of its output, and RGB pictures from 0 to 1 are normalised as that family was published:

    ========================  ==============  ============================  ===========================================
    family                    output          mean, standard deviation      before
    ========================  ==============  ============================  ===========================================
    U2-Net (side 320)         probabilities   those of ImageNet             divided by the picture's largest value
    IS-Net, RMBG (1024)       probabilities   0.5, 1.0
    BiRefNet and others       logits          those of ImageNet
    others                    probabilities   those of ImageNet
    ========================  ==============  ============================  ===========================================

    U2-Net and IS-Net give several maps, of which the first is the finest. As in the code they were published with,
    their maps are stretched from 0 to 1; see :data:`NOTHING`. So are those of files that, as RMBG 1.4, have a standard
    deviation of 1.

    Args:
        found: where it was found
        session: the open file

    Attributes:
        logits: whether it gives logits, not probabilities
        stretched: whether maps are stretched from 0 to 1
    """

    def __init__(self, found: Found, session: Any):
        self.name, self.revision, self.device = found.name, found.revision, session_device(session)
        self._session = session
        self._output = session.get_outputs()[0].name
        base, said = _inputs(found, session.get_inputs()[0])
        self.logits = self._gives_logits(base)
        u2net = (base.height, base.width) == (U2NET_SIDE, U2NET_SIDE) and not self.logits
        if not said and base.dtype != "uint8":
            half = not self.logits and (base.height, base.width) == (USUAL_SIDE, USUAL_SIDE)
            mean, std = ((0.5,) * 3, (1.0,) * 3) if half else (IMAGENET_MEAN, IMAGENET_STD)
            base = dataclasses.replace(base, scale=1 / 255, mean=mean, std=std)
        self._inputs = base
        self._by_largest = u2net and not said and base.dtype != "uint8"
        centred = base.dtype != "uint8" and base.std == (1.0, 1.0, 1.0) and any(base.mean)
        self.stretched = not self.logits and (u2net or centred or len(session.get_outputs()) > 1)

    def foreground(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Finds the foreground of pictures.

        Args:
            pictures: RGB, uint8, of any sizes

        Returns:
            for each picture float32, height x width, 0..1

        Raises:
            BrokenModel: the file gives no numbers, as half precision can after an overflow
        """
        if not len(pictures):
            return []
        batch = np.stack([self._prepared(picture) for picture in pictures])
        maps = _maps(as_scores(run(self._session, self._inputs, self._output, batch)), self.name)
        if not np.isfinite(maps).all():
            raise BrokenModel(f"{self.name} gives values that are no numbers: take the file in full precision")
        return [_enlarged(self._probability(m), *p.shape[:2]) for p, m in zip(pictures, maps, strict=True)]

    def _prepared(self, picture: np.ndarray) -> np.ndarray:
        inputs = self._inputs
        if self._by_largest:
            inputs = dataclasses.replace(inputs, scale=1 / max(1, int(picture.max())))
        return inputs.prepare(picture)

    def _probability(self, values: np.ndarray) -> np.ndarray:
        if self.logits:
            return sigmoid(values)
        low, high = float(values.min()), float(values.max())
        if self.stretched and high > max(NOTHING, low):
            return (values - low) / np.float32(high - low)
        return values

    def _gives_logits(self, inputs: InputFormat) -> bool:
        """Whether outputs leave the range of probabilities, for noise beside black."""
        noise = np.random.default_rng(0).integers(0, 256, (inputs.height, inputs.width, 3), np.uint8)
        noise[:, : inputs.width // 2] = 0
        probe = dataclasses.replace(inputs, scale=1 / 255, mean=IMAGENET_MEAN, std=IMAGENET_STD)
        values = _maps(as_scores(run(self._session, inputs, self._output, probe.prepare(noise)[None])), self.name)
        return bool(values.min() < -1e-3 or values.max() > 1 + 1e-3)


def _needs_code(found: Found) -> bool:
    """Whether it is a model for this purpose that only runs with code of its own, as BiRefNet and RMBG on the hub."""
    from transformers import CONFIG_MAPPING

    own = found.config.get("auto_map") or {}
    return "AutoModelForImageSegmentation" in own and found.model_type not in CONFIG_MAPPING


def _check(found: Found, file: str, session: Any) -> None:
    """Refuses what does not take pictures alone, or gives no map, as far as the file tells."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    remedy = f"name a background remover, e.g. {BackgroundRemover.example}"
    if len(inputs) != 1:
        named = ", ".join(value.name for value in inputs)
        raise WrongModel(
            f"{found.name} is no background remover: {file} takes {len(inputs)} inputs ({named}), and a picture is all "
            f"there is: {remedy}"
        )
    taken = inputs[0].shape
    if len(taken) != 4 or 3 not in (taken[1], taken[3]):
        raise WrongModel(f"{found.name} takes no RGB pictures, its input has the shape {taken}: {remedy}")
    given = outputs[0]
    if not _is_map(given.shape) or given.type not in _SHARES:
        raise WrongModel(
            f"{found.name} is no background remover: the first output of {file} is a {given.type} of the shape "
            f"{given.shape}, not a share for each pixel: {remedy}. Models with classes serve as segmenters"
        )


def _is_map(shape: Sequence[Any]) -> bool:
    """Whether a shape is that of one map for each picture, as far as its numbers are known."""
    if len(shape) == 4:
        return any(not isinstance(shape[axis], int) or shape[axis] == 1 for axis in (1, 3))
    return len(shape) in (0, 3)  # without any: a file that does not tell


def _inputs(found: Found, value: Any) -> tuple[InputFormat, bool]:
    """What the model takes, and whether a configuration says how pictures are normalised."""
    said = bool(found.beside("preprocessor_config.json"))
    inputs = input_format(found, value, Table("", (), (), "labels"))
    inputs = dataclasses.replace(inputs, fit="stretch")  # the margins need an answer as well
    sides = value.shape[2:] if inputs.channels_first else value.shape[1:3]
    if not said and not all(isinstance(side, int) and side > 0 for side in sides):
        inputs = dataclasses.replace(inputs, height=USUAL_SIDE, width=USUAL_SIDE)
    return inputs, said


def _maps(output: np.ndarray, name: str) -> np.ndarray:
    """Outputs as pictures x height x width."""
    if output.ndim == 4 and 1 in (output.shape[1], output.shape[3]):
        return output[:, 0] if output.shape[1] == 1 else output[..., 0]
    if output.ndim == 3:
        return output
    raise WrongModel(
        f"{name} is no background remover: its output has the shape {output.shape}, not one value for each pixel. "
        f"Name a background remover, e.g. {BackgroundRemover.example}"
    )


def _enlarged(values: np.ndarray, height: int, width: int) -> np.ndarray:
    import cv2

    values = np.ascontiguousarray(values, np.float32)
    return np.clip(cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1)
