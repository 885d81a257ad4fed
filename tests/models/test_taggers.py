"""Taggers: pictures reach them as their makers meant, and their scores come back with the right names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fiftyone_idsynth.models.errors import BrokenModel, WrongModel
from fiftyone_idsynth.models.loading import find_model
from fiftyone_idsynth.models.options import Options
from fiftyone_idsynth.models.roles import Tag, Tagger
from tests.models import tiny, tiny_yolo

CPU = Options(device="cpu", dtype="float32")
RED, BLUE, WHITE, BLACK = (255, 0, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
BRIGHT = [[10 / 3] * 3]
"""Weights with which a model for values 0..1 gives a sigmoid of 10 times the brightness."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tagger(path: Path) -> Tagger:
    return find_model(Tagger, str(path), CPU)


def confidence(tags: list[Tag], name: str) -> float:
    return next(tag.confidence for tag in tags if tag.name == name)


def write_lines(path: Path, *lines: str) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_wd14_names_colours_with_their_categories(tmp_path):
    model = tagger(tiny.wd14(tmp_path))
    red, blue = model.tag([tiny.plain(RED, 40, 80), tiny.plain(BLUE)], threshold=0.35)
    assert {(tag.name, tag.category) for tag in red} == {
        ("general", "rating"), ("red", "general"), ("bright", "general"), ("mr_red", "character")
    }  # fmt: skip
    assert {tag.name for tag in blue} == {"general", "blue"}
    assert model.categories == ("rating", "general", "character")
    assert (model.name, model.device) == (str(tmp_path), "cpu")


def test_wd14_pictures_lie_on_a_white_square(tmp_path):
    black = tagger(tiny.wd14(tmp_path)).tag([tiny.plain(BLACK, 200, 100)])[0]  # half of the square is white
    assert confidence(black, "bright") == pytest.approx(0.5, abs=0.01)


def test_without_a_threshold_every_tag_comes_back_the_surest_first(tmp_path):
    tags = tagger(tiny.wd14(tmp_path)).tag([tiny.plain(RED)])[0]
    assert [tag.name for tag in tags][:3] == ["red", "mr_red", "general"]
    assert len(tags) == 5
    assert [tag.confidence for tag in tags] == sorted((tag.confidence for tag in tags), reverse=True)


def test_ml_danbooru_takes_stretched_rgb_from_0_to_1_and_gives_logits(tmp_path):
    weights = [[30, -15, -15], [-15, -15, 30], *BRIGHT]
    tiny.mean_colour_onnx(tmp_path / "tagger.onnx", weights, [-5, -5, 0], channels_first=True, end="Identity")
    write_lines(tmp_path / "tags.csv", "name,category", "red,0", "blue,0", "bright,5")
    red, black = tagger(tmp_path / "tagger.onnx").tag([tiny.plain(RED), tiny.plain(BLACK, 200, 100)])
    assert confidence(red, "red") > 0.99
    assert confidence(red, "blue") < 0.01
    assert confidence(black, "bright") == pytest.approx(0.5, abs=0.001)  # nothing white round it
    assert {tag.category for tag in black} == {"general", "meta"}


def test_deepdanbooru_fills_up_from_the_edge(tmp_path):
    tiny.mean_colour_onnx(tmp_path / "model.onnx", [*BRIGHT, [0, 0, 0], [0, 0, 0]], [-5, 1, 2])
    write_lines(tmp_path / "tags.txt", "bright", "somebody", "rating:safe")
    write_lines(tmp_path / "tags-character.txt", "somebody")
    model = tagger(tmp_path)
    white, black = model.tag([tiny.plain(WHITE, 50, 100), tiny.plain(BLACK, 100, 50)])
    assert confidence(white, "bright") == pytest.approx(1 / (1 + np.exp(-5)), abs=0.001)
    assert confidence(black, "bright") == pytest.approx(1 / (1 + np.exp(5)), abs=0.001)
    assert {tag.name: tag.category for tag in white} == {
        "bright": "general", "somebody": "character", "rating:safe": "rating"
    }  # fmt: skip


def test_classifier_takes_the_middle_normalised_as_imagenet(tmp_path):
    weights = np.eye(3) / 2
    tiny.mean_colour_onnx(tmp_path / "net.onnx", weights, [0, 0, 0], channels_first=True, end="Identity", batch=1)
    write_lines(tmp_path / "net_labels.txt", "red", "green", "blue")
    picture = tiny.plain(BLUE, 120, 300)
    picture[5:115, 95:205] = RED  # 105 of the 120 rows are used
    grey = tiny.plain([round(255 * mean) for mean in (0.485, 0.456, 0.406)])
    red, even = tagger(tmp_path / "net.onnx").tag([picture, grey])  # one by one, as the file wants
    assert red[0].name == "red"
    assert sum(tag.confidence for tag in red) == pytest.approx(1, abs=1e-5)
    assert [tag.confidence for tag in even] == pytest.approx([1 / 3] * 3, abs=0.01)
    expected = np.array([(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225]) / 2
    expected = np.exp(expected) / np.exp(expected).sum()
    assert [confidence(red, name) for name in ("red", "green", "blue")] == pytest.approx(list(expected), abs=0.01)


def test_classifier_with_the_channels_last_takes_values_from_minus_1_to_1(tmp_path):
    tiny.mean_colour_onnx(tmp_path / "net.onnx", [[1, 1, 1], [0, 0, 0]], [0, 0], end="Softmax", side="side")
    write_lines(tmp_path / "labels.txt", "bright", "dark")
    white, black = tagger(tmp_path / "net.onnx").tag([tiny.plain(WHITE, 30, 90), tiny.plain(BLACK)])
    assert confidence(white, "bright") == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-4)
    assert confidence(black, "bright") == pytest.approx(1 / (1 + np.exp(3)), abs=1e-4)


def test_a_configuration_beside_the_file_says_what_it_takes(tmp_path):
    """As transformers models are exported to ONNX."""
    tiny.mean_colour_onnx(tmp_path / "onnx/model.onnx", [[1, 1, 1], [0, 0, 0]], [0, 0], channels_first=True,
                          end="Identity", side="side")  # fmt: skip
    tiny.write_json(tmp_path / "config.json", {"id2label": {"0": "bright, light", "1": "dark"}})
    said = {"size": {"height": 48, "width": 48}, "image_mean": [0.0] * 3, "image_std": [0.5] * 3}
    tiny.write_json(tmp_path / "preprocessor_config.json", said)
    tags = tagger(tmp_path).tag([tiny.plain(WHITE)])[0]
    assert confidence(tags, "bright") == pytest.approx(1 / (1 + np.exp(-6)), abs=1e-4)


def test_the_first_synonym_is_the_name_unless_it_is_ambiguous(tmp_path):
    lines = ["tench, Tinca tinca", "crane", "crane, machine", "n02084071 dog, domestic dog"]
    tiny.mean_colour_onnx(tmp_path / "net.onnx", np.zeros((4, 3)), [0] * 4, end="Softmax")
    write_lines(tmp_path / "imagenet_labels.txt", *lines)
    tags = tagger(tmp_path / "net.onnx").tag([tiny.plain(RED)])[0]
    assert [tag.name for tag in tags] == ["tench", "crane", "crane, machine", "dog"]


def test_transformers_classifier_gives_probabilities_of_one_label(tmp_path):
    model = tagger(tiny.vit_classifier(tmp_path))
    photos = tiny.pictures((60, 100), (33, 20), (64, 64))
    together = model.tag(photos)
    for photo, tags in zip(photos, together, strict=True):
        assert sum(tag.confidence for tag in tags) == pytest.approx(1, abs=1e-5)
        assert {tag.name for tag in tags} == set(tiny.LABELS)
        alone = {tag.name: tag.confidence for tag in model.tag([photo])[0]}
        assert {tag.name: tag.confidence for tag in tags} == pytest.approx(alone, abs=1e-5)


def test_transformers_classifier_of_several_labels_gives_each_its_own_probability(tmp_path):
    model = tagger(tiny.vit_classifier(tmp_path, several=True))
    photo = tiny.pictures((60, 100))[0]
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    reference = AutoModelForImageClassification.from_pretrained(tmp_path)
    inputs = AutoImageProcessor.from_pretrained(tmp_path)(images=[photo], return_tensors="pt")
    expected = reference(**inputs).logits.sigmoid()[0].tolist()
    got = {tag.name: tag.confidence for tag in model.tag([photo])[0]}
    assert got == pytest.approx(dict(zip(tiny.LABELS, expected, strict=True)), abs=1e-5)


def test_no_pictures_no_tags(tmp_path):
    assert tagger(tiny.wd14(tmp_path)).tag([]) == []


def test_labels_that_are_missing_or_too_few_are_asked_for(tmp_path):
    tiny.mean_colour_onnx(tmp_path / "net.onnx", np.zeros((4, 3)), [0] * 4)
    with pytest.raises(BrokenModel, match=r"knows 4 tags.*net_labels\.txt"):
        tagger(tmp_path / "net.onnx")
    write_lines(tmp_path / "net_labels.txt", "one", "two")
    with pytest.raises(BrokenModel, match=r"net_labels\.txt has 2"):
        tagger(tmp_path / "net.onnx")


def test_a_detector_is_no_tagger(tmp_path):
    with pytest.raises(WrongModel, match="not a tagger"):
        tagger(tiny_yolo.detector(tmp_path / "yolo.onnx"))


def test_several_onnx_files_have_to_be_told_apart(tmp_path):
    for name in ("a.onnx", "b.onnx"):
        tiny.mean_colour_onnx(tmp_path / name, np.zeros((2, 3)), [0, 0])
    write_lines(tmp_path / "labels.txt", "one", "two")
    with pytest.raises(WrongModel, match=r"several ONNX files \(a\.onnx, b\.onnx\)"):
        tagger(tmp_path)
    assert len(tagger(tmp_path / "b.onnx").tag([tiny.plain(RED)])[0]) == 2


def test_a_damaged_onnx_file_is_named(tmp_path):
    tiny.wd14(tmp_path)
    whole = (tmp_path / "model.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BrokenModel, match=r"model\.onnx cannot be opened"):
        tagger(tmp_path)


def test_a_trained_tagger_names_the_shapes_it_is_shown():
    from tests.zoo import shapes_world as world
    from tests.zoo.common import MODELS

    if not (MODELS / "wd14").is_dir():
        pytest.skip("there are no weights of the tagger in tests/zoo/models")
    scenes = world.scenes(22, 60)
    found = tagger(MODELS / "wd14").tag(list(world.images(scenes)), threshold=0.35)
    said = [{tag.name for tag in tags if tag.category == "general"} for tags in found]
    right = sum(len(names & set(scene.tags)) for names, scene in zip(said, scenes, strict=True))
    assert right / sum(map(len, said)) >= 0.97
    assert right / sum(len(scene.tags) for scene in scenes) >= 0.97
