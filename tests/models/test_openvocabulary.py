"""OWLv2 and Grounding DINO: texts become classes, boxes of one class do not overlap, and batches change nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from fiftyone_idsynth.errors import ParameterError
from fiftyone_idsynth.models.loading import find_model
from fiftyone_idsynth.models.openvocabulary import GroundingDino, OpenVocabulary
from fiftyone_idsynth.models.options import Options
from fiftyone_idsynth.models.roles import Finder, Region
from tests.models import tiny_regions
from tests.zoo import shapes_world as world
from tests.zoo.evaluate import exactly, iou, name

CPU = Options(device="cpu", dtype="float32")
LONG = ["red panda", "cat", "box", "a small dog", "person", "remote control", "car", "tree"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def owl(tmp_path_factory: pytest.TempPathFactory) -> Finder:
    return find_model(Finder, str(tiny_regions.owlv2(tmp_path_factory.mktemp("owlv2"))), CPU)


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> GroundingDino:
    found = find_model(Finder, str(tiny_regions.grounding_dino(tmp_path_factory.mktemp("dino"))), CPU)
    assert isinstance(found, GroundingDino)
    return found


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (*size, 3), np.uint8) for size in ((60, 100), (90, 50), (64, 64), (60, 100))]


def check(regions: list[Region], labels: set[str]) -> None:
    for region in regions:
        x, y, w, h = region.box
        assert region.label in labels
        assert 0 <= region.confidence <= 1
        assert 0 <= x < x + w <= 1 + 1e-6
        assert 0 <= y < y + h <= 1 + 1e-6
    assert [r.confidence for r in regions] == sorted((r.confidence for r in regions), reverse=True)


def same(batch: list[list[Region]], single: list[list[Region]]) -> None:
    for together, alone in zip(batch, single, strict=True):
        assert [r.label for r in together] == [r.label for r in alone]
        np.testing.assert_allclose([r.confidence for r in together], [r.confidence for r in alone], atol=1e-4)
        np.testing.assert_allclose([r.box for r in together], [r.box for r in alone], atol=1e-4)


def test_a_detector_that_understands_finds_the_things_that_are_named():
    from tests.zoo.common import MODELS

    if not (MODELS / "owlv2").is_dir():
        pytest.skip("there are no weights of OWLv2 in tests/zoo/models")
    trained = find_model(Finder, str(MODELS / "owlv2"), CPU)
    overlaps, wrong = [], 0
    scenes = exactly(72, 40, 2)
    for scene in scenes:
        found = trained.find([scene.image], list(dict.fromkeys(map(name, scene.things))), threshold=0.3)[0]
        for thing in scene.things:
            boxes = [tuple(world.SIZE * v for v in (x, y, x + w, y + h)) for x, y, w, h in (r.box for r in found)]
            mine = [iou(b, thing.box) for b, r in zip(boxes, found, strict=True) if r.label == name(thing)]
            overlaps.append(max(mine, default=0))
        wrong += max(0, len(found) - 2)
    assert np.mean(overlaps) >= 0.6
    assert wrong <= len(scenes) / 2


class TestOwl:
    def test_boxes_lie_in_the_picture_and_have_the_labels_of_their_texts(self, owl: Finder):
        assert isinstance(owl, OpenVocabulary)
        found = owl.find(pictures(), {"animal": ["red panda", "cat"], "thing": "box"}, threshold=0)
        assert all(found)
        for regions in found:
            check(regions, {"animal", "thing"})

    def test_a_batch_gives_what_single_pictures_give(self, owl: Finder):
        single = [owl.find([p], ["cat", "box"], threshold=0)[0] for p in pictures()]
        same(owl.find(pictures(), ["cat", "box"], threshold=0), single)

    def test_boxes_of_the_background_are_dropped(self, owl: Finder):
        texts = ["cat", "box"]
        both = owl.find(pictures(), texts, threshold=0)
        cats = owl.find(pictures(), ["cat"], threshold=0, background=["box"])
        same(cats, [[r for r in regions if r.label == "cat"] for regions in both])

    def test_one_box_goes_round_all_of_a_class(self, owl: Finder):
        many, one = (owl.find(pictures()[:1], ["cat"], threshold=0, one_box=flag)[0] for flag in (False, True))
        assert len(many) > 1
        assert len(one) == 1
        assert one[0].box[0] == pytest.approx(min(r.box[0] for r in many))
        assert one[0].box[0] + one[0].box[2] == pytest.approx(max(r.box[0] + r.box[2] for r in many))
        assert one[0].confidence == many[0].confidence

    def test_the_threshold_is_the_least_confidence(self, owl: Finder):
        everything = owl.find(pictures(), ["cat", "box"], threshold=0)
        middle = float(np.median([r.confidence for regions in everything for r in regions]))
        sure = owl.find(pictures(), ["cat", "box"], threshold=middle)
        same(sure, [[r for r in regions if r.confidence > middle] for regions in everything])

    def test_no_pictures(self, owl: Finder):
        assert owl.find([], ["cat"], threshold=0) == []


class TestGroundingDino:
    def test_every_box_has_one_of_the_classes(self, dino: GroundingDino):
        found = dino.find(pictures(), LONG, threshold=0)
        assert all(found)
        for regions in found:
            check(regions, set(LONG))

    def test_each_text_knows_its_words(self, dino: GroundingDino):
        """The places of the texts in the prompts are where the tokenizer puts them."""
        prompts = dino._prompts([*LONG, "St. Remote-Box, small?"])
        assert len(prompts) > 1  # there is room for 24 tokens
        seen = {}
        for prompt, spans in prompts:
            assert len(prompt["input_ids"]) <= 24
            for number, span in spans.items():
                seen[number] = dino.processor.tokenizer.decode(prompt["input_ids"][span])
        assert [seen[n].replace(" ", "") for n in range(len(LONG))] == [text.replace(" ", "") for text in LONG]
        assert "." not in seen[len(LONG)]

    def test_confidences_are_those_of_transformers(self, dino: GroundingDino):
        """With one class, a box is as sure as the surest of its words, which the usual answer finds too."""
        from PIL import Image

        picture = pictures()[0]
        inputs = dino.processor(images=[Image.fromarray(picture)], text=[["red panda"]], return_tensors="pt")
        with torch.inference_mode():
            words = dino.model(**inputs).logits.sigmoid()[0, :, 1:3]
        found = dino.find([picture], ["red panda"], threshold=0, iou=1.0)[0]
        expected = sorted(words.max(1).values.tolist(), reverse=True)
        assert [r.confidence for r in found] == pytest.approx(expected[: len(found)], abs=1e-4)

    def test_a_batch_gives_what_single_pictures_give(self, dino: GroundingDino):
        single = [dino.find([p], LONG, threshold=0)[0] for p in pictures()]
        same(dino.find(pictures(), LONG, threshold=0), single)

    def test_a_text_that_has_no_room_is_refused(self, dino: GroundingDino):
        with pytest.raises(ParameterError, match="between 1 and 21 tokens"):
            dino.find(pictures(), ["cat " * 22], threshold=0)
        with pytest.raises(ParameterError, match="has 0"):
            dino.find(pictures(), ["..."], threshold=0)
