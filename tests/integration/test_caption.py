"""The stage caption: right captions, training texts, what people wrote, weak labels, and what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

from fiftyone_idsynth import fields
from fiftyone_idsynth.annotation.captions import caption
from fiftyone_idsynth.errors import FieldError, ParameterError, UsageError
from fiftyone_idsynth.llm import LanguageModelError
from fiftyone_idsynth.models.errors import ModelNotFound, WrongModel
from fiftyone_idsynth.samples import set_fields
from tests.integration.shapes import broken_image, fill, scenes_of_one, trained
from tests.llm_server import LlmServer, Reply, Request


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small models are faster without a pool of threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def blip() -> str:
    return trained("blip")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of pictures of each batch that a captioner got."""
    from fiftyone_idsynth.models.captioners import TransformersCaptioner

    sizes: list[int] = []
    real = TransformersCaptioner.caption

    def counted(self: Any, pictures: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(pictures))
        return real(self, pictures, *args, **kwargs)

    monkeypatch.setattr(TransformersCaptioner, "caption", counted)
    return sizes


def give(dataset: Any, **values: list[Any]) -> None:
    """Sets fields of a dataset's samples, as a person does."""
    for path, column in values.items():
        dataset.set_values(path, column)


def tagged(*names: str) -> fo.Classifications:
    return fo.Classifications(classifications=[fo.Classification(label=n, confidence=0.9) for n in names])


def test_captions_name_the_right_colours(dataset: Any, tmp_path: Path, blip: str) -> None:
    colours = fill(dataset, tmp_path, scenes_of_one(16))
    report = caption(dataset, model=blip, num_beams=1, progress=False)
    said = dataset.values("caption")
    assert [colour in text.split() for colour, text in zip(colours, said, strict=True)].count(True) >= 15
    assert (report.processed, report.outputs["captions"], report.failed) == (16, 16, [])
    assert dataset.values("training_text") == said


def test_the_model_and_its_version_are_written_down(dataset: Any, tmp_path: Path, blip: str) -> None:
    fill(dataset, tmp_path, scenes_of_one(1))
    report = caption(dataset, model=blip, num_beams=1, caption_field="short", progress=False)
    by = dataset.first().short_by
    assert by.model == blip
    assert len(by.revision) >= 12
    assert dataset.get_run_info(report.run_key).config.models == {blip: by.revision}
    assert dataset.get_field("short_by.model").description


def test_a_training_text_is_trigger_word_caption_and_tags(dataset: Any, tmp_path: Path, blip: str) -> None:
    colours = fill(dataset, tmp_path, scenes_of_one(4))
    give(dataset, content_tags=[tagged(colour, "geometry") for colour in colours])
    caption(dataset, model=blip, num_beams=1, trigger_word="sks", progress=False)
    for text, training in zip(*dataset.values(["caption", "training_text"]), strict=True):
        assert training == f"sks, {text}, geometry"  # the colour is in the caption


def test_a_second_run_skips_all_and_another_trigger_word_runs_no_model(
    dataset: Any, tmp_path: Path, blip: str, asked: list[int]
) -> None:
    fill(dataset, tmp_path, scenes_of_one(4))
    caption(dataset, model=blip, num_beams=1, trigger_word="sks", progress=False)
    before = dataset.values("last_modified_at")
    again = caption(dataset, model=blip, num_beams=1, trigger_word="sks", progress=False)
    assert (again.processed, again.skipped) == (0, 4)
    assert dataset.values("last_modified_at") == before
    other = caption(dataset, model=blip, num_beams=1, trigger_word="ohwx", progress=False)
    assert (other.processed, other.skipped, sum(asked)) == (0, 4, 4)
    assert dataset.values("training_text") == [f"ohwx, {text}" for text in dataset.values("caption")]
    caption(dataset, model=blip, num_beams=2, trigger_word="ohwx", progress=False)
    assert sum(asked) == 8


def test_captions_of_people_stay_and_get_into_training_texts(dataset: Any, tmp_path: Path, blip: str) -> None:
    fill(dataset, tmp_path, scenes_of_one(3))
    give(dataset, caption=["a person's words", None, None])
    first = caption(dataset, model=blip, num_beams=1, progress=False)
    assert (first.processed, first.outputs["left as people wrote them"]) == (2, 1)
    assert dataset.values("caption")[0] == dataset.values("training_text")[0] == "a person's words"
    assert dataset.values("caption_by.model") == [None, blip, blip]

    edited = dataset.skip(1).first()
    edited.caption = "edited by a person"
    edited.save()
    caption(dataset, model=blip, num_beams=2, trigger_word="sks", progress=False)
    assert dataset.values("caption")[:2] == ["a person's words", "edited by a person"]
    assert dataset.values("training_text")[:2] == ["sks, a person's words", "sks, edited by a person"]
    assert dataset.values("caption_by.model") == [None, None, blip]  # the model did not write the edited one


def test_training_texts_of_people_stay(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path, scenes_of_one(2))
    give(dataset, caption=["one", "two"])
    caption(dataset, model="none", trigger_word="sks", progress=False)
    assert dataset.values("training_text") == ["sks, one", "sks, two"]
    sample = dataset.first()
    sample.training_text = "my own text"
    sample.save()
    report = caption(dataset, model="none", trigger_word="ohwx", progress=False)
    assert dataset.values("training_text") == ["my own text", "ohwx, two"]
    assert report.outputs["left as people wrote them"] == 1


def test_only_sure_tags_of_the_field_that_is_named_are_added(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path, scenes_of_one(1))
    labels = [fo.Classification(label="sure", confidence=0.8), fo.Classification(label="unsure", confidence=0.6)]
    give(
        dataset, caption=["a shape"], content_tags=[tagged("other")], mine=[fo.Classifications(classifications=labels)]
    )
    for tags_field, threshold, text in [
        ("mine", 0.7, "a shape, sure"),
        ("mine", 0.5, "a shape, sure, unsure"),
        ("none", 0.5, "a shape"),
        ("content_tags", 0.5, "a shape, other"),
    ]:
        caption(dataset, model="none", tags_field=tags_field, tags_threshold=threshold, progress=False)
        assert dataset.values("training_text") == [text]


def test_a_broken_image_costs_only_itself(dataset: Any, tmp_path: Path, blip: str) -> None:
    fill(dataset, tmp_path, scenes_of_one(2))
    dataset.add_sample(fo.Sample(filepath=broken_image(tmp_path)))
    more = tmp_path / "more"
    more.mkdir()
    fill(dataset, more, scenes_of_one(2, seed=99))
    report = caption(dataset, model=blip, num_beams=1, batch_size=5, progress=False)
    assert [text is not None for text in dataset.values("caption")] == [True, True, False, True, True]
    assert [Path(what).name for what, _ in report.failed] == ["broken.png"]
    assert dataset.values("training_text")[2] is None
    assert caption(dataset, model=blip, num_beams=1, batch_size=5, progress=False).processed == 1


def test_what_is_wrong_is_said_before_anything_runs(dataset: Any, tmp_path: Path) -> None:
    fill(dataset, tmp_path, scenes_of_one(1))
    with pytest.raises(ModelNotFound, match="no-such-folder"):
        caption(dataset, model=str(tmp_path / "no-such-folder"), progress=False)
    with pytest.raises(WrongModel, match="not a captioner.*tagger"):
        caption(dataset, model=trained("wd14"), progress=False)
    with pytest.raises(ParameterError, match="kept for exact and human"):
        caption(dataset, caption_field="ground_truth", progress=False)
    with pytest.raises(ParameterError, match="gets the training texts"):
        caption(dataset, caption_field="training_text", progress=False)
    with pytest.raises(ParameterError, match="training_text is off"):
        caption(dataset, trigger_word="sks", training_text=False, progress=False)
    with pytest.raises(FieldError, match="tags_field"):
        caption(dataset, tags_field="no_such_field", progress=False)
    with pytest.raises(FieldError, match=r"source\.title"):
        caption(dataset, from_source="title", progress=False)
    assert dataset.list_runs() == []
    assert not dataset.has_field("caption")


@pytest.fixture
def collected(dataset: Any, tmp_path: Path) -> Any:
    """Three samples as collect leaves them; the second came without a title."""
    fill(dataset, tmp_path, scenes_of_one(3))
    fields.declare(dataset, "source")
    ids = dataset.values("id")
    titles = dict(zip(ids, ["A red\n  circle", None, "Blue things"], strict=True))
    set_fields(dataset, {"source.title": titles, "source.query": dict.fromkeys(ids, "coloured shapes")})
    return dataset


def test_titles_become_captions_without_a_model(collected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from fiftyone_idsynth.models import loading

    monkeypatch.setattr(loading, "find_model", lambda *_: pytest.fail("a model was loaded"))
    report = caption(collected, from_source="title", trigger_word="sks", progress=False)
    assert collected.values("caption") == ["A red circle", None, "Blue things"]
    assert collected.values("training_text") == ["sks, A red circle", None, "sks, Blue things"]
    assert collected.values("caption_by.model") == ["source.title", None, "source.title"]
    assert (report.outputs["captions"], report.outputs["without a caption"]) == (2, 1)
    assert caption(collected, from_source="title", trigger_word="sks", progress=False).skipped == 3


def test_another_source_replaces_what_no_person_wrote(collected: Any) -> None:
    caption(collected, from_source="title", progress=False)
    sample = collected.first()
    sample.caption = "mine"
    sample.save()
    caption(collected, from_source="query", progress=False)
    assert collected.values("caption") == ["mine", "coloured shapes", "coloured shapes"]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.mark.usefixtures("served")
class TestServer:
    """Captions by a model behind an OpenAI-compatible address."""

    def test_each_image_is_a_question(self, dataset: Any, tmp_path: Path) -> None:
        fill(dataset, tmp_path, scenes_of_one(3))
        with LlmServer(lambda request: {"caption": f"seen: {request.images[0][:10]}"}) as server:
            report = caption(dataset, model="openai:test", prompt="Which colour?", llm_url=server.url, progress=False)
            again = caption(dataset, model="openai:test", prompt="Which colour?", llm_url=server.url, progress=False)
        assert dataset.values("caption") == ["seen: data:image"] * 3
        assert dataset.values("caption_by.model") == ["openai:test"] * 3
        assert all("Which colour?" in request.text for request in server.requests)
        assert (report.processed, again.skipped, len(server.requests)) == (3, 3, 3)

    def test_one_that_is_declined_costs_only_itself(self, dataset: Any, tmp_path: Path) -> None:
        fill(dataset, tmp_path, scenes_of_one(3))

        def answer(request: Request) -> Any:
            if len(server.requests) > 1:
                return {"caption": "a shape"}
            reply = server.completion(request, "")
            reply["choices"][0]["message"]["refusal"] = "I would rather not"
            return Reply(body=reply)

        with LlmServer(answer) as server:
            report = caption(dataset, model="openai:test", llm_url=server.url, batch_size=1, progress=False)
        assert dataset.values("caption") == [None, "a shape", "a shape"]
        assert len(report.failed) == 1
        assert "declined" in report.failed[0][1]

    def test_the_budget_ends_the_questions_and_the_rest_is_told(self, dataset: Any, tmp_path: Path) -> None:
        fill(dataset, tmp_path, scenes_of_one(4))
        settings = {"model": "openai:test", "batch_size": 1, "progress": False}

        def answer(request: Request) -> Reply:
            body = server.completion(request, {"caption": "a shape"})
            return Reply(body=body | {"usage": {"prompt_tokens": 1200, "completion_tokens": 20, "total_tokens": 1220}})

        with LlmServer(answer) as server:
            report = caption(dataset, llm_url=server.url, llm_budget=4000, **settings)
            assert len(server.requests) == 2
            assert len(report.failed) == 2
            assert all("budget" in why for _, why in report.failed)
            assert any("stopped asking" in note for note in report.notes)
            caption(dataset, llm_url=server.url, **settings)
        assert dataset.values("caption") == ["a shape"] * 4
        assert len(server.requests) == 4

    def test_a_server_that_answers_nothing_is_an_error(self, dataset: Any, tmp_path: Path) -> None:
        fill(dataset, tmp_path, scenes_of_one(2))
        with LlmServer([], models=("other",)) as server, pytest.raises(LanguageModelError, match="'?other"):
            caption(dataset, model="openai:test", llm_url=server.url, progress=False)
        assert len(server.requests) <= 2
        with pytest.raises(UsageError):
            caption(dataset, model="openai:test", llm_url="nowhere", progress=False)
