"""What :class:`tests.hostile.HostileServer` answers to each path."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

from tests.hostile_files import gzip_bomb, jpeg, pixel_bomb, turned_jpeg

if TYPE_CHECKING:
    from tests.hostile import HostileServer, Request

DRIP = 0.5
"""Seconds between two bytes of a drip."""
HTML = b"<!doctype html><html><head><title>Sign in</title></head><body>Please sign in to see the image.</body></html>"
LONG_NAME = "n" * 296 + ".jpg"
UNICODE_NAME = "k%C3%A4fer%20%E7%94%B2%E8%99%AB%20%F0%9F%90%9E.jpg"

ROBOTS = """\
User-agent: otherbot
Disallow: /

User-agent: *
Disallow: /forbidden/
Allow: /forbidden/free/
Disallow: /*.secret.jpg$
Disallow: /wild/*/closed
Disallow: /k%c3%a4fig
Crawl-delay: 0
"""

X_ROBOTS: dict[str, tuple[str, ...]] = {
    "noai": ("noai",),
    "upper-case": ("  NoAI ",),
    "noimageai": ("noimageai",),
    "noml": ("noml",),
    "none": ("none",),
    "noindex": ("noindex",),
    "noimageindex": ("noimageindex",),
    "list": ("noarchive, noai",),
    "two-headers": ("nofollow", "noai"),
    "all-agents": ("*: noai",),
    "past": ("unavailable_after: 25 Jun 2010 15:00:00 PST",),
    "date-then-noai": ("unavailable_after: 25 Jun 2030 15:00:00 PST, noai",),
    "date-with-comma": ("unavailable_after: Tue, 25 Jun 2030 15:00:00 PST, noimageai",),
    "preview-then-noai": ("max-image-preview:large, noai",),
}
X_ROBOTS_HARMLESS: dict[str, tuple[str, ...]] = {
    "other-agent": ("otherbot: noai, noindex",),
    "google": ("googlebot: noindex",),
    "future": ("unavailable_after: 25 Jun 2100 15:00:00 PST",),
    "preview": ("max-image-preview:large, nofollow, noarchive",),
    "all": ("all",),
}


class Exchange:
    """One request and the means to answer it, well or badly."""

    def __init__(self, server: HostileServer, sock: socket.socket, request: Request):
        self.server, self.sock, self.request = server, sock, request

    def answer(
        self, status: int = 200, body: bytes = b"", headers: Iterable[tuple[str, str]] = (),
        kind: str | None = "image/jpeg", length: int | None = None,
    ) -> None:  # fmt: skip
        """Answers as HTTP demands, or with a wrong length."""
        self.head(status, [*headers, ("Content-Length", str(len(body) if length is None else length))], kind)
        self.send(body)

    def head(self, status: int, headers: Iterable[tuple[str, str]], kind: str | None = "image/jpeg") -> None:
        typed = [("Content-Type", kind)] if kind else []
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
        lines += [f"{name}: {value}" for name, value in [*typed, *headers]]
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def drip(self, data: bytes) -> None:
        """Sends a byte every half second until it is done, the client goes away, or the server is closed."""
        for value in data:
            if self.server.stopping.wait(DRIP):
                return
            self.send(bytes([value]))

    def hang(self) -> None:
        """Says nothing more until the client goes away or the server is closed."""
        with contextlib.suppress(OSError):
            self.sock.recv(1)

    def reset(self) -> None:
        """Breaks the connection off with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def times(self) -> int:
        """How often this path was asked for, this time included."""
        return self.server.count(self.request.path, self.request.port)


def respond(exchange: Exchange) -> None:
    """Answers a request by the first part of its path."""
    parts = exchange.request.path.partition("?")[0].strip("/").split("/")
    route = ROUTES.get(parts[0])
    if route is None:
        exchange.answer(404, b"not found", kind="text/plain")
    else:
        route(exchange, "/".join(parts[1:]))


def _robots(exchange: Exchange, rest: str) -> None:
    exchange.answer(200, ROBOTS.encode(), kind="text/plain")


def _good(exchange: Exchange, rest: str) -> None:
    """``/good/3.jpg``; ``/good/ANYTHING`` is an image of its own too."""
    exchange.answer(200, jpeg(number_of(rest)))


def number_of(path: str) -> int:
    """Which image belongs to a path: the number that is its name, or a large one made of it."""
    stem = path.rpartition("/")[2].partition(".")[0]
    return int(stem) if stem.isdigit() else 10_000 + zlib.crc32(path.encode())


def _same(exchange: Exchange, rest: str) -> None:
    exchange.answer(200, jpeg(1001))


def _typed(exchange: Exchange, rest: str) -> None:
    kinds = {
        "text.jpg": "text/plain",
        "none.jpg": None,
        "html.jpg": "text/html",
        "octets.jpg": "application/octet-stream",
    }
    exchange.answer(200, jpeg(1002 + list(kinds).index(rest)), kind=kinds[rest])


def _page(exchange: Exchange, rest: str) -> None:
    exchange.answer(200, HTML, kind="image/jpeg" if rest.startswith("as-image") else "text/html")


def _drip(exchange: Exchange, rest: str) -> None:
    image = jpeg(1010)
    if rest == "head.jpg":
        exchange.drip(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 5\r\n\r\nhello")
    elif rest == "closing.jpg":
        exchange.head(200, [("Connection", "close")])
        exchange.drip(image)
    elif rest == "silent.jpg":
        exchange.hang()
    else:
        exchange.head(200, [("Content-Length", str(len(image)))])
        exchange.drip(image)


def _endless(exchange: Exchange, rest: str) -> None:
    if rest == "announced.jpg":
        exchange.answer(200, jpeg(1011), length=10**12)
        exchange.hang()
        return
    chunked = rest == "chunked.jpg"
    exchange.head(200, [("Transfer-Encoding", "chunked")] if chunked else [("Connection", "close")])
    piece = jpeg(1011).ljust(65536, b"\0")
    while not exchange.server.stopping.is_set():
        exchange.send(b"10000\r\n" + piece + b"\r\n" if chunked else piece)


def _length(exchange: Exchange, rest: str) -> None:
    image = jpeg(1012)
    if rest == "too-long.jpg":  # announced: more than there is
        exchange.answer(200, image[: len(image) // 2], length=len(image))
        exchange.close()
    elif rest == "too-short.jpg":  # announced: half, the rest comes unasked
        exchange.answer(200, image, length=len(image) // 2)
    else:  # half a JPEG, honestly announced
        exchange.answer(200, image[: len(image) // 2])


def _redirect(exchange: Exchange, rest: str) -> None:
    server, word = exchange.server, rest.partition("/")[0]
    if word == "chain":
        left = int(rest.partition("/")[2])
        target = f"/redirect/chain/{left - 1}" if left else "/good/1020.jpg"
    else:
        target = {
            "loop": "/redirect/back",
            "back": "/redirect/loop",
            "self": "/redirect/self",
            "relative": "../good/1021.jpg",
            "name": f"http://localhost:{server.private_port}/secret.jpg",
            "port": f"http://127.0.0.1:{server.private_port}/secret.jpg",
            "number": f"http://2130706433:{server.private_port}/secret.jpg",
            "metadata": "http://169.254.169.254/latest/meta-data/",
            "mapped": f"http://[::ffff:127.0.0.1]:{server.private_port}/secret.jpg",
            "file": "file:///etc/passwd",
            "robots": "/forbidden/1.jpg",
        }[word]
    exchange.answer(302, b"", [("Location", target)], kind=None)


def _busy(exchange: Exchange, rest: str) -> None:
    """429 twice (or for ever), then the image."""
    if rest == "for-ever.jpg":
        exchange.answer(429, b"later", [("Retry-After", "3600")], kind="text/plain")
    elif exchange.times() <= 1:
        later = formatdate(time.time() + 2, usegmt=True) if rest == "date.jpg" else "1"
        exchange.answer(429, b"later", [("Retry-After", later)], kind="text/plain")
    else:
        exchange.answer(200, jpeg(number_of(f"busy/{rest}")))


def _failing(exchange: Exchange, rest: str) -> None:
    if rest == "for-ever.jpg":
        exchange.answer(503, b"out of order", kind="text/plain")
    elif exchange.times() <= 2:
        exchange.answer(500, b"oops", kind="text/plain")
    else:
        exchange.answer(200, jpeg(1040))


def _broken(exchange: Exchange, rest: str) -> None:
    image = jpeg(1050)
    if rest == "once.jpg" and exchange.times() > 1:
        exchange.answer(200, image)
    elif rest == "after-head.jpg":
        exchange.answer(200, image[:1000], length=len(image))
        exchange.server.stopping.wait(0.2)  # a reset overtakes what is still under way
        exchange.reset()
    elif rest == "closed.jpg":
        exchange.close()
    else:
        exchange.reset()


def _bomb(exchange: Exchange, rest: str) -> None:
    if rest == "pixels.png":
        exchange.answer(200, pixel_bomb(), kind="image/png")
    else:
        exchange.answer(200, gzip_bomb(), [("Content-Encoding", "gzip")])


def _turned(exchange: Exchange, rest: str) -> None:
    exchange.answer(200, turned_jpeg())


def _x_robots(exchange: Exchange, rest: str) -> None:
    values = {**X_ROBOTS, **X_ROBOTS_HARMLESS}[rest.removesuffix(".jpg")]
    exchange.answer(200, jpeg(number_of(f"x-robots/{rest}")), [("X-Robots-Tag", value) for value in values])


def _etag(exchange: Exchange, rest: str) -> None:
    tag, date = '"v1"', "Wed, 01 Jan 2025 00:00:00 GMT"
    known = exchange.request.headers
    versions = [("ETag", tag), ("Last-Modified", date)]
    if known.get("if-none-match") == tag or ("if-none-match" not in known and known.get("if-modified-since") == date):
        exchange.head(304, versions, kind=None)
    else:
        exchange.answer(200, jpeg(1060), versions)


def _status(exchange: Exchange, rest: str) -> None:
    exchange.answer(int(rest.partition(".")[0]), HTML, kind="text/html")


def _empty(exchange: Exchange, rest: str) -> None:
    exchange.answer(200)


def _chunked(exchange: Exchange, rest: str) -> None:
    image = jpeg(1070)
    exchange.head(200, [("Transfer-Encoding", "chunked")])
    if rest == "garbage.jpg":
        exchange.send(b"400\r\n" + image[:1024] + b"\r\nzz not a length\r\n" + image[1024:])
        exchange.close()
    else:
        for start in range(0, len(image), 1024):
            piece = image[start : start + 1024]
            exchange.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        exchange.send(b"0\r\n\r\n")


def _headers(exchange: Exchange, rest: str) -> None:
    if rest == "cookies.jpg":
        cookies = [("Set-Cookie", f"track{number}=you; Path=/; Max-Age=99999999") for number in range(20)]
        exchange.answer(200, jpeg(1080), cookies)
    elif rest == "many.jpg":
        exchange.answer(200, jpeg(1081), [(f"X-Filler-{number}", "x") for number in range(5000)])
    else:
        exchange.answer(200, jpeg(1082), [("X-Filler", "x" * 1_000_000)])


ROUTES: dict[str, Callable[[Exchange, str], None]] = {
    "robots.txt": _robots, "good": _good, "forbidden": _good, "wild": _good, "k%C3%A4fig": _good, "same": _same,
    "typed": _typed, "page": _page, "drip": _drip, "endless": _endless, "length": _length, "redirect": _redirect,
    "busy": _busy, "failing": _failing, "broken": _broken, "bomb": _bomb, "turned.jpg": _turned,
    "x-robots": _x_robots, "etag.jpg": _etag, "status": _status, "empty.jpg": _empty, "chunked": _chunked,
    "headers": _headers,
}  # fmt: skip
