"""One Label Studio server for all tests of a worker process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.label_studio_server import LabelStudioServer, executable


@pytest.fixture(scope="session")
def label_studio_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudioServer]:
    """The server of this process; tests ask for ``label_studio``."""
    if executable() is None:
        pytest.skip("needs a Label Studio: make label-studio, or set IDSYNTH_LABEL_STUDIO to its executable")
    with LabelStudioServer(tmp_path_factory.mktemp("label-studio")) as server:
        yield server


@pytest.fixture
def label_studio(label_studio_server: LabelStudioServer, monkeypatch: pytest.MonkeyPatch) -> LabelStudioServer:
    """A running Label Studio; the environment names its address and token, as a user's would."""
    label_studio_server.start()
    monkeypatch.setenv("LABEL_STUDIO_URL", label_studio_server.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio_server.token)
    return label_studio_server
