"""A web server on loopback that does what bad servers do, and a table of what should come of it."""

from __future__ import annotations

import contextlib
import itertools
import selectors
import socket
import ssl
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from tests.hostile_answers import LONG_NAME, UNICODE_NAME, X_ROBOTS, X_ROBOTS_HARMLESS, Exchange, respond
from tests.hostile_files import certificate, jpeg


class Case(NamedTuple):
    """Something that can be asked for.

    Attributes:
        path: where it is; ``{tls}`` and the like stand for ports of the server
        expected: ``"ok"`` for an image that must be there in the end, otherwise the reason why it is not
        own: whether it is served on a port of its own, so that its failures are not counted against other cases
    """

    path: str
    expected: str
    own: bool = False


class Request(NamedTuple):
    """A request that arrived.

    Attributes:
        path: with its query, as sent
        time: when its head was complete, by ``time.monotonic``
        headers: by lower-case name
        connection: a number per connection
        port: the port it came to
        method: ``"GET"`` ...
    """

    path: str
    time: float
    headers: dict[str, str]
    connection: int
    port: int
    method: str


CASES: dict[str, Case] = {
    # images that are all right
    "wrong type": Case("/typed/text.jpg", "ok"),
    "no type": Case("/typed/none.jpg", "ok"),
    "image as html": Case("/typed/html.jpg", "ok"),
    "octets": Case("/typed/octets.jpg", "ok"),
    "unicode name": Case(f"/good/{UNICODE_NAME}", "ok"),
    "long name": Case(f"/good/{LONG_NAME}", "ok"),
    "query name": Case("/good/1200.jpg?size=large&name=%2e%2e%2f", "ok"),
    "duplicate a": Case("/same/a.jpg", "ok"),
    "duplicate b": Case("/same/b.jpg", "ok"),
    "turned": Case("/turned.jpg", "ok"),
    "etag": Case("/etag.jpg", "ok"),
    "chunked": Case("/chunked/good.jpg", "ok"),
    "cookies": Case("/headers/cookies.jpg", "ok"),
    "redirect chain of 3": Case("/redirect/chain/3", "ok"),
    "redirect relative": Case("/redirect/relative", "ok"),
    "429 seconds": Case("/busy/seconds.jpg", "ok", own=True),
    "429 date": Case("/busy/date.jpg", "ok", own=True),
    "500 twice": Case("/failing/twice.jpg", "ok", own=True),
    "reset once": Case("/broken/once.jpg", "ok", own=True),
    # no image
    "html": Case("/page/index.html", "not_an_image"),
    "html as image": Case("/page/as-image.jpg", "not_an_image"),
    "empty": Case("/empty.jpg", "empty_file"),
    "404": Case("/status/404.jpg", "not_found"),
    "410": Case("/status/410.jpg", "not_found"),
    "401": Case("/status/401.jpg", "refused"),
    "403": Case("/status/403.jpg", "refused"),
    "451": Case("/status/451.jpg", "refused"),
    "truncated jpeg": Case("/length/half.jpg", "truncated"),
    "length too long": Case("/length/too-long.jpg", "truncated", own=True),
    "length too short": Case("/length/too-short.jpg", "truncated", own=True),
    # too much
    "endless": Case("/endless/plain.jpg", "too_large"),
    "endless chunked": Case("/endless/chunked.jpg", "too_large"),
    "announced too large": Case("/endless/announced.jpg", "too_large"),
    "gzip bomb": Case("/bomb/gzip.jpg", "too_large"),
    "pixel bomb": Case("/bomb/pixels.png", "too_many_pixels"),
    # too slow
    "drip": Case("/drip/body.jpg", "timeout", own=True),
    "drip closing": Case("/drip/closing.jpg", "timeout", own=True),
    "drip head": Case("/drip/head.jpg", "timeout", own=True),
    "silent": Case("/drip/silent.jpg", "timeout", own=True),
    "tls silent": Case("https://127.0.0.1:{silent}/good/1.jpg", "timeout"),
    # elsewhere
    "redirect loop": Case("/redirect/loop", "redirect_loop"),
    "redirect to itself": Case("/redirect/self", "redirect_loop"),
    "redirect chain of 30": Case("/redirect/chain/30", "redirect_loop"),
    "redirect to localhost": Case("/redirect/name", "private_address"),
    "redirect to port": Case("/redirect/port", "private_address"),
    "redirect to number": Case("/redirect/number", "private_address"),
    "redirect to mapped": Case("/redirect/mapped", "private_address"),
    "redirect to metadata": Case("/redirect/metadata", "private_address"),
    "private": Case("http://127.0.0.1:{private}/secret.jpg", "private_address"),
    "redirect to file": Case("/redirect/file", "bad_url"),
    "redirect to disallowed": Case("/redirect/robots", "robots"),
    # out of order
    "429 for ever": Case("/busy/for-ever.jpg", "rate_limited", own=True),
    "503 for ever": Case("/failing/for-ever.jpg", "server_error", own=True),
    "reset in body": Case("/broken/after-head.jpg", "connection", own=True),
    "reset before head": Case("/broken/before-head.jpg", "connection", own=True),
    "closed before head": Case("/broken/closed.jpg", "connection", own=True),
    "chunked garbage": Case("/chunked/garbage.jpg", "connection", own=True),
    "many headers": Case("/headers/many.jpg", "connection", own=True),
    "huge header": Case("/headers/huge.jpg", "connection", own=True),
    "nobody listens": Case("http://127.0.0.1:{closed}/good/1.jpg", "connection"),
    "unknown host": Case("http://no-such-host.invalid/good/1.jpg", "dns"),
    "tls self-signed": Case("https://127.0.0.1:{tls}/good/1.jpg", "tls"),
    "tls garbage": Case("https://127.0.0.1:{garbage}/good/1.jpg", "tls"),
    # not wanted
    "robots folder": Case("/forbidden/2.jpg", "robots"),
    "robots ending": Case("/good/a.secret.jpg", "robots"),
    "robots wildcard": Case("/wild/a/b/closed/1.jpg", "robots"),
    "robots encoded": Case("/k%C3%A4fig/1.jpg", "robots"),
    "robots longer allow": Case("/forbidden/free/1201.jpg", "ok"),
    "robots anchor": Case("/good/b.secret.jpg?x=1", "ok"),
    **{f"x-robots {name}": Case(f"/x-robots/{name}.jpg", "x_robots") for name in X_ROBOTS},
    **{f"x-robots {name}": Case(f"/x-robots/{name}.jpg", "ok") for name in X_ROBOTS_HARMLESS},
}  # fmt: skip


class HostileServer:
    """Serves good images, and every case of :data:`CASES`, on ports of 127.0.0.1.

    Use it as a context, or call :meth:`close`. Nothing it serves is slow to begin with except what is meant to be.

    Args:
        images (20): how many good images there are

    Attributes:
        port: the port of everything that has no port of its own
        private_port: a port that must never be asked for anything
        tls_port: the same over TLS, with a certificate that nobody has signed
        certificate: that certificate, as a PEM file, for clients that shall trust it
        stopping: set once the server is being closed
    """

    def __init__(self, images: int = 20):
        self.images = images
        self.stopping = threading.Event()
        self._requests: list[Request] = []
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._counts: Counter[tuple[str, int]] = Counter()
        self._open: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._folder = tempfile.TemporaryDirectory(prefix="hostile-")
        self._selector = selectors.DefaultSelector()
        self.port = self._listen(self._serve)
        self.private_port = self._listen(self._serve)
        self.tls_port = self._listen(self._serve_tls)
        # A port that is taken and not listened on, so that no other program gets it.
        self._closed = socket.socket()
        self._closed.bind(("127.0.0.1", 0))
        self._ports = {
            "tls": self.tls_port, "private": self.private_port, "garbage": self._listen(self._serve_garbage),
            "silent": self._listen(self._serve_nothing), "closed": self._closed.getsockname()[1],
        }  # fmt: skip
        self._own = {name: self._listen(self._serve) for name, case in CASES.items() if case.own}
        self.certificate = Path(self._folder.name, "certificate.pem")
        self._tls = self._tls_context()
        self._acceptor = threading.Thread(target=self._accept, name="hostile", daemon=True)
        self._acceptor.start()

    def __enter__(self) -> HostileServer:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    @property
    def base(self) -> str:
        """Scheme, host and port of everything that has no port of its own."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def allowed_hosts(self) -> list[str]:
        """What must be allowed: every port but the private one."""
        ports = [self.port, *self._own.values(), *(port for name, port in self._ports.items() if name != "private")]
        return [f"127.0.0.1:{port}" for port in ports]

    @property
    def requests(self) -> list[Request]:
        """The requests so far, in order."""
        with self._lock:
            return list(self._requests)

    def good_urls(self, tls: bool = False) -> list[str]:
        """The addresses of the good images."""
        base = f"https://127.0.0.1:{self.tls_port}" if tls else self.base
        return [f"{base}/good/{number}.jpg" for number in range(self.images)]

    def good_bytes(self, number: int) -> bytes:
        """What a good image consists of."""
        return jpeg(number)

    def url(self, name: str) -> str:
        """The address of a case."""
        case = CASES[name]
        if "://" in case.path:
            return case.path.format(**self._ports)
        return f"http://127.0.0.1:{self._own.get(name, self.port)}{case.path}"

    def urls(self) -> dict[str, str]:
        """The addresses of all cases, by name."""
        return {name: self.url(name) for name in CASES}

    def asked(self, name: str) -> list[Request]:
        """The requests for a case, without those that its redirects led to."""
        path, port = CASES[name].path, self._own.get(name, self.port)
        return [request for request in self.requests if (request.path, request.port) == (path, port)]

    def count(self, path: str, port: int) -> int:
        """How often a path was asked for."""
        with self._lock:
            return self._counts[path, port]

    def close(self) -> None:
        """Ends everything, also what is under way."""
        self.stopping.set()
        self._acceptor.join(10)
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()
        self._closed.close()
        with self._lock:
            threads = list(self._threads)
            for sock in self._open:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in threads:
            thread.join(10)
        self._folder.cleanup()

    # -- connections --

    def _listen(self, serve: Any) -> int:
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, serve)
        return int(listener.getsockname()[1])

    def _accept(self) -> None:
        while not self.stopping.is_set():
            for key, _ in self._selector.select(0.1):
                listener: Any = key.fileobj
                with contextlib.suppress(OSError):
                    sock, _ = listener.accept()
                    sock.setblocking(True)
                    thread = threading.Thread(
                        target=self._run, args=(key.data, sock, listener.getsockname()[1]), daemon=True
                    )
                    with self._lock:
                        self._threads.add(thread)
                        self._open.add(sock)
                    thread.start()

    def _run(self, serve: Any, sock: socket.socket, port: int) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            serve(sock, port)
        except OSError:  # the client went away
            pass
        finally:
            with self._lock:
                self._open.discard(sock)
                self._threads.discard(threading.current_thread())
            sock.close()

    def _serve_tls(self, sock: socket.socket, port: int) -> None:
        with self._tls.wrap_socket(sock, server_side=True) as wrapped:
            with self._lock:
                self._open.add(wrapped)
            try:
                self._serve(wrapped, port)
            finally:
                with self._lock:
                    self._open.discard(wrapped)

    def _serve_garbage(self, sock: socket.socket, port: int) -> None:
        sock.sendall(b"SSH-2.0-OpenSSH_9.9\r\n" * 20)
        sock.recv(4096)

    def _serve_nothing(self, sock: socket.socket, port: int) -> None:
        while sock.recv(4096):
            pass

    def _serve(self, sock: socket.socket, port: int) -> None:
        connection, buffer = next(self._numbers), b""
        while not self.stopping.is_set():
            while b"\r\n\r\n" not in buffer:
                piece = sock.recv(65536)
                if not piece:
                    return
                buffer += piece
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            request = _parsed(head, connection, port)
            with self._lock:
                self._requests.append(request)
                self._counts[request.path, port] += 1
            respond(Exchange(self, sock, request))

    def _tls_context(self) -> ssl.SSLContext:
        public, private = certificate("localhost", "images.example")
        self.certificate.write_bytes(public)
        both = Path(self._folder.name, "both.pem")
        both.write_bytes(public + private)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(both)
        return context


def _parsed(head: bytes, connection: int, port: int) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Request(path, time.monotonic(), headers, connection, port, method)
