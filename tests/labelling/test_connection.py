"""Tokens, addresses and lost answers: each is told apart, and no message shows a token."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fiftyone_idsynth.errors import ParameterError
from fiftyone_idsynth.learning.label_studio import connection
from fiftyone_idsynth.learning.label_studio.client import Server
from fiftyone_idsynth.learning.label_studio.errors import (
    LabelStudioError,
    ProjectError,
    ServerFailed,
    TokenError,
    TruncatedAnswer,
    Unconfirmed,
    Unreachable,
)
from tests.label_studio_server import LabelStudioServer
from tests.labelling.annotator import Annotator, choice
from tests.labelling.proxy import Proxy

CONFIG = """<View><Image name="image" value="$image"/><Choices name="ground_truth" toName="image">
<Choice value="cat"/><Choice value="dog"/></Choices></View>"""


@pytest.fixture
def personal(label_studio: LabelStudioServer) -> Iterator[str]:
    """A personal access token of the owner, who may have one at a time; revoked afterwards."""
    owner = Server(label_studio.url, label_studio.token)
    for old in owner.get("/api/token/"):
        owner.post("/api/token/blacklist/", {"refresh": old["token"]})
    yield owner.post("/api/token/")["token"]
    for old in owner.get("/api/token/"):
        owner.post("/api/token/blacklist/", {"refresh": old["token"]})


def allow(label_studio: LabelStudioServer, personal: str, *, legacy: bool = True, tokens: bool = True) -> None:
    """Switches kinds of tokens on and off, with whichever is allowed at the moment."""
    for token in (label_studio.token, personal):
        try:
            Server(label_studio.url, token).post(
                "/api/jwt/settings", {"api_tokens_enabled": tokens, "legacy_api_tokens_enabled": legacy}
            )
            return
        except TokenError:
            continue
    raise AssertionError("no token is allowed")


def refusal(url: str, token: str) -> TokenError:
    with pytest.raises(TokenError) as caught:
        Server(url, token).whoami()
    error = caught.value
    assert "LABEL_STUDIO_API_KEY" in str(error)
    assert token not in str(error), "a message shows a token"
    return error


def json_web_token(**claims: Any) -> str:
    part = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.{part}.c2lnbmF0dXJl"


def test_legacy_and_personal_tokens_open_the_server(label_studio: LabelStudioServer, personal: str) -> None:
    assert Server().whoami()["email"] == "owner@example.com", "address and token come from the environment"
    assert Server(label_studio.url, personal).whoami()["email"] == "owner@example.com"
    assert Server(label_studio.url + "/", f"Token {label_studio.token}\n").whoami()["id"]
    assert Server(label_studio.url, personal).sdk.users.whoami().email == "owner@example.com"
    assert label_studio.token not in repr(Server())


def test_a_personal_token_is_exchanged_once_and_again_before_five_minutes_are_over(
    label_studio: LabelStudioServer, personal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(label_studio.url) as proxy:
        server = Server(proxy.url, personal)
        for _ in range(3):
            server.whoami()
        assert proxy.requests.count("POST /api/token/refresh/") == 1
        now = time.monotonic
        monkeypatch.setattr(connection.time, "monotonic", lambda: now() + 241)
        server.whoami()
        assert proxy.requests.count("POST /api/token/refresh/") == 2, "it lasts 300 seconds and is renewed in time"


def test_an_access_token_that_the_server_forgot_is_renewed(label_studio: LabelStudioServer, personal: str) -> None:
    server = Server(label_studio.url, personal)
    server.whoami()
    server._token._access = json_web_token(token_type="access")
    assert server.whoami()["email"] == "owner@example.com"


def test_wrong_tokens_are_told_apart(label_studio: LabelStudioServer, personal: str) -> None:
    url = label_studio.url
    assert refusal(url, "f" * 40).reason == "wrong"
    assert refusal(url, personal[:-6] + "AAAAAA").reason == "wrong"
    assert refusal(url, personal.rpartition(".")[0]).reason == "cut"
    assert refusal(url, json_web_token(token_type="refresh", exp=1)).reason == "expired"
    access = connection.Connection(url, personal).exchange(personal)
    assert "five minutes" in str(refusal(url, access))
    Server(url, label_studio.token).post("/api/token/blacklist/", {"refresh": personal})
    revoked = refusal(url, personal)
    assert revoked.reason == "revoked"
    assert "make a new one" in str(revoked)


def test_without_a_token_the_remedy_is_named(label_studio: LabelStudioServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABEL_STUDIO_API_KEY")
    with pytest.raises(TokenError, match="Personal Access Token.*LABEL_STUDIO_API_KEY"):
        Server(label_studio.url)


def test_kinds_of_tokens_that_are_switched_off_are_said_to_be(label_studio: LabelStudioServer, personal: str) -> None:
    try:
        allow(label_studio, personal, legacy=False)
        assert refusal(label_studio.url, label_studio.token).reason == "legacy_off"
        assert Server(label_studio.url, personal).whoami()["id"]
        allow(label_studio, personal, tokens=False)
        assert refusal(label_studio.url, personal).reason == "personal_off"
    finally:
        allow(label_studio, personal)


def test_addresses_that_would_give_the_token_away_are_refused() -> None:
    for url in ("http://labels.example.org", "http://192.168.0.7:8080"):
        with pytest.raises(ParameterError, match="unencrypted.*https"):
            Server(url, "secret-token")
    with pytest.raises(ParameterError) as caught:
        Server("https://user:password@labels.example.org", "secret-token")
    assert "password@" not in str(caught.value)


def test_what_does_not_answer_and_what_is_no_label_studio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PAUSES", (0.01,))
    with pytest.raises(Unreachable, match="Does the server run"):
        Server("http://127.0.0.1:9", "secret-token").whoami()
    with Proxy("http://127.0.0.1:9", fault=lambda method, path: "413") as proxy, pytest.raises(LabelStudioError):
        Server(proxy.url, "secret-token").whoami()


def test_reading_is_repeated_and_sending_never_is(
    label_studio: LabelStudioServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PAUSES", (0.01, 0.01))
    bad: list[Any] = ["502 before"]
    with Proxy(label_studio.url, fault=lambda method, path: bad.pop() if bad else None) as proxy:
        server = Server(proxy.url, label_studio.token)
        assert server.whoami()["id"], "the second try succeeds"
        project = server.create_project("sent once", CONFIG)
        before = len(proxy.requests)
        bad.append("502 after")
        with pytest.raises(Unconfirmed):
            server.import_tasks(project.id, [{"data": {"image": "x"}}])
        assert len(proxy.requests) == before + 1
        assert server.count(project.id) == 1, "it had been carried out"
        bad.extend(["502 before"] * 3)
        with pytest.raises(ServerFailed, match="server's log"):
            server.whoami()


def test_a_project_whose_answer_was_lost_is_made_once(label_studio: LabelStudioServer) -> None:
    bad: list[Any] = ["dropped after"]
    with Proxy(label_studio.url, fault=lambda method, path: bad.pop() if bad and method == "POST" else None) as proxy:
        server = Server(proxy.url, label_studio.token)
        made = server.create_project("made once", CONFIG, description="by a test", annotators=2)
        assert not bad
        assert server.projects("made once") == [made]
        assert made.annotators == 2


def test_a_truncated_answer_is_noticed(label_studio: LabelStudioServer) -> None:
    server = Server(label_studio.url, label_studio.token)
    project = server.create_project("truncated", CONFIG)
    server.import_tasks(project.id, [{"data": {"image": f"{n}.jpg"}} for n in range(7)])

    def shorten(path: str, body: bytes) -> bytes:
        found = json.loads(body)
        if path.startswith("/api/tasks") and "page_size=1&" not in path:
            return json.dumps({**found, "tasks": found["tasks"][:-1]}).encode()
        return json.dumps(found[:-1]).encode() if "/export" in path else body

    with Proxy(label_studio.url, change=shorten) as proxy:
        spoilt = Server(proxy.url, label_studio.token)
        for how in ({}, {"key_only": True}, {"key_only": True, "page_size": 3}):
            with pytest.raises(TruncatedAnswer, match=r"of \d tasks"):
                list(spoilt.tasks(project.id, **how))
    pages = list(server.tasks(project.id, key_only=True, page_size=3))
    assert [task["data"]["image"] for task in pages] == [f"{n}.jpg" for n in range(7)]
    assert [task["id"] for task in server.tasks(project.id)] == [task["id"] for task in pages]


def test_only_tasks_that_changed_are_read(label_studio: LabelStudioServer) -> None:
    from datetime import UTC, datetime

    person = Annotator(label_studio)
    project = person.api.create_project("changes", CONFIG)
    person.api.import_tasks(project.id, [{"data": {"image": f"{n}.jpg"}} for n in range(5)])
    ids = [task["id"] for task in person.api.tasks(project.id)]
    since = datetime.now(UTC)
    assert list(person.api.tasks(project.id, since=since)) == []
    person.submit(ids[2], [choice("ground_truth", "cat")])
    changed = list(person.api.tasks(project.id, since=since))
    assert [task["id"] for task in changed] == [ids[2]]
    assert changed[0]["annotations"][0]["result"][0]["value"] == {"choices": ["cat"]}
    for number in (ids[0], ids[4]):
        person.submit(number, [choice("ground_truth", "dog")])
    changed = list(person.api.tasks(project.id, since=since))
    assert [task["id"] for task in changed] == [ids[0], ids[2], ids[4]]
    assert [len(task["annotations"]) for task in changed] == [1, 1, 1]


def test_a_label_that_people_used_does_not_vanish(label_studio: LabelStudioServer) -> None:
    person = Annotator(label_studio)
    project = person.api.create_project("used labels", CONFIG)
    person.api.import_tasks(project.id, [{"data": {"image": "x.jpg"}}])
    person.submit(next(person.api.tasks(project.id))["id"], [choice("ground_truth", "cat")])
    with pytest.raises(ProjectError, match="'cat'.*1 times.*Keep"):
        person.api.update_config(project, CONFIG.replace('<Choice value="cat"/>', ""))
    changed = person.api.update_config(project, CONFIG.replace('<Choice value="dog"/>', '<Choice value="cow"/>'))
    assert "cow" in changed.config_xml


def test_projects_are_found_by_title_and_id(label_studio: LabelStudioServer) -> None:
    server = Server()
    made = server.create_project("found again", CONFIG)
    assert server.find_project("found again") == made
    assert server.find_project(str(made.id)) == made
    assert server.find_project("not there") is None
    with pytest.raises(ProjectError, match="has no project 999999"):
        server.find_project("999999")
    with pytest.raises(ProjectError, match="has no project 999999"):
        server.count(999999)
    server.create_project("found again", CONFIG)
    with pytest.raises(ProjectError, match="several projects"):
        server.find_project("found again")
    with pytest.raises(ProjectError, match="zzz"):
        server.create_project("bad one", CONFIG.replace('toName="image"', 'toName="zzz"'))
