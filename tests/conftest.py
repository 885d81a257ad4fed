"""Every test run has a database, media store and plugin folder of its own; nothing of the user's is touched."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from fiftyone_idsynth.doctor import mongod_path  # noqa: E402
from tests.database import PrivateDatabase  # noqa: E402

_PRIVATE = Path(tempfile.mkdtemp(prefix="idsynth-tests-"))
atexit.register(shutil.rmtree, _PRIVATE, ignore_errors=True)

# FiftyOne reads these when it is imported. Where it has no mongod, the user's server is used, with a database apart.
if mongod_path() is not None:
    os.environ["FIFTYONE_DATABASE_URI"] = PrivateDatabase(_PRIVATE / "database").uri
os.environ.update(
    FIFTYONE_DO_NOT_TRACK="true",
    FIFTYONE_DATABASE_NAME=f"idsynth-test-{uuid.uuid4().hex[:8]}",
    FIFTYONE_DATABASE_VALIDATION="false",
    FIFTYONE_DEFAULT_DATASET_DIR=str(_PRIVATE / "datasets"),
    FIFTYONE_ANNOTATION_CONFIG_PATH=str(_PRIVATE / "annotation_config.json"),
    FIFTYONE_PLUGINS_DIR=str(_PRIVATE / "plugins"),
    IDSYNTH_MEDIA_DIR=str(_PRIVATE / "media"),
    FIFTYONE_SHOW_PROGRESS_BARS="false",
)


@pytest.fixture
def dataset() -> Iterator[Any]:
    """An empty persistent dataset, deleted afterwards."""
    import fiftyone as fo

    made = fo.Dataset(f"test-{uuid.uuid4().hex[:8]}", persistent=True)
    yield made
    if fo.dataset_exists(made.name):
        made.delete()


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs that come with scikit-image and scikit-learn, one sub-folder per kind."""
    from fiftyone_idsynth.demo.photos import write_photos

    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder)
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of labelled photographs and weights beside the checkout, which users do not have."""
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("needs the shared test data beside the checkout (../shared)")
    return folder


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Drops the database apart where it lies on a server of the user's."""
    if mongod_path() is None and "fiftyone" in sys.modules:
        import fiftyone.core.odm as foo

        foo.get_db_conn().client.drop_database(os.environ["FIFTYONE_DATABASE_NAME"])
