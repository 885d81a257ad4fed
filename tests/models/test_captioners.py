"""Captioners: what is said fits the picture, batches change nothing, and prompts reach the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fiftyone_idsynth.errors import ParameterError
from fiftyone_idsynth.llm import LanguageModel, LanguageModelError
from fiftyone_idsynth.models import captioners
from fiftyone_idsynth.models.captioners import (
    Blip2Captioner,
    BlipCaptioner,
    ChatCaptioner,
    Florence2Captioner,
    ServedCaptioner,
    TransformersCaptioner,
)
from fiftyone_idsynth.models.errors import WrongModel
from fiftyone_idsynth.models.found import Found
from fiftyone_idsynth.models.loading import find_model, release
from fiftyone_idsynth.models.options import Options
from fiftyone_idsynth.models.roles import Captioner
from tests.llm_server import LlmServer, Request
from tests.models import tiny_captioners, tiny_regions
from tests.zoo import shapes_world as world
from tests.zoo.evaluate import exactly

CPU = Options(device="cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TransformersCaptioner]:
    """Builds a tiny captioner of a family once and loads it as users do."""
    folders: dict[str, Path] = {}

    def load(family: str) -> TransformersCaptioner:
        if family not in folders:
            folders[family] = getattr(tiny_captioners, family)(tmp_path_factory.mktemp(family))
        found = find_model(Captioner, str(folders[family]), CPU)
        assert isinstance(found, TransformersCaptioner)
        return found

    return load


def pictures() -> list[np.ndarray]:
    """Pictures of several sizes that differ much: black, white, and noise."""
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    return [np.zeros((60, 100, 3), np.uint8), np.full((90, 50, 3), 255, np.uint8), noise]


FAMILIES = {
    "blip": BlipCaptioner,
    "blip2": Blip2Captioner,
    "florence2": Florence2Captioner,
    "llava": ChatCaptioner,
}


class TestBlip:
    @pytest.mark.parametrize("num_beams", [1, 2, 5])
    @pytest.mark.parametrize("prompt", ["", "a photo of"])
    def test_beams_that_share_the_picture_say_what_others_say(
        self, built: Callable[[str], TransformersCaptioner], num_beams: int, prompt: str
    ):
        model = built("blip")
        plain = TransformersCaptioner(model.model, model.processor, Found("plain"))
        options = {"prompt": prompt, "max_new_tokens": 12, "num_beams": num_beams}
        assert model.caption(pictures(), **options) == plain.caption(pictures(), **options)


@pytest.mark.parametrize("family", FAMILIES)
class TestFamilies:
    def test_each_is_spoken_to_in_its_own_way(self, built: Callable[[str], TransformersCaptioner], family: str):
        assert type(built(family)) is FAMILIES[family]

    @pytest.mark.parametrize("num_beams", [1, 3])
    def test_a_batch_gives_what_single_pictures_give(
        self, built: Callable[[str], TransformersCaptioner], family: str, num_beams: int
    ):
        model = built(family)
        batch = model.caption(pictures(), max_new_tokens=6, num_beams=num_beams)
        assert batch == [model.caption([p], max_new_tokens=6, num_beams=num_beams)[0] for p in pictures()]
        assert len(batch) == 3

    def test_marks_of_the_model_are_left_out(self, built: Callable[[str], TransformersCaptioner], family: str):
        for text in built(family).caption(pictures(), max_new_tokens=6):
            assert not any(mark in text for mark in ("<image>", "<s>", "</s>", "<pad>", "[DEC]", "[SEP]", "USER"))
            assert text == " ".join(text.split())

    def test_no_pictures(self, built: Callable[[str], TransformersCaptioner], family: str):
        assert built(family).caption([]) == []


def test_captions_depend_on_the_picture(built: Callable[[str], TransformersCaptioner]):
    for family in ("blip2", "llava"):
        assert len(set(built(family).caption(pictures(), max_new_tokens=6))) > 1, family


def test_a_captioner_that_understands_names_colours():
    from tests.zoo.common import MODELS

    if not (MODELS / "blip").is_dir():
        pytest.skip("there are no weights of BLIP in tests/zoo/models")
    model = find_model(Captioner, str(MODELS / "blip"), CPU)
    scenes = exactly(43, 60, 1)
    texts = model.caption([scene.image for scene in scenes], max_new_tokens=24)
    colours = [scene.things[0].colour in text.split() for scene, text in zip(scenes, texts, strict=True)]
    shapes = [scene.things[0].shape in text.split() for scene, text in zip(scenes, texts, strict=True)]
    places = [world.BACKGROUNDS[scene.background] in text for scene, text in zip(scenes, texts, strict=True)]
    assert np.mean(colours) >= 0.97
    assert np.mean(shapes) >= 0.65
    assert np.mean(places) >= 0.95


class TestPrompts:
    def test_blip_goes_on_from_the_prompt(self, built: Callable[[str], TransformersCaptioner]):
        texts = built("blip").caption(pictures(), "a photo of", max_new_tokens=6)
        assert all(text.startswith("a photo of") for text in texts)

    def test_blip2_answers_without_repeating_the_question(self, built: Callable[[str], TransformersCaptioner]):
        model = built("blip2")
        texts = model.caption(pictures(), "Question: what is this? Answer:", max_new_tokens=6)
        assert not any("Question" in text for text in texts)
        assert texts != model.caption(pictures(), max_new_tokens=6)

    def test_florence_takes_tasks(self, built: Callable[[str], TransformersCaptioner]):
        model = built("florence2")
        assert len(model.caption(pictures(), "<MORE_DETAILED_CAPTION>", max_new_tokens=6)) == 3
        with pytest.raises(ParameterError, match="<DETAILED_CAPTION>"):
            model.caption(pictures(), "a photo of")

    def test_chat_models_are_asked(
        self, built: Callable[[str], TransformersCaptioner], monkeypatch: pytest.MonkeyPatch
    ):
        model = built("llava")
        asked = []
        generate = model.model.generate
        monkeypatch.setattr(
            model.model,
            "generate",
            lambda **inputs: asked.append(model.processor.decode(inputs["input_ids"][0])) or generate(**inputs),
        )
        texts = model.caption(pictures(), "Name the colours.", max_new_tokens=6)
        model.caption(pictures(), max_new_tokens=6)
        assert "Name the colours." in asked[0]
        assert asked[0].endswith("assistant:")
        assert captioners.INSTRUCTION in asked[1]
        assert not any("colours" in text for text in texts)

    def test_the_length_is_limited(self, built: Callable[[str], TransformersCaptioner]):
        model = built("llava")
        assert all(len(text) <= 2 for text in model.caption(pictures(), max_new_tokens=2, num_beams=1))


def test_other_models_are_refused(tmp_path: Path):
    with pytest.raises(WrongModel, match="not a captioner"):
        find_model(Captioner, str(tiny_regions.owlv2(tmp_path)), CPU)


def test_blip_that_answers_questions_is_refused(tmp_path: Path):
    folder = tiny_captioners.blip(tmp_path)
    config = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(
        config.replace("BlipForConditionalGeneration", "BlipForQuestionAnswering"), encoding="utf-8"
    )
    with pytest.raises(WrongModel, match="BlipForQuestionAnswering"):
        find_model(Captioner, str(folder), CPU)


class TestServed:
    def test_every_picture_is_one_question(self, monkeypatch: pytest.MonkeyPatch):
        def answer(request: Request) -> dict[str, str]:
            return {"caption": f"picture {len(request.images[0])}\n"}

        release()
        with LlmServer(answer, models=["eyes"]) as server:
            monkeypatch.setenv("OPENAI_BASE_URL", server.url)
            model = find_model(Captioner, "openai:eyes", CPU)
            texts = model.caption(pictures(), "Name the colours.", max_new_tokens=40)
        assert [text.split()[0] for text in texts] == ["picture"] * 3
        assert texts == [f"picture {len(request.images[0])}" for request in server.requests]
        assert len(set(texts)) == 3
        assert all("Name the colours." in request.text for request in server.requests)
        assert all("at most 30 words" in request.text for request in server.requests)
        assert model.name == "openai:eyes"
        assert model.about == f"eyes at {server.url}"

    def test_large_pictures_are_sent_smaller(self):
        import base64
        import io

        from PIL import Image

        with LlmServer([{"caption": "noise"}]) as server:
            model = ServedCaptioner(LanguageModel("test", base_url=server.url), max_side=100)
            assert model.caption([np.zeros((200, 400, 3), np.uint8)]) == ["noise"]
        sent = base64.b64decode(server.requests[0].images[0].partition(",")[2])
        assert Image.open(io.BytesIO(sent)).size == (100, 50)

    def test_a_server_that_answers_nonsense(self):
        with LlmServer(["no json"] * 5) as server:
            model = ServedCaptioner(LanguageModel("test", base_url=server.url, max_retries=1))
            with pytest.raises(LanguageModelError, match="no valid answer"):
                model.caption(pictures()[:1])
