"""An OpenAI-compatible server on loopback that answers as a test tells it to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import BaseModel


@dataclass
class Reply:
    """An answer of the server that is no plain chat completion.

    Attributes:
        status: the HTTP status
        body: JSON (or text, sent as HTML); for a status from 400 on, the message of an error
        headers: further headers
        delay: seconds to wait before it
    """

    status: int = 200
    body: Any = ""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


@dataclass
class Request:
    """What the server was asked: a chat completion's body, and the headers in lower case."""

    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def kind(self) -> str:
        """How a structured answer was asked for."""
        return str(self.body.get("response_format", {}).get("type", "text"))

    @property
    def text(self) -> str:
        """All text of all messages."""
        parts = []
        for message in self.body["messages"]:
            content = message["content"]
            parts += [content] if isinstance(content, str) else [part.get("text", "") for part in content]
        return "\n".join(parts)

    @property
    def images(self) -> list[str]:
        """The addresses of the images."""
        contents = [m["content"] for m in self.body["messages"] if isinstance(m["content"], list)]
        return [part["image_url"]["url"] for content in contents for part in content if part["type"] == "image_url"]


Said = str | dict[str, Any] | BaseModel | Reply


class LlmServer:
    """A server to be used in a ``with`` statement; ``url`` is its ``base_url``.

    Args:
        answers: what it says, in turn, or a function of the :class:`Request`: text, values that become JSON, or a
            :class:`Reply`. After the last it answers 500
        kinds: the ``response_format`` that it takes; the others get 400
        unsupported (()): settings (``"temperature"``, ...) that get 400
        key (None): the key it wants, else 401
        models (("test",)): the models it has; others get 404
        usage (True): whether it says how many tokens were used: one per 4 characters

    Attributes:
        requests: the :class:`Request`s it got, in order, the refused ones too
        most_at_once: how many it worked on at the same time
    """

    def __init__(
        self,
        answers: Sequence[Said] | Callable[[Request], Said],
        *,
        kinds: Sequence[str] = ("json_schema", "json_object", "text"),
        unsupported: Sequence[str] = (),
        key: str | None = None,
        models: Sequence[str] = ("test",),
        usage: bool = True,
    ):
        self._answers = answers
        self._kinds = kinds
        self._unsupported = unsupported
        self._key = key
        self._models = models
        self._usage = usage
        self._said = 0
        self._lock = threading.Lock()
        self._now = 0
        self.most_at_once = 0
        self.requests: list[Request] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> LlmServer:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def reply(self, request: Request) -> Reply:
        """What a chat completion is answered with."""
        with self._lock:
            self.requests.append(request)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            refused = self._refused(request)
            reply = refused or self._next(request)
            time.sleep(reply.delay)
            return reply
        finally:
            with self._lock:
                self._now -= 1

    def models(self) -> Reply:
        """The list of models."""
        return Reply(body={"object": "list", "data": [{"id": name, "object": "model"} for name in self._models]})

    def _refused(self, request: Request) -> Reply | None:
        sent = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self._key is not None and sent != self._key:
            return Reply(401, f"Incorrect API key provided: {sent}")
        if request.body["model"] not in self._models:
            return Reply(404, f"The model `{request.body['model']}` does not exist")
        for name in self._unsupported:
            if name in request.body:
                return Reply(400, f"Unsupported parameter: {name}")
        if request.kind not in self._kinds:
            return Reply(400, f"response_format {request.kind} is not supported")
        return None

    def _next(self, request: Request) -> Reply:
        if callable(self._answers):
            said = self._answers(request)
        else:
            with self._lock:
                at, self._said = self._said, self._said + 1
            said = self._answers[at] if at < len(self._answers) else Reply(500, "the script is over")
        return said if isinstance(said, Reply) else Reply(body=self.completion(request, said))

    def completion(
        self, request: Request, said: str | dict[str, Any] | BaseModel, finish: str = "stop"
    ) -> dict[str, Any]:
        """A chat completion with this text."""
        if isinstance(said, BaseModel):
            said = said.model_dump_json()
        text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
        message = {"role": "assistant", "content": text}
        answer: dict[str, Any] = {
            "id": "1", "object": "chat.completion", "created": 0, "model": request.body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        }  # fmt: skip
        if self._usage:
            asked, told = len(request.text) // 4, len(text) // 4
            answer["usage"] = {"prompt_tokens": asked, "completion_tokens": told, "total_tokens": asked + told}
        return answer


def _handler(server: LlmServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(server.models() if self.path == "/v1/models" else Reply(404, "no such page"))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/chat/completions":
                self._send(Reply(404, "no such page"))
                return
            self._send(server.reply(Request(body, {name.lower(): value for name, value in self.headers.items()})))

        def _send(self, reply: Reply) -> None:
            body = {"error": {"message": reply.body}} if reply.status >= 400 else reply.body
            data = (body if isinstance(body, str) else json.dumps(body)).encode()
            try:
                self.send_response(reply.status)
                self.send_header("Content-Type", "text/html" if isinstance(body, str) else "application/json")
                self.send_header("Content-Length", str(len(data)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
            except ConnectionError:  # the client has stopped waiting
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    return Handler
