"""Only public addresses are connected to, whatever pages, redirects and name servers say."""

from __future__ import annotations

import base64
import contextlib
import socket
import socketserver
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from fiftyone_idsynth.collection.web.addresses import AddressGuard
from fiftyone_idsynth.collection.web.answer import FetchError
from fiftyone_idsynth.collection.web.connections import guarded_pool_manager, guarded_proxy_manager
from fiftyone_idsynth.errors import MissingExtraError, ParameterError

PUBLIC = ["http://93.184.216.34/", "https://example.org/a.jpg", "http://bücher.example:8080/", "http://[2606:4700::1]/",
          "http://[64:ff9b::808:808]/", "http://[2002:808:808::]/", "http://8.8.8.8./"]  # fmt: skip
PRIVATE = [
    "127.0.0.1", "127.1", "0x7f.1", "2130706433", "017700000001", "0177.0.0.1", "%31%32%37.0.0.1", "127.0.0.1.",
    "10.0.0.1", "010.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "0",
    "255.255.255.255", "224.0.0.1", "239.255.255.250", "240.0.0.1", "192.0.0.8", "192.88.99.1", "198.18.0.1",
    "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::1]", "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]", "[2001:0:1::]", "[2001:db8::1]", "[3fff::1]",
    "[fe80::1]", "[fe80::1%25eth0]", "[fec0::1]", "[fc00::1]", "[ff02::1]", "localhost", "LOCALHOST.", "a.localhost",
]  # fmt: skip
BAD = [
    "ftp://example.org/a", "file:///etc/passwd", "data:image/png;base64,AA", "javascript:alert(1)", "//example.org/a",
    "example.org/a", "http:example.org", "http://", "http:///a", "http://u:p@example.org/", "http://u@example.org/",
    "http://example.org:0/", "http://example.org:65536/", "http://example.org:x/", "http://example.org:22/",
    "https://example.org:25/", "http://a b/", "http://[::1", f"http://{'a' * 300}.org/", "http://１２７.0.0.1/",
]  # fmt: skip


def reason_of(call: Callable[[], Any]) -> FetchError:
    with pytest.raises(FetchError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("url", PUBLIC)
def test_public_addresses_pass(url: str) -> None:
    AddressGuard().check_url(url)


@pytest.mark.parametrize("host", PRIVATE)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_private_addresses_are_refused_in_any_notation(host: str, scheme: str) -> None:
    error = reason_of(lambda: AddressGuard().check_url(f"{scheme}://{host}/a.jpg"))
    assert error.reason == "private_address"
    assert "allowed_hosts=[" in error.detail


@pytest.mark.parametrize("url", BAD)
def test_what_is_no_web_address_is_refused(url: str) -> None:
    error = reason_of(lambda: AddressGuard().check_url(url))
    assert error.reason == "bad_url"
    assert len(error.detail) < 400


def test_credentials_in_an_address_are_not_repeated() -> None:
    assert "s3cret" not in str(reason_of(lambda: AddressGuard().check_url("http://me:s3cret@example.org/")))


@pytest.mark.parametrize(
    ("entry", "url"),
    [("127.0.0.1", "http://127.0.0.1:8000/"), ("127.0.0.1:8000", "http://127.1:8000/"), ("::1", "http://[::1]/"),
     ("[::1]", "http://[::1]:81/"), ("[fd00::1]:80", "http://[fd00:0::1]/"), ("localhost", "http://LOCALHOST./"),
     ("intranet:22", "http://intranet:22/"), (" Images.Intranet ", "http://images.intranet/")],
)  # fmt: skip
def test_allowed_hosts_pass(entry: str, url: str) -> None:
    AddressGuard([entry]).check_url(url)


@pytest.mark.parametrize(
    ("entry", "url"),
    [("127.0.0.1:8000", "http://127.0.0.1:8001/"), ("127.0.0.1", "http://127.0.0.2/"), ("10.0.0.1", "http://010.0.0.1/"),
     ("127.0.0.1", "http://localhost/"), ("::1", "http://127.0.0.1/")],
)  # fmt: skip
def test_allowing_one_host_allows_no_other(entry: str, url: str) -> None:
    assert reason_of(lambda: AddressGuard([entry]).check_url(url)).reason == "private_address"


@pytest.mark.parametrize("entry", ["http://a", "a/b", "*", "*.a", "a:b", "", "u@a", "a:0", "a b", "10.0.0.0/8", 3])
def test_wrong_entries_are_named(entry: Any) -> None:
    with pytest.raises(ParameterError, match="allowed_hosts=.*HOST:PORT"):
        AddressGuard([entry])


# -- names ------------------------------------------------------------------------------------------------------------


def answers(monkeypatch: pytest.MonkeyPatch, *turns: Any) -> list[str]:
    """Has the resolver give these answers in turn, the last one for ever; returns the names asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        turn = turns[min(len(asked), len(turns)) - 1]
        if isinstance(turn, Exception):
            raise turn
        families = [(socket.AF_INET6 if ":" in one else socket.AF_INET, one) for one in turn]
        return [(family, socket.SOCK_STREAM, 6, "", (one, port)) for family, one in families]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_only_the_public_addresses_of_a_name_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, ["10.0.0.1", "93.184.216.34", "::1"])
    assert AddressGuard().addresses("mixed.example", 80) == [(socket.AF_INET, ("93.184.216.34", 80))]


def test_a_name_with_private_addresses_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, ["169.254.169.254", "10.0.0.1"])
    error = reason_of(lambda: AddressGuard().addresses("evil.example", 80))
    assert error.reason == "private_address"
    assert "evil.example" in error.detail
    assert "169.254.169.254" in error.detail
    assert AddressGuard(["evil.example:80"]).addresses("evil.example", 80)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "dns"),
     (socket.gaierror(socket.EAI_NODATA, "No address associated with hostname"), "dns"),
     (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "no_network"),
     (UnicodeError("label too long"), "bad_url")],
)  # fmt: skip
def test_a_missing_name_and_a_missing_network_are_told_apart(
    failure: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, failure)
    error = reason_of(lambda: AddressGuard().addresses("example.org", 80))
    assert error.reason == reason
    assert "example.org" in error.detail


def test_behind_a_proxy_one_private_address_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = AddressGuard()
    answers(monkeypatch, ["93.184.216.34", "10.0.0.1"], ["93.184.216.34"], socket.gaierror(socket.EAI_NONAME, "none"))
    assert reason_of(lambda: guard.check_behind_proxy("a.example", 80)).reason == "private_address"
    guard.check_behind_proxy("a.example", 80)
    guard.check_behind_proxy("known-to-the-proxy-only.example", 80)


# -- connections ------------------------------------------------------------------------------------------------------


class Server(socketserver.ThreadingTCPServer):
    """Answers every connection with what ``serve`` writes, and remembers who came."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, serve: Callable[[socket.socket, bytes], None]):
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.serve_one = serve
        self.connections = 0
        self.heads: list[bytes] = []
        self.port = self.server_address[1]

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        with contextlib.suppress(OSError):
            while head := _read_head(request):
                self.heads.append(head)
                self.serve_one(request, head)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


def _read_head(connection: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        if not piece:
            return b""
        head += piece
    return head


def hello(connection: socket.socket, head: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


@contextlib.contextmanager
def serving(serve: Callable[[socket.socket, bytes], None] = hello) -> Iterator[Server]:
    server = Server(serve)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def pool(guard: AddressGuard, **options: Any) -> urllib3.PoolManager:
    context = options.pop("ssl_context", None) or ssl.create_default_context()
    return guarded_pool_manager(
        guard, **{"num_pools": 4, "maxsize": 4, "ssl_context": context, "connect_timeout": 2.0, **options}
    )


def proxy_pool(guard: AddressGuard, proxy: str, **options: Any) -> urllib3.PoolManager:
    given = {"num_pools": 4, "maxsize": 4, "ssl_context": ssl.create_default_context(), "connect_timeout": 2.0}
    return guarded_proxy_manager(guard, proxy, **{**given, **options})


def test_requests_go_by_name_over_connections_that_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        asked = answers(monkeypatch, ["127.0.0.1"])
        seen: list[Any] = []
        http = pool(AddressGuard([f"images.example:{server.port}"]), on_connection=seen.append)
        for _ in range(3):
            assert http.request("GET", f"http://images.example:{server.port}/a").data == b"hello"
        assert server.connections == 1
        assert asked == ["images.example"]
        assert f"Host: images.example:{server.port}".encode() in server.heads[0]
        assert len({id(one) for one in seen}) == 1
        assert len(seen) >= 3
        assert seen[0].sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        http.clear()


def test_a_name_that_turns_private_is_never_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name server says a public address when asked first, and 127.0.0.1 afterwards."""
    with serving() as server:
        asked = answers(monkeypatch, ["203.0.114.1"], ["127.0.0.1"])
        targets: list[Any] = []

        class Recording(socket.socket):
            def connect(self, address: Any) -> None:
                targets.append(address)
                raise ConnectionRefusedError("not in this test")

        monkeypatch.setattr(socket, "socket", Recording)
        http = pool(AddressGuard())
        with pytest.raises(NewConnectionError):
            http.request("GET", f"http://rebind.example:{server.port}/")
        assert asked == ["rebind.example"]
        assert targets == [("203.0.114.1", server.port)]
        error = reason_of(lambda: http.request("GET", f"http://rebind.example:{server.port}/"))
        assert error.reason == "private_address"
        assert len(targets) == 1
        assert server.connections == 0


def test_the_next_address_is_tried_when_one_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        answers(monkeypatch, ["127.0.0.9", "127.0.0.1"])
        http = pool(AddressGuard(["two.example"]))
        assert http.request("GET", f"http://two.example:{server.port}/").data == b"hello"
        http.clear()


def test_a_host_that_takes_no_connection_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as stack:
        address = full.getsockname()
        for _ in range(4):  # fill the queue of connections that nobody accepts
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        with pytest.raises(ConnectTimeoutError):
            pool(AddressGuard(["127.0.0.1"]), connect_timeout=0.3).request("GET", f"http://127.0.0.1:{address[1]}/")


@pytest.mark.parametrize("head", [b"Content-Length: 100\r\n", b"Connection: close\r\n"])
def test_a_connection_can_be_ended_from_another_thread(head: bytes) -> None:
    """Also when the server has announced that it will close, after which http.client forgets the socket."""

    def drip(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        for _ in range(100):
            connection.sendall(b".")
            time.sleep(0.1)

    with serving(drip) as server:
        seen: list[Any] = []
        http = pool(AddressGuard(["127.0.0.1"]), on_connection=seen.append)
        threading.Timer(0.4, lambda: seen[-1].abort()).start()
        started = time.monotonic()
        with contextlib.suppress(HTTPError):
            response = http.request("GET", f"http://127.0.0.1:{server.port}/", preload_content=False)
            assert len(response.read()) < 50
        assert time.monotonic() - started < 5
        assert seen[-1].abort() in (True, False)  # once more does no harm


# -- proxies ----------------------------------------------------------------------------------------------------------


def test_an_http_proxy_gets_the_request_and_the_credentials() -> None:
    with serving() as proxy:
        seen: list[Any] = []
        http = proxy_pool(AddressGuard(), f"http://me:p%40ss%C3%A9@127.0.0.1:{proxy.port}", on_connection=seen.append)
        url = "http://93.184.216.34/a.jpg"
        assert http.request("GET", url).data == b"hello"
        assert proxy.heads[0].startswith(f"GET {url} HTTP/1.1".encode())
        login = base64.b64encode("me:p@ssé".encode())
        assert b"Proxy-Authorization: Basic " + login in proxy.heads[0]
        assert seen
        http.clear()


def test_a_proxy_is_not_asked_for_private_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as proxy:
        http = proxy_pool(AddressGuard(), f"http://127.0.0.1:{proxy.port}")
        for url in ("http://127.0.0.1/", "https://10.0.0.1/", "http://localhost/", "http://[::1]/"):
            assert reason_of(lambda url=url: http.request("GET", url)).reason == "private_address"
        monkeypatch.setattr(AddressGuard, "check_behind_proxy", _refuse)
        assert reason_of(lambda: http.request("GET", "http://intranet.example/")).reason == "private_address"
        assert proxy.connections == 0


def _refuse(guard: AddressGuard, host: str, port: int) -> None:
    raise FetchError("private_address", host)


@pytest.mark.parametrize("url", ["http://93.184.216.34/", "https://93.184.216.34/"])
def test_credentials_of_a_proxy_stay_out_of_errors(url: str) -> None:
    def refuse(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        connection.shutdown(socket.SHUT_RDWR)

    with serving(refuse) as proxy:
        http = proxy_pool(AddressGuard(), f"http://me:s3cret@127.0.0.1:{proxy.port}")
        said: list[Any] = []
        try:
            said = [http.request("GET", url).status]
        except HTTPError as error:
            said = [error, error.__cause__]
        assert "407" in repr(said)
        assert "s3cret" not in repr(said)
    with pytest.raises(HTTPError) as caught:
        http.request("GET", "http://93.184.216.34/")  # the proxy is gone
    assert "s3cret" not in repr(caught.value)


@pytest.mark.parametrize(
    "proxy", ["ftp://me:s3cret@host:1", "me:s3cret@host:1", "http://me:s3cret@", "http://[me:s3cret@"]
)
def test_a_wrong_proxy_is_named_without_its_credentials(proxy: str) -> None:
    with pytest.raises(ParameterError) as caught:
        proxy_pool(AddressGuard(), proxy)
    assert "proxies=" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_missing_socks_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from fiftyone_idsynth.collection.web import connections

    connections._socks_manager_class.cache_clear()
    monkeypatch.setitem(sys.modules, "socks", None)
    with pytest.raises(MissingExtraError, match=r"fiftyone-idsynth\[socks\]"):
        proxy_pool(AddressGuard(), "socks5h://127.0.0.1:1080")
    connections._socks_manager_class.cache_clear()


class SocksServer(Server):
    """A SOCKS 5 proxy (RFC 1928, RFC 1929) that leads every connection to one port here."""

    def __init__(self, target: int):
        super().__init__(hello)
        self.target = target
        self.asked: list[tuple[int, bytes]] = []
        self.logins: list[bytes] = []

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        methods = request.recv(512)[2:]
        if 2 in methods:
            request.sendall(b"\x05\x02")
            self.logins.append(request.recv(512))
            request.sendall(b"\x01\x00")
        else:
            request.sendall(b"\x05\x00")
        asked = request.recv(512)
        kind, name = asked[3], asked[4:-2]
        self.asked.append((kind, name[1:] if kind == 3 else name))
        request.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50")
        while head := _read_head(request):
            with socket.create_connection(("127.0.0.1", self.target)) as onward:
                onward.sendall(head)
                request.sendall(onward.recv(4096))


def test_a_socks_proxy_gets_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("socks")
    with serving() as server:
        proxy = SocksServer(server.port)
        thread = threading.Thread(target=proxy.serve_forever, args=(0.05,))
        thread.start()
        try:
            real = socket.getaddrinfo
            answers(monkeypatch, ["93.184.216.34"])
            fake = socket.getaddrinfo
            monkeypatch.setattr(
                socket, "getaddrinfo",
                lambda host, *rest, **more: (real if host == "127.0.0.1" else fake)(host, *rest, **more),
            )  # fmt: skip
            local = proxy_pool(AddressGuard(), f"socks5://me:pass@127.0.0.1:{proxy.port}")
            assert local.request("GET", "http://images.example/").data == b"hello"
            remote = proxy_pool(AddressGuard(), f"socks5h://127.0.0.1:{proxy.port}")
            assert remote.request("GET", "http://images.example/").data == b"hello"
            assert proxy.asked == [(1, bytes([93, 184, 216, 34])), (3, b"images.example")]
            assert proxy.logins == [b"\x01\x02me\x04pass"]
            assert all(b"Host: images.example\r\n" in head for head in server.heads)
            for http in (local, remote):
                error = reason_of(lambda http=http: http.request("GET", "http://127.0.0.1/"))
                assert error.reason == "private_address"
                http.clear()
        finally:
            proxy.shutdown()
            proxy.server_close()
            thread.join()
