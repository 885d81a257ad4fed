"""The client of language models, against an OpenAI-compatible server on loopback."""

from __future__ import annotations

import base64
import socket
import threading
import time
from typing import Any

import pytest
from pydantic import BaseModel, Field

from fiftyone_idsynth.errors import ParameterError
from fiftyone_idsynth.llm import BudgetExceeded, LanguageModel, LanguageModelError
from fiftyone_idsynth.llm.answers import read_answer
from tests.llm_server import LlmServer, Reply, Request

KEY = "sk-very-secret-0123456789"


class Verdict(BaseModel):
    fits: bool
    tags: list[str] = Field(min_length=1)


GOOD = {"fits": True, "tags": ["tulip"]}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def ask(server: LlmServer, question: str = "Which tags fit?", **settings: Any) -> tuple[Verdict, LanguageModel]:
    with LanguageModel("test", base_url=server.url, **settings) as model:
        return model.ask("Judge the tags.", question, Verdict), model


def error_of(server: LlmServer, **settings: Any) -> LanguageModelError:
    with pytest.raises(LanguageModelError) as caught:
        ask(server, **settings)
    return caught.value


def test_asks_for_a_schema_and_returns_a_model() -> None:
    with LlmServer([GOOD]) as server:
        verdict, model = ask(server, seed=7)
    assert verdict == Verdict(fits=True, tags=["tulip"])
    body = server.requests[0].body
    schema = body["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert set(schema["schema"]["required"]) == {"fits", "tags"}
    assert schema["schema"]["additionalProperties"] is False
    assert (body["model"], body["temperature"], body["seed"]) == ("test", 0.2, 7)
    assert [m["role"] for m in body["messages"]] == ["system", "user"]
    assert body["messages"][1]["content"] == "Which tags fit?"
    assert (model.calls, model.notes) == (1, [])
    assert (
        model.spent_tokens
        == len("Judge the tags.\nWhich tags fit?") // 4 + len('{"fits": true, "tags": ["tulip"]}') // 4
    )


def test_steps_down_where_schemas_are_refused_and_remembers() -> None:
    with LlmServer(lambda _: GOOD, kinds=["text"]) as server, LanguageModel("test", base_url=server.url) as model:
        for _ in range(3):
            assert model.ask("Judge.", "tags", Verdict).fits
    assert [r.kind for r in server.requests] == ["json_schema", "json_object", "text", "text", "text"]
    assert "JSON schema" in server.requests[-1].text
    assert len(model.notes) == 1
    assert "asked for as 'text'" in model.notes[0]
    assert "not supported" in model.notes[0]


def test_a_refusal_that_is_not_about_the_kind_is_not_taken_for_one() -> None:
    with LlmServer([Reply(400, "images are not accepted")] * 3 + [GOOD]) as server:
        model = LanguageModel("test", base_url=server.url)
        with pytest.raises(LanguageModelError, match="images are not accepted") as caught:
            model.ask("Judge.", "tags", Verdict)
        assert caught.value.reason == "refused"
        assert model.ask("Judge.", "tags", Verdict).fits
        model.close()
    assert server.requests[-1].kind == "json_schema"
    assert model.notes == []


def test_leaves_out_a_setting_that_the_model_does_not_take() -> None:
    with LlmServer(lambda _: GOOD, unsupported=["temperature", "seed"]) as server:
        _, model = ask(server, seed=1)
        assert "temperature" not in server.requests[-1].body
        assert server.requests[-1].kind == "json_schema"
    assert len(model.notes) == 2


@pytest.mark.parametrize(
    "text",
    [
        'Sure! Here it is:\n```json\n{"fits": true, "tags": ["tulip"]}\n```\nI hope this helps.',
        '<think>{"fits": false, "tags": ["x"]}?</think>{"fits": true, "tags": ["tulip"]}',
        '{"fits": true, "tags": ["tulip"]} {"fits": true, "tags": ["tulip"]}',
        'The set {a, b} gives {"fits": true, "tags": ["tulip"]}',
    ],
)
def test_finds_json_within_words(text: str) -> None:
    assert read_answer(text, Verdict) == Verdict(**GOOD)


@pytest.mark.parametrize(
    "text",
    ["", "no", '{"fits": true}', '{"fits": true, "tags": ["a"]} or {"fits": false, "tags": ["b"]}', '{"a":' * 5000],
)
def test_finds_no_json_where_there_is_none_or_it_is_ambiguous(text: str) -> None:
    with pytest.raises(ValueError):
        read_answer(text, Verdict)


def test_an_invalid_answer_is_sent_back_with_what_is_wrong() -> None:
    with LlmServer(["I think so.", {"fits": True, "tags": []}, GOOD]) as server:
        verdict, model = ask(server)
    assert verdict.tags == ["tulip"]
    assert model.calls == 3
    assert "no JSON object" in server.requests[1].text
    assert "tags: List should have at least 1 item" in server.requests[2].text
    assert server.requests[2].body["messages"][2] == {"role": "assistant", "content": '{"fits": true, "tags": []}'}


def test_an_answer_that_stays_invalid_is_an_error_that_shows_it() -> None:
    with LlmServer(lambda _: "I would rather talk about the weather. " * 50) as server:
        error = error_of(server, max_retries=2)
    assert len(server.requests) == 3
    assert error.reason == "invalid_answer"
    assert "test gave no valid answer in 3 tries" in str(error)
    assert "talk about the weather" in str(error)
    assert len(str(error)) < 700


def test_an_answer_that_was_cut_off_is_asked_for_again() -> None:
    def answers(request: Request) -> Any:
        if len(server.requests) > 1:
            return GOOD
        return Reply(body=server.completion(request, '{"fits": true, "tags": ["tul', finish="length"))

    with LlmServer(answers) as server:
        assert ask(server)[0].fits
    assert "it is too long" in server.requests[1].text


def test_waits_as_long_as_retry_after_says() -> None:
    with LlmServer([Reply(429, "slow down", {"Retry-After": "1"}), GOOD]) as server:
        started = time.monotonic()
        verdict, model = ask(server)
    assert verdict.fits
    assert time.monotonic() - started >= 1
    assert (len(server.requests), model.calls) == (2, 1)


@pytest.mark.parametrize("status", [408, 409, 425, 500, 503])
def test_repeats_a_request_that_failed_for_a_while(status: int) -> None:
    with LlmServer([Reply(status, "not now", {"retry-after-ms": "10"}), GOOD]) as server:
        assert ask(server)[0].fits
    assert len(server.requests) == 2


def test_repeats_after_a_timeout_and_then_says_so() -> None:
    with LlmServer([Reply(delay=1.0), GOOD]) as server:
        assert ask(server, timeout=0.3)[0].fits
    with LlmServer(lambda _: Reply(delay=1.0)) as server:
        error = error_of(server, timeout=0.2, max_retries=0)
    assert error.reason == "timeout"
    assert "0.2 s" in str(error)


@pytest.mark.parametrize(
    ("reply", "reason", "words"),
    [
        (Reply(500, "boom"), "server_error", "boom"),
        (Reply(429, "too fast"), "rate_limit", "wait"),
        (Reply(403, "not in your country"), "key_refused", "check OPENAI_API_KEY"),
        (Reply(402, "Insufficient balance"), "quota", "nothing left to spend"),
        (Reply(400, "This model's maximum context length is 4096 tokens"), "context", "ask about less"),
        (Reply(413, "large"), "context", "ask about less"),
        (Reply(200, "<html>Welcome</html>"), "server_error", "Is base_url right"),
        (Reply(200, {"error": {"message": "provider down"}}), "server_error", "provider down"),
        (Reply(308, "", {"Location": "https://example.org/v1"}), "server_error", "https://example.org/v1"),
    ],
)
def test_tells_errors_apart(reply: Reply, reason: str, words: str) -> None:
    with LlmServer(lambda _: reply) as server:
        error = error_of(server, api_key=KEY, max_retries=0)
    assert error.reason == reason
    assert words in str(error)


def test_a_model_that_declines_is_told_apart_from_one_that_errs() -> None:
    def answers(request: Request) -> Reply:
        body = server.completion(request, "")
        body["choices"][0]["message"]["refusal"] = "I cannot help with that."
        return Reply(body=body)

    with LlmServer(answers) as server:
        error = error_of(server)
    assert error.reason == "declined"
    assert len(server.requests) == 1


def test_an_unknown_model_is_named_with_those_that_exist() -> None:
    with (
        LlmServer([], models=["llama3.2", "qwen2.5"]) as server,
        LanguageModel("lama3.2", base_url=server.url) as model,
        pytest.raises(LanguageModelError, match="did you mean 'llama3.2'") as caught,
    ):
        model.ask("Judge.", "tags", Verdict)
    assert caught.value.reason == "unknown_model"


def test_no_server_names_the_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        model = LanguageModel("test", base_url=url, max_retries=0)
        with pytest.raises(LanguageModelError, match="Does the server run") as caught:
            model.ask("Judge.", "tags", Verdict)
        model.close()
    assert caught.value.reason == "no_connection"
    assert url in str(caught.value)


def test_one_s_own_server_needs_no_key_and_gets_none() -> None:
    with LlmServer([GOOD]) as server:
        ask(server)
    assert "authorization" not in server.requests[0].headers


def test_the_key_comes_from_the_environment_and_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with LlmServer([GOOD], key=KEY) as server:
        _, model = ask(server)
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
        assert KEY not in repr(model)
    with LlmServer([], key="another") as server:
        error = error_of(server)
    assert error.reason == "key_refused"
    assert "Incorrect API key provided: ***" in str(error)
    assert KEY not in str(error)
    with LlmServer(lambda _: f"your key is {KEY}") as server:
        assert KEY not in str(error_of(server, max_retries=0))


def test_openai_without_a_key_fails_before_anything_runs() -> None:
    with pytest.raises(LanguageModelError, match="set OPENAI_API_KEY") as caught:
        LanguageModel("gpt-4o-mini")
    assert caught.value.reason == "no_key"
    with LlmServer([], key=KEY) as server:
        assert error_of(server).reason == "no_key"


def test_a_key_is_not_sent_unencrypted_to_another_machine() -> None:
    with pytest.raises(ParameterError, match="unencrypted") as caught:
        LanguageModel("test", base_url="http://192.168.1.5:8000/v1", api_key=KEY)
    assert KEY not in str(caught.value)
    LanguageModel("test", base_url="http://192.168.1.5:8000/v1", api_key="")
    LanguageModel("test", base_url="https://example.org/v1", api_key=KEY)
    LanguageModel("test", base_url="http://[::1]:8000/v1", api_key=KEY)


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": "localhost:8000"}, {"base_url": "ftp://localhost/v1"}, {"base_url": "http://localhost:99999999/v1"},
        {"base_url": "https://me:hunter2@example.org/v1"}, {"timeout": 0}, {"timeout": float("nan")},
        {"max_retries": -1}, {"budget_tokens": 0}, {"temperature": 3}, {"context_tokens": 500}, {"model": " "},
    ],
)  # fmt: skip
def test_wrong_settings_are_named(settings: dict[str, Any]) -> None:
    with pytest.raises(ParameterError) as caught:
        LanguageModel(**{"model": "test", "base_url": "http://localhost/v1", **settings})
    assert caught.value.parameter in settings
    assert "hunter2" not in str(caught.value)


def test_stops_before_a_call_that_would_surpass_the_budget() -> None:
    def ask_often(times: int) -> None:
        for _ in range(times):
            model.ask("Judge the tags.", "Which tags fit? " * 10, Verdict)

    with LlmServer(lambda _: GOOD) as server, LanguageModel("test", base_url=server.url, budget_tokens=1500) as model:
        with pytest.raises(BudgetExceeded) as caught:
            ask_often(50)
        made = len(server.requests)
        with pytest.raises(BudgetExceeded):
            ask_often(1)
    assert 1 < made == len(server.requests) == model.calls < 50
    assert 0 < model.spent_tokens <= 1500
    assert f"{model.spent_tokens} of budget_tokens=1500" in str(caught.value)


def test_threads_together_keep_to_the_budget() -> None:
    stopped: list[BudgetExceeded] = []

    def work() -> None:
        try:
            model.ask("Judge.", "tags", Verdict)
        except BudgetExceeded as error:
            stopped.append(error)

    def slowly(request: Request) -> Reply:
        return Reply(body=server.completion(request, Verdict(**GOOD)), delay=0.3)

    with LlmServer(slowly) as server, LanguageModel("test", base_url=server.url, budget_tokens=4000) as model:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert server.most_at_once > 1
    assert stopped
    assert len(server.requests) + len(stopped) == 8
    assert model.spent_tokens <= 4000


def test_tokens_are_estimated_where_the_server_does_not_count() -> None:
    with LlmServer([GOOD], usage=False) as server:
        _, model = ask(server)
    assert model.spent_tokens > 0
    assert "estimated" in model.notes[0]


def test_a_question_that_is_too_long_is_not_sent() -> None:
    with LlmServer([GOOD]) as server, pytest.raises(LanguageModelError, match="context_tokens=2000") as caught:
        ask(server, question="tulip " * 2000, context_tokens=2000)
    assert caught.value.reason == "context"
    assert server.requests == []


def test_estimates_are_on_the_safe_side_and_say_what_fits() -> None:
    model = LanguageModel("test", base_url="http://localhost/v1", context_tokens=1100, answer_tokens=1000)
    assert model.estimate_tokens("") == 0
    assert model.estimate_tokens("The quick brown fox jumps over the lazy dog.") >= 10  # 10 by OpenAI's o200k_base
    assert model.estimate_tokens("小熊猫") == 3
    assert model.fits("a" * 300)
    assert not model.fits("a" * 301)


def test_images_are_sent_after_the_text() -> None:
    jpeg, png = b"\xff\xd8\xff\xe0 a", b"\x89PNG\r\n\x1a\n b"
    with LlmServer([GOOD]) as server, LanguageModel("test", base_url=server.url) as model:
        model.ask("Judge.", "What is on it?", Verdict, images=[jpeg, png])
        with pytest.raises(ParameterError, match="no JPEG"):
            model.ask("Judge.", "What is on it?", Verdict, images=[b"<svg>"])
    first, second = server.requests[0].images
    assert first == "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    assert second.startswith("data:image/png;base64,")
    assert server.requests[0].body["messages"][1]["content"][0] == {"type": "text", "text": "What is on it?"}
    assert len(server.requests) == 1
