"""What ONNX taggers take: size, order of the colours, range of values, and how pictures are fitted in."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from .errors import WrongModel
from .found import Found
from .tag_tables import Table

Fit = Literal["white", "edge", "stretch", "crop"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CROP = 0.875
"""The share of the shorter side that is used where pictures are cropped, as is the custom with ImageNet."""


@dataclass(frozen=True)
class InputFormat:
    """What a model takes.

    Attributes:
        name: of the input
        batch: the size that batches must have; None for any
        height: in pixels
        width: in pixels
        dtype: ``"uint8"``, ``"float32"`` or ``"float16"``
        channels_first: whether it takes 3 x H x W
        bgr: whether blue comes first
        fit: ``"white"`` and ``"edge"``: scaled to fit in, the rest filled with white or with the outermost pixels;
            ``"stretch"``; ``"crop"``: the middle of the picture
        scale: what values 0..255 are multiplied with, before ``mean`` is subtracted and ``std`` divided by
        mean: of red, green, blue
        std: of red, green, blue
    """

    name: str
    batch: int | None
    height: int
    width: int
    dtype: str
    channels_first: bool
    bgr: bool = False
    fit: Fit = "stretch"
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def prepare(self, picture: np.ndarray) -> np.ndarray:
        """Makes the input of a picture (RGB, uint8, of any size), without the batch axis."""
        pixels = fitted(picture, self.height, self.width, self.fit)
        if self.bgr:
            pixels = pixels[..., ::-1]
        if self.dtype != "uint8":
            pixels = pixels.astype(np.float32)
            pixels *= np.float32(self.scale)
            if any(self.mean) or self.std != (1.0, 1.0, 1.0):
                pixels = (pixels - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
            pixels = pixels.astype(self.dtype, copy=False)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1) if self.channels_first else pixels)


def input_format(found: Found, value: Any, table: Table) -> InputFormat:
    """Tells what an ONNX tagger takes from its input, its table and the configuration beside it.

    - ``selected_tags.csv``, H x W x 3: WD14: BGR, 0..255, on a white square
    - a table of tags, 3 x H x W: ML-Danbooru: RGB, 0..1, stretched
    - a table of tags, H x W x 3: DeepDanbooru: RGB, 0..1, fitted in, the rest filled from the edge
    - labels, uint8: RGB as it is, stretched
    - labels, 3 x H x W: as torchvision's models: the middle, with ImageNet's mean and standard deviation
    - labels, H x W x 3: as TensorFlow's models: RGB, -1..1, stretched

    A mean and standard deviation in ``preprocessor_config.json``, or in timm's ``pretrained_cfg``, take precedence
    over all but the first.

    Args:
        found: the model
        value: the input, as onnxruntime describes it
        table: what names the outputs

    Raises:
        WrongModel: it does not take pictures, or nothing says in which form
    """
    shape = value.shape
    if len(shape) != 4 or 3 not in (shape[1], shape[3]):
        raise WrongModel(f"{found.name} takes no RGB pictures, its input has the shape {shape}: name a tagger")
    first = shape[3] != 3
    wd = table.file.endswith("selected_tags.csv")
    usual = 448 if wd else 512 if table.kind == "tags" and not first else 448 if table.kind == "tags" else 224
    said = _said(found)
    height, width = (
        own if isinstance(own, int) and own > 0 else said.get("side", usual)
        for own in (shape[2:] if first else shape[1:3])
    )
    dtype = {"tensor(uint8)": "uint8", "tensor(float16)": "float16"}.get(value.type, "float32")
    base = InputFormat(value.name, shape[0] if isinstance(shape[0], int) and shape[0] > 0 else None, height, width,
                       dtype, first)  # fmt: skip
    return replace(base, **_convention(found, base, table, wd, said))


def _convention(found: Found, base: InputFormat, table: Table, wd: bool, said: dict[str, Any]) -> dict[str, Any]:
    if wd and not base.channels_first:
        return {"bgr": True, "fit": "white"}
    if base.dtype == "uint8":
        return {}
    if "mean" in said:
        return {name: said[name] for name in ("scale", "mean", "std", "fit")}
    if wd:
        raise WrongModel(
            f"{found.name} takes 3 x {base.height} x {base.width} pixels, unlike the WD14 taggers, and nothing says in "
            "which range: put a preprocessor_config.json with image_mean and image_std beside it"
        )
    if table.kind == "tags":
        return {"scale": 1 / 255, "fit": "stretch" if base.channels_first else "edge"}
    if base.channels_first:
        return {"scale": 1 / 255, "mean": IMAGENET_MEAN, "std": IMAGENET_STD, "fit": "crop"}
    return {"scale": 1 / 127.5, "mean": (1.0, 1.0, 1.0)}


def _said(found: Found) -> dict[str, Any]:
    """What the configuration beside an ONNX file says about its input."""
    file = found.beside("preprocessor_config.json")
    if file:
        config = json.loads((found.fetch([file]) / file).read_text(encoding="utf-8"))
        said: dict[str, Any] = {}
        size = config.get("crop_size") or config.get("size") or {}
        side = size if isinstance(size, int) else size.get("height") or size.get("shortest_edge")
        if side:
            said["side"] = int(side)
        if config.get("do_normalize", True) and "image_mean" in config and "image_std" in config:
            said |= {"mean": tuple(config["image_mean"]), "std": tuple(config["image_std"])}
        else:
            said |= {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
        rescale = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
        return {**said, "scale": rescale, "fit": "crop" if config.get("do_center_crop") else "stretch"}
    file = found.beside("config.json")
    config = json.loads((found.fetch([file]) / file).read_text(encoding="utf-8")) if file else {}
    timm = config.get("pretrained_cfg") or {}
    if "mean" not in timm or "std" not in timm:
        return {}
    said = {"mean": tuple(timm["mean"]), "std": tuple(timm["std"]), "scale": 1 / 255}
    said["fit"] = "crop" if timm.get("crop_mode", "center") == "center" and timm.get("crop_pct", 1.0) < 1 else "stretch"
    return {**said, "side": timm["input_size"][-1]} if "input_size" in timm else said


def fitted(picture: np.ndarray, height: int, width: int, fit: Fit) -> np.ndarray:
    """Fits a picture into a size.

    Args:
        picture: RGB, uint8
        height: in pixels
        width: in pixels
        fit: as in :class:`InputFormat`
    """
    import cv2

    rows, columns = picture.shape[:2]
    if fit == "crop":
        scale = max(height / rows, width / columns) / CROP
        seen_rows, seen_columns = min(rows, round(height / scale)), min(columns, round(width / scale))
        top, left = (rows - seen_rows) // 2, (columns - seen_columns) // 2
        picture = picture[top : top + max(1, seen_rows), left : left + max(1, seen_columns)]
    if fit in ("crop", "stretch"):
        return _resized(picture, height, width)
    scale = min(height / rows, width / columns)
    inner_rows, inner_columns = max(1, round(rows * scale)), max(1, round(columns * scale))
    inner = _resized(picture, inner_rows, inner_columns)
    top, left = (height - inner_rows) // 2, (width - inner_columns) // 2
    sides = (top, height - inner_rows - top, left, width - inner_columns - left)
    if fit == "edge":
        return np.asarray(cv2.copyMakeBorder(inner, *sides, cv2.BORDER_REPLICATE))
    return np.asarray(cv2.copyMakeBorder(inner, *sides, cv2.BORDER_CONSTANT, value=(255, 255, 255)))


def _resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    import cv2

    if picture.shape[:2] == (height, width):
        return picture
    smaller = height < picture.shape[0] or width < picture.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC  # what the WD14 taggers were published with
    return np.asarray(cv2.resize(np.ascontiguousarray(picture), (width, height), interpolation=how))
