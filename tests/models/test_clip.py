"""CLIP and SigLIP: probabilities as the models themselves give them, embeddings of length 1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fiftyone_idsynth.models.loading import find_model
from fiftyone_idsynth.models.options import Options
from fiftyone_idsynth.models.roles import Matcher
from tests.models import tiny

CPU = Options(device="cpu", dtype="float32")
TEXTS = ["a red panda", "a dog", "something else that is described at length"]
BUILDERS = {"clip": tiny.clip, "siglip": tiny.siglip}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=BUILDERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return BUILDERS[request.param](tmp_path_factory.mktemp(request.param))


def photos() -> list[np.ndarray]:
    return tiny.pictures((60, 100), (50, 40), (64, 64))


def test_probabilities_are_those_of_the_model(folder):
    from transformers import AutoModel, AutoProcessor

    matcher = find_model(Matcher, str(folder), CPU)
    reference, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    padding = True if matcher.exclusive else "max_length"
    inputs = processor(images=photos(), text=TEXTS, padding=padding, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        logits = reference(**inputs).logits_per_image
    expected = logits.softmax(-1) if matcher.exclusive else logits.sigmoid()
    got = matcher.match(photos(), TEXTS)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-4)


def test_clip_shares_the_probability_and_siglip_judges_each_text_alone(tmp_path):
    clip = find_model(Matcher, str(tiny.clip(tmp_path / "clip")), CPU)
    siglip = find_model(Matcher, str(tiny.siglip(tmp_path / "siglip")), CPU)
    assert clip.exclusive
    assert not siglip.exclusive
    np.testing.assert_allclose(clip.match(photos(), TEXTS).sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(siglip.match(photos(), TEXTS)[:, :1], siglip.match(photos(), TEXTS[:1]), atol=1e-6)


def test_embeddings_have_length_1_and_do_not_depend_on_the_batch(folder):
    matcher = find_model(Matcher, str(folder), CPU)
    for together, alone in (
        (matcher.embed(photos()), [matcher.embed([photo])[0] for photo in photos()]),
        (matcher.embed_texts(TEXTS), [matcher.embed_texts([text])[0] for text in reversed(TEXTS)][::-1]),
    ):
        assert together.shape == (3, 32)
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(together, alone, atol=1e-5)


def test_texts_are_embedded_as_in_a_fresh_model_however_they_were_batched_before(folder):
    from fiftyone_idsynth.models.loading import release

    first = find_model(Matcher, str(folder), CPU).embed_texts(TEXTS)
    release()
    again = find_model(Matcher, str(folder), CPU)
    again.embed_texts(TEXTS[:1])
    np.testing.assert_allclose(again.embed_texts([TEXTS[2], TEXTS[0], TEXTS[2]]), first[[2, 0, 2]], atol=1e-5)


def test_nothing_gives_nothing(folder):
    matcher = find_model(Matcher, str(folder), CPU)
    assert matcher.match([], TEXTS).shape == (0, 3)
    assert matcher.match(photos(), []).shape == (3, 0)
    assert matcher.embed([]).shape == (0, 32)


def test_a_text_longer_than_the_model_can_read_is_cut(folder):
    matcher = find_model(Matcher, str(folder), CPU)
    assert np.isfinite(matcher.match(photos(), ["word " * 500, "b"])).all()


def test_a_trained_clip_tells_what_a_picture_shows():
    from tests.zoo import shapes_world as world
    from tests.zoo.common import MODELS

    if not (MODELS / "clip").is_dir():
        pytest.skip("there are no weights of CLIP in tests/zoo/models")
    matcher = find_model(Matcher, str(MODELS / "clip"), CPU)
    scenes = world.scenes(62, 60, 1)
    names = [f"a {colour} {shape}" for colour in world.COLOURS for shape in world.SHAPES]
    probabilities = matcher.match(list(world.images(scenes)), names)
    right = [
        names[n] == f"a {scene.things[0].colour} {scene.things[0].shape}"
        for n, scene in zip(probabilities.argmax(1), scenes, strict=True)
    ]
    assert np.mean(right) >= 0.85
