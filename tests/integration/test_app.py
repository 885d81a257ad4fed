"""The App, three ways: operators called from Python, the App's server over HTTP, and the real App in Chromium."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import pytest

import fiftyone_idsynth as ids
from fiftyone_idsynth.plugin import NAME, install_plugin
from tests.small_web import SmallWeb

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def plugin() -> Iterator[None]:
    target = install_plugin()
    yield
    target.unlink()


@pytest.fixture
def filled(dataset: Any, photos: Path) -> Any:
    ids.ingest(dataset, photos / "backgrounds", tags=("background",))
    dataset.reload()
    return dataset


def execute(name: str, dataset: Any, **ctx: Any) -> Any:
    return foo.execute_operator(f"{NAME}/{name}", {"dataset": dataset, **ctx})


def form(name: str, dataset: Any, **params: Any) -> dict[str, Any]:
    operator = foo.get_operator(f"{NAME}/{name}")
    ctx = foo.ExecutionContext(
        operator_uri=operator.uri, request_params={"dataset_name": dataset.name, "params": params}
    )
    return operator.resolve_type(ctx, "inputs").to_json()["type"]["properties"]


def test_every_stage_is_an_operator_with_its_whole_form(filled: Any) -> None:
    listed = {operator.name: operator for operator in foo.list_operators() if operator.plugin_name == NAME}
    assert set(listed) == set(ids.stages())
    for name, stage in ids.stages().items():
        config = listed[name].config
        assert config.label == f"{stage.group}: {stage.label}"
        assert config.execute_as_generator
        assert config.allow_delegated_execution
        properties = form(name, filled)
        assert set(stage.parameters) - {"progress"} <= set(properties)
        assert ("view_target" in properties) is not stage.creates


def test_a_form_has_choices_bounds_defaults_help_and_says_what_is_wrong(filled: Any) -> None:
    properties = form("score_quality", filled)
    task = properties["task"]
    assert task["type"]["values"] == ["classification", "detection", "generation"]
    assert task["default"] == "detection"
    assert task["view"]["description"] == ids.stages()["score_quality"].parameters["task"].help
    size = properties["batch_size"]
    assert (size["type"]["min"], size["type"]["max"], size["default"]) == (1, 4096, 16)
    wrong = form("score_quality", filled, batch_size=0, task="detection")
    assert wrong["batch_size"]["invalid"]
    assert "must be between 1 and 4096" in wrong["batch_size"]["error_message"]
    assert not wrong["task"]["invalid"]


def test_execute_operator_works_on_the_chosen_view(filled: Any) -> None:
    execute("score_quality", filled, view=filled.limit(3), params={"task": "generation"})
    filled.reload()
    assert filled.exists("quality.score").count() == 3
    execute("deduplicate", filled, params={})
    assert filled.load_saved_view("rejected").count() == 2
    execute("restore", filled, params={"reason": "near_duplicate"})
    assert filled.load_saved_view("rejected").count() == 1


def test_a_wrong_input_reaches_the_caller_in_words(filled: Any) -> None:
    with pytest.raises(Exception, match="there is no such sample field"):
        execute("score_quality", filled, params={"label_field": "boxes"})


def test_collect_takes_its_keys_from_the_secrets_of_the_app(dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with SmallWeb() as web:
        photo = {
            "id": "1", "title": "a panda", "license": "4", "ownername": "Ada", "url_l": f"{web.url}/o/1.jpg",
            "width_l": 400, "height_l": 300, "owner": "1@N1", "secret": "s", "server": "1", "farm": 1,
        }  # fmt: skip
        answer = {"photos": {"page": 1, "pages": 1, "perpage": 500, "total": 1, "photo": [photo]}, "stat": "ok"}
        web.on("/services/rest/", answer, api_key="from-the-app")
        params = {
            "topic": "red panda", "sources": ["flickr"], "endpoints": f"flickr={web.url}", "allowed_hosts": web.host,
        }  # fmt: skip
        with pytest.raises(Exception, match="Flickr needs the key FLICKR_API_KEY"):
            execute("collect", dataset, params=params)
        monkeypatch.setattr(
            foo.ExecutionContext, "secrets", property(lambda ctx: {"FLICKR_API_KEY": "from-the-app"}), raising=True
        )
        execute("collect", dataset, params=params)
    dataset.reload()
    assert dataset.values("source.engine") == ["flickr"]
    assert "from-the-app" not in str(dataset.get_run_info("collect").config.serialize())


def test_the_server_lists_forms_and_runs_operators(filled: Any) -> None:
    from fiftyone.server.app import app
    from starlette.testclient import TestClient

    with TestClient(app) as client:
        answer = client.post("/operators", json={"dataset_name": filled.name}).json()
        assert f"{NAME}/score_quality" in {operator["config"]["name"] if "/" in operator["config"]["name"] else
                                           f"{operator['plugin_name']}/{operator['config']['name']}"
                                           for operator in answer["operators"]}  # fmt: skip
        request = {"operator_uri": f"{NAME}/score_quality", "dataset_name": filled.name, "params": {}}
        schema = client.post("/operators/resolve-type", json={**request, "target": "inputs"}).json()
        assert "metrics" in schema["type"]["properties"]
        streamed = client.post("/operators/execute/generator", json=request).text
    assert "set_progress" in streamed
    assert "mean_score" in streamed
    filled.reload()
    assert filled.exists("quality.score").count() == 19


def test_delegated_runs_report_progress(filled: Any) -> None:
    from fiftyone.operators.delegated import DelegatedOperationService

    service = DelegatedOperationService()
    foo.execute_operator(f"{NAME}/score_quality", {"dataset": filled, "params": {}}, request_delegation=True)
    queued = service.get_queued_operations(operator=f"{NAME}/score_quality")
    assert len(queued) == 1
    service.execute_operation(queued[0])
    done = service.get(queued[0].id)
    assert str(done.run_state).endswith("completed"), done.result
    assert done.status is not None
    assert done.status.progress == 1
    filled.reload()
    assert filled.exists("quality.score").count() == 19


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_person_scores_a_dataset_in_the_browser(filled: Any) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra 'dev'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    session = fo.launch_app(filled, remote=True, port=port, address="127.0.0.1")
    try:
        with playwright.sync_playwright() as started:
            browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            _score_in_the_app(page, f"http://127.0.0.1:{port}/datasets/{filled.name}")
            if folder := os.environ.get("IDSYNTH_SCREENSHOTS"):
                page.screenshot(path=str(Path(folder) / "app.png"))
            browser.close()
    finally:
        session.close()
    filled.reload()
    assert filled.exists("quality.score").count() == 19
    assert filled.get_run_info("score_quality").config.params["task"] == "generation"


def _score_in_the_app(page: Any, url: str) -> None:
    page.goto(url)
    page.get_by_text("sample tags").first.wait_for(timeout=90_000)
    if page.get_by_role("button", name="Dismiss").count():
        page.get_by_role("button", name="Dismiss").click()
    time.sleep(2)
    page.keyboard.press("`")
    page.keyboard.type("score")
    page.get_by_text("Quality: Score image quality").first.click(timeout=30_000)
    page.get_by_text("Measures defects").first.wait_for(timeout=30_000)
    page.get_by_text("detection", exact=True).first.click()
    page.get_by_role("option", name="generation").click()
    if folder := os.environ.get("IDSYNTH_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / "form.png"))
    page.get_by_role("button", name="Execute").click()
    page.get_by_text("mean_score").first.wait_for(timeout=120_000)
    page.get_by_role("button", name="Done").click()
    page.locator("[data-cy='sidebar-group-QUALITY'] svg").last.click(timeout=30_000)
    page.locator("[data-cy='sidebar-field-quality.score']").wait_for(timeout=30_000)
    time.sleep(1)
