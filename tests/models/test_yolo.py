"""YOLO-family detectors in ONNX files: layouts, places, names of classes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fiftyone_idsynth.errors import ParameterError
from fiftyone_idsynth.models.errors import BrokenModel, WrongModel
from fiftyone_idsynth.models.loading import find_model
from fiftyone_idsynth.models.options import Options
from fiftyone_idsynth.models.roles import Finder, Region
from fiftyone_idsynth.models.yolo import COCO, Yolo, decode, layout
from tests.models import tiny_yolo

CPU = Options(device="cpu")
RED, BLUE = (255, 0, 0), (0, 0, 255)


def picture(height: int, width: int, colour: tuple[int, int, int], x: int, y: int, w: int, h: int) -> np.ndarray:
    made = np.full((height, width, 3), 90, np.uint8)
    made[y : y + h, x : x + w] = colour
    return made


def load(path: Path) -> Yolo:
    found = find_model(Finder, str(path), CPU)
    assert isinstance(found, Yolo)
    return found


@pytest.fixture(scope="module")
def yolo(tmp_path_factory: pytest.TempPathFactory) -> Yolo:
    return load(tiny_yolo.detector(tmp_path_factory.mktemp("yolo") / "tiny.onnx"))


@pytest.mark.parametrize("batch", ["batch", 1, 2])
@pytest.mark.parametrize("yolox", [False, True])
def test_squares_are_found_where_they_are(tmp_path: Path, yolox: bool, batch: int | str):
    model = load(tiny_yolo.detector(tmp_path / "tiny.onnx", yolox=yolox, batch=batch))
    large, small = picture(128, 128, RED, 64, 0, 64, 64), picture(32, 32, BLUE, 0, 16, 16, 16)
    # A wide picture is half as high as the model's square: YOLOX keeps it at the top, the others in the middle.
    wide = picture(64, 128, BLUE, 0, 0, 64, 64) if yolox else picture(64, 128, BLUE, 64, 32, 64, 32)
    found = model.find([large, small, wide], threshold=0.4)
    assert [[(r.label, r.box) for r in regions] for regions in found] == [
        [("red", (0.5, 0.0, 0.5, 0.5))],
        [("blue", (0.0, 0.5, 0.5, 0.5))],
        [("blue", (0.0, 0.0, 0.5, 1.0) if yolox else (0.5, 0.5, 0.5, 0.5))],
    ]
    assert [regions[0].confidence for regions in found] == pytest.approx([1, 1, 1 if yolox else 0.5], abs=0.02)


def test_a_batch_gives_what_single_pictures_give(yolo: Yolo):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (*size, 3), np.uint8) for size in ((60, 100), (90, 50), (64, 64))]
    pictures.append(picture(128, 128, RED, 64, 0, 64, 64))
    batch = yolo.find(pictures, threshold=0.01)
    assert any(batch)
    assert batch == [yolo.find([p], threshold=0.01)[0] for p in pictures]


class TestClasses:
    def test_some_of_its_classes(self, yolo: Yolo):
        both = picture(128, 128, RED, 64, 0, 64, 64)
        both[64:, :64] = BLUE
        assert yolo.classes == ("red", "blue")
        assert {r.label for r in yolo.find([both], threshold=0.5)[0]} == {"red", "blue"}
        assert {r.label for r in yolo.find([both], ["Blue"], threshold=0.5)[0]} == {"Blue"}
        assert {r.label for r in yolo.find([both], [], threshold=0.5, background=["blue"])[0]} == {"red"}

    def test_other_labels_for_them(self, yolo: Yolo):
        both = picture(128, 128, RED, 64, 0, 64, 64)
        both[64:, :64] = BLUE
        found = yolo.find([both], {"square": ["red", "blue"]}, threshold=0.5)[0]
        assert [r.label for r in found] == ["square", "square"]
        joined = yolo.find([both], {"square": ["red", "blue"]}, threshold=0.5, one_box=True)[0]
        assert joined == [Region("square", found[0].confidence, (0.0, 0.0, 1.0, 1.0))]

    def test_a_class_that_it_does_not_know(self, yolo: Yolo):
        with pytest.raises(ParameterError, match=r"blu.*did you mean 'blue'"):
            yolo.find([picture(64, 64, RED, 0, 0, 1, 1)], ["blu"])

    def test_names_in_a_file_beside_it(self, tmp_path: Path):
        path = tiny_yolo.detector(tmp_path / "tiny.onnx", names=False)
        with pytest.raises(BrokenModel, match="tiny_labels.txt"):
            load(path)
        (tmp_path / "tiny_labels.txt").write_text("rose\n\nviolet\n", encoding="utf-8")
        assert load(path).classes == ("rose", "violet")

    def test_names_that_do_not_fit_are_refused(self, tmp_path: Path):
        path = tiny_yolo.detector(tmp_path / "tiny.onnx", names=False)
        (tmp_path / "labels.txt").write_text("rose\n", encoding="utf-8")
        with pytest.raises(BrokenModel, match=r"2 classes, but labels.txt names 1"):
            load(path)

    def test_coco(self):
        assert len(COCO) == len(set(COCO)) == 80
        assert (COCO[0], COCO[15], COCO[79]) == ("person", "cat", "toothbrush")


class TestLayout:
    """The shapes are those that exports for pictures of 640 pixels have."""

    @pytest.mark.parametrize(
        ("shape", "expected"),
        [
            ((1, 8400, 85), ("yolox", 80)),
            ((1, 25200, 85), ("objectness", 80)),
            ((1, 84, 8400), ("classes", 80)),
            ((1, 5, 8400), ("classes", 1)),
            ((1, 300, 6), ("finished", None)),
        ],
    )
    def test_known(self, shape: tuple[int, ...], expected: tuple[str, int | None]):
        assert layout(shape, 640, 640) == expected

    @pytest.mark.parametrize("shape", [(1, 1000), (1, 300, 4), (1, 8400, 5), (1, 3, 80, 80, 85)])
    def test_unknown(self, shape: tuple[int, ...]):
        with pytest.raises(WrongModel, match="no detector of the YOLO family"):
            layout(shape, 640, 640, "that file")


class TestDecode:
    def test_finished_boxes(self):
        corners, scores, classes = decode(np.array([[1, 2, 3, 4, 0.5, 7]], np.float32), "finished", 64, 64)
        assert (corners.tolist(), scores.tolist(), classes.tolist()) == ([[1, 2, 3, 4]], [0.5], [7])

    def test_objectness_times_class(self):
        row = np.array([[10, 20, 4, 8, 0.5, 0.2, 0.8]], np.float32)
        corners, scores, classes = decode(row, "objectness", 64, 64)
        assert corners.tolist() == [[8, 16, 12, 24]]
        assert scores == pytest.approx(0.4)
        assert classes.tolist() == [1]

    def test_yolox_files_that_decode_themselves(self):
        """Their boxes are in pixels already; both kinds give the same."""
        rng = np.random.default_rng(0)
        raw = rng.uniform(0, 1, (84, 7)).astype(np.float32)
        corners, scores, classes = decode(raw, "yolox", 64, 64)
        pixels = raw.copy()
        pixels[:, :2], pixels[:, 2:4] = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
        again = decode(pixels, "yolox", 64, 64)
        for expected, got in zip((corners, scores, classes), again, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-3)


def test_an_onnx_file_that_is_no_detector(tmp_path: Path):
    path = tmp_path / "mean.onnx"
    nodes = [tiny_yolo.node("ReduceMean", ["images"], "output", axes=[2, 3], keepdims=0)]
    inputs, outputs = [tiny_yolo.value("images", [1, 3, 64, 64])], [tiny_yolo.value("output", [1, 3])]
    tiny_yolo.write_model(path, nodes, {}, inputs, outputs)
    with pytest.raises(WrongModel, match=r"shape \(1, 3\)"):
        load(path)


def test_name_and_revision(yolo: Yolo):
    assert yolo.name.endswith("tiny.onnx")
    assert len(yolo.revision) == 12
    assert yolo.device == "cpu"
    assert yolo.find([], threshold=0.5) == []
