"""A web server on loopback that answers as a site or an API does, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass
class Request:
    """A request that came.

    Attributes:
        method: ``"GET"``, ``"HEAD"`` or ``"POST"``
        target: path and query, as they stood in the request line
        path: the path alone
        query: the query, decoded; of a name that comes several times the last
        headers: by lower-case name
        form: the fields of a form that was sent
    """

    method: str
    target: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    form: dict[str, str] = field(default_factory=dict)


@dataclass
class Reply:
    """An answer with a status and headers of its own.

    Attributes:
        body: bytes are sent as they are, text as HTML, everything else as JSON
        status: the HTTP status
        headers: further headers, which win over those that follow from the body
    """

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Replica:
    """Serves answers by path, and by query or headers where a path has several; use it with ``with``.

    Example::

        with Replica() as server:
            server.on("/search", {"results": []}, page="2")  # only where the query has page=2
            server.on("/search", lambda request: {"results": [request.query["q"]]})
            server.on("/photo.jpg", Reply(content, headers={"Content-Type": "image/jpeg"}))
            ...
            assert server.requests[0].headers["user-agent"]

    Attributes:
        url: scheme, host and port
        requests: all requests that came, in order
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._routes: dict[str, list[tuple[Callable[[Request], bool], Any]]] = {}
        replica = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                form = dict(parse_qsl(self.rfile.read(length).decode()))
                parts = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                query = dict(parse_qsl(parts.query, keep_blank_values=True))
                self._answer(replica.answer(Request(self.command, self.path, parts.path, query, headers, form)))

            do_POST = do_HEAD = do_GET

            def _answer(self, reply: Reply) -> None:
                body, kind = reply.body, "application/octet-stream"
                if isinstance(body, str):
                    body, kind = body.encode(), "text/html; charset=utf-8"
                elif not isinstance(body, bytes):
                    body, kind = json.dumps(body).encode(), "application/json"
                self.send_response(reply.status)
                for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Replica:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def on(self, path: str, answer: Any, when: Callable[[Request], bool] | None = None, **query: str) -> None:
        """Says what a path answers; of several answers the first that fits is given.

        Args:
            path: the path
            answer: a :class:`Reply`, a body as in :class:`Reply`, or a function that makes one of them of a request
            when (None): whether it fits a request; by default all
            query: values that the query of a request must have
        """

        def fits(request: Request) -> bool:
            return query.items() <= request.query.items() and (when is None or when(request))

        self._routes.setdefault(path, []).append((fits, answer))

    def answer(self, request: Request) -> Reply:
        """Remembers a request and finds its answer, 404 if there is none."""
        self.requests.append(request)
        for fits, answer in self._routes.get(request.path, ()):
            if fits(request):
                made = answer(request) if callable(answer) else answer
                return made if isinstance(made, Reply) else Reply(made)
        return Reply(f"nothing at {request.target}", 404)
