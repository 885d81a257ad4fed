"""Labels as results of Label Studio and back, and what people are asked."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_idsynth.errors import FieldError, ParameterError
from fiftyone_idsynth.learning.label_studio import rle
from fiftyone_idsynth.learning.label_studio.config import Control, Labelling
from fiftyone_idsynth.learning.label_studio.errors import ProjectError
from fiftyone_idsynth.learning.label_studio.masks import to_files
from fiftyone_idsynth.learning.label_studio.values import ValuesError, box_around, from_results, to_results
from fiftyone_idsynth.media import encode_image

HOSTILE = ("<b>cat</b>", "a \"dog\" & 'co'", "猫 🐈", "50 % > 5 $", "$image", "rot/weiß")
WIDTH, HEIGHT = 200, 120


def dataset_with(**settings: Any) -> Any:
    settings = {"classes": {}, "default_classes": [], "mask_targets": {}, "default_mask_targets": {}} | settings
    return SimpleNamespace(get_field=lambda name: None, **settings)


def asked(kind: str, classes: tuple[str, ...] = ("cat", "dog")) -> Labelling:
    return Labelling.of(dataset_with(), {"answer": kind}, () if kind in ("str", "list[str]") else classes)


def round_trip(kind: str, value: Any, **options: Any) -> Any:
    labelling = asked(kind)
    return from_results(labelling, to_results(labelling, {"answer": value}, WIDTH, HEIGHT), WIDTH, HEIGHT, **options)[
        "answer"
    ]


def random_mask(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((HEIGHT, WIDTH)) > 0.5


class TestLabelling:
    def test_a_configuration_reads_back(self) -> None:
        dataset = dataset_with(mask_targets={"area": {7: "road", 3: "sky", 0: "other"}}, classes={"box": HOSTILE})
        kinds = {
            "image": "Classification", "tags": "Classifications", "box": "Detections", "thing": "Instances",
            "outline": "Polylines", "joint": "Keypoints", "area": "Segmentation", "caption": "str",
            "words": "list[str]",
        }  # fmt: skip
        names = dict.fromkeys(("image", "tags", "thing", "outline", "joint"), ("a", "b"))
        labelling = Labelling.of(dataset, kinds, names)
        assert Labelling.parse(labelling.xml()) == labelling
        assert labelling.fields["thing"] == "Detections"
        assert labelling.of_field("box")[0].classes == HOSTILE
        assert labelling.of_field("area")[0].mask_targets == {7: "road", 3: "sky"}

    def test_a_configuration_by_hand(self) -> None:
        labelling = Labelling.parse("""<View><Image name="img" value="$image"/>
            <RectangleLabels name="box" toName="img"><Label value="car"/><Label value="Fußgänger" alias="person"/>
            </RectangleLabels><Choices name="side" toName="img" perRegion="true"><Choice value="left"/></Choices>
            <BrushLabels name="area" toName="img"><Label value="road"/><Label value="sky"/></BrushLabels>
            <Choices name="tags" toName="img" choice="multiple"><Choice value="a"/></Choices>
            <Rating name="stars" toName="img"/></View>""")
        assert labelling.others == ("side", "stars")
        assert labelling.fields == {"box": "Detections", "area": "Segmentation", "tags": "Classifications"}
        assert labelling.of_field("box")[0].classes == ("car", "person")
        assert labelling.of_field("area")[0].mask_targets == {1: "road", 2: "sky"}

    @pytest.mark.parametrize("classes", [(), ("a", "a"), ("",), (" a",), ("a\x00",), ("a\nb",)])
    def test_classes_that_cannot_be_shown(self, classes: tuple[str, ...]) -> None:
        with pytest.raises(ParameterError, match="classes"):
            asked("Detections", classes)

    def test_what_nobody_can_be_asked(self) -> None:
        with pytest.raises(FieldError, match="Heatmap"):
            asked("Heatmap")
        with pytest.raises(ProjectError, match="no XML"):
            Labelling.parse("<View>")

    def test_new_classes_of_masks_get_free_values(self) -> None:
        dataset = dataset_with(mask_targets={"area": {2: "road"}})
        control = Labelling.of(dataset, {"area": "Segmentation"}, ["sky", "road", "sea"]).controls[0]
        assert control.mask_targets == {1: "sky", 2: "road", 3: "sea"}


class TestRoundTrip:
    @pytest.mark.parametrize("label", HOSTILE)
    def test_classes(self, label: str) -> None:
        labelling = Labelling.parse(asked("Classification", HOSTILE).xml())
        results = to_results(labelling, {"answer": fo.Classification(label=label, confidence=0.5)}, WIDTH, HEIGHT)
        found = from_results(labelling, results, WIDTH, HEIGHT)["answer"]
        assert found.label == label
        assert found.confidence is None
        assert from_results(labelling, results, WIDTH, HEIGHT, confidence=True)["answer"].confidence == 0.5

    def test_several_classes(self) -> None:
        value = fo.Classifications(classifications=[fo.Classification(label=x) for x in ("dog", "cat")])
        assert [one.label for one in round_trip("Classifications", value).classifications] == ["dog", "cat"]

    def test_texts(self) -> None:
        assert round_trip("str", "a <b>red</b> cat\n& a dog") == "a <b>red</b> cat\n& a dog"
        assert round_trip("list[str]", ["red", "naïve & co"]) == ["red", "naïve & co"]

    def test_boxes(self) -> None:
        value = fo.Detections(detections=[fo.Detection(label="cat", bounding_box=[0.1, 0.2, 0.3, 1 / 3])])
        found = round_trip("Detections", value).detections
        assert [one.label for one in found] == ["cat"]
        assert found[0].id == value.detections[0].id
        assert found[0].bounding_box == pytest.approx([0.1, 0.2, 0.3, 1 / 3], abs=1e-12)

    @pytest.mark.parametrize("rotation", [15.0, 90.0, 200.5, -30.0])
    def test_turned_boxes(self, rotation: float) -> None:
        labelling = asked("Detections")
        value = {"x": 40, "y": 30, "width": 20, "height": 10, "rotation": rotation, "rectanglelabels": ["cat"]}
        first = from_results(labelling, [{"from_name": "answer", "value": value}], WIDTH, HEIGHT)["answer"]
        again = to_results(labelling, {"answer": first}, WIDTH, HEIGHT)[0]["value"]
        assert {name: again[name] for name in value if name != "rectanglelabels"} == pytest.approx(
            {name: value[name] for name in value if name != "rectanglelabels"}
        )
        first.detections[0].bounding_box = [0.1, 0.1, 0.2, 0.2]  # moved in the App: the turned box is no longer true
        moved = to_results(labelling, {"answer": first}, WIDTH, HEIGHT)[0]["value"]
        assert (moved["x"], moved["rotation"]) == (pytest.approx(10), 0)

    def test_the_box_around_a_turned_box(self) -> None:
        # A quarter turn clockwise about the top left corner: 40 x 12 pixels become 12 x 40, to the left of it.
        assert box_around([0.5, 0.5, 0.2, 0.1], 90, (WIDTH, HEIGHT)) == pytest.approx(
            [(100 - 12) / WIDTH, 60 / HEIGHT, 12 / WIDTH, 40 / HEIGHT]
        )

    def test_polygons_with_holes_and_lines(self) -> None:
        outer, hole = [(0.1, 0.1), (0.9, 0.1), (0.9, 0.9)], [(0.5, 0.2), (0.8, 0.2), (0.8, 0.5)]
        value = fo.Polylines(
            polylines=[
                fo.Polyline(label="cat", points=[outer, hole], closed=True, filled=True),
                fo.Polyline(label="dog", points=[outer], closed=False, filled=False),
                fo.Polyline(label="dog", points=[hole], closed=True, filled=False),
            ]
        )
        found = round_trip("Polylines", value).polylines
        assert [(one.label, one.closed, one.filled) for one in found] == [
            ("cat", True, True), ("dog", False, False), ("dog", True, False),
        ]  # fmt: skip
        for before, after in zip(value.polylines, found, strict=True):
            for ring, again in zip(before.points, after.points, strict=True):
                assert np.allclose(ring, again, atol=1e-12)

    def test_keypoints(self) -> None:
        points = [(0.1, 0.2), (0.3, 0.4), (0.5, 0.6)]
        value = fo.Keypoints(
            keypoints=[
                fo.Keypoint(label="cat", points=points, confidence=[0.1, 0.2, 0.3]),
                fo.Keypoint(label="dog", points=points[:1]),
            ]
        )
        found = round_trip("Keypoints", value, confidence=True).keypoints
        assert [one.label for one in found] == ["cat", "dog"]
        assert np.allclose(found[0].points, points)
        assert found[0].confidence == [0.1, 0.2, 0.3]

    def test_masks_of_objects(self, tmp_path: Path) -> None:
        mask = random_mask()[:30, :50]
        mask[0], mask[-1], mask[:, 0], mask[:, -1] = 1, 1, 1, 1
        box = [20 / WIDTH, 10 / HEIGHT, 50 / WIDTH, 30 / HEIGHT]
        value = fo.Detections(detections=[fo.Detection(label="cat", bounding_box=box, mask=mask)])
        inline = round_trip("Instances", value).detections[0]
        assert inline.bounding_box == box
        assert (inline.mask == mask).all()

        def write(pixels: np.ndarray) -> str:
            path = tmp_path / "mask.png"
            path.write_bytes(encode_image(pixels))
            return str(path)

        found = fo.Detections(detections=[inline])
        to_files(found, write)
        on_disk = found.detections[0]
        assert on_disk.mask is None
        assert ((on_disk.get_mask() > 0) == mask).all()
        again = round_trip("Instances", fo.Detections(detections=[on_disk])).detections[0]
        assert (again.mask == mask).all()

    def test_masks_of_classes(self) -> None:
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[10:50, 20:90], mask[60:, 100:] = 1, 2
        assert (round_trip("Segmentation", fo.Segmentation(mask=mask)).mask == mask).all()

    @pytest.mark.parametrize(
        ("kind", "empty"),
        [
            ("Classifications", fo.Classifications()), ("Detections", fo.Detections()),
            ("Instances", fo.Detections()), ("Polylines", fo.Polylines()), ("Keypoints", fo.Keypoints()),
            ("list[str]", []), ("str", None), ("Classification", None),
        ],
    )  # fmt: skip
    def test_nothing_there(self, kind: str, empty: Any) -> None:
        found = from_results(asked(kind), [], WIDTH, HEIGHT)["answer"]
        assert type(found) is type(empty)
        assert not hasattr(found, "_LABEL_LIST_FIELD") or not found[found._LABEL_LIST_FIELD]

    def test_nothing_there_in_a_mask(self) -> None:
        assert not from_results(asked("Segmentation"), [], WIDTH, HEIGHT)["answer"].mask.any()


class TestRefused:
    def box(self, **changes: Any) -> dict[str, Any]:
        value = {"x": 1, "y": 1, "width": 9, "height": 9, "rectanglelabels": ["cat"], **changes}
        return {"from_name": "answer", "type": "rectanglelabels", "value": value}

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"rectanglelabels": ["lion"]}, "unknown_label"), ({"rectanglelabels": []}, "label_count"),
            ({"rectanglelabels": ["cat", "dog"]}, "label_count"), ({"x": math.nan}, "not_a_number"),
            ({"x": None}, "not_a_number"), ({"width": 0}, "form"),
        ],
    )  # fmt: skip
    def test_results(self, changes: dict[str, Any], reason: str) -> None:
        with pytest.raises(ValuesError) as error:
            from_results(asked("Detections"), [self.box(**changes)], WIDTH, HEIGHT)
        assert error.value.reason == reason

    def test_renamed_labels_are_mapped(self) -> None:
        result = self.box(rectanglelabels=["lion"])
        found = from_results(asked("Detections"), [result], WIDTH, HEIGHT, labels={"lion": "cat"})
        assert found["answer"].detections[0].label == "cat"

    def test_a_question_that_is_asked_no_more(self) -> None:
        with pytest.raises(ValuesError, match="'gone'"):
            from_results(asked("Detections"), [self.box() | {"from_name": "gone"}], WIDTH, HEIGHT)

    def test_relations_and_other_questions_are_passed_over(self) -> None:
        labelling = Labelling(asked("Detections").controls, others=("stars",))
        results = [{"from_name": "stars", "value": {"rating": 3}}, {"type": "relation", "from_id": "a"}]
        assert from_results(labelling, results, WIDTH, HEIGHT)["answer"].detections == []

    def test_an_image_that_was_exchanged(self) -> None:
        result = self.box() | {"original_width": HEIGHT, "original_height": WIDTH}
        with pytest.raises(ValuesError, match="exchanged or turned"):
            from_results(asked("Detections"), [result], WIDTH, HEIGHT)

    def test_labels_that_cannot_be_chosen(self) -> None:
        value = fo.Classification(label="lion")
        with pytest.raises(ValuesError, match="'lion'"):
            to_results(asked("Classification"), {"answer": value}, WIDTH, HEIGHT)
        mask = np.full((HEIGHT, WIDTH), 9, np.uint8)
        with pytest.raises(ValuesError, match="value 9"):
            to_results(asked("Segmentation"), {"answer": fo.Segmentation(mask=mask)}, WIDTH, HEIGHT)

    def test_places_that_are_no_numbers(self) -> None:
        value = fo.Keypoints(keypoints=[fo.Keypoint(label="cat", points=[(math.nan, math.nan)])])
        with pytest.raises(ValuesError, match="no number"):
            to_results(asked("Keypoints"), {"answer": value}, WIDTH, HEIGHT)


class TestBrush:
    @pytest.mark.parametrize("shape", [(1, 1), (3, 5), (120, 200), (700, 300)])
    def test_a_mask_reads_back(self, shape: tuple[int, int]) -> None:
        random = np.random.default_rng(1).random(shape)
        for mask in (random > 0.5, random > 2, random < 2):
            assert (rle.decode(rle.encode(mask), shape[1], shape[0]) == mask).all()

    def test_label_studio_reads_it_and_is_read(self) -> None:
        brush = pytest.importorskip("label_studio_sdk.converter.brush")
        mask = random_mask(2)
        assert ((brush.decode_rle(rle.encode(mask)).reshape(HEIGHT, WIDTH, 4)[..., 3] > 0) == mask).all()
        assert (rle.decode(brush.mask2rle(mask.astype(np.uint8) * 255), WIDTH, HEIGHT) == mask).all()

    def test_painted_pixels_that_are_no_runs(self) -> None:
        pixels = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)
        pixels[..., 3] = random_mask(3) * 128
        values = pixels.ravel()
        bits = f"{len(values):032b}00111" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
        for start in range(0, len(values), 1 << 16):  # as rle-pack writes values that do not repeat
            part = values[start : start + (1 << 16)]
            bits += f"011{len(part) - 1:016b}" + "".join(f"{value:08b}" for value in part)
        code = np.packbits(np.frombuffer(bits.encode(), np.uint8) - 48).tolist()
        assert (rle.decode(code, WIDTH, HEIGHT) == (pixels[..., 3] > 0)).all()

    def test_damaged_code(self) -> None:
        whole = rle.encode(random_mask())
        for code in ([], whole[:5], whole[:-20]):
            with pytest.raises(ValueError, match="cut off"):
                rle.decode(code, WIDTH, HEIGHT)
        with pytest.raises(ValueError, match="values"):
            rle.decode(whole, WIDTH + 1, HEIGHT)


def test_a_field_named_like_the_picture() -> None:
    control = Labelling.of(dataset_with(), {"image": "Classification"}, ["a"]).controls[0]
    assert (control.name, control.field) == ("image_labels", "image")
    assert isinstance(control, Control)
