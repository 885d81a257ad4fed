"""Models on the hub: only what is needed is downloaded, and every refusal says what to do.

The hub is a server on loopback; its client reads the address when it is imported, so it runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models import hub_server, tiny
from tests.models.hub_server import COMMIT

ROOT = Path(__file__).parents[2]

LOOK_UP = """
import json, sys
from fiftyone_idsynth.models.errors import ModelError
from fiftyone_idsynth.models.found import look_up
from fiftyone_idsynth.models.options import Options
for name, options in json.loads(sys.argv[1]):
    try:
        found = look_up(name, Options(**options))
        print(json.dumps(["found", found.revision, found.model_type]))
    except ModelError as error:
        print(json.dumps([type(error).__name__, str(error)]))
"""
TAG = """
import json, sys
import numpy as np, torch
from fiftyone_idsynth.models.errors import ModelError
from fiftyone_idsynth.models.loading import find_model
from fiftyone_idsynth.models.options import Options
from fiftyone_idsynth.models.roles import Matcher, Tagger
torch.set_num_threads(1)
for role, name, options in json.loads(sys.argv[1]):
    try:
        model = find_model({"tagger": Tagger, "matcher": Matcher}[role], name, Options(device="cpu", **options))
        tags = model.tag([np.full((40, 40, 3), (255, 0, 0), np.uint8)])[0]
        print(json.dumps([model.name, model.revision, tags[0].name]))
    except ModelError as error:
        print(json.dumps([type(error).__name__, str(error)]))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    (folder / "wd14").mkdir()
    vit = tiny.vit_classifier(folder / "vit")
    (vit / "flax_model.msgpack").write_bytes(b"weights of another framework")
    (vit / "pytorch_model.bin").write_bytes(b"the same weights, pickled")
    return {"tiny/vit": vit, "tiny/wd14": tiny.wd14(folder / "wd14")}


@pytest.fixture(scope="module")
def hub(models: dict[str, Path]) -> Iterator[tuple[str, list[str]]]:
    with hub_server.serve(models) as served:
        yield served


def run(script: str, argument: Any, cache: Path, endpoint: str, **environment: str) -> list[list[Any]]:
    """Runs a script against a hub; returns the lines that it prints, as JSON."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING")) and "proxy" not in k.lower()}
    environment = {**kept, "HF_HOME": str(cache), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1",
                   "PYTHONPATH": str(ROOT), **environment}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(argument)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_refusals_say_what_to_do(hub, tmp_path):
    names: list[tuple[str, dict[str, Any]]] = [
        ("tiny/vit", {}),
        ("tiny/unknown", {}),
        ("private/model", {}),
        ("gated/model", {}),
        ("down/model", {}),
        ("tiny/vit", {"revision": "v9"}),
        ("tiny/vit", {"offline": True, "revision": "v9"}),
        ("no such: id!", {}),
        ("tiny/wd14/modell.onnx", {}),
    ]
    here, unknown, private, gated, down, revision, offline, no_id, file = run(LOOK_UP, names, tmp_path, hub[0])
    assert here == ["found", COMMIT, "vit"]
    assert unknown[0] == private[0] == "ModelNotFound"
    assert "'tiny/unknown'" in unknown[1]
    assert "HF_TOKEN" in private[1]
    assert gated[0] == "GatedModel"
    assert "accept its terms" in gated[1]
    assert down[0] == "ModelUnreachable"
    assert "503" in down[1]
    assert "hf download down/model" in down[1]
    assert revision[0] == "ModelNotFound"
    assert "'v9'" in revision[1]
    assert offline[0] == "ModelUnreachable"
    assert "offline mode" in offline[1]
    assert "hf download tiny/vit" in offline[1]
    assert no_id[0] == "ModelNotFound"
    assert file[0] == "ModelNotFound"
    assert "did you mean 'model.onnx'" in file[1]


def test_no_network_and_offline_mode_are_said(tmp_path):
    refused = run(LOOK_UP, [("tiny/vit", {})], tmp_path, "http://127.0.0.1:9")[0]
    assert refused[0] == "ModelUnreachable"
    assert "cannot be reached" in refused[1]
    assert "hf download tiny/vit" in refused[1]
    switched_off = run(LOOK_UP, [("tiny/vit", {})], tmp_path, "http://127.0.0.1:9", HF_HUB_OFFLINE="1")[0]
    assert switched_off[0] == "ModelUnreachable"


def test_a_model_is_downloaded_once_and_then_works_without_the_hub(hub, tmp_path):
    endpoint, asked = hub
    asked.clear()
    first = run(TAG, [("tagger", "tiny/vit", {})], tmp_path, endpoint)[0]
    assert first[:2] == ["tiny/vit", COMMIT]
    got = {line.rpartition("/")[2] for line in asked if line.startswith("GET tiny/vit/resolve/")}
    assert got == {"config.json", "preprocessor_config.json", "model.safetensors"}
    jobs = [
        ("tagger", "tiny/vit", options) for options in ({}, {"offline": True}, {"offline": True, "revision": COMMIT})
    ]
    assert run(TAG, jobs, tmp_path, "http://127.0.0.1:9") == [first] * 3


def test_a_tagger_in_an_onnx_file_is_downloaded(hub, tmp_path):
    jobs = [("tagger", "tiny/wd14", {"revision": "main"}), ("tagger", "tiny/wd14/model.onnx", {})]
    assert run(TAG, jobs, tmp_path, hub[0]) == [[name, COMMIT, "red"] for _, name, _ in jobs]


def test_weights_are_not_downloaded_before_the_role_fits(hub, tmp_path):
    endpoint, asked = hub
    asked.clear()
    jobs = [("matcher", "tiny/vit", {}), ("tagger", "tiny/vit", {"offline": True})]
    wrong, partly = run(TAG, jobs, tmp_path, endpoint)
    assert wrong[0] == "WrongModel"
    assert "it can serve as tagger" in wrong[1]
    assert not any("safetensors" in line for line in asked)
    # What was seen of it is no model yet.
    assert partly[0] == "ModelUnreachable"
    assert "cache has only a part of it" in partly[1]


def test_a_folder_of_the_cache_keeps_its_commit(hub, tmp_path):
    run(LOOK_UP, [("tiny/vit", {})], tmp_path, hub[0])
    snapshot = next(tmp_path.rglob(f"snapshots/{COMMIT}"))
    assert run(LOOK_UP, [(str(snapshot), {})], tmp_path, "http://127.0.0.1:9")[0] == ["found", COMMIT, "vit"]
