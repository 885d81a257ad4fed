"""Detectors in ONNX files that find red and blue squares, written without the package ``onnx``.

The numbers of fields and types are those of ``onnx.proto3``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

SIDE = 64
STRIDES = (8, 16, 32)
CLASSES = ("red", "blue")


def field(number: int, value: int | str | bytes) -> bytes:
    """A field of a protocol buffer: a number, or text, bytes and messages."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def fields(number: int, values: Iterable[int | str | bytes]) -> bytes:
    """A repeated field."""
    return b"".join(field(number, value) for value in values)


def tensor(name: str, values: np.ndarray) -> bytes:
    """A ``TensorProto``, of float32 or int64."""
    kind = {"float32": 1, "int64": 7}[str(values.dtype)]
    return fields(1, values.shape) + field(2, kind) + field(8, name) + field(9, values.tobytes())


def node(kind: str, inputs: Iterable[str], output: str, **attributes: int | list[int]) -> bytes:
    """A ``NodeProto`` whose attributes are whole numbers or lists of them."""
    made = fields(1, inputs) + field(2, output) + field(4, kind)
    for name, value in attributes.items():
        if isinstance(value, int):
            made += field(5, field(1, name) + field(3, value) + field(20, 2))
        else:
            made += field(5, field(1, name) + fields(8, value) + field(20, 7))
    return made


def value(name: str, shape: Iterable[int | str]) -> bytes:
    """A ``ValueInfoProto`` of float32."""
    sizes = fields(1, (field(1 if isinstance(size, int) else 2, size) for size in shape))
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, sizes)))


def write_model(
    path: Path,
    nodes: Iterable[bytes],
    constants: Mapping[str, np.ndarray],
    inputs: Iterable[bytes],
    outputs: Iterable[bytes],
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Writes a ``ModelProto`` of opset 13."""
    graph = fields(1, nodes) + field(2, "graph") + fields(5, (tensor(name, v) for name, v in constants.items()))
    graph += fields(11, inputs) + fields(12, outputs)
    said = fields(14, (field(1, key) + field(2, text) for key, text in (metadata or {}).items()))
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13)) + said)
    return path


def detector(path: Path, *, yolox: bool = False, batch: int | str = "batch", names: bool = True) -> Path:
    """A detector for pictures of 64 pixels that finds red and blue in the cells of 32 pixels.

    Args:
        path: the file
        yolox (False): YOLOX's layout (BGR up to 255, cells with offsets), else that of YOLOv8
        batch ("batch"): a fixed size of batches, or a name for a free one
        names (True): whether the file names its classes
    """
    first = 5 if yolox else 4  # the rows before the classes: box, and YOLOX's objectness
    colours = np.array([[1, -0.5, -0.5], [-0.5, -0.5, 1]], np.float32)
    if yolox:
        colours = colours[:, ::-1] / np.float32(255)
    nodes, constants, levels = [], {"shape": np.array([0, first + 2, -1])}, []
    for stride in STRIDES:
        weights = np.zeros((first + 2, 3, 1, 1), np.float32)
        if stride == 32:
            weights[first:, :, 0, 0] = colours
        constants[f"weights{stride}"] = weights
        levels.append(f"level{stride}")
        nodes += [
            node("AveragePool", ["images"], f"mean{stride}", kernel_shape=[stride] * 2, strides=[stride] * 2),
            node("Conv", [f"mean{stride}", f"weights{stride}"], f"cells{stride}"),
            node("Reshape", [f"cells{stride}", "shape"], f"level{stride}"),
        ]
    constants["boxes"] = _boxes(first, yolox)
    nodes += [node("Concat", levels, "all", axis=2), node("Add", ["all", "boxes"], "rows" if yolox else "output")]
    cells = constants["boxes"].shape[2]
    if yolox:
        nodes.append(node("Transpose", ["rows"], "output", perm=[0, 2, 1]))
    shape = [batch, cells, first + 2] if yolox else [batch, first + 2, cells]
    metadata = {"names": str(dict(enumerate(CLASSES)))} if names else None
    inputs = [value("images", [batch, 3, SIDE, SIDE])]
    return write_model(path, nodes, constants, inputs, [value("output", shape)], metadata)


def _boxes(rows: int, yolox: bool) -> np.ndarray:
    """What the detector adds to its cells: the boxes, one for each cell and as large as that (1 x rows + 2 x cells)."""
    found = []
    for stride in STRIDES:
        ys, xs = np.mgrid[: SIDE // stride, : SIDE // stride].reshape(2, -1)
        for x, y in zip(xs, ys, strict=True):
            if yolox:
                found.append([0.5, 0.5, 0, 0, 1, 0, 0])  # half a cell off its corner, exp(0) cells large
            else:
                found.append([(x + 0.5) * stride, (y + 0.5) * stride, stride, stride, 0, 0])
    return np.ascontiguousarray(np.array(found, np.float32).T[None, : rows + 2])


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    return bytes([*made, number])
