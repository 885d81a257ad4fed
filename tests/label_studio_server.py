"""A real Label Studio on a free loopback port, with SQLite and a data folder of its own; it can be killed and revived.

    with LabelStudioServer(folder) as server:
        server.url, server.token, server.document_root

The server lives in an environment of its own, ``build/label-studio`` (``make label-studio``), or is the executable that
``IDSYNTH_LABEL_STUDIO`` names. Making its database takes half a minute, so the first one made is kept beside the
executable and copied by later starts, which take seconds.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import urllib3

ROOT = Path(__file__).parents[1]

OWNER = "owner@example.com"
PASSWORD = "owner-pass-1"
TOKEN = "0123456789abcdef0123456789abcdef01234567"
"""The owner's legacy token. It opens nothing but the servers that tests start."""

DATABASE = "label_studio.sqlite3"

START_SECONDS = 300


def executable() -> Path | None:
    """The program that starts a Label Studio, if there is one."""
    named = os.environ.get("IDSYNTH_LABEL_STUDIO")
    path = Path(named) if named else ROOT / "build" / "label-studio" / "bin" / "label-studio"
    return path if path.is_file() else None


class LabelStudioServer:
    """A Label Studio server; as a context it is started and stopped.

    Args:
        folder: where its data and the images that it serves go

    Attributes:
        url: its address
        token: the legacy token of its owner
        document_root: images in a sub-folder of this one can be served as local files
    """

    def __init__(self, folder: Path):
        program = executable()
        if program is None:
            raise RuntimeError("there is no Label Studio: make label-studio, or set IDSYNTH_LABEL_STUDIO")
        self._program = program
        self._data = folder / "data"
        self._data.mkdir(parents=True)
        self.document_root = folder / "files"
        self.document_root.mkdir()
        self.token = TOKEN
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "log"
        self._template = program.parent.parent / "idsynth-tests.sqlite3"
        self._process: subprocess.Popen[bytes] | None = None
        if self._template.exists():
            shutil.copy(self._template, self._data / DATABASE)

    def __enter__(self) -> LabelStudioServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Starts the server, also again after :meth:`kill`, and waits until it answers."""
        if self.running:
            return
        command = [self._program, "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(self.port)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--log-level", "WARNING"], env=self._environment(), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True, preexec_fn=_end_with_parent,
            )  # fmt: skip
        atexit.register(self.stop)
        self._wait()
        self._keep_database()

    def stop(self) -> None:
        """Ends the server in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the server as a crash does: whatever it is doing is cut off."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, how)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None
        atexit.unregister(self.stop)

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("LABEL_STUDIO_", "DJANGO_", "PYTHON"))}
        return kept | {
            "LABEL_STUDIO_BASE_DATA_DIR": str(self._data),
            "LABEL_STUDIO_USERNAME": OWNER,
            "LABEL_STUDIO_PASSWORD": PASSWORD,
            "LABEL_STUDIO_USER_TOKEN": TOKEN,
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(self.document_root),
            "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
            # Nothing is told to anybody.
            "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
            "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
        }

    def _wait(self) -> None:
        http = urllib3.PoolManager(retries=False, timeout=5)
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                if http.request("GET", f"{self.url}/health").status == 200:
                    return
            if not self.running or time.monotonic() > deadline:
                raise RuntimeError(f"Label Studio did not start:\n{self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)

    def _keep_database(self) -> None:
        """Keeps the new database, which holds the owner alone, for later servers."""
        if self._template.exists():
            return
        part = self._template.with_suffix(f".{os.getpid()}")
        with (
            contextlib.closing(sqlite3.connect(self._data / DATABASE)) as source,
            contextlib.closing(sqlite3.connect(part)) as copy,
        ):
            source.backup(copy)
        part.replace(self._template)


def _end_with_parent() -> None:
    """Has Linux end the server when this process is killed, which runs nothing at its exit."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
