"""The hostile server does what its table says: seen with plain sockets, so that no client library smooths it over."""

from __future__ import annotations

import contextlib
import gzip
import io
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from PIL import Image

from fiftyone_idsynth.collection.web.addresses import AddressGuard
from fiftyone_idsynth.collection.web.answer import Answer, FetchError
from fiftyone_idsynth.collection.web.connections import guarded_pool_manager
from fiftyone_idsynth.collection.web.robots import Robots, x_robots_allows
from tests.hostile import CASES, HostileServer
from tests.hostile_answers import DRIP


@pytest.fixture(scope="module")
def server() -> Iterator[HostileServer]:
    with HostileServer(images=5) as running:
        yield running


def ask(url: str, headers: str = "", limit: int = 8_000_000, seconds: float = 5.0) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (of one name the last) and body of an answer, as far as it comes within limits."""
    parts = urlsplit(url)
    deadline = time.monotonic() + seconds
    received = b""
    with socket.create_connection((parts.hostname, parts.port), 5) as sock:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n{headers}\r\n".encode())
        with contextlib.suppress(TimeoutError):
            while len(received) < limit and not _complete(received):
                sock.settimeout(max(deadline - time.monotonic(), 0.001))
                piece = sock.recv(65536)
                if not piece:
                    break
                received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    found = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(status.split()[1]) if status.startswith("HTTP/1.1 ") else 0, found, body


def _complete(received: bytes) -> bool:
    head, end, body = received.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 304"):
        return bool(end)
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return bool(end) and len(body) >= int(line.partition(b":")[2])
    return False


def opened(body: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(body))
    image.load()
    return image


def test_every_expected_reason_is_known() -> None:
    known = {
        "ok", "timeout", "too_large", "truncated", "not_an_image", "redirect_loop", "private_address", "rate_limited",
        "server_error", "connection", "tls", "too_many_pixels", "robots", "x_robots", "not_found", "refused",
        "empty_file", "dns", "bad_url",
    }  # fmt: skip
    assert {case.expected for case in CASES.values()} == known


def test_good_images_are_images_and_differ(server: HostileServer) -> None:
    bodies = [ask(url)[2] for url in server.good_urls()]
    assert bodies == [server.good_bytes(number) for number in range(5)]
    assert len(set(bodies)) == 5
    assert opened(bodies[0]).format == "JPEG"


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.expected == "ok" and not case.own])
def test_cases_that_are_all_right(server: HostileServer, name: str) -> None:
    url = server.url(name)
    for _ in range(5):
        status, headers, body = ask(url, seconds=0.5 if name == "chunked" else 5)
        if status != 302:
            break
        target = headers["location"].removeprefix("..")
        url = server.base + target
    assert status == 200
    if name == "chunked":
        assert body.endswith(b"0\r\n\r\n")
    else:
        assert opened(body).format == "JPEG"
    allows, _ = x_robots_allows([headers.get("x-robots-tag", "")], "idsynth/1")
    assert allows


def test_duplicates_are_the_same_and_a_turned_image_says_where_it_was_taken(server: HostileServer) -> None:
    assert ask(server.url("duplicate a"))[2] == ask(server.url("duplicate b"))[2]
    exif = opened(ask(server.url("turned"))[2]).getexif()
    assert exif[0x0112] == 6
    assert exif.get_ifd(0x8825)[2] == (52, 31, 12)


@pytest.mark.parametrize(
    ("name", "statuses"),
    [("429 seconds", [429, 200]), ("429 date", [429, 200]), ("429 for ever", [429, 429]),
     ("500 twice", [500, 500, 200]),
     ("503 for ever", [503, 503]), ("reset once", [None, 200])],
)  # fmt: skip
def test_failures_that_pass_and_that_do_not(server: HostileServer, name: str, statuses: list[int | None]) -> None:
    for expected in statuses:
        if expected is None:
            with pytest.raises(ConnectionResetError):
                ask(server.url(name))
            continue
        status, headers, _ = ask(server.url(name))
        assert status == expected
        assert ("retry-after" in headers) == (status == 429)
    assert len(server.asked(name)) == len(statuses)


@pytest.mark.parametrize("name", ["drip", "drip closing", "drip head", "silent"])
def test_drips_drip(server: HostileServer, name: str) -> None:
    status, _, body = ask(server.url(name), seconds=2.5 * DRIP)
    assert status == (0 if name in ("drip head", "silent") else 200)
    assert len(body) <= 3


def test_too_much(server: HostileServer) -> None:
    assert len(ask(server.url("endless"), limit=3_000_000)[2]) > 2_900_000
    assert len(ask(server.url("endless chunked"), limit=3_000_000)[2]) > 2_900_000
    assert int(ask(server.url("announced too large"), seconds=0.3)[1]["content-length"]) == 10**12
    _, headers, bomb = ask(server.url("gzip bomb"))
    assert headers["content-encoding"] == "gzip"
    assert len(bomb) < 1_200_000
    size = 0
    with gzip.open(io.BytesIO(bomb)) as unzipped:  # reads to the end, so the checksum is right
        while piece := unzipped.read(1 << 24):
            size += len(piece)
    assert size == 1024**3
    _, _, png = ask(server.url("pixel bomb"))
    assert len(png) < 1_300_000
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(png))


def test_lengths_that_are_wrong(server: HostileServer) -> None:
    _, headers, body = ask(server.url("length too long"))
    assert len(body) < int(headers["content-length"])
    _, headers, body = ask(server.url("length too short"), limit=100_000)
    assert len(body) >= int(headers["content-length"])
    _, headers, body = ask(server.url("truncated jpeg"))
    assert len(body) == int(headers["content-length"])
    with pytest.raises(OSError, match="truncated"):
        opened(body)


@pytest.mark.parametrize("name", ["html", "html as image", "empty", "404", "410", "401", "403", "451"])
def test_what_is_no_image(server: HostileServer, name: str) -> None:
    status, _, body = ask(server.url(name))
    assert status == (int(name) if name.isdigit() else 200)
    assert not body.startswith(b"\xff\xd8")


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if name.startswith("redirect")])
def test_redirects(server: HostileServer, name: str) -> None:
    status, headers, _ = ask(server.url(name))
    assert status == 302
    assert headers["location"]


@pytest.mark.parametrize("name", ["reset in body", "reset before head"])
def test_resets(server: HostileServer, name: str) -> None:
    with pytest.raises(ConnectionResetError):
        ask(server.url(name))


def test_other_breakages(server: HostileServer) -> None:
    assert ask(server.url("closed before head"))[0] == 0
    assert b"zz not a length" in ask(server.url("chunked garbage"))[2]
    assert len(ask(server.url("many headers"))[1]) > 5000
    assert len(ask(server.url("huge header"))[1]["x-filler"]) == 1_000_000
    with pytest.raises(ConnectionRefusedError):
        ask(server.url("nobody listens"))


def test_an_image_that_has_not_changed_is_not_sent_again(server: HostileServer) -> None:
    _, headers, _ = ask(server.url("etag"))
    assert ask(server.url("etag"), f"If-None-Match: {headers['etag']}\r\n")[0] == 304
    assert ask(server.url("etag"), f"If-Modified-Since: {headers['last-modified']}\r\n")[0] == 304
    assert ask(server.url("etag"), 'If-None-Match: "other"\r\n')[0] == 200


def test_robots_and_x_robots_mean_what_the_table_says(server: HostileServer) -> None:
    robots = Robots(lambda url: Answer(url, 200, {}, ask(url)[2]), "idsynth/1")
    for name, case in CASES.items():
        if case.path.startswith("/"):
            assert robots.allowed(server.url(name)) == (case.expected != "robots" or name.startswith("redirect")), name
        if case.expected == "x_robots":
            head = ask(server.url(name))[1]
            assert not x_robots_allows([head["x-robots-tag"]], "idsynth/1")[0], name


def test_tls_that_cannot_be_trusted(server: HostileServer) -> None:
    strict = ssl.create_default_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(strict, server.tls_port, "localhost")
    with pytest.raises(ssl.SSLError):
        _handshake(strict, urlsplit(server.url("tls garbage")).port or 0, "localhost")
    with pytest.raises(TimeoutError):
        _handshake(strict, urlsplit(server.url("tls silent")).port or 0, "localhost")


def _handshake(context: ssl.SSLContext, port: int, name: str) -> None:
    with socket.create_connection(("127.0.0.1", port), 1) as sock, context.wrap_socket(sock, server_hostname=name):
        pass


def test_certificates_are_checked_by_name_although_connections_go_to_addresses(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.tls_port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: here)
    context = ssl.create_default_context(cafile=str(server.certificate))
    http = guarded_pool_manager(
        AddressGuard(["images.example", "other.example"]),
        num_pools=4,
        maxsize=4,
        ssl_context=context,
        connect_timeout=5,
    )
    url = f"https://images.example:{server.tls_port}/good/1.jpg"
    connections = set()
    for _ in range(3):
        assert http.request("GET", url).data == server.good_bytes(1)
        connections.add(server.requests[-1].connection)
    assert len(connections) == 1
    assert server.requests[-1].headers["host"] == f"images.example:{server.tls_port}"
    with pytest.raises(Exception, match=r"(?i)hostname mismatch"):
        http.request("GET", url.replace("images", "other"))
    with pytest.raises(FetchError, match="private_address"):
        http.request("GET", url.replace("images", "third"))
    http.clear()


def test_requests_are_recorded(server: HostileServer) -> None:
    ask(server.base + "/good/4.jpg?who=me", "User-Agent: someone\r\n")
    last = server.requests[-1]
    assert (last.method, last.path, last.port) == ("GET", "/good/4.jpg?who=me", server.port)
    assert last.headers["user-agent"] == "someone"


def test_it_can_be_closed_in_the_middle_of_everything() -> None:
    server = HostileServer(images=1)
    urls = [server.url(name) for name in ("drip", "drip head", "silent", "endless", "announced too large")]
    clients = [threading.Thread(target=_ask_quietly, args=(url,)) for url in urls]
    for client in clients:
        client.start()
    while len(server.requests) < len(urls):
        time.sleep(0.01)
    started = time.monotonic()
    server.close()
    assert time.monotonic() - started < 5
    for client in clients:
        client.join(10)
        assert not client.is_alive()
    assert not server._acceptor.is_alive()
    assert not server._threads


def _ask_quietly(url: str) -> None:
    with contextlib.suppress(OSError):
        ask(url, limit=10**9, seconds=60)
