"""A proxy on loopback between us and a Label Studio, which spoils answers as networks and gateways do."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

import urllib3

Fault = Literal["502 after", "502 before", "dropped after", "413"]


@dataclass
class Proxy:
    """Passes requests on to a server and answers back.

    Args:
        target: the server's address

    Attributes:
        fault: asked for each request, ``(method, path)``: how to spoil it, or ``None``
        change: changes the body of an answer: ``(path, body) -> body``
        requests: ``"METHOD path"`` of every request
    """

    target: str
    fault: Callable[[str, str], Fault | None] = lambda method, path: None
    change: Callable[[str, bytes], bytes] = lambda path, body: body
    requests: list[str] = field(default_factory=list)

    def __enter__(self) -> Proxy:
        proxy = self
        pool = urllib3.PoolManager(retries=False)

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self) -> None:
                proxy.requests.append(f"{self.command} {self.path}")
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = proxy.fault(self.command, self.path)
                if fault in ("502 before", "413"):
                    self._answer(int(fault[:3]), b"<html>gateway</html>", "text/html")
                    return
                headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "accept-encoding")}
                answer = pool.request(
                    self.command, proxy.target + self.path, headers=headers, body=body or None, redirect=False
                )
                if fault == "502 after":
                    self._answer(502, b"<html>gateway</html>", "text/html")
                elif fault == "dropped after":
                    self.close_connection = True
                else:
                    kind = answer.headers.get("Content-Type", "application/octet-stream")
                    self._answer(answer.status, proxy.change(self.path, answer.data), kind)

            def _answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PATCH = do_DELETE = _pass_on

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"
