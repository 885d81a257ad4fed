"""CLIPSeg: what texts describe is found, the background is left out, and batches change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fiftyone_idsynth.errors import ParameterError
from fiftyone_idsynth.models.clipseg import ClipSeg
from fiftyone_idsynth.models.errors import WrongModel
from fiftyone_idsynth.models.loading import find_model
from fiftyone_idsynth.models.options import Options
from fiftyone_idsynth.models.regions import class_texts, join, mask_regions, suppress
from fiftyone_idsynth.models.roles import Captioner, Finder, Region
from tests.models import tiny_regions
from tests.zoo import shapes_world as world
from tests.zoo.evaluate import exactly, iou, name

CPU = Options(device="cpu", dtype="float32")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_regions.clipseg(tmp_path_factory.mktemp("clipseg"))


@pytest.fixture(scope="module")
def tiny(folder: Path) -> ClipSeg:
    found = find_model(Finder, str(folder), CPU)
    assert isinstance(found, ClipSeg)
    return found


@pytest.fixture(scope="module")
def trained() -> ClipSeg:
    """A small CLIPSeg that understands the shapes world."""
    from tests.zoo.common import MODELS

    if not (MODELS / "clipseg").is_dir():
        pytest.skip("there are no weights of CLIPSeg in tests/zoo/models")
    return find_model(Finder, str(MODELS / "clipseg"), CPU)  # type: ignore[return-value]


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (*size, 3), np.uint8) for size in ((60, 100), (90, 50), (64, 64))]


def maps(model: ClipSeg, monkeypatch: pytest.MonkeyPatch, **texts: Any) -> None:
    """Makes a model see what a test says: text -> map."""
    side = len(next(iter(texts.values())))

    def probabilities(seen: list[np.ndarray], wanted: list[str]) -> np.ndarray:
        return np.stack([np.stack([texts.get(t, np.zeros((side, side))) for t in wanted])] * len(seen)).astype(
            "float32"
        )

    monkeypatch.setattr(model, "probabilities", probabilities)


def square(size: int, *places: tuple[int, int, int, int, float]) -> np.ndarray:
    made = np.zeros((size, size), np.float32)
    for x, y, w, h, value in places:
        made[y : y + h, x : x + w] = value
    return made


class TestSense:
    def test_boxes_of_colours_and_shapes_on_pictures_with_two_things(self, trained: ClipSeg):
        overlaps = []
        for scene in exactly(32, 60, 2):
            a, b = scene.things
            if name(a) == name(b):
                continue
            found = trained.find([scene.image], [name(a), name(b)], threshold=0.5)[0]
            for thing in (a, b):
                same = sorted((r for r in found if r.label == name(thing)), key=lambda r: -r.mask.sum())
                box = same[0].box if same else (0, 0, 0, 0)
                corners = tuple(world.SIZE * v for v in (box[0], box[1], box[0] + box[2], box[1] + box[3]))
                overlaps.append(iou(corners if same else None, thing.box))
        assert np.mean(overlaps) >= 0.7

    def test_the_size_of_the_picture_does_not_matter(self, trained: ClipSeg):
        import cv2

        scene = exactly(33, 1, 1)[0]
        thing = scene.things[0]
        wide = cv2.resize(scene.image, (640, 320), interpolation=cv2.INTER_CUBIC)
        region = trained.find([wide], [thing.colour], threshold=0.5)[0][0]
        assert region.mask.shape == (320, 640)
        x, y, w, h = region.box
        assert iou((64 * x, 64 * y, 64 * (x + w), 64 * (y + h)), thing.box) > 0.6


class TestRules:
    def test_each_component_is_a_region_with_its_own_confidence(self, tiny: ClipSeg, monkeypatch: pytest.MonkeyPatch):
        maps(tiny, monkeypatch, cat=square(32, (0, 0, 8, 8, 0.7), (16, 16, 8, 16, 0.9)))
        found = tiny.find([np.zeros((32, 32, 3), np.uint8)], ["cat"], threshold=0.5)[0]
        assert [r.box for r in found] == [(0.5, 0.5, 0.25, 0.5), (0, 0, 0.25, 0.25)]
        assert [r.confidence for r in found] == pytest.approx([0.9, 0.7])
        assert [int(r.mask.sum()) for r in found] == [128, 64]
        assert not (found[0].mask & found[1].mask).any()

    def test_one_box_goes_round_all(self, tiny: ClipSeg, monkeypatch: pytest.MonkeyPatch):
        maps(tiny, monkeypatch, cat=square(32, (0, 0, 8, 8, 0.7), (16, 16, 8, 16, 0.9)))
        found = tiny.find([np.zeros((32, 32, 3), np.uint8)], ["cat"], threshold=0.5, one_box=True)[0]
        assert [r.box for r in found] == [(0, 0, 0.75, 1)]
        assert found[0].confidence == pytest.approx((64 * 0.7 + 128 * 0.9) / 192)
        assert int(found[0].mask.sum()) == 192

    def test_what_the_background_explains_better_is_left_out(self, tiny: ClipSeg, monkeypatch: pytest.MonkeyPatch):
        cat, sky = square(32, (0, 0, 16, 16, 0.6), (16, 16, 16, 16, 0.8)), square(32, (0, 0, 32, 16, 0.7))
        maps(tiny, monkeypatch, cat=cat, sky=sky)
        picture = [np.zeros((32, 32, 3), np.uint8)]
        assert len(tiny.find(picture, ["cat"], threshold=0.5)[0]) == 1  # touching at a corner
        found = tiny.find(picture, ["cat"], threshold=0.5, background=["water|sky"])[0]
        assert [r.box for r in found] == [(0.5, 0.5, 0.5, 0.5)]

    def test_the_best_text_of_a_class_counts(self, tiny: ClipSeg, monkeypatch: pytest.MonkeyPatch):
        maps(tiny, monkeypatch, cat=square(32, (0, 0, 8, 8, 0.9)), kitten=square(32, (16, 0, 8, 8, 0.8)))
        picture = [np.zeros((32, 32, 3), np.uint8)]
        for classes, label in ((["cat|kitten"], "cat"), ({"pet": ["cat", "kitten"]}, "pet")):
            found = tiny.find(picture, classes, threshold=0.5)[0]
            assert [(r.label, r.box[0]) for r in found] == [(label, 0), (label, 0.5)]

    def test_specks_are_dropped(self, tiny: ClipSeg, monkeypatch: pytest.MonkeyPatch):
        maps(tiny, monkeypatch, cat=square(32, (0, 0, 2, 2, 0.9), (16, 16, 8, 8, 0.9)))
        picture = [np.zeros((32, 32, 3), np.uint8)]
        assert len(tiny.find(picture, ["cat"], threshold=0.5)[0]) == 2
        assert len(tiny.find(picture, ["cat"], threshold=0.5, min_area=0.01)[0]) == 1
        assert tiny.find(picture, ["cat"], threshold=0.5, min_area=0.2) == [[]]

    def test_classes_overlap_unless_they_exclude_each_other(self, tiny: ClipSeg, monkeypatch: pytest.MonkeyPatch):
        maps(tiny, monkeypatch, person=square(32, (0, 0, 16, 32, 0.8)), face=square(32, (0, 0, 16, 8, 0.9)))
        picture = [np.zeros((32, 32, 3), np.uint8)]
        both = {r.label: r.box[3] for r in tiny.find(picture, ["person", "face"], threshold=0.5)[0]}
        assert both == {"person": 1, "face": 0.25}
        apart = {r.label: r.box[3] for r in tiny.find(picture, ["person", "face"], threshold=0.5, exclusive=True)[0]}
        assert apart == {"person": 0.75, "face": 0.25}


class TestModel:
    def test_its_maps_are_those_of_transformers(self, tiny: ClipSeg):
        from PIL import Image

        texts, picture = ["a cat", "a small red box", "street"], pictures()[0]
        inputs = tiny.processor(text=texts, images=[Image.fromarray(picture)] * 3, padding=True, return_tensors="pt")
        with torch.inference_mode():
            expected = tiny.model(**inputs).logits.sigmoid().numpy()
        np.testing.assert_allclose(tiny.probabilities([picture], texts)[0], expected, atol=1e-5)

    def test_a_batch_gives_what_single_pictures_give(self, tiny: ClipSeg):
        batch = tiny.find(pictures(), ["cat", "box"], threshold=0.4)
        single = [tiny.find([p], ["cat", "box"], threshold=0.4)[0] for p in pictures()]
        assert sum(map(len, batch)) > 0
        for together, alone, picture in zip(batch, single, pictures(), strict=True):
            assert [r.label for r in together] == [r.label for r in alone]
            for a, b in zip(together, alone, strict=True):
                assert a.box == pytest.approx(b.box, abs=0.02)
                assert a.confidence == pytest.approx(b.confidence, abs=1e-3)
                assert a.mask.shape == picture.shape[:2]
                assert a.mask.dtype == bool

    def test_no_pictures(self, tiny: ClipSeg):
        assert tiny.find([], ["cat"], threshold=0.5) == []

    def test_name_and_revision(self, tiny: ClipSeg, folder: Path):
        assert tiny.name == str(folder)
        assert len(tiny.revision) == 12
        assert tiny.device == "cpu"
        assert tiny.classes is None

    def test_it_is_no_captioner(self, folder: Path):
        with pytest.raises(WrongModel, match=r"clipseg.*finder"):
            find_model(Captioner, str(folder), CPU)


class TestClassTexts:
    def test_texts_and_labels(self):
        assert class_texts(["red panda|small animal", "cat"]) == {
            "red panda": ("red panda", "small animal"),
            "cat": ("cat",),
        }
        assert class_texts({"panda": "red panda | bear"}) == {"panda": ("red panda", "bear")}
        assert class_texts("cat") == {"cat": ("cat",)}

    @pytest.mark.parametrize(
        ("classes", "says"), [([], "at least one"), ([" "], "a word or more"), (["cat", "cat|kitten"], "twice")]
    )
    def test_what_describes_nothing_is_refused(self, classes: list[str], says: str):
        with pytest.raises(ParameterError, match=says):
            class_texts(classes)


def test_suppression_is_for_each_class_apart():
    regions = [
        Region("cat", 0.6, (0.1, 0.1, 0.4, 0.4)),
        Region("cat", 0.9, (0.12, 0.1, 0.4, 0.4)),
        Region("dog", 0.5, (0.1, 0.1, 0.4, 0.4)),
        Region("cat", 0.4, (0.6, 0.6, 0.2, 0.2)),
    ]
    assert [(r.label, r.confidence) for r in suppress(regions)] == [("cat", 0.9), ("dog", 0.5), ("cat", 0.4)]
    assert suppress([]) == []


def test_joined_regions_cover_all_of_a_class():
    left, right = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    left[:, :2], right[:, 8:] = True, True
    joined = join([Region("cat", 0.6, (0, 0, 0.2, 1), left), Region("cat", 0.9, (0.8, 0, 0.2, 1), right)])
    assert [(r.label, r.confidence, r.box) for r in joined] == [("cat", 0.9, (0, 0, 1, 1))]
    assert joined[0].mask is not None
    assert int(joined[0].mask.sum()) == 40


def test_an_empty_mask_has_no_regions():
    assert mask_regions("cat", np.zeros((4, 4), bool), np.zeros((4, 4))) == []
