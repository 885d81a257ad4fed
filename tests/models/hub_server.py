"""A hub on loopback: answers as the Hugging Face hub does, from folders and with refusals."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Handler(BaseHTTPRequestHandler):
    """Serves the models in ``folders``; ids that begin with ``gated/``, ``private/`` or ``down/`` are refused."""

    folders: ClassVar[dict[str, Path]] = {}
    asked: ClassVar[list[str]] = []
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps quiet."""

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.asked.append(f"{self.command} {path}")
        api = path.startswith("api/models/")
        parts = path.removeprefix("api/models/").split("/")
        repo, rest = "/".join(parts[:2]), parts[2:]
        if repo.startswith("down/"):
            return self._send(503, {}, b"", body)
        if repo.startswith("gated/") and not api:
            return self._refuse(401, "GatedRepo", body)
        if repo.startswith("private/"):
            return self._refuse(401, "RepoNotFound", body)
        if repo not in self.folders and not repo.startswith("gated/"):
            return self._refuse(404, "RepoNotFound", body)
        revision = rest[1] if len(rest) > 1 else "main"
        if revision not in ("main", COMMIT):
            return self._refuse(404, "RevisionNotFound", body)
        return self._listing(repo, body) if api else self._file(repo, "/".join(rest[2:]), body)

    def _listing(self, repo: str, body: bool) -> None:
        folder = self.folders.get(repo)
        if folder is None:  # gated models are listed, and refused only then
            files = [{"rfilename": "config.json", "size": 2}]
        else:
            files = [
                {"rfilename": p.relative_to(folder).as_posix(), "size": p.stat().st_size}
                for p in sorted(folder.rglob("*"))
                if p.is_file()
            ]
        said = {"id": repo, "sha": COMMIT, "siblings": files, "tags": [], "private": False}
        self._send(200, {"Content-Type": "application/json"}, json.dumps(said).encode(), body)

    def _file(self, repo: str, name: str, body: bool) -> None:
        path = self.folders[repo] / name
        if not path.is_file():
            return self._refuse(404, "EntryNotFound", body)
        content = path.read_bytes()
        tag = hashlib.sha1(content).hexdigest()
        return self._send(200, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}, content, body)

    def _refuse(self, status: int, code: str, body: bool) -> None:
        self._send(status, {"X-Error-Code": code, "X-Error-Message": code}, b"{}", body)

    def _send(self, status: int, headers: dict[str, str], content: bytes, body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@contextmanager
def serve(folders: dict[str, Path]) -> Iterator[tuple[str, list[str]]]:
    """Serves models.

    Args:
        folders: hub id -> folder

    Yields:
        the address, and what was asked so far, e.g. ``"GET OWNER/NAME/resolve/COMMIT/config.json"``
    """
    asked: list[str] = []
    handler = type("Hub", (Handler,), {"folders": folders, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
