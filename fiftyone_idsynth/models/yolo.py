"""Boxes of fixed classes by detectors of the YOLO family in ONNX files."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np

from .errors import BrokenModel, WrongModel
from .found import Found
from .options import Options
from .regions import Descriptions, join, known_classes, relative_box, suppress
from .roles import Finder, Model, Region

Layout = Literal["yolox", "objectness", "classes", "finished"]

STRIDES = (8, 16, 32)
COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis",
    "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich",
    "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed",
    "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven",
    "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""The 80 classes of COCO in its order: what detectors of 80 classes without names are taken for."""


def fits(found: Found, role: type[Model]) -> bool:
    if role is not Finder or not found.onnx_files or found.beside("selected_tags.csv"):
        return False
    return bool(found.file) or not found.model_type or "yolo" in found.model_type


def load(found: Found, options: Options, role: type[Model]) -> Model:
    from .backends import onnx_session

    file = found.onnx_files[0]
    return Yolo(onnx_session(found, file, options), found)


@dataclass(frozen=True)
class Letterbox:
    """How a picture was fitted into the square of a model: scaled, then shifted by ``left``, ``top`` pixels."""

    scale: float
    left: int
    top: int


class Yolo(Finder):
    """A YOLO-family detector in an ONNX file: YOLOX, YOLOv5 to YOLO11 and exports with suppression inside.

    Which it is shows in the shape of its output, and that in what it expects: YOLOX takes BGR from 0 to 255 with the
    picture in the upper left corner, the others RGB from 0 to 1 with the picture in the middle.

    The names of the classes come from the file itself (``names`` in its metadata, as Ultralytics writes them), else
    from a text file beside it with one name a line: ``NAME_labels.txt``, ``NAME.names``, ``labels.txt``,
    ``classes.txt`` or ``coco.names``. A detector of 80 classes without names is taken for one of COCO.
    """

    def __init__(self, session: Any, found: Found):
        from .backends import session_device

        self.name, self.revision, self.device = found.name, found.revision, session_device(session)
        self._session = session
        self._input = session.get_inputs()[0]
        metadata = session.get_modelmeta().custom_metadata_map
        self._height, self._width = _input_size(self._input.shape, metadata)
        self._fixed_batch = self._input.shape[0] if isinstance(self._input.shape[0], int) else None
        self._float = np.float16 if "float16" in self._input.type else np.float32
        blank = np.zeros((self._fixed_batch or 1, 3, self._height, self._width), self._float)
        shape = session.run(None, {self._input.name: blank})[0].shape
        self.layout, classes = layout(shape, self._height, self._width, found.name)
        self._names = _class_names(found, metadata, classes)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of what it detects."""
        return self._names

    def find(
        self,
        pictures: Sequence[np.ndarray],
        classes: Descriptions = (),
        *,
        threshold: float = 0.25,
        background: Sequence[str] = (),
        one_box: bool = False,
        iou: float = 0.5,
    ) -> list[list[Region]]:
        """Finds boxes of classes.

        Args:
            pictures: RGB, uint8, of any sizes
            classes (()): some of :attr:`classes`, or other labels for them, e.g. ``{"animal": ["cat", "dog"]}``; empty
                for all
            threshold (0.25): the least confidence, 0..1
            background (()): classes of the detector that are left out
            one_box (False): one box round all boxes of a class
            iou (0.5): of boxes of one class that overlap more than this, the surest is kept

        Returns:
            for each picture its regions, the surest first

        Raises:
            ParameterError: it has no such class
        """
        labels = known_classes(classes, self._names, self.name)
        dropped = known_classes(background, self._names, self.name) if background else {}
        wanted = [labels.get(name) if name not in dropped else None for name in self._names]
        fitted = [self._fit(picture) for picture in pictures]
        outputs = self._run(np.stack([pixels for pixels, _ in fitted])) if fitted else np.empty((0,))
        found = []
        for picture, (_, letterbox), output in zip(pictures, fitted, outputs, strict=True):
            corners, scores, best = decode(output, self.layout, self._height, self._width)
            regions = []
            for n in np.flatnonzero(scores > threshold):
                label = wanted[best[n]]
                box = relative_box(_unfit(corners[n], letterbox), picture.shape[1], picture.shape[0])
                if label is not None and box[2] > 0 and box[3] > 0:
                    regions.append(Region(label, float(min(scores[n], 1.0)), box))
            kept = suppress(regions, iou)
            found.append(join(kept) if one_box else kept)
        return found

    def _run(self, batch: np.ndarray) -> np.ndarray:
        """The raw outputs; a model made for batches of one size gets such batches, the last filled up."""
        size = self._fixed_batch or len(batch)
        outputs = []
        for first in range(0, len(batch), size):
            part = batch[first : first + size]
            filled = np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), part.dtype)])
            output = self._session.run(None, {self._input.name: filled})[0]
            outputs.append(output[: len(part)].astype(np.float32))
        return np.concatenate(outputs)

    def _fit(self, picture: np.ndarray) -> tuple[np.ndarray, Letterbox]:
        """The picture as the model takes it (3 x H x W), and where it is in there."""
        import cv2

        height, width = picture.shape[:2]
        scale = min(self._height / height, self._width / width)
        inner_width, inner_height = max(1, round(width * scale)), max(1, round(height * scale))
        resized = cv2.resize(picture, (inner_width, inner_height), interpolation=cv2.INTER_LINEAR)
        left = top = 0
        if self.layout != "yolox":
            left, top = (self._width - inner_width) // 2, (self._height - inner_height) // 2
        square = np.full((self._height, self._width, 3), 114, np.uint8)
        square[top : top + inner_height, left : left + inner_width] = resized
        if self.layout == "yolox":
            pixels = square[..., ::-1].astype(self._float)
        else:
            pixels = (square / np.float32(255)).astype(self._float)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)), Letterbox(scale, left, top)


def layout(shape: Sequence[int], height: int, width: int, name: str = "the model") -> tuple[Layout, int | None]:
    """Tells from the shape of an output what is in it.

    Args:
        shape: the output's shape
        height: of the model's input, in pixels
        width: of the model's input, in pixels
        name ("the model"): for the message

    Returns:
        the layout and the number of classes, None where the shape does not tell it

        - ``"yolox"``: batch x cells x (x, y, w, h, objectness, classes), one for each cell of the three grids
        - ``"objectness"``: the same with several anchors for each cell (YOLOv5, YOLOv7)
        - ``"classes"``: batch x (x, y, w, h, classes) x cells (YOLOv8 to YOLO11)
        - ``"finished"``: batch x boxes x (x0, y0, x1, y1, confidence, class) (YOLOv10, exports with suppression inside)

    Raises:
        WrongModel: it is none of these
    """
    cells = sum((height // stride) * (width // stride) for stride in STRIDES)
    if len(shape) == 3:
        _, rows, columns = shape
        if rows == cells and columns > 5:
            return "yolox", columns - 5
        if columns == cells and rows > 4:
            return "classes", rows - 4
        if columns > 5 and rows % cells == 0:
            return "objectness", columns - 5
        if columns == 6:
            return "finished", None
    raise WrongModel(
        f"{name} is no detector of the YOLO family: for pictures of {width}x{height} pixels its output has the shape "
        f"{tuple(shape)}. YOLOX and YOLOv5 to YOLO11 exports are understood; segmentation and pose models are not"
    )


def decode(output: np.ndarray, kind: Layout, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reads the output of one picture.

    Args:
        output: without the batch axis
        kind: as :func:`layout` says
        height: of the model's input, in pixels
        width: of the model's input, in pixels

    Returns:
        corners in pixels of the input (n x 4), confidences (n) and class numbers (n)
    """
    if kind == "finished":
        return output[:, :4], output[:, 4], output[:, 5].astype(int)
    if kind == "classes":
        output = output.T
        scores = output[:, 4:]
    else:
        scores = output[:, 4:5] * output[:, 5:]
    centre, size = output[:, :2], output[:, 2:4]
    if kind == "yolox" and not _in_pixels(output, height, width):
        cells, strides = _grid(height, width)
        centre, size = (centre + cells) * strides, np.exp(np.minimum(size, 20.0)) * strides
    best = scores.argmax(1)
    corners = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    return corners, np.take_along_axis(scores, best[:, None], 1)[:, 0], best


def _in_pixels(output: np.ndarray, height: int, width: int) -> bool:
    """Whether a YOLOX file decodes its boxes itself: then their centres lie all over the picture, else near 0."""
    return float(np.ptp(output[:, 0])) > width / 2 and float(np.ptp(output[:, 1])) > height / 2


def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each cell its column and row, and its size in pixels."""
    cells, strides = [], []
    for stride in STRIDES:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        cells.append(np.stack([columns.ravel(), rows.ravel()], 1))
        strides.append(np.full((rows.size, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _unfit(corners: np.ndarray, letterbox: Letterbox) -> np.ndarray:
    """Corners in the model's square as corners in the picture, both in pixels."""
    return (corners - [letterbox.left, letterbox.top, letterbox.left, letterbox.top]) / letterbox.scale


def _input_size(shape: Sequence[Any], metadata: dict[str, str]) -> tuple[int, int]:
    """Height and width of the input: the model's own, else what its metadata name, else 640."""
    said = ast.literal_eval(metadata["imgsz"]) if "imgsz" in metadata else [640, 640]
    said = said if isinstance(said, (list, tuple)) else [said, said]
    height, width = (own if isinstance(own, int) else int(other) for own, other in zip(shape[2:4], said, strict=True))
    return height, width


def _class_names(found: Found, metadata: dict[str, str], count: int | None) -> tuple[str, ...]:
    if "names" in metadata:
        said = ast.literal_eval(metadata["names"])
        names = [said[key] for key in sorted(said)] if isinstance(said, dict) else list(said)
        source = "its metadata"
    else:
        stem = PurePosixPath(found.onnx_files[0]).stem
        source = found.beside(f"{stem}_labels.txt", f"{stem}.names", "labels.txt", "classes.txt", "coco.names")
        if source:
            text = (found.fetch([source]) / source).read_text(encoding="utf-8")
            names = [line.strip() for line in text.splitlines() if line.strip()]
        elif count == len(COCO):
            return COCO
        else:
            raise BrokenModel(
                f"{found.name} does not name its classes: write them, one a line, to {stem}_labels.txt beside it"
            )
    if count is not None and len(names) != count:
        raise BrokenModel(
            f"{found.name} detects {count} classes, but {source} names {len(names)}: write one name a line"
        )
    return tuple(str(name) for name in names)
