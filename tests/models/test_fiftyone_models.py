"""Models of FiftyOne, as finders and taggers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fiftyone as fo
import fiftyone.core.models as fom
import numpy as np
import pytest
import torch

from fiftyone_idsynth.errors import ParameterError
from fiftyone_idsynth.models.errors import ModelNotFound, WrongModel
from fiftyone_idsynth.models.fiftyone_models import FiftyOneFinder, FiftyOneTagger
from fiftyone_idsynth.models.loading import find_model
from fiftyone_idsynth.models.options import Options
from fiftyone_idsynth.models.roles import Captioner, Finder, Tag, Tagger


class Said(fom.Model):
    """A model that predicts what a test says, for each picture as a function of it."""

    media_type = "image"
    ragged_batches = False
    transforms = None
    preprocess = False

    def __init__(self, predict: Any, classes: list[str] | None = None):
        self._predict = predict
        self.classes = classes

    def predict(self, arg: np.ndarray) -> Any:
        return self._predict(arg)


def blank(height: int = 40, width: int = 80) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def detections(*found: tuple[str, float | None, list[float]]) -> Any:
    return fo.Detections(detections=[fo.Detection(label=n, confidence=c, bounding_box=b) for n, c, b in found])


class TestFinder:
    def test_detections_become_regions(self):
        made = detections(
            ("cat", 0.4, [0.1, 0.2, 0.3, 0.4]), ("dog", 0.9, [0.5, 0.5, 0.5, 0.5]), ("cat", 0.1, [0, 0, 1, 1])
        )
        found = FiftyOneFinder(Said(lambda p: made), "said").find([blank()], threshold=0.25)[0]
        assert [(r.label, r.confidence, r.box) for r in found] == [
            ("dog", 0.9, (0.5, 0.5, 0.5, 0.5)),
            ("cat", 0.4, (0.1, 0.2, 0.3, 0.4)),
        ]

    def test_instance_masks_are_put_in_their_place(self):
        detection = fo.Detection(label="cat", bounding_box=[0.25, 0.5, 0.5, 0.5], mask=np.ones((20, 40), bool))
        made = fo.Detections(detections=[detection])
        region = FiftyOneFinder(Said(lambda p: made), "said").find([blank()])[0][0]
        assert region.confidence == 1
        assert region.mask.shape == (40, 80)
        assert region.mask[20:, 20:60].all()
        assert int(region.mask.sum()) == 20 * 40

    def test_a_segmentation_becomes_its_connected_parts(self):
        mask = np.zeros((20, 40), np.uint8)  # half the size of the picture
        mask[:10, :10], mask[10:, 30:], mask[:2, 36:] = 1, 1, 2
        finder = FiftyOneFinder(Said(lambda p: fo.Segmentation(mask=mask), ["background", "cat", "dog"]), "said")
        found = {(r.label, tuple(round(v, 6) for v in r.box)) for r in finder.find([blank()])[0]}
        assert found == {
            ("cat", (0, 0, 0.25, 0.5)),
            ("cat", (0.75, 0.5, 0.25, 0.5)),
            ("dog", (0.9, 0, 0.1, 0.1)),
        }
        assert [r.box for r in finder.find([blank()], ["cat"], one_box=True)[0]] == [(0, 0, 1, 1)]

    def test_classes_are_chosen_and_renamed(self):
        made = detections(
            ("cat", 0.8, [0, 0, 0.5, 0.5]), ("dog", 0.9, [0.5, 0.5, 0.5, 0.5]), ("car", 0.7, [0, 0.5, 0.5, 0.5])
        )
        finder = FiftyOneFinder(Said(lambda p: made, ["cat", "dog", "car"]), "said")
        assert finder.classes == ("cat", "dog", "car")
        assert [r.label for r in finder.find([blank()], {"pet": ["cat", "dog"]})[0]] == ["pet", "pet"]
        assert [r.label for r in finder.find([blank()], background=["dog"])[0]] == ["cat", "car"]
        with pytest.raises(ParameterError, match="said does not know it"):
            finder.find([blank()], ["horse"])

    def test_pictures_of_different_sizes_keep_their_order(self):
        finder = FiftyOneFinder(Said(lambda p: detections((str(p.shape[0]), 1.0, [0, 0, 1, 1]))), "said")
        sizes = [(10, 20), (30, 20), (10, 20), (50, 50)]
        found = finder.find([blank(*size) for size in sizes])
        assert [r[0].label for r in found] == ["10", "30", "10", "50"]
        assert finder.find([]) == []

    def test_one_of_several_predictions(self):
        made = {"scene": fo.Classification(label="street"), "things": detections(("cat", 0.8, [0, 0, 0.5, 0.5]))}
        assert FiftyOneFinder(Said(lambda p: made), "said").find([blank()])[0][0].label == "cat"
        assert FiftyOneTagger(Said(lambda p: made), "said").tag([blank()]) == [[Tag("street", 1.0)]]

    def test_other_predictions_are_refused(self):
        with pytest.raises(WrongModel, match="Classification, in which there are no regions"):
            FiftyOneFinder(Said(lambda p: fo.Classification(label="cat")), "said").find([blank()])


class TestTagger:
    def test_classifications_become_tags(self):
        listed = [fo.Classification(label=n, confidence=c) for n, c in (("cat", 0.3), ("dog", 0.9), ("car", 0.1))]
        tagger = FiftyOneTagger(Said(lambda p: fo.Classifications(classifications=listed)), "said")
        assert tagger.tag([blank()], threshold=0.2) == [[Tag("dog", 0.9), Tag("cat", 0.3)]]
        assert tagger.categories == ("general",)

    def test_detections_are_refused(self):
        with pytest.raises(WrongModel, match="Detections: name a model that predicts classifications"):
            FiftyOneTagger(Said(lambda p: detections()), "said").tag([blank()])


class TestTorch:
    """Torchvision's models as the zoo wraps them, with random weights."""

    @pytest.fixture(autouse=True)
    def _one_thread(self) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)

    @staticmethod
    def model(entry: str, arguments: dict[str, Any], output: str, **more: Any) -> Any:
        import fiftyone.utils.torch as fout

        config = {
            "entrypoint_fcn": f"torchvision.models.{entry}",
            "entrypoint_args": {"weights": None, "num_classes": 3, **arguments},
            "output_processor_cls": f"fiftyone.utils.torch.{output}",
            "classes": ["cat", "dog", "car"],
            "device": "cpu",
        }
        torch.manual_seed(0)
        return fout.TorchImageModel(fout.TorchImageModelConfig({**config, **more}))

    def test_classifier(self):
        shape = {"image_size": [64, 64], "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        tagger = FiftyOneTagger(self.model("resnet18", {}, "ClassifierOutputProcessor", **shape), "resnet")
        pictures = [blank(), blank(60, 30) + 200, blank()]
        batch, single = tagger.tag(pictures), [tagger.tag([picture])[0] for picture in pictures]
        for together, alone in zip(batch, single, strict=True):
            assert [t.name for t in together] == [t.name for t in alone]
            assert together[0].confidence == pytest.approx(alone[0].confidence, abs=1e-5)

    def test_detector(self):
        entry = "detection.ssdlite320_mobilenet_v3_large"
        model = self.model(entry, {"weights_backbone": None}, "DetectorOutputProcessor")
        found = FiftyOneFinder(model, "ssd").find([blank(), blank(60, 30)], ["dog"], threshold=0)
        assert all(found)
        for region in (r for regions in found for r in regions):
            x, y, w, h = region.box
            assert region.label == "dog"
            assert 0 <= x <= x + w <= 1 + 1e-6
            assert 0 <= y <= y + h <= 1 + 1e-6


def test_a_model_for_videos_is_refused():
    model = Said(lambda p: None)
    model.media_type = "video"  # type: ignore[misc]
    with pytest.raises(WrongModel, match="for video"):
        FiftyOneFinder(model, "said")


class TestZoo:
    def test_a_name_that_is_not_in_the_zoo(self):
        with pytest.raises(ModelNotFound, match="did you mean 'resnet50-imagenet-torch'"):
            find_model(Tagger, "zoo:resnet50-imagenet-troch", Options(device="cpu"))

    def test_a_model_that_does_something_else(self):
        with pytest.raises(WrongModel, match=r"no tagger \(the zoo calls it .*detection"):
            find_model(Tagger, "zoo:faster-rcnn-resnet50-fpn-coco-torch", Options(device="cpu"))
        with pytest.raises(WrongModel, match="no finder"):
            find_model(Finder, "zoo:resnet50-imagenet-torch", Options(device="cpu"))
        with pytest.raises(WrongModel, match="not a captioner"):
            find_model(Captioner, "zoo:resnet50-imagenet-torch", Options(device="cpu"))
