"""A database server of one's own: FiftyOne's embedded one is shared by all processes of a user, whatever its folder."""

from __future__ import annotations

import atexit
import socket
import subprocess
import time
from pathlib import Path

from fiftyone_idsynth.doctor import mongod_path


class PrivateDatabase:
    """A ``mongod`` on a free loopback port, stopped at the latest when this process ends.

    Args:
        folder: where its files go

    Attributes:
        uri: what ``FIFTYONE_DATABASE_URI`` must be
    """

    def __init__(self, folder: Path):
        mongod = mongod_path()
        if mongod is None:
            raise RuntimeError("FiftyOne has no mongod: see idsynth doctor, or set FIFTYONE_DATABASE_URI")
        folder.mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [mongod, "--dbpath", folder, "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"]
        self.process = subprocess.Popen([*command, "--logpath", folder / "log"], stdout=subprocess.DEVNULL)
        atexit.register(self.stop)
        self.uri = f"mongodb://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"mongod did not start: see {folder / 'log'}") from None
                time.sleep(0.05)

    def stop(self) -> None:
        """Stops the server."""
        self.process.terminate()
        self.process.wait()
