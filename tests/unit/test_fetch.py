"""A request keeps its secrets to itself, uses the proxies in turn and one TLS context, and ends in time."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fiftyone_idsynth.collection.web.addresses import AddressGuard
from fiftyone_idsynth.collection.web.answer import FetchError
from fiftyone_idsynth.collection.web.fetch import Fetcher, Limits, retry_after
from tests.hostile import HostileServer
from tests.replica import Replica, Reply, Request


@pytest.fixture
def server() -> Iterator[Replica]:
    with Replica() as replica:
        yield replica


def fetcher(*servers: Replica, limits: Limits | None = None, **options: object) -> Fetcher:
    hosts = [server.url.removeprefix("http://") for server in servers]
    return Fetcher(AddressGuard(hosts), limits or Limits(total=5), ("tester/1.0",), **options)  # type: ignore[arg-type]


def test_a_key_is_not_taken_to_another_server(server: Replica) -> None:
    with Replica() as other:
        server.on("/away", Reply(b"", 302, {"Location": f"{other.url}/target"}))
        server.on("/near", Reply(b"", 302, {"Location": "/target"}))
        for replica in (server, other):
            replica.on("/target", "hello")
        opened = fetcher(server, other)
        for path in ("/away", "/near"):
            answer = opened.fetch(server.url + path, headers={"Authorization": "secret", "X-Other": "kept"})
            assert answer.text == "hello"
        opened.close()
        assert "authorization" not in other.requests[0].headers
        assert other.requests[0].headers["x-other"] == "kept"
        assert server.requests[-1].headers["authorization"] == "secret"


def test_proxies_are_used_in_turn(server: Replica) -> None:
    with Replica() as first, Replica() as second:
        for proxy in (first, second):
            proxy.answer = lambda request, proxy=proxy: (proxy.requests.append(request), Reply("through"))[1]  # type: ignore
        opened = fetcher(server, proxies=[first.url, second.url.replace("http://", "http://me:secret@")])
        for _ in range(4):
            assert opened.fetch(server.url + "/page").text == "through"
        opened.close()
        assert (len(first.requests), len(second.requests), len(server.requests)) == (2, 2, 0)
        assert first.requests[0].target == server.url + "/page"
        assert second.requests[0].headers["proxy-authorization"].startswith("Basic ")


def test_a_form_is_posted_and_the_user_agent_is_honest(server: Replica) -> None:
    server.on("/token", lambda request: {"method": request.method, **request.form})
    opened = fetcher(server)
    assert opened.fetch(server.url + "/token", form={"a": "ä & b"}).json() == {"method": "POST", "a": "ä & b"}
    opened.close()
    assert server.requests[0].headers["user-agent"] == "tester/1.0"


def test_connections_share_one_tls_context(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ssl.SSLContext] = []
    new = ssl.SSLContext.__new__

    def counted(cls: type[ssl.SSLContext], *args: object, **kwargs: object) -> ssl.SSLContext:
        made.append(new(cls, *args, **kwargs))  # type: ignore[arg-type]
        return made[-1]

    with HostileServer(images=12) as hostile:
        monkeypatch.setenv("SSL_CERT_FILE", str(hostile.certificate))
        monkeypatch.setattr(ssl.SSLContext, "__new__", counted)
        opened = Fetcher(AddressGuard(hostile.allowed_hosts), Limits(total=10), ("tester/1.0",))
        for number, url in enumerate(hostile.good_urls(tls=True)):
            assert opened.fetch(url).body == hostile.good_bytes(number)
        opened.close()
        assert len(made) == 1
        assert len({request.connection for request in hostile.requests}) == 1


def test_everything_can_be_ended_at_once() -> None:
    import threading

    with HostileServer(images=1) as hostile:
        opened = Fetcher(AddressGuard(hostile.allowed_hosts), Limits(total=60), ("tester/1.0",))
        ended: list[FetchError] = []

        def ask() -> None:
            try:
                opened.fetch(hostile.url("drip"))
            except FetchError as error:
                ended.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(0.7)
        started = time.monotonic()
        opened.abort()
        asking.join(10)
        assert time.monotonic() - started < 5
        assert [error.reason for error in ended] == ["timeout"]
        opened.close()


def test_a_wait_is_asked_for_in_seconds_or_by_a_date() -> None:
    assert retry_after({"retry-after": "7"}) == 7
    assert retry_after({}) is None
    assert retry_after({"retry-after": "soon"}) is None
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    assert 25 < (retry_after({"retry-after": date}) or 0) <= 30


def test_pages_made_for_people_may_be_large_but_not_endless(server: Replica, tmp_path: Path) -> None:
    def large(request: Request) -> Reply:
        return Reply(b"x" * 300_000)

    server.on("/large", large)
    with pytest.raises(FetchError, match="too_large"):
        fetcher(server, limits=Limits(max_bytes=200_000)).fetch(server.url + "/large")
    assert len(fetcher(server, limits=Limits(max_bytes=400_000)).fetch(server.url + "/large").body) == 300_000
